"""Rounding and signs, elementwise: flat, with the derivative 0 everywhere, as torch has it."""

import numpy as np

from pargrad.rules.complex import ordered
from pargrad.rules.elementwise import UNARY, rule
from pargrad.rules.table import sample


def whole(function, x):
    """Integers are rounded already, and stay integers."""
    ordered(x)
    return function(x) if x.dtype.kind in "fc" else np.positive(x)


@rule(*UNARY, numpy=np.floor)
def floor(x):
    return whole(np.floor, x), lambda g: np.zeros_like(g)


@rule(*UNARY, numpy=np.ceil)
def ceil(x):
    return whole(np.ceil, x), lambda g: np.zeros_like(g)


@rule(*UNARY, numpy=(np.trunc, np.fix))
def trunc(x):
    return whole(np.trunc, x), lambda g: np.zeros_like(g)


@rule(*UNARY, sample((4,), decimals=1), sample((4,), domain=(-99.0, 99.0), decimals=-1), numpy=(np.round, np.around))
def round(x, *, decimals=0):
    """To the nearest, of two equally near to the even one; to that many decimals, or tens where negative."""
    ordered(x)
    if x.dtype.kind in "iu":
        z = np.positive(x)
    elif decimals < 0:
        scale = 10.0**-decimals
        z = np.rint(x / scale) * scale
    else:
        z = np.rint(x * 10.0**decimals) / 10.0**decimals if decimals else np.rint(x)
    return z, lambda g: np.zeros_like(g)


@rule(*UNARY, dtype="floating")
def frac(x):
    ordered(x)
    return x - np.trunc(x), lambda g: g


@rule(*UNARY)
def sign(x):
    """-1, 0 or 1; of nan, nan, as numpy has it: torch gives 0, which hides it. `sgn` takes complex numbers, too."""
    ordered(x)
    return x.copy() if x.dtype.kind == "b" else np.sign(x), lambda g: np.zeros_like(g)


@rule(*UNARY, numpy=np.signbit, differentiable=False)
def signbit(x):
    ordered(x)
    return np.signbit(x)


@rule(*UNARY, numpy=np.positive)
def positive(x):
    return np.positive(x), lambda g: g


@rule(*UNARY, sample((3,), nan=1.0, posinf=2.0, neginf=-2.0), numpy=np.nan_to_num)
def nan_to_num(x, *, nan=0.0, posinf=None, neginf=None):
    """nan, inf and -inf replaced, by default by 0 and the dtype's largest and smallest; they get no gradient."""
    z = np.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)
    return z, lambda g: np.where(np.isfinite(x), g, 0)
