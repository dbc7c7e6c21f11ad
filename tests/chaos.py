"""Killing workers at chosen moments: when one is in a phase of a step, which it writes into the arena, or starts."""

import os
import signal
import threading
import time

from pargrad.parallel.pool import GRADIENT, IDLE, REDUCE, UPDATE
from tests.processes import workers_of

PHASES = {"idle": IDLE, "gradient": GRADIENT, "reduce": REDUCE, "update": UPDATE}


class Killer(threading.Thread):
    """Sends a signal to the member at a place, as soon as it is in a phase after so many completed steps.

    schedule: (completed steps, place, phase), in order of the steps; a place that is not there means the last one.
    The phase "start" is that of a worker which has not connected yet. killed: (steps, place, phase) of each.
    """

    def __init__(self, pool, schedule, kill=signal.SIGKILL):
        super().__init__(daemon=True)
        self.pool, self.schedule, self.kill = pool, list(schedule), kill
        self.killed = []
        self.over = threading.Event()

    def run(self):
        for steps, place, phase in self.schedule:
            while not self.over.is_set():
                victim = self.starting() if phase == "start" else self.member(steps, place, phase)
                if victim is not None:
                    os.kill(victim, self.kill)
                    self.killed.append((self.pool.reached(), place, phase))
                    break
                time.sleep(0)

    def member(self, steps, place, phase):
        members = list(self.pool.members)
        if not members or not self.pool.formed:
            return None
        at, arena = min(place, len(members) - 1), self.pool.arena
        return members[at].pid if arena.progress[at] >= steps and arena.phases[at] == PHASES[phase] else None

    def starting(self):
        known = {peer.pid for peer in [*self.pool.members, *self.pool.joining]}
        return next((pid for pid in workers_of(os.getpid()) if pid not in known), None)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()
