"""What runs and what is held on this machine, read from /proc."""

import os
import time
from pathlib import Path

from pargrad.parallel.processes import descendants, workers_of

__all__ = ["descendants", "descriptors", "gone", "marked", "shared_files", "wait_until", "workers_of"]


def held():
    """What this process's descriptors are."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            yield os.readlink(entry)
        except FileNotFoundError:
            continue


def descriptors():
    """How many descriptors this process holds of shared memory that pargrad made, and of pipes."""
    return sum("memfd:pargrad" in kind or kind.startswith("pipe:") for kind in held())


def shared_files():
    """Files of shared memory that bear pargrad's name, and how many of this process's sockets do."""
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if "@pargrad-" in line]
    mine = set(held())
    named = sum(f"socket:[{fields[6]}]" in mine for fields in sockets)
    return named, sorted(str(path) for path in Path("/dev/shm").glob("*pargrad*"))


def marked(mark):
    """The processes that have this word in their environment: all that one started, whoever is their parent by now."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def wait_until(true, seconds, what):
    """Waits for something that other processes do; an error says what did not happen."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


def gone(pids):
    """Whether none of these processes runs any more; one that waits to be reaped does not run."""

    def runs(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False

    return not any(runs(pid) for pid in pids)
