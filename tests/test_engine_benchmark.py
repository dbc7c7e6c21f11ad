"""The engine's benchmark runs, at a tiny size, and refuses to time libraries that do not compute the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pargrad
from benchmarks import compare, engine, memory
from benchmarks.compare import Figures
from benchmarks.engine_rows import ROWS
from benchmarks.libraries import LIBRARIES, TorchLike, installed
from benchmarks.report import DisagreementError

ROOT = Path(__file__).parent.parent
FOUND = [np.float32([1.0]), np.float32([[2.0, -4.0]])]


def run(*arguments):
    # pytest-benchmark times nothing in a process that it takes for one of several; this one is a command of its own.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=own, capture_output=True, text=True)


# ----- the command -----


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny run of two rows, and what was printed."""
    path = tmp_path_factory.mktemp("runs") / "tiny.json"
    result = run("benchmarks.engine", "--tiny", "--rounds", "1", "--only", "c*n,memory", "--save", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    return path, result.stdout


def test_the_command_prints_and_keeps_the_table(saved):
    path, printed = saved
    rows = compare.load(path)
    assert printed.endswith(compare.table(rows) + "\n")
    assert list(rows) == [ROWS["chain"].title, ROWS["convolution"].title, engine.MEMORY_TITLE]
    for row in rows.values():
        assert list(row) == installed()
        assert all(figures.median > 0 for figures in row.values())


def test_two_runs_are_compared_in_one_table(saved, capsys):
    path = str(saved[0])
    assert compare.main([path, path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    assert all("| 1.00 |" in line for line in lines[2:])


def test_an_unknown_row_is_refused_with_the_names_there_are():
    result = run("benchmarks.engine", "--tiny", "--only", "chain,recursion")
    assert result.returncode != 0
    assert f"no row is called recursion; there are {', '.join(engine.NAMES)}" in result.stdout + result.stderr


def test_without_pytest_benchmark_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    assert engine.main(["--tiny"]) == 2
    assert 'pip install ".[test,bench]"' in capsys.readouterr().err


# ----- agreement -----


def with_functions(**wrong):
    """pargrad under another name, with some of its functions replaced."""
    library = TorchLike(pargrad)
    vars(library.functions).update(wrong)
    return library


@pytest.fixture
def beside(monkeypatch):
    """Puts a library in torch's place, and leaves only it and pargrad."""

    def put(library):
        engine.library.cache_clear()
        monkeypatch.setattr(engine, "installed", lambda: ["pargrad", "torch"])
        monkeypatch.setitem(LIBRARIES, "torch", lambda: library)

    yield put
    engine.library.cache_clear()


@pytest.mark.parametrize("name", ROWS)
def test_the_libraries_agree_on_every_row_and_are_timed(name):
    seconds = engine.measure(ROWS[name], 1, tiny=True)
    assert list(seconds) == [each for each in ROWS[name].libraries if each in installed()]
    assert all(len(each) == 1 for each in seconds.values())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("chain", {"tanh": lambda x: pargrad.tanh(x) * 1.001}),
        ("chain", {"tanh": lambda x: pargrad.tanh(x).detach() + 0 * x}),  # right values, no gradient behind them
        ("mlp", {"cross_entropy": lambda x, y: pargrad.nn.functional.cross_entropy(x, y, reduction="sum")}),
        ("convolution", {"relu": lambda x: x}),
        ("hessian_vector", {"tanh": lambda x: x}),
        ("vmap_gradients", {"relu": pargrad.abs}),
    ],
)
def test_a_library_that_computes_something_else_is_not_timed(name, wrong, beside, monkeypatch):
    beside(with_functions())
    assert list(engine.measure(ROWS[name], 1, tiny=True)) == ["pargrad", "torch"]
    beside(with_functions(**wrong))
    monkeypatch.setattr(engine, "turns", lambda steps, rounds: pytest.fail("it was timed"))
    with pytest.raises(DisagreementError, match=f"^{name}: torch and pargrad do not compute the same"):
        engine.measure(ROWS[name], 1, tiny=True)


@pytest.mark.parametrize("change", [1.0005, 0.9995, float("nan"), float("inf")])
def test_one_wrong_element_is_a_disagreement(change):
    engine.check_agreement("row", {"one": FOUND, "other": [x * np.float32(1 + 1e-6) for x in FOUND]})
    wrong = [FOUND[0], FOUND[1] * np.float32([[1.0, change]])]
    with pytest.raises(DisagreementError, match="row: other and one do not .* array 1 of 2"):
        engine.check_agreement("row", {"one": FOUND, "other": wrong})
    with pytest.raises(DisagreementError, match="row: one and other do not .* array 1 of 2"):
        engine.check_agreement("row", {"other": wrong, "one": FOUND})


@pytest.mark.parametrize("wrong", [FOUND[:1], [FOUND[0], FOUND[1].T], [*FOUND, FOUND[0]]], ids=str)
def test_other_shapes_are_a_disagreement(wrong):
    with pytest.raises(DisagreementError, match="row: other found arrays of shapes"):
        engine.check_agreement("row", {"one": FOUND, "other": wrong})


def test_libraries_take_turns(monkeypatch):
    monkeypatch.setattr(engine, "SHORTEST", 0.0)  # one step a turn
    seen = []
    seconds = engine.turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert "".join(seen) == "ab" + "ababab"
    assert [len(each) for each in seconds.values()] == [3, 3]


# ----- tables -----


def test_the_table_has_medians_quartiles_and_the_ratio():
    rows = {
        "a row": {
            "pargrad": Figures([0.001, 0.002, 0.003], "s"),
            "torch": Figures([0.002, 0.004, 0.0024], "s"),
            "mygrad": Figures([0.5, 1.0, 1.5], "s"),
        },
        "memory": {"pargrad": Figures([50.0], "MiB"), "torch": Figures([200.0], "MiB")},
        "ours": {"pargrad": Figures([1e-5], "s")},
    }
    assert compare.table(rows).splitlines() == [
        "|  | pargrad | torch | mygrad | pargrad / torch |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| a row | 2.00 ms (1.50 to 2.50) | 2.40 ms (2.20 to 3.20) | 1000 ms (750 to 1250) | **0.83** (0.50 to 0.88) |",
        "| memory | 50.0 MiB | 200 MiB | - | **0.25** (0.25 to 0.25) |",
        "| ours | 0.0100 ms | - | - | - |",
    ]


def test_a_change_is_told_apart_from_a_slower_machine():
    before = {"row": {"pargrad": Figures([0.010], "s"), "torch": Figures([0.020], "s")}, "gone": {}}
    slower_machine = {"row": {"pargrad": Figures([0.020], "s"), "torch": Figures([0.040], "s")}, "new": {}}
    slower_code = {"row": {"pargrad": Figures([0.020], "s"), "torch": Figures([0.020], "s")}}
    lines = [compare.changes(before, after).splitlines()[2:] for after in (slower_machine, slower_code)]
    assert lines == [
        ["| row | 10.0 ms | 20.0 ms | 2.00 | 0.50 | 0.50 | **1.00** |"],
        ["| row | 10.0 ms | 20.0 ms | 2.00 | 0.50 | 1.00 | **2.00** |"],
    ]


def test_without_torch_only_pargrad_is_compared():
    rows = {"row": {"pargrad": Figures([0.010], "s")}}
    assert compare.changes(rows, rows).splitlines()[2:] == ["| row | 10.0 ms | 10.0 ms | 1.00 | - | - | - |"]


def test_a_run_that_is_not_there_is_named_beside_those_that_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "FOLDER", tmp_path)
    (tmp_path / "before.json").write_text(json.dumps({"benchmarks": []}))
    assert compare.main(["after"]) == 2
    assert f"no run at {tmp_path / 'after.json'}; of those saved there: before" in capsys.readouterr().err
    assert compare.main([]) == 2


# ----- memory -----


def test_the_peak_is_seen_after_it_has_passed():
    size = 64 * 2**20
    steps = ["None", f"np.ones({size}, np.uint8).sum()", f"[np.ones({size // 4}, np.uint8) for _ in range(4)]"]
    program = "import numpy as np\nfrom benchmarks.memory import added_by\n"
    program += "\n".join(f"print(added_by(lambda: {step}))" for step in steps)
    # A process of its own: what this one has freed before would be taken first.
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100,
        env={**os.environ, **memory.NO_GAPS},
    ).stdout  # fmt: skip
    nothing, seen, kept = map(int, out.split())
    assert nothing < size / 8
    assert size * 0.9 <= seen < size * 1.25  # the kernel counts by some dozens of pages at a time
    assert size * 0.9 <= kept < size * 1.25


def test_a_process_that_fails_is_named_with_its_error():
    with pytest.raises(RuntimeError, match=r"benchmarks\.memory theano tiny ended with exit code 1:(.|\n)*KeyError"):
        memory.peak("theano", tiny=True)
