"""Spans: when a process began and ended each part of its steps, written beside the run into a file of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pargrad.parallel.stopwatch import Stopwatch

SPAN = np.dtype([("part", "<i4"), ("step", "<i8"), ("begin", "<f8"), ("end", "<f8")])
SUFFIX = ".spans"
MOST_SPANS = 500_000  # of one process: viewers are slow beyond that


class Recorder(Stopwatch):
    """A stopwatch that writes down its laps. Times are those of time.perf_counter, one clock for a Linux machine.

    What was done of a step is in the file when the step is, so a process that is killed loses no other.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.room = MOST_SPANS
        self.step = 0
        self.spans: list[tuple[int, int, float, float]] = []

    def start(self, step: int) -> None:
        super().start(step)
        self.step = step
        self.spans.clear()

    def lap(self, part: int) -> None:
        begin = self.last
        super().lap(part)
        self.spans.append((part, self.step, begin, self.last))

    def hand_over(self, into: np.ndarray) -> None:
        super().hand_over(into)
        if self.room > 0:
            self.room -= len(self.spans)
            os.write(self.descriptor, np.array(self.spans, SPAN).tobytes())
        self.spans.clear()

    def __del__(self) -> None:
        os.close(self.descriptor)


def recorder(folder: str) -> Stopwatch:
    """This process's recorder; where the folder is not, as on another machine, a stopwatch that records nothing."""
    return Recorder(Path(folder, f"{os.getpid()}{SUFFIX}")) if os.path.isdir(folder) else Stopwatch()


def read_spans(path: Path, after: int = 0) -> np.ndarray:
    """The spans in a file, a structured array of SPAN, but the first `after`; also while it is written to."""
    with open(path, "rb") as file:
        file.seek(after * SPAN.itemsize)
        data = file.read()
    return np.frombuffer(data[: len(data) // SPAN.itemsize * SPAN.itemsize], SPAN)
