"""Convolution over any number of dimensions, and the windows that it and pooling look through.

With columns(x) for what each window of x holds, convolution is y = weight @ columns(x) for each example. It is
linear in x and in weight, so the sum over all of y * g is a form in x, weight and g from which each of the three
operators here takes one as its result: convolution y, convolution_input x, convolution_weight the weight. The
derivatives of each are therefore the other two, and those of any order are made of the three.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from pargrad.rules.stacks import NotStackable, contiguous
from pargrad.rules.table import RULES, rule, sample

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

    @property
    def extent(self) -> tuple[int, ...]:
        """From the first to the last position of a window."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel))


def windows(sizes, kernel, stride=1, padding=0, dilation=1):
    """Windows from torch's settings; a number is one for every dimension, `padding` is on both sides."""
    several = (n if isinstance(n, tuple) else (n,) * len(sizes) for n in (kernel, stride, padding, dilation))
    kernel, stride, padding, dilation = several
    counts = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    return Windows(tuple(sizes), kernel, counts, stride, padding, dilation)


class Tap(NamedTuple):
    """One element of every window: where it is in the array, and in which windows it is no padding."""

    number: tuple[int, ...]
    positions: tuple  # an index of the array's last dimensions
    places: tuple  # an index of the windows, in the same order

    @property
    def columns(self) -> tuple:
        """The places in an array of all taps of all windows."""
        return (Ellipsis, *self.number, *self.places[1:])


@functools.lru_cache(maxsize=256)
def taps(windows: Windows) -> tuple[Tap, ...]:
    """Every tap that is not padding alone."""
    found = []
    for number in itertools.product(*map(range, windows.kernel)):
        positions, places = [], []
        for t, n, count, s, before, d in zip(
            number, windows.sizes, windows.counts, windows.stride, windows.before, windows.dilation
        ):
            shift = t * d - before
            first, end = max(0, -(shift // s)), min(count, (n - 1 - shift) // s + 1)
            places.append(slice(first, max(first, end)))
            positions.append(slice(first * s + shift, (end - 1) * s + shift + 1, s) if first < end else slice(0, 0))
        if all(place.start < place.stop for place in places):
            found.append(Tap(number, (Ellipsis, *positions), (Ellipsis, *places)))
    return tuple(found)


def memory(windows):
    """What makes the memory of columns: zeros where some are padding."""
    inside = not any(windows.before) and all(
        (count - 1) * s + extent <= n
        for n, count, s, extent in zip(windows.sizes, windows.counts, windows.stride, windows.extent)
    )
    return np.empty if inside else np.zeros


def filled(out, x, windows):
    """`out`, of shape (..., *kernel, *counts), with the windows of x; padding is left as it is."""
    for tap in taps(windows):
        out[tap.columns] = x[tap.positions]
    return out


def added(out, columns, windows):
    """`out`, of shape (..., *sizes), with what the windows hold added at its positions."""
    for tap in taps(windows):
        out[tap.positions] += columns[tap.columns]
    return out


def columns(x, windows):
    """What the windows of x (..., *sizes) hold, as (..., *kernel, *counts)."""
    shape = (*x.shape[: x.ndim - len(windows.sizes)], *windows.kernel, *windows.counts)
    return filled(memory(windows)(shape, x.dtype), x, windows)


def as_they_stand(function, arrays, stacked, settings):
    """On a stack as it stands, because the last dimensions alone are looked at."""
    (x,), depth = arrays, len(settings["windows"].sizes)
    if x.ndim <= depth:
        raise NotStackable
    return function(x, **settings)


IMAGE = windows((5, 4), (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
LINE = windows((7,), 3, stride=2)


@rule(
    sample((2, 3, 5, 4), windows=IMAGE),
    sample((2, 7), windows=LINE),
    sample((0, 7), windows=LINE),
    dtype="as is",
    stack=as_they_stand,
)
def im2col(x, *, windows):
    """The windows of x (..., *sizes), as (..., *kernel, *counts)."""
    return columns(x, windows), lambda g: col2im(g, windows=windows)


@rule(
    sample((2, 3, 3, 2, 3, 2), windows=IMAGE),
    sample((2, 3, 3), windows=LINE),
    sample((0, 3, 3), windows=LINE),
    dtype="as is",
    stack=as_they_stand,
)
def col2im(x, *, windows):
    """Windows (..., *kernel, *counts) added up where they overlap, as (..., *sizes)."""
    lead = x.shape[: x.ndim - 2 * len(windows.sizes)]
    return added(np.zeros((*lead, *windows.sizes), x.dtype), x, windows), lambda g: im2col(g, windows=windows)


# ----- convolution -----


def matrices(weight, groups):
    """A weight (out, in, *kernel) as a matrix for each group."""
    out, *taps = weight.shape
    return weight.reshape(groups, out // groups, math.prod(taps))


def runs(examples, bytes_of_one, least=0):
    """Runs of examples whose columns fill a block; the last one may be shorter."""
    step = max(1, max(BLOCK, least) // max(1, bytes_of_one))
    return [slice(start, start + step) for start in range(0, examples, step)]


def slices_in_a_row(of_weight):
    """On a stack: each example has a product of its own, so those of all slices may stand in a row.

    The gradient of the weight, `of_weight(x, g)`, is a sum over the examples of one slice.
    """

    def run(function, arrays, stacked, settings):
        x, weight = arrays
        if stacked != [True, False] or x.ndim < 4:
            raise NotStackable

        def row(x):
            return contiguous(x).reshape(-1 if x.size else 0, *x.shape[2:])

        value, of_x, _ = function(row(x), weight, **settings)
        return (
            value.reshape(*x.shape[:2], *value.shape[1:]),
            lambda g: of_x(row(g)).reshape(x.shape),
            lambda g: np.stack([of_weight(*each, **settings) for each in zip(x, contiguous(g))]),
        )

    return run


GROUPS = windows((5, 4), (2, 3), padding=(0, 1))


@rule(
    sample((2, 3, 5, 4), (4, 3, 3, 2), windows=IMAGE),
    sample((2, 4, 5, 4), (6, 2, 2, 3), windows=GROUPS, groups=2),
    sample((2, 3, 7), (4, 3, 3), windows=LINE),
    sample((1, 2, 3, 2, 2), (2, 2, 2, 2, 2), windows=windows((3, 2, 2), 2)),
    sample((0, 3, 7), (4, 3, 3), windows=LINE),
    dtype="match",
    stack=slices_in_a_row(lambda x, g, **settings: RULES["convolution_weight"](x, g, **settings)),
)
def convolution(x, weight, *, windows, groups=1):
    """The product of weight (out, in / groups, *kernel) with each window of x (n, in, *sizes): (n, out, *counts)."""
    matrix, shape = matrices(weight, groups), (len(x), len(weight), *windows.counts)
    rows, length = matrix.shape[1:]
    places = math.prod(windows.counts)
    y = np.empty((len(x), groups, rows, places), x.dtype)
    for run in runs(len(x), groups * length * places * x.itemsize):
        np.matmul(matrix, columns(x[run], windows).reshape(-1, groups, length, places), out=y[run])
    return (
        y.reshape(shape),
        lambda g: convolution_input(g, weight, windows=windows, groups=groups),
        lambda g: convolution_weight(x, g, windows=windows, groups=groups),
    )


@rule(
    sample((2, 4, 3, 2), (4, 3, 3, 2), windows=IMAGE),
    sample((2, 6, 4, 4), (6, 2, 2, 3), windows=GROUPS, groups=2),
    sample((2, 4, 3), (4, 3, 3), windows=LINE),
    sample((0, 4, 3), (4, 3, 3), windows=LINE),
    dtype="match",
    stack=slices_in_a_row(lambda y, g, **settings: RULES["convolution_weight"](g, y, **settings)),
)
def convolution_input(y, weight, *, windows, groups=1):
    """Each place of y (n, out, *counts) gives its multiple of the weight to its window: (n, in, *sizes).

    The transpose of `convolution` as a map of x, which torch has as conv_transpose.
    """
    matrix, shape = matrices(weight, groups), (len(y), groups * weight.shape[1], *windows.sizes)
    rows, length = matrix.shape[1:]
    places = math.prod(windows.counts)
    given, x = y.reshape(len(y), groups, rows, places), np.zeros(shape, y.dtype)
    multiply = np.multiply if rows == 1 else np.matmul  # which is slow for a column times a row
    for run in runs(len(y), groups * length * places * y.itemsize):
        product = multiply(np.swapaxes(matrix, 1, 2), given[run])
        added(x[run], product.reshape(-1, shape[1], *windows.kernel, *windows.counts), windows)
    return (
        x,
        lambda g: convolution(g, weight, windows=windows, groups=groups),
        lambda g: convolution_weight(g, y, windows=windows, groups=groups),
    )


@rule(
    sample((2, 3, 5, 4), (2, 4, 3, 2), windows=IMAGE),
    sample((2, 4, 5, 4), (2, 6, 4, 4), windows=GROUPS, groups=2),
    sample((2, 3, 7), (2, 4, 3), windows=LINE),
    sample((0, 3, 7), (0, 4, 3), windows=LINE),
    dtype="match",
)
def convolution_weight(x, y, *, windows, groups=1):
    """The sum over examples and places of y (n, out, *counts) times the window of x: (out, in / groups, *kernel)."""
    (count, channels), out, kernel, counts = x.shape[:2], y.shape[1], windows.kernel, windows.counts
    rows, length, places = out // groups, channels // groups * math.prod(kernel), math.prod(counts)
    given = y.reshape(count, groups, rows, places)
    total = np.zeros((groups, rows, length), x.dtype)
    # One product for a run of examples: fewer additions to the total, which may be larger than the columns.
    for run in runs(count, channels * math.prod(kernel) * places * x.itemsize, total.nbytes):
        n = len(given[run])
        held = memory(windows)((channels, *kernel, n, *counts), x.dtype)
        filled(np.moveaxis(held, 1 + len(kernel), 0), x[run], windows)
        left = np.moveaxis(given[run], 0, 2).reshape(groups, rows, n * places)
        total += left @ np.swapaxes(held.reshape(groups, length, n * places), 1, 2)
    return (
        total.reshape(out, channels // groups, *kernel),
        lambda g: convolution_input(y, g, windows=windows, groups=groups),
        lambda g: convolution(x, g, windows=windows, groups=groups),
    )


def bias_gradient(g):
    return g.reshape(*g.shape[:2], math.prod(g.shape[2:])).sum(axis=2).sum(axis=0)


@rule(
    sample((2, 3, 4, 2), (3,)),
    sample((2, 3, 4), (3,)),
    sample((0, 3, 4), (3,)),
    dtype="match",
    stack=slices_in_a_row(lambda x, g: bias_gradient(g)),
)
def add_bias(x, bias):
    """A number for each channel added to x (n, channels, *sizes)."""
    return x + bias.reshape(-1, *(1,) * (x.ndim - 2)), lambda g: g, lambda g: bias_gradient(g)
