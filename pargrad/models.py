"""The networks that the command trains: on 28 x 28 images, (N, 784) to (N, 10) class scores, and on tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pargrad import nn
from pargrad.tensor import Tensor

LEAST_WIDTH, MOST_WIDTH = 32, 256  # of the first hidden layer on a table


def mlp() -> nn.Module:
    """784-128-64-10 with ReLU: 109,386 parameters."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    """The well-known network of two convolutions of 32 and 64 filters: 1,199,882 parameters."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn}


# ----- on tables -----


def table_mlp(features: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with ReLU: the first of twice the features, as a power of two from 32 to 256; then half."""
    width = min(max(LEAST_WIDTH, 1 << (2 * features - 1).bit_length()), MOST_WIDTH)
    return nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, outputs)
    )


class Scaled(nn.Module):
    """x * std + mean, the last layer of a regression: the network's outputs near 0 and 1, the model's in real units."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        self.register_buffer("mean", Tensor(list(mean)))
        self.register_buffer("std", Tensor(list(std)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.std + self.mean


class ScaledSquaredError(nn.Module):
    """((output - target) / std)**2, the mean over an example's numbers: one value per example, of no unit.

    1 is what the mean of the targets would come to.
    """

    std: Tensor

    def __init__(self, std: Sequence[float]):
        self.register_buffer("std", Tensor(list(std)))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (((output - target) / self.std) ** 2).mean(1)
