"""Elementwise operators: arithmetic, functions of one variable, comparisons.

At a kink the subgradient is torch's: relu and abs have 0 at 0, clamp passes the gradient at its bounds, equal
arguments of maximum and minimum take half each, and 0 ** 0 is flat.
"""

import numpy as np

from pargrad.rules import table
from pargrad.rules.stacks import elementwise
from pargrad.rules.table import boolean, integers, sample


def rule(*samples, **options):
    return table.rule(*samples, stack=elementwise, **options)


BINARY = (sample((2, 3), (2, 3)), sample((4, 1, 3), (2, 1)), sample((), (2,)), sample((0, 3), (3,)))
UNARY = (sample((2, 3)), sample(()), sample((0, 2)))
POSITIVE = tuple(one._replace(domain=(0.1, 3.0)) for one in UNARY)

# ----- arithmetic -----


@rule(*BINARY, numpy=np.add)
def add(x, y):
    return x + y, lambda g: g, lambda g: g


@rule(*BINARY, numpy=np.subtract)
def sub(x, y):
    return x - y, lambda g: g, lambda g: -g


@rule(*BINARY, numpy=np.multiply)
def mul(x, y):
    return x * y, lambda g: g * y, lambda g: g * x


@rule(*(one._replace(domain=(0.5, 2.0)) for one in BINARY), dtype="float", numpy=(np.divide, np.true_divide))
def div(x, y):
    return x / y, lambda g: g / y, lambda g: -g * (x / y / y)  # y * y would overflow first


@rule(*(one._replace(domain=(0.5, 2.0)) for one in BINARY), numpy=(np.power, np.float_power))
def pow(x, y):
    z = x**y

    # Where the exponent is 0, or the base, the derivative is 0: 0 * inf would be nan.
    def vjp_x(g):
        if isinstance(y, int | float):  # a literal stays weak, as it was in the value
            return g * (y * x ** (y - 1)) if y else np.zeros_like(g)
        flat = y == 0
        return g * np.where(flat, 0, y * x ** np.where(flat, 1, y - 1))

    def vjp_y(g):
        if isinstance(x, int | float):
            return g * z * float(np.log(x)) if x else np.where(y >= 0, 0, g * z * -np.inf)
        flat = (x == 0) & (y >= 0)
        return np.where(flat, 0, g * z * np.log(np.where(flat, 1, x)))

    return z, vjp_x, vjp_y


@rule(*UNARY, numpy=np.negative)
def neg(x):
    return -x, lambda g: -g


@rule(sample((2, 3), (2, 3), domain=(0.5, 3.0)), numpy=np.floor_divide, differentiable=False)
def floor_divide(x, y):
    return x // y


@rule(sample((2, 3), (2, 3), domain=(0.5, 3.0)), sample((4,), (), domain=(0.5, 3.0)), numpy=(np.remainder, np.mod))
def remainder(x, y):
    return x % y, lambda g: g, lambda g: -g * (x // y)


@rule(*UNARY, numpy=np.square)
def square(x):
    return x * x, lambda g: g * (2 * x)


# ----- functions of one variable -----


@rule(*UNARY, dtype="float", numpy=np.exp)
def exp(x):
    y = np.exp(x)
    return y, lambda g: g * y


@rule(*POSITIVE, dtype="float", numpy=np.log)
def log(x):
    return np.log(x), lambda g: g / x


@rule(*POSITIVE, dtype="float", numpy=np.sqrt)
def sqrt(x):
    y = np.sqrt(x)
    return y, lambda g: g / (2 * y)


@rule(*UNARY, dtype="float", numpy=np.tanh)
def tanh(x):
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@rule(*UNARY, sample((3,), domain=(-90.0, 90.0)), dtype="float")
def sigmoid(x):
    # exp of a number that is never positive cannot overflow.
    e = np.exp(-np.abs(x))
    y = np.where(x >= 0, 1, e) / (1 + e)
    return y, lambda g: g * (y * (1 - y))


@rule(*UNARY)
def relu(x):
    y = np.maximum(x, 0)
    return y, lambda g: np.where(y <= 0, 0, g)


@rule(*UNARY, numpy=(np.abs, np.absolute))
def abs(x):
    return np.abs(x), lambda g: g * np.sign(x)


# ----- choices -----


@rule(*BINARY, numpy=np.maximum)
def maximum(x, y):
    return (
        np.maximum(x, y),
        lambda g: np.where(x < y, 0, np.where(x == y, g / 2, g)),
        lambda g: np.where(y < x, 0, np.where(x == y, g / 2, g)),
    )


@rule(*BINARY, numpy=np.minimum)
def minimum(x, y):
    return (
        np.minimum(x, y),
        lambda g: np.where(x > y, 0, np.where(x == y, g / 2, g)),
        lambda g: np.where(y > x, 0, np.where(x == y, g / 2, g)),
    )


@rule(sample((2, 3), min=-0.5, max=1.0), sample((3,), min=0.0), sample((), max=0.0), numpy=np.clip)
def clamp(x, *, min=None, max=None):
    def inside():
        return np.logical_and(True if min is None else x >= min, True if max is None else x <= max)

    return np.clip(x, min, max), lambda g: np.where(inside(), g, 0)


@rule(sample(boolean(2, 3), (2, 3), (2, 3)), sample(boolean(3), (2, 1), ()), numpy=np.where, fixed=("condition",))
def where(condition, x, y):
    # A gradient that is not taken is replaced, not multiplied by 0: 0 * nan would leak.
    return (
        np.where(condition, x, y),
        None,
        lambda g: np.where(condition, g, 0),
        lambda g: np.where(condition, 0, g),
    )


# ----- comparisons and what combines them: booleans and integers, which have no gradient -----

MASKS = (sample(boolean(2, 3), boolean(2, 3)), sample(boolean(4, 1), boolean(3)), sample(integers(8, 3), integers(8)))


@rule(*BINARY, numpy=np.equal, differentiable=False)
def eq(x, y):
    return np.equal(x, y)


@rule(*BINARY, numpy=np.not_equal, differentiable=False)
def ne(x, y):
    return np.not_equal(x, y)


@rule(*BINARY, numpy=np.less, differentiable=False)
def lt(x, y):
    return np.less(x, y)


@rule(*BINARY, numpy=np.less_equal, differentiable=False)
def le(x, y):
    return np.less_equal(x, y)


@rule(*BINARY, numpy=np.greater, differentiable=False)
def gt(x, y):
    return np.greater(x, y)


@rule(*BINARY, numpy=np.greater_equal, differentiable=False)
def ge(x, y):
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
