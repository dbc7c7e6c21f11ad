"""Samplers: orders of examples, torch's for the same generator."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic

import numpy as np

from pargrad import random
from pargrad.random import Generator
from pargrad.sampling import multinomial
from pargrad.tensor import Tensor
from pargrad.utils.data.dataset import Example


class Sampler(Generic[Example]):
    """An order of examples: a subclass has `__iter__`, and `__len__` where the DataLoader's is asked for."""

    def __init__(self, data_source: Any = None):
        pass

    def __iter__(self) -> Iterator[Example]:
        raise NotImplementedError(f"{type(self).__name__} has no order: write `def __iter__(self): ...`")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... to the last example of data_source."""

    def __init__(self, data_source: Any):
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Permutations, one after the other, up to num_samples; with replacement, each number drawn by itself.

    Without a generator each epoch begins one of its own, which is seeded from the default generator.
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ):
        self.data_source, self.replacement, self.generator = (
            data_source,
            check_bool("replacement", replacement),
            generator,
        )
        self._num_samples = num_samples
        if num_samples is not None or not len(data_source):
            check_count("num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        count, generator = len(self.data_source), self.generator
        if generator is None:
            generator = Generator().manual_seed(draw_seed(None))
        if self.replacement:
            for start in range(0, self.num_samples, 32):
                size = min(32, self.num_samples - start)
                yield from random.integers(generator, 0, count, (size,)).tolist()
        else:
            for _ in range(self.num_samples // count):
                yield from random.permutation(generator, count).tolist()
            yield from random.permutation(generator, count).tolist()[: self.num_samples % count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """A permutation of these indices, another one each epoch; without a generator from the default one."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None):
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        for i in random.permutation(random.source(self.generator), len(self.indices)).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """num_samples indices an epoch, drawn with probabilities in proportion to weights (n,), which are taken as float64.

    ValueError for weights of another shape; without replacement RuntimeError for more samples than weights.
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ):
        values = weights.array if isinstance(weights, Tensor) else weights
        self.weights = Tensor(np.array(values, np.float64))
        if self.weights.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: expected weights in a row, got shape {self.weights.shape}")
        self.num_samples = check_count("num_samples", num_samples)
        self.replacement, self.generator = check_bool("replacement", replacement), generator

    def __iter__(self) -> Iterator[int]:
        yield from multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list]):
    """Lists of batch_size of what another sampler gives; the last is shorter, or left out with drop_last."""

    def __init__(self, sampler: Iterable, batch_size: int, drop_last: bool):
        self.sampler, self.batch_size = sampler, check_count("batch_size", batch_size)
        self.drop_last = check_bool("drop_last", drop_last)

    def __iter__(self) -> Iterator[list]:
        places = iter(self.sampler)
        while batch := list(itertools.islice(places, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def check_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"expected {name} to be a whole number from 1 on, got {value!r}")
    return int(value)


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} to be True or False, got {value!r}")
    return value


def draw_seed(generator: Generator | None) -> int:
    return int(random.any_integers(random.source(generator), (), np.int64))
