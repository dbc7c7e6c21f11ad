"""A rate for each element that falls with the gradients it has seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, regularized


class Adagrad(Optimizer):
    """Steps over the root of the sum of all squares so far (Duchi, Hazan and Singer 2011).

    g = gradient + weight_decay * p;  sum += g^2;  p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(sum) + eps)

    The sum begins as initial_accumulator_value. Unlike in torch, where it is made with the optimizer, it is there
    from the first step on. https://docs.pytorch.org/docs/stable/generated/torch.optim.Adagrad.html
    """

    not_negative = (*Optimizer.not_negative, "lr_decay", "initial_accumulator_value")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        ignore_implementation_choices(differentiable, foreach, fused)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    @staticmethod
    def update(
        parameter: np.ndarray,
        gradient: np.ndarray,
        state: tuple[np.ndarray, ...],
        new_parameter: np.ndarray,
        new_state: tuple[np.ndarray, ...],
        step: int,
        options: dict[str, Any],
    ) -> None:
        (total,), (new_total,) = state, new_state
        g = regularized(gradient, parameter, options)
        scratch = np.multiply(g, g)
        np.add(options["initial_accumulator_value"] if step == 1 else total, scratch, out=new_total)
        np.sqrt(new_total, out=scratch)
        scratch += options["eps"]
        np.divide(g, scratch, out=scratch)
        scratch *= options["lr"] / (1 + (step - 1) * options["lr_decay"])
        np.subtract(parameter, scratch, out=new_parameter)
