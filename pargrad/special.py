"""torch's special functions, `pg.special.NAME`: https://docs.pytorch.org/docs/stable/special.html

Most of them are scipy's, which is loaded at the first call of one. The orthogonal polynomials are recurrences of
differentiable operators, and so have derivatives, which torch's have not.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pargrad.operators import FUNCTIONS
from pargrad.promotion import CATEGORY_DEFAULT, result_dtype
from pargrad.tensor import Tensor

if TYPE_CHECKING:  # the functions of this module are made from the table below

    def __getattr__(name: str) -> Any: ...


# What torch.special calls by another name than the rule.
ALIASES = {
    "modified_bessel_i0": "i0", "modified_bessel_i1": "i1",
    "expit": "sigmoid", "gammaln": "lgamma", "multigammaln": "mvlgamma", "psi": "digamma",
}  # fmt: skip
NAMES = [
    "airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "digamma", "entr", "erf", "erfc", "erfcx", "erfinv",
    "exp2", "expm1", "gammainc", "gammaincc", "i0", "i0e", "i1", "i1e", "log1p", "log_ndtr", "log_softmax",
    "logit", "logsumexp", "modified_bessel_k0", "modified_bessel_k1", "ndtr", "ndtri", "polygamma", "round",
    "scaled_modified_bessel_k0", "scaled_modified_bessel_k1", "sinc", "softmax", "xlog1py", "xlogy", "zeta",
]  # fmt: skip


def spherical_bessel_j0(input: Tensor) -> Tensor:
    """sin(x) / x, 1 at 0; unlike torch's it has a derivative."""
    return FUNCTIONS["sinc"](input / math.pi)


# ----- orthogonal polynomials -----

Step = Callable[[int, Any, Any, Any], Any]


def polynomial(name: str, first: Callable[[Any], Any], step: Step, shifted: bool = False) -> Callable[..., Any]:
    """The polynomials p(0) = 1, p(1) = first(x), p(k + 1) = step(k, x, p(k), p(k - 1)); shifted, of 2 * x - 1."""

    def function(input: Any, n: Any) -> Tensor:
        dtype = result_dtype([x.array if isinstance(x, Tensor) else x for x in (input, n)])
        if dtype.kind == "c":
            raise RuntimeError(f"{name}: expected real numbers, got {dtype}")
        dtype = dtype if dtype.kind == "f" else CATEGORY_DEFAULT[2]
        x = FUNCTIONS["to"](input if isinstance(input, Tensor) else Tensor(np.asarray(input)), dtype=dtype)
        x = 2 * x - 1 if shifted else x
        degrees = np.trunc(n.array if isinstance(n, Tensor) else n).astype(np.int64)
        value = constant(x, 0, degrees.shape)  # of a negative degree
        for degree, p in zip(range(degrees.max(initial=-1) + 1), terms(x, first, step)):
            if (degrees == degree).any():
                value = FUNCTIONS["where"](degrees == degree, p, value)
        return value

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"torch.special.{name}: of degree n, a number or a tensor; unlike torch's it has a derivative."
    return function


def terms(x: Tensor, first: Callable[[Any], Any], step: Step) -> Iterator[Tensor]:
    before, p = constant(x, 1), first(x)
    yield before
    for k in itertools.count(1):
        yield p
        before, p = p, step(k, x, p, before)


def constant(x: Tensor, value: float, shape: tuple[int, ...] = ()) -> Tensor:
    """A number in the place of each element of x, of which it is a function, though one with the derivative 0."""
    return FUNCTIONS["where"](np.zeros(shape, np.bool_), x, value)


def of_chebyshev(k: int, x: Tensor, p: Tensor, before: Tensor) -> Tensor:
    return 2 * x * p - before


FIRST: dict[str, Callable[[Any], Any]] = {
    "t": lambda x: x,
    "u": lambda x: 2 * x,
    "v": lambda x: 2 * x - 1,
    "w": lambda x: 2 * x + 1,
}
POLYNOMIALS = [
    *(polynomial(f"chebyshev_polynomial_{kind}", first, of_chebyshev) for kind, first in FIRST.items()),
    *(polynomial(f"shifted_chebyshev_polynomial_{kind}", first, of_chebyshev, True) for kind, first in FIRST.items()),
    polynomial("hermite_polynomial_h", lambda x: 2 * x, lambda k, x, p, before: 2 * x * p - 2 * k * before),
    polynomial("hermite_polynomial_he", lambda x: x, lambda k, x, p, before: x * p - k * before),
    polynomial(
        "laguerre_polynomial_l", lambda x: 1 - x, lambda k, x, p, before: ((2 * k + 1 - x) * p - k * before) / (k + 1)
    ),
    polynomial(
        "legendre_polynomial_p", lambda x: x, lambda k, x, p, before: ((2 * k + 1) * x * p - k * before) / (k + 1)
    ),
]


PUBLIC = {name: FUNCTIONS[ALIASES.get(name, name)] for name in sorted([*NAMES, *ALIASES])}
PUBLIC["spherical_bessel_j0"] = spherical_bessel_j0
PUBLIC |= {function.__name__: function for function in POLYNOMIALS}
globals().update(PUBLIC)

__all__ = [*PUBLIC]
