"""The recipe that makes a model's arrays of a table: learned from the rows to train on, kept as JSON, used on others.

It is kept beside the checkpoints of a run: other rows then become inputs in the same way, wherever they come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pargrad.data import tabular
from pargrad.data.idx import DataError
from pargrad.data.tabular import Table

MOST_CLASSES = 20  # of whole numbers: more of them are taken for amounts
MOST_CATEGORIES = 100  # different texts of an input
TASKS = ("auto", "classification", "regression")


@dataclass(frozen=True)
class Recipe:
    """How rows become a model's inputs and targets.

    Inputs, float32 (n, features): each number less its mean, divided by its standard deviation, and 0 for one that is
    missing; then, for each text column, a 1 at its value's place in `categories`. Targets: the place among `classes`,
    int64 (n,); or, where classes is None, float32 (n, outputs) as they are, with target_mean and target_std for the
    model's last layer.
    """

    target: str
    classes: tuple[str, ...] | None
    numbers: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: dict[str, tuple[str, ...]]
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    missing: str = "refuse"  # one of tabular.MISSING

    @property
    def features(self) -> int:
        return len(self.numbers) + sum(len(values) for values in self.categories.values())

    def inputs(self, table: Table) -> np.ndarray:
        """float32 (n, features), of the table that it was learned from, or one of `read_like`."""
        where = {name: i for i, name in enumerate(table.names)}
        columns = [where[name] for name in self.numbers]
        x = np.empty((len(table), self.features), np.float32)
        x[:, : len(columns)] = (table.numbers[:, columns] - np.array(self.mean)) / np.array(self.std)
        x[np.isnan(x)] = 0  # the mean of those to train on
        begin = len(columns)
        for name, values in self.categories.items():
            at = places(table, name, table.texts[name], values)
            x[:, begin : begin + len(values)] = at[:, None] == np.arange(len(values))
            begin += len(values)
        return x

    def targets(self, table: Table) -> np.ndarray:
        """int64 (n,) classes, or float32 (n, outputs)."""
        y = table.target
        if y is None:
            raise DataError(f"{table.path} has no target {self.target!r}")
        if self.classes is not None:
            return places(table, table.target_name, as_labels(y), self.classes)
        if y.dtype.kind == "U":
            raise DataError(f"{table.path}: the target {table.target_name!r} holds texts: expected numbers")
        return y.reshape(len(y), -1).astype(np.float32)

    def by_name(self) -> dict[str, Any]:
        """Itself to be compared: what belongs to a column, by its name."""
        moments = {"mean": dict(zip(self.numbers, self.mean)), "std": dict(zip(self.numbers, self.std))}
        return {**asdict(self), **moments}

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Raises ValueError where it is none."""
        try:
            held = json.loads(text)
            held["categories"] = {str(name): tuple(values) for name, values in held["categories"].items()}
            held = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
            recipe = cls(**held)
            recipe.check()
            return recipe
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no recipe of a table: {error}") from error

    def check(self) -> None:
        """Raises ValueError where it says what no table comes to: it may have been read from a damaged file."""
        texts = (self.target, *self.numbers, *(self.classes or ()), *self.categories)
        texts += tuple(value for values in self.categories.values() for value in values)
        amounts = (*self.mean, *self.std, *self.target_mean, *self.target_std)
        if not all(isinstance(each, str) for each in texts):
            raise ValueError("a name or a value is no text")
        if not all(type(each) in (int, float) and math.isfinite(each) for each in amounts):
            raise ValueError("a mean or a standard deviation is no finite number")
        if not min((*self.std, *self.target_std), default=1) > 0:
            raise ValueError("a standard deviation is not above 0")
        if not len(self.numbers) == len(self.mean) == len(self.std) or len(self.target_mean) != len(self.target_std):
            raise ValueError("there are not as many means and standard deviations as columns")
        if self.missing not in tabular.MISSING:
            raise ValueError(f"{self.missing!r} is none of {tabular.MISSING}")
        if not self.features or len(self.classes or self.target_mean) < (2 if self.classes else 1):
            raise ValueError("it has no columns, or nothing to predict")


def learn_recipe(table: Table, rows: np.ndarray, task: str = "auto", missing: str = "refuse") -> Recipe:
    """What is known of a table from the rows (indices) to train on; categories and classes are those of all rows.

    task: "classification", "regression", or "auto": texts, and up to 20 different whole numbers, are classes.
    missing: as the table was read with.
    """
    if task not in TASKS:
        raise ValueError(f"expected task to be one of {', '.join(TASKS)}, got {task!r}")
    if table.target is None:
        raise DataError(f"{table.path} has no target")
    known = table.numbers[rows]
    for name, empty in zip(table.names, np.isnan(known).all(0)):
        if empty:
            raise DataError(
                f"{table.path}, column {name!r}: no row to train on has a value: {tabular.how_to_ignore([name])}"
            )
    mean, std = moments(known)
    categories = {name: tuple(map(str, np.unique(column))) for name, column in table.texts.items()}
    check_categories(table, categories)
    classes = classes_of(table, task)
    target_mean, target_std = ((), ()) if classes else moments(table.target.reshape(len(table), -1)[rows])
    return Recipe(table.target_name, classes, table.names, mean, std, categories, target_mean, target_std, missing)


def check_categories(table: Table, categories: dict[str, tuple[str, ...]]) -> None:
    """Refuses columns of names and remarks, all of them at once."""
    many = [name for name, values in categories.items() if len(values) > MOST_CATEGORIES]
    if many:
        name = many[0]
        more = "" if len(many) == 1 else f" (and so have {', '.join(map(repr, many[1:]))})"
        raise DataError(
            f"{table.path}, column {name!r}: {len(categories[name])} different texts, such as "
            f"{str(table.texts[name][0])!r}, expected {MOST_CATEGORIES} at most{more}: {tabular.how_to_ignore(many)}"
        )


def classes_of(table: Table, task: str) -> tuple[str, ...] | None:
    """The labels in order, of whole numbers by size; None for a regression."""
    y = table.target
    assert y is not None
    texts = y.dtype.kind == "U"
    if texts and task == "regression":
        raise DataError(f"{table.path}: the target {table.target_name!r} holds texts, which are no regression's")
    few = texts or (are_labels(y) and len(np.unique(y)) <= MOST_CLASSES)
    if task == "regression" or (task == "auto" and not few):
        return None
    if not texts and not are_labels(y):
        wrong = f"shape {y.shape}" if y.ndim > 1 else f"{y[y % 1 != 0][0]}"
        raise DataError(
            f"{table.path}: the target {table.target_name!r} has {wrong}: expected whole numbers or texts, a class for "
            "each row; or write --task regression"
        )
    values = np.unique(y)
    if len(values) < 2:
        raise DataError(
            f"{table.path}: the target {table.target_name!r} is {values[0]} in all rows: expected two classes at least"
        )
    return tuple(map(str, values if texts else values.astype(np.int64)))


def are_labels(y: np.ndarray) -> bool:
    return y.ndim == 1 and not (y % 1).any()


def as_labels(y: np.ndarray) -> np.ndarray:
    """Texts as they are, and whole numbers as texts; a number that is not whole is no label that there is."""
    if y.dtype.kind == "U":
        return y
    return np.array([str(int(value)) if value % 1 == 0 else str(value) for value in y.tolist()])


def moments(columns: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of columns, in float64, of what is not nan; 1 for a column that does not vary."""
    mean = np.asarray(np.nanmean(columns, 0, dtype=np.float64))
    std = np.asarray(np.nanstd(columns, 0, dtype=np.float64))
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def places(table: Table, name: str, column: np.ndarray, values: Sequence[str]) -> np.ndarray:
    """The place of each text among the values, int64 (n,)."""
    order = np.argsort(values)
    ordered = np.array(values)[order]
    at = np.searchsorted(ordered, column).clip(max=len(ordered) - 1)
    unknown = ordered[at] != column
    if unknown.any():
        row = int(unknown.argmax())
        raise DataError(
            f"{table.place(row)}, {name!r}: {str(column[row])!r} was not among what the model was trained on: "
            f"{', '.join(list(values)[:8])}{', ...' if len(values) > 8 else ''}"
        )
    return order[at]


# ----- rows of other files -----


def read_like(path: str | Path, recipe: Recipe, *, with_target: bool) -> Table:
    """Reads rows of the table that a recipe was learned from; of a CSV file only the columns that it knows.

    with_target=False: the target need not be there, and is not read. One row is enough.

    Raises:
        DataError: columns are missing, or hold something else; they are named.
    """
    path = tabular.existing(path)
    if path.suffix.lower() == ".csv":
        return csv_like(path, recipe, with_target)
    names = [*recipe.numbers, *recipe.categories]
    if names != tabular.column_names(len(names)):
        raise DataError(
            f"{path} has no names of columns, and the model was trained on {', '.join(names)}: give a CSV file"
        )
    table = tabular.table_of(path, arrays_like(path, recipe, with_target), recipe.missing)
    check_width(path, table.numbers.shape[1], len(recipe.numbers))
    tabular.check_rows(path, len(table), 1)
    return table


def csv_like(path: Path, recipe: Recipe, with_target: bool) -> Table:
    columns, lines = tabular.columns_of_csv(path)
    check_columns(path, columns, recipe, with_target)
    tabular.check_rows(path, len(lines), 1)
    numbers = {name: known_numbers(path, name, columns[name], lines, recipe.missing) for name in recipe.numbers}
    texts = {name: np.array(columns[name]) for name in recipe.categories}
    for name, column in texts.items():
        tabular.check_filled(path, name, column == "", lines, recipe.missing)
    y = None
    if with_target and recipe.classes is None:
        y = known_numbers(path, recipe.target, columns[recipe.target], lines, "never")
    elif with_target:
        labels = np.array(columns[recipe.target])
        tabular.check_filled(path, recipe.target, labels == "", lines, "never")
        y = labels.astype(np.float64) if all(map(tabular.is_number, labels.tolist())) else labels
    matrix = tabular.matrix_of(numbers, len(lines))
    others = tuple(name for name in columns if name not in (*numbers, *texts, recipe.target))
    return Table(str(path), matrix, tuple(numbers), texts, recipe.target, y, lines, others)


def check_columns(path: Path, columns: Iterable[str], recipe: Recipe, with_target: bool) -> None:
    """Refuses a file that lacks columns, and says which it has instead."""
    known = (*recipe.numbers, *recipe.categories)
    missing = [name for name in known if name not in columns]
    if missing:
        others = [name for name in columns if name not in (*known, recipe.target)]
        instead = f"; it has {', '.join(map(repr, others))}, which the model does not know" if others else ""
        raise DataError(
            f"{path} has no column {' and no '.join(map(repr, missing))}, which the model was trained on{instead}"
            f"{tabular.near(missing[0], others)}"
        )
    if with_target and recipe.target not in columns:
        raise DataError(
            f"{path} has no {recipe.target!r}, the target, by which a score is found: without it, `pargrad predict`"
        )


def known_numbers(path: Path, name: str, cells: list[str], lines: list[int], missing: str) -> np.ndarray:
    """A column that held numbers when the model was trained, float64."""
    column = np.array(cells)
    blank = tabular.blanks_of(column)
    tabular.check_filled(path, name, blank, lines, missing)
    try:
        numbers = np.where(blank, "nan", column).astype(np.float64)
    except ValueError:
        cell, line = next(
            pair for pair in zip(cells, lines) if not (tabular.is_number(pair[0]) or pair[0] in tabular.BLANKS)
        )
        raise DataError(
            f"{path}, line {line}, column {name!r}: {cell!r} is not a number, and those that the model was trained on "
            "are"
        ) from None
    tabular.check_finite(path, name, numbers, blank, lines)
    return numbers


def arrays_like(path: Path, recipe: Recipe, with_target: bool) -> dict[str, np.ndarray | None]:
    if path.suffix.lower() == ".npz":
        arrays = tabular.read_npz(path, recipe.target, with_target)
        return arrays if with_target else {"x": arrays["x"], recipe.target: None}
    number = int(recipe.target.removeprefix("column ")) if recipe.target.startswith("column ") else None
    array = tabular.rows_of_npy(path)
    if number is None or (not with_target and array.shape[1] == len(recipe.numbers)):
        check_width(path, array.shape[1], len(recipe.numbers))
        return {"x": array, recipe.target: None}
    check_width(path, array.shape[1], len(recipe.numbers) + 1, f", with the target in {recipe.target}")
    arrays = tabular.read_npy(path, str(number))
    return arrays if with_target else {"x": arrays["x"], recipe.target: None}


def check_width(path: Path, columns: int, expected: int, which: str = "") -> None:
    if columns != expected:
        raise DataError(f"{path} has {columns} columns, and the model was trained on {expected}{which}")
