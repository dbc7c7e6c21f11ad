"""Reductions, scans and sorting that are composed of operators, or that torch calls in more than one way.

The signatures are torch's (`out` excepted). Several values are a named tuple, as in `torch.return_types`.
"""

from __future__ import annotations

import functools
import operator
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.operators import documentation
from pargrad.operators.compositions import call
from pargrad.promotion import CATEGORY_DEFAULT
from pargrad.tensor import Tensor

FUNCTIONS: dict[str, Callable[..., Any]] = {}

values_and_indices = namedtuple("values_and_indices", ["values", "indices"])
min_and_max = namedtuple("min_and_max", ["min", "max"])


def public(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator under the function's name, less a trailing underscore; axis and keepdims are dim and keepdim."""
    name = function.__name__.removesuffix("_")

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        if "axis" in named:
            named["dim"] = named.pop("axis")
        if "keepdims" in named:
            named["keepdim"] = named.pop("keepdims")
        if args and not isinstance(args[0], Tensor):
            args = (Tensor(np.asarray(args[0])), *args[1:])
        return function(*args, **named)

    called.__name__ = called.__qualname__ = name
    FUNCTIONS[name] = called
    return called


def cast(x: Tensor, dtype: Any) -> Tensor:
    return x if dtype is None or x.dtype == np.dtype(dtype) else call("to", x, dtype=np.dtype(dtype))


def dims(dim: Any) -> Any:
    return tuple(dim) if isinstance(dim, list) else dim


def axis_of(name: str, x: Tensor, dim: int) -> int:
    """A dimension counted from the front, checked; a number has the dimensions 0 and -1."""
    count = x.ndim or 1
    if not -count <= dim < count:
        raise IndexError(f"{name}: expected a dim from {-count} to {count - 1} for shape {x.shape}, got {dim}")
    return dim % count


def part(x: Tensor, dim: int, *span: Any) -> Tensor:
    """A slice along one dimension, counted from the front."""
    return x[(*(slice(None),) * dim, slice(*span))]


def pair(name: str, x: Tensor, **settings: Any) -> Any:
    return values_and_indices(*call(name, x, **settings))


# ----- sums and means -----


def with_dtype(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction or scan that also takes `dtype`: its input is cast to it first."""

    def called(*args: Any, dtype: Any = None, **named: Any) -> Any:
        if dtype is not None:
            input = args[0] if args else named.pop("input")
            args = (cast(input, dtype), *args[1:])
        return cast(function(*args, **named), dtype)

    called.__name__ = called.__qualname__ = function.__name__
    called.__doc__ = function.__doc__
    called.__signature__ = documentation.with_keyword(function, "dtype")  # type: ignore[attr-defined]
    return called


def functions(generated: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The operators of this module, given those that the table makes."""
    names = ("sum", "nansum", "mean", "prod", "cumsum", "cumprod", "softmax", "log_softmax")
    casting = {name: with_dtype(generated[name]) for name in names}
    return {**FUNCTIONS, **casting}


@public
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of what is not nan: https://docs.pytorch.org/docs/stable/generated/torch.nanmean.html"""
    x = cast(input, dtype)
    if x.dtype.kind != "f":
        raise RuntimeError(f"nanmean: expected a floating-point tensor, got {x.dtype}: write x.float()")
    count = call("sum", call("eq", x, x), dim=dims(dim), keepdim=keepdim)
    return call("nansum", x, dim=dims(dim), keepdim=keepdim) / count


@public
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not 0: https://docs.pytorch.org/docs/stable/generated/torch.count_nonzero.html"""
    return call("sum", call("ne", input, 0), dim=dims(dim))


@public
def aminmax(input: Tensor, *, dim: Any = None, keepdim: bool = False) -> Any:
    """The least and the greatest, a named pair (min, max); equal extremes share the gradient, which is nan at nan."""
    dim = tuple(range(input.ndim)) if dim is None else dim
    return min_and_max(*(call(name, input, dim=dim, keepdim=keepdim) for name in ("amin", "amax")))


def flat_scan(name: str) -> Callable[..., Any]:
    """numpy's scan, which flattens where no axis is named."""

    def function(a: Tensor, axis: int | None = None, dtype: Any = None) -> Tensor:
        a = cast(a, dtype)
        return call(name, call("reshape", a, shape=(-1,)) if axis is None else a, dim=0 if axis is None else axis)

    return function


NUMPY: dict[Callable[..., Any], Callable[..., Any]] = {np.cumsum: flat_scan("cumsum"), np.cumprod: flat_scan("cumprod")}


# ----- spread -----


def variance(name: str) -> Callable[..., Any]:
    def function(
        input: Tensor,
        dim: Any = None,
        unbiased: Any = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Tensor:
        if isinstance(dim, bool):  # var(x, unbiased)
            dim, unbiased = None, dim
        if unbiased is not None:
            if correction is not None:
                raise TypeError(f"{name}() takes unbiased or correction, got both")
            correction = int(unbiased)
        return call(name, input, dim=dims(dim), correction=1 if correction is None else correction, keepdim=keepdim)

    function.__name__ = name
    function.__doc__ = (
        f"torch's `{name}` over `dim`, with n - correction in the denominator (unbiased: correction 1, else 0). "
        "Its gradient for dim=(), all dimensions, is that of dim=None; torch's is infinite there."
    )
    return public(function)


var, std = variance("var"), variance("std")


@public
def var_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **named: Any) -> Any:
    """The variance and the mean: https://docs.pytorch.org/docs/stable/generated/torch.var_mean.html"""
    over = None if isinstance(dim, bool) else dims(dim)
    return var(input, dim, unbiased, keepdim, **named), call("mean", input, dim=over, keepdim=keepdim)


@public
def std_mean(input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **named: Any) -> Any:
    """The standard deviation and the mean: https://docs.pytorch.org/docs/stable/generated/torch.std_mean.html"""
    over = None if isinstance(dim, bool) else dims(dim)
    return std(input, dim, unbiased, keepdim, **named), call("mean", input, dim=over, keepdim=keepdim)


@public
def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The norm of order p of all elements, or of vectors along `dim`; "fro" is 2, over any number of dims.

    https://docs.pytorch.org/docs/stable/generated/torch.norm.html; p="nuc" is added in linalg.
    """
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"norm: expected p to be a number, 'fro' or 'nuc', got {p!r}")
    order = 2 if p is None or p == "fro" else p
    return call("norm", cast(input, dtype), p=order, dim=dims(dim), keepdim=keepdim)


@public
def dist(input: Tensor, other: Any, p: float = 2) -> Tensor:
    """The norm of order p of input - other: https://docs.pytorch.org/docs/stable/generated/torch.dist.html"""
    return call("norm", input - other, p=p)


@public
def cov(input: Tensor, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariance of variables in rows, observations in columns, which may be counted and weighted.

    https://docs.pytorch.org/docs/stable/generated/torch.cov.html
    """
    if input.ndim > 2:
        raise RuntimeError(f"cov: expected at most 2 dimensions, got shape {input.shape}")
    x = call("reshape", input, shape=(1, -1) if input.ndim < 2 else input.shape)
    count = x.shape[1]
    weights = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if weights is None:
        mean = call("mean", cast(x, None if x.dtype.kind in "fc" else CATEGORY_DEFAULT[2]), dim=1, keepdim=True)
        left = count - correction
    else:
        total = weights.sum()
        mean = (x * weights).sum(1, keepdim=True) / total
        left = total - correction
        if aweights is not None and correction:
            left = total - correction * (weights * aweights).sum() / total
        left = call("clamp", left * 1.0, min=0)
    x = x - mean
    transposed = call("permute", np.conj(x), dims=(1, 0))
    product = call("matmul", x if weights is None else x * weights, transposed)
    out = product / ((left if left > 0 else 0) if weights is None else left)
    return call("reshape", out, shape=()) if x.shape[0] == 1 else out


@public
def corrcoef(input: Tensor) -> Tensor:
    """Pearson's correlation of variables in rows: https://docs.pytorch.org/docs/stable/generated/torch.corrcoef.html"""
    c = cov(input)
    if not c.ndim:
        return c / c
    every = np.arange(c.shape[0])
    deviation = call("sqrt", c[every, every])
    scaled = c / call("unsqueeze", deviation, dim=1) / call("unsqueeze", deviation, dim=0)
    if scaled.dtype.kind == "c":
        return call("complex", *(call("clamp", part, min=-1, max=1) for part in (scaled.real, scaled.imag)))
    return call("clamp", scaled, min=-1, max=1)


# ----- order -----


def median_like(name: str) -> None:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return call(f"{name}_of_all", input)
        return pair(name, input, dim=dim, keepdim=keepdim)

    function.__name__ = name
    function.__doc__ = (
        f"torch's `{name}`: of all elements, `{name}(x)`, where equal ones share the gradient; along one dim, a named "
        "pair (values, indices). Of an even count it is the lower one."
    )
    public(function)


median_like("median")
median_like("nanmedian")


@public
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along `dim`, of several the least, and the index where it stands last."""
    return pair("mode", input, dim=dim, keepdim=keepdim)


@public
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest element along `dim`, counted from 1, and its index: a named pair (values, indices)."""
    return pair("kthvalue", input, k=operator.index(k), dim=dim, keepdim=keepdim)


@public
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest (or least) elements along `dim`: a named pair (values, indices), in order.

    Of equal elements the first ones are taken, and sorted=False changes nothing; torch promises no order in either.

    >>> pg.topk(pg.tensor([3, 1, 2]), k=2).indices
    tensor([0, 2])
    """
    return pair("topk", input, k=operator.index(k), dim=dim, largest=largest, sorted=sorted)


@public
def sort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """Elements in order along `dim`: a named pair (values, indices). Always stable."""
    return pair("sort", input, dim=dim, descending=descending, stable=bool(stable))


@public
def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """The indices that sort along `dim`. Always stable."""
    return call("argsort", input, dim=dim, descending=descending, stable=bool(stable))


@public
def msort(input: Tensor) -> Tensor:
    """Elements in ascending order along the first dimension."""
    return sort(input, 0).values


@public
def cummax(input: Tensor, dim: int) -> Any:
    """The greatest element so far along `dim`, and the last index where it stands."""
    return pair("cummax", input, dim=dim)


@public
def cummin(input: Tensor, dim: int) -> Any:
    """The least element so far along `dim`, and the last index where it stands."""
    return pair("cummin", input, dim=dim)


def ranked(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, how: str, ignore_nan: bool) -> Tensor:
    """What stands at the fractions q of the order along dim, which is the last axis here."""
    if how not in ("linear", "lower", "higher", "midpoint", "nearest"):
        raise RuntimeError(f"{name}: expected linear, lower, higher, midpoint or nearest interpolation, got {how!r}")
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name}: expected a floating-point tensor, got {input.dtype}: write x.float()")
    if not input.numel():
        raise RuntimeError(f"{name}: expected elements, got shape {input.shape}")
    given = q.array if isinstance(q, Tensor) else np.asarray(q, input.dtype)
    if given.dtype != input.dtype:
        raise RuntimeError(f"{name}: expected q of the input's dtype {input.dtype}, got {given.dtype}")
    if given.ndim > 1 or not ((given >= 0) & (given <= 1)).all():
        raise RuntimeError(f"{name}: expected q to be a number or vector of numbers from 0 to 1, got {given}")

    if dim is None or not input.ndim:
        x, shape = call("reshape", input, shape=(1, -1)), (1,) * input.ndim if keepdim else ()
        if dim is not None:
            axis_of(name, input, dim)
    else:
        axis = axis_of(name, input, dim)
        others = [i for i in range(input.ndim) if i != axis]
        moved = call("permute", input, dims=(*others, axis))
        x = call("reshape", moved, shape=(-1, input.shape[axis]))
        shape = tuple(1 if i == axis else size for i, size in enumerate(input.shape) if keepdim or i != axis)

    row, _ = call("sort", x, dim=1)
    missing = np.isnan(row.array).sum(axis=1)[:, None]
    last = row.shape[1] - 1
    spread = np.maximum(last - missing, 0) if ignore_nan else np.where(missing > 0, 0, last)
    start = np.zeros_like(missing) if ignore_nan else np.where(missing > 0, last, 0)
    rank = given.reshape(-1) * spread.astype(input.dtype) + start.astype(input.dtype)
    if how in ("lower", "higher", "nearest"):
        rank = np.floor(rank) if how == "lower" else np.ceil(rank) if how == "higher" else np.round(rank)
    low, high = np.floor(rank).astype(np.int64), np.ceil(rank).astype(np.int64)
    lanes = np.arange(len(rank))[:, None]
    out = row[lanes, low]
    if how in ("linear", "midpoint"):
        weight = np.full_like(rank, 0.5) if how == "midpoint" else rank - np.floor(rank)
        if how == "linear" and isinstance(q, Tensor) and q.requires_grad:
            moving = call("reshape", q, shape=(-1,)) * spread.astype(input.dtype)
            weight = weight + (moving - moving.array)  # nothing, with the derivative of the rank
        above = row[lanes, high]
        out = call("where", weight < 0.5, out + weight * (above - out), above - (1 - weight) * (above - out))
    out = call("permute", out, dims=(1, 0))
    return call("reshape", out, shape=(*given.shape, *shape))


@public
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """What stands at the fraction q, or the fractions q, of the order along `dim`; nan where there is one.

    https://docs.pytorch.org/docs/stable/generated/torch.quantile.html
    """
    return ranked("quantile", input, q, dim, keepdim, interpolation, False)


@public
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """`quantile` of what is not nan: https://docs.pytorch.org/docs/stable/generated/torch.nanquantile.html"""
    return ranked("nanquantile", input, q, dim, keepdim, interpolation, True)


# ----- differences and integrals -----


@public
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """The n-th difference of neighbours along `dim`: https://docs.pytorch.org/docs/stable/generated/torch.diff.html"""
    if not input.ndim:
        raise RuntimeError("diff: expected at least 1 dimension, got a number")
    if n < 0:
        raise RuntimeError(f"diff: expected n of at least 0, got {n}")
    axis = axis_of("diff", input, dim)
    if not n:
        return call("clone", input)
    joined = [each for each in (prepend, input, append) if each is not None]
    x = call("cat", *joined, dim=axis) if len(joined) > 1 else input
    for _ in range(min(n, x.shape[axis])):
        x = call("ne" if x.dtype.kind == "b" else "sub", part(x, axis, 1, None), part(x, axis, None, -1))
    return x


def strips(y: Tensor, x: Any, dx: Any, dim: int, name: str) -> tuple[Tensor, int]:
    """The areas between neighbours, times 2 where the distance is one number for all."""
    if not y.ndim:
        raise RuntimeError(f"{name}: expected at least 1 dimension, got a number")
    axis = axis_of(name, y, dim)
    sums = part(y, axis, 1, None) + part(y, axis, None, -1)
    if x is None:
        return sums * ((1.0 if dx is None else dx) / 2), axis
    if dx is not None:
        raise TypeError(f"{name}() takes x or dx, got both")
    if x.ndim == 1:
        if x.shape[0] != y.shape[axis]:
            raise RuntimeError(f"{name}: expected {y.shape[axis]} elements of x, one for each of y, got {x.shape[0]}")
        widths = diff(x)
        widths = call("reshape", widths, shape=(-1, *(1,) * (y.ndim - 1 - axis)))
    else:
        widths = diff(x, dim=axis - y.ndim)
    return sums * widths / 2.0, axis


@public
def trapezoid(y: Tensor, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of y along `dim` by the trapezoidal rule, at points x or at distance dx (1).

    https://docs.pytorch.org/docs/stable/generated/torch.trapezoid.html
    """
    areas, axis = strips(y, x, dx, dim, "trapezoid")
    return call("sum", areas, dim=axis - y.ndim)


@public
def cumulative_trapezoid(y: Tensor, x: Any = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of y so far: https://docs.pytorch.org/docs/stable/generated/torch.cumulative_trapezoid.html"""
    areas, axis = strips(y, x, dx, dim, "cumulative_trapezoid")
    return call("cumsum", areas, dim=axis - y.ndim)


# ----- counting; no derivative -----


@public
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements (or slices along `dim`), in order; asked for, where each was and how many there were.

    https://docs.pytorch.org/docs/stable/generated/torch.unique.html; sorted=False changes nothing. Nothing here is
    differentiable: the values are outside the graph.
    """
    array = input.array
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    inverse = inverse.reshape(array.shape if dim is None else -1)
    wanted = [values, *([inverse] if return_inverse else []), *([counts] if return_counts else [])]
    tensors = tuple(Tensor(np.asarray(each)) for each in wanted)
    return tensors if len(tensors) > 1 else tensors[0]


@public
def bincount(input: Tensor, weights: Any = None, minlength: int = 0) -> Tensor:
    """How often each number from 0 stands in a vector of integers, or the sum of weights there; no derivative."""
    if input.ndim != 1 or input.dtype.kind not in "iu" or (input.array.size and input.array.min() < 0):
        raise RuntimeError(
            f"bincount: expected a vector of integers, none negative, got {input.dtype} of shape {input.shape}"
        )
    if weights is None:
        return Tensor(np.bincount(input.array, minlength=minlength).astype(np.int64, copy=False))
    array = weights.array if isinstance(weights, Tensor) else np.asarray(weights)
    counts = np.bincount(input.array, array, minlength)
    return Tensor(counts.astype(np.float32 if array.dtype == np.float32 else np.float64))


@public
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements are in each of `bins` equal parts of [min, max] (both 0: of the data's range); no derivative.

    https://docs.pytorch.org/docs/stable/generated/torch.histc.html
    """
    if input.dtype.kind != "f":
        raise RuntimeError(f"histc: expected a floating-point tensor, got {input.dtype}: write x.float()")
    if bins <= 0 or min > max:
        raise RuntimeError(f"histc: expected bins > 0 and min <= max, got bins={bins}, min={min}, max={max}")
    x, kind = input.array.reshape(-1), input.dtype.type
    low, high = kind(min), kind(max)
    if low == high and x.size:
        low, high = x.min(), x.max()
    if low == high:
        low, high = low - 1, high + 1
    if not (np.isfinite(low) and np.isfinite(high)):
        raise RuntimeError(f"histc: expected a finite range, got [{low}, {high}]")
    x = x[(x >= low) & (x <= high)]
    # In this order, and in the input's dtype, as torch rounds it.
    places = np.minimum(((x - low) * kind(bins) / (high - low)).astype(np.int64), bins - 1)
    return Tensor(np.bincount(places, minlength=bins).astype(input.dtype))
