"""Normalizations as functions: of batches, layers, groups, instances, root mean squares and neighbouring channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.function import Function, once_differentiable
from pargrad.nn.statistics import current_collector, track_average, track_moments
from pargrad.rules import RULES
from pargrad.rules.normalization import moments, total
from pargrad.tensor import Tensor, apply


def affine(input: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...] | None = None) -> Tensor:
    """input * weight + bias, both of them laid out in `shape`."""
    weight, bias = (x if x is None or shape is None else x.reshape(shape) for x in (weight, bias))
    if weight is None:
        return input if bias is None else input + bias
    return input * weight if bias is None else apply(RULES["addcmul"], bias, input, weight)


def standardize(
    input: Tensor,
    dim: tuple[int, ...],
    weight: Tensor | None,
    bias: Tensor | None,
    shape: tuple[int, ...] | None,
    eps: float,
    known: tuple | None = None,
) -> Tensor:
    """Input with mean 0 and variance 1 along dim, times weight plus bias, both of them laid out in `shape`.

    known: the mean and the variance.
    """
    check_floating(input)
    weight, bias = (x if x is None or shape is None else x.reshape(shape) for x in (weight, bias))
    inputs = input, 1.0 if weight is None else weight, 0.0 if bias is None else bias
    return apply(RULES["standardize"], *inputs, dim=dim, eps=eps, known=known)


def check_floating(input: Tensor) -> None:
    if input.dtype.kind != "f":
        raise RuntimeError(f"expected floating-point input, got {input.dtype}: write x.float()")


def per_channel(input: Tensor) -> tuple[int, ...]:
    """The shape in which one number a channel, dim 1, broadcasts against input."""
    return (-1, *(1,) * (input.ndim - 2))


def check_channels(name: str, input: Tensor, **given: Tensor | None) -> None:
    channels = input.shape[1]
    for what, x in given.items():
        if x is not None and x.shape != (channels,):
            raise RuntimeError(
                f"{name}: expected {what} of shape ({channels},) for input {input.shape}, got shape {x.shape}"
            )


# ----- statistics over the batch -----


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Each channel (dim 1) with mean 0 and variance 1 over all other dimensions, times weight plus bias.

    While training, mean and variance are those of the input, towards which the running ones are moved, the variance
    with Bessel's correction; otherwise the running ones are taken. Ioffe and Szegedy 2015.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html
    """
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: expected input of shape (N, C, ...), got {input.shape}")
    check_floating(input)
    check_channels("batch_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    shape = per_channel(input)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError("batch_norm: expected running_mean and running_var where training=False")
        scale = operators.rsqrt(running_var + eps)
        return affine((input - running_mean.reshape(shape)) * scale.reshape(shape), weight, bias, shape)
    count = values_per_channel(input)
    check_several(count, input)
    dim = all_but_channels(input)
    mean, variance = known = moments(input.array, dim)
    track_moments(running_mean, running_var, count, mean.reshape(-1), variance.reshape(-1), momentum)
    return standardize(input, dim, weight, bias, shape, eps, known)


def all_but_channels(input: Tensor) -> tuple[int, ...]:
    return (0, *range(2, input.ndim))


def values_per_channel(input: Tensor) -> int:
    return math.prod(input.shape) // input.shape[1] if input.shape[1] else 0


def check_several(count: float, input: Tensor) -> None:
    if count == 1:
        raise ValueError(f"batch_norm: expected more than 1 value per channel when training, got shape {input.shape}")


def sync_batch_norm(
    layer: Any,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """batch_norm; of a shard that a layer is trained on, with the mean and variance of the whole batch.

    layer: which the shards know by its place in the model. The running statistics get the shard's own part, as
    batch_norm's: the step merges them.
    """
    collector = current_collector()
    if collector is None or not layer.training:
        return batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    check_floating(input)
    check_channels("batch_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if input.shape[1] != layer.num_features:
        raise RuntimeError(f"SyncBatchNorm: expected {layer.num_features} channels, got input of shape {input.shape}")
    count = values_per_channel(input)
    mean, variance = (each.reshape(-1) for each in moments(input.array, all_but_channels(input)))
    track_moments(running_mean, running_var, count, mean, variance, momentum)
    whole, mean, deviations = collector.whole_moments(layer, count, mean, variance * count)
    check_several(whole, input)
    whole_sums = functools.partial(collector.whole_sums, layer)
    return WholeBatchNorm.apply(input, weight, bias, whole, mean, deviations / max(whole, 1), eps, whole_sums)


class WholeBatchNorm(Function):
    """batch_norm of a shard, with the mean and variance of `count` values of the whole batch, float64.

    whole_sums: adds up what the shards have found, (2, C), over the whole batch; all of them call it in backward.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: float,
        mean: np.ndarray,
        variance: np.ndarray,
        eps: float,
        whole_sums: Callable[[np.ndarray], np.ndarray],
    ) -> Tensor:
        x, shape = input.array, per_channel(input)
        ctx.save_for_backward(input, weight)
        ctx.count, ctx.whole_sums = count, whole_sums
        ctx.mean = mean.astype(x.dtype).reshape(shape)
        ctx.scale = (1 / np.sqrt(variance + eps)).astype(x.dtype).reshape(shape)
        value = x - ctx.mean
        value *= ctx.scale if weight is None else ctx.scale * weight.array.reshape(shape)
        if bias is not None:
            value += bias.array.reshape(shape)
        return Tensor(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        input, weight = ctx.saved_tensors
        g, dim, dtype = gradient.array, all_but_channels(input), input.dtype
        standardized = (input.array - ctx.mean) * ctx.scale
        sums = np.stack([total(g, None, dim).reshape(-1), total(g, standardized, dim).reshape(-1)])
        out = None
        if ctx.needs_input_grad[0]:
            # (g, without its mean and without its part along what was standardized) * weight / deviation
            means = (ctx.whole_sums(sums) / max(ctx.count, 1)).astype(dtype)
            less, part = (each.reshape(per_channel(input)) for each in means)
            standardized *= part
            out = np.subtract(g, standardized, out=standardized)
            out -= less
            out *= ctx.scale if weight is None else ctx.scale * weight.array.reshape(per_channel(input))
        of_bias, of_weight = map(Tensor, sums)
        return None if out is None else Tensor(out), of_weight, of_bias, *[None] * 5


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """batch_norm of each example by itself; the running statistics are moved towards the mean over the examples'.

    use_input_stats=False: the running statistics are taken. Ulyanov et al. 2016.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = math.prod(input.shape[2:])
    if input.ndim < 3 or count == 1:
        raise ValueError(
            "instance_norm: expected input of shape (N, C, ...) with more than 1 value per channel and example, got "
            f"{input.shape}"
        )
    check_channels("instance_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    examples, dim = input.shape[0], tuple(range(2, input.ndim))
    mean, variance = known = moments(input.array, dim)
    track_average(running_mean, examples, mean.mean(axis=0).reshape(-1), momentum)
    track_average(running_var, examples, variance.mean(axis=0).reshape(-1) * (count / (count - 1)), momentum)
    return standardize(input, dim, weight, bias, per_channel(input), eps, known)


# ----- statistics of each example -----


def last_dims(name: str, input: Tensor, normalized_shape: Any, **given: Tensor | None) -> tuple[int, ...]:
    """The last dimensions, which are to be of this shape, counted from the back."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int | np.integer) else tuple(normalized_shape)
    if not shape or input.shape[-len(shape) :] != shape:
        raise RuntimeError(f"{name}: expected input whose shape ends in {shape}, got {input.shape}")
    for what, x in given.items():
        if x is not None and x.shape != shape:
            raise RuntimeError(f"{name}: expected {what} of the normalized shape {shape}, got shape {x.shape}")
    return tuple(range(-len(shape), 0))


def flattened(x: Tensor, count: int) -> Tensor:
    """x with its last dimensions, so many, as one."""
    return x.reshape(*x.shape[:-count], math.prod(x.shape[-count:]))


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, which are of normalized_shape, times weight plus bias.

    Ba et al. 2016. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html
    """
    dims = last_dims("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    check_floating(input)
    x, weight, bias = (y if y is None or len(dims) == 1 else flattened(y, len(dims)) for y in (input, weight, bias))
    inputs = x, 1.0 if weight is None else weight, 0.0 if bias is None else bias
    out = apply(RULES["layer_norm"], *inputs, eps=eps)
    return out if len(dims) == 1 else out.reshape(*input.shape)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over each group of channels (dim 1) of each example, times weight plus bias, per channel.

    Wu and He 2018. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html
    """
    if input.ndim < 2:
        raise RuntimeError(f"group_norm: expected input of shape (N, C, ...), got {input.shape}")
    channels = input.shape[1]
    if num_groups <= 0 or channels % num_groups:
        raise RuntimeError(
            f"group_norm: expected a number of groups that divides {channels} channels, got {num_groups}"
        )
    check_channels("group_norm", input, weight=weight, bias=bias)
    each = channels // num_groups
    groups = input.reshape(input.shape[0], num_groups, each, math.prod(input.shape[2:]))
    return standardize(groups, (2, 3), weight, bias, (num_groups, each, 1), eps).reshape(*input.shape)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """input over its root mean square over the last dimensions, times weight; eps: by default the dtype's epsilon.

    Zhang and Sennrich 2019. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html
    """
    dim = last_dims("rms_norm", input, normalized_shape, weight=weight)
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    scale = operators.rsqrt(apply(RULES["square"], input).mean(dim, keepdim=True) + eps)
    return affine(input * scale, weight, None)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """input / (k + alpha * m) ** beta, m the mean square of `size` neighbouring channels (Krizhevsky et al. 2012).

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.local_response_norm.html
    """
    if input.ndim < 3:
        raise ValueError(f"local_response_norm: expected input of shape (N, C, ...) with 3 or more, got {input.shape}")
    if not input.numel():
        return input
    square = apply(RULES["square"], input)

    def nothing(channels: int) -> np.ndarray:
        return np.zeros((input.shape[0], channels, *input.shape[2:]), input.dtype)

    padded = operators.cat([nothing(size // 2), square, nothing((size - 1) // 2)], 1)
    mean = apply(RULES["unfold"], padded, dimension=1, size=size, step=1).mean(-1)
    return input / (mean * alpha + k) ** beta


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]
