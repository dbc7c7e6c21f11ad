"""A learning-rate schedule in the trainer: it runs ahead with the steps that are sent, and comes back to those done.

Steps are handed to the workers before the ones before them are done, each with its own learning rates, so the
schedule is moved when a step is handed out. What it was after each step is kept until that step is known to be done:
after an error, schedule and rates are those of the last completed step.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

from pargrad.optim import Optimizer
from pargrad.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

PER = ("epoch", "step")


class Schedule:
    """What the trainer does with a scheduler, and with none."""

    def __init__(self, scheduler: Any, per: str, optimizer: Optimizer | None):
        if per not in PER:
            raise ValueError(f"expected schedule_per to be 'epoch' or 'step', got {per!r}")
        if scheduler is not None and not hasattr(scheduler, "step"):
            raise TypeError(
                f"expected a scheduler such as optim.lr_scheduler.StepLR(optimizer, 10), got {type(scheduler).__name__}"
            )
        if scheduler is not None and getattr(scheduler, "optimizer", optimizer) is not optimizer:
            raise ValueError("the scheduler has another optimizer than the trainer: write StepLR(optimizer, ...)")
        if per == "step" and isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError("ReduceLROnPlateau looks at the loss of an epoch: leave schedule_per='epoch'")
        self.scheduler: LRScheduler | Any = scheduler
        self.optimizer = optimizer
        self.every_step = per == "step" and scheduler is not None
        self.taken: deque[tuple[int, Any]] = deque()  # (steps, what it was after them)

    def begin(self, steps: int) -> None:
        """Before steps are handed out."""
        self.taken.clear()
        if self.every_step:
            self.taken.append((steps, self.state()))

    def after_step(self, number: int) -> None:
        """When a step has been handed out."""
        if self.every_step:
            self.scheduler.step()
            self.taken.append((number, self.state()))

    def settle(self, steps: int) -> None:
        """So many steps are done: what was handed out beyond them was not."""
        if self.taken and self.taken[-1][0] == steps - 1:  # which was done before the next one was asked for
            self.after_step(steps)
        while self.taken and self.taken[0][0] < steps:
            self.taken.popleft()
        # After a loss of workers more may turn out to be done, when the trainer is closed: it is then asked again.
        if self.taken and self.taken[0][0] == steps:
            self.load(self.taken[0][1])

    def after_epoch(self, results: dict[str, Any]) -> None:
        """When an epoch is done: results are its entry in the history."""
        if self.scheduler is None or self.every_step:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(results.get("validation_loss", results["loss"]))
        else:
            self.scheduler.step()

    def state(self) -> Any:
        """The scheduler's state and the groups' options."""
        groups = [] if self.optimizer is None else self.optimizer.param_groups
        options = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        return copy.deepcopy((self.scheduler.state_dict(), options))

    def load(self, state: Any) -> None:
        held, options = copy.deepcopy(state)
        self.scheduler.load_state_dict(held)
        assert self.optimizer is not None
        for group, given in zip(self.optimizer.param_groups, options):
            group.update(given)
