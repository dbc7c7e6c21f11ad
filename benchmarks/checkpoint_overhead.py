"""What checkpoints cost: steps of 10.0M parameters, batch 512, in blocks of 20 with a checkpoint and without.

    python -m benchmarks.checkpoint_overhead      # ten blocks of each kind; some two minutes on two cores

Blocks of both kinds take turns in one run, so that what else the machine does falls on both. The first step of a
block with a checkpoint waits until the workers are idle and the state is copied; the others run beside the writing.
"""

import itertools
import tempfile
import time

import numpy as np

import pargrad as pg
from benchmarks.command import parser_of
from benchmarks.report import Report, figures_of, with_ratios
from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel import Trainer

BLOCK = 20


def seconds_of_steps(turns, workers, directory, width):
    """The seconds of each step, in blocks that begin with a checkpoint and in as many that do not, in turn."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((512 * 20, 784), dtype=np.float32)
    y = generator.integers(0, 10, len(x))
    pg.manual_seed(0)
    sizes = (784, width, width, width)
    layers = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    options = {"num_workers": workers, "progress": "off", "run_dir": directory, "checkpoint_steps": 2 * BLOCK}
    with Trainer(model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=512, **options) as trainer:
        trainer.wait_for_workers()
        trainer.fit((x, y), max_steps=2 * BLOCK)  # to warm up; it ends with a checkpoint
        ends, count = [time.perf_counter()], trainer.count

        def counted(result):
            ends.append(time.perf_counter())
            count(result)

        trainer.count = counted
        trainer.fit((x, y), max_steps=2 * BLOCK * turns + BLOCK)
    seconds = np.diff(ends)[BLOCK:]  # the block before the first checkpoint
    seconds = seconds[: len(seconds) // (2 * BLOCK) * 2 * BLOCK].reshape(-1, 2, BLOCK)
    return seconds[:, 1].reshape(-1).tolist(), seconds[:, 0].reshape(-1).tolist()


def main(arguments=None):
    parser = parser_of("checkpoint_overhead", __doc__, turns=10)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--width", type=int, default=2048, help="of the three hidden layers (%(default)s)")
    options = parser.parse_args(arguments)
    report = Report("checkpoint_overhead")
    with tempfile.TemporaryDirectory() as directory:
        with_one, without = seconds_of_steps(options.turns, options.num_workers, directory, options.width)
    about = {"processes": options.num_workers, "threads": 1}
    rows = {"pargrad, without": figures_of(without, **about), "pargrad, with": figures_of(with_one, **about)}
    report.add(f"a step of width {options.width}, with a checkpoint every {2 * BLOCK} steps and without",
               with_ratios(rows, ["pargrad, without"]))  # fmt: skip
    report.write(options.json)


if __name__ == "__main__":
    main()
