"""The pool whose workers are Ray actors. Ray places, starts and ends them; the steps go over Unix sockets.

The only module that imports ray. It must be opened in a thread that lives as long as the pool: Ray's processes end
with the thread that started them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
import signal
import socket
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pargrad.data import ArrayData, Data
from pargrad.parallel.arena import Arena, arena_size, mapped, shared_memory
from pargrad.parallel.channel import Channel, Listener
from pargrad.parallel.cores import available_cores
from pargrad.parallel.errors import ResourcesError, WorkerLostError
from pargrad.parallel.meeting import make_pipes
from pargrad.parallel.payload import make_recipe, pack
from pargrad.parallel.pool import Pool
from pargrad.parallel.shards import owned_shards
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work
from pargrad.parallel.worker import Failure, serve

OBJECT_STORE = 80_000_000  # bytes: Ray's least; arrays travel in the arena, not in the store
KEPT_DATA_SETS = 4
MARKED_BYTES = 64_000_000
CONNECT_SECONDS = 5.0
AHEAD_SECONDS, MOST_AHEAD = 0.05, 64  # of work that is sent to the workers at once, and the most steps of it


class WorkerActor:
    """The Ray actor: one core, one blocking call."""

    def serve(self, address: str, worker: int) -> None:
        serve(address, worker)


class RayPool(Pool):
    """Steps on `workers` actors of this machine."""

    def __init__(self, workers: int, address: str, start_timeout: float):
        self.workers = workers
        self.address = address
        self.start_timeout = start_timeout
        self.started_ray = False
        self.actors: list[Any] = []
        self.serving: list[Any] = []
        self.channels: list[Channel] = []
        self.pids: list[int] = []
        self.awaited = 0  # replies that are still to come
        self.known: dict[int, tuple[Data, Any]] = {}  # data sets by number, each with a mark to know a change by
        self.data_sets = 0
        self.runs = 0
        self.linked = False  # whether the workers' pipes to each other are there and empty
        self.doing = "starting"
        self.closed = False

    # ----- start and end -----

    def open(self, work: Work) -> None:
        payload = pack(cloudpickle, work)
        size = arena_size(work.layout)
        try:
            self.start_ray()
            self.start_workers()
            descriptor = shared_memory(size)
            with closing([descriptor]):
                self.arena = Arena(work.layout, mapped(descriptor, size))
                for worker in range(self.workers):
                    self.tell_one(worker, pickle.dumps(("open", payload, size, self.workers)), [descriptor])
            self.collect()
        except BaseException:
            self.close()
            raise
        self.replica = Replica(work, self.arena)

    def start_ray(self) -> None:
        if ray.is_initialized():
            return  # the user's own, which is left as it is
        join_ray(self.address, self.workers)
        self.started_ray = True

    def start_workers(self) -> None:
        free = int(ray.available_resources().get("CPU", 0))
        if free < self.workers:
            raise ResourcesError(
                f"asked for {self.workers} workers of one core each, but Ray has {free} free cores: write "
                f"num_workers={max(free, 0)}"
            )
        listener = Listener()
        try:
            here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            Actor = ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy=here)(WorkerActor)
            self.actors = [Actor.remote() for _ in range(self.workers)]
            self.serving = [actor.serve.remote(listener.address, w) for w, actor in enumerate(self.actors)]
            arrived: dict[int, tuple[Channel, int]] = {}
            deadline = time.monotonic() + self.start_timeout
            while len(arrived) < self.workers:
                self.check_started(arrived, deadline)
                with contextlib.suppress(TimeoutError, PermissionError, EOFError):  # `check_started` says why
                    peer = listener.accept(0.2)
                    worker, pid = peer.receive()
                    arrived[worker] = peer, pid
        finally:
            listener.close()
        self.channels = [arrived[w][0] for w in range(self.workers)]
        self.pids = [arrived[w][1] for w in range(self.workers)]

    def check_started(self, arrived: dict[int, Any], deadline: float) -> None:
        """Raises when an actor failed, or when time is up."""
        missing = [w for w in range(self.workers) if w not in arrived]
        ended, _ = ray.wait([self.serving[w] for w in missing], num_returns=1, timeout=0)
        if ended:
            try:
                ray.get(ended)
            except Exception as error:
                raise WorkerLostError(f"a worker could not start: {error}") from error
        if time.monotonic() > deadline:
            raise ResourcesError(
                f"{len(arrived)} of {self.workers} workers were there after {self.start_timeout:g} s: free some cores, "
                "ask for fewer workers, or allow a longer start_timeout"
            )

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for peer, pid in zip(self.channels, self.pids):
            with contextlib.suppress(EOFError, OSError):
                if self.awaited:
                    os.kill(pid, signal.SIGKILL)  # in the middle of something that nobody waits for
                else:
                    peer.send(("close",))
        for actor in self.actors:
            with contextlib.suppress(Exception):  # Ray itself may be gone
                ray.kill(actor)
        for peer in self.channels:
            peer.close()
        end_processes(self.pids, 2.0)
        if hasattr(self, "arena"):
            self.settle()
        if self.started_ray:
            ray.shutdown()

    def settle(self) -> None:
        """What is complete when nobody works any more: what every member has finished."""
        self.completed = int(self.arena.progress[: self.workers].min())

    # ----- messages -----

    def tell(self, doing: str, *message: Any) -> None:
        """Sends one message to every worker; `collect` takes the replies."""
        self.doing = doing
        packed = pickle.dumps(message, protocol=5)
        for worker in range(self.workers):
            self.tell_one(worker, packed)

    def tell_one(self, worker: int, packed: bytes, descriptors: Sequence[int] = ()) -> None:
        self.awaited += 1
        try:
            self.channels[worker].send_packed(packed)
            for descriptor in descriptors:
                self.channels[worker].send_descriptor(descriptor)
        except EOFError:
            raise self.lost(worker) from None

    def collect(self) -> list[Any]:
        """One reply of every worker; the first failure is raised when all have answered."""
        replies = []
        for worker, peer in enumerate(self.channels):
            try:
                replies.append(peer.receive())
            except EOFError:
                raise self.lost(worker) from None
            self.awaited -= 1
        failures = [reply for reply in replies if isinstance(reply, Failure)]
        for failure in sorted(failures, key=lambda failure: failure.called_off):
            raise failure.as_error()
        return replies

    def ask(self, doing: str, *message: Any) -> list[Any]:
        self.tell(doing, *message)
        return self.collect()

    def lost(self, worker: int) -> WorkerLostError:
        shards = list(owned_shards(worker, self.workers, self.arena.layout.shards))
        return WorkerLostError(
            f"worker {worker} (process {self.pids[worker]}) was lost while {self.doing} (its shards: {shards}). Was it "
            "killed, or out of memory? The model has the parameters of the last completed step"
        )

    def check_idle(self) -> None:
        if self.awaited or self.closed:
            raise RuntimeError("the trainer was interrupted in the middle of a step and cannot go on: make a new one")

    # ----- data sets and pipes -----

    def number_of(self, data: Data) -> int:
        """The number under which the workers have this data set, which they are given when it is new."""
        mark = mark_of(data)
        for number, (known, known_mark) in self.known.items():
            if same_data(data, mark, known, known_mark):
                return number
        number, self.data_sets = self.data_sets, self.data_sets + 1
        recipe, descriptor = make_recipe(cloudpickle, data)
        self.doing = "receiving the data set"
        packed = pickle.dumps(("take", number, recipe, descriptor is not None))
        descriptors = [] if descriptor is None else [descriptor]
        with closing(descriptors):
            for worker in range(self.workers):
                self.tell_one(worker, packed, descriptors)
        self.collect()
        self.known[number] = data, mark
        while len(self.known) > KEPT_DATA_SETS:
            oldest = next(iter(self.known))
            del self.known[oldest]
            self.ask("forgetting a data set", "forget", oldest)
        return number

    def link(self) -> None:
        """Gives the workers new pipes to meet over; this process keeps no end, so that a death closes them."""
        self.doing = "meeting each other"
        pipes = [[descriptor for pair in ends for descriptor in pair] for ends in make_pipes(self.workers)]
        with closing(itertools.chain(*pipes)):
            for worker, descriptors in enumerate(pipes):
                self.tell_one(worker, pickle.dumps(("meet", len(descriptors) // 2)), descriptors)
        self.collect()
        self.linked = True

    # ----- what a pool does -----

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        self.check_idle()
        number = self.number_of(data)
        if not self.linked:
            self.link()
        self.runs += 1
        sent, size, steps = self.completed, 1, iter(steps)
        flying: deque[int] = deque()  # lengths of the batches of steps that are being taken, the oldest first
        began = time.perf_counter()
        try:
            while True:
                while len(flying) < 2 and (batch := list(itertools.islice(steps, size))):
                    self.tell(f"taking step {batch[0].number}", "steps", self.runs, number, batch, sent, clip_norm)
                    flying.append(len(batch))
                    sent += len(batch)
                if not flying:
                    break
                results = self.collect()[0]
                self.completed += flying.popleft()
                now = time.perf_counter()
                size = max(1, min(MOST_AHEAD, round(AHEAD_SECONDS * len(results) / (now - began))))
                began = now
                yield from results
        except WorkerLostError:
            raise  # `close` waits until nobody works any more, and then sees what is complete
        except (Exception, GeneratorExit):
            # Whatever went wrong, and where: what was sent is answered, and what everyone finished is what is done.
            self.linked = False
            while self.awaited:
                try:
                    self.collect()
                except WorkerLostError:
                    raise  # it will not answer
                except Exception:
                    continue  # what failed once is not told again
            self.settle()
            raise
        finally:
            self.replica.select(self.completed % 2)

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        self.check_idle()
        number = self.number_of(data)
        self.doing = "evaluating"
        packed = (pickle.dumps(("evaluate", number, self.completed, chunk)) for chunk in chunks)
        # Two chunks a worker: the next one is there when the first is done.
        for i, message in enumerate(itertools.islice(packed, 2 * self.workers)):
            self.tell_one(i % self.workers, message)
        numbers = {peer.connection: worker for worker, peer in enumerate(self.channels)}
        failure = None
        while self.awaited:
            for connection in wait(list(numbers)):
                worker = numbers[connection]  # type: ignore[index]
                try:
                    reply = self.channels[worker].receive()
                except EOFError:
                    raise self.lost(worker) from None
                self.awaited -= 1
                if isinstance(reply, Failure):
                    failure = failure or reply
                if failure is None:
                    following = next(packed, None)
                    if following is not None:
                        self.tell_one(worker, following)
                    yield reply
        if failure is not None:
            raise failure.as_error()


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


def mark_of(data: Data) -> Any:
    """By what it is seen that a data set was changed since it was shared.

    The bytes of an object as it is sent; of arrays all bytes, or those of 4,096 rows where they have more than 64 MB.
    """
    if type(data) is not ArrayData:
        return hashlib.sha256(make_recipe(cloudpickle, data)[0].pickled or b"").digest()
    places = np.linspace(0, len(data) - 1, min(4096, len(data))).astype(np.int64)
    rows = (array if array.nbytes <= MARKED_BYTES else array.take(places, axis=0) for array in data.arrays)
    return [zlib.crc32(np.ascontiguousarray(array).data.cast("B")) for array in rows]


def same_data(data: Data, mark: Any, known: Data, known_mark: Any) -> bool:
    if type(data) is not ArrayData or type(known) is not ArrayData:
        return data is known and mark == known_mark
    same = len(data.arrays) == len(known.arrays) and all(a is b for a, b in zip(data.arrays, known.arrays))
    return same and mark == known_mark


@contextlib.contextmanager
def closing(descriptors: Iterable[int]) -> Iterator[None]:
    """Closes this process's ends when they were sent, and when that failed."""
    once = set(descriptors)
    try:
        yield
    finally:
        for descriptor in once:
            os.close(descriptor)


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
            deadline += patience
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
