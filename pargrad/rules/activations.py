"""Activations that are one operator, because their composition would lose digits or time.

At a kink the subgradient is torch's: hardtanh is flat at its bounds, the others have the left side's derivative at 0.
"""

import math

import numpy as np

from pargrad.rules.elementwise import UNARY, rule, sigmoid
from pargrad.rules.special import scipy_ndtr
from pargrad.rules.table import sample

FAR = (*UNARY, sample((6,), domain=(-90.0, 90.0)))


@rule(sample((2, 3), (2, 3)), sample((2, 3, 2), (3, 1)), sample((), ()), sample((0, 2), (2,)), dtype="floating")
def prelu(x, weight):
    """x where it is positive, weight * x elsewhere; weight is a tensor or a number."""
    return (
        np.where(x > 0, x, weight * x),
        lambda g: np.where(x > 0, g, g * weight),
        lambda g: np.where(x > 0, 0, g * x),
    )


@rule(*UNARY, sample((4,), alpha=0.5, scale=1.5, input_scale=2.0), dtype="floating")
def elu(x, *, alpha=1.0, scale=1.0, input_scale=1.0):
    """scale * x where x is positive, scale * alpha * (exp(input_scale * x) - 1) elsewhere."""

    def below():
        return np.where(x <= 0, x * input_scale, 0)  # exp of a number that is never positive cannot overflow

    return (
        scale * np.where(x <= 0, alpha * np.expm1(below()), x),
        lambda g: g * np.where(x <= 0, (scale * alpha * input_scale) * np.exp(below()), scale),
    )


@rule(*FAR, dtype="floating")
def gelu(x):
    """x times the normal distribution's share below x."""
    share = scipy_ndtr(x)
    return x * share, lambda g: g * (share + x * (np.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))))


@rule(*FAR, dtype="floating")
def gelu_tanh(x):
    """gelu, approximately: with sigmoid(2u) = (1 + tanh(u)) / 2 of a cubic u of x (Hendrycks and Gimpel 2016)."""
    linear, cubic = math.sqrt(8 / math.pi), math.sqrt(8 / math.pi) * 0.044715
    share = sigmoid(x * (linear + cubic * (x * x)))
    return x * share, lambda g: g * (share + share * (1 - share) * (x * (linear + 3 * cubic * (x * x))))


@rule(*FAR, dtype="floating")
def silu(x):
    """x * sigmoid(x)"""
    share = sigmoid(x)
    return x * share, lambda g: g * (share * (1 + x * (1 - share)))


@rule(*FAR, dtype="floating")
def mish(x):
    """x * tanh(softplus(x))"""
    share = np.tanh(np.logaddexp(0, x))
    return x * share, lambda g: g * (share + x * (1 - share * share) * sigmoid(x))


@rule(*FAR, sample((6,), domain=(-9.0, 9.0), beta=2.0, threshold=3.0), dtype="floating")
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    return (
        np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta),
        lambda g: np.where(x * beta > threshold, g, g * sigmoid(x * beta)),
    )


@rule(*FAR, dtype="floating")
def log_sigmoid(x):
    """log(sigmoid(x)), where sigmoid(x) would be 0, too."""
    return np.where(x > 0, 0, x) - np.log1p(np.exp(-np.abs(x))), lambda g: g * sigmoid(-x)


@rule(sample((2, 3)), sample((5,), min_val=-0.5, max_val=1.5), sample(()))
def hardtanh(x, *, min_val=-1.0, max_val=1.0):
    """x, and the bound where x is outside of the bounds; unlike clamp's, the derivative at a bound is 0."""
    return np.clip(x, min_val, max_val), lambda g: np.where(np.logical_or(x <= min_val, x >= max_val), 0, g)
