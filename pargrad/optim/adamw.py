"""Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ascending, ignore_implementation_choices


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101), as torch writes it.

    m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
    p = p * (1 - lr * weight_decay) - lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

    As in torch, and unlike the paper, the decay is multiplied by lr. amsgrad: the largest v so far takes v's place
    (Reddi et al. 2018). https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        ignore_implementation_choices(foreach, capturable, differentiable, fused)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize,
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
        lr, (beta1, beta2) = options["lr"], options["betas"]
        (m, v), (new_m, new_v) = state[:2], new_state[:2]
        g = ascending(gradient, options)

        scratch = np.subtract(g, m)
        if beta1 > 0.5:
            scratch *= 1 - beta1
            np.add(m, scratch, out=new_m)
        else:  # m + (1 - beta1) * (g - m), from the nearer end: torch's lerp
            scratch *= beta1
            np.subtract(g, scratch, out=new_m)

        np.multiply(g, g, out=scratch)
        scratch *= 1 - beta2
        np.multiply(v, beta2, out=new_v)
        new_v += scratch

        largest = np.maximum(state[2], new_v, out=new_state[2]) if options["amsgrad"] else new_v
        # The formula with numerator and denominator times sqrt(1 - beta2^t), which saves a pass over the block.
        correction = math.sqrt(1 - beta2**step)
        np.sqrt(largest, out=scratch)
        scratch += options["eps"] * correction
        np.divide(new_m, scratch, out=scratch)
        scratch *= lr * correction / (1 - beta1**step)

        np.multiply(parameter, 1 - lr * options["weight_decay"], out=new_parameter)
        new_parameter -= scratch
