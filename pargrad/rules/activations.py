"""Activations that are one operator, because their composition would lose digits or time.

At a kink the subgradient is torch's: hardtanh is flat at its bounds, the others have the left side's derivative at 0.
"""

import math

import numpy as np

from pargrad.rules import masks
from pargrad.rules.elementwise import UNARY, in_blocks, log_1_exp, logistic, rule, sigmoid
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


# The logit of the normal distribution's share below x is x times this polynomial of x * x, lowest coefficient first:
# fitted on 0 to 7 so that the largest error of x * share is smallest, 8e-8, and the logit's own at most 0.014. The
# highest coefficient is positive, so that further out the share goes on to 0 and 1.
LOGIT = (
    1.5957711467928122, 0.07266003813769349, -5.782146933978156e-05, -1.1411065277691816e-04, 8.705835232690582e-06,
    -3.4957880961349247e-07, 7.982111822475148e-09, -9.654950471866722e-11, 4.777529741722409e-13,
)  # fmt: skip


def normal_share(x):
    """The normal distribution's share below x."""
    if x.dtype != np.float32:
        return scipy_ndtr(x)
    with np.errstate(over="ignore"):
        square = np.multiply(x, x, out=np.empty_like(x))
        logit = np.multiply(square, LOGIT[-1], out=np.empty_like(x))
        for coefficient in LOGIT[-2:0:-1]:
            logit += coefficient
            logit *= square
        logit += LOGIT[0]
        logit *= x
    return logistic(logit)


def gelu_slope(g, x, share):
    """g * (share + x * density)"""
    with np.errstate(over="ignore"):
        slope = np.multiply(x, x, out=np.empty_like(x))
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= 1 / math.sqrt(2 * math.pi)
    slope *= x
    slope += share
    slope *= g
    return slope


@rule(*FAR, dtype="floating", plain=lambda x: x * scipy_ndtr(x))
def gelu(x):
    """x times the normal distribution's share below x."""
    share = in_blocks(normal_share, x)
    return x * share, lambda g: in_blocks(gelu_slope, g, x, share)


LINEAR, CUBIC = math.sqrt(8 / math.pi), math.sqrt(8 / math.pi) * 0.044715


def tanh_share(x):
    return sigmoid(x * (LINEAR + CUBIC * (x * x)))


def gelu_tanh_slope(g, x, share):
    return g * (share + share * (1 - share) * (x * (LINEAR + 3 * CUBIC * (x * x))))


@rule(*FAR, dtype="floating")
def gelu_tanh(x):
    """gelu, approximately: with sigmoid(2u) = (1 + tanh(u)) / 2 of a cubic u of x (Hendrycks and Gimpel 2016)."""
    share = in_blocks(tanh_share, x)
    return x * share, lambda g: in_blocks(gelu_tanh_slope, g, x, share)


@rule(*FAR, dtype="floating")
def silu(x):
    """x * sigmoid(x)"""
    share = sigmoid(x)
    return x * share, lambda g: in_blocks(lambda g, x, share: g * (share * (1 + x * (1 - share))), g, x, share)


# Below, what is made on the way to the value is made again in the vjp: that takes less time than its memory would.
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
