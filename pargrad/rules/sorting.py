"""What puts elements in order and picks some of them by rank: the gradient goes to the picked elements.

nan is greater than any number, as torch has it. Among equal elements the first comes first (every sort is stable),
where torch promises no order.
"""

import numpy as np

from pargrad.rules import stacks
from pargrad.rules.complex import ordered
from pargrad.rules.indexing import add_into_zeros, along
from pargrad.rules.reductions import is_number, part, pick, place
from pargrad.rules.table import rule, sample

PICKS = (sample((2, 5), dim=1), sample((2, 4, 3), dim=-2, keepdim=True), sample((5,), dim=0))


def order(x, dim, descending=False):
    """The indices that sort x along dim, equal elements in the order they have."""
    ordered(x)
    if is_number(x, dim):
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(x, axis=dim, kind="stable")
    turned = np.argsort(part(x, dim, None, None, -1), axis=dim, kind="stable")
    return x.shape[dim] - 1 - part(turned, dim, None, None, -1)


def steps(x, dim):
    """0, 1, 2, ... along dim, broadcasting against x."""
    return np.expand_dims(np.arange(x.shape[dim]), tuple(i for i in range(x.ndim) if i != dim % x.ndim))


def chosen(x, index, dim, keepdim):
    """`pick` of one index a row, given with its dimension."""
    return pick(x, index if keepdim or not x.ndim else np.squeeze(index, dim), dim, keepdim)


# ----- sorting -----


@rule(
    sample((2, 3), dim=1), sample((2, 3, 4), dim=0, descending=True), sample((5,), stable=True), dtype="as is",
    differentiable=False, stack=stacks.along,
)  # fmt: skip
def argsort(x, *, dim=-1, descending=False, stable=False):
    return order(x, dim, descending)


@rule(
    sample((2, 3), dim=1), sample((2, 3, 4), dim=0, descending=True), sample((5,), stable=True), sample((0, 2), dim=0),
    dtype="as is", stack=stacks.along_last,
)  # fmt: skip
def sort(x, *, dim=-1, descending=False, stable=False):
    """Values in ascending or descending order along `dim`, and their indices; always stable."""
    index = order(x, dim, descending)
    if not x.ndim:
        return (x.copy(), index), lambda g: g[0]
    shape, values = x.shape, np.take_along_axis(x, index, dim)
    return (values, index), lambda g: add_into_zeros(g[0], index=along(index, dim), shape=shape, once=True)


@rule(
    sample((2, 5), k=2), sample((5, 2, 2), k=3, dim=0, largest=False), sample((4,), k=4),
    sample((4,), k=0), dtype="as is", stack=stacks.along_last,
)  # fmt: skip
def topk(x, *, k, dim=-1, largest=True, sorted=True):
    """The `k` greatest (or least) elements along `dim` and their indices, in order, whatever `sorted` says."""
    length = x.shape[dim] if x.ndim else 1
    if not 0 <= k <= length:
        raise ValueError(f"expected k from 0 to {length}, the length of dim {dim}, got {k}")
    whole = order(x, dim, largest)
    if not x.ndim:
        return (x.copy(), whole), lambda g: g[0]  # torch gives the number for k=0, too
    shape, index = x.shape, part(whole, dim, 0, k).copy()
    values = np.take_along_axis(x, index, dim)
    return (values, index), lambda g: add_into_zeros(g[0], index=along(index, dim), shape=shape, once=True)


# ----- one element by its rank -----


@rule(*(one._replace(settings={"k": 2, **one.settings}) for one in PICKS), dtype="as is", stack=stacks.along_last)
def kthvalue(x, *, k, dim=-1, keepdim=False):
    """The k-th smallest element along `dim`, counted from 1, and its index."""
    length = x.shape[dim] if x.ndim else 1
    if not 1 <= k <= length:
        raise ValueError(f"expected k from 1 to {length}, the length of dim {dim}, got {k}")
    index = order(x, dim)
    shape, index = x.shape, part(index, dim, k - 1, k) if x.ndim else index
    values, index = chosen(x, index, dim, keepdim)
    return (values, index), lambda g: place(g[0], shape, index, dim, keepdim)


def middle(x, dim, ignore_nan):
    """The index of the lower median along dim; of the first nan, if there is one and it counts."""
    if is_number(x, dim):
        return np.zeros((), np.int64)
    if not x.shape[dim]:
        raise IndexError(f"expected dim {dim} to have elements, got shape {list(x.shape)}")
    missing = x != x
    count = np.sum(missing, axis=dim, keepdims=True)
    rank = np.maximum(x.shape[dim] - count - 1, 0) // 2
    index = np.take_along_axis(order(x, dim), rank, dim)
    return index if ignore_nan else np.where(count > 0, np.argmax(missing, axis=dim, keepdims=True), index)


@rule(*PICKS, sample((4,), dim=0), dtype="as is", stack=stacks.along_last)
def median(x, *, dim=-1, keepdim=False):
    """The median along `dim`, of an even count the lower one, and its index; nan where there is one."""
    shape, (values, index) = x.shape, chosen(x, middle(x, dim, False), dim, keepdim)
    return (values, index), lambda g: place(g[0], shape, index, dim, keepdim)


@rule(*PICKS, sample((4,), dim=0), dtype="as is", stack=stacks.along_last)
def nanmedian(x, *, dim=-1, keepdim=False):
    """The median along `dim` of what is not nan, of an even count the lower one, and its index."""
    shape, (values, index) = x.shape, chosen(x, middle(x, dim, True), dim, keepdim)
    return (values, index), lambda g: place(g[0], shape, index, dim, keepdim)


def of_all(x, ignore_nan):
    if not x.size:
        return np.asarray(np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).min, x.dtype)
    row = x.reshape(-1)
    return np.take_along_axis(row, middle(row, 0, ignore_nan), 0).reshape(())


def shared(g, x, y):
    """Every element equal to y takes an equal part of the gradient; a nan, every nan."""
    hit = (x == y) | ((x != x) & (y != y))
    return np.where(hit, g / np.maximum(np.sum(hit, dtype=x.dtype), 1), 0)


@rule(sample((2, 5)), sample((4,)), sample(()), dtype="as is")
def median_of_all(x):
    y = of_all(x, False)
    return y, lambda g: shared(g, x, y)


@rule(sample((2, 5)), sample((4,)), sample(()), dtype="as is")
def nanmedian_of_all(x):
    y = of_all(x, True)
    return y, lambda g: shared(g, x, y)


@rule(*PICKS, dtype="as is", stack=stacks.along_last)
def mode(x, *, dim=-1, keepdim=False):
    """The most frequent value along `dim`, of several the least, and the index where it stands last."""
    shape, index = x.shape, order(x, dim)
    if x.ndim:
        row, position = np.take_along_axis(x, index, dim), steps(x, dim)
        new = part(row, dim, 1, None) != part(row, dim, 0, -1)
        new = np.concatenate([np.ones_like(part(row, dim, 0, 1), bool), new], axis=dim)
        start = np.maximum.accumulate(np.where(new, position, 0), axis=dim)
        index = np.take_along_axis(index, np.argmax(position - start, axis=dim, keepdims=True), dim)
    values, index = chosen(x, index, dim, keepdim)
    return (values, index), lambda g: place(g[0], shape, index, dim, keepdim)


# ----- extremes so far -----


def scan(x, dim, accumulate):
    """The extreme so far at each element, and the last index where it stands."""
    ordered(x)
    if is_number(x, dim):
        return x.copy(), np.zeros((), np.int64)
    if not x.size:
        return x.copy(), np.zeros(x.shape, np.int64)
    values = accumulate(x, axis=dim)
    hit = (x == values) | (x != x)  # nan stays, and the last one is named
    return values, np.maximum.accumulate(np.where(hit, steps(x, dim), 0), axis=dim)


def added_up(g, index, dim):
    """The sum of what of g goes to each index along dim."""
    return add_into_zeros(g, index=along(index, dim), shape=g.shape) if g.ndim else g


@rule(sample((2, 5), dim=1), sample((4, 2, 3), dim=-3), sample((5,), dim=0), dtype="as is", stack=stacks.along_last)
def cummax(x, *, dim):
    """The greatest element so far along `dim`, and the last index where it stands."""
    values, index = scan(x, dim, np.maximum.accumulate)
    return (values, index), lambda g: added_up(g[0], index, dim)


@rule(sample((2, 5), dim=1), sample((4, 2, 3), dim=-3), sample((5,), dim=0), dtype="as is", stack=stacks.along_last)
def cummin(x, *, dim):
    """The least element so far along `dim`, and the last index where it stands."""
    values, index = scan(x, dim, np.minimum.accumulate)
    return (values, index), lambda g: added_up(g[0], index, dim)
