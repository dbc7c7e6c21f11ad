"""`pargrad bench`: a quick look at this machine: samples a second with 0, 1 and all workers, and one hash."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pargrad
from pargrad import optim
from pargrad.commands.table import table
from pargrad.data.mnist import load
from pargrad.models import MODELS
from pargrad.nn import functional as F

HELP = "samples a second on this machine, by number of workers"
EXAMPLES = """\
  pargrad bench                            0, 1 and all free cores, some seconds each
  pargrad bench --workers 0,1,2,4 --model cnn --batch-size 512\
"""
EXIT_DIFFERENT = 1


@dataclass
class Options:
    """Train for some seconds with each number of workers, check that the bits are the same, and say how fast it was.

    Args:
        workers: numbers of workers, separated by commas, 0 for this process alone; by default 0, 1 and the free cores
        model: mlp is 784-128-64-10 with ReLU; cnn has two convolutions of 32 and 64 filters, and dropout
        batch_size: examples of one optimizer step
        shards: pieces of a batch, a power of two
        steps: steps of one round, on the MNIST images at hand
        rounds: that are timed; the median counts
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        json: write the figures to this file
    """

    workers: str | None = None
    model: Literal["mlp", "cnn"] = "mlp"
    batch_size: int = 128
    shards: int = 8
    steps: int = 100
    rounds: int = 5
    address: str = "local"
    json: str | None = None


def run(options: Options) -> int:
    for name in ("steps", "rounds", "batch_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected at least 1")
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no directory {Path(options.json).absolute().parent}")
    measured = [measure(options, count) for count in counts(options)]
    if len({each["state_sha256"] for each in measured}) != 1:
        told = ", ".join(f"{each['num_workers']}: {each['state_sha256'][:12]}" for each in measured)
        print(f"THE BITS ARE NOT THE SAME, so there are no figures; by number of workers, the hash is {told}")
        return EXIT_DIFFERENT
    first = measured[0]["samples_per_second"]
    rows = [
        [str(each["num_workers"]), f"{each['samples_per_second']:,.0f}", f"{each['samples_per_second'] / first:.2f}"]
        for each in measured
    ]
    of = f"batch {options.batch_size}, {options.shards} shards, {options.rounds} x {options.steps} steps"
    print(f"{options.model}, {of}")
    print(table(["workers", "samples/s", "ratio"], rows))
    if options.json is not None:
        Path(options.json).write_text(json.dumps(measured, indent=2) + "\n")
    print(f"state sha256 {measured[0]['state_sha256']}, the same for all")
    return 0


def counts(options: Options) -> list[int]:
    """The numbers of workers, each once, in order."""
    from pargrad.parallel.cores import available_cores

    if options.workers is None:
        return sorted({0, 1, min(available_cores(), options.shards)})
    given = [part.strip() for part in options.workers.split(",")]
    if not all(part.isdigit() for part in given):
        raise ValueError(f"--workers {options.workers}: expected numbers separated by commas, such as 0,1,2")
    return sorted({int(part) for part in given})


def measure(options: Options, num_workers: int) -> dict[str, Any]:
    """Figures of one number of workers: the median over the rounds, and the hash after all of them."""
    from pargrad.parallel import Trainer, state_sha256

    data = load("mnist").train
    pargrad.manual_seed(0)
    model = MODELS[options.model]()
    with Trainer(
        model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=options.batch_size, shards=options.shards,
        num_workers=num_workers, address=options.address, progress="off",
    ) as trainer:  # fmt: skip
        trainer.fit(data, max_steps=options.steps)  # warm
        if num_workers:
            trainer.wait_for_workers()
        speeds = []
        for _ in range(options.rounds):
            before = len(trainer.history)
            trainer.fit(data, max_steps=options.steps)
            parts = trainer.history[before:]
            examples = sum(part["samples_per_second"] * part["seconds"] for part in parts)
            speeds.append(examples / sum(part["seconds"] for part in parts))
    return {
        "num_workers": num_workers,
        "samples_per_second": statistics.median(speeds),
        "state_sha256": state_sha256(model),
    }
