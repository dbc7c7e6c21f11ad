"""A cluster of simulated machines under the real driver: `CrewPool` as it is, on a clock that jumps to the next event.

What the driver decides (whom to wait for, whom to give up, who takes over, when it is too much) is decided by
`CrewPool`, `Peer` and `replies_of` themselves; the shards lie as `shares_of` and `aligned_nodes` say. Simulated are the
machines: how long `plan.predict` says that they take, when they die, and when others come. Data sets and state are not
sent, only waited for. Between two events nothing is decided, so one message to the machines stands for all steps that
end before the next, and is counted as the messages that it stands for.

The closed form. Machines fail independently at rate r, so n of them at n r = f. A step of s seconds is done when no
machine fails in the meantime. One that fails takes the step with it, is noticed after d seconds, and the others have
new places after p more, if none of them fails before: then all of it begins again. So a step takes as long as it takes
until s seconds have passed without a failure, each of which costs the time until d + p have (Daly, Future Generation
Computer Systems 22, 2006, has the same for checkpoints):

    t(s, n) = (exp(f s) - 1) exp(f (d + p)) / f

Each failure brings, after its repair, a machine that joins, for which all stop for j = p + transfer seconds. Those that
come while the steps under way are finished, half a one and a whole one, join together: of each second, f t(j, n) /
(1 + f w) is spent on joining, w = 1.5 t(s, n). A machine is away until it is noticed, repaired, waited for and joined,
b = d + repair + w + j, so the number of those away is about Poisson's with mean r b M / (1 + r b). With s(n) the step
of n machines of the M,

    goodput = sum over n of P(M - n away) (1 - f t(j, n) / (1 + f w)) s(M) / t(s(n), n).
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

from pargrad.parallel import crew, crew_pool
from pargrad.parallel.crew import Peer
from pargrad.parallel.crew_pool import CrewPool
from pargrad.parallel.errors import PargradError
from pargrad.parallel.machines import shares_of
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.plan import Job, Machine, predict, steps_ahead
from pargrad.parallel.worker import Failure

OPTIMIZER_ARRAYS = 3  # parameters and AdamW's moments: what one who joins is sent
START_TIMEOUT = 600.0  # seconds; of simulated time


@dataclass(frozen=True)
class Conditions:
    """What happens to a cluster. Times in seconds, unless said otherwise.

    failures_per_day: of one machine; detect: until the driver learns of it; repair: from then until another machine is
    there; least: machines to go on with; slow: the share of machines that compute `slow_factor` times as long.
    """

    machines: int = 1000
    hours: float = 24.0
    failures_per_day: float = 1.0
    detect: float = 5.0
    repair: float = 120.0
    max_failures: int = 3
    least: int = 1
    slow: float = 0.0
    slow_factor: float = 2.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Scenario(Conditions):
    """Conditions, and what is trained under them on which machines."""

    job: Job
    machine: Machine

    def __post_init__(self) -> None:
        if self.machines < 2:
            raise ValueError(f"machines={self.machines}: expected 2 or more; one machine has nobody to wait for")
        if not 1 <= self.least <= self.machines:
            raise ValueError(f"least={self.least}: expected 1 to {self.machines}, the machines")
        for name in ("hours", "slow_factor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected more than 0")
        if not 0 <= self.slow <= 1:
            raise ValueError(f"slow={self.slow}: expected 0 to 1, a share of the machines")
        for name in ("failures_per_day", "detect", "repair", "max_failures"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: expected 0 or more")

    @property
    def seconds(self) -> float:
        return self.hours * 3600

    @property
    def rate(self) -> float:
        """Failures of one machine a second."""
        return self.failures_per_day / 86400

    def step(self, machines: int, slowest: float = 1.0) -> float:
        """Seconds of a step on so many machines, the slowest of which computes so many times as long."""
        found = predict(self.job, self.machine, machines)
        return max(found.step + (slowest - 1) * found.compute, found.driver)

    def placing(self, machines: int) -> float:
        """Seconds in which the driver gives so many machines their places."""
        return machines * self.machine.call_seconds + 2 * self.machine.latency

    @property
    def transfer(self) -> float:
        """Seconds in which one machine is sent the state."""
        return OPTIMIZER_ARRAYS * self.job.bytes / self.machine.link_bandwidth + self.machine.latency


class Report(NamedTuple):
    """What came of a scenario. recomputed: machine-seconds of work of steps that were begun in vain.

    goodput: steps done, of those that all machines would have done undisturbed; driver_load: the part of the time that
    the driver spends on messages; ended: what the run ended with before its time, if it did.
    """

    hours: float
    steps: int
    goodput: float
    failures: int
    joined: int
    recomputed: float
    recomputed_share: float
    fewest: int
    messages: int
    driver_load: float
    events: int
    ended: str | None


class Clock:
    """Simulated time, in the place of `time` and of `multiprocessing.connection.wait`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[..., None], tuple]] = []
        self.numbers = itertools.count()
        self.happened = 0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def after(self, seconds: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), action, arguments))

    def next_one(self) -> float:
        return self.events[0][0] if self.events else math.inf

    def happen(self) -> None:
        """The next event."""
        self.now, _, action, arguments = heapq.heappop(self.events)
        self.happened += 1
        action(*arguments)

    def sleep_until(self, moment: float, enough: Callable[[], Any]) -> None:
        """What happens until then, or until there is enough."""
        while not enough():
            if self.next_one() > moment:
                self.now = moment
                return
            self.happen()

    def wait(self, connections: list[Any], seconds: float | None = None) -> list[Any]:
        """Those of the channels that have something to be received; none after so many seconds."""
        until = math.inf if seconds is None else self.now + seconds
        ready: list[Any] = []
        while not ready:
            ready = [channel for channel in connections if channel.replies or channel.over]
            if not ready:
                if self.next_one() > until:
                    self.now = until
                    break
                self.happen()
        return ready


@contextlib.contextmanager
def simulated_time(clock: Clock) -> Iterator[None]:
    """The driver's modules look at this clock."""
    before = [(module, name, getattr(module, name)) for module in (crew, crew_pool) for name in ("time", "wait")]
    for module, name, _ in before:
        setattr(module, name, clock if name == "time" else clock.wait)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


class SimulatedChannel:
    """The driver's end of the line to a machine, and its own connection."""

    def __init__(self, fleet: Fleet):
        self.fleet = fleet
        self.connection = self
        self.peer: Any = None
        self.replies: deque[Any] = deque()
        self.over = False  # the machine is dead, and the driver's host knows it

    def send_packed(self, message: bytes) -> None:
        if self.over:
            raise EOFError
        self.fleet.hear(self.peer, message)

    def receive(self) -> Any:
        if self.replies:
            return self.replies.popleft()
        self.fleet.call_off()
        raise EOFError

    def poll(self, timeout: float) -> bool:
        return bool(self.replies) or self.over

    def close(self) -> None:
        self.over = True


class SimulatedMachine(Peer):
    def __init__(self, number: int, fleet: Fleet, workers: int, slowness: float):
        channel = SimulatedChannel(fleet)
        super().__init__(number, channel, f"machine {number}", workers)
        channel.peer = self
        self.slowness = slowness
        self.is_alive = True
        self.is_member = self.has_state = False
        self.asked = 0  # messages of steps that it has not answered
        self.share = range(0)


class Running(NamedTuple):
    """Steps that the machines take together."""

    since: float
    steps: int
    seconds: float  # of one


class Fleet:
    """The machines: what they do with the driver's messages, and what happens to them."""

    def __init__(self, scenario: Scenario, clock: Clock):
        self.scenario, self.clock = scenario, clock
        self.random = random.Random(scenario.seed)
        self.numbers = itertools.count()
        self.arrived: list[SimulatedMachine] = []  # that the driver has not taken in
        self.members: list[SimulatedMachine] = []  # that have places
        self.dead_members = 0
        self.failures = 0
        self.completed = 0  # messages of steps
        self.steps = 0
        self.waiting = 0  # messages of steps that were not begun
        self.running: Running | None = None
        self.step_seconds = 0.0
        self.recomputed = self.worked = 0.0  # machine-seconds
        self.messages = 0.0
        self.heard, self.hearers = b"", list(self.arrived)  # the latest message, and whom it was given to
        self.are_steps = False

    # ----- what happens to machines -----

    def arrive(self) -> None:
        scenario = self.scenario
        slowness = scenario.slow_factor if self.random.random() < scenario.slow else 1.0
        machine = SimulatedMachine(next(self.numbers), self, scenario.machine.cores, slowness)
        self.arrived.append(machine)
        if scenario.rate:
            self.clock.after(self.random.expovariate(scenario.rate), self.die, machine)

    def die(self, machine: SimulatedMachine) -> None:
        """A machine fails, unless the driver gave it up before."""
        if not machine.is_alive or machine.channel.over:
            return
        machine.is_alive = False
        self.failures += 1
        if machine.is_member:
            self.dead_members += 1
            if self.running is not None:
                self.recomputed += (self.clock.now - self.running.since) * len(self.members)
                self.running = None
        self.clock.after(self.scenario.detect, self.be_missed, machine)

    def be_missed(self, machine: SimulatedMachine) -> None:
        machine.channel.over = True

    # ----- messages -----

    def hear(self, machine: SimulatedMachine, message: bytes) -> None:
        """A message, which the driver gives to one after the other: either steps, or ("answer", after so long)."""
        if message is not self.heard:
            self.heard, self.hearers = message, []
            name, *arguments = pickle.loads(message)
            self.are_steps = name == "steps"
            if self.are_steps:
                self.waiting += 1
                self.clock.after(0.0, self.begin)
            else:
                self.clock.after(arguments[0], self.answer, self.hearers)
        self.hearers.append(machine)
        machine.asked += self.are_steps

    def answer(self, machines: list[SimulatedMachine]) -> None:
        self.messages += len(machines)
        for machine in machines:
            if machine.is_alive:
                machine.channel.replies.append(None)

    def place(self, members: list[SimulatedMachine]) -> None:
        """Machines get their places; whoever had one before and is not among them has none."""
        for machine in self.members:
            machine.is_member = False
        for machine in members:
            machine.is_member = True
        self.members = list(members)
        self.dead_members = sum(not machine.is_alive for machine in members)
        self.waiting = 0
        self.step_seconds = self.scenario.step(len(members), max(machine.slowness for machine in members))

    def call_off(self) -> None:
        """One of the members is seen to be gone: the others answer all they were asked."""
        self.waiting, self.running = 0, None
        failure = Failure(CalledOff(), "a machine")
        for machine in self.members:
            if machine.is_alive:
                machine.channel.replies.extend([failure] * machine.asked)
            machine.asked = 0

    # ----- steps -----

    def begin(self) -> None:
        """The machines take up a message of steps: as many as end before something else happens, or one."""
        if self.running is not None or not self.waiting or self.dead_members:
            return
        left = min(self.clock.next_one(), self.scenario.seconds) - self.clock.now
        count = 1 if self.arrived else max(1, int(left / self.step_seconds))
        self.running = Running(self.clock.now, count, self.step_seconds)
        self.clock.after(count * self.step_seconds, self.finish, self.running)

    def finish(self, running: Running) -> None:
        if self.running is not running:
            return  # somebody died
        self.running = None
        self.waiting -= 1
        self.completed += 1
        self.steps += running.steps
        self.worked += running.steps * running.seconds * len(self.members)
        self.messages += len(self.members) * running.steps / steps_ahead(running.seconds)
        for machine in self.members:
            machine.channel.replies.append(None)
            machine.asked -= 1
        self.begin()


class SimulatedCluster(CrewPool):
    """The driver, of machines that are simulated. What it asks of `CrewPool` is what `ClusterPool` asks of it."""

    def __init__(self, scenario: Scenario, clock: Clock):
        workers = tuple(
            count * scenario.machine.cores for count in (scenario.machines, scenario.least, scenario.machines)
        )
        super().__init__(workers, START_TIMEOUT + scenario.repair, scenario.max_failures)
        self.scenario, self.clock = scenario, clock
        self.fleet = Fleet(scenario, clock)
        self.replica: Any = SimpleNamespace(select=lambda half: None)
        self.joined = 0
        self.fewest = scenario.machines
        for _ in range(scenario.machines):
            self.fleet.arrive()

    def launch(self, count: int) -> None:
        for _ in range(count):
            self.clock.after(self.scenario.repair, self.fleet.arrive)

    def welcome(self, patience: float = 0.0) -> None:
        if patience and not self.fleet.arrived:
            self.clock.sleep_until(self.clock.now + patience, lambda: self.fleet.arrived)
        self.joining += self.fleet.arrived
        self.fleet.arrived.clear()

    def form(self) -> None:
        """As `ClusterPool.form`: the state to those that have none, one after the other, and a place to each."""
        self.members.sort(key=lambda peer: (-peer.workers, peer.number))
        scenario, without = self.scenario, [peer for peer in self.members if not peer.has_state]
        if self.completed:
            self.tell_and_collect(scenario.transfer * len(without), without)
            self.joined += len(without)
        for peer in without:
            peer.has_state = True
        shares = shares_of([peer.workers for peer in self.members], scenario.job.shards)
        for peer, share in zip(self.members, shares):
            peer.share = share
        self.fleet.place(self.members)
        self.tell_and_collect(scenario.placing(len(self.members)), self.members)
        self.fewest = min(self.fewest, len(self.members))
        self.formed = True

    def tell_and_collect(self, seconds: float, peers: list[Any]) -> None:
        crew.tell_all(peers, ("answer", seconds))
        self.collect(self.patience(self.median) + seconds, peers)

    def reached(self) -> int:
        return self.fleet.completed

    def latest(self, peers: list[Any]) -> list[Any]:
        return [peer for peer in peers if not peer.is_alive] or peers

    def doing(self, peer: Peer) -> str:
        return f"taking part in the step after {self.fleet.steps}"

    def shards_of(self, peer: Any) -> range:
        return peer.share

    def put_down(self, peers: list[Any]) -> None:
        for peer in peers:
            peer.channel.close()
            peer.is_alive = False
        self.fleet.call_off()

    def number_of(self, data: Any) -> int:
        return 0

    def completed_of(self, taken: deque, count: int) -> Iterator[Any]:
        for _ in range(count):
            yield taken.popleft()

    def patience(self, median: Any) -> float:
        """One message stands for many steps here, and its time is no median of a step's."""
        return crew.LATE_SECONDS + crew.LATE_MEDIANS * self.fleet.step_seconds + self.scenario.seconds

    def warn(self, what: str) -> None:
        pass

    def until_time_is_over(self) -> Iterator[Any]:
        while self.clock.now < self.scenario.seconds:
            yield "steps"


def simulate(scenario: Scenario) -> Report:
    """Runs the driver against the machines of a scenario. The same seed gives the same report."""
    clock = Clock()
    ended = None
    with simulated_time(clock):
        pool = SimulatedCluster(scenario, clock)
        try:
            for _ in pool.run(None, pool.until_time_is_over()):  # type: ignore[arg-type]
                pass
        except PargradError as error:
            ended = f"{type(error).__name__}: {error}"
    fleet, elapsed = pool.fleet, clock.now
    undisturbed = elapsed / scenario.step(scenario.machines)
    return Report(
        elapsed / 3600, fleet.steps, fleet.steps / undisturbed, fleet.failures, pool.joined, fleet.recomputed,
        fleet.recomputed / max(fleet.recomputed + fleet.worked, 1e-9), pool.fewest, round(fleet.messages),
        fleet.messages * scenario.machine.call_seconds / elapsed, clock.happened, ended,
    )  # fmt: skip


# ----- the closed form -----


def until_undisturbed(seconds: float, failures: float, pause: float) -> float:
    """Seconds until so many have passed without a failure, where each costs a pause of which the same holds."""
    if not failures:
        return seconds
    return math.expm1(failures * seconds) * math.exp(failures * pause) / failures


def expected_goodput(scenario: Scenario) -> float:
    """The closed form, as the module's docstring derives it; without slow machines."""
    rate, most = scenario.rate, scenario.machines

    def of(machines: int) -> tuple[float, float, float]:
        """Of a step and of a join the time with failures, and the wait before a join."""
        failures, placing = machines * rate, scenario.placing(machines)
        pause = scenario.detect + placing
        step = until_undisturbed(scenario.step(machines), failures, pause)
        return step, until_undisturbed(placing + scenario.transfer, failures, pause), 1.5 * step

    _, join, wait = of(most)
    away = rate * (scenario.detect + scenario.repair + wait + join)
    mean = most * away / (1 + away)
    goodput = 0.0
    for count in range(min(most - 1, math.ceil(mean + 8 * math.sqrt(mean) + 8)) + 1):
        likely = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1)) if mean else float(count == 0)
        step, join, wait = of(most - count)
        failures = (most - count) * rate
        joining = failures * join / (1 + failures * wait)
        goodput += likely * (1 - joining) * scenario.step(most) / step
    return goodput


def expected_ends(scenario: Scenario) -> float:
    """How often `max_failures` ends the run, on average: so many failures more follow one before a step is done."""
    failures = scenario.machines * scenario.rate
    pause = scenario.detect + scenario.placing(scenario.machines)
    follows = -math.expm1(-failures * (pause + scenario.step(scenario.machines)))
    return failures * scenario.seconds * follows**scenario.max_failures
