"""Activations as functions, with torch.nn.functional's names and arguments.

`inplace=True` overwrites the input, as do the functions whose names end in an underscore.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad import operators, random
from pargrad.inplace import obeying_inplace, of_function
from pargrad.operators.compositions import position
from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply

sigmoid: Callable[..., Tensor] = operators.sigmoid
tanh: Callable[..., Tensor] = operators.tanh

# ----- linear in pieces -----


@obeying_inplace
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)"""
    return apply(RULES["relu"], input)


@obeying_inplace
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, negative_slope * x elsewhere."""
    return apply(RULES["prelu"], input, float(negative_slope))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """leaky_relu with a slope for each channel (dim 1), or one for all: weight (channels,), (1,) or ()."""
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: expected a weight of at most 1 dimension, got shape {weight.shape}")
    if weight.numel() == 1:
        return apply(RULES["prelu"], input, weight.reshape(()))
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.shape != (channels,):
        raise RuntimeError(
            f"prelu: expected one slope, or one for each of {channels} channels (dim 1 of input {input.shape}), "
            f"got shape {weight.shape}"
        )
    return apply(RULES["prelu"], input, weight.reshape(-1, *(1,) * (input.ndim - 2)))


@obeying_inplace
def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """leaky_relu whose slopes are drawn from [lower, upper) while training, and their mean otherwise.

    What is drawn is torch's for the same seed. Xu et al. 2015.
    """
    if lower > upper:
        raise RuntimeError(f"rrelu: expected lower to be no greater than upper, got {lower} and {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    below = input.array <= 0
    slopes = np.ones(input.shape, input.dtype)
    count = int(np.count_nonzero(below))
    slopes[below] = random.uniform(random.current_generator(), (count,), lower, upper, np.float64)
    return apply(RULES["prelu"], input, slopes)


@obeying_inplace
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x, and the bound where x is outside of [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val to be no greater than max_val, got {min_val} and {max_val}")
    return apply(RULES["hardtanh"], input, min_val=min_val, max_val=max_val)


@obeying_inplace
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)"""
    return hardtanh(input, 0, 6)


@obeying_inplace
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6"""
    return relu6(input + 3) / 6


@obeying_inplace
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6 (Howard et al. 2019)"""
    return input * relu6(input + 3) / 6


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where x is in [-lambd, lambd], x elsewhere."""
    inside = operators.logical_and(input >= -lambd, input <= lambd)
    return operators.where(inside, 0.0, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x, nearer to 0 by lambd, and 0 where it was no farther than that."""
    if lambd < 0:
        raise RuntimeError(f"softshrink: expected lambd to be 0 or more, got {lambd}")
    inside = operators.logical_and(input >= -lambd, input <= lambd)
    outside = operators.where(input > lambd, input - lambd, input + lambd)  # also nan, which must not become 0
    return operators.where(inside, 0.0, outside)


@obeying_inplace
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above the threshold, value elsewhere."""
    return operators.where(input <= threshold, value, input)


# ----- smooth -----


@obeying_inplace
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, alpha * (exp(x) - 1) elsewhere (Clevert et al. 2016)."""
    return apply(RULES["elu"], input, alpha=alpha)


@obeying_inplace
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """elu, with the alpha and scale that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return apply(RULES["elu"], input, alpha=1.6732632423543772848170429916717, scale=1.0507009873554804934193349852946)


@obeying_inplace
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, alpha * (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    if alpha == 0:
        raise RuntimeError("celu: expected an alpha other than 0")
    return apply(RULES["elu"], input, alpha=alpha, input_scale=1 / alpha)


def check_approximate(approximate: str) -> None:
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: expected approximate='none' or 'tanh', got {approximate!r}")


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution's share below x; approximate="tanh": a formula near to it.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html
    """
    check_approximate(approximate)
    return apply(RULES["gelu" if approximate == "none" else "gelu_tanh"], input)


@obeying_inplace
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x)"""
    return apply(RULES["silu"], input)


@obeying_inplace
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)) (Misra 2020)"""
    return apply(RULES["mish"], input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    return apply(RULES["softplus"], input, beta=beta, threshold=threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), where sigmoid(x) would be 0, too."""
    return apply(RULES["log_sigmoid"], input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)"""
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)"""
    return input - operators.tanh(input)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (Dauphin et al. 2017)."""
    if not input.ndim:
        raise RuntimeError("glu: a number has no dimension to halve")
    size = input.shape[position("glu", input, dim)]
    if size % 2:
        raise RuntimeError(f"glu: expected an even size along dim {dim}, got {size} in shape {input.shape}")
    value, gate = operators.split(input, size // 2, dim) if size else (input, input)
    return value * operators.sigmoid(gate)


# ----- along one dimension -----


def cast(input: Tensor, dtype: Any) -> Tensor:
    return input if dtype is None else operators.to(input, dtype)


def dim_of(name: str, input: Tensor, dim: int | None) -> int:
    """The dimension, which torch guesses where it is left out, and not always as the last one: so does this."""
    if dim is not None:
        return dim
    guess = 0 if input.ndim in (0, 1, 3) else 1
    warnings.warn(f"{name} without dim takes dim={guess}: write dim=-1 for the last dimension", stacklevel=4)
    return guess


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """exp(x) over its sum along `dim`; dtype: what x is cast to first.

    >>> F.softmax(pg.tensor([[0.0, 0.0], [1.0, 1.0]]), dim=1)
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    return apply(RULES["softmax"], cast(input, dtype), dim=dim_of("softmax", input, dim))


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """softmax(-x) along `dim`; dtype: what x is cast to first."""
    return softmax(-input, dim_of("softmin", input, dim), dtype=dtype)


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """log(softmax(x)), where softmax(x) would be 0, too."""
    return apply(RULES["log_softmax"], cast(input, dtype), dim=dim_of("log_softmax", input, dim))


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A draw from softmax(logits), relaxed: near to one-hot where tau is small (Jang et al. 2017).

    hard: one-hot values, with the gradients of the relaxed ones. What is drawn is torch's for the same seed, to
    rounding. `eps` is torch's, and does nothing there either.
    """
    drawn = random.exponential(random.current_generator(), logits.shape, 1.0)
    # A draw of 0 would be a noise of infinity.
    exponential = np.maximum(drawn.astype(logits.dtype), np.finfo(logits.dtype).tiny)
    soft = softmax((logits - np.log(exponential)) / tau, dim)
    if not hard:
        return soft
    index = soft.array.argmax(axis=dim, keepdims=True)
    one_hot = np.zeros_like(soft.array)
    np.put_along_axis(one_hot, index, 1, dim)
    return soft + (one_hot - soft.array)


def normalize(input: Tensor, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Tensor:
    """x over its p-norm along `dim`, or over eps where that is larger."""
    length = apply(RULES["norm"], input, p=p, dim=dim, keepdim=True)
    return input / operators.clamp(length, min=eps)


# ----- in place -----

relu_, leaky_relu_, rrelu_, threshold_ = (of_function(function) for function in (relu, leaky_relu, rrelu, threshold))
elu_, selu_, celu_, hardtanh_ = (of_function(function) for function in (elu, selu, celu, hardtanh))


__all__ = [
    "celu",
    "celu_",
    "elu",
    "elu_",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hardtanh_",
    "leaky_relu",
    "leaky_relu_",
    "log_softmax",
    "logsigmoid",
    "mish",
    "normalize",
    "prelu",
    "relu",
    "relu6",
    "relu_",
    "rrelu",
    "rrelu_",
    "selu",
    "selu_",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
    "threshold_",
]
