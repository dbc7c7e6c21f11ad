"""The run directory: who may use it, what is kept in it, and what a resume into it is refused for."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel import Callback, CheckpointError, ResourcesError, Trainer, checkpoints
from pargrad.parallel.run_directory import Metrics
from pargrad.parallel.stopwatch import PARTS
from tests.proofs_resume import lines_of
from tests.training import bits, examples, make_trainer, mlp


def steps_in(directory):
    return [step for step, _ in checkpoints.checkpoints_in(directory / "checkpoints")]


def train(directory, steps, way="mlp-adamw", **options):
    with make_trainer(way, 0, run_dir=directory, **options) as trainer:
        trainer.fit(examples(), max_steps=steps)
    return trainer


# ----- one run at a time -----


HOLDER = """
import sys
from tests.training import make_trainer
with make_trainer("mlp-adamw", 0, run_dir=sys.argv[1]):
    print("open", flush=True)
    input()
"""


def test_a_directory_of_another_process_is_refused_until_that_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(ResourcesError, match=f"in use by process {process.pid} on .*: wait until it ends"):
            make_trainer("mlp-adamw", 0, run_dir=tmp_path)
        assert ResourcesError.exit_code == 3
    finally:
        process.kill()
        process.communicate()
    train(tmp_path, 3)
    assert steps_in(tmp_path) == [3]


def test_a_trainer_of_this_process_makes_way_for_the_next_in_its_directory(tmp_path):
    first = make_trainer("mlp-adamw", 0, run_dir=tmp_path)
    first.fit(examples(), max_steps=2)
    with pytest.warns(UserWarning, match=f"not closed, has the run directory {tmp_path}: it is closed now"):
        second = make_trainer("mlp-adamw", 0, run_dir=tmp_path)
    assert first.closed and second.steps == 2
    second.fit(examples(), max_steps=3)
    second.close()
    assert steps_in(tmp_path) == [3, 2]


class MakeAnother(Callback):
    """In the middle of a fit, makes a second trainer in the run directory of the first."""

    def on_step_end(self, trainer, result):
        make_trainer("mlp-adamw", 0, run_dir=trainer.record.directory.path)


def test_a_directory_of_a_fit_under_way_is_refused(tmp_path):
    trainer = make_trainer("mlp-adamw", 0, run_dir=tmp_path, callbacks=(MakeAnother(),))
    with trainer, pytest.raises(RuntimeError, match="has the run directory .*, and is in the middle of a fit"):
        trainer.fit(examples(), max_steps=2)


def test_a_trainer_that_was_refused_leaves_the_directory_free(tmp_path):
    train(tmp_path, 2)
    with pytest.raises(ValueError, match="seed was 3, is 4"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path, seed=4)
    train(tmp_path, 4)


# ----- what is kept -----


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    x, y = examples()
    with make_trainer("even-shards", 0, run_dir=tmp_path, keep_checkpoints=2) as trainer:
        for epoch in range(6):
            if epoch == 2:
                trainer.optimizer.param_groups[0]["lr"] = 50.0  # from here on it gets worse
            trainer.fit((x, y), epochs=1, validation=(x, y))
    losses = [entry["validation_loss"] for entry in trainer.history]
    best = 16 * (1 + int(np.argmin(losses)))
    assert best <= 32
    assert steps_in(tmp_path) == [96, 80, best]
    with make_trainer("even-shards", 0, run_dir=tmp_path, keep_checkpoints=1) as trainer:  # known after a resume, too
        trainer.fit((x, y), epochs=7, validation=(x, y))
    assert steps_in(tmp_path) == [112, best]


def test_a_checkpoint_after_so_many_minutes(tmp_path):
    train(tmp_path, 4, checkpoint_minutes=1e-9)
    assert len(steps_in(tmp_path)) > 1
    train(tmp_path / "other", 4, checkpoint_minutes=None)
    assert steps_in(tmp_path / "other") == [4]


def test_metrics_have_a_line_a_step_and_a_line_an_evaluation(tmp_path):
    x, y = examples(100)
    with make_trainer("weights-and-ignored", 0, batch_size=40, run_dir=tmp_path) as trainer:
        history = trainer.fit((x, y), epochs=2, validation=(x, y))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in lines] == [
        (1, 0), (2, 0), (3, 0), (3, 0), (4, 1), (5, 1), (6, 1), (6, 1),
    ]  # fmt: skip
    evaluations = [line for line in lines if "validation_loss" in line]
    assert [line["validation_loss"] for line in evaluations] == [entry["validation_loss"] for entry in history]
    for line in lines:
        if "loss" in line:
            times = [f"{part}_ms" for part in PARTS]
            assert list(line) == ["step", "epoch", "loss", "lr", "gradient_norm", "samples_per_second", *times]
            assert line["lr"] == 3e-3
            assert line["samples_per_second"] > 0
            assert all(line[part] > 0 for part in times)


@pytest.mark.parametrize("way", ["blocks", "groups-penalty", "branching", "whole-parameters"])
def test_the_gradient_norm_is_the_same_whether_it_is_clipped_or_not(tmp_path, way):
    for name, clip_norm in (("clipped", 1e9), ("as it is", None)):
        train(tmp_path / name, 3, way, clip_norm=clip_norm)
    norms = [[line["gradient_norm"] for line in lines_of(tmp_path / name)] for name in ("clipped", "as it is")]
    assert norms[0] == norms[1]
    assert len(set(norms[0])) == 3


def test_the_milliseconds_of_a_step_add_up_to_its_time(tmp_path):
    with make_trainer("blocks", 0, run_dir=tmp_path) as trainer:
        trainer.fit(examples(), max_steps=3)  # what is done once is done
        before = time.perf_counter()
        trainer.fit(examples(), max_steps=8)
        most = time.perf_counter() - before
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][3:]
    spent = sum(line[f"{part}_ms"] for line in lines for part in PARTS) / 1e3
    assert 0.2 * most < spent <= most


def test_bytes_that_machines_send_are_means_over_what_is_written_together(tmp_path):
    sent = [0, 0]
    metrics = Metrics(tmp_path / "metrics.jsonl", 0, (0, 1))
    metrics.begin(np.zeros((1, len(PARTS) + 1)), lambda: tuple(sent))
    for step, (more, steps) in enumerate([(100, 2), (900, 3), (0, 0)], 1):
        sent[0], sent[1] = sent[0] + more, sent[1] + steps
        metrics.add((step, 0), {"step": step}, 5)
        metrics.flush()
    metrics.close()
    assert [line.get("bytes_per_step") for line in lines_of(tmp_path)] == [50, 300, None]


def test_a_number_that_is_not_finite_is_null(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl", 0, (0, 1))
    metrics.add((1, 0), {"step": 1, "loss": np.inf, "gradient_norm": float("nan"), "lr": 0.5}, 5)
    metrics.close()
    assert lines_of(tmp_path) == [{"step": 1, "loss": None, "gradient_norm": None, "lr": 0.5}]


def test_lines_that_are_added_again_are_there_once(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path / "metrics.jsonl", 0, (0, 1))
    for step in (1, 2, 2, 1, 3):
        metrics.add((step, 0), {"step": step}, 5)
    real = os.ftruncate

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "ftruncate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        metrics.flush()  # when the lines are written already
    monkeypatch.setattr(os, "ftruncate", real)
    for step in (2, 3, 4):
        metrics.add((step, 0), {"step": step}, 5)
    metrics.close()
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4]


def test_a_resume_cuts_the_lines_after_its_checkpoint(tmp_path):
    train(tmp_path, 4)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "epoch": 1, "loss": 9.0}\n{"step": 6, "ep')  # a driver that was killed
    train(tmp_path, 6)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    train(tmp_path / "other", 6)
    assert lines == lines_of(tmp_path / "other")


def test_a_run_without_a_checkpoint_begins_again(tmp_path):
    tmp_path.joinpath("metrics.jsonl").write_text('{"step": 1}\n')
    train(tmp_path, 2)
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]


# ----- resume="auto", "never" or a path -----


def test_never_refuses_a_directory_with_checkpoints(tmp_path):
    train(tmp_path, 3, resume="never")
    with pytest.raises(ValueError, match=r"1 checkpoints, the newest after step 3"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path, resume="never")


def test_a_path_goes_back_to_that_checkpoint(tmp_path):
    for steps in (2, 4, 6):
        train(tmp_path, steps)
    path = tmp_path / "checkpoints" / "step-00000004"
    trainer = train(tmp_path, 7, resume=path)
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    assert steps_in(tmp_path) == [7, 4, 2]
    assert bits(trainer) == bits(train(tmp_path / "other", 7))


def test_a_path_of_another_run_branches_off(tmp_path):
    for steps in (2, 4):
        train(tmp_path / "a", steps)
    train(tmp_path / "b", 5, resume=tmp_path / "a")
    trainer = train(tmp_path / "c", 5, resume=tmp_path / "a" / "checkpoints" / "step-00000002")
    assert steps_in(tmp_path / "a") == [4, 2]
    assert steps_in(tmp_path / "b") == steps_in(tmp_path / "c") == [5]
    assert lines_of(tmp_path / "b") == lines_of(tmp_path / "c")
    assert [line["step"] for line in lines_of(tmp_path / "c")] == [1, 2, 3, 4, 5]
    assert bits(trainer) == bits(train(tmp_path / "d", 5))
    with pytest.raises(ValueError, match="has checkpoints of its own"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path / "a", resume=tmp_path / "b")


def test_nothing_that_can_be_used_is_an_error_of_its_own(tmp_path, capsys):
    train(tmp_path, 2)
    os.truncate(tmp_path / "checkpoints" / "step-00000002" / "model.safetensors", 10)
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path)
    assert "passed over: model.safetensors has 10 bytes" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="cannot be used: model.safetensors has 10 bytes"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path, resume=tmp_path / "checkpoints" / "step-00000002")
    with pytest.raises(CheckpointError, match="no such directory"):
        make_trainer("mlp-adamw", 0, run_dir=tmp_path / "new", resume="nowhere")
    assert CheckpointError.exit_code == 5


# ----- what a resume is refused for -----


def wider():
    return nn.Sequential(nn.Linear(12, 41), nn.ReLU(), nn.Linear(41, 5))


def double():
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5, dtype=np.float64))


def deeper():
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5), nn.Linear(5, 5))


def make(directory, model=mlp, optimizer=optim.AdamW, lr=1e-3, scheduler=None, **options):
    model = model()
    optimizer = optimizer(model.parameters(), lr=lr)
    options = {"batch_size": 100, "num_workers": 0, "progress": "off", **options}
    scheduler = scheduler and scheduler(optimizer)
    return Trainer(model, F.cross_entropy, optimizer, run_dir=directory, scheduler=scheduler, **options)


def step_lr(optimizer):
    return optim.lr_scheduler.StepLR(optimizer, 1)


@pytest.mark.parametrize(("changed", "told"), [
    ({"batch_size": 50}, "batch_size was 100, is 50"),
    ({"shards": 4}, "shards was 8, is 4"),
    ({"seed": 7}, "seed was 0, is 7"),
    ({"optimizer": optim.SGD}, "optimizer was 'AdamW', is 'SGD'"),
    ({"model": wider}, r"0.weight was '\(40, 12\) float32', is '\(41, 12\) float32'"),
    ({"model": double}, r"2.weight was '\(5, 40\) float32', is '\(5, 40\) float64'"),
    ({"model": deeper}, r"3.weight was 'not there'|groups\[0\] was"),
])  # fmt: skip
def test_another_run_is_refused_and_the_difference_named(tmp_path, changed, told):
    with make(tmp_path) as trainer:
        trainer.fit(examples(), max_steps=2)
    for override in (False, True):
        with pytest.raises(ValueError, match=told):
            make(tmp_path, override=override, **changed)


@pytest.mark.parametrize(("changed", "told"), [
    ({"lr": 0.1}, "optimizer.lr was 0.001, is 0.1"),
    ({"clip_norm": 1.0}, "clip_norm was None, is 1.0"),
    ({"scheduler": step_lr}, "scheduler.kind was 'not there', is 'StepLR'"),
    ({"penalty": lambda model: (model[0].weight ** 2).sum()}, "penalty was False, is True"),
])  # fmt: skip
def test_what_may_change_must_be_said(tmp_path, changed, told):
    with make(tmp_path) as trainer:
        trainer.fit(examples(), max_steps=2)
    with pytest.raises(ValueError, match=told + ".*--override"):
        make(tmp_path, **changed)
    with make(tmp_path, override=True, **changed) as trainer:
        trainer.fit(examples(), max_steps=4)
    with make(tmp_path, **changed) as trainer:  # it is the run's own now
        trainer.fit(examples(), max_steps=5)
    assert trainer.steps == 5
    assert trainer.optimizer.param_groups[0]["lr"] == changed.get("lr", 1e-3)


def test_other_data_are_refused(tmp_path):
    x, y = examples(300)
    with make(tmp_path) as trainer:
        trainer.fit((x, y), max_steps=2)
    with make(tmp_path) as trainer, pytest.raises(ValueError, match=r"data.length was 300, is 299"):
        trainer.fit((x[:299], y[:299]), max_steps=4)
    with make(tmp_path) as trainer, pytest.raises(ValueError, match=r"data.sha256_of_64_rows was"):
        trainer.fit((x + np.float32(0.1), y), max_steps=4)


def test_what_differs_leaves_the_model_as_it_was(tmp_path):
    with make(tmp_path) as trainer:
        trainer.fit(examples(), max_steps=2)
    model = mlp()
    before = [p.array.copy() for p in model.parameters()]
    with pytest.raises(ValueError, match="optimizer.lr"):
        make(tmp_path, model=lambda: model, lr=0.5)
    assert all((p.array == old).all() for p, old in zip(model.parameters(), before))


def test_a_state_that_no_file_can_hold_is_said_at_once(tmp_path):
    model = mlp()
    optimizer = optim.AdamW([{"params": list(model.parameters()), "name": object()}])
    with pytest.raises(TypeError, match="cannot be kept in a checkpoint"):
        Trainer(model, F.cross_entropy, optimizer, batch_size=10, num_workers=0, run_dir=tmp_path)


@pytest.mark.parametrize(("options", "told"), [
    ({"run_dir": None, "resume": "never"}, "need a run_dir"),
    ({"run_dir": None, "checkpoint_steps": 3}, "need a run_dir"),
    ({"checkpoint_steps": 0}, "checkpoint_steps of at least 1"),
    ({"checkpoint_minutes": 0}, "checkpoint_minutes above 0"),
    ({"keep_checkpoints": 0}, "keep_checkpoints of at least 1"),
])  # fmt: skip
def test_wrong_options_are_refused(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        make_trainer("mlp-adamw", 0, **{"run_dir": tmp_path, **options})
