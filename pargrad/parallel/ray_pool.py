"""The pool whose workers are Ray actors on the driver's machine.

While Ray starts, the driver takes the steps itself, with the same bits, and so it does when too few workers are left.
"""

from __future__ import annotations

import atexit
import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import ray
from ray import cloudpickle

from pargrad.data import Data
from pargrad.parallel.payload import pack
from pargrad.parallel.pool import Member, evaluate_here
from pargrad.parallel.ray_connection import Home
from pargrad.parallel.ray_placement import FREE_SECONDS, Seat, free_seats, places_of, this_node
from pargrad.parallel.ray_workers import WorkerPool
from pargrad.parallel.step import Chunk, Step, StepResult, Work
from pargrad.parallel.workers import Request


class RayPool(WorkerPool):
    """Steps on workers, and in this process until they are there."""

    def __init__(self, workers: Any, request: Request, start_timeout: float, max_failures: int):
        super().__init__(workers, start_timeout, max_failures)
        self.request = request
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
                self.home = Home(self.request.address, self.most * self.request.cores)
                self.home.start()
        except BaseException:
            self.close()
            raise

    def start_workers(self) -> None:
        """Starts the first workers, where Ray has room for them, and has the others wait for it."""
        self.started = True
        self.seats = self.find_seats()
        self.launch(len(self.seats))

    def find_seats(self) -> list[Seat]:
        """Those that are free now, and behind them those that others have, where more workers are wanted."""
        here = this_node()
        free = free_seats(self.request, self.first, FREE_SECONDS, here)
        seats = [seat for place in places_of(self.request, here) for seat in place.seats(self.request, place.total)]
        return [*free, *(seat for seat in seats if seat not in free)][: self.most]

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
