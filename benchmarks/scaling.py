"""How training scales: seconds per epoch on 1 to N workers, efficiency, and what the workers' time goes into.

    python -m benchmarks.scaling                       # as many workers as there are cores, in powers of two
    python -m benchmarks.scaling --workers 1,2 --tasks cnn

All have the same shards, so all compute the same bits. Efficiency is how many times as fast as the fewest workers, over
how many times as many there are. `at-once` is the machine's own limit: as many whole runs of one worker beside each
other, which never wait for each other and share nothing but its memory, caches and clock. The shares are those of the
workers' own stopwatches over the turns that are timed, in the mean over the workers (`pargrad/parallel/stopwatch.py`):
reading the batch, losses and gradients, adding gradients up, the optimizer, and waiting for the others. What is left of
100 % is time in which the driver let them wait.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.command import at_least_one, chooser, epoch_of, parser_of
from benchmarks.mnist_mlp import PRESETS
from benchmarks.models import TASKS as MODELS
from benchmarks.report import Report, Rows, contest, markdown, summary
from benchmarks.rivals import Entry, PargradRival, open_rivals
from benchmarks.tasks import Task, numbers
from pargrad.parallel.cores import available_cores
from pargrad.parallel.stopwatch import PARTS

TASKS: dict[str, Task] = {
    "mlp": PRESETS["small"],
    "large": PRESETS["large"],
    "cnn": replace(MODELS["cnn"], examples=1280),
}
SHARDS = 8


class Watched:
    """A rival of pargrad's whose workers' stopwatches are read; of the first turn, which warms up, nothing is kept."""

    epochs = 1  # in a turn

    def __init__(self, name: str, task: Task, *, workers: int, shards: int):
        self.rival = rival = PargradRival(name, task, workers=workers, shards=shards)
        self.name, self.processes, self.threads = name, rival.processes, rival.threads
        self.seconds = np.zeros(len(PARTS))

    def turn(self, number: int) -> float:
        before = self.read()
        loss = self.rival.turn(number)
        if number:
            self.seconds += self.read() - before
        return loss

    def read(self) -> np.ndarray:
        """The seconds of each part so far, in the mean over the workers."""
        pool = self.rival.trainer.open()
        return pool.arena.seconds[:, : len(PARTS)].sum(axis=0) / self.processes

    def close(self) -> None:
        self.rival.close()


class AtOnce:
    """A rival that is several: each run has the whole epoch and one worker of its own."""

    def __init__(self, name: str, task: Task, *, runs: int, shards: int):
        self.name, self.processes, self.threads, self.epochs = name, runs, 1, runs
        self.runs: list[Watched] = []
        try:
            for _ in range(runs):
                self.runs.append(Watched(name, task, workers=1, shards=shards))
        except BaseException:
            self.close()
            raise

    def turn(self, number: int) -> float:
        with ThreadPoolExecutor(len(self.runs)) as threads:
            return sum(threads.map(lambda run: run.turn(number), self.runs)) / len(self.runs)

    @property
    def seconds(self) -> np.ndarray:
        return np.mean([run.seconds for run in self.runs], axis=0)

    def close(self) -> None:
        for run in self.runs:
            run.close()


def entries(workers: Sequence[int], shards: int) -> dict[str, Entry]:
    """One run on so many workers each, then so many runs on one."""
    runs = {
        f"pargrad-workers-{count}-shards-{shards}": Entry(
            functools.partial(Watched, workers=count, shards=shards), count
        )
        for count in workers
    }
    at_once = {
        f"at-once-{count}-shards-{shards}": Entry(functools.partial(AtOnce, runs=count, shards=shards), count)
        for count in workers
        if count > 1
    }
    return runs | at_once


def with_shares(rows: Rows, rivals: Sequence[Any]) -> Rows:
    """The rows, with efficiency and each part's share of the time that was measured."""
    fewest = rows[rivals[0].name]
    out = {}
    for rival in rivals:
        row = rows[rival.name]
        shares = (rival.seconds / sum(row["values"])).tolist()
        speed = fewest["median"] / row["median"] * rival.epochs
        workers = row["processes"] / fewest["processes"]
        out[rival.name] = {**row, "efficiency": speed / workers, "shares": dict(zip(PARTS, shares))}
    return out


def table_of_shares(rows: Rows) -> str:
    lines = [
        [name, f"{row['efficiency']:.0%}", *(f"{share:.1%}" for share in row["shares"].values())]
        for name, row in rows.items()
    ]
    return markdown(["", "efficiency", *PARTS], lines)


def powers_of_two(most: int) -> tuple[int, ...]:
    return tuple(1 << power for power in range(most.bit_length()) if 1 << power <= most)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("scaling", __doc__, turns=5)
    parser.add_argument("--tasks", type=chooser(list(TASKS), "task"), default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--workers", type=numbers, default=powers_of_two(available_cores()), help="(%(default)s)")
    parser.add_argument("--shards", type=at_least_one, default=SHARDS, help="of all of them (%(default)s)")
    parser.add_argument("--examples", type=int, help="another number of them")
    options = parser.parse_args(arguments)

    report = Report("scaling")
    table = entries(options.workers, options.shards)
    for name in options.tasks:
        task = replace(TASKS[name], examples=options.examples or TASKS[name].examples)
        with open_rivals(task, list(table), table) as rivals:
            rows = summary(rivals, *contest(rivals, options.turns), yardsticks=list(table)[:1])
        rows = with_shares(rows, rivals)
        report.add(epoch_of(task), rows, task=vars(task))
        print(f"\n{table_of_shares(rows)}", flush=True)
    report.write(options.json)


if __name__ == "__main__":
    main()
