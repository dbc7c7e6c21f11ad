"""Schedules made of others."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from pargrad.optim.lr_scheduler.plateau import ReduceLROnPlateau
from pargrad.optim.lr_scheduler.scheduler import LRScheduler
from pargrad.optim.optimizer import Optimizer


class Composite(LRScheduler):
    """A schedule made of others over the same optimizer."""

    def take(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler]) -> None:
        if not schedulers:
            raise ValueError(f"{type(self).__name__}: expected at least one schedule, got none")
        for i, scheduler in enumerate(schedulers):
            if not hasattr(scheduler, "optimizer"):
                raise TypeError(f"{type(self).__name__}: schedule {i} is a {type(scheduler).__name__}")
            if isinstance(scheduler, ReduceLROnPlateau):
                raise ValueError(
                    f"{type(self).__name__}: schedule {i} is ReduceLROnPlateau, whose step needs a metric: call it "
                    "by itself"
                )
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"{type(self).__name__}: schedule {i} is of another optimizer")
        self.optimizer = optimizer
        self._schedulers = schedulers

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {**state, "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"]):
            scheduler.load_state_dict(state)


class SequentialLR(Composite):
    """One schedule after the other: each milestone is the epoch at which the next one begins.

    The next one begins at its own first rate, from the initial one. ValueError unless there is a milestone between each
    two, for schedules of another optimizer, and for ReduceLROnPlateau, whose step needs a metric.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ):
        self.take(optimizer, schedulers)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected {len(schedulers) - 1} milestones between {len(schedulers)} schedules, got "
                f"{len(milestones)}"
            )
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        # Making a schedule takes its first step: all of them are undone, and that of the first one taken again.
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        self.undo(self)
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def undo(self, scheduler: Any) -> None:
        """Takes back the first step of a schedule, and of those that it is made of."""
        for each in scheduler._schedulers:
            if hasattr(each, "_schedulers"):
                self.undo(each)
            else:
                each.last_epoch -= 1

    def step(self) -> None:  # type: ignore[override]
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(Composite):
    """Several schedules at once: each goes on from the rate that the one before it wrote.

    ValueError for schedules of different optimizers, and for ReduceLROnPlateau, whose step needs a metric.

    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ChainedScheduler.html
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None):
        given = optimizer or (schedulers[0].optimizer if schedulers else None)
        self.take(given, schedulers)  # type: ignore[arg-type]
        self._last_lr = self.current()

    def step(self) -> None:  # type: ignore[override]
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self.current()
