"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, regularized


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch writes it.

    g = gradient + weight_decay * p; b = g at the first step, then momentum * b + (1 - dampening) * g; p -= lr * b,
    or lr * (g + momentum * b) with nesterov. https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html

    >>> weight = nn.Parameter(pg.tensor([1.0]))
    >>> optimizer = optim.SGD([weight], lr=0.5)
    >>> weight.sum().backward()
    >>> optimizer.step()
    >>> weight.data
    tensor([0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        ignore_implementation_choices(differentiable, foreach, fused)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        })  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError(
                "SGD: nesterov needs momentum > 0 and dampening 0, "
                f"got {options['momentum']} and {options['dampening']}"
            )

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if options["momentum"] else ()

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
        lr, momentum = options["lr"], options["momentum"]
        direction = regularized(gradient, parameter, options)
        if momentum:
            (new_buffer,) = new_state
            if step == 1:
                np.copyto(new_buffer, direction)
            else:
                np.multiply(state[0], momentum, out=new_buffer)
                new_buffer += (1 - options["dampening"]) * direction
            direction = direction + momentum * new_buffer if options["nesterov"] else new_buffer
        np.subtract(parameter, lr * direction, out=new_parameter)
