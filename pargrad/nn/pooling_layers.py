"""Poolings as layers. Each is written once for any number of spatial dimensions, `dims`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pargrad.nn import functional as F
from pargrad.nn.pooling import windows_sizes
from pargrad.nn.shape_layers import Telling
from pargrad.nn.spatial import Several, each
from pargrad.tensor import Tensor


class Pooling(Telling):
    """A base: a function of `functional`."""

    dims: int
    function: Callable[..., Any]


# ----- the largest -----


class MaxPool(Pooling):
    """A base of MaxPool1d, MaxPool2d and MaxPool3d.

    return_indices: also where each largest element was found, which MaxUnpool takes.
    """

    told = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Several,
        stride: Several | None = None,
        padding: Several = 0,
        dilation: Several = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class MaxPool1d(MaxPool):
    """The largest element of each window of (N, C, L) or (C, L); stride is by default the kernel_size.

    The output has floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1 positions, rounded up with
    ceil_mode, unless the last window would begin behind the input. padding is at most half of the window: RuntimeError.
    return_indices: (values, indices), int64, for MaxUnpool1d.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool1d.html
    """

    dims = 1
    function = staticmethod(F.max_pool1d)


class MaxPool2d(MaxPool):
    """The largest element of each window of (N, C, H, W) or (C, H, W), in the sizes of `MaxPool1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html

    >>> nn.MaxPool2d(2)(pg.arange(16.0).reshape(1, 4, 4))
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """

    dims = 2
    function = staticmethod(F.max_pool2d)


class MaxPool3d(MaxPool):
    """The largest element of each window of (N, C, D, H, W) or (C, D, H, W), in the sizes of `MaxPool1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool3d.html
    """

    dims = 3
    function = staticmethod(F.max_pool3d)


class MaxUnpool(Pooling):
    """A base of MaxUnpool1d, MaxUnpool2d and MaxUnpool3d: zeros with elements where MaxPool found them."""

    told = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Several, stride: Several | None = None, padding: Several = 0):
        sizes = windows_sizes(type(self).__name__, self.dims, kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = sizes

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return type(self).function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(MaxUnpool):
    """Zeros, with the elements of (N, C, L) or (C, L) where MaxPool1d found them: indices, integers of the same shape.

    The output has (L - 1) * stride - 2 * padding + kernel_size positions; output_size, which the call takes, may differ
    from that by less than the stride. RuntimeError for an index outside.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool1d.html
    """

    dims = 1
    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(MaxUnpool):
    """As `MaxUnpool1d`, of (N, C, H, W) or (C, H, W) and indices of the same shape.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool2d.html
    """

    dims = 2
    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(MaxUnpool):
    """As `MaxUnpool1d`, of (N, C, D, H, W) or (C, D, H, W) and indices of the same shape.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxUnpool3d.html
    """

    dims = 3
    function = staticmethod(F.max_unpool3d)


class FractionalMaxPool(Pooling):
    """A base of FractionalMaxPool2d and FractionalMaxPool3d: windows at distances drawn by chance (Graham 2014)."""

    def __init__(
        self,
        kernel_size: Several,
        output_size: Several | None = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ):
        name = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"{name}: expected an output_size or an output_ratio, got {'both' if output_size else 'neither'}"
            )
        self.kernel_size = each(name, "kernel_size", kernel_size, self.dims, 1)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else each(name, "output_size", output_size, self.dims, 1)
        ratios = tuple(output_ratio) if isinstance(output_ratio, Sequence) else (output_ratio,) * self.dims
        self.output_ratio = None if output_ratio is None else ratios
        if self.output_ratio is not None and not all(0 < ratio < 1 for ratio in ratios):
            raise ValueError(f"{name}: expected an output_ratio between 0 and 1, got {output_ratio}")

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples
        )

    _random_samples: Tensor | None


class FractionalMaxPool2d(FractionalMaxPool):
    """The largest elements of windows of (N, C, H, W) or (C, H, W) at distances drawn by chance (Graham 2014).

    Either output_size or output_ratio, from 0 to 1, says how many windows there are: ValueError for both or neither.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool2d.html
    """

    dims = 2
    function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(FractionalMaxPool):
    """The largest elements of windows of (N, C, D, H, W) or (C, D, H, W) at distances drawn by chance (Graham 2014).

    Either output_size or output_ratio, from 0 to 1, says how many windows there are: ValueError for both or neither.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.FractionalMaxPool3d.html
    """

    dims = 3
    function = staticmethod(F.fractional_max_pool3d)


# ----- means and norms -----


class AvgPool1d(Pooling):
    """The mean of each window of (N, C, L) or (C, L), in the sizes of `MaxPool1d`; integers become floats.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool1d.html
    """

    dims = 1
    told = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Several,
        stride: Several | None = None,
        padding: Several = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        sizes = windows_sizes(type(self).__name__, self.dims, kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = sizes
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool(Pooling):
    """A base of AvgPool2d and AvgPool3d, which print their sizes as they were given, as in torch."""

    told = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Several,
        stride: Several | None = None,
        padding: Several = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        how = (self.ceil_mode, self.count_include_pad, self.divisor_override)
        return type(self).function(input, self.kernel_size, self.stride, self.padding, *how)


class AvgPool2d(AvgPool):
    """The mean of each window of (N, C, H, W) or (C, H, W), in the sizes of `MaxPool1d`.

    count_include_pad=False: padding is no part of the mean.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html
    """

    dims = 2
    function = staticmethod(F.avg_pool2d)


class AvgPool3d(AvgPool):
    """The mean of each window of (N, C, D, H, W) or (C, D, H, W), in the sizes of `MaxPool1d`.

    count_include_pad=False: padding is no part of the mean.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool3d.html
    """

    dims = 3
    function = staticmethod(F.avg_pool3d)


class LPPool(Pooling):
    """A base of LPPool1d, LPPool2d and LPPool3d: the p-norm of each window, p being norm_type."""

    told = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size: Several, stride: Several | None = None, ceil_mode: bool = False):
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(LPPool):
    """The norm_type-norm of each window of (N, C, L) or (C, L), in the sizes of `MaxPool1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool1d.html
    """

    dims = 1
    function = staticmethod(F.lp_pool1d)


class LPPool2d(LPPool):
    """The norm_type-norm of each window of (N, C, H, W) or (C, H, W), in the sizes of `MaxPool1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool2d.html
    """

    dims = 2
    function = staticmethod(F.lp_pool2d)


class LPPool3d(LPPool):
    """The norm_type-norm of each window of (N, C, D, H, W) or (C, D, H, W), in the sizes of `MaxPool1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LPPool3d.html
    """

    dims = 3
    function = staticmethod(F.lp_pool3d)


# ----- so many windows -----


class AdaptiveAvgPool(Pooling):
    """A base of AdaptiveAvgPool1d, AdaptiveAvgPool2d and AdaptiveAvgPool3d."""

    told = ("output_size",)

    def __init__(self, output_size: Any):
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.output_size)


class AdaptiveAvgPool1d(AdaptiveAvgPool):
    """The means of output_size windows that cover (N, C, L) or (C, L) evenly.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool1d.html
    """

    dims = 1
    function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(AdaptiveAvgPool):
    """The means of windows that cover (N, C, H, W) or (C, H, W) evenly, so many in each dimension.

    output_size: a number, or two, of which None keeps a size.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html
    """

    dims = 2
    function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(AdaptiveAvgPool):
    """The means of windows that cover (N, C, D, H, W) or (C, D, H, W) evenly, so many in each dimension.

    output_size: a number, or three, of which None keeps a size.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool3d.html
    """

    dims = 3
    function = staticmethod(F.adaptive_avg_pool3d)


class AdaptiveMaxPool(Pooling):
    """A base of AdaptiveMaxPool1d, AdaptiveMaxPool2d and AdaptiveMaxPool3d."""

    told = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False):
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """The largest elements of output_size windows that cover (N, C, L) or (C, L) evenly.

    return_indices: (values, indices), int64.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool1d.html
    """

    dims = 1
    function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """The largest elements of windows that cover (N, C, H, W) or (C, H, W) evenly.

    output_size: as in `AdaptiveAvgPool2d`. return_indices: (values, indices), int64.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool2d.html
    """

    dims = 2
    function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """The largest elements of windows that cover (N, C, D, H, W) or (C, D, H, W) evenly.

    output_size: as in `AdaptiveAvgPool3d`. return_indices: (values, indices), int64.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveMaxPool3d.html
    """

    dims = 3
    function = staticmethod(F.adaptive_max_pool3d)


__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]
