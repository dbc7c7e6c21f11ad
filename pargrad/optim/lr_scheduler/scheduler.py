"""What schedules are made of."""

from __future__ import annotations

from collections.abc import Sequence
from types import FunctionType
from typing import Any, ClassVar

from pargrad.optim.optimizer import Optimizer


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value a group, from one for all or a list of them."""
    count = len(optimizer.param_groups)
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ValueError(f"expected one {name} for each of {count} parameter groups, got {len(values)}")
    return values


def check_optimizer(schedule: Any, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(schedule).__name__}: expected an optimizer, got {type(optimizer).__name__}")


def check_positive(schedule: Any, **lengths: float) -> None:
    """Refuses what epochs are divided by where it is not above 0."""
    for name, length in lengths.items():
        if not length > 0:
            raise ValueError(f"{type(schedule).__name__}: expected {name} greater than 0, got {length!r}")


class LRScheduler:
    """The base of schedules: a subclass says in `get_lr` what the rates are at `self.last_epoch`.

    `base_lrs` are the rates at the beginning, kept in the groups as "initial_lr". last_epoch: -1 for a beginning,
    else the last step taken by the schedule that this one goes on from.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LRScheduler.html
    """

    functions: ClassVar[tuple[str, ...]] = ()  # attributes that are lists of functions, which no file can hold
    _get_lr_called_within_step = True  # what subclasses written for torch ask, before they warn
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        check_optimizer(self, optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{type(self).__name__}: parameter group {i} has no 'initial_lr', which last_epoch={last_epoch} "
                    "goes on from: load the optimizer's state_dict first, or leave last_epoch out"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self) -> list[float]:
        """The rates at `last_epoch`."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that the last step wrote."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Writes the next rates, or those of an epoch, into the optimizer's groups."""
        self._step_count += 1
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed_form = getattr(self, "_get_closed_form_lr", None)
        self.write(self.get_lr() if epoch is None or closed_form is None else closed_form())

    def write(self, rates: Sequence[float]) -> None:
        """Writes a rate into each group."""
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate
        self._last_lr = self.current()

    def current(self, factor: float = 1.0) -> list[float]:
        """The rates that the groups have, times a factor."""
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """All but the optimizer and functions; of objects that are called like functions, their attributes."""
        state = {key: value for key, value in vars(self).items() if key != "optimizer"}
        for name in self.functions:
            state[name] = [None if isinstance(f, FunctionType) else dict(vars(f)) for f in state[name]]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        vars(self).update({key: value for key, value in state_dict.items() if key not in self.functions})
        for name in self.functions:
            for function, state in zip(getattr(self, name), state_dict.get(name, ())):
                if state is not None:
                    vars(function).update(state)
