"""Steps that go by the gradient's sign alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ascending, ignore_implementation_choices


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller and Braun 1993): each element has a step of its own, and signs decide.

    While its gradient keeps its sign the step is multiplied by etas[1], when it changes by etas[0] (and the gradient
    counts as 0, this time and as the one before the next), within step_sizes; p -= sign(gradient) * step. The first
    step is lr, which means nothing later. https://docs.pytorch.org/docs/stable/generated/torch.optim.Rprop.html
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        ignore_implementation_choices(differentiable, foreach, capturable)
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self.expect(0 < options["etas"][0] < 1 < options["etas"][1], "0 < etas[0] < 1 < etas[1]", options["etas"])

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("prev", "step_size")

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
        smaller, larger = options["etas"]
        (previous, size), (new_previous, new_size) = state, new_state
        g = ascending(gradient, options)
        turn = np.sign(g * previous)
        turned = turn < 0
        factor = np.where(turned, g.dtype.type(smaller), np.where(turn > 0, g.dtype.type(larger), g.dtype.type(1)))
        np.multiply(options["lr"] if step == 1 else size, factor, out=new_size)
        np.clip(new_size, *options["step_sizes"], out=new_size)
        np.copyto(new_previous, g)
        new_previous[turned] = 0
        np.subtract(parameter, np.sign(new_previous) * new_size, out=new_parameter)
