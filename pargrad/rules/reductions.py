"""Reductions and scans: sums, products, extremes, norms, variances, the log-sum-exp family and what accumulates.

`dim` is None (all), an int or a tuple, as torch's.
"""

from builtins import max as max_of_two

import numpy as np

from pargrad.rules.complex import complexes, is_complex, ordered, squared_size
from pargrad.rules.elementwise import log_of_sum
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


def is_number(x, dim):
    """Whether x is a number, along which nothing is to be done; an error where it has no such dim."""
    count = x.ndim or 1
    if not -count <= dim < count:
        raise IndexError(f"expected a dim from {-count} to {count - 1}, got {dim}")
    return not x.ndim


def over(x, dim):
    """`dim` as numpy's axis: () is all dimensions, and a number has the dimensions 0 and -1, as torch has it."""
    return None if dim == () or (not x.ndim and dim in (0, -1, (0,), (-1,))) else dim


def wide(x):
    """The dtype of a sum or product of many: int64 for every integer, where numpy adds up unsigned ones in uint64."""
    return np.int64 if x.dtype.kind in "bui" else x.dtype


@rule(*REDUCTION, sample((0, 3), dim=0), dtype="as is", numpy=np.sum, stack=along)
def sum(x, *, dim=None, keepdim=False):
    shape, dim = x.shape, over(x, dim)
    y = np.sum(x, axis=dim, keepdims=keepdim, dtype=wide(x))
    return y, lambda g: np.broadcast_to(spread(g, shape, dim, keepdim), shape)


@rule(*REDUCTION, dtype="floating", numpy=np.mean, stack=along)
def mean(x, *, dim=None, keepdim=False):
    shape, dim = x.shape, over(x, dim)
    y = np.mean(x, axis=dim, keepdims=keepdim)
    count = x.size / y.size if y.size else 1.0
    return y, lambda g: np.broadcast_to(spread(g / count, shape, dim, keepdim), shape)


@rule(*REDUCTION[:4], sample((0, 3), dim=0), dtype="as is", numpy=np.nansum, stack=along)
def nansum(x, *, dim=None, keepdim=False):
    """The sum of what is not nan: https://docs.pytorch.org/docs/stable/generated/torch.nansum.html"""
    dim = over(x, dim)
    y = np.sum(np.where(x == x, x, 0), axis=dim, keepdims=keepdim, dtype=wide(x))
    return y, lambda g: spread(g, x.shape, dim, keepdim) * (x == x)


def share(g, x, extreme, dim, keepdim):
    """Every element equal to the extreme takes an equal part of its gradient.

    Where the extreme is nan: of all elements, every nan takes part; along dims, the gradient is nan. Both are torch's.
    """
    extreme = spread(extreme, x.shape, dim, keepdim)
    hit = x == extreme
    if dim is None:
        hit = hit | ((x != x) & (extreme != extreme))
    return np.where(hit, spread(g, x.shape, dim, keepdim), 0) / np.sum(hit, axis=dim, keepdims=True, dtype=x.dtype)


@rule(*REDUCTION, dtype="as is", numpy=(np.max, np.amax), stack=along)
def amax(x, *, dim=None, keepdim=False):
    ordered(x)
    dim = over(x, dim)
    y = np.max(x, axis=dim, keepdims=keepdim)
    return y, lambda g: share(g, x, y, dim, keepdim)


@rule(*REDUCTION, dtype="as is", numpy=(np.min, np.amin), stack=along)
def amin(x, *, dim=None, keepdim=False):
    ordered(x)
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
    if not shape:
        return g
    if not keepdim:
        g, index = np.expand_dims(g, dim), np.expand_dims(index, dim)
    steps = np.expand_dims(np.arange(shape[dim]), tuple(i for i in range(len(shape)) if i != dim % len(shape)))
    return np.where(steps == index, g, 0)


@rule(*ALONG, sample((2, 3), dim=0, keepdim=True), dtype="as is", stack=along)
def max(x, *, dim, keepdim=False):
    """Values and indices along one `dim`; the gradient goes to the chosen element alone."""
    ordered(x)
    shape, index = x.shape, np.argmax(x, axis=dim, keepdims=keepdim)
    return pick(x, index, dim, keepdim), lambda g: place(g[0], shape, index, dim, keepdim)


@rule(*ALONG, sample((2, 3), dim=0, keepdim=True), dtype="as is", stack=along)
def min(x, *, dim, keepdim=False):
    """Values and indices along one `dim`; the gradient goes to the chosen element alone."""
    ordered(x)
    shape, index = x.shape, np.argmin(x, axis=dim, keepdims=keepdim)
    return pick(x, index, dim, keepdim), lambda g: place(g[0], shape, index, dim, keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.argmax, differentiable=False)
def argmax(x, *, dim=None, keepdim=False):
    ordered(x)
    return np.argmax(x, axis=dim, keepdims=keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.argmin, differentiable=False)
def argmin(x, *, dim=None, keepdim=False):
    ordered(x)
    return np.argmin(x, axis=dim, keepdims=keepdim)


def truth(x, reduce, dim, keepdim):
    """torch's `all` and `any`: over no dimension where dim is (), and of uint8 in uint8."""
    y = x.astype(bool) if dim == () else reduce(x, axis=over(x, dim), keepdims=keepdim)
    return y.astype(x.dtype) if x.dtype == np.uint8 else y


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.all, differentiable=False)
def all(x, *, dim=None, keepdim=False):
    return truth(x, np.all, dim, keepdim)


@rule(sample((2, 3)), sample((2, 3), dim=1, keepdim=True), dtype="as is", numpy=np.any, differentiable=False)
def any(x, *, dim=None, keepdim=False):
    return truth(x, np.any, dim, keepdim)


@rule(
    *ALONG,
    sample((2, 3), dim=(0, 1), keepdim=True),
    sample((3,), dim=0, domain=(-900.0, 900.0)),
    sample(complexes(2, 3), dim=1),
    dtype="float",
    stack=along,
)
def logsumexp(x, *, dim, keepdim=False):
    dim = over(x, dim)
    top = np.max(x.real, axis=dim, keepdims=True, initial=-np.inf)  # the sum of no exponentials is 0
    top = np.where(np.isfinite(top), top, 0)  # -inf - -inf would be nan
    y = np.log(np.sum(np.exp(x - top), axis=dim, keepdims=True)) + top
    if not keepdim and x.ndim:
        y = np.squeeze(y, dim)  # what is kept is the value itself, not a view of it
    shape = x.shape
    return y, lambda g: spread(g, shape, dim, keepdim) * np.exp(x - spread(y, shape, dim, keepdim))


# ----- products and scans -----

SCANS = (sample((2, 3), dim=1), sample((2, 3, 4), dim=-2), sample((3,), dim=0), sample((0, 2), dim=0))


def part(x, dim, *span):
    """A slice along one dimension."""
    return x[(*(slice(None),) * (dim % x.ndim), slice(*span))]


def backwards(x, dim):
    return part(x, dim, None, None, -1)


def total_after(x, dim):
    """At each element the sum of itself and all that follow: the transpose of a cumulative sum."""
    return backwards(np.cumsum(backwards(x, dim), axis=dim), dim)


def product_of_others(x, dim):
    """For each element the product of all others along dim: no division, so that zeros need no case of their own."""

    def before(x):
        return np.cumprod(np.concatenate([np.ones_like(part(x, dim, 0, 1)), part(x, dim, 0, -1)], axis=dim), axis=dim)

    return before(x) * backwards(before(backwards(x, dim)), dim)


@rule(
    sample((2, 3)), sample((2, 3, 4), dim=1), sample((2, 3, 4), dim=-1, keepdim=True), sample((3,), dim=0),
    dtype="as is", numpy=np.prod, stack=along,
)  # fmt: skip
def prod(x, *, dim=None, keepdim=False):
    """torch's `prod`. The gradient is the product of the other elements; torch divides, and gives nan at infinity."""
    dim = over(x, dim)
    y = np.prod(x, axis=dim, keepdims=keepdim, dtype=wide(x))

    def vjp(g):
        if dim is None:
            return np.reshape(g, (1,) * x.ndim) * product_of_others(x.reshape(-1), 0).reshape(x.shape)
        return spread(g, x.shape, dim, keepdim) * product_of_others(x, dim)

    return y, vjp


@rule(*SCANS, dtype="as is", numpy=np.cumsum, stack=along)
def cumsum(x, *, dim):
    if is_number(x, dim):
        return np.asarray(x, wide(x)).copy(), lambda g: g
    return np.cumsum(x, axis=dim, dtype=wide(x)), lambda g: total_after(g, dim)


@rule(*SCANS, dtype="as is", numpy=np.cumprod, stack=along)
def cumprod(x, *, dim):
    if is_number(x, dim):
        return np.asarray(x, wide(x)).copy(), lambda g: g
    y = np.cumprod(x, axis=dim, dtype=wide(x))

    def vjp(g):
        # Before the first zero one may divide; at it, count it as one; after it, nothing can be changed.
        zeros = np.cumsum(x == 0, axis=dim)
        first = (zeros == 1) & (x == 0)
        after_one = np.cumprod(np.where(first, 1, x), axis=dim)
        divided = total_after(g * y, dim) / np.where(zeros == 0, x, 1)
        return np.where(zeros == 0, divided, np.where(first, total_after(g * after_one, dim), 0))

    return y, vjp


def log_sums(x, dim):
    """The logarithm of the sum of the exponentials so far."""
    if not is_complex(x):
        return np.logaddexp.accumulate(x, axis=dim) if x.size else x.copy()
    sums = [part(x, dim, 0, 1)]
    for i in range(1, x.shape[dim]):
        sums.append(log_of_sum(sums[-1], part(x, dim, i, i + 1)))
    return np.concatenate(sums, axis=dim)


@rule(
    *SCANS, sample((3,), dim=0, domain=(-900.0, 900.0)), sample(complexes(2, 3), dim=1), dtype="floating", stack=along
)
def logcumsumexp(x, *, dim):
    if is_number(x, dim):
        return x.copy(), lambda g: g
    y = log_sums(x, dim)

    def vjp(g):
        # In the logarithm: exp(-y) alone would overflow.
        def of(there, size):
            logs = np.where(there, np.log(np.where(there, size, 1)), np.finfo(g.dtype).min / 2) - y
            return np.exp(backwards(logcumsumexp(backwards(logs, dim), dim=dim), dim) + x)

        # A negative number has a complex logarithm alone, so that each sign goes by itself.
        return of(g != 0, g) if is_complex(x) else of(g > 0, g) - of(g < 0, -g)

    return y, vjp


# ----- norms and variances -----

NORMS = (sample((2, 3)), sample((2, 3, 4), dim=1), sample((2, 3, 4), dim=(0, -1), keepdim=True), sample((3,), dim=0))


def sign(x):
    """-1, 0 or 1, or z / |z|; of nan 0, as torch has it."""
    return np.where(x == x, np.sign(x), 0)


@rule(
    *NORMS,
    *(sample((2, 3, 4), dim=1, p=p) for p in (1, np.inf, -np.inf, 3, 1.5)),
    *(sample((2, 3), p=p, domain=(0.3, 2.0)) for p in (0.5, -1)),
    *(sample(complexes(2, 3), p=p, dim=1) for p in (2, 1, np.inf, 3, 0.5)),
    dtype="floating",
    stack=along,
    holomorphic=False,
)
def norm(x, *, p=2, dim=None, keepdim=False):
    """torch's `norm` of vectors, any order p; at 0 its subgradient is 0, and equal extremes share the gradient.

    At p=0, a count, the gradient is 0 everywhere; torch leaves it None.
    """
    dim = over(x, dim)
    kept = {"axis": dim, "keepdims": keepdim}
    if p == 0:
        y = np.sum(x != 0, **kept, dtype=x.real.dtype)
    elif p == 1:
        y = np.sum(np.abs(x), **kept)
    elif p == 2:
        y = np.sqrt(np.sum(squared_size(x), **kept))
    elif np.isinf(p):
        y = np.max(np.abs(x), **kept) if p > 0 else np.min(np.abs(x), **kept)
    else:
        y = np.sum(np.abs(x) ** p, **kept) ** (1 / p)

    def vjp(g):
        g, r = spread(g, x.shape, dim, keepdim), spread(y, x.shape, dim, keepdim)
        if p == 0:
            return np.zeros_like(x)
        if p == 1:
            return g * sign(x)
        if np.isinf(p):
            hit = (np.abs(x) == r) | ((x != x) & (r != r))
            return np.where(hit, g * sign(x), 0) / np.sum(hit, axis=dim, keepdims=True, dtype=x.real.dtype)
        if p < 1:
            return sign(x) * np.where(x == 0, 0, np.abs(np.where(x == 0, 1, x)) ** (p - 1)) * g * r ** (1 - p)
        size = 1 if p == 2 else np.abs(np.where(x == 0, 1, x)) ** (p - 2)
        return x * size * np.where(r == 0, 0, g / np.where(r == 0, 1, r) ** (p - 1))

    return y, vjp


def spare(x, y, correction):
    """How many degrees of freedom are left of each reduction of x to y."""
    return (x.size / y.size if y.size else 1) - correction


def spread_out(x, dim, correction, keepdim):
    """The sum of squared deviations from the mean over what degrees of freedom are left."""
    total = np.sum(squared_size(x - np.mean(x, axis=dim, keepdims=True)), axis=dim, keepdims=keepdim)
    return total / max_of_two(spare(x, total, correction), 0)


def deviation(x, dim, left):
    """The derivative of the variance: twice the deviation from the mean, over the degrees of freedom."""
    return (x - np.mean(x, axis=dim, keepdims=True)) * (2 / left if left else np.inf)


VARIANCES = (
    *NORMS,
    sample((2, 3), dim=1, correction=0),
    sample((2, 3), correction=0.5, keepdim=False),
    sample(complexes(2, 3)),
    sample(complexes(2, 3), dim=1, keepdim=True),
)


@rule(*VARIANCES, dtype="floating", stack=along, holomorphic=False)
def var(x, *, dim=None, correction=1, keepdim=False):
    dim = over(x, dim)
    y = spread_out(x, dim, correction, keepdim)
    left = spare(x, y, correction)
    return y, lambda g: spread(g, x.shape, dim, keepdim) * deviation(x, dim, left)


@rule(*VARIANCES, dtype="floating", stack=along, holomorphic=False)
def std(x, *, dim=None, correction=1, keepdim=False):
    """torch's `std`: where it is 0, its subgradient is 0."""
    dim = over(x, dim)
    y = np.sqrt(spread_out(x, dim, correction, keepdim))
    left = spare(x, y, correction)

    def vjp(g):
        g, r = spread(g, x.shape, dim, keepdim), spread(y, x.shape, dim, keepdim)
        return np.where(r == 0, 0, g / (2 * np.where(r == 0, 1, r))) * deviation(x, dim, left)

    return y, vjp
