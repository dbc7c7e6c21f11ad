"""The benchmarks' other rivals train what numpy by hand trains, in torch's order, and leave no process behind."""

import json
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch

import pargrad
from benchmarks import allreduce, models, scoring
from benchmarks.models import TASKS, check_without_dropout
from benchmarks.processes import Place
from benchmarks.report import DisagreementError, check_agreement
from benchmarks.rivals import PargradRival, RayTrainRival, ddp, missing, open_rivals, torch_alone
from benchmarks.tasks import Perceptron

TASK = Perceptron(examples=300, sizes=(100, 32, 16, 4), batch_size=16, lr=0.003, weight_decay=1.0)
ALONE = Place(0, 1, "", "")
OPTIONAL = ["jax", "autograd", "mygrad"]


@pytest.fixture
def one_thread():
    """Small matrices are multiplied sooner than several threads have met."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("examples", "epoch"), [(1, 0), (2, 1), (300, 0), (5000, 3)])
def test_the_order_is_that_of_torchs_distributed_sampler(examples, epoch):
    sampler = torch.utils.data.DistributedSampler(range(examples), num_replicas=1, rank=0, seed=7)
    sampler.set_epoch(epoch)
    np.testing.assert_array_equal(Perceptron(examples=examples, seed=7).order(epoch), list(sampler))


@pytest.mark.timeout(180)
def test_one_process_ddp_and_whatever_else_is_installed_agree_with_numpy_by_hand():
    others = [name for name in OPTIONAL if not missing(name)]
    with open_rivals(TASK, ["numpy", "torch-one-thread", "torch-ddp:one-bucket", *others]) as rivals:
        for number in range(2):
            check_agreement({rival.name: rival.turn(number) for rival in rivals})
        assert [rival.processes for rival in rivals] == [1, 1, 2] + [1] * len(others)
        assert {rival.threads for rival in rivals if rival.name != "jax"} == {1}
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("rival", [lambda name, task: ddp(name, task, bucket=None), RayTrainRival])
def test_ddp_refuses_batches_that_it_would_average_wrongly(rival):
    with pytest.raises(ValueError, match="301 examples in batches of 64 do not fall into 2 equal parts"):
        rival("torch-ddp", Perceptron(examples=301, batch_size=64))


# ----- models -----


@pytest.mark.parametrize("name", TASKS)
def test_torch_and_pargrad_train_the_same_network(name, one_thread):
    task = replace(TASKS[name], examples=12, batch_size=4, **({"dropout": False} if name == "cnn" else {}))
    ours = PargradRival("pargrad", task, workers=0, shards=2)
    with torch_alone(ALONE, task, 1) as (theirs, _):
        losses = [(ours.turn(number), theirs(number)) for number in range(2)]
    ours.close()
    np.testing.assert_allclose(*zip(*losses), rtol=1e-4)
    assert losses[0][0] != losses[1][0]


def test_a_network_with_dropout_is_checked_without(monkeypatch):
    seen = []
    monkeypatch.setattr(models, "open_rivals", lambda task, names: Opened(task, seen))
    assert check_without_dropout(TASKS["lstm"], ["one"]) == models.TOLERANCE
    assert seen == []
    with pytest.raises(DisagreementError, match="one and other"):
        check_without_dropout(TASKS["cnn"], ["one", "other"])
    assert [task.dropout for task in seen] == [False]


class Opened:
    """Rivals that disagree."""

    def __init__(self, task, seen):
        seen.append(task)

    def __enter__(self):
        return [Says("one", 1.0), Says("other", 1.1)]

    def __exit__(self, *error):
        pass


class Says:
    def __init__(self, name, figure):
        self.name, self.figure = name, figure

    def turn(self, number):
        return self.figure


def test_the_command_of_models_writes_a_table_for_each(tmp_path):
    path = tmp_path / "models.json"
    names = "pargrad-workers-0-shards-1,pargrad-workers-0-shards-2"
    models.main(["--tasks", "gpt,lstm", "--steps", "1", "--batch-size", "2", "--turns", "1", "--only", names,
                 "--json", str(path)])  # fmt: skip
    titles = [row["title"] for row in json.loads(path.read_text())["rows"]]
    assert titles == [
        "character GPT, 2 x 64 characters, 2 examples an epoch",
        "LSTM, 28 rows of 28, 128 wide, batch 2, 2 examples an epoch",
    ]


# ----- scoring and reductions -----


def test_torch_finds_as_many_right_answers(one_thread):
    with scoring.torch_scores(ALONE, TASK, 1, 64) as (turn, _):
        theirs = turn(0)
    ours = scoring.PargradRival("pargrad", TASK, workers=0)
    assert 0 < ours.turn(0) == theirs < TASK.examples
    ours.close()


@pytest.mark.timeout(180)
def test_arena_gloo_and_ray_objects_come_to_the_same_parameters(cluster, tmp_path, one_thread):
    path = tmp_path / "allreduce.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(allreduce, "steps_of", lambda size: 7)
        allreduce.main(["--sizes", "50000", "--turns", "1", "--json", str(path)])
    (row,) = json.loads(path.read_text())["rows"]
    assert list(row["rivals"]) == ["pargrad-arena", "gloo", "ray-objects"]

    task = allreduce.Reduction(50_000, 7)
    parameter, optimizer = allreduce.torch_parameters(task, (task.gradient(0) + task.gradient(1)) / 2)
    for _ in range(task.steps):
        optimizer.step()
    expected = task.figure(parameter.detach().numpy())
    assert row["rivals"]["pargrad-arena"]["answer"] == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(task.figure(task.values()), rel=1e-6)
    assert multiprocessing.active_children() == []


def test_the_first_weights_are_the_same_in_both():
    ours, theirs = TASK.with_weights(pargrad), TASK.with_weights(torch)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
