"""Killing workers at chosen moments: when one is in a phase of a step, which it writes into the arena."""

import os
import signal
import threading
import time

from pargrad.parallel.pool import GRADIENT, IDLE, REDUCE, UPDATE

PHASES = {"idle": IDLE, "gradient": GRADIENT, "reduce": REDUCE, "update": UPDATE}


class Killer(threading.Thread):
    """Sends a signal to the member at a place, as soon as it is in a phase after so many completed steps.

    schedule: (completed steps, place, phase), in order of the steps; a place that is not there means the last one.
    """

    def __init__(self, pool, schedule, kill=signal.SIGKILL):
        super().__init__(daemon=True)
        self.pool, self.schedule, self.kill = pool, list(schedule), kill
        self.killed = []
        self.over = threading.Event()

    def run(self):
        for steps, place, phase in self.schedule:
            while not self.over.is_set():
                members = list(self.pool.members)
                if not members or not self.pool.formed:
                    time.sleep(0.001)
                    continue
                at, arena = min(place, len(members) - 1), self.pool.arena
                if arena.progress[at] >= steps and arena.phases[at] == PHASES[phase]:
                    os.kill(members[at].pid, self.kill)
                    self.killed.append((int(arena.progress[at]), at, phase))
                    break

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()
