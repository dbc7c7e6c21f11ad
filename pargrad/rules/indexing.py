"""Operators that pick elements by index, and those that put them there."""

import numpy as np

from pargrad.rules.stacks import NotStackable, shifted
from pargrad.rules.table import integers, rule, sample


def is_basic(index):
    """Whether an index is made of slices, integers, None and ... alone, so that it names each element at most once."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, slice | int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


@rule(
    sample((2,), index=(slice(None, None, 2), -1), shape=(4, 3)),
    sample((4, 3), index=np.array([0, 2, 2, -1]), shape=(4, 3)),
    sample((2, 3), index=(Ellipsis, np.array([0, 2, 1])), shape=(2, 4), once=True),
    sample((), index=1, shape=(3,)),
    dtype="as is",
)
def add_into_zeros(x, *, index, shape, once=False):
    """Zeros of this shape with the elements of x added at an index; torch has no function of this name.

    once: the index names no element twice, or the last one may win.
    """
    out = np.zeros(shape, x.dtype)
    if once or is_basic(index):
        out[index] = x
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
    """numpy's index for what `gather` takes along `dim`."""
    places = list(np.ix_(*map(np.arange, index.shape)))
    places[dim : dim + 1 or None] = [index]
    return tuple(places)


def corner(index):
    """The index of as much of another array as there is of this one."""
    return tuple(map(slice, index.shape))


def lines(function, arrays, stacked, settings):
    """On a stack: every argument with the leading axis, and `dim` one further on."""
    count = next(len(x) for x, flag in zip(arrays, stacked) if flag)
    if any(np.ndim(x) <= flag for x, flag in zip(arrays, stacked)):
        raise NotStackable
    full = (x if flag else np.broadcast_to(x, (count, *x.shape)) for x, flag in zip(arrays, stacked))
    return function(*full, **{**settings, "dim": shifted(settings["dim"])})


# torch has numbers as vectors of one element here: `line` is the shape of x as a vector at least. An index becomes an
# array because a rule that is called on Tensors, for second derivatives, is given it as a Tensor.


@rule(
    sample((4, 3), integers(4, 2, 3), dim=0),
    sample((4, 3), integers(3, 2, 5), dim=-1),
    sample((3,), integers(3, 6), dim=0),
    sample((), integers(1, 2), dim=0),
    dtype="as is",
    fixed=("index",),
    stack=lines,
)
def gather(x, index, *, dim):
    shape = x.shape
    line, index = shape or (1,), np.asarray(index)
    check_along(index, dim, line)
    if not index.size:
        return np.zeros(index.shape, x.dtype), lambda g: np.zeros(shape, g.dtype), None
    return (
        x.reshape(line)[along(index, dim)],
        lambda g: add_into_zeros(g, index=along(index, dim), shape=line).reshape(shape),
        None,
    )


@rule(
    sample((4, 3), integers(4, 2, 3), (3, 3), dim=0),
    sample((4, 3), integers(3, 2, 5), (2, 5), dim=-1),
    sample((3,), integers(3, 6), (6,), dim=0),
    sample((), integers(1, 2), (2,), dim=0),
    dtype="match",
    fixed=("index",),
    stack=lines,
)
def scatter_add(x, index, src, *, dim):
    shape, given = x.shape, src.shape
    line, wide = shape or (1,), given or (1,)
    index = np.asarray(index)
    check_along(index, dim, line, src)
    index = index if index.ndim else index.reshape(1)

    def vjp_src(g):
        if not index.size:
            return np.zeros(given, g.dtype)
        taken = g.reshape(line)[along(index, dim)]
        return (taken if taken.shape == wide else add_into_zeros(taken, index=corner(index), shape=wide)).reshape(given)

    if not index.size:
        return np.copy(x), lambda g: g, None, vjp_src
    y = x + add_into_zeros(src.reshape(wide)[corner(index)], index=along(index, dim), shape=line).reshape(shape)
    return y, lambda g: g, None, vjp_src


def distinct(high, *shape):
    """A sample's index that names no element twice along dim 0."""
    return lambda generator: generator.permuted(np.arange(high).repeat(np.prod(shape[1:], dtype=int)).reshape(
        high, *shape[1:]), axis=0)[: shape[0]]  # fmt: skip


@rule(
    sample((4, 3), distinct(4, 2, 3), (3, 3), dim=0),
    sample((4,), distinct(4, 3), (3,), dim=-1),
    sample((), distinct(1, 1), (1,), dim=0),
    dtype="match",
    fixed=("index",),
    stack=lines,
)
def scatter(x, index, src, *, dim):
    shape, given = x.shape, src.shape
    line, wide = shape or (1,), given or (1,)
    index = np.asarray(index)
    check_along(index, dim, line, src)
    index = index if index.ndim else index.reshape(1)

    def written():
        return add_into_zeros(np.ones(index.shape, bool), index=along(index, dim), shape=line, once=True).reshape(shape)

    def vjp_src(g):
        if not index.size:
            return np.zeros(given, g.dtype)
        taken = g.reshape(line)[along(index, dim)]
        return (taken if taken.shape == wide else add_into_zeros(taken, index=corner(index), shape=wide)).reshape(given)

    if not index.size:
        return np.copy(x), lambda g: g, None, vjp_src
    laid = add_into_zeros(src.reshape(wide)[corner(index)], index=along(index, dim), shape=line, once=True).reshape(
        shape
    )
    return np.where(written(), laid, x), lambda g: np.where(written(), 0, g), None, vjp_src


def rows(index, dim):
    """numpy's index for all that has one of these positions along `dim`."""
    return (slice(None),) * dim + (index,) if dim >= 0 else (Ellipsis, index, *(slice(None),) * (-1 - dim))


@rule(
    sample((4, 3), integers(4, 5), (5, 3), dim=0),
    sample((4, 3), integers(3, 2), (4, 2), dim=-1, alpha=2),
    sample((2, 4, 3), integers(4, 3), (2, 3, 3), dim=-2, alpha=-0.5),
    dtype="match",
    fixed=("index",),
)
def index_add(x, index, source, *, dim, alpha=1):
    line, index = x.shape or (1,), np.asarray(index)
    axis = dim + len(line) if dim < 0 else dim
    if not 0 <= axis < len(line):
        raise IndexError(f"expected a dim from {-len(line)} to {len(line) - 1}, got {dim}")
    if index.ndim > 1 or index.dtype.kind not in "iu":
        raise IndexError(f"expected a vector of integers as the index, got {index.dtype} of shape {index.shape}")
    many = (*line[:axis], index.size, *line[axis + 1 :])
    if (source.shape or (1,)) != many:
        raise ValueError(
            f"expected a source of shape {many} for x of shape {x.shape} and {index.size} positions along dim {dim}, "
            f"got {source.shape}"
        )
    if index.size and (index.min() < 0 or index.max() >= line[axis]):
        raise IndexError(f"expected an index from 0 to {line[axis] - 1} along dim {dim}, got {index.tolist()}")
    shape, given = x.shape, source.shape

    def place():
        return rows(index.reshape(-1), axis)

    y = x + alpha * add_into_zeros(source.reshape(many), index=place(), shape=line).reshape(shape)
    return y, lambda g: g, None, lambda g: alpha * g.reshape(line)[place()].reshape(given)
