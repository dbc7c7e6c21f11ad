"""What scripts ask about dtypes, and torch's names for what numpy and Python have: Size, dtype, newaxis, bfloat16, ...

https://docs.pytorch.org/docs/stable/tensor_attributes.html
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad.creation import CATEGORY_DEFAULT, TYPES, set_default_dtype
from pargrad.promotion import CATEGORY, literal, result_dtype
from pargrad.tensor import Tensor

__all__ = [
    "Size", "bfloat16", "can_cast", "channels_last", "channels_last_3d", "dtype", "layout", "memory_format", "newaxis",
    "promote_types", "result_type", "set_default_tensor_type", "typename",
]  # fmt: skip

dtype = np.dtype
layout = memory_format = str
newaxis = None
# How images lie in memory says nothing here: both are taken where torch takes them.
channels_last, channels_last_3d = "channels_last", "channels_last_3d"


class AnyTuple(type):
    """How a script asks whether something is a shape: every tuple is, that of a tensor, too."""

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, tuple)


class Size(tuple, metaclass=AnyTuple):
    """A shape as a script writes it, to compare with `x.shape`, which is a tuple: `x.shape == Size([2, 3])`."""

    def numel(self) -> int:
        """How many elements a tensor of this shape has."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"Size({list(self)})"


class Absent:
    """A dtype that numpy has not: it can be named, so that scripts can choose another one, and nothing can be of it."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return self.name

    @property
    def dtype(self) -> Any:  # what numpy asks of an object that is to be a dtype
        raise TypeError(f"numpy has no {self.name}: write float32")


bfloat16 = Absent("bfloat16")


def to_bfloat16(self: Any, memory_format: Any = None) -> Any:
    """There is none: an error that says so."""
    return bfloat16.dtype


Tensor.bfloat16 = to_bfloat16  # type: ignore[attr-defined]


def promote_types(type1: Any, type2: Any) -> np.dtype:
    """The dtype of a sum of arrays of two dtypes: https://docs.pytorch.org/docs/stable/generated/torch.promote_types.html"""
    return result_dtype([np.empty(1, type1), np.empty(1, type2)])


def result_type(tensor1: Any, tensor2: Any) -> np.dtype:
    """The dtype of a sum of two tensors or numbers, in which numbers and 0-d tensors count for less."""
    return result_dtype([literal(x.array if isinstance(x, Tensor) else x) for x in (tensor1, tensor2)])


def can_cast(from_: Any, to: Any) -> bool:
    """Whether an operator in place may put a dtype into another: not into a lower category (float into integer)."""
    first, second = (np.dtype(kind) for kind in (from_, to))
    return CATEGORY[first.kind] <= CATEGORY[second.kind]


def typename(obj: Any) -> str:
    """What something is, with its module; of a tensor, torch's old name."""
    if isinstance(obj, Tensor):
        return obj.type()
    kind = obj if isinstance(obj, type) else type(obj)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def set_default_tensor_type(t: Any, /) -> None:
    """`set_default_dtype` by torch's old names: FloatTensor or DoubleTensor, or those as strings."""
    name = t if isinstance(t, str) else getattr(t, "__name__", str(t))
    kind: Any = TYPES.get(name.rpartition(".")[2])
    if kind is None or kind.kind != CATEGORY_DEFAULT[2].kind:
        raise TypeError(f"set_default_tensor_type: expected FloatTensor or DoubleTensor, got {name}")
    set_default_dtype(kind)
