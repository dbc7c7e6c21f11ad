"""The command: `pargrad train mnist` trains data-parallel, scores after every epoch, and prints the state's hash."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pargrad
from pargrad import nn, optim
from pargrad.data.mnist import DATA_SETS, ImageData, load
from pargrad.nn import functional as F

EPOCHS, EPOCHS_OF_SUBSET = 3, 10
CONFIG_FILE = "config.yaml"
EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


@dataclass
class TrainConfig:
    """Options of `pargrad train`; a --config file has these names as its keys.

    Args:
        data_set: what to train on
        model: mlp is 784-128-64-10 with ReLU
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

    data_set: Literal["mnist", "fashion-mnist"] = "mnist"
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


class Terminated(BaseException):
    """SIGTERM, as an exception, so that everything open is closed on the way out."""


def make_parser() -> Any:
    """jsonargparse's parser over TrainConfig, with flags spelled with hyphens."""
    from jsonargparse import ActionConfigFile, ArgumentParser

    class Parser(ArgumentParser):
        def parse_args(self, args: Any = None, *rest: Any, **named: Any) -> Any:
            return super().parse_args([underscored(arg) for arg in args or sys.argv[1:]], *rest, **named)

        def format_help(self, formatter: Any = None) -> str:
            text = super().format_help(formatter)
            return re.sub(r"--[a-z]+(_[a-z]+)+", lambda flag: flag.group().replace("_", "-"), text)

        def format_usage(self) -> str:
            return "usage: pargrad train mnist [options]; pargrad train --help lists them\n"

    parser = Parser(prog="pargrad", description=pargrad.__doc__, version=pargrad.__version__)
    commands = parser.add_subcommands(required=True)
    train = Parser(description="Train data-parallel on the cores of this machine, or of a Ray cluster.")
    train.add_argument("data_set", nargs="?", default="mnist", choices=list(DATA_SETS), help="what to train on")
    train.add_argument("--config", action=ActionConfigFile, help="a YAML or JSON file of options")
    train.add_argument(
        "--download",
        action="store_true",
        help="fetch the data set into the user's cache directory if it is nowhere found",
    )
    train.add_argument("--override", action="store_true", help="go on with another lr or weight_decay than the run had")
    train.add_class_arguments(TrainConfig, skip={"data_set", "download", "override"})
    commands.add_subcommand("train", train, help="train on MNIST or Fashion-MNIST")
    parser.train = train  # type: ignore[attr-defined]
    return parser


def underscored(argument: str) -> str:
    """jsonargparse knows options by the names of their fields: --num-workers is --num_workers."""
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value if flag.startswith("--") else argument


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    values = {name: value for name, value in vars(options.train).items() if name != "config" and value is not None}
    from pargrad.parallel import PargradError

    def terminate(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)  # the way out is not interrupted
        raise Terminated

    config = TrainConfig(**values)
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        train(config, config_text(parser, options))
        return 0
    except PargradError as error:
        return complain(error, error.exit_code)
    except (ValueError, OSError) as error:
        return complain(error, EXIT_USAGE)
    except KeyboardInterrupt:
        return complain(f"interrupted; {how_to_go_on(config)}", EXIT_INTERRUPTED)
    except Terminated:
        return complain(f"terminated; {how_to_go_on(config)}", EXIT_TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, before)


def config_text(parser: Any, options: Any) -> str:
    """The options as YAML that --config takes; with it a run goes on."""
    kept = options.train.clone()
    kept["resume"], kept["override"] = "auto", False
    return parser.train.dump(kept)


def how_to_go_on(config: TrainConfig) -> str:
    from pargrad.parallel.checkpoints import checkpoints_in

    if config.run_dir is None:
        return "without --run-dir there is no checkpoint, so the next run starts over"
    there = checkpoints_in(Path(config.run_dir, "checkpoints"))
    if not there:
        return f"there is no checkpoint in {config.run_dir} yet, so the next run starts over"
    command = ["pargrad", "train", config.data_set, "--config", str(Path(config.run_dir, CONFIG_FILE))]
    return f"there is a checkpoint after step {there[0][0]}; go on with: {shlex.join(command)}"


def complain(message: Any, code: int) -> int:
    notes = "".join(f"\n  {note}" for note in getattr(message, "__notes__", ()))
    print(f"pargrad: {message}{notes}", file=sys.stderr, flush=True)
    return code


def train(config: TrainConfig, text: str = "") -> dict[str, Any]:
    """Trains and scores as the options say, prints what it does, and gives the figures that --json writes.

    text: what is written into the run directory's config.yaml.
    """
    from pargrad.parallel import Trainer, state_sha256
    from pargrad.parallel.checkpoints import write_whole

    if config.model == "cnn":
        raise ValueError("--model cnn is not there yet: write --model mlp")
    if config.epochs is not None and config.epochs < 1:
        raise ValueError(f"--epochs {config.epochs}: expected at least 1")
    if config.run_dir is None and (config.resume != "auto" or config.override or config.checkpoint_steps is not None):
        raise ValueError("--resume, --override and --checkpoint-steps need a --run-dir")
    if config.json is not None and not Path(config.json).absolute().parent.is_dir():
        raise ValueError(f"--json {config.json}: there is no directory {Path(config.json).absolute().parent}")
    images = load(
        config.data_set, data_dir=config.data_dir, download=config.download, progress=config.progress != "off"
    )
    (x, y), test = images.train, images.test
    epochs = (EPOCHS_OF_SUBSET if images.embedded else EPOCHS) if config.epochs is None else config.epochs

    pargrad.manual_seed(config.seed)
    model = mlp()
    optimizer = optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    with Trainer(
        model,
        F.cross_entropy,
        optimizer,
        batch_size=config.batch_size,
        shards=config.shards,
        num_workers=config.num_workers,
        address=config.address,
        run_dir=config.run_dir,
        resume=config.resume,
        override=config.override,
        checkpoint_steps=config.checkpoint_steps,
        seed=config.seed,
        progress=config.progress,
    ) as trainer:
        announce(config, images, model, trainer.num_workers)
        if config.run_dir is not None:
            write_whole(Path(config.run_dir, CONFIG_FILE), text.encode())
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
        "shards": config.shards,
        "dataset": {"name": images.name, "train": len(x), "test": results["count"]},
        "state_sha256": state_sha256(model),
    }
    tell(
        f"test accuracy {figures['accuracy']:.2%}, loss {figures['loss']:.4f} on {results['count']:,} examples; "
        f"trained in {seconds:.1f} s, {figures['samples_per_second']:,.0f} samples/s"
    )
    tell(f"state sha256 {figures['state_sha256']}")
    if config.json is not None:
        Path(config.json).write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def mlp() -> nn.Module:
    """784-128-64-10 with ReLU."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def announce(config: TrainConfig, images: ImageData, model: nn.Module, workers: int) -> None:
    parameters = sum(p.numel() for p in model.parameters())
    who = f"{workers} worker{'s' * (workers != 1)}" if workers else "this process alone"
    tell(f"{images.name} from {images.source}")
    tell(f"{config.model}, {parameters:,} parameters, on {who}: {config.shards} shards, batch {config.batch_size}")


def tell(line: str) -> None:
    print(line, flush=True)  # past any buffer: a cluster's log is read while the job runs


def entry_point() -> None:
    sys.exit(main())
