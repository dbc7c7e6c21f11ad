"""The benchmarks run, at a tiny size, and refuse to time a rival that trains something else."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import mnist_mlp
from benchmarks.report import DisagreementError, check_agreement, contest, summary, table
from benchmarks.rivals import NumpyRival, Task

# So much decay that a rival without it has another loss, too.
TASK = Task(examples=1500, sizes=(400, 32, 16, 4), batch_size=16, lr=0.003, weight_decay=1.0)


def test_numpy_by_hand_and_serial_pargrad_agree_and_are_timed(capsys, tmp_path):
    path = tmp_path / "seconds.json"
    sizes = ["--examples", "1500", "--sizes", "400,32,16,4", "--batch-size", "16", "--epochs", "2"]
    mnist_mlp.main([*sizes, "--only", "numpy,pargrad-workers-0-*", "--json", str(path)])
    rows = json.loads(path.read_text())["rivals"]
    assert list(rows) == ["numpy", "pargrad-workers-0-shards-8"]
    printed = capsys.readouterr().out
    for name, row in rows.items():
        assert len(row["seconds"]) == 2
        assert f"| {name} | 1 x 1 | {row['median']:.3f} |" in printed


def test_the_table_divides_by_the_yardsticks_that_ran():
    rivals = [NumpyRival(name, TASK) for name in ("numpy", "torch-ddp")]
    seconds = {"numpy": [1.0, 2.0, 6.0], "torch-ddp": [4.0, 4.0, 4.0]}
    rows = summary(rivals, dict.fromkeys(seconds, 0.5), seconds)
    assert rows["numpy"]["median"] == 2.0
    assert rows["numpy"]["quartiles"] == [1.5, 4.0]
    assert rows["numpy"]["over"] == {"torch-ddp": 0.5}
    assert table(rows).splitlines() == [
        "| rival | processes x threads | s/epoch, median | quartiles | / torch-ddp |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| numpy | 1 x 1 | 2.000 | 1.500 to 4.000 | 0.50 |",
        "| torch-ddp | 1 x 1 | 4.000 | 4.000 to 4.000 | 1.00 |",
    ]


@pytest.mark.parametrize("wrong", [{"lr": 0.0033}, {"weight_decay": 0.0}, {"batch_size": 15}, {"seed": 1}], ids=str)
def test_a_rival_that_trains_something_else_is_not_timed(wrong):
    rivals = [NumpyRival("right", TASK), NumpyRival("right too", TASK), NumpyRival("wrong", replace(TASK, **wrong))]
    with pytest.raises(DisagreementError, match=r"^right and wrong do not train the same thing"):
        contest(rivals, epochs=1)
    assert [rival.steps for rival in rivals[:2]] == [94, 94]


@pytest.mark.parametrize("other", [1.002, 0.998, float("nan"), float("inf")])
def test_losses_that_differ_by_more_than_rounding_disagree(other):
    check_agreement({"one": 1.0, "another": 1.0005})
    with pytest.raises(DisagreementError, match="one and another"):
        check_agreement({"one": 1.0, "another": other})


def test_an_unknown_rival_is_refused_with_the_names_there_are(capsys):
    with pytest.raises(SystemExit):
        mnist_mlp.main(["--only", "numpy,tensorflow"])
    assert "no rival is called tensorflow; there are numpy, torch, " in capsys.readouterr().err


def test_torch_and_ray_are_imported_only_by_the_rivals_that_need_them():
    code = "import sys, benchmarks.mnist_mlp; print({'ray', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
