"""Tables as commands print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNKNOWN, NONE = "-", "."


def shown(value: Any, form: str = "{}") -> str:
    return UNKNOWN if value is None else form.format(value)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of columns, numbers to the right."""
    columns = list(zip(headings, *rows))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(is_number(cell) for cell in column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric)
        ).rstrip()

    return "\n".join(map(line, (headings, *rows)))


def is_number(cell: str) -> bool:
    return cell in (UNKNOWN, NONE) or cell.replace(",", "").replace(".", "").replace("%", "").isdigit()
