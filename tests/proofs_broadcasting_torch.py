"""Proof: operators of two and three arguments, on any shapes, dtypes and literals, are torch's."""

import operator
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.agreement_torch import SEEDS, SIZES, Array, agree
from tests.proofs import hold, proof

DTYPES = ("float64", "float32", "int64", "bool", "int32", "uint8", "complex128", "complex64")
LITERALS = (2, -1, 0, 0.5, 2.0, -1.5, True, 1.5 - 1j)
SYMBOLS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor")
SYMBOLS += ("eq", "ne", "lt", "le", "gt", "ge")
OPERATORS = {name: lambda library, x, y, name=name: getattr(operator, name)(x, y) for name in SYMBOLS}
IN_PLACE = {
    name: lambda library, x, y, name=name: getattr(operator, name)(x * 1, y)
    for name in ("iadd", "isub", "imul", "itruediv", "ipow", "iand")
}
# Of these torch takes no number, of the next ones none at the left; operators of pargrad's take both.
NO_NUMBERS = (
    "addcdiv",
    "addcmul",
    "atan2",
    "broadcast_tensors",
    "dist",
    "fmax",
    "fmin",
    "heaviside",
    "hypot",
    "isclose",
)
NO_NUMBERS += ("ldexp", "logaddexp", "logaddexp2", "logical_and", "logical_xor", "maximum", "minimum", "nextafter")
NOT_AT_THE_LEFT = ("clamp", "copysign", "eq", "fmod", "gt", "lerp", "masked_fill", "rsub", "where")
BOTH_SIDES = (
    "bitwise_left_shift",
    "bitwise_or",
    "div",
    "float_power",
    "floor_divide",
    "mul",
    "pow",
    "remainder",
    "sub",
)
BOTH_SIDES += ("true_divide", "xlogy")
FUNCTIONS = {
    name: lambda library, *arguments, name=name: getattr(library, name)(*arguments)
    for name in (*NO_NUMBERS, *NOT_AT_THE_LEFT, *BOTH_SIDES)
}
CALLS = OPERATORS | IN_PLACE | FUNCTIONS
TERNARY = ("addcdiv", "addcmul", "clamp", "lerp", "where", "masked_fill")
KINDS = st.tuples(st.integers(0, 19), st.integers(0, 3), st.integers(0, 7))
# What torch does not take of dtypes, and pargrad does: some operators of booleans, and what follows from that it
# forgets, in the derivative of a complex function, that a real argument has a real gradient.
REFUSED_OFTEN = ("not implemented for 'Bool'", "on a bool tensor", "with a bool tensor", "two bool tensors")
REFUSED_OFTEN += ("Expected isFloatingType(grad.scalar_type())",)
REFUSED = {
    **dict.fromkeys(("floordiv", "floor_divide", "mod", "remainder"), ("derivative for aten",)),
    **dict.fromkeys(("logaddexp", "logaddexp2", "lerp"), ("not implemented for", "expected dtype", "without overflow")),
    "where": ("to be a boolean tensor",),  # the truth of any number will do, as in numpy
    "heaviside": ("for tensors with different dtypes", "derivative for aten"),
    "isclose": ("did not match",),
    "addcdiv": ("can't be cast to the desired output type", "Integer division with addcdiv"),
    "masked_fill": ("Autograd not support dtype",),  # a value with a gradient, into integers
    "clamp": ("doesn't match the broadcast shape",),  # bounds of more dimensions than x, not all of them
}
ONLY_TENSORS = ("must be Tensor, not", "received an invalid combination of arguments")


class Call(NamedTuple):
    name: str
    arguments: tuple[Any, ...]  # an Array or a literal each


@st.composite
def calls(draw):
    """Arrays whose shapes mostly broadcast, and literals between them."""
    name = draw(st.sampled_from(tuple(CALLS)))
    whole = draw(st.lists(SIZES, max_size=3))

    def argument(place):
        kind, lead, ones = draw(KINDS)
        if kind >= 16 and name not in NO_NUMBERS and (place or name not in (*NOT_AT_THE_LEFT, *IN_PLACE)):
            return draw(st.sampled_from(LITERALS))
        shape = tuple(1 if ones >> i & 1 else size for i, size in enumerate(whole))
        if kind == 0:  # or any shape at all
            shape = tuple(draw(st.lists(SIZES, max_size=3)))
        return Array(shape[lead and lead - 1 :], draw(st.sampled_from(DTYPES)), draw(SEEDS))

    return Call(name, tuple(map(argument, range(3 if name in TERNARY else 2))))


def torch_has_no_answer(name, arrays):
    """Where what torch gives is not what the function is."""
    first, second = (np.asarray(x) for x in arrays[:2])
    if name in ("pow", "float_power", "ipow"):  # it gives 0 ** z no number, whatever z
        # And it refuses what is wrapped in every other operator: a negative literal beside uint8.
        wrapped = first.dtype == np.uint8 and second.dtype.kind == "i" and (second < 0).any()
        return wrapped or (not first.all() and "c" in first.dtype.kind + second.dtype.kind)
    if name == "addcdiv":  # which infinity, or none, a complex number divided by 0 is, depends on the arithmetic
        kinds = {np.asarray(x).dtype.kind for x in arrays}
        return "c" in kinds and not np.all(arrays[2])
    if name in ("atan2", "lerp"):  # it takes -1 for 255 on the way
        return np.uint8 in [np.asarray(x).dtype for x in arrays]
    # Its derivative of ldexp takes 2 ** -1 for 0 where the exponent is an integer.
    return name == "ldexp" and second.dtype.kind == "i" and (second < 0).any()


def check(call):
    arrays = [x.drawn() if isinstance(x, Array) else x for x in call.arguments]
    tensors = sum(isinstance(x, np.ndarray) for x in arrays)
    assume(tensors and not torch_has_no_answer(call.name, arrays))
    try:
        agree(CALLS[call.name], arrays)
    except AssertionError as error:
        refused = (*REFUSED_OFTEN, *REFUSED.get(call.name, ()), *(ONLY_TENSORS if tensors < len(arrays) else ()))
        assume(not any(text in str(error) for text in refused))
        raise


@proof(10_000)
def broadcasting(examples, seed):
    """Operators of two and three arguments, on any shapes, dtypes and literals, are torch's or both refuse."""
    return hold(check, calls(), examples, seed)
