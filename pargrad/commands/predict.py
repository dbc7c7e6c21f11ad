"""`pargrad predict`: images, rows of a table or arrays in, labels and probabilities or numbers out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pargrad.commands.options import POSITIONAL
from pargrad.commands.tasks import names_a_function

HELP = "say what a trained model makes of images, of rows of a table, or of arrays"
EXAMPLES = """\
  pargrad predict runs/first digit.png                    an image of 28 x 28 pixels, white on black
  pargrad predict runs/first letter.png --invert          one that is black on white
  pargrad predict runs/first images.npy --out out.csv     (n, 28, 28), labels and probabilities into a file
  pargrad predict runs/prices new.csv --out out.csv       rows of a table, which need no column of targets
  pargrad predict runs/mine x.npy --model my_model:make   (n, ...), for a model of your own
  pargrad predict weights.safetensors t10k-images-idx3-ubyte.gz --num-workers 0

A run remembers what it was trained on. my_model:make is taken from the command line only, never from a run's files.\
"""


@dataclass
class Options:
    """Say what a trained model makes of examples: labels with probabilities, or numbers.

    Args:
        trained: a run directory, a checkpoint, or a file of pargrad.save, safetensors or torch.save
        files: for images .npy, .npz with x, IDX as MNIST's (.gz or not), .png or .jpg, uint8 pixels being normalized
            as in training; for a table .csv with the same columns, .npz or .npy; for a model of your own .npy, or .npz
            with x
        best: of a run directory, the checkpoint with the lowest validation loss instead of the newest
        model: mlp, cnn, or module:function for a model of your own; by default the run's, else mlp
        data_set: what a file of weights was trained on, mnist or fashion-mnist; a run says it itself
        invert: the images are black on white, and the model knows white on black
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        out: write predictions and probabilities to this file, .npz or .csv; without it, the first lines are printed
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    trained: str = field(metadata=POSITIONAL)
    files: list[str] = field(metadata=POSITIONAL)
    best: bool = False
    model: Literal["mlp", "cnn"] | str | None = field(default=None, metadata={"command_line_only": names_a_function})
    data_set: Literal["mnist", "fashion-mnist"] | None = None
    invert: bool = False
    num_workers: int | Literal["auto"] = 0
    address: str = "local"
    out: str | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    from pargrad.commands.predictions import check_out, in_words, predictions_of, write
    from pargrad.commands.trained import read_trained
    from pargrad.parallel import Trainer

    check_out(options.out)
    trained = read_trained(options)
    origin = trained.origin
    if options.data_set not in (None, origin.data_set):
        raise ValueError(
            f"--data-set {options.data_set}: {options.trained} was trained on {origin.data_set}: leave it out"
        )
    asked = origin.without_targets(options.files, options.invert)
    with (
        origin.blamed(),
        Trainer(
            origin.model, origin.loss, None, batch_size=512, num_workers=options.num_workers, address=options.address,
            progress=options.progress,
        ) as trainer,
    ):  # fmt: skip
        predictions = predictions_of(trainer.predict(asked.data), origin)
    if options.out is None:
        print(in_words(predictions))
        return 0
    write(options.out, predictions)
    print(f"{len(predictions.predicted):,} predictions of {trained.source} for {asked.source} in {options.out}")
    return 0
