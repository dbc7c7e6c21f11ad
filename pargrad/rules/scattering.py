"""Operators that put elements where an index says: over what is there, or added, multiplied or compared with it."""

import numpy as np

from pargrad.rules.complex import complexes, ordered
from pargrad.rules.indexing import add_into_zeros, along, check_along, lines, nothing
from pargrad.rules.table import integers, rule, sample


def distinct(high, *shape):
    """A sample's index that names no element twice along dim 0."""
    return lambda generator: generator.permuted(np.arange(high).repeat(np.prod(shape[1:], dtype=int)).reshape(
        high, *shape[1:]), axis=0)[: shape[0]]  # fmt: skip


# ----- at any index that numpy takes -----


@rule(
    sample((4, 3), (2,), index=(slice(None, None, 2), -1)),
    sample((4, 3), (1, 2, 1), index=np.array([0, 2])),
    sample((4,), (), index=np.array([True, False, True, True])),
    sample((2, 4), (2, 3), index=(Ellipsis, np.array([0, 2, 1]))),
    sample((3,), (), index=1),
    sample((), (1,), index=None),
    sample(complexes(4, 3), complexes(2, 1), index=np.array([0, 2])),
    dtype="as is",
)
def set_at(x, value, *, index):
    """A copy of x with x[index] = value; torch has no function of this name.

    Where an index names an element twice, one of the values is kept, and all of them get its gradient, as in torch.
    """
    y, dimensions = x.copy(), value.ndim
    y[index] = value

    def vjp_value(g):
        taken = g[index]
        extra = dimensions - taken.ndim  # first dimensions of length 1, which an assignment leaves out
        return taken.reshape((1,) * extra + taken.shape) if extra > 0 else taken

    return y, lambda g: set_at(g, np.zeros((), g.dtype), index=index), vjp_value


# ----- along one dim, an index for each element -----

# torch has numbers as vectors of one element here: `line` is the shape of x as a vector at least.


def corner(index):
    """The index of as much of another array as there is of this one."""
    return tuple(map(slice, np.shape(index) or (1,)))


def part(src, index):
    """What of src there is an index for."""
    return src.reshape(src.shape or (1,))[corner(index)]


def put_back(taken, index, given):
    """The transpose of `part`: zeros for what of the shape `given` there is no index for."""
    wide = given or (1,)
    return (taken if taken.shape == wide else add_into_zeros(taken, index=corner(index), shape=wide)).reshape(given)


def collected(g, index, dim, line, given):
    """For what was laid along `dim` on the shape `line`, the gradient of the array, `given` its shape, it came from."""
    if not np.size(index):
        return nothing(g, given)
    return put_back(g.reshape(line)[along(index, dim)], index, given)


SCATTERED = (
    sample((4, 3), integers(4, 2, 3), (3, 3), dim=0),
    sample((4, 3), integers(3, 2, 5), (2, 5), dim=-1),
    sample((3,), integers(3, 6), (6,), dim=0),
    sample((), integers(1, 2), (2,), dim=0),
)


@rule(
    *SCATTERED,
    sample(complexes(4, 3), integers(4, 2, 3), complexes(2, 3), dim=0),
    dtype="match",
    fixed=("index",),
    stack=lines,
)
def scatter_add(x, index, src, *, dim):
    shape, given = x.shape, src.shape
    line = shape or (1,)
    check_along(index, dim, line, src)
    y = x.copy()
    if index.size:
        y += add_into_zeros(part(src, index), index=along(index, dim), shape=line).reshape(shape)
    return y, lambda g: g, None, lambda g: collected(g, index, dim, line, given)


@rule(
    sample((4, 3), distinct(4, 2, 3), (3, 3), dim=0),
    sample((4,), distinct(4, 3), (3,), dim=-1),
    sample((), distinct(1, 1), (1,), dim=0),
    sample(complexes(4, 3), distinct(4, 2, 3), complexes(2, 3), dim=0),
    dtype="match",
    fixed=("index",),
    stack=lines,
)
def scatter(x, index, src, *, dim):
    shape, given = x.shape, src.shape
    line = shape or (1,)
    check_along(index, dim, line, src)
    if not index.size:
        return x.copy(), lambda g: g, None, lambda g: nothing(g, given)

    def laid(base, values):
        return set_at(base.reshape(line), values, index=along(index, dim)).reshape(shape)

    return (
        laid(x, part(src, index)),
        lambda g: laid(g, np.zeros((), g.dtype)),
        None,
        lambda g: collected(g, index, dim, line, given),
    )


def laid_on(x, index, src, dim, reduce):
    """A copy of x in which each element is reduced with all that goes there."""
    line = x.shape or (1,)
    check_along(index, dim, line, src)
    y = x.copy()
    if index.size:
        with np.errstate(invalid="ignore"):  # maximum.at warns of nan, which maximum does not
            reduce.at(y.reshape(line), along(index, dim), part(src, index))
    return y


@rule(*SCATTERED, dtype="match", fixed=("index",), stack=lines)
def scatter_prod(x, index, src, *, dim):
    """Each element times all of src that goes there: torch's `scatter_reduce(reduce="prod")`.

    Of zeros of src that meet at one element the second derivative is 0; torch raises there.
    """
    shape, given = x.shape, src.shape
    line = shape or (1,)
    y = laid_on(x, index, src, dim, np.multiply)

    def vjp_x(g):
        return g * scatter_prod(np.ones(shape, g.dtype), index, src, dim=dim)

    def vjp_src(g):
        if not np.size(index):
            return nothing(g, given)
        place, factors = along(index, dim), part(src, index)
        zero = np.asarray(factors == 0)
        alone = zero & (add_into_zeros(zero.astype(int), index=place, shape=line)[place] == 1)
        # The product of the others: by division, or, for the only zero, by counting it as one.
        of_ones = scatter_prod(x, place[dim], np.where(alone, 1, factors), dim=dim).reshape(line)[place]
        others = np.where(alone, of_ones, y.reshape(line)[place] / np.where(zero, 1, factors))
        return put_back(g.reshape(line)[place] * others, index, given)

    return y, vjp_x, None, vjp_src


def shared(g, x, index, src, y, dim):
    """g over how many elements are the extreme y, of x and of what is laid on it, and which of both they are."""
    place, line = along(index, dim), x.shape or (1,)
    here, there = np.asarray(x == y), np.asarray(part(src, index) == y.reshape(line)[place])
    count = here + add_into_zeros(there.astype(g.dtype), index=place, shape=line).reshape(x.shape)
    return np.where(count == 0, np.nan, g / np.maximum(count, 1)), here, there


@rule(*SCATTERED, *(one._replace(settings={**one.settings, "largest": False}) for one in SCATTERED),
      dtype="match", fixed=("index",), stack=lines)  # fmt: skip
def scatter_extreme(x, index, src, *, dim, largest=True):
    """Each element, or the greatest of src that goes there: torch's `scatter_reduce(reduce="amax")`, or "amin".

    Equal extremes share the gradient; of one that is nan all get nan.
    """
    ordered(x)
    given = src.shape
    y = laid_on(x, index, src, dim, np.maximum if largest else np.minimum)

    def vjp_x(g):
        if not np.size(index):
            return g
        parts, here, _ = shared(g, x, index, src, y, dim)
        return parts * here

    def vjp_src(g):
        if not np.size(index):
            return nothing(g, given)
        parts, _, there = shared(g, x, index, src, y, dim)
        return put_back(parts.reshape(x.shape or (1,))[along(index, dim)] * there, index, given)

    return y, vjp_x, None, vjp_src


# ----- along one dim, an index for all that is at a position -----


def rows(index, dim):
    """numpy's index for all that has one of these positions along `dim`, counted from the front."""
    return (slice(None),) * dim + (np.asarray(index).reshape(-1),)


@rule(
    sample((4, 3), integers(4, 5), (5, 3), dim=0),
    sample((4, 3), integers(3, 2), (4, 2), dim=-1, alpha=2),
    sample((2, 4, 3), integers(4, 3), (2, 3, 3), dim=-2, alpha=-0.5),
    sample(complexes(4, 3), integers(4, 5), complexes(5, 3), dim=0, alpha=2),
    dtype="match",
    fixed=("index",),
)
def index_add(x, index, source, *, dim, alpha=1):
    shape, given = x.shape, source.shape
    line = shape or (1,)
    axis = dim + len(line) if dim < 0 else dim
    if not 0 <= axis < len(line):
        raise IndexError(f"expected a dim from {-len(line)} to {len(line) - 1}, got {dim}")
    if index.ndim > 1 or index.dtype.kind not in "iu":
        raise IndexError(f"expected a vector of integers as the index, got {index.dtype} of shape {index.shape}")
    many = (*line[:axis], index.size, *line[axis + 1 :])
    if (given or (1,)) != many:
        raise ValueError(
            f"expected a source of shape {many} for x of shape {shape} and {index.size} positions along dim {dim}, "
            f"got {given}"
        )
    if index.size and (index.min() < 0 or index.max() >= line[axis]):
        raise IndexError(f"expected an index from 0 to {line[axis] - 1} along dim {dim}, got {index.tolist()}")
    y = x + alpha * add_into_zeros(source.reshape(many), index=rows(index, axis), shape=line).reshape(shape)
    return y, lambda g: g, None, lambda g: alpha * g.reshape(line)[rows(index, axis)].reshape(given)
