"""A loss as its terms: the value of each example or element, and the divisor of their mean.

From these come torch's `reduction` and what data parallelism needs, `LOSS.sum_and_divisor(...)`: sums and divisors of
shards add up, means of uneven shards do not.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from pargrad.operators.compositions import tensor as as_constant
from pargrad.tensor import Tensor

Taken = ParamSpec("Taken")


class Terms(NamedTuple):
    """A loss before it is reduced: a value per example or element, and what the mean divides their sum by."""

    values: Tensor
    divisor: float
    reduction: str

    def reduced(self) -> Tensor:
        if self.reduction == "none":
            return self.values
        total = self.values.sum()
        if self.reduction == "sum":
            return total
        # Nothing counted: nan, as in torch, and without numpy's warning of 0 / 0.
        return total / float(self.divisor) if self.divisor else total * float("nan")

    def sum_and_divisor(self) -> tuple[Tensor, float | None]:
        """What a shard hands on; the divisor is None with reduction="sum": the batch's sum is not divided."""
        return self.values.sum(), None if self.reduction == "sum" else self.divisor


def loss(terms: Callable[Taken, Any]) -> Callable[Taken, Tensor]:
    """torch's loss function from its terms."""

    @functools.wraps(terms)
    def function(*args: Taken.args, **named: Taken.kwargs) -> Tensor:
        return terms(*args, **named).reduced()

    def sum_and_divisor(*args: Taken.args, **named: Taken.kwargs) -> tuple[Tensor, float | None]:
        return terms(*args, **named).sum_and_divisor()

    sum_and_divisor.of = function  # type: ignore[attr-defined]  # a wrapper around it is another function
    function.sum_and_divisor = sum_and_divisor  # type: ignore[attr-defined]
    return function


def checked(reduction: str, size_average: Any = None, reduce: Any = None, also: tuple[str, ...] = ()) -> str:
    """The reduction, which is 'mean', 'sum', 'none' or one of `also`, or what torch's old flags say instead."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            f"size_average and reduce are deprecated: write reduction={reduction!r}", DeprecationWarning, stacklevel=4
        )
    if reduction not in ("mean", "sum", "none", *also):
        other = "".join(f", {name!r}" for name in also)
        raise ValueError(f"expected reduction 'mean', 'sum'{other} or 'none', got {reduction!r}")
    return reduction


def of_elements(values: Tensor, reduction: str) -> Terms:
    """The terms of a loss whose mean is that of all its values."""
    return Terms(values, values.numel(), reduction)


def same_shape(name: str, input: Tensor, target: Tensor) -> None:
    # torch broadcasts here, with a warning; it is nearly always a (N, 1) met by a (N,).
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: expected input and target of one shape, got {input.shape} and {target.shape}: reshape one of them"
        )


def along_target(name: str, input: Tensor, target: Any) -> Tensor:
    """The target as a tensor of input's shape, checked."""
    target = as_constant(target)
    same_shape(name, input, target)
    return target


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that these make together, or None where they do not go together."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def factors(name: str, argument: str, given: Any, values: Tensor) -> Tensor:
    """Factors of the values, a tensor that broadcasts to their shape, checked."""
    given = as_constant(given)
    if broadcast(given.shape, values.shape) != values.shape:
        raise RuntimeError(
            f"{name}: expected {argument} to broadcast to input's shape {values.shape}, got shape {given.shape}: give "
            "one for each element, or one for each index of the last dimension"
        )
    return given


def weighted(name: str, values: Tensor, weight: Any, reduction: str) -> Terms:
    """The terms of a loss with a weight for each element, of input's shape: the mean is the weighted one."""
    if weight is None:
        return of_elements(values, reduction)
    weight = as_constant(weight)
    same_shape(f"{name}'s weight", values, weight)
    return Terms(values * weight, float(weight.array.sum(dtype=np.float64)), reduction)
