"""A picture of what a model takes images for: examples, its surest mistakes, and the confusion matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad.metrics import ConfusionMatrix, over
from pargrad.reporting.figures import COLOURS, INK, LOOK, matplotlib

COLUMNS, ROWS, MISTAKE_ROWS = 8, 3, 3  # of examples, and of mistakes
RIGHT, WRONG = COLOURS[2], COLOURS[1]


def predictions_picture(
    images: np.ndarray, targets: np.ndarray, probabilities: np.ndarray, classes: tuple[str, ...]
) -> Any:
    """A matplotlib Figure, which `pargrad.reporting.figures.save` writes.

    images: (n, height, width), of n examples; targets: (n,); probabilities: (n, classes).
    """
    matrix = over(ConfusionMatrix(), probabilities, targets)
    predicted = probabilities.argmax(1)
    sureness = probabilities.max(1)
    mistakes = np.flatnonzero(predicted != targets)
    mistakes = mistakes[np.argsort(-sureness[mistakes], kind="stable")]
    groups = [
        ("the first examples", np.arange(len(images))[: ROWS * COLUMNS]),
        (f"the surest of {len(mistakes):,} mistakes", mistakes[: MISTAKE_ROWS * COLUMNS]),
    ]
    with matplotlib().rc_context({**LOOK, "axes.grid": False}):
        from matplotlib.figure import Figure

        figure: Any = Figure(figsize=(13.5, 7.4), layout="constrained", facecolor="white")
        left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
        parts = left.subfigures(2, 1, height_ratios=[ROWS, MISTAKE_ROWS])
        for part, (title, places), rows in zip(parts, groups, (ROWS, MISTAKE_ROWS)):
            part.suptitle(title, x=0.02, ha="left", fontsize=10.5, fontweight="bold")
            axes = part.subplots(rows, COLUMNS)
            for each in axes.flat:
                each.set_axis_off()
            for each, place in zip(axes.flat, places):
                draw_example(each, images[place], predicted[place], targets[place], sureness[place], classes)
        draw_matrix(right.subplots(), matrix, classes)
        return figure


def draw_example(axes: Any, image: Any, predicted: int, target: int, sureness: float, classes: tuple[str, ...]) -> None:
    axes.imshow(image, cmap="gray_r", interpolation="nearest")
    told = f"{classes[predicted]}  {sureness:.0%}"
    if predicted != target:
        told += f"\nis {classes[target]}"
    axes.set_title(
        told, loc="center", fontsize=8.5, fontweight="normal", pad=3, color=RIGHT if predicted == target else WRONG
    )


def draw_matrix(axes: Any, matrix: np.ndarray, classes: tuple[str, ...]) -> None:
    """Shares of each row: what is right in one colour, what is not in another, since it is so much less."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    diagonal = np.eye(len(matrix), dtype=bool)
    wrong = np.ma.masked_where(diagonal | (matrix == 0), shares)
    axes.imshow(np.ma.masked_where(~diagonal, shares), cmap="Blues", vmin=0, vmax=1.25)
    axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=max(1.6 * float(np.max(shares[~diagonal], initial=0.0)), 1e-9))
    for i, j in zip(*np.nonzero(matrix)):
        dark = i == j and shares[i, j] > 0.6
        axes.text(j, i, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=9, color="white" if dark else INK)
    long = max(map(len, classes)) > 3
    axes.set_xticks(range(len(classes)), classes, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    count = int(matrix.sum())
    axes.set_title(f"confusion matrix: {np.trace(matrix):,} of {count:,} right, {np.trace(matrix) / max(count, 1):.2%}")
