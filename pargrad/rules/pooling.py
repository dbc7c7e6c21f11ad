"""Operators on the positions of images: the largest of a window, weighted sums along a dimension, padding.

`resample` is what average pooling, interpolation and padding with what is there have in common: along one dimension
each result is a sum of some elements, by a table that says which and with what weights. Its derivative is the same
operator with the table transposed.
"""

import functools
import math

import numpy as np

from pargrad.rules import masks
from pargrad.rules.convolution import LINE, as_they_stand
from pargrad.rules.patches import BLOCK, padding, stages, taps, windows
from pargrad.rules.stacks import shifted
from pargrad.rules.table import integers, rule, sample

# ----- the largest element of a window -----


FEW = 6  # taps of a window, of which looking at each one everywhere is faster than writing to positions


def lowest(dtype):
    """What no element of this dtype is below: padding of maxima."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


@functools.lru_cache(maxsize=64)
def distances(windows):
    """For every window the position of its tap 0, counted in the sizes as one row, and how much further on taps are."""
    first = np.zeros((), np.int64)
    for size, count, stride, before in zip(windows.sizes, windows.counts, windows.stride, windows.before):
        first = first[..., None] * size + np.arange(count) * stride - before
    starts = [[at.start for at in tap.positions[1:]] for tap in taps(windows)]
    places = [tuple(at.start for at in tap.places[1:]) for tap in taps(windows)]
    further = [np.ravel_multi_index(start, windows.sizes) - first[place] for start, place in zip(starts, places)]
    return first, np.array(further, np.int64)


def positions_of(number, windows):
    """Where the taps are that have these numbers, counted in the sizes as one row."""
    first, further = distances(windows)
    return first + further[number]


def in_one_row(index, dims, plane):
    """Positions within planes of so many elements, one plane after the other, as positions in all of them.

    index: (..., *counts), with so many dims that are not planes.
    """
    lines, counts = math.prod(index.shape[: index.ndim - dims]), math.prod(index.shape[index.ndim - dims :])
    return (index.reshape(lines, counts) + plane * np.arange(lines)[:, None]).reshape(-1)


@functools.lru_cache(maxsize=256)
def first_taps(windows):
    """For every window the number of its first tap that is no padding, as small integers."""
    several = taps(windows)
    number = np.zeros(windows.counts, np.uint8 if len(several) <= 256 else np.int32)
    for i, tap in reversed(list(enumerate(several))):
        number[tap.places] = i
    number.flags.writeable = False
    return number


def blocks(windows, itemsize, *arrays):
    """Arrays whose last dimensions belong to the same windows, so many lines before them at a time as fit the cache."""
    dims = len(windows.sizes)
    flat = [x.reshape(math.prod(x.shape[: x.ndim - dims]), *x.shape[x.ndim - dims :]) for x in arrays]
    step = max(1, BLOCK // max(1, math.prod(windows.sizes) * itemsize))
    for start in range(0, len(flat[0]), step):
        yield [x[start : start + step] for x in flat]


def numbered_maxima(x, windows):
    """The largest element of every window of x (..., *sizes), and the number of its tap.

    Of equal elements the first counts, of those that are nan the last, as in torch.
    """
    several, first = taps(windows), first_taps(windows)
    shape = (*x.shape[: x.ndim - len(windows.sizes)], *windows.counts)
    y, number = np.empty(shape, x.dtype), np.empty(shape, first.dtype)
    for part, largest, numbers in blocks(windows, x.itemsize, x, y, number):
        padded = any(windows.before)  # else the first tap is in every window
        largest[...] = lowest(x.dtype) if padded else part[several[0].positions]
        numbers[...] = first
        for i, tap in enumerate(several):
            if not (i or padded):
                continue
            # Next to each other, because numpy compares those many at a time.
            candidate, best, there = np.ascontiguousarray(part[tap.positions]), largest[tap.places], numbers[tap.places]
            better = candidate > best
            if x.dtype.kind == "f":
                better |= candidate != candidate
            np.maximum(best, candidate, out=best)
            np.maximum(there, np.multiply(better, i, dtype=first.dtype), out=there)  # numbers only grow
    return y, number


def maxima(x, windows):
    """The largest element of every window of x (..., *sizes), and its position in the last dimensions as one row."""
    y, number = numbered_maxima(x, windows)
    return y, positions_of(number, windows)


def tap_positions(number, windows):
    """Where the tap of each window is that has its number, counted as in `in_one_row`, and whether it is no padding."""
    inside = np.zeros(number.shape, bool)
    for i, tap in enumerate(taps(windows)):
        inside[tap.places] |= number[tap.places] == i
    index = np.where(inside, positions_of(number, windows), 0)
    return in_one_row(index, len(windows.sizes), math.prod(windows.sizes)), inside


def overlap(windows):
    """Whether no position is in two windows; and whether, besides, each is in one."""
    apart = all(d * (k - 1) < s for k, s, d in zip(windows.kernel, windows.stride, windows.dilation))
    ends = zip(windows.sizes, windows.kernel, windows.counts, windows.stride, windows.before)
    return apart, apart and all(k == s and not before and count * s >= n for n, k, count, s, before in ends)


def at_each_tap(y, x, number, windows, apart):
    """Adds x to y, one tap after the other; where windows are apart it is written instead."""
    for i, tap in enumerate(taps(windows)):
        here = masks.where(number[tap.places] == i, x[tap.places], 0)
        if apart:
            y[tap.positions] = here
        else:
            y[tap.positions] += here


def at_positions(y, x, number, windows):
    """Adds x to y, zeros, one element after the other."""
    if any(stage.padded for stage in stages(windows)):
        seen, there, around = padding(windows)
        room = np.zeros((len(y), *around.sizes), y.dtype)  # where padding has a place, too
        at_positions(room, x, number, around)
        y[seen] = room[there]
        return
    at = in_one_row(positions_of(number, windows), len(windows.sizes), math.prod(windows.sizes))
    np.add.at(y.reshape(-1), at, x.reshape(-1))


@rule(
    sample((2, 3, 3, 5), integers(6, 2, 3, 3, 5), windows=windows((5, 4), (3, 2), stride=(2, 1), padding=1)),
    sample((2, 3, 2, 2), integers(4, 2, 3, 2, 2), windows=windows((5, 4), 2, stride=2)),
    sample((0, 2, 3), integers(3, 0, 2, 3), windows=LINE),
    sample((2, 2, 3, 2), integers(9, 2, 2, 3, 2), windows=windows((5, 4), 3, stride=2, padding=1)),
    sample((2, 2, 2), integers(9, 2, 2, 2), windows=windows((7, 7), 3, stride=3)),
    dtype="as is",
)
def to_taps(x, number, *, windows):
    """Zeros (..., *sizes) with each x (..., *counts) added at the tap of that number of its window."""
    shape = (*x.shape[: x.ndim - len(windows.sizes)], *windows.sizes)
    apart, everywhere = overlap(windows)
    few = len(taps(windows)) <= FEW or len(taps(windows)) < math.prod(windows.kernel)
    y = (np.empty if everywhere and few else np.zeros)(shape, x.dtype)
    for part, given, numbers in blocks(windows, x.itemsize, y, x, number):
        if few:
            at_each_tap(part, given, numbers, windows, apart)
        else:
            at_positions(part, given, numbers, windows)

    def vjp(g):
        at, inside = tap_positions(np.asarray(number), windows)
        return np.where(inside, g.reshape(-1)[at].reshape(inside.shape), 0)

    return y, vjp, None


@rule(
    sample((2, 3, 5, 4), windows=windows((5, 4), (3, 2), stride=(2, 1), padding=1)),
    sample((2, 3, 5, 4), windows=windows((5, 4), 2, stride=2)),
    sample((2, 5, 5), windows=windows((5, 5), 3, stride=2, padding=1)),
    sample((2, 7), windows=LINE),
    sample((0, 2, 7), windows=LINE),
    dtype="as is",
    stack=as_they_stand,
)
def max_pool(x, *, windows):
    """The largest element of every window of x (..., *sizes), as (..., *counts)."""
    y, number = numbered_maxima(x, windows)
    return y, lambda g: to_taps(g, number, windows=windows)


# ----- weighted sums of elements along a dimension -----


def transposed_table(index, weight, size):
    """The table that takes each gradient back to the elements it belongs to: index and weight."""
    results, terms = np.nonzero(weight)
    elements, weights = index[results, terms], weight[results, terms]
    order = np.argsort(elements, kind="stable")
    elements, results, weights = elements[order], results[order], weights[order]
    uses = np.bincount(elements, minlength=size)
    term = np.arange(len(elements)) - (np.cumsum(uses) - uses)[elements]
    back = np.zeros((size, uses.max(initial=0)), np.int64), np.zeros((size, uses.max(initial=0)))
    for table, values in zip(back, (results, weights)):
        table[elements, term] = values
    return back


def as_slice(numbers):
    """Increasing numbers at equal distances as a slice, which numpy reads without looking each one up."""
    steps = np.diff(numbers)
    if len(steps) and (steps[0] < 1 or (steps != steps[0]).any()):
        return numbers
    step = int(steps[0]) if len(steps) else 1
    return slice(int(numbers[0]), int(numbers[-1]) + 1, step)


def taken(x, at, axis):
    return x[(*(slice(None),) * axis, at)] if isinstance(at, slice) else np.take(x, at, axis)


def table(*rows):
    """A sample's table: pairs of an element and its weight for each result."""
    index, weight = np.moveaxis(np.array(rows, float), -1, 0)
    return {"index": index.astype(np.int64), "weight": weight}


BLEND = table([(0, 1), (0, 0)], [(0, 0.75), (1, 0.25)], [(2, 0.5), (1, 0.5)], [(2, 1), (2, 1)], [(3, 1), (1, 0)])


@rule(
    sample((2, 4), dim=1, **BLEND),
    sample((4, 3), dim=-2, **BLEND),
    sample((2, 5, 3), dim=1, **table([(0, 1), (1, 1)], [(2, 1), (3, 1)])),
    sample((0, 4), dim=-1, **BLEND),
    dtype="as is",
    stack=lambda function, arrays, stacked, settings: function(*arrays, **settings | {"dim": shifted(settings["dim"])}),
)
def resample(x, *, dim, index, weight):
    """y[o] = the sum over t of weight[o, t] * x[index[o, t]] along a dim; where a weight is 0, x is not looked at."""
    axis, size = dim % x.ndim, x.shape[dim]
    y = np.zeros((*x.shape[:axis], len(index), *x.shape[axis + 1 :]), x.dtype)
    before, after = (slice(None),) * axis, (1,) * (x.ndim - 1 - axis)
    for t in range(index.shape[1]):
        used = np.flatnonzero(weight[:, t])
        if not len(used):
            continue
        part, factors = taken(x, as_slice(index[used, t]), axis), weight[used, t]
        if (factors != 1).any():
            part = part * factors.astype(x.dtype).reshape(-1, *after)
        y[(*before, as_slice(used))] += part

    def vjp(g):
        back = transposed_table(index, weight, size)
        return resample(g, dim=dim, index=back[0], weight=back[1])

    return y, vjp


# ----- padding -----


@rule(
    sample((2, 3), pad=((1, 0), (0, 2)), value=0.5),
    sample((2, 5), pad=((-1, 2),)),
    sample((2, 0), pad=((1, 1),)),
    dtype="as is",
    stack=lambda function, arrays, stacked, settings: function(*arrays, **settings),
)
def constant_pad(x, *, pad, value=0):
    """x with so many elements of one value before and after it in its last dimensions; negative: so many cut off."""
    lead, back = x.ndim - len(pad), tuple((-first, -last) for first, last in pad)
    sizes = tuple(n + first + last for n, (first, last) in zip(x.shape[lead:], pad))
    if any(size < 0 for size in sizes):
        raise ValueError(f"the padding {pad} cuts more off than the shape {x.shape} has")
    y = np.full((*x.shape[:lead], *sizes), value, x.dtype)
    here: tuple = (Ellipsis,)
    there: tuple = (Ellipsis,)
    for n, (first, last) in zip(x.shape[lead:], pad):
        kept = max(0, n + min(first, 0) + min(last, 0))
        here += (slice(max(first, 0), max(first, 0) + kept),)
        there += (slice(max(-first, 0), max(-first, 0) + kept),)
    y[here] = x[there]
    return y, lambda g: constant_pad(g, pad=back)
