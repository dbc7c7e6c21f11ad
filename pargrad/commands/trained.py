"""What `score` and `predict` share: a trained model read back, and what it is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pargrad
from pargrad import nn
from pargrad.data.idx import read_idx
from pargrad.data.mnist import DATA_SETS, load
from pargrad.models import MODELS
from pargrad.nn import functional as F

DATA_SET, MODEL = "mnist", "mlp"  # where neither an option nor a run's config.yaml says another
PICTURES = (".png", ".jpg", ".jpeg")
TABLES = (".npz", ".csv")


class Trained(NamedTuple):
    """A model with the parameters of a checkpoint. source: ready for a sentence; step: None for a file of weights.

    data_set: what it was trained on, as far as that is known.
    """

    model: nn.Module
    source: str
    step: int | None
    data_set: str


class Asked(NamedTuple):
    """What a model is asked about. x: as the model takes it; y: the targets, where they are known; images: to look at,
    (n, 28, 28) where they are images; source: ready for a sentence."""

    x: np.ndarray
    y: np.ndarray | None
    images: np.ndarray | None
    source: str
    classes: tuple[str, ...]


# ----- the model -----


def read_trained(path: str, model: str | None, best: bool) -> Trained:
    """The model in a run directory, a checkpoint, or a file that `pargrad.save` or `torch.save` wrote.

    model: a name of MODELS; None: what the run's config.yaml says, else mlp. best: of a run directory, the checkpoint
    after which the loss on the validation set was the lowest.
    """
    from pargrad.parallel.run_directory import CONFIG
    from pargrad.reporting.runs import read_config

    where = Path(path)
    if not where.exists():
        raise ValueError(f"{path}: there is no such file or directory")
    if best and not (where / "checkpoints").is_dir():
        raise ValueError(f"--best is of a run directory, and {path} is none")
    run = where if (where / "checkpoints").is_dir() else where.parent.parent
    config = read_config(run / CONFIG) if where.is_dir() else {}
    data_set = config.get("data_set", DATA_SET)
    if data_set not in DATA_SETS:
        raise ValueError(f"{path} was trained on {data_set}: score and predict know {' and '.join(DATA_SETS)}")
    kind = model or config.get("model", MODEL)
    if kind not in MODELS:
        raise ValueError(f"{path}: a run of the model {kind!r}: expected one of {', '.join(MODELS)}")
    built = MODELS[kind]()
    step, source, state = read_state_dict(where, built, best)
    try:
        built.load_state_dict(state)
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{source} does not fit --model {kind}: {error}") from error
    return Trained(built, source, step, data_set)


def read_state_dict(where: Path, model: nn.Module, best: bool) -> tuple[int | None, str, Any]:
    """(step, source, state_dict) of a run directory, a checkpoint or a file."""
    from pargrad.parallel import checkpoints
    from pargrad.parallel.errors import CheckpointError
    from pargrad.parallel.progress import say

    if where.is_file():
        return None, str(where), pargrad.load(str(where))
    largest = 4 * sum(p.array.nbytes for p in model.parameters())  # with what optimizers keep of them
    folder = where / "checkpoints" if (where / "checkpoints").is_dir() else where
    try:
        if checkpoints.checkpoints_in(folder):
            found = checkpoints.newest(folder, largest, say)
            if best and found.state.get("best"):
                found = checkpoints.read_checkpoint(
                    folder / checkpoints.step_name(found.state["best"]["step"]), largest
                )
        else:
            found = checkpoints.read_checkpoint(where, largest)
    except checkpoints.Unusable as error:
        raise CheckpointError(f"{where} is no checkpoint that can be used: {error}") from error
    return found.state["step"], str(found.path), {name: pargrad.tensor(array) for name, array in found.model.items()}


# ----- what it is asked -----


def set_to_score(name: str, trained_on: str, data_dir: str | None, download: bool, progress: bool) -> Asked:
    """The test images of a data set that pargrad knows, or an .npz file's arrays, which are as those trained on."""
    if name.endswith(".npz"):
        array, y = arrays_of(Path(name), ("x", "y"))
        x, images = as_inputs(array, trained_on, name)
        classes = DATA_SETS[trained_on].classes
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= len(classes):
            raise ValueError(
                f"{name}: y is {y.dtype.name} of shape {y.shape}, from {y.min(initial=0)} to {y.max(initial=0)}: "
                f"expected {len(x)} integers, the classes of x, from 0 to {len(classes) - 1}"
            )
        return Asked(x, y.astype(np.int64), images, name, classes)
    if name not in DATA_SETS:
        raise ValueError(f"--data-set {name}: expected {', '.join(DATA_SETS)}, or an .npz file with x and y")
    data = load(name, data_dir=data_dir, download=download, progress=progress)
    x, y = data.test
    return Asked(x, y, data.test_images, f"the test set of {name} from {data.source}", DATA_SETS[name].classes)


def inputs(paths: Sequence[str], data_set: str, invert: bool) -> Asked:
    """Arrays and images in files, one after the other, as inputs of a model that was trained on `data_set`."""
    read = [as_inputs(read_array(Path(path), invert), data_set, path) for path in paths]
    pictures = [images for _, images in read if images is not None]
    images = np.concatenate(pictures) if len(pictures) == len(read) else None
    x = np.concatenate([x for x, _ in read])
    return Asked(x, None, images, ", ".join(paths), DATA_SETS[data_set].classes)


def read_array(path: Path, invert: bool) -> np.ndarray:
    """An array from an .npy, .npz or IDX file, or the grey values of an image, (1, height, width) uint8."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    ending = path.suffix.lower()
    if ending == ".npz":
        (array,) = arrays_of(path, ("x",))
    elif ending == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
    elif ending in PICTURES:
        array = grey_values(path)
    else:
        array = read_idx(path)
    if invert and array.dtype != np.uint8:
        raise ValueError(f"--invert is for pixels, and {path} holds {array.dtype.name}")
    return 255 - array if invert else array


def arrays_of(path: Path, names: tuple[str, ...]) -> list[np.ndarray]:
    """The arrays of these names in an .npz file."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in names if name not in file.files]:
                raise ValueError(f"it has {', '.join(file.files) or 'nothing'}, and no {' or '.join(missing)}")
            return [file[name] for name in names]
    except Exception as error:  # zipfile and zlib have errors of their own for damaged files
        raise ValueError(f"{path} cannot be used as arrays {' and '.join(names)}: {error}") from error


def grey_values(path: Path) -> np.ndarray:
    """The pixels of an image, (1, height, width) uint8."""
    from pargrad.reporting.figures import matplotlib

    matplotlib()
    from matplotlib.image import imread

    try:
        pixels = np.asarray(imread(path))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow says SyntaxError of some damaged files
        raise ValueError(f"{path} is no image that can be read: {error}") from error
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255)  # matplotlib gives a PNG's as floats from 0 to 1
    if pixels.ndim == 3:
        weights = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601's luma
        pixels = np.rint(pixels[..., :3] @ weights) if pixels.shape[2] >= 3 else pixels[..., 0]
    return pixels.astype(np.uint8)[None]


def as_inputs(array: np.ndarray, data_set: str, path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(x, images): pixels, uint8, normalized as in training; numbers as they are. One example needs no axis."""
    shapes = "(n, 28, 28) or (n, 784), or one of (28, 28) or (784,)"
    if array.dtype.kind not in "fiu" or (array.dtype.kind in "iu" and array.dtype != np.uint8):
        raise ValueError(
            f"{path} holds {array.dtype.name}: expected pixels, uint8 from 0 to 255, or normalized floats, {shapes}"
        )
    if array.shape in ((28, 28), (784,)):
        array = array[None]
    if array.shape[1:] not in ((28, 28), (784,)) or not len(array):
        raise ValueError(f"{path} has shape {array.shape}: expected {shapes}")
    if array.dtype != np.uint8:
        return array.reshape(len(array), 784).astype(np.float32), None
    row = DATA_SETS[data_set]
    return row.normalized(array), array.reshape(len(array), 28, 28)


# ----- what it says -----


def probabilities_of(outputs: np.ndarray) -> np.ndarray:
    return F.softmax(pargrad.tensor(outputs), 1).numpy()


def check_table(path: str | None, flag: str = "--out") -> None:
    """Before anything is computed: whether predictions can be written there."""
    from pargrad.reporting.figures import check_folder

    if path is None:
        return
    if Path(path).suffix.lower() not in TABLES:
        raise ValueError(f"{flag} {path}: expected a name that ends in {' or '.join(TABLES)}")
    check_folder(path, flag)


def write_predictions(
    path: str, probabilities: np.ndarray, targets: np.ndarray | None, classes: tuple[str, ...]
) -> None:
    """.npz: predicted (n,) int64, probabilities (n, classes), and target (n,) where it is known; .csv: a line each."""
    predicted = probabilities.argmax(1)
    known = {} if targets is None else {"target": targets}
    if Path(path).suffix.lower() == ".npz":
        arrays: dict[str, Any] = {"predicted": predicted, "probabilities": probabilities, **known}
        np.savez(path, classes=np.array(classes), **arrays)
        return
    import csv

    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["example", *known, "predicted", *(f"probability of {name}" for name in classes)])
        for i, row in enumerate(probabilities.tolist()):
            told = [] if targets is None else [classes[targets[i]]]
            writer.writerow([i, *told, classes[predicted[i]], *(f"{each:.6g}" for each in row)])
