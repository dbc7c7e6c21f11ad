"""`pargrad score`: how good a trained model is, class by class, on the workers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pargrad.commands.options import POSITIONAL
from pargrad.commands.table import NONE, table
from pargrad.commands.tasks import names_a_function
from pargrad.metrics import F1, Precision, Recall

HELP = "score a trained model: accuracy, loss, top-k, confusion matrix, classes; errors and r2 of numbers"
EXAMPLES = """\
  pargrad score runs/first                                        the newest checkpoint of a run
  pargrad score runs/first --best --picture first.png             the best one, with a picture
  pargrad score runs/first/checkpoints/step-00000240 --out predictions.csv
  pargrad score runs/prices                                       of a table, on the rows that were held out
  pargrad score runs/prices --data-set more.csv --out out.csv     on other rows with the same columns
  pargrad score runs/mine --model my_model:make                   a model of your own, on its validation data
  pargrad score runs/mine --model my_model:make --data-set test.npz
  pargrad score weights.safetensors --model cnn --data-set fashion-mnist --data-dir data

A run remembers what it was trained on. my_model:make is taken from the command line only, never from a run's files.\
"""
TOP_K = 5  # where nothing else is asked for, and there are more classes
MOST_CLASSES = 20  # whose confusion matrix is printed


@dataclass
class Options:
    """Score a trained model: every example once, the same figures for every number of workers.

    Args:
        trained: a run directory, a checkpoint, or a file of pargrad.save, safetensors or torch.save
        best: of a run directory, the checkpoint with the lowest validation loss instead of the newest
        model: mlp, cnn, or module:function for a model of your own; by default the run's, else mlp
        data_set: by default what the run held out; mnist, fashion-mnist, an .npz file with x and y, and for a run of a
            table one with the same columns (.csv, .npz, .npy)
        data_dir: where the data set's files are
        download: fetch the data set into the user's cache directory when it is nowhere found
        top_k: say, too, how often the class is among so many of the largest scores; by default 5, where there are more
            classes
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        out: write targets, predictions and probabilities to this file, .npz or .csv
        picture: draw examples with their predictions, and the confusion matrix, into this .png, .svg or .pdf
        json: write the figures to this file
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    trained: str = field(metadata=POSITIONAL)
    best: bool = False
    model: Literal["mlp", "cnn"] | str | None = field(default=None, metadata={"command_line_only": names_a_function})
    data_set: str | None = None
    data_dir: str | None = None
    download: bool = False
    top_k: int | None = None
    num_workers: int | Literal["auto"] = "auto"
    address: str = "local"
    out: str | None = None
    picture: str | None = None
    json: str | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    from pargrad.commands import predictions
    from pargrad.commands.trained import read_trained
    from pargrad.parallel import Trainer, state_sha256
    from pargrad.reporting.figures import check_folder, check_picture, save

    predictions.check_out(options.out)
    if options.json is not None:
        check_folder(options.json, "--json")
    if options.picture is not None:
        check_picture(options.picture, "--picture")
    trained = read_trained(options)
    origin = trained.origin
    metrics = metrics_of(origin, options.top_k)
    asked = origin.held_out() if options.data_set is None else origin.with_targets(options.data_set)
    if options.picture is not None and asked.images is None:
        raise ValueError(f"--picture draws pixels (uint8), and there are none in {asked.source}")
    with (
        origin.blamed(),
        Trainer(
            origin.model, origin.loss, None, batch_size=512, num_workers=options.num_workers, address=options.address,
            metrics=metrics, progress=options.progress,
        ) as trainer,
    ):  # fmt: skip
        results = trainer.evaluate(asked.data)
        outputs = trainer.predict(asked.data) if options.out or options.picture else None
        workers = trainer.num_workers
    told = {
        "trained": trained.source,
        "step": trained.step,
        "data_set": options.data_set or origin.data_set,
        **{name: value for name, value in results.items() if name != "confusion_matrix"},
        **of_classes(results.get("confusion_matrix"), origin.names),
        "num_workers": workers,
        "state_sha256": state_sha256(origin.model),
    }
    print(f"{trained.source} on {asked.source}")
    print(in_words(told))
    if outputs is not None:
        predicted, targets = predictions.predictions_of(outputs, origin), asked.targets()
        if options.out is not None:
            predictions.write(options.out, predicted, targets)
        if options.picture is not None:
            from pargrad.reporting.pictures import predictions_picture

            assert asked.images is not None and predicted.probabilities is not None
            save(predictions_picture(asked.images, targets, predicted.probabilities, origin.names), options.picture)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(told, indent=2) + "\n")
    return 0


def metrics_of(origin: Any, top_k: int | None) -> tuple[str, ...]:
    """What is said beside the loss, by what the model's outputs are."""
    from pargrad.commands.origins import CLASSES, NUMBERS

    if origin.kind != CLASSES:
        if top_k is not None:
            raise ValueError(f"--top-k {top_k} has no meaning for {origin.network}, which has no classes: leave it out")
        return ("r2", "mean_absolute_error", "mean_squared_error") if origin.kind == NUMBERS else ()
    classes = len(origin.names)
    if top_k is not None and not 1 <= top_k <= classes:
        raise ValueError(f"--top-k {top_k}: expected 1 to {classes}, the number of classes")
    top = top_k or (TOP_K if classes > TOP_K else 0)
    return ("accuracy", *([f"top{top}"] if top else []), "confusion_matrix")


def of_classes(matrix: np.ndarray | None, names: tuple[str, ...]) -> dict[str, Any]:
    """Names, confusion matrix, and precision, recall and F1 of each class, as JSON has them; of numbers nothing."""
    if matrix is None:
        return {}
    kinds = (Precision("per_class"), Recall("per_class"), F1("per_class"))
    shares = {kind.kind: kind.result(matrix).tolist() for kind in kinds}
    return {"classes": list(names), "confusion_matrix": matrix.tolist(), **shares}


def in_words(told: dict[str, Any]) -> str:
    """The figures; of classes a line for each, and the confusion matrix."""
    names, matrix = told.get("classes", []), told.get("confusion_matrix", [])
    shares = [f"{name} {told[name]:.2%}" for name in told if name == "accuracy" or name.startswith("top")]
    sizes = [f"{name.replace('_', ' ')} {told[name]:,.6g}" for name in told if name == "r2" or name.startswith("mean_")]
    lines = [", ".join([*shares, *sizes, f"loss {told['loss']:.4f}"]) + f" on {told['count']:,} examples"]
    if names:
        classes = [
            [name, *(f"{told[kind][i]:.2%}" for kind in ("precision", "recall", "f1")), f"{sum(matrix[i]):,}"]
            for i, name in enumerate(names)
        ]
        lines += ["", table(["class", "precision", "recall", "f1", "examples"], classes)]
    if 0 < len(names) <= MOST_CLASSES:
        rows = [[name, *(f"{count:,}" if count else NONE for count in row)] for name, row in zip(names, matrix)]
        lines += ["", "how many of the class on the left were taken for the class above", table(["", *names], rows)]
    return "\n".join(lines)
