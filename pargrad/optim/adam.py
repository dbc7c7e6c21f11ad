"""Adam."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import (
    Optimizer,
    ascending,
    ignore_implementation_choices,
    lerp,
    mean_square,
    regularized,
)


class Adam(Optimizer):
    """Steps of the mean gradient over the root mean square one (Kingma and Ba 2015, arXiv 1412.6980).

    g = gradient + weight_decay * p
    m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
    p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    amsgrad: the largest v so far takes v's place (Reddi et al. 2018). decoupled_weight_decay: as in AdamW.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable, fused)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if options["amsgrad"] else ("exp_avg", "exp_avg_sq")

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
        (m, v), (new_m, new_v) = state[:2], new_state[:2]
        g = ascending(gradient, options) if decoupled else regularized(gradient, parameter, options)

        scratch = np.empty_like(g)
        lerp(m, g, 1 - beta1, out=new_m, scratch=scratch)
        mean_square(g, v, beta2, out=new_v, scratch=scratch)
        largest = np.maximum(state[2], new_v, out=new_state[2]) if options["amsgrad"] else new_v
        # The formula with numerator and denominator times sqrt(1 - beta2^t), which saves a pass over the block.
        correction = math.sqrt(1 - beta2**step)
        np.sqrt(largest, out=scratch)
        scratch += options["eps"] * correction
        np.divide(new_m, scratch, out=scratch)
        scratch *= lr * correction / (1 - beta1**step)

        decay = lr * options["weight_decay"] if decoupled else 0.0
        np.subtract(np.multiply(parameter, 1 - decay, out=new_parameter), scratch, out=new_parameter)
