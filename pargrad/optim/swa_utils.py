"""Averages of a model's parameters over training: stochastic weight averaging, exponential moving averages.

https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pargrad.modes import no_grad
from pargrad.nn import Module
from pargrad.nn.normalization_layers import BatchNorm
from pargrad.optim.lr_scheduler.scheduler import LRScheduler, per_group
from pargrad.optim.optimizer import Optimizer, lerp
from pargrad.tensor import Tensor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]


def check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"expected decay in [0, 1], got {decay}")


def move_towards(averages: Sequence[Tensor], values: Sequence[Tensor], weight: float) -> None:
    """average += weight * (value - average), in place; integers, such as counts, are rounded down."""
    for average, value in zip(averages, values):
        array = average.array
        if array.dtype.kind in "fc":
            lerp(array, value.array, weight, out=array)
        else:
            array[...] = array + weight * (value.array - array)
        average.cell[0] += 1


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable:
    """average = decay * average + (1 - decay) * value, of lists of tensors, in place.

    https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
    """
    check_decay(decay)
    return lambda averages, values, num_averaged: move_towards(averages, values, 1 - decay)


def get_swa_multi_avg_fn() -> Callable:
    """average += (value - average) / (num_averaged + 1), of lists of tensors, in place: the mean of all so far."""
    return lambda averages, values, num_averaged: move_towards(averages, values, 1 / (int(num_averaged) + 1))


def get_ema_avg_fn(decay: float = 0.999) -> Callable:
    """`get_ema_multi_avg_fn` of one tensor, which returns the new average."""
    check_decay(decay)
    return lambda average, value, num_averaged: decay * average + (1 - decay) * value


def get_swa_avg_fn() -> Callable:
    """`get_swa_multi_avg_fn` of one tensor, which returns the new average."""
    return lambda average, value, num_averaged: average + (value - average) / (num_averaged + 1)


class AveragedModel(Module):
    """A copy of a model, `.module`, whose parameters are averages of the model's: call `update_parameters(model)`.

    avg_fn(average, value, num_averaged) returns the new average, multi_avg_fn(averages, values, num_averaged) writes
    new ones in place; without either it is the mean. use_buffers: buffers are averaged too, not copied.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.swa_utils.AveragedModel.html
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Tensor, Tensor, Any], Tensor] | None = None,
        multi_avg_fn: Callable[[Sequence[Tensor], Sequence[Tensor], Any], None] | None = None,
        use_buffers: bool = False,
    ):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: expected avg_fn or multi_avg_fn, got both")
        self.module = copy.deepcopy(model)
        self.register_buffer("n_averaged", Tensor(np.zeros((), np.int64)))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **named: Any) -> Any:
        return self.module(*args, **named)

    def update_parameters(self, model: Module) -> None:
        """Takes the model's parameters into the averages; the first time they are copied."""
        averages, values = self.averaged(self.module), self.averaged(model)
        count = self.n_averaged
        with no_grad():
            if count.item() == 0:
                copy_into(averages, values)
            elif self.avg_fn is None:
                (self.multi_avg_fn or get_swa_multi_avg_fn())(averages, values, count)
            else:
                new = [self.avg_fn(average, value, count) for average, value in zip(averages, values)]
                copy_into(averages, new)
            if not self.use_buffers:
                copy_into(list(Module.buffers(self.module)), list(Module.buffers(model)))
            count.array[...] += 1
            count.cell[0] += 1

    def averaged(self, model: Module) -> list[Tensor]:
        """What is averaged of a model: its parameters and, with use_buffers, its buffers."""
        buffers = Module.buffers(model) if self.use_buffers else ()
        return [tensor.detach() for tensor in itertools.chain(Module.parameters(model), buffers)]


def copy_into(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for tensor, value in zip(tensors, values):
        tensor.array[...] = value.array
        tensor.cell[0] += 1


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of the model's BatchNorm layers anew, over the batches of a loader.

    Of a batch that is a tuple or list, the first is the model's input.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.swa_utils.update_bn.html
    """
    layers = [module for module in Module.modules(model) if isinstance(module, BatchNorm)]
    if not layers:
        return
    momenta, training = [layer.momentum for layer in layers], model.training
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    type(model).train(model)
    try:
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, list | tuple) else batch)
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
        type(model).train(model, training)


class SWALR(LRScheduler):
    """Moves the rate to swa_lr within anneal_epochs steps, along a line or half a cosine, and keeps it there.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.swa_utils.SWALR.html
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | Sequence[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ):
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: expected anneal_epochs of at least 0, got {anneal_epochs!r}")
        for group, value in zip(optimizer.param_groups, per_group("swa_lr", optimizer, swa_lr)):
            group["swa_lr"] = value
        self.anneal_epochs = anneal_epochs
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = self.way(step - 1), self.way(step)
        return [self.annealed(group["lr"], group["swa_lr"], before, now) for group in self.optimizer.param_groups]

    def way(self, step: int) -> float:
        """The part of the way from lr to swa_lr that is gone after so many steps."""
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self.anneal_strategy == "cos" else t

    @staticmethod
    def annealed(lr: float, swa_lr: float, before: float, now: float) -> float:
        """The rate on its way to swa_lr: `before` and `now` are the shares of the way that are done."""
        # Where it began, from where it is: someone else may have changed it.
        first = swa_lr if before == 1 else (lr - before * swa_lr) / (1 - before)
        return swa_lr * now + first * (1 - now)
