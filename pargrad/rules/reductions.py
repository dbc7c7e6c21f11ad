"""Reductions: sums, extremes and the log-sum-exp family. `dim` is None (all), an int or a tuple, as torch's."""

import numpy as np

from pargrad.rules.stacks import along
from pargrad.rules.table import rule, sample

REDUCTION = (
    sample((2, 3)),
    sample((2, 3, 4), dim=1),
    sample((2, 3, 4), dim=(0, -1), keepdim=True),
    sample((3,), dim=0),
    sample(()),
)
ALONG = (sample((2, 3), dim=1), sample((2, 3, 4), dim=-2), sample((3,), dim=0))


def spread(g, shape, dim, keepdim):
    """`g`, the gradient of a reduction of `shape` over `dim`, laid out so that it broadcasts against `shape`."""
    if dim is None or not shape:
        return np.reshape(g, (1,) * len(shape))
    return g if keepdim else np.expand_dims(g, dim)


def over(x, dim):
    """`dim` as numpy's axis: () is all dimensions, and a number has the dimensions 0 and -1, as torch has it."""
    return None if dim == () or (not x.ndim and dim in (0, -1)) else dim


@rule(*REDUCTION, sample((0, 3), dim=0), dtype="as is", numpy=np.sum, stack=along)
def sum(x, *, dim=None, keepdim=False):
    shape, dim = x.shape, over(x, dim)
    # numpy sums unsigned integers into uint64; torch sums every integer into int64.
    y = np.sum(x, axis=dim, keepdims=keepdim, dtype=np.int64 if x.dtype.kind in "bui" else None)
    return y, lambda g: np.broadcast_to(spread(g, shape, dim, keepdim), shape)


@rule(*REDUCTION, dtype="floating", numpy=np.mean, stack=along)
def mean(x, *, dim=None, keepdim=False):
    shape, dim = x.shape, over(x, dim)
    y = np.mean(x, axis=dim, keepdims=keepdim)
    count = x.size / y.size if y.size else 1.0
    return y, lambda g: np.broadcast_to(spread(g / count, shape, dim, keepdim), shape)


def share(g, x, extreme, dim, keepdim):
    """Every element equal to the extreme takes an equal part of its gradient."""
    hit = x == spread(extreme, x.shape, dim, keepdim)
    return np.where(hit, spread(g, x.shape, dim, keepdim), 0) / np.sum(hit, axis=dim, keepdims=True, dtype=x.dtype)


@rule(*REDUCTION, dtype="as is", numpy=(np.max, np.amax), stack=along)
def amax(x, *, dim=None, keepdim=False):
    dim = over(x, dim)
    y = np.max(x, axis=dim, keepdims=keepdim)
    return y, lambda g: share(g, x, y, dim, keepdim)


@rule(*REDUCTION, dtype="as is", numpy=(np.min, np.amin), stack=along)
def amin(x, *, dim=None, keepdim=False):
    dim = over(x, dim)
    y = np.min(x, axis=dim, keepdims=keepdim)
    return y, lambda g: share(g, x, y, dim, keepdim)


def pick(x, index, dim, keepdim):
    """The elements at `index` along `dim`, and the index beside them, which is what the derivative keeps."""
    if not x.ndim:
        return x.copy(), index
    values = np.take_along_axis(x, index if keepdim else np.expand_dims(index, dim), dim)
    return values if keepdim else np.squeeze(values, dim), index


def place(g, shape, index, dim, keepdim):
    """Zeros of `shape` with `g` at the picked elements."""
    out = np.zeros(shape, g.dtype)
    if not shape:
        out += g
    elif keepdim:
        np.put_along_axis(out, index, g, dim)
    else:
        np.put_along_axis(out, np.expand_dims(index, dim), np.expand_dims(g, dim), dim)
    return out


@rule(*ALONG, sample((2, 3), dim=0, keepdim=True), dtype="as is")
def max(x, *, dim, keepdim=False):
    """Values and indices along one `dim`; the gradient goes to the chosen element alone."""
    shape, index = x.shape, np.argmax(x, axis=dim, keepdims=keepdim)
    return pick(x, index, dim, keepdim), lambda g: place(g[0], shape, index, dim, keepdim)


@rule(*ALONG, sample((2, 3), dim=0, keepdim=True), dtype="as is")
def min(x, *, dim, keepdim=False):
    """Values and indices along one `dim`; the gradient goes to the chosen element alone."""
    shape, index = x.shape, np.argmin(x, axis=dim, keepdims=keepdim)
    return pick(x, index, dim, keepdim), lambda g: place(g[0], shape, index, dim, keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.argmax, differentiable=False)
def argmax(x, *, dim=None, keepdim=False):
    return np.argmax(x, axis=dim, keepdims=keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.argmin, differentiable=False)
def argmin(x, *, dim=None, keepdim=False):
    return np.argmin(x, axis=dim, keepdims=keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.all, differentiable=False)
def all(x, *, dim=None, keepdim=False):
    return np.all(x, axis=over(x, dim), keepdims=keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.any, differentiable=False)
def any(x, *, dim=None, keepdim=False):
    return np.any(x, axis=over(x, dim), keepdims=keepdim)


@rule(
    *ALONG,
    sample((2, 3), dim=(0, 1), keepdim=True),
    sample((3,), dim=0, domain=(-900.0, 900.0)),
    dtype="float",
    stack=along,
)
def logsumexp(x, *, dim, keepdim=False):
    top = np.max(x, axis=dim, keepdims=True, initial=-np.inf)  # the sum of no exponentials is 0
    top = np.where(np.isfinite(top), top, 0)  # -inf - -inf would be nan
    y = np.log(np.sum(np.exp(x - top), axis=dim, keepdims=True)) + top
    if not keepdim and x.ndim:
        y = np.squeeze(y, dim)  # what is kept is the value itself, not a view of it
    shape = x.shape
    return y, lambda g: spread(g, shape, dim, keepdim) * np.exp(x - spread(y, shape, dim, keepdim))


@rule(*ALONG, sample((3,), dim=0, domain=(-900.0, 900.0)), dtype="floating", stack=along)
def softmax(x, *, dim):
    e = np.exp(x - np.max(x, axis=dim, keepdims=True))
    y = e / np.sum(e, axis=dim, keepdims=True)
    return y, lambda g: y * (g - np.sum(g * y, axis=dim, keepdims=True))


@rule(*ALONG, sample((3,), dim=0, domain=(-900.0, 900.0)), dtype="floating", stack=along)
def log_softmax(x, *, dim):
    shifted = x - np.max(x, axis=dim, keepdims=True)
    y = shifted - np.log(np.sum(np.exp(shifted), axis=dim, keepdims=True))
    return y, lambda g: g - np.exp(y) * np.sum(g, axis=dim, keepdims=True)
