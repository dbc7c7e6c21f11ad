"""Metrics as sums and counts: each says what a few examples come to, and what all of them together mean.

A metric has a `name` and two methods. `state(output, target)` gives the sums and counts of some examples, a tuple of
numpy arrays or numbers; the states of two sets of examples are added, entry by entry, to that of both; and
`result(*state)` is the figure. Counts are int64, and so exact however the examples are split; sums are float64, and
`Trainer.evaluate` adds those of chunks of fixed size in the order of the data, so that a figure has the same bits for
every number of workers. A metric of one's own is a subclass of `Metric`, given to `Trainer(metrics=(...,))`.

`METRICS` has those that a trainer knows by name. Definitions are scikit-learn's:
https://scikit-learn.org/stable/modules/model_evaluation.html
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = [
    "F1",
    "METRICS",
    "R2",
    "Accuracy",
    "ClassMetric",
    "ConfusionMatrix",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "NumberMetric",
    "Precision",
    "Recall",
    "TopK",
    "make_metric",
    "over",
]

AVERAGES = ("auto", "binary", "macro", "micro", "weighted", "per_class")

State = tuple[Any, ...]


class Metric:
    """What a data set comes to, from the model's outputs and the targets. Abstract: `state` and `result` are yours."""

    name: str

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        """Sums and counts of these examples: arrays or numbers of shapes that do not depend on how many there are."""
        raise NotImplementedError(f"{type(self).__name__} has no state(output, target)")

    def merge(self, left: State, right: State) -> State:
        """The state of both sets of examples: the sum, entry by entry."""
        return tuple(mine + other for mine, other in zip(left, right, strict=True))

    def result(self, *state: Any) -> Any:
        """The figure, a float or an array, from the state of all examples."""
        raise NotImplementedError(f"{type(self).__name__} has no result(*state)")


def over(metric: Metric, output: Any, target: Any) -> Any:
    """The metric of arrays that are at hand: outputs (n, ...) and targets (n, ...).

    >>> from pargrad.metrics import F1, over
    >>> over(F1(), np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    return metric.result(*metric.state(np.asarray(output), np.asarray(target)))


# ----- classes -----


class ClassMetric(Metric):
    """One of class scores (n, classes, ...) and class indices (n, ...), as `cross_entropy` takes them. Abstract.

    One score an example, with targets 0 and 1 of the same shape, (n,) or (n, 1), says class 1 where it is above
    `threshold`: 0 is right for the outputs that `binary_cross_entropy_with_logits` takes, 0.5 for probabilities.
    Targets of ignore_index are left out.
    """

    def __init__(self, *, ignore_index: int = -100, threshold: float = 0.0):
        self.ignore_index = ignore_index
        self.threshold = threshold

    def scores(self, output: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (m, classes) and classes (m,) int64 of the examples that are not ignored."""
        if not are_class_scores(output, target):
            raise ValueError(
                f"{self.name} needs class scores of shape (examples, classes), or one score an example, and as many "
                f"class indices; got outputs {described(output)} and targets {described(target)}. Of amounts ask for "
                'metric="r2" or "mean_absolute_error"'
            )
        if has_one_score(output, target):
            above = output.reshape(-1) > self.threshold
            output, target = np.stack([~above, above], 1), target.reshape(-1)
        elif output.ndim > 2:
            output, target = np.moveaxis(output, 1, -1).reshape(-1, output.shape[1]), target.reshape(-1)
        target = target.astype(np.int64)
        if self.ignore_index in target:
            kept = target != self.ignore_index
            output, target = output[kept], target[kept]
        wrong = (target < 0) | (target >= output.shape[1])
        if wrong.any():
            raise ValueError(
                f"{self.name}: class {target[wrong][0]} is out of range: the model's outputs are of "
                f"{output.shape[1]} classes, 0 to {output.shape[1] - 1}"
            )
        return output, target


class Accuracy(ClassMetric):
    """The share of examples whose largest class score is that of their class; nan of none.

    Shapes are those of `ClassMetric`. ValueError for others, and for a target that is no class of the scores.
    """

    name = "accuracy"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        scores, target = self.scores(output, target)
        return np.int64(np.count_nonzero(scores.argmax(1) == target)), np.int64(len(target))

    def result(self, correct: Any, count: Any) -> float:
        return ratio(correct, count)


class TopK(ClassMetric):
    """The share of examples whose class is among the k of the largest scores.

    Of equal scores the first class counts as the largest, as in argmax, so that "top1" is "accuracy"; scikit-learn's
    top_k_accuracy_score takes the last.
    """

    def __init__(self, k: int, *, ignore_index: int = -100):
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ValueError(f"TopK: expected k of at least 1, got {k!r}")
        super().__init__(ignore_index=ignore_index)
        self.k = k
        self.name = f"top{k}"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        scores, target = self.scores(output, target)
        own = np.take_along_axis(scores, target[:, None], 1)
        earlier = np.arange(scores.shape[1]) < target[:, None]
        before = (scores > own) | ((scores == own) & earlier)
        # A score that is nan is before nothing, nor is anything before it: it is no hit.
        hits = (before.sum(1) < self.k) & ~np.isnan(own[:, 0])
        return np.int64(np.count_nonzero(hits)), np.int64(len(target))

    def result(self, hits: Any, count: Any) -> float:
        return ratio(hits, count)


class ConfusionMatrix(ClassMetric):
    """How many examples of class i were taken for class j, at [i, j]: (classes, classes) int64."""

    name = "confusion_matrix"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        scores, target = self.scores(output, target)
        classes = scores.shape[1]
        pairs = target * classes + scores.argmax(1)
        return (np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(np.int64),)

    def result(self, matrix: Any) -> Any:
        return matrix


class OfConfusions(ConfusionMatrix):
    """A share for each class, or its average over the classes. Abstract: `shares` is the metric's own.

    average: "binary": of class 1, where there are two; "macro": the mean over the classes that occur among targets or
    predictions; "weighted": weighted by how many examples each has; "micro": of all decisions together; "per_class":
    an array (classes,); "auto": "binary" for two classes, "macro" for more. Where nothing was decided, 0.
    """

    kind: str

    def __init__(self, average: str = "auto", *, ignore_index: int = -100, threshold: float = 0.0):
        if average not in AVERAGES:
            raise ValueError(f"expected average to be one of {', '.join(map(repr, AVERAGES))}, got {average!r}")
        super().__init__(ignore_index=ignore_index, threshold=threshold)
        self.average = average
        self.name = self.kind if average == "auto" else f"{self.kind}_{average}"

    def shares(self, hits: Any, predicted: Any, actual: Any) -> Any:
        """From how often each class was hit, predicted, and there."""
        raise NotImplementedError(f"{type(self).__name__} has no shares(hits, predicted, actual)")

    def result(self, matrix: Any) -> Any:
        hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
        average = self.average
        if average == "auto":
            average = "binary" if len(matrix) == 2 else "macro"
        if average == "micro":
            return float(self.shares(hits.sum(), predicted.sum(), actual.sum()))
        shares = self.shares(hits, predicted, actual)
        if average == "per_class":
            return shares
        if average == "macro":
            return mean_of(shares[(predicted + actual) > 0])
        if average == "weighted":
            return ratio((shares * actual).sum(), actual.sum())
        if len(shares) != 2:
            raise ValueError(
                f"{self.name} is of two classes, and the model's outputs are of {len(shares)}: write "
                f"'{self.kind}_macro', '{self.kind}_micro' or '{self.kind}_per_class'"
            )
        return float(shares[1])


class Precision(OfConfusions):
    """Of the examples taken for a class, the share that is of it.

    average: "binary", of class 1 of two; "macro", the mean over the classes that occur; "weighted", by how many
    examples each has; "micro", of all decisions; "per_class", an array (classes,); "auto": "binary" for two classes,
    else "macro". 0 where nothing was taken for the class. ValueError for "binary" of more classes.
    """

    kind = "precision"

    def shares(self, hits: Any, predicted: Any, actual: Any) -> Any:
        return divided(hits, predicted)


class Recall(OfConfusions):
    """Of the examples of a class, the share taken for it. "recall_macro" is known as balanced accuracy.

    average: as in `Precision`. 0 for a class of which there are no examples.
    """

    kind = "recall"

    def shares(self, hits: Any, predicted: Any, actual: Any) -> Any:
        return divided(hits, actual)


class F1(OfConfusions):
    """The harmonic mean of precision and recall: twice the hits over predictions and examples together.

    average: as in `Precision`.
    """

    kind = "f1"

    def shares(self, hits: Any, predicted: Any, actual: Any) -> Any:
        return divided(2 * hits, predicted + actual)


# ----- numbers -----


class NumberMetric(Metric):
    """One of numbers: outputs and targets of one shape, the examples first. Abstract."""

    def rows(self, output: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both as float64 (examples, numbers of an example)."""
        if not isinstance(output, np.ndarray) or output.shape != target.shape or output.ndim == 0:
            raise ValueError(
                f"{self.name} needs outputs and targets of one shape, got {described(output)} and "
                f"{described(target)}: write y.reshape(-1, 1) for a model with one output"
            )
        count = len(output)
        width = math.prod(output.shape[1:])
        return output.reshape(count, width).astype(np.float64), target.reshape(count, width).astype(np.float64)


class MeanAbsoluteError(NumberMetric):
    """The mean of |output - target| over all numbers, in float64; ValueError unless both have one shape."""

    name = "mean_absolute_error"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        output, target = self.rows(output, target)
        return np.abs(output - target).sum(), np.int64(output.size)

    def result(self, total: Any, count: Any) -> float:
        return ratio(total, count)


class MeanSquaredError(NumberMetric):
    """The mean of (output - target)**2 over all numbers, in float64; ValueError unless both have one shape."""

    name = "mean_squared_error"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        output, target = self.rows(output, target)
        return np.square(output - target).sum(), np.int64(output.size)

    def result(self, total: Any, count: Any) -> float:
        return ratio(total, count)


class R2(NumberMetric):
    """The share of the targets' variance that the outputs explain, the mean over an example's numbers.

    1 at best, 0 for the constant mean. Of targets that are all equal, 1 if they are all met and 0 if not; nan for
    fewer than two examples. Squared deviations are merged by Chan's formula, since sums of squares would cancel.
    """

    name = "r2"

    def state(self, output: np.ndarray, target: np.ndarray) -> State:
        output, target = self.rows(output, target)
        mean = target.mean(0)
        return np.int64(len(target)), mean, np.square(target - mean).sum(0), np.square(output - target).sum(0)

    def merge(self, left: State, right: State) -> State:
        (count, mean, squares, residual), (other_count, other_mean, other_squares, other_residual) = left, right
        total, apart = count + other_count, other_mean - mean
        squares = squares + other_squares + apart**2 * (float(count) * float(other_count) / float(total))
        return total, mean + apart * (float(other_count) / float(total)), squares, residual + other_residual

    def result(self, count: Any, mean: Any, squares: Any, residual: Any) -> float:
        if count < 2:
            return math.nan
        explained = 1.0 - np.divide(residual, squares, out=np.ones_like(residual), where=squares > 0)
        return mean_of(np.where((squares == 0) & (residual == 0), 1.0, explained))


# ----- the table -----

METRICS: dict[str, Callable[[], Metric]] = {
    "accuracy": Accuracy,
    "top5": functools.partial(TopK, 5),
    "confusion_matrix": ConfusionMatrix,
    **{
        kind.kind if average == "auto" else f"{kind.kind}_{average}": functools.partial(kind, average)
        for kind in (Precision, Recall, F1)
        for average in AVERAGES
    },
    "mean_absolute_error": MeanAbsoluteError,
    "mean_squared_error": MeanSquaredError,
    "r2": R2,
}


def make_metric(metric: Any, also: tuple[str, ...] = ()) -> Metric:
    """A metric by its name, "top3" for any k among them, or the one that is given. also: other names to offer."""
    if isinstance(metric, Metric):
        if not isinstance(getattr(metric, "name", None), str):
            raise TypeError(f"a metric needs a name: write name = '...' in class {type(metric).__name__}")
        return metric
    if isinstance(metric, str):
        top = re.fullmatch(r"top([1-9]\d*)", metric)
        if top:
            return TopK(int(top[1]))
        if metric in METRICS:
            return METRICS[metric]()
        names = [*also, *METRICS]
        near = difflib.get_close_matches(metric.lower().replace("-", "_"), names, 1, 0.5)
        raise ValueError(
            f"unknown metric {metric!r}{f', did you mean {near[0]!r}?' if near else ''} "
            f"Expected one of {', '.join(names)}, or a pargrad.metrics.Metric of your own"
        )
    raise TypeError(f"expected a metric's name or a pargrad.metrics.Metric, got {metric!r}")


# ----- helpers -----


def unasked_accuracy(output: Any, target: np.ndarray) -> State | None:
    """The state of Accuracy where outputs are class scores (n, classes) and targets their indices (n,), else None."""
    if not isinstance(output, np.ndarray) or output.ndim != 2 or target.ndim != 1 or target.dtype.kind not in "iu":
        return None
    known = (target >= 0) & (target < output.shape[1])
    return Accuracy().state(output, target) if (known | (target == -100)).all() else None


def has_one_score(output: np.ndarray, target: np.ndarray) -> bool:
    """Whether these are one score an example, and targets of 0 and 1, which a loss of such scores takes as floats."""
    alone = output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)
    whole = target.dtype.kind in "iub" or (target.dtype.kind == "f" and not (target % 1).any())
    return alone and whole and target.shape == output.shape


def are_class_scores(output: Any, target: np.ndarray) -> bool:
    if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub" or output.ndim == 0:
        return False
    if has_one_score(output, target):
        return True
    indices = target.dtype.kind in "iu" and target.shape == output.shape[:1] + output.shape[2:]
    return output.ndim >= 2 and indices


def described(array: Any) -> str:
    return f"{array.dtype.name}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


def ratio(total: Any, count: Any) -> float:
    return float(total) / float(count) if count else math.nan


def divided(hits: Any, count: Any) -> Any:
    """hits / count in float64, 0 where the count is 0."""
    hits, count = np.asarray(hits, np.float64), np.asarray(count)
    return np.divide(hits, count, out=np.zeros_like(hits), where=count > 0)


def mean_of(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
