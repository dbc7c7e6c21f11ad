"""What of a step is not finite. Its members find it alike: all stop, or all leave the step without effect.

A loss shows in the shards' sums, which every member adds up. A gradient shows where a block of it is in the cache
for the update: the member that finds something says so in its word of the arena, and everyone reads the words after
the meeting that ends the step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad.parallel.arena import Arena, Block, Layout, Run
from pargrad.parallel.shards import reduce_tree

STOP, SKIP, ALLOW = CHOICES = ("stop", "skip", "allow")
FINE, DIVISOR, LOSS, PARAMETER = range(4)  # a member's word; where parameter i is not finite, PARAMETER + i
NO_NORM, NORM_TO_COME = -1.0, -2.0  # in the place of a norm: none is wanted; nobody has added it up yet

REMEDIES = ("lower the learning rate, look for nan in the data, set clip_norm", "use a larger batch_size")


def check_non_finite(choice: Any) -> str:
    if choice not in CHOICES:
        raise ValueError(f"expected non_finite to be 'stop', 'skip' or 'allow', got {choice!r}")
    return choice


# ----- the loss -----


def totals(arena: Arena) -> tuple[float, float]:
    """The batch's mean loss and divisor, in the tree's order; a mean over nothing is nan."""
    shards = arena.layout.shards
    sums, divisors = arena.sums[:shards].tolist(), arena.divisors[:shards].tolist()
    total, divisor = (reduce_tree(values, lambda left, right: left + right) for values in (sums, divisors))
    assert total is not None and divisor is not None
    penalty = float(arena.sums[shards]) if len(arena.sums) > shards else 0.0
    return (total / divisor if divisor else math.nan) + penalty, divisor


def wrong_total(loss: float, divisor: float) -> int:
    """What of them is not as it must be."""
    if divisor == 0:
        return DIVISOR
    return FINE if math.isfinite(loss) and math.isfinite(divisor) else LOSS


# ----- the gradient -----


def blocks_of(piece: Block | Run) -> tuple[Block, ...]:
    return (piece,) if isinstance(piece, Block) else piece.blocks


def wrong_gradient(gradient: np.ndarray, piece: Block | Run) -> int:
    """The first parameter of the piece whose gradient is not finite. numpy's warnings are the caller's to turn off."""
    # A sum of squares is the cheapest look at all of them. It may overflow, and is then looked at exactly.
    squares = np.dot(gradient, gradient)
    if squares - squares == 0:
        return FINE
    for block in blocks_of(piece):
        if not np.isfinite(gradient[block.start - piece.start : block.stop - piece.start]).all():
            return PARAMETER + block.parameter
    return FINE


def square_of(gradient: np.ndarray) -> float:
    """The sum of the squares of a flat array, in float64."""
    wide = gradient.view(gradient.real.dtype).astype(np.float64)
    return float(np.dot(wide, wide))


def norm_of(arena: Arena) -> float:
    """The gradient's norm from the blocks' float64 sums of squares, added in block order."""
    total = 0.0
    for square in arena.squares.tolist():
        total += square
    return math.sqrt(total)


def wrong_norm(arena: Arena) -> int:
    """The first parameter whose part of the norm is not finite."""
    wrong = np.flatnonzero(~np.isfinite(arena.squares))
    return PARAMETER + arena.layout.blocks[wrong[0]].parameter if len(wrong) else FINE


# ----- what the members agree on -----


def first_of(words: np.ndarray) -> int:
    """The first thing that any member found: the least of the words that are not 0, or 0."""
    return min((word for word in words.tolist() if word), default=0)


def describe(layout: Layout, wrong: int, slot: int) -> str:
    """In words. slot: of the shard that it is of, from 1; the penalty's is the last; 0: of no one alone."""
    if wrong == DIVISOR:
        return "the divisor of the batch is 0, so its mean is not defined: every target is ignored, or has weight 0"
    what = "loss" if wrong == LOSS else f"gradient of {layout.parameters[wrong - PARAMETER].name}"
    if not slot:
        return f"the {what} is not finite, though that of each shard is: their sum overflows"
    where = "the penalty" if slot > layout.shards else f"shard {slot - 1} of {layout.shards}"
    return f"the {what} of {where} is not finite" if wrong == LOSS else f"the {what} is not finite in {where}"
