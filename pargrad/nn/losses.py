"""Losses as Modules: each holds the settings of its function in `functional`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pargrad.nn import functional as F
from pargrad.nn.module import Module
from pargrad.tensor import Tensor


class Loss(Module):
    """The base of the losses: a function of `functional` and its settings, which are this module's attributes."""

    function: Callable[..., Tensor]
    settings: tuple[str, ...]

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return type(self).function(input, target, **self.given())

    def sum_and_divisor(self, input: Tensor, target: Tensor) -> tuple[Tensor, float | None]:
        """What data parallelism adds up over shards."""
        return type(self).function.sum_and_divisor(input, target, **self.given())  # type: ignore[attr-defined]

    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}


class MSELoss(Loss):
    function = staticmethod(F.mse_loss)
    settings = ("reduction",)

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"):
        self.reduction = F.checked(reduction, size_average, reduce)


class CrossEntropyLoss(Loss):
    function = staticmethod(F.cross_entropy)
    settings = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = F.checked(reduction, size_average, reduce)
        self.label_smoothing = label_smoothing


class NLLLoss(Loss):
    function = staticmethod(F.nll_loss)
    settings = ("weight", "ignore_index", "reduction")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.reduction = F.checked(reduction, size_average, reduce)


class BCEWithLogitsLoss(Loss):
    function = staticmethod(F.binary_cross_entropy_with_logits)
    settings = ("weight", "reduction", "pos_weight")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Tensor | None = None,
    ):
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction = F.checked(reduction, size_average, reduce)
