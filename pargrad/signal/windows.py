"""Windows, weights for the parts of a signal: https://docs.pytorch.org/docs/stable/signal.html

Each is a function of x from 0, the first of M points, to 1, the last one; with sym=False to the one after the last, so
that the window is periodic. They differ from `pg.hann_window` and its like in this default, and in their arguments.
"""

# ruff: noqa: N803 (torch calls the number of points M)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pargrad.creation import leaf, windowed
from pargrad.tensor import Tensor

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
    "hann", "kaiser", "nuttall",
]  # fmt: skip


def window(
    name: str, M: int, shape: Callable, sym: bool, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    return leaf(windowed(name, shape, M, not sym, dtype), requires_grad, placement)


def span(M: int, sym: bool) -> int:
    """The number of points from x = 0 to x = 1, without the first."""
    return M - 1 if sym else M


def exponential(M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, **made: Any) -> Tensor:
    """exp(-|n - center| / tau) for the points n; center is the middle where it is not given."""
    if tau <= 0:
        raise ValueError(f"exponential: expected a positive tau, got {tau}")
    if sym and center is not None:
        raise ValueError("exponential: a symmetric window has its center in the middle: leave center out")
    middle = span(M, sym) / 2 if center is None else center
    return window("exponential", M, lambda x: np.exp(-np.abs(x * span(M, sym) - middle) / tau), sym, **made)


def cosine(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """sin(pi (n + 1/2) / count) for the points n, of which a periodic window has one more."""
    steps = span(M, sym)
    return window("cosine", M, lambda x: np.sin(np.pi * (x * steps + 0.5) / (steps + 1)), sym, **made)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, **made: Any) -> Tensor:
    """exp(-(n / std)^2 / 2) for the points n, counted from the middle."""
    if std <= 0:
        raise ValueError(f"gaussian: expected a positive std, got {std}")
    return window("gaussian", M, lambda x: np.exp(-(((x - 0.5) * span(M, sym) / std) ** 2) / 2), sym, **made)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, **made: Any) -> Tensor:
    """i0(beta sqrt(1 - (2 x - 1)^2)) / i0(beta), for the modified Bessel function i0"""
    if beta < 0:
        raise ValueError(f"kaiser: expected a beta from 0 on, got {beta}")
    return window("kaiser", M, lambda x: np.i0(beta * np.sqrt(1 - (2 * x - 1) ** 2)) / np.i0(beta), sym, **made)


def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, **made: Any) -> Tensor:
    """a[0] - a[1] cos(2 pi x) + a[2] cos(4 pi x) - ..."""
    terms = tuple(a)
    if not terms:
        raise ValueError("general_cosine: expected at least one coefficient, got none")

    def shape(x: np.ndarray) -> np.ndarray:
        return sum((-1) ** i * each * np.cos(2 * np.pi * i * x) for i, each in enumerate(terms))

    return window("general_cosine", M, shape, sym, **made)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, **made: Any) -> Tensor:
    """alpha - (1 - alpha) cos(2 pi x)"""
    return general_cosine(M, a=(alpha, 1 - alpha), sym=sym, **made)


def hamming(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """0.54 - 0.46 cos(2 pi x)"""
    return general_hamming(M, sym=sym, **made)


def hann(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """sin(pi x)^2"""
    return general_hamming(M, alpha=0.5, sym=sym, **made)


def blackman(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """0.42 - 0.5 cos(2 pi x) + 0.08 cos(4 pi x)"""
    return general_cosine(M, a=(0.42, 0.5, 0.08), sym=sym, **made)


def nuttall(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """The minimal 4-term Blackman-Harris window after Nuttall: https://ieeexplore.ieee.org/document/1163506"""
    return general_cosine(M, a=(0.3635819, 0.4891775, 0.1365995, 0.0106411), sym=sym, **made)


def bartlett(M: int, *, sym: bool = True, **made: Any) -> Tensor:
    """1 - |2 x - 1|, a triangle"""
    return window("bartlett", M, lambda x: 1 - np.abs(2 * x - 1), sym, **made)
