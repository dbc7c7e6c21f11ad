"""Adam with Nesterov's momentum."""

from __future__ import annotations

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
    single,
)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016), as torch writes it.

    mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2);  product = mu_1 * ... * mu_t
    g = gradient + weight_decay * p
    m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g^2
    p -= lr * ((1 - mu_t) / (1 - product) * g + mu_(t+1) / (1 - product * mu_(t+1)) * m)
         / (sqrt(v / (1 - beta2^t)) + eps)

    decoupled_weight_decay: p * (1 - lr * weight_decay) instead, as in AdamW. The product is kept in float32, as by
    torch. https://docs.pytorch.org/docs/stable/generated/torch.optim.NAdam.html
    """

    unit = "parameter"  # the product is one number beside it

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        })  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self.expect(options["momentum_decay"] >= 0, "momentum_decay >= 0", options["momentum_decay"])

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "mu_product")

    @staticmethod
    def state_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return () if name == "mu_product" else shape

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
        (m, v, product), (new_m, new_v, new_product) = state, new_state
        g = ascending(gradient, options) if decoupled else regularized(gradient, parameter, options)

        mu, next_mu = (beta1 * (1 - 0.5 * 0.96 ** (t * options["momentum_decay"])) for t in (step, step + 1))
        so_far = single(single(1.0 if step == 1 else product.item()) * single(mu))
        new_product[...] = so_far

        scratch = np.empty_like(g)
        lerp(m, g, 1 - beta1, out=new_m, scratch=scratch)
        mean_square(g, v, beta2, out=new_v, scratch=scratch)
        np.divide(new_v, 1 - beta2**step, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += options["eps"]
        change = g * (lr * (1 - mu) / (1 - so_far)) + new_m * (lr * next_mu / (1 - so_far * next_mu))
        change /= scratch

        decay = lr * options["weight_decay"] if decoupled else 0.0
        np.subtract(np.multiply(parameter, 1 - decay, out=new_parameter), change, out=new_parameter)
