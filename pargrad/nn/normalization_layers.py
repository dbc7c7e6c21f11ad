"""Normalizations as layers: of batches, instances, layers, groups, root mean squares and neighbouring channels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad import creation
from pargrad.nn import functional as F
from pargrad.nn import init
from pargrad.nn.constructors import parameters_of, taking, with_another
from pargrad.nn.linear_layers import empty
from pargrad.nn.module import Module, Parameter
from pargrad.nn.normalization import sync_batch_norm
from pargrad.nn.statistics import count_batch
from pargrad.tensor import Tensor


class Scaled(Module):
    """A base: a weight, which begins as 1, and a bias, which begins as 0, for what has been normalized."""

    weight: Parameter | None
    bias: Parameter | None

    def fill(self, shape: Any, weight: bool, bias: bool, device: Any, dtype: Any) -> None:
        # None keeps a parameter's place, as in torch.
        self.register_parameter("weight", empty(shape, device, dtype) if weight else None)
        self.register_parameter("bias", empty(shape, device, dtype) if weight and bias else None)

    def reset_parameters(self) -> None:
        """Makes every weight 1 and every bias 0 again."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


# ----- running statistics -----


class RunningNorm(Scaled):
    """A base: one mean and variance for each of num_features channels, and running ones of those, as buffers."""

    optional_buffers = ("num_batches_tracked",)
    dimensions: tuple[int, ...]
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.fill(num_features, affine, bias, device, dtype)
        tracked = track_running_stats
        self.register_buffer("running_mean", creation.empty(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("running_var", creation.empty(num_features, dtype=dtype) if tracked else None)
        self.register_buffer("num_batches_tracked", Tensor(np.zeros((), np.int64)) if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Makes the running means 0, the running variances 1, and the count of batches 0 again."""
        for buffer, value in [(self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0)]:
            if buffer is not None:
                init.constant_(buffer, value)

    def reset_parameters(self) -> None:
        """Has the running statistics begin again too, as torch's does."""
        self.reset_running_stats()
        super().reset_parameters()

    def check(self, input: Tensor) -> None:
        """Raises ValueError on an input of another number of dimensions or channels."""
        if input.ndim not in self.dimensions:
            expected = " or ".join(map(str, self.dimensions))
            raise ValueError(f"{type(self).__name__}: expected input of {expected} dimensions, got shape {input.shape}")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm(RunningNorm):
    """A base of BatchNorm1d, BatchNorm2d and BatchNorm3d.

    While training, mean and variance are those of the batch, otherwise the running ones, if they are tracked.
    momentum=None: the running ones are the means over all batches. Ioffe and Szegedy 2015.
    """

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        tracking = self.training and self.track_running_stats
        if tracking and self.num_batches_tracked is not None:
            number = count_batch(self.num_batches_tracked)
            if self.momentum is None:
                momentum = 1.0 / number
        untracked = self.running_mean is None and self.running_var is None
        running = (
            (self.running_mean, self.running_var) if not self.training or self.track_running_stats else (None, None)
        )
        settings = self.training or untracked, momentum, self.eps
        return self.normalize(input, *running, self.weight, self.bias, *settings)

    normalize: Callable[..., Tensor] = staticmethod(F.batch_norm)


class BatchNorm1d(BatchNorm):
    """Each channel of (N, C) or (N, C, L) with mean 0 and variance 1, times weight plus bias, both (C,).

    While training, over the batch, ValueError where a channel has one value; in evaluation by the running statistics
    if it tracks them. These move by `momentum` a batch; with momentum=None they are the mean of all batches.
    Ioffe and Szegedy 2015.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html

    >>> layer = nn.BatchNorm1d(3)
    >>> _ = layer(pg.tensor([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]]))
    >>> layer.running_mean
    tensor([0.1000, 0.2000, 0.3000])
    """

    dimensions = (2, 3)


class BatchNorm2d(BatchNorm):
    """As `BatchNorm1d`, of (N, C, H, W): ValueError for another number of dimensions.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
    """

    dimensions = (4,)


class BatchNorm3d(BatchNorm):
    """As `BatchNorm1d`, of (N, C, D, H, W): ValueError for another number of dimensions.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm3d.html
    """

    dimensions = (5,)


class SyncBatchNorm(BatchNorm):
    """BatchNorm of (N, C, ...) over the whole batch, also where a trainer cuts it into shards.

    In a data-parallel step the shards exchange their moments, and in backward two sums a channel, so that values and
    gradients are those of BatchNorm on the whole batch, with the same bits for any number of workers. A worker then
    keeps the graphs of all its shards at once, and every shard must call the same of these layers in the same order.
    In a loop of one's own it is BatchNorm; so there is nothing to be said by process_group, and it has no second
    derivative in a step. https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
    """

    @taking(with_another(parameters_of(BatchNorm), "process_group", before="device"))
    def __init__(self, process_group: None, **settings: Any):
        if process_group is not None:
            raise ValueError(
                f"SyncBatchNorm: expected process_group to be None, got {process_group!r}: it sees the whole batch of "
                "a Trainer's step"
            )
        super().__init__(**settings)

    def check(self, input: Tensor) -> None:
        """Takes (N, C, ...): ValueError for another number of dimensions."""
        if input.ndim < 2 or not input.shape[1]:
            raise ValueError(f"SyncBatchNorm: expected input of shape (N, C, ...), C not 0, got shape {input.shape}")

    normalize = sync_batch_norm

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: None = None) -> Module:
        """The module with SyncBatchNorm in the place of every BatchNorm in it, on the same parameters and buffers.

        Unlike torch's it finds a layer under each of its names, where it has several.
        """
        converted: dict[int, Module] = {}
        for path, layer in list(Module.named_modules(module, remove_duplicate=False)):
            if isinstance(layer, BatchNorm):
                if id(layer) not in converted:
                    converted[id(layer)] = cls.in_place_of(layer, process_group)
                if path:
                    Module.set_submodule(module, path, converted[id(layer)])
        return converted.get(id(module), module)

    @classmethod
    def in_place_of(cls, layer: BatchNorm, process_group: None) -> SyncBatchNorm:
        """A SyncBatchNorm with a BatchNorm's settings, parameters and buffers."""
        settings = layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        out = cls(layer.num_features, *settings, process_group, bias=layer.bias is not None)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "training"):
            setattr(out, name, getattr(layer, name))
        return out


class InstanceNorm(RunningNorm):
    """A base of InstanceNorm1d, InstanceNorm2d and InstanceNorm3d: BatchNorm of each example by itself.

    Running statistics are taken only where they are tracked, and not while training. Ulyanov et al. 2016.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        single = input.ndim == min(self.dimensions)
        batch = input.unsqueeze(0) if single else input
        if batch.shape[1] != self.num_features:
            told = f"{type(self).__name__}: expected {self.num_features} channels, got input of shape {input.shape}"
            if self.affine or self.track_running_stats:
                raise ValueError(told)
            warnings.warn(told, stacklevel=2)
        use_input = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        out = F.instance_norm(
            batch, self.running_mean, self.running_var, self.weight, self.bias, use_input, momentum, self.eps
        )
        return out.squeeze(0) if single else out


class InstanceNorm1d(InstanceNorm):
    """Each channel of each example of (N, C, L) or (C, L) with mean 0 and variance 1 (Ulyanov et al. 2016).

    Without track_running_stats in evaluation, too. ValueError where a channel of an example has one value, and with
    affine for other than num_features channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm1d.html
    """

    dimensions = (2, 3)


class InstanceNorm2d(InstanceNorm):
    """As `InstanceNorm1d`, of (N, C, H, W) or (C, H, W).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm2d.html
    """

    dimensions = (3, 4)


class InstanceNorm3d(InstanceNorm):
    """As `InstanceNorm1d`, of (N, C, D, H, W) or (C, D, H, W).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.InstanceNorm3d.html
    """

    dimensions = (4, 5)


# ----- statistics of each example -----


def as_shape(normalized_shape: Any) -> tuple[int, ...]:
    return (int(normalized_shape),) if isinstance(normalized_shape, int | np.integer) else tuple(normalized_shape)


class LayerNorm(Scaled):
    """Mean 0 and variance 1 over the last dimensions, which are of normalized_shape, times weight plus bias.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html

    >>> nn.LayerNorm(2, eps=0.0)(pg.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]], grad_fn=<LayerNormBackward0>)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        self.normalized_shape = as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.fill(self.normalized_shape, elementwise_affine, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(Scaled):
    """Mean 0 and variance 1 over each group of channels of each example, times weight plus bias, per channel.

    input (N, num_channels, ...), output the same. ValueError where num_groups does not divide num_channels.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        if num_groups <= 0 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: expected num_groups that divides {num_channels} channels, got {num_groups}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.fill(num_channels, affine, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Input over its root mean square over the last dimensions, times weight; eps: by default the dtype's epsilon.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        self.normalized_shape = as_shape(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = empty(self.normalized_shape, device, dtype) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Makes every weight 1 again."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """input / (k + alpha * m) ** beta, m the mean square of `size` neighbouring channels.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LocalResponseNorm.html
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0):
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """LocalResponseNorm of (N, C, H, W) over as many channels before as after: one less than an even `size`.

    Unlike torch's, which never takes channel 0 out of its running sum again, also in the later channels.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossMapLRN2d.html
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1):
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4:
            raise ValueError(f"CrossMapLRN2d: expected input of 4 dimensions, got shape {input.shape}")
        width = 2 * ((self.size - 1) // 2) + 1
        return F.local_response_norm(input, width, self.alpha * width / self.size, self.beta, self.k)


__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CrossMapLRN2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "SyncBatchNorm",
]
