"""What a trainer writes into its run directory, and how it takes a checkpoint up again.

A run is resumed only as what it was. Seed, shards, batch size, model, data and kind of optimizer make its bits: another
one is refused. Options of the optimizer, schedule and clipping may be changed, when that is said. The rest may change.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from pargrad.data import Data
from pargrad.nn import Module
from pargrad.parallel import checkpoints
from pargrad.parallel.arena import Arena, Layout
from pargrad.parallel.checkpoints import Checkpoint, differences
from pargrad.parallel.errors import CheckpointError
from pargrad.parallel.progress import say
from pargrad.parallel.run_directory import RunDirectory
from pargrad.parallel.step import Step, StepResult, make_layout
from pargrad.parallel.tally import Place, Tally
from pargrad.serialization import Reader, Writer
from pargrad.version import __version__


def make_record(
    trainer: Any, run_dir: Any, resume: Any, override: bool, steps: int | None, minutes: float | None, keep: int
) -> Record | None:
    """The record of a trainer with a run directory, which has then gone on from its checkpoint."""
    if run_dir is None:
        if resume != "auto" or override or steps is not None:
            raise ValueError("resume, override and checkpoint_steps need a run_dir: write Trainer(..., run_dir=...)")
        return None
    if trainer.optimizer is None:
        raise ValueError("a run_dir is for training, which needs an optimizer")
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 1):
        raise ValueError(f"expected checkpoint_steps of at least 1 (or None), got {steps!r}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"expected checkpoint_minutes above 0 (or None), got {minutes!r}")
    if not isinstance(keep, int) or keep < 1:
        raise ValueError(f"expected keep_checkpoints of at least 1, got {keep!r}")
    return Record(trainer, run_dir, str(resume), override, steps, minutes, keep)


class Record:
    """Checkpoints and metrics of one trainer."""

    def __init__(
        self, trainer: Any, run_dir: Any, resume: str, override: bool, steps: int | None, minutes: float | None,
        keep: int,
    ):  # fmt: skip
        self.trainer = trainer
        self.given = self.changeable()  # as the program gave them: a schedule changes some of them later
        encoded(self.given)
        self.data: dict[str, Any] | None = None
        self.held: tuple[int, Any] | None = None
        self.rates: dict[int, list[Any]] = {}  # of the steps under way
        self.pool: Any = None  # of the steps that are counted
        self.losses = 0  # of its workers, that have a line
        layout = make_layout(trainer.model, trainer.optimizer, trainer.shards, trainer.penalty)
        self.directory = RunDirectory(run_dir, resume, Arena(layout, None).size, steps, minutes, keep)
        try:
            if self.directory.found is not None:
                self.take_up(self.directory.found, layout, override)
                self.directory.found = None  # its arrays are the model's now
        except BaseException:
            self.directory.close()
            raise

    # ----- what a run is -----

    def fixed(self) -> dict[str, Any]:
        """What makes the bits of a run, and cannot be changed in it."""
        trainer = self.trainer
        names = {id(p): name for name, p in Module.named_parameters(trainer.model)}
        groups = [[names[id(p)] for p in group["params"]] for group in trainer.optimizer.param_groups]
        return {
            "seed": trainer.seed,
            "shards": trainer.shards,
            "batch_size": trainer.batch_size,
            "optimizer": type(trainer.optimizer).__name__,
            "groups": groups,
        }

    def changeable(self) -> dict[str, Any]:
        """What can be changed in a run, when that is said."""
        trainer, scheduler = self.trainer, self.trainer.schedule.scheduler
        groups = trainer.optimizer.param_groups
        options = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        return {
            **{f"group {i}" if len(groups) > 1 else "optimizer": each for i, each in enumerate(options)},
            "scheduler": {} if scheduler is None else {"kind": type(scheduler).__name__, **scheduler.state_dict()},
            "clip_norm": {"": trainer.clip_norm},
            "non_finite": {"": trainer.non_finite},
            "penalty": {"": trainer.penalty is not None},
        }

    def state(self) -> dict[str, Any]:
        trainer, tally = self.trainer, self.trainer.tally
        under_way = tally is not None and tally.entry == len(trainer.history) and tally.last > tally.before
        now = self.changeable()
        if under_way and self.held is not None and self.held[0] == tally.entry:
            now = self.held[1]
        return {
            "step": trainer.steps,
            "epoch": trainer.epoch,
            "batches": trainer.batches,
            "examples": trainer.examples,
            **self.fixed(),
            "data": self.data,
            "given": encoded(self.given),
            "now": encoded(now),
            "history": list(trainer.history),  # which goes on while this is written
            "under_way": list(tally) if under_way else None,
            "versions": versions(),
        }

    # ----- going on -----

    def take_up(self, checkpoint: Checkpoint, layout: Layout, override: bool) -> None:
        """Makes the trainer what it was; nothing of it is changed where something does not fit."""
        trainer, state = self.trainer, checkpoint.state
        refuse(checkpoint, differences({name: state.get(name) for name in self.fixed()}, self.fixed()))
        arrays = checkpoints.model_of(checkpoint, layout)
        held = {name: f"{array.shape} {array.dtype.name}" for name, array in arrays.items()}
        refuse(checkpoint, differences(held, checkpoints.layout_of(layout)))
        try:
            given, now = Reader({}).built(state["given"]), Reader({}).built(state["now"])
            states = self.states_of(checkpoint, layout)
            tally = None if state["under_way"] is None else Tally(*map(abs, state["under_way"]))
            values = merged(given, self.given, now)
            history, examples = [dict(entry) for entry in state["history"]], int(state["examples"])
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{checkpoint.path}: it cannot be taken up: {error!r}") from error
        if not override:
            remedy = "write override=True (--override) to go on with the new ones"
            refuse(checkpoint, differences(given, self.given), remedy)
        self.change(values)
        for name, tensor in (*Module.named_parameters(trainer.model), *Module.named_buffers(trainer.model)):
            own = tensor.array if tensor.array.flags.writeable else np.empty_like(tensor.array)
            own[...] = arrays[name]
            tensor.array = own
            tensor.cell[0] += 1
        trainer.optimizer.state.clear()
        trainer.optimizer.state.update(states)
        trainer.steps, trainer.epoch, trainer.batches = (state[name] for name in ("step", "epoch", "batches"))
        trainer.examples, trainer.tally = examples, tally
        trainer.history[:] = history
        trainer.repeated = Place(0, 0, 0)
        self.data = state["data"]
        self.tell(checkpoint)

    def tell(self, checkpoint: Checkpoint) -> None:
        trainer = self.trainer
        if trainer.progress != "off":
            where = f", {trainer.batches} batches into epoch {trainer.epoch + 1}" if trainer.batches else ""
            say(f"{checkpoint.path}: going on after step {trainer.steps}{where}")
        changed = list(differences(checkpoint.state["versions"], versions()))
        if changed:
            say(f"{checkpoint.path}: {', '.join(changed)}: the last bits may be others than those of an unbroken run")

    def states_of(self, checkpoint: Checkpoint, layout: Layout) -> dict[Any, dict[str, Any]]:
        """The optimizer's state by parameter, as its own dict has it."""
        steps = checkpoint.optimizer["steps"]
        if steps.shape != (len(layout.parameters),):
            raise ValueError(f"{steps.shape} step counts of {len(layout.parameters)} parameters")
        parameters = dict(Module.named_parameters(self.trainer.model))
        dtypes = {spec.name: spec.dtype for spec in layout.parameters}
        states: dict[Any, dict[str, Any]] = {
            parameters[spec.name]: {"step": int(count)}
            for spec, count in zip(layout.parameters, steps)
            if count and spec.group >= 0 and parameters[spec.name].numel()
        }
        for key, array in checkpoint.optimizer.items():
            kind, _, name = key.partition("/")
            if name and kind != "buffer":
                p, array = parameters[name], checkpoints.whole_of(array, dtypes[name])
                expected = self.trainer.optimizer.state_shape(kind, p.shape)
                if array.shape != expected or array.dtype != p.dtype:
                    raise ValueError(f"{key} is {array.dtype} of shape {array.shape}, expected {p.dtype} of {expected}")
                states[p][kind] = array.copy()  # what was read cannot be written to
        return states

    def change(self, values: dict[str, Any]) -> None:
        """Puts options of the optimizer, and the state of the schedule, in place."""
        trainer = self.trainer
        groups = trainer.optimizer.param_groups
        for i, group in enumerate(groups):
            group.update(values[f"group {i}" if len(groups) > 1 else "optimizer"])
        scheduler = trainer.schedule.scheduler
        if scheduler is not None:
            scheduler.load_state_dict({name: value for name, value in values["scheduler"].items() if name != "kind"})

    def check_data(self, data: Data) -> None:
        if self.data is not None:
            path = self.directory.path
            refuse_all(path, differences(self.data, checkpoints.fingerprint(data), "data"))

    # ----- while it runs -----

    def begin(self, pool: Any, data: Data) -> None:
        self.data, self.pool = checkpoints.fingerprint(data), pool
        self.directory.metrics.begin(pool.arena.seconds, pool.sent)

    def due(self, step: int) -> bool:
        return self.directory.due(step)

    def hand_out(self, step: Step) -> None:
        """A step is given to the pool, with the learning rates of now."""
        self.rates[step.number] = list(dict.fromkeys(options.get("lr") for options in step.hyperparameters))

    def count(self, result: StepResult) -> None:
        number, rates = result.number, self.rates.get(result.number, [])
        line = {
            "step": number,
            "epoch": result.epoch,
            "loss": result.loss,
            "lr": rates[0] if len(rates) == 1 else rates,
        }
        if result.norm is not None:
            line["gradient_norm"] = result.norm
        if result.without_effect is not None:
            line["without_effect"] = result.without_effect
        lost = self.pool.lost[self.losses :]
        if lost:
            line["workers_lost"] = list(lost)
            self.losses += len(lost)
        self.directory.metrics.add((number, 0), line, result.examples)
        self.rates.pop(number, None)

    def count_evaluation(self, entry: dict[str, Any]) -> None:
        figures = {name: value for name, value in entry.items() if name.startswith("validation_")}
        step = self.trainer.steps
        self.directory.metrics.add((step, 1), {"step": step, "epoch": entry["epoch"], **figures})

    def hold(self) -> None:
        """Before the schedule is moved for an epoch that is not in the history yet: what it is until then."""
        if self.trainer.schedule.scheduler is not None:
            self.held = len(self.trainer.history), Reader({}).built(encoded(self.changeable()))

    def after_epoch(self, pool: Any) -> None:
        """After an epoch that is in the history."""
        entry = self.trainer.history[-1:]
        improves = entry and self.trainer.batches == 0 and self.directory.improves(entry[0])
        if self.directory.due(self.trainer.steps) or (improves and not self.directory.writer.busy):
            self.save(pool)

    def save(self, pool: Any) -> None:
        """Has a checkpoint written of where the pool is, with nothing under way, unless there is one."""
        trainer = self.trainer
        if self.directory.writer.busy or trainer.steps in (0, self.directory.saved):
            self.directory.wait()
        if trainer.steps not in (0, self.directory.saved):
            half = pool.arena.halves[pool.completed % 2]
            self.directory.save(trainer.model, trainer.optimizer, pool.arena.layout, half, self.state())

    def wait(self) -> None:
        self.directory.wait()

    def close(self, pool: Any) -> None:
        """A last checkpoint, where there were steps since the one before."""
        try:
            if pool is not None and self.data is not None:
                self.save(pool)
        finally:
            self.directory.close()


def encoded(value: Any) -> Any:
    """A value for JSON, from which `Reader` makes what it was, with its tuples and keys."""
    writer = Writer()
    try:
        described = writer.described(value, ())
    except TypeError as error:
        raise TypeError(f"options of the optimizer or its schedule cannot be kept in a checkpoint: {error}") from error
    if writer.arrays:
        raise TypeError(
            f"options of the optimizer or its schedule cannot be kept in a checkpoint: {next(iter(writer.arrays))} is "
            "an array"
        )
    return described


def merged(before: dict[str, Any], given: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What the run had come to, but where another value is given than it began with, that one."""
    return {
        name: {
            key: value if key not in before.get(name, {}) or value != before[name][key] else now[name].get(key, value)
            for key, value in options.items()
        }
        for name, options in given.items()
    }


def refuse(checkpoint: Checkpoint, found: Any, remedy: str = "") -> None:
    refuse_all(checkpoint.path, found, remedy)


def refuse_all(path: Any, found: Any, remedy: str = "") -> None:
    """Raises ValueError with the first few of the differences."""
    found = list(found)
    if found:
        more = f", and {len(found) - 4} more" if len(found) > 4 else ""
        raise ValueError(
            f"{path} is of another run: {'; '.join(found[:4])}{more}: "
            f"{remedy or 'keep what was, or take another directory'}"
        )


def versions() -> dict[str, str]:
    return {"pargrad": __version__, "numpy": np.__version__, "python": platform.python_version()}
