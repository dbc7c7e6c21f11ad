"""Operators that move elements without changing them: shapes, joins, indexing."""

from itertools import pairwise

import numpy as np

from pargrad.rules.stacks import elementwise, permuted, reshaped
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


@rule(sample((1, 3), (2, 3), dim=0), sample((2, 1), (2, 3), (2, 2), dim=-1), joint=True, numpy=np.concatenate)
def cat(*tensors, dim=0):
    y = np.concatenate(tensors, axis=dim)
    before = (slice(None),) * (dim % y.ndim)
    ends = [0, *np.cumsum([x.shape[dim] for x in tensors]).tolist()]
    return y, lambda g: tuple(g[(*before, slice(*span))] for span in pairwise(ends))


@rule(sample((2, 3), (2, 3), dim=0), sample((3,), (3,), (3,), dim=-1), joint=True, numpy=np.stack)
def stack(*tensors, dim=0):
    y = np.stack(tensors, axis=dim)
    return y, lambda g: tuple(np.moveaxis(g, dim, 0))


@rule(sample((1, 3, 1)), sample((1, 3, 1), dim=-1), sample((2, 3), dim=0), dtype="as is", view=True, numpy=np.squeeze)
def squeeze(x, *, dim=None):
    # Unlike numpy, torch leaves a dimension alone that is not 1 long.
    named = range(x.ndim) if dim is None else (dim if isinstance(dim, tuple) else (dim,))
    axes = tuple(axis for axis in named if x.ndim and x.shape[axis] == 1)
    old = x.shape
    return np.squeeze(x, axes), lambda g: g.reshape(old)


@rule(sample((2, 3), dim=1), sample((2, 3), dim=-1), sample((), dim=0), dtype="as is", view=True)
def unsqueeze(x, *, dim):
    old = x.shape
    return np.expand_dims(x, dim), lambda g: g.reshape(old)


@rule(sample((2, 1), size=(3, 2, 4)), sample((1, 3), size=(2, -1)), sample((), size=(2,)), dtype="as is", view=True)
def expand(x, *, size):
    # -1 keeps a dimension; what was broadcast is summed where every broadcast is, in the engine.
    new = len(size) - x.ndim
    if -1 in size[: max(new, 0)]:
        raise ValueError(f"-1 keeps a dimension that is there, and the first {new} are new: give their sizes")
    kept = (None,) * new + x.shape
    return np.broadcast_to(x, [old if new == -1 else new for new, old in zip(size, kept)]), lambda g: g


def is_basic(index):
    """Whether an index is made of slices, integers, None and ... alone, so that it names each element at most once."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or (isinstance(part, slice | int | np.integer) and not isinstance(part, bool))
        for part in parts
    )


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

    def vjp(g):
        out = np.zeros(shape, g.dtype)
        if is_basic(index):
            out[index] = g
        else:
            np.add.at(out, index, g)  # an element named twice is given both gradients
        return out

    y = x[index]
    if not isinstance(y, np.ndarray):
        y = x[(*index, ...) if isinstance(index, tuple) else (index, ...)]  # one element is a view, too, as in torch
    return y, vjp


@rule(sample((2, 3)), sample(()), dtype="as is", stack=elementwise)
def clone(x):
    return x.copy(), lambda g: g


@rule(sample((2, 3), dtype=np.float64), dtype="as is", view=True, stack=elementwise)
def to(x, *, dtype):
    # The engine casts every gradient to the dtype of the input it belongs to.
    return x.astype(dtype, copy=False), lambda g: g
