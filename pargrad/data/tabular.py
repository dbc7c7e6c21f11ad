"""Tables: CSV, .npz and .npy files as columns of numbers and of texts."""

from __future__ import annotations

import csv
import difflib
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pargrad.data.idx import DataError

SUFFIXES = (".csv", ".npz", ".npy")
SEPARATORS = ",;\t"
MISSING = ("refuse", "mean")  # what is done where a number, or a text, is missing
BLANKS = ("", "NA", "NaN", "nan")  # cells of a column of numbers that hold none
REMEDY = "fill it in, or remove the row"


class Table(NamedTuple):
    """A table as it was read, n rows.

    numbers: (n, columns), float64 from CSV, else as stored, nan where a value is missing that may be, and names: of
    those columns. texts: the other columns,
    each (n,). target: (n,) or (n, outputs) numbers, or (n,) texts; None where the table has none. lines: of a CSV
    file, on which each row ends. passed_over: its columns that are not here, since a model does not know them.
    """

    path: str
    numbers: np.ndarray
    names: tuple[str, ...]
    texts: dict[str, np.ndarray]
    target_name: str
    target: np.ndarray | None
    lines: Sequence[int] = ()
    passed_over: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, row: int) -> str:
        """Where that row is, ready for a sentence."""
        return f"{self.path}, line {self.lines[row]}" if self.lines else f"{self.path}, row {row}"


# ----- reading -----


def read_table(
    path: str | Path, target: str | None = None, ignore: Sequence[str] = (), missing: str = "refuse"
) -> Table:
    """Reads a table.

    .csv: UTF-8, a header, then rows, separated by commas, semicolons or tabs. target: the column to predict. A column
    holds either numbers or texts. .npz: inputs x (n, ...) and targets y, or the array that target names. .npy: (n,
    columns), of which the last is the target, or the one that target numbers, from 0.
    ignore: columns of a CSV file that are left out.
    missing: "mean" lets values be missing, other than targets: empty cells, NA and nan. A number is then nan, of which
    a recipe makes the mean; a text is "".

    Raises:
        DataError: the file, or a value in it, cannot be used: the line and the column are named.
    """
    path = existing(path)
    if path.suffix.lower() == ".csv":
        return read_csv(path, target, ignore, missing)
    if ignore:
        raise DataError(f"{path}: columns are ignored by their names in a CSV file, and this one has none")
    arrays = read_npy(path, target) if path.suffix.lower() == ".npy" else read_npz(path, target)
    table = table_of(path, arrays, missing)
    check_rows(path, len(table))
    return table


def existing(path: str | Path) -> Path:
    """The path of a file that is there, and may be a table."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: expected a table, a name that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    return path


def table_of(path: Path, arrays: dict[str, np.ndarray | None], missing: str = "refuse") -> Table:
    """The table of an array x and of one more, the target, which may be None."""
    for name, array in arrays.items():
        if array is None:
            continue
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: {name} is of {array.dtype}: expected numbers")
        filled = name == "x" and missing == "mean"
        wrong = np.argwhere(np.isinf(array) if filled else ~np.isfinite(array))
        if len(wrong):
            row, *place = wrong[0].tolist()
            at = f" at {place}" if place else ""
            raise DataError(f"{path}, row {row} of {name}: {array[tuple(wrong[0])]}{at}: expected finite numbers")
    x, (name, y) = arrays["x"], next(pair for pair in arrays.items() if pair[0] != "x")
    assert x is not None
    if y is not None and len(x) != len(y):
        raise DataError(f"{path}: x has {len(x)} rows and {name} has {len(y)}: expected as many")
    x = x.reshape(len(x), -1)
    if y is not None and y.ndim == 2 and y.shape[1] == 1:
        y = y.reshape(-1)
    return Table(str(path), x, tuple(column_names(x.shape[1])), {}, name, y)


def column_names(count: int) -> list[str]:
    """What columns are called that have no names."""
    return [f"x[{i}]" for i in range(count)]


def read_npy(path: Path, target: str | None) -> dict[str, np.ndarray | None]:
    array = rows_of_npy(path)
    if array.shape[1] < 2:
        raise DataError(f"{path}: got an array of shape {array.shape}, expected (rows, columns), at least two columns")
    columns = array.shape[1]
    if target is not None and not (target.isdigit() and int(target) < columns):
        raise DataError(f"{path}: got --target {target}, expected the number of a column, 0 to {columns - 1}")
    number = columns - 1 if target is None else int(target)
    return {"x": np.delete(array, number, axis=1), f"column {number}": array[:, number]}


def rows_of_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} is no .npy file of numbers: {error}") from error
    if array.ndim != 2:
        raise DataError(f"{path}: got an array of shape {array.shape}, expected (rows, columns)")
    return array


def read_npz(path: Path, target: str | None, with_target: bool = True) -> dict[str, np.ndarray | None]:
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


def read_csv(path: Path, target: str | None, ignore: Sequence[str], missing: str) -> Table:
    columns, lines = columns_of_csv(path)
    check_rows(path, len(lines))
    names = list(columns)
    for name in (*ignore, *([] if target is None else [target])):
        if name not in names:
            raise DataError(f"{path} has no column {name!r}, only {', '.join(names)}{near(name, names)}")
    if target is None:
        raise DataError(f"{path}: which column is to be predicted? Write --target COLUMN, one of {', '.join(names)}")
    if target in ignore:
        raise DataError(f"{path}: {target!r} is both the target and ignored")
    texts: dict[str, np.ndarray] = {}
    numbers: dict[str, np.ndarray] = {}
    for name, cells in columns.items():
        if name in ignore:
            continue
        column = np.array(cells)
        as_numbers = numbers_of(path, name, column, lines, "never" if name == target else missing)
        if as_numbers is None:
            texts[name] = column
        else:
            numbers[name] = as_numbers
    y = texts.pop(target) if target in texts else numbers.pop(target)
    if not numbers and not texts:
        raise DataError(f"{path}: beside the target {target!r} there is no column to predict it from")
    return Table(str(path), matrix_of(numbers, len(lines)), tuple(numbers), texts, target, y, lines)


def matrix_of(columns: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Columns of so many numbers side by side."""
    return np.stack(list(columns.values()), axis=1) if columns else np.empty((count, 0))


def columns_of_csv(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """The cells of each column, without the blanks around them; and the line on which each row ends."""
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
    return {name: [row[i].strip() for row in rows[1:]] for i, name in enumerate(names)}, lines[1:]


def check_rows(path: Path, count: int, least: int = 2) -> None:
    if count < least:
        wanted = "two at least, to train on and to score" if least == 2 else "one at least"
        raise DataError(f"{path} has {count} row{'s' * (count != 1)}: expected {wanted}")


def numbers_of(path: Path, name: str, column: np.ndarray, lines: list[int], missing: str) -> np.ndarray | None:
    """The column as float64; None where it holds texts. One that holds both is refused."""
    blank = blanks_of(column)
    try:
        numbers = np.where(blank, "nan", column).astype(np.float64)
    except ValueError:
        are = np.array([is_number(cell) for cell in column])
        if not are[~blank].any():
            check_filled(path, name, column == "", lines, missing)
            return None
        rarer = are if 2 * are[~blank].sum() < (~blank).sum() else ~are
        few = int((rarer & ~blank).argmax())
        kind, others = ("a number", "texts") if are[few] else ("not a number", "numbers")
        raise DataError(
            f"{path}, line {lines[few]}, column {name!r}: {str(column[few])!r} is {kind}, and most values of the "
            f"column are {others}: correct it, or {how_to_ignore([name])}"
        ) from None
    check_filled(path, name, blank, lines, missing)
    check_finite(path, name, numbers, blank, lines)
    return numbers


def blanks_of(column: np.ndarray) -> np.ndarray:
    """Where a column of numbers, as texts, has none."""
    return np.logical_or.reduce([column == blank for blank in BLANKS])


def how_to_ignore(names: Sequence[str]) -> str:
    columns = "the column" if len(names) == 1 else "these columns"
    return f"leave {columns} out with --ignore {shlex.quote(','.join(names))}"


def check_filled(path: Path, name: str, blank: np.ndarray, lines: list[int], missing: str) -> None:
    """Refuses values that are missing, unless missing is "mean"; "never": it would be refused with that, too."""
    if missing == "mean" or not blank.any():
        return
    others = f", as in {blank.sum() - 1} more" if blank.sum() > 1 else ""
    remedy = "fill it in, remove the row, or train with --missing mean" if missing == "refuse" else REMEDY
    raise DataError(f"{path}, line {lines[blank.argmax()]}, column {name!r}: the value is missing{others}: {remedy}")


def check_finite(path: Path, name: str, numbers: np.ndarray, blank: np.ndarray, lines: list[int]) -> None:
    wrong = ~np.isfinite(numbers) & ~blank
    if wrong.any():
        first = int(wrong.argmax())
        raise DataError(
            f"{path}, line {lines[first]}, column {name!r}: {numbers[first]} is not finite: correct it or remove "
            "the row"
        )


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
