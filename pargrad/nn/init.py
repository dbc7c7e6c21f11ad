"""How weights begin: torch.nn.init's functions, with torch's draws. https://docs.pytorch.org/docs/stable/nn.init.html"""

from __future__ import annotations

import math

from pargrad import random
from pargrad.random import Generator
from pargrad.tensor import Tensor

GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0)}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much a nonlinearity shrinks the standard deviation, inverted; param: leaky_relu's negative slope."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        raise ValueError(f"calculate_gain: expected one of {[*GAINS, 'leaky_relu']}, got {nonlinearity!r}")
    return GAINS[nonlinearity]


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills a tensor with numbers uniform in [a, b)."""
    source = generator or random.current_generator()
    tensor.array[...] = random.uniform(source, tensor.shape, a, b, tensor.dtype)
    tensor.cell[0] += 1
    return tensor


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He et al. 2015 (arXiv 1502.01852): uniform in +-gain * sqrt(3 / fan), for a weight of shape (out, in, ...)."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"kaiming_uniform_: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    if tensor.ndim < 2:
        raise ValueError(f"kaiming_uniform_: expected a weight of shape (out, in, ...), got shape {tensor.shape}")
    if not tensor.numel():
        return tensor
    fan = tensor.shape[1 if mode == "fan_in" else 0] * math.prod(tensor.shape[2:])
    # In torch's order of operations: another order gives another last bit.
    bound = math.sqrt(3.0) * (calculate_gain(nonlinearity, a) / math.sqrt(fan))
    return uniform_(tensor, -bound, bound, generator)
