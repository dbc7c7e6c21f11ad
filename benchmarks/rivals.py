"""The rivals: one small network trained by pargrad, by numpy written out by hand, and by torch, with DDP and without.

A rival has a `name`, the `processes` that compute and the `threads` of each, `epoch(number)`, which trains one epoch
and returns its mean loss over the examples, and `close()`. An epoch is training and nothing else: the shuffle, the
gathers, the steps, the short last batch. What has to start has started when the rival has been made, or does so in the
first epoch, which nobody times.
"""

import contextlib
import functools
import logging
import multiprocessing
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer
from pargrad.random import Generator, permutation


@dataclass(frozen=True)
class Task:
    """What every rival trains: the data, the first weights, the order of the examples and the settings of AdamW."""

    examples: int = 60_000
    sizes: tuple[int, ...] = (784, 128, 64, 10)
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0

    @functools.cache  # noqa: B019  (the rivals of one process share one copy of the data)
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Normal noise around one centre a class, near enough to each other that the loss never comes down to zero.

        Drawn anew in each process, and the same in all: nothing here rounds differently on more threads.
        """
        generator = np.random.default_rng(self.seed)
        labels = generator.integers(self.sizes[-1], size=self.examples)
        centres = generator.standard_normal((self.sizes[-1], self.sizes[0]), dtype=np.float32) * np.float32(0.1)
        inputs = generator.standard_normal((self.examples, self.sizes[0]), dtype=np.float32)
        inputs += centres[labels]
        return inputs, labels

    def weights(self) -> dict[str, np.ndarray]:
        """The first weights, under the names they have in `multilayer_perceptron`."""
        generator = np.random.default_rng(self.seed + 1)
        weights = {}
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            bound = inputs**-0.5
            weights[f"{2 * layer}.weight"] = generator.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
            weights[f"{2 * layer}.bias"] = generator.uniform(-bound, bound, outputs).astype(np.float32)
        return weights

    def order(self, epoch: int) -> np.ndarray:
        """torch.randperm with a generator seeded `seed + epoch`, for those who have no torch."""
        return permutation(Generator().manual_seed(self.seed + epoch), self.examples)


class Rival(Protocol):
    """The interface; see the head of this module."""

    name: str
    processes: int
    threads: int

    def epoch(self, number: int) -> float: ...

    def close(self) -> None: ...


def multilayer_perceptron(nn: ModuleType, sizes: Sequence[int]) -> Any:
    """The model, made of the `nn` of either torch or pargrad: they have the same names."""
    layers = [layer for inputs, outputs in pairwise(sizes) for layer in (nn.Linear(inputs, outputs), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class NumpyRival:
    """numpy by hand: what a step costs when no engine records it, in one process with one BLAS thread.

    Every array of a step is allocated once; the short last batch uses the first rows of each.
    """

    def __init__(self, name: str, task: Task):
        self.name, self.processes, self.threads = name, 1, 1
        self.task = task
        self.inputs, self.labels = task.data()
        start = task.weights()
        self.values = np.concatenate([array.ravel() for array in start.values()])
        self.gradients, self.first_moment, self.second_moment = (np.zeros_like(self.values) for _ in range(3))
        self.scratch = np.empty_like(self.values)
        shapes = [array.shape for array in start.values()]
        parameters, gradients = _views(self.values, shapes), _views(self.gradients, shapes)
        self.layers = list(zip(parameters[::2], parameters[1::2], gradients[::2], gradients[1::2]))
        self.activations = [np.empty((task.batch_size, size), np.float32) for size in task.sizes]
        self.deltas = [np.empty_like(activation) for activation in self.activations]
        self.steps = 0
        self.threadpools = ThreadpoolController()

    def epoch(self, number: int) -> float:
        order = self.task.order(number)
        total = 0.0
        with self.threadpools.limit(limits=self.threads, user_api="blas"):
            for start in range(0, len(order), self.task.batch_size):
                indices = order[start : start + self.task.batch_size]
                total += self._gradient(indices)
                self._update()
        return total / len(order)

    def _gradient(self, indices: np.ndarray) -> float:
        """Sets `gradients` to the gradient of the batch's mean loss, and returns the sum of its losses."""
        count = len(indices)
        activations = [activation[:count] for activation in self.activations]
        deltas = [delta[:count] for delta in self.deltas]
        np.take(self.inputs, indices, axis=0, out=activations[0], mode="clip")  # "raise" would gather into a copy first
        for layer, (weight, bias, _, _) in enumerate(self.layers):
            output = np.matmul(activations[layer], weight.T, out=activations[layer + 1])
            output += bias
            if layer + 1 < len(self.layers):
                np.maximum(output, 0, out=output)

        scores, delta = activations[-1], deltas[-1]
        target = np.arange(count), self.labels[indices]
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=delta)
        normalizer = delta.sum(axis=1, keepdims=True)
        loss = float(np.log(normalizer).sum() - scores[target].sum())
        delta /= normalizer
        delta[target] -= 1
        delta /= count

        for layer, (weight, _, weight_gradient, bias_gradient) in reversed(list(enumerate(self.layers))):
            np.matmul(delta.T, activations[layer], out=weight_gradient)
            np.sum(delta, axis=0, out=bias_gradient)
            if layer > 0:
                delta = np.matmul(delta, weight, out=deltas[layer])
                delta *= activations[layer] > 0
        return loss

    def _update(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """One step of AdamW on all parameters at once."""
        self.steps += 1
        lr = self.task.lr
        self.values *= 1 - lr * self.task.weight_decay
        scratch = np.subtract(self.gradients, self.first_moment, out=self.scratch)
        scratch *= 1 - beta1
        self.first_moment += scratch
        np.square(self.gradients, out=scratch)
        scratch *= 1 - beta2
        self.second_moment *= beta2
        self.second_moment += scratch
        np.sqrt(self.second_moment, out=scratch)
        scratch *= (1 - beta2**self.steps) ** -0.5
        scratch += eps
        np.divide(self.first_moment, scratch, out=scratch)
        scratch *= lr / (1 - beta1**self.steps)
        self.values -= scratch

    def close(self) -> None:
        """Nothing was started."""


def _views(flat: np.ndarray, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """One view of `flat` for each of the shapes, one after the other."""
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes)]


class TorchRival:
    """torch in processes of its own: one with all of torch's threads, or several with one thread each under DDP (gloo).

    It is not in the benchmark's own process so that neither the threads of torch nor those of numpy are limited by what
    the other is told. Between two epochs the processes sleep, reading a pipe.
    """

    def __init__(self, name: str, task: Task, *, processes: int):
        # DDP averages the means of its processes, which is the mean of the batch only when all have as many examples.
        if task.examples % processes or task.batch_size % processes:
            raise ValueError(
                f"{name}: {task.examples} examples in batches of {task.batch_size} do not fall into {processes} equal "
                f"parts; take numbers that are multiples of {processes}"
            )
        self.name, self.processes = name, processes
        self.examples = task.examples
        self.directory = tempfile.TemporaryDirectory()
        meeting = (Path(self.directory.name) / "meeting").as_uri()
        context = multiprocessing.get_context("spawn")
        self.children: list[Any] = []
        self.connections: list[Any] = []
        try:
            for rank in range(processes):
                connection, far_end = context.Pipe()
                arguments = (task, rank, processes, meeting, far_end)
                child = context.Process(target=_torch_process, args=arguments, daemon=True)
                self.connections.append(connection)
                child.start()
                self.children.append(child)
                far_end.close()  # so that a child that ends is seen as an end of file
            self.threads = self._ask("threads")[0]
        except BaseException:
            self.close()
            raise

    def epoch(self, number: int) -> float:
        return sum(self._ask(number)) / self.examples

    def _ask(self, question: int | str) -> list[Any]:
        """One answer from each process, read as they come: the others would wait long for one that has ended."""
        answers = dict.fromkeys(self.connections)
        waiting = list(self.connections)
        try:
            for connection in self.connections:
                connection.send(question)
            while waiting:
                for connection in wait(waiting):
                    answers[connection] = connection.recv()
                    waiting.remove(connection)
        except (EOFError, OSError):
            raise RuntimeError(f"{self.name}: one of its processes ended; its error is printed above") from None
        return list(answers.values())

    def close(self) -> None:
        for connection in self.connections:
            connection.close()  # the child reads the end of the file, and ends
        for child in self.children:
            child.join(timeout=5)
            child.kill()
            child.join()
        self.directory.cleanup()


def _torch_process(task: Task, rank: int, processes: int, meeting: str, connection: Connection) -> None:
    """One process of a TorchRival: trains its part of every batch in each epoch that it is sent the number of.

    It first says how many threads it has, which is also how the benchmark knows that it is ready.
    """
    import torch
    import torch.distributed
    from torch.nn.parallel import DistributedDataParallel

    model = multilayer_perceptron(torch.nn, task.sizes)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in task.weights().items()})
    if processes > 1:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
        model = DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay, fused=True)
    inputs, labels = (torch.from_numpy(array) for array in task.data())

    def epoch(number: int) -> float:
        generator = torch.Generator().manual_seed(task.seed + number)
        mine = torch.randperm(task.examples, generator=generator)[rank::processes]  # as DistributedSampler deals them
        total = 0.0
        for batch in mine.split(task.batch_size // processes):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        return total

    with contextlib.suppress(EOFError):  # the benchmark has closed its end, or is gone
        while True:
            question = connection.recv()
            connection.send(torch.get_num_threads() if question == "threads" else epoch(question))
    if processes > 1:
        torch.distributed.destroy_process_group()


class PargradRival:
    """pargrad's Trainer: `workers` Ray actors, or none, in which case the steps run in this process."""

    def __init__(self, name: str, task: Task, *, workers: int, shards: int):
        self.name, self.processes, self.threads = name, max(workers, 1), 1
        self.data = task.data()
        model = multilayer_perceptron(nn, task.sizes)
        model.load_state_dict(task.weights())
        optimizer = optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay)
        self.trainer = Trainer(
            model,
            F.cross_entropy,
            optimizer,
            batch_size=task.batch_size,
            shards=shards,
            num_workers=workers,
            address="auto",
            seed=task.seed,
            progress="off",
        )

    def epoch(self, number: int) -> float:
        latest = self.trainer.fit(self.data, epochs=1)[-1]
        if latest["epoch"] != number:  # its order is that of another epoch, so it would not train the same thing
            raise ValueError(f"{self.name}: asked for epoch {number}, the trainer went on with epoch {latest['epoch']}")
        return latest["loss"]

    def close(self) -> None:
        self.trainer.close()


# Workers and shards: with 8 shards the bits are the same for all; as many shards as workers is what DDP computes.
PARGRAD = {f"pargrad-workers-{w}-shards-{s}": (w, s) for w, s in [(0, 8), (1, 8), (2, 8), (1, 1), (2, 2)]}

RIVALS: dict[str, Callable[[str, Task], Rival]] = {
    "numpy": NumpyRival,
    "torch": functools.partial(TorchRival, processes=1),
    "torch-ddp": functools.partial(TorchRival, processes=2),
    **{name: functools.partial(PargradRival, workers=w, shards=s) for name, (w, s) in PARGRAD.items()},
}


@contextlib.contextmanager
def open_rivals(task: Task, names: Sequence[str]) -> Iterator[list[Rival]]:
    """The rivals of these names, ready to train; all that they started has ended afterwards."""
    workers = sum(workers for name, (workers, _) in PARGRAD.items() if name in names)
    with contextlib.ExitStack() as stack:
        if workers:
            stack.enter_context(_ray(workers))
        rivals = []
        for name in names:
            rivals.append(RIVALS[name](name, task))
            stack.callback(rivals[-1].close)
        yield rivals


@contextlib.contextmanager
def _ray(workers: int) -> Iterator[None]:
    """A Ray that counts one core for every worker of every rival: they take turns, so that the real ones suffice."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the trainer starts its own
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    ray.init(
        address="local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=100_000_000,  # bytes; the arrays travel elsewhere
    )
    try:
        yield
    finally:
        ray.shutdown()
