"""Layers that take their number of inputs from the first batch that they are called on, and are plain layers then.

https://docs.pytorch.org/docs/stable/generated/torch.nn.modules.lazy.LazyModuleMixin.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pargrad.nn import conv_layers, normalization_layers
from pargrad.nn.conv_layers import Convolution, ForwardConvolution, TransposedConvolution
from pargrad.nn.linear_layers import Linear
from pargrad.nn.module import Module, as_array, hooks_of
from pargrad.nn.normalization_layers import BatchNorm, InstanceNorm, RunningNorm
from pargrad.nn.parameter import Uninitialized, UninitializedBuffer, UninitializedParameter
from pargrad.nn.spatial import Several, Sizes
from pargrad.tensor import Tensor


class Lazy(Module):
    """A base of layers whose parameters have no shape yet: the first call settles them, or `load_state_dict` does."""

    becomes: type[Module]

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.initialize_parameters(*args, **named)
        self.__class__ = self.becomes  # type: ignore[assignment]
        waiting = hooks_of(self).before_load
        for key in [key for key, hook in waiting.items() if hook.function is take_shapes]:
            del waiting[key]
        return self(*args, **named)

    def initialize_parameters(self, input: Tensor) -> None:
        """Sets what the layer could not know, from its first input."""
        raise NotImplementedError

    def wait(self) -> None:
        """Has what is loaded give the tensors their shapes."""
        self.register_load_state_dict_pre_hook(take_shapes)

    def has_uninitialized_params(self) -> bool:
        return next(uninitialized(self), None) is not None

    def settle_shapes(self, shapes: dict[str, Sizes]) -> None:
        """Gives the tensors their shapes and first values, unless they have been loaded."""
        waiting = dict(uninitialized(self))
        for name, tensor in waiting.items():
            tensor.materialize(shapes[name])
        if waiting:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Does nothing before there are shapes."""
        if not self.has_uninitialized_params():
            self.becomes.reset_parameters(self)  # type: ignore[attr-defined]


def uninitialized(module: Module) -> Iterator[tuple[str, Uninitialized]]:
    """Its own tensors that have no shape yet."""
    return ((name, value) for name, value in vars(module).items() if isinstance(value, Uninitialized))


def take_shapes(module: Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    for name, tensor in uninitialized(module):
        given = state.get(prefix + name)
        if given is not None and not isinstance(given, Uninitialized):
            tensor.materialize(as_array(given).shape)


class LazyLinear(Lazy, Linear):
    """Linear, whose in_features is the last size of its first input.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LazyLinear.html
    """

    becomes = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.in_features = 0
        self.out_features = out_features
        self.weight = UninitializedParameter(True, device, dtype)
        self.bias = UninitializedParameter(True, device, dtype) if bias else None
        self.wait()

    def initialize_parameters(self, input: Tensor) -> None:
        self.in_features = input.shape[-1]
        self.settle_shapes({"weight": (self.out_features, self.in_features), "bias": (self.out_features,)})


# ----- convolutions -----


class LazyConvolution(Lazy, Convolution):
    """A base: a convolution whose in_channels is the first input's number of channels."""

    def fill(self, shape: Sizes, bias: bool, device: Any, dtype: Any) -> None:
        self.weight = UninitializedParameter(True, device, dtype)
        self.bias = UninitializedParameter(True, device, dtype) if bias else None
        self.wait()

    def initialize_parameters(self, input: Tensor, output_size: Any = None) -> None:
        name = type(self).__name__
        if input.ndim not in (self.dims + 1, self.dims + 2):
            raise RuntimeError(
                f"{name}: expected input of {self.dims + 1} or {self.dims + 2} dimensions, got shape {input.shape}"
            )
        self.in_channels = input.shape[-self.dims - 1]
        if self.in_channels % self.groups:
            raise ValueError(f"{name}: expected groups that divide {self.in_channels} channels, got {self.groups}")
        self.settle_shapes({"weight": (*self.outer_shape(), *self.kernel_size), "bias": (self.out_channels,)})

    def outer_shape(self) -> Sizes:
        raise NotImplementedError


class LazyForwardConvolution(LazyConvolution, ForwardConvolution):
    """A base of LazyConv1d, LazyConv2d and LazyConv3d."""

    def __init__(
        self,
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
        settings = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(0, out_channels, kernel_size, *settings)

    def outer_shape(self) -> Sizes:
        return self.out_channels, self.in_channels // self.groups


class LazyTransposedConvolution(LazyConvolution, TransposedConvolution):
    """A base of LazyConvTranspose1d, LazyConvTranspose2d and LazyConvTranspose3d."""

    def __init__(
        self,
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
        settings = (stride, padding, output_padding, groups, bias, dilation, padding_mode, device, dtype)
        super().__init__(0, out_channels, kernel_size, *settings)

    def outer_shape(self) -> Sizes:
        return self.in_channels, self.out_channels // self.groups


# ----- normalizations -----


class LazyRunningNorm(Lazy, RunningNorm):
    """A base: a normalization whose num_features is the first input's number of channels."""

    def settle(self, num_features: int, *settings: Any) -> None:
        super().settle(num_features, *settings)
        *_, device, dtype = settings
        for name in ("weight", "bias"):
            if getattr(self, name) is not None:
                setattr(self, name, UninitializedParameter(True, device, dtype))
        for name in ("running_mean", "running_var"):
            if getattr(self, name) is not None:
                setattr(self, name, UninitializedBuffer(False, device, dtype))
        self.wait()

    def reset_parameters(self) -> None:
        if not self.has_uninitialized_params():
            self.reset_running_stats()
        super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        self.check(input)
        single = isinstance(self, InstanceNorm) and input.ndim == min(self.dimensions)
        self.num_features = input.shape[0 if single else 1]
        names = ("weight", "bias", "running_mean", "running_var")
        self.settle_shapes(dict.fromkeys(names, (self.num_features,)))


class LazyBatchNorm(LazyRunningNorm, BatchNorm):
    """A base of LazyBatchNorm1d, LazyBatchNorm2d and LazyBatchNorm3d."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)


class LazyInstanceNorm(LazyRunningNorm, InstanceNorm):
    """A base of LazyInstanceNorm1d, LazyInstanceNorm2d and LazyInstanceNorm3d: by default affine and tracked."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)


def lazy(base: type[Lazy], plain: Any) -> Any:
    """The lazy form of a layer, under torch's name."""
    name = f"Lazy{plain.__name__}"
    text = f"{plain.__name__} whose number of inputs is that of its first batch."
    return type(name, (base, plain), {"becomes": plain, "__doc__": text, "__module__": __name__})


LazyConv1d, LazyConv2d, LazyConv3d = (
    lazy(LazyForwardConvolution, getattr(conv_layers, f"Conv{n}d")) for n in (1, 2, 3)
)
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = (
    lazy(LazyTransposedConvolution, getattr(conv_layers, f"ConvTranspose{n}d")) for n in (1, 2, 3)
)
LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d = (
    lazy(LazyBatchNorm, getattr(normalization_layers, f"BatchNorm{n}d")) for n in (1, 2, 3)
)
LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d = (
    lazy(LazyInstanceNorm, getattr(normalization_layers, f"InstanceNorm{n}d")) for n in (1, 2, 3)
)

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
]
