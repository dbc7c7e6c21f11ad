"""torch's special functions, `pg.special.NAME`: https://docs.pytorch.org/docs/stable/special.html

Most of them are scipy's, which is loaded at the first call of one.
"""

import math
from typing import TYPE_CHECKING, Any

from pargrad.operators import FUNCTIONS
from pargrad.tensor import Tensor

if TYPE_CHECKING:  # the functions of this module are made from the table below

    def __getattr__(name: str) -> Any: ...


# What torch.special calls by another name than the rule.
ALIASES = {
    "modified_bessel_i0": "i0", "modified_bessel_i1": "i1",
    "expit": "sigmoid", "gammaln": "lgamma", "multigammaln": "mvlgamma", "psi": "digamma",
}  # fmt: skip
NAMES = [
    "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "digamma", "entr", "erf", "erfc", "erfcx", "erfinv",
    "exp2", "expm1", "gammainc", "gammaincc", "i0", "i0e", "i1", "i1e", "log1p", "log_ndtr", "log_softmax",
    "logit", "logsumexp", "modified_bessel_k0", "modified_bessel_k1", "ndtr", "ndtri", "polygamma", "round",
    "scaled_modified_bessel_k0", "scaled_modified_bessel_k1", "sinc", "softmax", "xlog1py", "xlogy", "zeta",
]  # fmt: skip


def spherical_bessel_j0(input: Tensor) -> Tensor:
    """sin(x) / x, 1 at 0; unlike torch's it has a derivative."""
    return FUNCTIONS["sinc"](input / math.pi)


PUBLIC = {name: FUNCTIONS[ALIASES.get(name, name)] for name in sorted([*NAMES, *ALIASES])}
PUBLIC["spherical_bessel_j0"] = spherical_bessel_j0
globals().update(PUBLIC)

__all__ = [*PUBLIC]
