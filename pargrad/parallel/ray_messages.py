"""What nodes of a Ray compute, and what messages between two cost, sent as in a step: one, and then its answer."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.letters import Letter, seal, unseal
from pargrad.parallel.processes import descendants, seconds_of

ROUNDS, REPEATS = 40, 5
SMALL, LARGE = 1_000, 1_000_000  # bytes
CALLS = 200
GROUP_SECONDS = 60.0


class Costs(NamedTuple):
    """By processor time: a message's at both ends, bytes/s of packing or unpacking one, a call's where it is made.

    latency: by how much longer than its processor time a message is under way: threads are woken, and the link is slow.
    """

    message_seconds: float
    message_bandwidth: float
    call_seconds: float
    latency: float


class Round(NamedTuple):
    """Seconds of a message and its answer: of processor time, and by the clock."""

    processor: float
    clock: float


class Correspondent:
    """An actor that writes to another, and waits for its letters."""

    def __init__(self) -> None:
        self.letters: queue.SimpleQueue = queue.SimpleQueue()

    @ray.method(concurrency_group="beside")
    def deliver(self, letter: Letter, *pieces: bytes) -> None:
        self.letters.put(unseal(letter, pieces))

    def nothing(self) -> None:
        pass

    def correspond(self, other: Any, size: int, rounds: int, begins: bool) -> Round:
        """Rounds of a message of so many bytes, and its answer; processor time is this end's."""
        message, began, processor = np.ones(size, np.uint8), time.perf_counter(), time.process_time()
        for _ in range(rounds):
            if not begins:
                self.letters.get()
            letter, pieces = seal(message)
            other.deliver.remote(letter, *pieces)
            if begins:
                self.letters.get()
        return Round((time.process_time() - processor) / rounds, (time.perf_counter() - began) / rounds)


class Meter:
    """An actor that reads what the processes of its node have computed: the raylet, and those that it has started."""

    def seconds(self) -> dict[tuple[str, int], float]:
        raylet, host = os.getppid(), socket.gethostname()
        return {(host, pid): seconds_of(pid) for pid in (raylet, *descendants(raylet))}


@contextlib.contextmanager
def meters() -> Iterator[Callable[[], dict[tuple[str, int], float]]]:
    """A function that gives the processor seconds of every process of every node, by host and number."""
    Actor: Any = ray.remote(num_cpus=0)(Meter)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    here: list[Any] = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    actors = [Actor.options(scheduling_strategy=each).remote() for each in here]
    try:
        yield lambda: {key: each for one in ray.get([a.seconds.remote() for a in actors]) for key, each in one.items()}
    finally:
        for actor in actors:
            ray.kill(actor)


@contextlib.contextmanager
def spread(nodes: int) -> Iterator[Any]:
    """A placement group of one core on each of so many nodes."""
    group = placement_group([{"CPU": 1}] * nodes, strategy="STRICT_SPREAD")
    try:
        if not group.wait(GROUP_SECONDS):
            raise ResourcesError(f"there are no {nodes} nodes with a free core each: free some, or leave --address out")
        yield group
    finally:
        remove_placement_group(group)


def nodes_and_hosts() -> tuple[int, int]:
    """How many nodes the Ray has, and on how many hosts they are."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return len(alive), len({node["NodeManagerAddress"] for node in alive})


def measure_messages() -> Costs:
    """Between two nodes of the Ray that this process is in; medians."""
    options: dict[str, Any] = {"num_cpus": 1, "concurrency_groups": {"beside": 1}}
    Actor: Any = ray.remote(**options)(Correspondent)
    with spread(2) as group:
        here: list[Any] = [PlacementGroupSchedulingStrategy(group, place) for place in (0, 1)]
        actors = [Actor.options(scheduling_strategy=each).remote() for each in here]
        small, large = (median_of([round_of(actors, size) for _ in range(REPEATS)]) for size in (SMALL, LARGE))
        began = time.process_time()
        for _ in range(CALLS):
            ray.get(actors[0].nothing.remote())
        call = (time.process_time() - began) / CALLS
    grows = max(large.processor - small.processor, 1e-9)
    late = max(small.clock - small.processor, 0.0)
    return Costs(small.processor / 2, 4 * (LARGE - SMALL) / grows, call, late / 2)


def round_of(actors: list[Any], size: int) -> Round:
    """A message and its answer; processor time is that of both ends."""
    first, second = actors
    here, there = ray.get([
        first.correspond.remote(second, size, ROUNDS, True), second.correspond.remote(first, size, ROUNDS, False),
    ])  # fmt: skip
    return Round(here.processor + there.processor, here.clock)


def median_of(rounds: list[Round]) -> Round:
    return Round(*map(statistics.median, zip(*rounds)))
