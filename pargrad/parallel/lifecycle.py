"""The trainers of this process: those in the way of another one are closed, and a forked process lets go of all.

A notebook's cell that is run again makes its trainer again, often while the one before is still there: bound to its
name, held by the traceback of an error, or over the same model. And a process that is forked while a trainer is open
has copies of all that leads to the workers, which are not its own.
"""

from __future__ import annotations

import gc
import os
import warnings
import weakref
from pathlib import Path
from typing import Any

from pargrad.nn import Module

ALIVE: weakref.WeakSet[Any] = weakref.WeakSet()  # trainers that were made in this process


def others_of(trainer: Any) -> list[Any]:
    """The other trainers of this process that hold something: workers, a model, a run directory."""
    others = [other for other in ALIVE if other is not trainer and other.holds_something()]
    if others:
        gc.collect()  # some may be held by nothing but a cycle, and are closed by this
    return [other for other in others if other.holds_something()]


def make_way_for_directory(trainer: Any, run_dir: Any) -> None:
    """Closes a trainer of this process that has this run directory; it writes its last checkpoint.

    One in the middle of a fit is left alone, and the new one refused, as it is where another process has the directory.
    """
    for other in [] if run_dir is None else others_of(trainer):
        if other.record is not None and other.record.directory.path.resolve() == Path(run_dir).resolve():
            end(other, f"has the run directory {run_dir}")


def make_way(trainer: Any) -> None:
    """Closes trainers whose model this one is about to train, and those that an error left in the middle of a fit.

    Scoring alone takes no model away from the trainer that has it.
    """
    own = set() if trainer.optimizer is None else {id(p) for p in Module.parameters(trainer.model)}
    for other in others_of(trainer):
        if other.pool is None:
            continue
        if not own.isdisjoint(id(p) for p in Module.parameters(other.model)):
            end(other, "has the model")
        elif other.begun is not None and not other.busy and other.num_workers:
            end(other, "was left in the middle of a fit")


def end(trainer: Any, what: str) -> None:
    if trainer.busy:
        raise RuntimeError(f"another trainer {what}, and is in the middle of a fit: wait until it ends")
    warnings.warn(
        f"another trainer, which was not closed, {what}: it is closed now. Write `with Trainer(...) as trainer:`",
        stacklevel=4,
    )
    trainer.close()


def leave_all() -> None:
    """In a process that was just forked."""
    for trainer in list(ALIVE):
        trainer.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_all)
