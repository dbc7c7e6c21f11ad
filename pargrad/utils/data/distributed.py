"""The sampler of one process out of several that share a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pargrad import random
from pargrad.random import Generator
from pargrad.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every num_replicas-th example from number `rank` on, of an order that all replicas share.

    The order of epoch e (`set_epoch`) is the permutation seeded seed + e. Examples are repeated so that all replicas
    get equally many, or with drop_last left out. There is no process group to ask for num_replicas and rank: give
    them. `pargrad.parallel.Trainer` needs no such sampler, and neither repeats nor drops.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ):
        if num_replicas is None or rank is None:
            raise RuntimeError("DistributedSampler: there is no process group here: write num_replicas=..., rank=...")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"DistributedSampler: expected rank from 0 to {num_replicas - 1}, got {rank}")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.seed, self.drop_last, self.epoch = shuffle, seed, drop_last, 0
        count = len(dataset)
        self.num_samples = count // num_replicas if drop_last else -(-count // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        if self.shuffle:
            order = random.permutation(Generator().manual_seed(self.seed + self.epoch), count)
        else:
            order = np.arange(count)
        return iter(np.resize(order, self.total_size)[self.rank :: self.num_replicas].tolist())

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Makes `epoch` the one whose order comes next."""
        self.epoch = epoch
