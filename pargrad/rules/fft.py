"""Discrete Fourier transforms, by numpy's pocketfft: https://docs.pytorch.org/docs/stable/fft.html

Three rules are all of torch's: complex to complex over any dims, real to half of a Hermitian spectrum, and back, each
along one dim. Padding, the order of dims and the names with n and 2 in them are made of these in `pargrad.fft`.
"""

from typing import Any

import numpy as np

from pargrad.rules.complex import complexes, is_complex
from pargrad.rules.stacks import shifted
from pargrad.rules.table import rule, sample


def along(function, arrays, stacked, settings):
    """On a stack: the same dims, one further on."""
    return function(*arrays, **{**settings, "dim": shifted(settings["dim"])})


@rule(
    sample(complexes(2, 3, 4), dim=(1,)),
    sample(complexes(4, 3), dim=(0, -1), inverse=True),
    sample(complexes(5), dim=(0,), norm="ortho"),
    sample((2, 3), dim=(-1,), norm="forward"),
    dtype="float",
    stack=along,
)
def dft(x, *, dim, norm="backward", inverse=False):
    """torch.fft.fftn and ifftn over `dim`, a tuple. Its matrix is symmetric, so that it is its own transpose."""
    transform = np.fft.ifftn if inverse else np.fft.fftn
    return transform(x, axes=dim, norm=norm), lambda g: dft(g, dim=dim, norm=norm, inverse=inverse)


def half_weights(count, size, dim, middle, dtype):
    """1 for the frequency 0 and, of an even size, the highest; `middle` for those whose conjugates are left out."""
    factors = np.full(size // 2 + 1, middle, dtype)
    factors[0] = 1
    if not size % 2:
        factors[-1] = 1
    return factors.reshape(-1, *(1,) * (count - 1 - dim % count))


OPPOSITE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
SETTINGS: tuple[dict[str, Any], ...] = ({"dim": -1}, {"dim": 0, "norm": "ortho"}, {"dim": 1, "norm": "forward"})


@rule(*(sample((4, 5, 2), **named) for named in SETTINGS), dtype="float", stack=along, holomorphic=False)
def real_dft(x, *, dim, norm="backward"):
    """torch.fft.rfft: the first half of the spectrum, whose other half is the conjugate."""
    if is_complex(x):
        raise ValueError("expected a real tensor, got a complex one: write fft, or x.real")
    count, size, dtype = x.ndim, x.shape[dim], x.dtype

    def vjp(g):
        # The transform back counts each frequency between the ends twice, for its conjugate.
        halved = g * half_weights(count, size, dim, 0.5, dtype)
        return half_dft(halved, n=size, dim=dim, norm=OPPOSITE[norm])

    return np.fft.rfft(x, axis=dim, norm=norm), vjp


@rule(
    *(sample(complexes(4, 3, 2), n=n, **named) for named, n in zip(SETTINGS, (2, 7, 4))),
    dtype="float",
    stack=along,
    holomorphic=False,
)
def half_dft(x, *, n, dim, norm="backward"):
    """torch.fft.irfft: `n` real numbers from the first n // 2 + 1 elements of their spectrum, no fewer and no more."""
    count, dtype = x.ndim, x.real.dtype
    y = np.fft.irfft(x, n, axis=dim, norm=norm)

    def vjp(g):
        return real_dft(g, dim=dim, norm=OPPOSITE[norm]) * half_weights(count, n, dim, 2, dtype)

    return y, vjp
