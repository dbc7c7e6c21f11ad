"""pargrad: a numpy autograd engine with PyTorch's names, and data-parallel training on CPUs.

`import pargrad` loads numpy and nothing heavier; `pargrad.parallel` is imported where training starts.
"""

import numpy as _numpy

from pargrad import nn, operators, optim, random, special
from pargrad.creation import (
    arange,
    as_tensor,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randint,
    randperm,
    tensor,
    zeros,
    zeros_like,
)
from pargrad.random import Generator, manual_seed
from pargrad.tensor import Tensor, enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from pargrad.version import __version__ as __version__

float32, float64 = _numpy.dtype("float32"), _numpy.dtype("float64")
int32, int64, uint8 = _numpy.dtype("int32"), _numpy.dtype("int64"), _numpy.dtype("uint8")
bool = _numpy.dtype("bool")  # torch's name

globals().update(operators.PUBLIC)

__all__ = [
    "Generator",
    "Tensor",
    "arange",
    "as_tensor",
    "bool",
    "enable_grad",
    "float32",
    "float64",
    "from_numpy",
    "full",
    "int32",
    "int64",
    "is_grad_enabled",
    "manual_seed",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "rand",
    "randint",
    "random",
    "randperm",
    "set_grad_enabled",
    "special",
    "tensor",
    "uint8",
    "zeros",
    "zeros_like",
    *operators.PUBLIC,
]
