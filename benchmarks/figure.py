"""The figure of a saved run: a panel for each contest, a bar for each rival, pargrad's in colour.

    python -m benchmarks.mnist_mlp --preset small,wide,large --json .benchmarks/mlp.json
    python -m benchmarks.figure .benchmarks/mlp.json benchmarks/mnist_mlp.svg

A bar is the median, the line on it goes from quartile to quartile. The number behind it is the ratio to the first of
the contest's yardsticks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import OURS
from benchmarks.report import significant
from pargrad.reporting.figures import COLOURS, FAINT, INK, LOOK, check_picture, matplotlib, save

WIDTH, BAR_HEIGHT, HEAD_HEIGHT = 7.6, 0.23, 0.55  # inches


def draw(content: dict[str, Any]) -> Any:
    """A matplotlib figure of what `Report.write` wrote."""
    with matplotlib().rc_context(LOOK):
        from matplotlib.figure import Figure

        contests = content["rows"]
        heights = [HEAD_HEIGHT + BAR_HEIGHT * len(contest["rivals"]) for contest in contests]
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        panels = figure.subplots(len(contests), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, contest in zip(panels, contests):
            draw_contest(panel, contest)
    return figure


def draw_contest(panel: Any, contest: dict[str, Any]) -> None:
    rivals = sorted(contest["rivals"].items(), key=lambda pair: pair[1]["median"])
    medians = [rival["median"] for _, rival in rivals]
    colours = [COLOURS[0] if name.startswith(OURS) else FAINT for name, _ in rivals]
    panel.barh([name for name, _ in rivals], medians, color=colours, height=0.72)
    for place, (_, rival) in enumerate(rivals):
        lower, upper = rival["quartiles"]
        panel.plot([lower, upper], [place, place], color=INK, linewidth=1)
        over = next(iter(rival["over"].items()), None)
        beside = "" if over is None else f"   {over[1]:.2f} of {over[0]}"
        said = f"{significant(rival['median'])} {contest['unit']}{beside}"
        panel.annotate(said, (max(rival["median"], upper), place), (5, 0), textcoords="offset points", va="center")
    panel.invert_yaxis()
    panel.grid(axis="y", visible=False)
    panel.set_title(contest["title"])
    panel.set_xlim(0, 1.3 * max(medians))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the file that a benchmark wrote with --json")
    parser.add_argument("figure", type=Path, help="an .svg, .png or .pdf file")
    options = parser.parse_args(arguments)
    save(draw(json.loads(options.run.read_text())), check_picture(options.figure, "figure"))


if __name__ == "__main__":
    main()
