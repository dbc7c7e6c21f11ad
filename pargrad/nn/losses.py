"""Losses as Modules: each holds the settings of its function in `functional`, and takes what the function takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pargrad.nn import functional as F
from pargrad.nn.linear_layers import PairwiseDistance
from pargrad.nn.module import Module
from pargrad.nn.terms import checked
from pargrad.tensor import Tensor


class Loss(Module):
    """The base of the losses: a function of `functional` and its settings, which are this module's attributes."""

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ("reduction",)

    def forward(self, *inputs: Any) -> Tensor:
        return type(self).function(*inputs, **self.given())

    def sum_and_divisor(self, *inputs: Any) -> tuple[Tensor, float | None]:
        """What data parallelism adds up over shards."""
        return type(self).function.sum_and_divisor(*inputs, **self.given())  # type: ignore[attr-defined]

    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.settings}


class ReducedLoss(Loss):
    """A loss whose one setting is how it is reduced."""

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"):
        self.reduction = checked(reduction, size_average, reduce)


class WeightedLoss(Loss):
    """A loss with a weight, which is a buffer, and a reduction."""

    settings = ("weight", "reduction")

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.register_buffer("weight", weight)
        self.reduction = checked(reduction, size_average, reduce)


# ----- of elements -----


class MSELoss(ReducedLoss):
    function = staticmethod(F.mse_loss)


class L1Loss(ReducedLoss):
    function = staticmethod(F.l1_loss)


class SmoothL1Loss(Loss):
    function = staticmethod(F.smooth_l1_loss)
    settings = ("reduction", "beta")

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        beta: float = 1.0,
    ):
        self.reduction = checked(reduction, size_average, reduce)
        self.beta = beta


class HuberLoss(Loss):
    function = staticmethod(F.huber_loss)
    settings = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        self.reduction = checked(reduction)
        self.delta = delta


class BCELoss(WeightedLoss):
    function = staticmethod(F.binary_cross_entropy)


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
        self.reduction = checked(reduction, size_average, reduce)


class KLDivLoss(Loss):
    function = staticmethod(F.kl_div)
    settings = ("reduction", "log_target")

    def __init__(
        self,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        log_target: bool = False,
    ):
        self.reduction = checked(reduction, size_average, reduce, also=("batchmean",))
        self.log_target = log_target


class PoissonNLLLoss(Loss):
    function = staticmethod(F.poisson_nll_loss)
    settings = ("log_input", "full", "eps", "reduction")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.log_input = log_input
        self.full = full
        self.eps = eps
        self.reduction = checked(reduction, size_average, reduce)


class GaussianNLLLoss(Loss):
    function = staticmethod(F.gaussian_nll_loss)
    settings = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        self.full = full
        self.eps = eps
        self.reduction = checked(reduction)


class SoftMarginLoss(ReducedLoss):
    function = staticmethod(F.soft_margin_loss)


class HingeEmbeddingLoss(Loss):
    function = staticmethod(F.hinge_embedding_loss)
    settings = ("margin", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.margin = margin
        self.reduction = checked(reduction, size_average, reduce)


# ----- of classes -----


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
        self.reduction = checked(reduction, size_average, reduce)
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
        self.reduction = checked(reduction, size_average, reduce)


class MultiMarginLoss(Loss):
    function = staticmethod(F.multi_margin_loss)
    settings = ("p", "margin", "weight", "reduction")

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.p = p
        self.margin = margin
        self.register_buffer("weight", weight)
        self.reduction = checked(reduction, size_average, reduce)


class MultiLabelMarginLoss(ReducedLoss):
    function = staticmethod(F.multilabel_margin_loss)


class MultiLabelSoftMarginLoss(WeightedLoss):
    function = staticmethod(F.multilabel_soft_margin_loss)


class CTCLoss(Loss):
    function = staticmethod(F.ctc_loss)
    settings = ("blank", "reduction", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        self.blank = blank
        self.reduction = checked(reduction)
        self.zero_infinity = zero_infinity


# ----- of two or three inputs -----


class MarginRankingLoss(Loss):
    function = staticmethod(F.margin_ranking_loss)
    settings = ("margin", "reduction")

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.margin = margin
        self.reduction = checked(reduction, size_average, reduce)


class CosineEmbeddingLoss(Loss):
    function = staticmethod(F.cosine_embedding_loss)
    settings = ("margin", "reduction")

    def __init__(
        self,
        margin: float = 0.0,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.margin = margin
        self.reduction = checked(reduction, size_average, reduce)


class TripletMarginLoss(Loss):
    function = staticmethod(F.triplet_margin_loss)
    settings = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ):
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap
        self.reduction = checked(reduction, size_average, reduce)


class TripletMarginWithDistanceLoss(Loss):
    function = staticmethod(F.triplet_margin_with_distance_loss)
    settings = ("distance_function", "margin", "swap", "reduction")

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ):
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin = margin
        self.swap = swap
        self.reduction = checked(reduction)
