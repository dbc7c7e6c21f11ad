"""Run directories for the tests of what reads them."""

import json
from pathlib import Path

from pargrad.nn import functional as F
from pargrad.parallel import Trainer
from tests.training import adamw, examples, mlp


def train_into(path, epochs=3, seed=0, config=None, **options):
    """A run of 10 steps an epoch, evaluated after each; config: what a command would have written into config.yaml."""
    x, y = examples(320, seed)
    model = mlp()
    with Trainer(
        model, F.cross_entropy, adamw(model), batch_size=32, num_workers=0, run_dir=path, progress="off", seed=seed,
        **options,
    ) as trainer:  # fmt: skip
        trainer.fit((x, y), epochs=epochs, validation=examples(64, 1))
    if config is not None:
        Path(path, "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return model


def as_of_machines(path, sent):
    """Writes into the lines of a run's steps what each of several machines sent, as a run on a cluster does."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    told = [{**line, "bytes_per_step": sent} if "loss" in line else line for line in lines]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
