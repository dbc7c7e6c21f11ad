"""Dropout: what is drawn is torch's for the same seed; inside a data-parallel step it belongs to the shard.

`inplace=True` overwrites the input.
"""

from __future__ import annotations

import math

import numpy as np

from pargrad import random
from pargrad.inplace import obeying_inplace
from pargrad.sampling import memory_order
from pargrad.tensor import Tensor


def check_probability(name: str, p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability p between 0 and 1, got {p}")


def kept(shape: tuple[int, ...], p: float) -> np.ndarray:
    """Which elements are kept: booleans. At p=1 nothing is drawn, as in torch."""
    if p == 1.0:
        return np.zeros(shape, np.bool_)
    return random.bernoulli(random.current_generator(), shape, 1.0 - p)


def kept_of(input: Tensor, p: float) -> np.ndarray:
    """Which elements of the input are kept, drawn as torch draws them: in the order in which they lie in memory."""
    order = memory_order(input.array)
    return kept(tuple(input.shape[dim] for dim in order), p).transpose(np.argsort(order))


def scaled(input: Tensor, p: float, keep: np.ndarray) -> Tensor:
    """Input times a mask, which broadcasts, over the share that it keeps."""
    mask = keep.astype(input.dtype)
    return input * (mask / (1.0 - p) if p < 1.0 else mask)


def of_channels(name: str, input: Tensor) -> tuple[int, ...]:
    """The shape of a mask for the channels of each example."""
    if input.ndim < 2:
        raise RuntimeError(
            f"{name}: expected examples (dim 0) and channels (dim 1), got shape {input.shape}: write F.dropout"
        )
    return (*input.shape[:2], *(1,) * (input.ndim - 2))


def idle(name: str, input: Tensor, p: float, training: bool) -> bool:
    check_probability(name, p)
    if not training or p == 0.0 or not input.numel():
        return True
    if p < 1.0 and input.dtype.kind not in "fc":
        raise RuntimeError(f"{name}: expected a floating-point input, got {input.dtype}: write x.float()")
    return False


@obeying_inplace
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes elements with probability p and divides the others by 1 - p; the identity where not training.

    RuntimeError for integers, whose product is none. Srivastava et al. 2014.

    >>> F.dropout(pg.ones(4), p=0.5, training=False)
    tensor([1., 1., 1., 1.])
    """
    return input if idle("dropout", input, p, training) else scaled(input, p, kept_of(input, p))


@obeying_inplace
def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: input (N, C, L), or (C, L) for one example."""
    return dropout_of_channels("dropout1d", input, p, training, (2, 3), single=2)


@obeying_inplace
def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: input (N, C, H, W). (N, C, L) is taken as dropout1d takes it, as torch has it."""
    return dropout_of_channels("dropout2d", input, p, training, (3, 4), single=None)


@obeying_inplace
def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """dropout of whole channels: input (N, C, D, H, W), or (C, D, H, W) for one example."""
    return dropout_of_channels("dropout3d", input, p, training, (4, 5), single=4)


def dropout_of_channels(
    name: str, input: Tensor, p: float, training: bool, dimensions: tuple[int, int], single: int | None
) -> Tensor:
    if input.ndim not in dimensions:
        raise RuntimeError(f"{name}: expected {dimensions[0]} or {dimensions[1]} dimensions, got shape {input.shape}")
    if idle(name, input, p, training):
        return input
    batch = input.unsqueeze(0) if input.ndim == single else input
    out = scaled(batch, p, kept(of_channels(name, batch), p))
    return out[0] if input.ndim == single else out


# The value that selu approaches far below 0, its sign changed.
SELU_BELOW = 1.7580993408473766


def alpha(name: str, input: Tensor, p: float, training: bool, by_channel: bool) -> Tensor:
    if idle(name, input, p, training):
        return input
    if p == 1.0:
        return input * 0
    keep = kept(of_channels(name, input), p) if by_channel else kept_of(input, p)
    scale = 1.0 / math.sqrt((SELU_BELOW**2 * p + 1) * (1 - p))
    dropped = (keep.astype(input.dtype) - 1) * (SELU_BELOW * scale) + SELU_BELOW * scale * p
    return input * (keep.astype(input.dtype) * scale) + dropped


@obeying_inplace
def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """dropout that keeps mean 0 and variance 1, for selu: what is dropped becomes selu's lowest value.

    Klambauer et al. 2017.
    """
    return alpha("alpha_dropout", input, p, training, by_channel=False)


@obeying_inplace
def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """alpha_dropout of whole channels, dim 1."""
    return alpha("feature_alpha_dropout", input, p, training, by_channel=True)


__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]
