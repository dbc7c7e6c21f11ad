"""Tasks: what all rivals of a contest train or score, of models that are written once for pargrad and for torch.

A task is plain data: it is sent to other processes, and each of them makes the same arrays of it.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import pargrad
from examples import EXCERPT
from pargrad.random import Generator, permutation

CONTEXT = 64  # characters that the GPT of the examples sees


@dataclass(frozen=True)
class Task:
    """The data, the first weights, the order of the examples and the settings of AdamW. Abstract."""

    examples: int = 60_000
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0

    @property
    def title(self) -> str:
        """What a table calls it."""
        raise NotImplementedError

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets, drawn from a generator."""
        raise NotImplementedError

    def model(self, library: ModuleType) -> Any:
        """The model, made of either torch or pargrad."""
        raise NotImplementedError

    @functools.cache  # noqa: B019  (the rivals of one process share one copy of the data)
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Drawn anew in each process, and the same in all: nothing here rounds differently on more threads."""
        return self.draw(np.random.default_rng(self.seed))

    def weights(self) -> dict[str, np.ndarray]:
        """The first weights, under the names they have in the model: torch's own, drawn by pargrad's generator."""
        pargrad.manual_seed(self.seed + 1)
        return {name: p.detach().numpy().copy() for name, p in self.model(pargrad).named_parameters()}

    def with_weights(self, library: ModuleType) -> Any:
        """The model with the first weights."""
        model = self.model(library)
        model.load_state_dict({name: library.from_numpy(array) for name, array in self.weights().items()})
        return model

    def loss(self, library: ModuleType, output: Any, target: Any) -> Any:
        """The mean cross entropy; a sequence is as many guesses as it has places."""
        return library.nn.functional.cross_entropy(output.flatten(0, -2), target.flatten())

    def order(self, epoch: int) -> np.ndarray:
        """torch.randperm with a generator seeded `seed + epoch`, for those who have no torch."""
        return permutation(Generator().manual_seed(self.seed + epoch), self.examples)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The indices of each batch of an epoch; the last one may be short."""
        order = self.order(epoch)
        return [order[start : start + self.batch_size] for start in range(0, self.examples, self.batch_size)]


@dataclass(frozen=True)
class Perceptron(Task):
    """Layers with ReLU between them."""

    sizes: tuple[int, ...] = (784, 128, 64, 10)

    @property
    def title(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return clusters(generator, self.examples, self.sizes[0], self.sizes[-1])

    def model(self, library: ModuleType) -> Any:
        nn = library.nn
        layers = [layer for pair in pairwise(self.sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Convolutions(Task):
    """The network of examples/cnn.py: convolutions of 32 and 64 filters, with dropout or without."""

    batch_size: int = 64
    dropout: bool = True

    @property
    def title(self) -> str:
        return f"CNN, batch {self.batch_size}"

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return clusters(generator, self.examples, 784, 10)

    def model(self, library: ModuleType) -> Any:
        model = example("cnn", library).Net()
        if not self.dropout:
            model.dropout1.p = model.dropout2.p = 0.0
        return model


@dataclass(frozen=True)
class Characters(Task):
    """The GPT of examples/char_gpt.py, which guesses each character of 64 from those before it."""

    batch_size: int = 12

    @property
    def title(self) -> str:
        return f"character GPT, {self.batch_size} x {CONTEXT} characters"

    def text(self) -> str:
        return Path(EXCERPT).read_text()

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        text = np.array(list(self.text()))
        numbers = np.unique(text, return_inverse=True)[1]
        lines = numbers[generator.integers(len(text) - CONTEXT, size=(self.examples, 1)) + np.arange(CONTEXT + 1)]
        return np.ascontiguousarray(lines[:, :-1]), np.ascontiguousarray(lines[:, 1:])

    def model(self, library: ModuleType) -> Any:
        return example("char_gpt", library).GPT(len(set(self.text())))


@dataclass(frozen=True)
class Rows(Task):
    """An LSTM that reads an image row by row, and then says what it was."""

    batch_size: int = 64
    width: int = 28
    hidden: int = 128

    @property
    def title(self) -> str:
        return f"LSTM, {self.width} rows of {self.width}, {self.hidden} wide, batch {self.batch_size}"

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        inputs, labels = clusters(generator, self.examples, self.width**2, 10)
        return inputs.reshape(-1, self.width, self.width), labels

    def model(self, library: ModuleType) -> Any:
        return reader(library.nn, self.width, self.hidden)


def reader(nn: ModuleType, width: int, hidden: int) -> Any:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(width, hidden, batch_first=True)
            self.head = nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    return Reader()


def example(name: str, library: ModuleType) -> ModuleType:
    """The example of this name, as it is written for the library."""
    return importlib.import_module(f"examples.{name}" if library is pargrad else f"examples.pytorch.{name}")


def clusters(
    generator: np.random.Generator, examples: int, features: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Normal noise around one centre a class, near enough to each other that the loss never comes down to zero."""
    labels = generator.integers(classes, size=examples)
    centres = generator.standard_normal((classes, features), dtype=np.float32) * np.float32(0.1)
    inputs = generator.standard_normal((examples, features), dtype=np.float32)
    inputs += centres[labels]
    return inputs, labels


def numbers(text: str) -> tuple[int, ...]:
    """`784,128,64,10` as a tuple, for a command's options."""
    return tuple(int(number) for number in text.split(","))
