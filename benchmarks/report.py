"""The contest: rivals that give the same answers are timed in turn, and what was seen becomes one table."""

import math
import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import combinations

from threadpoolctl import threadpool_info

import pargrad
from benchmarks.rivals import Rival

# The rivals that the table divides by: what a user of torch has today, on all cores and on one process a core.
YARDSTICKS = ("torch-ddp", "torch")


class DisagreementError(Exception):
    """Two rivals did not train the same thing, so there is nothing to compare."""


def check_agreement(losses: dict[str, float], tolerance: float = 1e-3) -> None:
    """Raises DisagreementError, naming two rivals, unless all mean losses are the same to `tolerance`, relatively."""
    for (one, first), (other, second) in combinations(losses.items(), 2):
        if not math.isclose(first, second, rel_tol=tolerance):
            raise DisagreementError(
                f"{one} and {other} do not train the same thing: their mean losses in the first epoch are {first:.7g} "
                f"and {second:.7g}, which may differ by {tolerance:g} of the loss"
            )


def contest(rivals: Sequence[Rival], epochs: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The mean losses of the first epoch, which warms up and must agree, then the seconds of `epochs` more in turn.

    In turn, because the speed of a machine drifts: all rivals see the same minutes of it.
    """
    losses = {rival.name: rival.epoch(0) for rival in rivals}
    check_agreement(losses)
    seconds: dict[str, list[float]] = {rival.name: [] for rival in rivals}
    for number in range(1, epochs + 1):
        for rival in rivals:
            start = time.perf_counter()
            rival.epoch(number)
            seconds[rival.name].append(time.perf_counter() - start)
    return losses, seconds


def summary(rivals: Sequence[Rival], losses: dict[str, float], seconds: dict[str, list[float]]) -> dict[str, dict]:
    """A row for each rival: its loss, its seconds, their median and quartiles, and the median over each yardstick's."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = {}
    for rival in rivals:
        times = seconds[rival.name]
        lower, _, upper = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        rows[rival.name] = {
            "processes": rival.processes,
            "threads": rival.threads,
            "first_loss": losses[rival.name],
            "seconds": times,
            "median": medians[rival.name],
            "quartiles": [lower, upper],
            "over": {name: medians[rival.name] / medians[name] for name in YARDSTICKS if name in medians},
        }
    return rows


def table(rows: dict[str, dict]) -> str:
    """The rows in Markdown."""
    yardsticks = next(iter(rows.values()))["over"]
    heads = ["rival", "processes x threads", "s/epoch, median", "quartiles", *(f"/ {name}" for name in yardsticks)]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for name, row in rows.items():
        lower, upper = row["quartiles"]
        ratios = [f"{row['over'][yardstick]:.2f}" for yardstick in yardsticks]
        shape = f"{row['processes']} x {row['threads']}"
        lines.append([name, shape, f"{row['median']:.3f}", f"{lower:.3f} to {upper:.3f}", *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts() -> dict[str, object]:
    """What the figures depend on besides the code: cores, their load before the run, versions and the BLAS of numpy."""
    versions = {"pargrad": pargrad.__version__}
    for package in ("numpy", "ray", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **versions,
        "blas": [f"{library['internal_api']} {library['version']}" for library in threadpool_info()],
    }
