"""A tensor's text, as torch prints it: four digits, one width for all elements, the middle of a large one left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

DIGITS, LINE, EDGE, LIMIT = 4, 80, 3, 1000


def elements(array: np.ndarray, indent: int) -> str:
    """The elements in brackets, the lines after the first indented below the first bracket."""
    if not array.size:
        return "[]"
    short = array.size > LIMIT
    shown = array
    for axis, size in enumerate(array.shape):
        if short and size > 2 * EDGE:
            shown = shown.take([*range(EDGE), *range(size - EDGE, size)], axis)
    write, width = writer(shown)
    values = shown.reshape(-1).tolist()
    return nested(array.shape, iter([write(value) for value in values]), indent, short, width)


def complex_writer(array: np.ndarray) -> tuple[Callable[[complex], str], int]:
    """Both parts by themselves, of which the second is not filled up to its width."""
    (real, real_width), (imag, imag_width) = writer(array.real), writer(array.imag)

    def plain(value: complex) -> str:
        second = imag(value.imag).lstrip()
        return real(value.real) + ("" if second[0] == "-" else "+") + second + "j"

    return plain, real_width + imag_width + 1


def writer(array: np.ndarray) -> tuple[Callable[[Any], str], int]:
    """How each element of an array is written, so that all are equally wide, and how wide that is."""
    if array.dtype.kind == "c":
        return complex_writer(array)
    values = array.reshape(-1).tolist()
    if array.dtype.kind != "f":
        width = max(len(str(value)) for value in values)
        return lambda value: str(value).rjust(width), width
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    low, high = (min(sizes), max(sizes)) if sizes else (1.0, 1.0)
    whole = all(size == math.ceil(size) for size in sizes)
    if high / low > 1000 or high > 1e8 or low < 1e-4:
        pattern = f".{DIGITS}e"
    else:
        pattern = ".0f" if whole else f".{DIGITS}f"

    def plain(value: float) -> str:
        # A whole number keeps its point, which says that it is a float.
        return format(value, pattern) + ("." if pattern == ".0f" and math.isfinite(value) else "")

    # Zeros and what is not finite take the width of the others and do not set it.
    width = max((len(plain(value)) for value in values if math.isfinite(value) and value), default=1)
    return lambda value: plain(value).rjust(width), width


def nested(shape: tuple[int, ...], words: object, indent: int, short: bool, width: int) -> str:
    """The words, which an iterator gives in order, in the brackets of a shape."""
    if not shape:
        return next(words)  # type: ignore[call-overload]
    cut = short and shape[0] > 2 * EDGE
    parts = [nested(shape[1:], words, indent + 1, short, width) for _ in range(2 * EDGE if cut else shape[0])]
    if len(shape) > 1:
        if cut:
            parts.insert(EDGE, "...")
        return "[" + ("," + "\n" * (len(shape) - 1) + " " * (indent + 1)).join(parts) + "]"
    a_line = max(1, (LINE - indent) // (width + 2))
    if cut:
        parts.insert(EDGE, " ...")
    lines = [", ".join(parts[i : i + a_line]) for i in range(0, len(parts), a_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def call(name: str, array: np.ndarray, named: list[str]) -> str:
    """`name(elements, named, ...)`, the named parts on a line of their own where the last one is full."""
    indent = len(name) + 1
    text = f"{name}({elements(array, indent)}"
    for word in named:
        last = len(text) - text.rfind("\n") - 1
        # torch counts two more on the line of the elements, and its lines are kept.
        full = last + len(word) + (4 if word is named[0] else 2) > LINE
        text += ",\n" + " " * indent + word if full else ", " + word
    return text + ")"
