"""Steps as large as the steps before, over the gradient's size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, mean_square, regularized


class Adadelta(Optimizer):
    """Steps in the parameter's own units, without a rate to choose (Zeiler 2012, arXiv 1212.5701).

    g = gradient + weight_decay * p
    v = rho * v + (1 - rho) * g^2;  d = sqrt(u + eps) / sqrt(v + eps) * g;  u = rho * u + (1 - rho) * d^2;  p -= lr * d

    lr is torch's; the paper has 1. https://docs.pytorch.org/docs/stable/generated/torch.optim.Adadelta.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self.expect(0 <= options["rho"] <= 1, "rho in [0, 1]", options["rho"])

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

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
        rho, eps = options["rho"], options["eps"]
        (v, u), (new_v, new_u) = state, new_state
        g = regularized(gradient, parameter, options)
        scratch = np.empty_like(g)
        mean_square(g, v, rho, out=new_v, scratch=scratch)
        change = np.sqrt(u + eps)
        np.add(new_v, eps, out=scratch)
        change /= np.sqrt(scratch, out=scratch)
        change *= g
        mean_square(change, u, rho, out=new_u, scratch=scratch)
        change *= options["lr"]
        np.subtract(parameter, change, out=new_parameter)
