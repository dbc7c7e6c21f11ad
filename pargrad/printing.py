"""A tensor's text, as torch prints it: four digits, one width for all elements, the middle of a large one left out.

`set_printoptions` changes how many digits, what is left out, and how long a line is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = ["set_printoptions"]


@dataclass(frozen=True)
class Options:
    """threshold: more elements than this are not all shown, but edgeitems at both ends of each dimension.

    sci_mode: always or never in powers of ten; None: where sizes differ much.
    """

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {
    "default": Options(),
    "short": Options(precision=2, edgeitems=2),
    "full": Options(threshold=math.inf),
}
options = Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """How tensors are printed from now on; what is None stays, but for sci_mode, which is then chosen each time.

    profile: "default", "short" or "full", which the others are changes of.
    https://docs.pytorch.org/docs/stable/generated/torch.set_printoptions.html
    """
    global options
    if profile is not None and profile not in PROFILES:
        raise ValueError(f"set_printoptions: expected a profile of {[*PROFILES]}, got {profile!r}")
    given: dict[str, Any] = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    options = replace(options if profile is None else PROFILES[profile], **changed, sci_mode=sci_mode)


def elements(array: np.ndarray, indent: int) -> str:
    """The elements in brackets, the lines after the first indented below the first bracket."""
    if not array.size:
        return "[]"
    short = array.size > options.threshold
    shown = array
    for axis, size in enumerate(array.shape):
        if short and size > 2 * options.edgeitems:
            shown = shown.take([*range(options.edgeitems), *range(size - options.edgeitems, size)], axis)
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
    uneven = high / low > 1000 or high > 1e8 or low < 1e-4
    if uneven if options.sci_mode is None else options.sci_mode:
        pattern = f".{options.precision}e"
    else:
        pattern = ".0f" if whole else f".{options.precision}f"

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
    edge = options.edgeitems
    cut = short and shape[0] > 2 * edge
    parts = [nested(shape[1:], words, indent + 1, short, width) for _ in range(2 * edge if cut else shape[0])]
    if len(shape) > 1:
        if cut:
            parts.insert(edge, "...")
        return "[" + ("," + "\n" * (len(shape) - 1) + " " * (indent + 1)).join(parts) + "]"
    a_line = max(1, (options.linewidth - indent) // (width + 2))
    if cut:
        parts.insert(edge, " ...")
    lines = [", ".join(parts[i : i + a_line]) for i in range(0, len(parts), a_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def call(name: str, array: np.ndarray, named: list[str]) -> str:
    """`name(elements, named, ...)`, the named parts on a line of their own where the last one is full."""
    indent = len(name) + 1
    text = f"{name}({elements(array, indent)}"
    for word in named:
        last = len(text) - text.rfind("\n") - 1
        # torch counts two more on the line of the elements, and its lines are kept.
        full = last + len(word) + (4 if word is named[0] else 2) > options.linewidth
        text += ",\n" + " " * indent + word if full else ", " + word
    return text + ")"
