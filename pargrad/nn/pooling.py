"""torch.nn.functional's poolings: the largest element, the mean or a norm of each window of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pargrad import random
from pargrad.nn.spatial import Several, Sizes, batched, call, dimensional, each, reshaped
from pargrad.rules.patches import Windows
from pargrad.rules.pooling import in_one_row, lowest, maxima
from pargrad.tensor import Tensor


def windows_sizes(name: str, dims: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Sizes, Sizes, Sizes]:
    """Kernel, stride and padding for each dimension, checked; no stride is that of the kernel."""
    kernel = each(name, "kernel_size", kernel_size, dims, 1)
    stride = kernel if stride is None or stride == [] or stride == () else each(name, "stride", stride, dims, 1)
    return kernel, stride, each(name, "padding", padding, dims)


def pooling_windows(
    name: str,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    dims: int,
) -> Windows:
    """Where the windows of a pooling lie; `ceil_mode` keeps a last one cut short."""
    if input.ndim not in (dims + 1, dims + 2):
        batched(name, input, dims)  # which says what is wrong
    kernel, stride, padding = windows_sizes(name, dims, kernel_size, stride, padding)
    dilation = each(name, "dilation", dilation, dims, 1)
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(padding, kernel, dilation)):
        raise RuntimeError(f"{name}: expected a padding of at most half of the kernel {kernel}, got {padding}")
    sizes, counts = input.shape[-dims:], []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation):
        room = n + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        counts.append(count - (ceil_mode and (count - 1) * s >= n + p))  # a window does not start in padding at the end
    if min(counts) < 1 or not all(sizes):
        raise RuntimeError(f"{name}: an input of shape {input.shape} is smaller than one window of {kernel}")
    return Windows(sizes, kernel, tuple(counts), stride, padding, dilation)


def picked(input: Tensor, index: np.ndarray, dims: int) -> Tensor:
    """The elements at these positions of each channel, whose last dims count as one row."""
    at = in_one_row(index, dims, math.prod(input.shape[-dims:]))
    return reshaped(call("getitem", reshaped(input, -1), index=at), *index.shape)


def max_pooling(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: Several,
    stride: Several | None = None,
    padding: Several = 0,
    dilation: Several = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window of input (N, C, *sizes) or (C, *sizes); padding counts as -inf.

    return_indices: also where each was found, counted in the sizes as one row, for max_unpool.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    windows = pooling_windows(name, input, kernel_size, stride, padding, dilation, ceil_mode, dims)
    if not return_indices:
        return call("max_pool", input, windows=windows)
    index = maxima(input.array, windows)[1]
    return picked(input, index, dims), Tensor(index)


def max_unpooling(
    name: str,
    dims: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Several,
    stride: Several | None = None,
    padding: Several = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Zeros with the elements of input where `max_pool` found them.

    output_size: the sizes, with or without the dimensions before them; several give the same pooled sizes.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    batched(name, input, dims)
    kernel, stride, padding = windows_sizes(name, dims, kernel_size, stride, padding)
    usual = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(input.shape[-dims:], stride, padding, kernel))
    sizes = usual if output_size is None else tuple(output_size)[-dims:]
    if len(sizes) != dims or any(not abs(n - m) < s for n, m, s in zip(sizes, usual, stride)):
        raise ValueError(f"{name}: expected an output_size closer than the stride to {usual}, got {output_size}")
    index = np.array(indices.array if isinstance(indices, Tensor) else indices)
    if index.shape != input.shape or index.dtype.kind not in "iu":
        raise RuntimeError(
            f"{name}: expected integer indices of the input's shape {input.shape}, got {index.dtype} of {index.shape}"
        )
    plane, lead = math.prod(sizes), input.shape[:-dims]
    if index.size and (index.min() < 0 or index.max() >= plane):
        raise RuntimeError(f"{name}: expected indices from 0 to {plane - 1} for the sizes {sizes}, got {index.max()}")
    at = in_one_row(index, dims, plane)
    flat = call("add_into_zeros", reshaped(input, -1), index=at, shape=(math.prod(lead) * plane,), once=True)
    return reshaped(flat, *lead, *sizes)


def window_table(size: int, starts: np.ndarray, taps: int, ends: np.ndarray) -> dict[str, np.ndarray]:
    """The table that adds up so many positions from each start on, as far as they are in the array and before the end.

    starts, ends: of each window.
    """
    index = starts[:, None] + np.arange(taps)
    inside = (index >= 0) & (index < np.minimum(ends, size)[:, None])
    return {"index": np.where(inside, index, 0), "weight": inside.astype(float)}


def summed(input: Tensor, windows: Windows) -> Tensor:
    """The sum of each window, without dilation: of one dimension after the other."""
    dims = len(windows.sizes)
    for axis, (n, k, count, s, p) in enumerate(
        zip(windows.sizes, windows.kernel, windows.counts, windows.stride, windows.before)
    ):
        starts = np.arange(count) * s - p
        input = call("resample", input, dim=axis - dims, **window_table(n, starts, k, starts + k))
    return input


def outer(numbers: list[np.ndarray]) -> np.ndarray:
    """The products of one number from each vector."""
    product = np.ones(())
    for vector in numbers:
        product = product[..., None] * vector
    return product


def divided(input: Tensor, divisor: np.ndarray) -> Tensor:
    """Sums of windows as means; a number where all windows have as many positions."""
    if divisor.size and (divisor == divisor.flat[0]).all():
        return input / float(divisor.flat[0])
    return input / divisor.astype(input.dtype)


def average_pooling(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: Several,
    stride: Several | None = None,
    padding: Several = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of input (N, C, *sizes) or (C, *sizes); padding counts as 0.

    count_include_pad=False: padding is no part of the mean. divisor_override: what sums are divided by instead.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    windows = pooling_windows(name, input, kernel_size, stride, padding, 1, ceil_mode, dims)
    if divisor_override is not None:
        if dims == 1:
            raise TypeError(f"{name}() takes no divisor_override")
        if not divisor_override:
            raise RuntimeError(f"{name}: expected a divisor_override other than 0")
        return summed(input, windows) / float(divisor_override)
    lengths = []
    for n, k, count, s, p in zip(windows.sizes, windows.kernel, windows.counts, windows.stride, windows.before):
        starts = np.arange(count) * s - p
        ends = np.minimum(starts + k, n + p)
        if not count_include_pad:
            starts, ends = np.maximum(starts, 0), np.minimum(ends, n)
        lengths.append(np.maximum(ends - starts, 1))  # a window of padding alone is 0, whatever it is divided by
    return divided(summed(input, windows), outer(lengths))


def power_pooling(
    name: str,
    dims: int,
    input: Tensor,
    norm_type: float,
    kernel_size: Several,
    stride: Several | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The p-norm of each window, p being norm_type, of input (N, C, *sizes) or (C, *sizes).

    As torch has it, powers are added with their sign, and a sum below 0 has no root: nan.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    kernel = each(name, "kernel_size", kernel_size, dims, 1)
    mean = average_pooling(name, dims, call("pow", input, norm_type), kernel, stride, 0, ceil_mode)
    total = mean * math.prod(kernel)
    # A root has no derivative at 0, where torch takes 0.
    nothing = call("eq", total, 0.0)
    return call("where", nothing, 0.0, call("pow", call("where", nothing, 1.0, total), 1.0 / norm_type))


# ----- adaptive pooling -----


def adaptive_sizes(name: str, input: Tensor, output_size: Any, dims: int) -> tuple[Sizes, Sizes]:
    """The sizes of the input and of the output, in which None keeps a size."""
    if input.ndim not in (dims + 1, dims + 2):
        batched(name, input, dims)
    sizes = input.shape[-dims:]
    wanted = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * dims
    if len(wanted) != dims:
        raise RuntimeError(f"{name}: expected an output_size of {dims} numbers, or one, got {output_size!r}")
    outputs = each(name, "output_size", tuple(n if m is None else m for n, m in zip(sizes, wanted)), dims)
    if not all(sizes):
        raise RuntimeError(f"{name}: expected an input with elements in its spatial dimensions, got {input.shape}")
    return sizes, outputs


def adaptive_spans(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of `count` windows that cover a dimension as evenly as may be."""
    places = np.arange(count)
    return places * size // max(count, 1), -(-(places + 1) * size // max(count, 1))


def adaptive_average_pooling(name: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    """The means of windows that cover input (N, C, *sizes) or (C, *sizes) evenly, so many in each dimension.

    output_size: a number, or one for each dimension; None keeps a size.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    sizes, outputs = adaptive_sizes(name, input, output_size, dims)
    lead = input.shape[:-dims]
    if all(count and n % count == 0 for n, count in zip(sizes, outputs)):
        split = [n for size, count in zip(sizes, outputs) for n in (count, size // count)]
        within = tuple(len(lead) + 1 + 2 * axis for axis in range(dims))
        return call("mean", reshaped(input, *lead, *split), dim=within)
    lengths = []
    for axis, (size, count) in enumerate(zip(sizes, outputs)):
        starts, ends = adaptive_spans(size, count)
        taps = int((ends - starts).max(initial=0))
        input = call("resample", input, dim=axis - dims, **window_table(size, starts, taps, ends))
        lengths.append(ends - starts)
    return divided(input, outer(lengths))


def adaptive_max_pooling(name: str, dims: int, input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest elements of windows that cover input (N, C, *sizes) or (C, *sizes) evenly, so many in each dimension.

    output_size: a number, or one for each dimension; None keeps a size. return_indices: also where each was found.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    sizes, outputs = adaptive_sizes(name, input, output_size, dims)
    spans = [adaptive_spans(size, count) for size, count in zip(sizes, outputs)]
    kernel = tuple(int((ends - starts).max(initial=1)) for starts, ends in spans)
    laid = tuple(count * k for count, k in zip(outputs, kernel))
    windows = Windows(laid, kernel, outputs, kernel, (0,) * dims, (1,) * dims)
    if laid == sizes and not return_indices:
        return call("max_pool", input, windows=windows)
    # Windows that overlap, or are longer than others, are laid out side by side; a shorter one has its last element
    # several times, which changes no maximum.
    elements, positions = input.array, []
    for axis, (k, (starts, ends)) in enumerate(zip(kernel, spans)):
        positions.append(np.minimum(starts[:, None] + np.arange(k), ends[:, None] - 1).reshape(-1))
        elements = np.take(elements, positions[-1], axis - dims)
    index = np.zeros((), np.int64)
    for size, row, at in zip(sizes, positions, np.unravel_index(maxima(elements, windows)[1], laid)):
        index = index * size + row[at]
    output = picked(input, index, dims)
    return (output, Tensor(index)) if return_indices else output


def lines_of(input: Tensor, dims: int) -> np.ndarray:
    """The elements of each channel in one row."""
    plane, lines = math.prod(input.shape[-dims:]), math.prod(input.shape[:-dims])
    return input.array.reshape(lines, plane)


def rectangles(sizes: Sizes, starts: list[np.ndarray], ends: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in each window, counted in the sizes as one row, and which of them count: (lines, windows, elements).

    starts, ends: of the windows in each dimension, as (lines, windows), or (windows,) where all lines have the same.
    """
    positions, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)
    for size, first, end in zip(sizes, starts, ends):
        index = first[..., None] + np.arange((end - first).max(initial=1))
        within = index < end[..., None]
        index = np.minimum(index, size - 1)
        shape = (*index.shape[:-2], positions.shape[-2] * index.shape[-2], positions.shape[-1] * index.shape[-1])
        positions = positions[..., :, None, :, None] * size + index[..., None, :, None, :]
        inside = inside[..., :, None, :, None] & within[..., None, :, None, :]
        positions, inside = positions.reshape(shape), inside.reshape(shape)
    return positions, inside


def largest(lines: np.ndarray, positions: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Of each line of elements, the position of the largest among those of each window.

    Of equal elements the first counts, of those that are nan the last, as in torch.
    """
    shape = (len(lines), *positions.shape[-2:])
    positions = np.broadcast_to(positions, shape)
    elements = np.take_along_axis(lines, positions.reshape(len(lines), shape[1] * shape[2]), 1).reshape(shape)
    elements = np.where(inside, elements, np.asarray(lowest(lines.dtype), lines.dtype))
    missing = elements != elements
    last = elements.shape[-1] - 1 - missing[..., ::-1].argmax(-1)
    term = np.where(missing.any(-1), last, elements.argmax(-1))
    return np.take_along_axis(positions, term[..., None], -1)[..., 0]


# ----- fractional pooling -----


def fractional_max_pooling(
    name: str,
    dims: int,
    input: Tensor,
    kernel_size: Several,
    output_size: Several | None = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The largest elements of windows at distances drawn by chance, of input (N, C, *sizes) or (C, *sizes).

    output_size, or output_ratio, its ratio to the input's: how many windows there are (Graham 2014).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    images, _ = batched(name, input, dims)
    sizes, kernel = images.shape[2:], each(name, "kernel_size", kernel_size, dims, 1)
    if output_size is None:
        if output_ratio is None:
            raise ValueError(f"{name}: expected an output_size or an output_ratio, got neither")
        ratios = tuple(output_ratio) if isinstance(output_ratio, Sequence) else (output_ratio,) * dims
        output_size = tuple(int(size * ratio) for size, ratio in zip(sizes, ratios))
    outputs = each(name, "output_size", output_size, dims, 1)
    if any(count + k - 1 > size for count, k, size in zip(outputs, kernel, sizes)):
        raise RuntimeError(f"{name}: {outputs} windows of {kernel} do not fit into the sizes {sizes}")
    shape = (*images.shape[:2], dims)
    if _random_samples is None:
        draws = random.uniform(random.current_generator(), shape, 0.0, 1.0, input.dtype)
    elif _random_samples.shape == shape:
        draws = _random_samples.array
    else:
        raise RuntimeError(f"{name}: expected _random_samples of shape {shape}, got {_random_samples.shape}")
    # torch's sample for an image is of the width first, for a volume of the depth first.
    draws = draws.reshape(math.prod(shape[:2]), dims)[:, :: -1 if dims == 2 else 1]
    starts = [fractional_starts(*axis) for axis in zip(draws.T, sizes, outputs, kernel)]
    positions, inside = rectangles(sizes, starts, [first + k for first, k in zip(starts, kernel)])
    index = largest(lines_of(input, dims), positions, inside).reshape(*input.shape[:-dims], *outputs)
    output = picked(input, index, dims)
    return (output, Tensor(index)) if return_indices else output


def fractional_starts(draws: np.ndarray, size: int, count: int, kernel: int) -> np.ndarray:
    """For each number drawn from [0, 1), where the windows start; the last one ends where the dimension does."""
    last = np.full((len(draws), 1), size - kernel)
    if count == 1:
        return last
    step, draws = draws.dtype.type(size - kernel) / draws.dtype.type(count - 1), draws[:, None]
    places = (np.arange(count - 1).astype(draws.dtype) + draws) * step
    return np.concatenate([places.astype(np.int64) - (draws * step).astype(np.int64), last], 1)


# ----- torch's names -----

max_pool1d, max_pool2d, max_pool3d = dimensional(max_pooling, "max_pool#")
max_unpool1d, max_unpool2d, max_unpool3d = dimensional(max_unpooling, "max_unpool#")
avg_pool1d, avg_pool2d, avg_pool3d = dimensional(average_pooling, "avg_pool#")
lp_pool1d, lp_pool2d, lp_pool3d = dimensional(power_pooling, "lp_pool#")
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = dimensional(
    adaptive_average_pooling, "adaptive_avg_pool#"
)
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = dimensional(adaptive_max_pooling, "adaptive_max_pool#")
fractional_max_pool2d, fractional_max_pool3d = dimensional(fractional_max_pooling, "fractional_max_pool#")[1:]


__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "fractional_max_pool2d",
    "fractional_max_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]
