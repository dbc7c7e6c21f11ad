"""A weight that is computed from other parameters before each forward: weight_norm and spectral_norm.

Between a forward and the next the weight is part of the graph, as in torch: copy such a module, or give it to a
trainer, before it has been called. Inside the data-parallel trainer spectral_norm is refused, as every module whose
forward writes a buffer.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from pargrad.modes import no_grad
from pargrad.nn.module import Module, Parameter, hooks_of
from pargrad.tensor import Tensor

M = TypeVar("M", bound=Module)


class ComputedWeight:
    """The base: what a module calls before forward, to compute the parameter `name` from those that replace it."""

    suffixes: tuple[str, ...]  # of what replaces it

    def __init__(self, name: str, dim: int):
        self.name = name
        self.dim = dim
        self.handle: Any = None

    def install(self, module: Module) -> None:
        for hook in hooks_of(module).before.values():
            if isinstance(hook.function, type(self)) and hook.function.name == self.name:
                raise RuntimeError(f"{type(self).__name__}: {self.name!r} of {type(module).__name__} already has one")
        weight = vars(module).get(self.name)
        if not isinstance(weight, Parameter):
            raise ValueError(
                f"{type(self).__name__}: expected {self.name!r} to be a parameter of {type(module).__name__}, got "
                f"{type(weight).__name__}"
            )
        delattr(module, self.name)
        self.replace(module, weight)
        with no_grad():
            setattr(module, self.name, self.compute(module, False))
        self.handle = module.register_forward_pre_hook(self)

    def replace(self, module: Module, weight: Parameter) -> None:
        """Gives the module what the weight will be computed from."""
        raise NotImplementedError

    def compute(self, module: Module, training: bool) -> Tensor:
        raise NotImplementedError

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute(module, module.training))

    def part(self, module: Module, suffix: str) -> Any:
        return getattr(module, self.name + suffix)

    @classmethod
    def remove(cls, module: M, name: str) -> M:
        """Makes the weight a parameter again, with the values that it has now."""
        for hook in list(hooks_of(module).before.values()):
            found = hook.function
            if isinstance(found, cls) and found.name == name:
                with no_grad():
                    weight = found.compute(module, False)
                for suffix in ("", *found.suffixes):
                    delattr(module, name + suffix)
                    vars(module).get("_buffer_names", {}).pop(name + suffix, None)
                setattr(module, name, Parameter(weight.detach().clone()))
                found.handle.remove()
                return module
        raise ValueError(f"{cls.__name__}: {name!r} of {type(module).__name__} has none")


class WeightNorm(ComputedWeight):
    suffixes = ("_g", "_v")

    def replace(self, module: Module, weight: Parameter) -> None:
        setattr(module, self.name + "_g", Parameter(self.norm(weight.detach())))
        setattr(module, self.name + "_v", Parameter(weight.detach()))

    def compute(self, module: Module, training: bool) -> Tensor:
        g, v = self.part(module, "_g"), self.part(module, "_v")
        return v * (g / self.norm(v))

    def norm(self, v: Any) -> Tensor:
        if self.dim == -1:
            return (v * v).sum().sqrt()
        others = tuple(i for i in range(v.ndim) if i != self.dim)
        return (v * v).sum(others, keepdim=True).sqrt() if others else v.abs()


def weight_norm(module: M, name: str = "weight", dim: int | None = 0) -> M:
    """Replaces a weight by its size `weight_g` and direction `weight_v` along dim (Salimans and Kingma 2016).

    dim: the dimension whose slices have sizes of their own; None: the whole weight has one.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.weight_norm.html
    """
    WeightNorm(name, -1 if dim is None else dim).install(module)
    return module


def remove_weight_norm(module: M, name: str = "weight") -> M:
    """Makes the weight a plain parameter again, with the value it has; ValueError where it has no weight_norm.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.remove_weight_norm.html
    """
    return WeightNorm.remove(module, name)


class SpectralNorm(ComputedWeight):
    suffixes = ("_orig", "_u", "_v")

    def __init__(self, name: str, dim: int, iterations: int, eps: float):
        super().__init__(name, dim)
        if iterations < 1:
            raise ValueError(f"spectral_norm: expected n_power_iterations of at least 1, got {iterations}")
        self.iterations = iterations
        self.eps = eps

    def replace(self, module: Module, weight: Parameter) -> None:
        setattr(module, self.name + "_orig", weight)
        matrix = self.matrix(weight).detach().array
        for suffix, size in zip(("_u", "_v"), matrix.shape):
            drawn = Tensor(np.empty(size, matrix.dtype)).normal_()
            module.register_buffer(self.name + suffix, Tensor(self.normalized(drawn.array)))

    def compute(self, module: Module, training: bool) -> Tensor:
        weight, u, v = self.part(module, "_orig"), self.part(module, "_u"), self.part(module, "_v")
        matrix = self.matrix(weight)
        if training:
            for _ in range(self.iterations):
                for one, other, by in ((v, u, matrix.array.T), (u, v, matrix.array)):
                    one.array[...] = self.normalized(by @ other.array)
                    one.cell[0] += 1
        # Copies: the next forward will write u and v, which this one's backward needs.
        return weight / (Tensor(u.array.copy()) @ (matrix @ Tensor(v.array.copy())))

    def matrix(self, weight: Tensor) -> Tensor:
        order = (self.dim, *(i for i in range(weight.ndim) if i != self.dim))
        return weight.permute(*order).reshape(weight.shape[self.dim], -1)

    def normalized(self, vector: np.ndarray) -> np.ndarray:
        return vector / max(np.linalg.norm(vector), self.eps)


def spectral_norm(
    module: M, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> M:
    """Divides a weight, `weight_orig`, by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    The value is followed by n_power_iterations of the power method at each forward in training, from the vectors
    that the buffers `weight_u` and `weight_v` have. dim: the weight's dimension of outputs, 0, or 1 in transposed
    convolutions. https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.spectral_norm.html
    """
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    SpectralNorm(name, dim, n_power_iterations, eps).install(module)
    return module


def remove_spectral_norm(module: M, name: str = "weight") -> M:
    """Makes the weight a plain parameter again, with the value it has; ValueError where it has no spectral_norm.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.remove_spectral_norm.html
    """
    return SpectralNorm.remove(module, name)
