"""torch.nn.functional's operators that put the elements of images elsewhere: padding, resizing, sampling, shuffles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pargrad.nn.pooling import adaptive_average_pooling
from pargrad.nn.spatial import Several, Sizes, call, each
from pargrad.tensor import Tensor

# ----- padding -----


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """So many elements more before and after each dimension, the last dimension first; negative: so many cut off.

    mode: "constant" has `value` (0) there, "reflect" the elements mirrored at the first and last, "replicate" those two
    themselves, "circular" those from the other end; the last three take inputs with 1 or 2 dimensions more than are
    padded. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html
    """
    amounts = tuple(map(int, pad))
    pairs = tuple(zip(amounts[::2], amounts[1::2]))[::-1]
    if len(amounts) % 2 or len(pairs) > input.ndim:
        raise RuntimeError(
            f"pad: expected a pair of numbers for at most {input.ndim} dimensions of an input of shape {input.shape}, "
            f"got {amounts}"
        )
    if mode == "constant":
        return call("constant_pad", input, pad=pairs, value=0 if value is None else value)
    if mode not in POSITIONS:
        raise NotImplementedError(f"pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}")
    if value:
        raise ValueError(f"pad: mode {mode!r} takes no value, got {value}")
    if not 1 <= input.ndim - len(pairs) <= 2 or not 1 <= len(pairs) <= 3:
        raise NotImplementedError(
            f"pad: mode {mode!r} pads the last 1 to 3 dimensions of inputs with 1 or 2 more, got {amounts} for shape "
            f"{input.shape}"
        )
    for dim, (before, after) in zip(range(-len(pairs), 0), pairs):
        size = input.shape[dim]
        kept = size + min(before, 0) + min(after, 0)
        if size + before + after < 1 or kept < SHORTEST[mode] or max(before, after) > REACH[mode](size):
            raise RuntimeError(f"pad: {before} and {after} are not possible with mode {mode!r} on {size} elements")
        if before or after:
            positions = POSITIONS[mode](np.arange(-before, size + after), size, max(-before, 0), kept)
            input = call("resample", input, dim=dim, index=positions[:, None], weight=np.ones((len(positions), 1)))
    return input


# Where the elements come from that would be at these positions; circular repeats what is kept of a cut dimension.
POSITIONS: dict[str, Callable[..., np.ndarray]] = {
    "reflect": lambda at, size, first, kept: size - 1 - np.abs(size - 1 - np.abs(at)),
    "replicate": lambda at, size, first, kept: np.clip(at, 0, size - 1),
    "circular": lambda at, size, first, kept: first + (at - first) % kept,
}
# How many elements must be left of a cut dimension.
SHORTEST = {"reflect": 1, "replicate": -math.inf, "circular": 1}
# How many elements there may be on one side.
REACH: dict[str, Callable[[int], float]] = {
    "reflect": lambda size: size - 1,
    "replicate": lambda size: math.inf,
    "circular": lambda size: size,
}


# ----- resizing -----

# The name of each mode for each number of dimensions.
LINEAR = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def modes(*dims: int) -> list[str]:
    """The modes there are for these numbers of spatial dimensions."""
    return ["nearest", "nearest-exact", "area", *(mode for mode, count in LINEAR.items() if count in dims)]


def interpolate(
    input: Tensor,
    size: Several | None = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Images (N, C, *sizes) in another size, given as such or as a factor of the old one.

    mode: "nearest", "nearest-exact" and "area" for 1 to 3 spatial dimensions, "linear" for 1, "bilinear" and "bicubic"
    for 2, "trilinear" for 3. align_corners: the centres of the first and last elements stay where they are, instead
    of their outer edges. antialias: bilinear and bicubic filters become as wide as an image becomes smaller.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html
    """
    dims = input.ndim - 2
    if dims not in (1, 2, 3):
        raise NotImplementedError(f"interpolate: expected an input of 3 to 5 dimensions, got shape {input.shape}")
    if mode not in modes(dims):
        raise NotImplementedError(
            f"interpolate: expected a mode of {modes(dims)} for {dims} spatial dimensions, got {mode!r} and an "
            f"input of shape {input.shape}"
        )
    if align_corners is not None and mode not in LINEAR:
        raise ValueError(f"interpolate: align_corners is for linear and cubic modes, not for {mode!r}: leave it out")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"interpolate: antialias is for 'bilinear' and 'bicubic', got mode {mode!r}")
    if input.dtype.kind != "f" and not mode.startswith("nearest"):
        raise RuntimeError(
            f"interpolate: mode {mode!r} is for floating-point numbers, got {input.dtype}: write x.float()"
        )
    sizes, factors = resized("interpolate", input, size, scale_factor, recompute_scale_factor, dims)
    if mode == "area":
        return adaptive_average_pooling("interpolate", dims, input, sizes)
    for axis, (n, count, factor) in enumerate(zip(input.shape[2:], sizes, factors)):
        axis_of = Axis(n, count, factor, bool(align_corners), input.dtype.type)
        if mode not in LINEAR:
            index = axis_of.nearest(0.5 if mode == "nearest-exact" else 0.0)[:, None]
            table = index, np.ones(index.shape)
        elif antialias:
            table = axis_of.filtered(TRIANGLE if mode == "bilinear" else CUBIC)
        else:
            table = axis_of.cubic() if mode == "bicubic" else axis_of.linear()
        input = call("resample", input, dim=axis - dims, index=table[0], weight=table[1])
    return input


def resized(
    name: str, input: Tensor, size: Any, scale_factor: Any, recompute: bool | None, dims: int
) -> tuple[Sizes, tuple[float | None, ...]]:
    """The sizes of the output, and the factors that positions go by where they were given."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{name}: expected either size or scale_factor, got {size} and {scale_factor}")
    old = input.shape[2:]
    if not all(old):
        raise RuntimeError(f"{name}: expected an input with elements in its spatial dimensions, got {input.shape}")
    if size is not None:
        if recompute:
            raise ValueError(f"{name}: recompute_scale_factor goes with scale_factor, not with size")
        return each(name, "size", size, dims, 1), (None,) * dims
    given = tuple(scale_factor) if isinstance(scale_factor, Sequence) else (scale_factor,) * dims
    factors = tuple(map(float, given))
    if len(factors) != dims:
        raise ValueError(f"{name}: expected a scale_factor of {dims} numbers, or one, got {scale_factor}")
    sizes = tuple(math.floor(n * factor) for n, factor in zip(old, factors))
    if min(sizes) < 1:
        raise RuntimeError(f"{name}: an input of sizes {old} would become {sizes}")
    return sizes, (None,) * dims if recompute else factors


Table = tuple[np.ndarray, np.ndarray]


class Axis(NamedTuple):
    """One dimension to be resized; each method gives what `resample` takes, computed in the input's dtype as torch
    does, whose rounding decides between neighbours."""

    size: int
    length: int
    factor: float | None
    align_corners: bool
    real: type

    def scale(self, real: type) -> Any:
        """How far apart, in elements of the input, two neighbours of the output are."""
        if self.align_corners:
            return real(self.size - 1) / real(self.length - 1) if self.length > 1 else real(0)
        return real(1.0 / self.factor) if self.factor else real(self.size) / real(self.length)

    def places(self) -> np.ndarray:
        """Where the elements of the output are in the input."""
        scale, half = self.scale(self.real), self.real(0.5)
        at: np.ndarray = np.arange(self.length).astype(self.real)
        return at * scale if self.align_corners else scale * (at + half) - half

    def nearest(self, shift: float) -> np.ndarray:
        """torch computes these in float32, whatever the input's dtype is."""
        places = (np.arange(self.length) + shift) * np.float64(self.scale(np.float32))
        return np.minimum(np.floor(places.astype(np.float32)).astype(np.int64), self.size - 1)

    def split(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The element at or before each place, and how far behind it the place is."""
        first = np.minimum(np.floor(places).astype(np.int64), self.size - 1)
        return first, np.clip(places - first.astype(self.real), 0, 1)

    def linear(self) -> Table:
        first, rest = self.split(np.maximum(self.places(), 0))
        index = np.stack([first, np.minimum(first + 1, self.size - 1)], 1)
        return index, np.stack([1 - rest, rest], 1)

    def cubic(self) -> Table:
        first, rest = self.split(self.places())
        index = np.clip(first[:, None] + np.arange(-1, 3), 0, self.size - 1)
        return index, np.stack(cubic_weights(rest), 1)

    def filtered(self, filter: Filter) -> Table:
        """Weights of all elements that the filter reaches, stretched where the output is smaller."""
        scale = self.scale(self.real)
        stretch = max(scale, self.real(1))
        support = self.real(filter.radius) * stretch
        centre = scale * (np.arange(self.length).astype(self.real) + self.real(0.5))
        first = np.maximum((centre - support + self.real(0.5)).astype(np.int64), 0)
        end = np.minimum((centre + support + self.real(0.5)).astype(np.int64), self.size)
        index = first[:, None] + np.arange((end - first).max())
        distance = (index.astype(self.real) - centre[:, None] + self.real(0.5)) / stretch
        weight = np.where(index < end[:, None], filter.weights(np.abs(distance)), 0)
        return np.minimum(index, self.size - 1), weight / weight.sum(1, keepdims=True)


class Filter(NamedTuple):
    """Weights by distance, which are 0 from the radius on."""

    radius: int
    weights: Any


def near(x: Any, a: float) -> Any:
    """Keys's cubic kernel at a distance of at most 1 (Keys 1981)."""
    return ((a + 2) * x - (a + 3)) * x * x + 1


def far(x: Any, a: float) -> Any:
    """The same at a distance from 1 to 2."""
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


def cubic_weights(rest: Any, a: float = -0.75) -> list[Any]:
    """Of four elements in a row, for places so far behind the second."""
    return [far(rest + 1, a), near(rest, a), near(1 - rest, a), far(2 - rest, a)]


TRIANGLE = Filter(1, lambda x: np.where(x < 1, 1 - x, 0))
CUBIC = Filter(2, lambda x: np.where(x < 1, near(x, -0.5), np.where(x < 2, far(x, -0.5), 0)))


def upsample(
    input: Tensor,
    size: Several | None = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """torch's old name of `interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Several | None = None, scale_factor: Any = None) -> Tensor:
    """torch's old name of `interpolate` with mode="nearest"."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Several | None = None, scale_factor: Any = None) -> Tensor:
    """torch's old name of `interpolate` with mode="bilinear", align_corners=True."""
    return interpolate(input, size, scale_factor, "bilinear", True)


# ----- shuffles -----


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels as pixels: (*, C * r * r, H, W) as (*, C, H * r, W * r), r being upscale_factor (Shi et al. 2016)."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % (r * r):
        raise RuntimeError(
            f"pixel_shuffle: expected a multiple of {r} * {r} channels in the third last dimension, got {input.shape}"
        )
    *lead, channels, height, width = input.shape
    split, n = input.reshape(*lead, channels // (r * r), r, r, height, width), len(lead)
    return split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(
        *lead, channels // (r * r), height * r, width * r
    )


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels as channels: (*, C, H * r, W * r) as (*, C * r * r, H, W), r being downscale_factor."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise RuntimeError(f"pixel_unshuffle: expected images of sizes that {r} divides, got shape {input.shape}")
    *lead, channels, height, width = input.shape
    split, n = input.reshape(*lead, channels, height // r, r, width // r, r), len(lead)
    return split.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(
        *lead, channels * r * r, height // r, width // r
    )


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels of (N, C, *sizes) in another order: the first of each group, then the second (Zhang et al. 2018)."""
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise RuntimeError(
            f"channel_shuffle: expected (N, C, *sizes) with channels that {groups} groups divide, got {input.shape}"
        )
    count, channels, *sizes = input.shape
    split = input.reshape(count, groups, channels // groups, *sizes)
    return split.permute(0, 2, 1, *range(3, split.ndim)).reshape(*input.shape)


# ----- sampling at any positions -----


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where each element of images (N, C, H, W) or (N, C, D, H, W) comes from under affine maps (N, 2, 3) or (N, 3, 4).

    Positions go from -1 to 1, for `grid_sample`; align_corners: between the centres of the first and the last
    elements instead of their outer edges. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.affine_grid.html
    """
    count, _, *sizes = size
    dims = len(sizes)
    if dims not in (2, 3) or min(size) < 1:
        raise ValueError(f"affine_grid: expected a size (N, C, H, W) or (N, C, D, H, W), each 1 or more, got {size}")
    if theta.shape != (count, dims, dims + 1) or theta.dtype.kind != "f":
        raise ValueError(
            f"affine_grid: expected floating-point maps of shape {(count, dims, dims + 1)}, got {theta.dtype} of shape "
            f"{theta.shape}"
        )
    lines = [np.linspace(-1, 1, n) * (1 if align_corners else (n - 1) / n) if n > 1 else np.zeros(1) for n in sizes]
    places = np.meshgrid(*lines, indexing="ij")
    base = np.stack([*places[::-1], np.ones(sizes)], -1).reshape(-1, dims + 1).astype(theta.dtype)
    return (Tensor(base) @ theta.transpose(1, 2)).reshape(count, *sizes, dims)


class Corner(NamedTuple):
    """Along one dimension, for every sample: an element, whether there is one, and its weight."""

    element: np.ndarray
    inside: np.ndarray
    weight: Tensor


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Images (N, C, H, W) or (N, C, D, H, W) sampled at positions: grid (N, *out, 2) or (N, *out, 3), x first.

    Positions go from -1 to 1. mode: "bilinear" (trilinear for three dimensions), "nearest", and for two dimensions
    "bicubic"; padding_mode: what is outside, "zeros", "border" or "reflection".
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.grid_sample.html
    """
    dims = input.ndim - 2
    if dims not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != dims or grid.shape[0] != input.shape[0]:
        raise RuntimeError(
            "grid_sample: expected images (N, C, H, W) and positions (N, H, W, 2), or both with a depth, got "
            f"{input.shape} and {grid.shape}"
        )
    if mode not in CORNERS or padding_mode not in ("zeros", "border", "reflection") or (mode == "bicubic" and dims > 2):
        raise ValueError(
            "grid_sample: expected mode 'bilinear', 'nearest' or, for 4 dimensions, 'bicubic', and padding_mode "
            f"'zeros', 'border' or 'reflection', got {mode!r} and {padding_mode!r} for shape {input.shape}"
        )
    if not all(input.shape[1:]) or input.dtype != grid.dtype:
        raise RuntimeError(
            f"grid_sample: expected images with elements and positions of one dtype, got {input.dtype} of shape "
            f"{input.shape} and {grid.dtype}"
        )
    axes = []
    for axis, size in enumerate(input.shape[2:]):
        place = grid[..., dims - 1 - axis] + 1
        place = place * ((size - 1) / 2) if align_corners else (place * size - 1) / 2
        axes.append(CORNERS[mode](place, Edge(size, padding_mode, bool(align_corners))))
    total: Tensor | None = None
    for corners in itertools.product(*axes):
        term = weighted(input, corners)
        total = term if total is None else total + term
    assert total is not None
    return total


def weighted(input: Tensor, corners: tuple[Corner, ...]) -> Tensor:
    """The elements at one corner of every sample's cell, times their weights."""
    (count, channels), sizes, samples = input.shape[:2], input.shape[2:], corners[0].element.shape[1:]
    weight = corners[0].weight
    at: np.ndarray = np.zeros((), np.int64)
    inside: np.ndarray = np.ones((), bool)
    for size, corner in zip(sizes, corners):
        at, inside = at * size + corner.element, inside & corner.inside
    for corner in corners[1:]:
        weight = weight * corner.weight
    planes = np.arange(count * channels).reshape(count, channels, *(1,) * len(samples)) * math.prod(sizes)
    picked = input.reshape(-1)[(planes + at[:, None]).reshape(-1)].reshape(count, channels, *samples)
    if not inside.all():
        picked = call("where", inside[:, None], picked, 0.0)
    return picked * weight.unsqueeze(1)


class Edge(NamedTuple):
    """One dimension of an image, and what is outside of it."""

    size: int
    padding_mode: str
    align_corners: bool

    def within(self, place: Tensor) -> Tensor:
        """Places as the padding mode has them; zeros leaves them where they are."""
        if self.padding_mode == "zeros":
            return place
        if self.padding_mode == "reflection":
            place = self.reflected(place)
        last, values = self.size - 1, place.array
        # As in torch, the derivative at the border itself is 0.
        return call("where", (values > 0) & (values < last), place, np.clip(np.nan_to_num(values), 0, last))

    def reflected(self, place: Tensor) -> Tensor:
        low, span = (0.0, self.size - 1) if self.align_corners else (-0.5, self.size)
        if not span:
            return place * 0.0
        distance = call("abs", place - low)
        turns = np.floor(distance.array / span)
        rest = distance - turns * span
        return call("where", turns % 2 == 0, rest, -rest + span) + low

    def corner(self, index: np.ndarray, weight: Tensor) -> Corner:
        inside = (index >= 0) & (index < self.size)
        return Corner(np.where(inside, index, 0).astype(np.int64), inside, weight)


def nearest_corners(place: Tensor, edge: Edge) -> list[Corner]:
    nearest = call("round", edge.within(place))  # of which the derivative is 0
    return [edge.corner(nearest.array, nearest - nearest.array + 1.0)]


def linear_corners(place: Tensor, edge: Edge) -> list[Corner]:
    place = edge.within(place)
    first = np.floor(place.array)
    rest = place - first
    return [edge.corner(first, -rest + 1), edge.corner(first + 1, rest)]


def cubic_corners(place: Tensor, edge: Edge) -> list[Corner]:
    first = np.floor(place.array)
    weights = cubic_weights(place - first)
    return [edge.corner(edge.within(Tensor(first + i - 1)).array, weight) for i, weight in enumerate(weights)]


CORNERS = {"nearest": nearest_corners, "bilinear": linear_corners, "bicubic": cubic_corners}


__all__ = [
    "affine_grid",
    "channel_shuffle",
    "grid_sample",
    "interpolate",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "upsample",
    "upsample_bilinear",
    "upsample_nearest",
]
