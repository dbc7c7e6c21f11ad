"""Steps over the root mean square of the gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, lerp, mean_square, regularized


class RMSprop(Optimizer):
    """Steps over the root mean square of recent gradients (Hinton's lecture 6e), with momentum, as torch writes it.

    g = gradient + weight_decay * p;  v = alpha * v + (1 - alpha) * g^2;  d = g / (sqrt(v) + eps);  p -= lr * d

    centered: v less the square of the mean gradient takes v's place (Graves 2013, arXiv 1308.0850). momentum:
    b = momentum * b + d takes d's place. https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
    """

    not_negative = (*Optimizer.not_negative, "alpha")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        more = ("momentum_buffer",) * bool(options["momentum"]) + ("grad_avg",) * bool(options["centered"])
        return ("square_avg", *more)

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
        alpha = options["alpha"]
        g = regularized(gradient, parameter, options)
        scratch = np.empty_like(g)
        mean_square(g, state[0], alpha, out=new_state[0], scratch=scratch)
        if options["centered"]:
            lerp(state[-1], g, 1 - alpha, out=new_state[-1], scratch=scratch)
            np.multiply(new_state[-1], new_state[-1], out=scratch)
            np.subtract(new_state[0], scratch, out=scratch)
            np.sqrt(scratch, out=scratch)
        else:
            np.sqrt(new_state[0], out=scratch)
        scratch += options["eps"]
        np.divide(g, scratch, out=scratch)
        if options["momentum"]:
            buffer = np.multiply(state[1], options["momentum"], out=new_state[1])
            buffer += scratch
            np.copyto(scratch, buffer)
        scratch *= options["lr"]
        np.subtract(parameter, scratch, out=new_parameter)
