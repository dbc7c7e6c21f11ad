"""Arrays and images in files, as `score` and `predict` take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pargrad.data.idx import read_idx
from pargrad.data.mnist import DATA_SETS

PICTURES = (".png", ".jpg", ".jpeg")


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


def as_images(array: np.ndarray, data_set: str, path: str) -> tuple[np.ndarray, np.ndarray | None]:
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
