"""What this machine makes of a plan's numbers: measured on one network, and checked on others.

The networks are plain ones of linear layers and ReLU, said as their widths: 784-256-10. Processor time is taken where
this process takes the steps alone: with BLAS on one thread it is what an idle machine's clock says, and other processes
change it less. Where there are workers the clock is taken, so the machine must have nothing else to do.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel.checkpoints import write_whole
from pargrad.parallel.plan import SHARD_ARRAYS, Job, Machine, predict
from pargrad.parallel.trainer import Trainer

CALIBRATED = (784, 256, 256, 10)
PREDICTED = ((784, 512, 256, 10), (784, 128, 128, 128, 10))
NUM_WORKERS = 0, 1, 2
STEPS, EPOCHS = 10, 5
COPIED_BYTES = 1 << 26  # more than caches hold


class Seen(NamedTuple):
    """Seconds of a step as predicted, and as they were."""

    widths: str
    batch_size: int
    shards: int
    num_workers: int
    predicted: float
    seen: float | None = None


def parse_widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(width) for width in text.split("-"))
    except ValueError:
        widths = ()
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"{text!r} is no network: write the widths of its layers, as in 784-256-10")
    return widths


def written(widths: Sequence[int]) -> str:
    return "-".join(map(str, widths))


def network(widths: Sequence[int]) -> nn.Module:
    layers: list[nn.Module] = []
    for size, out in itertools.pairwise(widths):
        layers += [nn.Linear(size, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def job_of(widths: Sequence[int], batch_size: int, shards: int) -> Job:
    """Three products a layer, of 2 FLOP a weight: forward, for the weights, and for its input, but the first's."""
    weights = [size * out for size, out in itertools.pairwise(widths)]
    flops = 6.0 * sum(weights) - 2 * weights[0]
    return Job(sum(weights) + sum(widths[1:]), flops, batch_size, shards)


def step_seconds(widths: Sequence[int], batch_size: int, shards: int, num_workers: int = 0) -> float:
    """Of a step on random data: the median over epochs, the first left out."""
    random = np.random.default_rng(0)
    count = batch_size * STEPS
    data = random.standard_normal((count, widths[0]), dtype=np.float32), random.integers(0, widths[-1], count)
    model, clock = network(widths), time.perf_counter if num_workers else time.process_time
    taken = []
    with Trainer(
        model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=batch_size, shards=shards,
        num_workers=num_workers, progress="off",
    ) as trainer:  # fmt: skip
        for _ in range(EPOCHS + 1):
            began = clock()
            trainer.fit(data, epochs=1)
            taken.append((clock() - began) / STEPS)
    return statistics.median(taken[1:])


def copy_bandwidth() -> float:
    """Bytes/s that one core reads and writes, copying what no cache holds; by processor time, the best of five."""
    source = np.ones(COPIED_BYTES, np.uint8)
    into = np.zeros_like(source)
    times = []
    for _ in range(5):
        began = time.process_time()
        np.copyto(into, source)
        times.append(time.process_time() - began)
    return 2 * COPIED_BYTES / min(times)


def calibrate(machine: Machine) -> Machine:
    """The machine with what one core of this one was seen to do; memory and link are as they were given.

    Steps of two batches tell the examples' time, steps of two numbers of shards a shard's; what is left is the step's.
    """
    small, large, few, many = 128, 1024, 8, 32
    bandwidth = copy_bandwidth()
    with_small = step_seconds(CALIBRATED, small, few)
    with_large = step_seconds(CALIBRATED, large, few)
    with_many = step_seconds(CALIBRATED, large, many)
    job = job_of(CALIBRATED, small, few)
    example = max((with_large - with_small) / (large - small), 1e-9)
    shard = max((with_many - with_large) / (many - few) - SHARD_ARRAYS * job.bytes / bandwidth, 0.0)
    found = replace(
        machine,
        gflops=job.flops_per_example / example / 1e9,
        core_bandwidth=bandwidth,
        memory_bandwidth=max(machine.memory_bandwidth, bandwidth),
        shard_seconds=shard,
        step_seconds=0.0,
    )
    return replace(found, step_seconds=max(with_small - predict(job, found, (1,)).step, 0.0))


def write_predictions(path: str, machine: Machine) -> list[Seen]:
    """Writes what steps of two other networks will take, before they are run."""
    predictions = [
        Seen(written(widths), batch, 8, workers, predict(job_of(widths, batch, 8), machine, (max(workers, 1),)).step)
        for widths in PREDICTED
        for batch in (256, 1024)
        for workers in NUM_WORKERS
        if workers <= (os.cpu_count() or 1)
    ]
    said = {"machine": asdict(machine), "predictions": [one._asdict() for one in predictions]}
    write_whole(Path(path), (json.dumps(said, indent=2) + "\n").encode())
    return predictions


def check_predictions(path: str) -> Iterator[Seen]:
    """Runs what was predicted."""
    try:
        predictions = [Seen(**one) for one in json.loads(Path(path).read_text())["predictions"]]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds no predictions ({error!r}): make it with pargrad plan --predict {path}"
        ) from None
    for one in predictions:
        seconds = step_seconds(parse_widths(one.widths), one.batch_size, one.shards, one.num_workers)
        yield one._replace(seen=seconds)


def load_machine(path: str | None, **changed: Any) -> Machine:
    """The machine in a JSON file that `calibrate` gave, or the usual one, with what is given otherwise."""
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = json.loads(Path(path).read_text())
            given = given.get("machine", given)
        except (AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no JSON object: {error}") from None
    unknown = set(given) - set(asdict(Machine()))
    if unknown:
        raise ValueError(f"{path}: {', '.join(sorted(unknown))} is not known; there are {', '.join(asdict(Machine()))}")
    return Machine(**{**given, **{name: value for name, value in changed.items() if value is not None}})
