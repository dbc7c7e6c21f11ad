"""Layers that take their number of inputs from the first batch that they are called on, and are plain layers then.

https://docs.pytorch.org/docs/stable/generated/torch.nn.modules.lazy.LazyModuleMixin.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pargrad.nn import conv_layers, normalization_layers
from pargrad.nn.constructors import parameters_of, taking
from pargrad.nn.conv_layers import Convolution
from pargrad.nn.linear_layers import Linear
from pargrad.nn.module import Module, as_array, hooks_of
from pargrad.nn.normalization_layers import InstanceNorm, RunningNorm
from pargrad.nn.parameter import Parameter, Uninitialized, UninitializedBuffer, UninitializedParameter
from pargrad.nn.spatial import Sizes
from pargrad.tensor import Tensor


class Lazy(Module):
    """A base of layers whose parameters have no shape yet: the first call settles them, or `load_state_dict` does."""

    becomes: type[Module]
    unknown: str  # the attribute with the number of inputs, which is 0 until the first call

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.initialize_parameters(*args, **named)
        self.__class__ = self.becomes  # type: ignore[assignment]
        waiting = hooks_of(self).before_load
        for key in [key for key, hook in waiting.items() if hook.function is take_shapes]:
            del waiting[key]
        return self(*args, **named)

    def initialize_parameters(self, input: Tensor, *others: Any, **named: Any) -> None:
        """Gives the tensors their shapes and first values, unless they have been loaded."""
        setattr(self, self.unknown, self.inputs_of(input))
        waiting = dict(uninitialized(self))
        for name, tensor in waiting.items():
            tensor.materialize(self.shape_of(name))
        if waiting:
            self.reset_parameters()

    def inputs_of(self, input: Tensor) -> int:
        """What the layer could not know, from its first input."""
        raise NotImplementedError

    def shape_of(self, name: str) -> Sizes:
        """Of a parameter or buffer, once the number of inputs is known."""
        raise NotImplementedError

    def wait(self) -> None:
        """Takes the shapes from the tensors, and has what is loaded give them theirs."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                setattr(self, name, UninitializedParameter(dtype=value.dtype))
            elif isinstance(value, Tensor) and not value.numel():
                setattr(self, name, UninitializedBuffer(dtype=value.dtype))
        self.register_load_state_dict_pre_hook(take_shapes)

    def has_uninitialized_params(self) -> bool:
        return next(uninitialized(self), None) is not None

    def reset_parameters(self) -> None:
        """Does nothing before the first call."""
        if getattr(self, self.unknown):
            self.becomes.reset_parameters(self)  # type: ignore[attr-defined]


def uninitialized(module: Module) -> Iterator[tuple[str, Uninitialized]]:
    """Its own tensors that have no shape yet."""
    return ((name, value) for name, value in vars(module).items() if isinstance(value, Uninitialized))


def take_shapes(module: Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    for name, tensor in uninitialized(module):
        given = state.get(prefix + name)
        if given is not None and not isinstance(given, Uninitialized):
            tensor.materialize(as_array(given).shape)


class LazyMap(Lazy, Linear):
    """A base: in_features is the last size of the first input."""

    def inputs_of(self, input: Tensor) -> int:
        return input.shape[-1]

    def shape_of(self, name: str) -> Sizes:
        return (self.out_features, self.in_features) if name == "weight" else (self.out_features,)


class LazyConvolution(Lazy, Convolution):
    """A base: in_channels is the first input's number of channels."""

    def inputs_of(self, input: Tensor) -> int:
        name = type(self).__name__
        if input.ndim not in (self.dims + 1, self.dims + 2):
            raise RuntimeError(
                f"{name}: expected input of {self.dims + 1} or {self.dims + 2} dimensions, got shape {input.shape}"
            )
        channels = input.shape[-self.dims - 1]
        if channels % self.groups:
            raise ValueError(f"{name}: expected groups that divide {channels} channels, got {self.groups}")
        return channels

    def shape_of(self, name: str) -> Sizes:
        return self.weight_shape() if name == "weight" else (self.out_channels,)


class LazyNorm(Lazy, RunningNorm):
    """A base: num_features is the first input's number of channels."""

    def inputs_of(self, input: Tensor) -> int:
        self.check(input)
        single = isinstance(self, InstanceNorm) and input.ndim == min(self.dimensions)
        return input.shape[0 if single else 1]

    def shape_of(self, name: str) -> Sizes:
        return (self.num_features,)


def lazy(base: type[Lazy], plain: Any, **defaults: Any) -> Any:
    """The lazy form of a layer, under torch's name: its constructor takes all but the first, the number of inputs."""
    unknown, *others = parameters_of(plain, **defaults)

    @taking(others)
    def construct(self: Any, **settings: Any) -> None:
        plain.__init__(self, 0, **settings)
        self.wait()

    name = f"Lazy{plain.__name__}"
    text = (
        f"{plain.__name__} whose {unknown.name} is that of its first input.\n\n"
        f"https://docs.pytorch.org/docs/stable/generated/torch.nn.{name}.html"
    )
    own = {"becomes": plain, "unknown": unknown.name, "__init__": construct, "__doc__": text, "__module__": __name__}
    return type(name, (base, plain), own)


LazyLinear = lazy(LazyMap, Linear)
LazyConv1d, LazyConv2d, LazyConv3d = (lazy(LazyConvolution, getattr(conv_layers, f"Conv{n}d")) for n in (1, 2, 3))
LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d = (
    lazy(LazyConvolution, getattr(conv_layers, f"ConvTranspose{n}d")) for n in (1, 2, 3)
)
LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d = (
    lazy(LazyNorm, getattr(normalization_layers, f"BatchNorm{n}d")) for n in (1, 2, 3)
)
LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d = (
    lazy(LazyNorm, getattr(normalization_layers, f"InstanceNorm{n}d"), affine=True, track_running_stats=True)
    for n in (1, 2, 3)
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
