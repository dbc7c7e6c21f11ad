"""Running statistics of a data-parallel step: each shard's moments, merged in the fixed tree, moved once a step.

Moments are merged by the formula of Chan, Golub and LeVeque 1983: counts add, and squared deviations add up with that
of the two means. They are float64, so that the order of the shards alone decides about their bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad.parallel.arena import Arena, Half
from pargrad.parallel.shards import reduce_tree
from pargrad.tensor import Tensor

NOTHING, COUNTER, AVERAGE, VARIANCE = range(4)  # a variance of the mean in buffer i is VARIANCE + i


class Moments(NamedTuple):
    """How many values, their mean, and the sum of their squared deviations from it."""

    weight: float
    mean: np.ndarray
    deviations: np.ndarray | None = None

    def merged(self, other: Moments) -> Moments:
        weight = self.weight + other.weight
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.weight / weight)
        if self.deviations is None or other.deviations is None:
            return Moments(weight, mean)
        between = apart * apart * (self.weight * other.weight / weight)
        return Moments(weight, mean, self.deviations + other.deviations + between)


def no_exchange(layer: Any, *_: Any) -> Any:
    raise RuntimeError(
        "a SyncBatchNorm that is no module of the model was called: write self.norm = nn.SyncBatchNorm(...)"
    )


class ShardStatistics:
    """Takes the statistics of one shard into its row of the arena; exchange: gives those of all shards."""

    def __init__(self, arena: Arena, shard: int, places: dict[int, int], exchange: Callable[..., Any] = no_exchange):
        self.arena = arena
        self.shard = shard
        self.places = places  # of buffers, by the identity of their tensors
        self.exchange = exchange

    def counted(self, buffer: Tensor) -> None:
        self.arena.kinds[self.shard, self.place(buffer)] = COUNTER

    def average(self, buffer: Tensor, weight: float, value: np.ndarray, factor: float) -> None:
        self.put(self.place(buffer), AVERAGE, Moments(weight, np.asarray(value, np.float64)), factor)

    def moments(
        self, mean: Tensor, variance: Tensor, count: int, value: np.ndarray, deviations: np.ndarray, factor: float
    ) -> None:
        first, second = self.place(mean), self.place(variance)
        new = Moments(count, np.asarray(value, np.float64), np.asarray(deviations, np.float64))
        if self.arena.kinds[self.shard, second]:  # a layer that is called twice has seen more values
            new = self.taken(second).merged(new)
        for place, kind, array in ((first, AVERAGE, new.mean), (second, VARIANCE + first, new.deviations)):
            self.write(place, kind, new.weight, array, factor)

    def whole_moments(
        self, layer: Any, count: int, mean: np.ndarray, deviations: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        return self.exchange(layer, False, np.concatenate([[count], mean, deviations], dtype=np.float64))

    def whole_sums(self, layer: Any, sums: np.ndarray) -> np.ndarray:
        return self.exchange(layer, True, sums.astype(np.float64).reshape(-1)).reshape(sums.shape)

    def place(self, buffer: Tensor) -> int:
        if id(buffer) not in self.places:
            raise RuntimeError(
                f"a running statistic of shape {buffer.shape} is no buffer of the model: a shard cannot change it. "
                "Write self.register_buffer(...) in the layer"
            )
        return self.places[id(buffer)]

    def put(self, place: int, kind: int, new: Moments, factor: float) -> None:
        if self.arena.kinds[self.shard, place]:
            new = self.taken(place).merged(new)
        self.write(place, kind, new.weight, new.mean, factor)

    def write(self, place: int, kind: int, count: float, array: np.ndarray | None, factor: float) -> None:
        arena, shard = self.arena, self.shard
        arena.statistics[shard][place][...] = array
        arena.weights[shard, place], arena.factors[shard, place] = count, factor
        arena.kinds[shard, place] = kind

    def taken(self, place: int) -> Moments:
        return moments_of(self.arena, self.shard, place)


class NoStatistics:
    """Where no shard has statistics of its own; raises the reason."""

    def __init__(self, reason: BaseException):
        self.reason = reason

    def refuse(self, *_: object) -> Any:
        raise self.reason

    counted = average = moments = whole_moments = whole_sums = refuse


def moments_of(arena: Arena, shard: int, place: int) -> Moments:
    kind, values, weight = arena.kinds[shard, place], arena.statistics[shard], float(arena.weights[shard, place])
    if kind == AVERAGE:
        return Moments(weight, values[place])
    return Moments(weight, values[kind - VARIANCE], values[place])


def move_statistics(arena: Arena, now: Half, new: Half, place: int) -> None:
    """Writes the next value of one buffer: moved towards what all shards found, or as it was."""
    shards = [shard for shard in range(arena.layout.shards) if arena.kinds[shard, place]]
    old, into = now.buffers[place], new.buffers[place]
    if not shards:
        if arena.moved[place]:  # else both halves have it since the beginning
            np.copyto(into, old)
        return
    arena.moved[place] = 1
    kind = arena.kinds[shards[0], place]
    if kind == COUNTER:
        into[...] = old + 1
        return
    parts = [moments_of(arena, i, place) if arena.kinds[i, place] else None for i in range(arena.layout.shards)]
    whole = reduce_tree(parts, Moments.merged)
    assert whole is not None
    value = whole.mean if whole.deviations is None else whole.deviations / max(whole.weight - 1, 1)
    factor = arena.factors[shards[0], place]
    np.copyto(into, (1 - factor) * old + factor * value, casting="same_kind")
