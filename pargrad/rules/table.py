"""The table of operators: a rule is one function that returns a value and, beside it, its derivatives.

    @rule(sample((2, 3), (3, 4)))
    def matmul(x, y):
        return x @ y, lambda g: g @ y.T, lambda g: x.T @ g

Positional parameters are arrays, keyword-only parameters are settings, named and ordered as torch's. The function
returns its value, then one vector-Jacobian product per array argument (`None` where there is no derivative), each
of which takes the gradient of the value, `g`, and gives the gradient of that argument. A rule neither un-broadcasts
nor casts what it returns: the engine does both, once, for all of them.

Derivatives have derivatives because a vjp can be run on Tensors: it is made of operators, of numpy's functions, and
of other rules, called as functions. A rule does not rebind its arguments, so that what a vjp keeps of them is theirs.

A complex gradient is torch's, the conjugate of the derivative; a rule is written as for real numbers, and the engine
conjugates around its vjps. One that is not holomorphic says so, and takes and gives such gradients itself.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

RULES: dict[str, Rule] = {}


class Saved(NamedTuple):
    """What one vjp keeps alive: positions of array arguments, and which of its closure cells may hold the value."""

    arguments: tuple[int, ...]
    locals: tuple[int, ...]


class Sample(NamedTuple):
    """One way to call a rule: shapes (or `boolean`, `integers`, literals) of its arguments, their domain, settings."""

    arguments: tuple[Any, ...]
    settings: dict[str, Any]
    domain: tuple[float, float]

    def arrays(self, generator: np.random.Generator, dtype: Any = np.float64) -> list[Any]:
        """Draws the arguments: a shape becomes an array of `dtype`, uniform over the domain."""

        def draw(argument: Any) -> Any:
            if callable(argument):
                return argument(generator)
            if isinstance(argument, tuple):
                return np.asarray(generator.uniform(*self.domain, argument), dtype=dtype)
            return argument

        return [draw(argument) for argument in self.arguments]


def sample(*arguments: Any, domain: tuple[float, float] = (-2.0, 2.0), **settings: Any) -> Sample:
    """A Sample of these arguments and settings."""
    return Sample(arguments, settings, domain)


def boolean(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """A sample's boolean argument of this shape."""
    return lambda generator: generator.random(shape) < 0.5


def integers(high: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """A sample's int64 argument of this shape, in [0, high)."""
    return lambda generator: generator.integers(0, high, shape)


class Rule:
    """A row of the table.

    dtype: how array arguments come to one dtype before the call. "promote": torch's promotion; "float": the same,
    then integers become the default float; "floating": the same as "promote", but integers are refused;
    "match": different dtypes are refused; "as is": nothing is done.
    """

    def __init__(
        self,
        function: Callable,
        samples: tuple[Sample, ...],
        dtype: str,
        numpy: tuple[Callable, ...],
        differentiable: bool,
        joint: bool,
        view: bool,
        fixed: tuple[str, ...],
        plain: Callable | None,
        stack: Callable | None,
        holomorphic: bool = True,
    ):
        code = function.__code__
        self.name = function.__name__
        self.function = function
        self.samples = samples
        self.dtype = dtype
        self.numpy = numpy
        self.differentiable = differentiable
        self.joint = joint
        self.view = view
        self.plain = plain
        self.stack = stack
        self.holomorphic = holomorphic
        self.variadic = bool(code.co_flags & 0x04)
        positional = code.co_argcount
        self.settings = code.co_varnames[positional : positional + code.co_kwonlyargcount]
        variadic_name = code.co_varnames[positional + code.co_kwonlyargcount] if self.variadic else None
        self.arguments = (variadic_name,) if variadic_name else code.co_varnames[:positional]
        self.fixed = tuple(self.arguments.index(name) for name in fixed)
        self.saved: dict[CodeType, Saved | None] = self._read_saved(code)
        self.literals = dtype not in ("as is", "match")  # whether a number may stand for an array
        self.keeps = plain is not None or any(self.saved.values())

    def _read_saved(self, code: CodeType) -> dict[CodeType, Saved | None]:
        # A vjp's free variables are exactly what it keeps alive, and the compiler has listed them.
        nested = {constant.co_name: constant for constant in code.co_consts if isinstance(constant, CodeType)}

        def free(function: CodeType) -> set[str]:
            names: set[str] = set()
            for name in function.co_freevars:
                names |= free(nested[name]) if name in nested else {name}
            return names

        saved: dict[CodeType, Saved | None] = {}
        for function in code.co_consts:
            if isinstance(function, CodeType):
                names = free(function)
                arguments = tuple(i for i, name in enumerate(self.arguments) if name in names)
                known = {*self.arguments, *self.settings, *nested}
                local = tuple(i for i, name in enumerate(function.co_freevars) if name not in known)
                saved[function] = Saved(arguments, local) if arguments or local else None
        return saved

    def __call__(self, *arrays: Any, **settings: Any) -> Any:
        """The value alone. On what is no array it calls the operator, as numpy's functions do."""
        for x in arrays:
            if type(x) is not np.ndarray and hasattr(x, "__array_function__") and not isinstance(x, np.ndarray):
                return x.__array_function__(self, (type(x),), arrays, settings)
        result = self.function(*arrays, **settings)
        return result[0] if self.differentiable else result

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


def rule(
    *samples: Sample,
    dtype: str = "promote",
    numpy: Callable | tuple[Callable, ...] = (),
    differentiable: bool = True,
    joint: bool = False,
    view: bool = False,
    fixed: tuple[str, ...] = (),
    plain: Callable | None = None,
    stack: Callable | None = None,
    holomorphic: bool = True,
) -> Callable[[Callable], Rule]:
    """Enters a function into the table under its own name.

    numpy: numpy's functions that this rule stands for when they are called on a Tensor.
    differentiable=False: the function returns its value alone.
    joint=True: one vjp gives the gradients of all array arguments, as a tuple.
    view=True: the value may share memory with the first argument.
    fixed: arguments left out of dtype promotion (a condition, an index).
    plain: for a fused rule, the same value composed of other operators; used where its derivative must itself be
    differentiated, and held against it by the tests.
    stack: how it runs with a leading axis more (see `stacks`); without it, it runs slice by slice.
    holomorphic=False: not a function of z alone, such as |z|: on complex numbers its vjps do as they stand.
    """

    def enter(function: Callable) -> Rule:
        name = function.__name__
        if name in RULES:
            raise ValueError(f"two rules are named {name!r}: an alias is an assignment, not a second rule")
        if not samples:
            raise ValueError(f"rule {name!r} has no sample: give @rule at least one sample(...) for the tests to walk")
        functions = numpy if isinstance(numpy, tuple) else (numpy,)
        RULES[name] = Rule(
            function, samples, dtype, functions, differentiable, joint, view, fixed, plain, stack, holomorphic
        )
        return RULES[name]

    return enter
