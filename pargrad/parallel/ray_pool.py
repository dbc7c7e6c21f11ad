"""The pool whose workers are Ray actors. Ray places, starts and ends them; the steps go over Unix sockets.

The only module that imports ray. It must be opened in a thread that lives as long as the pool: Ray's processes end
with the thread that started them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import signal
import socket
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pargrad.data import Data
from pargrad.parallel.arena import Arena, arena_size, mapped, shared_memory
from pargrad.parallel.channel import Listener
from pargrad.parallel.cores import available_cores
from pargrad.parallel.crew import (
    FIRST_LATE_SECONDS,
    LATE_SECONDS,
    Lost,
    Median,
    Peer,
    end_processes,
    first_failure,
    replies_of,
    tell_all,
)
from pargrad.parallel.errors import ResourcesError, WorkerLostError
from pargrad.parallel.meeting import make_pipes
from pargrad.parallel.payload import SharedData, make_recipe, mark_of, pack
from pargrad.parallel.pool import PHASES, Pool, result_of
from pargrad.parallel.shards import owned_shards
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work
from pargrad.parallel.worker import Failure, serve

OBJECT_STORE = 80_000_000  # bytes: Ray's least; arrays travel in the arena, not in the store
KEPT_DATA_SETS = 4
FREE_SECONDS = 5.0  # that cores may take to be free again
SAY_SECONDS = 5.0  # of waiting, before it is said for what
CONNECT_SECONDS = 5.0
AHEAD_SECONDS, MOST_AHEAD = 0.05, 64  # of work that is sent to the workers at once, and the most steps of it


class WorkerActor:
    """The Ray actor: one core, one blocking call."""

    def serve(self, address: str, worker: int) -> None:
        serve(address, worker)


class RayPool(Pool):
    """Steps on the actors of this machine: `workers.first` to begin with, up to `most`, no fewer than `least`.

    A worker that is lost is replaced. Until its replacement is there, the others take over its shards: what they have
    computed of the step is kept, the step is applied once, and the bits are those of an undisturbed run.
    """

    def __init__(self, workers: Any, address: str, start_timeout: float, max_failures: int):
        self.first, self.least, self.most = workers
        self.address = address
        self.start_timeout = start_timeout
        self.max_failures = max_failures
        self.failures = self.failures_in_all = 0  # in a row without a completed step, and altogether
        self.failed_at = -1  # steps that were completed at the last failure
        self.started_ray = False
        self.listener: Listener | None = None
        self.launched: dict[int, tuple[Any, Any]] = {}  # (actor, its call) by number, until it has connected
        self.numbers = 0
        self.joining: list[Peer] = []  # that were told all they must know, and are at it
        self.members: list[Peer] = []
        self.formed = False  # whether the members have their places, and pipes that are empty
        self.known: dict[int, SharedData] = {}  # by number
        self.data_sets = 0
        self.attempts = 0
        self.median = Median()
        self.closed = False

    # ----- start and end -----

    def open(self, work: Work) -> None:
        self.payload = pack(cloudpickle, work)
        self.size = arena_size(work.layout)
        try:
            self.start_ray()
            self.descriptor = shared_memory(self.size)
            self.arena = Arena(work.layout, mapped(self.descriptor, self.size))
            self.listener = Listener()
            self.launch(self.most)
            while not self.formed:
                self.wait_for(self.first)
                try:
                    self.form()
                except Lost as lost:
                    self.recover(lost)
        except BaseException:
            self.close()
            raise
        self.replica = Replica(work, self.arena)

    def start_ray(self) -> None:
        if not ray.is_initialized():  # else it is the user's own, which is left as it is
            join_ray(self.address, self.most)
            self.started_ray = True
        deadline = time.monotonic() + FREE_SECONDS
        while (free := int(ray.available_resources().get("CPU", 0))) < self.first:
            # What was ended a moment ago may not be free yet.
            if int(ray.cluster_resources().get("CPU", 0)) < self.first or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if free < self.first:
            raise ResourcesError(
                f"asked for {self.first} workers of one core each, but Ray has {free} free cores: write "
                f"num_workers={max(free, 0)}"
            )

    def launch(self, count: int) -> None:
        """Starts so many actors; `welcome` takes them in when they have connected."""
        assert self.listener is not None
        here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        Actor: Any = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy=here)(WorkerActor)
        for number in range(self.numbers, self.numbers + count):
            actor = Actor.remote()
            self.launched[number] = actor, actor.serve.remote(self.listener.address, number)
        self.numbers += count

    def welcome(self, patience: float = 0.0) -> None:
        """Takes in workers that have connected, and tells them the model and the data; sees which could not start."""
        assert self.listener is not None
        # A peer that ends while it introduces itself is seen by its actor's end.
        with contextlib.suppress(TimeoutError, BlockingIOError, PermissionError, EOFError):
            channel = self.listener.accept(patience)
            number, pid = channel.receive()
            actor, _ = self.launched.pop(number)
            peer = Peer(number, channel, pid, actor)
            peer.tell(("open", self.payload, self.size), [self.descriptor])
            for name, known in self.known.items():
                peer.tell(("take", name, known.recipe, known.descriptor is not None), known.descriptors())
            self.joining.append(peer)
        calls = {call: number for number, (_, call) in self.launched.items()}
        ended = ray.wait(list(calls), num_returns=len(calls), timeout=0)[0] if calls else []
        for call in ended:
            self.launched.pop(calls[call])
            try:
                ray.get(call)
            except ray.exceptions.RayActorError as error:
                self.count_failure(f"worker {calls[call]} was lost while starting: {first_line(error)}")
                self.launch(1)
            except Exception as error:
                raise WorkerLostError(f"a worker could not start: {error}") from error

    def ready(self) -> list[Peer]:
        """Of those that are joining, the ones that know all they must."""
        for peer in list(self.joining):
            try:
                while peer.awaited and peer.has_answered():
                    reply = peer.reply()
                    if isinstance(reply, Failure):
                        raise reply.as_error()
            except EOFError:
                self.joining.remove(peer)
                self.bury([peer], "joining")
        return [peer for peer in self.joining if not peer.awaited]

    def wait_for(self, count: int) -> None:
        """Waits until there are so many members, saying after a while what is there and what is wanted."""
        deadline, said = time.monotonic() + self.start_timeout, time.monotonic() + SAY_SECONDS
        while len(self.members) < count:
            for peer in self.ready()[: count - len(self.members)]:
                self.joining.remove(peer)
                self.members.append(peer)
                self.formed = False
            if len(self.members) < count:
                self.welcome(0.2 if self.launched else 0.02)
            if time.monotonic() > said and self.members and len(self.members) < count:
                warnings.warn(f"waiting for workers: {len(self.members)} are there, {count} are wanted", stacklevel=2)
                said = math.inf
            if time.monotonic() > deadline:
                raise ResourcesError(
                    f"{len(self.members)} of {count} workers were there after {self.start_timeout:g} s: free some "
                    "cores, ask for fewer workers, or allow a longer start_timeout"
                )

    def form(self) -> None:
        """Gives the members their places, and new pipes to meet over; this process keeps no end of them."""
        self.members.sort(key=lambda peer: peer.number)
        count = len(self.members)
        self.arena.progress[:] = self.completed
        self.arena.meetings[:] = self.arena.phases[:] = 0
        pipes = [[descriptor for pair in ends for descriptor in pair] for ends in make_pipes(count)]
        gone = []
        with closing(itertools.chain(*pipes)):
            for place, (peer, descriptors) in enumerate(zip(self.members, pipes)):
                try:
                    peer.tell(("join", place, count, len(descriptors) // 2), descriptors)
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
        peers = [*self.members, *self.joining]
        for peer in peers:
            with contextlib.suppress(EOFError, OSError):
                if peer.awaited:
                    peer.kill()  # in the middle of something that nobody waits for
                else:
                    peer.channel.send(("close",))
        for actor in [*(peer.actor for peer in peers), *(actor for actor, _ in self.launched.values())]:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                ray.kill(actor)
        for peer in peers:
            peer.channel.close()
        end_processes([peer.pid for peer in peers], 2.0)
        if self.listener is not None:
            self.listener.close()
        for known in self.known.values():
            known.close()
        if hasattr(self, "arena"):
            self.settle()
            os.close(self.descriptor)
        if self.started_ray:
            ray.shutdown()

    def reached(self) -> int:
        """The steps that every member has finished."""
        return int(self.arena.progress[: len(self.members)].min()) if self.formed else self.completed

    def settle(self) -> None:
        """What is complete when nobody works any more."""
        self.completed = self.reached()

    # ----- losses -----

    def recover(self, lost: Lost) -> None:
        """Goes on without the workers that were lost: the others stop, and take new places.

        Raises WorkerLostError when there were too many failures in a row, and a failure of the user's own code.
        """
        if lost.late:
            lost = Lost(self.latest(lost.peers), late=True)
        self.describe_and_count(lost)
        self.put_down(lost.peers)
        failure = self.drain(self.median.patience(1), lost.peers)
        self.launch(len(lost.peers))
        if failure is not None:
            raise failure.as_error()
        self.wait_for(self.least)

    def drain(self, patience: float, gone: Sequence[Peer] = ()) -> Failure | None:
        """Waits until nobody works any more; gives the failure that made them stop, if one of the user's code did."""
        failure, gone = None, list(gone)
        for peer in [peer for peer in self.members if peer not in gone]:
            try:
                while peer.awaited:
                    (reply,) = replies_of([peer], patience)
                    failure = failure or (reply if isinstance(reply, Failure) and not reply.called_off else None)
            except Lost as lost:
                self.describe_and_count(lost)
                self.put_down([peer])
                self.launch(1)
                gone.append(peer)
        self.settle()
        self.formed = False  # first: `progress` is that of the places that members had
        self.members = [peer for peer in self.members if peer not in gone]
        return failure

    def latest(self, peers: list[Peer]) -> list[Peer]:
        """Of those that have not answered, the ones that the others wait for: they came to the fewest meetings."""
        counts = {peer: int(self.arena.meetings[self.members.index(peer)]) for peer in peers}
        return [peer for peer, count in counts.items() if count == min(counts.values())]

    def describe_and_count(self, lost: Lost, doing: str | None = None) -> None:
        shards, members = self.arena.layout.shards, len(self.members)
        for peer in lost.peers:
            place = self.members.index(peer)
            phase = doing or f"{PHASES[int(self.arena.phases[place])]} in the step after {self.reached()}"
            self.count_failure(
                f"worker {peer.number} (process {peer.pid} on {socket.gethostname()}) was "
                f"{'late and given up' if lost.late else 'lost'} while {phase}; its shards: "
                f"{list(owned_shards(place, members, shards))}"
            )

    def count_failure(self, what: str) -> None:
        """A failure more, of which so many in a row without a completed step are too many."""
        reached = self.reached()
        self.failures = 1 if reached > self.failed_at else self.failures + 1
        self.failed_at = reached
        self.failures_in_all += 1
        if self.failures > self.max_failures:
            raise WorkerLostError(
                f"{what}. That is failure {self.failures} in a row without a completed step, and max_failures is "
                f"{self.max_failures} ({self.failures_in_all} in all). Was it killed, or out of memory? The model has "
                "the parameters of the last completed step"
            )
        warnings.warn(f"{what}. The others take over, and a replacement is started", stacklevel=2)

    def bury(self, peers: list[Peer], doing: str) -> None:
        """Replaces workers that were no members yet."""
        self.put_down(peers)
        for peer in peers:
            self.count_failure(f"worker {peer.number} (process {peer.pid}) was lost while {doing}")
        self.launch(len(peers))

    def put_down(self, peers: list[Peer]) -> None:
        """Sees to it that these processes are gone."""
        for peer in peers:
            peer.kill()
        end_processes([peer.pid for peer in peers], 0.0)
        for peer in peers:
            peer.channel.close()
            with contextlib.suppress(Exception):
                ray.kill(peer.actor)

    # ----- messages -----

    def ask(self, *message: Any) -> None:
        tell_all(self.members, message)
        self.collect()

    def collect(self, patience: float | None = LATE_SECONDS) -> None:
        """One reply of every member; a failure is raised when all have answered."""
        failure = first_failure(replies_of(self.members, patience))
        if failure is not None:
            raise failure.as_error()

    def begin(self, count: int) -> None:
        """Before anything is asked of the members: sees that they are idle, and, where some were lost, enough."""
        if self.closed or any(peer.awaited for peer in self.members):
            raise RuntimeError("the trainer was interrupted in the middle of a step and cannot go on: make a new one")
        self.wait_for(count)

    # ----- data sets -----

    def number_of(self, data: Data) -> int:
        """The number under which the workers have this data set, which they are given when it is new."""
        mark = mark_of(cloudpickle, data)
        for number, known in self.known.items():
            if known.is_of(data, mark):
                return number
        number, self.data_sets = self.data_sets, self.data_sets + 1
        known = self.known[number] = SharedData(data, mark, *make_recipe(cloudpickle, data))
        message = pickle.dumps(("take", number, known.recipe, known.descriptor is not None), protocol=5)
        for peer in [*self.members, *self.joining]:
            with contextlib.suppress(EOFError):  # its end is seen when it is asked for something
                peer.tell(message, known.descriptors())
        self.collect(None)
        while len(self.known) > KEPT_DATA_SETS:
            oldest = next(iter(self.known))
            self.known.pop(oldest).close()
            self.ask("forget", oldest)
        return number

    # ----- what a pool does -----

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        self.begin(self.least)
        self.runs += 1
        source = iter(steps)
        taken: deque[Step] = deque()  # steps that are not completed yet, the oldest first
        try:
            while True:
                try:
                    yield from self.attempt(data, source, taken, clip_norm)
                    return
                except Lost as lost:
                    before = self.completed
                    self.recover(lost)
                    yield from self.completed_of(taken, self.completed - before)
        except WorkerLostError:
            raise  # `close` waits until nobody works any more, and then sees what is complete
        except (Exception, GeneratorExit):
            # Whatever went wrong, and where: what was sent is answered, and what everyone finished is what is done.
            self.drain(FIRST_LATE_SECONDS)
            raise
        finally:
            self.replica.select(self.completed % 2)

    def attempt(
        self, data: Data, source: Iterator[Step], taken: deque[Step], clip_norm: float | None
    ) -> Iterator[StepResult]:
        """Takes steps until there are none left, or a worker is lost."""
        number = self.number_of(data)
        self.attempts += 1
        sent, size = 0, 1  # of those taken, how many are with the workers; and how many to send at once
        flying: deque[int] = deque()  # lengths of the batches of steps that are under way
        began = time.perf_counter()
        while True:
            newcomers = self.newcomers()
            if not flying and (newcomers or not self.formed):
                for peer in newcomers:
                    self.joining.remove(peer)
                self.members += newcomers
                self.form()
                self.attempts += 1
                newcomers = []
            while len(flying) < 2 and not newcomers:  # who wants to join does so when nothing is under way
                taken.extend(itertools.islice(source, max(0, size - (len(taken) - sent))))
                batch = list(itertools.islice(taken, sent, sent + size))
                if not batch:
                    break
                tell_all(
                    self.members,
                    ("steps", self.attempts, self.runs, number, batch, self.completed + sent, clip_norm),
                )
                flying.append(len(batch))
                sent += len(batch)
            if not flying:
                return
            self.collect(self.median.patience(flying[0]))
            count = flying.popleft()
            sent -= count
            self.completed += count
            now = time.perf_counter()
            self.median.add((now - began) / count)
            size = max(1, min(MOST_AHEAD, round(AHEAD_SECONDS * count / (now - began))))
            began = now
            yield from self.completed_of(taken, count)

    def completed_of(self, taken: deque[Step], count: int) -> Iterator[StepResult]:
        for _ in range(count):
            yield result_of(self.arena, taken.popleft())

    def newcomers(self) -> list[Peer]:
        """Workers that are ready to become members, as many as may."""
        if self.launched:
            self.welcome()
        return self.ready()[: self.most - len(self.members)] if self.joining else []

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        self.begin(1)
        while True:
            try:
                number = self.number_of(data)
                break
            except Lost as lost:
                self.recover(lost)
        waiting = deque(chunks)
        given: dict[Peer, deque[Chunk]] = {peer: deque() for peer in self.members}
        failure = None
        while waiting or any(given.values()):
            try:
                # Two chunks a worker: the next one is there when the first is done.
                for peer, mine in itertools.product(self.members, range(2)):
                    if waiting and failure is None and len(given[peer]) <= mine:
                        given[peer].append(waiting.popleft())
                        self.tell_one(peer, ("evaluate", number, self.completed, given[peer][-1]))
                for peer in self.answering(given):
                    reply = self.reply_of(peer)
                    given[peer].popleft()
                    if isinstance(reply, Failure):
                        failure = failure or reply
                        waiting.clear()
                    elif failure is None:
                        yield reply
            except Lost as lost:
                for peer in lost.peers:
                    waiting.extendleft(reversed(given.pop(peer)))
                self.describe_and_count(lost, "evaluating")
                self.formed = False
                self.put_down(lost.peers)
                self.members = [peer for peer in self.members if peer not in lost.peers]
                self.launch(len(lost.peers))
                self.wait_for(1)
                given |= {peer: deque() for peer in self.members if peer not in given}
        if failure is not None:
            raise failure.as_error()

    def tell_one(self, peer: Peer, message: Any) -> None:
        try:
            peer.tell(message)
        except EOFError:
            raise Lost([peer]) from None

    def reply_of(self, peer: Peer) -> Any:
        try:
            return peer.reply()
        except EOFError:
            raise Lost([peer]) from None

    def answering(self, given: dict[Peer, deque[Chunk]]) -> list[Peer]:
        busy = {peer.channel.connection: peer for peer, chunks in given.items() if chunks}
        return [busy[connection] for connection in wait(list(busy))]  # type: ignore[index]


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def join_ray(address: str, cores: int) -> None:
    """Starts a Ray of this process's own, of so many cores, or joins the cluster at an address."""
    if address not in ("local", "auto") and "://" not in address:
        check_reachable(address)
    before = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(**options)
    except SystemExit:
        if callable(before):
            before(signal.SIGTERM, None)  # Ray's handler took the signal that was the program's
        raise
    except ConnectionError as error:
        raise ResourcesError(
            f"no Ray cluster at address {address!r}: {error}. Write address='local', or start one with "
            "`ray start --head`"
        ) from error
    finally:
        if before is not signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own handler in the place of the program's


def check_reachable(address: str) -> None:
    """Ray itself would try for minutes where nothing listens."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"expected address to be 'local', 'auto' or 'HOST:PORT', got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourcesError(
            f"no Ray cluster at address {address!r}: {error}. Write address='local', or start one with "
            "`ray start --head`"
        ) from error


def free_cores_of(address: str) -> int:
    """The free cores of the Ray that this process is in, or would join."""
    joined = not ray.is_initialized()
    if joined:
        join_ray(address, available_cores())
    free = int(ray.available_resources().get("CPU", 0))
    if joined:
        ray.shutdown()
    return free


@contextlib.contextmanager
def closing(descriptors: Iterable[int]) -> Iterator[None]:
    """Closes this process's ends when they were sent, and when that failed."""
    once = set(descriptors)
    try:
        yield
    finally:
        for descriptor in once:
            os.close(descriptor)
