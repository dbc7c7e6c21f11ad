"""The Trainer: epochs of data-parallel steps over a model, and its evaluation on the same workers."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from pargrad.data import Data, as_data, epoch_order
from pargrad.nn import Module
from pargrad.optim import Optimizer
from pargrad.parallel import scoring
from pargrad.parallel.arena import Layout
from pargrad.parallel.checkpoints import optimizer_arrays
from pargrad.parallel.cores import available_cores, one_blas_thread
from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.objective import Objective
from pargrad.parallel.pool import Pool, SerialPool, result_of
from pargrad.parallel.progress import Progress, check_choice, say
from pargrad.parallel.record import make_record
from pargrad.parallel.schedule import Schedule
from pargrad.parallel.shards import check_shards
from pargrad.parallel.step import Step, StepResult, Work, make_layout, set_mode
from pargrad.parallel.tally import Place, Tally
from pargrad.tensor import Tensor

# Arguments whose meaning is fixed but whose work is not done yet, with their defaults.
NOT_YET: dict[str, Any] = {
    "metrics": (),
    "callbacks": (),
}


class Trainer:
    """Trains a model data-parallel: the same bits for every number of workers.

    Each batch is cut into `shards`; workers compute the gradients of the shards' summed losses, these are added in
    one fixed tree, divided once by the batch's divisor, and the optimizer steps.

    model: a Module. loss(output, target): one of pargrad's, or any that returns `(sum, divisor)` or one value per
    example; `loss_is="mean over examples"` or `"sum"` explains one that returns a single number.
    step(model, batch) -> (sum, divisor) takes the place of the loss; penalty(model) -> scalar is added once a batch.
    optimizer: an `optim.Optimizer` over the model's parameters; its `state_dict()` is current after `fit`.
    batch_size: examples of one step; the last batch of an epoch may be shorter.
    num_workers: Ray actors, one core each; "auto": the free cores, at most `shards`; 0: this process alone.
    address: "local" starts a Ray for this trainer; "auto" or "host:port" joins one; a Ray that this process has
    already initialised is used as it is.
    scheduler: an `optim.lr_scheduler` of that optimizer; its `step()` is called after each epoch (ReduceLROnPlateau is
    given the validation loss, or the loss), or after each step with schedule_per="step".
    clip_norm: the largest norm of the batch's gradient, as torch's `clip_grad_norm_`.
    seed: of the epochs' orders (torch's randperm seeded seed + epoch) and of what is drawn inside the shards.
    start_timeout: seconds that the workers may take to start. progress: "auto", "bar", "lines" or "off".

    num_workers=(least, most): goes on with fewer than `most`, down to `least`, and takes in more as they come.

    run_dir: a directory for checkpoints and metrics.jsonl (see `checkpoints` and `run_directory`). A checkpoint is
    written beside the run every checkpoint_steps steps and every checkpoint_minutes minutes (None: never), after an
    epoch with the lowest validation loss so far, at the end of `fit`, and by `close` after Ctrl-C or an error; the
    last keep_checkpoints are kept, and the best.
    resume: "auto" goes on from the newest checkpoint in run_dir that verifies, if there are any; "never" refuses a
    run_dir that has some; else it is the path of one. Model and optimizer are those of the checkpoint at once, and the
    program's calls of `fit` are counted from the run's beginning: those that are done already return at once, and the
    one that was interrupted goes on. The result has the bits of a run that was never interrupted, on any number of
    workers. Another model, data, seed, batch_size or shards is refused; other options of the optimizer, the schedule
    or clip_norm need override=True.

    A worker that dies is replaced, and the others take over its shards meanwhile, with the same bits. After more than
    max_failures failures in a row without a completed step the run ends with WorkerLostError; the model then has the
    parameters of the last completed step. Between opening and `close` the model's parameters are read-only memory
    that the workers share.
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer | None,
        *,
        batch_size: int,
        shards: int = 8,
        num_workers: int | str | tuple[int, int] = "auto",
        address: str = "local",
        scheduler: Any = None,
        schedule_per: str = "epoch",
        clip_norm: float | None = None,
        metrics: tuple = (),
        callbacks: tuple = (),
        run_dir: Any = None,
        resume: Any = "auto",
        override: bool = False,
        checkpoint_steps: int | None = None,
        checkpoint_minutes: float | None = 5.0,
        keep_checkpoints: int = 3,
        seed: int = 0,
        max_failures: int = 3,
        start_timeout: float = 60.0,
        progress: str = "auto",
        loss_is: str | None = None,
        step: Callable | None = None,
        penalty: Callable | None = None,
    ):
        given = locals()
        for name, default in NOT_YET.items():
            if given[name] != default:
                raise ValueError(f"Trainer({name}=...) is not there yet: leave it out (got {given[name]!r})")
        if not isinstance(model, Module):
            raise TypeError(f"expected a pargrad.nn.Module to train, got {type(model).__name__}")
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"expected an optimizer such as optim.AdamW(model.parameters()), got {type(optimizer).__name__}"
            )
        if optimizer is not None and optimizer.unit == "closure":
            raise ValueError(
                f"{type(optimizer).__name__} evaluates the loss as often as it likes in each step, and a data-parallel "
                "step computes one gradient: use it in a loop of your own, optimizer.step(closure)"
            )
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"expected batch_size of at least 1, got {batch_size!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"expected clip_norm above 0 (or None), got {clip_norm}")
        self.schedule = Schedule(scheduler, schedule_per, optimizer)
        self.model = model
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.shards = check_shards(shards)
        self.clip_norm = clip_norm
        self.seed = seed
        self.start_timeout = start_timeout
        self.progress = check_choice(progress)
        self.objective = Objective(loss, loss_is, step)
        self.penalty = penalty
        self.address = address
        if not isinstance(max_failures, int) or max_failures < 0:
            raise ValueError(f"expected max_failures of at least 0, got {max_failures!r}")
        self.max_failures = max_failures
        # Scoring alone cuts no batch, so nothing bounds its workers but the cores.
        self.workers = bounds_of_workers(
            num_workers, self.shards if optimizer is not None else None, address, self.progress
        )
        self.num_workers = self.workers.most
        self.history: list[dict[str, Any]] = []
        self.steps = 0  # completed
        self.epoch = 0  # the one that the next step belongs to
        self.batches = 0  # of that epoch that are done
        self.examples = 0  # that it has
        self.tally: Tally | None = None  # of the epoch under way, until it is in the history
        self.begun: tuple[Place, int, int] | None = None  # of steps under way: place, pool's steps, batches an epoch
        self.repeated: Place | None = None  # how far the fits of this program repeat those of a resumed run
        self.pool: Pool | None = None
        self.own: list[tuple[Any, np.ndarray]] = []  # the model's tensors with their own arrays, while it is open
        self.opened_as: Any = None
        self.closed = False
        self.record = make_record(
            self, run_dir, resume, override, checkpoint_steps, checkpoint_minutes, keep_checkpoints
        )

    # ----- what users call -----

    def fit(
        self, data: Any, *, epochs: int | None = None, max_steps: int | None = None, validation: Any = None
    ) -> list[dict[str, Any]]:
        """Trains for `epochs` more epochs, or `max_steps` more steps, whichever ends first.

        In a run that was resumed, what an earlier process has done of it is not done again.

        data: `(x, y)` arrays or a data set. validation: the same, evaluated after each epoch. A second fit goes on
        where this one ended, in the middle of an epoch too. Returns the history: one dict an epoch (or part of one)
        with epoch, loss (its batches' losses, weighted by their divisors; a penalty is part of them), steps, seconds,
        samples_per_second, and validation_loss, validation_accuracy.

        Arrays reach the workers once; large ones are known again by a sample of their rows, so give a new array
        instead of changing a few rows of one that was given before.
        """
        data = check_data(data, self.batch_size)
        if self.repeated is None and self.batches and len(data) != self.examples:
            raise ValueError(
                f"epoch {self.epoch} is under way over {self.examples} examples, got {len(data)}: finish it with the "
                "same data, or make a new trainer"
            )
        validation = None if validation is None else as_data(validation)
        if epochs is None and max_steps is None:
            raise ValueError("fit() needs an end: write epochs=3 or max_steps=1000")
        for name, value in (("epochs", epochs), ("max_steps", max_steps)):
            if value is not None and (not isinstance(value, int) or value < 0):
                raise ValueError(f"fit: expected {name} to be an integer of at least 0, got {value!r}")
        if self.optimizer is None:
            raise ValueError(
                "fit() needs an optimizer: write Trainer(model, loss, optim.AdamW(model.parameters()), ...)"
            )
        place = self.repeated or Place(self.steps, self.epoch, self.batches)
        last_epoch = None if epochs is None else place.epoch + epochs
        last_step = None if max_steps is None else place.steps + max_steps
        if self.repeated is not None and self.is_done(data, last_epoch, last_step):
            return self.history
        self.examples = len(data)
        pool = self.open()
        set_mode(self.model, True)
        if self.record is not None:
            self.record.begin(data)
        with one_blas_thread():
            while True:
                if self.tally is None:
                    if has_come(self.epoch, last_epoch) or has_come(self.steps, last_step):
                        break
                    self.tally = Tally(len(self.history), self.epoch, self.steps, self.steps)
                self.fit_epoch(pool, data, last_step)
                self.end_epoch(pool, validation)
                if self.record is not None:
                    self.record.after_epoch(pool)
        self.publish(pool)
        if self.record is not None:
            self.record.save(pool)
            self.record.wait()
        return self.history

    def evaluate(self, data: Any) -> dict[str, Any]:
        """{"loss", "accuracy" (where the outputs are class scores), "count"} over a data set, each example once."""
        data, pool = as_data(data), self.open()
        with one_blas_thread():
            return scoring.evaluate(pool, data, self.progress)

    def score(self, data: Any, metric: str = "accuracy") -> float:
        """One figure of `evaluate`: "accuracy" or "loss"."""
        scoring.check_metric(metric)
        return scoring.pick_metric(self.evaluate(data), metric)

    def predict(self, data: Any) -> np.ndarray:
        """The model's outputs for a data set, `(x, y)` or `x` alone, in its order."""
        alone = isinstance(data, np.ndarray | Tensor)
        data, pool = as_data((data, np.zeros(len(data), np.int64)) if alone else data), self.open()
        with one_blas_thread():
            return scoring.predict(pool, data, self.progress)

    def close(self) -> None:
        """Ends the workers and gives the model and the optimizer arrays of their own again. May be called again."""
        pool, self.pool, self.closed = self.pool, None, True
        if pool is None:
            if self.record is not None:
                self.record.close(None)
            return
        try:
            pool.close()
        finally:
            pool.replica.select(pool.completed % 2)
            for tensor, own in self.own:
                np.copyto(own, tensor.array)
                tensor.array = own
            self.settle(pool)
            self.publish(pool)
            if self.record is not None:
                self.record.close(pool)

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ----- how it works -----

    def fit_epoch(self, pool: Pool, data: Data, last_step: int | None) -> None:
        """The rest of the epoch under way, up to `last_step`."""
        assert self.tally is not None
        epoch, per_epoch = self.tally.epoch, -(-len(data) // self.batch_size)
        if self.epoch != epoch:
            return  # it was complete before its figures were
        bar = Progress(self.progress, f"epoch {epoch + 1}", len(data) - self.batches * self.batch_size)
        try:
            while self.epoch == epoch and not has_come(self.steps, last_step):
                self.begun = Place(self.steps, self.epoch, self.batches), pool.completed, per_epoch
                self.schedule.begin(self.steps)
                started = time.perf_counter()
                try:
                    for result in pool.run(data, self.steps_of_epoch(len(data), last_step), self.clip_norm):
                        self.count(result)
                        bar.advance(result.examples, loss=f"{result.loss:.4f}", workers=self.num_workers)
                finally:
                    self.settle(pool)
                    self.tally = self.tally._replace(seconds=self.tally.seconds + time.perf_counter() - started)
                self.begun = None
                if self.record is not None and self.epoch == epoch and not has_come(self.steps, last_step):
                    self.record.save(pool)
        finally:
            bar.close()

    def count(self, result: StepResult) -> None:
        """Takes up what a step came to; once, however often it is called."""
        assert self.tally is not None
        if self.record is not None:
            self.record.count(result)
        if result.number > self.tally.last:
            self.tally = self.tally.plus(result)

    def settle(self, pool: Pool) -> None:
        """Where the run is when nothing is under way: not what was reported but what was done, which may be more."""
        if self.begun is None or self.tally is None:
            return
        place, completed, per_epoch = self.begun
        self.steps, self.epoch, self.batches = place.after(pool.completed - completed, per_epoch)
        self.schedule.settle(self.steps)
        for number in range(self.tally.last + 1, self.steps + 1):
            start = (place.batches + number - place.steps - 1) * self.batch_size
            indices = np.empty(min(self.batch_size, self.examples - start))  # which ones does not matter any more
            self.count(result_of(pool.arena, Step(number, place.epoch, indices, [])))

    def end_epoch(self, pool: Pool, validation: Data | None) -> None:
        """The figures of an epoch, or of the part that was asked for, into the history."""
        tally = self.tally
        assert tally is not None
        if tally.last > tally.before and len(self.history) == tally.entry:
            entry = tally.figures()
            if validation is not None and self.batches == 0:
                results = scoring.evaluate(pool, validation, self.progress)
                entry.update({f"validation_{k}": v for k, v in results.items() if k != "count"})
                if self.record is not None:
                    self.record.count_evaluation(entry)
            if self.record is not None:
                self.record.hold()
            if self.batches == 0:
                self.schedule.after_epoch(entry)
            self.history.append(entry)
        self.tally = None

    def is_done(self, data: Data, last_epoch: int | None, last_step: int | None) -> bool:
        """Whether this fit is one that a resumed run has done already."""
        assert self.repeated is not None and self.record is not None
        end = self.repeated.end(last_epoch, last_step, -(-len(data) // self.batch_size))
        if end.steps >= self.steps:
            self.record.check_data(data)
        self.repeated = end if end.steps < self.steps else None
        return end.steps < self.steps or (end.steps == self.steps and self.tally is None)

    def steps_of_epoch(self, examples: int, last_step: int | None) -> Iterator[Step]:
        """The steps that the pool may take: no more than to the end of the epoch, or to the next checkpoint."""
        assert self.optimizer is not None
        order = epoch_order(examples, self.seed, self.epoch)
        epoch, number = self.epoch, self.steps
        for start in range(self.batches * self.batch_size, examples, self.batch_size):
            if has_come(number, last_step) or (number > self.steps and self.record and self.record.due(number)):
                return
            number += 1
            options = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
            step = Step(number, epoch, order[start : start + self.batch_size], options)
            if self.record is not None:
                self.record.hand_out(step)
            yield step
            self.schedule.after_step(number)

    def open(self) -> Pool:
        """The pool, which is made at the first call."""
        if self.closed:
            raise RuntimeError("this trainer is closed: make a new one, or stay inside the `with` block")
        if self.pool is not None:
            if self.settings() != self.opened_as:
                raise RuntimeError(
                    "the model's or the optimizer's parameters, or what of them requires grad, have changed while the "
                    "trainer was open, which its workers cannot see: close it and make a new one"
                )
            return self.pool
        layout = make_layout(self.model, self.optimizer, self.shards, self.penalty)
        work = Work(self.model, self.objective, self.penalty, type(self.optimizer), layout, self.seed)
        parameters, buffers = list(Module.parameters(self.model)), list(Module.buffers(self.model))
        states, steps = self.first_states(layout), self.first_steps()
        own = [(tensor, tensor.array) for tensor in (*parameters, *buffers)]
        pool = make_pool(self.workers, self.address, self.start_timeout, self.max_failures)
        try:
            pool.open(work)
            arrays = [array for _, array in own]
            pool.fill(arrays[: len(parameters)], states, steps, arrays[len(parameters) :])
        except BaseException:
            for tensor, array in own:
                tensor.array = array
            pool.close()
            raise
        self.own, self.pool, self.opened_as = own, pool, self.settings()
        return pool

    def settings(self) -> Any:
        """What workers were told when they were opened, and are not told again."""
        groups = () if self.optimizer is None else self.optimizer.param_groups
        held = [(id(p), p.requires_grad) for p in Module.parameters(self.model)]
        return held, [[id(p) for p in group["params"]] for group in groups]

    def first_states(self, layout: Layout) -> list[list[np.ndarray]]:
        """Each parameter's state arrays, where the optimizer has stepped before."""
        if self.optimizer is None:
            return []
        states: list[list[np.ndarray]] = []
        for p, spec in zip(Module.parameters(self.model), layout.parameters):
            held = self.optimizer.state.get(p, {})
            names = self.optimizer.state_names(self.optimizer.param_groups[spec.group]) if held else ()
            shapes = [self.optimizer.state_shape(name, p.shape) for name in names]
            # Where there is none of that name, its room stays empty.
            arrays = [np.asarray(held.get(name, np.zeros(shape or ()))) for name, shape in zip(names, shapes)]
            for name, shape, array in zip(names, shapes, arrays):
                if name in held and array.shape != shape:
                    raise ValueError(
                        f"the optimizer's {name} of {spec.name}: expected shape {shape}, got {array.shape}"
                    )
            states.append(arrays)
        return states

    def first_steps(self) -> list[int]:
        state = {} if self.optimizer is None else self.optimizer.state
        return [int(state.get(p, {}).get("step", 0)) for p in Module.parameters(self.model)]

    def publish(self, pool: Pool) -> None:
        """The optimizer's state, out of the arena into arrays of its own."""
        if self.optimizer is None:
            return
        now, layout = pool.arena.halves[pool.completed % 2], pool.arena.layout
        for i, p in enumerate(pool.replica.parameters):
            arrays = optimizer_arrays(self.optimizer, layout, now, i)
            if layout.parameters[i].group >= 0 and now.steps[i] and p.numel():
                self.optimizer.state[p] = {
                    "step": int(now.steps[i]),
                    **{name: array.copy() for name, array in arrays.items()},
                }


def has_come(place: int, last: int | None) -> bool:
    return last is not None and place >= last


def make_pool(workers: Workers, address: str, start_timeout: float, max_failures: int) -> Pool:
    if workers.most == 0:
        return SerialPool()
    return ray_pool(address).RayPool(workers, address, start_timeout, max_failures)


def ray_pool(address: str) -> Any:
    """The module that imports ray, which is imported where it is used and nowhere before."""
    if "ray" not in sys.modules:  # it reads its environment once
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # they would look for a network
        os.environ.setdefault("RAY_worker_niceness", "0")  # training is no background work: Ray's default is 15
        if address == "local" and "RAY_AUTH_MODE" not in os.environ:
            # A token of this run's own: else Ray writes one to the user's home.
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from pargrad.parallel import ray_pool

    return ray_pool


class Workers(NamedTuple):
    """How many workers there must be to begin, how many to go on, and how many there should be."""

    first: int
    least: int
    most: int


def bounds_of_workers(
    num_workers: int | str | tuple[int, int], shards: int | None, address: str, progress: str
) -> Workers:
    """A single number is what there should be, and must be to begin; a pair (least, most) begins with the least."""
    if not isinstance(num_workers, tuple):
        most = choose_workers(num_workers, shards, address, progress)
        return Workers(most, min(most, 1), most)
    whole = len(num_workers) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in num_workers)
    if not whole or not 1 <= num_workers[0] <= num_workers[1]:
        raise ValueError(f"expected num_workers=(least, most) with 1 <= least <= most, got {num_workers!r}")
    least, most = num_workers
    return Workers(least, least, choose_workers(most, shards, address, progress))


def choose_workers(num_workers: int | str, shards: int | None, address: str, progress: str) -> int:
    """`num_workers` as a number, refused at once where it is more than the shards or than the cores of this machine."""
    if isinstance(num_workers, bool) or not (
        num_workers == "auto" or (isinstance(num_workers, int) and num_workers >= 0)
    ):
        raise ValueError(f"expected num_workers to be 'auto', 0 or a positive number, got {num_workers!r}")
    local = address == "local" and not ray_is_initialized()
    if num_workers == "auto":
        cores = available_cores() if local else ray_pool(address).free_cores_of(address)
        if shards is not None and cores > shards:
            if progress != "off":
                say(
                    f"num_workers='auto' takes {shards} of {cores} free cores: a batch has {shards} shards; write "
                    f"shards={1 << (cores - 1).bit_length()} to use more"
                )
            return shards
        return max(cores, 1)
    assert isinstance(num_workers, int)
    if shards is not None and num_workers > shards:
        raise ValueError(
            f"expected at most as many workers as shards, got num_workers={num_workers} and shards={shards}: write "
            f"shards={1 << (num_workers - 1).bit_length()}"
        )
    if local and num_workers > available_cores():
        raise ResourcesError(
            f"asked for {num_workers} workers of one core each, but this machine has {available_cores()} available "
            f"cores: write num_workers={available_cores()}"
        )
    return num_workers


def ray_is_initialized() -> bool:
    ray = sys.modules.get("ray")  # who has not imported it has not initialised it
    return ray is not None and ray.is_initialized()


def check_data(data: Any, batch_size: int) -> Data:
    data = as_data(data)
    if not len(data):
        raise ValueError("the data set is empty: expected at least one example")
    if batch_size > len(data):
        raise ValueError(
            f"batch_size {batch_size} is larger than the data set, which has {len(data)} examples: write "
            f"batch_size={len(data)}"
        )
    return data
