"""The benchmarks run, at a tiny size, and refuse to time a rival that does something else."""

import contextlib
import json
import multiprocessing
import subprocess
import sys
import xml.etree.ElementTree
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import pargrad
from benchmarks import (
    checkpoint_overhead,
    command,
    compare,
    figure,
    memory_of_training,
    mnist_mlp,
    rivals,
    scaling,
    scoring,
    shards,
    startup,
)
from benchmarks.by_hand import NumpyRival
from benchmarks.processes import ProcessRival
from benchmarks.report import DisagreementError, check_agreement, contest, figures_of, summary, table, with_ratios
from benchmarks.rivals import Entry, entry_of_pargrad, open_rivals
from benchmarks.tasks import Perceptron
from pargrad.parallel.step import make_layout

# So much decay that a rival without it has another loss, too.
TASK = Perceptron(examples=1500, sizes=(400, 32, 16, 4), batch_size=16, lr=0.003, weight_decay=1.0)


def rows_of(path):
    """What a benchmark has written: title and rivals of each of its tables."""
    return [(row["title"], row["rivals"]) for row in json.loads(path.read_text())["rows"]]


# ----- contests -----


def test_numpy_by_hand_and_serial_pargrad_agree_and_are_timed(capsys, tmp_path):
    path = tmp_path / "seconds.json"
    sizes = ["--examples", "1500", "--sizes", "400,32,16,4", "--batch-size", "16", "--turns", "2"]
    mnist_mlp.main([*sizes, "--only", "numpy,pargrad-workers-0-shards-8", "--json", str(path)])
    ((title, rows),) = rows_of(path)
    assert title == "400-32-16-4, batch 16, 1,500 examples an epoch"
    assert list(rows) == ["numpy", "pargrad-workers-0-shards-8"]
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert len(row["values"]) == 2
        assert f"| {name} | 1 x 1 | " in printed


@pytest.mark.timeout(60)
def test_numpy_in_two_processes_trains_what_numpy_in_one_does():
    uneven = replace(TASK, examples=1495)  # a last batch of 7
    with open_rivals(uneven, ["numpy", "numpy-2-processes"]) as opened:
        for number in range(2):
            check_agreement({rival.name: rival.turn(number) for rival in opened}, 1e-5)
        assert [rival.processes for rival in opened] == [1, 2]


@contextlib.contextmanager
def at_once(place):
    yield (lambda number: float(number)), 1


@pytest.mark.timeout(60)
def test_a_process_that_ended_is_an_error_and_not_a_wait():
    rival = ProcessRival("two", at_once, processes=2)
    try:
        assert rival.turn(3) == 6.0
        rival.children[1].kill()
        with pytest.raises(RuntimeError, match=r"^two: one of its processes ended"):
            rival.turn(0)
    finally:
        rival.close()
    assert multiprocessing.active_children() == []


def test_the_table_divides_by_the_better_of_the_ways_of_a_yardstick():
    seconds = {"numpy": [1.0, 2.0, 6.0], "torch-ddp": [8.0] * 3, "torch-ddp:one-bucket": [4.0] * 3}
    rows = summary([NumpyRival(name, TASK) for name in seconds], dict.fromkeys(seconds, 0.5), seconds)
    assert rows["numpy"]["median"] == 2.0
    assert rows["numpy"]["quartiles"] == [1.5, 4.0]
    assert rows["numpy"]["over"] == {"torch-ddp": 0.5}
    assert table(rows).splitlines() == [
        "|  | processes x threads | median, s | quartiles | / torch-ddp |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| numpy | 1 x 1 | 2.00 | 1.50 to 4.00 | 0.50 |",
        "| torch-ddp | 1 x 1 | 8.00 | 8.00 to 8.00 | 2.00 |",
        "| torch-ddp:one-bucket | 1 x 1 | 4.00 | 4.00 to 4.00 | 1.00 |",
    ]


@pytest.mark.parametrize("wrong", [{"lr": 0.0033}, {"weight_decay": 0.0}, {"batch_size": 15}, {"seed": 1}], ids=str)
def test_a_rival_that_trains_something_else_is_not_timed(wrong):
    rivals = [NumpyRival("right", TASK), NumpyRival("right too", TASK), NumpyRival("wrong", replace(TASK, **wrong))]
    with pytest.raises(DisagreementError, match=r"^right and wrong do not do the same thing"):
        contest(rivals, turns=1)
    assert [rival.network.steps for rival in rivals[:2]] == [94, 94]


@pytest.mark.parametrize("other", [1.002, 0.998, float("nan"), float("inf")])
def test_figures_that_differ_by_more_than_rounding_disagree(other):
    check_agreement({"one": 1.0, "another": 1.0005})
    with pytest.raises(DisagreementError, match="one and another"):
        check_agreement({"one": 1.0, "another": other})


def test_an_unknown_rival_is_refused_with_the_names_there_are(capsys):
    with pytest.raises(SystemExit):
        mnist_mlp.main(["--only", "numpy,tensorflow"])
    assert "no rival is called tensorflow; there are numpy, numpy-2-processes, " in capsys.readouterr().err


def test_a_rival_that_is_not_installed_is_left_out_and_told_of(capsys, monkeypatch):
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None if name in ("pandas", "jax") else name)
    assert command.present(["numpy", "ray-train", "jax", "torch-ddp"]) == ["numpy", "torch-ddp"]
    assert capsys.readouterr().err.splitlines() == [
        "ray-train is left out: pandas not installed",
        "jax is left out: jax not installed",
    ]


def test_torch_jax_and_ray_are_imported_only_by_the_rivals_that_need_them():
    code = "import sys, benchmarks.mnist_mlp; print({'ray', 'torch', 'jax'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


# ----- each benchmark -----


def test_shards_are_timed_beside_as_many_as_there_are_workers(monkeypatch, tmp_path):
    path = tmp_path / "shards.json"
    names = [f"pargrad-workers-0-shards-{count}" for count in (2, 8)]
    monkeypatch.setattr(shards, "SHARDS", names)
    shards.main(["--preset", "small", "--examples", "256", "--turns", "1", "--json", str(path)])
    ((_, rows),) = rows_of(path)
    assert [list(row["over"]) for row in rows.values()] == [names[:1]] * 2


@pytest.mark.timeout(60)
def test_scaling_tells_efficiency_and_what_the_time_goes_into(cluster, tmp_path, capsys):
    path = tmp_path / "scaling.json"
    scaling.main(["--tasks", "mlp", "--examples", "1024", "--workers", "2", "--turns", "2", "--json", str(path)])
    ((_, rows),) = rows_of(path)
    together, at_once = rows.values()
    assert together["efficiency"] == 1.0
    assert at_once["efficiency"] == pytest.approx(2 * together["median"] / at_once["median"])  # of twice the work
    for row in (together, at_once):
        assert 0 < row["shares"]["compute"] <= sum(row["shares"].values()) <= 1.0
    assert "| efficiency | data | compute | reduce | update | waiting |" in capsys.readouterr().out
    assert scaling.powers_of_two(12) == (1, 2, 4, 8)


def test_efficiency_is_of_the_fewest_workers():
    watched = [
        SimpleNamespace(name=name, seconds=np.ones(5), epochs=epochs)
        for name, epochs in [("1", 1), ("2", 1), ("2 at once", 2)]
    ]
    rows = {
        "1": {"median": 3.0, "values": [3.0, 3.0], "processes": 1},
        "2": {"median": 2.0, "values": [2.0, 2.0], "processes": 2},
        "2 at once": {"median": 4.0, "values": [4.0, 4.0], "processes": 2},
    }
    found = scaling.with_shares(rows, watched)
    assert [row["efficiency"] for row in found.values()] == [1.0, 0.75, 0.75]
    assert [row["shares"]["compute"] for row in found.values()] == [1 / 6, 1 / 4, 1 / 8]


@pytest.mark.timeout(60)
def test_scorers_find_as_many_right_answers(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "TASKS", (TASK,))
    path = tmp_path / "scoring.json"
    names = "pargrad-workers-0,pargrad-workers-2"
    scoring.main(["--examples", "1300", "--turns", "1", "--only", names, "--json", str(path)])
    ((_, rows),) = rows_of(path)
    answers = {row["answer"] for row in rows.values()}
    assert len(answers) == 1
    assert 0 < answers.pop() < 1300


def test_a_scorer_that_leaves_an_example_out_is_refused():
    assert scoring.right_answers(2.9999999, 10, 10) == 3
    with pytest.raises(ValueError, match="9 of 10 examples were scored"):
        scoring.right_answers(3, 9, 10)


@pytest.mark.timeout(60)
def test_startup_tells_when_the_first_step_was_complete(tmp_path):
    path = tmp_path / "startup.json"
    startup.main(["--turns", "1", "--json", str(path), "--", "--epochs", "1", "--num-workers", "0"])
    ((_, rows),) = rows_of(path)
    python, numpy, first, end = (row["median"] for row in rows.values())
    assert list(rows)[2:] == ["pargrad, first step", "pargrad, end, after 40 steps"]
    assert python > 0
    assert 0 < numpy < first < end


def test_a_command_that_fails_is_not_timed():
    with pytest.raises(RuntimeError, match=r"--shards 3 ended with exit code 2:(.|\n)*power of two"):
        startup.run(["--shards", "3"])


@pytest.mark.timeout(60)
def test_the_memory_of_the_data_set_is_that_of_one_copy(cluster, tmp_path):
    path = tmp_path / "memory.json"
    options = ["--sizes", "784,256,256,10", "--examples", "4000", "--workers", "2", "--shards", "2"]
    memory_of_training.main([*options, "--json", str(path)])
    ((_, rows),) = rows_of(path)
    assert rows["pargrad, the data set"]["processes"] == 3
    assert rows["pargrad, the data set"]["median"] == pytest.approx(12.0, rel=0.02)  # MiB, and two workers
    assert rows["pargrad, the arena"]["over"]["the formula"] == pytest.approx(1.0, abs=0.1)


def test_the_formula_is_the_designs():
    model = Perceptron(sizes=(16, 16)).model(pargrad)
    layout = make_layout(model, pargrad.optim.AdamW(model.parameters()), 8, None)
    size = 16 * 16 + 16
    for workers, nodes in ((1, 1), (2, 2), (3, 5)):
        assert memory_of_training.formula(layout, workers) == 4 * (2 * 3 * size + nodes * size)


def test_steps_with_a_checkpoint_stand_beside_those_without(tmp_path):
    path = tmp_path / "steps.json"
    checkpoint_overhead.main(["--turns", "1", "--num-workers", "0", "--width", "8", "--json", str(path)])
    ((_, rows),) = rows_of(path)
    assert [len(row["values"]) for row in rows.values()] == [20, 20]


# ----- two runs -----


def test_two_runs_of_a_contest_are_compared_over_their_yardstick(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("before.json", "after.json")]
    for path, ours, theirs in ((paths[0], 0.2, 0.4), (paths[1], 0.2, 0.8)):
        seconds = {"pargrad-arena": ours, "ray-objects": 9.0, "gloo": theirs}
        rows = with_ratios({name: figures_of([value]) for name, value in seconds.items()}, ["gloo", "ray-objects"])
        record = {"title": "reductions", "unit": "s", "rivals": rows}
        with open(path, "w") as file:
            json.dump({"rows": [record]}, file)
    assert compare.main(paths) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("| before / yardstick | after / yardstick | after / before, over yardstick |")
    assert lines[2:] == ["| reductions: pargrad-arena | 200 ms | 200 ms | 1.00 | 0.50 | 0.25 | **0.50** |"]
    assert compare.main(paths[:1]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "|  | pargrad | gloo | ray-objects | pargrad / gloo |"


def test_the_figure_has_a_panel_for_each_contest_and_the_median_of_each_rival(tmp_path):
    taken = {"torch-ddp": [4.0, 4.4, 4.2], "pargrad": [1.0, 1.2, 1.1], "torch": [2.0, 2.0, 2.0]}
    rivals = with_ratios({name: figures_of(values, processes=1, threads=1) for name, values in taken.items()})
    saved, drawn = tmp_path / "run.json", tmp_path / "run.svg"
    saved.write_text(json.dumps({"rows": [{"title": f"{n} steps", "unit": "s", "rivals": rivals} for n in (10, 20)]}))
    figure.main([str(saved), str(drawn)])
    texts = "".join(xml.etree.ElementTree.parse(drawn).getroot().itertext())
    assert texts.count("1.10 s   0.26 of torch-ddp") == texts.count("4.20 s   1.00 of torch-ddp") == 2
    assert "10 steps" in texts and "20 steps" in texts
    assert texts.index("pargrad") < texts.index("torch")  # the fastest first


def test_what_a_rival_started_ends_also_when_another_cannot_start():
    ended = []

    class Quiet(NumpyRival):
        def close(self):
            ended.append(self.name)

    def fails(name, task):
        raise OSError("no room")

    opening = {"one": Entry(Quiet), "other": Entry(fails)}
    with pytest.raises(OSError, match="no room"), open_rivals(TASK, list(opening), opening):
        pass
    assert ended == ["one"]


def test_the_name_of_pargrads_rival_says_what_it_is():
    name, entry = entry_of_pargrad(2, 8)
    assert (name, entry.cores) == ("pargrad-workers-2-shards-8", 2)


def test_the_order_is_that_of_an_epoch():
    batches = TASK.batches(3)
    assert [len(batch) for batch in batches] == [16] * 93 + [12]
    assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(1500))
