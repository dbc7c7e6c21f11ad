"""Distances, whose derivatives differ from a norm's of a difference, and need not keep the difference alive."""

import math

import numpy as np

from pargrad.rules.reductions import sign
from pargrad.rules.table import rule, sample


def length(d, p):
    """The p-norm of the last dimension."""
    if p == 0:
        return np.sum(d != 0, axis=-1, dtype=d.dtype)
    if p == 1:
        return np.sum(np.abs(d), axis=-1)
    if p == 2:
        return np.sqrt(np.sum(d * d, axis=-1))
    if np.isinf(p):
        return np.max(np.abs(d), axis=-1, initial=0)
    return np.sum(np.abs(d) ** p, axis=-1) ** (1 / p)


def slope(d, r, p):
    """The derivative of the p-norm r by each d: 0 where r or d is; of equal largest ones, each has it whole."""
    if p == 0:
        return np.zeros_like(d)
    if p == 1:
        return sign(d)
    if np.isinf(p):
        return np.where(np.abs(d) == r, sign(d), 0)
    divisor = np.where(r == 0, 1, r)
    if p == 2:
        return np.where(r == 0, 0, d / divisor)
    zero = (d == 0) | (r == 0)
    return np.where(zero, 0, sign(d) * (np.abs(np.where(zero, 1, d)) / divisor) ** (p - 1))


@rule(
    sample((3, 4), (3, 4)),
    sample((3, 1, 4), (1, 2, 4), p=1.0),
    sample((2, 4), (3, 1, 4), p=3.5),
    sample((2, 4), (2, 4), p=1.5),
    sample((3, 1, 4), (4,), p=0.5),
    sample((2, 4), (4,), p=np.inf),
    sample((2, 4), (2, 4), p=0.0),
    dtype="match",
)
def distance(x, y, *, p=2.0):
    """The p-norm of x - y along the last dim, with the subgradients of torch's cdist."""
    r = length(x - y, p)

    def vjp_x(g):
        return np.expand_dims(g, -1) * slope(x - y, np.expand_dims(r, -1), p)

    def vjp_y(g):
        return -np.expand_dims(g, -1) * slope(x - y, np.expand_dims(r, -1), p)

    return r, vjp_x, vjp_y


BLOCK = 1 << 16  # how many elements of differences are worked on at a time: they stay in the cache


def blocks(x, y):
    """Some rows of x at a time: their batch and position, and their differences to all rows of y."""
    rows = max(1, BLOCK // max(1, math.prod(y.shape[1:])))
    for batch in range(len(x)):
        for start in range(0, x.shape[1], rows):
            part = slice(start, start + rows)
            yield batch, part, x[batch, part, None] - y[batch]


def batched(x, batch):
    """x with these batch dimensions, in one."""
    return np.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(math.prod(batch), *x.shape[-2:])


@rule(
    *(sample((3, 4), (2, 4), p=p) for p in (2.0, 1.0, 3.0, np.inf)),
    sample((2, 1, 3, 2), (5, 4, 2)),
    dtype="match",
    joint=True,
    plain=lambda x, y, p=2.0: distance(np.expand_dims(x, -2), np.expand_dims(y, -3), p=p),
)
def cdist(x, y, *, p=2.0):
    """The `distance` of each row of x and each of y, without ever holding all the differences."""
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    r = np.empty((*batch, x.shape[-2], y.shape[-2]), x.dtype)
    flat = r.reshape(math.prod(batch), *r.shape[-2:])
    for i, part, d in blocks(batched(x, batch), batched(y, batch)):
        flat[i, part] = length(d, p)

    def vjp(g):
        rows, columns = batched(x, batch), batched(y, batch)
        of_x, of_y = np.empty(rows.shape, x.dtype), np.zeros(columns.shape, y.dtype)
        of_r, norms = batched(g, batch)[..., None], batched(r, batch)[..., None]
        for i, part, d in blocks(rows, columns):
            each = of_r[i, part] * slope(d, norms[i, part], p)
            of_x[i, part] = each.sum(axis=1)
            of_y[i] -= each.sum(axis=0)
        return of_x.reshape(*batch, *x.shape[-2:]), of_y.reshape(*batch, *y.shape[-2:])

    return r, vjp
