"""A data set is a length and `batch(indices, generator)`: a tuple of arrays, the model's inputs, then the target."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pargrad.random import Generator, permutation
from pargrad.tensor import Tensor


@runtime_checkable
class Data(Protocol):
    """What the trainer asks of a data set. It must give the same arrays for the same indices and generator."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, generator: Generator) -> tuple[np.ndarray, ...]:
        """The examples at `indices` (int64, (n,)): arrays of shape (n, ...), the model's inputs, then the target."""
        ...


class ArrayData:
    """Arrays of one length as a data set; a path ending in .npy is mapped, not read."""

    def __init__(self, *arrays: Any):
        self.arrays = tuple(as_rows(array) for array in arrays)
        if len(self.arrays) < 2:
            raise ValueError(f"expected arrays (inputs, target), got {len(self.arrays)}: write (x, y)")
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"expected inputs and target of one length, got {' and '.join(map(str, lengths))} examples"
            )
        for array in self.arrays:
            if array.dtype.kind not in "biuf":
                raise TypeError(f"expected arrays of numbers, got {array.dtype}: write x.astype(numpy.float32)")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def batch(self, indices: np.ndarray, generator: Generator) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(array.take(indices, axis=0)) for array in self.arrays)  # a map's rows as plain arrays


def as_rows(array: Any) -> np.ndarray:
    if isinstance(array, str | os.PathLike):
        if not os.fspath(array).endswith(".npy"):
            raise ValueError(f"expected an array or the path of a .npy file, got {array!r}")
        return np.load(array, mmap_mode="r", allow_pickle=False)
    array = array.array if isinstance(array, Tensor) else np.asanyarray(array)
    if not array.ndim:
        raise ValueError("expected arrays of examples, got a single number")
    return array


def as_data(data: Any) -> Data:
    """`(x, y)` arrays or a data set, as a data set."""
    if isinstance(data, Data) and not isinstance(data, type):
        return data
    if isinstance(data, Sequence) and not isinstance(data, str):
        return ArrayData(*data)
    raise TypeError(
        f"expected arrays (x, y) or an object with __len__ and batch(indices, generator), got {type(data).__name__}"
    )


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of epoch `epoch`: torch's randperm seeded seed + epoch, the rule of its DistributedSampler."""
    return permutation(Generator().manual_seed(seed + epoch), examples)
