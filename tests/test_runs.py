"""Run directories read back, and `pargrad runs`."""

import json
import os
import shutil

import pytest

from pargrad.cli import main
from pargrad.parallel import state_sha256
from pargrad.reporting.runs import differing_options, find_runs, read_run, series, summary
from tests.run_directories import as_of_machines, train_into


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with two runs, and the models that they came to."""
    folder = tmp_path_factory.mktemp("runs")
    config = {"model": "mlp", "data_set": "mnist", "lr": 0.003, "seed": 0, "run_dir": "here"}
    models = [
        train_into(folder / "one", config=config),
        train_into(folder / "below" / "two", epochs=2, seed=1, config={**config, "seed": 1, "run_dir": "there"}),
    ]
    return folder, models


def test_what_a_run_came_to(two):
    folder, (model, _) = two
    run = read_run(folder / "one")
    told = summary(run)
    assert [line["step"] for line in run.steps] == list(range(1, 31))
    assert [line["step"] for line in run.evaluations] == [10, 20, 30]
    assert (told["name"], told["model"], told["data"], told["step"], told["epoch"]) == ("one", "mlp", "mnist", 30, 3)
    assert told["loss"] == pytest.approx(sum(line["loss"] for line in run.steps[20:]) / 10)
    assert told["best_validation_accuracy"] == max(series(run.evaluations, "validation_accuracy")[1])
    assert told["state_sha256"] == state_sha256(model)
    assert told["samples_per_second"] > 0
    assert told["when"] == os.stat(folder / "one" / "metrics.jsonl").st_mtime


def test_runs_are_found_below_directories_and_once(two):
    folder, _ = two
    assert find_runs([str(folder), str(folder / "one")]) == [folder / "below" / "two", folder / "one"]


def test_the_table_compares_them(two, capsys):
    folder, models = two
    assert main(["runs", str(folder)]) == 0
    heading, two_line, one_line = capsys.readouterr().out.splitlines()
    assert heading.split()[:6] == ["run", "model", "data", "step", "epoch", "loss"]
    assert heading.endswith("seed")  # the option in which they differ, and no other
    assert one_line.startswith("one") and state_sha256(models[0])[:12] in one_line
    assert two_line.startswith("two") and two_line.endswith("1")


def test_what_machines_sent_has_a_column_where_there_were_several(two, tmp_path, capsys):
    folder, _ = two
    assert main(["runs", str(folder)]) == 0
    assert "bytes/step" not in capsys.readouterr().out
    shutil.copytree(folder / "one", tmp_path / "wide")
    as_of_machines(tmp_path / "wide", 1_234_567)
    assert main(["runs", str(folder / "one"), str(tmp_path / "wide")]) == 0
    heading, one, wide = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (heading[-1], one[-1], wide[-1]) == ("bytes/step", "-", "1,234,567")
    assert summary(read_run(tmp_path / "wide"))["bytes_per_step"] == 1_234_567


def test_differing_options_have_all_values(two):
    folder, _ = two
    runs = [read_run(path) for path in find_runs([str(folder)])]
    assert differing_options(runs) == {"seed": [1, 0]}


def test_json_has_the_options_and_the_whole_hash(two, capsys):
    folder, models = two
    assert main(["runs", str(folder / "one"), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["state_sha256"] == state_sha256(models[0])
    assert told["options"]["lr"] == 0.003


def test_a_run_that_is_being_written_and_one_without_checkpoints(two, tmp_path):
    folder, _ = two
    with open(folder / "one" / "metrics.jsonl") as file:
        text = file.read()
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 31, "epo')
    run = read_run(tmp_path)
    assert [line["step"] for line in run.steps] == list(range(1, 31))
    assert summary(run)["state_sha256"] is None


def test_the_hash_of_an_older_checkpoint_is_not_told(two, tmp_path):
    folder, _ = two
    shutil.copytree(folder / "one", tmp_path / "copy")
    metrics = tmp_path / "copy" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 31, "epoch": 3, "loss": 0.5}\n')
    assert summary(read_run(tmp_path / "copy"))["state_sha256"] is None


@pytest.mark.parametrize(("contents", "message"), [
    (None, "there is no run in it"),
    ("not json\n", "metrics.jsonl, line 1, is no JSON"),
    ('{"step": 1, "loss": 2}\n[1]\n', "line 2: expected an object with a step"),
])  # fmt: skip
def test_what_is_no_run_is_refused(tmp_path, capsys, contents, message):
    if contents is not None:
        (tmp_path / "metrics.jsonl").write_text(contents)
    assert main(["runs", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_directory_is_refused(capsys):
    assert main(["runs", "nowhere/at/all"]) == 2
    assert "nowhere/at/all: there is no such directory" in capsys.readouterr().err


def test_the_best_of_amounts_is_an_r2(two, capsys, monkeypatch):
    folder, _ = two
    run = read_run(folder / "one")
    renamed = [{"step": line["step"], "validation_r2": 0.5 + i / 10} for i, line in enumerate(run.evaluations)]
    monkeypatch.setattr("pargrad.reporting.runs.read_run", lambda path: run._replace(evaluations=renamed))
    assert main(["runs", str(folder / "one")]) == 0
    assert "  r2 0.7000  " in capsys.readouterr().out
