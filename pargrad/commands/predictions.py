"""Predictions: a model's outputs as classes with their probabilities, or as numbers; written and shown."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

import pargrad
from pargrad.commands.origins import CLASSES, Origin
from pargrad.commands.table import table
from pargrad.nn import functional as F

FORMATS = (".npz", ".csv")
LINES = 20  # that are printed; a file has all
SURE = 3  # classes that a line names


class Predictions(NamedTuple):
    """predicted: (n,) int64 places among names, with probabilities (n, classes); or (n, outputs), one for each name."""

    predicted: np.ndarray
    probabilities: np.ndarray | None
    names: tuple[str, ...]


def predictions_of(outputs: np.ndarray, origin: Origin) -> Predictions:
    """Of class scores the probabilities, by softmax; of one score an example by sigmoid."""
    if origin.kind != CLASSES:
        return Predictions(outputs.reshape(len(outputs), -1), None, origin.names)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        second = F.sigmoid(pargrad.tensor(outputs.reshape(-1))).numpy()
        probabilities = np.stack([1 - second, second], 1)
    else:
        probabilities = F.softmax(pargrad.tensor(outputs), 1).numpy()
    return Predictions(probabilities.argmax(1), probabilities, origin.names)


def check_out(path: str | None, flag: str = "--out") -> None:
    """Before anything is computed: whether predictions can be written there."""
    from pargrad.reporting.figures import check_folder

    if path is None:
        return
    if Path(path).suffix.lower() not in FORMATS:
        raise ValueError(f"{flag} {path}: expected a name that ends in {' or '.join(FORMATS)}")
    check_folder(path, flag)


def write(path: str, predictions: Predictions, targets: np.ndarray | None = None) -> None:
    """.npz: predicted, of classes their probabilities and names, and target where it is known; .csv: a line each."""
    predicted, probabilities, names = predictions
    if Path(path).suffix.lower() == ".csv":
        columns = columns_of(predictions, targets)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *zip(*columns.values())])
        return
    arrays = {"predicted": predicted}
    if probabilities is not None:
        arrays |= {"probabilities": probabilities, "classes": np.array(names)}
    if targets is not None:
        arrays["target"] = targets
    np.savez(path, **arrays)  # type: ignore[arg-type]


def columns_of(predictions: Predictions, targets: np.ndarray | None) -> dict[str, list[str]]:
    """The cells of a CSV file by the names of its columns."""
    predicted, probabilities, names = predictions
    columns = {"example": [str(i) for i in range(len(predicted))]}
    if probabilities is None:
        wanted = None if targets is None else targets.reshape(len(targets), -1)
        for i, name in enumerate(names):
            which = f" {name}" if len(names) > 1 else ""
            if wanted is not None:
                columns[f"target{which}"] = list(map(str, wanted[:, i]))
            columns[f"predicted{which}"] = list(map(str, predicted[:, i]))
        return columns
    check_one_each(predictions)
    if targets is not None:
        places = targets.reshape(-1).astype(np.int64).tolist()
        columns["target"] = [names[place] if 0 <= place < len(names) else str(place) for place in places]
    columns["predicted"] = [names[place] for place in predicted.tolist()]
    for name, column in zip(names, probabilities.T):
        columns[f"probability of {name}"] = [f"{each:.6g}" for each in column]
    return columns


def check_one_each(predictions: Predictions) -> None:
    if predictions.predicted.ndim > 1:
        raise ValueError(f"an example has {predictions.predicted.shape[1:]} labels: write --out FILE.npz")


def in_words(predictions: Predictions) -> str:
    """The first of them, a line each."""
    predicted, probabilities, names = predictions
    if probabilities is None:
        headings = list(names)
        rows = [[f"{each:,.6g}" for each in row] for row in predicted[:LINES].tolist()]
    else:
        check_one_each(predictions)
        headings = ["label", *(f"likely {k}" for k in range(1, min(SURE, len(names)) + 1))]
        rows = []
        for row in probabilities[:LINES]:
            likely = row.argsort(kind="stable")[::-1][:SURE]
            rows.append([names[row.argmax()], *(f"{names[j]}: {row[j]:.2%}" for j in likely)])
    more = len(predicted) - LINES
    return "\n".join((
        table(["example", *headings], [[str(i), *row] for i, row in enumerate(rows)]),
        *([f"and {more:,} more: write --out predictions.csv"] if more > 0 else []),
    ))  # fmt: skip
