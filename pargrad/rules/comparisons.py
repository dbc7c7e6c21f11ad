"""Comparisons and what combines them, elementwise: booleans and integers, which have no gradient."""

import numpy as np

from pargrad.rules.complex import ordered
from pargrad.rules.elementwise import BINARY, UNARY, rule
from pargrad.rules.table import boolean, integers, sample

MASKS = (sample(boolean(2, 3), boolean(2, 3)), sample(boolean(4, 1), boolean(3)), sample(integers(8, 3), integers(8)))


@rule(*BINARY, numpy=np.equal, differentiable=False)
def eq(x, y):
    return np.equal(x, y)


@rule(*BINARY, numpy=np.not_equal, differentiable=False)
def ne(x, y):
    return np.not_equal(x, y)


@rule(*BINARY, numpy=np.less, differentiable=False)
def lt(x, y):
    ordered(x, y)
    return np.less(x, y)


@rule(*BINARY, numpy=np.less_equal, differentiable=False)
def le(x, y):
    ordered(x, y)
    return np.less_equal(x, y)


@rule(*BINARY, numpy=np.greater, differentiable=False)
def gt(x, y):
    ordered(x, y)
    return np.greater(x, y)


@rule(*BINARY, numpy=np.greater_equal, differentiable=False)
def ge(x, y):
    ordered(x, y)
    return np.greater_equal(x, y)


@rule(*MASKS, numpy=np.bitwise_and, differentiable=False)
def bitwise_and(x, y):
    return np.bitwise_and(x, y)


@rule(*MASKS, numpy=np.bitwise_or, differentiable=False)
def bitwise_or(x, y):
    return np.bitwise_or(x, y)


@rule(*MASKS, numpy=np.bitwise_xor, differentiable=False)
def bitwise_xor(x, y):
    return np.bitwise_xor(x, y)


@rule(sample(boolean(2, 3)), sample(integers(8, 3)), numpy=(np.bitwise_not, np.invert), differentiable=False)
def bitwise_not(x):
    return np.bitwise_not(x)


SHIFTS = (sample(integers(8, 2, 3), integers(5, 3)), sample(integers(8), integers(5)))


@rule(*SHIFTS, numpy=np.left_shift, differentiable=False)
def bitwise_left_shift(x, y):
    return np.left_shift(x, y)


@rule(*SHIFTS, numpy=np.right_shift, differentiable=False)
def bitwise_right_shift(x, y):
    return np.right_shift(x, y)


@rule(*MASKS, *BINARY, numpy=np.logical_and, differentiable=False)
def logical_and(x, y):
    return np.logical_and(x, y)


@rule(*MASKS, *BINARY, numpy=np.logical_or, differentiable=False)
def logical_or(x, y):
    return np.logical_or(x, y)


@rule(*MASKS, *BINARY, numpy=np.logical_xor, differentiable=False)
def logical_xor(x, y):
    return np.logical_xor(x, y)


@rule(sample(boolean(2, 3)), sample(integers(3, 5)), *UNARY, numpy=np.logical_not, differentiable=False)
def logical_not(x):
    return np.logical_not(x)


@rule(*UNARY, sample(integers(3, 5)), numpy=np.isnan, differentiable=False)
def isnan(x):
    return np.isnan(x)


@rule(*UNARY, sample(integers(3, 5)), numpy=np.isinf, differentiable=False)
def isinf(x):
    return np.isinf(x)


@rule(*UNARY, sample(integers(3, 5)), numpy=np.isfinite, differentiable=False)
def isfinite(x):
    return np.isfinite(x)


@rule(*UNARY, numpy=np.isposinf, differentiable=False)
def isposinf(x):
    ordered(x)
    return x == np.inf


@rule(*UNARY, numpy=np.isneginf, differentiable=False)
def isneginf(x):
    ordered(x)
    return x == -np.inf


@rule(*BINARY, sample((9,), (9,), atol=1.0, rtol=0.5, equal_nan=True), numpy=np.isclose, differentiable=False)
def isclose(x, y, *, rtol=1e-05, atol=1e-08, equal_nan=False):
    """|x - y| <= atol + rtol |y|, and equal infinities are close."""
    return np.isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)
