"""Ray's pool without Ray: its workers are threads of this process that take turns, as a seed says, and die on a line.

Driver, workers, members, meetings, sockets, pipes and the arena are the real ones; only processes are simulated. One
thread runs at a time. A line of `TRACED` is where a worker may be interrupted for another one's turn, may die, or may
stop for ever, so that a run is the same each time, and every order of things can be tried.
"""

import contextlib
import os
import random
import socket
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pargrad
from pargrad.parallel import crew, crew_pool, exchange, ray_pool
from pargrad.parallel.channel import Channel
from pargrad.parallel.crew import Process
from pargrad.parallel.crew_pool import CrewPool
from pargrad.parallel.pool import GRADIENT, IDLE, REDUCE, UPDATE
from pargrad.parallel.ray_pool import RayPool
from pargrad.parallel.worker import Worker

START = -1  # the phase of a worker that has no place yet
PHASES = {IDLE: "idle", GRADIENT: "gradient", REDUCE: "reduce", UPDATE: "update", START: "start"}

HOME = Path(pargrad.__file__).parent
MODULES = "pool", "step", "statistics", "exchange", "worker", "meeting"
TRACED = {str(HOME / "parallel" / f"{name}.py") for name in MODULES}
TRACED |= {str(path) for path in (HOME / "optim").glob("*.py")}
# Where one thread of a worker wakes another, both may be on a line for a moment.
WAKING = {each.__code__ for each in vars(exchange.ShardRun).values() if hasattr(each, "__code__")}


class Fault(NamedTuple):
    """Worker `worker` (the how manyth that was started) ends on its `lines`-th line in a phase.

    Lines are counted after `steps` steps, and after so many losses of others: two may then hit one step.
    stops: it does not end, but does nothing any more, as a process that was sent SIGSTOP.
    """

    worker: int
    steps: int
    phase: int
    lines: int
    losses: int = 0
    stops: bool = False


class Plan(NamedTuple):
    """What happens beside the steps. seed: of the order of turns; turn: the most lines of one.

    seconds: what a clock's look at the time takes, which says how many steps the driver sends ahead.
    delays: how often the driver looks for worker i until it has come. helps: whether it takes steps until there are
    enough.
    """

    seed: int = 0
    turn: int = 30
    seconds: float = 1.0
    faults: tuple[Fault, ...] = ()
    delays: tuple[int, ...] = ()
    helps: bool = False


class Killed(BaseException):
    """Ends a worker's thread where it is; nothing that it does from then on can be seen by others."""


def taken_lock():
    """One that is released to wake whoever waits for it."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Turns:
    """Whose turn it is: the driver's, or that of one thread that can go on."""

    def __init__(self, seed, lines):
        self.random, self.lines = random.Random(seed), lines
        self.back = taken_lock()  # the driver's
        self.threads = []
        self.losses = 0
        self.watch = lambda: None  # called after every turn

    def give(self):
        """One turn to somebody; whether anybody could go on."""
        able = [thread for thread in self.threads if thread.can_go_on()]
        if able:
            thread = self.random.choice(able)
            thread.left = self.random.randint(1, self.lines)
            self.hand_to(thread)
            self.watch()
        return bool(able)

    def hand_to(self, thread):
        thread.turn.release()
        self.back.acquire()
        if thread.over:
            thread.join()
            self.threads.remove(thread)
        if thread.error is not None:
            raise thread.error

    def wait(self, connections, seconds=None):
        """In the place of multiprocessing's: turns until one of these has something to read; [] if that cannot be."""
        while True:
            ready = [connection for connection in connections if connection.poll(0)]
            if ready:
                return ready
            if not self.give():
                assert any(thread.stopped for thread in self.threads), "everyone waits for somebody else"
                return []


class WorkerThread(threading.Thread):
    """A worker as a thread that works when it has the turn, and gives it back on some line, or when it must wait."""

    def __init__(self, turns, number, channel, fault):
        super().__init__(daemon=True)
        self.turns, self.fault = turns, fault
        self.turn = taken_lock()
        self.left = 0  # lines of this turn
        self.lines = 0  # in the phase that the fault is for
        self.awaits = None  # says whether there is what it waits for
        self.stopped = self.killed = self.over = self.whole = self.ended = False
        self.error = None
        self.hit = None  # the phase in which the fault was
        self.worker = SimulatedWorker(self, number, channel)
        turns.threads.append(self)
        self.start()

    def run(self):
        self.turn.acquire()
        sys.settrace(self.enter)
        try:
            if not self.killed:
                self.worker.work()
        except (Killed, EOFError):
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.end()
            self.over = True
            self.turns.back.release()

    def can_go_on(self):
        return not self.stopped and (self.awaits is None or self.awaits())

    def give_back(self):
        self.turns.back.release()
        self.turn.acquire()
        if self.killed:
            self.end()
            raise Killed

    def wait_until(self, ready):
        if not ready():
            self.awaits = ready
            self.give_back()
            self.awaits = None

    def end(self):
        """What an operating system does for a process that is gone."""
        sys.settrace(None)
        self.ended = True  # its shards' threads leave as they would after an error: nobody can see that
        self.worker.meeting.close()
        self.worker.peer.close()

    def kill(self):
        """Ends it wherever it is."""
        if not self.over:
            self.killed = True
            self.turns.hand_to(self)

    # ----- lines -----

    def enter(self, frame, event, argument):
        return self.line if frame.f_code.co_filename in TRACED and frame.f_code not in WAKING else None

    def line(self, frame, event, argument):
        if event == "line" and not self.whole and not self.ended:
            if self.fault is not None and self.is_in_phase():
                self.lines += 1
                if self.lines > self.fault.lines:
                    self.meet_fate()
            self.left -= 1
            if self.left <= 0:
                self.give_back()
        return self.line

    def is_in_phase(self):
        member, fault = self.worker.member, self.fault
        if self.turns.losses < fault.losses:
            return False
        if member is None or fault.phase == START:
            return member is None and fault.phase == START
        arena = member.replica.arena
        return arena.phases[member.number] == fault.phase and arena.progress[member.number] >= fault.steps

    def meet_fate(self):
        self.hit, fault, self.fault = self.fault.phase, self.fault, None
        self.turns.losses += 1
        if fault.stops:
            self.stopped = True
            self.give_back()  # until it is killed
        self.end()
        raise Killed


class ShardThread(threading.Thread):
    """A shard's thread; of a simulated worker, whose turn, lines and end are then its own."""

    def __init__(self, **named):
        super().__init__(**named)
        self.worker = threading.current_thread()

    def run(self):
        if isinstance(self.worker, WorkerThread):  # not where the driver computes shards
            sys.settrace(self.worker.enter)
        super().run()


class SimulatedChannel(Channel):
    """A worker's end of a real socket."""

    thread = None

    def receive(self):
        self.thread.wait_until(lambda: self.connection.poll(0))
        return super().receive()


class SimulatedPoll:
    """In the place of a meeting's poll: says that there is something to read when there is."""

    def __init__(self, thread, poll):
        self.thread, self.real = thread, poll

    def poll(self, timeout):
        self.thread.wait_until(lambda: self.real.poll(0))
        return self.real.poll(0)


class SimulatedWorker(Worker):
    """The real one. It takes in a message with descriptors as a whole: they would else stay open when it dies."""

    member = None

    def __init__(self, thread, number, channel):
        super().__init__(channel, number)
        self.thread = channel.thread = thread

    @contextlib.contextmanager
    def as_a_whole(self):
        self.thread.whole = True
        yield
        self.thread.whole = False

    def open(self, *arguments):
        with self.as_a_whole():
            super().open(*arguments)

    def take(self, *arguments):
        with self.as_a_whole():
            super().take(*arguments)

    def join(self, *arguments):
        with self.as_a_whole():
            super().join(*arguments)
            self.meeting.poll = {fd: SimulatedPoll(self.thread, poll) for fd, poll in self.meeting.poll.items()}


class SimulatedPeer(Process):
    """A worker as the driver sees it; its process id is that of no process."""

    def __init__(self, number, channel, thread):
        super().__init__(number, channel, -1, None)
        self.thread = thread

    def kill(self):
        self.thread.kill()


class Clock:
    """A time that goes on by so many seconds whenever somebody looks."""

    def __init__(self, seconds):
        self.seconds, self.now = seconds, 0.0

    def perf_counter(self):
        self.now += self.seconds
        return self.now

    def monotonic(self):
        return 0.0  # nothing is late by the clock: see `Turns.wait`


class SimulatedPool(RayPool):
    """RayPool with threads for processes; what happens to them is planned. To be used in a `with` block."""

    def __init__(self, workers, plan):
        super().__init__(workers, "simulated", 60.0, max_failures=1_000)
        self.plan = plan
        self.turns = Turns(plan.seed, plan.turn)
        self.coming = {}  # number: how often it is still to be looked for
        self.hit = Counter()  # phases of workers that died or stopped

    def __enter__(self):
        self.patches = contextlib.ExitStack()
        for module, name, value in (
            (crew, "wait", self.turns.wait),
            (exchange, "ShardThread", ShardThread),
            (crew_pool, "wait", self.turns.wait),
            (crew_pool, "time", Clock(self.plan.seconds)),
            (ray_pool.ray, "is_initialized", lambda: True),
        ):
            self.patches.enter_context(patch.object(module, name, value))
        return self

    def __exit__(self, *error):
        with self.patches:
            self.close()

    # ----- what Ray would do -----

    def find_seats(self):
        return [None] * self.most

    def until_enough(self, *arguments):
        """Too few workers are waited for, or this process takes steps itself."""
        return (RayPool if self.plan.helps else CrewPool).until_enough(self, *arguments)

    def launch(self, count):
        for number in range(self.numbers, self.numbers + count):
            self.coming[number] = self.plan.delays[number] if number < len(self.plan.delays) else 0
            self.launched[number] = None, None
        self.numbers += count

    def welcome(self, patience=0.0):
        for number in list(self.coming):
            self.coming[number] -= 1
            if self.coming[number] < 0:
                del self.coming[number], self.launched[number]
                self.connect(number)
        for _ in range(1 if patience else self.plan.helps * 20):
            self.turns.give()

    def connect(self, number):
        here, there = socket.socketpair()
        fault = next((fault for fault in self.plan.faults if fault.worker == number), None)
        thread = WorkerThread(self.turns, number, SimulatedChannel(there), fault)
        peer = SimulatedPeer(number, Channel(here), thread)
        peer.tell(("open", self.payload, self.size), [self.descriptor])
        for name, known in self.known.items():
            self.give(peer, name, known)
        self.joining.append(peer)

    def put_down(self, peers):
        for peer in peers:
            peer.kill()
            peer.channel.close()
            if peer.thread.hit is not None:
                self.hit[PHASES[peer.thread.hit]] += 1

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.put_down([*self.members, *self.joining])
        for peer in self.members + self.joining:
            peer.thread.join()
        self.settle()
        self.listener.close()
        for known in self.known.values():
            known.close()
        os.close(self.descriptor)
