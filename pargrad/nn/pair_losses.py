"""Losses of two or three inputs: how near, how similar or in which order they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pargrad import operators
from pargrad.nn.terms import as_constant, checked, loss, of_elements
from pargrad.operators.products import pairwise_distance
from pargrad.tensor import Tensor


@loss
def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, margin - target * (input1 - input2)): target 1 wants input1 to be larger, -1 input2.

    Shapes broadcast, but must have as many dimensions: RuntimeError.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.margin_ranking_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            "margin_ranking_loss: expected inputs and target of as many dimensions, got shapes "
            f"{input1.shape}, {input2.shape} and {target.shape}"
        )
    return of_elements(operators.clamp(-target * (input1 - input2) + margin, min=0), reduction)


@loss
def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """1 - cosine where the target is 1, max(0, cosine - margin) where it is -1; inputs (N, D) or (D,), target (N,).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_embedding_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    if input1.ndim not in (1, 2) or input1.ndim != input2.ndim or target.ndim != input1.ndim - 1:
        raise RuntimeError(
            "cosine_embedding_loss: expected inputs of shape (N, D) and target (N,), or (D,) and (), got "
            f"{input1.shape}, {input2.shape} and {target.shape}"
        )
    eps = 1e-12
    product, square1, square2 = ((x * y).sum(-1) for x, y in [(input1, input2), (input1, input1), (input2, input2)])
    cosine = product / operators.sqrt((square1 + eps) * (square2 + eps))
    apart = operators.where(target == -1, operators.clamp(cosine - margin, min=0), 0.0)
    return of_elements(operators.where(target == 1, 1 - cosine, apart), reduction)


@loss
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, margin + distance(anchor, positive) - distance(anchor, negative)), distances of p-norms.

    All three (N, D) or (D,), with reduction="none" (N,). ValueError for a margin of 0 or below.

    swap: the distance of positive and negative counts where it is smaller than the anchor's (Balntas et al. 2016).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.triplet_margin_loss.html
    """
    reduction = checked(reduction, size_average, reduce)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return of_elements(triplet(anchor, positive, negative, distance, margin, swap), reduction)


@loss
def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """triplet_margin_loss with a distance of one's own, by default `pairwise_distance`."""
    return of_elements(
        triplet(anchor, positive, negative, distance_function or pairwise_distance, margin, swap), checked(reduction)
    )


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
) -> Tensor:
    if margin <= 0:
        raise ValueError(f"expected a margin greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "expected anchor, positive and negative of as many dimensions, got shapes "
            f"{anchor.shape}, {positive.shape} and {negative.shape}"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = operators.minimum(far, distance(positive, negative))
    return operators.clamp(margin + near - far, min=0)


__all__ = [
    "cosine_embedding_loss",
    "margin_ranking_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
