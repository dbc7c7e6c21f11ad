"""torch.autograd.function's names, which `pargrad.function` writes and `autograd` has, too."""

from pargrad.function import Function, once_differentiable

__all__ = ["Function", "once_differentiable"]
