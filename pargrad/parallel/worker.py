"""A worker: a process with a replica of the model, which does what the driver's messages ask for until it ends."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import traceback
from typing import Any

from threadpoolctl import threadpool_limits

from pargrad.parallel import channel
from pargrad.parallel.arena import Arena, mapped
from pargrad.parallel.cores import keep_freed_memory
from pargrad.parallel.machines import Envoy
from pargrad.parallel.meeting import CalledOff, Meeting
from pargrad.parallel.payload import follow_recipe
from pargrad.parallel.pool import Member
from pargrad.parallel.sampler import sampled
from pargrad.parallel.step import Replica, Step, set_mode


class Failure:
    """An error in a worker as it is sent: the error itself where it can be, and its traceback as text."""

    def __init__(self, error: BaseException, where: str):
        self.where = where
        self.called_off = isinstance(error, CalledOff)  # no failure of its own: another member's
        self.text = "".join(traceback.format_exception(error))
        self.message = f"{type(error).__name__}: {error}"
        try:
            self.error: BaseException | None = pickle.loads(pickle.dumps(error))
        except Exception:
            self.error = None

    def as_error(self) -> BaseException:
        """The error to raise in the driver, with its traceback there as a note."""
        error = self.error or RuntimeError(self.message)
        error.add_note(f"raised in {self.where}:\n{self.text}")
        return error


def serve(address: str, worker: int) -> None:
    """Connects to the driver and works until it says "close". A driver that is gone ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    peer = channel.connect(address)
    try:
        peer.send((worker, os.getpid()))
        keep_freed_memory()
        gc.freeze()  # Ray's objects stay: Python need not look through them for garbage again and again
        with threadpool_limits(limits=1), sampled(f"worker {worker}"):
            Worker(peer, worker).work()
    except EOFError:
        os._exit(1)


class Worker:
    """What a worker knows: its replica, its place among the members, and the data sets that it was given."""

    def __init__(self, peer: channel.Channel, worker: int):
        self.peer = peer
        self.worker = worker
        self.data: dict[int, Any] = {}
        self.meeting = Meeting([])
        self.envoy: Envoy | None = None  # where this is one, and no worker
        self.failed_attempt = -1

    def work(self) -> None:
        while True:
            name, *arguments = self.peer.receive()
            if name == "close":
                return
            try:
                reply = getattr(self, name)(*arguments)
            except EOFError:
                raise
            except BaseException as error:
                reply = Failure(error, f"worker {self.worker}")
            self.peer.send(reply)

    # ----- what the driver asks for; what is returned is the reply -----

    def open(self, payload: bytes, size: int) -> None:
        descriptor = self.peer.receive_descriptor()
        work = pickle.loads(payload)
        self.replica = Replica(work, Arena(work.layout, mapped(descriptor, size)))
        os.close(descriptor)

    def join(self, number: int, members: int, rounds: int, share: range) -> None:
        """A place among the members, who have these shards together, and new pipes to them."""
        self.meeting.close()
        self.meeting = Meeting(
            [(self.peer.receive_descriptor(), self.peer.receive_descriptor()) for _ in range(rounds)]
        )
        self.member = Member(self.replica, number, members, share, self.envoy)

    def take(self, number: int, recipe: Any, has_memory: bool) -> None:
        descriptor = self.peer.receive_descriptor() if has_memory else None
        self.data[number] = follow_recipe(pickle.loads, recipe, descriptor)
        if descriptor is not None:
            os.close(descriptor)

    def forget(self, number: int) -> None:
        del self.data[number]

    def steps(
        self, attempt: int, run: int, number: int, steps: list[Step], completed: int, clip_norm: float | None
    ) -> None:
        """Takes these steps with the other members; what they come to is in the arena."""
        if attempt == self.failed_attempt:
            return  # sent before the driver knew
        set_mode(self.replica.work.model, True)
        data = self.data[number]
        try:
            for i, step in enumerate(steps):
                self.member.step(data, step, completed + i, run, clip_norm, self.meeting)
        except BaseException:
            self.failed_attempt = attempt
            self.meeting.call_off()
            raise

    def evaluate(self, number: int, completed: int, chunks: list[Any]) -> list[Any]:
        self.replica.select(completed % 2)
        set_mode(self.replica.work.model, False)
        return [(chunk.number, self.replica.evaluate(self.data[number], chunk)) for chunk in chunks]
