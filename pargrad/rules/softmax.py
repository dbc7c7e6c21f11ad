"""softmax and its logarithm, along one dim."""

import numpy as np

from pargrad.rules.complex import ordered
from pargrad.rules.normalization import total
from pargrad.rules.stacks import normalized
from pargrad.rules.table import rule, sample

SAMPLES = (
    sample((2, 3), dim=1),
    sample((2, 3, 4), dim=-2),
    sample((3,), dim=0),
    sample((3,), dim=0, domain=(-900.0, 900.0)),
)


def is_last(x, dim):
    return x.ndim > 0 and dim in (-1, x.ndim - 1)


def largest(x, dim):
    """The largest element along `dim`, which stays with a length of 1; -inf where there is none.

    Along the last one numpy finds the place sooner than the element.
    """
    if not (x.size and is_last(x, dim) and x.flags.c_contiguous):
        return np.max(x, axis=dim, keepdims=True, initial=-np.inf)
    places = np.argmax(x, axis=-1).reshape(-1)
    places += np.arange(0, x.size, x.shape[-1])
    return x.reshape(-1)[places].reshape(*x.shape[:-1], 1)


def summed(x, y, dim):
    """The sum of x * y, or of x where y is None, along `dim`, which stays with a length of 1."""
    if type(x) is not np.ndarray or (y is not None and type(y) is not np.ndarray):
        return np.sum(x if y is None else x * y, axis=dim, keepdims=True)
    if is_last(x, dim):
        return np.vecdot(x, np.ones(x.shape[-1], x.dtype) if y is None else y)[..., np.newaxis]
    return total(x, y, (dim % x.ndim,)) if x.ndim else x if y is None else x * y


def less_largest(x, dim):
    return np.subtract(x, largest(x, dim), out=np.empty_like(x))


@rule(*SAMPLES, dtype="floating", stack=normalized)
def softmax(x, *, dim):
    ordered(x)
    y = less_largest(x, dim)
    np.exp(y, out=y)
    y /= summed(y, None, dim)
    return y, lambda g: y * (g - summed(g, y, dim))


@rule(*SAMPLES, dtype="floating", stack=normalized)
def log_softmax(x, *, dim):
    ordered(x)
    y = less_largest(x, dim)
    y -= np.log(summed(np.exp(y), None, dim))
    return y, lambda g: g - np.exp(y) * summed(g, None, dim)
