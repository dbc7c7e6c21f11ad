"""Layers that move, repeat or resample elements: flattening, windows as columns, padding, upsampling, shuffling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pargrad import operators
from pargrad.nn import functional as F
from pargrad.nn.module import Module
from pargrad.nn.resampling import modes
from pargrad.nn.spatial import Several
from pargrad.tensor import Tensor


class Telling(Module):
    """A base: prints the attributes that `told` names."""

    told: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.told)


class Flatten(Telling):
    """The dimensions from start_dim to end_dim as one: by default (N, C, H, W) as (N, C * H * W)."""

    told = ("start_dim", "end_dim")

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return operators.flatten(input, self.start_dim, self.end_dim)


class Unflatten(Telling):
    """The dimension `dim` as several, of the sizes unflattened_size; names of dimensions are not here.

    One size may be -1: what is left. RuntimeError where the sizes do not multiply to the dimension's.
    """

    told = ("dim", "unflattened_size")

    def __init__(self, dim: int, unflattened_size: Sequence[int]):
        if not isinstance(dim, int):
            raise TypeError(f"Unflatten: expected dim as an integer, got {dim!r}")
        if not all(isinstance(size, int) for size in unflattened_size):
            raise TypeError(f"Unflatten: expected unflattened_size as integers, got {unflattened_size!r}")
        self.dim = dim
        self.unflattened_size = unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        return operators.unflatten(input, self.dim, self.unflattened_size)


# ----- windows as columns -----


class Unfold(Telling):
    """The windows of images (N, C, H, W) or (C, H, W) as columns (N, C * kernel, windows) or without N.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Unfold.html
    """

    told = ("kernel_size", "dilation", "padding", "stride")

    def __init__(self, kernel_size: Several, dilation: Several = 1, padding: Several = 0, stride: Several = 1):
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Telling):
    """Columns (N, C * kernel, windows) as images (N, C, *output_size), or without N, added up where windows overlap.

    RuntimeError where an image of that size has another number of windows.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Fold.html
    """

    told = ("output_size", "kernel_size", "dilation", "padding", "stride")

    def __init__(
        self,
        output_size: Several,
        kernel_size: Several,
        dilation: Several = 1,
        padding: Several = 0,
        stride: Several = 1,
    ):
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)


# ----- padding -----


class Padding(Module):
    """A base: so many elements before and after each of `dims` dimensions, the last one first; a number: everywhere."""

    dims: int
    mode: str

    def __init__(self, padding: Several):
        self.padding = self.amounts(padding)

    def amounts(self, padding: Any) -> tuple[int, ...]:
        given = tuple(padding) if isinstance(padding, Sequence) else (padding,) * (2 * self.dims)
        if len(given) != 2 * self.dims:
            raise ValueError(
                f"{type(self).__name__}: expected one number, or {2 * self.dims}, before and after each dimension, "
                f"got {padding!r}"
            )
        return given

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad(Padding):
    """A base: padding with one value."""

    mode = "constant"

    def __init__(self, padding: Several, value: float):
        self.padding = self.amounts(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(ConstantPad):
    """The last dimension padded with a value."""

    dims = 1


class ConstantPad2d(ConstantPad):
    """The last two dimensions padded with a value."""

    dims = 2


class ConstantPad3d(ConstantPad):
    """The last three dimensions padded with a value."""

    dims = 3


class ZeroPad(ConstantPad):
    """A base: padding with 0."""

    def __init__(self, padding: Several):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(ZeroPad):
    """The last dimension padded with 0."""

    dims = 1


class ZeroPad2d(ZeroPad):
    """The last two dimensions padded with 0."""

    dims = 2


class ZeroPad3d(ZeroPad):
    """The last three dimensions padded with 0."""

    dims = 3


class ReflectionPad1d(Padding):
    """(N, C, L) or (C, L) mirrored at its ends, which are not repeated.

    padding: (before, after), or one number for both, below L: RuntimeError.
    """

    dims, mode = 1, "reflect"


class ReflectionPad2d(Padding):
    """(N, C, H, W) or (C, H, W) mirrored at its edges, which are not repeated."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(Padding):
    """(N, C, D, H, W) or (C, D, H, W) mirrored at its edges, which are not repeated."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(Padding):
    """(N, C, L) or (C, L) with its ends repeated."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(Padding):
    """(N, C, H, W) or (C, H, W) with its edges repeated."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(Padding):
    """(N, C, D, H, W) or (C, D, H, W) with its edges repeated."""

    dims, mode = 3, "replicate"


class CircularPad1d(Padding):
    """(N, C, L) or (C, L), which goes on at one end as it begins at the other."""

    dims, mode = 1, "circular"


class CircularPad2d(Padding):
    """(N, C, H, W) or (C, H, W), which goes on at one edge as it begins at the other."""

    dims, mode = 2, "circular"


class CircularPad3d(Padding):
    """(N, C, D, H, W) or (C, D, H, W), which goes on at one edge as it begins at the other."""

    dims, mode = 3, "circular"


# ----- resampling -----


class Upsample(Module):
    """Images (N, C, *sizes) in another size: size, or floor(scale_factor * the old one).

    ValueError for both or neither. mode: as in `functional.interpolate`, NotImplementedError where it is not for so
    many dimensions.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Upsample.html
    """

    def __init__(
        self,
        size: Several | None = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        self.name = type(self).__name__
        if mode not in modes(1, 2, 3):
            raise NotImplementedError(f"{self.name}: expected a mode of {modes(1, 2, 3)}, got {mode!r}")
        self.size = size
        several = isinstance(scale_factor, Sequence)
        self.scale_factor = (
            tuple(map(float, scale_factor)) if several else float(scale_factor) if scale_factor else None
        )
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        size = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Upsample of (N, C, H, W) with mode="nearest"."""

    def __init__(self, size: Several | None = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Upsample of (N, C, H, W) with mode="bilinear" and align_corners=True."""

    def __init__(self, size: Several | None = None, scale_factor: Any = None):
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class PixelShuffle(Telling):
    """(..., C * r * r, H, W) as (..., C, H * r, W * r), r being upscale_factor (Shi et al. 2016)."""

    told = ("upscale_factor",)

    def __init__(self, upscale_factor: int):
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(Telling):
    """(..., C, H * r, W * r) as (..., C * r * r, H, W), r being downscale_factor."""

    told = ("downscale_factor",)

    def __init__(self, downscale_factor: int):
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(Telling):
    """Channels of (N, C, *sizes) in another order: the first of each group, then the second (Zhang et al. 2018)."""

    told = ("groups",)

    def __init__(self, groups: int):
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)


__all__ = [
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Flatten",
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]
