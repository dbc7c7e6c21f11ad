"""Data sets: by number (map-style), as streams, and made of others."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from pargrad import random
from pargrad.random import Generator
from pargrad.tensor import Tensor

Example = TypeVar("Example", covariant=True)


class Dataset(Generic[Example]):
    """A map-style data set: a subclass has `__getitem__(index)`, an example, and `__len__()`."""

    def __getitem__(self, index: Any) -> Example:
        raise NotImplementedError(f"{type(self).__name__} has no examples: write `def __getitem__(self, index): ...`")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[Example]):
    """A data set that comes as a stream: a subclass has `__iter__`."""

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError(f"{type(self).__name__} has no stream: write `def __iter__(self): ...`")

    def __add__(self, other: Dataset) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple]):
    """One tensor or more, of one length, else ValueError: example i is the tuple of their rows i."""

    def __init__(self, *tensors: Tensor):
        if not tensors:
            raise ValueError("TensorDataset: expected at least one tensor, got none: write TensorDataset(x, y)")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"TensorDataset: expected tensors of one length, got {' and '.join(map(str, lengths))}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset):
    """Data sets side by side: an example is a tuple of theirs, or a dict where they were given by name.

    ValueError unless they have one length.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        if bool(args) == bool(kwargs):
            raise ValueError("StackDataset: expected data sets either by position or by name")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in (args or kwargs.values())]
        if len(set(lengths)) > 1:
            raise ValueError(f"StackDataset: expected data sets of one length, got {' and '.join(map(str, lengths))}")
        self._length = lengths[0]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[Example]):
    """Map-style data sets, one behind the other; an index below 0 counts from the end.

    ValueError for none, TypeError for an IterableDataset, which `ChainDataset` takes.
    """

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: expected at least one data set, got none")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: an IterableDataset has no examples by number: write ChainDataset(...)")
        self.cumulative_sizes = list(itertools.accumulate(map(len, self.datasets)))

    def __getitem__(self, index: int) -> Example:
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of a data set of {len(self)}")
        index = index % len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


class ChainDataset(IterableDataset):
    """Iterable data sets, one behind the other; TypeError, when it gets there, for one that is none."""

    def __init__(self, datasets: Iterable[Any]):
        self.datasets = datasets

    def __iter__(self) -> Iterator:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                raise TypeError(f"ChainDataset: expected IterableDatasets, got {type(dataset).__name__}")
            yield from dataset

    def __len__(self) -> int:
        return sum(map(len, self.datasets))  # type: ignore[arg-type]


class Subset(Dataset[Example]):
    """The examples of a data set at these indices: example i is dataset[indices[i]]."""

    def __init__(self, dataset: Any, indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list:
        return examples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Cuts a data set at random into parts of these lengths, or of these fractions where they add up to 1.

    What fractions leave over goes to the parts in turn. The permutation is torch's for the same generator.
    ValueError for lengths that do not add up to the data set's; a warning for a fraction that comes to no example.

    >>> [len(part) for part in pg.utils.data.random_split(range(10), [0.7, 0.3])]
    [7, 3]
    """
    count = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"random_split: expected fractions from 0 to 1, got lengths[{i}]={fraction}")
        floors = [math.floor(count * fraction) for fraction in lengths]
        rest = count - sum(floors)
        lengths = [size + rest // len(floors) + (i < rest % len(floors)) for i, size in enumerate(floors)]
        for i, size in enumerate(lengths):
            if not size:
                warnings.warn(f"random_split: part {i} of {count} examples is empty", stacklevel=2)
    if sum(lengths) != count:
        raise ValueError(f"random_split: expected lengths that add up to {count}, got {list(lengths)}")
    order = random.permutation(random.source(generator), count).tolist()
    ends = itertools.accumulate(map(int, lengths))
    return [Subset(dataset, order[end - int(size) : end]) for end, size in zip(ends, lengths)]


def examples(dataset: Any, indices: list) -> list:
    together = getattr(dataset, "__getitems__", None)
    return [dataset[i] for i in indices] if together is None else together(indices)
