"""What all figures share: matplotlib where it is installed, one look, and where they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FORMATS = (".png", ".svg", ".pdf")
INK, FAINT = "#24292f", "#d8dee4"
# Okabe and Ito's colours, which people tell apart whatever colours they see.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LOOK = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "pargrad",  # the same figure is the same file
}


def matplotlib() -> Any:
    """The module, or ValueError with how to get it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ValueError('matplotlib, which draws, is not installed: pip install "pargrad[plot]"') from error
    return matplotlib


def check_picture(path: str | Path, flag: str) -> Path:
    """The path of a figure that is to be written, before anything is computed for it."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{flag} {path}: expected a name that ends in {', '.join(FORMATS)}")
    return check_folder(path, flag)


def check_folder(path: str | Path, flag: str) -> Path:
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{flag} {path}: there is no directory {path.absolute().parent}")
    return path


def save(figure: Any, path: str | Path) -> None:
    """Writes a figure in the format that the path's ending names; without a date, so that it is the same each time."""
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib().rc_context(LOOK):
        figure.savefig(path, dpi=160, metadata=undated.get(Path(path).suffix.lower()))
