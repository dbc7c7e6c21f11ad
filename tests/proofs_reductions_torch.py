"""Proof: reductions, scans and sorting, over any dims of any shape, are torch's."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.agreement_torch import SEEDS, Array, agree
from tests.proofs import hold, proof

SEVERAL = ("all", "amax", "amin", "any", "count_nonzero", "logsumexp", "mean", "nanmean", "nansum", "norm", "std")
SEVERAL += ("std_mean", "sum", "var", "var_mean")
ALONG_ONE = ("aminmax", "argmax", "argmin", "argsort", "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid")
ALONG_ONE += ("diff", "kthvalue", "log_softmax", "logcumsumexp", "max", "median", "min", "mode", "nanmedian")
ALONG_ONE += ("nanquantile", "prod", "quantile", "softmax", "sort", "topk", "trapezoid")
WITHOUT_KEEPDIM = ("argsort", "count_nonzero", "cummax", "cummin", "cumprod", "cumsum", "cumulative_trapezoid", "diff")
WITHOUT_KEEPDIM += ("log_softmax", "logcumsumexp", "softmax", "sort", "topk", "trapezoid")
WITH_DTYPE = ("cumprod", "cumsum", "log_softmax", "mean", "nanmean", "nansum", "prod", "softmax", "sum")
# Which of equal elements these name is nowhere promised: they are given none.
DISTINCT = ("argsort", "kthvalue", "median", "mode", "nanmedian", "nanquantile", "quantile", "sort", "topk")
ORDERS = (2, 1, 3, 0, 0.5, float("inf"), -float("inf"))
DTYPES = ("float64", "float64", "float32", "int64", "bool", "complex128", "int32", "uint8")


# What torch does not take, and pargrad does: dtypes for which it was not written, and keepdim without dim.
REFUSED = ("not implemented for", "does not support", "not support", "received an invalid combination of arguments")
REFUSED += ('missing 1 required positional arguments: "dim"', "expected input to have floating point or complex dtype")
REFUSED += ("Expected isFloatingType(grad.scalar_type())",)


class Reduction(NamedTuple):
    name: str
    x: Array
    arguments: tuple[Any, ...]  # after x
    named: dict[str, Any]


@st.composite
def calls(draw):
    several = draw(st.booleans())
    name = draw(st.sampled_from(SEVERAL if several else ALONG_ONE))
    shape = tuple(draw(st.lists(st.sampled_from((3, 2, 1, 4, 0)), max_size=4)))
    count = len(shape) or 1
    one = st.integers(-count, count - 1)
    wrong = draw(st.integers(0, 19)) == 0
    arguments, named = (), {}
    if wrong:
        dim = draw(st.sampled_from((count, -count - 1, (0, 0))))
    else:
        dim = draw(st.none() | one | st.lists(one, max_size=count, unique_by=lambda axis: axis % count).map(tuple)
                   if several else st.none() | one)  # fmt: skip
    if dim is not None:
        named["dim"] = dim
    if name in ("topk", "kthvalue"):
        arguments = (draw(st.integers(0, 4)),)
    elif name in ("quantile", "nanquantile"):
        arguments = (draw(st.sampled_from((0.5, 0.0, 0.3, 1.0))),)
    elif name == "norm":
        named["p"] = draw(st.sampled_from(ORDERS))
    elif name in ("var", "std", "var_mean", "std_mean"):
        named["correction"] = draw(st.integers(0, 2))
    if name not in WITHOUT_KEEPDIM and draw(st.booleans()):
        named["keepdim"] = draw(st.booleans())
    if name in WITH_DTYPE and draw(st.integers(0, 3)) == 0:
        dtypes = ("float64", "float32") if "softmax" in name else ("float64", "float32", "int64", "complex128")
        named["dtype"] = draw(st.sampled_from(dtypes))
    return Reduction(name, Array(shape, draw(st.sampled_from(DTYPES)), draw(SEEDS)), arguments, named)


def distinct(x):
    """Of one shape and dtype, elements none of which are equal."""
    order = np.random.default_rng(x.seed).permutation(int(np.prod(x.shape))) - np.prod(x.shape) // 2
    return order.reshape(x.shape).astype(x.dtype)


def torch_is_at_odds(name, x, named):
    """Where torch contradicts itself: dim=() is all dimensions, but not in these derivatives, and the derivative of a
    variance of no more elements than the correction depends on whether dim was said."""
    dim = named.get("dim")
    if "correction" in named:
        axes = np.atleast_1d(range(len(x.shape)) if dim is None else dim).astype(int)
        count = np.prod([x.shape[axis] for axis in axes if -len(x.shape) <= axis < len(x.shape)])
        return dim == () or count <= named["correction"]
    # Nor does it say which of the complex logarithms, 2 pi i apart, a running sum has.
    return (name == "logsumexp" and dim == ()) or (name == "logcumsumexp" and x.dtype.startswith("complex"))


def both_checked(name, x, error):
    """Without elements torch checks neither dims nor dtypes everywhere; what has none is no integral of a dtype."""
    return x.size or not (error.startswith("pargrad: ") or "trapezoid" in name)


def check(reduction):
    name, x, arguments, named = reduction
    assume(not torch_is_at_odds(name, x, named) and not (name in DISTINCT and x.dtype == "bool"))
    array = distinct(x) if name in DISTINCT else x.drawn()

    def function(library, x):
        if named.get("p") == 0:  # a count: some of its derivatives are zeros in torch, others left out
            x = x.detach()
        given = {key: getattr(library, value) if key == "dtype" else value for key, value in named.items()}
        result = getattr(library, name)(x, *arguments, **given)
        return tuple(result) if isinstance(result, tuple) else result

    try:
        agree(function, [array])
    except AssertionError as error:
        assume(both_checked(name, array, str(error)) and not any(text in str(error) for text in REFUSED))
        raise


@proof(10_000)
def reductions(examples, seed):
    """Reductions, scans and sorting over any dims of any shape, are torch's or both refuse."""
    return hold(check, calls(), examples, seed)
