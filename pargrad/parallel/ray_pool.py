"""The pool whose workers are Ray actors on the driver's machine.

While Ray starts, the driver takes the steps itself, with the same bits, and so it does when too few workers are left.
"""

from __future__ import annotations

import atexit
import itertools
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import ray
from ray import cloudpickle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pargrad.data import Data
from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.payload import pack
from pargrad.parallel.pool import Member, evaluate_here
from pargrad.parallel.ray_connection import Home
from pargrad.parallel.ray_workers import WorkerPool
from pargrad.parallel.step import Chunk, Step, StepResult, Work

FREE_SECONDS = 5.0  # that cores may take to be free again


class RayPool(WorkerPool):
    """Steps on workers, and in this process until they are there."""

    def __init__(self, workers: Any, address: str, start_timeout: float, max_failures: int):
        super().__init__(workers, start_timeout, max_failures)
        self.address = address
        self.home: Home | None = None  # of a Ray that is this pool's own
        self.started = False  # the first workers

    # ----- start and end -----

    def open(self, work: Work) -> None:
        self.payload = pack(cloudpickle, work)
        try:
            self.prepare(work)
            self.member = Member(self.replica, 0, 1, self.machine_share)
            if ray.is_initialized():  # it is the user's own, which is left as it is
                self.start_workers()
            else:
                self.home = Home(self.address, self.most)
                self.home.start()
        except BaseException:
            self.close()
            raise

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

    def where(self, number: int) -> Any:
        return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    def welcome(self, patience: float = 0.0) -> None:
        if not self.started:
            assert self.home is not None
            if not self.home.is_there(patience):
                return
            self.start_workers()
        super().welcome(patience)

    def close(self) -> None:
        is_first = not self.closed
        super().close()
        if is_first and self.home is not None:
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
