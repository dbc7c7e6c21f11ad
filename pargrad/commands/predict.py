"""`pargrad predict`: images or arrays in, labels and probabilities out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pargrad.commands.options import POSITIONAL
from pargrad.commands.table import table
from pargrad.nn import functional as F

HELP = "say what a trained model takes images or arrays for"
EXAMPLES = """\
  pargrad predict runs/first digit.png                    an image of 28 x 28 pixels, white on black
  pargrad predict runs/first letter.png --invert          one that is black on white
  pargrad predict runs/first images.npy --out out.csv     (n, 28, 28), labels and probabilities into a file
  pargrad predict weights.safetensors t10k-images-idx3-ubyte.gz --num-workers 0\
"""
LINES = 20  # that are printed; --out has all
SURE = 3  # classes that a line names


@dataclass
class Options:
    """Say what a trained model takes images or arrays for: the label, and the probabilities of the likeliest classes.

    Args:
        trained: a run directory, a checkpoint, or a file of pargrad.save, safetensors or torch.save
        files: .npy, .npz with x, IDX as MNIST's (.gz or not), .png or .jpg; uint8 pixels are normalized as in training
        best: of a run directory, the checkpoint with the lowest validation loss instead of the newest
        model: mlp or cnn; by default what the run's config.yaml says, else mlp
        data_set: what it was trained on, mnist or fashion-mnist; by default what the run's config.yaml says, else mnist
        invert: the images are black on white, and the model knows white on black
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        out: write predictions and probabilities to this file, .npz or .csv; without it, the first lines are printed
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    trained: str = field(metadata=POSITIONAL)
    files: list[str] = field(metadata=POSITIONAL)
    best: bool = False
    model: Literal["mlp", "cnn"] | None = None
    data_set: Literal["mnist", "fashion-mnist"] | None = None
    invert: bool = False
    num_workers: int | Literal["auto"] = 0
    address: str = "local"
    out: str | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    from pargrad.commands.trained import check_table, inputs, probabilities_of, read_trained, write_predictions
    from pargrad.parallel import Trainer

    check_table(options.out)
    trained = read_trained(options.trained, options.model, options.best)
    asked = inputs(options.files, options.data_set or trained.data_set, options.invert)
    with Trainer(
        trained.model, F.cross_entropy, None, batch_size=512, num_workers=options.num_workers, address=options.address,
        progress=options.progress,
    ) as trainer:  # fmt: skip
        probabilities = probabilities_of(trainer.predict(asked.x))
    if options.out is not None:
        write_predictions(options.out, probabilities, None, asked.classes)
        print(f"{len(probabilities):,} predictions of {trained.source} in {options.out}")
        return 0
    rows = []
    for i, row in enumerate(probabilities[:LINES]):
        likely = row.argsort(kind="stable")[::-1][:SURE]
        rows.append([str(i), asked.classes[row.argmax()], *(f"{asked.classes[j]}: {row[j]:.2%}" for j in likely)])
    print(table(["example", "label", *(f"likely {k}" for k in range(1, SURE + 1))], rows))
    if len(probabilities) > LINES:
        print(f"and {len(probabilities) - LINES:,} more: write --out predictions.csv")
    return 0
