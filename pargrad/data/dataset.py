"""A data set is a length and `batch(indices, generator)`: a tuple of arrays, the model's inputs, then the target."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from pargrad.random import Generator, permutation, using
from pargrad.tensor import Tensor
from pargrad.utils.data import DataLoader, IterableDataset, TensorDataset
from pargrad.utils.data.collate import collated


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
        """The rows at these indices of each array; nothing is drawn."""
        return tuple(np.asarray(array.take(indices, axis=0)) for array in self.arrays)  # a map's rows as plain arrays

    def rows(self, start: int, stop: int) -> tuple[np.ndarray, ...]:
        """`batch` of the examples [start, stop), which lie beside each other and are copied at once."""
        return tuple(np.array(array[start:stop], order="C") for array in self.arrays)


def as_rows(array: Any) -> np.ndarray:
    if isinstance(array, str | os.PathLike):
        if not os.fspath(array).endswith(".npy"):
            raise ValueError(f"expected an array or the path of a .npy file, got {array!r}")
        return np.load(array, mmap_mode="r", allow_pickle=False)
    if isinstance(array, Tensor):
        array = array.array
    elif hasattr(array, "__dlpack__") and not hasattr(array, "__array__"):
        array = np.from_dlpack(array)
    array = np.asanyarray(array)
    if not array.ndim:
        raise ValueError("expected arrays of examples, got a single number")
    return array


class ExampleData:
    """A map-style data set of torch's kind, `dataset[i]` for one example, a tuple of arrays, as a data set."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, generator: Generator) -> tuple[np.ndarray, ...]:
        with using(generator):
            columns = collated(self.dataset, indices.tolist())
        if not isinstance(columns, list) or len(columns) < 2 or not all(isinstance(each, Tensor) for each in columns):
            raise TypeError(
                f"expected examples of {type(self.dataset).__name__} to be tuples of arrays or numbers, the model's "
                f"inputs and the target: dataset[0] is a {type(self.dataset[0]).__name__}"
            )
        return tuple(column.detach().array for column in columns)


def as_data(data: Any) -> Data:
    """`(x, y)` arrays or a data set, of pargrad's kind or of torch's, as a data set.

    Arrays are numpy's, mapped files, paths of .npy files, and all that has `__array__` or `__dlpack__`: tensors and
    tables of other libraries. A list of tuples is a data set of examples. What only gives batches one after the other
    is refused: the trainer needs examples by number, to shuffle, cut and resume.

    >>> from pargrad.data import as_data
    >>> len(as_data((np.zeros((5, 3)), np.zeros(5))))
    5
    """
    if isinstance(data, Data) and not isinstance(data, type):
        return data
    if isinstance(data, list) and data and isinstance(data[0], tuple):
        return ExampleData(data)
    if isinstance(data, Sequence) and not isinstance(data, str):
        return ArrayData(*data)
    if isinstance(data, DataLoader | IterableDataset) or (
        hasattr(data, "__iter__") and not hasattr(data, "__getitem__")
    ):
        has_dataset = hasattr(data, "dataset")
        instead = "its dataset (loader.dataset)" if has_dataset else "(x, y) arrays or a data set with __getitem__"
        raise TypeError(
            f"expected a data set whose examples have numbers, got {type(data).__name__}: batches are cut and shuffled "
            f"by the trainer itself, so give it {instead}"
        )
    if type(data) is TensorDataset:
        return ArrayData(*data.tensors)
    if has_items(data):
        return ExampleData(data)
    raise TypeError(
        "expected arrays (x, y) or an object with __len__ and either batch(indices, generator) or __getitem__, "
        f"got {type(data).__name__}"
    )


def has_items(data: Any) -> bool:
    """Whether it has examples by number: a loader gives batches in its order, and a table's items are its columns."""
    arrays = isinstance(data, type | str | Mapping) or hasattr(data, "__array__")
    return hasattr(data, "__getitem__") and not arrays


def first_not_finite(data: Data, indices: np.ndarray) -> str | None:
    """Which of these examples has nan or an infinity in it, and where; None where they have none."""
    if type(data) is not ArrayData:
        return None  # whose examples may be drawn
    for number, array in enumerate(data.arrays):
        rows = array.take(indices, axis=0)
        wrong = np.argwhere(~np.isfinite(rows)) if rows.dtype.kind == "f" else np.empty((0, 1))
        if len(wrong):
            what = "target" if number == len(data.arrays) - 1 else f"input {number}" if number else "input"
            place = f" at {wrong[0][1:].tolist()}" if rows.ndim > 1 else ""
            return f"the {what} of example {indices[wrong[0][0]]} of the data is {rows[tuple(wrong[0])]}{place}"
    return None


def epoch_order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of epoch `epoch`: torch's randperm seeded seed + epoch, the rule of its DistributedSampler."""
    return permutation(Generator().manual_seed(seed + epoch), examples)
