"""Losses as Modules: each holds the settings of its function in `functional`, and takes what the function takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from pargrad.nn import functional as F
from pargrad.nn.class_losses import check_power
from pargrad.nn.constructors import taking
from pargrad.nn.linear_layers import PairwiseDistance
from pargrad.nn.loss_functions import check_beta, check_delta
from pargrad.nn.module import Module
from pargrad.nn.pair_losses import check_margin
from pargrad.nn.terms import checked
from pargrad.tensor import Tensor

BUFFERS = ("weight", "pos_weight")


def settings_of(function: Callable[..., Tensor]) -> list[inspect.Parameter]:
    """What a loss function takes beside its inputs, which have no defaults."""
    return [each for each in inspect.signature(function).parameters.values() if each.default is not each.empty]


class Loss(Module):
    """The base of the losses: a function of `functional`, whose settings its constructor takes and its attributes are.

    without: settings that torch's function has and its Module has not; by_name: they can be given only so.
    """

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ("reduction",)
    other_reductions: tuple[str, ...] = ()
    checks: ClassVar[dict[str, Callable[[Any], None]]] = {}  # what refuses a wrong value of a setting

    def __init_subclass__(cls, without: tuple[str, ...] = (), by_name: bool = False, **named: Any) -> None:
        super().__init_subclass__(**named)
        if isinstance(vars(cls).get("function"), staticmethod) and "__init__" not in vars(cls):
            cls.__doc__ = cls.__doc__ or f"`functional.{cls.function.__name__}` as a Module: {cls.function.__doc__}"
            taken = [each for each in settings_of(cls.function) if each.name not in without]
            if by_name:
                taken = [each.replace(kind=each.KEYWORD_ONLY) for each in taken]
            cls.settings = tuple(each.name for each in taken if each.name not in ("size_average", "reduce"))
            cls.__init__ = taking(taken)(cls.hold)  # type: ignore[misc]

    def hold(self, size_average: bool | None = None, reduce: bool | None = None, **settings: Any) -> None:
        """Checks the settings and makes them attributes."""
        settings["reduction"] = checked(settings["reduction"], size_average, reduce, self.other_reductions)
        for name, value in settings.items():
            if name in self.checks:
                self.checks[name](value)
            if name in BUFFERS:
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    # For losses of one's own, as torch's _Loss.
    __init__ = taking(settings_of(F.soft_margin_loss))(hold)

    def forward(self, *inputs: Any) -> Tensor:
        return type(self).function(*inputs, **self.given())

    def sum_and_divisor(self, *inputs: Any) -> tuple[Tensor, float | None]:
        """What data parallelism adds up over shards."""
        return type(self).function.sum_and_divisor(*inputs, **self.given())  # type: ignore[attr-defined]

    def given(self) -> dict[str, Any]:
        """The settings, as the function's arguments."""
        return {name: getattr(self, name) for name in self.settings}


class WeightedLoss(Loss):
    """A base: a loss with a weight, which is a buffer, and a reduction."""

    settings = ("weight", "reduction")
    __init__ = taking(settings_of(F.binary_cross_entropy))(Loss.hold)


# ----- of elements -----


class MSELoss(Loss, without=("weight",)):
    function = staticmethod(F.mse_loss)


class L1Loss(Loss, without=("weight",)):
    function = staticmethod(F.l1_loss)


class SmoothL1Loss(Loss):
    function = staticmethod(F.smooth_l1_loss)
    checks: ClassVar = {"beta": check_beta}


class HuberLoss(Loss, without=("weight",)):
    function = staticmethod(F.huber_loss)
    checks: ClassVar = {"delta": check_delta}


class BCELoss(WeightedLoss):
    function = staticmethod(F.binary_cross_entropy)


class BCEWithLogitsLoss(Loss):
    function = staticmethod(F.binary_cross_entropy_with_logits)


class KLDivLoss(Loss):
    function = staticmethod(F.kl_div)
    other_reductions = ("batchmean",)


class PoissonNLLLoss(Loss):
    function = staticmethod(F.poisson_nll_loss)


class GaussianNLLLoss(Loss, by_name=True):
    function = staticmethod(F.gaussian_nll_loss)


class SoftMarginLoss(Loss):
    function = staticmethod(F.soft_margin_loss)


class HingeEmbeddingLoss(Loss):
    function = staticmethod(F.hinge_embedding_loss)


# ----- of classes -----


class CrossEntropyLoss(WeightedLoss):
    function = staticmethod(F.cross_entropy)


class NLLLoss(WeightedLoss):
    function = staticmethod(F.nll_loss)


class MultiMarginLoss(WeightedLoss):
    function = staticmethod(F.multi_margin_loss)
    checks: ClassVar = {"p": check_power}


class MultiLabelMarginLoss(Loss):
    function = staticmethod(F.multilabel_margin_loss)


class MultiLabelSoftMarginLoss(WeightedLoss):
    function = staticmethod(F.multilabel_soft_margin_loss)


class CTCLoss(Loss):
    function = staticmethod(F.ctc_loss)


# ----- of two or three inputs -----


class MarginRankingLoss(Loss):
    function = staticmethod(F.margin_ranking_loss)


class CosineEmbeddingLoss(Loss):
    function = staticmethod(F.cosine_embedding_loss)


class TripletMarginLoss(Loss):
    function = staticmethod(F.triplet_margin_loss)
    checks: ClassVar = {"margin": check_margin}


class TripletMarginWithDistanceLoss(Loss):
    function = staticmethod(F.triplet_margin_with_distance_loss)
    checks: ClassVar = {"margin": check_margin}

    def hold(self, *, distance_function: Callable[[Tensor, Tensor], Tensor] | None, **settings: Any) -> None:  # type: ignore[override]
        super().hold(distance_function=distance_function or PairwiseDistance(), **settings)


__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]
