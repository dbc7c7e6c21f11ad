"""Every example and its PyTorch twin give the same figures, at every step that they print."""

import importlib
from pathlib import Path

import pytest
import torch

import pargrad
from examples import compare
from pargrad.parallel.cores import one_blas_thread
from tests.test_examples import SHORT

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long


def both(name):
    options = {**compare.OPTIONS.get(name, {}), **SHORT.get(name, {})}
    pages = (importlib.import_module(f"examples.{name}"), importlib.import_module(f"examples.pytorch.{name}"))
    with one_blas_thread():
        return [page.main(**options) for page in pages]


@pytest.mark.parametrize("name", [name for name in compare.PAIRS if name != "cnn"])
def test_twins_agree(name):
    ours, theirs = both(name)
    assert len(ours) >= 2
    assert not compare.too_far(name, compare.differences(ours, theirs))


def test_the_convolutions_agree_where_there_is_no_dropout(monkeypatch):
    for library in (pargrad, torch):
        monkeypatch.setattr(library.nn, "Dropout", lambda p, library=library: library.nn.Identity())
    monkeypatch.setitem(SHORT, "cnn", {"num_workers": 0, "max_steps": 3})
    assert not compare.too_far("cnn without dropout", compare.differences(*both("cnn")))


def test_mnist_agrees_in_float64_far_beyond_the_rounding_of_float32(monkeypatch):
    monkeypatch.setitem(SHORT, "mnist", {"num_workers": 0, "epochs": 3, "dtype": "float64"})
    assert max(compare.differences(*both("mnist")).values()) < 1e-9


@pytest.mark.parametrize("wrong", ["lr", "seed"])
def test_twins_that_train_something_else_do_not_agree(wrong, monkeypatch):
    theirs = importlib.import_module("examples.pytorch.unit_vector")
    if wrong == "seed":
        monkeypatch.setattr(theirs, "manual_seed", lambda seed: torch.manual_seed(seed + 1))
    else:
        sgd = torch.optim.SGD
        monkeypatch.setattr(torch.optim, "SGD", lambda params, lr: sgd(params, lr=lr * 1.01))
    assert compare.too_far("unit_vector", compare.differences(*both("unit_vector")))


def test_the_command(monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert compare.main(["unit_vector"]) == 0
    assert "all agree" in capsys.readouterr().out
