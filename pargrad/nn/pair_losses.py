"""Losses of two or three inputs: how near, how similar or in which order they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pargrad import operators
from pargrad.nn.terms import as_constant, broadcast, checked, loss, of_elements
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

    Shapes broadcast, but must have as many dimensions, else RuntimeError.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.margin_ranking_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    check_triple("margin_ranking_loss", "inputs and target", input1, input2, target)
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

    RuntimeError for other shapes.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_embedding_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    dimensions = input1.ndim in (1, 2) and input1.ndim == input2.ndim == target.ndim + 1
    if not dimensions or broadcast(input1.shape, input2.shape, (*target.shape, 1)) is None:
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


def check_margin(margin: float) -> None:
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: expected a margin greater than 0, got {margin}")


def check_triple(name: str, what: str, *tensors: Tensor) -> None:
    """Refuses three tensors of different numbers of dimensions, or whose shapes do not go together."""
    shapes = [x.shape for x in tensors]
    if len({x.ndim for x in tensors}) > 1 or broadcast(*shapes) is None:
        raise RuntimeError(
            f"{name}: expected {what} of one shape, or of as many dimensions with 1 where they differ, got shapes "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
        )


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    margin: float,
    swap: bool,
) -> Tensor:
    check_margin(margin)
    check_triple("triplet_margin_loss", "anchor, positive and negative", anchor, positive, negative)
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
