"""Parametrizations as torch has them: weight_norm, by size and direction, and spectral_norm."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from pargrad.modes import no_grad
from pargrad.nn.module import Module
from pargrad.nn.utils.computed_weight import SpectralNorm, WeightNorm
from pargrad.nn.utils.parametrize import register_parametrization
from pargrad.tensor import Tensor

__all__ = ["spectral_norm", "weight_norm"]

M = TypeVar("M", bound=Module)


class _WeightNorm(Module):
    """g times v over its norm along dim."""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / self.norm(weight_v))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.norm(weight), weight

    def norm(self, weight: Tensor) -> Tensor:
        return WeightNorm("weight", self.dim).norm(weight)


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """A weight as its size `original0` and direction `original1` along dim (Salimans and Kingma 2016).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.weight_norm.html
    """
    register_parametrization(module, name, _WeightNorm(-1 if dim is None else dim), unsafe=True)
    return module


class _SpectralNorm(Module):
    """A weight over its largest singular value, which the power method follows."""

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, iterations: int, dim: int, eps: float):
        self.norm = SpectralNorm("weight", dim, iterations, eps)
        self.dim = dim
        if weight.ndim > 1:
            matrix = self.norm.matrix(weight).detach().array
            for name, size in zip(("_u", "_v"), matrix.shape):
                drawn = Tensor(np.empty(size, matrix.dtype)).normal_()
                self.register_buffer(name, Tensor(self.norm.normalized(drawn.array)))
            self.follow(matrix, 15)

    def follow(self, matrix: np.ndarray, iterations: int) -> None:
        for _ in range(iterations):
            for one, other, by in ((self._u, self._v, matrix), (self._v, self._u, matrix.T)):
                one.array[...] = self.norm.normalized(by @ other.array)
                one.cell[0] += 1

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return weight / (weight * weight).sum().sqrt().clamp(min=self.norm.eps)
        matrix = self.norm.matrix(weight)
        if self.training:
            with no_grad():
                self.follow(matrix.array, self.norm.iterations)
        # Copies: the next call will write u and v, which this one's backward needs.
        return weight / (Tensor(self._u.array.copy()) @ (matrix @ Tensor(self._v.array.copy())))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Divides a weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    Each reading in training takes n_power_iterations of the power method; the first vectors have taken 15.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrizations.spectral_norm.html
    """
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    weight: Any = getattr(module, name)
    register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
    return module
