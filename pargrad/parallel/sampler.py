"""A sampling profiler inside a process: what its threads are doing, a hundred times a second or so.

`pargrad profile` sets PARGRAD_PROFILE to "FOLDER:RATE" for a command, and for the workers that it starts. Each of these
processes writes FOLDER/PID.folded, a line for every stack: its frames from the outermost, with ";" between them, a
blank, and how often it was seen. https://github.com/brendangregg/FlameGraph has that format.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

VARIABLE, SUFFIX = "PARGRAD_PROFILE", ".folded"
WRITE_SECONDS = 1.0
PACKAGE = str(Path(__file__).parents[1])


class Sampler:
    """Looks at the stacks of this process's threads from a thread of its own, until it is stopped.

    Only threads that are somewhere in pargrad, or were called by it, count: others are Ray's, and wait.
    """

    def __init__(self, path: Path, name: str, rate: float):
        self.path = path
        self.name = name
        self.interval = 1.0 / rate
        self.counts: Counter[str] = Counter()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, name="pargrad-sampler", daemon=True)
        self.thread.start()

    def run(self) -> None:
        own, written = threading.get_ident(), time.monotonic()
        while not self.ended.wait(self.interval):
            for thread, frame in sys._current_frames().items():
                if thread != own and (stack := folded(frame)):
                    self.counts[f"{self.name};{stack}"] += 1
            if time.monotonic() - written > WRITE_SECONDS:
                self.write()
                written = time.monotonic()

    def write(self) -> None:
        """The whole file anew, so that one who was killed leaves what was seen until a second before."""
        aside = self.path.with_suffix(".part")
        aside.write_text("".join(f"{stack} {count}\n" for stack, count in self.counts.items()))
        os.replace(aside, self.path)

    def stop(self) -> None:
        self.ended.set()
        self.thread.join()
        self.write()


def folded(frame: FrameType | None) -> str:
    """A stack as one line, the outermost frame first; empty where none of its frames is pargrad's."""
    frames: list[str] = []
    inside = False
    while frame is not None:
        code = frame.f_code
        inside = inside or code.co_filename.startswith(PACKAGE)
        frames.append(f"{code.co_qualname} ({short(code.co_filename)})")
        frame = frame.f_back
    return ";".join(reversed(frames)) if inside else ""


def short(path: str) -> str:
    """A file's name with the packages that it is in: pargrad/parallel/step.py."""
    _, found, rest = path.rpartition("site-packages/")
    return rest if found else "/".join(path.split("/")[-3 if path.startswith(PACKAGE) else -1 :])


@contextlib.contextmanager
def sampled(name: str) -> Iterator[None]:
    """Samples this process meanwhile, when PARGRAD_PROFILE asks for it."""
    folder, _, rate = os.environ.get(VARIABLE, "").rpartition(":")
    if not folder or not os.path.isdir(folder):  # not asked for, or on another machine
        yield
        return
    sampler = Sampler(Path(folder, f"{os.getpid()}{SUFFIX}"), name, float(rate))
    try:
        yield
    finally:
        sampler.stop()
