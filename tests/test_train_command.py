"""`pargrad train` on tables and on models of one's own; its configuration, fast runs, `bench` and `completion`."""

import json
import re
import subprocess
import tempfile
import typing
from pathlib import Path

import numpy as np
import pytest
import yaml

from pargrad.cli import COMMANDS, main
from pargrad.commands import train
from pargrad.commands.completion import known_commands
from pargrad.commands.options import as_yaml, parse
from pargrad.data.recipe import Recipe, learn_recipe, read_like
from pargrad.data.tabular import read_table
from pargrad.parallel.checkpoints import checkpoints_in

SERIAL = ["--num-workers", "0", "--progress", "off"]


def lines_of(count=300):
    """Rows whose kind and price follow from what stands before them."""
    draw = np.random.default_rng(0)
    for i in range(count):
        width, colour = draw.uniform(0, 1000), draw.choice(["red", "green", "blue"])
        kind = "large" if width > 500 else colour
        yield f"{i},{width:.3f},{colour},{kind},{3 * width + 100 * (colour == 'red'):.2f}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "table.csv").write_text("\n".join(["id,width,colour,kind,price", *lines_of()]) + "\n")
    (folder / "semicolons.csv").write_text("\n".join(["id,width,colour,kind,price", *lines_of()]).replace(",", ";"))
    x = np.random.default_rng(0).standard_normal((400, 3, 2))
    np.savez(folder / "arrays.npz", x=x, y=(x[:, 0, 0] > 0).astype(np.int64))
    np.save(folder / "columns.npy", np.concatenate([x.reshape(400, 6), (x[:, :1, 0] > 0)], axis=1))
    (folder / "own_module.py").write_text(
        "import numpy as np\n"
        "from pargrad import nn, optim\n"
        "import pargrad.nn.functional as F\n"
        "x = np.random.default_rng(0).standard_normal((200, 3), dtype=np.float32)\n"
        "y = (x[:, 0] > 0).astype(np.int64)\n"
        "def pair(): return nn.Linear(3, 2), (x, y)\n"
        "def with_validation(): return nn.Linear(3, 2), (x, y), (x, y)\n"
        "def amounts(): return nn.Linear(3, 1), (x, x[:, :1])\n"
        "def all_parts():\n"
        "    model = nn.Linear(3, 2)\n"
        "    return model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.5), (x, y), (x, y)\n"
    )
    return folder


@pytest.fixture
def run(place, monkeypatch, tmp_path, capsys):
    """Runs `pargrad train` where the tables are, and gives its figures and what it printed."""
    monkeypatch.chdir(place)

    def run_it(*arguments):
        path = tmp_path / "figures.json"
        assert main(["train", *arguments, *SERIAL, "--json", str(path)]) == 0, capsys.readouterr().err
        return json.loads(path.read_text()), capsys.readouterr().out

    return run_it


# ----- tables -----


def test_a_column_of_texts_is_classes(run):
    figures, printed = run("table.csv", "--target", "kind", "--ignore", "id,price", "--metrics", "f1,confusion_matrix")
    assert figures["accuracy"] > 0.93
    assert figures["f1"] > 0.9
    assert np.sum(figures["confusion_matrix"]) == figures["dataset"]["test"] == 60
    assert figures["dataset"] == {"name": "table.csv", "train": 240, "test": 60}
    assert "table.csv (240 train, 60 validation), 4 inputs, 4 classes" in printed
    assert len(re.findall(r"^epoch ", printed, re.MULTILINE)) <= 2 * train.LINES


def test_a_column_of_amounts_is_a_regression_in_its_own_units(run):
    figures, printed = run("table.csv", "--target", "price", "--ignore", "id,kind")
    assert figures["r2"] > 0.98
    assert figures["mean_absolute_error"] > 1  # of prices up to 3,100: not of standardized ones
    assert figures["loss"] < 0.02  # of the variance
    assert "validation r2" in printed


def test_the_separator_does_not_matter(place):
    one, other = (read_table(place / name, "kind") for name in ("table.csv", "semicolons.csv"))
    np.testing.assert_array_equal(one.numbers, other.numbers)
    assert one.names == other.names == ("id", "width", "price")


@pytest.mark.parametrize("name", ["arrays.npz", "columns.npy"])
def test_arrays_are_tables(name, run):
    figures, printed = run(name, "--epochs", "20", "--lr", "0.01")
    assert figures["accuracy"] > 0.9
    assert "6 inputs, 2 classes" in printed


def test_the_split_and_the_bits_are_the_seeds(run):
    arguments = ["table.csv", "--target", "kind", "--epochs", "2"]
    one, same, other = run(*arguments)[0], run(*arguments)[0], run(*arguments, "--seed", "1")[0]
    assert one["state_sha256"] == same["state_sha256"] != other["state_sha256"]


def test_inputs_are_standardized_by_the_training_rows(place):
    table = read_table(place / "table.csv", "price", ["id"])
    rows = np.arange(200)
    recipe = learn_recipe(table, rows)
    x, y = recipe.inputs(table), recipe.targets(table)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_allclose(x[rows, 0].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(x[rows, 0].std(), 1, rtol=1e-5)
    assert abs(x[200:, 0].mean()) > 1e-3
    assert (x[:, 1:].sum(1) == 2).all()  # one of colour's values and one of kind's
    np.testing.assert_array_equal(y[:, 0], np.float32(table.target))
    assert Recipe.from_json(recipe.as_json()) == recipe


def test_another_table_is_read_by_the_recipe(place, tmp_path):
    """Other rows, other order of columns, without the target: inputs as they were in training."""
    table = read_table(place / "table.csv", "kind", ["id"])
    recipe = learn_recipe(table, np.arange(300))
    lines = [line.split(",") for line in lines_of()]
    (tmp_path / "new.csv").write_text("\n".join(["price,colour,width", *(f"{r[4]},{r[2]},{r[1]}" for r in lines[5:9])]))
    new = read_like(tmp_path / "new.csv", recipe, with_target=False)
    np.testing.assert_array_equal(recipe.inputs(new), recipe.inputs(table)[5:9])
    (tmp_path / "new.csv").write_text("price,colour,width\n1,purple,2\n3,red,4\n")
    with pytest.raises(ValueError, match="'purple' was not among what the model was trained on: blue, green, red"):
        recipe.inputs(read_like(tmp_path / "new.csv", recipe, with_target=False))


def test_what_is_missing_is_the_mean_or_a_category_of_its_own(place, run, tmp_path):
    """Also in a file of other rows; the mean is that of the rows to train on."""
    lines = [line.split(",") for line in lines_of()]
    for i in range(0, 300, 10):
        lines[i][1], lines[i + 1][2] = ("", "NA", "nan")[i % 3], ""
    path = tmp_path / "holes.csv"
    path.write_text("\n".join(["id,width,colour,kind,price", *(",".join(line) for line in lines)]))
    table = read_table(path, "price", ["id", "kind"], missing="mean")
    recipe = learn_recipe(table, np.arange(200), missing="mean")
    x = recipe.inputs(table)
    assert (x[:300:10, 0] == 0).all() and recipe.mean == (np.nanmean(table.numbers[:200]),)
    assert recipe.categories == {"colour": ("", "blue", "green", "red")} and (x[1:300:10, 1] == 1).all()
    assert Recipe.from_json(recipe.as_json()) == recipe
    np.testing.assert_array_equal(recipe.inputs(read_like(path, recipe, with_target=False)), x)
    figures, _ = run(str(path), "--target", "price", "--ignore", "id,kind", "--missing", "mean", "--epochs", "5")
    assert figures["dataset"]["train"] == 240
    arrays = {"x": np.array([[1.0, np.nan], [3, 4], [5, 6]]), "y": np.array([1.5, 2.5, 3.5])}
    np.savez(tmp_path / "holes.npz", **arrays)
    holes = read_table(tmp_path / "holes.npz", missing="mean")
    np.testing.assert_array_equal(learn_recipe(holes, np.arange(3), missing="mean").inputs(holes)[0, 1], 0)
    with pytest.raises(ValueError, match=r"row 0 of x: nan at \[1\]: expected finite"):
        read_table(tmp_path / "holes.npz")


# ----- a model of one's own -----


@pytest.mark.parametrize(("name", "held"), [("pair", 0), ("with_validation", 200), ("amounts", 0), ("all_parts", 200)])
def test_a_function_gives_model_and_data(name, held, run):
    figures, printed = run(f"own_module:{name}", "--epochs", "4")
    assert figures["dataset"] == {"name": f"own_module:{name}", "train": 200, "test": held}
    assert ("accuracy" in figures) == bool(held)
    assert "Linear, " in printed


def test_it_goes_on_only_when_the_function_is_named_again(run, tmp_path, capsys):
    directory = str(tmp_path / "run")
    figures, printed = run("own_module:all_parts", "--epochs", "2", "--run-dir", directory)
    assert f"kept in {directory}: pargrad score {directory} --model own_module:all_parts, pargrad predict" in printed
    with pytest.raises(SystemExit):
        main(["train", "--config", f"{directory}/config.yaml"])
    assert "write pargrad train own_module:all_parts on the command line" in capsys.readouterr().err
    again, _ = run("own_module:all_parts", "--config", f"{directory}/config.yaml")
    assert again["state_sha256"] == figures["state_sha256"]


# ----- options -----


@pytest.mark.parametrize("scheduler", ["CosineAnnealingLR", "LinearLR", "ReduceLROnPlateau", "OneCycleLR"])
def test_schedules_and_optimizers_by_name(scheduler, run):
    options = ["--optimizer", "SGD", "--momentum", "0.9", "--lr", "0.1", "--clip-norm", "1", "--scheduler", scheduler]
    figures, _ = run("arrays.npz", "--epochs", "3", *options)
    assert figures["accuracy"] > 0.8


def test_a_fast_run_leaves_nothing(place, run):
    before = sorted(path.name for path in place.iterdir())
    scratch = set(Path(tempfile.gettempdir()).glob("pargrad-*"))
    figures, printed = run("table.csv", "--target", "kind", "--fast-dev-run")
    assert figures["steps"] == 1
    assert "one batch of everything went well" in printed
    assert sorted(path.name for path in place.iterdir()) == before
    assert set(Path(tempfile.gettempdir()).glob("pargrad-*")) <= scratch


def test_a_fast_run_writes_a_checkpoint_where_there_is_a_directory(run, tmp_path):
    run("mnist", "--fast-dev-run", "--run-dir", str(tmp_path / "run"))
    assert [step for step, _ in checkpoints_in(tmp_path / "run" / "checkpoints")] == [1]


OTHER = {str: "other", int: 3, float: 0.25, bool: True}  # a value that is no default, by type


def test_every_option_comes_back_from_its_file(tmp_path):
    """What --print-config prints, --config takes: every option, each with a value that is not its default."""
    values = {}
    for name, hint in typing.get_type_hints(train.Options).items():
        kinds = [kind for kind in (hint, *typing.get_args(hint)) if kind in OTHER]
        literals = [kind for kind in (hint, *typing.get_args(hint)) if typing.get_origin(kind) is typing.Literal]
        values[name] = OTHER[kinds[0]] if kinds else typing.get_args(literals[0])[-1]
    options = train.Options(**values)
    path = tmp_path / "all.yaml"
    path.write_text(as_yaml(options))
    _, read = parse({"train": train}, ["train", "--config", str(path)])
    assert read == options
    differing = [name for name, value in values.items() if value == getattr(train.Options(), name)]
    assert differing == []


def test_print_config_prints_what_config_takes(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "fashion-mnist", "--lr", "0.5", "--print-config"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["lr"] == 0.5
    assert yaml.safe_load(printed)["data_set"] == "fashion-mnist"


def test_a_file_may_say_what_is_trained(place, run, tmp_path):
    (tmp_path / "run.yaml").write_text("data_set: arrays.npz\nepochs: 1\n")
    assert "arrays.npz from" in run("--config", str(tmp_path / "run.yaml"))[1]


# ----- bench and completion -----


def test_bench_gives_figures_of_one_hash(capsys, tmp_path):
    path = tmp_path / "bench.json"
    assert main(["bench", "--workers", "0", "--steps", "3", "--rounds", "2", "--json", str(path)]) == 0
    assert re.search(r"^ +0 +[\d,]+ +1\.00$", capsys.readouterr().out, re.MULTILINE)
    (figures,) = json.loads(path.read_text())
    assert figures["samples_per_second"] > 0
    assert main(["bench", "--workers", "all"]) == 2
    assert "--workers all: expected numbers" in capsys.readouterr().err


def test_bench_gives_no_figures_where_bits_differ(capsys, monkeypatch):
    hashes = iter(("first", "second"))
    monkeypatch.setattr("pargrad.parallel.state_sha256", lambda model: next(hashes))
    monkeypatch.setattr("pargrad.commands.bench.counts", lambda options: [0, 0])
    assert main(["bench", "--steps", "1", "--rounds", "1"]) == 1
    printed = capsys.readouterr().out
    assert "THE BITS ARE NOT THE SAME" in printed
    assert "samples/s" not in printed


def test_completion_knows_every_command():
    assert set(known_commands()) == set(COMMANDS)


@pytest.mark.parametrize(("words", "expected"), [
    (["pargrad", "tr"], {"train"}),
    (["pargrad", "train", "--val"], {"--validation-fraction"}),
    (["pargrad", "train", "--non-finite", "s"], {"stop", "skip"}),
    (["pargrad", "score", "--bes"], {"--best"}),
])  # fmt: skip
def test_bash_completes(words, expected, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    ask = f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _pargrad; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script + ask], capture_output=True, text=True, timeout=30, check=True)
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_every_flag(shell, capsys):
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    for name, command in known_commands().items():
        assert name in printed
        for flag in command.flags:
            assert re.search(rf"(--|-l ){flag.name[2:]}\b", printed), flag.name
