"""Activations that are one operator, because their composition would lose digits or time.

At a kink the subgradient is torch's: hardtanh is flat at its bounds, the others have the left side's derivative at 0.
"""

import math

import numpy as np

from pargrad.rules import masks
from pargrad.rules.elementwise import UNARY, log_1_exp, logistic, rule, sigmoid
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


def size_of(x):
    """|x|, a new array, but no more than 40, where what is left of exp(-x * x / 2) is 0: infinity times it is not."""
    size = np.abs(x, out=np.empty_like(x))
    return np.minimum(size, 40, out=size)


def normal_tail(size):
    """The normal distribution's share above numbers of 0 and more, and exp(-size * size / 2); both are new arrays."""
    density = np.multiply(size, size, out=np.empty_like(size))
    density *= -0.5
    np.exp(density, out=density)
    if size.dtype != np.float32:
        return np.asarray(scipy_ndtr(-size)), density
    t = np.add(size, 3.75, out=np.empty_like(size))
    np.divide(1, t, out=t)
    place = np.subtract(size, 3.75, out=np.empty_like(size))
    place *= t
    tail = np.multiply(place, TAIL[-1], out=np.empty_like(size))
    for coefficient in TAIL[-2:0:-1]:
        tail += coefficient
        tail *= place
    tail += TAIL[0]
    tail *= t
    tail *= density
    return tail, density


@rule(*FAR, dtype="floating", plain=lambda x: x * scipy_ndtr(x))
def gelu(x):
    """x times the normal distribution's share below x."""

    def vjp(g):
        # share + x * density: the share is the tail where x is negative, and 1 - tail elsewhere.
        size = size_of(x)
        out, density = normal_tail(size)
        above = (x >= 0).astype(x.dtype)
        out *= 1 - 2 * above
        out += above
        density *= 1 / math.sqrt(2 * math.pi)
        density *= x
        out += density
        out *= g
        return out

    size = size_of(x)
    tail, _ = normal_tail(size)
    tail *= size
    return np.subtract(np.maximum(x, 0), tail, out=tail), vjp


def tanh_share(x):
    """gelu_tanh(x) / x, a new array."""
    u = np.multiply(x, x, out=np.empty_like(x))
    u *= 2 * CUBIC
    u += 2 * LINEAR
    u *= x
    return logistic(u)


LINEAR, CUBIC = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715


def plain_gelu_tanh(x):
    return x * sigmoid(x * (2 * LINEAR + 2 * CUBIC * (x * x)))


@rule(*FAR, dtype="floating", plain=plain_gelu_tanh)
def gelu_tanh(x):
    """gelu, approximately: with sigmoid(2u) = (1 + tanh(u)) / 2 of a cubic u of x (Hendrycks and Gimpel 2016)."""

    def vjp(g):
        share = tanh_share(x)
        slope = np.multiply(x, x, out=np.empty_like(x))  # of 2u, times x
        slope *= 6 * CUBIC
        slope += 2 * LINEAR
        slope *= x
        return times_slope(g, share, slope)

    y = tanh_share(x)
    y *= x
    return y, vjp


def times_slope(g, share, slope):
    """g * (share + share * (1 - share) * slope), over share and slope."""
    slope *= 1 - share
    slope += 1
    slope *= share
    slope *= g
    return slope


@rule(*FAR, dtype="floating", plain=lambda x: x * sigmoid(x))
def silu(x):
    """x * sigmoid(x)"""
    y = logistic(x)
    y *= x
    return y, lambda g: times_slope(g, logistic(x), np.array(x))


def softplus_parts(x):
    """With n = exp(x): n, and w = n * (n + 2), so that tanh(softplus(x)) is w / (w + 2); above 20 both as at 20."""
    n = np.minimum(x, 20, out=np.empty_like(x))  # from where on tanh is 1
    np.exp(n, out=n)
    w = np.add(n, 2, out=np.empty_like(x))
    w *= n
    return n, w


@rule(*FAR, dtype="floating", plain=lambda x: x * np.tanh(np.logaddexp(0, x)))
def mish(x):
    """x * tanh(softplus(x))"""

    def vjp(g):
        # w / d + x * 4 * n * (n + 1) / d**2, with d = w + 2
        n, w = softplus_parts(x)
        d = w + 2
        slope = np.add(n, 1, out=np.empty_like(x))
        slope *= n
        slope *= 4
        slope *= np.minimum(x, 20)  # beyond, where n stands still, the slope is 0 anyway
        slope /= d
        slope += w
        slope /= d
        slope *= g
        return slope

    n, w = softplus_parts(x)
    y = np.add(w, 2, out=n)
    np.divide(w, y, out=y)
    y *= x
    return y, vjp


@rule(*FAR, sample((6,), domain=(-9.0, 9.0), beta=2.0, threshold=3.0), dtype="floating")
def softplus(x, *, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""
    scaled = x * beta
    y = log_1_exp(scaled)
    y += np.maximum(scaled, 0)
    y /= beta
    return masks.where(scaled > threshold, x, y), lambda g: masks.where(x * beta > threshold, g, g * sigmoid(x * beta))


@rule(*FAR, dtype="floating")
def log_sigmoid(x):
    """log(sigmoid(x)), where sigmoid(x) would be 0, too."""
    y = log_1_exp(x)
    return np.subtract(np.minimum(x, 0), y, out=y), lambda g: g * sigmoid(-x)


@rule(sample((2, 3)), sample((5,), min_val=-0.5, max_val=1.5), sample(()))
def hardtanh(x, *, min_val=-1.0, max_val=1.0):
    """x, and the bound where x is outside of the bounds; unlike clamp's, the derivative at a bound is 0."""
    return np.clip(x, min_val, max_val), lambda g: masks.where(np.logical_or(x <= min_val, x >= max_val), 0, g)
