"""pargrad: a numpy autograd engine with PyTorch's names, and data-parallel training on CPUs.

`import pargrad` loads numpy and nothing heavier; `pargrad.parallel` is imported where training starts.
"""

from math import e, inf, nan, pi
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

import numpy as _numpy

from pargrad import (
    accelerator,
    amp,
    autograd,
    backends,
    creation,
    cuda,
    distributions,
    dtypes,
    fft,
    func,
    linalg,
    masked,
    nn,
    operators,
    optim,
    random,
    sampling,
    signal,
    special,
    testing,
    utils,
    viz,
)
from pargrad.amp import GradScaler, autocast
from pargrad.creation import *  # noqa: F403
from pargrad.device import *  # noqa: F403
from pargrad.device import __all__ as _DEVICE
from pargrad.dtypes import *  # noqa: F403
from pargrad.func import vmap
from pargrad.interchange import from_torch, to_torch
from pargrad.lowrank import pca_lowrank, svd_lowrank
from pargrad.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from pargrad.printing import set_printoptions
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
from pargrad.serialization import load, save
from pargrad.spectral import istft, stft
from pargrad.tensor import Tensor
from pargrad.version import __version__ as __version__

# torch's names for numpy's dtypes.
bool = _numpy.dtype("bool")
uint8, uint16, uint32, uint64 = (_numpy.dtype(f"uint{bits}") for bits in (8, 16, 32, 64))
int8, int16, int32, int64 = (_numpy.dtype(f"int{bits}") for bits in (8, 16, 32, 64))
float16, float32, float64 = (_numpy.dtype(f"float{bits}") for bits in (16, 32, 64))
complex64, complex128 = (_numpy.dtype(f"complex{bits}") for bits in (64, 128))
short, int, long = int16, int32, int64
half, float, double = float16, float32, float64
cfloat, cdouble = complex64, complex128
_DTYPES = [name for name, value in globals().items() if isinstance(value, _numpy.dtype)]

if _TYPE_CHECKING:  # the operators are made from the table of rules

    def __getattr__(name: str) -> _Any: ...


globals().update(operators.PUBLIC)
# What torch also has at its top level, with the same arguments.
_LAYERS = """
    adaptive_avg_pool1d avg_pool1d bilinear celu celu_ channel_shuffle conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d cosine_similarity group_norm hardshrink layer_norm max_pool1d max_pool2d
    max_pool3d pairwise_distance pdist pixel_shuffle pixel_unshuffle prelu rms_norm rrelu rrelu_ selu selu_
    threshold threshold_
""".split()  # noqa: SIM905
globals().update({name: getattr(nn.functional, name) for name in _LAYERS})

__all__ = [
    "Generator",
    "GradScaler",
    "Tensor",
    "accelerator",
    "amp",
    "autocast",
    "autograd",
    "backends",
    "cuda",
    "default_generator",
    "distributions",
    "enable_grad",
    "fft",
    "from_torch",
    "to_torch",
    "e",
    "func",
    "inf",
    "nan",
    "pi",
    "vmap",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "linalg",
    "pca_lowrank",
    "svd_lowrank",
    "masked",
    "load",
    "get_rng_state",
    "initial_seed",
    "istft",
    "manual_seed",
    "nn",
    "no_grad",
    "optim",
    "random",
    "save",
    "seed",
    "set_grad_enabled",
    "set_printoptions",
    "set_rng_state",
    "signal",
    "special",
    "testing",
    "utils",
    "viz",
    "stft",
    *_DTYPES,
    *_DEVICE,
    *creation.__all__,
    *dtypes.__all__,
    *operators.PUBLIC,
    *_LAYERS,
    *sampling.__all__,
]
operators.documentation.add_pages("", {name: globals()[name] for name in __all__})
