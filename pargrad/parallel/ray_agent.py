"""The agent of a machine: a Ray actor that has the arena and the workers of its node, and answers the driver.

It answers the messages that a worker answers, for all of its machine: it is to the driver what a worker is to it. A
worker that is lost is its own business, and costs the other machines nothing but the wait.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import platform
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import cloudpickle

from pargrad.data import ArrayData
from pargrad.parallel.channel import Channel
from pargrad.parallel.cores import keep_freed_memory
from pargrad.parallel.crew import Lost, Median, Peer, replies_of
from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.letters import MOST_BYTES, Letter, seal, unseal
from pargrad.parallel.machines import Envoy, Key, Mail, adopt, arrays_of, forget_others, size_of
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.payload import ArrayRecipe, DataRecipe, SharedData, make_recipe, opened
from pargrad.parallel.ray_placement import Seat
from pargrad.parallel.ray_workers import WorkerPool
from pargrad.parallel.step import Chunk, Step, Work
from pargrad.parallel.stopwatch import PARTS
from pargrad.parallel.worker import Failure, Worker
from pargrad.version import __version__

KEPT_ANSWERS = 8  # more than the driver waits for at once
ENVOY = 1 << 30  # its number: after those of all workers


class Facts(NamedTuple):
    """What a machine is, as far as it decides whether it can take part."""

    host: str
    python: str
    ray: str
    pargrad: str
    numpy: str
    processor: str


class Progress(NamedTuple):
    """What a machine says after it has taken steps.

    results: the arena's. Since it was asked last: seconds, what workers spent their steps on; sent, the bytes to other
    machines, and the steps; said, warnings.
    """

    completed: int
    results: np.ndarray
    seconds: np.ndarray
    sent: tuple[int, int]
    workers: int
    said: list[str]


class EnvoyWorker(Worker):
    """The member of a machine that speaks with the others, in a thread of the agent.

    It has no shards, and so no data. Sets come and go while it has no place, too, and it is not told.
    """

    def __init__(self, peer: Channel, worker: int):
        super().__init__(peer, worker)
        self.data = defaultdict(lambda: None)

    def take(self, number: int, recipe: Any, has_memory: bool) -> None:
        if has_memory:
            os.close(self.peer.receive_descriptor())

    def forget(self, number: int) -> None:
        self.data.pop(number, None)

    def serve(self) -> None:
        with contextlib.suppress(EOFError):
            self.work()


class MachinePool(WorkerPool):
    """The workers of one machine of several, and the envoy where there are other machines."""

    def __init__(self, payload: bytes, seats: list[Seat], start_timeout: float, max_failures: int, mail: Mail):
        super().__init__((len(seats), 1, len(seats)), start_timeout, max_failures)
        self.payload = payload
        self.seats = seats
        self.mail = mail
        self.envoy: tuple[Peer, EnvoyWorker] | None = None
        self.said: list[str] = []

    def open(self, work: Work) -> None:
        """Starts the workers, and waits until all are there."""
        self.prepare(work)
        self.launch(self.most)
        self.wait_for(self.first)

    def put_down(self, peers: list[Any]) -> None:
        if any(not peer.workers for peer in peers):
            os._exit(1)  # the envoy is stuck, and nothing can end a thread: the machine is given up
        super().put_down(peers)

    def warn(self, what: str) -> None:
        self.said.append(what)

    def number_of(self, data: Any) -> int:
        return data  # the driver says it

    # ----- among other machines -----

    def place(self, share: range, envoy: Envoy | None, completed: int) -> None:
        """Takes a share of the shards, after so many steps."""
        self.completed, self.machine_share = completed, share
        forget_others(self.arena, share)
        self.members = [peer for peer in self.members if peer.workers]
        if envoy is not None:
            if self.envoy is None:
                self.envoy = self.start_envoy()
            peer, worker = self.envoy
            worker.envoy = envoy
            self.members.append(peer)
        self.formed = False  # `run` forms them, and sees who was lost meanwhile

    def start_envoy(self) -> tuple[Peer, EnvoyWorker]:
        here, there = socket.socketpair()
        worker = EnvoyWorker(Channel(there), ENVOY)
        threading.Thread(target=worker.serve, daemon=True).start()
        peer = Peer(ENVOY, Channel(here), "the envoy", workers=0)
        peer.tell(("open", self.payload, self.size), [self.descriptor])
        for number, known in self.known.items():
            self.give(peer, number, known)
        while peer.awaited:
            replies_of([peer])
        return peer, worker

    def form(self) -> None:
        self.mail.hold(False)
        super().form()

    def drain(self, patience: float, gone: Sequence[Any] = ()) -> Failure | None:
        self.mail.hold(True)  # else the envoy waits for other machines, which wait for this one
        return super().drain(patience, gone)

    def are_excused(self) -> bool:
        return self.mail.awaited is not None

    def close(self) -> None:
        self.mail.hold(True)
        super().close()
        if self.envoy is not None:
            self.envoy[0].channel.close()


class Agent:
    """The actor. `answer` takes the driver's messages one after the other; the rest is for what comes in between."""

    def __init__(self) -> None:
        keep_freed_memory()
        self.mail = Mail()
        self.pool: Any = None
        self.agents: list[Any] = []
        self.placement, self.machine = -1, 0
        self.failed_attempt = -1
        self.answers: dict[int, Any] = {}
        self.sent = self.steps_sent = 0
        self.seconds = np.zeros(len(PARTS) + 1)

    def facts(self) -> Facts:
        return facts()

    def answer(self, number: int, message: Any) -> Any:
        """The answer to the driver's message of that number, which Ray may bring again after the link was cut."""
        if number not in self.answers:
            name, *arguments = pickle.loads(message) if isinstance(message, bytes) else message
            try:
                answer = getattr(self, f"do_{name}")(*arguments)
            except Exception as error:
                answer = Failure(error, f"machine {socket.gethostname()}")
            self.answers[number] = answer
            self.answers.pop(number - KEPT_ANSWERS, None)
        return self.answers[number]

    def state(self, half: int) -> list[np.ndarray]:
        return arrays_of(self.pool.arena.halves[half])

    # ----- beside the messages -----

    @ray.method(concurrency_group="beside")
    def deliver(self, placement: int, sender: int, key: Key, letter: Any, *pieces: bytes) -> None:
        self.mail.deliver(placement, sender, key, unseal(letter, pieces) if isinstance(letter, Letter) else letter)

    @ray.method(concurrency_group="beside")
    def call_off(self, placement: int) -> None:
        self.mail.call_off(placement)

    @ray.method(concurrency_group="beside")
    def whereabouts(self) -> tuple[int, int | None]:
        """Completed steps, and the machine that this one waits for."""
        return self.pool.reached(), self.mail.awaited

    # ----- messages -----

    def do_open(self, payload: bytes, seats: list[Seat], start_timeout: float, max_failures: int) -> None:
        self.pool = MachinePool(payload, seats, start_timeout, max_failures, self.mail)
        self.pool.open(pickle.loads(payload))

    def do_join(self, placement: int, machine: int, shares: list[range], agents: list[Any], completed: int) -> None:
        self.placement, self.machine, self.agents = placement, machine, agents
        self.mail.open(placement)
        envoy = Envoy(self.pool.arena, machine, shares, self.mail, self.send) if len(shares) > 1 else None
        self.pool.place(shares[machine], envoy, completed)

    def send(self, machines: list[int], key: Key, message: Any) -> None:
        size = size_of(message)
        self.sent += size * len(machines)
        letter, pieces = seal(message) if size < MOST_BYTES else (ray.put(message), [])
        for machine in machines:
            self.agents[machine].deliver.remote(self.placement, self.machine, key, letter, *pieces)

    def do_take(self, number: int, recipe: DataRecipe | None, arrays: list[Any]) -> None:
        if recipe is None:
            data = ArrayData(*(opened(a) if isinstance(a, ArrayRecipe) else ray.get(a) for a in arrays))
            known = SharedData(data, None, *make_recipe(cloudpickle, data))
            known.data = None  # which is in the object store
        else:
            known = SharedData(None, None, recipe, None)
        pool = self.pool
        pool.known[number] = known
        for peer in [*pool.members, *pool.joining]:
            with contextlib.suppress(EOFError):  # its end is seen when it is asked for something
                pool.give(peer, number, known)
        self.or_recover(pool.collect, pool.patience(Median()))

    def do_forget(self, number: int) -> None:
        self.pool.known.pop(number).close()
        self.or_recover(self.pool.ask, "forget", number)

    def or_recover(self, ask: Callable[..., None], *arguments: Any) -> None:
        try:
            ask(*arguments)
        except Lost as lost:
            self.pool.recover(lost)

    def do_steps(
        self, attempt: int, run: int, number: int, steps: list[Step], completed: int, clip_norm: float | None
    ) -> Progress:
        if attempt != self.failed_attempt:
            self.pool.runs = run - 1
            assert self.pool.completed == completed, f"{self.pool.completed} steps are complete, not {completed}"
            try:
                for _ in self.pool.run(number, steps, clip_norm):
                    self.steps_sent += 1
            except ResourcesError:
                os._exit(1)  # no worker came: the others go on without this machine
            except BaseException:
                self.failed_attempt = attempt
                for agent in self.agents:
                    agent.call_off.remote(self.placement)
                raise
        return self.do_reached()

    def do_reached(self) -> Progress:
        pool = self.pool
        before, self.seconds = self.seconds, pool.arena.seconds[: pool.workers].sum(axis=0)
        progress = Progress(
            pool.completed,
            pool.arena.results.copy(),
            self.seconds - before,
            (self.sent, self.steps_sent),
            pool.workers,
            list(pool.said),
        )
        pool.said.clear()
        self.sent = self.steps_sent = 0
        return progress

    def do_workers(self) -> int:
        """How many workers there are, those included that can join."""
        self.pool.welcome(0.2)
        return self.pool.workers + len(self.pool.ready())

    def do_enlarge(self, seats: list[Seat]) -> None:
        """Starts more workers, who become members before one of the next steps."""
        self.pool.seats += seats
        self.pool.most += len(seats)
        self.pool.launch(len(seats))

    def do_evaluate(self, number: int, completed: int, chunks: list[Chunk]) -> list[tuple[int, Any]]:
        return list(self.pool.evaluate(number, chunks))

    def do_adopt(self, completed: int, arrays: list[Any]) -> None:
        try:
            adopt(self.pool.arena, completed % 2, ray.get(arrays))
        except ray.exceptions.RayError:
            raise CalledOff from None
        self.pool.completed = completed

    def do_close(self) -> None:
        if self.pool is not None:
            self.pool.close()


def facts() -> Facts:
    return Facts(
        socket.gethostname(),
        ".".join(map(str, sys.version_info[:2])),
        ray.__version__,
        __version__,
        np.__version__,
        processor(),
    )


def processor() -> str:
    """The kind of CPU, by whose instructions BLAS chooses its kernels."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    return platform.processor() or platform.machine()
