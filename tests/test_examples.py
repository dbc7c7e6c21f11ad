"""The examples run and learn, the README lists them, and their twins are the same scripts with other imports."""

import importlib
import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import compare

FOLDER = Path(__file__).parent.parent / "examples"
SCRIPTS = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "compare"}
IMPORT = re.compile(r"(from|import) (pargrad|torch)\b")

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
    "mnist": lambda figures: figures["accuracy after epoch 1"] > 0.85 and figures["loss of epoch 1"] < 1.3,
}
SHORT = {"mnist": {"num_workers": 0, "epochs": 1}}


def test_there_is_a_check_and_a_twin_for_every_example():
    assert set(LEARNED) == set(compare.PAIRS) == SCRIPTS
    assert {path.stem for path in (FOLDER / "pytorch").glob("*.py")} - {"__init__"} == SCRIPTS


@pytest.mark.parametrize("name", LEARNED)
def test_an_example_learns_and_prints_its_figures(name, capsys):
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


@pytest.mark.parametrize("arguments", [["examples.unit_vector"], ["examples.mnist", "0"]], ids=str)
def test_an_example_is_a_script(arguments):
    result = subprocess.run([sys.executable, "-m", *arguments], cwd=FOLDER.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) > 3


def without_imports(path):
    """A script's lines but for the imports of pargrad or torch, and those lines with one name for both."""
    lines = path.read_text().splitlines()
    return [re.sub(r"\b(pargrad|torch)\b", "library", line) if IMPORT.match(line) else line for line in lines]


@pytest.mark.parametrize("name", sorted(SCRIPTS - {"mnist"}))
def test_twins_differ_in_their_imports_alone(name):
    assert without_imports(FOLDER / f"{name}.py") == without_imports(FOLDER / "pytorch" / f"{name}.py")
    assert "pargrad" not in (FOLDER / "pytorch" / f"{name}.py").read_text()


def test_the_comparison_of_twins_sees_a_difference(tmp_path):
    twin = tmp_path / "twin.py"
    text = (FOLDER / "mlp.py").read_text()
    for old, new in [("lr=0.005", "lr=0.05"), ("from pargrad import manual_seed", "from torch import seed")]:
        twin.write_text(text.replace(old, new))
        assert without_imports(twin) != without_imports(FOLDER / "mlp.py")


def test_the_readme_lists_every_example_with_its_command():
    text = (FOLDER / "README.md").read_text()
    for name in SCRIPTS:
        assert f"[{name}.py]({name}.py)" in text
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    assert {f"examples.{name}" for name in (*SCRIPTS, "compare")} == set(re.findall(r"python -m ([\w.]+)", text))


# ----- the comparison, with twins of its own -----


def test_differences_are_relative_and_infinite_where_one_side_has_no_figure():
    ours = {"same": 0.0, "larger": 2.0, "nan": math.nan, "ours": 1.0}
    theirs = {"same": 0.0, "larger": 1.0, "nan": math.nan, "theirs": 1.0}
    assert compare.differences(ours, theirs) == {
        "same": 0.0, "larger": 0.5, "nan": math.inf, "ours": math.inf, "theirs": math.inf,
    }  # fmt: skip


@pytest.mark.parametrize(("theirs", "code", "told"), [(1.00005, 0, "all agree"), (1.0003, 1, "more than 0.0001: mlp")])
def test_a_pair_that_differs_ends_with_an_error(monkeypatch, capsys, theirs, code, told):
    monkeypatch.setattr(compare, "figures_of", lambda module: {"loss": theirs if ".pytorch." in module else 1.0})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert compare.main(["mlp"]) == code
    printed = capsys.readouterr().out
    assert told in printed
    assert re.search(rf"loss\s+1\.00000000\s+{theirs:.8f}\s+{theirs - 1:.1e}", printed)


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
        compare.figures_of("examples.nothing")
