"""The contest: rivals that give the same answers are timed in turn, and what was seen becomes a table and a file."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

import pargrad
from benchmarks.processes import Rival
from pargrad.parallel.cores import available_cores

# The rivals that tables divide by, where they ran.
YARDSTICKS = ("torch-ddp", "ray-train", "torch", "torch-one-thread", "jax", "numpy-2-processes")
TOLERANCE = 1e-3  # of a mean loss: float32, other orders of additions, and an epoch of steps after each other

Rows = dict[str, dict[str, Any]]


class DisagreementError(Exception):
    """Two rivals did not do the same thing, so there is nothing to compare."""


def check_agreement(answers: dict[str, float], tolerance: float = TOLERANCE) -> None:
    """Raises DisagreementError, naming two rivals, unless all answers are the same to `tolerance`, relatively."""
    for (one, first), (other, second) in combinations(answers.items(), 2):
        if not math.isclose(first, second, rel_tol=tolerance):
            raise DisagreementError(
                f"{one} and {other} do not do the same thing: their figures of the first turn are {first:.7g} and "
                f"{second:.7g}, which may differ by {tolerance:g} of them"
            )


def contest(
    rivals: Sequence[Rival], turns: int, tolerance: float = TOLERANCE
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The answers of the first turn, which warms up and must agree, then the seconds of `turns` more of each in turn.

    In turn, because the speed of a machine drifts: all rivals see the same minutes of it.
    """
    answers = {rival.name: rival.turn(0) for rival in rivals}
    check_agreement(answers, tolerance)
    seconds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for number in range(1, turns + 1):
        for rival in rivals:
            start = time.perf_counter()
            rival.turn(number)
            seconds[rival.name].append(time.perf_counter() - start)
    return answers, seconds


def quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else list(values) * 3


def figures_of(values: Sequence[float], **about: Any) -> dict[str, Any]:
    """A rival's row: what was measured, turn by turn, its median and quartiles."""
    lower, middle, upper = quartiles(values)
    return {**about, "values": list(values), "median": middle, "quartiles": [lower, upper]}


def with_ratios(rows: Rows, yardsticks: Sequence[str] = YARDSTICKS) -> Rows:
    """The rows, each with its median over that of every yardstick that is among them.

    Of one that is there in several ways, `torch-ddp` and `torch-ddp:one-bucket`, it is over the better of them.
    """
    best: dict[str, float] = {}
    for yardstick in yardsticks:
        medians = [row["median"] for name, row in rows.items() if name.partition(":")[0] == yardstick]
        if medians:
            best[yardstick] = min(medians)
    return {
        name: {**row, "over": {yardstick: row["median"] / median for yardstick, median in best.items()}}
        for name, row in rows.items()
    }


def summary(
    rivals: Sequence[Rival],
    answers: dict[str, float],
    seconds: dict[str, list[float]],
    yardsticks: Sequence[str] = YARDSTICKS,
) -> Rows:
    """A row for each rival: its processes and threads, its answer, its seconds, and their ratios."""
    rows = {
        rival.name: figures_of(
            seconds[rival.name], processes=rival.processes, threads=rival.threads, answer=answers[rival.name]
        )
        for rival in rivals
    }
    return with_ratios(rows, yardsticks)


def table(rows: Rows, unit: str = "s") -> str:
    """The rows in Markdown."""
    yardsticks = next(iter(rows.values()))["over"]
    heads = ["", "processes x threads", f"median, {unit}", "quartiles", *(f"/ {name}" for name in yardsticks)]
    lines = []
    for name, row in rows.items():
        ratios = [f"{row['over'][yardstick]:.2f}" for yardstick in yardsticks]
        shape = f"{row['processes']} x {row['threads']}" if "threads" in row else str(row.get("processes", "-"))
        lower, upper = map(significant, row["quartiles"])
        lines.append([name, shape, significant(row["median"]), f"{lower} to {upper}", *ratios])
    return markdown(heads, lines)


def significant(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def markdown(heads: list[str], lines: list[list[str]]) -> str:
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ruler, *lines])


def facts() -> dict[str, object]:
    """What the figures depend on besides the code: cores, their load before the run, versions and the BLAS of numpy."""
    versions = {"pargrad": pargrad.__version__}
    for package in ("numpy", "ray", "torch", "jax"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cores": available_cores(),
        "machine": platform.machine(),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **versions,
        "blas": [f"{library['internal_api']} {library['version']}" for library in threadpool_info()],
    }


class Report:
    """What a benchmark prints as it goes, and writes in the end for `python -m benchmarks.compare`."""

    def __init__(self, benchmark: str):
        self.content: dict[str, Any] = {"benchmark": benchmark, "facts": facts(), "rows": []}
        print(", ".join(f"{name} {value}" for name, value in self.content["facts"].items()), flush=True)

    def add(self, title: str, rows: Rows, unit: str = "s", **about: Any) -> None:
        """A table; about: what else the file says of it."""
        self.content["rows"].append({"title": title, "unit": unit, **about, "rivals": rows})
        print(f"\n{title}\n\n{table(rows, unit)}", flush=True)

    def write(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.content, indent=2) + "\n")
