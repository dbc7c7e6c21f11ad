"""Runs of benchmarks that were saved: one as a table, two as one table of before and after.

    python -m benchmarks.compare NAME           # of `benchmarks.engine`, as it was printed
    python -m benchmarks.compare BEFORE AFTER   # what a change has done

NAME is what `benchmarks.engine --save NAME` was given, or a file that another benchmark wrote with --json.

A machine may be slower on the day of the second run; torch, which took its turns in both, then is, too. So it is the
last column that tells what became faster: `after / before` of what pargrad takes over what torch takes. Where there was
no torch, the first of the rivals that the benchmark divides by takes its place.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import markdown, quartiles, significant

FOLDER = Path(__file__).parent.parent / ".benchmarks" / "engine"
OURS, YARDSTICK = "pargrad", "torch"
UNITS = {"s": (1e3, "ms"), "MiB": (1.0, "MiB")}


class Figures(NamedTuple):
    """What one library took for one row, round by round, in seconds or MiB."""

    rounds: list[float]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        """The median, with the quartiles where there are any."""
        scale, name = UNITS[self.unit]
        lower, middle, upper = (significant(value * scale) for value in quartiles(self.rounds))
        return f"{middle} {name}" if len(self.rounds) == 1 else f"{middle} {name} ({lower} to {upper})"


Rows = dict[str, dict[str, Figures]]  # by row, and in each by library


def path_of(name: str) -> Path:
    """Where a run of this name is kept; a name that ends in .json is a path itself."""
    return Path(name) if name.endswith(".json") else FOLDER / f"{name}.json"


def load(path: Path) -> Rows:
    """What pytest-benchmark wrote, or `benchmarks.report`."""
    if not path.exists():
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.json"))) or "none"
        raise FileNotFoundError(f"there is no run at {path}; of those saved there: {there}")
    content = json.loads(path.read_text())
    rows: Rows = {}
    for record in content.get("benchmarks", ()):
        about = record["extra_info"]
        rows.setdefault(record["group"], {})[about["library"]] = Figures(record["stats"]["data"], about["unit"])
    for record in content.get("rows", ()):
        rows |= rows_of_contest(record)
    return rows


def rows_of_contest(record: dict[str, Any]) -> Rows:
    """A row for each rival of pargrad's: what it took, then what its yardstick took, and the others."""
    figures = {name: Figures(rival["values"], record["unit"]) for name, rival in record["rivals"].items()}
    divided_by = [name for rival in record["rivals"].values() for name in rival["over"] if name in figures]
    first = [YARDSTICK] if YARDSTICK in divided_by else divided_by[:1]
    others = [name for name in figures if not name.startswith(OURS) and name not in first]
    return {
        f"{record['title']}: {name}": {OURS: figures[name], **{other: figures[other] for other in first + others}}
        for name in figures
        if name.startswith(OURS)
    }


def yardstick_of(row: dict[str, Figures]) -> str | None:
    """torch, or who was put after pargrad."""
    others = [name for name in row if name != OURS]
    return YARDSTICK if YARDSTICK in row else next(iter(others), None)


def ratio(row: dict[str, Figures]) -> float | None:
    """pargrad's median over its yardstick's."""
    yardstick = yardstick_of(row)
    return row[OURS].median / row[yardstick].median if OURS in row and yardstick is not None else None


def spread(row: dict[str, Figures]) -> str:
    """`ratio`, and the quartiles of the ratio in each round, in which both had the same machine."""
    middle = ratio(row)
    if middle is None:
        return "-"
    pairs = [ours / theirs for ours, theirs in zip(row[OURS].rounds, row[yardstick_of(row)].rounds)]
    lower, _, upper = quartiles(pairs)
    return f"**{middle:.2f}** ({lower:.2f} to {upper:.2f})"


def table(rows: Rows) -> str:
    """One run: a line for each row, a column for each library."""
    libraries: dict[str, Any] = dict.fromkeys(name for row in rows.values() for name in row)
    lines = [
        [title, *(str(row[name]) if name in row else "-" for name in libraries), spread(row)]
        for title, row in rows.items()
    ]
    yardsticks = dict.fromkeys(yardstick for row in rows.values() if (yardstick := yardstick_of(row)) is not None)
    return markdown(["", *libraries, f"{OURS} / {' or '.join(yardsticks) or YARDSTICK}"], lines)


def changes(before: Rows, after: Rows) -> str:
    """Two runs, for the rows that both have."""

    def line(title: str) -> list[str]:
        old, new = before[title], after[title]
        change = f"{new[OURS].median / old[OURS].median:.2f}"
        beside = [ratio(old), ratio(new)]
        if None in beside:
            return [title, str(old[OURS]), str(new[OURS]), change, "-", "-", "-"]
        return [title, str(old[OURS]), str(new[OURS]), change, *(f"{each:.2f}" for each in beside),
                f"**{beside[1] / beside[0]:.2f}**"]  # type: ignore[operator]  # fmt: skip

    shared = [title for title in before if title in after and OURS in before[title] and OURS in after[title]]
    heads = ["", "before", "after", "after / before", "before / torch", "after / torch", "after / before, over torch"]
    if any(YARDSTICK not in before[title] for title in shared):
        heads = [head.replace(YARDSTICK, "yardstick") for head in heads]
    return markdown(heads, list(map(line, shared)))


def main(names: Sequence[str]) -> int:
    if len(names) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        runs = [load(path_of(name)) for name in names]
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(runs[0]) if len(runs) == 1 else changes(*runs))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
