"""Normalization: one operator, because its composition would lose digits and time.

`standardize` is over any dimensions: it keeps x, and for each mean two numbers; what is standardized is made again in
the vjp. `layer_norm` is over the last one, the rows being many and short: it keeps what is standardized.
"""

import math

import numpy as np

from pargrad.rules.linear import rows, total_row
from pargrad.rules.stacks import NotStackable, contiguous, shifted
from pargrad.rules.table import rule, sample


def total(x, y, dim):
    """The sum of x * y over the dimensions `dim`, which stay with a length of 1; of x alone where y is None.

    Over the last ones each line is a product of two vectors, which BLAS adds up faster than numpy adds up one.
    """
    last = next((i + 1 for i in reversed(range(x.ndim)) if i not in dim), 0)
    if y is not None and (last == x.ndim or y.shape[last:] != x.shape[last:]):
        x, y = x * y, None
    if last == x.ndim:
        return np.sum(x, axis=dim, keepdims=True) if dim else x
    length = math.prod(x.shape[last:])
    other = np.ones(length, x.dtype) if y is None else y.reshape(*y.shape[:last], length)
    sums = np.vecdot(x.reshape(*x.shape[:last], length), other)
    sums = np.sum(sums, axis=tuple(i for i in dim if i < last), keepdims=True) if min(dim) < last else sums
    return sums.reshape(*sums.shape, *(1,) * (x.ndim - last))


def summed_to(x, factor, shape):
    """x * factor summed over the dimensions that `shape`, aligned at the last ones, has not, or with a length of 1."""
    extra = x.ndim - len(shape)
    dim = tuple(i for i in range(x.ndim) if i < extra or shape[i - extra] == 1)
    if dim and dim == tuple(range(dim[0], dim[-1] + 1)) and factor.size == math.prod(x.shape[: dim[-1] + 1]):
        first, rows = math.prod(x.shape[: dim[0]]), math.prod(x.shape[dim[0] : dim[-1] + 1])
        found = factor.reshape(first, 1, rows) @ x.reshape(first, rows, -1 if x.size else 0)
        if found.size == math.prod(shape):
            return found.reshape(shape)
    return total(x * factor, None, dim).reshape(shape)


def in_front(x, dim):
    """`dim` as a tuple, counted from the front."""
    return tuple(sorted(i % x.ndim for i in (dim if isinstance(dim, tuple) else (dim,))))


def centered_moments(x, dims):
    """The mean and the variance, without correction, of x over `dims`, and x less the mean."""
    count = x.dtype.type(math.prod(x.shape[i] for i in dims) or 1)
    mean = total(x, None, dims) / count
    centered = np.subtract(x, mean, out=np.empty(x.shape, x.dtype))
    return mean, total(centered, centered, dims) / count, centered


def moments(x, dim):
    """The mean and the variance, without correction, of x over `dim`, which stays with a length of 1."""
    return centered_moments(x, in_front(x, dim))[:2]


def composed(x, weight, bias, *, dim, eps, known=None):
    centered = x - np.mean(x, axis=dim, keepdims=True)
    return centered / np.sqrt(np.mean(centered * centered, axis=dim, keepdims=True) + eps) * weight + bias


def standardized_slices(function, arrays, stacked, settings):
    """On a stack: every slice's weight and bias below each other, so that each has a gradient of its own."""
    x, *others = arrays
    if not stacked[0] or settings.get("known") is not None or x.ndim == 1:
        raise NotStackable

    def aligned(y, flag):
        if not isinstance(y, np.ndarray):
            return y
        shape = y.shape[1:] if flag else y.shape
        if len(shape) > x.ndim - 1:
            raise NotStackable
        alone = y.reshape(-1 if flag else 1, *(1,) * (x.ndim - 1 - len(shape)), *shape)
        return np.broadcast_to(alone, (len(x), *alone.shape[1:]))

    weight, bias = map(aligned, others, stacked[1:])
    value, vjp = function(contiguous(x), weight, bias, **{**settings, "dim": shifted(settings["dim"])})
    return value, lambda g: vjp(contiguous(g))


@rule(
    sample((3, 4), (4,), (4,), dim=-1, eps=1e-5),
    sample((2, 3, 4), (), (), dim=(-2, -1), eps=0.1),
    sample((2, 3, 2, 2), (3, 1, 1), (3, 1, 1), dim=(0, 2, 3), eps=1e-5),
    sample((2, 2, 3, 2), (2, 3, 1), (), dim=(2, 3), eps=1e-5),
    sample((5, 3), (3,), (3,), dim=0, eps=0.1),
    sample((3, 1), (), (1,), dim=-1, eps=1e-5),
    sample((0, 3), (3,), (3,), dim=-1, eps=1e-5),
    dtype="floating",
    joint=True,
    plain=composed,
    stack=standardized_slices,
)
def standardize(x, weight, bias, *, dim, eps, known=None):
    """(x - mean) / sqrt(variance + eps) * weight + bias, along `dim`, the variance over all elements: no correction.

    weight and bias are laid out against x, or numbers. known: the `moments`, where they have been found already.
    """
    dims = in_front(x, dim)
    mean, variance, value = centered_moments(x, dims) if known is None else (*known, x - known[0])
    scale = np.sqrt(variance + x.dtype.type(eps))
    of_weight, of_bias = (None if isinstance(y, float) else np.shape(y) for y in (weight, bias))

    def laid_out(y):
        """weight or bias with the dimensions of x."""
        return np.reshape(np.asarray(y, x.dtype), (*(1,) * (x.ndim - np.ndim(y)), *np.shape(y)))

    def line_of(factor):
        """All dimensions of dim, if there is one factor over them, else the last ones, perhaps none, that have one."""
        if all(factor.shape[i] == 1 for i in dims):
            return dims
        return tuple(i for i in dims if all(j in dims and factor.shape[j] == 1 for j in range(i, x.ndim)))

    def vjp(g):
        # (g * weight, without its mean and without its part along what is standardized) / scale
        factor, share = laid_out(weight), x.dtype.type(mean.size / max(x.size, 1))
        line = line_of(factor)
        centered = np.subtract(x, mean, out=np.empty(x.shape, x.dtype))
        sums, along = total(g, None, line), total(g, centered, line)
        gradients = (
            None if of_weight is None else summed_to(along, 1 / scale, of_weight),
            None if of_bias is None else summed_to(sums, np.ones_like(scale), of_bias),
        )
        if line == dims:
            out = g - sums * share
            centered *= along * share / (scale * scale)
            out -= centered
            out *= factor / scale
        else:
            less, part = (total(each, factor, dims) * share for each in (sums, along))
            out = np.multiply(g, factor, out=along if along.shape == x.shape else None)
            out -= less
            centered *= part / (scale * scale)
            out -= centered
            out /= scale
        return out, *gradients

    factor = laid_out(weight)
    if line_of(factor):
        value *= factor / scale
    else:
        value /= scale
        value *= factor
    if of_bias is not None:
        value += bias
    return value, vjp


# ----- rows -----


def composed_rows(x, weight, bias, *, eps):
    return composed(x, weight, bias, dim=-1, eps=eps)


def standardized_rows(x, eps):
    """The rows of a matrix, or of each of a stack of them, with mean 0 and variance 1, and what they were scaled by.

    What is multiplied with ones is summed, as in `total`.
    """
    width = x.shape[-1]
    share = x.dtype.type(1 / max(width, 1))
    mean = np.vecdot(x, np.ones(width, x.dtype)) * share
    out = np.subtract(x, mean[..., np.newaxis], out=np.empty(x.shape, x.dtype))
    scale = (1 / np.sqrt(np.vecdot(out, out) * share + x.dtype.type(eps)))[..., np.newaxis]
    out *= scale
    return out, scale


def of_standardized_rows(g, weight, standard, scale):
    """The gradients of x, weight and bias: of x, (g * weight, less its mean and its part along standard) * scale."""
    width = g.shape[-1]
    share = g.dtype.type(1 / max(width, 1))
    factors = np.broadcast_to(np.asarray(weight, g.dtype), width)
    along = g * standard
    out = standard * (along @ factors * share)[..., np.newaxis]
    out += (g @ factors * share)[..., np.newaxis]
    np.subtract(g * weight, out, out=out)
    out *= scale
    return out, total_row(along), total_row(g)


def layer_norm_of_slices(function, arrays, stacked, settings):
    x, weight, bias = arrays
    if stacked != [True, False, False] or x.ndim < 2:
        raise NotStackable
    matrices = (len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    standard, scale = standardized_rows(contiguous(x).reshape(matrices), settings["eps"])

    def vjp(g):
        of_x, *others = of_standardized_rows(contiguous(g).reshape(matrices), weight, standard, scale)
        return of_x.reshape(x.shape), *others

    return (standard * weight + bias).reshape(x.shape), vjp


@rule(
    sample((3, 4), (4,), (4,), eps=1e-5),
    sample((2, 3, 4), (4,), (4,), eps=0.1),
    sample((4,), (4,), 0.0, eps=1e-5),
    sample((0, 3), (3,), (3,), eps=1e-5),
    dtype="floating",
    joint=True,
    plain=composed_rows,
    stack=layer_norm_of_slices,
)
def layer_norm(x, weight, bias, *, eps):
    """`standardize` along the last dimension, of whose length weight and bias are, or numbers. Ba et al. 2016."""
    shape, literal = x.shape, [isinstance(y, float) for y in (weight, bias)]
    standard, scale = standardized_rows(rows(x), eps)
    value = standard * weight
    value += bias

    def vjp(g):
        of_x, *others = of_standardized_rows(rows(g), weight, standard, scale)
        return of_x.reshape(shape), *(None if number else y for y, number in zip(others, literal))

    return value.reshape(shape), vjp
