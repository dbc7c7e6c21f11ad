"""What the engine's benchmark runs: each row is a loss, written once for all libraries, and the arrays it is given.

A row is a function of a random generator and of sizes, the full ones as defaults, that returns a Problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

ALL = ("pargrad", "torch", "autograd", "mygrad")
TORCH_LIKE = ("pargrad", "torch")

ROWS: dict[str, Row] = {}


class Problem(NamedTuple):
    """loss(functions, *inputs, *constants); the gradient is taken by the inputs."""

    loss: Callable
    inputs: list[np.ndarray]
    constants: list[np.ndarray] = []  # noqa: RUF012  (nobody adds to it)


class Row(NamedTuple):
    """A problem in its two sizes, the step that is timed (a method of the libraries), and who can take it."""

    name: str
    title: str
    problem: Callable[..., Problem]
    tiny: dict[str, Any]
    step: str
    libraries: tuple[str, ...]

    def draw(self, tiny: bool = False) -> Problem:
        return self.problem(np.random.default_rng(0), **(self.tiny if tiny else {}))


def row(title: str, *, step: str = "gradient", libraries: tuple[str, ...] = ALL, **tiny: Any) -> Callable:
    """Enters a problem under the name of its function; `tiny` are the sizes at which the tests run it."""

    def enter(problem: Callable[..., Problem]) -> Callable[..., Problem]:
        ROWS[problem.__name__] = Row(problem.__name__, title, problem, tiny, step, libraries)
        return problem

    return enter


def normal(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.standard_normal(shape, dtype=np.float32)


def layers(generator: np.random.Generator, sizes: Sequence[int]) -> list[np.ndarray]:
    """Weight, bias, weight, bias, ...: what keeps the size of activations from layer to layer."""
    arrays = []
    for inputs, outputs in pairwise(sizes):
        scale = np.float32((2 / inputs) ** 0.5)
        arrays += [normal(generator, outputs, inputs) * scale, normal(generator, outputs) / 10]
    return arrays


def multilayer(f: Any, x: Any, parameters: Sequence[Any]) -> Any:
    pairs = list(zip(parameters[::2], parameters[1::2]))
    for weight, bias in pairs[:-1]:
        x = f.relu(f.linear(x, weight, bias))
    return f.linear(x, *pairs[-1])


def entropy(f: Any, *given: Any) -> Any:
    """The cross entropy of a multilayer perceptron, whose parameters come first."""
    *parameters, x, target = given
    return f.cross_entropy(multilayer(f, x, parameters), target)


def classifier(generator: np.random.Generator, batch: int, sizes: Sequence[int]) -> Problem:
    parameters = layers(generator, sizes)
    return Problem(entropy, parameters, [normal(generator, batch, sizes[0]), generator.integers(sizes[-1], size=batch)])


# ----- the rows -----


@row("chain of 2,000 operators on 16 elements", operators=40)
def chain(generator: np.random.Generator, operators: int = 2000, elements: int = 16) -> Problem:
    def loss(f: Any, x: Any, y: Any, z: Any) -> Any:
        for _ in range(operators // 4):
            x = f.tanh(x * y + 0.5) - z
        return x.sum()

    x, y, z = (normal(generator, elements) for _ in range(3))
    return Problem(loss, [x, np.tanh(y), z])  # |y| < 1, so that rounding does not grow along the chain


@row("MLP 784-128-64-10, batch 128", batch=4, sizes=(12, 8, 6, 3))
def mlp(generator: np.random.Generator, batch: int = 128, sizes: Sequence[int] = (784, 128, 64, 10)) -> Problem:
    return classifier(generator, batch, sizes)


@row("MLP of 50 layers, width 64, batch 64", batch=4, width=6, depth=5)
def mlp_50_layers(generator: np.random.Generator, batch: int = 64, width: int = 64, depth: int = 50) -> Problem:
    return classifier(generator, batch, [width] * depth + [10])


@row("elementwise, 1,000,000 elements", size=50)
def elementwise(generator: np.random.Generator, size: int = 1_000_000) -> Problem:
    def loss(f: Any, x: Any, y: Any) -> Any:
        return (f.tanh(x) * y + f.exp(-x * x) / (y * y + 1.0)).sum()

    return Problem(loss, [normal(generator, size), normal(generator, size)])


@row("softmax, 512x512", size=5)
def softmax(generator: np.random.Generator, size: int = 512) -> Problem:
    return Problem(lambda f, x, y: (f.softmax(x) * y).sum(), [normal(generator, size, size)],
                   [normal(generator, size, size)])  # fmt: skip


@row("log_softmax, 512x512", size=5)
def log_softmax(generator: np.random.Generator, size: int = 512) -> Problem:
    return Problem(lambda f, x, y: (f.log_softmax(x) * y).sum(), [normal(generator, size, size)],
                   [normal(generator, size, size)])  # fmt: skip


@row("layer_norm, 512x512", size=5)
def layer_norm(generator: np.random.Generator, size: int = 512) -> Problem:
    inputs = [normal(generator, size, size), normal(generator, size), normal(generator, size)]
    return Problem(lambda f, x, w, b, y: (f.layer_norm(x, w, b) * y).sum(), inputs, [normal(generator, size, size)])


@row("20 products of 128x128 matrices", size=4, count=3)
def products(generator: np.random.Generator, size: int = 128, count: int = 20) -> Problem:
    def loss(f: Any, x: Any, *matrices: Any) -> Any:
        for y in matrices:
            x = x @ y
        return (x * x).sum()

    matrices = [normal(generator, size, size) / np.float32(size**0.5) for _ in range(count + 1)]
    return Problem(loss, matrices)


@row("CNN on 1x28x28, batch 32", batch=2, size=16, channels=(2, 3))
def convolution(
    generator: np.random.Generator, batch: int = 32, size: int = 28, channels: tuple[int, int] = (8, 16)
) -> Problem:
    one, two = channels
    flat = two * ((((size - 4) // 2) - 4) // 2) ** 2
    kernels = [normal(generator, one, 1, 5, 5) / 5, normal(generator, one) / 10]
    kernels += [normal(generator, two, one, 5, 5) / np.float32(5 * one**0.5), normal(generator, two) / 10]

    def loss(f: Any, *given: Any) -> Any:
        *kernels, weight, bias, x, target = given
        for kernel, offset in (kernels[:2], kernels[2:]):
            x = f.max_pool2d(f.relu(f.conv2d(x, kernel, offset)), 2)
        return f.cross_entropy(f.linear(f.flatten(x), weight, bias), target)

    constants = [normal(generator, batch, 1, size, size), generator.integers(10, size=batch)]
    return Problem(loss, kernels + layers(generator, (flat, 10)), constants)


@row("embedding, 4,096 of 10,000x64", count=7, words=5, size=3)
def embedding(generator: np.random.Generator, count: int = 4096, words: int = 10_000, size: int = 64) -> Problem:
    constants = [generator.integers(words, size=count), normal(generator, count, size)]
    return Problem(lambda f, w, i, y: (f.embedding(i, w) * y).sum(), [normal(generator, words, size)], constants)


@row("indexing, slices and integers, 256x256", size=6)
def indexing(generator: np.random.Generator, size: int = 256) -> Problem:
    def loss(f: Any, x: Any, i: Any) -> Any:
        return (x[1:, :-1] * x[:-1, 1:]).sum() + (x[i] * x[:, 1:3].sum()).sum()

    return Problem(loss, [normal(generator, size, size)], [generator.integers(size, size=size)])


@row(
    "Hessian-vector product, MLP 64-64-64-1",
    step="hessian_vector_product", libraries=("pargrad", "torch", "autograd"), batch=3, sizes=(4, 3, 1),
)  # fmt: skip
def hessian_vector(generator: np.random.Generator, batch: int = 64, sizes: Sequence[int] = (64, 64, 64, 1)) -> Problem:
    def loss(f: Any, *given: Any) -> Any:
        *parameters, x = given
        for weight, bias in zip(parameters[::2], parameters[1::2]):
            x = f.tanh(f.linear(x, weight, bias))
        return (x * x).sum()

    return Problem(loss, layers(generator, sizes), [normal(generator, batch, sizes[0])])


@row(
    "vmap: gradient of each of 64 examples, MLP 64-64-10",
    step="gradient_of_each_example", libraries=TORCH_LIKE, batch=3, sizes=(4, 3, 2),
)  # fmt: skip
def vmap_gradients(generator: np.random.Generator, batch: int = 64, sizes: Sequence[int] = (64, 64, 10)) -> Problem:
    return classifier(generator, batch, sizes)
