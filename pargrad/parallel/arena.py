"""The arena: one piece of memory with parameters, buffers, optimizer state and gradient slots as flat arrays.

Parameters, buffers and state are there twice. A step reads one half and writes the other: after an even number of
steps the first half is current, after an odd number the second. Gradient slots are there once: the tree node that
starts at shard i is in slot i, so a node that is computed again overwrites itself.

Words that say how far everyone is: `progress`, a member's number of steps whose update it has finished (what all of
them have finished is whole, whoever died since); `phases` and `meetings`, what it is doing and how often it has come
to meet the others; `done`, which step a node's gradient is complete of; `results`, what the last steps came to;
`wrong` and `culprits`, what a member found not to be finite, and in which slot; `seconds`, how long it took for what.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np

from pargrad.parallel.stopwatch import PARTS

RESULTS = 256  # steps whose results are kept: more than are ever under way
BLOCK = 8_192  # elements: small, so that the workers' shares of a small model are nearly equal
TOGETHER = 16  # blocks that are updated in one call: with fewer, what numpy needs for a call counts more than the cache
ALIGNMENT = 64  # bytes: a cache line


class Spec(NamedTuple):
    """A parameter or buffer; group: its optimizer group (-1: none), states: how many state arrays it has there."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    group: int = -1
    states: int = 0


class Block(NamedTuple):
    """A piece of a parameter: elements [start, stop) of its dtype's flat array; first: it begins the parameter."""

    number: int
    parameter: int
    dtype: str
    group: int
    start: int
    stop: int
    first: bool


class Run(NamedTuple):
    """Neighbouring blocks of one dtype and group that an elementwise update may take in one call."""

    dtype: str
    group: int
    start: int
    stop: int
    blocks: tuple[Block, ...]


class Layout:
    """Where everything lies, from names, shapes, dtypes, `shards` and `unit` alone."""

    def __init__(
        self, parameters: list[Spec], buffers: list[Spec], shards: int, unit: str, slots: int, exchange: int = 0
    ):
        self.parameters = parameters
        self.buffers = buffers
        self.shards = shards
        self.unit = unit
        self.slots = slots
        self.exchange = exchange  # the most numbers that a shard hands over in the middle of a step
        self.sizes: dict[str, int] = {}
        self.offsets = [self._place(spec) for spec in parameters]
        self.states = {
            dtype: max((spec.states for spec in parameters if spec.dtype == dtype), default=0) for dtype in self.sizes
        }
        self.blocks: list[Block] = []
        for i, spec in enumerate(parameters):
            self.blocks += self._cut(i, spec)

    def _place(self, spec: Spec) -> int:
        """Every parameter begins on a cache line of its dtype's flat array."""
        step = ALIGNMENT // np.dtype(spec.dtype).itemsize
        offset = -(-self.sizes.get(spec.dtype, 0) // step) * step
        self.sizes[spec.dtype] = offset + math.prod(spec.shape)
        return offset

    def _cut(self, index: int, spec: Spec) -> list[Block]:
        if spec.group < 0:
            return []
        size, offset = math.prod(spec.shape), self.offsets[index]
        length = max(size, 1) if self.unit == "parameter" else BLOCK
        return [
            Block(number, index, spec.dtype, spec.group, offset + at, offset + min(at + length, size), at == 0)
            for number, at in enumerate(range(0, max(size, 1), length), len(self.blocks))
        ]

    def owned_blocks(self, worker: int, workers: int) -> list[Block]:
        """A contiguous share of the blocks, equal in elements as nearly as whole blocks allow."""
        total = sum(block.stop - block.start for block in self.blocks) or 1
        owned, before = [], 0
        for block in self.blocks:
            middle = before + (block.stop - block.start) / 2
            if min(int(middle * workers / total), workers - 1) == worker:
                owned.append(block)
            before += block.stop - block.start
        return owned

    def runs(self, blocks: list[Block]) -> list[Run]:
        """Neighbours joined, up to the size of some blocks, where the optimizer works element by element."""
        runs: list[list[Block]] = []
        for block in blocks:
            last = runs[-1][-1] if runs else None
            joins = (
                last is not None
                and self.unit == "element"
                and (last.dtype, last.group) == (block.dtype, block.group)
                and last.parameter + 1 >= block.parameter
                and block.stop - runs[-1][0].start <= TOGETHER * BLOCK
            )
            if joins:
                runs[-1].append(block)
            else:
                runs.append([block])
        return [Run(run[0].dtype, run[0].group, run[0].start, run[-1].stop, tuple(run)) for run in runs]


class Half:
    """One of the two copies of parameters, buffers and optimizer state."""

    def __init__(self, take: Any, layout: Layout):
        self.parameters = {dtype: take(size, dtype) for dtype, size in layout.sizes.items()}
        self.states = {
            dtype: [take(size, dtype) for _ in range(layout.states[dtype])] for dtype, size in layout.sizes.items()
        }
        self.buffers = [take(math.prod(spec.shape), spec.dtype).reshape(spec.shape) for spec in layout.buffers]
        self.steps = take(len(layout.parameters), "int64")
        # What a model sees: nobody but `update` may write a parameter or a buffer.
        self.parameter_views = [
            read_only(self.parameters[spec.dtype][offset : offset + math.prod(spec.shape)].reshape(spec.shape))
            for spec, offset in zip(layout.parameters, layout.offsets)
        ]
        self.buffer_views = [read_only(buffer) for buffer in self.buffers]


class Arena:
    """The arrays of a layout on a piece of memory of `arena_size(layout)` bytes; on None, their sizes alone."""

    def __init__(self, layout: Layout, memory: Any):
        take = Cutter(memory)
        self.layout = layout
        self.halves = (Half(take, layout), Half(take, layout))
        # One row a shard, and one more where a penalty has a slot of its own.
        self.sums = take(layout.slots, "float64")
        self.divisors = take(layout.slots, "float64")
        self.squares = take(len(layout.blocks), "float64")
        self.progress, self.phases, self.meetings, self.wrong, self.culprits = (
            take(layout.shards, "int64") for _ in range(5)
        )
        self.seconds = take(layout.shards * (len(PARTS) + 1), "float64").reshape(layout.shards, -1)  # and steps
        self.done = take(2 * layout.shards, "int64").reshape(layout.shards, 2)  # step and size of the node begun there
        # step, loss, divisor, norm; of one without effect, what was not finite, and the slot where
        self.results = take(6 * RESULTS, "float64").reshape(RESULTS, 6)
        self.reached = take(layout.slots * len(layout.parameters), "uint8").reshape(
            layout.slots, len(layout.parameters)
        )
        # What each shard says of each buffer (see `statistics`), and which buffers ever changed.
        rows, columns = layout.shards if layout.slots else 0, len(layout.buffers)
        self.statistics = [
            [take(math.prod(spec.shape), "float64").reshape(spec.shape) for spec in layout.buffers] for _ in range(rows)
        ]
        self.weights, self.factors, self.kinds = (
            take(rows * columns, dtype).reshape(rows, columns) for dtype in ("float64", "float64", "int64")
        )
        self.moved = take(columns, "uint8")
        # What each shard hands over in the middle of a step, and which layer it is for (see `exchange`), twice.
        self.exchanges = take(2 * layout.shards * layout.exchange, "float64").reshape(2, layout.shards, layout.exchange)
        self.exchanged = take(2 * layout.shards, "int64").reshape(2, layout.shards)
        self.slots = [{dtype: take(size, dtype) for dtype, size in layout.sizes.items()} for _ in range(layout.slots)]
        self.slot_views = [
            [
                slot[spec.dtype][offset : offset + math.prod(spec.shape)].reshape(spec.shape)
                for spec, offset in zip(layout.parameters, layout.offsets)
            ]
            for slot in self.slots
        ]
        self.size = take.used

    def piece_of(self, half: int, dtype: str, start: int, stop: int) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Elements [start, stop) of a half's parameters, and of each of its state arrays."""
        of = self.halves[half]
        return of.parameters[dtype][start:stop], tuple(array[start:stop] for array in of.states[dtype])


class Cutter:
    """Cuts aligned arrays off a piece of memory, one after the other; without memory it only counts."""

    def __init__(self, memory: Any = None):
        self.memory = memory
        self.used = 0

    def __call__(self, size: int, dtype: str) -> np.ndarray:
        start = self.used
        self.used += -(-size * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT
        if self.memory is None:
            # Nothing is touched, so nothing is taken: an array of the right shape over one element.
            return np.broadcast_to(np.zeros((), dtype), (size,))
        return np.frombuffer(self.memory, dtype, size, start)


def arena_size(layout: Layout) -> int:
    """Bytes: 2 (parameters + buffers + state) + slots x gradient; a slot never written costs address space only."""
    return max(Arena(layout, None).size, ALIGNMENT)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.view()
    array.flags.writeable = False
    return array


# ----- memory -----


def private_memory(size: int) -> mmap.mmap:
    """Zeroed memory of this process."""
    return mmap.mmap(-1, size)


def shared_memory(size: int) -> int:
    """A descriptor of zeroed memory that has no name, so that it cannot outlive the processes that hold it."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("pargrad", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def mapped(descriptor: int, size: int, writable: bool = True) -> mmap.mmap:
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
    return mmap.mmap(descriptor, size, access=access)
