"""Seconds per epoch of a multilayer perceptron on MNIST-shaped data: pargrad and all its rivals, in one run.

    python -m benchmarks.mnist_mlp                              # 784-128-64-10, batch 128; some four minutes
    python -m benchmarks.mnist_mlp --preset small,wide,large    # batch 512 too, and 784-512-256-10 at 2048
    python -m benchmarks.mnist_mlp --only 'numpy,torch*,pargrad-workers-2-*' --json .benchmarks/mlp.json
    python -m benchmarks.mnist_mlp --only 'torch,autograd,mygrad'

Rivals whose packages are not there are left out. jax, autograd and mygrad come with `pip install ".[bench]"`; Ray Train
needs pandas and pyarrow. DDP runs with buckets of its default size and with one that holds everything; it is the
better of the two that others are divided by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.command import add_rivals, chooser, epoch_of, parser_of, present, race
from benchmarks.report import Report
from benchmarks.tasks import Perceptron, numbers

PRESETS = {
    "small": Perceptron(),
    "wide": Perceptron(batch_size=512),
    "large": Perceptron(sizes=(784, 512, 256, 10), batch_size=2048),
}
USUAL = (
    "numpy", "numpy-2-processes", "torch", "torch-ddp", "torch-ddp:one-bucket", "ray-train", "jax",
    "pargrad-workers-0-shards-8", "pargrad-workers-1-shards-8", "pargrad-workers-2-shards-8",
    "pargrad-workers-1-shards-1", "pargrad-workers-2-shards-2",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("mnist_mlp", __doc__, turns=5)
    parser.add_argument("--preset", type=chooser(list(PRESETS), "preset"), default=["small"], help=", ".join(PRESETS))
    parser.add_argument("--examples", type=int, help="another number of them")
    parser.add_argument("--batch-size", type=int, help="another one")
    parser.add_argument("--sizes", type=numbers, help="of other layers, as 784,128,64,10")
    add_rivals(parser, USUAL)
    options = parser.parse_args(arguments)

    given = {name: getattr(options, name) for name in ("examples", "batch_size", "sizes")}
    report, names = Report("mnist_mlp"), present(options.only)
    for preset in options.preset:
        task = replace(PRESETS[preset], **{name: value for name, value in given.items() if value is not None})
        race(report, epoch_of(task), task, names, options.turns)
    report.write(options.json)


if __name__ == "__main__":
    main()
