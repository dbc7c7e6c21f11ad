"""The Trainer: epochs of data-parallel steps over a model, and its evaluation on the same workers."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pargrad.data import Data, as_data, epoch_order, first_not_finite
from pargrad.metrics import Metric
from pargrad.nn import Module
from pargrad.nn.parameter import is_lazy
from pargrad.optim import Optimizer
from pargrad.parallel import lifecycle, scoring
from pargrad.parallel.arena import Layout
from pargrad.parallel.callbacks import Callback, Callbacks, OneByOne
from pargrad.parallel.checkpoints import optimizer_arrays
from pargrad.parallel.cores import computing
from pargrad.parallel.errors import NonFiniteError
from pargrad.parallel.finite import check_non_finite
from pargrad.parallel.objective import Objective
from pargrad.parallel.pool import Pool, result_of
from pargrad.parallel.progress import Progress, check_choice
from pargrad.parallel.record import Record, make_record
from pargrad.parallel.schedule import Schedule
from pargrad.parallel.shards import check_shards
from pargrad.parallel.step import Step, StepResult, Work, make_layout, set_mode
from pargrad.parallel.tally import Place, Tally
from pargrad.parallel.workers import bounds_of_workers, make_pool, make_request
from pargrad.tensor import Tensor


class Trainer:
    """Trains a model data-parallel: the same bits for every number of workers.

    Each batch is cut into `shards`; workers compute the gradients of the shards' summed losses, these are added in
    one fixed tree, divided once by the batch's divisor, and the optimizer steps. More shards than workers is what
    others call gradient accumulation: a worker then holds one shard's activations at a time, and the bits are the same.

    model: a Module. loss(output, target): one of pargrad's, or any that returns `(sum, divisor)` or one value per
    example; `loss_is="mean over examples"` or `"sum"` explains one that returns a single number.
    step(model, batch) -> (sum, divisor) takes the place of the loss; penalty(model) -> scalar is added once a batch.
    optimizer: an `optim.Optimizer` over the model's parameters; its `state_dict()` is current after `fit`.
    batch_size: examples of one step; the last batch of an epoch may be shorter.
    num_workers: Ray actors, one core each; "auto": the free cores, at most `shards`; 0: this process alone.
    address: "local" starts a Ray for this trainer; "auto" or "host:port" joins one; a Ray that this process has
    already initialised is used as it is, by several trainers at once where it has room. Workers that all have room on
    this machine run on it; else they are spread over the cluster's nodes, with the same bits on machines of one kind.
    Only this process writes into run_dir. With num_workers=0 this and the next two are not used.
    resources_per_worker: what Ray counts for each worker, such as {"CPU": 2, "memory": 2e9, "fast_disk": 1}: cores
    (whole ones, by default 1), bytes, and what else the nodes were given; it computes on one core in any case.
    placement_group: of `ray.util.placement_group`; workers, and those that replace lost ones, have room in its bundles
    only, as many in one as fit, and "auto" counts these. It stays after `close`. Inside a Ray task, actor or Tune trial
    whose own group captures what it starts, that one is taken.
    scheduler: an `optim.lr_scheduler` of that optimizer; its `step()` is called after each epoch (ReduceLROnPlateau is
    given the validation loss, or the loss), or after each step with schedule_per="step".
    metrics: what `evaluate` says beside loss and accuracy, names of `pargrad.metrics.METRICS` or Metrics of one's own;
    the history has them as validation_<name>. callbacks: see `pargrad.parallel.callbacks`.
    clip_norm: the largest norm of the batch's gradient, as torch's `clip_grad_norm_`.
    non_finite: what a loss or gradient that is nan or infinite does. "stop": the run ends with NonFiniteError, which
    names the first parameter and the shard, with the parameters of the step before. "skip": a warning says the same,
    and the step is counted, but leaves parameters, buffers and optimizer state as they were; the schedule goes on.
    "allow": it is let through.
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

    `fit` begins at once: this process computes until the workers have started, and when too few are left between two
    steps. A worker that dies is replaced, and the others take over its shards meanwhile, with the same bits. After more
    than max_failures failures in a row without a completed step the run ends with WorkerLostError; the model then has
    the parameters of the last completed step. Between opening and `close` the model's parameters are read-only memory
    that the workers share, and all else of it (a dropout's p, its list of layers) stays what it was when it was opened:
    a later change is not seen by workers, nor by what was written down in the first step (see `recording`).

    >>> from pargrad.parallel import Trainer
    >>> x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
    >>> model = nn.Linear(8, 2)
    >>> optimizer = optim.AdamW(model.parameters(), lr=0.1)
    >>> with Trainer(model, F.cross_entropy, optimizer, batch_size=3, num_workers=0) as trainer:
    ...     history = trainer.fit((x, y), epochs=5)
    ...     accuracy = trainer.evaluate((x, y))["accuracy"]
    >>> len(history), accuracy
    (5, 1.0)
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
        resources_per_worker: dict[str, float] | None = None,
        placement_group: Any = None,
        scheduler: Any = None,
        schedule_per: str = "epoch",
        clip_norm: float | None = None,
        non_finite: str = "stop",
        metrics: tuple[str | Metric, ...] = (),
        callbacks: tuple[Callback, ...] = (),
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
        if not isinstance(model, Module):
            raise TypeError(f"expected a pargrad.nn.Module to train, got {type(model).__name__}")
        if lazy := [name for name, p in Module.named_parameters(model) if is_lazy(p)]:
            raise ValueError(f"{', '.join(lazy)} have no shape yet: call the model on one batch before the Trainer")
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
        self.non_finite = check_non_finite(non_finite)
        self.seed = seed
        self.start_timeout = start_timeout
        self.progress = check_choice(progress)
        self.objective = Objective(loss, loss_is, step)
        self.penalty = penalty
        self.metrics = scoring.metrics_by_name(metrics)
        self.callbacks = Callbacks(callbacks)
        self.stopping = False
        self.request = make_request(address, resources_per_worker, placement_group)
        if not isinstance(max_failures, int) or max_failures < 0:
            raise ValueError(f"expected max_failures of at least 0, got {max_failures!r}")
        self.max_failures = max_failures
        self.wanted = num_workers
        self.choose_workers()
        self.history: list[dict[str, Any]] = []
        self.steps = 0  # completed
        self.epoch = 0  # the one that the next step belongs to
        self.batches = 0  # of that epoch that are done
        self.examples = 0  # that it has
        self.tally: Tally | None = None  # of the epoch under way, until it is in the history
        self.begun: tuple[Place, int, int] | None = None  # of steps under way: place, pool's steps, batches an epoch
        self.repeated: Place | None = None  # how far the fits of this program repeat those of a resumed run
        self.resumed = False  # whether the last fit is one of them
        self.pool: Pool | None = None
        self.own: list[tuple[Any, np.ndarray]] = []  # the model's tensors with their own arrays, while it is open
        self.opened_as: Any = None
        self.busy = False  # in the middle of steps
        self.closed = self.left = False  # left: by a forked process, which has only copies of what leads to the workers
        self.record: Record | None = None
        lifecycle.make_way_for_directory(self, run_dir)
        lifecycle.ALIVE.add(self)
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
        samples_per_second, validation_loss, validation_accuracy, and on several machines bytes_per_step, what each
        sends to others on average.

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
        self.resumed = self.repeated is not None
        if self.resumed and self.is_done(data, last_epoch, last_step):
            return self.history
        self.examples = len(data)
        pool = self.open()
        set_mode(self.model, True)
        if self.record is not None:
            self.record.begin(pool, data)
        self.stopping = False
        self.callbacks.fit_start(self)
        with computing():
            while True:
                if self.tally is None:
                    if self.stopping or has_come(self.epoch, last_epoch) or has_come(self.steps, last_step):
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
        self.callbacks.fit_end(self)
        return self.history

    def stop(self) -> None:
        """Ends the `fit` under way, as if it had been asked for the steps that were sent; for callbacks.

        A program that is resumed counts what its fits ask for, not where they were stopped.
        """
        self.stopping = True

    def evaluate(self, data: Any) -> dict[str, Any]:
        """{"loss", "accuracy" (where the outputs are class scores), the metrics, "count"} over a data set.

        Each example counts once, and every figure has the same bits for every number of workers.
        """
        return self.evaluate_by(self.open(), as_data(data), tuple(self.metrics))

    def score(self, data: Any, metric: str | Metric = "accuracy") -> float:
        """One figure over a data set: "loss", a name of `pargrad.metrics.METRICS`, or one of the trainer's metrics."""
        name = scoring.name_of(metric, self.metrics)
        results = self.evaluate_by(self.open(), as_data(data), () if name == "loss" else (name,))
        return scoring.as_float(results[name], name)

    def predict(self, data: Any) -> np.ndarray:
        """The model's outputs for a data set, `(x, y)` or `x` alone, in its order."""
        alone = isinstance(data, np.ndarray | Tensor)
        data, pool = as_data((data, np.zeros(len(data), np.int64)) if alone else data), self.open()
        with computing():
            return scoring.predict(pool, data, self.progress)

    def wait_for_workers(self) -> None:
        """Waits until the workers are there, at most start_timeout seconds; of (least, most) until the least are.

        Nobody has to: `fit` begins at once, and this process computes until they have started, with the same bits.
        """
        self.open().wait_for_workers()

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
            self.give_back(pool)
            self.settle(pool)
            self.publish(pool)
            if self.record is not None:
                self.record.close(pool)

    def __del__(self) -> None:
        if self.holds_something() and not sys.is_finalizing():
            warnings.warn(
                "a Trainer was not closed: write `with Trainer(...) as trainer:`, or trainer.close()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ----- how it works -----

    def choose_workers(self) -> None:
        """How many workers there can be, and are wanted."""
        # Scoring alone cuts no batch, so nothing bounds its workers but the cores.
        shards = self.shards if self.optimizer is not None else None
        self.workers = bounds_of_workers(self.wanted, shards, self.request, self.progress)
        self.num_workers = self.workers.most

    def holds_something(self) -> bool:
        """Whether there is a pool or a run directory to be given back."""
        return not getattr(self, "closed", True) and (self.pool is not None or self.record is not None)

    def give_back(self, pool: Pool) -> None:
        """Gives the model arrays of its own again, with what the completed steps have made of them."""
        pool.replica.select(pool.completed % 2)
        for tensor, own in self.own:
            if self.optimizer is not None:  # else the arrays may be those of a trainer that has the model
                np.copyto(own, tensor.array)
            tensor.array = own

    def leave(self) -> None:
        """In a forked process: lets go of what is the first one's. The model has arrays of its own, as of then."""
        if self.holds_something():
            pool, self.pool, self.closed, self.left = self.pool, None, True, True
            if pool is not None:
                self.give_back(pool)
                pool.leave()
            if self.record is not None:
                self.record.directory.leave()

    def fit_epoch(self, pool: Pool, data: Data, last_step: int | None) -> None:
        """The rest of the epoch under way, up to `last_step`."""
        assert self.tally is not None
        epoch, per_epoch = self.tally.epoch, -(-len(data) // self.batch_size)
        if self.epoch != epoch:
            return  # it was complete before its figures were
        bar = Progress(self.progress, f"epoch {epoch + 1}", len(data) - self.batches * self.batch_size)
        try:
            while self.epoch == epoch and not self.stopping and not has_come(self.steps, last_step):
                self.begun = Place(self.steps, self.epoch, self.batches), pool.completed, per_epoch
                self.busy = True
                self.schedule.begin(self.steps)
                started = time.perf_counter()
                try:
                    for result in pool.run(data, self.steps_to_send(len(data), last_step), self.clip_norm):
                        self.count(result)
                        if self.callbacks:
                            self.callbacks.step_end(self, result)
                        bar.advance(result.examples, loss=f"{result.loss:.4f}", workers=self.num_workers)
                except NonFiniteError as error:
                    self.settle(pool)
                    start = self.batches * self.batch_size
                    batch = epoch_order(len(data), self.seed, self.epoch)[start : start + self.batch_size]
                    if (found := first_not_finite(data, batch)) is not None:
                        error.add_note(found)
                    raise
                finally:
                    self.busy = False
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
            if result.without_effect is not None:
                warnings.warn(
                    f"step {result.number} (epoch {result.epoch}) is left without effect: {result.without_effect}",
                    stacklevel=2,
                )

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
            if sent := pool.bytes_per_step():
                entry["bytes_per_step"] = sent
            if validation is not None and self.batches == 0:
                results = self.evaluate_by(pool, validation, tuple(self.metrics))
                entry.update({f"validation_{k}": as_plain(v) for k, v in results.items() if k != "count"})
                if self.record is not None:
                    self.record.count_evaluation(entry)
            if self.record is not None:
                self.record.hold()
            if self.batches == 0:
                self.schedule.after_epoch(entry)
            self.history.append(entry)
        self.tally = None
        if self.callbacks and tally.last > tally.before:
            self.callbacks.news(self)
            self.callbacks.tell("on_epoch_end", self, self.history[tally.entry])

    def evaluate_by(self, pool: Pool, data: Data, metrics: tuple[str, ...]) -> dict[str, Any]:
        """The mean loss and the metrics of a data set, by this pool, told to the callbacks."""
        with computing():
            results = scoring.evaluate(pool, data, self.progress, metrics)
        self.callbacks.tell("on_evaluation_end", self, results)
        return results

    def is_done(self, data: Data, last_epoch: int | None, last_step: int | None) -> bool:
        """Whether this fit is one that a resumed run has done already."""
        assert self.repeated is not None and self.record is not None
        end = self.repeated.end(last_epoch, last_step, -(-len(data) // self.batch_size))
        if end.steps >= self.steps:
            self.record.check_data(data)
        self.repeated = end if end.steps < self.steps else None
        return end.steps < self.steps or (end.steps == self.steps and self.tally is None)

    def steps_to_send(self, examples: int, last_step: int | None) -> Iterator[Step]:
        """The steps of the epoch, one after the other where a callback has to see each before the next."""
        steps = self.steps_of_epoch(examples, last_step)
        return OneByOne(steps, self) if self.callbacks.one_by_one else steps

    def steps_of_epoch(self, examples: int, last_step: int | None) -> Iterator[Step]:
        """The steps that the pool may take: no more than to the end of the epoch, or to the next checkpoint."""
        assert self.optimizer is not None
        order = epoch_order(examples, self.seed, self.epoch)
        epoch, number, options = self.epoch, self.steps, None
        for start in range(self.batches * self.batch_size, examples, self.batch_size):
            if self.stopping or has_come(number, last_step):
                return
            if number > self.steps and self.record and self.record.due(number):
                return
            number += 1
            latest = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
            options = latest if latest != options else options  # one object for all that are alike is sent once
            step = Step(number, epoch, order[start : start + self.batch_size], options)
            if self.record is not None:
                self.record.hand_out(step)
            yield step
            self.schedule.after_step(number)

    def open(self) -> Pool:
        """The pool, which is made at the first call."""
        if self.left:
            raise RuntimeError(
                "this trainer belongs to the process that this one was forked from: make a new one in this process"
            )
        if self.closed:
            raise RuntimeError("this trainer is closed: make a new one, or stay inside the `with` block")
        if self.pool is not None:
            if self.settings() != self.opened_as:
                raise RuntimeError(
                    "the model's or the optimizer's parameters, or what of them requires grad, have changed while the "
                    "trainer was open, which its workers cannot see: close it and make a new one"
                )
            return self.pool
        lifecycle.make_way(self)
        if self.wanted == "auto" and self.request.address == "local":
            self.choose_workers()  # what was taken when this trainer was made may be free by now
        layout = make_layout(self.model, self.optimizer, self.shards, self.penalty)
        metrics = tuple(self.metrics.values())
        # Where nothing is clipped, norms are for those who read metrics.jsonl.
        norms = self.record is not None and self.clip_norm is None
        work = Work(
            self.model, self.objective, self.penalty, type(self.optimizer), layout, self.seed, metrics, self.non_finite,
            norms, self.callbacks.spans,
        )  # fmt: skip
        parameters, buffers = list(Module.parameters(self.model)), list(Module.buffers(self.model))
        states, steps = self.first_states(layout), self.first_steps()
        own = [(tensor, tensor.array) for tensor in (*parameters, *buffers)]
        pool = make_pool(self.workers, self.request, self.start_timeout, self.max_failures)
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
        """How many steps each parameter has taken before this run."""
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


def as_plain(value: Any) -> Any:
    """A figure as the history has it, and JSON: an array as lists."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def has_come(place: int, last: int | None) -> bool:
    return last is not None and place >= last


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
