"""A run's directory: its checkpoints, its metrics.jsonl, and the lock that keeps a second run out.

run_dir/
    lock                    the process that has it, while it runs: another one is refused
    config.yaml             the options of the command
    metrics.jsonl           a line a step, and a line an evaluation
    checkpoints/LATEST      the name of the newest
    checkpoints/step-...    see `checkpoints`

A step's line has

    step, epoch             from 1, and from 0
    loss                    of the batch, the penalty with it; null where it is not finite, as every number here
    lr                      the learning rate; where groups of parameters have others, the list of them
    gradient_norm           of the batch, before it is clipped: a float64 sum over blocks in block order
    without_effect          what was not finite, of a step that was skipped for that
    workers_lost            what is said of each worker that was lost up to here, and since the last that has this
    samples_per_second      and, in milliseconds a step, the mean over the workers,
    data_ms                 reading the batch
    compute_ms              losses and gradients
    reduce_ms               adding the gradients of shards up
    update_ms               the optimizer
    waiting_ms              for the others
    bytes_per_step          sent to others by each of several machines, on average; not there where there is one

and an evaluation's has step, epoch and validation_... of each metric. Lines are written about once a second; those
that are written together have the same samples_per_second, milliseconds and bytes, which are means over that time.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pargrad.nn import Module
from pargrad.parallel import checkpoints
from pargrad.parallel.arena import Half, Layout
from pargrad.parallel.checkpoints import Checkpoint, Unusable, Writer
from pargrad.parallel.digest import sha256_of
from pargrad.parallel.errors import CheckpointError, ResourcesError
from pargrad.parallel.progress import say
from pargrad.parallel.stopwatch import PARTS

METRICS, LOCK, CONFIG = "metrics.jsonl", "lock", "config.yaml"
FLUSH_SECONDS = 1.0

Key = tuple[int, int]  # of a line: the step, and 1 for an evaluation after it


class RunDirectory:
    """Opened by one run at a time. found: the checkpoint that the run goes on from.

    steps, minutes: a checkpoint is due after so many steps or minutes since the last. keep: how many are kept beside
    the best, which is the one after which the loss on the validation set was the lowest.
    """

    def __init__(self, path: Any, resume: str, largest: int, steps: int | None, minutes: float | None, keep: int):
        self.path = Path(path)
        self.folder = self.path / "checkpoints"
        self.every_steps, self.every_minutes, self.keep = steps, minutes, keep
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = lock(self.path / LOCK)
        checkpoints.sync_folder(self.path)
        try:
            self.found = self.find(resume, largest)
            checkpoints.remove_aside(self.folder)
            before = {} if self.found is None else self.found.state
            self.best: dict[str, Any] | None = before.get("best")
            self.saved = self.attempted = before.get("step", 0)  # the step of the last one, and of the last attempt
            there = [step for step, _ in checkpoints.checkpoints_in(self.folder)]
            self.own = [step for step in there if step <= self.saved]  # later ones belong to a way that was left
            self.metrics = Metrics(self.path / METRICS, *self.metrics_before())
            self.spare: Half | None = None
        except BaseException:
            self.lock.close()
            raise
        self.writer = Writer()
        self.since = time.monotonic()

    # ----- where to begin -----

    def find(self, resume: str, largest: int) -> Checkpoint | None:
        """The checkpoint that `resume` asks for; None to begin at the beginning."""
        there = checkpoints.checkpoints_in(self.folder)
        if resume == "never":
            if there:
                raise ValueError(
                    f"resume='never', but {self.path} has {len(there)} checkpoints, the newest after step "
                    f"{there[0][0]}: take another directory, or resume='auto' to go on"
                )
            return None
        if resume == "auto":
            return checkpoints.newest(self.folder, largest, say) if there else None
        path = Path(resume)
        if (path / "checkpoints").is_dir():
            path = path / "checkpoints"
        own = self.folder.resolve()
        if there and own not in (path.resolve(), path.resolve().parent):
            raise ValueError(
                f"resume={resume!r} is of another run, and {self.path} has checkpoints of its own: take "
                "an empty directory"
            )
        if not path.is_dir():
            raise CheckpointError(f"resume={resume!r}: there is no such directory")
        if checkpoints.checkpoints_in(path):
            return checkpoints.newest(path, largest, say)
        try:
            return checkpoints.read_checkpoint(path, largest)
        except Unusable as error:
            raise CheckpointError(f"{path} cannot be used: {error}. Take another one, or resume='auto'") from error

    def metrics_before(self) -> tuple[int, Key]:
        """How many bytes of metrics.jsonl were written before the checkpoint, and which line was the last."""
        if self.found is None:
            return 0, (0, 1)
        theirs = self.found.path.parent.parent / METRICS
        if self.found.path.parent.resolve() != self.folder.resolve() and theirs.is_file():
            shutil.copyfile(theirs, self.path / METRICS)  # a run that branches off has the lines up to there
        state = self.found.state
        return state["metrics_bytes"], (state["step"], int(state["under_way"] is None))

    # ----- checkpoints -----

    def due(self, step: int) -> bool:
        """Whether it is time for a checkpoint, and the last one is written."""
        by_steps = self.every_steps is not None and step - self.attempted >= self.every_steps
        by_time = self.every_minutes is not None and time.monotonic() - self.since >= 60 * self.every_minutes
        return (by_steps or by_time) and not self.writer.busy

    def improves(self, entry: dict[str, Any]) -> bool:
        """Whether the loss on the validation set is the lowest of those that have a checkpoint."""
        loss = entry.get("validation_loss")
        return loss is not None and (self.best is None or loss < self.best["validation_loss"])

    def save(self, model: Module, optimizer: Any, layout: Layout, half: Half, state: dict[str, Any]) -> None:
        """Copies the half and has it written, beside the run, as the checkpoint after `state["step"]`."""
        self.wait()
        step = self.attempted = state["step"]
        self.since = time.monotonic()
        if not self.metrics.flush():
            return  # its length is part of a checkpoint, and there is no room for one either
        if state["history"] and state["batches"] == 0 and self.improves(state["history"][-1]):
            self.best = {"step": step, "validation_loss": state["history"][-1]["validation_loss"]}
        state = {**state, "best": self.best, "metrics_bytes": self.metrics.length}
        # Nobody else has the memory that is being written, whatever is interrupted here.
        spare, self.spare = self.spare or checkpoints.spare_half(layout), None
        checkpoints.copy_half(half, spare)
        arrays = checkpoints.contents(model, optimizer, layout, spare)
        tied, best = checkpoints.tied_names(model), None if self.best is None else self.best["step"]
        hashed = [arrays[0][name] for name in Module.state_dict(model) if name not in tied]

        def write() -> None:
            try:
                self.metrics.sync()
                described = {**state, "state_sha256": sha256_of(hashed)}
                checkpoints.write_checkpoint(self.folder, step, *arrays, tied, described)
                self.saved = step
                self.own = sorted({*self.own, step})[-self.keep :]
                checkpoints.remove_others(self.folder, {*self.own, best})
            finally:
                self.spare = spare

        self.writer.start(write)

    def wait(self) -> None:
        """Waits until what is being written is there, and warns if it could not be."""
        self.writer.wait()
        self.report()

    def report(self) -> None:
        error = self.writer.take_error()
        if error is not None:
            there = checkpoints.checkpoints_in(self.folder)
            left = f"the newest one is that after step {there[0][0]}" if there else "there is none yet"
            warnings.warn(
                f"the checkpoint after step {self.attempted} could not be written: {error}. The run goes on; {left}",
                stacklevel=2,
            )

    def close(self) -> None:
        """May be called again."""
        try:
            self.wait()
            self.metrics.close()
        finally:
            self.writer.close()
            self.lock.close()

    def leave(self) -> None:
        """In a forked process: lets go of the files, which are the first one's."""
        os.close(self.metrics.descriptor)
        self.metrics.closed = True
        self.lock.close()


class Line(NamedTuple):
    key: Key
    values: dict[str, Any]
    examples: int


class Part(NamedTuple):
    """What of metrics.jsonl is written (bytes, and the last line's key), and the lines that are to be written next."""

    length: int
    key: Key
    lines: list[Line]


def nothing_sent() -> tuple[int, int]:
    """What a pool says that has sent nothing to other machines."""
    return 0, 0


class Metrics:
    """metrics.jsonl. Lines are kept for a moment and written together.

    Whatever is interrupted here can be done again: no line is then missing, and none is there twice.
    """

    def __init__(self, path: Path, length: int, key: Key):
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        there = os.fstat(self.descriptor).st_size
        if there < length:
            say(f"{path}: {length - there:,} bytes are missing that were there when the checkpoint was written")
        length = min(there, length)
        os.ftruncate(self.descriptor, length)
        self.part = Part(length, key, [])
        self.failing = self.closed = False
        self.begin(np.zeros((1, len(PARTS) + 1)), nothing_sent)

    @property
    def length(self) -> int:
        """Bytes that are written."""
        return self.part.length

    def begin(self, seconds: np.ndarray, sent: Callable[[], tuple[int, int]]) -> None:
        """The examples of the next lines are done from now on, by those who write into these rows of an arena.

        sent: see `Pool.sent`.
        """
        self.seconds, self.sent = seconds, sent
        self.start_clock()

    def start_clock(self) -> None:
        self.clock, self.before, self.sent_before = time.monotonic(), self.seconds.sum(axis=0), self.sent()

    def add(self, key: Key, values: dict[str, Any], examples: int = 0) -> None:
        """A line, unless it has been added before."""
        lines = self.part.lines
        if key > (lines[-1].key if lines else self.part.key):
            lines.append(Line(key, values, examples))
        if time.monotonic() - self.clock > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> bool:
        """Writes what is kept; False, and a warning the first time, where that cannot be."""
        length, lines = self.part.length, self.part.lines
        if not lines:
            return True
        examples = sum(line.examples for line in lines)
        speed = {"samples_per_second": round(examples / max(time.monotonic() - self.clock, 1e-9), 1)}
        *seconds, steps = (self.seconds.sum(axis=0) - self.before).tolist()
        if steps:
            speed |= {f"{part}_ms": round(1e3 * each / steps, 4) for part, each in zip(PARTS, seconds)}
        sent, steps = (now - before for now, before in zip(self.sent(), self.sent_before))
        if steps:
            speed["bytes_per_step"] = round(sent / steps)
        data = "".join(text_of(line, speed) for line in lines).encode()
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self.descriptor, data[done:], length + done)
            os.ftruncate(self.descriptor, length + len(data))
        except OSError as error:
            self.start_clock()
            if not self.failing:
                self.failing = True
                warnings.warn(f"{self.path} could not be written: {error}. The run goes on", stacklevel=2)
            return False
        self.part = Part(length + len(data), lines[-1].key, [])
        self.failing = False
        self.start_clock()
        return True

    def sync(self) -> None:
        os.fsync(self.descriptor)

    def close(self) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            os.close(self.descriptor)


def text_of(line: Line, speed: dict[str, float]) -> str:
    values = {name: None if is_not_finite(value) else value for name, value in line.values.items()}
    return json.dumps({**values, **(speed if line.examples else {})}, allow_nan=False) + "\n"


def is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def lock(path: Path) -> Any:
    """The file, locked until it is closed or this process ends, however it ends."""
    file = open(path, "a+")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise ResourcesError(
            f"{path.parent} is in use by {holder or 'another process'}: wait until it ends, or take another directory"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
    file.flush()
    return file
