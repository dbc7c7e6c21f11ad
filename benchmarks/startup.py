"""Seconds from the command to the first step, to the first step of all workers, and to the end of a short run.

    python -m benchmarks.startup                                 # `pargrad train mnist --epochs 1`; two minutes
    python -m benchmarks.startup --turns 5 -- --num-workers 2 --model cnn

What comes after `--` is given to `pargrad train mnist`. Each run is a new process; it notes the time of its first
completed step, and of the first that its workers completed, if the run is not over before there are any. Beside it
stands what such a process cannot do without: Python, and Python with numpy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import parser_of
from benchmarks.report import Report, figures_of, with_ratios

# It runs the command as it is. That the trainer is imported a moment earlier than the command would costs nothing.
PROGRAM = """
import sys, time
from pargrad.parallel.trainer import Trainer
from pargrad.cli import entry_point
path = sys.argv.pop(1)
count, seen = Trainer.count, set()
def counted(trainer, result):
    count(trainer, result)
    by_workers = len(getattr(trainer.pool, "members", ()))
    for name in ["first step"] + ["first step of the workers"] * bool(by_workers):
        if name not in seen:
            seen.add(name)
            with open(path, "a") as file:
                print(time.time(), name, file=file)
Trainer.count = counted
sys.argv[0] = "pargrad"
sys.exit(entry_point())
"""
YARDSTICK = "python and numpy"


def run(arguments: Sequence[str]) -> dict[str, float]:
    """Seconds to each event of one run of the command, which must succeed."""
    with tempfile.TemporaryDirectory() as folder:
        path, figures = Path(folder, "events"), Path(folder, "figures.json")
        command = ["train", "mnist", "--progress", "off", "--json", str(figures), *arguments]
        start = time.time()
        check([sys.executable, "-c", PROGRAM, str(path), *command])
        end = time.time() - start
        events = dict(reversed(line.split(" ", 1)) for line in path.read_text().splitlines())
        steps = json.loads(figures.read_text())["steps"]
    return {**{name: float(when) - start for name, when in events.items()}, f"end, after {steps} steps": end}


def seconds_of(program: str) -> float:
    start = time.time()
    check([sys.executable, "-c", program])
    return time.time() - start


def check(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command[-6:])} ended with exit code {result.returncode}:\n{result.stderr}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("startup", __doc__, turns=5)
    parser.add_argument("train", nargs="*", default=["--epochs", "1"], help="options of `pargrad train mnist`")
    options = parser.parse_args(arguments)

    report = Report("startup")
    seconds: dict[str, list[float]] = {}
    for turn in range(options.turns + 1):
        found = {"python": seconds_of("pass"), YARDSTICK: seconds_of("import numpy")}
        found |= {f"pargrad, {name}": value for name, value in run(options.train).items()}
        for name, value in found.items() if turn else ():  # the first one reads the files into memory
            seconds.setdefault(name, []).append(value)
    rows: dict[str, Any] = {name: figures_of(values) for name, values in seconds.items()}
    report.add(f"pargrad train mnist {' '.join(options.train)}", with_ratios(rows, [YARDSTICK]))
    report.write(options.json)


if __name__ == "__main__":
    main()
