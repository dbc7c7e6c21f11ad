"""Momentum, made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from pargrad.optim.optimizer import Optimizer, lerp


class Muon(Optimizer):
    """Momentum of matrices, made nearly orthogonal before each step (Jordan et al. 2024), as torch writes it.

    m += (1 - momentum) * (gradient - m);  u = gradient + momentum * (m - gradient) with nesterov, else m
    p = p * (1 - lr * weight_decay) - lr * s * orthogonalized(u)
    s = sqrt(max(1, rows / columns)), or 0.2 * sqrt(max(rows, columns)) with adjust_lr_fn="match_rms_adamw"

    orthogonalized: u over its norm (at least eps), then ns_steps times, with ns_coefficients a, b and c,
    x = a * x + (b * x x' + c * (x x')^2) x, which brings every singular value near 1. It is computed in the
    parameter's dtype, where torch takes bfloat16: the two differ in the third digit.

    For matrices only: give biases, embeddings and convolutions to another optimizer, in a loop of your own.
    https://kellerjordan.github.io/posts/muon https://docs.pytorch.org/docs/stable/generated/torch.optim.Muon.html
    """

    unit = "parameter"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ):
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        })  # fmt: skip

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        self.expect(len(options["ns_coefficients"]) == 3, "three ns_coefficients", options["ns_coefficients"])
        self.expect(0 <= options["ns_steps"] < 100, "ns_steps in [0, 100)", options["ns_steps"])
        name = options["adjust_lr_fn"]
        known = (None, "original", "match_rms_adamw")
        self.expect(name in known, "adjust_lr_fn 'original', 'match_rms_adamw' or None", repr(name))

    def check_parameter(self, parameter: Any) -> None:
        what = "matrices (give the other parameters to another optimizer, such as AdamW)"
        self.expect(parameter.ndim == 2 and parameter.dtype.kind == "f", what, f"{parameter.dtype} {parameter.shape}")

    @staticmethod
    def state_names(options: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)

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
        lr, momentum, (rows, columns) = options["lr"], options["momentum"], parameter.shape
        (buffer,), (new_buffer,) = state, new_state
        lerp(buffer, gradient, 1 - momentum, out=new_buffer)
        direction = new_buffer
        if options["nesterov"]:
            direction = np.empty_like(gradient)
            lerp(gradient, new_buffer, momentum, out=direction)
        direction = orthogonalized(direction, options["ns_coefficients"], options["ns_steps"], options["eps"])
        if options["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(rows, columns))
        else:
            scale = math.sqrt(max(1, rows / columns))
        np.multiply(parameter, 1 - lr * options["weight_decay"], out=new_parameter)
        new_parameter -= lr * scale * direction


def orthogonalized(matrix: np.ndarray, coefficients: tuple[float, float, float], steps: int, eps: float) -> np.ndarray:
    """The matrix with its singular values brought near 1, by a polynomial of it (Newton and Schulz's iteration)."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix  # so that the products are small
    x = x / max(math.sqrt(np.square(x).sum().item()), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x
