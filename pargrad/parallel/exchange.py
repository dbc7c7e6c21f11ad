"""Exchanges: how the shards of a batch tell each other, in the middle of a step, what a layer needs of all of them.

A SyncBatchNorm needs sums over all shards, which several processes compute. So each of them runs its shards in turns,
every shard in a thread of its own, one at a time and in ascending order: a shard runs until it has something to
exchange, writes its numbers into its row of the arena, and waits. When all shards of a process have done so it meets
the other processes. Then every row is there, and everyone merges them in the fixed tree, so that all go on with the
same bits. Rows are there twice, for exchanges of even and odd number: a process that is fast does not write over what
a slow one still reads, since it cannot be two meetings ahead.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
from collections.abc import Callable, Iterable
from operator import is_
from queue import SimpleQueue
from typing import Any

import numpy as np

from pargrad.modes import anomaly
from pargrad.nn import Module, SyncBatchNorm
from pargrad.parallel.arena import Arena
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.shards import reduce_tree, shard_slice
from pargrad.parallel.statistics import Moments, no_exchange

ENDED = 0  # in the place of what is exchanged: the shard's run is over
OFF = object()  # in the place of a reply: there is none to come
ShardThread = threading.Thread


def exchange_width(model: Module) -> int:
    """The most numbers that a shard hands over at once: a count, means and squared deviations; 0 if it never does."""
    layers = [module for module in Module.modules(model) if isinstance(module, SyncBatchNorm)]
    return max((1 + 2 * layer.num_features for layer in layers), default=0)


class Lockstep:
    """A process's part in the exchanges of a model on the arena."""

    def __init__(self, arena: Arena, model: Module):
        self.arena = arena
        self.layers = [named for named in Module.named_modules(model) if isinstance(named[1], SyncBatchNorm)]
        self.places = {id(layer): place for place, (_, layer) in enumerate(self.layers)}
        # What a shard may set and find again after an exchange. Modes, generators and collectors are each thread's own.
        self.shared = [*Module.modules(model), anomaly]

    def run(
        self, shards: Iterable[int], work: Callable[[ShardRun], None], examples: int, meet: Callable[[], None]
    ) -> None:
        """Does the work of these shards of a batch of so many examples, while others do that of the other shards.

        An error of one shard ends the others, and is raised when none of them runs any more; so is CalledOff.
        """
        present = [shard for shard in range(self.arena.layout.shards) if holds_examples(self.arena, shard, examples)]
        runs = [ShardRun(self, shard, work) for shard in shards]
        reply = None
        try:
            for number in itertools.count():
                for run in runs:
                    run.go_on(reply)
                meet()  # every shard's row is there
                kind = self.agreed(number % 2, present)
                if kind == ENDED:
                    return
                reply = self.merged(number % 2, kind, present)
        finally:
            for run in runs:
                run.end()

    # ----- rows -----

    def write(self, number: int, shard: int, kind: int, numbers: np.ndarray | None = None) -> None:
        self.arena.exchanged[number % 2, shard] = kind
        if numbers is not None:
            self.arena.exchanges[number % 2, shard, : numbers.size] = numbers

    def kind_of(self, layer: Any, backward: bool) -> int:
        if id(layer) not in self.places:
            no_exchange(layer)
        return 1 + 2 * self.places[id(layer)] + backward

    def agreed(self, half: int, present: list[int]) -> int:
        """What all shards exchange: those of one batch must do it in the same order and number."""
        kinds = {shard: int(self.arena.exchanged[half, shard]) for shard in present}
        first = present[0]
        other = next((shard for shard in present if kinds[shard] != kinds[first]), first)
        if other != first:
            raise RuntimeError(
                "the shards of a batch must go through the same SyncBatchNorm layers in the same order, but shard "
                f"{first} is at {self.name_of(kinds[first])}, and shard {other} at {self.name_of(kinds[other])}. Do "
                "not let a shard's data decide which of these layers are called, or write BatchNorm, which sees its "
                "own shard only"
            )
        return kinds[first]

    def name_of(self, kind: int) -> str:
        if kind == ENDED:
            return "its end"
        place, backward = divmod(kind - 1, 2)
        return f"the {'backward' if backward else 'forward'} pass of {self.layers[place][0] or 'the model'}"

    def merged(self, half: int, kind: int, present: list[int]) -> Any:
        """What all shards found: Moments going forward, sums going backward."""
        place, backward = divmod(kind - 1, 2)
        features = self.layers[place][1].num_features  # type: ignore[attr-defined]
        rows: list[Any] = [None] * self.arena.layout.shards
        for shard in present:
            rows[shard] = self.arena.exchanges[half, shard, : 2 * features + (not backward)].copy()
        if backward:
            return reduce_tree(rows, np.add)
        parts = [None if row is None else Moments(float(row[0]), *row[1:].reshape(2, -1)) for row in rows]
        # A shard without values, of images without pixels, has no mean: it is absent, as an empty shard is.
        whole = reduce_tree([part if part and part.weight else None for part in parts], Moments.merged)
        return whole or parts[present[0]]


def holds_examples(arena: Arena, shard: int, examples: int) -> bool:
    part = shard_slice(shard, arena.layout.shards, examples)
    return part.start < part.stop


class ShardRun:
    """The work of one shard, in a thread that goes on when it is told to."""

    def __init__(self, lockstep: Lockstep, shard: int, work: Callable[[ShardRun], None]):
        self.lockstep = lockstep
        self.shard = shard
        self.exchanges = 0
        self.kept = attributes(lockstep.shared)
        self.replies: SimpleQueue = SimpleQueue()
        self.turns: SimpleQueue = SimpleQueue()  # that were given back
        self.over = False
        self.error: BaseException | None = None
        # In this thread's context, which has numpy's errstate; a daemon, so that a second Ctrl-C leaves none behind.
        self.thread = ShardThread(
            target=contextvars.copy_context().run, args=(self.begin, work), name=f"pargrad-shard-{shard}", daemon=True
        )

    # ----- in the thread of the process -----

    def go_on(self, reply: Any) -> None:
        """Lets it run until its next exchange, or its end; raises what it raised."""
        if self.over:  # an empty shard's, while others have something to exchange
            return
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.replies.put(reply)
        self.turns.get()
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """Sees to it that the thread is gone: one that waits in an exchange leaves it with CalledOff."""
        self.replies.put(OFF)
        if self.thread.ident is not None:
            self.thread.join()
        self.error = None  # which holds this by its traceback

    # ----- in the shard's own -----

    def begin(self, work: Callable[[ShardRun], None]) -> None:
        try:
            restore(self.lockstep.shared, self.kept)
            work(self)
            self.lockstep.write(self.exchanges, self.shard, ENDED)
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            self.turns.put(None)

    def exchange(self, layer: Any, backward: bool, numbers: np.ndarray) -> Any:
        """Hands over the shard's numbers, float64, and gives what all shards' came to, which is not to be written."""
        self.lockstep.write(self.exchanges, self.shard, self.lockstep.kind_of(layer, backward), numbers)
        self.exchanges += 1
        self.kept = attributes(self.lockstep.shared)
        self.turns.put(None)
        reply = self.replies.get()
        restore(self.lockstep.shared, self.kept)
        if reply is OFF:
            self.replies.put(OFF)  # also for a model that catches the error, and goes on
            raise CalledOff
        return reply


# ----- what shards share -----


def attributes(shared: list[Any]) -> list[dict[str, Any]]:
    return [dict(vars(each)) for each in shared]


def restore(shared: list[Any], kept: list[dict[str, Any]]) -> None:
    """Gives modules the attributes that they had: a loss may read what forward has left on them."""
    for each, before in zip(shared, kept):
        now = vars(each)
        if len(now) != len(before) or not all(map(is_, now.values(), before.values())):
            now.clear()
            now.update(before)
