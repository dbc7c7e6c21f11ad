"""Convolutions as layers. Each is written once for any number of spatial dimensions, `dims`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from pargrad.nn import functional as F
from pargrad.nn import init
from pargrad.nn.linear_layers import empty
from pargrad.nn.module import Module, Parameter
from pargrad.nn.spatial import Several, Sizes, each
from pargrad.tensor import Tensor

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Convolution(Module):
    """A base: weight, bias and settings of a convolution, which begin as torch draws them.

    Both are uniform in +-1/sqrt(k), k being the number of the weight's elements for one of its first entries.
    """

    dims: int
    weight: Parameter
    bias: Parameter | None

    def settle(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Several,
        stride: Several,
        padding: Several | str,
        dilation: Several,
        output_padding: Several,
        groups: int,
        padding_mode: str,
    ) -> None:
        """Checks and sets what is no tensor."""
        name = type(self).__name__

        def sizes(what: str, value: Any, least: int) -> Sizes:
            return each(name, what, value, self.dims, least)

        if groups <= 0 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: expected groups that divide {in_channels} channels in and {out_channels} out, got {groups}"
            )
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: expected a padding_mode of {PADDING_MODES}, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = sizes("kernel_size", kernel_size, 1)
        self.stride = sizes("stride", stride, 1)
        self.padding = padding if isinstance(padding, str) else sizes("padding", padding, 0)
        self.dilation = sizes("dilation", dilation, 1)
        self.output_padding = sizes("output_padding", output_padding, 0)
        self.groups = groups
        self.padding_mode = padding_mode

    def weight_shape(self) -> Sizes:
        """The weight's: (out, in / groups, *kernel), of a transposed one (in, out / groups, *kernel)."""
        raise NotImplementedError

    def fill(self, bias: bool, device: Any, dtype: Any) -> None:
        """Makes weight and bias, as torch draws them."""
        self.weight = empty(self.weight_shape(), device, dtype)
        self.bias = empty(self.out_channels, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, as torch draws them."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init.fans(type(self).__name__, self.weight)
            if fan_in:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        usual = {"padding": (0,), "dilation": (1,), "output_padding": (0,)}
        words = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}",
            *(f"{name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name] * self.dims),
        ]
        if self.groups != 1:
            words.append(f"groups={self.groups}")
        if self.bias is None:
            words.append("bias=False")
        if self.padding_mode != "zeros":
            words.append(f"padding_mode={self.padding_mode}")
        return ", ".join(words)


class ForwardConvolution(Convolution):
    """A base of Conv1d, Conv2d and Conv3d."""

    function: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Several,
        stride: Several = 1,
        padding: Several | str = 0,
        dilation: Several = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        self.settle(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, padding_mode)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(
                    f"{type(self).__name__}: expected padding 'same', 'valid' or integers, got {padding!r}"
                )
            if padding == "same" and max(self.stride) > 1:
                raise ValueError(
                    f"{type(self).__name__}: padding='same' keeps the sizes, which stride {stride} does not"
                )
        self.fill(bias, device, dtype)

    def weight_shape(self) -> Sizes:
        return self.out_channels, self.in_channels // self.groups, *self.kernel_size

    def forward(self, input: Tensor) -> Tensor:
        settings = (self.dilation, self.groups)
        if self.padding_mode == "zeros":
            return type(self).function(input, self.weight, self.bias, self.stride, self.padding, *settings)
        padded = F.pad(input, self.amounts(), mode=self.padding_mode)
        return type(self).function(padded, self.weight, self.bias, self.stride, 0, *settings)

    def amounts(self) -> list[int]:
        """The padding before and after each dimension, the last one first."""
        if not isinstance(self.padding, str):
            return [n for n in reversed(self.padding) for _ in range(2)]
        if self.padding == "valid":
            return [0] * (2 * self.dims)
        total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size)]
        return [part for n in reversed(total) for part in (n // 2, n - n // 2)]


class Conv1d(ForwardConvolution):
    """A convolution of (N, C, L) or (C, L) by weight (out_channels, in_channels / groups, kernel_size).

    The output has floor((L + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1 positions, with
    padding="same" L. RuntimeError for an input of other channels, of another dtype or smaller than the kernel.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html
    """

    dims = 1
    function = staticmethod(F.conv1d)


class Conv2d(ForwardConvolution):
    """A convolution of (N, C, H, W) or (C, H, W): https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html

    Each of H and W becomes what L does in `Conv1d`; a setting is one number for both, or a pair.

    >>> nn.Conv2d(3, 16, kernel_size=3, padding="same")(pg.randn(8, 3, 28, 28)).shape
    (8, 16, 28, 28)
    """

    dims = 2
    function = staticmethod(F.conv2d)


class Conv3d(ForwardConvolution):
    """A convolution of (N, C, D, H, W) or (C, D, H, W).

    Each of D, H and W becomes what L does in `Conv1d`; a setting is one number for all, or three.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv3d.html
    """

    dims = 3
    function = staticmethod(F.conv3d)


class TransposedConvolution(Convolution):
    """A base of ConvTranspose1d, ConvTranspose2d and ConvTranspose3d."""

    function: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Several,
        stride: Several = 1,
        padding: Several = 0,
        output_padding: Several = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Several = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        if padding_mode != "zeros":
            raise ValueError(
                f"{type(self).__name__}: expected padding_mode 'zeros', the only one, got {padding_mode!r}"
            )
        self.settle(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, padding_mode
        )
        self.fill(bias, device, dtype)

    def weight_shape(self) -> Sizes:
        return self.in_channels, self.out_channels // self.groups, *self.kernel_size

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """output_size: the sizes of the output, with or without the dimensions before them, of which several fit."""
        more = self.output_padding if output_size is None else self.padding_for(input, output_size)
        settings = (self.stride, self.padding, more, self.groups, self.dilation)
        return type(self).function(input, self.weight, self.bias, *settings)

    def padding_for(self, input: Tensor, output_size: Sequence[int]) -> Sizes:
        """The output_padding that gives an output of these sizes."""
        wanted = tuple(output_size)
        if len(wanted) in (input.ndim, self.dims + 2):
            wanted = wanted[-self.dims :]
        padding = each(type(self).__name__, "padding", self.padding, self.dims)
        settings = zip(input.shape[-self.dims :], self.stride, padding, self.dilation, self.kernel_size)
        least = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in settings)
        if len(wanted) != self.dims or any(
            not low <= n < low + stride for n, low, stride in zip(wanted, least, self.stride)
        ):
            raise ValueError(
                f"{type(self).__name__}: expected an output_size from {least} to {self.stride} more, the end left "
                f"out, got {tuple(output_size)}"
            )
        return tuple(n - low for n, low in zip(wanted, least))


class ConvTranspose1d(TransposedConvolution):
    """The gradient of a Conv1d by its input, of (N, C, L) or (C, L): weight (in_channels, out_channels / groups, k).

    The output has (L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + 1 + output_padding positions;
    output_padding must be below stride or dilation: RuntimeError. The call takes an output_size in its place.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose1d.html
    """

    dims = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(TransposedConvolution):
    """The gradient of a Conv2d by its input, of (N, C, H, W) or (C, H, W), with the sizes of `ConvTranspose1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html
    """

    dims = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(TransposedConvolution):
    """The gradient of a Conv3d by its input, of (N, C, D, H, W) or (C, D, H, W), with the sizes of `ConvTranspose1d`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose3d.html
    """

    dims = 3
    function = staticmethod(F.conv_transpose3d)


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
