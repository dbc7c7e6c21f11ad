"""Where a run is, and what the steps of the epoch under way have come to: plain values that JSON can hold."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from pargrad.parallel.step import StepResult


class Place(NamedTuple):
    """Completed steps, the epoch that the next one belongs to, and the batches of that epoch that are done."""

    steps: int
    epoch: int
    batches: int

    def after(self, count: int, per_epoch: int) -> Place:
        """The place `count` steps later, where an epoch has `per_epoch` of them."""
        batches = self.batches + count
        return Place(self.steps + count, self.epoch + batches // per_epoch, batches % per_epoch)

    def end(self, last_epoch: int | None, last_step: int | None, per_epoch: int) -> Place:
        """Where a fit that begins here ends."""
        counts = [] if last_step is None else [last_step - self.steps]
        if last_epoch is not None:
            counts.append((last_epoch - self.epoch) * per_epoch - self.batches)
        return self.after(max(0, min(counts)), per_epoch)


class Tally(NamedTuple):
    """What the steps after `before`, up to `last`, have come to; entry: which entry of the history it will be.

    total, divisor: of those that had an effect.
    """

    entry: int
    epoch: int
    before: int
    last: int
    total: float = 0.0
    divisor: float = 0.0
    examples: int = 0
    seconds: float = 0.0

    def plus(self, result: StepResult) -> Tally:
        counts = result.without_effect is None
        return self._replace(
            last=result.number,
            total=self.total + (result.loss * result.divisor if counts else 0.0),
            divisor=self.divisor + (result.divisor if counts else 0.0),
            examples=self.examples + result.examples,
        )

    def figures(self) -> dict[str, Any]:
        """The entry of the history."""
        return {
            "epoch": self.epoch,
            "loss": self.total / self.divisor if self.divisor else math.nan,
            "steps": self.last - self.before,
            "seconds": self.seconds,
            "samples_per_second": self.examples / self.seconds if self.seconds else 0.0,
        }
