"""Normalization: one operator, because its composition would lose digits and time.

It keeps x, and for each mean two numbers; what is standardized is made again in the vjp.
"""

import math

import numpy as np

from pargrad.rules.stacks import NotStackable, contiguous, shifted
from pargrad.rules.table import rule, sample


def total(x, y, dim):
    """The sum of x * y over the dimensions `dim`, counted from the front, which stay with a length of 1.

    Over the last ones each line is a product of two vectors, which BLAS adds up faster than numpy adds up one.
    """
    shape = tuple(1 if i in dim else size for i, size in enumerate(x.shape))
    last = next((i + 1 for i in reversed(range(x.ndim)) if i not in dim), 0)
    if last == x.ndim:
        return np.sum(x if y is None else x * y, axis=dim, keepdims=True)
    lead, length = x.shape[:last], math.prod(x.shape[last:])
    lines = (*lead, length)
    sums = np.vecdot(x.reshape(lines), np.ones(length, x.dtype) if y is None else y.reshape(lines))
    others = tuple(i for i in dim if i < last)
    return (np.sum(sums, axis=others) if others else sums).reshape(shape)


def summed_to(x, shape):
    """x summed over the dimensions that `shape`, aligned at the last ones, has not, or with a length of 1."""
    extra = x.ndim - len(shape)
    dim = tuple(i for i, size in enumerate(x.shape) if i < extra or (shape[i - extra] == 1 and size != 1))
    return total(x, None, dim).reshape(shape) if dim else x


def moments(x, dim):
    """The mean and the variance, without correction, of x over `dim`, which stays with a length of 1."""
    dim = tuple(i % x.ndim for i in (dim if isinstance(dim, tuple) else (dim,)))
    count = math.prod(x.shape[i] for i in dim) or 1
    mean = total(x, None, dim) / x.dtype.type(count)
    centered = x - mean
    return mean, total(centered, centered, dim) / x.dtype.type(count)


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
    sample((2, 3, 4), 1.0, 0.0, dim=(-2, -1), eps=0.1),
    sample((2, 3, 2, 2), (3, 1, 1), (3, 1, 1), dim=(0, 2, 3), eps=1e-5),
    sample((2, 2, 3, 2), (2, 3, 1), 0.0, dim=(2, 3), eps=1e-5),
    sample((5, 3), (3,), (3,), dim=0, eps=0.1),
    sample((3, 1), 1.0, (1,), dim=-1, eps=1e-5),
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
    mean, variance = moments(x, dim) if known is None else known
    scale = np.sqrt(variance + x.dtype.type(eps))
    of_weight, of_bias = np.shape(weight), np.shape(bias)
    dims = tuple(i % x.ndim for i in (dim if isinstance(dim, tuple) else (dim,)))

    def standard():
        y = np.subtract(x, mean, out=np.empty(x.shape, x.dtype))
        y /= scale
        return y

    def vjp(g):
        # What is left of g * weight without its mean, and without its part along y.
        y, share = standard(), x.dtype.type(mean.size / max(x.size, 1))
        along = g * y
        out = g * weight
        part = total(along * weight, None, dims) * share
        gradients = summed_to(along, of_weight), summed_to(g, of_bias)
        out -= total(out, None, dims) * share
        y *= part
        out -= y
        out /= scale
        return out, *gradients

    value = standard()
    if of_weight or not isinstance(weight, float):
        value *= weight
    if of_bias or not isinstance(bias, float):
        value += bias
    return value, vjp
