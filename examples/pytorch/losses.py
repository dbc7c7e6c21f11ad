"""Four losses on one linear model: regression, classes with weights and gaps, log-probabilities, yes or no."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, manual_seed, nn, optim, rand, tensor

from examples import command

STEPS = 100


def train(name: str, loss_of: Callable[[Tensor], Tensor], inputs: Tensor, outputs: int) -> dict[str, float]:
    model = nn.Linear(inputs.shape[1], outputs)
    optimizer = optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    figures = {}
    for step in range(1, STEPS + 1):
        loss = loss_of(model(inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (1, 10, STEPS):
            figures[f"{name} at step {step}"] = loss.item()
            print(f"{name}, step {step:3}: loss {loss.item():.6f}")
    return figures


def main(seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    inputs = rand(60, 4)
    heights = inputs @ tensor([[1.0], [-2.0], [0.5], [3.0]]) + 0.1 * rand(60, 1)
    classes = (heights.squeeze(1) * 1.5).long().clamp(0, 2)  # 0, 1 or 2
    some = classes.clone()
    some[::7] = -100  # not known: these count for nothing
    rare = tensor([3.0, 1.0, 2.0])  # a mistake in class 0 costs three times one in class 1

    return {
        **train("mean squared error", lambda y: F.mse_loss(y, heights), inputs, 1),
        **train("cross entropy", lambda y: F.cross_entropy(y, classes), inputs, 3),
        **train(
            "cross entropy, weighted and smoothed",
            lambda y: F.cross_entropy(y, some, weight=rare, label_smoothing=0.1),
            inputs,
            3,
        ),
        **train("negative log likelihood", lambda y: F.nll_loss(F.log_softmax(y, 1), classes), inputs, 3),
        **train(
            "binary cross entropy",
            lambda y: F.binary_cross_entropy_with_logits(y, (heights > 1.0).float()),
            inputs,
            1,
        ),
    }


if __name__ == "__main__":
    command(main)
