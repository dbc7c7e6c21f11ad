"""Every example and its PyTorch twin give the same figures, at every step that they print."""

import importlib
from pathlib import Path

import pytest
import torch

from examples import compare

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long
SHORT = {"mnist": {"epochs": 2}}


@pytest.mark.parametrize("name", compare.PAIRS)
def test_twins_agree(name):
    short = SHORT.get(name, {})
    ours = importlib.import_module(f"examples.{name}").main(**compare.ARGUMENTS.get(f"examples.{name}", {}), **short)
    theirs = importlib.import_module(f"examples.pytorch.{name}").main(**short)
    differences = compare.differences(ours, theirs)
    assert len(differences) >= 4
    assert max(differences.values()) <= compare.TOLERANCE, differences


@pytest.mark.parametrize("wrong", ["lr", "seed"])
def test_twins_that_train_something_else_do_not_agree(wrong, monkeypatch):
    ours, theirs = (importlib.import_module(f"examples.{name}") for name in ("unit_vector", "pytorch.unit_vector"))
    if wrong == "seed":
        monkeypatch.setattr(theirs, "manual_seed", lambda seed: torch.manual_seed(seed + 1))
    else:
        sgd = torch.optim.SGD
        monkeypatch.setattr(torch.optim, "SGD", lambda params, lr: sgd(params, lr=lr * 1.01))
    assert max(compare.differences(ours.main(), theirs.main()).values()) > compare.TOLERANCE


def test_the_command(monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert compare.main(["unit_vector"]) == 0
    assert "all agree to 0.0001" in capsys.readouterr().out
