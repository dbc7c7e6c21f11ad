"""The windows of arrays that convolution and pooling look through: where they lie, and what they hold as columns.

Columns are made, and added up again, along one dimension after the other: the last one row by row, the others then in
whole runs of rows. That is k + k copies for windows of k times k, and not k times k.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

# Columns of so many bytes are made at a time, so that they are still in the cache when they are multiplied.
BLOCK = 1 << 20


class Windows(NamedTuple):
    """How windows lie over the last dimensions of an array; each tuple has one entry a dimension.

    Window o has, at its tap t, the position o * stride + t * dilation - before; outside of the array is padding.
    """

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    counts: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]

    def along(self, dim: int, *of_one: int) -> Windows:
        """The same but for one dimension, of which the six numbers are given."""
        dim %= len(self.sizes)
        return Windows(*((*each[:dim], n, *each[dim + 1 :]) for each, n in zip(self, of_one)))


def windows(sizes, kernel, stride=1, padding=0, dilation=1):
    """Windows from torch's settings; a number is one for every dimension, `padding` is on both sides."""
    several = (n if isinstance(n, tuple) else (n,) * len(sizes) for n in (kernel, stride, padding, dilation))
    kernel, stride, padding, dilation = several
    counts = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    return Windows(tuple(sizes), kernel, counts, stride, padding, dilation)


def single(sizes):
    """Windows of one element each."""
    ones, zeros = (1,) * len(sizes), (0,) * len(sizes)
    return Windows(tuple(sizes), ones, tuple(sizes), ones, zeros, ones)


# ----- taps -----


class Tap(NamedTuple):
    """One element of every window: where it is in the array, and in which windows it is no padding."""

    positions: tuple  # an index of the array's last dimensions
    places: tuple  # an index of the windows, in the same order


def shifts(size, kernel, count, stride, before, dilation):
    """Of one dimension, for each tap: its positions, and the windows in which it is no padding."""
    found = []
    for t in range(kernel):
        shift = t * dilation - before
        first, end = max(0, -(shift // stride)), min(count, (size - 1 - shift) // stride + 1)
        if first < end:
            found.append((slice(first * stride + shift, (end - 1) * stride + shift + 1, stride), slice(first, end)))
        else:
            found.append((slice(0, 0), slice(0, 0)))
    return found


@functools.lru_cache(maxsize=256)
def taps(windows: Windows) -> tuple[Tap, ...]:
    """Every tap that is not padding alone, in the order of the kernel's elements."""
    found = []
    for several in itertools.product(*(shifts(*of_one) for of_one in zip(*windows))):
        positions, places = zip(*several)
        if all(place.start < place.stop for place in places):
            found.append(Tap((Ellipsis, *positions), (Ellipsis, *places)))
    return tuple(found)


# ----- columns -----


class Stage(NamedTuple):
    """Columns along one dimension: (..., *kernel, *counts), and the same before it was this one's turn.

    tap, place: its axes. shift, step: between taps and between places, in elements. pairs: for each tap an index of
    the columns and one of what they are from. gaps: what the first tap has nothing from. padded: not all have some.
    """

    tap: int
    place: int
    kernel: int
    places: int
    size: int
    shift: int
    step: int
    pairs: tuple
    gaps: tuple
    padded: bool

    def shape(self, shape: tuple[int, ...], kernel: int, count: int) -> tuple[int, ...]:
        """A shape with other numbers of taps and of places."""
        several = list(shape)
        several[self.tap], several[self.place] = kernel, count
        return tuple(several)

    def columns(self, x):
        """A view of x that has each tap of each window."""
        between = x.strides[self.place]
        strides = self.shape(x.strides, self.shift * between, self.step * between)
        return as_strided(x[self.pairs[0][1]], self.shape(x.shape, self.kernel, self.places), strides)


@functools.lru_cache(maxsize=256)
def stages(windows: Windows) -> tuple[Stage, ...]:
    """The dimensions along which windows are anything but each position alone, the last one first."""
    found: list[Stage] = []
    dims = len(windows.sizes)
    for dim, of_one in enumerate(zip(*windows)):
        size, kernel, count, stride, before, dilation = of_one
        if (kernel, count, stride, before) == (1, size, 1, 0):
            continue
        pairs: list[tuple] = []
        gaps: list[slice] = [slice(None)]
        padded = False

        def index(tap, positions, dim=dim):
            whole = [slice(None)] * (2 * dims)
            whole[dim], whole[dims + dim] = slice(tap, tap + 1), positions
            return (Ellipsis, *whole)

        for t, (positions, places) in enumerate(shifts(*of_one)):
            padded = padded or places != slice(0, count)
            if places.start < places.stop:
                pairs.append((index(t, places), index(0, positions)))
                if len(pairs) == 1 and stride == 1:
                    gaps = [slice(0, positions.start), slice(positions.stop, size)]
        left = tuple(index(0, gap) for gap in gaps if gap.start is None or gap.start < gap.stop)
        several = dilation, stride, tuple(pairs), left, padded
        found.insert(0, Stage(dim - 2 * dims, dim - dims, kernel, count, size, *several))
    return tuple(found)


class Columns:
    """What the windows of arrays of one shape (..., *sizes) hold, as (..., *kernel, *counts).

    A call gives those of one array in memory that the next call overwrites, or in `out`; where each window holds one
    element, and nothing is padded, it gives a view of the array.
    """

    def __init__(self, shape, windows, dtype, out=None):
        self.shape = shape
        self.canvas: Any = None
        self.inside: Any = None
        self.seen: Any = None
        lead = shape[: len(shape) - len(windows.sizes)]
        if any(stage.padded for stage in stages(windows)):
            self.seen, there, windows = padding(windows)
            self.canvas = np.zeros((*lead, *windows.sizes), dtype)
            self.inside = self.canvas[there]
        self.steps, self.opened = stages(windows), opened(len(lead), len(windows.sizes))
        held = (*lead, *(1,) * len(windows.sizes), *windows.sizes)
        self.targets = []
        for stage in self.steps:
            held = stage.shape(held, stage.kernel, stage.places)
            self.targets.append(np.empty(held, dtype) if out is None or stage is not self.steps[-1] else out)
        sources = [self.canvas[self.opened]] if self.canvas is not None and self.steps else []
        sources += self.targets[:-1]
        self.views = [stage.columns(x) for stage, x in zip(self.steps[len(self.steps) - len(sources) :], sources)]
        self.out = out

    def __call__(self, x):
        views = self.views
        if self.canvas is not None:
            self.inside[...] = x[self.seen]
            x = self.canvas
        elif self.steps:
            views = [self.steps[0].columns(x[self.opened]), *views]
        for target, view in zip(self.targets, views):
            np.copyto(target, view)
        if self.steps:
            return self.targets[-1]
        if self.out is None:
            return x[self.opened]
        self.out[...] = x[self.opened]
        return self.out


def padding(windows: Windows) -> tuple[tuple, tuple, Windows]:
    """What windows see of an array, where that lies in one with the padding, and how they lie over that one."""
    sizes = tuple((c - 1) * s + (k - 1) * d + 1 for _, k, c, s, _, d in zip(*windows))
    seen, there = [], []
    for size, padded, before in zip(windows.sizes, sizes, windows.before):
        first, start = max(0, -before), max(0, before)
        count = max(0, min(size - first, padded - start))
        seen.append(slice(first, first + count))
        there.append(slice(start, start + count))
    zeros = (0,) * len(sizes)
    return (Ellipsis, *seen), (Ellipsis, *there), windows._replace(sizes=sizes, before=zeros)


def columns(x, windows, out=None):
    """What the windows of x (..., *sizes) hold, as (..., *kernel, *counts), in `out` if it is given."""
    return Columns(x.shape, windows, x.dtype, out)(x)


def added(out, columns, windows):
    """`out`, of shape (..., *sizes), with the sum of what windows hold at each of its positions."""
    held, steps = columns, stages(windows)[::-1]
    result = out[opened(out.ndim - len(windows.sizes), len(windows.sizes))]
    for stage in steps:
        target = result if stage is steps[-1] else np.empty(stage.shape(held.shape, 1, stage.size), out.dtype)
        for here in stage.gaps:
            target[here] = 0
        for there, here in stage.pairs[:1]:
            target[here] = held[there]
        for there, here in stage.pairs[1:]:
            part = target[here]
            np.add(part, held[there], out=part)
        held = target
    if not steps:
        result[...] = held
    return out


def opened(lead, dims):
    """The index that gives (..., *sizes) one tap for each dimension: (..., *kernel, *counts)."""
    return (slice(None),) * lead + (None,) * dims


# ----- what fits the cache -----


def runs(examples, bytes_of_one, block=BLOCK):
    """Runs of examples whose columns fill a block; the last one may be shorter."""
    step = max(1, block // max(1, bytes_of_one))
    return [slice(start, min(start + step, examples)) for start in range(0, examples, step)]


def columns_of_runs(x, windows, bytes_of_one, block=BLOCK):
    """Each run of the examples x (n, channels, *sizes) and its columns, which those of the next overwrite."""
    columns = None
    for run in runs(len(x), bytes_of_one, block):
        seen = x[run]
        if columns is None or columns.shape != seen.shape:
            columns = Columns(seen.shape, windows, x.dtype)
        yield run, columns(seen)
