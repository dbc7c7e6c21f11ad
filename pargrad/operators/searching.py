"""Where elements are: what is not zero, where values belong in a sorted sequence, counts; none has a derivative."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators.compositions import integers, tensor
from pargrad.tensor import Tensor

# ----- what is not zero, what is equal -----


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The positions of what is not zero, as rows; with as_tuple, for each dimension a vector, as x[...] takes them."""
    array = input.array
    if as_tuple:
        return tuple(map(Tensor, np.nonzero(np.atleast_1d(array))))
    return Tensor(np.argwhere(array))


def argwhere(input: Tensor) -> Tensor:
    """The positions of what is not zero, as rows."""
    return nonzero(input)


def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` positions of what is not zero, as rows; fill_value where there are not so many."""
    found = np.argwhere(input.array)[:size]
    out = np.full((size, input.ndim), fill_value)
    out[: len(found)] = found
    return Tensor(out)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each of `elements` is one of `test_elements`; at least one of the two is a tensor."""
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError("isin: expected at least one tensor, got two numbers")
    found = np.isin(tensor(elements).array, tensor(test_elements).array, assume_unique=assume_unique, invert=invert)
    return Tensor(np.asarray(found))


def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The first of each run of equal elements (or slices along `dim`); asked for, the run of each, and their lengths.

    https://docs.pytorch.org/docs/stable/generated/torch.unique_consecutive.html; no derivative.
    """
    row = input.array.reshape(-1) if dim is None else np.moveaxis(np.atleast_1d(input.array), dim, 0)
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]).reshape(len(row[1:]), math.prod(row.shape[1:])).any(axis=1)
    values = row[new] if dim is None else np.moveaxis(row[new], 0, dim)
    inverse = np.cumsum(new) - 1
    counts = np.diff(np.append(np.flatnonzero(new), len(row)))
    wanted = [values.reshape(values.shape if input.ndim or dim is None else ())]
    if return_inverse:
        wanted.append(inverse.reshape(input.shape) if dim is None else inverse)
    if return_counts:
        wanted.append(counts)
    tensors = tuple(map(Tensor, wanted))
    return tensors if len(tensors) > 1 else tensors[0]


# ----- positions as numbers -----


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Positions in a flattened tensor of this shape, as one tensor of positions for each dimension."""
    index, sizes = integers("unravel_index", indices), (shape,) if isinstance(shape, int) else tuple(shape)
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    return tuple(Tensor(np.asarray(index // stride % size)) for stride, size in zip(strides, sizes))


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64) -> Tensor:
    """Row and column positions of the lower triangle of a matrix, the diagonal at `offset` included."""
    check_sizes("tril_indices", row, col, dtype)
    return Tensor(np.stack(np.tril_indices(row, offset, col)).astype(dtype))


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64) -> Tensor:
    """Row and column positions of the upper triangle of a matrix, the diagonal at `offset` included."""
    check_sizes("triu_indices", row, col, dtype)
    return Tensor(np.stack(np.triu_indices(row, offset, col)).astype(dtype))


def check_sizes(name: str, row: int, col: int, dtype: Any) -> None:
    if row < 0 or col < 0:
        raise RuntimeError(f"{name}: expected row and col of 0 or more, got {row} and {col}")
    if np.dtype(dtype).kind not in "iu":
        raise RuntimeError(f"{name}: expected a dtype of integers, got {np.dtype(dtype)}")


# ----- sorted sequences -----


def searchsorted(
    sorted_sequence: Any,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Any = None,
) -> Tensor:
    """Where values are to be inserted into the sorted rows of the last dimension, to keep them sorted.

    right, or side="right": behind what is equal, not before it. sorter: indices that sort the sequence. Sequences and
    values may differ in dtype, which torch refuses. https://docs.pytorch.org/docs/stable/generated/torch.searchsorted.html
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(f"searchsorted: expected side='left' or 'right' and no other right, got {side!r}, {right}")
    sequence, values = tensor(sorted_sequence).array, tensor(input).array
    if not sequence.ndim or (sequence.ndim > 1 and sequence.shape[:-1] != values.shape[:-1]):
        raise RuntimeError(
            f"searchsorted: expected a vector, or rows as the values have, got {sequence.shape} for {values.shape}"
        )
    if sorter is not None:
        order = integers("searchsorted", sorter)
        if order.shape != sequence.shape or (order.size and not 0 <= order.min() <= order.max() < order.shape[-1]):
            raise RuntimeError(f"searchsorted: expected a sorter of shape {sequence.shape} that is within it")
        sequence = np.take_along_axis(sequence, order, -1)
    found = insertions(sequence, values, right or side == "right")
    return Tensor(np.asarray(found, np.int32 if out_int32 else np.int64))


def insertions(sequence: np.ndarray, values: np.ndarray, right: bool) -> np.ndarray:
    """numpy's searchsorted for one vector; for rows, all of them at once halve where each value may be."""
    if sequence.ndim == 1:
        return np.searchsorted(sequence, values, "right" if right else "left")
    low, high = np.zeros(values.shape, np.int64), np.full(values.shape, sequence.shape[-1])
    while (low < high).any():
        middle = np.minimum((low + high) // 2, sequence.shape[-1] - 1)
        here = np.take_along_axis(sequence, middle, -1)
        after = (low < high) & ~(here > values if right else here >= values)  # nan comes after everything
        low, high = np.where(after, middle + 1, low), np.where(after, high, np.minimum(middle, high))
    return low


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The bucket i of each value: boundaries[i-1] < v <= boundaries[i], or with right=True <= v <."""
    edges = tensor(boundaries)
    if edges.ndim != 1:
        raise RuntimeError(f"bucketize: expected a vector of boundaries, got shape {edges.shape}")
    return searchsorted(edges, input, out_int32=out_int32, right=right)


# ----- histograms -----

histogram_and_edges = namedtuple("histogram_and_edges", ["hist", "bin_edges"])


def histogram(
    input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Any = None, density: bool = False
) -> Any:
    """How many elements, or what weight, there is in each bin, and the edges of the bins; the last edge belongs to it.

    bins: a number of equal bins over `range` (without one: of the data's), or a tensor of edges.
    https://docs.pytorch.org/docs/stable/generated/torch.histogram.html
    """
    points = Tensor(input.array.reshape(-1, 1))
    weight = None if weight is None else Tensor(tensor(weight).array.reshape(-1))
    edges = [bins] if isinstance(bins, int) else (bins,)
    hist, bin_edges = histogramdd(points, edges, range=range, weight=weight, density=density)
    return histogram_and_edges(hist, bin_edges[0])


def histogramdd(
    input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Any = None, density: bool = False
) -> Any:
    """`histogram` of points with as many coordinates as the last dimension has elements.

    bins: a number of bins, or one for each coordinate, or a tensor of edges for each; range: the least and greatest
    edge of each coordinate, one after the other. https://docs.pytorch.org/docs/stable/generated/torch.histogramdd.html
    """
    if input.dtype.kind != "f" or input.ndim < 2:
        raise RuntimeError(f"histogramdd: expected points of floats, got {input.dtype} of shape {input.shape}")
    points = input.array.reshape(-1, input.shape[-1])
    count = points.shape[1]
    bins = [bins] * count if isinstance(bins, int) else list(bins)
    if len(bins) != count or (range is not None and len(range) != 2 * count):
        raise RuntimeError(f"histogramdd: expected bins, and two ends of a range, for each of {count} coordinates")
    spans = [None] * count if range is None else list(zip(range[::2], range[1::2]))
    edges = [edges_of(*each, dimension) for dimension, each in enumerate(zip(bins, spans, points.T))]
    sizes = tuple(len(edge) - 1 for edge in edges)
    inside = np.ones(len(points), bool)
    for x, edge in zip(points.T, edges):
        inside &= (x >= edge[0]) & (x <= edge[-1])
    places = [
        np.minimum(np.searchsorted(edge, x[inside], "right") - 1, size - 1)
        for x, edge, size in zip(points.T, edges, sizes)
    ]
    given = None if weight is None else tensor(weight).array.reshape(-1)[inside]
    hist = np.bincount(np.ravel_multi_index(places, sizes), given, math.prod(sizes)).reshape(sizes)
    if density:
        volumes = np.ones(())
        for edge in edges:
            volumes = np.multiply.outer(volumes, np.diff(edge))
        hist = hist / (hist.sum() * volumes)
    return histogram_and_edges(Tensor(hist.astype(input.dtype)), tuple(map(Tensor, edges)))


def edges_of(bins: Any, span: Any, x: np.ndarray, dimension: int) -> np.ndarray:
    """The edges of bins: as given, or of so many equal ones over a span, or over what there is of x."""
    if isinstance(bins, Tensor | np.ndarray):
        edges = np.array(tensor(bins).array, x.dtype)
        if edges.ndim != 1 or not edges.size:
            raise RuntimeError(f"histogramdd: expected a vector of edges, got shape {edges.shape}")
        return edges
    if bins < 1:
        raise RuntimeError(f"histogramdd: expected at least 1 bin, got {bins}")
    low, high = span if span is not None else (x.min(), x.max()) if x.size else (0.0, 1.0)
    if not (np.isfinite(low) and np.isfinite(high)) or low > high:
        raise RuntimeError(f"histogramdd: dimension {dimension}'s range [{low}, {high}] is not finite or not in order")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1, dtype=x.dtype)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        argwhere, bucketize, histogram, histogramdd, isin, nonzero, nonzero_static, searchsorted, tril_indices,
        triu_indices, unique_consecutive, unravel_index,
    )
}  # fmt: skip
NOT_METHODS = {"bucketize", "histogramdd", "isin", "searchsorted", "tril_indices", "triu_indices", "unravel_index"}
