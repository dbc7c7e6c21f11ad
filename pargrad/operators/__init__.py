"""Every operator as a function, as a method of Tensor, and under numpy's own name.

The functions are made from the table of rules: arguments and settings by position or by torch's names. Written out
here is only what torch calls in more than one way (`max(x)`, `x.reshape(2, 3)`, `x + y`, `x += y`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pargrad import inplace
from pargrad.operators import (
    complex_numbers,
    compositions,
    documentation,
    indexing,
    matrices,
    products,
    reductions,
    searching,
    variants,
)
from pargrad.operators.compositions import listed, position
from pargrad.promotion import CATEGORY_DEFAULT, result_dtype
from pargrad.rules import RULES
from pargrad.rules.table import Rule
from pargrad.tensor import Tensor, apply, call

if TYPE_CHECKING:  # the functions of this module are made from the table below

    def __getattr__(name: str) -> Any: ...


# torch's names (and numpy's, most of which torch takes too) for what the rules call x, y, dim and keepdim.
SYNONYMS = {"input": "x", "other": "y", "exponent": "y", "axis": "dim", "axes": "dims", "keepdims": "keepdim"}
# Rules that torch has no function for at its top level: other modules call them.
SPECIAL_ONLY = {"airy_ai", "entr", "erfcx", "i0e", "i1", "i1e", "log_ndtr", "ndtr", "ndtri", "xlog1py", "zeta"}
SPECIAL_ONLY |= {"gammainc", "gammaincc"} | {name for name in RULES if "bessel" in name}
FUNCTIONAL = ("activations", "alignment", "convolution", "losses", "normalization", "pooling", "recurrent", "sparse")
FUNCTIONAL_ONLY = {name for name, rule in RULES.items() if rule.function.__module__.rpartition(".")[2] in FUNCTIONAL}
INTERNAL = (
    SPECIAL_ONLY
    | FUNCTIONAL_ONLY
    | compositions.INTERNAL
    | indexing.INTERNAL
    | matrices.INTERNAL
    | products.INTERNAL
    | {"div_rounded", "dft", "half_dft", "real_dft"}
    | {"median_of_all", "nanmedian_of_all", "getitem", "linear", "to"}
)
# Functions of torch's that are no methods of its Tensor.
NOT_METHODS = {
    "broadcast_shapes", "cat", "concat", "concatenate", "cumulative_trapezoid", "fill", "stack", "std_mean",
    "trapezoid", "trapz", "var_mean",
}  # fmt: skip
NOT_METHODS |= compositions.NOT_METHODS | complex_numbers.NOT_METHODS | products.NOT_METHODS | {"rsub"}
NOT_METHODS |= searching.NOT_METHODS | matrices.NOT_METHODS | variants.NOT_METHODS

values_and_indices = reductions.values_and_indices


def operator(rule: Rule) -> Callable[..., Any]:
    """The function that users call for a rule."""
    count = len(rule.arguments)

    def function(*args: Any, **named: Any) -> Any:
        if named or len(args) != count or rule.variadic:
            args, named = arrange(rule, args, named)
        return call(rule, args, named)

    function.__name__ = function.__qualname__ = rule.name
    function.__doc__ = documentation.describe(rule)
    function.__signature__ = documentation.signature(rule)  # type: ignore[attr-defined]
    return function


def arrange(rule: Rule, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """Sorts what a user gave by position and by name into a rule's arguments and settings."""
    # numpy's mark for an argument that was not given means nothing here.
    named = {SYNONYMS.get(name, name): value for name, value in named.items() if value is not np._NoValue}
    order = (*rule.arguments, *rule.settings)
    if len(args) > len(order):
        raise TypeError(f"{rule.name}() got {len(args)} arguments, expected at most {len(order)}: {', '.join(order)}")
    for name, value in zip(order, args):
        if name in named:
            raise TypeError(f"{rule.name}() got {name!r} both by position and by name")
        named[name] = value
    unknown = [name for name in named if name not in order]
    missing = [name for name in rule.arguments if name not in named]
    if unknown or missing:
        wrong = f"got an unknown argument {unknown[0]!r}" if unknown else f"lacks its argument {missing[0]!r}"
        raise TypeError(f"{rule.name}() {wrong}: it takes {', '.join(order)}")
    if not isinstance(named.get("keepdim", False), bool | np.bool_):
        raise TypeError(
            f"{rule.name}() takes keepdim=True or False, got {named['keepdim']!r}: "
            "write several dims as a tuple, dim=(0, 1)"
        )
    inputs = tuple(named.pop(name) for name in rule.arguments)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}
    if rule.variadic:
        inputs = tuple(inputs[0])
        if not inputs:
            raise RuntimeError(f"{rule.name}: expected a list of at least one tensor, got an empty one")
    return inputs, settings


FUNCTIONS: dict[str, Callable[..., Any]] = {name: operator(rule) for name, rule in RULES.items()}


# ----- what torch calls in more than one way -----


def extreme(reduce: str, along: str, pair: str) -> Callable[..., Any]:
    def function(
        input: Tensor,
        dim: Any = None,
        keepdim: bool = False,
        *,
        other: Any = None,
        axis: Any = None,
        keepdims: bool = False,
    ) -> Any:
        dim, keepdim = dim if axis is None else axis, keepdim or keepdims
        if isinstance(dim, Tensor | np.ndarray) or other is not None:
            return apply(RULES[pair], input, dim if other is None else other)
        if dim is None:
            return apply(RULES[reduce], input)
        return values_and_indices(*apply(RULES[along], input, dim=dim, keepdim=keepdim))

    function.__name__ = function.__qualname__ = along
    function.__doc__ = (
        f"torch's `{along}`: of all elements, `{along}(x)`; along one dim, `{along}(x, dim)`, a named pair (values, "
        f"indices); of two tensors elementwise, `{along}(x, y)`."
    )
    return function


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Elements below min become min, those above max become max; bounds are numbers or tensors."""
    if min is None and max is None:
        raise RuntimeError("clamp: expected min, max or both, got neither")
    low, high = (bound.item() if isinstance(bound, np.generic) else bound for bound in (min, max))
    if not isinstance(low, Tensor | np.ndarray) and not isinstance(high, Tensor | np.ndarray):
        if input.dtype.kind in "biu" and (isinstance(low, float) or isinstance(high, float)):
            input = to(input, CATEGORY_DEFAULT[2])
        return apply(RULES["clamp"], input, min=low, max=high)
    dtype = result_dtype([x.array if isinstance(x, Tensor) else x for x in (input, low, high) if x is not None])
    low, high = (Tensor(x) if isinstance(x, np.ndarray) else x for x in (low, high))
    input, low, high = (to(x, dtype) if isinstance(x, Tensor) else x for x in (input, low, high))
    out = input
    if low is not None:
        given = low
        if high is not None and isinstance(low, Tensor):  # equal bounds have no gradient from below
            given = apply(RULES["where"], apply(RULES["lt"], low, high), low, low.detach())
        out = apply(RULES["where"], apply(RULES["lt"], input, low), given, input)
    if high is not None:
        out = apply(RULES["where"], apply(RULES["gt"], out, high), high, out)
    return out


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    first, second = position("transpose", input, dim0), position("transpose", input, dim1)
    dims = list(range(input.ndim))
    if dims:
        dims[first], dims[second] = second, first
    return apply(RULES["permute"], input, dims=tuple(dims))


def t(input: Tensor) -> Tensor:
    """A matrix transposed; a vector or number as it is."""
    if input.ndim > 2:
        raise RuntimeError(
            f"t() takes a tensor of at most 2 dimensions, got shape {input.shape}: write x.transpose(dim0, dim1)"
        )
    return transpose(input, 0, 1) if input.ndim == 2 else input


def permute_all(input: Tensor, axes: Any = None) -> Tensor:
    """numpy.transpose: all dimensions reversed where none are named."""
    return apply(RULES["permute"], input, dims=tuple(range(input.ndim))[::-1] if axes is None else tuple(axes))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim, both included, as one."""
    start, end = position("flatten", input, start_dim), position("flatten", input, end_dim)
    if not input.ndim:
        return apply(RULES["reshape"], input, shape=(1,))
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {input.shape}")
    return apply(RULES["reshape"], input, shape=(*input.shape[:start], -1, *input.shape[end + 1 :]))


def view(input: Tensor, *shape: Any) -> Tensor:
    """reshape that never copies: an error where the memory does not allow it."""
    out = apply(RULES["reshape"], input, shape=listed(shape))
    if input.array.size and not np.may_share_memory(out.array, input.array):
        raise RuntimeError(
            f"view{listed(shape)} of a tensor that is not contiguous (shape {input.shape}): "
            f"write x.reshape{listed(shape)}"
        )
    return out


def to(input: Tensor, dtype: Any) -> Tensor:
    """The same values in another dtype; the tensor itself where it has it."""
    dtype = np.dtype(dtype)
    return input if input.dtype == dtype else apply(RULES["to"], input, dtype=dtype)


FUNCTIONS.update(
    max=extreme("amax", "max", "maximum"),
    min=extreme("amin", "min", "minimum"),
    clamp=clamp,
    transpose=transpose,
    t=t,
    flatten=flatten,
)
# ----- elementwise operators that are called in more than one way -----


def cat(tensors: Any, dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along a dimension; as in torch, a vector of no elements goes with tensors of any shape."""
    given = tuple(tensors)
    kept = tuple(x for x in given if x.shape != (0,)) or given
    if not kept:
        raise RuntimeError("cat: expected a list of at least one tensor, got an empty one")
    return call(RULES["cat"], kept, {"dim": dim if axis is None else axis})


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor of the input's shape and dtype with one value everywhere; `x.fill_(value)` does it in place."""
    return inplace.fill_(apply(RULES["clone"], input), value)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that tensors of these shapes broadcast to."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise RuntimeError(f"broadcast_shapes: {error}") from None


def scaled(name: str, sign: str = "+") -> Callable[..., Any]:
    """add and sub with torch's alpha."""
    plain = FUNCTIONS[name]

    def function(*args: Any, alpha: Any = None, **named: Any) -> Any:
        if alpha is not None:
            (input, other), named = arrange(RULES[name], args, named)
            args = input, other * alpha
        return plain(*args, **named)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"input {sign} alpha * other\n\nElementwise; shapes broadcast."
    function.__signature__ = documentation.with_keyword(plain, "alpha")  # type: ignore[attr-defined]
    return function


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input"""
    return FUNCTIONS["sub"](other, input, alpha=alpha)


def divided(plain: Callable[..., Any]) -> Callable[..., Any]:
    def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """input / other; rounding_mode="floor" or "trunc" rounds it, keeps integers, and has the derivative 0."""
        if rounding_mode is None:
            return plain(input, other)
        return apply(RULES["div_rounded"], input, other, rounding_mode=rounding_mode)

    return div


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Elements below min, a number or a tensor, become min."""
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Elements above max, a number or a tensor, become max."""
    return clamp(input, max=max)


def float_power(input: Any, exponent: Any) -> Tensor:
    """pow in float64, or complex128, whatever the arguments are."""
    wide = np.result_type(np.float64, *(x.dtype if isinstance(x, Tensor) else x for x in (input, exponent)))
    base, power = (to(x, wide) if isinstance(x, Tensor) else np.asarray(x, wide) for x in (input, exponent))
    return apply(RULES["pow"], base, power)


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma."""
    return apply(RULES["polygamma"], input, n=n)


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements are close, as isclose has it, as a Python bool."""
    return FUNCTIONS["isclose"](input, other, rtol=rtol, atol=atol, equal_nan=equal_nan).array.all().item()


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether two tensors have one shape and equal elements, as a Python bool."""
    return np.array_equal(input.array, other.array)


FUNCTIONS.update(add=scaled("add"), sub=scaled("sub", "-"), div=divided(FUNCTIONS["div"]), rsub=rsub)
FUNCTIONS.update(clamp_min=clamp_min, clamp_max=clamp_max, float_power=float_power, polygamma=polygamma)
FUNCTIONS.update(allclose=allclose, equal=equal, cat=cat, fill=fill, broadcast_shapes=broadcast_shapes)

FUNCTIONS.update(reductions.functions(FUNCTIONS))
FUNCTIONS.update(compositions.FUNCTIONS)
FUNCTIONS.update(indexing.FUNCTIONS | searching.FUNCTIONS)
FUNCTIONS.update(products.FUNCTIONS)
FUNCTIONS.update(variants.FUNCTIONS)
FUNCTIONS.update(matrices.FUNCTIONS)
FUNCTIONS.update(complex_numbers.FUNCTIONS)
# Aliases are assignments.
ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg",
    "absolute": "abs", "clip": "clamp", "concat": "cat", "concatenate": "cat", "not_equal": "ne", "less": "lt",
    "less_equal": "le", "greater": "gt", "greater_equal": "ge", "arccos": "acos", "arccosh": "acosh",
    "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "fix": "trunc",
    "trapz": "trapezoid", "igamma": "gammainc", "igammac": "gammaincc",
}  # fmt: skip
FUNCTIONS.update({alias: FUNCTIONS[name] for alias, name in ALIASES.items()})
PUBLIC = {name: function for name, function in FUNCTIONS.items() if name not in INTERNAL}
globals().update(PUBLIC)  # with this, abs, all, any, max, min, pow and sum are the operators in this module's functions


# ----- methods -----

OPERANDS = (Tensor, np.ndarray, np.generic, int, float, type(1j))  # noqa: UP003 (`complex` is an operator here)


def binary(rule: Rule) -> Callable[..., Any]:
    operands = operands_of(rule)
    return lambda self, other: call(rule, (self, other), {}) if isinstance(other, operands) else NotImplemented


def reflected(rule: Rule) -> Callable[..., Any]:
    operands = operands_of(rule)
    return lambda self, other: call(rule, (other, self), {}) if isinstance(other, operands) else NotImplemented


def operands_of(rule: Rule) -> tuple[type, ...]:
    return OPERANDS[:2] if rule.dtype == "match" else OPERANDS  # there is no matrix product with a number


def in_place(rule: Rule) -> Callable[..., Any]:
    function = inplace.of_rule(rule)
    return lambda self, other: function(self, other) if isinstance(other, OPERANDS) else NotImplemented


def of_sizes(rule: Rule) -> Callable[..., Any]:
    (name,) = rule.settings
    return lambda self, *arguments, **named: apply(rule, self, **(named or {name: listed(arguments)}))


def getitem(self: Tensor, index: Any) -> Tensor:
    """x[index], with all that numpy indexes with; tensors may be parts of the index."""
    # What the graph keeps must not change with the caller's array.
    numbers, index = inplace.numbers_first(inplace.plain_index(index, copy=self.requires_grad), self.ndim)
    if numbers is not None:
        self = apply(RULES["getitem"], self, index=numbers)
    return apply(RULES["getitem"], self, index=index)


def iterate(self: Tensor) -> Any:
    return (self[i] for i in range(len(self)))


BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip


def polygamma_of(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma, as a method."""
    return polygamma(n, self)


# What torch's tensors also do in place, under these names with an underscore behind them.
IN_PLACE = [
    "abs", "absolute", "acos", "acosh", "add", "addcdiv", "addcmul", "arccos", "arccosh", "arcsin", "arcsinh",
    "arctan", "arctan2", "arctanh", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_left_shift",
    "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clamp", "clamp_max", "clamp_min",
    "clip", "conj_physical", "copysign", "cos", "cosh", "cumprod", "cumsum", "deg2rad", "digamma", "div", "divide",
    "eq", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "fix", "float_power", "floor", "floor_divide", "fmod",
    "frac", "gcd", "ge", "greater", "greater_equal", "gt", "heaviside", "hypot", "i0", "igamma", "igammac", "lcm",
    "ldexp", "le", "lerp", "less", "less_equal", "lgamma", "log", "log10", "log1p", "log2", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logit", "lt", "mul", "multiply", "mvlgamma", "nan_to_num", "ne",
    "neg", "negative", "nextafter", "not_equal", "pow", "rad2deg", "reciprocal", "relu", "remainder", "round",
    "rsqrt", "sgn", "sigmoid", "sign", "sin", "sinc", "sinh", "sqrt", "square", "sub", "subtract", "tan", "tanh",
    "tril", "triu", "true_divide", "trunc", "xlogy",
]  # fmt: skip
METHODS: dict[str, Any] = {
    **{name: function for name, function in PUBLIC.items() if name not in NOT_METHODS},
    **{f"__{name}__": binary(RULES[rule]) for name, rule in BINARY.items()},
    **{f"__r{name}__": reflected(RULES[rule]) for name, rule in BINARY.items()},
    **{f"__i{name}__": in_place(RULES[rule]) for name, rule in BINARY.items() if name != "matmul"},
    **{f"{name}_": inplace.of_function(FUNCTIONS[name], RULES.get(ALIASES.get(name, name))) for name in IN_PLACE},
    **{f"__{name}__": binary(RULES[name]) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: of_sizes(RULES[name]) for name in ("reshape", "permute", "expand")},
    **{"__rdiv__": reflected(RULES["div"]), "__neg__": FUNCTIONS["neg"], "__invert__": FUNCTIONS["bitwise_not"]},
    **{"__abs__": FUNCTIONS["abs"], "__getitem__": getitem, "__setitem__": inplace.setitem},
    **{"__iter__": iterate, "view": view, "to": to, "astype": lambda self, dtype, copy=True: to(self, dtype)},
    **{"T": property(permute_all), "__pos__": lambda self: self},
    **{"polygamma": polygamma_of, "polygamma_": inplace.of_function(polygamma_of)},
    **{"unfold": FUNCTIONS["unfold"], "view_as": lambda self, other: view(self, *other.shape)},
    **compositions.METHODS,
    **variants.METHODS,
    **complex_numbers.METHODS,
    **{f"{name}_": inplace.of_function(FUNCTIONS[name]) for name in (*indexing.IN_PLACE, *products.IN_PLACE)},
    **{f"{name}_": inplace.of_view(FUNCTIONS[name]) for name in ("squeeze", "unsqueeze")},
    **{f"{name}_": inplace.of_view(PUBLIC[name]) for name in ("transpose", "t", "swapaxes", "swapdims")},
    **{name: getattr(inplace, name) for name in ("fill_", "fill_diagonal_", "copy_", "zero_", "detach_")},
    **{"__contains__": lambda self, element: bool((self == element).any())},
    **{"where": lambda self, condition, other: FUNCTIONS["where"](condition, self, other)},
    **{name: lambda self, dtype=dtype: to(self, dtype) for name, dtype in
       {"half": np.float16, "float": np.float32, "double": np.float64, "cfloat": np.complex64,
        "cdouble": np.complex128, "byte": np.uint8, "char": np.int8, "short": np.int16, "int": np.int32,
        "long": np.int64, "bool": np.bool_}.items()},
}  # fmt: skip

documentation.describe_methods(METHODS)
for name, method in METHODS.items():
    setattr(Tensor, name, method)

# Those of the methods that work in place which torch has as functions, too.
IN_PLACE_FUNCTIONS = """
    abs acos acosh addmv arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh ceil clamp clamp_max
    clamp_min clip conj_physical cos cosh deg2rad detach erf erfc exp exp2 expm1 fill fix floor frac i0 index_put ldexp
    log log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu resize_as round rsqrt sigmoid sin sinc
    sinh sqrt square tan tanh trunc xlogy zero
""".split()  # noqa: SIM905
PUBLIC.update({f"{name}_": METHODS[f"{name}_"] for name in IN_PLACE_FUNCTIONS})
globals().update({f"{name}_": METHODS[f"{name}_"] for name in IN_PLACE_FUNCTIONS})


# ----- numpy's own functions on Tensors -----

# What these give has no derivative, so that no graph is lost.
CONSTANT = {
    np.argsort,
    np.shape,
    np.ndim,
    np.size,
    np.zeros_like,
    np.ones_like,
    np.isnan,
    np.isinf,
    np.isfinite,
    np.array_equal,
}

NUMPY = {function: FUNCTIONS[rule.name] for rule in RULES.values() for function in rule.numpy}
NUMPY |= {np.reshape: FUNCTIONS["reshape"], np.transpose: permute_all, np.expand_dims: FUNCTIONS["unsqueeze"]}
NUMPY |= compositions.NUMPY
NUMPY |= products.NUMPY
NUMPY |= reductions.NUMPY
NUMPY |= {np.float_power: float_power, np.ldexp: FUNCTIONS["ldexp"], np.rint: FUNCTIONS["round"]}
NUMPY |= {function: operator(RULES["polygamma"]) for function in RULES["polygamma"].numpy}
NUMPY |= {np.swapaxes: lambda a, axis1, axis2: transpose(a, axis1, axis2)}
NUMPY |= {np.broadcast_to: lambda input, shape: apply(RULES["expand"], input, size=tuple(shape))}
NUMPY |= {
    np.clip: lambda a, a_min=None, a_max=None, **named: FUNCTIONS["clamp"](a, **{"min": a_min, "max": a_max} | named)
}


def array_function(self: Tensor, function: Rule | Callable, types: Any, args: Any, named: Any) -> Any:
    """numpy's function as the operator of the same meaning; without one, on the plain arrays where no graph is lost."""
    if isinstance(function, Rule):
        return apply(function, *args, **named)
    if function in NUMPY:
        return NUMPY[function](*args, **{name: value for name, value in named.items() if value is not None})
    return function(*outside(function, args), **dict(zip(named, outside(function, tuple(named.values())))))


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *args: Any, out: Any = None, **named: Any) -> Any:
    if out is not None:
        raise TypeError(f"numpy.{ufunc.__name__}(out=...) with a tensor: write x.detach().numpy() for its memory")
    if method == "__call__" and ufunc in NUMPY and not named:
        return NUMPY[ufunc](*args)
    return getattr(ufunc, method)(*outside(ufunc, args), **named)


def outside(function: Callable, values: Any) -> Any:
    """Arrays in the place of tensors, at any depth; a tensor that would silently leave its graph is refused."""
    if isinstance(values, Tensor):
        if values.requires_grad and function not in CONSTANT:
            raise TypeError(
                f"numpy.{function.__name__} has no operator here and would leave the graph: write it with "
                "pargrad's operators, or on x.detach().numpy()"
            )
        return values.array
    return type(values)(outside(function, value) for value in values) if isinstance(values, tuple | list) else values


Tensor.__array_function__ = array_function  # type: ignore[attr-defined]
Tensor.__array_ufunc__ = array_ufunc  # type: ignore[attr-defined]
