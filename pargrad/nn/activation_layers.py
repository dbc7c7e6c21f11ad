"""Activations as layers: each holds the settings of its function in `functional`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from pargrad import creation
from pargrad.nn import functional as F
from pargrad.nn import init
from pargrad.nn.activations import check_approximate
from pargrad.nn.module import Module, Parameter
from pargrad.tensor import Tensor


class Activation(Module):
    """A base: a function of `functional`, and its settings, which are this module's attributes.

    told: those that are printed, with their names; those in `bare` without, and `inplace` only where it is True.
    """

    function: Callable[..., Tensor]
    settings: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, **{name: getattr(self, name) for name in self.settings})

    def extra_repr(self) -> str:
        words = []
        for name in self.settings:
            value = getattr(self, name)
            if name in self.untold or (name == "inplace" and not value):
                continue
            words.append(str(value) if name in self.bare else f"{name}={value!r}")
        return ", ".join(words)


class InPlace(Activation):
    """A base: an activation whose one setting is `inplace`."""

    settings = ("inplace",)

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.inplace)


class AlongDim(Activation):
    """A base: an activation whose one setting is a dimension."""

    settings = ("dim",)

    def __init__(self, dim: int | None = None):
        self.dim = dim


class WithoutSettings(Activation):
    """A base: an activation with no settings; whatever arguments it is made with say nothing, as in torch."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input)


# ----- linear in pieces -----


class ReLU(InPlace):
    """max(x, 0), elementwise."""

    function = staticmethod(F.relu)


class LeakyReLU(Activation):
    """x where it is positive, negative_slope * x elsewhere."""

    function = staticmethod(F.leaky_relu)
    settings = ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False):
        self.negative_slope = negative_slope
        self.inplace = inplace


class PReLU(Module):
    """LeakyReLU whose slope is trained: one for all, or num_parameters of them, one for each channel.

    He et al. 2015.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None):
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(creation.empty(num_parameters, dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Makes every slope `init` again."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(Activation):
    """LeakyReLU whose slopes are drawn from [lower, upper) while training, and their mean otherwise."""

    function = staticmethod(F.rrelu)
    settings = ("lower", "upper", "training", "inplace")
    untold = ("training",)

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False):
        self.lower = lower
        self.upper = upper
        self.inplace = inplace


class Hardtanh(Activation):
    """x, and the bound where x is outside of [min_val, max_val]."""

    function = staticmethod(F.hardtanh)
    settings = ("min_val", "max_val", "inplace")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ):
        if min_value is not None or max_value is not None:
            warnings.warn(
                "Hardtanh: write min_val and max_val for min_value and max_value", FutureWarning, stacklevel=2
            )
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        self.inplace = inplace
        if self.max_val <= self.min_val:
            raise ValueError(f"Hardtanh: expected min_val below max_val, got {self.min_val} and {self.max_val}")


class ReLU6(Hardtanh):
    """min(max(x, 0), 6), elementwise."""

    untold = ("min_val", "max_val")

    def __init__(self, inplace: bool = False):
        super().__init__(0.0, 6.0, inplace)


class Hardsigmoid(InPlace):
    """relu6(x + 3) / 6, elementwise."""

    function = staticmethod(F.hardsigmoid)
    untold = ("inplace",)


class Hardswish(InPlace):
    """x * relu6(x + 3) / 6, elementwise."""

    function = staticmethod(F.hardswish)
    untold = ("inplace",)


class Hardshrink(Activation):
    """0 where x is in [-lambd, lambd], x elsewhere."""

    function = staticmethod(F.hardshrink)
    settings = bare = ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd


class Softshrink(Activation):
    """x, nearer to 0 by lambd, and 0 where it was no farther than that."""

    function = staticmethod(F.softshrink)
    settings = bare = ("lambd",)

    def __init__(self, lambd: float = 0.5):
        self.lambd = lambd


class Threshold(Activation):
    """x where it is above the threshold, value elsewhere."""

    function = staticmethod(F.threshold)
    settings = ("threshold", "value", "inplace")

    def __init__(self, threshold: float, value: float, inplace: bool = False):
        self.threshold = threshold
        self.value = value
        self.inplace = inplace


# ----- smooth -----


class Tanh(WithoutSettings):
    """tanh(x), elementwise."""

    function = staticmethod(F.tanh)


class Sigmoid(WithoutSettings):
    """1 / (1 + exp(-x)), elementwise."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(WithoutSettings):
    """log(sigmoid(x)), elementwise."""

    function = staticmethod(F.logsigmoid)


class Softsign(WithoutSettings):
    """x / (1 + |x|), elementwise."""

    function = staticmethod(F.softsign)


class Tanhshrink(WithoutSettings):
    """x - tanh(x), elementwise."""

    function = staticmethod(F.tanhshrink)


class Softplus(Activation):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""

    function = staticmethod(F.softplus)
    settings = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        self.beta = beta
        self.threshold = threshold


class ELU(Activation):
    """x where it is positive, alpha * (exp(x) - 1) elsewhere."""

    function = staticmethod(F.elu)
    settings = ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        self.alpha = alpha
        self.inplace = inplace


class CELU(ELU):
    """x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere."""

    function = staticmethod(F.celu)


class SELU(InPlace):
    """ELU, with the alpha and scale that keep mean 0 and variance 1."""

    function = staticmethod(F.selu)


class SiLU(InPlace):
    """x * sigmoid(x), elementwise."""

    function = staticmethod(F.silu)


class Mish(InPlace):
    """x * tanh(softplus(x)), elementwise."""

    function = staticmethod(F.mish)


class GELU(Activation):
    """x times the normal distribution's share below x; approximate="tanh": a formula near to it."""

    function = staticmethod(F.gelu)
    settings = ("approximate",)

    def __init__(self, approximate: str = "none"):
        check_approximate(approximate)
        self.approximate = approximate


class GLU(AlongDim):
    """The first half along `dim` times the sigmoid of the second."""

    function = staticmethod(F.glu)

    def __init__(self, dim: int = -1):
        self.dim = dim


# ----- along one dimension -----


class Softmax(AlongDim):
    """exp(x) over its sum along `dim`."""

    function = staticmethod(F.softmax)


class Softmin(AlongDim):
    """softmax(-x) along `dim`."""

    function = staticmethod(F.softmin)


class LogSoftmax(AlongDim):
    """log(softmax(x)) along `dim`."""

    function = staticmethod(F.log_softmax)


class Softmax2d(WithoutSettings):
    """softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input of shape (N, C, H, W) or (C, H, W), got {input.shape}")
        return F.softmax(input, -3)


__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]
