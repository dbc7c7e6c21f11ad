"""What checkpoints cost: steps of 10.0M parameters, batch 512, in blocks of 20 with a checkpoint and without.

    python -m benchmarks.checkpoint_overhead [--steps 400] [--num-workers 2]

Blocks of both kinds take turns in one run, so that what else the machine does falls on both. The first step of a
block with a checkpoint waits until the workers are idle and the state is copied; the others run beside the writing.
"""

import argparse
import itertools
import statistics
import tempfile
import time

import numpy as np

import pargrad as pg
from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel import Trainer

BLOCK = 20


def seconds_of_steps(steps, workers, directory):
    """The seconds of each step, in blocks that begin with a checkpoint and blocks that do not, in turn."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((512 * 20, 784), dtype=np.float32)
    y = generator.integers(0, 10, len(x))
    pg.manual_seed(0)
    sizes = (784, 2048, 2048, 2048)
    layers = [part for i, o in itertools.pairwise(sizes) for part in (nn.Linear(i, o), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(2048, 10))
    options = {"num_workers": workers, "progress": "off", "run_dir": directory, "checkpoint_steps": 2 * BLOCK}
    with Trainer(model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=512, **options) as trainer:
        trainer.fit((x, y), max_steps=2 * BLOCK)  # to warm up; it ends with a checkpoint
        ends, count = [time.perf_counter()], trainer.count

        def counted(result):
            ends.append(time.perf_counter())
            count(result)

        trainer.count = counted
        trainer.fit((x, y), max_steps=steps)
    seconds = np.diff(ends)[BLOCK:]  # the block before the first checkpoint
    seconds = seconds[: len(seconds) // (2 * BLOCK) * 2 * BLOCK].reshape(-1, 2, BLOCK)
    return seconds[:, 1].reshape(-1), seconds[:, 0].reshape(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--num-workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        with_one, without = seconds_of_steps(options.steps, options.num_workers, directory)
    for name, seconds in (("without", without), ("with", with_one)):
        print(f"{name:<8} median {statistics.median(seconds):.4f} s, mean {statistics.mean(seconds):.4f} s a step")
    print(f"median step {statistics.median(with_one) / statistics.median(without) - 1:+.1%}")


if __name__ == "__main__":
    main()
