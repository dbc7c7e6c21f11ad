"""The example with Ray Tune, which pargrad does not depend on: over a Tune that runs one trial after the other."""

import importlib
import sys
from types import SimpleNamespace

import pytest
import ray


class Tuner:
    """Runs the trials of two learning rates, and stops one as Tune does: by an error in its report."""

    def __init__(self, trial, param_space, tune_config, run_config):
        self.trial, self.space, self.config = trial, param_space, tune_config
        self.reports = []

    def fit(self):
        results = []
        for lr in self.space["lr"]:
            self.reports.clear()
            self.trial({**self.space, "lr": lr})
            metrics = {**self.reports[-1], "training_iteration": len(self.reports)}
            results.append(SimpleNamespace(config={"lr": lr}, metrics=metrics))
        best = max(results, key=lambda each: each.metrics[self.config.metric])
        return Results(results, best)


class Results(list):
    def __init__(self, results, best):
        super().__init__(results)
        self.best = best

    def get_best_result(self):
        return self.best


@pytest.fixture
def tune(monkeypatch):
    tuners = []

    def make(*arguments, **options):
        tuners.append(Tuner(*arguments, **options))
        return tuners[-1]

    fake = SimpleNamespace(
        Tuner=make,
        TuneConfig=SimpleNamespace,
        RunConfig=SimpleNamespace,
        loguniform=lambda low, high: (low, 1e-3),
        with_resources=lambda trial, resources: trial,
        PlacementGroupFactory=list,
        report=lambda metrics: tuners[-1].reports.append(metrics),
        schedulers=SimpleNamespace(ASHAScheduler=SimpleNamespace),
        search=SimpleNamespace(BasicVariantGenerator=SimpleNamespace),
    )
    monkeypatch.setattr(ray, "tune", fake, raising=False)
    monkeypatch.setitem(sys.modules, "ray.tune", fake)
    monkeypatch.delitem(sys.modules, "examples.ray_tune", raising=False)
    return fake


def test_the_search_finds_the_better_rate(cluster, tune, capsys):
    figures = importlib.import_module("examples.ray_tune").main(epochs=2)
    assert figures["lr"] == 1e-3 and figures["accuracy"] > 0.85
    printed = capsys.readouterr().out
    assert "lr 0.000010" in printed and "after 2 epochs" in printed
    assert f"best learning rate 0.001000: accuracy {figures['accuracy']:.2%}" in printed
