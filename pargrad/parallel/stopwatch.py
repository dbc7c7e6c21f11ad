"""What a process spends its steps on."""

from __future__ import annotations

import time

import numpy as np

PARTS = ("data", "compute", "reduce", "update", "waiting")
DATA, COMPUTE, REDUCE, UPDATE, WAITING = range(len(PARTS))


class Stopwatch:
    """Puts the time since the last lap down to one of PARTS. A lap takes 0.1 microseconds."""

    def __init__(self) -> None:
        self.seconds = [0.0] * len(PARTS)
        self.last = time.perf_counter()

    def start(self, step: int) -> None:
        """A step begins; what was before belongs to no part."""
        self.last = time.perf_counter()

    def lap(self, part: int) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self.last
        self.last = now

    def hand_over(self, into: np.ndarray) -> None:
        """Adds what it has, and one step, to a row of the arena, and begins again."""
        into += [*self.seconds, 1.0]
        self.seconds = [0.0] * len(PARTS)
