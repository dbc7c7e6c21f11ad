"""Operators that torch has under names of their own: memory by strides, views copied, checks left out, slopes."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators import compositions, indexing
from pargrad.operators.compositions import call, position, reshaped, sliced
from pargrad.tensor import Tensor

mantissa_and_exponent = namedtuple("mantissa_and_exponent", ["mantissa", "exponent"])


# ----- memory by strides -----


def geometry(name: str, input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None) -> Any:
    """The settings of the rule `as_strided`, checked."""
    sizes, steps, start = tuple(size), tuple(stride), storage_offset or 0
    if len(sizes) != len(steps) or min((*sizes, *steps, start), default=0) < 0:
        raise RuntimeError(f"{name}: expected as many strides as sizes, from 0 on, got {sizes}, {steps} and {start}")
    if not input.array.flags.c_contiguous:
        raise RuntimeError(f"{name}: of a tensor that is not contiguous, another order is meant: write x.contiguous()")
    last = start + sum((n - 1) * step for n, step in zip(sizes, steps))
    if math.prod(sizes) and last >= input.numel():
        raise RuntimeError(f"{name}: element {last} is not among the {input.numel()} of shape {input.shape}")
    return {"size": sizes, "stride": steps, "storage_offset": start}


def as_strided(input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """A view of memory: element (i, j) is the one at storage_offset + i * stride[0] + j * stride[1].

    Unlike in torch these count from the tensor's own first element, and the tensor is contiguous.
    https://docs.pytorch.org/docs/stable/generated/torch.as_strided.html
    """
    return call("as_strided", input, **geometry("as_strided", input, size, stride, storage_offset))


def as_strided_scatter(
    input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """A copy with the elements of src at those that `as_strided` would show."""
    places = geometry("as_strided_scatter", input, size, stride, storage_offset)
    if src.shape != places["size"]:
        raise RuntimeError(f"as_strided_scatter: expected src of shape {places['size']}, got {src.shape}")
    numbers = Tensor(np.arange(input.numel()).reshape(input.shape))
    at = call("as_strided", numbers, **places).array
    return reshaped(indexing.set_at(reshaped(input, -1), at, src), *input.shape)


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape in place, of the first elements in memory; what they are too few for is 0."""
    if self.requires_grad:
        raise RuntimeError("resize_ of a tensor that requires grad: write x.detach().resize_(...), or x.reshape(...)")
    shape = compositions.listed(sizes)
    count = math.prod(shape)
    if count <= self.numel():
        self.array = self.array.reshape(-1)[:count].reshape(shape)
    else:
        array = np.zeros(count, self.dtype)
        array[: self.numel()] = self.array.reshape(-1)
        self.array = array.reshape(shape)
    return self


def resize_as_(self: Tensor, other: Tensor, *, memory_format: Any = None) -> Tensor:
    """The shape of another tensor, in place."""
    return resize_(self, *other.shape)


# ----- copies of views -----


def copy_of(view: Callable[..., Any]) -> Callable[..., Any]:
    def function(*args: Any, **named: Any) -> Any:
        out = view(*args, **named)
        return tuple(call("clone", x) for x in out) if isinstance(out, tuple) else call("clone", out)

    return function


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of these lengths along `dim`."""
    return compositions.split(input, list(split_sizes), dim)


def unsafe_split(input: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """`split`; here every view is seen to."""
    return compositions.split(input, split_size, dim)


def unsafe_split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """`split_with_sizes`; here every view is seen to."""
    return split_with_sizes(input, split_sizes, dim)


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`chunk`; here every view is seen to."""
    return compositions.chunk(input, chunks, dim)


def slice_of(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    axis = position("slice_copy", input, dim)
    return compositions.indexed(input, (slice(None),) * axis + (slice(start, end, step),))


def unfolded(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    return call("unfold", input, dimension=dimension, size=size, step=step)


def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over the dimensions that broadcasting from this shape would have repeated."""
    shape = compositions.listed(size)
    if not shape:
        return call("sum", self)
    new = self.ndim - len(shape)
    if new < 0 or any(n not in (1, old) for n, old in zip(shape, self.shape[new:])):
        raise RuntimeError(f"sum_to_size: shape {tuple(shape)} does not broadcast to {self.shape}")
    dims = (*range(new), *(new + i for i, n in enumerate(shape) if n == 1 and self.shape[new + i] != 1))
    return reshaped(call("sum", self, dim=dims), *shape) if dims else self


# ----- numbers taken to pieces -----


def frexp(input: Tensor) -> Any:
    """A named tuple (mantissa, exponent) with input = mantissa * 2 ** exponent and mantissa from 0.5 to 1."""
    if input.dtype.kind != "f":
        raise RuntimeError(f"frexp: expected a floating-point tensor, got {input.dtype}: write x.float()")
    exponent = np.frexp(input.array)[1]
    # In two steps: 2 ** -exponent may be too large for a number.
    halves = [np.ldexp(np.ones((), input.dtype), part) for part in (-exponent // 2, -exponent - -exponent // 2)]
    return mantissa_and_exponent(
        input * Tensor(np.asarray(halves[0])) * Tensor(np.asarray(halves[1])), Tensor(np.asarray(exponent))
    )


# ----- slopes -----


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """The slope along each dim, from both neighbours; at the ends from 1 or, with edge_order=2, 2 on one side.

    spacing: the distance of neighbours, one number for all dims or a list of one each; or a list of vectors of
    coordinates. https://docs.pytorch.org/docs/stable/generated/torch.gradient.html
    """
    if edge_order not in (1, 2):
        raise RuntimeError(f"gradient: expected edge_order to be 1 or 2, got {edge_order}")
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    axes = [position("gradient", input, each) for each in dims]
    spacing = 1 if spacing is None else spacing
    distances = list(spacing) if isinstance(spacing, tuple | list) else [spacing] * len(axes)
    if len(distances) != len(axes):
        raise RuntimeError(f"gradient: expected a spacing for each of {len(axes)} dims, got {len(distances)}")
    return tuple(slope(input, axis, distance, edge_order) for axis, distance in zip(axes, distances))


def slope(input: Tensor, axis: int, distance: Any, edge_order: int) -> Tensor:
    count = input.shape[axis]
    if count < edge_order + 1:
        raise RuntimeError(f"gradient: expected at least {edge_order + 1} elements along dim {axis}, got {count}")
    where = distance.array if isinstance(distance, Tensor) else np.asarray(distance)
    steps = np.diff(where) if where.ndim else np.full(count - 1, where)
    if len(steps) != count - 1:
        raise RuntimeError(f"gradient: expected {count} coordinates along dim {axis}, got {where.size}")
    steps = steps.astype(np.finfo(input.dtype).dtype if input.dtype.kind in "fc" else np.float32)

    def taken(start: int, stop: int, factors: Sequence[np.ndarray]) -> Tensor:
        """The sum over factors times the elements from `start` to `stop`, then the ones after them, ..."""
        parts = [sliced(input, axis, start + i, stop + i) for i in range(len(factors))]
        shaped = [Tensor(np.reshape(f, (-1, *(1,) * (input.ndim - 1 - axis)))) for f in factors]
        out = parts[0] * shaped[0]
        for part, factor in zip(parts[1:], shaped[1:]):
            out = out + part * factor
        return out

    a, b = steps[:-1], steps[1:]
    middle = taken(0, count - 2, (-b / (a * (a + b)), (b - a) / (a * b), a / (b * (a + b))))
    if edge_order == 1:
        first, last = (taken(i, i + 1, (-1 / h, 1 / h)) for i, h in ((0, steps[:1]), (count - 2, steps[-1:])))
    else:
        a, b = steps[:1], steps[1:2]
        first = taken(0, 1, (-(2 * a + b) / (a * (a + b)), (a + b) / (a * b), -a / (b * (a + b))))
        a, b = steps[-2:-1], steps[-1:]
        last = taken(count - 3, count - 2, (b / (a * (a + b)), -(a + b) / (a * b), (a + 2 * b) / (b * (a + b))))
    return call("cat", first, middle, last, dim=axis)


# ----- where torch has them -----

VIEWS: dict[str, Callable[..., Any]] = {
    "alias": lambda input: input,
    "as_strided": as_strided,
    "diagonal": lambda input, offset=0, dim1=0, dim2=1: call("diagonal", input, offset=offset, dim1=dim1, dim2=dim2),
    "expand": compositions.broadcast_to,
    "permute": lambda input, dims: call("permute", input, dims=tuple(dims)),
    "select": compositions.select,
    "slice": slice_of,
    "split": compositions.split,
    "split_with_sizes": split_with_sizes,
    "squeeze": lambda input, dim=None: call("squeeze", input, dim=tuple(dim) if isinstance(dim, list) else dim),
    "t": lambda input: compositions.swapaxes(input, 0, 1) if input.ndim > 1 else input,
    "transpose": compositions.swapaxes,
    "unbind": compositions.unbind,
    "unfold": unfolded,
    "unsqueeze": lambda input, dim: call("unsqueeze", input, dim=dim),
    "view": lambda input, size: reshaped(input, *size),
}


def named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = f"{name}_copy"
    function.__doc__ = f"A copy of what `{name}` is a view of."
    return function


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{f"{name}_copy": named(name, copy_of(view)) for name, view in VIEWS.items()},
    **{
        function.__name__: function
        for function in (
            as_strided, as_strided_scatter, frexp, gradient, split_with_sizes, unsafe_chunk, unsafe_split,
            unsafe_split_with_sizes,
        )
    },
}  # fmt: skip
NOT_METHODS = {"gradient", *(f"{name}_copy" for name in VIEWS)}
METHODS: dict[str, Any] = {"resize_": resize_, "resize_as_": resize_as_, "sum_to_size": sum_to_size}
