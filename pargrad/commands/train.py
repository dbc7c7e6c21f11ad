"""`pargrad train`: trains data-parallel, scores after every epoch, and prints the state's hash."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pargrad import nn, optim
from pargrad.commands.options import POSITIONAL, as_yaml
from pargrad.commands.tasks import Task, blamed_on, make_task, names_a_function, names_in
from pargrad.data import as_data
from pargrad.data.recipe import Recipe
from pargrad.data.tabular import near
from pargrad.optim import lr_scheduler

HELP = "train on images, on a table, or a model of your own"
EXAMPLES = """\
  pargrad train mnist                                    the embedded subset, on all cores
  pargrad train mnist --num-workers 0                    this process alone: the same hash
  pargrad train fashion-mnist --download --model cnn     the full set, fetched once
  pargrad train mnist --run-dir runs/first               with checkpoints; the same command goes on
  pargrad train table.csv --target price --ignore id     predict a column from the others
  pargrad train arrays.npz --metrics f1,top3             its x and y
  pargrad train my_model:make --fast-dev-run             make() in my_model.py; one batch of everything

my_model:make gives (model, data), (model, data, validation), (model, loss, optimizer, data) or the latter with
validation behind it. data: (x, y) arrays or a data set. Such a name is taken from the command line only.\
"""
CONFIG_FILE, RECIPE_FILE = "config.yaml", "table.json"
LINES = 20  # about so many epochs of a table are told


@dataclass
class Options:
    """Train data-parallel on the cores of this machine, or of a Ray cluster.

    Args:
        data_set: mnist, fashion-mnist, a table (.csv, .npz, .npy), or module:function
        model: mlp is 784-128-64-10 with ReLU; cnn has two convolutions of 32 and 64 filters, and dropout
        target: the column of a table to predict; of an .npz file the array, by default y; of .npy the last column
        ignore: columns of a table that are left out, separated by commas
        missing: what values of a table do that are not there: refuse; or mean: a number becomes the mean of its column,
            a text a category of its own
        task: classification or regression; auto: texts and up to 20 different whole numbers are classes
        validation_fraction: share of a table's rows that is held out, drawn by the seed
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        shards: pieces of a batch, a power of two; part of the result, unlike the number of workers
        batch_size: examples of one optimizer step; by default 128, and fewer for a table of less than 4,096 rows
        epochs: passes over the training set; by default 10 on the embedded subset, 3 on a full set, and on a table
            what makes 2,000 steps
        optimizer: a name of pargrad.optim
        lr: learning rate; by default the optimizer's own, of AdamW 0.001
        weight_decay: by default the optimizer's own, of AdamW 0.01
        momentum: of the optimizers that have one
        scheduler: CosineAnnealingLR or LinearLR, both to 0 in the last epoch, ReduceLROnPlateau, or OneCycleLR
        clip_norm: the largest norm of a batch's gradient
        metrics: what is said beside loss and accuracy, separated by commas: f1, top3, confusion_matrix, r2, ...
        non_finite: what a loss or gradient that is nan or infinite does: stop the run, skip the step, or allow it
        seed: of the weights, the order of the examples, a table's split, and dropout
        data_dir: where the data set's files are
        download: fetch the data set into the user's cache directory when it is nowhere found
        run_dir: where checkpoints, metrics.jsonl and config.yaml are kept; without it nothing is
        resume: auto goes on from the newest checkpoint in run_dir; never refuses one that has some; else a path
        override: go on with other options of the optimizer than the run had
        checkpoint_steps: write a checkpoint every so many steps, beside those of every five minutes and epoch
        fast_dev_run: one batch of everything: a step, a checkpoint and an evaluation, to see whether it works
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        json: write the run's figures to this file
        timeline: write a Chrome trace of driver and workers to this file, which Perfetto opens (ui.perfetto.dev)
        log: tensorboard writes event files into the directory tensorboard of run_dir
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    data_set: str = field(default="mnist", metadata={**POSITIONAL, "command_line_only": names_a_function})
    model: Literal["mlp", "cnn"] = "mlp"
    target: str | None = None
    ignore: str | None = None
    missing: Literal["refuse", "mean"] = "refuse"
    task: Literal["auto", "classification", "regression"] = "auto"
    validation_fraction: float = 0.2
    num_workers: int | Literal["auto"] = "auto"
    shards: int = 8
    batch_size: int | None = None
    epochs: int | None = None
    optimizer: str = "AdamW"
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float | None = None
    scheduler: str | None = None
    clip_norm: float | None = None
    metrics: str | None = None
    non_finite: Literal["stop", "skip", "allow"] = "stop"
    seed: int = 0
    data_dir: str | None = None
    download: bool = False
    run_dir: str | None = None
    resume: str = "auto"
    override: bool = False
    checkpoint_steps: int | None = None
    fast_dev_run: bool = False
    address: str = "local"
    json: str | None = None
    timeline: str | None = None
    log: Literal["tensorboard"] | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    train(options)
    return 0


def train(options: Options) -> dict[str, Any]:
    """Trains and scores as the options say, prints what it does, and gives the figures that --json writes."""
    check(options)
    task = make_task(options, Options())
    own = names_a_function(options.data_set)
    with blamed_on(options.data_set) if own else contextlib.nullcontext():
        figures = train_task(task, options)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def callbacks_of(options: Options, run_dir: Any) -> tuple[Any, ...]:
    from pargrad.parallel import TensorBoard, Timeline

    timeline = () if options.timeline is None else (Timeline(options.timeline),)
    return timeline if options.log is None else (*timeline, TensorBoard(Path(run_dir, options.log)))


def train_task(task: Task, options: Options) -> dict[str, Any]:
    from pargrad.parallel import Trainer, state_sha256

    if task.recipe is not None and options.run_dir is not None:
        check_recipe(task.recipe, Path(options.run_dir))
    optimizer = task.optimizer or make_optimizer(options, task.model)
    epochs = options.epochs or task.epochs
    batch_size = options.batch_size or task.batch_size
    count = len(as_data(task.train))
    if options.batch_size is None:
        batch_size = min(batch_size, count)
    scheduler, per = make_scheduler(options.scheduler, optimizer, epochs, -(-count // batch_size))
    with (
        directory_of(options) as run_dir,
        Trainer(
            task.model,
            task.loss,
            optimizer,
            batch_size=batch_size,
            shards=options.shards,
            num_workers=options.num_workers,
            address=options.address,
            scheduler=scheduler,
            schedule_per=per,
            clip_norm=options.clip_norm,
            metrics=names_in(options.metrics) or task.metrics,
            callbacks=callbacks_of(options, run_dir),
            run_dir=run_dir,
            resume=options.resume,
            override=options.override,
            checkpoint_steps=options.checkpoint_steps,
            non_finite=options.non_finite,
            seed=options.seed,
            progress=options.progress,
        ) as trainer,
    ):
        announce(task, options, trainer)
        if options.run_dir is not None:
            keep_options(task, options, optimizer, batch_size, epochs)
        results = try_out(trainer, task) if options.fast_dev_run else fit(trainer, task, epochs)
        history, workers = trainer.history, trainer.num_workers
        here = trainer.pool.taken_here if trainer.pool else 0
    seconds = sum(entry["seconds"] for entry in history)
    figures = {
        **plain(results),
        "train_seconds": seconds,
        "samples_per_second": sum(entry["samples_per_second"] * entry["seconds"] for entry in history) / seconds,
        "steps": sum(entry["steps"] for entry in history),
        "num_workers": workers,
        "shards": options.shards,
        "dataset": {"name": task.name, "train": count, "test": results.get("count", 0)},
        "state_sha256": state_sha256(task.model),
    }
    figures.pop("count", None)
    said = f"{task.held_out} {in_words(results)} on {results['count']:,} examples; " if "count" in results else ""
    tell(f"{said}trained in {seconds:.1f} s, {figures['samples_per_second']:,.0f} samples/s")
    best = best_epoch(history) if task.held_out == "validation" else len(history)
    if best < len(history):
        kept = f"; score and predict take that one with --best, or --epochs {best} ends there" * bool(options.run_dir)
        tell(f"the validation loss was lowest after epoch {best}{kept or f': --epochs {best} ends there'}")
    if here:
        none_needed = "; --num-workers 0 starts none, and gives the same bits" if here == figures["steps"] else ""
        taken = f"{here:,} of {figures['steps']:,} steps were taken by this process"
        tell(f"{taken}, before the workers had started{none_needed}")
    if options.run_dir is not None:
        tell(f"kept in {options.run_dir}: {how_to_ask(options)}")
    tell(f"state sha256 {figures['state_sha256']}")
    return figures


# ----- before -----


def check(options: Options) -> None:
    """Whatever can be told from the options alone, before anything is read or started."""
    for name in ("epochs", "batch_size", "checkpoint_steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    for name in ("lr", "weight_decay", "momentum", "clip_norm"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected a finite number >= 0")
    asked = options.resume != "auto" or options.override or options.checkpoint_steps is not None
    if options.run_dir is None and asked:
        raise ValueError("--resume, --override and --checkpoint-steps need a --run-dir")
    if options.run_dir is None and options.log is not None:
        raise ValueError(f"--log {options.log} writes into the run directory: give a --run-dir")
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no directory {Path(options.json).absolute().parent}")


def check_recipe(recipe: Recipe, run_dir: Path) -> None:
    """Refuses a run directory whose checkpoints are of another table, or of this one as it was before."""
    from pargrad.parallel.checkpoints import checkpoints_in, differences

    path = run_dir / RECIPE_FILE
    if path.is_file() and checkpoints_in(run_dir / "checkpoints"):
        before, now = (each.by_name() for each in (Recipe.from_json(path.read_text()), recipe))
        if found := list(differences(before, now)):
            raise ValueError(
                f"{run_dir} has checkpoints of another table, or of this one before it changed: {found[0]}: take "
                "another directory, or bring back the table"
            )


def make_optimizer(options: Options, model: nn.Module) -> optim.Optimizer:
    names = sorted(name for name, kind in optim.OPTIMIZERS.items() if kind.unit != "closure")
    asked = options.optimizer
    if asked not in names:
        raise ValueError(f"--optimizer {asked}: expected one of {', '.join(names)}{near(asked, names)}")
    given = {name: getattr(options, name) for name in ("lr", "weight_decay", "momentum")}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return optim.OPTIMIZERS[asked](model.parameters(), **given)
    except TypeError as error:
        raise ValueError(f"--optimizer {asked}: {error}") from error


def make_scheduler(name: str | None, optimizer: optim.Optimizer, epochs: int, steps: int) -> tuple[Any, str]:
    """The schedule of that name over so many epochs of so many steps, and whether it moves per epoch or per step."""
    if name is None:
        return None, "epoch"
    makers = {
        "CosineAnnealingLR": lambda: (lr_scheduler.CosineAnnealingLR(optimizer, epochs), "epoch"),
        "LinearLR": lambda: (lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs), "epoch"),
        "ReduceLROnPlateau": lambda: (lr_scheduler.ReduceLROnPlateau(optimizer), "epoch"),
        "OneCycleLR": lambda: (
            lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], epochs * steps),
            "step",
        ),
    }
    if name not in makers:
        raise ValueError(f"--scheduler {name}: expected one of {', '.join(makers)}{near(name, makers)}")
    return makers[name]()


@contextlib.contextmanager
def directory_of(options: Options) -> Iterator[str | None]:
    """The run directory; one that is thrown away where a fast run has none, since it tries the checkpoint, too."""
    if options.run_dir is not None or not options.fast_dev_run:
        yield options.run_dir
        return
    with tempfile.TemporaryDirectory(prefix="pargrad-") as directory:
        yield directory


def keep_options(task: Task, options: Options, optimizer: optim.Optimizer, batch_size: int, epochs: int) -> None:
    """Options with which the run goes on, and how a table was read, into the run directory."""
    from pargrad.parallel.checkpoints import write_whole

    assert options.run_dir is not None
    chosen: dict[str, Any] = {"resume": "auto", "override": False, "fast_dev_run": False}
    if task.optimizer is None:
        group = optimizer.defaults
        chosen |= {"lr": group["lr"], "weight_decay": group.get("weight_decay")}
    if not options.fast_dev_run:
        chosen |= {"batch_size": batch_size, "epochs": epochs}
    write_whole(Path(options.run_dir, CONFIG_FILE), as_yaml(options, **chosen).encode())
    if task.recipe is not None:
        write_whole(Path(options.run_dir, RECIPE_FILE), task.recipe.as_json().encode())


# ----- during -----


def fit(trainer: Any, task: Task, epochs: int) -> dict[str, Any]:
    """Epochs, with a line each; of many, of a table, some. What the data held out come to, or the last epoch's loss."""
    every = max(1, epochs // LINES) if task.recipe is not None else 1  # epochs of a table are many, and short
    for epoch in range(epochs):
        done = len(trainer.history)
        trainer.fit(task.train, epochs=1, validation=task.validation)
        if len(trainer.history) == done:
            continue  # an earlier process did this one
        if (epoch + 1) % every and epoch + 1 < epochs:
            continue
        entry = trainer.history[-1]
        held = {name.removeprefix("validation_"): value for name, value in entry.items() if "validation_" in name}
        said = f"{task.held_out} {in_words(held, epoch=True)}, " if held else ""
        speed = f"{entry['samples_per_second']:,.0f} samples/s"
        sent = f", {entry['bytes_per_step']:,.0f} bytes sent a machine and step" if "bytes_per_step" in entry else ""
        tell(f"epoch {epoch + 1}/{epochs}: loss {entry['loss']:.4f}, {said}{speed}{sent}")
    return trainer.evaluate(task.validation) if task.validation is not None else {"loss": trainer.history[-1]["loss"]}


def try_out(trainer: Any, task: Task) -> dict[str, Any]:
    """One step, whose end writes a checkpoint, and an evaluation of one batch."""
    trainer.fit(task.train, max_steps=1)
    held = task.train if task.validation is None else task.validation
    results = trainer.evaluate(FirstOf(held, trainer.batch_size))
    tell("one batch of everything went well: a step, a checkpoint and an evaluation")
    return results


class FirstOf:
    """The first examples of a data set."""

    def __init__(self, data: Any, count: int):
        self.data = as_data(data)
        self.count = count

    def __len__(self) -> int:
        return min(self.count, len(self.data))

    def batch(self, indices: np.ndarray, generator: Any) -> tuple[np.ndarray, ...]:
        return self.data.batch(indices, generator)


# ----- what is said -----


def announce(task: Task, options: Options, trainer: Any) -> None:
    parameters = sum(p.numel() for p in task.model.parameters())
    workers = trainer.num_workers
    who = f"{workers} worker{'s' * (workers != 1)}" if workers else "this process alone"
    tell(f"{task.name} from {task.source}")
    tell(f"{task.network}, {parameters:,} parameters, on {who}: {options.shards} shards, batch {trainer.batch_size}")


def in_words(results: dict[str, Any], epoch: bool = False) -> str:
    """The figures that are single numbers, accuracy first; of an epoch without the loss, where there is another."""
    numbers = {name: value for name, value in results.items() if name not in ("loss", "count") and np.ndim(value) == 0}
    shown = [f"{name} {value:.2%}" if name == "accuracy" else f"{name} {value:.4g}" for name, value in numbers.items()]
    loss = [] if epoch and shown else [f"loss {results['loss']:.4f}"]
    return ", ".join([*shown[:1], *loss, *shown[1:]])


def best_epoch(history: list[dict[str, Any]]) -> int:
    """After which epoch the validation loss was the lowest; the last one where that is as good, or not known."""
    losses = [entry.get("validation_loss", math.inf) for entry in history]
    best = min(range(len(losses)), key=losses.__getitem__)
    return best + 1 if losses[best] < 0.99 * losses[-1] < math.inf else len(history)


def plain(results: dict[str, Any]) -> dict[str, Any]:
    """Figures as JSON has them."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value for name, value in results.items()
    }


def tell(line: str) -> None:
    print(line, flush=True)  # past any buffer: a cluster's log is read while the job runs


def how_to_ask(options: Options) -> str:
    """The commands that a run is looked at with."""
    run_dir = shlex.quote(str(options.run_dir))
    model = f" --model {shlex.quote(options.data_set)}" if names_a_function(options.data_set) else ""
    return f"pargrad score {run_dir}{model}, pargrad predict {run_dir} FILE{model}, pargrad report {run_dir}"


def how_to_go_on(options: Options) -> str:
    from pargrad.parallel.checkpoints import checkpoints_in

    if options.run_dir is None:
        return "without --run-dir there is no checkpoint, so the next run starts over"
    there = checkpoints_in(Path(options.run_dir, "checkpoints"))
    if not there:
        return f"there is no checkpoint in {options.run_dir} yet, so the next run starts over"
    command = ["pargrad", "train", options.data_set, "--config", str(Path(options.run_dir, CONFIG_FILE))]
    return f"there is a checkpoint after step {there[0][0]}; go on with: {shlex.join(command)}"
