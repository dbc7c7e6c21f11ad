"""`pargrad score` and `pargrad predict`: what they print, write and draw, and what they refuse."""

import csv
import json

import numpy as np
import pytest

import pargrad
from pargrad import optim
from pargrad.cli import main
from pargrad.data.mnist import DATA_SETS, load
from pargrad.models import MODELS
from pargrad.nn import functional as F
from pargrad.parallel import Trainer, state_sha256
from pargrad.parallel.checkpoints import checkpoints_in


@pytest.fixture(scope="module")
def images():
    return load("mnist")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    """A run directory, whose best checkpoint is not its newest, and its model."""
    directory = tmp_path_factory.mktemp("run")
    pargrad.manual_seed(0)
    model = MODELS["mlp"]()
    optimizer = optim.AdamW(model.parameters(), lr=3e-3)
    with Trainer(
        model, F.cross_entropy, optimizer, batch_size=128, num_workers=0, run_dir=directory, progress="off"
    ) as trainer:
        trainer.fit(images.train, epochs=1, validation=images.test)
        optimizer.param_groups[0]["lr"] = 0.3  # which leads away from it
        trainer.fit(images.train, max_steps=5)
    (directory / "config.yaml").write_text("model: mlp\ndata_set: mnist\n")
    return directory, model


def outputs_of(model, x):
    return model(pargrad.tensor(x)).detach().numpy()


def scored(capsys, tmp_path, *arguments):
    path = tmp_path / "figures.json"
    assert main(["score", *map(str, arguments), "--num-workers", "0", "--json", str(path)]) == 0, capsys.readouterr()
    return json.loads(path.read_text()), capsys.readouterr().out


def test_the_figures_are_the_model_s(trained, images, tmp_path, capsys):
    directory, model = trained
    told, printed = scored(capsys, tmp_path, directory, "--top-k", "3")
    x, y = images.test
    outputs = outputs_of(model, x)
    predicted = outputs.argmax(1)
    assert told["accuracy"] == np.mean(predicted == y)
    assert told["loss"] == pytest.approx(F.cross_entropy(pargrad.tensor(outputs), pargrad.tensor(y)).item(), rel=1e-5)
    assert told["top3"] == np.mean((np.argsort(-outputs, 1)[:, :3] == y[:, None]).any(1))
    assert told["count"] == 1000
    matrix = np.array(told["confusion_matrix"])
    assert matrix[3, 8] == np.sum((y == 3) & (predicted == 8))
    assert told["recall"][4] == np.mean(predicted[y == 4] == 4)
    assert told["step"] == 45
    assert told["state_sha256"] == state_sha256(model)
    assert f"accuracy {told['accuracy']:.2%}, top3" in printed
    assert "class  precision" in printed


def test_the_best_checkpoint_is_another(trained, tmp_path, capsys):
    directory, _ = trained
    newest, _ = scored(capsys, tmp_path, directory)
    best, _ = scored(capsys, tmp_path, directory, "--best")
    assert (newest["step"], best["step"]) == (45, 40)
    assert best["loss"] < newest["loss"]


def test_a_checkpoint_and_a_file_of_weights_say_the_same(trained, tmp_path, capsys):
    directory, model = trained
    pargrad.save(model.state_dict(), str(tmp_path / "weights.safetensors"))
    told = [scored(capsys, tmp_path, directory)[0]]
    told.append(scored(capsys, tmp_path, checkpoints_in(directory / "checkpoints")[0][1])[0])
    told.append(scored(capsys, tmp_path, tmp_path / "weights.safetensors")[0])
    assert len({each["state_sha256"] for each in told}) == len({each["loss"] for each in told}) == 1
    assert [each["step"] for each in told] == [45, 45, None]


def test_predictions_are_written(trained, images, tmp_path, capsys):
    directory, model = trained
    expected = F.softmax(pargrad.tensor(outputs_of(model, images.test[0])), 1).numpy()
    scored(capsys, tmp_path, directory, "--out", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        np.testing.assert_allclose(file["probabilities"], expected, rtol=1e-4, atol=1e-7)
        assert (file["predicted"] == expected.argmax(1)).all()
        assert (file["target"] == images.test[1]).all()
    scored(capsys, tmp_path, directory, "--out", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["target"]) for row in rows] == images.test[1].tolist()
    assert float(rows[7]["probability of 4"]) == pytest.approx(expected[7, 4], rel=1e-3)


def test_arrays_of_one_s_own_are_scored(trained, images, tmp_path, capsys):
    directory, _ = trained
    x, y = images.test
    np.savez(tmp_path / "pixels.npz", x=images.test_images[:90], y=y[:90])
    np.savez(tmp_path / "numbers.npz", x=x[:90], y=y[:90])
    pixels, _ = scored(capsys, tmp_path, directory, "--data-set", tmp_path / "pixels.npz")
    numbers, _ = scored(capsys, tmp_path, directory, "--data-set", tmp_path / "numbers.npz")
    assert pixels["count"] == 90
    assert pixels["loss"] == numbers["loss"]


def test_a_picture_is_drawn(trained, tmp_path, capsys):
    directory, _ = trained
    scored(capsys, tmp_path, directory, "--picture", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_in_the_picture(images):
    from pargrad.reporting.pictures import predictions_picture

    targets = np.array([0, 1, 2, 2])
    probabilities = np.eye(10)[[0, 1, 2, 5]] * 0.82 + 0.018
    figure = predictions_picture(images.test_images[:4], targets, probabilities, tuple("0123456789"))
    titles = [axes.get_title() for axes in figure.findobj(lambda each: hasattr(each, "get_images")) if axes.images]
    assert [title for title in titles if title].count("5  84%\nis 2") == 2  # among the first, and among the mistakes
    numbers = [text.get_text() for axes in figure.findobj(lambda each: hasattr(each, "texts")) for text in axes.texts]
    assert sorted(numbers)[:4] == ["1", "1", "1", "1"]


# ----- predict -----


def test_pixels_of_every_kind_are_predicted_alike(trained, images, tmp_path, capsys):
    from matplotlib.image import imsave

    directory, model = trained
    x, _ = images.test
    label = str(outputs_of(model, x[:1]).argmax())
    pixels = images.test_images[0]
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "numbers.npy", x[0])
    imsave(tmp_path / "white_on_black.png", np.repeat(pixels[..., None], 3, 2))
    imsave(tmp_path / "black_on_white.png", np.repeat(255 - pixels[..., None], 3, 2))
    printed = []
    for name, *more in (["pixels.npy"], ["numbers.npy"], ["white_on_black.png"], ["black_on_white.png", "--invert"]):
        assert main(["predict", str(directory), str(tmp_path / name), *more]) == 0
        printed.append(capsys.readouterr().out)
    assert len(set(printed)) == 1
    assert printed[0].splitlines()[1].split()[:2] == ["0", label]


def test_many_are_predicted_in_order_and_written(trained, images, tmp_path, capsys):
    directory, model = trained
    np.save(tmp_path / "images.npy", images.test_images[:30])
    arguments = ["predict", str(directory), str(tmp_path / "images.npy"), str(tmp_path / "images.npy")]
    assert main(arguments) == 0
    assert "and 40 more" in capsys.readouterr().out
    assert main([*arguments, "--out", str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as file:
        assert (file["predicted"][:30] == outputs_of(model, images.test[0][:30]).argmax(1)).all()
        assert (file["predicted"][30:] == file["predicted"][:30]).all()
        assert "target" not in file.files


def test_pixels_are_normalized_as_each_data_set_is():
    pixels = np.array([[0] * 392 + [255] * 392], np.uint8)
    for row in DATA_SETS.values():
        normalized = row.normalized(pixels)
        assert normalized.dtype == np.float32
        np.testing.assert_allclose(normalized[0, [0, -1]], [-row.mean / row.std, (1 - row.mean) / row.std], rtol=1e-6)


# ----- refused -----


@pytest.mark.parametrize(("arguments", "message"), [
    (["nowhere"], "nowhere: there is no such file or directory"),
    (["RUN", "--model", "cnn"], "is of another model than --model cnn: it has 0.bias (128,), 0.weight (128, 784)"),
    (["RUN", "--model", "cn"], "--model cn: expected mlp, cnn, or module:function; did you mean 'cnn'?"),
    (["RUN", "--data-set", "mnits"], "--data-set mnits: expected mnist, fashion-mnist, or an .npz file"),
    (["RUN", "--data-set", "TMP/missing.npz"], "there is no such file"),
    (["RUN", "--data-set", "TMP/labels.npz"], "expected 3 integers, the classes of x, from 0 to 9"),
    (["RUN", "--data-set", "TMP/shape.npz"], "has shape (3, 5): expected (n, 28, 28) or (n, 784)"),
    (["RUN", "--data-set", "TMP/no_y.npz"], "it has x, and no y"),
    (["RUN", "--out", "a.json"], "expected a name that ends in .npz or .csv"),
    (["RUN", "--top-k", "11"], "--top-k 11: expected 1 to 10"),
    (["RUN", "--picture", "a.gif"], "expected a name that ends in .png, .svg, .pdf"),
    (["TMP/labels.npz", "--best"], "--best is of a run directory"),
])  # fmt: skip
def test_wrong_use_of_score_is_refused(trained, tmp_path, capsys, arguments, message):
    directory, _ = trained
    np.savez(tmp_path / "labels.npz", x=np.zeros((3, 784), np.float32), y=np.array([1, 2, 10]))
    np.savez(tmp_path / "shape.npz", x=np.zeros((3, 5), np.float32), y=np.array([1, 2, 3]))
    np.savez(tmp_path / "no_y.npz", x=np.zeros((3, 784), np.float32))
    arguments = [word.replace("RUN", str(directory)).replace("TMP", str(tmp_path)) for word in arguments]
    assert main(["score", *arguments, "--num-workers", "0"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("name", "message"), [
    ("missing.npy", "there is no such file"),
    ("text.npy", "is no .npy file of numbers"),
    ("text.png", "is no image that can be read"),
    ("text.npz", "cannot be used as arrays x"),
    ("integers.npy", "holds int64: expected pixels, uint8"),
    ("square.npy", "has shape (1, 5, 5): expected (n, 28, 28)"),
])  # fmt: skip
def test_wrong_files_are_refused(trained, tmp_path, capsys, name, message):
    directory, _ = trained
    for ending in ("npy", "png", "npz"):
        (tmp_path / f"text.{ending}").write_text("no numbers here")
    np.save(tmp_path / "integers.npy", np.zeros((2, 784), np.int64))
    np.save(tmp_path / "square.npy", np.zeros((1, 5, 5), np.uint8))
    assert main(["predict", str(directory), str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_checkpoint_is_refused(trained, tmp_path, capsys):
    directory, _ = trained
    path = tmp_path / "step-00000045"
    path.mkdir()
    for file in checkpoints_in(directory / "checkpoints")[0][1].iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    model = path / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    assert main(["score", str(path), "--num-workers", "0"]) == 5
    assert "is damaged: its sha256 is another one" in capsys.readouterr().err
