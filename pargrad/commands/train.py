"""`pargrad train`: trains data-parallel, scores after every epoch, and prints the state's hash."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pargrad
from pargrad import nn, optim
from pargrad.commands.options import POSITIONAL, as_yaml
from pargrad.data.mnist import ImageData, load
from pargrad.models import MODELS
from pargrad.nn import functional as F

HELP = "train on MNIST or Fashion-MNIST"
EXAMPLES = """\
  pargrad train mnist                                    the embedded subset, on all cores
  pargrad train mnist --num-workers 0                    this process alone: the same hash
  pargrad train fashion-mnist --download --model cnn     the full set, fetched once
  pargrad train mnist --run-dir runs/first               with checkpoints; the same command goes on\
"""
EPOCHS, EPOCHS_OF_SUBSET = 3, 10
CONFIG_FILE = "config.yaml"


@dataclass
class Options:
    """Train data-parallel on the cores of this machine, or of a Ray cluster.

    Args:
        data_set: what to train on
        model: mlp is 784-128-64-10 with ReLU; cnn has two convolutions of 32 and 64 filters, and dropout
        num_workers: Ray actors of one core each; auto: the free cores; 0: this process alone, without Ray
        shards: pieces of a batch, a power of two; part of the result, unlike the number of workers
        batch_size: examples of one optimizer step
        epochs: passes over the training set; by default 10 on the embedded subset, 3 on a full set
        lr: learning rate of AdamW
        weight_decay: decoupled weight decay of AdamW
        seed: of the weights, the order of the examples, and dropout
        data_dir: where the data set's files are
        download: fetch the data set into the user's cache directory when it is nowhere found
        run_dir: where checkpoints, metrics.jsonl and config.yaml are kept; without it nothing is
        resume: auto goes on from the newest checkpoint in run_dir; never refuses one that has some; else a path
        override: go on with another lr or weight_decay than the run had
        checkpoint_steps: write a checkpoint every so many steps, beside those of every five minutes and epoch
        address: local starts a Ray of its own; auto or HOST:PORT joins one
        json: write the run's figures to this file
        progress: auto shows a bar on a terminal and plain lines elsewhere
    """

    data_set: Literal["mnist", "fashion-mnist"] = field(default="mnist", metadata=POSITIONAL)
    model: Literal["mlp", "cnn"] = "mlp"
    num_workers: int | Literal["auto"] = "auto"
    shards: int = 8
    batch_size: int = 128
    epochs: int | None = None
    lr: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0
    data_dir: str | None = None
    download: bool = False
    run_dir: str | None = None
    resume: str = "auto"
    override: bool = False
    checkpoint_steps: int | None = None
    address: str = "local"
    json: str | None = None
    progress: Literal["auto", "off"] = "auto"


def run(options: Options) -> int:
    train(options)
    return 0


def train(options: Options) -> dict[str, Any]:
    """Trains and scores as the options say, prints what it does, and gives the figures that --json writes."""
    from pargrad.parallel import Trainer, state_sha256
    from pargrad.parallel.checkpoints import write_whole

    if options.epochs is not None and options.epochs < 1:
        raise ValueError(f"--epochs {options.epochs}: expected at least 1")
    asked = options.resume != "auto" or options.override or options.checkpoint_steps is not None
    if options.run_dir is None and asked:
        raise ValueError("--resume, --override and --checkpoint-steps need a --run-dir")
    if options.json is not None and not Path(options.json).absolute().parent.is_dir():
        raise ValueError(f"--json {options.json}: there is no directory {Path(options.json).absolute().parent}")
    images = load(
        options.data_set, data_dir=options.data_dir, download=options.download, progress=options.progress != "off"
    )
    (x, y), test = images.train, images.test
    epochs = (EPOCHS_OF_SUBSET if images.embedded else EPOCHS) if options.epochs is None else options.epochs

    pargrad.manual_seed(options.seed)
    model = MODELS[options.model]()
    optimizer = optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    with Trainer(
        model,
        F.cross_entropy,
        optimizer,
        batch_size=options.batch_size,
        shards=options.shards,
        num_workers=options.num_workers,
        address=options.address,
        run_dir=options.run_dir,
        resume=options.resume,
        override=options.override,
        checkpoint_steps=options.checkpoint_steps,
        seed=options.seed,
        progress=options.progress,
    ) as trainer:
        announce(options, images, model, trainer.num_workers)
        if options.run_dir is not None:
            text = as_yaml(options, resume="auto", override=False)  # with it a run goes on
            write_whole(Path(options.run_dir, CONFIG_FILE), text.encode())
        for epoch in range(epochs):
            done = len(trainer.history)
            trainer.fit((x, y), epochs=1, validation=test)
            if len(trainer.history) == done:
                continue  # an earlier process did this one
            entry = trainer.history[-1]
            tell(
                f"epoch {epoch + 1}/{epochs}: loss {entry['loss']:.4f}, "
                f"test accuracy {entry['validation_accuracy']:.2%}, {entry['samples_per_second']:,.0f} samples/s"
            )
        results = trainer.evaluate(test)
        history, workers = trainer.history, trainer.num_workers
    seconds = sum(entry["seconds"] for entry in history)
    figures = {
        "accuracy": results["accuracy"],
        "loss": results["loss"],
        "train_seconds": seconds,
        "samples_per_second": sum(entry["samples_per_second"] * entry["seconds"] for entry in history) / seconds,
        "steps": sum(entry["steps"] for entry in history),
        "num_workers": workers,
        "shards": options.shards,
        "dataset": {"name": images.name, "train": len(x), "test": results["count"]},
        "state_sha256": state_sha256(model),
    }
    tell(
        f"test accuracy {figures['accuracy']:.2%}, loss {figures['loss']:.4f} on {results['count']:,} examples; "
        f"trained in {seconds:.1f} s, {figures['samples_per_second']:,.0f} samples/s"
    )
    tell(f"state sha256 {figures['state_sha256']}")
    if options.json is not None:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def announce(options: Options, images: ImageData, model: nn.Module, workers: int) -> None:
    parameters = sum(p.numel() for p in model.parameters())
    who = f"{workers} worker{'s' * (workers != 1)}" if workers else "this process alone"
    tell(f"{images.name} from {images.source}")
    tell(f"{options.model}, {parameters:,} parameters, on {who}: {options.shards} shards, batch {options.batch_size}")


def tell(line: str) -> None:
    print(line, flush=True)  # past any buffer: a cluster's log is read while the job runs


def how_to_go_on(options: Options) -> str:
    from pargrad.parallel.checkpoints import checkpoints_in

    if options.run_dir is None:
        return "without --run-dir there is no checkpoint, so the next run starts over"
    there = checkpoints_in(Path(options.run_dir, "checkpoints"))
    if not there:
        return f"there is no checkpoint in {options.run_dir} yet, so the next run starts over"
    command = ["pargrad", "train", options.data_set, "--config", str(Path(options.run_dir, CONFIG_FILE))]
    return f"there is a checkpoint after step {there[0][0]}; go on with: {shlex.join(command)}"
