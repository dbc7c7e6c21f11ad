"""Stochastic gradient descent that keeps the average of the parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ignore_implementation_choices, regularized, single


class ASGD(Optimizer):
    """Averaged stochastic gradient descent (Polyak and Juditsky 1992), as torch writes it.

    g = gradient + weight_decay * p;  p = p * (1 - lambd * eta) - eta * g;  ax += mu * (p - ax)
    and for the next step eta = lr / (1 + lambd * lr * t)^alpha,  mu = 1 / max(1, t - t0)

    The average, state["ax"], follows the parameters alone until step t0. eta, at first lr, and mu, at first 1, are
    kept in float32, as by torch; so a scheduler's lr comes into force one step later than elsewhere.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.ASGD.html
    """

    unit = "parameter"  # eta and mu are numbers beside it

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("ax", "eta", "mu")

    @staticmethod
    def state_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if name == "ax" else ()

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
        lr, lambd = options["lr"], options["lambd"]
        (average, *numbers), (new_average, new_eta, new_mu) = state, new_state
        eta, mu = (single(lr), 1.0) if step == 1 else (each.item() for each in numbers)
        scratch = regularized(gradient, parameter, options) * eta
        np.multiply(parameter, 1 - lambd * eta, out=new_parameter)
        new_parameter -= scratch
        if mu == 1:
            np.copyto(new_average, new_parameter)
        else:
            np.subtract(new_parameter, average, out=scratch)
            scratch *= mu
            np.add(average, scratch, out=new_average)
        new_eta[...] = single(lr / (1 + lambd * lr * step) ** options["alpha"])
        new_mu[...] = single(1 / max(1, step - options["t0"]))
