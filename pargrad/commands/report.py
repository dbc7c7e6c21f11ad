"""`pargrad report`: a run as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pargrad.commands.options import POSITIONAL

HELP = "write a run as one HTML page"
EXAMPLES = """\
  pargrad report runs/first                              into report.html
  pargrad report runs/first --out first.html\
"""


@dataclass
class Options:
    """Write a run as one HTML page: curves, epochs, options, phases, checkpoints, and what went wrong.

    The page needs no other file, no network and no JavaScript.

    Args:
        directory: a run directory, also of a run that is under way
        out: the file to write
    """

    directory: str = field(metadata=POSITIONAL)
    out: str = "report.html"


def run(options: Options) -> int:
    from pargrad.reporting.figures import check_folder
    from pargrad.reporting.page import page
    from pargrad.reporting.runs import read_run

    check_folder(options.out, "--out")
    Path(options.out).write_text(page(read_run(options.directory)), encoding="utf-8")
    print(options.out)
    return 0
