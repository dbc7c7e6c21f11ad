"""The peers of a pool as the driver sees them: what each was asked, what it has still to answer, whether it is gone.

A worker that is gone, or so late that it is given up, is killed before anything else is done, so that nobody writes
into memory that is another's by then.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from typing import Any

from pargrad.parallel.channel import Channel
from pargrad.parallel.worker import Failure

LATE_SECONDS, LATE_MEDIANS = 30.0, 20.0  # a step is late after so many seconds, and so many times the median step's
FIRST_LATE_SECONDS = 600.0  # before any has been completed


class Peer:
    """Whoever takes part in a pool's steps. number: the how manyth that was started; workers: how many it has.

    title: what it is called in messages; awaited: messages that it has not answered; since: when it was heard of last,
    or asked when it had answered everything.
    """

    def __init__(self, number: int, channel: Any, title: str, workers: int = 1):
        self.number = number
        self.channel = channel
        self.title = title
        self.workers = workers
        self.awaited = 0
        self.since = time.monotonic()

    def tell(self, message: Any, descriptors: Iterable[int] = ()) -> None:
        """Sends a message, pickled or to be pickled, and descriptors after it. A peer that is gone raises EOFError."""
        if not self.awaited:
            self.since = time.monotonic()
        self.awaited += 1
        self.channel.send_packed(message if isinstance(message, bytes) else pickle.dumps(message, protocol=5))
        for descriptor in descriptors:
            self.channel.send_descriptor(descriptor)

    def reply(self) -> Any:
        reply = self.channel.receive()
        self.awaited -= 1
        self.since = time.monotonic()
        return reply

    def has_answered(self) -> bool:
        """Whether a reply, or the end of the process, is there to be read."""
        return self.channel.connection.poll(0)


class Process(Peer):
    """A worker, which is a process of this machine."""

    def __init__(self, number: int, channel: Channel, pid: int, actor: Any):
        super().__init__(number, channel, f"worker {number} (process {pid} on {socket.gethostname()})")
        self.pid = pid
        self.actor = actor

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Lost(Exception):
    """Peers that ended, or were ended, while something was asked of them."""

    def __init__(self, peers: list[Peer], late: bool = False):
        self.peers = peers
        self.late = late


def tell_all(peers: Sequence[Peer], message: Any) -> None:
    """One message to every peer; those that are gone raise Lost when the others have it."""
    packed, gone = pickle.dumps(message, protocol=5), []
    for peer in peers:
        try:
            peer.tell(packed)
        except EOFError:
            gone.append(peer)
    if gone:
        raise Lost(gone)


def replies_of(
    peers: Sequence[Peer], patience: float | None = None, are_excused: Callable[[], bool] = lambda: False
) -> list[Any]:
    """One reply of every peer. Lost where some are gone, or when nobody answered for `patience` seconds.

    are_excused() says then whether they are waited for all the same.
    """
    replies: dict[Peer, Any] = {}
    gone: list[Peer] = []
    deadline = None if patience is None else time.monotonic() + patience
    waiting = {peer.channel.connection: peer for peer in peers}
    while waiting:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        answered = wait(list(waiting), left)
        if not answered and patience is not None and are_excused():
            deadline = time.monotonic() + patience
        elif not answered:
            raise Lost(list(waiting.values()), late=True)
        for connection in answered:
            peer = waiting.pop(connection)  # type: ignore[call-overload]
            try:
                replies[peer] = peer.reply()
            except EOFError:
                gone.append(peer)
    if gone:
        raise Lost(gone)
    return [replies[peer] for peer in peers]


def first_failure(replies: Iterable[Any]) -> Failure | None:
    """The failure that others were called off for, if there is one."""
    failures = [reply for reply in replies if isinstance(reply, Failure)]
    return min(failures, key=lambda failure: failure.called_off, default=None)


class Median:
    """The median time of what is done again and again, a step say, and when one of them is late."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=101)

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def patience(self) -> float:
        if not self.seconds:
            return FIRST_LATE_SECONDS
        return max(LATE_SECONDS, LATE_MEDIANS * sorted(self.seconds)[len(self.seconds) // 2])


def end_processes(pids: list[int], patience: float) -> None:
    """Waits until these processes are gone, and kills those that are not gone in time."""
    deadline = time.monotonic() + patience
    left = list(pids)
    while left:
        left = [pid for pid in left if is_alive(pid)]
        if left and time.monotonic() > deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            deadline += max(patience, 1.0)
        if left:
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has just ended, or this system has no /proc
        return not os.path.exists("/proc")
