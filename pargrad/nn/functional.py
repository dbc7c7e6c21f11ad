"""torch.nn.functional: activations, layers and losses as functions.

A loss is written once, as its terms: the value of each example or element and the divisor of their mean. From these
come torch's `reduction` and what data parallelism needs, `LOSS.sum_and_divisor(...)`: sums and divisors of shards
add up, means of uneven shards do not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad import operators, random
from pargrad.compositions import one_hot as one_hot
from pargrad.rules import RULES
from pargrad.rules.losses import at_class
from pargrad.rules.stacks import NotStackable
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply

relu: Callable[..., Tensor] = operators.relu
sigmoid: Callable[..., Tensor] = operators.sigmoid
tanh: Callable[..., Tensor] = operators.tanh
softmax: Callable[..., Tensor] = operators.softmax
log_softmax: Callable[..., Tensor] = operators.log_softmax


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias: input (..., in), weight (out, in), bias (out,), output (..., out)."""
    if input.shape[-1:] != weight.shape[1:]:
        raise RuntimeError(
            f"linear: expected input of shape (..., {weight.shape[1]}) for weight {weight.shape}, got {input.shape}"
        )
    if bias is None:
        return apply(RULES["matmul"], input, weight.T)
    return apply(RULES["linear"], input, weight, bias)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zeroes elements with probability p and divides the others by 1 - p; the identity where not training.

    The mask is torch's for the same seed; inside a data-parallel step it belongs to the shard. Srivastava et al.
    2014. `inplace` is taken and changes nothing: the result is another tensor.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: expected a probability p between 0 and 1, got {p}")
    if not training or p == 0.0:
        return input
    if p == 1.0:  # nothing is drawn, as in torch
        return input * np.zeros(input.shape, input.dtype)
    keep = random.bernoulli(random.current_generator(), input.shape, 1.0 - p)
    return input * (keep.astype(input.dtype) / (1.0 - p))


# ----- losses -----


class Terms(NamedTuple):
    """A loss before it is reduced: a value per example or element, and what the mean divides their sum by."""

    values: Tensor
    divisor: float
    reduction: str

    def reduced(self) -> Tensor:
        if self.reduction == "none":
            return self.values
        total = self.values.sum()
        if self.reduction == "sum":
            return total
        # Nothing counted: nan, as in torch, and without numpy's warning of 0 / 0.
        return total / self.divisor if self.divisor else total * float("nan")

    def sum_and_divisor(self) -> tuple[Tensor, float | None]:
        """What a shard hands on; the divisor is None with reduction="sum": the batch's sum is not divided."""
        return self.values.sum(), None if self.reduction == "sum" else self.divisor


def loss(terms: Callable[..., Terms]) -> Callable[..., Tensor]:
    """torch's loss function from its terms."""

    @functools.wraps(terms)
    def function(*args: Any, **named: Any) -> Tensor:
        return terms(*args, **named).reduced()

    def sum_and_divisor(*args: Any, **named: Any) -> tuple[Tensor, float | None]:
        return terms(*args, **named).sum_and_divisor()

    sum_and_divisor.of = function  # type: ignore[attr-defined]  # a wrapper around it is another function
    function.sum_and_divisor = sum_and_divisor  # type: ignore[attr-defined]
    return function


def checked(reduction: str, size_average: Any, reduce: Any) -> str:
    if size_average is not None or reduce is not None:
        raise ValueError(
            "size_average and reduce are deprecated in torch and not taken here: "
            "write reduction='mean', 'sum' or 'none'"
        )
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"expected reduction 'mean', 'sum' or 'none', got {reduction!r}")
    return reduction


def same_shape(name: str, input: Tensor, target: Tensor) -> None:
    # torch broadcasts here, with a warning; it is nearly always a (N, 1) met by a (N,).
    if input.shape != target.shape:
        raise ValueError(
            f"{name}: expected input and target of one shape, got {input.shape} and {target.shape}: reshape one of them"
        )


def as_constant(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else Tensor(np.asarray(values))


@loss
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Any:
    """(input - target)^2, the mean over elements; weight, of input's shape: the weighted mean.

    Unlike torch's, shapes that differ are an error, not a broadcast with a warning.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    same_shape("mse_loss", input, target)
    values = apply(RULES["square"], input - target)
    if weight is None:
        return Terms(values, values.numel(), reduction)
    weight = as_constant(weight)
    same_shape("mse_loss's weight", input, weight)
    return Terms(values * weight, float(weight.array.sum(dtype=np.float64)), reduction)


@loss
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Any:
    """Cross entropy of sigmoid(input) with target in [0, 1], elementwise; pos_weight scales the positive part.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    same_shape("binary_cross_entropy_with_logits", input, target)
    values = apply(RULES["sigmoid_cross_entropy"], input, target)
    if pos_weight is not None:
        # Only the term of the positive class is scaled: pos_weight - 1 times target * -log sigmoid(input) is added.
        positive = apply(RULES["sigmoid_cross_entropy"], input, Tensor(np.ones_like(target.array)))
        values = values + (pos_weight - 1) * target * positive
    if weight is not None:
        values = values * weight
    return Terms(values, values.numel(), reduction)


@loss
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """-input[target], for log-probabilities of shape (N, C, ...) or (C,) and class indices of shape (N, ...) or ().

    weight (C,): a factor for each class; the mean divides by the weights of the targets that were not ignored.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html
    """
    reduction = checked(reduction, size_average, reduce)
    weight = class_weights("nll_loss", input, weight)
    input, index, counted, single = classes("nll_loss", input, target, ignore_index)
    weights = None if weight is None else weight.array[index.array]
    values = -gather_class(input, index)
    return class_terms(values if weights is None else values * weights, weights, counted, single, reduction)


@loss
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-log softmax(input)[target]: input (N, C, ...) or (C,), target indices (N, ...) or probabilities like input.

    weight (C,): a factor for each class; the mean of class indices divides by the weights of the targets that were
    not ignored, the mean of probabilities by the number of examples. label_smoothing: the share of the target that
    is spread evenly over the classes (Szegedy et al. 2016).
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
    """
    reduction = checked(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: expected label_smoothing between 0 and 1, got {label_smoothing}")
    target, weight = as_constant(target), class_weights("cross_entropy", input, weight)
    class_dim = 1 if input.ndim > 1 else 0
    if target.dtype.kind == "f":
        if target.shape == input.shape[:class_dim] + input.shape[class_dim + 1 :]:
            raise ValueError(
                f"cross_entropy: class indices of shape {target.shape} must be integers, got {target.dtype}: "
                f"write target.long(), or give probabilities of input's shape {input.shape}"
            )
        same_shape("cross_entropy with class probabilities", input, target)
        log_probability = log_softmax(input, class_dim)
        smoothed = target * (1 - label_smoothing) + label_smoothing / input.shape[class_dim]
        values = -(log_probability * smoothed * along_classes(weight, input)).sum(class_dim)
        return Terms(values, values.numel(), reduction)

    input, index, counted, single = classes("cross_entropy", input, target, ignore_index)
    weights = None if weight is None else weight.array[index.array]
    values = apply(RULES["softmax_cross_entropy"], input, index)
    if weights is not None:
        values = values * weights
    if label_smoothing:
        spread = -(log_softmax(input, 1) * along_classes(weight, input)).sum(1)
        values = values * (1 - label_smoothing) + spread * (label_smoothing / input.shape[1])
    return class_terms(values, weights, counted, single, reduction)


def classes(
    name: str, input: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, np.ndarray | None, bool]:
    """Input as (N, C, ...), class indices with 0 for ignored ones, which count (None: all), and whether N was added."""
    target = as_constant(target)
    labels = target.slices if isinstance(target, Stacked) else target.array
    single = input.ndim == 1
    if single:
        input, target, labels = input.unsqueeze(0), target.unsqueeze(0), np.expand_dims(labels, 0)
    expected = (input.shape[0], *input.shape[2:])
    if target.shape != expected or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected class indices (integers) of shape {expected} for input {input.shape}, "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    counted = None
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low <= ignore_index <= high:
        if target.stacked:
            raise NotStackable("slices may ignore different numbers of targets")
        counted = labels != ignore_index
        labels = np.where(counted, labels, 0)
        low, high = labels.min(), labels.max()
    if low < 0 or (high >= input.shape[1] and labels.size):
        wrong = labels[(labels < 0) | (labels >= input.shape[1])]
        raise IndexError(
            f"{name}: class {wrong.flat[0]} is out of range: input has {input.shape[1]} classes, so targets are 0 to "
            f"{input.shape[1] - 1} (or ignore_index={ignore_index})"
        )
    if target.stacked:
        return input, target, None, single
    index = Tensor(labels)
    index.cell = target.cell  # what is saved for backward is the user's memory
    return input, index, counted, single


def class_weights(name: str, input: Tensor, weight: Any) -> Tensor | None:
    """One factor for each class, checked, in input's dtype; input is checked too."""
    if input.dtype.kind != "f" or not input.ndim:
        raise ValueError(
            f"{name}: expected floating-point scores of shape (N, C, ...) or (C,), "
            f"got {input.dtype} of shape {input.shape}"
        )
    if weight is None:
        return None
    weight, count = as_constant(weight), input.shape[1 if input.ndim > 1 else 0]
    if weight.shape != (count,):
        raise ValueError(f"{name}: expected one weight for each of {count} classes, got shape {weight.shape}")
    return weight.to(input.dtype)


def class_terms(
    values: Tensor, weights: np.ndarray | None, counted: np.ndarray | None, single: bool, reduction: str
) -> Terms:
    """The terms of a loss over classes; the mean divides by a count, an int, or a sum of class weights, a float."""
    if counted is not None:
        values = operators.where(counted, values, 0.0)  # no product: what is ignored may be infinite
    if weights is not None:
        divisor: float = float(weights.sum(dtype=np.float64, where=True if counted is None else counted))
    else:
        divisor = values.numel() if counted is None else int(np.count_nonzero(counted))
    return Terms(values[0] if single else values, divisor, reduction)


def along_classes(weight: Tensor | None, input: Tensor) -> Any:
    if weight is None:
        return 1.0
    return weight.reshape(-1, *(1,) * (input.ndim - 2)) if input.ndim > 1 else weight


def gather_class(input: Tensor, index: Tensor) -> Tensor:
    """input[n, index[n, ...], ...] for every n and every further position."""
    return input[at_class(index.array)]
