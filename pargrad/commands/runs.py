"""`pargrad runs`: lists run directories, and what they have come to, side by side."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from pargrad.commands.options import POSITIONAL
from pargrad.commands.table import UNKNOWN, shown, table

HELP = "list and compare run directories"
EXAMPLES = """\
  pargrad runs runs                         every run below the directory runs
  pargrad runs runs/first runs/second       these two; options in which they differ have a column
  pargrad runs runs --json                  as a list of JSON objects\
"""


@dataclass
class Options:
    """List run directories side by side: what they trained, how far they are, and what they have come to.

    Args:
        directories: run directories, or directories with some below them
        json: print a list of JSON objects with all figures, options and the whole hash
    """

    directories: list[str] = field(metadata=POSITIONAL)
    json: bool = False


def run(options: Options) -> int:
    from pargrad.reporting.runs import differing_options, find_runs, read_run, summary

    runs = [read_run(path) for path in find_runs(options.directories)]
    summaries = [summary(each) for each in runs]
    if options.json:
        print(json.dumps([{**each, "options": one.config} for each, one in zip(summaries, runs)], indent=2))
        return 0
    differing = differing_options(runs)
    sent = [each["bytes_per_step"] for each in summaries]
    more = {"bytes/step": [shown(each, "{:,.0f}") for each in sent]} if any(sent) else {}
    more |= {name: [shown(value) for value in values] for name, values in differing.items()}
    rows = [[*in_words(each), *(values[i] for values in more.values())] for i, each in enumerate(summaries)]
    print(table([*HEADINGS, *more], rows))
    return 0


HEADINGS = ("run", "model", "data", "step", "epoch", "loss", "best score", "samples/s", "state sha256", "when")


def best_of(figures: dict[str, Any]) -> str:
    """The best accuracy on the validation set, or, of a run of amounts, the best r2."""
    r2 = figures["best_validation_r2"]
    if figures["best_validation_accuracy"] is None and r2 is not None:
        return f"r2 {r2:.4f}"
    return shown(figures["best_validation_accuracy"], "{:.2%}")


def in_words(figures: dict[str, Any]) -> list[str]:
    """A run's figures in the order of HEADINGS."""
    when = figures["when"]
    return [
        figures["name"],
        shown(figures["model"]),
        shown(figures["data"]),
        f"{figures['step']:,}",
        str(figures["epoch"]),
        shown(figures["loss"], "{:.4f}"),
        best_of(figures),
        shown(figures["samples_per_second"], "{:,.0f}"),
        shown(figures["state_sha256"], "{:.12}"),
        UNKNOWN if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when)),
    ]
