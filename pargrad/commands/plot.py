"""`pargrad plot`: the curves of runs in one figure."""

from __future__ import annotations

from dataclasses import dataclass, field

from pargrad.commands.options import POSITIONAL

HELP = "draw the curves of runs"
EXAMPLES = """\
  pargrad plot runs/first                                loss, accuracy, learning rate, throughput, phases
  pargrad plot runs/first runs/second --out both.svg     two runs in one figure
  pargrad plot runs --out all.png                        every run below the directory runs\
"""


@dataclass
class Options:
    """Draw loss, validation accuracy, learning rate, throughput and the phases of a step, of runs in one figure.

    Args:
        directories: run directories, or directories with some below them; also of runs that are under way
        out: the file to write, whose name ends in .png, .svg or .pdf
    """

    directories: list[str] = field(metadata=POSITIONAL)
    out: str = "curves.png"


def run(options: Options) -> int:
    from pargrad.reporting.curves import curves
    from pargrad.reporting.figures import check_picture, save
    from pargrad.reporting.runs import find_runs, read_run

    out = check_picture(options.out, "--out")
    save(curves([read_run(path) for path in find_runs(options.directories)]), out)
    print(out)
    return 0
