"""pargrad: a numpy autograd engine with PyTorch's names, and data-parallel training on CPUs.

`import pargrad` loads numpy and nothing heavier; `pargrad.parallel` is imported where training starts.
"""

import numpy as _numpy

from pargrad import autograd, creation, fft, func, linalg, nn, operators, optim, random, sampling, special, utils, viz
from pargrad.creation import *  # noqa: F403
from pargrad.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from pargrad.random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from pargrad.sampling import *  # noqa: F403
from pargrad.spectral import istft, stft
from pargrad.tensor import Tensor
from pargrad.version import __version__ as __version__

# torch's names for numpy's dtypes; it has bfloat16, too, which numpy has not.
bool = _numpy.dtype("bool")
uint8, uint16, uint32, uint64 = (_numpy.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
int8, int16, int32, int64 = (_numpy.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (_numpy.dtype(f"float{bits}") for bits in (16, 32, 64))
complex64, complex128 = (_numpy.dtype(f"complex{bits}") for bits in (64, 128))
short, int, long = int16, int32, int64
half, float, double = float16, float32, float64
cfloat, cdouble = complex64, complex128
_DTYPES = [name for name, value in globals().items() if isinstance(value, _numpy.dtype)]

globals().update(operators.PUBLIC)

__all__ = [
    "Generator",
    "Tensor",
    "autograd",
    "default_generator",
    "enable_grad",
    "fft",
    "func",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "linalg",
    "get_rng_state",
    "initial_seed",
    "istft",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "random",
    "seed",
    "set_grad_enabled",
    "set_rng_state",
    "special",
    "utils",
    "viz",
    "stft",
    *_DTYPES,
    *creation.__all__,
    *operators.PUBLIC,
    *sampling.__all__,
]
