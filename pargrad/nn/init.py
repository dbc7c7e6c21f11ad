"""How weights begin: torch.nn.init's functions, with torch's draws. https://docs.pytorch.org/docs/stable/nn.init.html

All of them work in place, outside the graph, and give the tensor back.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad import random
from pargrad.modes import no_grad
from pargrad.random import Generator
from pargrad.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

GAINS = {
    **dict.fromkeys(["linear", "sigmoid", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3))], 1.0),
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much a nonlinearity shrinks the standard deviation, inverted; param: leaky_relu's negative slope."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in GAINS:
        raise ValueError(f"calculate_gain: expected one of {[*GAINS, 'leaky_relu']}, got {nonlinearity!r}")
    return GAINS[nonlinearity]


def fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output of a weight of shape (out, in, ...) has, and how many outputs an input."""
    if tensor.ndim < 2:
        raise ValueError(f"{name}: expected a weight of shape (out, in, ...), got shape {tensor.shape}")
    size = math.prod(tensor.shape[2:])
    return tensor.shape[1] * size, tensor.shape[0] * size


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """`fans`, under the name of torch's that scripts call though it is a private one."""
    return fans("_calculate_fan_in_and_fan_out", tensor)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """The one of both that `mode` says, under torch's private name."""
    return chosen_fan("_calculate_correct_fan", tensor, mode)


def chosen_fan(name: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{name}: expected mode 'fan_in' or 'fan_out', got {mode!r}")
    return fans(name, tensor)[mode == "fan_out"]


def matrix_shape(name: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim != 2:
        raise ValueError(f"{name}: expected a matrix, got shape {tensor.shape}")
    return tensor.shape[0], tensor.shape[1]


# ----- constants -----


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills a tensor with one value."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fills a tensor with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fills a tensor with zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Makes a matrix the identity, as far as it goes."""
    rows, columns = matrix_shape("eye_", tensor)
    tensor[...] = np.eye(rows, columns)
    return tensor


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Makes a convolution's weight (out, in, ...) pass its channels on unchanged, in each group of them."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(f"dirac_: expected a weight of 3 to 5 dimensions, (out, in, ...), got shape {tensor.shape}")
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: expected groups that divide {tensor.shape[0]} output channels, got {groups}")
    outputs = tensor.shape[0] // groups
    channel = np.arange(min(outputs, tensor.shape[1]))
    middle = tuple(length // 2 for length in tensor.shape[2:])
    tensor.zero_()
    for group in range(groups):
        tensor[(group * outputs + channel, channel, *middle)] = 1
    return tensor


# ----- random numbers -----


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills a tensor with numbers uniform in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills a tensor with normal numbers."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fills a tensor with normal numbers, of which those outside [a, b] are drawn again.

    Where few would fall inside, numbers uniform in [a, b] are drawn instead, and kept with a probability as high as
    the normal density is there, compared with its highest in [a, b].
    """
    if not a - 2 * std <= mean <= b + 2 * std:
        warnings.warn(
            f"trunc_normal_: mean {mean} is more than 2 std from [{a}, {b}]: the distribution may come out wrong",
            stacklevel=3,
        )

    def outside(values: np.ndarray) -> np.ndarray:
        return (values < values.dtype.type(a)) | (values > values.dtype.type(b))

    highest = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2

    def unlikely(values: np.ndarray) -> np.ndarray:
        density = ((values - mean) / std) ** 2 * -0.5 - highest
        with np.errstate(divide="ignore"):
            return np.log(Tensor(np.empty_like(values)).uniform_(generator=generator).array) > density

    inside = normal_below((b - mean) / std) - normal_below((a - mean) / std)
    if inside > 0.3:
        return drawn_again(tensor, lambda into: into.normal_(mean, std, generator=generator), outside)
    return drawn_again(tensor, lambda into: into.uniform_(a, b, generator=generator), unlikely)


def normal_below(x: float) -> float:
    """The probability that a standard normal number is below x."""
    return (1 + math.erf(x / math.sqrt(2.0))) / 2


def drawn_again(
    tensor: Tensor, draw: Callable[[Tensor], Tensor], refused: Callable[[np.ndarray], np.ndarray]
) -> Tensor:
    """Draws into a tensor, and again, all of it, for the elements that are refused, until none is."""
    values = draw(tensor).array
    waiting = refused(values)
    while waiting.any():
        again = draw(Tensor(np.empty_like(values))).array
        np.copyto(values, again, where=waiting)
        waiting &= refused(again)
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot and Bengio 2010: uniform in +-gain * sqrt(6 / (fan_in + fan_out))."""
    bound = math.sqrt(3.0) * xavier_std("xavier_uniform_", tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Glorot and Bengio 2010: normal, of standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, xavier_std("xavier_normal_", tensor, gain), generator)


def xavier_std(name: str, tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2.0 / sum(fans(name, tensor)))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He et al. 2015 (arXiv 1502.01852): uniform in +-gain * sqrt(3 / fan), for a weight of shape (out, in, ...)."""
    # In torch's order of operations: another order gives another last bit.
    bound = math.sqrt(3.0) * kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """He et al. 2015 (arXiv 1502.01852): normal, of standard deviation gain / sqrt(fan)."""
    return normal_(tensor, 0.0, kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


def kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan = chosen_fan(name, tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if tensor.numel() else 0.0


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Makes the rows of (out, in * ...), or where there are more of them its columns, orthonormal times gain.

    Saxe et al. 2013 (arXiv 1312.6120), uniformly among all such matrices (Mezzadri 2006, arXiv math-ph/0609050).
    """
    fans("orthogonal_", tensor)  # says what is expected
    if not tensor.numel():
        return tensor
    rows = tensor.shape[0]
    shape = rows, tensor.numel() // rows
    drawn = Tensor(np.empty(shape, tensor.dtype)).normal_(generator=generator).array
    q, r = np.linalg.qr(drawn.T if shape[0] < shape[1] else drawn)
    q *= np.sign(np.diagonal(r))
    tensor[...] = gain * (q.T if shape[0] < shape[1] else q).reshape(tensor.shape)
    return tensor


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Fills a matrix with normal numbers, and in each column a share of `sparsity` of them with zeros.

    Martens 2010, Deep learning via Hessian-free optimization. All is drawn from the generator, where torch takes the
    places of the zeros from the default one.
    """
    rows, columns = matrix_shape("sparse_", tensor)
    tensor.normal_(0.0, std, generator=generator)
    for column in range(columns):
        places = random.permutation(random.source(generator), rows)
        tensor[places[: math.ceil(sparsity * rows)], column] = 0
    return tensor


# ----- torch's names from before the underscore -----


def deprecated(function: Callable) -> Callable:
    """torch's old name of an initialization, which warns."""

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Tensor:
        warnings.warn(
            f"nn.init.{called.__name__} is deprecated: write {function.__name__}", FutureWarning, stacklevel=2
        )
        return function(*args, **named)

    called.__name__ = called.__qualname__ = function.__name__.rstrip("_")
    called.__doc__ = f"torch's old name of {function.__name__}; it warns."
    return called


uniform, normal, constant = deprecated(uniform_), deprecated(normal_), deprecated(constant_)
eye, dirac, orthogonal, sparse = deprecated(eye_), deprecated(dirac_), deprecated(orthogonal_), deprecated(sparse_)
xavier_uniform, xavier_normal = deprecated(xavier_uniform_), deprecated(xavier_normal_)
kaiming_uniform, kaiming_normal = deprecated(kaiming_uniform_), deprecated(kaiming_normal_)
