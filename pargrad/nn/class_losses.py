"""Losses of scores for classes: of one class an example, of several, or of a sequence of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.nn.activations import log_softmax
from pargrad.nn.linear import linear
from pargrad.nn.terms import Terms, as_constant, checked, factors, loss, of_elements, same_shape
from pargrad.rules import RULES
from pargrad.rules.losses import at_class
from pargrad.rules.stacks import NotStackable
from pargrad.tensor import Tensor, answer, apply


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

    >>> scores, target = pg.zeros(2, 4), pg.tensor([3, -100])
    >>> F.cross_entropy(scores, target)
    tensor(1.3863)
    >>> F.cross_entropy(scores, target, reduction="none")
    tensor([1.3863, 0.0000])
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


@loss
def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:
    """cross_entropy of linear(input, linear_weight, linear_bias): input (N, in) or (in,), linear_weight (C, ..., in).

    options: how torch cuts the computation in pieces; here it is done in one.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear_cross_entropy.html
    """
    rows = linear_weight.reshape(-1, linear_weight.shape[-1])
    scores = linear(input, rows, None if linear_bias is None else linear_bias.reshape(-1))
    scores = scores.reshape(*input.shape[:-1], *linear_weight.shape[:-1])
    given = {"weight": weight, "reduction": reduction, "label_smoothing": label_smoothing}
    return cross_entropy.__wrapped__(  # type: ignore[attr-defined]  # its terms
        scores, target, **given, ignore_index=-100 if ignore_index is None else ignore_index
    )


def classes(
    name: str, input: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, np.ndarray | None, bool]:
    """Input as (N, C, ...), class indices with 0 for ignored ones, which count (None: all), and whether N was added."""
    target = as_constant(target)
    single = input.ndim == 1
    if single:
        input, target = input.unsqueeze(0), target.unsqueeze(0)
    expected = (input.shape[0], *input.shape[2:])
    if target.shape != expected or target.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected class indices (integers) of shape {expected} for input {input.shape}, "
            f"got {target.dtype} of shape {target.shape}"
        )
    if answer(target, functools.partial(all_count, number=input.shape[1], ignore_index=ignore_index)):
        return input, target, None, single
    if target.stacked:
        raise NotStackable("slices may ignore different numbers of targets")
    counted = target.array != ignore_index
    labels = np.where(counted, target.array, 0)
    wrong = labels[(labels < 0) | (labels >= input.shape[1])]
    if wrong.size:
        raise IndexError(
            f"{name}: class {wrong.flat[0]} is out of range: input has {input.shape[1]} classes, so targets are 0 to "
            f"{input.shape[1] - 1} (or ignore_index={ignore_index})"
        )
    index = Tensor(labels)
    index.cell = target.cell  # what is saved for backward is the user's memory
    return input, index, counted, single


def all_count(labels: np.ndarray, number: int, ignore_index: int) -> bool:
    """Whether all labels are classes, of so many, and none is ignored."""
    if not labels.size:
        return True
    low, high = labels.min(), labels.max()
    return bool(low >= 0 and high < number and not low <= ignore_index <= high)


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
        raise RuntimeError(f"{name}: expected one weight for each of {count} classes, got shape {weight.shape}")
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


# ----- margins between classes -----


def check_power(p: int) -> None:
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: expected p to be 1 or 2, got {p}")


@loss
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, margin - input[target] + input[i])^p, over every class i but the target, summed, over their number.

    input (N, C) or (C,), target class indices (N,) or (), p 1 or 2; weight (C,): a factor for each class.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multi_margin_loss.html
    """
    reduction = checked(reduction, size_average, reduce)
    check_power(p)
    input = input if input.ndim else input.reshape(1)
    target = target.reshape(()) if input.ndim == 1 and target.shape == (1,) else target
    weight = class_weights("multi_margin_loss", input, weight)
    if input.ndim > 2:
        raise ValueError(f"multi_margin_loss: expected scores of shape (N, C) or (C,), got {input.shape}")
    input, index, _, single = classes("multi_margin_loss", input, target, -100)
    count = input.shape[1]
    short = operators.relu(margin - gather_class(input, index).unsqueeze(1) + input)
    short = short if p == 1 else short * short
    if weight is not None:
        short = short * weight.array[index.array][:, None]
    values = operators.where(index.array[:, None] == np.arange(count), 0.0, short).sum(1) / count
    return of_elements(values[0] if single else values, reduction)


@loss
def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """max(0, 1 - input[j] + input[i]) over every target j and every class i that is none, summed, over the classes.

    input (N, C) or (C,), target of the same shape: class indices, those before the first -1.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_margin_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    same_shape("multilabel_margin_loss", input, target)
    input, target = (x if x.ndim else x.reshape(1) for x in (input, target))
    if input.ndim not in (1, 2) or target.dtype.kind not in "iu":
        raise ValueError(
            "multilabel_margin_loss: expected scores of shape (N, C) or (C,) and integers as the target, got "
            f"{input.dtype} of shape {input.shape} and {target.dtype}"
        )
    single, count = input.ndim == 1, input.shape[-1]
    scores, labels = (x.unsqueeze(0) if single else x for x in (input, target))
    listed = np.logical_and.accumulate(labels.array >= 0, axis=1)
    index = np.where(listed, labels.array, 0)
    if index.max(initial=0) >= count:
        raise IndexError(f"multilabel_margin_loss: class {index.max()} is out of range: input has {count} classes")
    is_target = np.zeros(scores.shape, bool)
    np.logical_or.at(is_target, (np.arange(len(index))[:, None], index), listed)
    pairs = np.logical_and(listed[:, :, None], ~is_target[:, None, :])
    short = operators.relu(1 - operators.gather(scores, 1, index).unsqueeze(2) + scores.unsqueeze(1))
    values = operators.where(pairs, short, 0.0).sum((1, 2)) / count
    return of_elements(values[0] if single else values, reduction)


@loss
def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """binary_cross_entropy_with_logits, its mean over the classes, the last dimension, for each example.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.multilabel_soft_margin_loss.html
    """
    reduction, target = checked(reduction, size_average, reduce), as_constant(target)
    same_shape("multilabel_soft_margin_loss", input, target)
    values = apply(RULES["sigmoid_cross_entropy"], input, target)
    if weight is not None:
        values = values * factors("multilabel_soft_margin_loss", "weight", weight, values)
    return of_elements(values.mean(-1), reduction)


# ----- sequences of classes -----


@loss
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """-log P(targets), over all alignments of the targets, with blanks between them, to the times of log_probs.

    log_probs (T, N, C) or (T, C), made by log_softmax; targets (N, S), or all behind each other (sum of the lengths,);
    both lengths (N,). The mean divides each example by the length of its target, then by N. An impossible alignment
    costs infinity, or nothing where zero_infinity. The gradient is the derivative by log_probs; torch's differs by
    exp(log_probs), which log_softmax takes away again. Graves et al. 2006.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.ctc_loss.html
    """
    reduction, single = checked(reduction), log_probs.ndim == 2
    if log_probs.dtype.kind != "f" or log_probs.ndim not in (2, 3) or not log_probs.shape[0]:
        raise ValueError(
            "ctc_loss: expected floating-point log_probs of shape (T, N, C) or (T, C), with T of 1 or more, got "
            f"{log_probs.dtype} of shape {log_probs.shape}"
        )
    scores = log_probs.unsqueeze(1) if single else log_probs
    times, count, classes_count = scores.shape
    inputs = sequence_lengths("input_lengths", input_lengths, count, times)
    lengths = sequence_lengths("target_lengths", target_lengths, count, None)
    labels = padded_targets(as_constant(targets), lengths, classes_count, blank)
    values = apply(RULES["ctc_loss"], scores, labels, inputs, lengths, blank=blank)
    if zero_infinity:
        values = operators.where(operators.isinf(values), 0.0, values)
    if reduction == "mean":
        values = values / np.maximum(lengths, 1).astype(values.dtype)
    return of_elements(values[0] if single else values, reduction)


def sequence_lengths(name: str, lengths: Any, count: int, most: int | None) -> np.ndarray:
    array = np.array(lengths.array if isinstance(lengths, Tensor) else lengths, ndmin=1)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise ValueError(f"ctc_loss: expected {count} integers as {name}, got {array.dtype} of shape {array.shape}")
    if count and (array.min() < 0 or (most is not None and array.max() > most)):
        raise ValueError(
            f"ctc_loss: expected {name} of 0 {'or more' if most is None else f'to {most}'}, got {array.tolist()}"
        )
    return array.astype(np.int64)


def padded_targets(targets: Tensor, lengths: np.ndarray, classes_count: int, blank: int) -> np.ndarray:
    """Targets as (N, S), whichever way they were given; what is behind a target's end is `blank`."""
    if not 0 <= blank < classes_count:
        raise ValueError(f"ctc_loss: expected blank to be a class from 0 to {classes_count - 1}, got {blank}")
    array, longest = targets.array, int(lengths.max(initial=0))
    within = np.arange(longest) < lengths[:, None]
    one_after_the_other = array.ndim == 1 and (len(lengths) > 1 or array.size == lengths.sum())
    expected = (int(lengths.sum()),) if one_after_the_other else (len(lengths), array.shape[-1] if array.ndim else 0)
    if array.ndim == 1 and not one_after_the_other:
        array = array[None]
    if array.shape != expected or array.shape[-1] < longest or array.dtype.kind not in "iu":
        raise ValueError(
            f"ctc_loss: expected integer targets of shape ({len(lengths)}, {longest} or more) or "
            f"({lengths.sum()},) for target_lengths {lengths.tolist()}, got {targets.dtype} of shape {targets.shape}"
        )
    labels = np.full(within.shape, blank, np.int64)
    labels[within] = array if one_after_the_other else array[:, :longest][within]
    if labels.size and (labels.min() < 0 or labels.max() >= classes_count):
        raise IndexError(f"ctc_loss: expected targets from 0 to {classes_count - 1}, got {labels.tolist()}")
    return labels


__all__ = [
    "cross_entropy",
    "ctc_loss",
    "linear_cross_entropy",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
]
