"""Adam's second moments, kept as rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, ascending, ignore_implementation_choices, lerp


class Adafactor(Optimizer):
    """Second moments as the product of a row and a column (Shazeer and Stern 2018, arXiv 1804.04235), as torch's.

    b = t^beta2_decay;  rate = min(lr, 1 / sqrt(t)) * max(eps[1], rms(p));  p = p * (1 - lr * weight_decay)
    row += b * (mean over columns of g^2 - row);  col += b * (mean over rows of g^2 - col)
    v = row * col / max(mean(row), eps[0]);  of vectors and numbers: v += b * (g^2 - v)
    u = g / max(sqrt(v), eps[0]);  p -= rate / max(1, rms(u) / d) * u

    eps[0], where None, is the dtype's. What differs from the paper is torch's: lr, how eps[0] is used, weight decay.
    More than two dimensions are a stack of matrices in the last two.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.Adafactor.html
    """

    unit = "parameter"
    not_negative = ("lr", "weight_decay")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        ignore_implementation_choices(False, foreach)
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "maximize": maximize,
        })  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self.expect(options["beta2_decay"] <= 0, "beta2_decay <= 0", options["beta2_decay"])
        self.expect(options["d"] >= 1, "d >= 1", options["d"])
        eps = options["eps"]
        self.expect(len(eps) == 2 and (eps[0] is None or eps[0] >= 0) and eps[1] >= 0, "two eps >= 0", eps)

    def check_parameter(self, parameter: Any) -> None:
        self.expect(parameter.dtype.kind == "f", "real parameters", parameter.dtype)

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("row_var", "col_var", "variance")

    @staticmethod
    def state_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        if len(shape) < 2:
            return shape if name == "variance" else None
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}.get(name)

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
        lr, (floor, smallest), weight = options["lr"], options["eps"], step ** options["beta2_decay"]
        floor = float(np.finfo(parameter.dtype).eps) if floor is None else floor
        (row, column, vector), (new_row, new_column, new_vector) = state, new_state
        g = ascending(gradient, options)
        rate = min(lr, 1 / math.sqrt(step)) * max(smallest, root_mean_square(parameter))

        squares = np.multiply(g, g)
        if row is None:
            lerp(vector, squares, weight, out=new_vector)
            estimate = new_vector
        else:
            lerp(row, squares.mean(axis=-1, keepdims=True), weight, out=new_row)
            lerp(column, squares.mean(axis=-2, keepdims=True), weight, out=new_column)
            estimate = np.multiply(new_row, new_column, out=squares)
            estimate /= np.maximum(new_row.mean(axis=-2, keepdims=True), floor)
        change = np.maximum(estimate, floor * floor, out=squares)
        np.divide(g, np.sqrt(change, out=change), out=change)
        change *= rate / max(1.0, root_mean_square(change) / options["d"])

        np.multiply(parameter, 1 - lr * options["weight_decay"], out=new_parameter)
        new_parameter -= change


def root_mean_square(array: np.ndarray) -> float:
    return math.sqrt(np.square(array).mean().item())
