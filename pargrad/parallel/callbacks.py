"""Callbacks: what else is done at the moments of a run, and a few that are often wanted.

A callback is given to `Trainer(callbacks=(...,))` and is called in the driver, in the order given. What it raises ends
`fit` with everything in place: the steps that were done are counted, and another `fit` goes on. `trainer.stop()` ends
`fit` in order: no further step is sent, those that were sent are done and counted, and history, schedule and checkpoint
are those of a `fit` that was asked for so many steps.

Steps are usually sent to the workers before those ahead of them are done. Where a callback has an `on_step_end` of its
own they are sent one by one, so that what it does and whether it stops is the same for every number of workers; one
that says `runs_ahead = True` does without that, is not slowed, and may see a step when later ones are done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Any

from pargrad.parallel.checkpoints import step_name
from pargrad.parallel.step import Step, StepResult

MODES = ("min", "max")


class Callback:
    """Does nothing at every moment: a callback of one's own has the methods of those that it is about.

    Best checkpoints need none: a run directory keeps the one after which the validation loss was the lowest.
    """

    runs_ahead = False
    spans: str | None = None  # a folder into which every process is to write what it spends its steps on, see `spans`

    def on_fit_start(self, trainer: Any) -> None:
        """The workers are there, and no step of this `fit` is done."""

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        """A step is done: result has its number (from 1), epoch, loss, divisor, examples, norm, lr of each group."""

    def on_evaluation_end(self, trainer: Any, results: dict[str, Any]) -> None:
        """A data set has been evaluated, in `fit` or by `evaluate` and `score`: results as `evaluate` gives them."""

    def on_epoch_end(self, trainer: Any, entry: dict[str, Any]) -> None:
        """An epoch, or the part of it that was asked for, is in the history: entry is its last one."""

    def on_checkpoint(self, trainer: Any, path: Any) -> None:
        """A checkpoint is whole, in the folder `path`: it was written beside the run, some steps ago."""

    def on_worker_lost(self, trainer: Any, message: str) -> None:
        """A worker was lost, which message describes; the others have taken over what it had to do."""

    def on_fit_end(self, trainer: Any) -> None:
        """`fit` is about to return, as it ends without an error; its last checkpoint is written."""


class Callbacks:
    """A trainer's callbacks, and what they were told already."""

    def __init__(self, callbacks: Any):
        wrong = (
            [callbacks]
            if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable)
            else [each for each in callbacks if not isinstance(each, Callback)]
        )
        if wrong:
            raise TypeError(
                f"expected callbacks to be a tuple of pargrad.parallel.Callback, got {wrong[0]!r}: write "
                "callbacks=(EarlyStopping(),), or a subclass of Callback of your own"
            )
        self.all: tuple[Callback, ...] = tuple(callbacks)
        after_steps = [each for each in self.all if type(each).on_step_end is not Callback.on_step_end]
        self.one_by_one = not all(each.runs_ahead for each in after_steps)
        self.losses = 0  # of workers, that were told
        self.saved: int | None = None  # the step of the last checkpoint that was told

    def __bool__(self) -> bool:
        return bool(self.all)

    @property
    def spans(self) -> str | None:
        return next((each.spans for each in self.all if each.spans is not None), None)

    def tell(self, moment: str, trainer: Any, *what: Any) -> None:
        for callback in self.all:
            getattr(callback, moment)(trainer, *what)

    def fit_start(self, trainer: Any) -> None:
        if not self.all:
            return
        if self.saved is None and trainer.record is not None:
            self.saved = trainer.record.directory.saved  # what was there before is no news
        self.tell("on_fit_start", trainer)

    def step_end(self, trainer: Any, result: StepResult) -> None:
        self.news(trainer)
        self.tell("on_step_end", trainer, result)

    def fit_end(self, trainer: Any) -> None:
        if self.all:
            self.news(trainer)
            self.tell("on_fit_end", trainer)

    def news(self, trainer: Any) -> None:
        """What has happened beside the steps since the last time."""
        lost = trainer.pool.lost
        while self.losses < len(lost):
            self.losses += 1
            self.tell("on_worker_lost", trainer, lost[self.losses - 1])
        if trainer.record is not None and self.saved != trainer.record.directory.saved:
            self.saved = trainer.record.directory.saved
            self.tell("on_checkpoint", trainer, trainer.record.directory.folder / step_name(self.saved))


class OneByOne:
    """Steps of which the next one is there when the one before it is done: until then there are none."""

    def __init__(self, steps: Iterator[Step], trainer: Any):
        self.steps = steps
        self.trainer = trainer
        self.handed = 0  # the number of the last one

    def __iter__(self) -> OneByOne:
        return self

    def __next__(self) -> Step:
        if self.trainer.tally.last < self.handed:
            raise StopIteration
        step = next(self.steps)
        self.handed = step.number
        return step


class EarlyStopping(Callback):
    """Stops when what is monitored has not become better for `patience` epochs.

    monitor: a key of the history's entries. mode: whether "min" or "max" is better; None: "min" for what ends in
    "loss" or "error", else "max". min_delta: by how much it must be better to count. keep_best: `best_state` is then
    the model's state_dict after the best epoch, to be loaded when the trainer is closed.

    It looks at the history alone, so a resumed run stops where the unbroken one would have.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str | None = None,
        keep_best: bool = False,
    ):
        if mode not in (None, *MODES):
            raise ValueError(f"expected mode to be 'min', 'max' or None, got {mode!r}")
        if not isinstance(patience, int) or patience < 1:
            raise ValueError(f"expected patience of at least 1 epoch, got {patience!r}")
        if min_delta < 0:
            raise ValueError(f"expected min_delta of at least 0, got {min_delta!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.sign = 1 if (mode or ("min" if monitor.endswith(("loss", "error")) else "max")) == "min" else -1
        self.keep_best = keep_best
        self.best_state: dict[str, Any] | None = None
        self.first = 0  # entry of the history that counts

    def on_fit_start(self, trainer: Any) -> None:
        # A resumed fit goes on with its own entries; one after it begins anew.
        self.first = 0 if trainer.resumed else len(trainer.history)
        if self.since_best(trainer) >= self.patience:
            trainer.stop()

    def on_epoch_end(self, trainer: Any, entry: dict[str, Any]) -> None:
        if trainer.batches > 0 and self.monitor not in entry:
            return  # cut short, and so not evaluated
        if not isinstance(entry.get(self.monitor), int | float):
            raise ValueError(
                f"EarlyStopping(monitor={self.monitor!r}): the history has {', '.join(entry)}. Give fit a validation "
                "set, or monitor a number among these"
            )
        since = self.since_best(trainer)
        if since == 0 and self.keep_best:
            self.best_state = {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}
        if since >= self.patience:
            trainer.stop()

    def since_best(self, trainer: Any) -> int:
        """How many epochs ago the best one was; nan is never better."""
        values = [entry[self.monitor] for entry in trainer.history[self.first :] if self.monitor in entry]
        best, best_at = math.inf, 0
        for i, value in enumerate(values):
            if self.sign * value < best - self.min_delta:
                best, best_at = self.sign * value, i
        return len(values) - 1 - best_at


class LearningRateLogger(Callback):
    """Notes the learning rate of every step in `rates`, as (step, rate), and that of its end in an epoch's entry, "lr".

    Where parameter groups have different rates, a list of them.
    """

    runs_ahead = True

    def __init__(self) -> None:
        self.rates: list[tuple[int, Any]] = []

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        rates = list(dict.fromkeys(result.lr))
        self.rates.append((result.number, rates[0] if len(rates) == 1 else rates))

    def on_epoch_end(self, trainer: Any, entry: dict[str, Any]) -> None:
        if self.rates:
            entry["lr"] = self.rates[-1][1]


class TimeLimit(Callback):
    """Stops `fit` after so many seconds: after the step that is under way, with its checkpoint where there are any."""

    runs_ahead = True

    def __init__(self, seconds: float):
        if not seconds > 0:
            raise ValueError(f"expected a time limit above 0 seconds, got {seconds!r}")
        self.seconds = seconds
        self.deadline = math.inf

    def on_fit_start(self, trainer: Any) -> None:
        self.deadline = time.monotonic() + self.seconds

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        if time.monotonic() >= self.deadline:
            trainer.stop()
