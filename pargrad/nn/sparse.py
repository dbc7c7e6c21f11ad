"""Embeddings: rows of a table by their number, and sums, means and maxima of bags of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad import operators
from pargrad.nn.terms import as_constant
from pargrad.rules import RULES
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply


def row_numbers(name: str, input: Any, weight: Tensor) -> Tensor:
    """The input as a tensor of integers, each the number of one of weight's rows."""
    input = as_constant(input)
    if weight.ndim != 2:
        raise RuntimeError(f"{name}: expected a weight of shape (rows, columns), got {weight.shape}")
    if input.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: expected integers, got {input.dtype}: write input.long()")
    numbers = input.slices if isinstance(input, Stacked) else input.array
    least, most = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
    if least < 0 or (most >= len(weight) and numbers.size):
        raise IndexError(f"{name}: expected numbers of rows from 0 to {len(weight) - 1}, got {least} to {most}")
    return input


def row_of_padding(name: str, padding_idx: int | None, weight: Tensor) -> int | None:
    if padding_idx is None:
        return None
    if not -len(weight) <= padding_idx < len(weight):
        raise ValueError(
            f"{name}: expected padding_idx to be the number of one of {len(weight)} rows, got {padding_idx}"
        )
    return padding_idx % len(weight)


def check_dense(name: str, sparse: bool) -> None:
    if sparse:
        raise RuntimeError(f"{name}: there are no sparse gradients here: write sparse=False")


def check_mode(name: str, mode: str, scale_grad_by_freq: bool) -> None:
    """Refuses what makes no bag of rows."""
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"{name}: expected mode 'sum', 'mean' or 'max', got {mode!r}")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError(f"{name}: scale_grad_by_freq is not for mode='max': write scale_grad_by_freq=False")


def renormalize(weight: Tensor, rows: np.ndarray, max_norm: float, norm_type: float) -> None:
    """Shortens, in place, those of the rows whose norm is above max_norm, outside of any graph."""
    rows = np.unique(rows)
    lengths = np.linalg.norm(weight.array[rows], norm_type, axis=1)
    long = lengths > max_norm
    if long.any():
        factors = (max_norm / (lengths[long] + 1e-7)).astype(weight.dtype)
        weight.array[rows[long]] *= factors[:, None]
        weight.cell[0] += 1


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """weight[input]: input of integers, of any shape, weight (rows, columns).

    padding_idx: a row that is given no gradient. max_norm: rows that are taken are shortened to it first, in place.
    scale_grad_by_freq: a row's gradient is divided by how often it was taken. There are no sparse gradients.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html

    >>> F.embedding(pg.tensor([2, 0]), pg.eye(3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    check_dense("embedding", sparse)
    input = row_numbers("embedding", input, weight)
    padding_idx = row_of_padding("embedding", padding_idx, weight)
    if max_norm is not None:
        renormalize(weight, input.array, max_norm, norm_type)
    settings = {"padding_idx": padding_idx, "scale_grad_by_freq": scale_grad_by_freq}
    return apply(RULES["embedding"], weight, input, **settings)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of each bag: input (bags, rows in each), or (rows,) with offsets (bags,).

    offsets: where each bag begins; include_last_offset: and where the last ends. An empty bag is 0. padding_idx: a
    row that counts as not there. per_sample_weights, of input's shape: factors of the rows, for mode="sum".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding_bag.html
    """
    check_dense("embedding_bag", sparse)
    input = row_numbers("embedding_bag", input, weight)
    padding_idx = row_of_padding("embedding_bag", padding_idx, weight)
    check_mode("embedding_bag", mode, scale_grad_by_freq)
    if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != input.shape):
        raise ValueError(
            f"embedding_bag: per_sample_weights are for mode='sum', of input's shape {input.shape}, got mode={mode!r} "
            f"and shape {per_sample_weights.shape}"
        )
    starts, ends = spans(input, offsets, include_last_offset)
    flat = input.reshape(-1) if input.numel() else input.reshape(0)
    numbers = flat.array
    if max_norm is not None:
        renormalize(weight, numbers, max_norm, norm_type)

    # Bags side by side, as long as the longest: where each of their rows is in the input, and whether there is one.
    places = starts[:, None] + np.arange((ends - starts).max(initial=0))
    there = places < ends[:, None]
    places = np.where(there, places, 0)
    if padding_idx is not None and numbers.size:
        there &= numbers[places] != padding_idx
    settings = {"padding_idx": padding_idx, "scale_grad_by_freq": scale_grad_by_freq}
    rows = apply(RULES["embedding"], weight, flat, **settings)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    if not there.size:
        return rows.sum() * np.zeros((len(starts), weight.shape[1]), weight.dtype)
    bags = rows[places]
    counts = there.sum(axis=1)[:, None]
    if mode == "max":
        largest = operators.where(there[:, :, None], bags, -np.inf).max(1)[0]
        return operators.where(counts > 0, largest, 0.0)
    total = operators.where(there[:, :, None], bags, 0.0).sum(1)
    return total if mode == "sum" else total / np.maximum(counts, 1).astype(weight.dtype)


def spans(input: Tensor, offsets: Tensor | None, include_last_offset: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where the bags begin and end in the flattened input."""
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("embedding_bag: expected no offsets for input of 2 dimensions, each row of which is a bag")
        starts = np.arange(input.shape[0]) * input.shape[1]
        return starts, starts + input.shape[1]
    if input.ndim != 1 or offsets is None:
        raise ValueError(
            "embedding_bag: expected input of 2 dimensions, or of 1 dimension with offsets, got shape "
            f"{input.shape} and {'no offsets' if offsets is None else 'offsets'}"
        )
    array = as_constant(offsets).array
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.size and array[0] != 0):
        raise ValueError(f"embedding_bag: expected offsets as a vector of integers from 0 on, got {array.tolist()}")
    ends = array[1:] if include_last_offset else np.append(array[1:], input.shape[0])
    starts = array[:-1] if include_last_offset else array
    if (ends < starts).any() or (ends > input.shape[0]).any():
        raise ValueError(
            f"embedding_bag: expected offsets that grow up to the length of the input, {input.shape[0]}, got "
            f"{array.tolist()}"
        )
    return starts, ends


__all__ = ["embedding", "embedding_bag"]
