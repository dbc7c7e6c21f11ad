"""What a run shows: one bar on a terminal or in a notebook, plain lines elsewhere, nothing when told so."""

from __future__ import annotations

import sys
import time
from typing import Any

CHOICES = ("auto", "bar", "lines", "off")
LINE_SECONDS = 10.0  # between two lines of one epoch where there is no terminal


class Progress:
    """A bar over `total` examples."""

    def __init__(self, choice: str, title: str, total: int):
        self.title = title
        self.total = total
        self.done = 0
        self.started = self.last_line = time.monotonic()
        interactive = sys.stderr.isatty() or "ipykernel" in sys.modules
        self.style = choice if choice != "auto" else "bar" if interactive else "lines"
        self.bar: Any = None
        if self.style == "bar":
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=title, unit=" examples", unit_scale=True, leave=False, dynamic_ncols=True)

    def advance(self, examples: int, **figures: Any) -> None:
        self.done += examples
        now = time.monotonic()
        if self.bar is not None:
            # Writing the figures costs more than a small step: only when the bar is about to be drawn anyway.
            if figures and now - self.last_line > 0.1:
                self.last_line = now
                self.bar.set_postfix(figures, refresh=False)
            self.bar.update(examples)
        elif self.style == "lines" and now - self.last_line > LINE_SECONDS:
            self.last_line = now
            rate = self.done / (now - self.started)
            told = "".join(f", {name} {value}" for name, value in figures.items())
            say(f"{self.title}: {self.done:,} of {self.total:,} examples, {rate:,.0f} a second{told}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def say(line: str) -> None:
    """One line for people, past any bar."""
    print(line, file=sys.stderr, flush=True)


def check_choice(choice: str) -> str:
    if choice not in CHOICES:
        raise ValueError(f"expected progress to be one of {', '.join(map(repr, CHOICES))}, got {choice!r}")
    return choice
