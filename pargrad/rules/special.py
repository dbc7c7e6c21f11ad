"""Elementwise operators whose values are scipy's: error functions, Gamma and its kin, Bessel functions.

scipy is loaded by the first call of one of them, and not before. A derivative that is itself such a function calls it
through `of_scipy`'s twin, which knows a Tensor when it sees one, as numpy's functions do.
"""

import math
from collections.abc import Callable

import numpy as np

from pargrad.rules.elementwise import BINARY, INSIDE, POSITIVE, PROBABILITY, UNARY, dtyped, rule
from pargrad.rules.table import sample


def of_scipy(name: str) -> Callable:
    """scipy.special's function that keeps float32; what is no array answers for itself, as with numpy's functions."""

    def function(*args):
        for x in args:
            if not isinstance(x, np.ndarray | np.generic | int | float):
                return x.__array_function__(function, (type(x),), args, {})
        import scipy.special

        return np.asarray(getattr(scipy.special, name)(*args), np.result_type(*args))

    function.__name__ = function.__qualname__ = name
    return function


SQRT_2, SQRT_PI = math.sqrt(2), math.sqrt(math.pi)
LARGE = tuple(one._replace(domain=(0.5, 9.0)) for one in UNARY)

# ----- the error function and the normal distribution -----

scipy_erf, scipy_erfc, scipy_erfcx = of_scipy("erf"), of_scipy("erfc"), of_scipy("erfcx")
scipy_erfinv, scipy_ndtr, scipy_ndtri = of_scipy("erfinv"), of_scipy("ndtr"), of_scipy("ndtri")
scipy_log_ndtr, scipy_entr = of_scipy("log_ndtr"), of_scipy("entr")


@rule(*UNARY, dtype="float", numpy=scipy_erf)
def erf(x):
    return scipy_erf(x), lambda g: g * (2 / SQRT_PI * np.exp(-x * x))


@rule(*UNARY, dtype="float", numpy=scipy_erfc)
def erfc(x):
    return scipy_erfc(x), lambda g: -g * (2 / SQRT_PI * np.exp(-x * x))


@rule(*UNARY, dtype="float", numpy=scipy_erfcx)
def erfcx(x):
    """exp(x * x) * erfc(x)"""
    y = scipy_erfcx(x)
    return y, lambda g: g * (2 * x * y - 2 / SQRT_PI)


@rule(*INSIDE, dtype="float", numpy=scipy_erfinv)
def erfinv(x):
    y = scipy_erfinv(x)
    return y, lambda g: g * (SQRT_PI / 2 * np.exp(y * y))


@rule(*UNARY, dtype="float", numpy=scipy_ndtr)
def ndtr(x):
    """The normal distribution's share below x."""
    return scipy_ndtr(x), lambda g: g * (np.exp(x * x * -0.5) / math.sqrt(2 * math.pi))


@rule(*PROBABILITY, dtype="float", numpy=scipy_ndtri)
def ndtri(x):
    """The point below which the normal distribution has a share of x."""
    y = scipy_ndtri(x)
    return y, lambda g: g * (np.exp(y * y * 0.5) * math.sqrt(2 * math.pi))


@rule(*UNARY, sample((4,), domain=(-6.0, -2.0)), dtype="float", numpy=scipy_log_ndtr)
def log_ndtr(x):
    """log(ndtr(x)), where ndtr(x) would be 0, too."""
    return scipy_log_ndtr(x), lambda g: g * (math.sqrt(2 / math.pi) / scipy_erfcx(x / -SQRT_2))


@rule(*POSITIVE, dtype="float", numpy=scipy_entr)
def entr(x):
    """-x * log(x), 0 at 0 and -inf below it."""
    return scipy_entr(x), lambda g: -g * (np.log(x) + 1)


# ----- Gamma -----

scipy_gammaln, scipy_digamma, scipy_zeta = of_scipy("gammaln"), of_scipy("digamma"), of_scipy("zeta")
GAMMA = (*LARGE, sample((3,), domain=(-1.9, -1.1)))


def scipy_polygamma(x, n):
    """The n-th derivative of digamma."""
    return scipy_digamma(x) if n == 0 else polygamma_of_zeta(x, n)


def polygamma_of_zeta(x, n):
    if not isinstance(x, np.ndarray | np.generic):
        return x.__array_function__(scipy_polygamma, (type(x),), (x, n), {})
    import scipy.special

    # In float64, where the factorial does not overflow before the value does.
    wide = np.asarray(x, np.float64)
    return np.asarray((-1.0) ** (n + 1) * scipy.special.gamma(n + 1.0) * scipy.special.zeta(n + 1.0, wide), x.dtype)


@rule(*GAMMA, dtype="float", numpy=scipy_gammaln)
def lgamma(x):
    """log |Gamma(x)|"""
    return scipy_gammaln(x), lambda g: g * scipy_digamma(x)


@rule(*GAMMA, dtype="float", numpy=scipy_digamma)
def digamma(x):
    """The derivative of lgamma."""
    return scipy_digamma(x), lambda g: g * scipy_polygamma(x, 1)


@rule(*(one._replace(settings={"n": n}) for one in GAMMA for n in (0, 1, 2)), dtype="float", numpy=scipy_polygamma)
def polygamma(x, *, n):
    """The n-th derivative of digamma; torch's order is polygamma(n, x)."""
    if n < 0:
        raise ValueError(f"polygamma takes an n of at least 0, got {n}")
    return scipy_polygamma(x, n), lambda g: g * scipy_polygamma(x, n + 1)


@rule(*(one._replace(settings={"p": p}, domain=(1.5, 9.0)) for one in UNARY for p in (1, 3)), dtype="float")
def mvlgamma(x, *, p):
    """The logarithm of the multivariate Gamma function in p dimensions, of x above (p - 1) / 2."""
    y = p * (p - 1) / 4 * math.log(math.pi) + sum(scipy_gammaln(x - j / 2) for j in range(p))
    return y, lambda g: g * sum(scipy_digamma(x - j / 2) for j in range(p))


@rule(*(one._replace(domain=(1.5, 5.0)) for one in BINARY), dtype="float", numpy=scipy_zeta, differentiable=False)
def zeta(x, y):
    """Hurwitz' zeta function, the sum of (y + k) ** -x; torch has no derivative of it either."""
    return scipy_zeta(x, y)


scipy_gammainc, scipy_gammaincc = of_scipy("gammainc"), of_scipy("gammaincc")
INCOMPLETE = tuple(sample(2.5, *one.arguments, domain=(0.5, 9.0)) for one in UNARY)


def gamma_density(x, y):
    """The derivative of gammainc by y."""
    a, b = dtyped(x, y)
    return np.exp((a - 1) * np.log(b) - b - scipy_gammaln(a))


@rule(*INCOMPLETE, dtype="float", numpy=scipy_gammainc)
def gammainc(x, y):
    """The lower incomplete Gamma function of order x at y, divided by Gamma(x); as torch, no derivative by x."""
    return scipy_gammainc(*dtyped(x, y)), None, lambda g: g * gamma_density(x, y)


@rule(*INCOMPLETE, dtype="float", numpy=scipy_gammaincc)
def gammaincc(x, y):
    """1 - gammainc(x, y), with its digits where it is small; as torch, no derivative by x."""
    return scipy_gammaincc(*dtyped(x, y)), None, lambda g: -g * gamma_density(x, y)


# ----- Bessel functions -----

scipy_i0, scipy_i0e, scipy_i1, scipy_i1e = of_scipy("i0"), of_scipy("i0e"), of_scipy("i1"), of_scipy("i1e")


@rule(*UNARY, dtype="float", numpy=(scipy_i0, np.i0))
def i0(x):
    return scipy_i0(x), lambda g: g * scipy_i1(x)


@rule(*UNARY, dtype="float", numpy=scipy_i0e)
def i0e(x):
    """exp(-|x|) * i0(x)"""
    y = scipy_i0e(x)
    return y, lambda g: g * (scipy_i1e(x) - np.sign(x) * y)


@rule(*UNARY, dtype="float", numpy=scipy_i1)
def i1(x):
    y = scipy_i1(x)

    def vjp(g):
        zero = x == 0
        return g * np.where(zero, 0.5, scipy_i0(x) - y / np.where(zero, 1, x))

    return y, vjp


@rule(*UNARY, dtype="float", numpy=scipy_i1e)
def i1e(x):
    """exp(-|x|) * i1(x)"""
    y = scipy_i1e(x)

    def vjp(g):
        zero = x == 0
        return g * np.where(zero, 0.5, scipy_i0e(x) - y * (np.sign(x) + 1 / np.where(zero, 1, x)))

    return y, vjp


# torch has no derivatives of these, and its first four have eight digits in float64, above 5 only six.

BELOW_5 = tuple(one._replace(domain=(0.5, 4.5)) for one in UNARY)

scipy_j0, scipy_j1, scipy_y0, scipy_y1 = of_scipy("j0"), of_scipy("j1"), of_scipy("y0"), of_scipy("y1")
scipy_k0, scipy_k1, scipy_k0e, scipy_k1e = of_scipy("k0"), of_scipy("k1"), of_scipy("k0e"), of_scipy("k1e")


@rule(*BELOW_5, *UNARY, dtype="float", numpy=scipy_j0)
def bessel_j0(x):
    return scipy_j0(x), lambda g: -g * scipy_j1(x)


@rule(*BELOW_5, *UNARY, dtype="float", numpy=scipy_j1)
def bessel_j1(x):
    y = scipy_j1(x)

    def vjp(g):
        zero = x == 0
        return g * np.where(zero, 0.5, scipy_j0(x) - y / np.where(zero, 1, x))

    return y, vjp


@rule(*BELOW_5, dtype="float", numpy=scipy_y0)
def bessel_y0(x):
    return scipy_y0(x), lambda g: -g * scipy_y1(x)


@rule(*BELOW_5, dtype="float", numpy=scipy_y1)
def bessel_y1(x):
    y = scipy_y1(x)
    return y, lambda g: g * (scipy_y0(x) - y / x)


@rule(*LARGE, dtype="float", numpy=scipy_k0)
def modified_bessel_k0(x):
    return scipy_k0(x), lambda g: -g * scipy_k1(x)


@rule(*LARGE, dtype="float", numpy=scipy_k1)
def modified_bessel_k1(x):
    y = scipy_k1(x)
    return y, lambda g: -g * (scipy_k0(x) + y / x)


@rule(*LARGE, dtype="float", numpy=scipy_k0e)
def scaled_modified_bessel_k0(x):
    """exp(x) * modified_bessel_k0(x)"""
    y = scipy_k0e(x)
    return y, lambda g: g * (y - scipy_k1e(x))


@rule(*LARGE, dtype="float", numpy=scipy_k1e)
def scaled_modified_bessel_k1(x):
    """exp(x) * modified_bessel_k1(x)"""
    y = scipy_k1e(x)
    return y, lambda g: g * (y - scipy_k0e(x) - y / x)


# ----- Airy's function -----


def scipy_airy(x, derivative=0):
    """Ai(x), or its derivative."""
    if not isinstance(x, np.ndarray | np.generic):
        return x.__array_function__(scipy_airy, (type(x),), (x, derivative), {})
    import scipy.special

    return np.asarray(scipy.special.airy(x)[derivative], x.dtype)


@rule(*UNARY, *LARGE, dtype="float", numpy=scipy_airy)
def airy_ai(x, *, derivative=0):
    """Airy's function Ai, a solution of y'' = x * y; with derivative=1, its derivative. torch has none of it."""
    return scipy_airy(x, derivative), lambda g: g * (x * scipy_airy(x) if derivative else scipy_airy(x, 1))
