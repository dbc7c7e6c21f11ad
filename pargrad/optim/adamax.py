"""Adam with the largest gradient instead of the root mean square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, lerp, regularized


class Adamax(Optimizer):
    """Adam with an infinity norm in place of the mean square (Kingma and Ba 2015, arXiv 1412.6980).

    g = gradient + weight_decay * p
    m += (1 - beta1) * (g - m);  u = max(beta2 * u, |g| + eps);  p -= lr / (1 - beta1^t) * m / u

    eps is torch's: it keeps u from 0. https://docs.pytorch.org/docs/stable/generated/torch.optim.Adamax.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

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
        beta1, beta2 = options["betas"]
        (m, largest), (new_m, new_largest) = state, new_state
        g = regularized(gradient, parameter, options)

        scratch = np.empty_like(g)
        lerp(m, g, 1 - beta1, out=new_m, scratch=scratch)
        np.abs(g, out=scratch)
        scratch += options["eps"]
        np.multiply(largest, beta2, out=new_largest)
        np.maximum(new_largest, scratch, out=new_largest)
        np.divide(new_m, new_largest, out=scratch)
        scratch *= options["lr"] / (1 - beta1**step)
        np.subtract(parameter, scratch, out=new_parameter)
