"""`pargrad score` and `pargrad predict` on runs of tables and of models of one's own."""

import csv
import json
import shutil
import sys

import numpy as np
import pytest

import pargrad as pg
from pargrad.cli import main
from pargrad.data.recipe import Recipe
from pargrad.nn import functional as F

SERIAL = ["--num-workers", "0", "--progress", "off"]
COLUMNS = "id,width,colour,kind,price"
MODULE = """
import numpy as np
from pargrad import nn, optim
import pargrad.nn.functional as F

x = np.random.default_rng(0).standard_normal((300, 3), dtype=np.float32)
y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1)

class Tied(nn.Module):
    def __init__(self):
        self.first, self.second, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(F.relu(self.second(self.first(x))))

class Both(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(3, 3)

    def forward(self, one, other):
        return self.layer(one + other)

def classes(): return nn.Linear(3, 3), (x[:200], y[:200]), (x[200:], y[200:])
def numbers(): return nn.Linear(3, 1), (x, x[:, :1] * 2 + 1)
def tied(): return Tied(), (x, y)
def both(): return Both(), (x, x, y)
def logits():
    model = nn.Linear(3, 1)
    target = (x[:, :1] > 0).astype(np.float32)
    return model, F.binary_cross_entropy_with_logits, optim.SGD(model.parameters(), lr=1.0), (x, target)
"""


def rows(count=200):
    """id, width, colour, kind, price: the last two follow from those before them."""
    draw = np.random.default_rng(0)
    for i in range(count):
        width, colour = draw.uniform(0, 1000), draw.choice(["red", "green", "blue"])
        kind = "large" if width > 500 else colour
        yield [str(i), f"{width:.3f}", colour, kind, f"{3 * width + 100 * (colour == 'red'):.2f}"]


def write_csv(path, names, lines):
    path.write_text("\n".join([names, *(",".join(line) for line in lines)]) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with tables, a module, and a run of each."""
    folder = tmp_path_factory.mktemp("own")
    write_csv(folder / "table.csv", COLUMNS, rows())
    x = np.random.default_rng(1).standard_normal((90, 3))
    y = (x[:, 0] > 0).astype(np.int64)
    np.savez(folder / "arrays.npz", x=x, y=y)
    np.save(folder / "columns.npy", np.concatenate([y[:, None], x], axis=1))
    np.save(folder / "x.npy", x)
    (folder / "own_models.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, *arguments in (
            ("kind", "table.csv", "--target", "kind", "--ignore", "id,price", "--epochs", "8"),
            ("price", "table.csv", "--target", "price", "--ignore", "id,kind", "--epochs", "8"),
            ("arrays", "arrays.npz", "--epochs", "2"),
            ("columns", "columns.npy", "--target", "0", "--epochs", "2"),
            *(
                (name, f"own_models:{name}", "--epochs", "2")
                for name in ("classes", "numbers", "tied", "both", "logits")
            ),
        ):
            directory = f"runs/{name}"
            json_file = f"{name}.json"
            assert main(["train", *arguments, *SERIAL, "--run-dir", directory, "--json", json_file]) == 0
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def score(here, tmp_path, capsys):
    """Runs `pargrad score`, and gives its figures and what it printed."""

    def run(*arguments):
        path = tmp_path / "figures.json"
        assert main(["score", *map(str, arguments), *SERIAL, "--json", str(path)]) == 0, capsys.readouterr().err
        return json.loads(path.read_text()), capsys.readouterr().out

    return run


@pytest.fixture
def predict(here, tmp_path, capsys):
    """Runs `pargrad predict` and gives the rows of the CSV file that it writes, and what it printed."""

    def run(*arguments):
        path = tmp_path / "predicted.csv"
        assert main(["predict", *map(str, arguments), *SERIAL, "--out", str(path)]) == 0, capsys.readouterr().err
        return read_csv(path), capsys.readouterr().out

    return run


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def refused(capsys, *arguments, code=2):
    assert main([*map(str, arguments), *SERIAL]) == code
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    return errors


# ----- tables -----


@pytest.mark.parametrize(("name", "own"), [
    ("kind", ()), ("price", ()), ("arrays", ()), ("columns", ()),
    ("classes", ("--model", "own_models:classes")),
])  # fmt: skip
def test_what_was_held_out_scores_as_it_did_in_training(name, own, score, place):
    figures = json.loads((place / f"{name}.json").read_text())
    told, printed = score(f"runs/{name}", *own)
    held = {key: figures[key] for key in ("accuracy", "loss", "r2", "mean_absolute_error") if key in figures}
    assert {key: told[key] for key in held} == held
    assert told["count"] == figures["dataset"]["test"]
    assert told["state_sha256"] == figures["state_sha256"]
    assert f" on {told['count']:,} examples" in printed


def test_classes_have_their_names(score):
    told, printed = score("runs/kind", "--top-k", "2", "--out", "held.csv")
    assert told["classes"] == ["blue", "green", "large", "red"]
    assert np.sum(told["confusion_matrix"]) == told["count"] == 40
    assert told["top2"] >= told["accuracy"]
    assert not any(name.startswith("top") for name in score("runs/kind")[0])  # there are not more than five
    assert "the 40 rows of table.csv that were held out" in printed
    held = read_csv("held.csv")
    assert np.mean([row["target"] == row["predicted"] for row in held]) == told["accuracy"]
    assert {row["predicted"] for row in held} <= set(told["classes"])


def test_amounts_have_errors_in_place_of_classes(score):
    told, printed = score("runs/price", "--out", "held.npz")
    with np.load("held.npz") as file:
        output, target = file["predicted"][:, 0].astype(float), file["target"][:, 0].astype(float)
        assert sorted(file.files) == ["predicted", "target"]
    assert told["mean_absolute_error"] == pytest.approx(np.abs(output - target).mean(), rel=1e-6)
    assert told["mean_squared_error"] == pytest.approx(np.square(output - target).mean(), rel=1e-6)
    assert told["r2"] == pytest.approx(1 - np.square(output - target).mean() / target.var(), rel=1e-6)
    assert "accuracy" not in told
    assert "mean absolute error" in printed
    assert "class" not in printed


def test_rows_of_another_file_are_predicted_without_a_target(score, predict, tmp_path):
    """In another order, with a column more and one row at least: what `score` writes of the same rows."""
    lines = list(rows())[:20]
    write_csv(tmp_path / "known.csv", COLUMNS, lines)
    told, printed = score("runs/kind", "--data-set", tmp_path / "known.csv", "--out", tmp_path / "scored.csv")
    assert told["count"] == 20
    expected = [{key: row[key] for key in row if key != "target"} for row in read_csv(tmp_path / "scored.csv")]
    assert {row["target"] for row in read_csv(tmp_path / "scored.csv")} == {line[3] for line in lines}
    assert "without" not in printed  # those that were ignored in training are no news
    write_csv(tmp_path / "new.csv", "note,colour,width", [[f"n{line[0]}", line[2], line[1]] for line in lines])
    predicted, printed = predict("runs/kind", tmp_path / "new.csv")
    assert predicted == expected
    assert "new.csv without its note, which the model does not know" in printed
    write_csv(tmp_path / "one.csv", "colour,width", [[lines[0][2], lines[0][1]]])
    assert predict("runs/kind", tmp_path / "one.csv")[0] == expected[:1]
    assert len(predict("runs/kind", tmp_path / "one.csv", tmp_path / "new.csv")[0]) == 21


def test_an_amount_is_predicted_as_the_model_says_it(predict, tmp_path, here, capsys):
    write_csv(tmp_path / "new.csv", "width,colour", [["500", "red"], ["20.5", "blue"]])
    predicted, _ = predict("runs/price", tmp_path / "new.csv")
    assert [list(row) for row in predicted] == [["example", "predicted"]] * 2
    assert float(predicted[0]["predicted"]) > float(predicted[1]["predicted"])
    assert main(["predict", "runs/price", str(tmp_path / "new.csv")]) == 0
    assert capsys.readouterr().out.split()[:3] == ["example", "price", "0"]


@pytest.mark.parametrize("name", ["arrays", "columns"])
def test_arrays_are_predicted_with_and_without_targets(name, predict, place):
    with_targets = {"arrays": "arrays.npz", "columns": "columns.npy"}[name]
    np.savez(place / "x.npz", x=np.load(place / "x.npy"))
    alone = predict(f"runs/{name}", "x.npy")[0]
    assert len(alone) == 90
    assert predict(f"runs/{name}", with_targets)[0] == predict(f"runs/{name}", "x.npz")[0] == alone


# ----- a model of one's own -----


def test_arrays_for_a_model_of_one_s_own(score, predict, place):
    """Of another precision than those it trains on; one example without an axis; figures of its outputs."""
    x = np.random.default_rng(5).standard_normal((40, 3))
    y = (x[:, 0] > 0).astype(np.int32)
    np.savez(place / "test.npz", x=x, y=y)
    np.save(place / "one.npy", x[0])
    told, _ = score("runs/classes", "--model=own_models:classes", "--data-set", "test.npz", "--out", "out.npz")
    sys.path.insert(0, str(place))
    try:
        from own_models import classes
    finally:
        sys.path.remove(str(place))
    model = classes()[0]
    weights = next((place / "runs/classes/checkpoints").glob("step-*/model.safetensors"))
    model.load_state_dict(pg.load(str(weights)))
    outputs = model(pg.tensor(x.astype(np.float32)))
    expected = F.softmax(outputs, 1).detach().numpy()
    with np.load("out.npz") as file:
        np.testing.assert_allclose(file["probabilities"], expected, rtol=1e-5)
        assert file["classes"].tolist() == ["0", "1", "2"]
    assert told["accuracy"] == np.mean(expected.argmax(1) == y)
    assert told["loss"] == pytest.approx(F.cross_entropy(outputs, pg.tensor(y.astype(np.int64))).item(), rel=1e-5)
    (row,), _ = predict(str(weights), "one.npy", "--model", "own_models:classes")
    assert float(row["probability of 2"]) == pytest.approx(expected[0, 2], rel=1e-4)


def test_numbers_of_a_model_of_one_s_own(score, predict, place):
    told, printed = score("runs/numbers", "--model", "own_models:numbers", "--out", "numbers.csv")
    assert told["mean_squared_error"] == pytest.approx(told["loss"], rel=1e-5)
    assert "that own_models:numbers trains on: it holds out none" in printed
    x = np.load(place / "x.npy")
    np.savez(place / "numbers.npz", x=x, y=2 * x[:, 0] + 1)  # whose targets have an axis less than those trained on
    told, _ = score("runs/numbers", "--model", "own_models:numbers", "--data-set", "numbers.npz", "--out", "out.csv")
    assert told["count"] == 90
    predicted, _ = predict("runs/numbers", "x.npy", "--model", "own_models:numbers")
    assert [row["predicted"] for row in read_csv("out.csv")] == [row["predicted"] for row in predicted]


def test_one_score_an_example_is_two_classes(score):
    told, _ = score("runs/logits", "--model", "own_models:logits", "--out", "logits.csv")
    held = read_csv("logits.csv")
    assert np.mean([row["target"] == row["predicted"] for row in held]) == told["accuracy"] > 0.7
    assert all((float(row["probability of 1"]) > 0.5) == (row["predicted"] == "1") for row in held)
    assert np.sum(told["confusion_matrix"]) == 300


@pytest.mark.parametrize("name", ["tied", "both"])
def test_tied_weights_and_two_inputs(name, score, here, capsys):
    told, _ = score(f"runs/{name}", "--model", f"own_models:{name}")
    assert told["state_sha256"] == json.loads((here / f"{name}.json").read_text())["state_sha256"]
    if name == "both":
        errors = refused(capsys, "predict", "runs/both", "x.npy", "--model", "own_models:both")
        assert "own_models:both has 2 inputs an example, and a file has one" in errors


def test_a_name_in_a_run_s_files_is_not_imported(place, tmp_path, monkeypatch, capsys):
    shutil.copytree(place / "runs/classes", tmp_path / "run")
    (tmp_path / "harmful.py").write_text("import pathlib\npathlib.Path('imported').touch()\n")
    (tmp_path / "run/config.yaml").write_text("data_set: harmful:make\n")
    (tmp_path / "score.yaml").write_text("model: harmful:make\n")
    monkeypatch.chdir(tmp_path)
    errors = refused(capsys, "score", "run")
    assert (
        "run was trained on harmful:make, a name that is never taken from a file: write --model harmful:make" in errors
    )
    for command in (["score", "run"], ["predict", "run", "x.npy"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--config", "score.yaml"])
        assert ended.value.code == 2
        assert f"write pargrad {command[0]} ... --model harmful:make on the command line" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()


# ----- refused -----


CSV = {
    "renamed.csv": "widht,colour,kind\n1,red,red\n",
    "texts.csv": "width,colour,kind\n1,red,red\nwide,red,red\n",
    "empty_cell.csv": "width,colour,kind\n1,red,red\n,red,red\n",
    "infinite.csv": "width,colour,kind\n1,red,red\ninf,red,red\n",
    "colour.csv": "width,colour,kind\n1,red,red\n2,purple,red\n",
    "label.csv": "width,colour,kind\n1,red,red\n2,red,small\n",
    "new.csv": "width,colour\n1,red\n",
    "header.csv": "width,colour,kind\n",
}
OWN = "--model own_models:classes"

# the command; what is said
REFUSED = {
    "a column of another name": ("predict runs/kind renamed.csv",
        "renamed.csv has no column 'width', which the model was trained on; it has 'widht', which the model does not "
        "know; did you mean 'widht'?"),
    "columns of another table": ("score runs/kind --data-set sizes.csv", "no column 'width' and no 'colour'"),
    "no target to score by": ("score runs/kind --data-set new.csv", "new.csv has no 'kind', the target"),
    "text among numbers": ("predict runs/kind texts.csv", "texts.csv, line 3, column 'width': 'wide' is not a number"),
    "a value that is missing": ("predict runs/kind empty_cell.csv", "line 3, column 'width': the value is missing"),
    "an infinite value": ("predict runs/kind infinite.csv", "line 3, column 'width': inf is not finite"),
    "a text that is new": ("predict runs/kind colour.csv", "line 3, 'colour': 'purple' was not among what the model"),
    "a class that is new": ("score runs/kind --data-set label.csv", "line 3, 'kind': 'small' was not among what"),
    "a file without rows": ("predict runs/kind header.csv", "header.csv has 0 rows: expected one at least"),
    "arrays for named columns": ("predict runs/kind x.npy", "x.npy has no names of columns, and the model was trained"),
    "names for arrays": ("predict runs/arrays new.csv", "new.csv has no column 'x[0]' and no 'x[1]' and no 'x[2]'"),
    "an image for a table": ("predict runs/kind digit.png", "digit.png: expected a table, a name that ends in .csv"),
    "a table that is not there": ("predict runs/kind nowhere.csv", "nowhere.csv: there is no such file"),
    "too many columns": ("predict runs/arrays columns.npy", "columns.npy has 4 columns, and the model was trained on"),
    "too few columns": ("score runs/columns --data-set x.npy",
        "x.npy has 3 columns, and the model was trained on 4, with the target in column 0"),
    "another network for a table": ("score runs/kind --model cnn", "--model cnn: runs/kind was trained on the table"),
    "images for a table": ("predict runs/kind new.csv --data-set mnist", "was trained on table.csv: leave it out"),
    "an images' option for a table": ("score runs/kind --data-dir here", "--data-dir is for images: leave it out"),
    "a picture of a table": ("score runs/kind --picture a.png", "--picture draws pixels (uint8), and there are none"),
    "inverted rows": ("predict runs/kind new.csv --invert", "--invert is for pixels"),
    "top-k of fewer classes": ("score runs/kind --top-k 5", "--top-k 5: expected 1 to 4, the number of classes"),
    "top-k of amounts": ("score runs/price --top-k 2", "--top-k 2 has no meaning for the network for table.csv"),
    "the checkpoint of another model": (f"score runs/numbers {OWN}",
        "is of another model than the model of own_models:classes: it has bias (1,), weight (1, 3) where that has "
        "weight (3, 3), bias (3,)"),
    "a table's checkpoint for images": ("score arrays.safetensors",
        "arrays.safetensors is of another model than --model mlp: it has 0.bias (32,), 0.weight (32, 3), 2.bias (16,) "
        "and 3 more where that has 0.weight (128, 784), 0.bias (128,), 2.weight (64, 128) and 3 more"),
    "a function that is not there": ("score runs/classes --model own_models:clases", "has no attribute 'clases'"),
    "arrays that are too narrow": (f"predict runs/classes narrow.npy {OWN}", "got (5, 2)"),
    "integers for floats": (f"predict runs/classes integers.npy {OWN}", "holds int64: own_models:classes trains on"),
    "an axis that is missing": (f"predict runs/classes flat.npy {OWN}", "has shape (5,): own_models:classes trains on"),
    "floats for classes": (f"score runs/classes {OWN} --data-set floats.npz", "y of floats.npz holds float64"),
    "a table for a model of one's own": (f"score runs/classes {OWN} --data-set table.csv", "expected an .npz file"),
    "no weights": ("score table.csv", "table.csv is damaged, or no safetensors file"),
    "weights of something else": ("score list.safetensors", "holds list: expected tensors by name"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_use_is_refused(name, here, capsys):
    for file, text in CSV.items():
        (here / file).write_text(text)
    (here / "sizes.csv").write_text("size,kind\n1,red\n")
    np.save(here / "narrow.npy", np.zeros((5, 2)))
    np.save(here / "integers.npy", np.zeros((5, 3), np.int64))
    np.save(here / "flat.npy", np.zeros(5))
    np.savez(here / "floats.npz", x=np.zeros((5, 3)), y=np.zeros(5))
    pg.save([pg.ones(2)], str(here / "list.safetensors"))
    weights = next((here / "runs/arrays/checkpoints").glob("step-*/model.safetensors"))
    shutil.copyfile(weights, here / "arrays.safetensors")
    command, message = REFUSED[name]
    assert message in refused(capsys, *command.split())


def test_a_run_without_a_checkpoint_is_said(here, tmp_path, capsys):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    shutil.copyfile(here / "runs/kind/table.json", tmp_path / "run/table.json")
    shutil.copyfile(here / "runs/kind/config.yaml", tmp_path / "run/config.yaml")
    assert "run has no checkpoint yet" in refused(capsys, "score", tmp_path / "run", code=5)
    (tmp_path / "run/table.json").unlink()
    assert "table.json, which says how the table was read, cannot be used" in refused(capsys, "score", tmp_path / "run")


def test_a_table_that_changed_is_refused(place, tmp_path, monkeypatch, capsys):
    """By `score`, for which the rows held out are unknown, and by `train`, which would go on with others."""
    shutil.copytree(place / "runs/kind", tmp_path / "runs/kind")
    monkeypatch.chdir(tmp_path)
    assert "trained on table.csv, which is not here: go to where it is" in refused(capsys, "score", "runs/kind")
    write_csv(tmp_path / "table.csv", COLUMNS, list(rows())[1:])
    assert "table.csv is not what it was when the run was trained" in refused(capsys, "score", "runs/kind")
    kept = (tmp_path / "runs/kind/table.json").read_text(), (tmp_path / "runs/kind/config.yaml").read_text()
    again = ["train", "--config", "runs/kind/config.yaml"]
    assert "runs/kind has checkpoints of another table, or of this one before it changed: mean.width was" in refused(
        capsys, *again
    )
    assert "another table, or of this one before it changed: target was 'kind', is 'colour'" in refused(
        capsys, *again, "--target", "colour"
    )
    assert kept == ((tmp_path / "runs/kind/table.json").read_text(), (tmp_path / "runs/kind/config.yaml").read_text())


@pytest.mark.parametrize(("name", "value"), [
    ("numbers", [1]), ("mean", ["a"]), ("mean", []), ("std", [0.0]), ("std", [float("nan")]), ("classes", ["one"]),
    ("categories", {"colour": [1]}), ("categories", []), ("target_mean", [1.0]), ("more", 1),
])  # fmt: skip
def test_a_damaged_recipe_is_refused(here, name, value):
    held = json.loads((here / "runs/kind/table.json").read_text())
    with pytest.raises(ValueError, match="no recipe of a table"):
        Recipe.from_json(json.dumps({**held, name: value}))


def test_outputs_that_are_no_array_have_a_loss_only(here):
    from pargrad.commands.origins import OUTPUTS, kind_of

    output, target = pg.ones(1, 3), np.zeros(1, np.int64)
    assert kind_of((output, output), target, F.cross_entropy) == (OUTPUTS, 0)
    assert kind_of(output, np.zeros((1, 2), np.float32), F.mse_loss) == (OUTPUTS, 3)
    assert kind_of(output, target, F.cross_entropy) == ("classes", 3)
    assert kind_of(output, np.zeros((1, 3), np.float32), F.mse_loss) == ("numbers", 3)
