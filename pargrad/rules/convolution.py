"""Convolution over any number of dimensions.

With columns(x) for what each window of x holds, convolution is y = weight @ columns(x) for each example. It is
linear in x and in weight, so the sum over all of y * g is a form in x, weight and g from which each of the three
operators here takes one as its result: convolution y, convolution_input x, convolution_weight the weight. The
derivatives of each are therefore the other two, and those of any order are made of the three.
"""

from __future__ import annotations

import math

import numpy as np

from pargrad.rules.patches import BLOCK, Columns, added, columns, columns_of_runs, runs, single, stages, windows
from pargrad.rules.stacks import NotStackable, contiguous
from pargrad.rules.table import RULES, rule, sample


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
    held = np.empty((*x.shape[: x.ndim - len(windows.sizes)], *windows.kernel, *windows.counts), x.dtype)
    return columns(x, windows, held), lambda g: col2im(g, windows=windows)


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
    return added(np.empty((*lead, *windows.sizes), x.dtype), x, windows), lambda g: im2col(g, windows=windows)


# ----- convolution -----

MANY = 256  # rows, from which on BLAS is as fast with them first in a product with transposed columns


def matrices(weight, groups):
    """A weight (out, in, *kernel) as a matrix for each group."""
    out, *taps = weight.shape
    return weight.reshape(groups, out // groups, math.prod(taps))


def correlated(x, matrix, windows):
    """The product of a matrix (groups, rows, length) with each window of x (n, channels, *sizes), group by group."""
    groups, rows, length = matrix.shape
    places = math.prod(windows.counts)
    y = np.empty((len(x), groups, rows, places), x.dtype)
    for run, held in columns_of_runs(x, windows, groups * length * places * x.itemsize):
        np.matmul(matrix, held.reshape(len(held), groups, length, places), out=y[run])
    return y.reshape(len(x), groups * rows, *windows.counts)


def in_turn(windows, outputs, channels):
    """How the transpose of a convolution gathers along the last dimension, and how it then adds up along the others.

    A place of x has the sum over taps of what is a tap's distance from it in y. Along the last dimension those are
    columns of y, with taps and padding turned around; a product with them leaves fewer columns to be added up. That is
    for windows that lie closely, so that there are about as many as places. For others only what is added up is left.
    """
    size, kernel, count, stride, before, dilation = (each[-1] for each in windows)
    gathers = stride == 1 and kernel > 1 and 4 * size <= 5 * count and outputs <= 4 * channels
    if not gathers:
        return single(windows.counts), windows
    around = (count, kernel, size, 1, dilation * (kernel - 1) - before, dilation)
    return single(windows.counts).along(-1, *around), windows.along(-1, size, 1, size, 1, 0, 1)


def turned(weight, taps, groups):
    """A weight (out, in, *kernel) as a matrix for each group that takes columns of y of so many taps."""
    out, channels, *kernel = weight.shape
    rows, left = out // groups, channels * math.prod(kernel) // taps
    several = weight.reshape(groups, rows, left, taps)[..., ::-1]
    return several.transpose(0, 2, 1, 3).reshape(groups, left, rows * taps)


def gathered(y, across, bytes_of_one):
    """Each run of the examples y (n, out, *counts) and its columns along the last dimension.

    Where all padding is on one side and as long as the lines grow by, it is put behind each line, for the next one
    too: then columns are copied in one run over all lines.
    """
    count, taps, size, _, before, dilation = (each[-1] for each in across)
    if before != dilation * (taps - 1) or size != count + before:
        yield from columns_of_runs(y, across, bytes_of_one)
        return
    shape = None
    for run in runs(len(y), bytes_of_one):
        given = y[run]
        if given.shape != shape:
            shape = given.shape
            lines = np.zeros((*shape[:2], before + math.prod(across.counts)), y.dtype)
            inside = lines[..., before:].reshape(*shape[:-1], size)[..., :count]
            columns = Columns(lines.shape, windows(lines.shape[2:], taps, dilation=dilation), y.dtype)
        inside[...] = given
        yield run, columns(lines)


def spread(y, matrix, across, down):
    """The product of a matrix with columns of y (n, out, *counts), added up as windows of x."""
    groups, rows, length = matrix.shape
    channels, places = groups * rows // math.prod(down.kernel), math.prod(across.counts)
    x = np.empty((len(y), channels, *down.sizes), y.dtype)
    multiply = np.multiply if length == 1 else np.matmul  # which is slow for a column times a row
    for run, held in gathered(y, across, groups * max(length, rows) * places * y.itemsize):
        product = multiply(matrix, held.reshape(len(held), groups, length, places))
        added(x[run], product.reshape(len(held), channels, *down.kernel, *down.counts), down)
    return x


def transposed(y, weight, windows, groups):
    """The transpose of a convolution as a map of x."""
    across, down = in_turn(windows, len(weight), groups * weight.shape[1])
    matrix = turned(weight, across.kernel[-1], groups)
    return spread(y, matrix, across, down) if stages(down) else correlated(y, matrix, across)


def product(x, weight, windows, groups):
    return correlated(x, matrices(weight, groups), windows)


def is_depthwise(weight, windows, groups):
    """Whether each channel is a group of its own, over several dimensions and at every position."""
    return len(weight) == groups and weight.shape[1] == 1 and max(windows.stride) == 1 and len(windows.sizes) > 1


def depthwise(x, weight, windows, groups):
    """The same as the transpose of the convolution with everything turned around, which makes fewer columns."""
    before = tuple(d * (k - 1) - n for k, n, d in zip(windows.kernel, windows.before, windows.dilation))
    around = windows._replace(sizes=windows.counts, counts=windows.sizes, before=before)
    return transposed(x, np.flip(weight, tuple(range(2, weight.ndim))), around, groups)


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
    return (
        (depthwise if is_depthwise(weight, windows, groups) else product)(x, weight, windows, groups),
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
    return (
        transposed(y, weight, windows, groups),
        lambda g: convolution(g, weight, windows=windows, groups=groups),
        lambda g: convolution_weight(g, y, windows=windows, groups=groups),
    )


def summed_products(x, y, windows, groups):
    """What the windows of x hold times y, added up over places and examples: (groups, out / groups, length)."""
    channels, taps, places = x.shape[1], math.prod(windows.kernel), math.prod(windows.counts)
    rows, length = y.shape[1] // groups, channels // groups * taps
    columns_first = rows < MANY
    total = np.zeros((groups, length, rows) if columns_first else (groups, rows, length), x.dtype)

    def multiplied(columns, given):
        """The product of columns (..., length, places) with y (..., rows, places)."""
        left, right = (columns, given) if columns_first else (given, columns)
        return left @ np.swapaxes(right, -1, -2)

    # Few additions to the total, which may be larger than the columns.
    of_one, block = channels * taps * places * x.itemsize, max(BLOCK, total.nbytes)
    if max(length, rows) <= places or block < 2 * of_one:  # a product for each example
        for run, held in columns_of_runs(x, windows, of_one, block):
            n = len(held)
            products = multiplied(held.reshape(n, groups, length, places), y[run].reshape(n, groups, rows, places))
            total += products[0] if n == 1 else products.sum(axis=0)
    else:  # one for several
        for run in runs(len(x), of_one, block):
            seen, given = x[run], y[run].reshape(len(y[run]), groups, rows, places)
            held = np.empty((channels, *windows.kernel, len(seen), *windows.counts), x.dtype)
            columns(seen, windows, np.moveaxis(held, 1 + len(windows.kernel), 0))
            given = np.moveaxis(given, 0, 2).reshape(groups, rows, -1)
            total += multiplied(held.reshape(groups, length, -1), given)
    return np.ascontiguousarray(np.swapaxes(total, 1, 2)) if columns_first else total


@rule(
    sample((2, 3, 5, 4), (2, 4, 3, 2), windows=IMAGE),
    sample((2, 4, 5, 4), (2, 6, 4, 4), windows=GROUPS, groups=2),
    sample((2, 3, 7), (2, 4, 3), windows=LINE),
    sample((0, 3, 7), (0, 4, 3), windows=LINE),
    dtype="match",
)
def convolution_weight(x, y, *, windows, groups=1):
    """The sum over examples and places of y (n, out, *counts) times the window of x: (out, in / groups, *kernel)."""
    return (
        summed_products(x, y, windows, groups).reshape(y.shape[1], x.shape[1] // groups, *windows.kernel),
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
