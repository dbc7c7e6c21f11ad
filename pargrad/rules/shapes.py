"""Operators that move elements without changing them: shapes and joins."""

from itertools import pairwise

import numpy as np

from pargrad.rules.indexing import add_into_zeros
from pargrad.rules.stacks import NotStackable, elementwise, joined, permuted, reshaped, shifted
from pargrad.rules.table import rule, sample


@rule(
    sample((2, 3, 4), shape=(4, -1)),
    sample((), shape=(1, 1)),
    sample((0, 2), shape=(0,)),
    dtype="as is",
    view=True,
    stack=reshaped,
)
def reshape(x, *, shape):
    old = x.shape
    return x.reshape(shape), lambda g: g.reshape(old)


@rule(sample((2, 3, 4), dims=(2, 0, 1)), sample((2, 3, 4), dims=(-1, 0, 1)), dtype="as is", view=True, stack=permuted)
def permute(x, *, dims):
    y = np.transpose(x, dims)
    # Only a permutation of non-negative axes can be inverted by argsort.
    axes = tuple(dim % x.ndim for dim in dims)
    return y, lambda g: np.transpose(g, tuple(sorted(range(len(axes)), key=axes.__getitem__)))


def in_order(y):
    """In C order, as torch joins: numpy keeps the order of transposed arrays, and draws of dropout go by the order."""
    return np.ascontiguousarray(y) if type(y) is np.ndarray and not y.flags.c_contiguous else y


@rule(
    sample((1, 3), (2, 3), dim=0),
    sample((2, 1), (2, 3), (2, 2), dim=-1),
    joint=True,
    numpy=np.concatenate,
    stack=joined,
)
def cat(*tensors, dim=0):
    y = in_order(np.concatenate(tensors, axis=dim))
    before = (slice(None),) * (dim % y.ndim)
    ends = [0, *np.cumsum([x.shape[dim] for x in tensors]).tolist()]
    return y, lambda g: tuple(g[(*before, slice(*span))] for span in pairwise(ends))


@rule(sample((2, 3), (2, 3), dim=0), sample((3,), (3,), (3,), dim=-1), joint=True, numpy=np.stack, stack=joined)
def stack(*tensors, dim=0):
    y = in_order(np.stack(tensors, axis=dim))
    return y, lambda g: tuple(np.moveaxis(g, dim, 0))


def squeezed(function, arrays, stacked, settings):
    """On a stack: the slices' dimensions by name, lest a stack of one lose its own."""
    (x,), dim = arrays, settings.get("dim")
    named = range(x.ndim - 1) if dim is None else dim if isinstance(dim, tuple) else (dim,)
    return function(x, dim=shifted(tuple(named)))


@rule(
    sample((1, 3, 1)),
    sample((1, 3, 1), dim=-1),
    sample((2, 3), dim=0),
    dtype="as is",
    view=True,
    numpy=np.squeeze,
    stack=squeezed,
)
def squeeze(x, *, dim=None):
    # Unlike numpy, torch leaves a dimension alone that is not 1 long.
    named = range(x.ndim) if dim is None else (dim if isinstance(dim, tuple) else (dim,))
    axes = tuple(axis for axis in named if x.ndim and x.shape[axis] == 1)
    old = x.shape
    return np.squeeze(x, axes), lambda g: g.reshape(old)


@rule(
    sample((2, 3), dim=1),
    sample((2, 3), dim=-1),
    sample((), dim=0),
    dtype="as is",
    view=True,
    stack=lambda function, arrays, stacked, settings: function(*arrays, dim=shifted(settings["dim"])),
)
def unsqueeze(x, *, dim):
    old = x.shape
    return np.expand_dims(x, dim), lambda g: g.reshape(old)


def expanded(function, arrays, stacked, settings):
    """On a stack: the leading axis before the new dimensions."""
    (x,), size = arrays, settings["size"]
    new = len(size) - (x.ndim - 1)
    if new < 0 or -1 in size[:new]:
        raise NotStackable
    return function(x.reshape(len(x), *(1,) * new, *x.shape[1:]), size=(len(x), *size))


@rule(
    sample((2, 1), size=(3, 2, 4)),
    sample((1, 3), size=(2, -1)),
    sample((), size=(2,)),
    dtype="as is",
    view=True,
    stack=expanded,
)
def expand(x, *, size):
    # -1 keeps a dimension; what was broadcast is summed where every broadcast is, in the engine.
    new = len(size) - x.ndim
    if -1 in size[: max(new, 0)]:
        raise ValueError(f"-1 keeps a dimension that is there, and the first {new} are new: give their sizes")
    kept = (None,) * new + x.shape
    return np.broadcast_to(x, [old if new == -1 else new for new, old in zip(size, kept)]), lambda g: g


@rule(sample((2, 3)), sample(()), dtype="as is", stack=elementwise)
def clone(x):
    return x.copy(), lambda g: g


@rule(sample((2, 3), dtype=np.float64), dtype="as is", view=True, stack=elementwise)
def to(x, *, dtype):
    # The engine casts every gradient to the dtype of the input it belongs to.
    return x.astype(dtype, copy=False), lambda g: g


# ----- elements in another order, or at other places -----


def dims_shifted(function, arrays, stacked, settings):
    """On a stack: every dim one further on."""
    (x,) = arrays
    named = {name: value for name, value in settings.items() if name in ("dims", "dim1", "dim2", "dimension")}
    if x.ndim == 1 or None in named.values():
        raise NotStackable
    return function(x, **{**settings, **{name: shifted(value) for name, value in named.items()}})


def axes_of(dims, count):
    """Dims counted from the front; one that is not there, or there twice, is an error."""
    for dim in dims:
        if not -max(count, 1) <= dim < max(count, 1):
            raise IndexError(f"expected a dim from {-max(count, 1)} to {max(count, 1) - 1}, got {dim}")
    axes = tuple(dim % max(count, 1) for dim in dims)
    if len(set(axes)) < len(axes):
        raise ValueError(f"expected each dim once, got {dims}")
    return axes if count else ()


@rule(
    sample((2, 3, 4), dims=(0, -1)),
    sample((2, 3), dims=(1,)),
    sample((2, 3), dims=()),
    sample((), dims=(0,)),
    dtype="as is",
    stack=dims_shifted,
)
def flip(x, *, dims):
    axes = axes_of((dims,) if isinstance(dims, int) else dims, x.ndim)
    return np.copy(np.flip(x, axes), order="C"), lambda g: np.flip(g, axes)


@rule(
    sample((2, 3, 4), shifts=(1, -2), dims=(0, -1)),
    sample((2, 3), shifts=4, dims=1),
    sample((2, 3), shifts=2),
    sample((3, 2), shifts=(1, 1), dims=(0, 0)),
    sample((), shifts=1),
    dtype="as is",
    stack=lambda function, arrays, stacked, settings: dims_shifted(
        function, arrays, stacked, {"dims": None} | settings
    ),
)
def roll(x, *, shifts, dims=None):
    """torch's `roll`: elements move along dims (of all as one row where none are named), from the end to the start."""
    dims = None if dims is None or dims == () else dims
    by = shifts if isinstance(shifts, tuple) else (shifts,)
    if len(by) != (1 if dims is None or isinstance(dims, int) else len(dims)):
        raise ValueError(f"expected as many shifts as dims, got shifts {shifts} and dims {dims}")
    if dims is not None and not x.ndim:
        raise IndexError(f"a number has no dim {dims}")
    back = tuple(-n for n in by)
    if dims is None:
        by, back = by[0], back[0]
    return np.roll(x, by, dims), lambda g: np.roll(g, back, dims)


def check_matrices(x):
    if x.ndim < 2:
        raise ValueError(f"expected matrices, of at least 2 dimensions, got shape {x.shape}")


def triangles(function, arrays, stacked, settings):
    """On a stack as it stands, since only the last two dimensions count."""
    (x,) = arrays
    check_matrices(x[0] if len(x) else x)
    return function(x, **settings)


@rule(sample((3, 4)), sample((2, 3, 3), diagonal=-1), sample((2, 4), diagonal=1), dtype="as is", stack=triangles)
def tril(x, *, diagonal=0):
    check_matrices(x)
    return np.tril(x, diagonal), lambda g: np.tril(g, diagonal)


@rule(sample((3, 4)), sample((2, 3, 3), diagonal=-1), sample((2, 4), diagonal=1), dtype="as is", stack=triangles)
def triu(x, *, diagonal=0):
    check_matrices(x)
    return np.triu(x, diagonal), lambda g: np.triu(g, diagonal)


def writable_as(view, x):
    """numpy's views that are read-only whatever they look at, as writable as that."""
    if isinstance(view, np.ndarray) and x.flags.writeable:
        view.flags.writeable = True
    return view


def diagonal_index(rows, columns, offset):
    """numpy's index for a diagonal of the last two dimensions."""
    count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    steps = np.arange(count)
    return (Ellipsis, steps - min(offset, 0), steps + max(offset, 0))


@rule(
    sample((3, 4)),
    sample((3, 4), offset=1),
    sample((3, 2, 4), offset=-1, dim1=-1, dim2=0),
    sample((2, 3), offset=5),
    dtype="as is",
    view=True,
    stack=lambda function, arrays, stacked, settings: dims_shifted(
        function, arrays, stacked, {"dim1": 0, "dim2": 1} | settings
    ),
)
def diagonal(x, *, offset=0, dim1=0, dim2=1):
    dims = axes_of((dim1, dim2), x.ndim)
    y = writable_as(np.diagonal(x, offset, *dims), x)
    others = [size for axis, size in enumerate(x.shape) if axis not in dims]
    shape = (*others, x.shape[dims[0]], x.shape[dims[1]])

    def vjp(g):
        out = add_into_zeros(g, index=diagonal_index(shape[-2], shape[-1], offset), shape=shape, once=True)
        return np.moveaxis(out, (-2, -1), dims)

    return y, vjp


@rule(
    sample((3,)),
    sample((2, 3), offset=1),
    sample((2, 3), offset=-2, dim1=0, dim2=-1),
    sample((2, 3), dim1=1, dim2=0),
    dtype="as is",
)
def diag_embed(x, *, offset=0, dim1=-2, dim2=-1):
    dims = axes_of((dim1, dim2), x.ndim + 1)
    size = x.shape[-1] + abs(offset)
    out = add_into_zeros(x, index=diagonal_index(size, size, offset), shape=(*x.shape[:-1], size, size), once=True)
    return np.moveaxis(out, (-2, -1), dims), lambda g: np.diagonal(g, offset, *dims)


@rule(
    sample((2, 3), repeats=(2, 3)),
    sample((3,), repeats=(2, 1, 2)),
    sample((2, 1), repeats=(0, 2)),
    sample((), repeats=(2,)),
    sample((), repeats=()),
    dtype="as is",
)
def repeat(x, *, repeats):
    if len(repeats) < x.ndim:
        raise ValueError(f"expected a number of repeats for each dimension of shape {x.shape}, got {repeats}")
    if any(count < 0 for count in repeats):
        raise ValueError(f"expected repeats of 0 or more, got {repeats}")
    shape = x.shape
    sizes = (1,) * (len(repeats) - x.ndim) + x.shape
    split = tuple(n for pair in zip(repeats, sizes) for n in pair)
    even = tuple(range(0, len(split), 2))
    return np.tile(x, repeats), lambda g: g.reshape(split).sum(axis=even).reshape(shape)


@rule(
    sample((5,), dimension=0, size=3, step=1),
    sample((2, 7, 3), dimension=-2, size=3, step=2),
    sample((2, 5), dimension=1, size=2, step=3),
    sample((2, 5), dimension=1, size=0, step=2),
    sample((), dimension=0, size=1, step=1),
    dtype="as is",
    view=True,
    stack=dims_shifted,
)
def unfold(x, *, dimension, size, step):
    """torch's `Tensor.unfold`: a view of windows along a dimension, as the last one.

    Windows that overlap are read-only, where torch writes an element several times, with undefined results.
    """
    shape = x.shape
    line = shape or (1,)
    if not -len(line) <= dimension < len(line):
        raise IndexError(f"expected a dimension from {-len(line)} to {len(line) - 1}, got {dimension}")
    axis = dimension % len(line)
    if not 0 <= size <= line[axis]:
        raise ValueError(f"expected a size from 0 to {line[axis]}, the length of dimension {dimension}, got {size}")
    if step < 1:
        raise ValueError(f"expected a step of 1 or more, got {step}")
    if not shape:
        return x.reshape(line)[:size], lambda g: g.sum()
    before = (slice(None),) * axis
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis, writeable=size <= step)
    y = windows[(*before, slice(None, None, step))]
    count = y.shape[axis]

    def vjp(g):
        index = step * np.arange(count)[:, None] + np.arange(size)
        return add_into_zeros(np.moveaxis(g, -1, axis + 1), index=(*before, index), shape=shape)

    return y, vjp


@rule(
    sample((2, 3), size=(2, 2), stride=(3, 1)),
    sample((2, 3), size=(3, 2), stride=(1, 1), storage_offset=1),
    sample((4,), size=(), stride=()),
    sample((0, 2), size=(0, 3), stride=(1, 0)),
    dtype="as is",
    view=True,
)
def as_strided(x, *, size, stride, storage_offset=0):
    # x is contiguous, and has all these elements: the function of this name sees to it.
    def shown(memory):
        steps = [step * memory.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(memory.reshape(-1)[storage_offset:], size, steps)

    shape, count = x.shape, x.size

    def vjp(g):
        places = shown(np.arange(count))
        return add_into_zeros(g, index=places, shape=(count,)).reshape(shape)

    return shown(np.ascontiguousarray(x).reshape(x.shape)), vjp
