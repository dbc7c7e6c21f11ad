"""What this machine makes of a plan's numbers: measured on one network, and checked on others.

The networks are plain ones of linear layers and ReLU, said as their widths: 784-256-10. Two clocks are read. The one on
the wall says what a step takes, where the machine has nothing else to do. Processor time, with BLAS on one thread, is
changed less by other processes: a step is no shorter than what its busiest process computes, nor than what all of them
do on this machine's cores. On an idle machine the two agree; on a busy one the second is the better word.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel.checkpoints import write_whole
from pargrad.parallel.cores import available_cores
from pargrad.parallel.plan import SHARD_ARRAYS, Job, Machine, predict
from pargrad.parallel.processes import descendants, seconds_of
from pargrad.parallel.trainer import Trainer
from pargrad.parallel.workers import ray_is_initialized

CALIBRATED = (784, 256, 256, 10)
SMALL, LARGE, FEW, MANY = 128, 1024, 8, 32  # batches and shards to calibrate with
PREDICTED = ((784, 512, 256, 10), (784, 128, 128, 128, 10))
BATCHES = 256, 512
NUM_WORKERS, NODES = (0, 1, 2), (1, 2, 3)
FEW_STEPS, MORE_STEPS, REPEATS = 4, 16, 8
COPIED_BYTES = 1 << 26  # more than caches hold

Process = tuple[str, int]  # a host, and a number on it


class Seen(NamedTuple):
    """Seconds of a step as predicted, as the clock said, and by processor time, where that is known.

    nodes: of a Ray, each with one worker; 0 where this process starts the workers itself.
    """

    widths: str
    batch_size: int
    shards: int
    num_workers: int
    nodes: int
    predicted: float
    seen: float | None = None
    processor: float | None = None


class Taken(NamedTuple):
    """Seconds of a step: by the clock; of processor time of this process, of the busiest, and of all together."""

    clock: float
    driver: float
    busiest: float
    total: float

    def processor(self, cores: int) -> float:
        """What a step takes at least, by processor time, on so many cores."""
        return max(self.busiest, self.total / cores)


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


def step_of(widths: Sequence[int], batch_size: int, shards: int, num_workers: int = 0, nodes: int = 0) -> Taken:
    """A step on random data, by fits of few and of more steps: what a fit takes beside its steps is in both.

    All fits are of the same data, which are an epoch of one fit of each kind: new data would have to be sent first.
    """
    random = np.random.default_rng(0)
    x = random.standard_normal((batch_size * (FEW_STEPS + MORE_STEPS), widths[0]), dtype=np.float32)
    y = random.integers(0, widths[-1], len(x))
    model = network(widths)
    clocks: dict[int, list[float]] = {FEW_STEPS: [], MORE_STEPS: []}
    spent: Counter[Process] = Counter()
    with placed(nodes) as group, metered(nodes) as processor_seconds, Trainer(
        model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=batch_size, shards=shards,
        num_workers=nodes or num_workers, placement_group=group, progress="off",
    ) as trainer:  # fmt: skip
        trainer.wait_for_workers()
        trainer.fit((x, y), epochs=1)
        for _ in range(REPEATS):
            for steps, sign in ((FEW_STEPS, -1), (MORE_STEPS, 1)):
                before, began = processor_seconds(), time.perf_counter()
                trainer.fit((x, y), max_steps=steps)
                clocks[steps].append(time.perf_counter() - began)
                for process, seconds in processor_seconds().items():
                    spent[process] += sign * (seconds - before.get(process, 0.0))  # type: ignore[assignment]
    more = MORE_STEPS - FEW_STEPS
    each = {process: seconds / (more * REPEATS) for process, seconds in spent.items()}
    return Taken(
        (min(clocks[MORE_STEPS]) - min(clocks[FEW_STEPS])) / more,
        each[socket.gethostname(), os.getpid()],
        max(each.values()),
        sum(each.values()),
    )


def placed(nodes: int) -> AbstractContextManager[Any]:
    """A placement group of one worker on each of so many nodes; none for none."""
    if not nodes:
        return contextlib.nullcontext()
    from pargrad.parallel.ray_messages import spread

    return spread(nodes)


@contextlib.contextmanager
def metered(nodes: int) -> Iterator[Callable[[], dict[Process, float]]]:
    """A function that gives what this process, those below it, and all on a Ray's nodes where there are some, have
    computed; where there is no /proc, this process alone."""
    with contextlib.ExitStack() as stack:
        elsewhere: Callable[[], dict[Process, float]] = dict
        if nodes:
            from pargrad.parallel.ray_messages import meters

            elsewhere = stack.enter_context(meters())

        def read() -> dict[Process, float]:
            host, here = socket.gethostname(), os.getpid()
            below = {(host, pid): seconds_of(pid) for pid in descendants(here)}
            return {**elsewhere(), **below, (host, here): time.process_time()}

        yield read


def copy_bandwidth(cores: int = 1) -> float:
    """Bytes/s that so many cores together read and write, copying what no cache holds: the best of five."""
    sources = [np.ones(COPIED_BYTES // cores, np.uint8) for _ in range(cores)]
    into = [np.zeros_like(source) for source in sources]
    seconds = []
    with ThreadPoolExecutor(cores) as threads:  # numpy copies without holding the interpreter's lock
        for _ in range(5):
            began = time.perf_counter()
            list(threads.map(np.copyto, into, sources))
            seconds.append(time.perf_counter() - began)
    return 2 * sum(source.nbytes for source in sources) / min(seconds)


def calibrate(machine: Machine) -> Machine:
    """The machine with what this one was seen to do; its cores and its link are as they were given.

    Steps of two batches tell the examples' time, steps of two numbers of shards a shard's; what is left is the step's.
    Steps of workers tell what those and the driver cost beside.
    """
    cores = available_cores()
    bandwidth = copy_bandwidth()
    with_small = step_of(CALIBRATED, SMALL, FEW).driver
    with_large = step_of(CALIBRATED, LARGE, FEW).driver
    with_many = step_of(CALIBRATED, LARGE, MANY).driver
    job = job_of(CALIBRATED, SMALL, FEW)
    example = max((with_large - with_small) / (LARGE - SMALL), 1e-9)
    shard = max((with_many - with_large) / (MANY - FEW), 1e-9)
    in_cache = max(SHARD_ARRAYS * job.bytes / shard, bandwidth)
    found = replace(
        machine,
        gflops=job.flops_per_example / example / 1e9,
        core_bandwidth=bandwidth,
        memory_bandwidth=max(copy_bandwidth(cores), bandwidth),
        cache_bandwidth=in_cache,
        shard_seconds=max(shard - SHARD_ARRAYS * job.bytes / in_cache, 0.0),
        step_seconds=0.0,
        meeting_seconds=0.0,
        driver_seconds=0.0,
    )
    found = replace(found, step_seconds=max(with_small - predict(job, found, (1,)).step, 0.0))
    workers = min(2, cores)
    with_workers = step_of(CALIBRATED, SMALL, FEW, workers)
    beside = with_workers.busiest - predict(job, found, (workers,)).step
    meeting = max(beside, 0.0) if workers > 1 else 0.0
    return replace(found, driver_seconds=with_workers.driver, meeting_seconds=meeting)


def calibrate_messages(machine: Machine) -> Machine:
    """The machine with what messages between two nodes of the Ray cost that this process is in, and their agents.

    What steps on two nodes compute beyond what is known of them is the agents', and that of Ray's own processes.
    """
    if number_of_nodes()[0] < 2:
        raise ValueError("this Ray has one node, and messages are measured between two: leave --address out")
    from pargrad.parallel.ray_messages import measure_messages

    found = replace(machine, **measure_messages()._asdict(), agent_seconds=0.0)
    known = predict(job_of(CALIBRATED, SMALL, FEW), on_these_hosts(found), (1, 1)).work
    beside = step_of(CALIBRATED, SMALL, FEW, nodes=2).total - known
    return replace(found, agent_seconds=max(beside, 0.0) / 2)


def number_of_nodes() -> tuple[int, int]:
    """How many nodes the Ray that this process is in has, on how many hosts."""
    if not ray_is_initialized():
        return 0, 0
    from pargrad.parallel.ray_messages import nodes_and_hosts

    return nodes_and_hosts()


def on_these_hosts(machine: Machine) -> Machine:
    """The machine as one of the Ray's nodes, which share the cores of this host where they are all on it."""
    return machine if number_of_nodes()[1] > 1 else replace(machine, host_cores=available_cores())


def write_predictions(path: str, machine: Machine) -> list[Seen]:
    """Writes what steps of two other networks will take, before they are run: on the nodes of the Ray that this process
    is in, or by workers of this machine."""
    cores, nodes, here = available_cores(), number_of_nodes()[0], on_these_hosts(machine)
    ways = [(0, count) for count in NODES if count <= nodes] or [(n, 0) for n in NUM_WORKERS if n <= cores]
    predictions = [
        Seen(written(widths), batch, 8, workers, count, predict(job_of(widths, batch, 8), here, places).step)
        for widths in PREDICTED
        for batch in BATCHES
        for workers, count in ways
        for places in [(1,) * count or (max(workers, 1),)]
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
    cores, (_, hosts) = available_cores(), number_of_nodes()
    if any(one.nodes for one in predictions) and not hosts:
        raise ValueError(f"{path} has predictions for nodes of a Ray: say which one, as in --address auto")
    for one in predictions:
        taken = step_of(parse_widths(one.widths), one.batch_size, one.shards, one.num_workers, one.nodes)
        yield one._replace(seen=taken.clock, processor=taken.processor(cores) if hosts <= 1 else None)


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
