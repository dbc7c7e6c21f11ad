"""torch's discrete Fourier transforms, `pg.fft.NAME`: https://docs.pytorch.org/docs/stable/fft.html

Each has torch's arguments: n or s, the lengths that the transformed dims are cut or padded to; dim; and norm, which
says where to divide by the number of elements: "backward" (only in inverse transforms), "forward" (only in others) or
"ortho" (by its square root, in both).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.creation import leaf
from pargrad.operators import FUNCTIONS
from pargrad.operators.complex_numbers import conj, is_complex
from pargrad.promotion import CATEGORY_DEFAULT
from pargrad.rules import RULES
from pargrad.rules.fft import OPPOSITE
from pargrad.tensor import Tensor, apply


def check_norm(name: str, norm: Any) -> str:
    if norm is not None and norm not in OPPOSITE:
        raise RuntimeError(f"{name}: expected norm 'forward', 'backward' or 'ortho', got {norm!r}")
    return norm or "backward"


def listed(values: Any) -> tuple[int, ...]:
    return (int(values),) if isinstance(values, int | np.integer) else tuple(values)


def axes_of(name: str, input: Tensor, s: Any, dim: Any) -> tuple[tuple[int, ...], tuple[int | None, ...]]:
    """The dims to transform, counted from the front, and the length of each, None where it stays."""
    count = input.ndim
    lengths = None if s is None else listed(s)
    if dim is not None:
        dims = listed(dim)
        for each in dims:
            if not -count <= each < count:
                raise IndexError(f"{name}: expected a dim from {-count} to {count - 1}, got {each}")
    else:
        if lengths is not None and len(lengths) > count:
            raise RuntimeError(f"{name}: got {len(lengths)} lengths for the {count} dims of shape {input.shape}")
        dims = tuple(range(0 if lengths is None else count - len(lengths), count))
    axes = tuple(each % count for each in dims)
    if len(set(axes)) < len(axes):
        raise RuntimeError(f"{name}: expected each dim once, got {dims}")
    if lengths is not None and len(lengths) != len(axes):
        raise RuntimeError(f"{name}: expected as many lengths as dims, got s={lengths} and dim={dims}")
    return axes, tuple(None if n == -1 else n for n in lengths or (-1,) * len(axes))


def resized(name: str, input: Tensor, axes: tuple[int, ...], lengths: tuple[int | None, ...]) -> Tensor:
    """Cut, or padded with zeros at the end, to these lengths along these dims."""
    shape = list(input.shape)
    for axis, length in zip(axes, lengths):
        shape[axis] = shape[axis] if length is None else length
        if shape[axis] < 1:
            raise RuntimeError(f"{name}: expected a length of 1 or more along dim {axis}, got {shape[axis]}")
    kept = tuple(slice(0, min(pair)) for pair in zip(shape, input.shape))
    out = input if all(size <= length for size, length in zip(input.shape, shape)) else input[kept]
    return out if out.shape == tuple(shape) else apply(RULES["add_into_zeros"], out, index=kept, shape=tuple(shape))


def last_length(name: str, input: Tensor, axes: tuple[int, ...], n: int | None) -> int:
    """The length of a real signal whose half spectrum is given: an even one, where it is not said."""
    n = 2 * (input.shape[axes[-1]] - 1) if n is None else n
    if n < 1:
        raise RuntimeError(f"{name}: expected a length of 1 or more along dim {axes[-1]}, got {n}")
    return n


# ----- over any dims -----


def transform(name: str, inverse: bool) -> Callable[..., Tensor]:
    """Complex to complex."""

    def run(input: Tensor, s: Any, dim: Any, norm: Any) -> Tensor:
        norm = check_norm(name, norm)
        axes, lengths = axes_of(name, input, s, dim)
        if not axes:
            return apply(
                RULES["to"],
                input,
                dtype=np.result_type(input.dtype if input.dtype.kind in "fc" else CATEGORY_DEFAULT[2], np.complex64),
            )
        return apply(RULES["dft"], resized(name, input, axes, lengths), dim=axes, norm=norm, inverse=inverse)

    return run


def to_half(name: str, conjugate: bool) -> Callable[..., Tensor]:
    """Real to the half of a Hermitian spectrum along the last of the dims, and complex to complex along the others.

    conjugate: of the inverse transforms, ihfft and its kin.
    """

    def run(input: Tensor, s: Any, dim: Any, norm: Any) -> Tensor:
        norm = check_norm(name, norm)
        if is_complex(input):
            raise RuntimeError(f"{name}: expected a real tensor, got {input.dtype}")
        axes, lengths = axes_of(name, input, s, dim)
        if not axes:
            raise RuntimeError(f"{name}: expected at least one dim to transform, got none")
        signal = resized(name, input, axes, lengths)
        half = apply(RULES["real_dft"], signal, dim=axes[-1], norm=OPPOSITE[norm] if conjugate else norm)
        half = conj(half) if conjugate else half
        return apply(RULES["dft"], half, dim=axes[:-1], norm=norm, inverse=conjugate) if axes[1:] else half

    return run


def from_half(name: str, conjugate: bool) -> Callable[..., Tensor]:
    """The way back. conjugate: of the forward transforms, hfft and its kin."""

    def run(input: Tensor, s: Any, dim: Any, norm: Any) -> Tensor:
        norm = check_norm(name, norm)
        axes, lengths = axes_of(name, input, s, dim)
        if not axes:
            raise RuntimeError(f"{name}: expected at least one dim to transform, got none")
        n = last_length(name, input, axes, lengths[-1])
        half = resized(name, input, axes, (*lengths[:-1], n // 2 + 1))
        if axes[1:]:
            half = apply(RULES["dft"], half, dim=axes[:-1], norm=norm, inverse=not conjugate)
        half = conj(half) if conjugate else half
        return apply(RULES["half_dft"], half, n=n, dim=axes[-1], norm=OPPOSITE[norm] if conjugate else norm)

    return run


# ----- torch's names: each over one dim, two, and any number -----


def named(name: str, what: str, make: Callable[[str, bool], Callable[..., Tensor]], flag: bool) -> dict[str, Callable]:
    """`name`, `name`2 and `name`n, which differ in their defaults."""
    one, two, many = (make(name + ending, flag) for ending in ("", "2", "n"))

    def single(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        if n is not None and n < 1:
            raise RuntimeError(f"{name}: expected a length of 1 or more, got n={n}")
        return one(input, None if n is None else (n,), (dim,), norm)

    def double(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
        return two(input, s, dim, norm)

    def several(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
        return many(input, s, dim, norm)

    functions = {}
    for function, ending, over in ((single, "", "one dim"), (double, "2", "two dims"), (several, "n", "any dims")):
        function.__name__ = function.__qualname__ = name + ending
        function.__doc__ = f"{what}, over {over}."
        functions[name + ending] = function
    return functions


PUBLIC: dict[str, Callable[..., Any]] = {
    **named("fft", "The discrete Fourier transform", transform, False),
    **named("ifft", "The inverse discrete Fourier transform", transform, True),
    **named(
        "rfft", "The first half of the transform of real numbers, of which the rest is the conjugate", to_half, False
    ),
    **named("irfft", "The inverse of rfft; n is the length of what it gives, an even one by default", from_half, False),
    **named("hfft", "The transform, which is real, of what has its own conjugate as its second half", from_half, True),
    **named("ihfft", "The inverse of hfft, from real numbers", to_half, True),
}


# ----- frequencies, and where the frequency 0 is -----


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequency of each element of a transform of n samples, d apart: those from the middle on are negative."""
    return frequencies(np.fft.ifftshift(np.arange(-(n // 2), n - n // 2)), n, d, dtype, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequency of each element of rfft of n samples, d apart."""
    return frequencies(np.arange(n // 2 + 1), n, d, dtype, requires_grad)


def frequencies(whole: np.ndarray, n: int, d: float, dtype: Any, requires_grad: bool) -> Tensor:
    return leaf(whole.astype(dtype or CATEGORY_DEFAULT[2]) * (1.0 / (n * d)), requires_grad)


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The frequency 0 in the middle of the dims, of all where none are named."""
    return shifted(input, dim, lambda size: size // 2)


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """What fftshift did, undone."""
    return shifted(input, dim, lambda size: (size + 1) // 2)


def shifted(input: Tensor, dim: Any, by: Callable[[int], int]) -> Tensor:
    dims = tuple(range(input.ndim)) if dim is None else listed(dim)
    return FUNCTIONS["roll"](input, tuple(by(input.shape[each]) for each in dims), dims) if dims else input


PUBLIC |= {function.__name__: function for function in (fftfreq, fftshift, ifftshift, rfftfreq)}
globals().update(PUBLIC)

__all__ = [*PUBLIC]
