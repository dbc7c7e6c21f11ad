"""The examples run and learn, the README lists them, and their twins are the same scripts with other imports."""

import ast
import importlib
import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import examples
import pargrad
from examples import compare
from pargrad.parallel.cores import one_blas_thread
from pargrad.rules import RULES

FOLDER = Path(__file__).parent.parent / "examples"
WITH_TESTS_OF_THEIR_OWN = {"ray_tune", "tutorial"}  # see test_ray_tune.py, test_tutorial.py
SCRIPTS = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "compare"} - WITH_TESTS_OF_THEIR_OWN
WITHOUT_A_TWIN = {"own_operator", "callbacks", "sklearn_estimators"}  # half of them is pargrad's own way

WAYS = ("Function", "rule")

# What each example must have learned, from its figures.
LEARNED = {
    "mlp": lambda figures: figures["accuracy"] > 0.97 and figures["loss at step 120"] < 0.1,
    "losses": lambda figures: (
        len(figures) == 15
        and all(
            figures[name.replace("step 100", "step 1")] > value * 2
            for name, value in figures.items()
            if name.endswith("step 100")
        )
    ),
    "unit_vector": lambda figures: figures["cosine at step 1"] < 0.9 and figures["cosine at step 200"] > 0.999,
    "own_operator": lambda figures: (
        # Five outliers of 50 would carry a fit by least squares to an offset of 1.
        all(2.9 < figures[f"slope by {way}"] < 3.1 and -1.0 < figures[f"offset by {way}"] < -0.8 for way in WAYS)
        and all(figures[f"gradient by {way}"] < 1e-6 for way in WAYS)
    ),
    "mnist": lambda figures: figures["accuracy after epoch 3"] > 0.9 and figures["loss at step 100"] < 0.5,
    "cnn": lambda figures: figures["accuracy after epoch 1"] > 0.6 and figures["loss in epoch 1"] < 2,
    "char_gpt": lambda figures: figures["loss at step 1"] > 4.3 and figures["loss at step 20"] < 3.3,
    "regression": lambda figures: (
        # Without the columns, predictions are off by 5.
        figures["root mean square error"] < 2.5 and figures["validation loss after epoch 10"] < 0.2
    ),
    "callbacks": lambda figures: (
        figures["validation F1"] > 0.9 and figures["epochs"] < 200 and figures["lr"] < 0.01 and figures["norm"] > 0.5
    ),
    "sklearn_estimators": lambda figures: figures["cross-validated accuracy"] > 0.9 and figures["test accuracy"] > 0.93,
    "custom_loop": lambda figures: (
        figures["accuracy"] == figures["accuracy after loading"] > 0.9 and figures["loss after epoch 15"] < 0.3
    ),
}
SHORT = {
    "mnist": {"num_workers": 0, "epochs": 3},
    "cnn": {"num_workers": 0, "max_steps": 8},
    "char_gpt": {"steps": 20},
    "regression": {"num_workers": 0, "epochs": 10},
    "custom_loop": {"epochs": 15},
    "callbacks": {"num_workers": 0},
    "sklearn_estimators": {"epochs": 4},
}


def test_there_is_a_check_and_a_twin_for_every_example():
    assert set(LEARNED) == SCRIPTS
    assert set(compare.PAIRS) == SCRIPTS - WITHOUT_A_TWIN
    assert {path.stem for path in (FOLDER / "pytorch").glob("*.py")} - {
        "__init__",
        "trainer",
    } == SCRIPTS - WITHOUT_A_TWIN


@pytest.fixture(autouse=True)
def _the_table_as_it_was():
    """Takes the rules that an example has entered out of the table again, which other tests walk."""
    before = set(RULES)
    yield
    for name in RULES.keys() - before:
        del RULES[name]


@pytest.mark.parametrize("name", LEARNED)
def test_an_example_learns_and_prints_its_figures(name, capsys):
    with one_blas_thread():  # other tests may have the other cores
        figures = importlib.import_module(f"examples.{name}").main(**SHORT.get(name, {}))
    assert LEARNED[name](figures)
    assert all(type(value) is float and math.isfinite(value) for value in figures.values())
    printed = capsys.readouterr().out
    for value in figures.values():
        assert f"{value:.6f}" in printed or f"{value:.2%}" in printed


@pytest.mark.parametrize("name", LEARNED)
def test_the_checks_see_that_nothing_was_learned(name):
    class Untrained(dict):
        """The same figure everywhere: no step changed anything."""

        def __missing__(self, key):
            return 0.5

    assert not LEARNED[name](Untrained({f"{i} at step 100": 0.5 for i in range(15)}))


@pytest.mark.parametrize(
    "arguments",
    [
        ["examples.unit_vector"],
        ["examples.own_operator"],
        ["examples.regression", "--num-workers", "0", "--epochs", "10"],
    ],
    ids=str,
)
def test_an_example_is_a_script(arguments):
    result = subprocess.run([sys.executable, "-m", *arguments], cwd=FOLDER.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) >= 3


def names_and_lines(path):
    """The names that a script imports, and its lines without its imports."""
    text = path.read_text()
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    numbers = {number for node in imports for number in range(node.lineno, node.end_lineno + 1)}
    lines = [line for number, line in enumerate(text.splitlines(), 1) if line and number not in numbers]
    return {(alias.name.removeprefix("pargrad.").removeprefix("torch."), alias.asname)
            for node in imports for alias in node.names}, lines  # fmt: skip


@pytest.mark.parametrize("name", sorted(SCRIPTS - WITHOUT_A_TWIN))
def test_twins_differ_in_their_imports_alone(name):
    assert names_and_lines(FOLDER / f"{name}.py") == names_and_lines(FOLDER / "pytorch" / f"{name}.py")
    text = (FOLDER / "pytorch" / f"{name}.py").read_text()
    assert "pargrad" not in text.replace("from pargrad.data import mnist", "")  # arrays, read from files
    assert re.search(r"^from torch import", text, re.MULTILINE)


def test_the_comparison_of_twins_sees_a_difference(tmp_path):
    twin = tmp_path / "twin.py"
    text = (FOLDER / "mlp.py").read_text()
    for old, new in [("lr=0.005", "lr=0.05"), ("import manual_seed", "import seed"), ("nn.functional", "nn.init")]:
        twin.write_text(text.replace(old, new))
        assert twin.read_text() != text
        assert names_and_lines(twin) != names_and_lines(FOLDER / "mlp.py")


def test_every_parameter_of_a_script_is_an_option(monkeypatch, capsys):
    given = {}

    def main(data_dir: str | None = None, steps: int = 3, num_workers: int | str = "auto"):
        given.update(data_dir=data_dir, steps=steps, num_workers=num_workers)

    monkeypatch.setattr(sys, "argv", ["script", "--data-dir", "some/where", "--num-workers", "2"])
    examples.command(main)
    assert given == {"data_dir": "some/where", "steps": 3, "num_workers": 2}
    monkeypatch.setattr(sys, "argv", ["script", "--step-size", "2"])
    with pytest.raises(SystemExit):
        examples.command(main)
    assert "unrecognized arguments: --step-size" in capsys.readouterr().err


def test_the_readme_lists_every_example_with_its_command():
    text = (FOLDER / "README.md").read_text()
    for name in SCRIPTS | WITH_TESTS_OF_THEIR_OWN:
        assert f"[{name}.py]({name}.py)" in text
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    named = set(re.findall(r"python -m ([\w.]+)", text))
    assert named == {f"examples.{name}" for name in (*SCRIPTS, *WITH_TESTS_OF_THEIR_OWN, "compare")}


# ----- the comparison, with twins of its own -----


def test_differences_are_relative_and_infinite_where_one_side_has_no_figure():
    ours = {"same": 0.0, "larger": 2.0, "nan": math.nan, "ours": 1.0, "accuracy": 0.5}
    theirs = {"same": 0.0, "larger": 1.0, "nan": math.nan, "theirs": 1.0, "accuracy": 0.75}
    assert compare.differences(ours, theirs) == {
        "same": 0.0, "larger": 0.5, "nan": math.inf, "ours": math.inf, "theirs": math.inf, "accuracy": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("figure", "theirs", "code", "told"),
    [
        ("loss", 1.00005, 0, "all agree"),
        ("loss", 1.0003, 1, "too far apart: loss\n"),
        ("accuracy", 1.0025, 0, "all agree"),
        ("accuracy", 1.004, 1, "too far apart: accuracy\n"),
        ("loss at step 7", 1.0003, 1, "too far apart: loss at step 7\n"),
    ],
)
def test_a_pair_that_differs_ends_with_an_error(monkeypatch, capsys, figure, theirs, code, told):
    monkeypatch.setattr(compare, "figures_of", lambda module, _: {figure: theirs if ".pytorch." in module else 1.0})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert compare.main(["mlp"]) == code
    printed = capsys.readouterr().out
    assert told in printed
    assert ("these do not agree: mlp" in printed) == bool(code)
    row = rf"{figure}\s+1\.00000000\s+{theirs:.8f}\s+\d\.\de-\d\d"
    assert bool(re.search(row, printed)) == compare.is_shown(figure)


@pytest.mark.parametrize(("by", "code"), [(0.0005, 0), (0.002, 1)])
def test_over_several_seeds_mean_accuracies_are_closer_than_each(monkeypatch, capsys, by, code):
    asked = []

    def figures_of(module, options):
        asked.append((module, options))
        return {"accuracy": 0.9 + options["seed"] / 100 + (by if ".pytorch." in module else 0)}

    monkeypatch.setattr(compare, "figures_of", figures_of)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert compare.main(["mnist", "--seeds", "3", "--data-dir", "there"]) == code
    assert len(asked) == 6
    assert ("examples.pytorch.mnist", {"num_workers": 0, "every": 1, "seed": 2, "data_dir": "there"}) in asked
    assert f"mean accuracy over 3 seeds: 91.000% and {0.91 + by:.3%}" in capsys.readouterr().out


def test_without_torch_the_comparison_says_so(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert compare.main([]) == 2
    assert "need torch, which is not installed: pip install torch" in capsys.readouterr().err


def test_an_unknown_pair_is_refused(capsys):
    assert compare.main(["mlp", "gan"]) == 2
    assert "no pair called gan; there are mlp, losses" in capsys.readouterr().err


def test_a_script_that_fails_is_named_with_its_error(monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    with pytest.raises(RuntimeError, match=r"examples\.nothing ended with exit code 1:(.|\n)*No module named"):
        compare.figures_of("examples.nothing", {})


# ----- the operator of one's own -----


def test_a_wrong_derivative_that_is_not_found_ends_the_page_with_an_error(monkeypatch):
    page = importlib.import_module("examples.own_operator")
    monkeypatch.setattr(page, "wrong_log_cosh", page.log_cosh)
    with pytest.raises(AssertionError, match="was not noticed"):
        page.check()


def test_both_operators_of_the_page_keep_float32_and_large_values():
    page = importlib.import_module("examples.own_operator")
    for operator in (page.LogCosh.apply, page.log_cosh):
        x = pargrad.tensor([-1000.0, 0.0, 2.0], requires_grad=True)
        y = operator(x)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == np.float32
        np.testing.assert_allclose(y.detach().numpy(), [999.306853, 0.0, 1.325002], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(x.grad.numpy(), np.tanh([-1000.0, 0.0, 2.0]), rtol=1e-6)
