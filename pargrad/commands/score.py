"""`pargrad score`: how good a trained model is, class by class, on the workers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pargrad.commands.options import POSITIONAL
from pargrad.commands.table import NONE, table
from pargrad.metrics import F1, Precision, Recall
from pargrad.nn import functional as F

HELP = "score a trained model: accuracy, loss, top-k, confusion matrix, classes"
EXAMPLES = """\
  pargrad score runs/first                                        the newest checkpoint of a run
  pargrad score runs/first --best --picture first.png             the best one, with a picture
  pargrad score runs/first/checkpoints/step-00000240 --out predictions.csv
  pargrad score weights.safetensors --model cnn --data-set fashion-mnist --data-dir data\
"""


@dataclass
class Options:
    """Score a trained model on a test set: every example once, the same figures for every number of workers.

    Args:
        trained: a run directory, a checkpoint, or a file of pargrad.save, safetensors or torch.save
        best: of a run directory, the checkpoint with the lowest validation loss instead of the newest
        model: mlp or cnn; by default what the run's config.yaml says, else mlp
        data_set: mnist, fashion-mnist, or an .npz file with x and y; by default what the run trained on, else mnist
        data_dir: where the data set's files are
        download: fetch the data set into the user's cache directory when it is nowhere found
        top_k: say, too, how often the class is among so many of the largest scores
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        out: write targets, predictions and probabilities to this file, .npz or .csv
        picture: draw examples with their predictions, and the confusion matrix, into this .png, .svg or .pdf
        json: write the figures to this file
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    trained: str = field(metadata=POSITIONAL)
    best: bool = False
    model: Literal["mlp", "cnn"] | None = None
    data_set: str | None = None
    data_dir: str | None = None
    download: bool = False
    top_k: int = 5
    num_workers: int | Literal["auto"] = "auto"
    address: str = "local"
    out: str | None = None
    picture: str | None = None
    json: str | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    from pargrad.commands.trained import check_table, probabilities_of, read_trained, set_to_score, write_predictions
    from pargrad.parallel import Trainer, state_sha256
    from pargrad.reporting.figures import check_folder, check_picture, save

    check_table(options.out)
    if options.json is not None:
        check_folder(options.json, "--json")
    if options.picture is not None:
        check_picture(options.picture, "--picture")
    if not 1 <= options.top_k <= 10:
        raise ValueError(f"--top-k {options.top_k}: expected 1 to 10, the number of classes")
    trained = read_trained(options.trained, options.model, options.best)
    data_set = options.data_set or trained.data_set
    asked = set_to_score(data_set, trained.data_set, options.data_dir, options.download, options.progress != "off")
    if options.picture is not None and asked.images is None:
        raise ValueError(f"--picture: {asked.source} holds normalized numbers, and pixels (uint8) are needed to draw")
    top = f"top{options.top_k}"
    with Trainer(
        trained.model, F.cross_entropy, None, batch_size=512, num_workers=options.num_workers, address=options.address,
        metrics=(top, "confusion_matrix"), progress=options.progress,
    ) as trainer:  # fmt: skip
        results = trainer.evaluate((asked.x, asked.y))
        outputs = trainer.predict(asked.x) if options.out or options.picture else None
        workers = trainer.num_workers
    matrix = results.pop("confusion_matrix")
    told = {
        "trained": trained.source,
        "step": trained.step,
        "data_set": data_set,
        **results,
        "classes": list(asked.classes),
        "confusion_matrix": matrix.tolist(),
        **{name: values.tolist() for name, values in per_class(matrix).items()},
        "num_workers": workers,
        "state_sha256": state_sha256(trained.model),
    }
    print(f"{trained.source} on {asked.source}")
    print(in_words(told, matrix, top))
    if outputs is not None:
        probabilities = probabilities_of(outputs)
        if options.out is not None:
            write_predictions(options.out, probabilities, asked.y, asked.classes)
        if options.picture is not None:
            from pargrad.reporting.pictures import predictions_picture

            assert asked.images is not None and asked.y is not None
            save(predictions_picture(asked.images, asked.y, probabilities, asked.classes), options.picture)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(told, indent=2) + "\n")
    return 0


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, (classes,), from the confusion matrix."""
    kinds = (Precision("per_class"), Recall("per_class"), F1("per_class"))
    return {kind.kind: kind.result(matrix) for kind in kinds}


def in_words(told: dict[str, Any], matrix: np.ndarray, top: str) -> str:
    """The figures, a line for each class, and the confusion matrix."""
    names = told["classes"]
    classes = [
        [name, *(f"{told[kind][i]:.2%}" for kind in ("precision", "recall", "f1")), f"{matrix[i].sum():,}"]
        for i, name in enumerate(names)
    ]
    confusions = [[name, *(f"{count:,}" if count else NONE for count in row)] for name, row in zip(names, matrix)]
    whole = f"accuracy {told['accuracy']:.2%}, {top} {told[top]:.2%}, loss {told['loss']:.4f}"
    return "\n".join((
        f"{whole} on {told['count']:,} examples",
        "",
        table(["class", "precision", "recall", "f1", "examples"], classes),
        "",
        "how many of the class on the left were taken for the class above",
        table(["", *names], confusions),
    ))  # fmt: skip
