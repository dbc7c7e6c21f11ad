"""torch.nn.functional's convolutions, and the windows of images as columns; what all operators on images share.

Each is written once for any number of spatial dimensions; its functions for 1, 2 and 3 are made of it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators.compositions import call, reshaped
from pargrad.rules.patches import Windows
from pargrad.tensor import Tensor

Sizes = tuple[int, ...]
Several = int | Sequence[int]


def dimensional(function: Callable[..., Any], name: str) -> list[Callable[..., Any]]:
    """torch's functions for 1, 2 and 3 dimensions, from one that takes its name and their number first."""

    def of(dims: int) -> Callable[..., Any]:
        own = name.replace("#", f"{dims}d")

        def operator(*args: Any, **named: Any) -> Any:
            return function(own, dims, *args, **named)

        signature = inspect.signature(function)
        operator.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=list(signature.parameters.values())[2:]
        )
        operator.__name__ = operator.__qualname__ = own
        operator.__doc__ = (function.__doc__ or "").replace("NAME", own)
        return operator

    return [of(dims) for dims in (1, 2, 3)]


def each(name: str, what: str, value: Any, dims: int, least: int = 0) -> Sizes:
    """A setting as one number for each spatial dimension, checked."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(values) == 1:
        values *= dims
    if len(values) != dims or not all(isinstance(n, int | np.integer) and n >= least for n in values):
        raise RuntimeError(f"{name}: expected {what} as {dims} integers of {least} or more, or one, got {value!r}")
    return tuple(map(int, values))


def batched(name: str, input: Tensor, dims: int) -> tuple[Tensor, bool]:
    """The input as (N, C, *sizes), and whether N was added."""
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"{name}: expected an input of {dims + 1} dimensions (channels first) or {dims + 2} (with a batch), got "
            f"shape {input.shape}"
        )
    single = input.ndim == dims + 1
    return (call("unsqueeze", input, dim=0) if single else input), single


def unbatched(output: Tensor, single: bool) -> Tensor:
    return call("squeeze", output, dim=0) if single else output


# ----- convolution -----


def checked_convolution(
    name: str, input: Tensor, weight: Tensor, bias: Tensor | None, groups: int, channels: int, outputs: int, dims: int
) -> None:
    """Refuses tensors that do not fit: channels and outputs are those that the weight is for."""
    if weight.ndim != dims + 2:
        raise RuntimeError(f"{name}: expected a weight of {dims + 2} dimensions, got shape {weight.shape}")
    if groups < 1 or weight.shape[0] % groups:
        raise RuntimeError(
            f"{name}: expected groups that divide the {weight.shape[0]} first entries of the weight, got {groups}"
        )
    if input.shape[1] != channels:
        raise RuntimeError(
            f"{name}: expected {channels} channels for a weight of shape {weight.shape} in {groups} groups, got an "
            f"input of shape {input.shape}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise RuntimeError(f"{name}: expected a bias of shape {(outputs,)}, got {bias.shape}")
    if min(weight.shape[2:], default=1) < 1:
        raise RuntimeError(f"{name}: expected a kernel with elements, got a weight of shape {weight.shape}")


def with_bias(output: Tensor, bias: Tensor | None) -> Tensor:
    return output if bias is None else call("add_bias", output, bias)


def convolution(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Several = 1,
    padding: Several | str = 0,
    dilation: Several = 1,
    groups: int = 1,
) -> Tensor:
    """The product of weight (out, in / groups, *kernel) with each window of input (N, in, *sizes) or (in, *sizes).

    padding: so many zeros on both sides of each dimension, "valid" for none, "same" for as many as keep the sizes.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    input, single = batched(name, input, dims)
    channels, outputs = weight.shape[1] * groups, weight.shape[0]
    checked_convolution(name, input, weight, bias, groups, channels, outputs, dims)
    stride, dilation = each(name, "stride", stride, dims, 1), each(name, "dilation", dilation, dims, 1)
    sizes, kernel = input.shape[2:], weight.shape[2:]
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel))
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(f"{name}: expected padding 'same', 'valid' or integers, got {padding!r}")
        if padding == "same" and max(stride) > 1:
            raise RuntimeError(f"{name}: padding='same' keeps the sizes, which stride {stride} does not: give integers")
        total = tuple(n - 1 for n in extent) if padding == "same" else (0,) * dims
        before = tuple(n // 2 for n in total)
    else:
        before = each(name, "padding", padding, dims)
        total = tuple(2 * n for n in before)
    padded = tuple(n + more for n, more in zip(sizes, total))
    if any(n < e for n, e in zip(padded, extent)):
        raise RuntimeError(
            f"{name}: the kernel reaches over {extent}, more than the input's sizes {sizes}, with padding {padded}"
        )
    counts = tuple((n - e) // s + 1 for n, e, s in zip(padded, extent, stride))
    windows = Windows(sizes, kernel, counts, stride, before, dilation)
    output = call("convolution", input, weight, windows=windows, groups=groups)
    return unbatched(with_bias(output, bias), single)


def transposed_convolution(
    name: str,
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Several = 1,
    padding: Several = 0,
    output_padding: Several = 0,
    groups: int = 1,
    dilation: Several = 1,
) -> Tensor:
    """The gradient of a convolution by its input: each place of input (N, in, *sizes) or (in, *sizes) adds its multiple
    of weight (in, out / groups, *kernel) to a window of the output.

    output_padding: so many positions more at the end of each dimension, since several sizes have as many windows.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.NAME.html
    """
    input, single = batched(name, input, dims)
    checked_convolution(name, input, weight, bias, groups, weight.shape[0], weight.shape[1] * groups, dims)
    stride, dilation = each(name, "stride", stride, dims, 1), each(name, "dilation", dilation, dims, 1)
    padding, more = each(name, "padding", padding, dims), each(name, "output_padding", output_padding, dims)
    if any(n >= max(s, d) for n, s, d in zip(more, stride, dilation)):
        raise RuntimeError(
            f"{name}: expected an output_padding below stride or dilation, got {more} for stride {stride} and "
            f"dilation {dilation}"
        )
    counts, kernel = input.shape[2:], weight.shape[2:]
    sizes = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + extra
        for n, s, p, d, k, extra in zip(counts, stride, padding, dilation, kernel, more)
    )
    if min(sizes) < 1:
        raise RuntimeError(f"{name}: an input of sizes {counts} with padding {padding} would give the sizes {sizes}")
    windows = Windows(sizes, kernel, counts, stride, padding, dilation)
    output = call("convolution_input", input, weight, windows=windows, groups=groups)
    return unbatched(with_bias(output, bias), single)


# ----- windows as columns -----


def unfold(
    input: Tensor, kernel_size: Several, dilation: Several = 1, padding: Several = 0, stride: Several = 1
) -> Tensor:
    """The windows of images (N, C, H, W) or (C, H, W) as columns: (N, C * kernel, windows).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.unfold.html
    """
    windows = image_windows("unfold", input.shape[-2:], kernel_size, dilation, padding, stride)
    if input.ndim not in (3, 4):
        batched("unfold", input, 2)
    columns = call("im2col", input, windows=windows)
    rows = input.shape[-3] * math.prod(windows.kernel)
    return reshaped(columns, *input.shape[:-3], rows, math.prod(windows.counts))


def fold(
    input: Tensor,
    output_size: Several,
    kernel_size: Several,
    dilation: Several = 1,
    padding: Several = 0,
    stride: Several = 1,
) -> Tensor:
    """Columns (N, C * kernel, windows) or (C * kernel, windows) as images, added up where windows overlap.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.fold.html
    """
    sizes = each("fold", "output_size", output_size, 2, 1)
    windows = image_windows("fold", sizes, kernel_size, dilation, padding, stride)
    taps, places = math.prod(windows.kernel), math.prod(windows.counts)
    if input.ndim not in (2, 3) or input.shape[-2] % taps or input.shape[-1] != places:
        raise RuntimeError(
            f"fold: expected columns of shape (N, C * {taps}, {places}) for output_size {sizes}, got {input.shape}"
        )
    channels = input.shape[-2] // taps
    columns = reshaped(input, *input.shape[:-2], channels, *windows.kernel, *windows.counts)
    return call("col2im", columns, windows=windows)


def image_windows(name: str, sizes: Sizes, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Windows:
    kernel, stride = each(name, "kernel_size", kernel_size, 2, 1), each(name, "stride", stride, 2, 1)
    dilation, padding = each(name, "dilation", dilation, 2, 1), each(name, "padding", padding, 2)
    counts = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    if len(counts) < 2 or min(counts) < 1:
        raise RuntimeError(f"{name}: images of sizes {sizes} are smaller than one window of {kernel}")
    return Windows(sizes, kernel, counts, stride, padding, dilation)


# ----- torch's names -----

conv1d, conv2d, conv3d = dimensional(convolution, "conv#")
conv_transpose1d, conv_transpose2d, conv_transpose3d = dimensional(transposed_convolution, "conv_transpose#")


__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold"]
