"""Losses that are one operator, because their composition would lose digits or time."""

import numpy as np

from pargrad.rules.elementwise import in_blocks, log_1_exp, logistic
from pargrad.rules.softmax import largest, summed
from pargrad.rules.stacks import NotStackable, contiguous, elementwise
from pargrad.rules.table import integers, rule, sample


def plain_softmax_cross_entropy(x, target):
    top = np.max(x, axis=1, keepdims=True)
    log_probability = x - top - np.log(np.sum(np.exp(x - top), axis=1, keepdims=True))
    classes = np.arange(x.shape[1]).reshape(-1, *(1,) * (target.ndim - 1))
    return -np.sum(np.where(np.expand_dims(target, 1) == classes, log_probability, 0), axis=1)


def as_more_rows(function, arrays, stacked, settings):
    """Every example is worked out by itself, so those of all slices may stand below each other."""
    x, target = arrays
    if not all(stacked) or x.ndim != 3:
        raise NotStackable
    value, vjp, _ = function(contiguous(x).reshape(-1, x.shape[2]), target.reshape(-1))
    return value.reshape(target.shape), lambda g: vjp(g.reshape(-1)).reshape(x.shape), None


@rule(
    sample((4, 3), integers(3, 4)),
    sample((2, 3, 5), integers(3, 2, 5)),
    sample((2, 3), integers(3, 2), domain=(-900.0, 900.0)),
    dtype="as is",
    plain=plain_softmax_cross_entropy,
    stack=as_more_rows,
)
def softmax_cross_entropy(x, target):
    """-log softmax(x)[target] for each example: x of shape (N, C, ...), target integers of shape (N, ...)."""
    top = largest(x, 1)
    p = np.subtract(x, top, out=np.empty_like(x))
    np.exp(p, out=p)
    total = summed(p, None, 1)
    value = np.log(total).reshape(target.shape) - (x[at_class(target)] - top.reshape(target.shape))

    def vjp(g):
        out = p * (np.expand_dims(g, 1) / total)
        out[at_class(target)] -= g  # no index of before: target itself is what is seen to be saved
        return out

    return value, vjp, None


def at_class(target):
    """The index of x[n, target[n, ...], ...] for every n and every further position."""
    if target.ndim == 1:
        return np.arange(len(target)), target
    grids = np.ix_(*(np.arange(size) for size in target.shape))
    return (grids[0], target, *grids[1:])


@rule(
    sample((2, 3), (2, 3)),
    sample((4,), (4,), domain=(-90.0, 90.0)),
    plain=lambda x, target: np.maximum(x, 0) - x * target + np.log(1 + np.exp(-np.abs(x))),
    stack=elementwise,
)
def sigmoid_cross_entropy(x, target):
    """-target log sigmoid(x) - (1 - target) log(1 - sigmoid(x)), elementwise, without overflow."""
    return (
        np.maximum(x, 0) - x * target + in_blocks(log_1_exp, x),
        lambda g: g * (in_blocks(logistic, x) - target),
        lambda g: -g * x,
    )


def log_from_minus_100(log, x):
    """torch's logarithm of a probability: no less than -100."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(log(x), -100)


@rule(
    sample((2, 3), (2, 3), domain=(0.1, 0.9)),
    sample((), (), domain=(0.1, 0.9)),
    dtype="match",
    stack=elementwise,
)
def binary_cross_entropy(x, target):
    """-target log x - (1 - target) log(1 - x), elementwise; at x of 0 and 1 it is large and finite, as torch has it."""

    def of_one():
        return log_from_minus_100(np.log, x)

    def of_zero():
        return log_from_minus_100(lambda x: np.log1p(-x), x)

    return (
        (target - 1) * of_zero() - target * of_one(),
        lambda g: g * ((x - target) / np.maximum((1 - x) * x, 1e-12)),
        lambda g: g * (of_zero() - of_one()),
    )
