"""What a trained model was trained on: images, a table, or examples of the user's own; and what it is asked about."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pargrad
from pargrad import nn
from pargrad.commands import train
from pargrad.commands.files import arrays_of, as_images, read_array
from pargrad.commands.options import parse
from pargrad.commands.tasks import (
    Task,
    blamed_on,
    loss_of,
    make_task,
    names_a_function,
    names_in,
    network_of,
    outputs_of,
)
from pargrad.data import as_data
from pargrad.data.idx import DataError
from pargrad.data.mnist import DATA_SETS, load
from pargrad.data.recipe import Recipe, read_like
from pargrad.data.tabular import SUFFIXES, Table, near
from pargrad.models import MODELS
from pargrad.nn import functional as F

DATA_SET, MODEL = "mnist", "mlp"  # where neither an option nor a run's config.yaml says another
CHUNK = 512  # examples read at once
CLASSES, NUMBERS, OUTPUTS = "classes", "numbers", "outputs"  # what a model's outputs are: the last, nothing known


class Asked(NamedTuple):
    """What a model is asked about. data: as a Trainer takes it, (x, y) or a data set, or x alone; images: (n, 28, 28)
    uint8, to look at, where they are images; source: ready for a sentence."""

    data: Any
    source: str
    images: np.ndarray | None = None

    def targets(self) -> np.ndarray:
        """(n, ...), of data that have them."""
        data = as_data(self.data)
        starts = range(0, len(data), CHUNK)
        chunks = [np.arange(start, min(start + CHUNK, len(data))) for start in starts]
        return np.concatenate([data.batch(chunk, pargrad.Generator())[-1] for chunk in chunks])


class Origin:
    """What a model was trained on. Abstract.

    model: with its first parameters, and network: what it is called; kind: what its outputs are; names: of the classes,
    or of the numbers.
    """

    data_set: str
    network: str
    model: nn.Module
    loss: Any
    kind: str
    names: tuple[str, ...]

    def held_out(self) -> Asked:
        """The examples that were held out when it was trained, with their targets."""
        raise NotImplementedError

    def with_targets(self, path: str) -> Asked:
        """The examples of a file, with their targets."""
        raise NotImplementedError

    def without_targets(self, paths: Sequence[str], invert: bool) -> Asked:
        """The examples of files, one after the other. invert: their pixels are black on white."""
        raise NotImplementedError

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        """Inside it an error is told as one of the user's own code, where the model is that."""
        return contextlib.nullcontext()


class Images(Origin):
    """mnist or fashion-mnist. model: a name of MODELS; options: of the command; those of `score` say where data are."""

    def __init__(self, data_set: str, model: str, options: Any):
        self.data_set, self.network, self.options = data_set, f"--model {model}", options
        self.model, self.loss = MODELS[model](), F.cross_entropy
        self.kind, self.names = CLASSES, DATA_SETS[data_set].classes

    def held_out(self) -> Asked:
        return self.test_set(self.data_set)

    def test_set(self, name: str) -> Asked:
        options = self.options
        data = load(name, data_dir=options.data_dir, download=options.download, progress=options.progress != "off")
        return Asked(data.test, f"the test set of {name} from {data.source}", data.test_images)

    def with_targets(self, path: str) -> Asked:
        if path in DATA_SETS:
            return self.test_set(path)
        if not path.endswith(".npz"):
            raise ValueError(f"--data-set {path}: expected {', '.join(DATA_SETS)}, or an .npz file with x and y")
        array, y = arrays_of(Path(path), ("x", "y"))
        x, images = as_images(array, self.data_set, path)
        classes = len(self.names)
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
            raise ValueError(
                f"{path}: y is {y.dtype.name} of shape {y.shape}, from {y.min(initial=0)} to {y.max(initial=0)}: "
                f"expected {len(x)} integers, the classes of x, from 0 to {classes - 1}"
            )
        return Asked((x, y.astype(np.int64)), path, images)

    def without_targets(self, paths: Sequence[str], invert: bool) -> Asked:
        read = [as_images(read_array(Path(path), invert), self.data_set, path)[0] for path in paths]
        return Asked(np.concatenate(read), ", ".join(paths))


class Rows(Origin):
    """A table. options: those that `train` had."""

    def __init__(self, recipe: Recipe, options: train.Options):
        self.recipe, self.options = recipe, options
        self.data_set = options.data_set
        self.network = f"the network for {self.data_set} ({recipe.features} inputs, {outputs_of(recipe)})"
        self.model, self.loss = network_of(recipe), loss_of(recipe)
        count = len(recipe.target_mean)
        numbers = (recipe.target,) if count == 1 else tuple(f"{recipe.target}[{i}]" for i in range(count))
        self.kind, self.names = (CLASSES, recipe.classes) if recipe.classes else (NUMBERS, numbers)

    def held_out(self) -> Asked:
        """Its validation rows, which are found again only where the file is as it was."""
        path = self.data_set
        instead = "or score rows of another file, --data-set FILE"
        if not Path(path).is_file():
            raise ValueError(f"the run was trained on {path}, which is not here: go to where it is, {instead}")
        task = make_task(self.options, train.Options())
        if task.recipe != self.recipe:
            raise ValueError(
                f"{path} is not what it was when the run was trained, so that the rows held out then are not known: "
                f"bring it back, {instead}"
            )
        count = len(task.validation[0])
        return Asked(task.validation, f"the {count:,} rows of {path} that were held out")

    def with_targets(self, path: str) -> Asked:
        table = read_like(path, self.recipe, with_target=True)
        return Asked((self.recipe.inputs(table), self.recipe.targets(table)), self.described(table))

    def without_targets(self, paths: Sequence[str], invert: bool) -> Asked:
        if invert:
            raise ValueError("--invert is for pixels, and the run is of a table")
        tables = [read_like(path, self.recipe, with_target=False) for path in paths]
        x = np.concatenate([self.recipe.inputs(table) for table in tables])
        return Asked(x, ", ".join(map(self.described, tables)))

    def described(self, table: Table) -> str:
        others = [name for name in table.passed_over if name not in names_in(self.options.ignore)]
        return table.path + (f" without its {', '.join(others)}, which the model does not know" if others else "")


class Own(Origin):
    """What a function of the user's own gives, which the command line names."""

    def __init__(self, task: Task):
        self.task, self.data_set = task, task.name
        self.network = f"the model of {task.name}"
        self.model, self.loss = task.model, task.loss
        *inputs, target = as_data(task.train).batch(np.arange(1), pargrad.Generator())
        self.inputs, self.target = inputs, target
        with self.blamed(), pargrad.no_grad():
            output = self.model.eval()(*map(pargrad.tensor, inputs))
        self.kind, count = kind_of(output, target, self.loss)
        what = "output" if self.kind == NUMBERS else ""
        self.names = (what,) if what and count == 1 else tuple(f"{what} {i}".strip() for i in range(count))

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        return blamed_on(self.task.name)

    def held_out(self) -> Asked:
        if self.task.validation is None:
            return Asked(self.task.train, f"the data that {self.task.name} trains on: it holds out none")
        return Asked(self.task.validation, f"the validation data of {self.task.name}")

    def with_targets(self, path: str) -> Asked:
        if not path.endswith(".npz"):
            raise ValueError(f"--data-set {path}: expected an .npz file with x and y")
        x, y = arrays_of(Path(path), ("x", "y"))
        if self.target.ndim == 2 and self.target.shape[1] == 1 and y.ndim == 1:
            y = y[:, None]
        return Asked((self.alike(x, self.first_input(), path), self.alike(y, self.target, f"y of {path}")), path)

    def without_targets(self, paths: Sequence[str], invert: bool) -> Asked:
        example = self.first_input()
        read = [self.alike(read_array(Path(path), invert), example, path) for path in paths]
        return Asked(np.concatenate(read), ", ".join(paths))

    def first_input(self) -> np.ndarray:
        if len(self.inputs) > 1:
            raise ValueError(
                f"{self.task.name} has {len(self.inputs)} inputs an example, and a file has one, x: score its own data "
                "without --data-set, or ask Trainer.predict"
            )
        return self.inputs[0]

    def alike(self, array: np.ndarray, example: np.ndarray, path: str) -> np.ndarray:
        """The array with the dtype of those trained on, and one of their kind. One example needs no axis."""
        if array.shape == example.shape[1:] and example.ndim > 1:
            array = array[None]
        if array.ndim != example.ndim or not len(array):
            shape = ", ".join(("n", *map(str, example.shape[1:])))
            raise ValueError(f"{path} has shape {array.shape}: {self.task.name} trains on ({shape})")
        if (array.dtype.kind == "f") != (example.dtype.kind == "f") or array.dtype.kind not in "biuf":
            raise ValueError(f"{path} holds {array.dtype.name}: {self.task.name} trains on {example.dtype.name}")
        return array.astype(example.dtype)


def kind_of(output: Any, target: np.ndarray, loss: Any) -> tuple[str, int]:
    """What a model's outputs are, and how many there are, of the output and the target of one example."""
    if not isinstance(output, pargrad.Tensor) or output.ndim == 0:
        return OUTPUTS, 0
    shape = tuple(output.shape)
    if len(shape) > 1 and shape[1] > 1 and target.dtype.kind in "iu" and target.shape == (shape[0], *shape[2:]):
        return CLASSES, shape[1]
    if shape == target.shape and (loss is F.binary_cross_entropy_with_logits or isinstance(loss, nn.BCEWithLogitsLoss)):
        return CLASSES, 2
    return (NUMBERS if shape == target.shape else OUTPUTS), output.numel()


# ----- from what is known of a run -----


def origin_of(where: Path, run: Path | None, options: Any) -> Origin:
    """What `where`, which lies in a run or is a file, was trained on; options: of `score` or `predict`."""
    from pargrad.parallel.run_directory import CONFIG
    from pargrad.reporting.runs import read_config

    config = {} if run is None else read_config(run / CONFIG)
    asked = options.data_set if options.data_set in DATA_SETS else DATA_SET
    model, trained_on = options.model, str(config.get("data_set", asked))
    if trained_on in DATA_SETS and not names_a_function(model):
        return images_of(trained_on, str(model or config.get("model", MODEL)), options)
    given = [name for name in ("data_dir", "download") if getattr(options, name, None)]
    if given:
        raise ValueError(f"--{given[0].replace('_', '-')} is for images: leave it out for {where}")
    if names_a_function(model):
        return Own(make_task(train.Options(data_set=model, seed=seed_of(config)), train.Options()))
    if names_a_function(trained_on):
        raise ValueError(
            f"{where} was trained on {trained_on}, a name that is never taken from a file: write --model {trained_on}"
        )
    if run is None or not trained_on.lower().endswith(SUFFIXES):
        raise ValueError(f"{where} was trained on {trained_on}: expected {', '.join(DATA_SETS)}, a table or a function")
    if model is not None:
        raise ValueError(f"--model {model}: {where} was trained on the table {trained_on}, and has its own network")
    return Rows(recipe_in(run), options_of(run))


def images_of(data_set: str, model: str, options: Any) -> Images:
    if model not in MODELS:
        raise ValueError(f"--model {model}: expected {', '.join(MODELS)}, or module:function{near(model, MODELS)}")
    return Images(data_set, model, options)


def seed_of(config: dict[str, Any]) -> int:
    """The run's, by which a function of the user's own may have cut its data."""
    seed = config.get("seed", 0)
    if type(seed) is not int:
        raise ValueError(f"the run's config.yaml has the seed {seed!r}: expected an integer")
    return seed


def options_of(run: Path) -> train.Options:
    """The options of `train` that a run was made with; none of them names anything to import."""
    from pargrad.parallel.run_directory import CONFIG

    return parse({"train": train}, ["train", "--config", str(run / CONFIG)])[1]


def recipe_in(run: Path) -> Recipe:
    path = run / train.RECIPE_FILE
    try:
        return Recipe.from_json(path.read_text())
    except (OSError, UnicodeDecodeError, DataError) as error:
        raise ValueError(f"{path}, which says how the table was read, cannot be used: {error}") from error
