"""Processes and what they compute, read from /proc: there where Linux is, and none elsewhere."""

from __future__ import annotations

import contextlib
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Every process below a process that has not ended: {pid: command line}."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state != "Z":
                parents[int(entry.name)] = int(parent), command
    found, border = {}, [pid]
    while border:
        above = border.pop()
        for child, (parent_of_child, command) in parents.items():
            if parent_of_child == above:
                found[child] = command
                border.append(child)
    return found


def seconds_of(pid: int) -> float:
    """Processor seconds of a process's threads."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has just ended
            nanoseconds += int(path.read_text().split()[0])
    return nanoseconds / 1e9


def workers_of(pid: int) -> list[int]:
    """The pargrad workers below a process."""
    return [child for child, command in descendants(pid).items() if "WorkerActor" in command]
