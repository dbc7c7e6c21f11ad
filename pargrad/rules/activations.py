"""Activations that are one operator, because their composition would lose digits or time.

At a kink the subgradient is torch's: hardtanh is flat at its bounds, the others have the left side's derivative at 0.
"""

import math

import numpy as np

from pargrad.rules import masks
from pargrad.rules.elementwise import UNARY, in_blocks, log_1_exp, rule, sigmoid
from pargrad.rules.special import scipy_ndtr
from pargrad.rules.table import sample

FAR = (*UNARY, sample((6,), domain=(-90.0, 90.0)))


@rule(sample((2, 3), (2, 3)), sample((2, 3, 2), (3, 1)), sample((), ()), sample((0, 2), (2,)), dtype="floating")
def prelu(x, weight):
    """x where it is positive, weight * x elsewhere; weight is a tensor or a number."""
    return (
        masks.where(x > 0, x, weight * x),
        lambda g: masks.where(x > 0, g, g * weight),
        lambda g: masks.where(x > 0, 0, g * x),
    )


@rule(*UNARY, sample((4,), alpha=0.5, scale=1.5, input_scale=2.0), dtype="floating")
def elu(x, *, alpha=1.0, scale=1.0, input_scale=1.0):
    """scale * x where x is positive, scale * alpha * (exp(input_scale * x) - 1) elsewhere."""

    def below():
        return masks.where(x <= 0, x * input_scale, 0)  # exp of a number that is never positive cannot overflow

    def vjp(g):
        return masks.where(x <= 0, g * np.exp(below()) * (scale * alpha * input_scale), g * scale)

    return scale * masks.where(x <= 0, alpha * np.expm1(below()), x), vjp


# Below, what is made on the way to the value is made again in the vjp: that takes less time than its memory would.

# With t = 1 / (3.75 + x), for x of 0 and more, ndtr(-x) * exp(x * x / 2) / t is this polynomial of (x - 3.75) * t, the
# lowest coefficient first: in the least squares that make the largest relative error smallest, 1.5e-8.
TAIL = (
    0.75029407421416, -0.58818827767674, 0.35293960426302, -0.15152083484828, 0.03749250656286,
    0.00120007273905, -0.00416901906634, 0.00050962851524, 0.00044344998646,
)  # fmt: skip


def normal_tail(x):
    """|x|, the normal distribution's share above it, and exp(-x * x / 2)."""
    size = np.abs(x, out=np.empty_like(x))
    np.minimum(size, 40, out=size)  # from where on the rest is 0, which infinity times it is not
    density = np.multiply(size, size, out=np.empty_like(x))
    density *= -0.5
    np.exp(density, out=density)
    if x.dtype != np.float32:
        return size, scipy_ndtr(-size), density
    t = np.add(size, 3.75, out=np.empty_like(x))
    np.divide(1, t, out=t)
    place = np.subtract(size, 3.75, out=np.empty_like(x))
    place *= t
    tail = np.multiply(place, TAIL[-1], out=np.empty_like(x))
    for coefficient in TAIL[-2:0:-1]:
        tail += coefficient
        tail *= place
    tail += TAIL[0]
    tail *= t
    tail *= density
    return size, tail, density


def gelu_of(x):
    size, tail, _ = normal_tail(x)
    tail *= size
    return np.maximum(x, 0) - tail


def gelu_slope(g, x):
    """g * (share + x * density): the share is the tail where x is negative, and 1 - tail elsewhere."""
    _, tail, density = normal_tail(x)
    above = (x >= 0).astype(x.dtype)
    density *= 1 / math.sqrt(2 * math.pi)
    density *= x
    density += above
    above *= -2
    above += 1
    tail *= above
    density += tail
    return g * density


@rule(*FAR, dtype="floating", plain=lambda x: x * scipy_ndtr(x))
def gelu(x):
    """x times the normal distribution's share below x."""
    return in_blocks(gelu_of, x), lambda g: in_blocks(gelu_slope, g, x)


LINEAR, CUBIC = math.sqrt(8 / math.pi), math.sqrt(8 / math.pi) * 0.044715


def tanh_share(x):
    return sigmoid(x * (LINEAR + CUBIC * (x * x)))


def gelu_tanh_slope(g, x):
    share = tanh_share(x)
    return g * (share + share * (1 - share) * (x * (LINEAR + 3 * CUBIC * (x * x))))


@rule(*FAR, dtype="floating")
def gelu_tanh(x):
    """gelu, approximately: with sigmoid(2u) = (1 + tanh(u)) / 2 of a cubic u of x (Hendrycks and Gimpel 2016)."""
    return in_blocks(lambda x: x * tanh_share(x), x), lambda g: in_blocks(gelu_tanh_slope, g, x)


def silu_slope(g, x):
    share = sigmoid(x)
    return g * (share * (1 + x * (1 - share)))


@rule(*FAR, dtype="floating")
def silu(x):
    """x * sigmoid(x)"""
    return in_blocks(lambda x: x * sigmoid(x), x), lambda g: in_blocks(silu_slope, g, x)


# With n = exp(x), tanh(log(1 + n)) is w / (w + 2), w = n * (n + 2). From x = 20 on it is 1, and n stands still.


def mish_of(x):
    n = np.exp(np.minimum(x, 20))
    w = n * (n + 2)
    return x * (w / (w + 2))


def mish_slope(g, x):
    """g * (w / d + x * 4 * n * (n + 1) / d**2), with d = w + 2."""
    near = np.minimum(x, 20)
    n = np.exp(near)
    w = n * (n + 2)
    d = w + 2
    return g * ((w + near * 4 * n * (n + 1) / d) / d)


@rule(*FAR, dtype="floating")
def mish(x):
    """x * tanh(softplus(x))"""
    return in_blocks(mish_of, x), lambda g: in_blocks(mish_slope, g, x)


def softplus_of(x):
    return np.maximum(x, 0) + log_1_exp(x)


@rule(*FAR, sample((6,), domain=(-9.0, 9.0), beta=2.0, threshold=3.0), dtype="floating")
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    scaled = x * beta
    return (
        masks.where(scaled > threshold, x, in_blocks(softplus_of, scaled) / beta),
        lambda g: masks.where(x * beta > threshold, g, g * sigmoid(x * beta)),
    )


@rule(*FAR, dtype="floating")
def log_sigmoid(x):
    """log(sigmoid(x)), where sigmoid(x) would be 0, too."""
    return in_blocks(lambda x: np.minimum(x, 0) - log_1_exp(x), x), lambda g: g * sigmoid(-x)


@rule(sample((2, 3)), sample((5,), min_val=-0.5, max_val=1.5), sample(()))
def hardtanh(x, *, min_val=-1.0, max_val=1.0):
    """x, and the bound where x is outside of the bounds; unlike clamp's, the derivative at a bound is 0."""
    return np.clip(x, min_val, max_val), lambda g: masks.where(np.logical_or(x <= min_val, x >= max_val), 0, g)
