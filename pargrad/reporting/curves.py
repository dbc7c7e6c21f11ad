"""The curves of runs, several in one figure: loss, accuracy or r2, learning rate, throughput, phases of a step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pargrad.parallel.stopwatch import PARTS
from pargrad.reporting.figures import COLOURS, FAINT, INK, LOOK, matplotlib
from pargrad.reporting.runs import Run, series

PART_COLOURS = dict(zip(PARTS, ("#8da0cb", "#1b6ca8", "#66a61e", "#e6a532", "#c9ced4")))
WORDS = {"reduce": "all-reduce"}  # of parts, where a figure says it longer
RAW_POINTS, MEAN_POINTS = 800, 40  # of a curve: as it was, and its means, which are what the eye follows
SCORES = {"accuracy": ".2%", "r2": ".4f"}  # how good a model is, and how that is written
LOGARITHMIC = 30.0  # largest over smallest loss from which a linear axis hides the end of a run


def curves(runs: Sequence[Run]) -> Any:
    """A matplotlib Figure. Raises ValueError where no run has a step yet."""
    if not any(run.steps for run in runs):
        raise ValueError(f"there is nothing to draw: no step is done in {', '.join(str(run.path) for run in runs)}")
    with matplotlib().rc_context(LOOK):
        from matplotlib.figure import Figure

        height = 0.7 + 0.34 * len(runs)
        figure: Any = Figure(figsize=(10.5, 6.6 + height), layout="constrained", facecolor="white")
        figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1, hspace=0.05, wspace=0.04)
        panels = figure.subplot_mosaic(
            [["loss", "score"], ["lr", "speed"], ["phases", "phases"]],
            height_ratios=[3.6, 2.4, height],
        )
        score = score_of(runs)
        for run, colour in zip(runs, itertools.cycle(COLOURS)):
            draw_loss(panels["loss"], run, colour)
            draw_score(panels["score"], run, colour, score)
            panels["lr"].plot(*series(run.steps, "lr"), color=colour, linewidth=1.6)
            steps, speeds = series(run.steps, "samples_per_second")
            panels["speed"].plot(*means(steps, speeds, RAW_POINTS), color=colour, linewidth=1.6)
        finish(panels, runs, score)
        draw_phases(panels["phases"], runs)
        if len(runs) > 1:
            handles = [line for line in panels["loss"].get_lines() if not line.get_label().startswith("_")]
            figure.legend(handles, names_of(runs), loc="outside upper center", ncols=min(len(runs), 5))
        else:
            figure.suptitle(title_of(runs[0]), fontsize=12, fontweight="bold", x=0.012, ha="left")
        return figure


def draw_loss(axes: Any, run: Run, colour: str) -> None:
    steps, losses = series(run.steps, "loss")
    axes.plot(*means(steps, losses, RAW_POINTS), color=colour, alpha=0.22, linewidth=0.8)
    axes.plot(*means(steps, losses, MEAN_POINTS), color=colour, linewidth=1.9, label=run.name)
    validation = series(run.evaluations, "validation_loss")
    axes.plot(*validation, color=colour, linestyle="none", marker="o", markersize=5, markerfacecolor="white")


def draw_score(axes: Any, run: Run, colour: str, score: str) -> None:
    steps, values = series(run.evaluations, f"validation_{score}")
    axes.plot(steps, values, color=colour, marker="o", markersize=4, linewidth=1.6)
    if values:
        best = int(np.argmax(values))
        axes.annotate(
            format(values[best], SCORES[score]), (steps[best], values[best]), xytext=(0, 6), textcoords="offset points",
            color=colour, ha="center", fontsize=8.5, fontweight="bold",
        )  # fmt: skip


def draw_phases(axes: Any, runs: Sequence[Run]) -> None:
    """A bar for each run: the milliseconds of a step, the mean over workers and steps."""
    longest = max(sum(phases(run).values()) for run in runs)
    for row, run in enumerate(runs):
        start = 0.0
        for part, milliseconds in phases(run).items():
            axes.barh(row, milliseconds, left=start, height=0.62, color=PART_COLOURS[part])
            if milliseconds > 0.06 * longest:
                axes.text(
                    start + milliseconds / 2, row, f"{milliseconds:.3g}", ha="center", va="center_baseline",
                    color=INK if part in ("waiting", "update", "data") else "white", fontsize=8.5,
                )  # fmt: skip
            start += milliseconds
    axes.set_yticks(range(len(runs)), names_of(runs) if len(runs) > 1 else [""] * len(runs))
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.set_title("phases of a step: milliseconds, mean over workers")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    from matplotlib.patches import Patch

    handles = [Patch(color=PART_COLOURS[part], label=WORDS.get(part, part)) for part in PARTS]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(PARTS), borderaxespad=0.1,
                handlelength=1, handleheight=1, columnspacing=1.2)  # fmt: skip


def finish(panels: dict[str, Any], runs: Sequence[Run], score: str) -> None:
    """Titles, scales and what is said where there is nothing to see."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

    losses = np.concatenate([means(*series(run.steps, "loss"), MEAN_POINTS)[1] for run in runs])
    if len(losses) and losses.min() > 0 and losses.max() > LOGARITHMIC * losses.min():
        panels["loss"].set_yscale("log")
        panels["loss"].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        panels["loss"].set_ylim(bottom=min(0.0, *losses))
    evaluated = any(series(run.evaluations, "validation_loss")[1] for run in runs)
    panels["loss"].set_title("loss" + (" (circles: on the validation set)" if evaluated else ""))
    panels["score"].set_title(f"validation {score}")
    if score == "accuracy":
        panels["score"].yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    panels["score"].margins(y=0.14)
    panels["lr"].set_title("learning rate")
    panels["lr"].set_ylim(bottom=0)
    panels["speed"].set_title("throughput: samples a second")
    panels["speed"].yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panels["speed"].set_ylim(bottom=0)
    last = max(run.steps[-1]["step"] for run in runs if run.steps)
    for name in ("loss", "score", "lr", "speed"):
        panels[name].set_xlim(0, last * 1.03 + 1)
        panels[name].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        panels[name].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for name in ("lr", "speed"):
        panels[name].set_xlabel("step")
    if not any(len(line.get_xdata()) for line in panels["score"].lines):
        panels["score"].set_yticks([])
        panels["score"].text(
            0.5, 0.5, "no evaluation yet", transform=panels["score"].transAxes, ha="center", color=INK,
            bbox={"facecolor": "white", "edgecolor": FAINT, "boxstyle": "round,pad=0.6"},
        )  # fmt: skip


# ----- numbers -----


def score_of(runs: Sequence[Run]) -> str:
    """The one of SCORES that most of the runs' evaluations have; accuracy where there is none."""
    return max(SCORES, key=lambda name: sum(len(series(run.evaluations, f"validation_{name}")[1]) for run in runs))


def means(steps: Sequence[int], values: Sequence[float], most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points, each the mean of neighbours; all of them where there are no more than that."""
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if len(x) <= most:
        return x, y
    starts = np.linspace(0, len(x), most, endpoint=False).astype(np.int64)
    counts = np.diff([*starts, len(x)])
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts


def phases(run: Run) -> dict[str, float]:
    """Milliseconds of each part of a step, the mean over all steps that have them."""
    found = {part: series(run.steps, f"{part}_ms")[1] for part in PARTS}
    return {part: math.fsum(values) / len(values) for part, values in found.items() if values}


# ----- words -----


def names_of(runs: Sequence[Run]) -> list[str]:
    """The runs' names; their paths where two have the same."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def title_of(run: Run) -> str:
    what = [str(run.config[key]) for key in ("model", "data_set") if run.config.get(key)]
    return f"{run.name}: {' on '.join(what)}" if what else run.name
