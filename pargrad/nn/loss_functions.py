"""Losses of elements: of an input and a target of one shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.nn.terms import Terms, along_target, checked, factors, loss, of_elements, weighted
from pargrad.rules import RULES
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply

# ----- of differences -----


@loss
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Any:
    """(input - target)^2, the mean over elements; weight, of input's shape: the weighted mean.

    Unlike torch's, shapes that differ are an error, not a broadcast with a warning.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    >>> F.mse_loss(pg.tensor([1.0, 2.0]), pg.tensor([1.0, 4.0]))
    tensor(2.)
    """
    reduction, target = checked(reduction, size_average, reduce), along_target("mse_loss", input, target)
    return weighted("mse_loss", apply(RULES["square"], input - target), weight, reduction)


@loss
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Any:
    """|input - target|, the mean over elements; weight, of input's shape: the weighted mean."""
    reduction, target = checked(reduction, size_average, reduce), along_target("l1_loss", input, target)
    return weighted("l1_loss", (input - target).abs(), weight, reduction)


def bent(difference: Tensor, delta: float) -> Tensor:
    """Half the square, and its tangent where the difference is beyond delta."""
    near = operators.clamp(difference, min=-delta, max=delta)
    return near * (difference - 0.5 * near)


def check_beta(beta: float) -> None:
    if beta < 0:
        raise RuntimeError(f"smooth_l1_loss: expected beta to be 0 or more, got {beta}")


@loss
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """|input - target|, rounded off by a parabola where it is below beta (Girshick 2015).

    input and target of one shape: ValueError. RuntimeError for a beta below 0.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.smooth_l1_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), along_target("smooth_l1_loss", input, target)
    check_beta(beta)
    difference = input - target
    return of_elements(bent(difference, beta) / beta if beta else difference.abs(), reduction)


def check_delta(delta: float) -> None:
    if delta <= 0:
        raise RuntimeError(f"huber_loss: expected delta to be greater than 0, got {delta}")


@loss
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Any:
    """(input - target)^2 / 2, and from a distance of delta on its tangent; weight, of input's shape: factors.

    As torch has it, the mean divides by the number of elements, not by the sum of the weights.
    """
    reduction, target = checked(reduction), along_target("huber_loss", input, target)
    check_delta(delta)
    values = weighted("huber_loss", bent(input - target, delta), weight, reduction).values
    return of_elements(values, reduction)


# ----- of probabilities -----


@loss
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-target log input - (1 - target) log(1 - input), of probabilities; no logarithm is less than -100.

    target, of input's shape and dtype, in [0, 1]; weight: factors, which broadcast to that shape. RuntimeError where
    they do not, and for an input outside of [0, 1]: binary_cross_entropy_with_logits takes scores.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html
    """
    reduction, target = checked(reduction, size_average, reduce), along_target("binary_cross_entropy", input, target)
    given = input.slices if isinstance(input, Stacked) else input.array
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise RuntimeError(
            f"binary_cross_entropy: expected probabilities from 0 to 1, got {given.min()} to {given.max()}: write "
            "F.binary_cross_entropy_with_logits for what is no probability yet"
        )
    values = apply(RULES["binary_cross_entropy"], input, target)
    if weight is not None:
        values = values * factors("binary_cross_entropy", "weight", weight, values)
    return of_elements(values, reduction)


@loss
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Any:
    """Cross entropy of sigmoid(input) with target in [0, 1], elementwise; pos_weight scales the positive part.

    target of input's shape, else ValueError; integers will do. pos_weight, such as (classes,), and weight
    broadcast to it, else RuntimeError.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    """
    reduction = checked(reduction, size_average, reduce)
    name = "binary_cross_entropy_with_logits"
    target = along_target(name, input, target)
    values = apply(RULES["sigmoid_cross_entropy"], input, target)
    if pos_weight is not None:
        # Only the term of the positive class is scaled: pos_weight - 1 times target * -log sigmoid(input) is added.
        positive = apply(RULES["sigmoid_cross_entropy"], input, Tensor(np.ones_like(target.array)))
        values = values + (factors(name, "pos_weight", pos_weight, values) - 1) * target * positive
    if weight is not None:
        values = values * factors(name, "weight", weight, values)
    return of_elements(values, reduction)


@loss
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """target (log target - input), for an input of log-probabilities; log_target: the target's are logarithms, too.

    reduction="batchmean" divides the sum by the length of dim 0: the divergence itself.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html
    """
    reduction = checked(reduction, size_average, reduce, also=("batchmean",))
    target = along_target("kl_div", input, target)
    if log_target:
        values = operators.exp(target) * (target - input)
    else:
        values = operators.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return Terms(values, input.shape[0] if input.ndim else 1, reduction)
    return of_elements(values, reduction)


@loss
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-log of the Poisson probability of target, whose rate is exp(input), or input where log_input=False.

    full: with Stirling's approximation of the factorial, for targets above 1, which is left out otherwise.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.poisson_nll_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), along_target("poisson_nll_loss", input, target)
    values = operators.exp(input) - target * input if log_input else input - target * operators.log(input + eps)
    if full:
        counted = target > 1
        safe = operators.where(counted, target, 1.0)
        stirling = safe * operators.log(safe) - safe + 0.5 * operators.log(2 * math.pi * safe)
        values = values + operators.where(counted, stirling, 0.0)
    return of_elements(values, reduction)


@loss
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    """-log of the normal density of target, with mean input and variance var; full: with its constant, too.

    var: a number, or a tensor of input's shape, of the same without the last dimension, or with 1 in its place; what
    is below eps counts as eps, and is given the gradient as if it were not. Nix and Weigend 1994.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gaussian_nll_loss.html
    """
    reduction, target = checked(reduction), along_target("gaussian_nll_loss", input, target)
    variance = var if isinstance(var, Tensor) else Tensor(np.full(input.shape, var, input.dtype))
    if variance.shape != input.shape:
        if variance.shape == input.shape[:-1]:
            variance = variance.unsqueeze(-1)
        elif variance.shape != (*input.shape[:-1], 1):
            raise ValueError(
                f"gaussian_nll_loss: expected var of input's shape {input.shape}, of {input.shape[:-1]}, or of "
                f"{(*input.shape[:-1], 1)}, got {variance.shape}"
            )
    if operators.any(variance < 0):
        raise ValueError("gaussian_nll_loss: var has a negative element")
    # Only the value is clamped, not its gradient.
    variance = variance + Tensor(np.maximum(eps - variance.array, 0).astype(variance.dtype))
    values = 0.5 * (operators.log(variance) + apply(RULES["square"], input - target) / variance)
    return of_elements(values + 0.5 * math.log(2 * math.pi) if full else values, reduction)


# ----- of targets that are 1 or -1 -----


@loss
def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """log(1 + exp(-target * input)) for a target of 1 or -1; unlike torch's it does not overflow."""
    reduction, target = checked(reduction, size_average, reduce), along_target("soft_margin_loss", input, target)
    return of_elements(-apply(RULES["log_sigmoid"], input * target), reduction)


@loss
def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """input where the target is 1, max(0, margin - input) where it is -1.

    input: distances; target of the same shape: ValueError.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hinge_embedding_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), along_target("hinge_embedding_loss", input, target)
    apart = operators.where(target == 1, 0.0, operators.clamp(margin - input, min=0))
    return of_elements(apart + operators.where(target == -1, 0.0, input), reduction)


__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
]
