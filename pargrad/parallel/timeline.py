"""A timeline of driver and workers, as a Chrome trace that Perfetto and chrome://tracing open.

The format: Trace Event Format, "JSON Object Format", with complete (X), instant (i) and metadata (M) events.
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

from pargrad.parallel.callbacks import Callback
from pargrad.parallel.spans import SUFFIX, read_spans
from pargrad.parallel.step import StepResult
from pargrad.parallel.stopwatch import PARTS

COMPUTING, RESULTS = 0, 1  # rows of a process: what it spends its steps on; of the driver, the results it saw
HEAD, TAIL = '{"displayTimeUnit": "ms", "traceEvents": [\n', "\n]}\n"

Event = dict[str, Any]


class Timeline(Callback):
    """Writes what driver and workers spend their steps on into a file, after every `fit`: open it in Perfetto.

    Each process has a row of spans named data, compute, reduce, update and waiting; the driver has a second one with a
    span a step, up to when its result was seen, and marks for evaluations, checkpoints and workers that were lost.
    Workers on other machines are left out, whose clocks are others.
    """

    runs_ahead = True

    def __init__(self, path: Any):
        self.path = Path(path)
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"timeline {path}: there is no directory {self.path.absolute().parent}")
        self.spans: str = tempfile.mkdtemp(prefix="pargrad-timeline-")
        weakref.finalize(self, shutil.rmtree, self.spans, ignore_errors=True)
        self.began = self.seen = time.perf_counter()
        self.read: dict[str, int] = {}  # spans of each file that are in the trace
        self.pending: list[Event] = [named("process_name", os.getpid(), COMPUTING, "driver")]
        self.pending.append(named("thread_name", os.getpid(), RESULTS, "results"))
        self.path.write_text(HEAD + TAIL)
        self.empty = True

    def on_fit_start(self, trainer: Any) -> None:
        self.seen = time.perf_counter()

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        begin, self.seen = self.seen, time.perf_counter()
        told = {"epoch": result.epoch, "loss": repr(result.loss), "examples": result.examples}  # JSON has no nan
        self.pending.append(self.span(f"step {result.number}", os.getpid(), RESULTS, begin, self.seen, told))

    def on_evaluation_end(self, trainer: Any, results: dict[str, Any]) -> None:
        self.mark("evaluation")

    def on_checkpoint(self, trainer: Any, path: Any) -> None:
        self.mark(f"checkpoint {Path(path).name}")

    def on_worker_lost(self, trainer: Any, message: str) -> None:
        self.mark(message)

    def on_fit_end(self, trainer: Any) -> None:
        self.write()

    # ----- events -----

    def span(self, name: str, pid: int, row: int, begin: float, end: float, told: dict[str, Any]) -> Event:
        """Times in microseconds since the timeline was made."""
        began, lasted = 1e6 * (begin - self.began), 1e6 * (end - begin)
        return {"name": name, "ph": "X", "ts": began, "dur": lasted, "pid": pid, "tid": row, "args": told}

    def mark(self, name: str) -> None:
        """A moment, as a line across all rows."""
        now = 1e6 * (time.perf_counter() - self.began)
        self.pending.append({"name": name, "ph": "i", "s": "g", "ts": now, "pid": os.getpid(), "tid": RESULTS})

    def new_spans(self) -> list[Event]:
        """What the processes have written since the last time."""
        events = []
        for path in sorted(Path(self.spans).glob(f"*{SUFFIX}")):
            pid, known = int(path.stem), self.read.get(path.name, 0)
            spans = read_spans(path, known)
            if not known and pid != os.getpid():
                events.append(named("process_name", pid, COMPUTING, f"worker (process {pid})"))
            for part, step, begin, end in spans.tolist():
                events.append(self.span(PARTS[part], pid, COMPUTING, begin, end, {"step": step}))
            self.read[path.name] = known + len(spans)
        return events

    def write(self) -> None:
        """Adds what is new to the file, which is whole JSON before and after."""
        events, self.pending = [*self.pending, *self.new_spans()], []
        if not events:
            return
        text = ",\n".join(map(json.dumps, events))
        with open(self.path, "r+") as file:
            file.seek(self.path.stat().st_size - len(TAIL))
            file.write(("" if self.empty else ",\n") + text + TAIL)
        self.empty = False


def named(kind: str, pid: int, row: int, name: str) -> Event:
    return {"name": kind, "ph": "M", "pid": pid, "tid": row, "args": {"name": name}}
