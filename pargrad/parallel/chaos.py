"""Chaos: workers of a run are killed at chosen or random moments, and its bits must be those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pargrad.data import Data
from pargrad.parallel.callbacks import Callback
from pargrad.parallel.digest import state_sha256
from pargrad.parallel.pool import GRADIENT, IDLE, REDUCE, UPDATE
from pargrad.parallel.processes import workers_of
from pargrad.parallel.trainer import Trainer

PHASES = {"idle": IDLE, "gradient": GRADIENT, "reduce": REDUCE, "update": UPDATE}
MOMENTS = (*PHASES, "start")

Moment = tuple[int, int, str]  # completed steps, place, phase


class Kill(NamedTuple):
    """Of a worker at a place, in a phase, when so many steps were complete, at a time."""

    steps: int
    place: int
    phase: str
    at: float


class Killer(threading.Thread):
    """Sends a signal to the member at a place, as soon as it is in a phase after so many completed steps.

    schedule: of such moments, in the order in which they are to come; a place that is not there means the last one.
    The phase "start" is that of a worker which has not connected yet. To be used in a `with` block.
    recoveries: seconds from a kill until the next step was complete, where there were others to take over.
    """

    def __init__(self, pool: Any, schedule: Iterable[Moment], kill: int = signal.SIGKILL):
        super().__init__(daemon=True)
        self.pool, self.schedule, self.kill = pool, schedule, kill
        self.killed: list[Kill] = []
        self.recoveries: list[float] = []
        self.held_up: Kill | None = None
        self.victims: set[int] = set()
        self.over = threading.Event()

    def run(self) -> None:
        for steps, place, phase in self.schedule:
            while not self.over.is_set():
                victim = self.starting() if phase == "start" else self.member(steps, place, phase)
                if victim is not None:
                    self.send(victim, place, phase)
                    break
                self.look()
                time.sleep(0)
        while self.held_up is not None and not self.over.is_set():
            self.look()
            time.sleep(0)

    def send(self, victim: int, place: int, phase: str) -> None:
        kill = Kill(self.pool.reached(), place, phase, time.perf_counter())
        shared = phase != "start" and len(self.pool.members) > 1
        os.kill(victim, self.kill)
        self.victims.add(victim)
        self.killed.append(kill)
        self.held_up = kill if shared else None  # a second kill before the recovery from the first: neither counts

    def look(self) -> None:
        """Whether the step that the last kill has held up is complete."""
        if self.held_up is not None and self.pool.reached() > self.held_up.steps:
            self.recoveries.append(time.perf_counter() - self.held_up.at)
            self.held_up = None

    def member(self, steps: int, place: int, phase: str) -> int | None:
        members = list(self.pool.members)
        if not members or not self.pool.formed:
            return None
        at, arena = min(place, len(members) - 1), self.pool.arena
        pid, is_there = members[at].pid, arena.progress[at] >= steps and arena.phases[at] == PHASES[phase]
        return pid if is_there and pid not in self.victims else None  # who was killed before may not be missed yet

    def starting(self) -> int | None:
        known = {peer.pid for peer in [*self.pool.members, *self.pool.joining]}
        return next((pid for pid in workers_of(os.getpid()) if pid not in known), None)

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


# ----- on a model of one's own -----


class Outcome(NamedTuple):
    """steps: that were taken; kills: how many by phase; hashes: of the undisturbed run's state and of the other's."""

    steps: int
    kills: Counter[str]
    undisturbed: str
    disturbed: str


class Until(Callback):
    """Ends a fit some seconds after its first workers are there."""

    runs_ahead = True

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.began: float | None = None

    def on_step_end(self, trainer: Any, result: Any) -> None:
        if self.began is None and trainer.pool.formed:
            self.began = time.monotonic()
        if self.began is not None and time.monotonic() - self.began > self.seconds:
            trainer.stop()


def random_moments(draw: random.Random, places: int, every: float, over: threading.Event) -> Iterator[Moment]:
    """Moments with `every` seconds between them on average, for as long as it is not over."""
    while not over.wait(draw.expovariate(1 / every)):
        phase = draw.choice(MOMENTS)
        if phase == "start":
            yield 0, draw.randrange(places), draw.choice(list(PHASES))  # so that somebody starts
        yield 0, draw.randrange(places), phase


def chaos(
    make: Callable[..., tuple[Trainer, Data]],
    seconds: float = 60.0,
    every: float = 2.0,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Trains for some seconds while workers are killed at random, then as many steps without, and compares.

    make(callbacks=..., max_failures=...): a fresh trainer that is given these, and its data; each time the same.
    every: seconds between two kills on average. seed: of their moments; where exactly they hit depends on time.
    """
    trainer, data = make(callbacks=(Until(seconds),), max_failures=10**9)
    first = state_sha256(trainer.model)
    with trainer, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "worker .* (was|did|has)", UserWarning)
        warnings.filterwarnings("ignore", "waiting for workers", UserWarning)
        killer = Killer(trainer.open(), ())
        killer.schedule = random_moments(random.Random(seed), trainer.num_workers, every, killer.over)
        tell(f"training for {seconds:g} s, while workers are killed every {every:g} s ...")
        with killer:
            trainer.fit(data, max_steps=10**9)
    kills, steps, disturbed = Counter(kill.phase for kill in killer.killed), trainer.steps, state_sha256(trainer.model)
    tell(f"{steps:,} steps with {kills.total()} kills: {', '.join(f'{name} {kills[name]}' for name in MOMENTS)}")
    trainer, data = make(callbacks=(), max_failures=3)
    if state_sha256(trainer.model) != first:
        raise ValueError(
            "the model had other values the second time it was made: draw them after pargrad.manual_seed, or from a "
            "generator that is made anew"
        )
    with trainer:
        trainer.fit(data, max_steps=steps)
    return Outcome(steps, kills, state_sha256(trainer.model), disturbed)
