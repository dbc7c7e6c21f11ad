"""Picking elements by index, and putting them there: torch's signatures and checks on a few rules."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators.compositions import (
    atleast_1d,
    broadcast_to,
    call,
    indexed,
    integers,
    movedim,
    narrow,
    position,
    ravel,
    reshaped,
    tensor,
)
from pargrad.rules.scattering import rows
from pargrad.rules.shapes import diagonal_index
from pargrad.tensor import Tensor


def boolean(name: str, mask: Any) -> np.ndarray:
    """A mask as an array of its own, so that a graph may keep it."""
    array = np.array(mask.array if isinstance(mask, Tensor) else mask)
    if array.dtype != np.bool_:
        raise RuntimeError(f"{name}: expected a mask of booleans, got {array.dtype}: write mask.bool()")
    return array


def check_same_dtype(name: str, input: Tensor, source: Any) -> Tensor:
    """The source as a tensor, which must have the dtype of what it is put into."""
    source = tensor(source)
    if source.dtype != input.dtype:
        raise RuntimeError(f"{name}: expected a source of {input.dtype}, got {source.dtype}: write source.to(x.dtype)")
    return source


def number(name: str, input: Tensor, value: Any) -> Tensor:
    """A number, or a tensor of one, in the dtype of what it is put into."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        raise RuntimeError(f"{name}: expected a number as the value, got a tensor of shape {value.shape}")
    value = tensor(value)
    if value.dtype.kind == "c" != input.dtype.kind:
        raise RuntimeError(f"{name}: {input.dtype} cannot hold a complex number: write x.to(complex)")
    return value if value.dtype == input.dtype else call("to", value, dtype=input.dtype)


def positions(name: str, input: Tensor, dim: int, index: Any, *, negative: bool = False) -> tuple[int, np.ndarray]:
    """A dim counted from the front, and a vector of positions along it, checked."""
    axis, array = position(name, input, dim), integers(name, index)
    if array.ndim > 1:
        raise IndexError(f"{name}: expected a vector of positions, got shape {array.shape}")
    size = input.shape[axis] if input.ndim else 1
    least = -size if negative else 0
    if array.size and (array.min() < least or array.max() >= size):
        raise IndexError(f"{name}: expected positions from {least} to {size - 1}, got {array.tolist()}")
    return axis, array.reshape(-1)


def set_at(input: Tensor, index: Any, value: Any) -> Tensor:
    """A copy with x[index] = value, for an index as numpy takes it, without tensors."""
    return call("set_at", input, value, index=index)


# ----- picking -----


def gather(input: Tensor, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j][k] = input[i][index[i][j][k]][k] for dim=1: along `dim`, an index for each element.

    sparse_grad, torch's: there are no sparse gradients here.

    >>> pg.gather(pg.tensor([[1, 2], [3, 4]]), 1, pg.tensor([[1], [0]]))
    tensor([[2],
            [3]])
    """
    if sparse_grad:
        raise RuntimeError("gather: there are no sparse gradients here: write sparse_grad=False")
    return call("gather", input, index, dim=dim)


def take_along_dim(input: Tensor, indices: Any, dim: int | None = None) -> Tensor:
    """`gather` for which the other dimensions broadcast, as the indices of argmax and argsort need it.

    An index that is out of range is an error, where torch counts on from the start.
    """
    index = integers("take_along_dim", indices)
    if dim is None:
        input, index, dim = ravel(input), index.reshape(-1), 0
    if input.ndim != index.ndim:
        raise RuntimeError(f"take_along_dim: expected indices of {input.ndim} dimensions, got shape {index.shape}")
    axis = position("take_along_dim", input, dim)
    size = input.shape[axis] if input.ndim else 1
    index = np.where(index < 0, index + size, index)
    shape = list(np.broadcast_shapes(
        (*input.shape[:axis], 1, *input.shape[axis + 1 :]), (*index.shape[:axis], 1, *index.shape[axis + 1 :]),
    )) if input.ndim else []  # fmt: skip
    if not shape:
        return call("gather", input, index, dim=0)
    shape[axis] = size
    wide = input if input.shape == tuple(shape) else broadcast_to(input, shape)
    shape[axis] = index.shape[axis]
    return call("gather", wide, np.broadcast_to(index, shape), dim=axis)


def index_select(input: Tensor, dim: int, index: Any) -> Tensor:
    """A copy of what is at the positions of a vector along `dim`."""
    axis, array = positions("index_select", input, dim, index)
    if not input.ndim:
        if array.size != 1:
            raise RuntimeError(f"index_select: a number has one position, got {array.size}")
        return call("clone", input)
    return indexed(input, rows(array, axis))


def take(input: Tensor, index: Any) -> Tensor:
    """Elements by their position in the flattened tensor, in the shape of the index."""
    return indexed(ravel(input), (places("take", input, index),))


def places(name: str, input: Tensor, index: Any) -> np.ndarray:
    """Positions in the flattened tensor, checked."""
    array, size = integers(name, index), input.numel()
    if array.size and (array.min() < -size or array.max() >= size):
        raise IndexError(f"{name}: expected positions from {-size} to {size - 1}, got {array.tolist()}")
    return array


def narrow_copy(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`narrow` as a copy."""
    return call("clone", narrow(input, dim, start, length))


def masked_select(input: Tensor, mask: Any) -> Tensor:
    """A copy of the elements where the mask is True, in one dimension; the two broadcast."""
    wide, array = broadcast("masked_select", input, boolean("masked_select", mask))
    return indexed(atleast_1d(wide), (array.reshape(array.shape or (1,)),))


def broadcast(name: str, input: Tensor, mask: np.ndarray) -> tuple[Tensor, np.ndarray]:
    try:
        shape = np.broadcast_shapes(input.shape, mask.shape)
    except ValueError as error:
        raise RuntimeError(f"{name}: {error}") from None
    return broadcast_to(input, shape), np.broadcast_to(mask, shape)


# ----- putting, by mask and by any index -----


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """Elements of `input` where the condition is True, of `other` elsewhere; of a condition alone, where it is True.

    >>> x = pg.tensor([-1.0, 2.0])
    >>> pg.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    if (input is None) != (other is None):
        raise TypeError("where() takes a condition, or a condition and two values: write where(condition, x, y)")
    if input is None:
        return tuple(map(Tensor, np.nonzero(np.atleast_1d(tensor(condition).array))))
    return call("where", condition, input, other)


def masked_fill(input: Tensor, mask: Any, value: Any) -> Tensor:
    """A copy with `value`, a number or a tensor of one number, where the mask is True; the two broadcast."""
    mask = mask if isinstance(mask, Tensor) and mask.dtype == np.bool_ else boolean("masked_fill", mask)
    return call("where", mask, number("masked_fill", input, value), input)


def masked_scatter(input: Tensor, mask: Any, source: Any) -> Tensor:
    """A copy with the first elements of `source`, one after the other, where the mask is True."""
    wide, array = broadcast("masked_scatter", input, boolean("masked_scatter", mask))
    source = check_same_dtype("masked_scatter", input, source)
    count = np.count_nonzero(array)
    if count > source.numel():
        raise RuntimeError(f"masked_scatter: the mask has {count} elements that are True, the source {source.numel()}")
    return set_at(wide, array, indexed(ravel(source), (slice(count),)))


def index_put(input: Tensor, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    """A copy with x[indices] = values, or += values, for elements that are named twice as well.

    indices: tensors of integers or masks, one for each of the first dimensions; None, as in x[:, index], for one that
    is taken whole. https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_put_.html
    """
    if isinstance(indices, Tensor | np.ndarray):
        raise TypeError(f"index_put: expected a tuple of tensors, got a {type(indices).__name__}: write (index,)")
    values = check_same_dtype("index_put", input, values)
    index = tuple(slice(None) if part is None else integers_or_mask("index_put", part) for part in indices)
    if not accumulate:
        return set_at(input, index, values)
    return call("add", input, call("add_into_zeros", values, index=index, shape=input.shape))


def integers_or_mask(name: str, index: Any) -> np.ndarray:
    mask = tensor(index).dtype == np.bool_
    return boolean(name, index) if mask else integers(name, index)


def put(input: Tensor, index: Any, source: Any, accumulate: bool = False) -> Tensor:
    """A copy with the elements of `source` at, or added to, positions in the flattened tensor."""
    array, source = places("put", input, index), check_same_dtype("put", input, source)
    if source.numel() != array.size:
        raise IndexError(f"put: expected as many elements as positions, {array.size}, got {source.numel()}")
    flat = index_put(ravel(input), (array.reshape(-1),), ravel(source), accumulate)
    return reshaped(flat, *input.shape)


def select_scatter(input: Tensor, src: Any, dim: int, index: int) -> Tensor:
    """A copy with src at one position of a dimension: the counterpart of `select`."""
    if not input.ndim:
        raise IndexError("select_scatter: a number has no dimension to select from")
    axis = position("select_scatter", input, dim)
    size, index = input.shape[axis], operator.index(index)
    if not -size <= index < size:
        raise IndexError(f"select_scatter: position {index} is not in dim {dim} of shape {input.shape}")
    return set_view("select_scatter", input, (slice(None),) * axis + (index,), src)


def slice_scatter(
    input: Tensor, src: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy with src at a slice along a dimension: x[start:end:step] = src for dim=0."""
    if step < 1:
        raise RuntimeError(f"slice_scatter: expected a step of 1 or more, got {step}")
    axis = position("slice_scatter", input, dim)
    return set_view("slice_scatter", input, (slice(None),) * axis + (slice(start, end, step),), src)


def diagonal_scatter(input: Tensor, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy with src as a diagonal: the counterpart of `diagonal`."""
    moved = movedim(input, (dim1, dim2), (-2, -1))
    index = diagonal_index(moved.shape[-2], moved.shape[-1], offset)
    return movedim(set_view("diagonal_scatter", moved, index, src), (-2, -1), (dim1, dim2))


def set_view(name: str, input: Tensor, index: Any, src: Any) -> Tensor:
    src, shape = check_same_dtype(name, input, src), input.array[index].shape
    if src.shape != shape:
        raise RuntimeError(f"{name}: expected src of shape {shape}, got {src.shape}")
    return set_at(input, index, src)


# ----- putting, by an index for each element -----


def laid(input: Tensor, index: Any, src: Any, value: Any) -> Any:
    """scatter's source: a tensor, or a number wherever there is an index."""
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter() lacks its argument 'src' or 'value'")
    if isinstance(src, Tensor | np.ndarray):
        return src
    return np.full(np.shape(index.array if isinstance(index, Tensor) else index), src).astype(input.dtype)


def scatter(
    input: Tensor, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
    """A copy with out[i][index[i][j]][...] = src[i][j][...] for dim=1; src is a tensor or a number.

    reduce: "add" or "multiply" instead of replacing. A `src` larger than the index gets zeros where nothing was taken
    from it; torch raises in backward.
    """
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"scatter: expected reduce='add' or 'multiply', got {reduce!r}")
    rule = {None: "scatter", "add": "scatter_add", "multiply": "scatter_prod"}[reduce]
    return call(rule, input, index, laid(input, index, src, value), dim=dim)


def scatter_add(input: Tensor, dim: int, index: Any, src: Tensor) -> Tensor:
    """A copy to which src is added: out[i][index[i][j]][...] += src[i][j][...] for dim=1.

    A `src` larger than the index gets zeros where nothing was taken from it; torch raises in backward.
    """
    return call("scatter_add", input, index, src, dim=dim)


def scatter_reduce(input: Tensor, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Tensor:
    """`scatter` of the "sum", "prod", "mean", "amax" or "amin" of all that goes to an element, itself included or not.

    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.scatter_reduce_.html. Equal extremes share the gradient;
    an element that is not included has no part in it, where torch still counts it if it happens to be equal.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise RuntimeError(f"scatter_reduce: expected reduce='sum', 'prod', 'mean', 'amax' or 'amin', got {reduce!r}")
    if not include_self:
        input = scatter(input, dim, index, value=identity(reduce, input.dtype))
    if reduce == "prod":
        return call("scatter_prod", input, index, src, dim=dim)
    if reduce in ("amax", "amin"):
        return call("scatter_extreme", input, index, src, dim=dim, largest=reduce == "amax")
    total = call("scatter_add", input, index, src, dim=dim)
    if reduce == "sum":
        return total
    ones = np.ones(input.shape, input.dtype)
    own = tensor(ones) if include_self else scatter(tensor(ones), dim, index, value=0)
    counts = call("scatter_add", own, index, np.ones(tensor(src).shape, input.dtype), dim=dim).array
    if input.dtype.kind in "iu":
        return call("floor_divide", total, np.maximum(counts, 1))
    return call("div", total, np.where(counts == 0, 1, counts))


def identity(reduce: str, dtype: np.dtype) -> Any:
    """What an element is that counts for nothing."""
    if reduce in ("sum", "mean", "prod"):
        return 1 if reduce == "prod" else 0
    if dtype.kind == "f":
        return -np.inf if reduce == "amax" else np.inf
    if dtype.kind == "b":
        return reduce == "amin"
    limits = np.iinfo(dtype)
    return limits.min if reduce == "amax" else limits.max


# ----- putting, by an index for all that is at a position -----


def index_add(input: Tensor, dim: int, index: Any, source: Tensor, *, alpha: float = 1) -> Tensor:
    """A copy to which alpha * source is added, at the positions of a vector along `dim`."""
    return call("index_add", input, index, source, dim=dim, alpha=alpha)


def index_copy(input: Tensor, dim: int, index: Any, source: Any) -> Tensor:
    """A copy with source at the positions of a vector along `dim`."""
    axis, array = positions("index_copy", input, dim, index)
    source = matching("index_copy", input, axis, array, source)
    return reshaped(set_at(atleast_1d(input), rows(array, axis), source), *input.shape)


def matching(name: str, input: Tensor, axis: int, index: np.ndarray, source: Any) -> Tensor:
    """A source that has as many positions along a dim as there are in the index; numbers as vectors."""
    source, line = check_same_dtype(name, input, source), input.shape or (1,)
    many = (*line[:axis], index.size, *line[axis + 1 :])
    if (source.shape or (1,)) != many:
        raise IndexError(f"{name}: expected a source of shape {many} for {index.size} positions, got {source.shape}")
    return atleast_1d(source)


def index_fill(input: Tensor, dim: int, index: Any, value: Any) -> Tensor:
    """A copy with `value`, a number or a tensor of one, at the positions of a vector along `dim`."""
    axis, array = positions("index_fill", input, dim, index, negative=True)
    array = np.unique(array % (input.shape or (1,))[axis])  # else a position named twice counts twice in a gradient
    filled = set_at(atleast_1d(input), rows(array, axis), number("index_fill", input, value))
    return reshaped(filled, *input.shape)


def index_reduce(input: Tensor, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Tensor:
    """`scatter_reduce` with one index for all that is at a position along `dim`: "prod", "mean", "amax" or "amin"."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce: expected reduce='prod', 'mean', 'amax' or 'amin', got {reduce!r}")
    axis, array = positions("index_reduce", input, dim, index)
    source = matching("index_reduce", input, axis, array, source)
    line = array.reshape(-1, *(1,) * (source.ndim - axis - 1))
    places = np.ascontiguousarray(np.broadcast_to(line, source.shape))
    reduced = scatter_reduce(atleast_1d(input), axis, places, source, reduce, include_self=include_self)
    return reshaped(reduced, *input.shape)


def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """Integers with one more dimension, 1 at the class and 0 elsewhere; without num_classes, up to the largest.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html; every integer dtype will do.
    """
    classes = integers("one_hot", tensor)
    if num_classes < 0:
        if not classes.size:
            raise RuntimeError("one_hot: an empty tensor does not say how many classes there are: give num_classes")
        num_classes = int(classes.max()) + 1
    if classes.size and (classes.min() < 0 or classes.max() >= num_classes):
        raise RuntimeError(f"one_hot: expected classes from 0 to {num_classes - 1}, got {classes.tolist()}")
    return Tensor((classes[..., None] == np.arange(num_classes)).astype(np.int64))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        diagonal_scatter, gather, index_add, index_copy, index_fill, index_put, index_reduce, index_select, masked_fill,
        masked_scatter, masked_select, narrow_copy, put, scatter, scatter_add, scatter_reduce, select_scatter,
        slice_scatter, take, take_along_dim, where,
    )
}  # fmt: skip
# What torch has in place as well, under its name and an underscore.
IN_PLACE = (
    "index_add", "index_copy", "index_fill", "index_put", "index_reduce", "masked_fill", "masked_scatter", "put",
    "scatter", "scatter_add", "scatter_reduce",
)  # fmt: skip
# Rules that torch has no function for.
INTERNAL = {"add_into_zeros", "scatter_extreme", "scatter_prod", "set_at"}
