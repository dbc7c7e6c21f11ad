"""Tables: CSV, .npz and .npy files as numbers and texts, and the recipe that makes a model's arrays of them.

The recipe is learned from the rows that a model is trained on and kept as JSON beside its checkpoints: other rows then
become inputs in the same way, wherever they come from.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pargrad.data.idx import DataError

SUFFIXES = (".csv", ".npz", ".npy")
MOST_CLASSES = 20  # of whole numbers: more of them are taken for amounts
MOST_CATEGORIES = 100  # different texts of an input
SEPARATORS = ",;\t"
TASKS = ("auto", "classification", "regression")


class Table(NamedTuple):
    """A table as it was read, n rows.

    numbers: (n, columns), float64 from CSV, else as stored, and names: of those columns. texts: the other columns,
    each (n,). target: (n,) or (n, outputs) numbers, or (n,) texts; None where the table has none.
    """

    path: str
    numbers: np.ndarray
    names: tuple[str, ...]
    texts: dict[str, np.ndarray]
    target_name: str
    target: np.ndarray | None

    def __len__(self) -> int:
        return len(self.numbers)


# ----- reading -----


def read_table(
    path: str | Path, target: str | None = None, ignore: Sequence[str] = (), *, with_target: bool = True
) -> Table:
    """Reads a table.

    .csv: UTF-8, a header, then rows, separated by commas, semicolons or tabs. target: the column to predict. A column
    holds either numbers or texts. .npz: inputs x (n, ...) and targets y, or the array that target names. .npy: (n,
    columns), of which the last is the target, or the one that target numbers, from 0.
    ignore: columns of a CSV file that are left out. with_target=False: the target need not be there.

    Raises:
        DataError: the file, or a value in it, cannot be used: the line and the column are named.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if path.suffix.lower() == ".csv":
        return read_csv(path, target, ignore, with_target)
    if ignore:
        raise DataError(f"{path}: columns are ignored by their names in a CSV file, and this one has none")
    arrays = read_npy(path, target) if path.suffix.lower() == ".npy" else read_npz(path, target, with_target)
    for name, array in arrays.items():
        if array is None:
            continue
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name} is of {array.dtype}: expected numbers")
        wrong = np.argwhere(~np.isfinite(array)) if array.dtype.kind == "f" else np.empty((0, 1))
        if len(wrong):
            row, *place = wrong[0].tolist()
            at = f" at {place}" if place else ""
            raise DataError(f"{path}, row {row} of {name}: {array[tuple(wrong[0])]}{at}: expected finite numbers")
    x, (name, y) = arrays["x"], next(pair for pair in arrays.items() if pair[0] != "x")
    assert x is not None
    if y is not None and len(x) != len(y):
        raise DataError(f"{path}: x has {len(x)} rows and {name} has {len(y)}: expected as many")
    check_rows(path, len(x))
    x = x.reshape(len(x), -1)
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y.reshape(-1)
    return Table(str(path), x, tuple(f"x[{i}]" for i in range(x.shape[1])), {}, name, y)


def read_npy(path: Path, target: str | None) -> dict[str, np.ndarray | None]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is no .npy file of numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] < 2:
        raise DataError(f"{path}: got an array of shape {array.shape}, expected (rows, columns), at least two columns")
    columns = array.shape[1]
    if target is not None and not (target.isdigit() and int(target) < columns):
        raise DataError(f"{path}: got --target {target}, expected the number of a column, 0 to {columns - 1}")
    number = columns - 1 if target is None else int(target)
    return {"x": np.delete(array, number, axis=1), f"column {number}": array[:, number]}


def read_npz(path: Path, target: str | None, with_target: bool) -> dict[str, np.ndarray | None]:
    name = target or "y"
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # zipfile and zlib have errors of their own for damaged files
        raise DataError(f"{path} is no .npz file of numbers: {error}") from error
    for key in ("x", name) if with_target else ("x",):
        if key not in arrays:
            raise DataError(
                f"{path} has {', '.join(arrays) or 'nothing'}, and no {key}: write "
                f"numpy.savez(path, x=inputs, {name}=targets)"
            )
        if not arrays[key].ndim:
            raise DataError(f"{path}: {key} is a single number: expected a row for each example")
    return {"x": arrays["x"], name: arrays.get(name)}


def read_csv(path: Path, target: str | None, ignore: Sequence[str], with_target: bool) -> Table:
    names, rows, lines = rows_of_csv(path)
    for name in (*ignore, *([target] if target is not None and with_target else ())):
        if name not in names:
            raise DataError(f"{path} has no column {name!r}, only {', '.join(names)}{near(name, names)}")
    if target is None:
        raise DataError(f"{path}: which column is to be predicted? Write --target COLUMN, one of {', '.join(names)}")
    if target in ignore:
        raise DataError(f"{path}: {target!r} is both the target and ignored")
    texts: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    for name, cells in zip(names, zip(*rows)):
        if name in ignore:
            continue
        column = np.array([cell.strip() for cell in cells])
        as_numbers = numbers_of(path, name, column, lines)
        if as_numbers is None:
            texts[name] = column
        else:
            numbers[name] = as_numbers
    y = texts.pop(target, None)
    y = numbers.pop(target, None) if y is None else y
    if not numbers and not texts:
        raise DataError(f"{path}: beside the target {target!r} there is no column to predict it from")
    matrix = np.stack(list(numbers.values()), axis=1) if numbers else np.empty((len(rows), 0))
    return Table(str(path), matrix, tuple(numbers), texts, target, y)


def rows_of_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The header, the rows, and the number of the line on which each row ends."""
    rows, lines = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(SEPARATORS, key=first.count), strict=True)
            for row in reader:
                if row:  # not an empty line
                    rows.append(row)
                    lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not rows:
        raise DataError(f"{path} is empty: expected a header, and a row for each example")
    names = [name.strip() for name in rows[0]]
    if all(is_number(name) for name in names):
        raise DataError(f"{path} has no header: its first line is {', '.join(names[:4])}. Write names of columns there")
    twice = [name for name in names if names.count(name) > 1]
    if twice or not all(names):
        wrong = f"two columns named {twice[0]!r}" if twice else "a column without a name"
        raise DataError(f"{path}: the header has {wrong}: give each a name of its own")
    for row, line in zip(rows[1:], lines[1:]):
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: got {len(row)} values, expected {len(names)}, as the header has")
    check_rows(path, len(rows) - 1)
    return names, rows[1:], lines[1:]


def check_rows(path: Path, count: int) -> None:
    if count < 2:
        raise DataError(f"{path} has {count} row{'s' * (count != 1)}: expected two at least, to train on and to score")


def numbers_of(path: Path, name: str, column: np.ndarray, lines: list[int]) -> np.ndarray | None:
    """The column as float64; None where it holds texts. One that holds both is refused, and an empty cell."""
    if (column == "").any():
        line = lines[int((column == "").argmax())]
        raise DataError(f"{path}, line {line}, column {name!r}: the value is missing: fill it in, or remove the row")
    try:
        numbers = column.astype(np.float64)
    except ValueError:
        are = np.array([is_number(cell) for cell in column])
        if not are.any():
            return None
        few = int((are if 2 * are.sum() < len(are) else ~are).argmax())  # the first one of the rarer kind
        kind, others = ("a number", "texts") if are[few] else ("not a number", "numbers")
        raise DataError(
            f"{path}, line {lines[few]}, column {name!r}: {str(column[few])!r} is {kind}, and most values of the "
            f"column are {others}: correct it, or leave the column out with --ignore {name}"
        ) from None
    if not np.isfinite(numbers).all():
        wrong = int((~np.isfinite(numbers)).argmax())
        raise DataError(
            f"{path}, line {lines[wrong]}, column {name!r}: {column[wrong]} is not finite: correct it or remove the row"
        )
    return numbers


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def near(name: str, names: Iterable[str]) -> str:
    """The end of a message: the one among the names that may have been meant."""
    found = difflib.get_close_matches(name, list(names), 1, 0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


# ----- the recipe -----


@dataclass(frozen=True)
class Recipe:
    """How rows become a model's inputs and targets.

    Inputs, float32 (n, features): each number less its mean, divided by its standard deviation; then, for each text
    column, a 1 at its value's place in `categories`. Targets: the place among `classes`, int64 (n,); or, where classes
    is None, float32 (n, outputs) as they are, with target_mean and target_std for the model's last layer.
    """

    target: str
    classes: tuple[str, ...] | None
    numbers: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: dict[str, tuple[str, ...]]
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()

    @property
    def features(self) -> int:
        return len(self.numbers) + sum(len(values) for values in self.categories.values())

    def inputs(self, table: Table) -> np.ndarray:
        """float32 (n, features). A column that the recipe does not know is passed over."""
        missing = [name for name in self.numbers if name not in table.names]
        missing += [name for name in self.categories if name not in table.texts]
        if missing:
            raise DataError(
                f"{table.path} has no {missing[0]!r} of the kind that the model was trained on: it has "
                f"{', '.join((*table.names, *table.texts))}"
            )
        where = {name: i for i, name in enumerate(table.names)}
        columns = [where[name] for name in self.numbers]
        x = np.empty((len(table), self.features), np.float32)
        x[:, : len(columns)] = (table.numbers[:, columns] - np.array(self.mean)) / np.array(self.std)
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

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Raises ValueError where it is none."""
        try:
            held = json.loads(text)
            held["categories"] = {str(name): tuple(values) for name, values in held["categories"].items()}
            held = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
            return cls(**held)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"this is no recipe of a table: {error}") from error


def learn_recipe(table: Table, rows: np.ndarray, task: str = "auto") -> Recipe:
    """What is known of a table from the rows (indices) to train on; categories and classes are those of all rows.

    task: "classification", "regression", or "auto": texts, and up to 20 different whole numbers, are classes.
    """
    if task not in TASKS:
        raise ValueError(f"expected task to be one of {', '.join(TASKS)}, got {task!r}")
    if table.target is None:
        raise DataError(f"{table.path} has no target")
    mean, std = moments(table.numbers[rows])
    categories = {}
    for name, column in table.texts.items():
        values = np.unique(column)
        if len(values) > MOST_CATEGORIES:
            raise DataError(
                f"{table.path}, column {name!r}: {len(values)} different texts, such as {str(column[0])!r}, expected "
                f"{MOST_CATEGORIES} at most: leave it out with --ignore {name}"
            )
        categories[name] = tuple(map(str, values))
    classes = classes_of(table, task)
    target_mean, target_std = ((), ()) if classes else moments(table.target.reshape(len(table), -1)[rows])
    return Recipe(table.target_name, classes, table.names, mean, std, categories, target_mean, target_std)


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
    """Means and standard deviations of columns, in float64; 1 for a column that does not vary."""
    mean, std = columns.mean(0, dtype=np.float64), columns.std(0, dtype=np.float64)
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
            f"{table.path}, row {row}, {name!r}: {str(column[row])!r} was not among what the model was trained on: "
            f"{', '.join(list(values)[:8])}{', ...' if len(values) > 8 else ''}"
        )
    return order[at]
