"""The pool whose workers are Ray actors. Ray places, starts and ends them; the steps go over Unix sockets.

While Ray starts, the driver takes the steps itself, with the same bits, and so it does when too few workers are left.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import ray
from ray import cloudpickle
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pargrad.data import Data
from pargrad.parallel.arena import Arena, arena_size, mapped, shared_memory
from pargrad.parallel.authentication import HOW_TO_EXPORT, require_token
from pargrad.parallel.channel import Channel, Listener
from pargrad.parallel.cores import available_cores
from pargrad.parallel.crew import Lost, Peer, Process, end_processes
from pargrad.parallel.crew_pool import CrewPool
from pargrad.parallel.errors import ResourcesError, WorkerLostError
from pargrad.parallel.meeting import make_pipes
from pargrad.parallel.payload import SharedData, make_recipe, mark_of, pack
from pargrad.parallel.pool import PHASES, Member, evaluate_here
from pargrad.parallel.shards import part_of
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work
from pargrad.parallel.worker import serve

OBJECT_STORE = 80_000_000  # bytes: Ray's least; arrays travel in the arena, not in the store
LOOK_SECONDS = 0.02  # between two looks at who has come
FREE_SECONDS = 5.0  # that cores may take to be free again
CONNECT_SECONDS = 5.0


class WorkerActor:
    """The Ray actor: one core, one blocking call."""

    def serve(self, address: str, worker: int) -> None:
        serve(address, worker)


class Launched(NamedTuple):
    """An actor that was started, its call of `serve`, and when."""

    actor: Any
    call: Any
    since: float


class RayPool(CrewPool):
    """Steps on the actors of this machine, which share its arena."""

    def __init__(self, workers: Any, address: str, start_timeout: float, max_failures: int):
        super().__init__(workers, start_timeout, max_failures)
        self.address = address
        self.home: Home | None = None  # of a Ray that is this pool's own
        self.started = False  # the first workers
        self.looked = 0.0  # when it was last seen who has come
        self.listener: Listener | None = None
        self.launched: dict[int, Launched] = {}  # by number, until it has introduced itself
        self.unknown: list[Channel] = []  # of workers that have connected, and have not
        self.numbers = 0

    # ----- start and end -----

    def open(self, work: Work) -> None:
        self.payload = self.packed(work)
        self.size = arena_size(work.layout)
        self.machine_share = range(work.layout.shards)  # what this machine has of a batch
        try:
            self.descriptor = shared_memory(self.size)
            self.arena = Arena(work.layout, mapped(self.descriptor, self.size))
            self.listener = Listener()
            self.replica = Replica(work, self.arena)
            self.member = Member(self.replica, 0, 1, self.machine_share)
            check_address(self.address)
            if ray.is_initialized():  # it is the user's own, which is left as it is
                self.start_workers()
            else:
                self.home = Home(self.address, self.most)
                self.home.start()
        except BaseException:
            self.close()
            raise

    def packed(self, work: Work) -> bytes:
        return pack(cloudpickle, work)

    def start_workers(self) -> None:
        """Starts the first workers, where Ray has cores for them."""
        self.started = True
        self.check_free_cores()
        self.launch(self.most)

    def check_free_cores(self) -> None:
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
        Actor: Any = ray.remote(num_cpus=1, max_restarts=0)(WorkerActor)
        for number in range(self.numbers, self.numbers + count):
            actor = Actor.options(scheduling_strategy=self.where(number)).remote()
            self.launched[number] = Launched(actor, actor.serve.remote(self.listener.address, number), time.monotonic())
        self.numbers += count

    def where(self, number: int) -> Any:
        """Where Ray places worker `number`."""
        return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    def welcome(self, patience: float = 0.0) -> None:
        """Takes in workers that have connected, and tells them the model and the data; sees which could not start."""
        if not self.started:
            assert self.home is not None
            if not self.home.is_there(patience):
                return
            self.start_workers()
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
        if self.home is not None:
            self.home.end()

    def leave(self) -> None:
        super().leave()
        for channel in self.unknown:
            channel.close()
        if self.listener is not None:
            self.listener.socket.close()  # which has a name on some systems, that is not to be taken away
        os.close(self.descriptor)
        # What Ray has for the exit would end the first process's Ray, or wait for threads that are not here.
        atexit._clear()

    def reached(self) -> int:
        """The steps that every member has finished."""
        return int(self.arena.progress[: len(self.members)].min()) if self.formed else self.completed

    # ----- what this process does itself -----

    def until_enough(
        self, data: Data, source: Iterator[Step], taken: deque[Step], clip_norm: float | None
    ) -> Generator[StepResult, None, bool]:
        """Takes steps here; but one in which a worker was lost waits for workers: what ended them might end us."""
        while not self.arrived(self.enough):
            if self.failed_at == self.completed:
                self.wait_for(self.enough)
                return True
            taken.extend(itertools.islice(source, 0 if taken else 1))
            if not taken:
                return False
            self.member.step(data, taken[0], self.completed, self.runs, clip_norm, lambda: None)
            self.completed += 1
            self.taken_here += 1
            yield from self.completed_of(taken, 1)
        return True

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        left = deque(chunks)
        while left and not self.arrived(1):
            self.replica.select(self.completed % 2)
            yield from evaluate_here(self.replica, data, [left.popleft()])
        if left:
            yield from super().evaluate(data, list(left))

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


class Home(threading.Thread):
    """The thread that Ray lives in: Ray's processes end with the thread that started them."""

    def __init__(self, address: str, cores: int):
        super().__init__(name="pargrad-ray", daemon=True)
        self.address, self.cores = address, cores
        self.tried, self.over = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            join_ray(self.address, self.cores)
        except BaseException as error:
            self.error = error
        self.tried.set()
        self.over.wait()
        if self.error is None:
            ray.shutdown()

    def is_there(self, patience: float) -> bool:
        """Whether Ray has started, after so many seconds at the most; what kept it from starting is raised."""
        there = self.tried.wait(patience)
        if self.error is not None:
            raise self.error
        return there

    def end(self) -> None:
        """Ends Ray, when it has started."""
        self.over.set()
        if self.ident is not None:
            self.join()


def has_a_core(actor: Any) -> bool:
    """Whether Ray has placed the actor; one that waits for a core is not late. Only Ray's own tables say so."""
    try:
        return bool(state.actors(actor._actor_id.hex())["Address"]["Port"])
    except Exception:
        return False


def last_line(error: Exception) -> str:
    """What happened, after where it did."""
    return str(error).strip().rpartition("\n")[2]


def join_ray(address: str, cores: int) -> None:
    """Starts a Ray of this process's own, of so many cores, or joins the cluster at an address."""
    check_address(address)
    if address != "local":
        require_token()
    before = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        os.environ.pop("RAY_JOB_CONFIG_JSON_ENV_VAR", None)  # a job's directory is not known to a Ray of its own
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
            f"`ray start --head`. If there is one, it may want a token: {HOW_TO_EXPORT}"
        ) from error
    except Exception as error:  # Ray has no type for it: most often the machine has more to do than Ray can wait for
        if address != "local":
            raise
        raise ResourcesError(
            f"Ray could not start on this machine: {last_line(error)} Try again when it has less to do, or write "
            "num_workers=0, which needs no Ray"
        ) from error
    finally:
        if before is not signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own handler in the place of the program's


def check_address(address: str) -> None:
    """Ray itself would try for minutes where nothing listens."""
    if address in ("", "local", "auto") or "://" in address:
        return
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
