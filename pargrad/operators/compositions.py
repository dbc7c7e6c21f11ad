"""Operators of torch's that are made of others: no derivative of their own, torch's signatures and keyword names."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.promotion import CATEGORY_DEFAULT
from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply


def call(name: str, *inputs: Any, **settings: Any) -> Any:
    return apply(RULES[name], *inputs, **settings)


def tensor(x: Any) -> Tensor:
    """What is no tensor yet, an array or a number, as a constant."""
    return x if isinstance(x, Tensor) else Tensor(np.asarray(x))


def position(name: str, input: Tensor, dim: int) -> int:
    """A dimension counted from the front, checked."""
    count = input.ndim or 1  # as torch has it, a number has the dimensions 0 and -1
    if not -count <= dim < count:
        raise IndexError(f"{name}: expected a dim from {-count} to {count - 1} for shape {input.shape}, got {dim}")
    return operator.index(dim) % count


def check_dimensions(name: str, input: Tensor, least: int) -> None:
    if input.ndim < least:
        raise RuntimeError(f"{name}: expected a tensor of at least {least} dimensions, got shape {input.shape}")


def listed(values: tuple) -> tuple:
    """f(a, b) and f((a, b)) mean the same."""
    only = values[0] if len(values) == 1 else None
    return tuple(only) if isinstance(only, tuple | list) else values


def integers(name: str, index: Any) -> np.ndarray:
    """An index as an array of its own, so that a graph may keep it."""
    array = np.array(index.array if isinstance(index, Tensor) else index)
    if not array.size and not isinstance(index, Tensor | np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise RuntimeError(f"{name}: expected an index of integers, got {array.dtype}: write index.long()")
    return array


def indexed(input: Tensor, index: Any) -> Tensor:
    return call("getitem", input, index=index)


def reshaped(input: Tensor, *shape: int) -> Tensor:
    return call("reshape", input, shape=shape)


def sliced(input: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return indexed(input, (slice(None),) * axis + (slice(start, stop),))


# ----- views -----


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with the dims of `source` at the places of `destination`, the others in their order."""
    given = [tuple(dims) if isinstance(dims, tuple | list) else (dims,) for dims in (source, destination)]
    old, new = ([position("movedim", input, dim) for dim in dims] for dims in given)
    if len(old) != len(new) or len(set(old)) < len(old) or len(set(new)) < len(new):
        raise RuntimeError(f"movedim: expected as many dims in both, each once, got {source} and {destination}")
    if not input.ndim:
        return call("permute", input, dims=())
    rest = iter(dim for dim in range(input.ndim) if dim not in old)
    places = dict(zip(new, old))
    return call("permute", input, dims=tuple(places[i] if i in places else next(rest) for i in range(input.ndim)))


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """A view with two dimensions swapped."""
    first, second = position("swapaxes", input, axis0), position("swapaxes", input, axis1)
    dims = list(range(input.ndim))
    if dims:
        dims[first], dims[second] = second, first
    return call("permute", input, dims=tuple(dims))


def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    return swapaxes(input, dim0, dim1)


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension; a view where the memory allows it."""
    return reshaped(input, -1) if math.prod(input.shape) else reshaped(input, 0)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One dimension as several, of which one may be -1."""
    axis, sizes = position("unflatten", input, dim), tuple(sizes)
    if not sizes:
        raise RuntimeError("unflatten: expected at least one size, got none")
    length = input.shape[axis] if input.ndim else 1
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known and length % known == 0:
        sizes = tuple(length // known if size == -1 else size for size in sizes)
    if -1 in sizes or math.prod(sizes) != length:
        raise RuntimeError(f"unflatten: the sizes {sizes} do not multiply to {length}, the length of dim {dim}")
    return reshaped(input, *input.shape[:axis], *sizes, *input.shape[axis + 1 :])


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """A view in which dimensions of length 1 are repeated; -1 keeps a dimension."""
    return call("expand", input, size=tuple(size))


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of another tensor."""
    return broadcast_to(self, other.shape)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The same elements in the shape of another tensor."""
    return reshaped(self, *other.shape)


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Views of all tensors in the one shape that they broadcast to."""
    given = list(map(tensor, listed(tensors)))
    try:
        shape = np.broadcast_shapes(*(x.shape for x in given))
    except ValueError as error:
        raise RuntimeError(f"broadcast_tensors: {error}") from None
    return tuple(broadcast_to(x, shape) for x in given)


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of what is at one position of a dimension, without that dimension."""
    if not input.ndim:
        raise IndexError("select: a number has no dimension to select from")
    axis, index = position("select", input, dim), operator.index(index)
    if not -input.shape[axis] <= index < input.shape[axis]:
        raise IndexError(f"select: position {index} is not in dim {dim} of shape {input.shape}")
    return indexed(input, (slice(None),) * axis + (index,))


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of `length` positions of a dimension, from `start` on."""
    check_dimensions("narrow", input, 1)
    axis, start = position("narrow", input, dim), operator.index(start)
    size = input.shape[axis]
    if not -size <= start <= size:
        raise IndexError(f"narrow: expected a start from {-size} to {size}, got {start}")
    start += size if start < 0 else 0
    if length < 0 or start + length > size:
        raise RuntimeError(f"narrow: {length} positions from {start} on are not in dim {dim} of shape {input.shape}")
    return sliced(input, axis, start, start + length)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of what is at each position of a dimension, without that dimension."""
    if not input.ndim:
        raise IndexError("unbind: a number has no dimension to unbind")
    return tuple(select(input, dim, i) for i in range(input.shape[position("unbind", input, dim)]))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of one length, the last of which may be shorter, or of the lengths of a list.

    >>> [tuple(part.shape) for part in pg.zeros(5, 2).split(2)]
    [(2, 2), (2, 2), (1, 2)]
    """
    check_dimensions("split", tensor, 1)
    axis, size = position("split", tensor, dim), split_size_or_sections
    length = tensor.shape[axis]
    if isinstance(size, tuple | list):
        lengths = [operator.index(each) for each in size]
        if sum(lengths) != length or min(lengths, default=0) < 0:
            raise RuntimeError(f"split: expected lengths that add up to {length}, that of dim {dim}, got {lengths}")
    elif size < 0 or (not size and length):
        raise RuntimeError(f"split: expected a length of 1 or more, got {size}")
    else:
        lengths = [min(size, length - start) for start in range(0, length, size or 1)] or [0]
    ends = [*itertools.accumulate(lengths, initial=0)]
    return tuple(sliced(tensor, axis, start, end) for start, end in itertools.pairwise(ends))


def split_method(self: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of one length, the last of which may be shorter, or of the lengths of a list."""
    return split(self, split_size, dim)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most so many pieces, of one length but for the last."""
    check_dimensions("chunk", input, 1)
    if chunks < 1:
        raise RuntimeError(f"chunk: expected at least 1 piece, got {chunks}")
    axis = position("chunk", input, dim)
    length = input.shape[axis]
    return split(input, -(-length // chunks), dim) if length else (sliced(input, axis, 0, 0),) * chunks


def tensor_split(
    input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None
) -> tuple[Tensor, ...]:
    """Views of so many pieces, the first of which may be one longer, or of the pieces between positions."""
    check_dimensions("tensor_split", input, 1)
    where = next((x for x in (indices_or_sections, indices, sections) if x is not None), None)
    if where is None:
        raise TypeError("tensor_split() lacks its argument 'indices_or_sections'")
    axis = position("tensor_split", input, dim)
    length = input.shape[axis]
    if not isinstance(where, tuple | list) and not np.ndim(where.array if isinstance(where, Tensor) else where):
        count = operator.index(where)
        if count < 1:
            raise RuntimeError(f"tensor_split: expected at least 1 section, got {count}")
        ends = [i * (length // count) + min(i, length % count) for i in range(count + 1)]
        return tuple(sliced(input, axis, *pair) for pair in itertools.pairwise(ends))
    cuts = integers("tensor_split", where).tolist()
    return tuple(indexed(input, (slice(None),) * axis + (slice(*pair),)) for pair in zip([None, *cuts], [*cuts, None]))


def split_along(name: str, dim: Callable[[int], int], least: int, which: str) -> Callable[..., tuple[Tensor, ...]]:
    def function(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        check_dimensions(name, input, least)
        axis, count = dim(input.ndim), indices_or_sections
        if not isinstance(count, tuple | list) and (count < 1 or input.shape[axis] % count):
            raise RuntimeError(f"{name}: dim {axis} of shape {input.shape} is not {count} pieces of one length")
        return tensor_split(input, count, axis)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Views of so many equal pieces along {which}, or of the pieces between positions."
    return function


hsplit = split_along("hsplit", lambda ndim: min(ndim - 1, 1), 1, "dim 1 (dim 0 of a vector)")
vsplit = split_along("vsplit", lambda ndim: 0, 2, "dim 0")
dsplit = split_along("dsplit", lambda ndim: 2, 3, "dim 2")


def mT(input: Tensor) -> Tensor:  # noqa: N802
    """The last two dimensions swapped."""
    if input.ndim == 1:
        raise RuntimeError(f"mT: expected a matrix or a batch of matrices, got shape {input.shape}")
    return swapaxes(input, -2, -1) if input.ndim else input


def conjugate(input: Tensor) -> Tensor:
    return input.conj() if input.dtype.kind == "c" else input


def mH(input: Tensor) -> Tensor:  # noqa: N802
    """The last two dimensions swapped, and complex numbers conjugated."""
    return conjugate(mT(input))


def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped, and complex numbers conjugated."""
    return mH(input)


def H(input: Tensor) -> Tensor:  # noqa: N802
    """A matrix transposed, and complex numbers conjugated."""
    if input.ndim not in (0, 2):
        raise RuntimeError(f"H: expected a matrix, got shape {input.shape}: write x.mH for batches of matrices")
    return mH(input)


def at_least(name: str, widen: Callable[[Tensor], Tensor], count: int) -> Callable[..., Any]:
    def function(*tensors: Any) -> Any:
        if len(tensors) == 1 and not isinstance(tensors[0], tuple | list):
            return widen(tensor(tensors[0]))
        return tuple(widen(tensor(x)) for x in listed(tensors))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"Views with {count} dimensions or more: of one tensor, or of each of several."
    return function


def widen_3d(input: Tensor) -> Tensor:
    shape = input.shape
    return input if len(shape) > 2 else reshaped(input, *((1, *shape, 1) if len(shape) == 1 else (*shape, 1, 1, 1)[:3]))


atleast_1d = at_least("atleast_1d", lambda x: x if x.ndim else reshaped(x, 1), 1)
atleast_2d = at_least("atleast_2d", lambda x: x if x.ndim > 1 else reshaped(x, 1, *(x.shape or (1,))), 2)
atleast_3d = at_least("atleast_3d", widen_3d, 3)


# ----- joins -----


def joined(name: str, tensors: Any, dim: int, widen: Callable[[Any], tuple]) -> Tensor:
    given = tuple(tensors)
    if not given:
        raise RuntimeError(f"{name}: expected at least one tensor, got none")
    return call("cat", *widen(given), dim=dim)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along dim 1, vectors and numbers along dim 0."""
    given = tuple(tensors)
    return joined("hstack", given, 0 if given and tensor(given[0]).ndim < 2 else 1, atleast_1d)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along dim 0, vectors as rows."""
    return joined("vstack", tensors, 0, atleast_2d)


def row_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along dim 0, vectors as rows."""
    return joined("row_stack", tensors, 0, atleast_2d)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along dim 2."""
    return joined("dstack", tensors, 2, atleast_3d)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors joined along dim 1, vectors and numbers as columns."""
    return joined("column_stack", tensors, 1, lambda given: tuple(column(tensor(x)) for x in given))


def column(input: Tensor) -> Tensor:
    return input if input.ndim > 1 else reshaped(input, math.prod(input.shape), 1)


def block_diag(*tensors: Any) -> Tensor:
    """A matrix with these matrices along its diagonal; a vector is a row, a number a matrix of one element."""
    if not tensors:
        return Tensor(np.zeros((1, 0), CATEGORY_DEFAULT[2]))
    blocks = [atleast_2d(x) for x in tensors]
    for x in blocks:
        if x.ndim > 2:
            raise RuntimeError(f"block_diag: expected tensors of at most 2 dimensions, got shape {x.shape}")
    widths = [x.shape[1] for x in blocks]
    lines = []
    for i, x in enumerate(blocks):
        before, after = (np.zeros((x.shape[0], sum(part)), x.dtype) for part in (widths[:i], widths[i + 1 :]))
        lines.append(call("cat", before, x, after, dim=1))
    return call("cat", *lines, dim=0)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """Views of vectors along a grid, the first along its dim 0; with indexing="xy" along its dim 1.

    torch warns where `indexing` is not given; its default is "ij", as here.
    """
    given = [atleast_1d(x) for x in listed(tensors)]
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f"meshgrid: expected indexing='ij' or 'xy', got {indexing!r}")
    if not given:
        raise RuntimeError("meshgrid: expected at least one tensor, got none")
    if any(x.ndim > 1 for x in given) or len({x.dtype for x in given}) > 1:
        raise RuntimeError(f"meshgrid: expected vectors of one dtype, got {[(str(x.dtype), x.shape) for x in given]}")
    swap = indexing == "xy" and len(given) > 1
    if swap:
        given[:2] = given[1::-1]
    shape = tuple(x.shape[0] for x in given)
    grids = [
        broadcast_to(reshaped(x, *(n if axis == i else 1 for axis, n in enumerate(shape))), shape)
        for i, x in enumerate(given)
    ]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every combination of one element of each vector, as rows; of one vector, the vector."""
    given = listed(tensors)
    for x in given:
        if x.ndim != 1:
            raise RuntimeError(f"cartesian_prod: expected vectors, got shape {x.shape}")
    return given[0] if len(given) == 1 else call("stack", *map(ravel, meshgrid(*given)), dim=1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of r elements of a vector, in their order, as rows."""
    if input.ndim != 1 or r < 0:
        raise RuntimeError(f"combinations: expected a vector and r of 0 or more, got shape {input.shape} and {r}")
    if not r:
        return Tensor(np.zeros(0, input.dtype))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    return indexed(input, np.array(list(choose(range(input.shape[0]), r)), np.int64).reshape(-1, r))


# ----- diagonals, turns, repetitions -----


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A matrix with a vector as its diagonal; the diagonal of a matrix, as a copy."""
    if input.ndim not in (1, 2):
        raise RuntimeError(f"diag: expected a vector or a matrix, got shape {input.shape}")
    if input.ndim == 1:
        return call("diag_embed", input, offset=diagonal)
    return call("clone", call("diagonal", input, offset=diagonal))


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all elements as its diagonal."""
    return call("diag_embed", ravel(input), offset=offset)


def flip(input: Tensor, *arguments: Any, dims: Any = None) -> Tensor:
    """A copy with elements in reverse order along dims."""
    return call("flip", input, dims=listed(arguments if dims is None else (dims,)))


def fliplr(input: Tensor) -> Tensor:
    """A copy with dim 1 in reverse order."""
    check_dimensions("fliplr", input, 2)
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """A copy with dim 0 in reverse order."""
    check_dimensions("flipud", input, 1)
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A copy turned by k right angles, from the first of two dims towards the second."""
    check_dimensions("rot90", input, 2)
    if len(dims) != 2:
        raise RuntimeError(f"rot90: expected two dims, got {dims}")
    first, second = (position("rot90", input, dim) for dim in dims)
    if first == second:
        raise RuntimeError(f"rot90: expected two different dims, got {tuple(dims)}")
    turns = k % 4
    if turns == 0:
        return call("clone", input)
    if turns == 2:
        return flip(input, first, second)
    return swapaxes(flip(input, second if turns == 1 else first), first, second)


def repeat(self: Tensor, *arguments: Any, repeats: Any = None) -> Tensor:
    """A copy repeated along each dimension; more counts than dimensions make new ones at the front."""
    return call("repeat", self, repeats=listed(arguments if repeats is None else (repeats,)))


def tile(input: Tensor, *arguments: Any, dims: Any = None) -> Tensor:
    """A copy repeated along each dimension; counts that lack at the front are 1."""
    counts = listed(arguments if dims is None else (dims,))
    return call("repeat", input, repeats=(1,) * (input.ndim - len(counts)) + counts)


def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element repeated, along `dim` or all in one row; `repeat_interleave(repeats)` gives the positions."""
    if repeats is None:
        counts = integers("repeat_interleave", input)
        if counts.ndim != 1:
            raise RuntimeError(f"repeat_interleave: expected a vector of counts, got shape {counts.shape}")
        check_counts(counts, counts.size, output_size)
        return Tensor(np.repeat(np.arange(counts.size), counts))
    if dim is None:
        input, dim = ravel(input), 0
    input = atleast_1d(input)
    axis, counts = position("repeat_interleave", input, dim), integers("repeat_interleave", repeats)
    if counts.ndim > 1:
        raise RuntimeError(f"repeat_interleave: expected a number or vector of counts, got shape {counts.shape}")
    length = input.shape[axis]
    counts = np.broadcast_to(counts, length) if counts.size == 1 else counts
    check_counts(counts, length, output_size)
    return indexed(input, (slice(None),) * axis + (np.repeat(np.arange(length), counts),))


def check_counts(counts: np.ndarray, length: int, total: int | None) -> None:
    if counts.size != length or (counts < 0).any():
        raise RuntimeError(f"repeat_interleave: expected {length} counts of 0 or more, got {counts.tolist()}")
    if total is not None and counts.sum() != total:
        raise RuntimeError(f"repeat_interleave: output_size is {total}, the counts add up to {counts.sum()}")


# ----- where torch has them -----

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        adjoint, atleast_1d, atleast_2d, atleast_3d, block_diag, broadcast_tensors, broadcast_to, cartesian_prod,
        chunk, column_stack, combinations, diag, diagflat, dsplit, dstack, flip, fliplr, flipud, hsplit, hstack,
        meshgrid, movedim, narrow, ravel, repeat_interleave, rot90, row_stack, select, split, swapaxes, swapdims,
        tensor_split, tile, unbind, unflatten, vsplit, vstack,
    )
}  # fmt: skip
FUNCTIONS["moveaxis"] = movedim
# Functions of torch's that are no methods of its Tensor, and methods that are no functions.
NOT_METHODS = {
    "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_tensors", "cartesian_prod", "column_stack",
    "combinations", "dstack", "hstack", "meshgrid", "row_stack", "vstack",
}  # fmt: skip
METHODS: dict[str, Any] = {
    **{name: function for name, function in FUNCTIONS.items() if name not in NOT_METHODS},
    "expand_as": expand_as,
    "repeat": repeat,
    "reshape_as": reshape_as,
    "split": split_method,
    "H": property(H),
    "mH": property(mH),
    "mT": property(mT),
}
# Rules that torch has as methods only, or not at all.
INTERNAL = {"repeat", "unfold"}

# numpy's functions that the rules' derivatives are written with, called on Tensors.
NUMPY: dict[Callable, Callable] = {
    np.moveaxis: movedim,
    np.flip: lambda m, axis=None: flip(m, tuple(range(m.ndim)) if axis is None else axis),
    np.roll: lambda a, shift, axis=None: call("roll", a, shifts=shift, dims=axis),
    np.tril: lambda m, k=0: call("tril", m, diagonal=k),
    np.triu: lambda m, k=0: call("triu", m, diagonal=k),
    np.diagonal: lambda a, offset=0, axis1=0, axis2=1: call("diagonal", a, offset=offset, dim1=axis1, dim2=axis2),
    np.tile: lambda A, reps: tile(A, reps),  # noqa: N803
    np.ravel: ravel,
    np.copy: lambda a, order="K", subok=False: call("clone", a),
    np.lib.stride_tricks.sliding_window_view: lambda x, window_shape, axis, *, subok=False, writeable=False: call(
        "unfold", x, dimension=axis, size=window_shape, step=1
    ),
}  # fmt: skip
