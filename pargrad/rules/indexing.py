"""Operators that pick elements by index; `scattering` has those that put them there."""

import math

import numpy as np

from pargrad.rules.complex import complexes
from pargrad.rules.stacks import NotStackable, full, indexed, shifted
from pargrad.rules.table import integers, rule, sample


def is_basic(index):
    """Whether an index is made of slices, integers, None and ... alone, so that it names each element at most once."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, slice | int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


def is_rows(index, x, shape):
    """Whether an index is one array of integers, for rows that are worth a product of matrices."""
    return (
        isinstance(index, np.ndarray)
        and index.dtype.kind in "iu"
        and x.dtype.char in "fdFD"
        and len(shape) > 1
        and x.size >= 256
        and x.shape == (*index.shape, *shape[1:])
    )


FEW = 1 << 12  # elements, of which numpy's one call is faster


def rows_added(x, index, shape):
    """Rows added up by their numbers: the product of a matrix that has a 1 in each column with the rows.

    scipy works it out column by column, so that each row is added as `np.add.at` would add it, only faster; unless
    there is little to add.
    """
    numbers = index.reshape(-1)
    if numbers.size:
        least, most = numbers.min(), numbers.max()
        if least < -shape[0] or most >= shape[0]:
            raise IndexError(f"expected an index from {-shape[0]} to {shape[0] - 1}, got {least} to {most}")
        numbers = np.where(numbers < 0, numbers + shape[0], numbers) if least < 0 else numbers
    if x.size <= FEW:
        out, width = np.zeros(shape, x.dtype), math.prod(shape[1:])
        np.add.at(out.reshape(-1), (numbers[:, np.newaxis] * width + np.arange(width)).reshape(-1), x.reshape(-1))
        return out
    from scipy.sparse import csc_array

    ones, starts = np.ones(numbers.size, x.dtype), np.arange(numbers.size + 1)
    chosen = csc_array((ones, numbers, starts), shape=(shape[0], numbers.size))
    return (chosen @ x.reshape(numbers.size, -1)).reshape(shape)


@rule(
    sample((2,), index=(slice(None, None, 2), -1), shape=(4, 3)),
    sample((4, 3), index=np.array([0, 2, 2, -1]), shape=(4, 3)),
    sample((2, 3), index=(Ellipsis, np.array([0, 2, 1])), shape=(2, 4), once=True),
    sample((), index=1, shape=(3,)),
    dtype="as is",
    stack=indexed,
)
def add_into_zeros(x, *, index, shape, once=False):
    """Zeros of this shape with the elements of x added at an index; torch has no function of this name.

    once: the index names no element twice, or the last one may win.
    """
    out = np.zeros(shape, x.dtype)  # which takes no memory before it is written to
    if once or is_basic(index):
        out[index] = x
    elif is_rows(index, x, shape):
        return rows_added(x, index, shape), lambda g: g[index]
    else:
        np.add.at(out, index, x)  # an element named twice is given both
    return out, lambda g: g[index]


@rule(
    sample((4, 3), index=(slice(None, None, 2), -1)),
    sample((4, 3), index=(None, Ellipsis, 1)),
    sample((4, 3), index=np.array([0, 2, 2, -1])),
    sample((4, 3), index=(np.array([[0], [0]]), np.array([1, 1]))),
    sample((4,), index=np.array([True, False, True, True])),
    sample((2, 3), index=1),
    dtype="as is",
    view=True,
    stack=indexed,
)
def getitem(x, *, index):
    shape = x.shape
    y = x[index]
    if isinstance(y, np.generic):
        y = x[(*index, ...) if isinstance(index, tuple) else (index, ...)]  # one element is a view, too, as in torch
    return y, lambda g: add_into_zeros(g, index=index, shape=shape)


# ----- along one dim, an index for each element -----


def check_along(index, dim, sizes, *others):
    """Refuses an index that does not fit `sizes` along `dim`, or another array that it is to be laid on."""
    if index.dtype.kind not in "iu":
        raise ValueError(f"expected an index of integers, got {index.dtype}")
    axis = dim + len(sizes) if dim < 0 else dim
    if not 0 <= axis < len(sizes):
        raise IndexError(f"expected a dim from {-len(sizes)} to {len(sizes) - 1}, got {dim}")
    if not index.size:
        return
    counts = index.shape or (1,)
    within = tuple(max(counts) if i == axis else size for i, size in enumerate(sizes))  # along dim it may be longer
    for shape in (within, *(other.shape or (1,) for other in others)):
        if len(counts) != len(shape) or any(count > size for count, size in zip(counts, shape)):
            raise ValueError(f"expected an index of {len(shape)} dimensions and at most shape {shape}, got {counts}")
    if index.min() < 0 or index.max() >= sizes[axis]:
        raise ValueError(f"expected an index from 0 to {sizes[axis] - 1} along dim {dim}, got {index.tolist()}")


def along(index, dim):
    """numpy's index for what `gather` takes along `dim`; in second derivatives the index may be a Tensor."""
    array = np.atleast_1d(np.asarray(index))
    places = list(np.ix_(*map(np.arange, array.shape)))
    places[dim : dim + 1 or None] = [array]
    return tuple(places)


def nothing(g, shape):
    """Zeros, which no element of g goes into; part of the graph where g is, so that they have a derivative."""
    return np.zeros(shape, g.dtype) + g.reshape(-1)[:0].sum()


def lines(function, arrays, stacked, settings):
    """On a stack: every argument with the leading axis, and `dim` one further on."""
    if any(np.ndim(x) <= flag for x, flag in zip(arrays, stacked)):
        raise NotStackable
    return function(*full(arrays, stacked), **{**settings, "dim": shifted(settings["dim"])})


# torch has numbers as vectors of one element here: `line` is the shape of x as a vector at least.


@rule(
    sample((4, 3), integers(4, 2, 3), dim=0),
    sample((4, 3), integers(3, 2, 5), dim=-1),
    sample((3,), integers(3, 6), dim=0),
    sample((), integers(1, 2), dim=0),
    sample(complexes(4, 3), integers(4, 2, 3), dim=0),
    dtype="as is",
    fixed=("index",),
    stack=lines,
)
def gather(x, index, *, dim):
    shape, counts = x.shape, index.shape
    line = shape or (1,)
    check_along(index, dim, line)
    if not index.size:
        return np.zeros(counts, x.dtype), lambda g: nothing(g, shape), None

    def vjp(g):
        place = along(index, dim)
        return add_into_zeros(g.reshape(counts or (1,)), index=place, shape=line).reshape(shape)

    return x.reshape(line)[along(index, dim)].reshape(counts), vjp, None
