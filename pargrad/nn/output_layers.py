"""Losses with weights of their own: the last layer and what it is scored by, in one module."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pargrad import operators
from pargrad.nn import functional as F
from pargrad.nn.containers import ModuleList, Sequential
from pargrad.nn.linear_layers import Linear
from pargrad.nn.module import Module
from pargrad.nn.terms import checked
from pargrad.tensor import Tensor


class LinearCrossEntropyLoss(Module):
    """The cross entropy of a linear layer's outputs: input (N, in_features), target (N,), or (N, *out_features).

    Every position of out_features has num_classes scores of its own.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.LinearCrossEntropyLoss.html
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: None = None,
    ):
        if weight is not None and weight.shape != (num_classes,):
            raise RuntimeError(f"LinearCrossEntropyLoss: expected weight of shape ({num_classes},), got {weight.shape}")
        self.register_buffer("weight", weight)
        self.reduction = checked(reduction)
        self.num_classes = num_classes
        self.out_features = out_features
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.linear = Linear(in_features, math.prod(out_features, start=num_classes), bias, device, dtype)
        self.options = options

    weight: Tensor | None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.linear_cross_entropy(*self.weights(input, target), **self.given())

    def sum_and_divisor(self, input: Tensor, target: Tensor) -> tuple[Tensor, float | None]:
        """What data parallelism adds up over shards."""
        terms = F.linear_cross_entropy.sum_and_divisor  # type: ignore[attr-defined]
        return terms(*self.weights(input, target), **self.given())

    def weights(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The input, the layer's weight in the shape of classes and outputs, and the target."""
        shape = (self.num_classes, *self.out_features, self.linear.in_features)
        return input, self.linear.weight.reshape(shape), target

    def given(self) -> dict[str, Any]:
        """The settings, as the function's arguments."""
        names = ("weight", "reduction", "ignore_index", "label_smoothing", "options")
        bias, shape = self.linear.bias, (self.num_classes, *self.out_features)
        return {"linear_bias": None if bias is None else bias.reshape(shape)} | {n: getattr(self, n) for n in names}

    def extra_repr(self) -> str:
        names = ("num_classes", "out_features", "bias", "reduction", "ignore_index", "label_smoothing", "options")
        told = {**vars(self), "bias": self.linear.bias is not None}
        return ", ".join([f"in_features={self.linear.in_features}", *(f"{name}={told[name]}" for name in names)])


class OutputAndLoss(NamedTuple):
    """The log probability of each example's target, and -1 times their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log probabilities of many classes, in clusters by how frequent they are, and the loss of targets.

    cutoffs: where clusters begin; the classes before the first are scored by `head`, as are the clusters, the classes
    in a cluster by its part of `tail`, whose width shrinks by div_value from each to the next. Grave et al. 2017.
    input (N, in_features) and target (N,) give (output, loss): the targets' log probabilities, and minus their mean.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveLogSoftmaxWithLoss.html
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        cutoffs = list(cutoffs)
        ends = [0, *cutoffs, n_classes]
        if not cutoffs or any(int(c) != c for c in cutoffs) or any(a >= b for a, b in itertools.pairwise(ends)):
            raise ValueError(
                f"AdaptiveLogSoftmaxWithLoss: expected cutoffs that grow, from 1 to {n_classes - 1}, got {cutoffs}"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for cluster, (first, end) in enumerate(itertools.pairwise(self.cutoffs)):
            width = int(in_features // div_value ** (cluster + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, device, dtype), Linear(width, end - first, False, device, dtype)
                )
            )

    def reset_parameters(self) -> None:
        """Draws the weights anew, as torch draws them."""
        for module in Module.modules(self):
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, input: Tensor, target: Tensor) -> OutputAndLoss:
        """input (N, in_features) and target (N,), or (in_features,) and ()."""
        if target.ndim > 1 or input.ndim != target.ndim + 1 or input.shape[: target.ndim] != target.shape:
            raise RuntimeError(
                f"{type(self).__name__}: expected input (N, in_features) and target (N,), or (in_features,) and (), "
                f"got shapes {input.shape} and {target.shape}"
            )
        classes = target.array.reshape(-1)
        if classes.size and not 0 <= classes.min() <= classes.max() < self.n_classes:
            raise RuntimeError(
                f"{type(self).__name__}: expected targets from 0 to {self.n_classes - 1}, got {classes.min()} to "
                f"{classes.max()}"
            )
        rows = input if target.ndim else input.unsqueeze(0)
        cluster = np.searchsorted(self.cutoffs, classes, side="right")
        in_head = np.where(cluster == 0, classes, self.shortlist_size + cluster - 1)
        output = F.log_softmax(self.head(rows), 1)[np.arange(len(classes)), in_head]
        parts, order = [output[cluster == 0]], [np.flatnonzero(cluster == 0)]
        for number in np.unique(cluster[cluster > 0]):
            members = np.flatnonzero(cluster == number)
            within = classes[members] - self.cutoffs[number - 1]
            scores = F.log_softmax(self.tail[number - 1](rows[members]), 1)
            parts.append(output[members] + scores[np.arange(len(members)), within])
            order.append(members)
        output = operators.cat(parts)[np.argsort(np.concatenate(order))]
        return OutputAndLoss(output if target.ndim else output.squeeze(0), -output.mean())

    def log_prob(self, input: Tensor) -> Tensor:
        """The log probabilities of all classes: (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for cluster, tail in enumerate(self.tail):
            parts.append(F.log_softmax(tail(input), 1) + head[:, self.shortlist_size + cluster].unsqueeze(1))
        return operators.cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each example: (N,)."""
        return Tensor(self.log_prob(input).array.argmax(1))


__all__ = ["AdaptiveLogSoftmaxWithLoss", "LinearCrossEntropyLoss"]
