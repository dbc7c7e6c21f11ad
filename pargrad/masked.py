"""torch's masked operators, `pg.masked.NAME`: https://docs.pytorch.org/docs/stable/masked.html

Each is the operator of its name on the elements at which `mask`, broadcast to the input, is True. The others are put
out of the way by an element that changes nothing, such as 0 in a sum, and get no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad import linalg
from pargrad.operators import FUNCTIONS
from pargrad.tensor import Tensor

__all__ = [
    "amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean",
    "median", "norm", "normalize", "prod", "softmax", "softmin", "std", "sum", "var",
]  # fmt: skip


def lowest(dtype: np.dtype) -> Any:
    """What a maximum passes by."""
    return -np.inf if dtype.kind in "fc" else False if dtype.kind == "b" else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """What a minimum passes by."""
    return np.inf if dtype.kind in "fc" else True if dtype.kind == "b" else np.iinfo(dtype).max


def kept(input: Tensor, mask: Any, fill: Any) -> Tensor:
    """The input with `fill` where the mask is False."""
    if mask is None:
        return input
    if mask.dtype.kind != "b":
        raise TypeError(f"expected a mask of booleans, got {mask.dtype}: write mask.bool()")
    value = fill(input.dtype) if callable(fill) else fill
    return FUNCTIONS["where"](mask, input, Tensor(np.asarray(value, input.dtype)))


def cast(x: Tensor, dtype: Any) -> Tensor:
    return x if dtype is None else FUNCTIONS["to"](x, dtype=dtype)


def every(input: Tensor, dim: Any) -> Any:
    """The dims that are meant, where none and () mean all."""
    if dim is None or dim == ():
        return tuple(range(input.ndim))
    return dim


def reduction(name: str, fill: Any) -> Callable[..., Tensor]:
    operator = FUNCTIONS[name]

    def function(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
        x = kept(cast(input, dtype), mask, fill)
        return operator(x, every(x, dim), keepdim)

    return named(function, name)


def along(name: str, fill: Any) -> Callable[..., Tensor]:
    operator = FUNCTIONS[name]

    def function(input: Tensor, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
        return operator(kept(cast(input, dtype), mask, fill), dim)

    return named(function, name)


def placed(name: str, fill: Any) -> Callable[..., Tensor]:
    operator = FUNCTIONS[name]

    def function(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Any:
        x = cast(input, dtype)
        return cast(operator(kept(x, mask, fill), dim, keepdim), x.dtype)

    return named(function, name, ", as torch has it in the dtype of the input")


def named(function: Callable[..., Tensor], name: str, more: str = "") -> Callable[..., Tensor]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} of the elements at which the mask is True{more}."
    return function


sum = reduction("sum", 0)
amax, amin = reduction("amax", lowest), reduction("amin", highest)
argmax, argmin = placed("argmax", lowest), placed("argmin", highest)
cumsum, cumprod = along("cumsum", 0), along("cumprod", 1)
softmax, log_softmax = along("softmax", lowest), along("log_softmax", lowest)


def logsumexp(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
    """logsumexp of the elements at which the mask is True, as torch has it in the dtype of the input."""
    x = cast(input, dtype)
    return cast(FUNCTIONS["logsumexp"](kept(x, mask, lowest), every(x, dim), keepdim), x.dtype)


def softmin(input: Tensor, dim: int, *, dtype: Any = None, mask: Any = None) -> Tensor:
    """softmax of the negatives of the elements at which the mask is True."""
    return FUNCTIONS["softmax"](-kept(cast(input, dtype), mask, highest), dim)


def prod(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
    """prod of the elements at which the mask is True; `dim` may name several dims."""
    x = kept(cast(input, np.int64 if dtype is None and input.dtype.kind == "b" else dtype), mask, 1)
    dims = every(x, dim)
    for each in sorted(
        (d % max(x.ndim, 1) for d in (dims if isinstance(dims, tuple | list) else (dims,))), reverse=True
    ):
        x = FUNCTIONS["prod"](x, each, keepdim)
    return x


def counts(input: Tensor, dim: Any, keepdim: bool, mask: Any) -> Tensor:
    """How many elements the mask leaves."""
    ones = np.ones(input.shape, np.int64) if mask is None else np.broadcast_to(mask.array, input.shape)
    dims = every(input, dim)
    return Tensor(np.asarray(ones.sum(tuple(dims) if isinstance(dims, list) else dims, keepdims=keepdim)))


def mean(input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
    """mean of the elements at which the mask is True, nan where there is none."""
    total = sum(input, dim, keepdim=keepdim, dtype=dtype, mask=mask)
    return total / counts(input, dim, keepdim, mask)


def median(input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Any = None) -> Tensor:
    """The lower median of the elements at which the mask is True, nan where there is none."""
    x = cast(input, dtype)
    if x.dtype.kind != "f":
        raise TypeError(f"median: expected a floating-point tensor, got {x.dtype}")
    return FUNCTIONS["nanmedian"](kept(x, mask, np.nan), dim, keepdim)[0]


def norm(
    input: Tensor,
    ord: float | None = 2.0,
    dim: Any = None,
    *,
    keepdim: bool = False,
    dtype: Any = None,
    mask: Any = None,
) -> Tensor:
    """linalg.vector_norm of the elements at which the mask is True."""
    x = cast(input, dtype)
    order = 2.0 if ord is None else ord
    return linalg.vector_norm(kept(x, mask, np.inf if order == -np.inf else 0), order, every(x, dim), keepdim)


def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Any = None
) -> Tensor:
    """The elements at which the mask is True over their norm, or over eps where that is less; others are 0."""
    x = cast(input, dtype)
    size = FUNCTIONS["clamp"](norm(x, ord, dim, keepdim=True, mask=mask), min=eps)
    return kept(x, mask, 0) / size


def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
    dtype: Any = None,
    mask: Any = None,
) -> Tensor:
    """var of the elements at which the mask is True; correction, by default 1, is what their number is lessened by.

    That of complex numbers is, as in torch, complex, with an imaginary part of 0.
    """
    if unbiased is not None and correction is not None:
        raise ValueError("expected unbiased or correction, got both")
    less = 1 if correction is None and unbiased in (None, True) else correction or 0
    x = cast(input, dtype)
    difference = x - mean(x, dim, keepdim=True, mask=mask)
    squares = difference * difference.conj() if x.dtype.kind == "c" else difference * difference
    total = sum(squares.real if x.dtype.kind == "c" else squares, dim, keepdim=keepdim, mask=mask)
    left = np.asarray(np.maximum(counts(x, dim, keepdim, mask).array - less, 0))
    left = left if isinstance(less, int) else left.astype(total.dtype)
    return cast(total / Tensor(left), x.dtype if x.dtype.kind == "c" else None)


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, **named: Any) -> Tensor:
    """The square root of var."""
    return var(input, dim, unbiased, **named).sqrt()


def logaddexp(
    input: Tensor, other: Tensor, *, dtype: Any = None, input_mask: Any = None, other_mask: Any = None
) -> Tensor:
    """logaddexp with exp(x) = 0 for the elements at which a mask is False."""
    x, y = (kept(cast(x, dtype), mask, lowest) for x, mask in ((input, input_mask), (other, other_mask)))
    return FUNCTIONS["logaddexp"](x, y)
