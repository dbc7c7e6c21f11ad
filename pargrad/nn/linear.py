"""Linear maps as functions."""

from __future__ import annotations

from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: input (..., in), weight (out, in), bias (out,), output (..., out)."""
    if input.shape[-1:] != weight.shape[-1:] or weight.ndim not in (1, 2):
        raise RuntimeError(
            f"linear: expected input of shape (..., {weight.shape[-1] if weight.ndim else 'in'}) for weight "
            f"{weight.shape}, got {input.shape}"
        )
    if weight.ndim == 1:
        value = apply(RULES["matmul"], input, weight)
        return value if bias is None else value + bias
    if bias is None:
        return apply(RULES["matmul"], input, weight.T)
    return apply(RULES["linear"], input, weight, bias)


__all__ = ["linear"]
