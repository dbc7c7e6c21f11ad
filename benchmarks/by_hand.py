"""A multilayer perceptron in numpy by hand, in one process and in several: what a step costs that no engine records."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from threadpoolctl import ThreadpoolController, threadpool_limits

from benchmarks.processes import Place, Turn
from benchmarks.tasks import Perceptron
from pargrad.parallel.arena import Cutter
from pargrad.parallel.shards import shard_slice


class Network:
    """Flat parameters, the gradient of a batch's mean loss, and AdamW. Every array of a step is allocated once.

    take(size, dtype): where the arrays come from that several processes may share. The short last batch uses the
    first rows of each of the others.
    """

    def __init__(self, task: Perceptron, take: Callable[[int, str], np.ndarray] = np.zeros, gradients: int = 1):
        self.task = task
        self.inputs, self.labels = task.data()
        start = task.weights()
        flat = np.concatenate([array.ravel() for array in start.values()])
        self.shapes = [array.shape for array in start.values()]
        self.values, self.first_moment, self.second_moment = (take(flat.size, "float32") for _ in range(3))
        self.gradients = [take(flat.size, "float32") for _ in range(gradients)]  # of each process
        self.scratch = np.empty_like(flat)
        self.values[:] = flat
        self.parameters = self.views(self.values)
        self.layers = list(zip(self.parameters[::2], self.parameters[1::2]))
        self.activations = [np.empty((task.batch_size, size), np.float32) for size in task.sizes]
        self.deltas = [np.empty_like(activation) for activation in self.activations]
        self.steps = 0

    def views(self, flat: np.ndarray) -> list[np.ndarray]:
        """One view for each parameter, one after the other."""
        ends = np.cumsum([np.prod(shape) for shape in self.shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends), self.shapes)]

    def gradient(self, indices: np.ndarray, batch: int, into: np.ndarray) -> float:
        """Sets `into` to the gradient of these examples' part of a mean over `batch`, and returns their losses' sum."""
        count = len(indices)
        activations = [activation[:count] for activation in self.activations]
        deltas = [delta[:count] for delta in self.deltas]
        np.take(self.inputs, indices, axis=0, out=activations[0], mode="clip")  # "raise" would gather into a copy first
        for layer, (weight, bias) in enumerate(self.layers):
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
        delta /= batch

        views = self.views(into)
        for layer in reversed(range(len(self.layers))):
            np.matmul(delta.T, activations[layer], out=views[2 * layer])
            np.sum(delta, axis=0, out=views[2 * layer + 1])
            if layer > 0:
                delta = np.matmul(delta, self.layers[layer][0], out=deltas[layer])
                delta *= activations[layer] > 0
        return loss

    def update(self, part: slice, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """One step of AdamW on a part of the parameters, with the sum of the processes' gradients."""
        self.steps += 1
        lr = self.task.lr
        gradient, scratch = self.gradients[0][part], self.scratch[part]
        values, first, second = self.values[part], self.first_moment[part], self.second_moment[part]
        for other in self.gradients[1:]:
            gradient += other[part]
        values *= 1 - lr * self.task.weight_decay
        np.subtract(gradient, first, out=scratch)
        scratch *= 1 - beta1
        first += scratch
        np.square(gradient, out=scratch)
        scratch *= 1 - beta2
        second *= beta2
        second += scratch
        np.sqrt(second, out=scratch)
        scratch *= (1 - beta2**self.steps) ** -0.5
        scratch += eps
        np.divide(first, scratch, out=scratch)
        scratch *= lr / (1 - beta1**self.steps)
        values -= scratch


class NumpyRival:
    """One process, which is the benchmark's own, and one BLAS thread."""

    def __init__(self, name: str, task: Perceptron):
        self.name, self.processes, self.threads = name, 1, 1
        self.network = Network(task)
        self.threadpools = ThreadpoolController()

    def turn(self, number: int) -> float:
        network, total = self.network, 0.0
        with self.threadpools.limit(limits=self.threads, user_api="blas"):
            for indices in network.task.batches(number):
                total += network.gradient(indices, len(indices), network.gradients[0])
                network.update(slice(None))
        return total / network.task.examples

    def close(self) -> None:
        """Nothing was started."""


def shared_size(task: Perceptron, processes: int) -> int:
    """Bytes: values, two moments and a gradient of each process; a page for the barrier."""
    size = sum(inputs * outputs + outputs for inputs, outputs in pairwise(task.sizes))
    return mmap.PAGESIZE + (3 + processes) * (4 * size + 64)


def open_shared(path: str) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


@contextlib.contextmanager
def numpy_shared(place: Place, task: Perceptron) -> Iterator[tuple[Turn, int]]:
    """Every process has its part of each batch and of the parameters; a step has two barriers, and no lock."""
    take = Cutter(open_shared(place.memory))
    counts = take(8 * place.processes, "int64")[::8]  # each on a cache line of its own
    network = Network(task, take, place.processes)
    own = network.gradients[place.rank]
    parameters = shard_slice(place.rank, place.processes, network.values.size)

    def barrier() -> None:
        counts[place.rank] += 1
        while (counts < counts[place.rank]).any():
            os.sched_yield()

    def turn(number: int) -> float:
        total = 0.0
        for indices in task.batches(number):
            mine = indices[shard_slice(place.rank, place.processes, len(indices))]
            total += network.gradient(mine, len(indices), own)
            barrier()  # all gradients are there
            network.update(parameters)
            barrier()  # all parameters are new
        return total / task.examples

    with threadpool_limits(1):
        yield turn, 1
