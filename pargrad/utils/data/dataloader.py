"""The DataLoader: batches of a data set, one after the other."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from pargrad import random
from pargrad.random import Generator
from pargrad.utils.data.collate import collated, default_collate, default_convert
from pargrad.utils.data.dataset import IterableDataset, examples
from pargrad.utils.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed


class WorkerInfo(NamedTuple):
    """What get_worker_info() gives inside a worker."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


class _Working(threading.local):
    info: WorkerInfo | None = None


_working = _Working()


def get_worker_info() -> WorkerInfo | None:
    """Inside a data set that a DataLoader's worker reads, which one it is; elsewhere None."""
    return _working.info


class Worker:
    """A turn in making batches: inside `with worker`, draws come from its own generator, as in torch's process."""

    def __init__(self, info: WorkerInfo):
        self.info, self.draws = info, random.using(Generator().manual_seed(info.seed))

    def __enter__(self) -> None:
        self.before, _working.info = _working.info, self.info
        self.draws.__enter__()

    def __exit__(self, *error: object) -> None:
        _working.info = self.before
        self.draws.__exit__(*error)


END: Any = object()  # there is nothing more


class DataLoader:
    """Batches of a data set: https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.DataLoader

    batch_size=None: examples by themselves, not collated. A sampler or batch_sampler takes the place of shuffle, a
    batch_sampler that of batch_size, too: ValueError for both.
    num_workers: no processes are started; batches are made in this one, when they are asked for, in the order and with
    the random numbers (pargrad's) that torch's workers would have: batch i is worker i % num_workers's, whose
    generator is seeded base seed + its id. Python's and numpy's own generators are not seeded. All workers read the
    same data set object. `pargrad.parallel.Trainer` is what reads data in parallel.
    pin_memory, timeout, multiprocessing_context, prefetch_factor, pin_memory_device, in_order: taken, mean nothing.

    >>> data = pg.utils.data.TensorDataset(pg.arange(5), pg.arange(5) * 10)
    >>> [x.tolist() for x, y in pg.utils.data.DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable | None = None,
        batch_sampler: Iterable | None = None,
        num_workers: int = 0,
        collate_fn: Callable | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ):
        self._iterable = isinstance(dataset, IterableDataset)
        check_choices(self._iterable, batch_size, shuffle, sampler, batch_sampler, num_workers, drop_last)
        if sampler is None:
            if self._iterable:
                sampler = Endless()
            else:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self._batched = batch_sampler is not None
        self.dataset, self.batch_size, self.drop_last, self.generator = dataset, batch_size, drop_last, generator
        self.sampler, self.batch_sampler = sampler, batch_sampler
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self.num_workers, self.worker_init_fn = num_workers, worker_init_fn
        self.persistent_workers = persistent_workers
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.timeout, self.prefetch_factor, self.in_order = timeout, prefetch_factor, in_order
        self.multiprocessing_context = multiprocessing_context
        self._workers: list[AbstractContextManager] = []

    @property
    def _places(self) -> Iterable:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def __iter__(self) -> Iterator[Any]:
        places = iter(self._places)
        if not (self._workers and self.num_workers and self.persistent_workers):
            # Drawn whether it is used or not, so that what is drawn next is what torch draws.
            self._workers = self._begin(draw_seed(self.generator))
        return self._batches(places, self._workers)

    def _begin(self, seed: int) -> list[AbstractContextManager]:
        if not self.num_workers:
            return [nullcontext()]
        workers = [Worker(WorkerInfo(i, self.num_workers, seed + i, self.dataset)) for i in range(self.num_workers)]
        for worker in workers if self.worker_init_fn else ():
            with worker:
                self.worker_init_fn(worker.info.id)  # type: ignore[misc]
        return list(workers)

    def _batches(self, places: Iterator, workers: list[AbstractContextManager]) -> Iterator[Any]:
        turns: deque = deque()
        for worker in workers:
            with worker:
                turns.append((worker, self._stream() if self._iterable else self._fetch))
        while turns:
            place = next(places, END)
            if place is END:
                return
            worker, fetch = turns.popleft()
            with worker:
                batch = fetch(place)
            if batch is not END:
                turns.append((worker, fetch))
                yield batch

    def _fetch(self, place: Any) -> Any:
        if not self._batched:
            return self.collate_fn(self.dataset[place])
        if self.collate_fn is default_collate:
            return collated(self.dataset, place)
        return self.collate_fn(examples(self.dataset, place))

    def _stream(self) -> Callable[[Any], Any]:
        """A function that gives the next batch of an IterableDataset, or END."""
        stream = iter(self.dataset)

        def fetch(place: Any) -> Any:
            if not self._batched:
                example = next(stream, END)
                return END if example is END else self.collate_fn(example)
            batch = list(itertools.islice(stream, len(place)))
            if not batch or (self.drop_last and len(batch) < len(place)):
                return END
            return self.collate_fn(batch)

        return fetch

    def __len__(self) -> int:
        """The number of batches; of an IterableDataset, by the length that it says it has."""
        if not self._iterable:
            return len(self._places)  # type: ignore[arg-type]
        count = len(self.dataset)
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)


def check_choices(
    iterable: bool,
    batch_size: int | None,
    shuffle: bool | None,
    sampler: Iterable | None,
    batch_sampler: Iterable | None,
    num_workers: int,
    drop_last: bool,
) -> None:
    """Raises ValueError where two of them say the same thing."""
    if num_workers < 0:
        raise ValueError(f"DataLoader: expected num_workers from 0 on, got {num_workers}")
    if iterable and (shuffle or sampler is not None or batch_sampler is not None):
        raise ValueError(
            "DataLoader: an IterableDataset says its order itself: leave out shuffle, sampler and batch_sampler"
        )
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError(
            "DataLoader: a batch_sampler says the batches itself: leave out batch_size, shuffle, sampler and drop_last"
        )
    if sampler is not None and shuffle:
        raise ValueError("DataLoader: a sampler says the order itself: leave out shuffle")
    if batch_sampler is None and batch_size is None and drop_last:
        raise ValueError("DataLoader: batch_size=None gives examples by themselves: leave out drop_last")


class Endless(Sampler):
    """The places of a stream, which has none."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)
