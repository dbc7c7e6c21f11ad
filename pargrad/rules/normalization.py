"""Normalizations that are one operator, because their composition would lose digits and time."""

import math

import numpy as np

from pargrad.rules.stacks import normalized
from pargrad.rules.table import rule, sample


def moments(x, dim, eps):
    """The mean and variance of x along `dim`, which stays with a length of 1, and what x is to be divided by."""
    mean = np.mean(x, axis=dim, keepdims=True)
    variance = np.mean(np.square(x - mean), axis=dim, keepdims=True)
    return mean, variance, np.sqrt(variance + eps)


def of_standardized(g, y, scale, dim):
    """The gradient of x: what is left of g without its mean, and without its part along y."""
    along = np.mean(g * y, axis=dim, keepdims=True)
    return (g - np.mean(g, axis=dim, keepdims=True) - y * along) / scale


@rule(
    sample((3, 4), dim=-1, eps=1e-5),
    sample((2, 3, 4), dim=(-2, -1), eps=0.1),
    sample((2, 3, 2, 2), dim=(0, 2, 3), eps=1e-5),
    sample((3, 1), dim=-1, eps=1e-5),
    sample((0, 3), dim=-1, eps=1e-5),
    dtype="floating",
    stack=normalized,
)
def standardize(x, *, dim, eps):
    """(x - mean) / sqrt(variance + eps) along `dim`, the variance over all elements: no correction."""
    mean, _, scale = moments(x, dim, eps)
    return (x - mean) / scale, lambda g: of_standardized(g, (x - mean) / scale, scale, dim)


@rule(
    sample((5, 3), dim=0, eps=1e-5),
    sample((2, 3, 2, 2), dim=(0, 2, 3), eps=0.1),
    dtype="floating",
)
def standardize_with_moments(x, *, dim, eps):
    """`standardize`, the mean and the variance, these two without the dimensions of `dim`."""
    mean, variance, scale = moments(x, dim, eps)
    count = math.prod(x.shape) / max(math.prod(mean.shape), 1)

    def vjp(g):
        of_y, of_mean, of_variance = g
        of_mean, of_variance = np.expand_dims(of_mean, dim), np.expand_dims(of_variance, dim)
        centered = x - mean
        return of_standardized(of_y, centered / scale, scale, dim) + (of_mean + 2 * of_variance * centered) / count

    # A copy of the mean, since the vjp keeps its own.
    return ((x - mean) / scale, np.copy(np.squeeze(mean, dim)), np.squeeze(variance, dim)), vjp
