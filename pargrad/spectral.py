"""Spectra of pieces of a signal, and the signal again: torch's stft and istft."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pargrad import fft
from pargrad.nn.resampling import pad
from pargrad.operators import FUNCTIONS
from pargrad.operators.complex_numbers import is_complex
from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply


def lengths(name: str, n_fft: int, hop_length: int | None, win_length: int | None) -> tuple[int, int]:
    """From one piece to the next, and of the window."""
    hop = n_fft // 4 if hop_length is None else hop_length
    width = n_fft if win_length is None else win_length
    if hop < 1:
        raise RuntimeError(f"{name}: expected a hop_length of 1 or more, got {hop}")
    if not 0 < width <= n_fft:
        raise RuntimeError(f"{name}: expected a win_length from 1 to n_fft, {n_fft}, got {width}")
    return hop, width


def whole_window(name: str, window: Tensor | None, n_fft: int, width: int, dtype: Any) -> Tensor:
    """The window in the middle of n_fft elements, of which the others are 0."""
    if window is None:
        window = Tensor(np.ones(width, dtype))
    elif window.shape != (width,):
        raise RuntimeError(f"{name}: expected a window of shape {(width,)}, that of win_length, got {window.shape}")
    before = (n_fft - width) // 2
    return window if width == n_fft else pad(window, (before, n_fft - width - before))


def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
) -> Tensor:
    """The transform of each windowed piece of a signal, or of each of a batch: (frequencies, pieces).

    https://docs.pytorch.org/docs/stable/generated/torch.stft.html
    """
    if input.ndim not in (1, 2):
        raise RuntimeError(f"stft: expected a signal or a batch of signals, got shape {input.shape}")
    hop, width = lengths("stft", n_fft, hop_length, win_length)
    signals = input if input.ndim == 2 else input[None]
    if center:
        signals = pad(signals[:, None], (n_fft // 2, n_fft // 2), pad_mode)[:, 0]
    if not 0 < n_fft <= signals.shape[1]:
        raise RuntimeError(f"stft: expected an n_fft from 1 to the signal's {signals.shape[1]} elements, got {n_fft}")
    whole = whole_window("stft", window, n_fft, width, input.array.real.dtype)
    complex_pieces = is_complex(input) or is_complex(whole)
    if return_complex is None and not complex_pieces:
        raise RuntimeError("stft: of real numbers, say return_complex=True (or False, for pairs of real numbers)")
    if onesided and complex_pieces:
        raise RuntimeError("stft: of complex numbers both halves of the spectrum are wanted: write onesided=False")
    pieces = FUNCTIONS["unfold"](signals, -1, n_fft, hop) * whole
    transform = fft.PUBLIC["fft" if complex_pieces or onesided is False else "rfft"]
    spectra = transform(pieces, norm="ortho" if normalized else None).mT
    out = spectra if input.ndim == 2 else spectra[0]
    return out if return_complex is not False else FUNCTIONS["view_as_real"](out)


def overlapping(pieces: Tensor, hop: int) -> Tensor:
    """The sum of pieces that begin `hop` elements after each other, for each of a batch."""
    count, size = pieces.shape[-2:]
    places = hop * np.arange(count)[:, None] + np.arange(size)
    shape = (len(pieces), hop * (count - 1) + size)
    return apply(RULES["add_into_zeros"], pieces, index=(slice(None), places), shape=shape)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose spectra these are, or the one whose spectra are next to these, by least squares.

    https://docs.pytorch.org/docs/stable/generated/torch.istft.html
    """
    if not is_complex(input):
        raise RuntimeError(f"istft: expected complex spectra, got {input.dtype}: write torch.view_as_complex(x)")
    if input.ndim not in (2, 3) or not input.numel():
        raise RuntimeError(f"istft: expected spectra of shape (..., frequencies, pieces), got {input.shape}")
    hop, width = lengths("istft", n_fft, hop_length, win_length)
    onesided = input.shape[-2] != n_fft if onesided is None else onesided
    if input.shape[-2] != (n_fft // 2 + 1 if onesided else n_fft):
        raise RuntimeError(f"istft: got {input.shape[-2]} frequencies with n_fft {n_fft} and onesided {onesided}")
    if onesided and return_complex:
        raise RuntimeError("istft: half a spectrum is that of a real signal: write onesided=False")
    whole = whole_window("istft", window, n_fft, width, input.array.real.dtype)

    spectra = (input if input.ndim == 3 else input[None]).mT
    norm = "ortho" if normalized else None
    if return_complex:
        pieces = fft.PUBLIC["ifft"](spectra, norm=norm)
    else:  # of a whole spectrum, half is that of a real signal
        pieces = fft.PUBLIC["irfft"](spectra[..., : n_fft // 2 + 1], n_fft, norm=norm)
    shared = whole * whole * Tensor(np.ones((1, spectra.shape[1], 1), whole.dtype))
    signal, weight = overlapping(pieces * whole, hop), overlapping(shared, hop)

    start = n_fft // 2 if center else 0
    end = start + length if length is not None else signal.shape[1] - start
    signal, weight = signal[:, start:end], weight[:, start:end]
    if not weight.numel() or np.abs(weight.array).min() <= 1e-11:
        raise RuntimeError("istft: some elements of the signal are in no window: take a smaller hop_length")
    out = signal / weight
    if end - start > out.shape[1]:
        warnings.warn(f"istft: the signal has {out.shape[1]} of the {length} elements: zeros follow", stacklevel=2)
        out = pad(out, (0, end - start - out.shape[1]))
    return out if input.ndim == 3 else out[0]


Tensor.stft, Tensor.istft = stft, istft  # type: ignore[attr-defined]
__all__ = ["istft", "stft"]
