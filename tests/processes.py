"""What runs and what is held on this machine, read from /proc."""

import os
import time
from pathlib import Path


def descendants(pid):
    """Every process below a process: {pid: command line}."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z":
                parents[int(entry.name)] = int(parent), command
    found, border = {}, [pid]
    while border:
        above = border.pop()
        for child, (parent, command) in parents.items():
            if parent == above:
                found[child] = command
                border.append(child)
    return found


def workers_of(pid):
    """The pargrad workers below a process."""
    return [child for child, command in descendants(pid).items() if "WorkerActor" in command]


def descriptors():
    """How many descriptors this process holds of shared memory that pargrad made, and of pipes."""
    kinds = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            kinds.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return sum("memfd:pargrad" in kind or kind.startswith("pipe:") for kind in kinds)


def shared_files():
    """Files of shared memory and sockets that bear pargrad's name."""
    named = Path("/proc/net/unix").read_text().count("@pargrad-")
    return named, sorted(str(path) for path in Path("/dev/shm").glob("*pargrad*"))


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
