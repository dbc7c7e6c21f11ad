"""Running statistics of normalization layers: moved at once, or collected where a batch is cut into shards.

In a user's own loop a layer moves its running mean and variance in every call, as torch's does. In a data-parallel
step a shard may not: a collector takes its counts and moments, and the step moves the statistics once, for the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from pargrad.tensor import Tensor


class Collector(Protocol):
    """What takes the statistics of a shard."""

    def counted(self, buffer: Tensor) -> None:
        """A counter of batches is to go up by one."""

    def average(self, buffer: Tensor, weight: float, value: np.ndarray, factor: float) -> None:
        """A buffer is to move by `factor` towards the average of such values, by weight."""

    def moments(
        self, mean: Tensor, variance: Tensor, count: int, value: np.ndarray, deviations: np.ndarray, factor: float
    ) -> None:
        """Two buffers are to move towards the mean and the unbiased variance; deviations: the sum of their squares."""

    def whole_moments(
        self, layer: Any, count: int, mean: np.ndarray, deviations: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """How many values all shards of the batch have, their mean and the sum of their squared deviations, float64."""

    def whole_sums(self, layer: Any, sums: np.ndarray) -> np.ndarray:
        """The sums of all shards of the batch, float64."""


class _Current(threading.local):
    collector: Collector | None = None


_current = _Current()


@contextmanager
def collected_by(collector: Collector) -> Iterator[None]:
    """Inside the block no running statistic is changed: the collector takes what would change it."""
    before, _current.collector = _current.collector, collector
    try:
        yield
    finally:
        _current.collector = before


def current_collector() -> Collector | None:
    """That of the shard which this thread computes; None outside of data-parallel steps."""
    return _current.collector


def count_batch(tracked: Tensor) -> int:
    """Counts a batch in `num_batches_tracked`, and gives the number of batches with this one."""
    number = int(tracked.array) + 1
    if _current.collector is not None:
        _current.collector.counted(tracked)
    else:
        tracked.array[...] = number
        tracked.cell[0] += 1
    return number


def track_average(running: Tensor | None, weight: float, value: np.ndarray, factor: float) -> None:
    """running = (1 - factor) * running + factor * value."""
    if running is None:
        return
    if _current.collector is not None:
        _current.collector.average(running, weight, value, factor)
    else:
        move(running, value, factor)


def track_moments(
    running_mean: Tensor | None, running_var: Tensor | None, count: int, mean: np.ndarray, variance: np.ndarray,
    factor: float,
) -> None:  # fmt: skip
    """Moves running statistics towards the mean and variance (without Bessel's correction) of `count` values."""
    if _current.collector is not None and running_mean is not None and running_var is not None:
        _current.collector.moments(running_mean, running_var, count, mean, variance * count, factor)
        return
    track_average(running_mean, count, mean, factor)
    track_average(running_var, count, variance * (count / (count - 1) if count else 1.0), factor)


def move(running: Tensor, value: Any, factor: float) -> None:
    """In place, and outside of any graph."""
    np.copyto(running.array, (1 - factor) * running.array + factor * value, casting="same_kind")
    running.cell[0] += 1
