"""Chaos on a model of one's own: the same hash, and how another one is seen."""

import itertools
import random
import re
import threading

import pytest

from pargrad import cli, optim
from pargrad.nn import functional as F
from pargrad.parallel.chaos import MOMENTS, PHASES, chaos, random_moments
from tests.training import examples, make_trainer, mlp


def test_moments_are_drawn_from_a_seed_and_somebody_starts_before_a_start():
    def drawn(seed, count=60):
        moments = random_moments(random.Random(seed), 3, 1e-4, threading.Event())
        return [next(moments) for _ in range(count)]

    assert drawn(1) == drawn(1) != drawn(2)
    phases = [phase for _, _, phase in drawn(1)]
    assert set(phases) == set(MOMENTS)
    assert all(before in PHASES for before, phase in itertools.pairwise(phases) if phase == "start")
    assert {place for _, place, _ in drawn(1)} == {0, 1, 2}
    over = threading.Event()
    over.set()
    assert list(random_moments(random.Random(1), 3, 1e-4, over)) == []


def make(**options):
    return make_trainer("branching", 2, **options), examples()


@pytest.mark.usefixtures("leaves_nothing")
def test_a_run_in_chaos_has_the_hash_of_an_undisturbed_one():
    said = []
    outcome = chaos(make, seconds=3.0, every=0.4, seed=1, tell=said.append)
    assert outcome.disturbed == outcome.undisturbed
    assert outcome.kills.total() > 0
    assert f"{outcome.steps:,} steps with {outcome.kills.total()} kills: idle " in said[1]


def test_a_run_that_is_not_reproducible_is_not_compared():
    seeds = iter((1, 2))

    def other(**options):
        trainer, data = make(**options)
        trainer.model.last.bias.array = trainer.model.last.bias.array + next(seeds)
        return trainer, data

    with pytest.raises(ValueError, match="other values the second time"):
        chaos(other, seconds=0.1, every=10.0)


# ----- the command -----


def parts():
    model = mlp()
    return model, F.cross_entropy, optim.AdamW(model.parameters()), examples()


def nothing():
    return None


@pytest.mark.usefixtures("cluster")
def test_the_command_says_both_hashes(capsys):
    assert cli.main(["chaos", "tests.test_chaos:parts", "--seconds", "2", "--every", "0.5", "--num-workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "they are the same"
    assert lines[-3].split()[-1] == lines[-2].split()[-1]


@pytest.mark.usefixtures("cluster")
def test_other_bits_are_an_exit_code(capsys, monkeypatch):
    hashes = iter(("first", "disturbed", "first", "undisturbed"))
    monkeypatch.setattr("pargrad.parallel.chaos.state_sha256", lambda model: next(hashes))
    assert cli.main(["chaos", "tests.test_chaos:parts", "--seconds", "0.2", "--num-workers", "1"]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "told"), [
    (["--num-workers", "0"], "nobody to kill"),
    (["--seconds", "0"], "--seconds 0.0: expected more than 0"),
    (["imagenet"], "expected mnist or module:function"),
    (["tests.test_chaos:missing"], "has no attribute 'missing'"),
    (["no_such_module:make"], "No module named 'no_such_module'"),
    (["tests.test_chaos:nothing"], "gave NoneType: expected .model, loss, optimizer, data."),
])  # fmt: skip
def test_what_cannot_be_run_is_said(capsys, arguments, told):
    assert cli.main(["chaos", *arguments]) == 2
    assert re.search(told, capsys.readouterr().err)
