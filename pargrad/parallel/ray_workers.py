"""The workers of one machine, which are Ray actors and share its arena. Ray places, starts and ends them.

The steps go over Unix sockets.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import ray
from ray import cloudpickle
from ray._private import state

from pargrad.data import Data
from pargrad.parallel.arena import Arena, arena_size, mapped, shared_memory
from pargrad.parallel.channel import Channel, Listener
from pargrad.parallel.crew import Lost, Peer, Process, end_processes
from pargrad.parallel.crew_pool import CrewPool
from pargrad.parallel.errors import WorkerLostError
from pargrad.parallel.meeting import make_pipes
from pargrad.parallel.payload import SharedData, make_recipe, mark_of
from pargrad.parallel.pool import PHASES
from pargrad.parallel.ray_connection import last_line
from pargrad.parallel.ray_placement import Seat
from pargrad.parallel.shards import part_of
from pargrad.parallel.step import Replica, Work
from pargrad.parallel.worker import serve

LOOK_SECONDS = 0.02  # between two looks at who has come


class WorkerActor:
    """The Ray actor: one core, one blocking call."""

    def serve(self, address: str, worker: int) -> None:
        serve(address, worker)


class Launched(NamedTuple):
    """An actor that was started, its call of `serve`, and when."""

    actor: Any
    call: Any
    since: float


class WorkerPool(CrewPool):
    """Steps on the workers of this machine, each in a seat. Abstract: which these are depends on whose they are."""

    payload: bytes
    seats: list[Seat]

    def __init__(self, workers: Any, start_timeout: float, max_failures: int):
        super().__init__(workers, start_timeout, max_failures)
        self.looked = 0.0  # when it was last seen who has come
        self.listener: Listener | None = None
        self.launched: dict[int, Launched] = {}  # by number, until it has introduced itself
        self.unknown: list[Channel] = []  # of workers that have connected, and have not
        self.taken: dict[int, Seat] = {}  # by the number of the worker
        self.numbers = 0

    # ----- start and end -----

    def prepare(self, work: Work) -> None:
        """What there must be before the first worker."""
        self.size = arena_size(work.layout)
        self.machine_share = range(work.layout.shards)  # what this machine has of a batch
        self.descriptor = shared_memory(self.size)
        self.arena = Arena(work.layout, mapped(self.descriptor, self.size))
        self.replica = Replica(work, self.arena)
        self.listener = Listener()

    def launch(self, count: int) -> None:
        """Starts so many actors; `welcome` takes them in when they have connected."""
        assert self.listener is not None
        Actor: Any = ray.remote(max_restarts=0)(WorkerActor)
        for number in range(self.numbers, self.numbers + count):
            actor = Actor.options(**self.seat_for(number).options()).remote()
            self.launched[number] = Launched(actor, actor.serve.remote(self.listener.address, number), time.monotonic())
        self.numbers += count

    def seat_for(self, number: int) -> Seat:
        """Gives worker `number` a seat that nobody has."""
        here = {*self.launched, *(peer.number for peer in [*self.members, *self.joining])}
        self.taken = {worker: seat for worker, seat in self.taken.items() if worker in here}
        self.taken[number] = next(seat for seat in self.seats if seat not in self.taken.values())
        return self.taken[number]

    def welcome(self, patience: float = 0.0) -> None:
        """Takes in workers that have connected, and tells them the model and the data; sees which could not start."""
        if not patience and (not self.launched or time.monotonic() - self.looked < LOOK_SECONDS):
            return
        self.looked = time.monotonic()
        assert self.listener is not None
        with contextlib.suppress(TimeoutError, BlockingIOError, PermissionError):
            self.unknown.append(self.listener.accept(patience if self.launched else 0.02))
        for channel in list(self.unknown):
            if channel.connection.poll(patience):  # one that was stopped has nothing to say
                self.unknown.remove(channel)
                with contextlib.suppress(EOFError):  # its actor's end is seen
                    self.introduce(channel)
        calls = {launched.call: number for number, launched in self.launched.items()}
        ended = ray.wait(list(calls), num_returns=len(calls), timeout=0)[0] if calls else []
        for call in ended:
            self.launched.pop(calls[call])
            try:
                ray.get(call)
            except ray.exceptions.RayActorError as error:
                self.count_failed_start(f"worker {calls[call]} was lost while starting: {last_line(error)}")
                self.launch(1)
            except Exception as error:
                raise WorkerLostError(f"a worker could not start: {error}") from error
        for number, launched in list(self.launched.items()):
            if time.monotonic() - launched.since > self.start_timeout and has_a_core(launched.actor):
                ray.kill(self.launched.pop(number).actor)
                self.count_failed_start(
                    f"worker {number} has a core, but did not connect within {self.start_timeout:g} s, and is given up"
                )
                self.launch(1)

    def introduce(self, channel: Channel) -> None:
        """Takes in a worker that says who it is, and gives it what it must know."""
        number, pid = channel.receive()
        if number not in self.launched:  # it was given up, and goes when it sees that nobody hears it
            channel.close()
            return
        peer = Process(number, channel, pid, self.launched.pop(number).actor)
        self.joining.append(peer)  # first: that it takes nothing is seen there
        peer.tell(("open", self.payload, self.size), [self.descriptor])
        for name, known in self.known.items():
            self.give(peer, name, known)

    def form(self) -> None:
        """Gives the members their places, and new pipes to meet over; this process keeps no end of them."""
        self.members.sort(key=lambda peer: peer.number)
        count = len(self.members)
        self.arena.progress[:] = self.completed
        self.arena.meetings[:] = self.arena.phases[:] = 0
        pipes = [[descriptor for pair in ends for descriptor in pair] for ends in make_pipes(count)]
        gone: list[Peer] = []
        with closing(itertools.chain(*pipes)):
            for place, (peer, descriptors) in enumerate(zip(self.members, pipes)):
                try:
                    peer.tell(("join", place, count, len(descriptors) // 2, self.machine_share), descriptors)
                except EOFError:
                    gone.append(peer)
        if gone:
            raise Lost(gone)
        self.collect()
        self.formed = True

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        peers = [peer for peer in [*self.members, *self.joining] if isinstance(peer, Process)]
        for peer in peers:
            with contextlib.suppress(EOFError, OSError):
                if peer.awaited:
                    peer.kill()  # in the middle of something that nobody waits for
                else:
                    peer.channel.send(("close",))
        for actor in [*(peer.actor for peer in peers), *(launched.actor for launched in self.launched.values())]:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                ray.kill(actor)
        for channel in [*(peer.channel for peer in peers), *self.unknown]:
            channel.close()
        end_processes([peer.pid for peer in peers], 2.0)
        if self.listener is not None:
            self.listener.close()
        for known in self.known.values():
            known.close()
        if hasattr(self, "arena"):
            self.settle()
            os.close(self.descriptor)

    def reached(self) -> int:
        """The steps that every member has finished."""
        return int(self.arena.progress[: len(self.members)].min()) if self.formed else self.completed

    # ----- losses -----

    def doing(self, peer: Peer) -> str:
        return f"{PHASES[int(self.arena.phases[self.members.index(peer)])]} in the step after {self.reached()}"

    def shards_of(self, peer: Peer) -> range:
        return part_of(self.machine_share, self.members.index(peer), len(self.members))

    def latest(self, peers: list[Peer]) -> list[Peer]:
        """Of those that have not answered, the ones that the others wait for: they came to the fewest meetings."""
        counts = {peer: int(self.arena.meetings[self.members.index(peer)]) for peer in peers}
        return [peer for peer, count in counts.items() if count == min(counts.values())]

    def put_down(self, peers: list[Any]) -> None:
        """Sees to it that these processes are gone."""
        for peer in peers:
            peer.kill()
        end_processes([peer.pid for peer in peers], 0.0)
        for peer in peers:
            self.taken.pop(peer.number, None)
            peer.channel.close()
            with contextlib.suppress(Exception):
                ray.kill(peer.actor)

    # ----- data sets -----

    def mark_of(self, data: Data) -> Any:
        return mark_of(cloudpickle, data)

    def share(self, data: Data, mark: Any) -> SharedData:
        return SharedData(data, mark, *make_recipe(cloudpickle, data))

    def give(self, peer: Peer, number: int, known: SharedData) -> None:
        peer.tell(("take", number, known.recipe, known.descriptor is not None), known.descriptors())


def has_a_core(actor: Any) -> bool:
    """Whether Ray has placed the actor; one that waits for a core is not late. Only Ray's own tables say so."""
    try:
        return bool(state.actors(actor._actor_id.hex())["Address"]["Port"])
    except Exception:
        return False


@contextlib.contextmanager
def closing(descriptors: Iterable[int]) -> Iterator[None]:
    """Closes this process's ends when they were sent, and when that failed."""
    once = set(descriptors)
    try:
        yield
    finally:
        for descriptor in once:
            os.close(descriptor)
