"""What a shard computes: the sum of its losses and the divisor that the batch's sum is divided by in the end."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.nn import Module
from pargrad.tensor import Tensor

LOSS_IS = (None, "mean over examples", "sum")


class Objective:
    """A user's loss, whatever its form, as `(sum, divisor)` of a batch.

    loss(output, target) is one of pargrad's losses (functions, modules, partials of them); or returns
    `(sum, divisor)`; or returns one value per example. A single number says neither what it was divided by nor
    whether it was, so it is refused, unless `loss_is` tells: "mean over examples" or "sum".
    step(model, batch) -> (sum, divisor), if given, takes the place of model and loss.
    """

    def __init__(self, loss: Any, loss_is: str | None = None, step: Callable | None = None):
        if loss_is not in LOSS_IS:
            raise ValueError(f"expected loss_is to be 'mean over examples' or 'sum', got {loss_is!r}")
        if (loss is None) == (step is None):
            raise ValueError(
                "expected either a loss or step=, got "
                + ("neither" if loss is None else "both: give loss=None with step=")
            )
        if not callable(loss if step is None else step):
            raise TypeError(
                f"expected a loss(output, target) that can be called, got {type(loss).__name__}: write F.cross_entropy"
            )
        if loss_is is not None and sum_and_divisor_of(loss) is not None:
            raise ValueError(f"loss_is={loss_is!r} explains a loss of your own: pargrad's losses know it, leave it out")
        self.loss = loss
        self.loss_is = loss_is
        self.step = step

    @property
    def is_own(self) -> bool:
        """Whether all of it but the model is pargrad's."""
        return self.step is None and sum_and_divisor_of(self.loss) is not None

    def __call__(self, model: Any, tensors: tuple[Tensor, ...]) -> tuple[Tensor, float | None, Tensor | None]:
        """Sum, divisor (None: the batch's sum is not divided), and the model's output (None where `step` hides it).

        tensors: the model's inputs, then the target.
        """
        if self.step is not None:
            return (*self.checked(self.step(model, tensors), len(tensors[-1])), None)
        output = model(*tensors[:-1])
        terms = sum_and_divisor_of(self.loss)
        if terms is not None:
            return (*terms(output, tensors[-1]), output)
        return (*self.checked(self.loss(output, tensors[-1]), len(tensors[-1])), output)

    def checked(self, result: Any, examples: int) -> tuple[Tensor, float | None]:
        if isinstance(result, tuple) and len(result) == 2:
            total, divisor = result
            if isinstance(total, Tensor) and total.numel() == 1:
                return total.reshape(()), divisor.item() if isinstance(divisor, Tensor | np.generic) else divisor
        elif isinstance(result, Tensor) and result.shape == (examples,) and self.loss_is is None:
            return result.sum(), examples
        elif isinstance(result, Tensor) and result.numel() == 1 and self.loss_is == "sum":
            return result.reshape(()), None
        elif isinstance(result, Tensor) and result.numel() == 1 and self.loss_is is not None:
            return result.reshape(()) * examples, examples
        shape = f"a tensor of shape {result.shape}" if isinstance(result, Tensor) else type(result).__name__
        raise ValueError(
            f"the loss gave {shape} for {examples} examples; a sum over shards needs to know what it is divided by. "
            "Return (sum, divisor), or one value per example; or tell the trainer loss_is='mean over examples' or "
            "loss_is='sum'"
        )


def sum_and_divisor_of(loss: Any) -> Callable | None:
    """`sum_and_divisor` of a pargrad loss, through functools.partial; None where a loss is the user's own.

    A class that overrides `forward`, and a function that wraps one of pargrad's, inherit the attribute and mean
    something else.
    """
    if isinstance(loss, functools.partial):
        inner = sum_and_divisor_of(loss.func)
        return None if inner is None else functools.partial(inner, *loss.args, **loss.keywords)
    if isinstance(loss, Module):
        order = type(loss).__mro__
        terms, forward = (next((i for i, kind in enumerate(order) if name in vars(kind)), len(order))
                          for name in ("sum_and_divisor", "forward"))  # fmt: skip
        return getattr(loss, "sum_and_divisor", None) if terms <= forward else None
    terms_of_function = getattr(loss, "sum_and_divisor", None)
    return terms_of_function if getattr(terms_of_function, "of", loss) is loss else None
