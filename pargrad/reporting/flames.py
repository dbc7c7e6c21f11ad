"""Flame graphs: folded stacks as an SVG, in which a frame is as wide as it was often seen. No JavaScript.

After Brendan Gregg's (https://www.brendangregg.com/flamegraphs.html), with the outermost frame at the top.
"""

from __future__ import annotations

import hashlib
import html
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

WIDTH, ROW, MARGIN, TOP = 1400.0, 18.0, 10.0, 46.0  # pixels
NARROWEST, LETTER = 0.4, 6.3  # of a frame that is drawn, and of a letter
# Hue, saturation and lightness: of pargrad's own frames, numpy's, and all others.
OWN, NUMPY, OTHERS = (205, 62, 62), (32, 85, 64), (220, 8, 78)

Stacks = dict[tuple[str, ...], int]


class Frame(NamedTuple):
    """A rectangle: its place in the stack, how many samples begin before it, and its own."""

    name: str
    depth: int
    start: int
    samples: int


def read_folded(lines: Iterable[str]) -> Stacks:
    """Stacks by their frames, the outermost first; those that are there twice are added."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        stack, _, count = line.rstrip().rpartition(" ")
        if not stack or not count.isdigit():
            raise ValueError(f"line {number} is no folded stack, frames and a count: {line.rstrip()[:80]!r}")
        stacks[tuple(stack.split(";"))] += int(count)
    return dict(stacks)


def frames(stacks: Stacks) -> Iterator[Frame]:
    """Every frame of the graph. Stacks that begin alike share the frames in which they are alike."""
    ordered = sorted(stacks.items())
    opened: list[tuple[str, int]] = []  # names and starts of the frames that the last stack had
    seen = 0
    for stack, count in [*ordered, ((), 0)]:
        alike = 0
        while alike < min(len(opened), len(stack)) and opened[alike][0] == stack[alike]:
            alike += 1
        while len(opened) > alike:
            name, start = opened.pop()
            yield Frame(name, len(opened), start, seen - start)
        opened += [(name, seen) for name in stack[alike:]]
        seen += count


def flame_graph(stacks: Stacks, title: str) -> str:
    """The SVG's text. Raises ValueError where there is no sample."""
    samples = sum(stacks.values())
    if not samples:
        raise ValueError("there is nothing to draw: no sample was taken. Let the command run longer")
    scale = (WIDTH - 2 * MARGIN) / samples
    drawn = [frame for frame in frames(stacks) if frame.samples * scale >= NARROWEST]
    height = TOP + ROW * (1 + max(frame.depth for frame in drawn)) + MARGIN
    body = "\n".join(drawing(frame, scale, samples) for frame in sorted(drawn, key=lambda each: each[1:3]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" width="100%" '
        f'font-family="ui-monospace, monospace" font-size="10.5">\n'
        f"<style>rect {{ stroke: #ffffff; stroke-width: 0.6 }} g:hover rect {{ stroke: #24292f }}</style>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f'<text x="{MARGIN:g}" y="20" font-family="system-ui, sans-serif" font-size="15" font-weight="bold">'
        f"{html.escape(title)}</text>\n"
        f'<text x="{MARGIN:g}" y="37" font-family="system-ui, sans-serif" font-size="11.5" fill="#59636e">'
        f"{samples:,} samples; blue: pargrad, orange: numpy; the pointer shows a frame's whole name</text>\n"
        f"{body}\n</svg>\n"
    )


def drawing(frame: Frame, scale: float, samples: int) -> str:
    x, y, width = MARGIN + frame.start * scale, TOP + frame.depth * ROW, frame.samples * scale
    told = html.escape(f"{frame.name}: {frame.samples:,} samples, {frame.samples / samples:.1%}")
    label = shortened(frame.name, int((width - 6) / LETTER))
    text = f'<text x="{x + 3:.1f}" y="{y + 12.5:.1f}">{html.escape(label)}</text>' if label else ""
    return (
        f'<g><title>{told}</title><rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{ROW - 1:g}" rx="1.5" '
        f'fill="{colour(frame.name)}"/>{text}</g>'
    )


def shortened(name: str, letters: int) -> str:
    """As much of a name as there is room for: without its file, or its beginning; nothing where that says nothing."""
    if len(name) > letters:
        name = name.partition(" (")[0]
    return name if len(name) <= letters else f"{name[: letters - 1]}…" if letters > 3 else ""


def colour(name: str) -> str:
    """One for each name, near to the others of its kind."""
    hue, saturation, lightness = OWN if "pargrad" in name else NUMPY if "numpy" in name else OTHERS
    shade = hashlib.md5(name.encode(), usedforsecurity=False).digest()[0] % 14
    return f"hsl({hue + shade - 7}, {saturation}%, {lightness + shade}%)"
