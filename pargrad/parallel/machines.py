"""How machines add up a batch's gradient: a reduce-scatter and an all-gather in the order of the fixed tree.

A machine owns a contiguous range of the shards, of which its members have computed the nodes. The flat arrays are cut
into one contiguous piece a machine. Each machine sends, of the largest nodes of the tree that its range holds, the part
in piece j to machine j; machine j adds the parts up in the tree and sends the sum to all. So each machine then has the
whole sum in its own arena, and updates all of it.

Sent per machine and step: (k + 1)(M - 1)/M gradients, k the nodes of its range, M the machines. What shards say beside
their gradients (sums, divisors, which parameters were reached, statistics) goes along with the nodes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad.parallel.arena import Arena, Half, Layout
from pargrad.parallel.finite import first_of
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.shards import Node, aligned_nodes, reduce_tree

CHUNK = 1 << 23  # elements of an array that are sent at once
PIECE = 32_768  # elements that are added up at once: of a few nodes they fit a core's second-level cache

Key = tuple[int, int]  # completed steps, and the how manyth message of the step


class Segment(NamedTuple):
    """Elements [start, stop) of a dtype's flat array."""

    dtype: str
    start: int
    stop: int


class Word(NamedTuple):
    """What a machine's shards say beside their gradients; statistics: by buffer, those of all its shards."""

    sums: np.ndarray
    divisors: np.ndarray
    reached: np.ndarray
    kinds: np.ndarray
    weights: np.ndarray
    factors: np.ndarray
    statistics: dict[int, np.ndarray]


def shares_of(workers: list[int], shards: int) -> list[range]:
    """The shards of each machine, where it has so many workers: those that its workers would own one by one."""
    total, shares, before = sum(workers), [], 0
    for count in workers:
        shares.append(range(before * shards // total, (before + count) * shards // total))
        before += count
    return shares


def cut_pieces(layout: Layout, machines: int) -> list[list[Segment]]:
    """What the optimizer updates, in as many contiguous pieces, equal in elements."""
    spans: list[Segment] = []
    for spec, offset, size in sorted(
        ((spec, offset, int(np.prod(spec.shape))) for spec, offset in zip(layout.parameters, layout.offsets)),
        key=lambda one: (one[0].dtype, one[1]),
    ):
        if spec.group < 0:
            continue
        last = spans[-1] if spans else None
        if last is not None and last.dtype == spec.dtype and offset - last.stop < 64:  # the gap is alignment
            spans[-1] = last._replace(stop=offset + size)
        else:
            spans.append(Segment(spec.dtype, offset, offset + size))
    total = sum(span.stop - span.start for span in spans)
    pieces: list[list[Segment]] = []
    for machine in range(machines):
        first, end, before, piece = machine * total // machines, (machine + 1) * total // machines, 0, []
        for dtype, start, stop in spans:
            cut = Segment(dtype, start + max(0, first - before), min(stop, start + end - before))
            if cut.start < cut.stop:
                piece.append(cut)
            before += stop - start
        pieces.append(piece)
    return pieces


class Summing:
    """Sums of nodes over segments of an arena's slots.

    A part that no shard's graph reached is sent as -0.0: added to any number it leaves it as it was, to the sign of a
    zero, so the sum is that of the parts which are there.
    """

    def __init__(self, arena: Arena):
        self.arena = arena
        layout = arena.layout
        self.places = {dtype: [i for i, spec in enumerate(layout.parameters) if spec.dtype == dtype]
                       for dtype in layout.sizes}  # fmt: skip
        self.offsets = {dtype: np.array([layout.offsets[i] for i in at]) for dtype, at in self.places.items()}

    def node(self, parts: list[Node], segment: Segment) -> np.ndarray:
        """The sum of the parts of one node, in the tree's order, over a segment; it may be in a slot itself."""
        dtype, first, end = segment
        stretches = self.stretches(parts, segment)
        if len(stretches) == 1 and len(stretches[0][2]) == 1:
            return self.arena.slots[stretches[0][2][0]][dtype][first:end]
        out = np.empty(end - first, dtype)
        for start, stop, present in stretches:
            into = out[start - first : stop - first]
            if not present:
                into.fill(complex(-0.0, -0.0) if into.dtype.kind == "c" else -0.0)
            for at in range(start, stop if present else start, PIECE):
                level: list[Any] = [None] * self.arena.layout.shards
                for slot in present:
                    level[slot] = self.arena.slots[slot][dtype][at : min(at + PIECE, stop)]
                into[at - start : at - start + PIECE] = reduce_tree(level, np.add)
        return out

    def stretches(self, parts: list[Node], segment: Segment) -> list[tuple[int, int, list[int]]]:
        """The segment in runs of parameters that the same parts have reached: (start, stop, slots of those parts)."""
        dtype, first, end = segment
        starts, offsets = np.array([start for start, _ in parts]), self.offsets[dtype]
        low = int(np.searchsorted(offsets, first, "right")) - 1
        high = int(np.searchsorted(offsets, end, "left"))
        reached = self.arena.reached[starts][:, self.places[dtype][low:high]].astype(bool)
        changes = np.flatnonzero((reached[:, 1:] != reached[:, :-1]).any(axis=0)) + 1
        bounds = [first, *offsets[low + changes].tolist(), end]
        return [
            (start, stop, starts[reached[:, column]].tolist())
            for start, stop, column in zip(bounds, bounds[1:], [0, *changes.tolist()])
        ]

    def whole(self, nodes: list[tuple[int, np.ndarray]]) -> np.ndarray:
        """The sum of all machines' nodes, given as (start, values)."""
        out = np.empty_like(nodes[0][1])
        for at in range(0, len(out), PIECE):
            level: list[Any] = [None] * self.arena.layout.shards
            for start, values in nodes:
                level[start] = values[at : at + PIECE]
            out[at : at + PIECE] = reduce_tree(level, np.add)
        return out


class Mail:
    """What other machines have sent to this one. Letters bear the number of a placement; those of an earlier one,
    from a machine that was given up and does not know it, are dropped.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.placement = -1
        self.off = -1  # the latest placement that was called off
        self.held = False  # while members change, nobody waits for letters
        self.letters: dict[tuple[int, Key, int], Any] = {}
        self.awaited: int | None = None  # the machine whose letter is waited for

    def open(self, placement: int) -> None:
        """From now on letters of this placement are read."""
        with self.changed:
            self.placement = placement
            self.letters = {name: letter for name, letter in self.letters.items() if name[0] >= placement}

    def deliver(self, placement: int, sender: int, key: Key, letter: Any) -> None:
        with self.changed:
            if placement >= self.placement:
                self.letters[placement, key, sender] = letter
                self.changed.notify_all()

    def call_off(self, placement: int) -> None:
        """Nobody waits for a letter of this placement any more: a machine was lost, or failed."""
        with self.changed:
            self.off = max(self.off, placement)
            self.changed.notify_all()

    def hold(self, held: bool) -> None:
        with self.changed:
            self.held = held
            self.changed.notify_all()

    def receive(self, key: Key, sender: int) -> Any:
        """Waits for a letter, which stays until its step is over: the step may have to be taken again."""
        with self.changed:
            name = (self.placement, key, sender)
            self.awaited = sender
            try:
                self.changed.wait_for(lambda: name in self.letters or self.off >= self.placement or self.held)
            finally:
                self.awaited = None
            if self.held or self.off >= self.placement:
                raise CalledOff
            return self.letters[name]

    def forget(self, completed: int) -> None:
        """Drops what was sent for steps before this many."""
        with self.changed:
            self.letters = {name: letter for name, letter in self.letters.items() if name[1][0] >= completed}


class Envoy:
    """A machine's part in the exchanges of a step, for its members. It may be asked for one again.

    send(machines, key, message) gives other machines a message, of whose arrays it takes copies before it returns; what
    they send comes by `mail`.
    """

    def __init__(
        self,
        arena: Arena,
        machine: int,
        shares: list[range],
        mail: Mail,
        send: Callable[[list[int], Key, Any], None],
    ):
        self.arena, self.machine, self.share = arena, machine, shares[machine]
        self.mail, self.send = mail, send
        self.shares = shares
        self.others = [other for other in range(len(shares)) if other != machine]
        self.nodes = [aligned_nodes(share) for share in shares]
        self.pieces = cut_pieces(arena.layout, len(shares))
        self.summing = Summing(arena)
        self.completed, self.turn = -1, 0
        self.sent: set[Key] = set()

    def begin(self, completed: int) -> None:
        """A step begins, or begins again."""
        self.turn = 0
        if completed != self.completed:
            self.completed = completed
            self.sent.clear()
            self.mail.forget(completed)

    def swap(self, message_for: Callable[[int], Any] | None, message: Any = None) -> dict[int, Any]:
        """Sends each machine its message, or all one, if that was not done yet; gives what they sent."""
        key = (self.completed, self.turn)
        self.turn += 1
        if key not in self.sent:
            if message_for is None:
                self.send(self.others, key, message)
            else:
                for other in self.others:
                    self.send([other], key, message_for(other))
            self.sent.add(key)
        return {other: self.mail.receive(key, other) for other in self.others}

    def gradients(self, members: list[Node]) -> None:
        """The whole batch's gradient into the slot `total_slot`, from the nodes that the members have in theirs."""
        parts = [
            [(start, size) for start, size in members if first <= start < first + length]
            for first, length in self.nodes[self.machine]
        ]

        def nodes_in(piece: list[Segment]) -> list[list[np.ndarray]]:
            return [[self.summing.node(those, segment) for those in parts] for segment in piece]

        word, mine = self.word(members), nodes_in(self.pieces[self.machine])
        sent = self.swap(lambda other: (word, nodes_in(self.pieces[other])))
        reached = word.reached
        for other, (said, _) in sent.items():
            self.take_word(self.shares[other], said)
            reached = reached | said.reached
        given = {self.machine: mine, **{other: nodes for other, (_, nodes) in sent.items()}}
        sums = [
            self.summing.whole(
                [
                    (start, values)
                    for machine, nodes in given.items()
                    for (start, _), values in zip(self.nodes[machine], nodes[i])
                ]
            )
            for i in range(len(self.pieces[self.machine]))
        ]
        slot = self.arena.slots[total_slot(self.share, self.arena.layout.shards)]
        for machine, arrays in {self.machine: sums, **self.swap(None, sums)}.items():
            for (dtype, start, stop), array in zip(self.pieces[machine], arrays):
                slot[dtype][start:stop] = array
        self.arena.reached[total_slot(self.share, self.arena.layout.shards)] = reached

    def rows(self, number: int) -> None:
        """What shards hand over in the middle of a step, exchange `number` of it (see `exchange`)."""
        half, mine = number % 2, slice(self.share.start, self.share.stop)
        message = self.arena.exchanged[half, mine].copy(), self.arena.exchanges[half, mine].copy()
        for other, (kinds, numbers) in self.swap(None, message).items():
            share = slice(self.shares[other].start, self.shares[other].stop)
            self.arena.exchanged[half, share], self.arena.exchanges[half, share] = kinds, numbers

    def culprits(self, number: int, members: int) -> None:
        """The first slot in which any machine found what is not finite, as that of member `number`."""
        words = self.arena.culprits
        words[number] = 0
        found = list(self.swap(None, first_of(words[:members])).values())
        words[number] = first_of(np.array(found))

    def word(self, members: list[Node]) -> Word:
        arena, mine = self.arena, slice(self.share.start, self.share.stop)
        kinds = arena.kinds[mine].copy()
        return Word(
            arena.sums[mine].copy(),
            arena.divisors[mine].copy(),
            arena.reached[[start for start, _ in members]].max(axis=0),
            kinds,
            arena.weights[mine].copy(),
            arena.factors[mine].copy(),
            {
                place: np.stack([arena.statistics[shard][place] for shard in self.share])
                for place in np.flatnonzero(kinds.any(axis=0)).tolist()
            },
        )

    def take_word(self, share: range, word: Word) -> None:
        """What another machine's shards say, into their rows."""
        arena, rows = self.arena, slice(share.start, share.stop)
        arena.sums[rows], arena.divisors[rows] = word.sums, word.divisors
        arena.kinds[rows], arena.weights[rows], arena.factors[rows] = word.kinds, word.weights, word.factors
        for place, values in word.statistics.items():
            for shard, value in zip(share, values):
                arena.statistics[shard][place][...] = value


def total_slot(share: range, shards: int) -> int:
    """The slot of the whole batch's gradient, on a machine that owns a part of the shards: one that is not its own."""
    return share.stop % shards


def forget_others(arena: Arena, share: range) -> None:
    """Before a machine takes a share: nodes of other shards are not complete, whatever it has of them.

    Their slots and rows are written by exchanges, from then on.
    """
    done = arena.done
    begins = np.arange(len(done))
    done[(begins < share.start) | (begins + done[:, 1] > share.stop)] = 0


def arrays_of(half: Half) -> list[np.ndarray]:
    """All of a half, as flat arrays of at most CHUNK elements, in an order that the layout fixes."""
    states = [array for arrays in half.states.values() for array in arrays]
    flat = [array.reshape(-1) for array in (*half.parameters.values(), *states, *half.buffers, half.steps)]
    return [array[at : at + CHUNK] for array in flat for at in range(0, len(array), CHUNK)]


def adopt(arena: Arena, half: int, arrays: list[np.ndarray]) -> None:
    """Takes over the current half of another arena; into both, since some of it is never written again."""
    for each in (half, 1 - half):
        for into, array in zip(arrays_of(arena.halves[each]), arrays, strict=True):
            into[...] = array


def size_of(message: Any) -> int:
    """The bytes of the arrays in a message."""
    if isinstance(message, np.ndarray):
        return message.nbytes
    if isinstance(message, dict):
        return size_of(list(message.values()))
    return sum(map(size_of, message)) if isinstance(message, list | tuple) else 8
