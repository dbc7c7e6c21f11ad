"""How a batch is cut into shards and how their gradients are added: in one fixed binary tree over the shard index.

The tree has the shards as its leaves; the node of `size` shards that starts at shard `start` (a multiple of size)
is written (start, size). Whoever adds, and however the shards are spread, the additions are these, so the bits are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

Node = tuple[int, int]
Part = TypeVar("Part")


def check_shards(shards: int) -> int:
    if not isinstance(shards, int) or shards < 1 or shards & (shards - 1):
        below = 1 << max(0, int(shards).bit_length() - 1)
        raise ValueError(f"expected shards to be a power of two, got {shards}: write {below} or {2 * below}")
    return shards


def shard_slice(shard: int, shards: int, examples: int) -> slice:
    """The examples of one shard of a batch; empty where there are fewer examples than shards.

    >>> from pargrad.parallel.shards import shard_slice
    >>> [shard_slice(shard, 4, examples=10) for shard in range(4)]
    [slice(0, 2, None), slice(2, 5, None), slice(5, 7, None), slice(7, 10, None)]
    """
    return slice(shard * examples // shards, (shard + 1) * examples // shards)


def owned_shards(worker: int, workers: int, shards: int) -> range:
    return part_of(range(shards), worker, workers)


def part_of(share: range, worker: int, workers: int) -> range:
    """A worker's shards, where `workers` have these together."""
    return range(
        share.start + worker * len(share) // workers,
        share.start + (worker + 1) * len(share) // workers,
    )


def aligned_nodes(owned: range) -> list[Node]:
    """The largest nodes of the tree that a range of shards holds: what a worker hands on.

    >>> from pargrad.parallel.shards import aligned_nodes
    >>> aligned_nodes(range(0, 8)), aligned_nodes(range(2, 7))
    ([(0, 8)], [(2, 2), (4, 2), (6, 1)])
    """
    nodes, start = [], owned.start
    while start < owned.stop:
        size = (start & -start) or (1 << (owned.stop.bit_length()))
        while start + size > owned.stop:
            size //= 2
        nodes.append((start, size))
        start += size
    return nodes


def all_nodes(workers: int, shards: range | int) -> list[Node]:
    """The nodes that all workers hand on together; they cover every one of their shards once."""
    share = range(shards) if isinstance(shards, int) else shards
    return [node for worker in range(workers) for node in aligned_nodes(part_of(share, worker, workers))]


def reduce_tree(parts: Sequence[Part | None], add: Callable[[Part, Part], Part]) -> Part | None:
    """The sum of one part a shard, in the tree's order. None is an absent part: its sibling passes up unchanged.

    >>> from pargrad.parallel.shards import reduce_tree
    >>> reduce_tree(["a", "b", None, "d"], lambda left, right: f"({left} + {right})")
    '((a + b) + d)'
    """
    level = list(parts)
    while len(level) > 1:
        level = [
            add(left, right) if left is not None and right is not None else left if right is None else right
            for left, right in zip(level[::2], level[1::2])
        ]
    return level[0]


def all_reduce(gradients: Sequence[list[np.ndarray | None]], divisors: Sequence[float]) -> list[np.ndarray | None]:
    """The batch's gradient from its shards', over plain arrays: what the arena does, to be read in a minute.

    gradients: per shard, per parameter, the gradient of the summed loss, None where the graph did not reach it.
    divisors: per shard, 0 where it is empty. Returns, per parameter, the shards' sum divided by the sum of divisors.
    """
    divisor = reduce_tree(divisors, lambda left, right: left + right)
    totals = [reduce_tree(parts, np.add) for parts in zip(*gradients)]
    return [None if total is None else as_dtype(total / divisor, total) for total in totals]


def as_dtype(value: Any, like: np.ndarray) -> np.ndarray:
    return np.asarray(value, like.dtype)
