"""What messages between the nodes of a Ray cost, measured as a step's exchange sends them: one, and then its answer."""

from __future__ import annotations

import contextlib
import queue
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.letters import Letter, seal, unseal

ROUNDS, REPEATS = 40, 5
SMALL, LARGE = 1_000, 1_000_000  # bytes
CALLS = 200
GROUP_SECONDS = 60.0


class Costs(NamedTuple):
    """By processor time: a message's at both ends, bytes/s of packing or unpacking one, a call's where it is made."""

    message_seconds: float
    message_bandwidth: float
    call_seconds: float


class Correspondent:
    """An actor that writes to another, and waits for its letters."""

    def __init__(self) -> None:
        self.letters: queue.SimpleQueue = queue.SimpleQueue()

    @ray.method(concurrency_group="beside")
    def deliver(self, letter: Letter, *pieces: bytes) -> None:
        self.letters.put(unseal(letter, pieces))

    def nothing(self) -> None:
        pass

    def correspond(self, other: Any, size: int, rounds: int, begins: bool) -> float:
        """Processor seconds of a round: a message of so many bytes, and its answer."""
        message, began = np.ones(size, np.uint8), time.process_time()
        for _ in range(rounds):
            if not begins:
                self.letters.get()
            letter, pieces = seal(message)
            other.deliver.remote(letter, *pieces)
            if begins:
                self.letters.get()
        return (time.process_time() - began) / rounds


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
    """Between two nodes of the Ray that this process is in; medians of processor time."""
    options: dict[str, Any] = {"num_cpus": 1, "concurrency_groups": {"beside": 1}}
    Actor: Any = ray.remote(**options)(Correspondent)
    with spread(2) as group:
        here: list[Any] = [PlacementGroupSchedulingStrategy(group, place) for place in (0, 1)]
        actors = [Actor.options(scheduling_strategy=each).remote() for each in here]
        costs = {size: statistics.median(round_of(actors, size) for _ in range(REPEATS)) / 2 for size in (SMALL, LARGE)}
        began = time.process_time()
        for _ in range(CALLS):
            ray.get(actors[0].nothing.remote())
        call = (time.process_time() - began) / CALLS
    grows = max(costs[LARGE] - costs[SMALL], 1e-9)
    return Costs(costs[SMALL], 2 * (LARGE - SMALL) / grows, call)


def round_of(actors: list[Any], size: int) -> float:
    """Processor seconds that both spend on a message and its answer."""
    first, second = actors
    return sum(ray.get([first.correspond.remote(second, size, ROUNDS, True),
                        second.correspond.remote(first, size, ROUNDS, False)]))  # fmt: skip
