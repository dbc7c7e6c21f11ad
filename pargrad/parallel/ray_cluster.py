"""The pool whose peers are machines: nodes of a Ray cluster, each with an agent, which has workers.

Ray reserves the workers' resources as bundles of placement groups, unless they are given one, and so says how many
workers each node has. It carries everything between machines: the driver's messages, the pieces of gradients, data, and
the state for those that join.

The driver sends steps ahead, as to workers. A machine takes step t + 1 only with the others' gradients of it, which
they compute after step t: so none is more than one step ahead of another. What the slowest has completed is still in
the half of the arena that nobody has begun to write again, and there all go on after a loss.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing import Pipe
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import cloudpickle
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pargrad.data import ArrayData, Data
from pargrad.parallel.arena import Arena, arena_size, private_memory
from pargrad.parallel.channel import OPEN
from pargrad.parallel.crew import LATE_SECONDS, Lost, Median, Peer, replies_of
from pargrad.parallel.crew_pool import CrewPool
from pargrad.parallel.errors import ResourcesError, WorkerLostError
from pargrad.parallel.machines import adopt, arrays_of, shares_of
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.payload import Cutter, SharedData, make_recipe, mark_of, pack, recipe_of
from pargrad.parallel.ray_agent import Agent, Facts, Progress, facts
from pargrad.parallel.ray_connection import Home, last_line
from pargrad.parallel.ray_placement import Seat, free_seats, places_of, said_of, this_node, with_group
from pargrad.parallel.ray_pool import RayPool
from pargrad.parallel.step import Replica, Step, StepResult, Work
from pargrad.parallel.workers import Request

LOOK_SECONDS = 1.0  # between two looks at where Ray has placed bundles
ANSWER_SECONDS = 5.0  # in which an agent that is well says where it is
CLOSING = 1 << 30  # the number of the last message
AGAIN_SECONDS = 20.0  # after a loss, until a node is tried again: Ray takes as long to see that it is gone


class ActorChannel:
    """An agent's answers as a channel: what is sent is a call, and its end is an EOFError."""

    def __init__(self, agent: Any):
        self.agent = agent
        self.connection, self.writer = Pipe(duplex=False)
        self.calls: deque[Future] = deque()
        self.sent = 0
        self.is_over = False
        OPEN.add(self)

    def send(self, message: Any) -> None:
        if self.is_over:
            raise EOFError
        future = self.agent.answer.remote(self.sent, message).future()
        self.sent += 1
        self.calls.append(future)
        future.add_done_callback(self.tell)

    def tell(self, future: Future) -> None:
        """In a thread of Ray's: there is something to be received."""
        with contextlib.suppress(OSError):  # it was closed
            self.writer.send_bytes(b"")

    def receive(self) -> Any:
        if self.is_over:
            raise EOFError
        self.connection.recv_bytes()
        try:
            return self.calls.popleft().result()
        except ray.exceptions.RayError as error:
            self.is_over = True
            raise EOFError(last_line(error)) from None

    def close(self) -> None:
        self.is_over = True
        OPEN.discard(self)
        self.writer.close()
        self.connection.close()


class Machine(Peer):
    """A node of the cluster: its agent, and what the driver knows of it."""

    channel: Any

    def __init__(
        self, number: int, agent: Any, node: str, host: str, seats: list[Seat], when_gone: Callable[[Machine], None]
    ):
        super().__init__(
            number, ActorChannel(agent), f"machine {host} (node {node[:8]}, {len(seats)} workers)", len(seats)
        )
        self.agent, self.node, self.seats, self.when_gone = agent, node, seats, when_gone
        self.completed = 0
        self.has_state = False
        self.is_gone = False
        self.share = range(0)
        self.sent, self.steps = 0, 0

    def tell(self, message: Any, descriptors: Iterable[int] = ()) -> None:
        if not self.awaited:
            self.since = time.monotonic()
        self.awaited += 1
        self.channel.send(message)

    def reply(self) -> Any:
        try:
            return super().reply()
        except EOFError:
            self.is_gone = True
            self.when_gone(self)
            raise


class Traffic(NamedTuple):
    """The bytes that a machine has sent to others in so many steps."""

    machine: str
    steps: int
    bytes: int


class Launched(NamedTuple):
    agent: Any
    facts: Any  # the call
    seats: list[Seat]


class ClusterPool(CrewPool):
    """Steps on the machines of a Ray cluster, each of which holds everything: losing one loses nothing.

    If all are lost, the steps since this process had the state, at the beginning of the `run`, are taken again.
    """

    def __init__(self, workers: Any, request: Request, start_timeout: float, max_failures: int):
        super().__init__(workers, start_timeout, max_failures)
        self.request = request
        self.home: Home | None = None  # of a Ray that this pool has joined
        self.groups: list[Any] = []  # of this pool's own
        self.seats: list[Seat] = []
        self.launched: dict[str, Launched] = {}  # by node, until it has said what it is
        self.avoided: dict[str, float] = {}  # nodes that were lost, until when
        self.looked = 0.0
        self.numbers = 0
        self.placement = 0
        self.held = 0  # after how many steps the driver's own arena has the state
        self.done: deque[Step] = deque()  # in this run, after those
        self.repeated = 0  # of the steps to be taken, those that were completed before
        self.passed: dict[int, Traffic] = {}  # of machines that are gone

    # ----- start and end -----

    def open(self, work: Work) -> None:
        self.payload = pack(cloudpickle, work)
        self.arena = Arena(work.layout, private_memory(arena_size(work.layout)))
        self.replica = Replica(work, self.arena)
        try:
            self.reserve()
            self.wait_for(self.first)
        except BaseException:
            self.close()
            raise

    def reserve(self) -> None:
        """Has Ray keep room for the workers: at once where it is free, and more when there is some."""
        deadline = time.monotonic() + self.start_timeout
        free = free_seats(self.request, self.first, self.start_timeout)[: self.most]
        if self.request.group is not None:
            self.seats = free
            return
        bundle = self.request.resources
        self.groups.append(placement_group([bundle] * len(free), strategy="PACK"))
        self.groups += [placement_group([bundle]) for _ in range(self.most - len(free))]
        self.seats = [Seat(bundle, group, i, 0) for group in self.groups for i in range(group.bundle_count)]
        if not self.groups[0].wait(max(1.0, deadline - time.monotonic())):
            raise ResourcesError(
                f"there was room for {len(free)} workers, but others took it before it could be reserved "
                f"({said_of(places_of(self.request))}): try again, or ask for fewer"
            )

    def fill(self, *values: Any) -> None:
        super().fill(*values)
        for peer in self.members:
            peer.has_state = False

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with contextlib.suppress(Exception):  # Ray itself may be gone
            self.call_off()
            self.drain(LATE_SECONDS)
            self.fetch()
        self.completed = self.held  # of what could not be had any more nothing is left
        peers = [*self.members, *self.joining]
        with contextlib.suppress(Exception):
            closed = [peer.agent.answer.remote(CLOSING, ("close",)) for peer in peers]
            ray.wait(closed, num_returns=len(closed), timeout=10.0)
        for agent in [peer.agent for peer in peers] + [launched.agent for launched in self.launched.values()]:
            with contextlib.suppress(Exception):
                ray.kill(agent)
        for peer in peers:
            peer.channel.close()
        for group in self.groups:
            with contextlib.suppress(Exception):
                remove_placement_group(group)
        if self.home is not None:
            self.home.end()

    # ----- who is there -----

    def launch(self, count: int) -> None:
        """Ray places the bundles of a lost node anew by itself; `welcome` sees where."""

    def welcome(self, patience: float = 0.0) -> None:
        if self.workers + sum(peer.workers for peer in self.joining) >= self.most:
            return
        if time.monotonic() - self.looked > LOOK_SECONDS:
            self.looked = time.monotonic()
            self.start_agents()
            self.count_workers()
        calls = {launched.facts: node for node, launched in self.launched.items()}
        if calls:
            for call in ray.wait(list(calls), num_returns=1, timeout=patience)[0]:
                self.introduce(calls[call], call)
        elif patience:
            time.sleep(min(patience, 0.05))

    def start_agents(self) -> None:
        """Agents on nodes where there are seats and none yet; and to those that are there, seats that are new."""
        there = {peer.node: peer for peer in [*self.members, *self.joining]}
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        seats: dict[str, list[Seat]] = {}
        nodes = {seat.group: placement_group_table(seat.group)["bundles_to_node_id"] for seat in self.seats}
        for seat in self.seats:
            node = nodes[seat.group].get(seat.bundle)  # none while Ray places the bundle anew
            if node in alive - set(self.launched) and time.monotonic() > self.avoided.get(node, 0.0):
                seats.setdefault(node, []).append(seat)
        for node in set(seats) & set(there):
            self.enlarge(there[node], seats.pop(node))
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "concurrency_groups": {"beside": 4}}
        options["max_task_retries"] = -1  # after a cut of the link that was shorter than Ray's patience
        Actor: Any = ray.remote(**options)(Agent)
        for node, mine in seats.items():
            here: Any = NodeAffinitySchedulingStrategy(node, soft=False)
            agent = Actor.options(scheduling_strategy=here).remote()
            self.launched[node] = Launched(agent, agent.facts.remote(), mine)

    def enlarge(self, peer: Machine, seats: list[Seat]) -> None:
        """Gives an idle machine those seats that it does not have."""
        new = [seat for seat in seats if seat not in peer.seats]
        if new and not peer.awaited:
            self.asked(peer, "enlarge", new)
            peer.seats += new

    def count_workers(self) -> None:
        """Asks machines that are idle, and have seats without workers, whether some have come."""
        for peer in list(self.members):
            if peer.workers < len(peer.seats) and not peer.awaited:
                before, peer.workers = peer.workers, self.asked(peer, "workers") or 0
                self.formed &= peer.workers == before  # they have shares by their workers

    def asked(self, peer: Machine, *message: Any) -> Any:
        """What an idle machine answers; None where it does not, and is given up."""
        try:
            peer.tell(message)
            return replies_of([peer], self.patience(self.median))[0]
        except (EOFError, Lost) as error:
            lost = Lost([peer], late=isinstance(error, Lost) and error.late)
            if peer in self.members:
                self.describe_and_count(lost, "idle")
            self.put_down([peer])
            self.members = [other for other in self.members if other is not peer]
            self.joining = [other for other in self.joining if other is not peer]

    def introduce(self, node: str, call: Any) -> None:
        """Takes in a machine that says what it is, and gives it what it must know."""
        agent, _, seats = self.launched.pop(node)
        try:
            there: Facts = ray.get(call)
        except ray.exceptions.RayError as error:
            self.avoided[node] = time.monotonic() + AGAIN_SECONDS
            self.count_failed_start(f"the agent on node {node[:8]} was lost while starting: {last_line(error)}")
            return
        for said in differences(facts(), there):
            self.warn(said)
        peer = Machine(self.numbers, agent, node, there.host, seats, self.call_off)
        self.numbers += 1
        # It gives up before this waits no more for it, and says why.
        peer.tell(("open", self.payload, seats, 0.8 * self.start_timeout, self.max_failures))
        for number, known in self.known.items():
            self.give(peer, number, known)
        self.joining.append(peer)

    def ready(self) -> list[Peer]:
        try:
            return super().ready()
        except ResourcesError as error:
            if not self.members:
                raise
            self.warn(f"a machine that was to join is left out: {error}")
            return []

    def form(self) -> None:
        """Gives the machines their shares of the shards, and to those that have none yet the state."""
        # The large ones first: ranges of equal machines are then nodes of the tree more often, and less is sent.
        self.members.sort(key=lambda peer: (-peer.workers, peer.number))
        self.hand_state()
        self.placement += 1
        shares = shares_of([max(peer.workers, 1) for peer in self.members], self.arena.layout.shards)
        agents = [peer.agent for peer in self.members]
        for place, (peer, share) in enumerate(zip(self.members, shares)):
            peer.share = share
            self.tell_one(peer, ("join", self.placement, place, shares, agents, self.completed))
        self.collect(self.patience(self.median))
        self.formed = True

    def number_of(self, data: Data) -> int:
        self.hand_state()
        number = super().number_of(data)
        for known in self.known.values():
            known.recipe.kept.clear()  # every machine has it; for one that joins it is put there again
        return number

    # ----- state -----

    def hand_state(self) -> None:
        """Gives the current half to those members that do not have it, from one that does, or from here."""
        without = [peer for peer in self.members if not peer.has_state]
        if not without:
            return
        source: Any = next((peer for peer in self.members if peer.has_state), None)
        half = self.arena.halves[self.completed % 2]
        count = len(arrays_of(half))
        refs = (
            [ray.put(array) for array in arrays_of(half)]
            if source is None or self.held == self.completed
            else source.agent.state.options(num_returns=count).remote(self.completed % 2)
        )
        for peer in without:
            self.tell_one(peer, ("adopt", self.completed, refs if isinstance(refs, list) else [refs]))
        try:
            self.collect(self.patience(self.median), without)
        except CalledOff:  # what they were to have cannot be had any more
            raise Lost([source]) from None
        for peer in without:
            peer.has_state, peer.completed = True, self.completed

    def fetch(self) -> None:
        """The current half, from any machine, into the driver's own arena."""
        count = len(arrays_of(self.arena.halves[0]))
        for peer in self.members:
            if self.held == self.completed or not peer.has_state:
                continue
            refs = peer.agent.state.options(num_returns=count).remote(self.completed % 2)
            with contextlib.suppress(ray.exceptions.RayError):  # it was lost, and another one has it, too
                arrays = ray.get(refs if isinstance(refs, list) else [refs], timeout=LATE_SECONDS)
                adopt(self.arena, self.completed % 2, arrays)
                self.held = self.completed

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        if self.held != self.completed and not any(peer.has_state for peer in self.members):
            raise WorkerLostError(f"every machine was lost, and with them what came after {self.held} steps")
        self.done.clear()
        self.repeated = 0
        try:
            yield from super().run(data, steps, clip_norm)
        finally:
            if not any(peer.awaited for peer in self.members):
                self.fetch()

    def completed_of(self, taken: deque[Step], count: int) -> Iterator[StepResult]:
        """Where every machine was lost, steps go back to those to be taken, and their results are not given again."""
        for _ in range(-count):
            taken.appendleft(self.done.pop())
        self.repeated += max(-count, 0)
        for _ in range(count):
            self.done.append(taken[0])
            if self.repeated:
                self.repeated -= 1
                taken.popleft()
            else:
                yield from super().completed_of(taken, 1)

    # ----- progress and losses -----

    def note(self, peer: Peer, reply: Any) -> None:
        assert isinstance(peer, Machine)
        if isinstance(reply, Progress):
            peer.completed, peer.workers = reply.completed, reply.workers
            peer.sent, peer.steps = peer.sent + reply.sent[0], peer.steps + reply.sent[1]
            newer = reply.results[:, :1] > self.arena.results[:, :1]  # one that has joined has none of before
            np.copyto(self.arena.results, reply.results, where=newer)
            self.arena.seconds[0] += reply.seconds
            for said in reply.said:
                self.warn(f"{peer.title}: {said}")

    def collect(self, patience: float = LATE_SECONDS, peers: list[Any] | None = None) -> None:
        super().collect(patience, peers)
        if self.workers < self.least:
            raise Lost([])  # all stop, and wait for more

    def reached(self) -> int:
        return min((peer.completed for peer in self.members if not peer.is_gone), default=self.held)

    def settle(self) -> None:
        """Asks the machines, which do not work any more, how far they are."""
        there = [peer for peer in self.members if not peer.is_gone and peer.has_state]
        for peer in there:
            self.note(peer, self.asked(peer, "reached"))
        super().settle()

    @property
    def traffic(self) -> list[Traffic]:
        """What each machine has sent to others."""
        return [*self.passed.values(), *(Traffic(peer.title, peer.steps, peer.sent) for peer in self.members)]

    def sent(self) -> tuple[int, int]:
        traffic = self.traffic
        return sum(one.bytes for one in traffic), sum(one.steps for one in traffic)

    def patience(self, median: Median) -> float:
        """A machine may have to replace all its workers in the meantime."""
        return super().patience(median) + self.start_timeout

    def are_excused(self) -> bool:
        """Hears first from those that are well how far they are, which `reached` then knows."""
        for peer, (completed, _) in self.whereabouts(self.members)[0].items():
            peer.completed = max(peer.completed, completed)
        return False

    def latest(self, peers: list[Any]) -> list[Any]:
        """Those that do not say where they are; or that wait for nobody; or the one that most others wait for."""
        said, silent = self.whereabouts(peers)
        if silent:
            return silent
        working = [peer for peer, (_, place) in said.items() if place is None]
        awaited = Counter(place for _, place in said.values() if place is not None)
        return working or [self.members[place] for place, _ in awaited.most_common(1)]

    def whereabouts(self, peers: list[Any]) -> tuple[dict[Any, tuple[int, int | None]], list[Any]]:
        """What these say: their completed steps, and the machine they wait for. Then those that say nothing."""
        calls = {peer.agent.whereabouts.remote(): peer for peer in peers}
        answered, silent = ray.wait(list(calls), num_returns=len(calls), timeout=ANSWER_SECONDS)
        said, gone = {}, [calls[call] for call in silent]
        for call in answered:
            try:
                said[calls[call]] = ray.get(call)
            except ray.exceptions.RayError:
                gone.append(calls[call])
        return said, gone

    def doing(self, peer: Peer) -> str:
        return f"taking part in the step after {self.reached()}"

    def shards_of(self, peer: Any) -> range:
        return peer.share

    def put_down(self, peers: list[Any]) -> None:
        """Nobody hears these any more: the placement that they know of is called off."""
        for peer in peers:
            peer.is_gone, peer.has_state, peer.awaited = True, False, 0
            self.avoided[peer.node] = time.monotonic() + AGAIN_SECONDS
            self.passed[peer.number] = Traffic(peer.title, peer.steps, peer.sent)
            peer.channel.close()
            with contextlib.suppress(Exception):
                ray.kill(peer.agent)
            self.call_off(peer)

    def call_off(self, lost: Machine | None = None) -> None:
        """Nobody waits any more for a machine that was lost, or for any."""
        for peer in self.members if lost is None or lost in self.members else ():
            self.formed = False
            if not peer.is_gone:
                peer.agent.call_off.remote(self.placement)

    # ----- data sets -----

    def mark_of(self, data: Data) -> Any:
        return mark_of(cloudpickle, data)

    def share(self, data: Data, mark: Any) -> SharedData:
        return SharedData(data, mark, MachineRecipe(data), None)

    def give(self, peer: Peer, number: int, known: SharedData) -> None:
        peer.tell(("take", number, *known.recipe.as_sent()))


class MachineRecipe:
    """A data set as machines are given it: files by their paths, arrays once through the object store, or an object."""

    def __init__(self, data: Any):
        self.data = data
        self.object = None if type(data) is ArrayData else make_recipe(cloudpickle, data)[0]
        self.kept: list[Any] = []

    def as_sent(self) -> tuple[Any, list[Any]]:
        if self.object is not None:
            return self.object, []
        if not self.kept:
            recipes = [recipe_of(array, Cutter()) for array in self.data.arrays]
            self.kept = [
                recipe if recipe.path is not None else ray.put(array)
                for recipe, array in zip(recipes, self.data.arrays)
            ]
        return None, self.kept


# ----- before anything starts -----


def make_pool(workers: Any, request: Request, start_timeout: float, max_failures: int) -> CrewPool:
    """The pool for a Ray that is there already: of this machine alone where all workers have room on it."""
    home = None if ray.is_initialized() else Home(request.address, workers.most)
    try:
        if home is not None:
            home.start()
            while not home.is_there(0.2):
                pass
        request = with_group(request, start_timeout)
        places, here = places_of(request), this_node()
        free = sum(len(place.seats(request, place.free)) for place in places if place.node == here)
        is_alone = free >= workers.most or {place.node for place in places} == {here}
        kind: Any = RayPool if is_alone else ClusterPool
        pool = kind(workers, request, start_timeout, max_failures)
        pool.home = home
        return pool
    except BaseException:
        if home is not None:
            home.end()
        raise


def differences(here: Facts, there: Facts) -> Iterator[str]:
    """What of another machine is to be warned of; what cannot work is raised."""
    for name in ("python", "ray", "pargrad"):
        mine, other = getattr(here, name), getattr(there, name)
        if mine != other:
            raise ResourcesError(
                f"machine {there.host} has {name} {other}, and this one {mine}: install the same on every machine"
            )
    for name in ("numpy", "processor"):
        mine, other = getattr(here, name), getattr(there, name)
        if mine != other:
            yield (
                f"machine {there.host} has {name} {other}, and this one {mine}: the same bits are promised for "
                "machines of one kind"
            )
