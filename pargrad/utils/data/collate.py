"""Batches from examples."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from pargrad.operators import FUNCTIONS
from pargrad.tensor import Tensor
from pargrad.utils.data.dataset import Subset, TensorDataset, examples


def gathered(dataset: Any, indices: list) -> list[Tensor] | None:
    """What default_collate makes of the examples of a TensorDataset, by one gather a tensor; None for others."""
    kind = type(dataset)
    if isinstance(dataset, Subset):
        as_it_is = kind.__getitem__ is Subset.__getitem__ and kind.__getitems__ is Subset.__getitems__
        return gathered(dataset.dataset, [dataset.indices[i] for i in indices]) if as_it_is else None
    if not isinstance(dataset, TensorDataset) or kind.__getitem__ is not TensorDataset.__getitem__ or not len(indices):
        return None  # a subclass may change examples
    if hasattr(dataset, "__getitems__") or any(
        type(tensor) is not Tensor or tensor.requires_grad for tensor in dataset.tensors
    ):
        return None
    try:
        places = [operator.index(i) for i in indices]
    except TypeError:
        return None
    return [Tensor(tensor.array.take(places, axis=0)) for tensor in dataset.tensors]


def collated(dataset: Any, indices: list) -> Any:
    """The examples at these indices as one batch."""
    batch = gathered(dataset, indices)
    return default_collate(examples(dataset, indices)) if batch is None else batch


def default_collate(batch: Sequence) -> Any:
    """Examples as one batch: tensors, arrays and numbers stacked, at any depth of dicts, tuples and lists.

    Python's floats become float64, as in torch, its integers int64; strings stay a list. n tensors of shape (...) give
    (n, ...): RuntimeError where shapes differ, TypeError for other kinds of objects, such as None.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        shapes = {each.shape for each in batch}
        if len(shapes) > 1:
            raise RuntimeError(
                f"default_collate: expected examples of one shape, got {' and '.join(map(str, sorted(shapes)))}: "
                "pad them in a collate_fn of your own"
            )
        return FUNCTIONS["stack"](list(batch))
    if isinstance(first, np.ndarray | np.generic) and first.dtype.kind in "biufc":
        return default_collate([Tensor(np.asarray(each)) for each in batch])
    if isinstance(first, float):
        return Tensor(np.array(batch, np.float64))
    if isinstance(first, int):
        return Tensor(np.array(batch))
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return rebuilt(first, {name: default_collate([each[name] for each in batch]) for name in first})
    if isinstance(first, Sequence):
        if any(len(each) != len(first) for each in batch):
            raise RuntimeError("default_collate: expected examples with equally many parts: write a collate_fn")
        return rebuilt(first, [default_collate(parts) for parts in zip(*batch)])
    if hasattr(first, "__array__") and not isinstance(first, np.ndarray | np.generic):
        return default_collate([np.asarray(each) for each in batch])  # tensors of other libraries
    kind = first.dtype if isinstance(first, np.ndarray | np.generic) else type(first).__name__
    raise TypeError(
        f"default_collate: expected tensors, arrays, numbers, strings, dicts and lists of them, got {kind}: "
        "write a collate_fn of your own"
    )


def default_convert(data: Any) -> Any:
    """Arrays as tensors on the same memory, at any depth of dicts, tuples and lists; all else as it is."""
    if isinstance(data, np.ndarray | np.generic) and data.dtype.kind in "biufc":
        return Tensor(np.asarray(data))
    if isinstance(data, Mapping):
        return rebuilt(data, {name: default_convert(value) for name, value in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return rebuilt(data, [default_convert(value) for value in data])
    return data


def rebuilt(like: Any, parts: Any) -> Any:
    """The parts as a mapping or sequence of the same kind as another one; of a plain tuple, a list, as in torch."""
    if hasattr(like, "_fields"):
        return type(like)(*parts)
    if type(like) in (tuple, list):
        return parts
    try:
        if isinstance(like, MutableMapping):
            out = copy.copy(like)  # with what it has besides, such as a default
            out.update(parts)
            return out
        return type(like)(parts)
    except TypeError:
        return parts
