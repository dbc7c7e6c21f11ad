"""torch's functions of complex numbers that are made of others, or that do nothing to real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.operators.compositions import call
from pargrad.tensor import Tensor


def is_complex(input: Tensor) -> bool:
    """Whether the elements are complex numbers."""
    return input.dtype.kind == "c"


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floating-point numbers, which complex ones are not."""
    return input.dtype.kind == "f"


def real(input: Tensor) -> Tensor:
    """A view of the real parts; real numbers as they are."""
    return call("real", input) if is_complex(input) else input


def imag(input: Tensor) -> Tensor:
    """A view of the imaginary parts, which real numbers do not have."""
    return call("imag", input)


def conj(input: Tensor) -> Tensor:
    """The conjugates, in memory of their own, where torch notes that its memory is to be read so; real ones as is."""
    return call("conj", input) if is_complex(input) else input


def conj_physical(input: Tensor) -> Tensor:
    """The conjugates; real numbers as they are."""
    return conj(input)


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are always computed."""
    return input


def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negatives are always computed."""
    return input


def isreal(input: Tensor) -> Tensor:
    """Whether each element is a real number: its imaginary part is 0."""
    return Tensor(np.isreal(input.array))


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers of these sizes and angles: https://docs.pytorch.org/docs/stable/generated/torch.polar.html

    A size of 0 has a derivative, too, where torch's is 0.
    """
    return call("complex", abs * call("cos", angle), abs * call("sin", angle))


def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs, which are the last dimension, as complex numbers."""
    out = call("view_as_complex", input)
    if input.array.size and not np.may_share_memory(out.array, input.array):
        raise RuntimeError(
            f"view_as_complex of shape {input.shape}: both parts of a number must lie side by side in memory: write "
            "x.contiguous() first"
        )
    return out


def settable(part: Callable[[Tensor], Tensor]) -> property:
    """A view of a part of the numbers, which may be assigned to."""

    def assign(self: Tensor, value: Any) -> None:
        part(self)[...] = value

    return property(part, assign)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        conj, conj_physical, imag, is_complex, is_floating_point, isreal, polar, real, resolve_conj, resolve_neg,
        view_as_complex,
    )
}  # fmt: skip
# Functions of torch's that are no methods of its Tensor, and attributes that are functions.
NOT_METHODS = {"complex", "polar", "view_as_complex", "view_as_real"}
METHODS: dict[str, Any] = {
    "real": settable(real),
    "imag": settable(imag),
    "__complex__": lambda self: complex(self.item()),
}
