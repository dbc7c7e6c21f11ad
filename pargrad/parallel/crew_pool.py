"""The pool whose steps are taken by a crew of peers, of which any may be lost, and others may come, at any time.

Here is what it does whoever its peers are: workers, which are processes of this machine, or whole machines. What has
to be asked of them, whom a loss costs its place, what is done again, and when it is too much.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from pargrad.data import Data
from pargrad.parallel.crew import (
    FIRST_LATE_SECONDS,
    LATE_SECONDS,
    Lost,
    Median,
    Peer,
    first_failure,
    replies_of,
    tell_all,
)
from pargrad.parallel.errors import ResourcesError, WorkerLostError
from pargrad.parallel.payload import SharedData
from pargrad.parallel.pool import Pool, result_of
from pargrad.parallel.step import Chunk, Step, StepResult
from pargrad.parallel.worker import Failure

KEPT_DATA_SETS = 4
SAY_SECONDS = 5.0  # of waiting, before it is said for what
AHEAD_SECONDS, MOST_AHEAD = 0.05, 64  # of work that is sent to the peers at once, and the most steps of it
CHUNKS_SECONDS = 0.02  # of an evaluation that a worker is sent at once


class Waiting:
    """For how long workers have been waited for, and whether that was said."""

    def __init__(self, timeout: float, failures: int):
        self.deadline = time.monotonic() + timeout
        self.say_at = time.monotonic() + SAY_SECONDS
        self.failures = failures


class CrewPool(Pool):
    """Steps on peers: `workers.first` workers to begin with, up to `most`, no fewer than `least`. Abstract.

    A peer that is lost is replaced. Until its replacement is there, the others take over its shards: what they have
    computed of the step is kept, the step is applied once, and the bits are those of an undisturbed run.
    """

    def __init__(self, workers: Any, start_timeout: float, max_failures: int):
        self.first, self.least, self.most = workers
        self.start_timeout = start_timeout
        self.max_failures = max_failures
        self.failures = self.failures_in_all = 0  # in a row without a completed step, and altogether
        self.failed_at = -1  # steps that were completed at the last failure
        self.failed_starts = 0  # in a row without one that became a member
        self.joining: list[Any] = []  # that were told all they must know, and are at it
        self.members: list[Any] = []  # peers
        self.formed = False  # whether the members have their places, and hear of each other
        self.known: dict[int, SharedData] = {}  # by number
        self.data_sets = 0
        self.attempts = 0
        self.median = Median()
        self.enough = self.first  # workers to go on with: to begin with those, later the least
        self.waiting: Waiting | None = None
        self.closed = False

    def leave(self) -> None:
        self.closed = True
        # An end that a second process held open would keep workers from seeing that the first one is gone.
        for peer in [*self.members, *self.joining]:
            peer.channel.close()
        for known in self.known.values():
            known.close()

    # ----- what depends on who the peers are -----

    def launch(self, count: int) -> None:
        """Starts so many peers; `welcome` takes them in when they are there."""
        raise NotImplementedError

    def welcome(self, patience: float = 0.0) -> None:
        """Takes in peers that are there, into `joining`, and tells them the model and the data."""
        raise NotImplementedError

    def form(self) -> None:
        """Gives the members their places."""
        raise NotImplementedError

    def reached(self) -> int:
        """The steps that every member has finished."""
        raise NotImplementedError

    def latest(self, peers: list[Peer]) -> list[Peer]:
        """Of those that have not answered, the ones that the others wait for."""
        raise NotImplementedError

    def are_excused(self) -> bool:
        """Whether members that are late wait for somebody who is none of them."""
        return False

    def patience(self, median: Median) -> float:
        """The seconds after which something is late that takes this median."""
        return median.patience()

    def note(self, peer: Peer, reply: Any) -> None:
        """Takes up what a member says of what it has done."""

    def warn(self, what: str) -> None:
        warnings.warn(what, stacklevel=3)

    def doing(self, peer: Peer) -> str:
        """What a member was last seen to do."""
        raise NotImplementedError

    def shards_of(self, peer: Peer) -> range:
        """The shards that a member owns."""
        raise NotImplementedError

    def put_down(self, peers: list[Any]) -> None:
        """Sees to it that these are gone."""
        raise NotImplementedError

    def mark_of(self, data: Data) -> Any:
        """By what it is seen that a data set was changed since it was shared."""
        raise NotImplementedError

    def share(self, data: Data, mark: Any) -> SharedData:
        """A data set as it can be given to the peers."""
        raise NotImplementedError

    def give(self, peer: Peer, number: int, known: SharedData) -> None:
        """Gives a peer a data set under its number. A peer that is gone raises EOFError."""
        raise NotImplementedError

    # ----- who is there -----

    def ready(self) -> list[Peer]:
        """Of those that are joining, the ones that know all they must."""
        for peer in list(self.joining):
            try:
                while peer.awaited and peer.has_answered():
                    reply = peer.reply()
                    if isinstance(reply, Failure):  # so would any other that takes its place
                        self.joining.remove(peer)
                        self.give_up([peer])
                        raise reply.as_error()
            except EOFError:
                self.bury(peer, "was lost while joining")
            else:
                if peer.awaited and time.monotonic() - peer.since > self.start_timeout:
                    self.bury(peer, f"did not answer within {self.start_timeout:g} s while joining, and is given up")
        return [peer for peer in self.joining if not peer.awaited]

    def arrived(self, count: int, patience: float = 0.0) -> bool:
        """Whether so many workers are members, when those that are ready have become it; raises after too long."""
        if self.workers < count:
            self.admit(self.admissible(count))
        if self.workers >= count:
            self.waiting = None
            return True
        self.waiting = waiting = self.waiting or Waiting(self.start_timeout, self.failures_in_all)
        self.welcome(patience)
        if time.monotonic() > waiting.say_at and self.members:
            self.warn(f"waiting for workers: {self.workers} are there, {count} are wanted")
            waiting.say_at = math.inf
        if self.failures_in_all > waiting.failures:  # those who take the places of others have their time, too
            waiting.failures, waiting.deadline = self.failures_in_all, time.monotonic() + self.start_timeout
        if time.monotonic() > waiting.deadline and not any(peer.awaited for peer in self.joining):
            raise ResourcesError(
                f"{self.workers} of {count} workers were there after {self.start_timeout:g} s: free some "
                "cores, ask for fewer workers, or allow a longer start_timeout"
            )
        return False

    def wait_for(self, count: int) -> None:
        """Waits until there are so many members, saying after a while what is there and what is wanted."""
        while not self.arrived(count, 0.2):
            pass

    def wait_for_workers(self) -> None:
        self.wait_for(self.enough)

    @property
    def workers(self) -> int:
        """How many workers the members are, or have."""
        return sum(peer.workers for peer in self.members)

    def admissible(self, most: int) -> list[Peer]:
        """Of those that are ready, as many as bring the members to so many workers."""
        chosen: list[Peer] = []
        for peer in self.ready():
            if self.workers + sum(other.workers for other in chosen) < most:
                chosen.append(peer)
        return chosen

    def admit(self, peers: list[Peer]) -> None:
        """Makes peers members, who get places when `form` is called."""
        for peer in peers:
            self.joining.remove(peer)
            self.members.append(peer)
            self.formed, self.failed_starts = False, 0

    def newcomers(self) -> list[Peer]:
        """Peers that are ready to become members, as many as may."""
        self.welcome()
        return self.admissible(self.most) if self.joining else []

    # ----- losses -----

    def give_up(self, peers: list[Any]) -> None:
        """Puts peers down, of whom nothing is awaited any more."""
        self.put_down(peers)
        for peer in peers:
            peer.awaited = 0

    def recover(self, lost: Lost) -> None:
        """Goes on without the peers that were lost: the others stop, and take new places.

        Raises WorkerLostError when there were too many failures in a row, and a failure of the user's own code.
        """
        if lost.late:
            lost = Lost(self.latest(lost.peers), late=True)
        self.describe_and_count(lost)
        self.give_up(lost.peers)
        failure = self.drain(self.patience(self.median), lost.peers)
        self.launch(len(lost.peers))
        if failure is not None:
            raise failure.as_error()

    def drain(self, patience: float, gone: Sequence[Peer] = ()) -> Failure | None:
        """Waits until nobody works any more; gives the failure that made them stop, if one of the user's code did."""
        failure, gone = None, list(gone)
        for peer in [peer for peer in self.members if peer not in gone]:
            try:
                while peer.awaited:
                    (reply,) = replies_of([peer], patience)
                    failure = failure or (reply if isinstance(reply, Failure) and not reply.called_off else None)
            except Lost as lost:
                self.describe_and_count(lost)
                self.give_up([peer])
                self.launch(1)
                gone.append(peer)
        self.settle()
        self.formed = False  # first: `progress` is that of the places that members had
        self.members = [peer for peer in self.members if peer not in gone]
        return failure

    def settle(self) -> None:
        """What is complete when nobody works any more."""
        self.completed = self.reached()

    def describe_and_count(self, lost: Lost, doing: str | None = None) -> None:
        for peer in lost.peers:
            self.count_failure(
                f"{peer.title} was {'late and given up' if lost.late else 'lost'} while {doing or self.doing(peer)}; "
                f"its shards: {list(self.shards_of(peer))}"
            )

    def count_failure(self, what: str) -> None:
        """A failure more, of which so many in a row without a completed step are too many."""
        reached = self.reached()
        self.failures = 1 if reached > self.failed_at else self.failures + 1
        self.failed_at = reached
        self.end_if_too_many(self.failures, "without a completed step", what)

    def count_failed_start(self, what: str) -> None:
        """One more of those who never became members; whoever goes on with the steps meanwhile, they are too many."""
        self.failed_starts += 1
        self.end_if_too_many(self.failed_starts, "without a worker that started", what)

    def end_if_too_many(self, failures: int, without: str, what: str) -> None:
        self.failures_in_all += 1
        self.lost += (what,)
        if failures > self.max_failures:
            raise WorkerLostError(
                f"{what}. That is failure {failures} in a row {without}, and max_failures is {self.max_failures} "
                f"({self.failures_in_all} in all). Was it killed, or out of memory? The model has the parameters of "
                "the last completed step"
            )
        self.warn(f"{what}. The others take over, and a replacement is started")

    def bury(self, peer: Peer, what: str) -> None:
        """Replaces one that was joining."""
        self.joining.remove(peer)
        self.give_up([peer])
        self.count_failed_start(f"{peer.title} {what}")
        self.launch(1)

    # ----- messages -----

    def ask(self, *message: Any) -> None:
        tell_all(self.members, message)
        self.collect()

    def collect(self, patience: float = LATE_SECONDS, peers: list[Any] | None = None) -> None:
        """One reply of every member, or of these; a failure is raised when all have answered.

        A message may ask for many steps, and its peers are late when one step is: when in all the time of patience
        none was completed.
        """
        peers = self.members if peers is None else peers
        reached = self.reached()

        def are_excused() -> bool:
            nonlocal reached
            excused = self.are_excused()
            before, reached = reached, self.reached()
            return excused or reached > before

        replies = replies_of(peers, patience, are_excused)
        failure = first_failure(replies)
        if failure is not None:
            raise failure.as_error()
        for peer, reply in zip(peers, replies):
            self.note(peer, reply)

    def check_idle(self) -> None:
        """Before anything is asked of the members."""
        if self.closed or any(peer.awaited for peer in self.members):
            raise RuntimeError("the trainer was interrupted in the middle of a step and cannot go on: make a new one")

    def tell_one(self, peer: Peer, message: Any) -> None:
        try:
            peer.tell(message)
        except EOFError:
            raise Lost([peer]) from None

    def reply_of(self, peer: Peer) -> Any:
        try:
            return peer.reply()
        except EOFError:
            raise Lost([peer]) from None

    # ----- data sets -----

    def number_of(self, data: Data) -> int:
        """The number under which the peers have this data set, which they are given when it is new."""
        mark = self.mark_of(data)
        for number, known in self.known.items():
            if known.is_of(data, mark):
                return number
        number, self.data_sets = self.data_sets, self.data_sets + 1
        known = self.known[number] = self.share(data, mark)
        for peer in [*self.members, *self.joining]:
            with contextlib.suppress(EOFError):  # its end is seen when it is asked for something
                self.give(peer, number, known)
        self.collect(self.patience(Median()))  # how long it takes is not known
        while len(self.known) > KEPT_DATA_SETS:
            oldest = next(iter(self.known))
            self.known.pop(oldest).close()
            self.ask("forget", oldest)
        return number

    # ----- what a pool does -----

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        self.check_idle()
        self.runs += 1
        source = iter(steps)
        taken: deque[Step] = deque()  # steps that are not completed yet, the oldest first
        try:
            while True:
                try:
                    if (yield from self.until_enough(data, source, taken, clip_norm)):
                        yield from self.attempt(data, source, taken, clip_norm)
                    return
                except Lost as lost:
                    before = self.completed
                    self.recover(lost)
                    yield from self.completed_of(taken, self.completed - before)
        except WorkerLostError:
            raise  # `close` waits until nobody works any more, and then sees what is complete
        except (Exception, GeneratorExit):
            # Whatever went wrong, and where: what was sent is answered, and what everyone finished is what is done.
            self.drain(FIRST_LATE_SECONDS)
            raise
        finally:
            self.replica.select(self.completed % 2)

    def until_enough(
        self, data: Data, source: Iterator[Step], taken: deque[Step], clip_norm: float | None
    ) -> Generator[StepResult, None, bool]:
        """What is done while there are too few workers; whether there may be steps left."""
        self.wait_for(self.enough)
        yield from ()
        return True

    def attempt(
        self, data: Data, source: Iterator[Step], taken: deque[Step], clip_norm: float | None
    ) -> Iterator[StepResult]:
        """Takes steps until there are none left, or a peer is lost."""
        number = self.number_of(data)
        self.attempts += 1
        sent, size = 0, 1  # of those taken, how many are with the peers; and how many to send at once
        flying: deque[int] = deque()  # lengths of the batches of steps that are under way
        began = time.perf_counter()
        while True:
            newcomers = self.newcomers()
            if not flying and (newcomers or not self.formed):
                self.admit(newcomers)
                self.form()
                self.enough = self.least
                self.attempts += 1
                newcomers = []
            while len(flying) < 2 and not newcomers:  # who wants to join does so when nothing is under way
                taken.extend(itertools.islice(source, max(0, size - (len(taken) - sent))))
                batch = list(itertools.islice(taken, sent, sent + size))
                if not batch:
                    break
                tell_all(
                    self.members,
                    ("steps", self.attempts, self.runs, number, batch, self.completed + sent, clip_norm),
                )
                flying.append(len(batch))
                sent += len(batch)
            if not flying:
                return
            self.collect(self.patience(self.median))
            count = flying.popleft()
            sent -= count
            self.completed += count
            now = time.perf_counter()
            self.median.add((now - began) / count)
            size = max(1, min(MOST_AHEAD, round(AHEAD_SECONDS * count / (now - began))))
            began = now
            yield from self.completed_of(taken, count)

    def completed_of(self, taken: deque[Step], count: int) -> Iterator[StepResult]:
        for _ in range(count):
            yield result_of(self.arena, taken.popleft())

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        self.check_idle()
        while True:
            self.wait_for(1)
            try:
                number = self.number_of(data)
                break
            except Lost as lost:
                self.recover(lost)
        waiting = deque(chunks)
        given: dict[Peer, deque[list[Chunk]]] = {peer: deque() for peer in self.members}
        failure, pace = None, math.inf
        median = Median()  # of the messages' times
        while waiting or any(given.values()):
            try:
                # Two messages a peer: the next one is there when the first is done.
                for peer, mine in itertools.product(self.members, range(2)):
                    if peer.workers and waiting and failure is None and len(given[peer]) <= mine:
                        count = peer.workers * at_once(pace, len(waiting), self.workers)
                        given[peer].append([waiting.popleft() for _ in range(min(count, len(waiting)))])
                        self.tell_one(peer, ("evaluate", number, self.completed, given[peer][-1]))
                for peer in self.answering(given, self.patience(median)):
                    since = peer.since
                    reply = self.reply_of(peer)
                    done = given[peer].popleft()
                    median.add(peer.since - since)
                    pace = (peer.since - since) * peer.workers / len(done)
                    if isinstance(reply, Failure):
                        failure = failure or reply
                        waiting.clear()
                    elif failure is None:
                        yield from reply
            except Lost as lost:
                for peer in lost.peers:
                    waiting.extendleft(reversed(list(itertools.chain(*given.pop(peer)))))
                self.describe_and_count(lost, "evaluating")
                self.formed = False
                self.give_up(lost.peers)
                self.members = [peer for peer in self.members if peer not in lost.peers]
                self.launch(len(lost.peers))
                self.wait_for(1)
                given |= {peer: deque() for peer in self.members if peer not in given}
        if failure is not None:
            raise failure.as_error()

    def answering(self, given: dict[Peer, deque[list[Chunk]]], patience: float) -> list[Peer]:
        """Those that have answered. Lost where somebody is late, who has been at one message for all this time."""
        busy = {peer.channel.connection: peer for peer, chunks in given.items() if chunks}
        slowest = min(busy.values(), key=lambda peer: peer.since)
        left = max(0.0, slowest.since + patience - time.monotonic())
        answered = [busy[connection] for connection in wait(list(busy), left)]  # type: ignore[index]
        if not answered:
            raise Lost([slowest], late=True)
        return answered


def at_once(pace: float, left: int, workers: int) -> int:
    """How many chunks, of `pace` seconds each, a worker is sent at once: few enough that all end at about one time."""
    return max(1, min(int(CHUNKS_SECONDS / pace), left // (4 * workers)))
