"""Elementwise operators: arithmetic, functions of one variable, choices; `rounding` and `comparisons` have the rest.

At a kink the subgradient is torch's: relu and abs have 0 at 0, clamp passes the gradient at its bounds, equal
arguments of maximum and minimum take half each, and 0 ** 0 is flat.
"""

import math

import numpy as np

from pargrad.rules import masks, table
from pargrad.rules.complex import complexes, is_complex, ordered
from pargrad.rules.stacks import elementwise
from pargrad.rules.table import boolean, sample


def rule(*samples, **options):
    return table.rule(*samples, stack=elementwise, **options)


BINARY = (sample((2, 3), (2, 3)), sample((4, 1, 3), (2, 1)), sample((), (2,)), sample((0, 3), (3,)))
UNARY = (sample((2, 3)), sample(()), sample((0, 2)))
POSITIVE = tuple(one._replace(domain=(0.1, 3.0)) for one in UNARY)
COMPLEX = (sample(complexes(2, 3)), sample(complexes()))
NUMBER = int | float | complex


def divisible(x, y):
    """Refuses complex numbers, and to divide integers by 0, for which numpy gives 0 and a warning."""
    ordered(x, y)
    whole = (isinstance(z, int) or (hasattr(z, "dtype") and z.dtype.kind in "biu") for z in (x, y))
    if all(whole) and not np.all(y) and 0 not in getattr(x, "shape", ()):
        raise ValueError("integers cannot be divided by 0: write x.float()")


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


@rule(*(one._replace(domain=(0.5, 2.0)) for one in BINARY), numpy=np.power)
def pow(x, y):
    try:
        z = x**y
    except ValueError:  # numpy knows no integers to negative powers
        if isinstance(y, NUMBER):
            raise
        z = np.where(y < 0, np.where(np.abs(x) == 1, x ** (y & 1), 0), x ** np.maximum(y, 0))

    # Where the exponent is 0, or the base, the derivative is 0: 0 * inf would be nan.
    def vjp_x(g):
        if isinstance(y, NUMBER):  # a literal stays weak, as it was in the value
            return g * (y * x ** (y - 1)) if y else np.zeros_like(g)
        flat = y == 0
        return g * np.where(flat, 0, y * x ** np.where(flat, 1, y - 1))

    def vjp_y(g):
        if isinstance(x, NUMBER):
            if not x:
                return np.where(np.real(y) >= 0, 0, g * z * -np.inf)
            return g * z * np.log(x + 0j if is_complex(z) else x).item()
        flat = (x == 0) & (np.real(y) >= 0)
        return np.where(flat, 0, g * z * np.log(np.where(flat, 1, x)))

    return z, vjp_x, vjp_y


@rule(*UNARY, numpy=np.negative)
def neg(x):
    return -x, lambda g: -g


@rule(sample((2, 3), (2, 3), domain=(0.5, 3.0)), numpy=np.floor_divide, differentiable=False)
def floor_divide(x, y):
    divisible(x, y)
    return x // y


@rule(sample((2, 3), (2, 3), domain=(0.5, 3.0)), sample((4,), (), domain=(0.5, 3.0)), numpy=(np.remainder, np.mod))
def remainder(x, y):
    divisible(x, y)
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


BLOCK = 1 << 15


def in_blocks(function, *arrays):
    """function(*arrays) of arrays of one shape, elementwise: so many elements at a time that what is made stays in the
    cache. On Tensors it is called as it stands.
    """
    first = arrays[0]
    if any(type(x) is not np.ndarray for x in arrays) or first.size <= BLOCK:
        return function(*arrays)
    out = np.empty(first.shape, first.dtype)
    target, *parts = (x.reshape(-1) for x in (out, *arrays))
    for start in range(0, first.size, BLOCK):
        target[start : start + BLOCK] = function(*(x[start : start + BLOCK] for x in parts))
    return out


def logistic(x):
    """1 / (1 + exp(-x)); 0 where the exponential overflows."""
    y = np.negative(x, out=np.empty_like(x))
    with np.errstate(over="ignore"):
        np.exp(y, out=y)
    y += 1
    return np.divide(1, y, out=y)


def log_1_exp(x):
    """log(1 + exp(-|x|)); numpy's log1p, which takes one element after the other, is slow."""
    e = np.abs(x, out=np.empty_like(x))
    np.negative(e, out=e)
    np.exp(e, out=e)
    total = np.add(e, 1, out=np.empty_like(x))
    e -= total - 1  # what rounding took from the total, which the logarithm is given back
    e /= total
    e += np.log(total, out=total)
    return e


def complex_logistic(x):
    positive = np.real(x) >= 0
    e = np.exp(np.where(positive, -x, x))  # of a number whose real part is never positive: it cannot overflow
    return np.where(positive, 1, e) / (1 + e)


@rule(*UNARY, sample((3,), domain=(-90.0, 90.0)), *COMPLEX, dtype="float")
def sigmoid(x):
    y = complex_logistic(x) if is_complex(x) else in_blocks(logistic, x)
    return y, lambda g: in_blocks(lambda g, y: g * (y * (1 - y)), g, y)


@rule(*UNARY)
def relu(x):
    ordered(x)
    y = np.maximum(x, 0)
    return y, lambda g: masks.where(y <= 0, 0, g)


@rule(*UNARY, *COMPLEX, numpy=(np.abs, np.absolute), holomorphic=False)
def abs(x):
    return np.abs(x), lambda g: g * np.sign(x)  # of a complex number z, z / |z|


# ----- arithmetic of two and three -----


def dtyped(*values):
    """Literals as arrays of the others' dtype, for functions of a literal alone: numpy's would be float64."""
    dtype = next(x.dtype for x in values if not isinstance(x, NUMBER))
    return tuple(np.asarray(x, dtype) if isinstance(x, NUMBER) else x for x in values)


NONZERO = tuple(one._replace(domain=(0.5, 3.0)) for one in BINARY)
TERNARY = (
    sample((2, 3), (2, 3), (2, 3), domain=(0.5, 2.0)),
    sample((4, 1, 3), (2, 1), (3,), domain=(0.5, 2.0)),
    sample((), (2,), (), domain=(0.5, 2.0)),
)


@rule(*TERNARY, sample((2,), (2,), (2,), value=-0.5))
def addcmul(x, tensor1, tensor2, *, value=1):
    return (
        x + value * tensor1 * tensor2,
        lambda g: g,
        lambda g: g * (value * tensor2),
        lambda g: g * (value * tensor1),
    )


@rule(*TERNARY, sample((2,), (2,), (2,), domain=(0.5, 2.0), value=-0.5), dtype="floating")
def addcdiv(x, tensor1, tensor2, *, value=1):
    return (
        x + value * (tensor1 / tensor2),
        lambda g: g,
        lambda g: g * (value / tensor2),
        lambda g: -g * (value * (tensor1 / tensor2 / tensor2)),
    )


@rule(*TERNARY, sample((2, 3), (3,), (2, 1), domain=(0.1, 0.9)), dtype="floating")
def lerp(x, end, weight):
    """From x, where weight is 0, to end, where it is 1; both are met exactly. weight is a tensor or a number."""
    step = end - x
    z = np.where(np.abs(weight) < 0.5, x + weight * step, end - step * (1 - weight))
    return z, lambda g: g * (1 - weight), lambda g: g * weight, lambda g: g * (end - x)


@rule(*NONZERO, sample((3,), (3,), domain=(-3.0, -0.5)), numpy=np.fmod)
def fmod(x, y):
    divisible(x, y)
    return np.fmod(x, y), lambda g: g, lambda g: -g * np.trunc(x / y)


@rule(
    *(
        one._replace(settings={"rounding_mode": mode})
        for one in (*NONZERO, sample((3,), (3,), domain=(-3.0, -0.5)))
        for mode in ("floor", "trunc")
    )
)
def div_rounded(x, y, *, rounding_mode="floor"):
    """div with a rounding_mode: the quotient as an integer, in the dtype of the arguments."""
    divisible(x, y)
    x, y = dtyped(x, y)
    if rounding_mode == "floor":
        z = np.floor_divide(x, y)
    elif rounding_mode != "trunc":
        raise ValueError(f"rounding_mode is None, 'trunc' or 'floor', got {rounding_mode!r}")
    elif x.dtype.kind in "biu":  # exact, where a quotient of floats is not
        z = np.floor_divide(x, y)
        z = z + np.logical_and(z < 0, z * y != x)
    else:
        z = np.trunc(x / y)
    return z, lambda g: np.zeros_like(g), lambda g: np.zeros_like(g)


@rule(*BINARY, dtype="float", numpy=np.arctan2)
def atan2(x, y):
    """The angle of the point (y, x); its derivative at (0, 0) is 0."""
    ordered(x, y)

    def over_square(z):  # z / (x * x + y * y), which would overflow
        length = np.hypot(x, y)
        length = np.where(length == 0, 1, length)
        return z / length / length

    return np.arctan2(x, y), lambda g: g * over_square(y), lambda g: -g * over_square(x)


@rule(*BINARY, dtype="floating", numpy=np.hypot)
def hypot(x, y):
    ordered(x, y)
    z = np.hypot(x, y)
    return z, lambda g: g * (x / z), lambda g: g * (y / z)


@rule(*BINARY, dtype="float", numpy=np.copysign)
def copysign(x, y):
    """The size of x with the sign of y, that of -0.0 too; its derivative is 0 where x is 0."""
    ordered(x, y)
    z = np.copysign(x, y)
    return z, lambda g: g * np.where(x == 0, 0, z / np.where(x == 0, 1, x)), lambda g: np.zeros_like(g)


@rule(*BINARY, dtype="floating", numpy=np.nextafter)
def nextafter(x, y):
    ordered(x, y)
    return np.nextafter(x, y), lambda g: np.where(x == y, 0, g), lambda g: np.zeros_like(g)


def log_of_sum(x, y):
    """np.logaddexp, of complex numbers too."""
    if not is_complex(x) and not is_complex(y):
        return np.logaddexp(x, y)
    top = np.maximum(np.real(x), np.real(y))
    top = np.where(np.isfinite(top), top, 0)  # -inf - -inf would be nan
    return top + np.log(np.exp(x - top) + np.exp(y - top))


@rule(*BINARY, sample(complexes(2, 3), complexes(3)), dtype="float", numpy=np.logaddexp)
def logaddexp(x, y):
    return (
        log_of_sum(x, y),
        lambda g: g * np.exp(-log_of_sum(0, y - x)),
        lambda g: g * np.exp(-log_of_sum(0, x - y)),
    )


@rule(*BINARY, dtype="float", numpy=np.logaddexp2)
def logaddexp2(x, y):
    ordered(x, y)
    return (
        np.logaddexp2(x, y),
        lambda g: g * np.exp2(-np.logaddexp2(0, y - x)),
        lambda g: g * np.exp2(-np.logaddexp2(0, x - y)),
    )


@rule(*BINARY, dtype="float")
def ldexp(x, y):
    """x * 2 ** y, for a y of any dtype."""
    z = x * np.exp2(dtyped(x, y)[1])
    return z, lambda g: g * np.exp2(dtyped(x, y)[1]), lambda g: g * (z * LN2)


@rule(*(one._replace(domain=(0.1, 3.0)) for one in BINARY), dtype="float")
def xlogy(x, y):
    """x * log(y), which is 0 where x is 0 and y is not nan."""
    ordered(x, y)
    a, b = dtyped(x, y)
    nothing = np.logical_and(a == 0, np.logical_not(np.isnan(b)))
    z = np.where(nothing, 0, a * np.log(np.where(nothing, 1, b)))

    def vjp_x(g):
        a, b = dtyped(x, y)
        outside = np.logical_and(a == 0, b <= 0)
        return g * np.where(outside, 0, np.log(np.where(outside, 1, b)))

    return z, vjp_x, lambda g: g * (x / y)


@rule(*(one._replace(domain=(-0.5, 3.0)) for one in BINARY), dtype="float")
def xlog1py(x, y):
    """x * log(1 + y), which is 0 where x is 0 and y is not nan."""
    ordered(x, y)
    a, b = dtyped(x, y)
    nothing = np.logical_and(a == 0, np.logical_not(np.isnan(b)))
    z = np.where(nothing, 0, a * np.log1p(np.where(nothing, 0, b)))

    def vjp_x(g):
        a, b = dtyped(x, y)
        outside = np.logical_and(a == 0, b <= -1)
        return g * np.where(outside, 0, np.log1p(np.where(outside, 0, b)))

    return z, vjp_x, lambda g: g * (x / (1 + y))


@rule(*BINARY, numpy=np.heaviside, differentiable=False)
def heaviside(x, values):
    """0 where x is negative, 1 where it is positive, `values` where it is 0. torch has no derivative of it either."""
    ordered(x, values)
    x, values = dtyped(x, values)
    return np.where(x == 0, values, x > 0)


@rule(*BINARY, numpy=np.fmax)
def fmax(x, y):
    """The greater of two, or the one that is not nan; of equal ones the first takes the gradient."""
    ordered(x, y)

    def first():
        return np.logical_or(x >= y, np.isnan(y))

    return np.fmax(x, y), lambda g: np.where(first(), g, 0), lambda g: np.where(first(), 0, g)


@rule(*BINARY, numpy=np.fmin)
def fmin(x, y):
    """The smaller of two, or the one that is not nan; of equal ones the first takes the gradient."""
    ordered(x, y)

    def first():
        return np.logical_or(x <= y, np.isnan(y))

    return np.fmin(x, y), lambda g: np.where(first(), g, 0), lambda g: np.where(first(), 0, g)


# ----- exponentials and logarithms -----

LN2, LN10 = math.log(2), math.log(10)


@rule(*UNARY, dtype="float", numpy=np.exp2)
def exp2(x):
    y = np.exp2(x)
    return y, lambda g: g * (y * LN2)


@rule(*UNARY, dtype="float", numpy=np.expm1)
def expm1(x):
    y = np.expm1(x)
    return y, lambda g: g * (y + 1)


@rule(*POSITIVE, dtype="float", numpy=np.log2)
def log2(x):
    return np.log2(x), lambda g: g / (x * LN2)


@rule(*POSITIVE, dtype="float", numpy=np.log10)
def log10(x):
    return np.log10(x), lambda g: g / (x * LN10)


@rule(*(one._replace(domain=(-0.8, 3.0)) for one in UNARY), dtype="float", numpy=np.log1p)
def log1p(x):
    return np.log1p(x), lambda g: g / (1 + x)


INSIDE = tuple(one._replace(domain=(-0.9, 0.9)) for one in UNARY)
PROBABILITY = tuple(one._replace(domain=(0.1, 0.9)) for one in UNARY)


@rule(*PROBABILITY, sample((6,), domain=(0.0, 1.0), eps=0.25), dtype="float")
def logit(x, *, eps=None):
    """log(x / (1 - x)), of x clamped to [eps, 1 - eps] where eps is given; the derivative is 0 outside of it."""
    ordered(x)
    z = x if eps is None else np.clip(x, eps, 1 - eps)

    def vjp(g):
        low, other = (0, np.nan) if eps is None else (eps, 0)
        outside = np.logical_or(x < low, x > 1 - low)
        return g * np.where(outside, other, 1 / np.where(outside, 1, x * (1 - x)))

    return np.log(z / (1 - z)), vjp


@rule(*POSITIVE, dtype="float", numpy=np.reciprocal)
def reciprocal(x):
    y = 1 / x
    return y, lambda g: -g * (y * y)


@rule(*POSITIVE, dtype="float")
def rsqrt(x):
    y = 1 / np.sqrt(x)
    return y, lambda g: g * (-0.5 * y * y * y)


# ----- trigonometry -----


@rule(*UNARY, dtype="float", numpy=np.sin)
def sin(x):
    return np.sin(x), lambda g: g * np.cos(x)


@rule(*UNARY, dtype="float", numpy=np.cos)
def cos(x):
    return np.cos(x), lambda g: -g * np.sin(x)


@rule(*(one._replace(domain=(-1.2, 1.2)) for one in UNARY), dtype="float", numpy=np.tan)
def tan(x):
    y = np.tan(x)
    return y, lambda g: g * (1 + y * y)


@rule(*INSIDE, dtype="float", numpy=np.arcsin)
def asin(x):
    return np.arcsin(x), lambda g: g / np.sqrt((1 - x) * (1 + x))


@rule(*INSIDE, dtype="float", numpy=np.arccos)
def acos(x):
    return np.arccos(x), lambda g: -g / np.sqrt((1 - x) * (1 + x))


@rule(*UNARY, dtype="float", numpy=np.arctan)
def atan(x):
    return np.arctan(x), lambda g: g / (1 + x * x)


@rule(*UNARY, dtype="float", numpy=np.sinh)
def sinh(x):
    return np.sinh(x), lambda g: g * np.cosh(x)


@rule(*UNARY, dtype="float", numpy=np.cosh)
def cosh(x):
    return np.cosh(x), lambda g: g * np.sinh(x)


@rule(*UNARY, *COMPLEX, dtype="float", numpy=np.arcsinh)
def asinh(x):
    return np.arcsinh(x), lambda g: g / (np.sqrt(1 + x * x) if is_complex(x) else np.hypot(x, 1))


@rule(*(one._replace(domain=(1.2, 3.0)) for one in UNARY), *COMPLEX, dtype="float", numpy=np.arccosh)
def acosh(x):
    def root():  # of complex numbers, one root of the product would have another branch cut
        return np.sqrt(x - 1) * np.sqrt(x + 1) if is_complex(x) else np.sqrt((x - 1) * (x + 1))

    return np.arccosh(x), lambda g: g / root()


@rule(*INSIDE, dtype="float", numpy=np.arctanh)
def atanh(x):
    return np.arctanh(x), lambda g: g / ((1 - x) * (1 + x))


@rule(*UNARY, sample((5,), domain=(-0.2, 0.2)), dtype="float", numpy=np.sinc)
def sinc(x):
    """sin(pi x) / (pi x), 1 at 0. Its derivative near 0 is a series: torch's quotient loses its digits there."""

    def vjp(g):
        near = np.abs(x) < 0.1
        far = np.where(near, 1, x)
        t = np.where(near, x, 0) * math.pi
        s = t * t
        series = t * (-1 / 3 + s * (1 / 30 + s * (-1 / 840 + s * (1 / 45360 - s / 3991680))))
        return g * np.where(near, math.pi * series, (np.cos(math.pi * far) - np.sinc(far)) / far)

    return np.sinc(x), vjp


@rule(*UNARY, dtype="float", numpy=(np.deg2rad, np.radians))
def deg2rad(x):
    ordered(x)
    return np.deg2rad(x), lambda g: g * (math.pi / 180)


@rule(*UNARY, dtype="float", numpy=(np.rad2deg, np.degrees))
def rad2deg(x):
    ordered(x)
    return np.rad2deg(x), lambda g: g * (180 / math.pi)


# ----- choices -----


@rule(*BINARY, numpy=np.maximum)
def maximum(x, y):
    ordered(x, y)
    return (
        np.maximum(x, y),
        lambda g: masks.where(x < y, 0, masks.where(x == y, g / 2, g)),
        lambda g: masks.where(y < x, 0, masks.where(x == y, g / 2, g)),
    )


@rule(*BINARY, numpy=np.minimum)
def minimum(x, y):
    ordered(x, y)
    return (
        np.minimum(x, y),
        lambda g: masks.where(x > y, 0, masks.where(x == y, g / 2, g)),
        lambda g: masks.where(y > x, 0, masks.where(x == y, g / 2, g)),
    )


@rule(sample((2, 3), min=-0.5, max=1.0), sample((3,), min=0.0), sample((), max=0.0), numpy=np.clip)
def clamp(x, *, min=None, max=None):
    ordered(x, min, max)

    def inside():
        return np.logical_and(True if min is None else x >= min, True if max is None else x <= max)

    return np.clip(x, min, max), lambda g: masks.where(inside(), g, 0)


@rule(sample(boolean(2, 3), (2, 3), (2, 3)), sample(boolean(3), (2, 1), ()), numpy=np.where, fixed=("condition",))
def where(condition, x, y):
    # A gradient that is not taken is replaced, not multiplied by 0: 0 * nan would leak.
    return (
        masks.where(condition, x, y),
        None,
        lambda g: masks.where(condition, g, 0),
        lambda g: masks.where(condition, 0, g),
    )
