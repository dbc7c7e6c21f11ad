"""Operators on the positions of images: the largest of a window, weighted sums along a dimension, padding.

`resample` is what average pooling, interpolation and padding with what is there have in common: along one dimension
each result is a sum of some elements, by a table that says which and with what weights. Its derivative is the same
operator with the table transposed.
"""

import math

import numpy as np

from pargrad.rules.convolution import LINE, as_they_stand, taps, windows
from pargrad.rules.indexing import add_into_zeros
from pargrad.rules.stacks import shifted
from pargrad.rules.table import rule, sample

# ----- the largest element of a window -----


def lowest(dtype):
    """What no element of this dtype is below: padding of maxima."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def first_positions(windows):
    """For every window, its first position that is no padding, counted in the array's last dimensions as one row."""
    first = np.zeros((), np.int64)
    for size, count, stride, before, dilation in zip(
        windows.sizes, windows.counts, windows.stride, windows.before, windows.dilation
    ):
        start = np.arange(count) * stride - before
        start += np.where(start < 0, -(start // dilation) * dilation, 0)
        first = first[..., None] * size + start
    return first


def positions_of(tap, sizes):
    """The positions of one tap in the windows where it is no padding, counted as in `first_positions`."""
    row = np.zeros((), np.int64)
    for size, positions in zip(sizes, tap.positions[1:]):
        row = row[..., None] * size + np.arange(size)[positions]
    return row


def maxima(x, windows):
    """The largest element of every window of x (..., *sizes), and its position in the last dimensions as one row.

    Of equal elements the first counts, of those that are nan the last, as in torch.
    """
    shape = (*x.shape[: x.ndim - len(windows.sizes)], *windows.counts)
    y = np.full(shape, lowest(x.dtype), x.dtype)
    index = np.empty(shape, np.int64)
    index[...] = first_positions(windows)
    for tap in taps(windows):
        candidate, best = x[tap.positions], y[tap.places]
        better = candidate > best
        if x.dtype.kind == "f":
            better |= candidate != candidate
        np.copyto(best, candidate, where=better)
        np.copyto(index[tap.places], positions_of(tap, windows.sizes), where=better)
    return y, index


def in_one_row(index, dims, plane):
    """Positions within planes of so many elements, one plane after the other, as positions in all of them.

    index: (..., *counts), with so many dims that are not planes.
    """
    lines, counts = math.prod(index.shape[: index.ndim - dims]), math.prod(index.shape[index.ndim - dims :])
    return (index.reshape(lines, counts) + plane * np.arange(lines)[:, None]).reshape(-1)


@rule(
    sample((2, 3, 5, 4), windows=windows((5, 4), (3, 2), stride=(2, 1), padding=1)),
    sample((2, 3, 5, 4), windows=windows((5, 4), 2, stride=2)),
    sample((2, 7), windows=LINE),
    sample((0, 2, 7), windows=LINE),
    dtype="as is",
    stack=as_they_stand,
)
def max_pool(x, *, windows):
    """The largest element of every window of x (..., *sizes), as (..., *counts)."""
    y, index = maxima(x, windows)
    shape = x.shape
    apart = all(s >= d * (k - 1) + 1 for s, k, d in zip(windows.stride, windows.kernel, windows.dilation))

    def vjp(g):
        at = in_one_row(index, len(windows.sizes), math.prod(windows.sizes))
        return add_into_zeros(g.reshape(-1), index=at, shape=(math.prod(shape),), once=apart).reshape(shape)

    return y, vjp


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
