"""Adam with a rectified beginning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ascending, ignore_implementation_choices, lerp, mean_square, regularized


class RAdam(Optimizer):
    """Adam whose step is rectified while few gradients have been seen (Liu et al. 2020, arXiv 1908.03265).

    g = gradient + weight_decay * p
    m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
    rho_inf = 2 / (1 - beta2) - 1;  rho = rho_inf - 2 * t * beta2^t / (1 - beta2^t)
    r = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    p -= lr * m / (1 - beta1^t) * (r * sqrt(1 - beta2^t) / (sqrt(v) + eps) where rho > 5, else 1)

    decoupled_weight_decay: p * (1 - lr * weight_decay) instead, as in AdamW. As in torch, the bound is 5, where the
    paper has 4, and eps is added before v is corrected.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.RAdam.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

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
        lr, (beta1, beta2), decoupled = options["lr"], options["betas"], options["decoupled_weight_decay"]
        (m, v), (new_m, new_v) = state, new_state
        g = ascending(gradient, options) if decoupled else regularized(gradient, parameter, options)

        scratch = np.empty_like(g)
        lerp(m, g, 1 - beta1, out=new_m, scratch=scratch)
        mean_square(g, v, beta2, out=new_v, scratch=scratch)

        rate, correction = lr / (1 - beta1**step), 1 - beta2**step
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * step * beta2**step / correction
        if length > 5:
            rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            np.sqrt(new_v, out=scratch)
            scratch += options["eps"]
            np.divide(new_m, scratch, out=scratch)
            scratch *= rate * math.sqrt(correction * rectified)
        else:
            np.multiply(new_m, rate, out=scratch)

        decay = lr * options["weight_decay"] if decoupled else 0.0
        np.subtract(np.multiply(parameter, 1 - decay, out=new_parameter), scratch, out=new_parameter)
