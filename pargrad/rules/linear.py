"""Matrix products."""

import math

import numpy as np

from pargrad.rules.stacks import NotStackable, contiguous, matrices
from pargrad.rules.table import rule, sample


def transposed(x):
    return np.swapaxes(x, -1, -2)


@rule(
    sample((2, 3), (3, 4)),
    sample((5, 2, 3), (3, 4)),
    sample((2, 1, 2, 3), (5, 3, 4)),
    sample((3,), (3,)),
    sample((2, 3), (3,)),
    sample((3,), (5, 3, 2)),
    dtype="match",
    numpy=np.matmul,
    stack=matrices,
)
def matmul(x, y):
    if x.dtype == np.bool_:
        raise ValueError("there is no matrix product of booleans: write x.long() or x.float()")
    # Numbers, not arrays: the derivative of x must not keep x alive.
    row, column = x.ndim == 1, y.ndim == 1

    def matrix(g):
        """g with the dimensions that a vector lacks."""
        g = np.expand_dims(g, -1) if column else g
        return np.expand_dims(g, -2) if row else g

    def vjp_x(g):
        out = matrix(g) @ (np.expand_dims(y, 0) if column else transposed(y))
        return np.squeeze(out, -2) if row else out

    def vjp_y(g):
        out = transposed(np.expand_dims(x, 0) if row else x) @ matrix(g)
        return np.squeeze(out, -1) if column else out

    return x @ y, vjp_x, vjp_y


def rows(x):
    """x as one matrix: every dimension but the last becomes a row."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def as_rows(x):
    """A stack of slices, each as one matrix."""
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def total_row(x):
    """The sum of the rows of a matrix, or of each of a stack of them: as a product, which is faster than a sum."""
    return np.ones(x.shape[-2], x.dtype) @ x


def fewer_rows(count, weight):
    """Whether it is better to transpose so many rows of an input, and of the value, than the weight.

    BLAS copies a transposed operand before it multiplies.
    """
    return count * sum(weight.shape[-2:]) < math.prod(weight.shape[-2:])


def linear_of_slices(function, arrays, stacked, settings):
    """The products that `linear` chooses for one slice, for each of them."""
    x, weight, bias = arrays
    if x.ndim - stacked[0] == 1:  # one row
        y, *vjps = linear_of_slices(function, [np.expand_dims(x, -2), weight, bias], stacked, settings)
        of_x, of_weight, of_bias = (lambda g, vjp=vjp: vjp(np.expand_dims(g, -2)) for vjp in vjps)
        return y[..., 0, :], lambda g: of_x(g)[..., 0, :], of_weight, of_bias
    if x.ndim - stacked[0] > 2 and stacked == [True, False, False]:  # as rows, where one slice is taken as rows
        y, _, of_weight, of_bias = linear_of_slices(function, [as_rows(x), weight, bias], stacked, settings)
        y = y.reshape(*x.shape[:-1], len(weight))
        shape = x.shape
        return (
            y,
            lambda g: (as_rows(g) @ weight).reshape(shape),
            lambda g: of_weight(as_rows(g)),
            lambda g: of_bias(as_rows(g)),
        )
    if x.ndim - stacked[0] != 2:
        raise NotStackable
    count, width = next(len(one) for one, flag in zip(arrays, stacked) if flag), weight.shape[-2]
    bias = bias[:, np.newaxis] if stacked[2] else bias
    if fewer_rows(x.shape[-2], weight):
        y = np.add(transposed(weight @ transposed(x)), bias, out=np.empty((count, x.shape[-2], width), x.dtype))
    else:
        y = x @ transposed(weight)
        y = np.add(y, bias, out=y if y.ndim == 3 else None)
    return y, lambda g: g @ weight, lambda g: transposed(g) @ x, lambda g: total_row(contiguous(g))


@rule(
    sample((4, 3), (2, 3), (2,)),
    sample((2, 5, 3), (4, 3), (4,)),
    sample((3,), (2, 3), (2,)),
    dtype="match",
    plain=lambda x, weight, bias: x @ transposed(weight) + bias,
    stack=linear_of_slices,
)
def linear(x, weight, bias):
    """x @ weight.T + bias, for x of shape (..., in), weight (out, in), bias (out,)."""
    flat, shape = rows(x), x.shape
    if fewer_rows(len(flat), weight):
        y = np.add((weight @ flat.T).T, bias, out=np.empty((len(flat), len(weight)), x.dtype))
    else:
        y = flat @ weight.T
        y += bias
    return (
        y if x.ndim == 2 else y.reshape(*x.shape[:-1], len(weight)),
        lambda g: (rows(g) @ weight).reshape(shape),
        lambda g, out=None: np.matmul(rows(g).T, rows(x), out=out),
        lambda g: total_row(rows(g)),
    )
