"""MNIST and Fashion-MNIST: where their four files are looked for, how they are checked, the arrays they become."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pargrad.data.idx import DataError, read_idx

__all__ = ["DataSet", "ImageData", "load"]

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MAX_BODY_BYTES = 64 << 20  # of one download; the largest file has 47,040,016 bytes unpacked
TIMEOUT = 20.0  # seconds that a mirror may stay silent


@dataclass(frozen=True)
class DataSet:
    """One row of `DATA_SETS`."""

    torchvision: str  # the folder in which torchvision keeps it
    mean: float  # of pixels / 255 in the training images, and their standard deviation
    std: float
    classes: tuple[str, ...]
    licence: str
    mirrors: tuple[str, ...]  # each is followed by "<file>.gz"
    sha256: tuple[str, ...]  # of the unpacked files, in the order of FILES

    def normalized(self, images: np.ndarray) -> np.ndarray:
        """Pixels, uint8 of 784 an image, as float32 (n, 784): (pixels / 255 - mean) / std."""
        # The three operations that torchvision's ToTensor and Normalize do, each rounded to float32: the same bits.
        x = images.reshape(len(images), 784).astype(np.float32)
        x /= np.float32(255)
        x -= np.float32(self.mean)
        x /= np.float32(self.std)
        return x


DATA_SETS = {
    "mnist": DataSet(
        torchvision="MNIST",
        mean=0.1307,
        std=0.3081,
        classes=tuple("0123456789"),
        licence="attribution to Y. LeCun, C. Cortes and C. Burges; commonly given as CC BY-SA 3.0",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": DataSet(
        torchvision="FashionMNIST",
        mean=0.2860,
        std=0.3530,
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT, Zalando SE",
        mirrors=("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",),
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of 28 x 28 pixels with their labels, as stored: uint8 arrays of shape (n, 28, 28) and (n,)."""

    name: str
    source: str  # where it came from, ready for a sentence
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    embedded: bool

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """`(x, y)`, new arrays each time: x float32 (n, 784), (pixels / 255 - mean) / std; y int64 (n,)."""
        return self._normalized(self.train_images), self.train_labels.astype(np.int64)

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """As `train`, of the test images. The mean and standard deviation are the training images'."""
        return self._normalized(self.test_images), self.test_labels.astype(np.int64)

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        return DATA_SETS[self.name].normalized(images)


def load(
    name: str, *, data_dir: str | os.PathLike[str] | None = None, download: bool = False, progress: bool = False
) -> ImageData:
    """Load a data set of `DATA_SETS` from the first place that has it.

    1. `data_dir`, and then nowhere else; with `download`, files that it lacks are downloaded into it.
    2. The directory `$PARGRAD_DATA`, if that is set.
    3. The cache, `pargrad/<name>` in `$XDG_CACHE_HOME` or `~/.cache`; with `download`, what it lacks is downloaded.
    4. For "mnist", the embedded subset.

    In 1 and 2 the files may be in the directory, its sub-directory `<name>` or torchvision's `MNIST/raw` and
    `FashionMNIST/raw`; everywhere gzipped (`.gz`) or not. They may be a subset or somebody's own data in MNIST's
    format, so shapes, dtypes and labels are checked, not checksums; cached and downloaded files must have the
    published sha256.

    Raises:
        DataError: nowhere found, or incomplete, or damaged: only a place with none of the files is passed over.
        OSError: a file cannot be opened or written.

    Sources: LeCun, Cortes and Burges, "The MNIST database of handwritten digits"; Xiao, Rasul and Vollgraf,
    "Fashion-MNIST", arXiv:1708.07747 (Debian's package dataset-fashion-mnist has it in /usr/share/datasets).
    """
    if name not in DATA_SETS:
        raise DataError(f"got the data set name {name!r}, expected one of {', '.join(DATA_SETS)}")
    if data_dir is not None:
        folder = _inside(name, Path(os.path.expanduser(data_dir)))
        if download:
            _download(name, folder, progress)
        return _read_folder(name, folder, f"the directory {folder}")
    if environment := os.environ.get("PARGRAD_DATA"):
        root = Path(os.path.expanduser(environment))
        if not root.is_dir():
            raise DataError(f"PARGRAD_DATA: got {environment!r}, expected a directory. Correct or unset the variable.")
        if any(_paths(folder := _inside(name, root))):
            return _read_folder(name, folder, f"the directory {folder} of $PARGRAD_DATA")
    cache = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "pargrad", name)
    if download:
        _download(name, cache, progress)
    if any(_paths(cache)):
        return _read_folder(name, cache, f"the cache {cache}", DATA_SETS[name].sha256)
    return _read_embedded(name, cache)


def _paths(folder: Path) -> list[Path | None]:
    """The path of each of FILES in a folder, gzipped or not; None for one that is not there or out of reach."""
    pairs = [(folder / f"{file}.gz", folder / file) for file in FILES]
    return [next((path for path in pair if os.path.isfile(path)), None) for pair in pairs]


def _inside(name: str, root: Path) -> Path:
    """Where the files are, in a directory that a user named: the more specific folder wins."""
    folders = (root / name, root / DATA_SETS[name].torchvision / "raw", root)
    return next((folder for folder in folders if any(_paths(folder))), root)


def _read_folder(name: str, folder: Path, place: str, sha256: tuple[str, ...] = ("",) * 4) -> ImageData:
    paths = [path for path in _paths(folder) if path]
    if len(paths) < len(FILES):
        found = {path.name.removesuffix(".gz") for path in paths}
        within = "" if found else f", nor in its sub-directories {name} and {DATA_SETS[name].torchvision}/raw"
        raise DataError(
            f"{folder}: {'found no' if folder.is_dir() else 'not a directory, so it has no'} "
            f"{', '.join(file for file in FILES if file not in found)} (with .gz or without{within}); expected all "
            f"four files of {name}. Add them, pass --download (download=True), or another --data-dir (data_dir=)."
        )
    arrays = [read_idx(path, sha256=digest) for path, digest in zip(paths, sha256, strict=True)]
    return _image_data(name, place, arrays, [str(path) for path in paths])


def _read_embedded(name: str, cache: Path) -> ImageData:
    from importlib.resources import files

    folder = files("pargrad.data") / "embedded" / name
    if not folder.is_dir():
        raise DataError(
            f"{name}: found in neither $PARGRAD_DATA nor {cache}, and no part of it comes with pargrad. "
            "Pass --download (download=True), or --data-dir (data_dir=) with the directory that has its four files."
        )
    packed = [folder / f"{file}.gz" for file in FILES]
    arrays = [read_idx(file.read_bytes(), name=str(file)) for file in packed]
    return _image_data(name, "the embedded subset", arrays, [str(file) for file in packed], embedded=True)


def _image_data(name: str, place: str, arrays: list[np.ndarray], paths: list[str], embedded: bool = False) -> ImageData:
    for images, labels, path, label_path in zip(arrays[::2], arrays[1::2], paths[::2], paths[1::2], strict=True):
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) == 0:
            raise DataError(
                f"{path}: got {images.dtype} of shape {images.shape}, expected uint8 of shape (n, 28, 28) with n at "
                "least 1. Give images in MNIST's format."
            )
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1] or labels.max() > 9:
            raise DataError(
                f"{label_path}: got {labels.dtype} of shape {labels.shape}, largest label {labels.max(initial=0)}, "
                f"expected uint8 of shape ({len(images)},), a label of 0 to 9 for each image in {path}. Give the "
                "labels of these images."
            )
    _refuse_another(name, arrays[1], paths[1])
    source = f"{place} ({len(arrays[0]):,} train, {len(arrays[2]):,} test)"
    train_images, train_labels, test_images, test_labels = arrays
    return ImageData(name, source, train_images, train_labels, test_images, test_labels, embedded)


def _refuse_another(name: str, labels: np.ndarray, path: str) -> None:
    # Both data sets have the same file names and shapes: the wrong directory would train without a word.
    from hashlib import sha256

    digest = sha256(struct.pack(">II", 0x0801, len(labels)) + labels.tobytes()).hexdigest()
    for other, row in DATA_SETS.items():
        if other != name and digest == row.sha256[1]:
            raise DataError(f"{path}: got the labels of {other}, expected those of {name}. Give {name}'s directory.")


def _download(name: str, folder: Path, progress: bool) -> None:
    """Download the files that a folder lacks: all of them or, after any error, none."""
    from tempfile import TemporaryDirectory

    missing = [index for index, path in enumerate(_paths(folder)) if path is None]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=folder) as parts:  # inside, so that replace is atomic
        for index in missing:
            with open(Path(parts, FILES[index]), "wb") as part:
                part.write(_fetch(name, index, progress))
                part.flush()
                os.fsync(part.fileno())
        for index in missing:
            os.replace(Path(parts, FILES[index]), folder / f"{FILES[index]}.gz")


def _fetch(name: str, index: int, progress: bool) -> bytes:
    """One gzipped file from the first mirror that gives the right one."""
    from http.client import HTTPException

    row, failures = DATA_SETS[name], []
    for mirror in row.mirrors:
        url = f"{mirror}{FILES[index]}.gz"
        try:
            body = _body(url, progress)
            read_idx(body, name="the body", sha256=row.sha256[index], max_bytes=MAX_BODY_BYTES)
            return body
        except (OSError, HTTPException, DataError) as error:
            failures.append(f"\n  {url}: {type(error).__name__}: {error}")
    raise DataError(
        f"{name}: no mirror gave {FILES[index]}.gz, expected one with sha256 {row.sha256[index]} (unpacked):"
        f"{''.join(failures)}\nTry again later, or get the four files elsewhere and pass --data-dir (data_dir=)."
    )


def _body(url: str, progress: bool) -> bytes:
    from urllib.request import urlopen

    from tqdm import tqdm

    body = bytearray()
    with urlopen(url, timeout=TIMEOUT) as response:
        length = response.length
        with tqdm(desc=url, total=length, unit="B", unit_scale=True, leave=False, disable=not progress) as bar:
            while chunk := response.read(1 << 16):
                body += chunk
                bar.update(len(chunk))
                if len(body) > MAX_BODY_BYTES:
                    raise DataError(f"the body: got more than {MAX_BODY_BYTES:,} bytes, expected that at most.")
    if length is not None and len(body) < length:
        raise DataError(f"the body: got {len(body):,} bytes, expected the announced {length:,}.")
    return bytes(body)
