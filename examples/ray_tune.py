"""A search for the learning rate with Ray Tune: a trial is a Trainer, and poor trials end early.

Needs Ray Tune: pip install "ray[tune]". The data are the embedded MNIST subset.
"""

import os
import tempfile
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import tune

import pargrad.nn.functional as F
from examples import command
from pargrad import manual_seed, nn, optim
from pargrad.data import mnist
from pargrad.parallel import Callback, Trainer


class Report(Callback):
    """Tells Tune what every epoch came to; Tune ends a trial when others of its age are better."""

    def on_epoch_end(self, trainer: Any, entry: dict[str, Any]) -> None:
        tune.report({"accuracy": entry["validation_accuracy"], "loss": entry["validation_loss"]})


def trial(config: dict[str, Any]) -> None:
    digits = mnist.load("mnist")
    manual_seed(config["seed"])
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.AdamW(model.parameters(), lr=config["lr"])
    options = {"batch_size": 128, "num_workers": config["workers"], "progress": "off", "seed": config["seed"]}
    with Trainer(model, F.cross_entropy, optimizer, callbacks=(Report(),), **options) as trainer:
        trainer.fit(digits.train, epochs=config["epochs"], validation=digits.test)


def main(num_workers: int = 2, workers: int = 0, trials: int = 6, epochs: int = 4, seed: int = 0) -> dict[str, float]:
    """num_workers: trials at a time; workers: of each, beside its own process, in the trial's placement group."""
    bundles = [{"CPU": 1}] * (1 + workers)
    if not ray.is_initialized():
        cores = num_workers * len(bundles)
        ray.init(address="local", num_cpus=cores, include_dashboard=False, logging_level="error")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(trial, tune.PlacementGroupFactory(bundles)),
            param_space={"lr": tune.loguniform(1e-5, 1e-1), "workers": workers, "epochs": epochs, "seed": seed},
            tune_config=tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=trials,
                max_concurrent_trials=num_workers,
                scheduler=tune.schedulers.ASHAScheduler(max_t=epochs, grace_period=1, reduction_factor=2),
                search_alg=tune.search.BasicVariantGenerator(random_state=seed),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        best = results.get_best_result()
    for result in sorted(results, key=lambda each: each.config["lr"]):
        done = result.metrics["training_iteration"]
        print(f"lr {result.config['lr']:.6f}: accuracy {result.metrics['accuracy']:.2%} after {done} epochs")
    print(f"best learning rate {best.config['lr']:.6f}: accuracy {best.metrics['accuracy']:.2%}")
    return {"lr": best.config["lr"], "accuracy": best.metrics["accuracy"]}


if __name__ == "__main__":
    command(main)
