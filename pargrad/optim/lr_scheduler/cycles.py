"""Schedules of the rate and, against it, the momentum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pargrad.optim.lr_scheduler.curves import cosine, line
from pargrad.optim.lr_scheduler.scheduler import LRScheduler, check_optimizer, check_positive, per_group
from pargrad.optim.optimizer import Optimizer


class CyclesMomentum(LRScheduler):
    """A schedule that can move the momentum, Adam's first beta, against the rate."""

    def begin_momentum(self, base_momentum: Any, max_momentum: Any, last_epoch: int) -> None:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                f"{type(self).__name__}: {type(self.optimizer).__name__} has no momentum: write cycle_momentum=False"
            )
        self.use_beta1 = "betas" in defaults
        self.base_momentums = per_group("base_momentum", self.optimizer, base_momentum)
        self.max_momentums = per_group("max_momentum", self.optimizer, max_momentum)
        if last_epoch == -1:
            for group, base, most in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self.set_momentum(group, most)
                group["max_momentum"], group["base_momentum"] = most, base

    def set_momentum(self, group: dict[str, Any], momentum: float) -> None:
        if self.use_beta1:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


class CyclicLR(CyclesMomentum):
    """Up from base_lr to max_lr in step_size_up steps and down in step_size_down, again and again.

    mode: "triangular"; "triangular2", half as high each time; "exp_range", gamma^step as high. scale_fn takes the
    mode's place, a function of the cycle's number from 1 or, with scale_mode="iterations", of the step.
    cycle_momentum moves the momentum the other way, from max_momentum to base_momentum and back.
    Smith 2017, arXiv 1506.01186. https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CyclicLR.html
    """

    functions = ("scale_fns",)

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ):
        check_optimizer(self, optimizer)
        check_positive(self, step_size_up=step_size_up)
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ValueError(f"CyclicLR: expected mode 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
        self.optimizer = optimizer
        base_lrs = per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs):
                group["lr"] = rate
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        self.total_size = float(step_size_up + (step_size_up if step_size_down is None else step_size_down))
        self.step_ratio = step_size_up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self.scale_fns = [] if scale_fn is None else [scale_fn]
        self.scale_mode = scale_mode if scale_fn else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.begin_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """How high the triangle is, of the cycle or of the step."""
        if self.scale_fns:
            return self.scale_fns[0](x)
        return {"triangular": 1.0, "triangular2": 2.0 ** (1 - x), "exp_range": self.gamma**x}[self.mode]

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, base, most in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self.set_momentum(group, line(most, base, height))
        return [line(base, most, height) for base, most in zip(self.base_lrs, self.max_lrs)]


class OneCycleLR(CyclesMomentum):
    """One cycle: up from max_lr / div_factor to max_lr, then down to max_lr / div_factor / final_div_factor.

    total_steps, or epochs * steps_per_epoch, is the number of steps; pct_start the part of them that goes up.
    three_phase: down as far as it went up in as many steps, then to the end. cycle_momentum moves the momentum the
    other way, from max_momentum to base_momentum and back. Unlike `CyclicLR` it ends: a step more is refused.
    Smith and Topin 2018, arXiv 1708.07120, with torch's (fastai's) two phases by default.
    https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ):
        check_optimizer(self, optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ValueError(f"OneCycleLR: expected at least one step, got {total_steps!r}")
        check_positive(self, div_factor=div_factor, final_div_factor=final_div_factor)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected pct_start in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: expected anneal_strategy 'cos' or 'linear', got {anneal_strategy!r}")
        self.optimizer = optimizer
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        # Where each phase ends, and which entries of a group it leads from and to.
        up, down = pct_start * total_steps - 1, 2 * pct_start * total_steps - 2
        self.phases = [(up, "initial_lr", "max_lr", "max_momentum", "base_momentum")]
        if three_phase:
            self.phases.append((down, "max_lr", "initial_lr", "base_momentum", "max_momentum"))
            self.phases.append((total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"))
        else:
            self.phases.append((total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum"))
        most = per_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, most):
                first = rate / div_factor
                group.update(initial_lr=first, max_lr=rate, min_lr=first / final_div_factor)
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.begin_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"OneCycleLR: step {self.last_epoch} is after the last of {self.total_steps}")
        i = next((i for i, phase in enumerate(self.phases) if self.last_epoch <= phase[0]), len(self.phases) - 1)
        begin = self.phases[i - 1][0] if i else 0.0
        end, first_lr, last_lr, first_momentum, last_momentum = self.phases[i]
        part = (self.last_epoch - begin) / (end - begin)
        curve = cosine if self.anneal_strategy == "cos" else line
        if self.cycle_momentum:
            for group in self.optimizer.param_groups:
                self.set_momentum(group, curve(group[first_momentum], group[last_momentum], part))
        return [curve(group[first_lr], group[last_lr], part) for group in self.optimizer.param_groups]
