"""What the benchmarks' commands have in common: options, the choice of rivals, and contests task by task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks.report import TOLERANCE, YARDSTICKS, Report, contest, summary
from benchmarks.rivals import RIVALS, Entry, missing, open_rivals
from benchmarks.tasks import Task


def chooser(names: Sequence[str], what: str = "rival") -> Callable[[str], list[str]]:
    """An option's type: the names that match any of the patterns in it, in the order of the table."""

    def chosen(patterns: str) -> list[str]:
        found = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns.split(","))]
        for pattern in patterns.split(","):
            if not any(fnmatch(name, pattern) for name in found):
                raise argparse.ArgumentTypeError(f"no {what} is called {pattern}; there are {', '.join(names)}")
        return found

    return chosen


def at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return int(text)


def parser_of(name: str, description: str | None, turns: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--turns", type=at_least_one, default=turns, help="timed ones of each, after one to warm up (%(default)s)"
    )
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    return parser


def add_rivals(parser: argparse.ArgumentParser, default: Sequence[str], names: Sequence[str] = tuple(RIVALS)) -> None:
    parser.add_argument(
        "--only", type=chooser(names), default=list(default), help=f"names or patterns, of {', '.join(names)}"
    )


def present(names: Sequence[str]) -> list[str]:
    """Those of the rivals that this Python has the modules of; the others are told of, and left out."""
    for name in names:
        if missing(name):
            print(f"{name} is left out: {', '.join(missing(name))} not installed", file=sys.stderr)
    return [name for name in names if not missing(name)]


def race(
    report: Report,
    title: str,
    task: Any,
    names: Sequence[str],
    turns: int,
    *,
    table: Mapping[str, Entry] = RIVALS,
    tolerance: float = TOLERANCE,
    yardsticks: Sequence[str] = YARDSTICKS,
) -> None:
    """One contest, into the report."""
    with open_rivals(task, names, table) as rivals:
        rows = summary(rivals, *contest(rivals, turns, tolerance), yardsticks)
    report.add(title, rows, task=vars(task))


def epoch_of(task: Task) -> str:
    """The title of a contest in which a turn is an epoch."""
    return f"{task.title}, {task.examples:,} examples an epoch"
