"""Run directories as they are read back: the lines of metrics.jsonl, the options, the newest checkpoint's state."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pargrad.parallel.checkpoints import STATE, Unusable, checkpoints_in, read_state
from pargrad.parallel.run_directory import CONFIG, METRICS

Line = dict[str, Any]
HOW_TO_MAKE_ONE = "`pargrad train --run-dir DIR` and `Trainer(run_dir=...)` make one"


class Run(NamedTuple):
    """One run. steps, evaluations: the lines of metrics.jsonl; state: of the newest checkpoint that can be read."""

    path: Path
    config: dict[str, Any]
    steps: list[Line]
    evaluations: list[Line]
    checkpoints: list[tuple[int, Path]]
    state: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.resolve().name


def is_run(path: Path) -> bool:
    return (path / METRICS).is_file() or (path / "checkpoints").is_dir()


def find_runs(paths: Iterable[str]) -> list[Path]:
    """Run directories that are named, and those below directories that are named, each once, by their paths."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise ValueError(f"{path}: there is no such directory")
        below = [path] if is_run(path) else sorted({each.parent for each in path.rglob(METRICS)})
        if not below:
            raise ValueError(f"{path}: there is no run in it, a directory with {METRICS}: {HOW_TO_MAKE_ONE}")
        for each in below:
            found.setdefault(each.resolve(), each)
    return list(found.values())


def read_run(path: str | Path) -> Run:
    """Reads a run directory, also while a run writes to it. Raises ValueError where there is none."""
    path = Path(path)
    if not is_run(path):
        raise ValueError(f"{path} is no run directory, which has {METRICS}: {HOW_TO_MAKE_ONE}")
    lines = read_lines(path / METRICS)
    there = checkpoints_in(path / "checkpoints")
    return Run(
        path,
        read_config(path / CONFIG),
        [line for line in lines if "loss" in line],
        [line for line in lines if "loss" not in line],
        there,
        newest_state(there),
    )


def read_lines(path: Path) -> list[Line]:
    """The lines of metrics.jsonl; the last one is left out where it is still being written."""
    if not path.is_file():
        return []
    *whole, _ = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(whole, 1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is no JSON: {error}") from error
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise ValueError(f"{path}, line {number}: expected an object with a step, got {text.decode()[:60]}")
        lines.append(line)
    return lines


def read_config(path: Path) -> dict[str, Any]:
    """The options of the command; a run of `Trainer` has none."""
    if not path.is_file():
        return {}
    import yaml

    try:
        config = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return config if isinstance(config, dict) else {}


def newest_state(there: list[tuple[int, Path]]) -> dict[str, Any]:
    """The state.json of the newest checkpoint that can be read; empty where there is none."""
    for _, path in there:
        try:
            return read_state(path / STATE)
        except (OSError, Unusable):
            continue
    return {}


# ----- what runs come to -----


def series(lines: Iterable[Line], name: str) -> tuple[list[int], list[float]]:
    """The steps that have a number of this name, and the numbers; of several learning rates the first."""
    pairs = [(line["step"], first(line.get(name))) for line in lines]
    kept = [(step, value) for step, value in pairs if isinstance(value, int | float)]
    return [step for step, _ in kept], [value for _, value in kept]


def first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def summary(run: Run) -> dict[str, Any]:
    """A run in a few figures; None for what is not known.

    loss is the mean over the steps of the last epoch; samples_per_second is the median over the steps; bytes_per_step
    the median of what each of several machines sent to others; state_sha256 that of the newest checkpoint, when it is
    of the last step; when the time of the last line, in seconds since 1970.
    """
    last = run.steps[-1] if run.steps else {}
    losses = series([line for line in run.steps if line["epoch"] == last["epoch"]], "loss")[1]
    accuracies, shares = (series(run.evaluations, f"validation_{name}")[1] for name in ("accuracy", "r2"))
    speeds, sent = (series(run.steps, name)[1] for name in ("samples_per_second", "bytes_per_step"))
    metrics = run.path / METRICS
    is_of_last_step = run.state.get("step") == last.get("step")
    return {
        "name": run.name,
        "path": str(run.path),
        "model": run.config.get("model"),
        "data": run.config.get("data_set"),
        "step": last.get("step", 0),
        "epoch": last.get("epoch", -1) + 1,
        "loss": math.fsum(losses) / len(losses) if losses else None,
        "best_validation_accuracy": max(accuracies, default=None),
        "best_validation_r2": max(shares, default=None),
        "samples_per_second": statistics.median(speeds) if speeds else None,
        "bytes_per_step": statistics.median(sent) if sent else None,
        "state_sha256": run.state.get("state_sha256") if is_of_last_step else None,
        "when": metrics.stat().st_mtime if metrics.is_file() else None,
    }


def differing_options(runs: list[Run]) -> dict[str, list[Any]]:
    """The options that are not the same in all runs, with each run's value; paths and model and data left out."""
    told = {"model", "data_set", "run_dir", "json", "resume", "override"}
    names = dict.fromkeys(name for run in runs for name in run.config if name not in told)
    values = {name: [run.config.get(name) for run in runs] for name in names}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}
