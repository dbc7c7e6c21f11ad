"""Every operator as a function, as a method of Tensor, and under numpy's own name.

The functions are made from the table of rules: arguments and settings by position or by torch's names. Written out
here is only what torch calls in more than one way (`max(x)`, `x.reshape(2, 3)`, `x + y`, `x += y`).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pargrad.rules import RULES
from pargrad.rules.table import Rule
from pargrad.tensor import Tensor, apply

if TYPE_CHECKING:  # the functions of this module are made from the table below

    def __getattr__(name: str) -> Any: ...


# torch's names (and numpy's, most of which torch takes too) for what the rules call x, y, dim and keepdim.
SYNONYMS = {"input": "x", "other": "y", "exponent": "y", "axis": "dim", "axes": "dims", "keepdims": "keepdim"}
# Rules that torch has no function for at its top level: other modules call them.
INTERNAL = {"getitem", "linear", "softmax_cross_entropy", "sigmoid_cross_entropy", "to"}
# Functions of torch's that are no methods of its Tensor.
NOT_METHODS = {"cat", "stack"}

values_and_indices = namedtuple("values_and_indices", ["values", "indices"])


def operator(rule: Rule) -> Callable[..., Any]:
    """The function that users call for a rule."""
    count = len(rule.arguments)

    def function(*args: Any, **named: Any) -> Any:
        if named or len(args) != count or rule.variadic:
            args, named = arrange(rule, args, named)
        return apply(rule, *args, **named)

    function.__name__ = function.__qualname__ = rule.name
    function.__doc__ = rule.function.__doc__ or f"torch's `{rule.name}`, on tensors and numbers."
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
    inputs = tuple(named.pop(name) for name in rule.arguments)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}
    return tuple(inputs[0]) if rule.variadic else inputs, settings


FUNCTIONS: dict[str, Callable[..., Any]] = {name: operator(rule) for name, rule in RULES.items()}


# ----- what torch calls in more than one way -----


def extreme(reduce: str, along: str, pair: str) -> Callable[..., Any]:
    def function(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        if isinstance(dim, Tensor) or other is not None:
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


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    dims = list(range(input.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return apply(RULES["permute"], input, dims=tuple(dims))


def t(input: Tensor) -> Tensor:
    """A matrix transposed; a vector or number as it is."""
    if input.ndim > 2:
        raise RuntimeError(
            f"t() takes a tensor of at most 2 dimensions, got shape {input.shape}: write x.transpose(dim0, dim1)"
        )
    return transpose(input, 0, 1) if input.ndim == 2 else input


def permute_all(input: Tensor, dims: Any = None) -> Tensor:
    """numpy.transpose: all dimensions reversed where none are named."""
    return apply(RULES["permute"], input, dims=tuple(range(input.ndim))[::-1] if dims is None else tuple(dims))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from start_dim to end_dim, both included, as one."""
    if not input.ndim:
        return apply(RULES["reshape"], input, shape=(1,))
    start, end = start_dim % input.ndim, end_dim % input.ndim
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {input.shape}")
    return apply(RULES["reshape"], input, shape=(*input.shape[:start], -1, *input.shape[end + 1 :]))


def view(input: Tensor, *shape: Any) -> Tensor:
    """reshape that never copies: an error where the memory does not allow it."""
    out = apply(RULES["reshape"], input, shape=sizes(shape))
    if input.array.size and not np.may_share_memory(out.array, input.array):
        raise RuntimeError(
            f"view{sizes(shape)} of a tensor that is not contiguous (shape {input.shape}): write x.reshape{sizes(shape)}"
        )
    return out


def to(input: Tensor, dtype: Any) -> Tensor:
    """The same values in another dtype; the tensor itself where it has it."""
    dtype = np.dtype(dtype)
    return input if input.dtype == dtype else apply(RULES["to"], input, dtype=dtype)


def sizes(arguments: tuple) -> tuple[int, ...]:
    """reshape(2, 3) and reshape((2, 3)) mean the same."""
    only = arguments[0] if len(arguments) == 1 else None
    return tuple(only) if isinstance(only, tuple | list) else arguments


FUNCTIONS.update(
    max=extreme("amax", "max", "maximum"),
    min=extreme("amin", "min", "minimum"),
    transpose=transpose,
    t=t,
    flatten=flatten,
)
# Aliases are assignments.
ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg",
    "absolute": "abs", "clip": "clamp", "concat": "cat", "concatenate": "cat", "not_equal": "ne", "less": "lt",
    "less_equal": "le", "greater": "gt", "greater_equal": "ge",
}  # fmt: skip
FUNCTIONS.update({alias: FUNCTIONS[name] for alias, name in ALIASES.items()})
PUBLIC = {name: function for name, function in FUNCTIONS.items() if name not in INTERNAL}
globals().update(PUBLIC)


# ----- methods -----

OPERANDS = (Tensor, np.ndarray, np.generic, int, float)


def binary(rule: Rule) -> Callable[..., Any]:
    return lambda self, other: apply(rule, self, other) if isinstance(other, OPERANDS) else NotImplemented


def reflected(rule: Rule) -> Callable[..., Any]:
    return lambda self, other: apply(rule, other, self) if isinstance(other, OPERANDS) else NotImplemented


def in_place(rule: Rule) -> Callable[..., Any]:
    return lambda self, other: self.assign(rule, other) if isinstance(other, OPERANDS) else NotImplemented


def of_sizes(rule: Rule) -> Callable[..., Any]:
    (name,) = rule.settings
    return lambda self, *arguments, **named: apply(rule, self, **(named or {name: sizes(arguments)}))


def getitem(self: Tensor, index: Any) -> Tensor:
    """x[index], with all that numpy indexes with; tensors may be parts of the index."""
    return apply(RULES["getitem"], self, index=plain_index(index))


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """x[index] = value, on memory that no graph has recorded."""
    if self.requires_grad or (isinstance(value, Tensor) and value.requires_grad):
        raise RuntimeError(
            "x[index] = value inside a graph is not recorded: write pargrad.where(mask, value, x), or assign inside `with no_grad():`"
        )
    self.array[plain_index(index)] = value.array if isinstance(value, Tensor) else value
    self.cell[0] += 1


def plain_index(index: Any) -> Any:
    if isinstance(index, Tensor):
        return index.array
    if isinstance(index, tuple):
        return tuple(part.array if isinstance(part, Tensor) else part for part in index)
    return index


def iterate(self: Tensor) -> Any:
    return (self[i] for i in range(len(self)))


BINARY = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "matmul": "matmul",
}  # fmt: skip
METHODS: dict[str, Any] = {
    **{name: function for name, function in PUBLIC.items() if name not in NOT_METHODS},
    **{f"__{name}__": binary(RULES[rule]) for name, rule in BINARY.items()},
    **{f"__r{name}__": reflected(RULES[rule]) for name, rule in BINARY.items()},
    **{f"__i{name}__": in_place(RULES[rule]) for name, rule in BINARY.items() if name != "matmul"},
    **{f"{name}_": in_place(RULES[name]) for name in ("add", "sub", "mul", "div")},
    **{f"__{name}__": binary(RULES[name]) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: of_sizes(RULES[name]) for name in ("reshape", "permute", "expand")},
    **{"__neg__": FUNCTIONS["neg"], "__abs__": FUNCTIONS["abs"], "__getitem__": getitem, "__setitem__": setitem},
    **{"__iter__": iterate, "view": view, "to": to, "T": property(permute_all), "__pos__": lambda self: self},
    **{name: lambda self, dtype=dtype: to(self, dtype) for name, dtype in
       {"float": np.float32, "double": np.float64, "int": np.int32, "long": np.int64, "bool": np.bool_}.items()},
}  # fmt: skip

for name, method in METHODS.items():
    setattr(Tensor, name, method)


# ----- numpy's own functions on Tensors -----

NUMPY = {function: FUNCTIONS[rule.name] for rule in RULES.values() for function in rule.numpy}
NUMPY |= {np.reshape: FUNCTIONS["reshape"], np.transpose: permute_all, np.expand_dims: FUNCTIONS["unsqueeze"]}
NUMPY |= {np.broadcast_to: lambda input, shape: apply(RULES["expand"], input, size=tuple(shape))}
NUMPY |= {
    np.clip: lambda a, a_min=None, a_max=None, **named: FUNCTIONS["clamp"](a, **{"min": a_min, "max": a_max} | named)
}


def array_function(self: Tensor, function: Callable, types: Any, args: Any, named: Any) -> Any:
    """numpy's function as the operator of the same meaning; without one, on the plain arrays where no graph is lost."""
    if function in NUMPY:
        return NUMPY[function](*args, **named)
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
        if values.requires_grad:
            raise TypeError(
                f"numpy.{function.__name__} has no operator here and would leave the graph: write it with "
                "pargrad's operators, or on x.detach().numpy()"
            )
        return values.array
    return type(values)(outside(function, value) for value in values) if isinstance(values, tuple | list) else values


Tensor.__array_function__ = array_function  # type: ignore[attr-defined]
Tensor.__array_ufunc__ = array_ufunc  # type: ignore[attr-defined]
