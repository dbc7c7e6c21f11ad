"""Dropout as layers: they draw while training, and are the identity otherwise."""

from __future__ import annotations

from collections.abc import Callable

from pargrad.nn import functional as F
from pargrad.nn.dropout import check_probability
from pargrad.nn.module import Module
from pargrad.tensor import Tensor


class DropoutLayer(Module):
    """A base: a function of `functional`, and the probability with which it drops."""

    function: Callable[..., Tensor]

    def __init__(self, p: float = 0.5, inplace: bool = False):
        check_probability(type(self).__name__, p)
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(DropoutLayer):
    """While training, zeroes elements with probability p and divides the others by 1 - p (Srivastava et al. 2014).

    In evaluation the input is given back. ValueError for a p outside of [0, 1].
    """

    function = staticmethod(F.dropout)


class Dropout1d(DropoutLayer):
    """Dropout of whole channels of (N, C, L) or (C, L)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(DropoutLayer):
    """Dropout of whole channels of (N, C, H, W); (N, C, L) is taken as Dropout1d takes it, as torch has it."""

    function = staticmethod(F.dropout2d)


class Dropout3d(DropoutLayer):
    """Dropout of whole channels of (N, C, D, H, W) or (C, D, H, W)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(DropoutLayer):
    """Dropout that keeps mean 0 and variance 1, for SELU."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(DropoutLayer):
    """AlphaDropout of whole channels, dim 1 of (N, C, ...); RuntimeError for fewer than 2 dimensions."""

    function = staticmethod(F.feature_alpha_dropout)


__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]
