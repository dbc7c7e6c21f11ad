"""The IDX reader, the search for MNIST's files, the downloader (against a server on this machine) and the arrays."""

import dataclasses
import gzip
import hashlib
import os
import struct
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pargrad.data import mnist
from pargrad.data.idx import DataError, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def encode(array: np.ndarray) -> bytes:
    """IDX, written from its description and independently of the reader."""
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def make_files(train: int = 12, test: int = 5, seed: int = 0) -> dict[str, bytes]:
    """The four files of a tiny data set, unpacked."""
    rng = np.random.default_rng(seed)
    files = {}
    for part, n in (("train", train), ("t10k", test)):
        files[f"{part}-images-idx3-ubyte"] = encode(rng.integers(0, 256, (n, 28, 28), np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = encode(rng.integers(0, 10, n, np.uint8))
    return files


def write_files(folder: Path, files: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, raw in files.items():
        (folder / (f"{file}.gz" if packed else file)).write_bytes(gzip.compress(raw) if packed else raw)
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


PACKED = sorted(f"{file}.gz" for file in mnist.FILES)


@pytest.fixture(autouse=True)
def empty_home(tmp_path, monkeypatch) -> Path:
    """No test sees the user's own files or proxies. Returns the (missing) cache folder of mnist."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("PARGRAD_DATA", raising=False)
    return tmp_path / "cache" / "pargrad" / "mnist"


@pytest.fixture
def tiny(monkeypatch) -> dict[str, bytes]:
    """A tiny data set that has taken the official MNIST's row: its checksums are the published ones."""
    files = make_files()
    sha256 = tuple(hashlib.sha256(files[file]).hexdigest() for file in mnist.FILES)
    row = dataclasses.replace(mnist.DATA_SETS["mnist"], mirrors=(), sha256=sha256)
    monkeypatch.setitem(mnist.DATA_SETS, "mnist", row)
    return files


# ----- IDX -----


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(sorted(CODES)), st.booleans())
def test_idx_round_trip(data, dtype, packed):
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    array = data.draw(hnp.arrays(dtype, shape))
    raw = encode(array)
    read = read_idx(gzip.compress(raw) if packed else raw)
    assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert read.dtype.isnative and read.flags.writeable and read.flags.c_contiguous


def test_idx_gzip_is_told_by_contents_not_by_name(tmp_path):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    (tmp_path / "raw.gz").write_bytes(encode(array))
    (tmp_path / "packed").write_bytes(gzip.compress(encode(array)))
    assert np.array_equal(read_idx(tmp_path / "raw.gz"), array)
    assert np.array_equal(read_idx(str(tmp_path / "packed")), array)


RAW = encode(np.arange(200, dtype=np.int16).reshape(2, 100))
GZ = gzip.compress(RAW)
WHOLE = "expected a whole file"
DAMAGED = {
    "empty file": (b"", "starts with the bytes ''", "expected an IDX file"),
    "not IDX": (b"\x89PNG\r\n", "'89 50 4e 47'", "expected an IDX file"),
    "gzip of something else": (gzip.compress(b"hello world"), "'68 65 6c 6c'", "expected an IDX file"),
    "unknown type code": (b"\0\0\x0a\x01\0\0\0\x01x", "type code 0x0a", "expected a code out of 0x08, 0x09, 0x0b"),
    "too many dimensions": (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"x", "rank 255", "at most rank 32"),
    "short shape": (RAW[:9], "got 5 bytes of shape", "expected 8"),
    "short data": (RAW[:-1], "got 399 bytes", "expected 400"),
    "short data, packed": (gzip.compress(RAW[:-1]), "got 399 bytes", "expected 400"),
    "trailing byte": (RAW + b"\0", "got more bytes", "expected 400"),
    "trailing byte, packed": (gzip.compress(RAW + b"\0"), "got more bytes", "expected 400"),
    "2**60 bytes": (b"\0\0\x08\x03" + b"\0\x10\0\0" * 3, "shape (1048576, 1048576, 1048576)", "1,073,741,824 bytes"),
    "huge but empty": (b"\0\0\x08\x03" + b"\xff" * 8 + b"\0" * 4, "shape (4294967295, 4294967295, 0)", "at most"),
    "truncated gzip": (GZ[:-20], "got damaged gzip", WHOLE),
    "gzip without its last byte": (GZ[:-1], "got damaged gzip", WHOLE),
    "gzip with a wrong CRC": (GZ[:-8] + b"\0" * 4 + GZ[-4:], "CRC", WHOLE),
    "gzip with damaged blocks": (GZ[:10] + b"\xff" * 20, "got damaged gzip", WHOLE),
    "garbage after gzip": (GZ + b"garbage", "got damaged gzip", WHOLE),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_idx_damage_is_one_clear_error(case, tmp_path):
    contents, got, expected = DAMAGED[case]
    path = tmp_path / "some-file"
    path.write_bytes(contents)
    with pytest.raises(DataError) as error:
        read_idx(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and got in message and expected in message
    assert any(advice in message for advice in ("Fetch", "Give MNIST's own")), message
    with pytest.raises(DataError, match="^the given bytes: "):
        read_idx(contents)


@pytest.mark.parametrize("contents", [RAW, GZ], ids=["raw", "packed"])
def test_idx_whole_file_is_read_and_every_truncation_refused(contents):
    assert read_idx(contents).shape == (2, 100)
    for end in range(len(contents)):
        with pytest.raises(DataError):
            read_idx(contents[:end])


def test_idx_decompression_stops_at_the_claimed_size(monkeypatch):
    served = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: served.append(size) or read(self, size))
    bomb = gzip.compress(encode(np.zeros(100, np.uint8)) + bytes(10_000_000))
    with pytest.raises(DataError, match="more bytes of values than the expected 100"):
        read_idx(bomb)
    assert min(served) >= 0 and sum(served) == 4 + 4 + 100 + 1


def test_idx_max_bytes_is_inclusive():
    assert read_idx(RAW, max_bytes=400).size == 200
    with pytest.raises(DataError, match="expected 399 bytes at most"):
        read_idx(RAW, max_bytes=399)


def test_idx_checks_the_digest_of_the_unpacked_file():
    digest = hashlib.sha256(RAW).hexdigest()
    assert np.array_equal(read_idx(gzip.compress(RAW), sha256=digest), read_idx(RAW, sha256=digest))
    with pytest.raises(DataError, match=f"^the body: got sha256 {digest} .*expected {'0' * 64}"):
        read_idx(RAW, name="the body", sha256="0" * 64)


def test_idx_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


# ----- the embedded subset and the arrays -----


def test_embedded_subset():
    data = mnist.load("mnist")
    assert data.embedded and data.name == "mnist" and data.source == "the embedded subset (5,000 train, 1,000 test)"
    assert np.bincount(data.train_labels).tolist() == [500] * 10
    assert np.bincount(data.test_labels).tolist() == [100] * 10
    digests = [hashlib.sha256(encode(getattr(data, field.name))).hexdigest() for field in dataclasses.fields(data)[2:6]]
    assert digests == [
        "7f2ea4c9ef8986d097eb015af6e7ac92d0220983040f6bf85e0ebdab34272774",
        "3617ddc2f63a55bda5efb0ce7dfbb513cc4680c40a8ecd9a5f3a390475accf08",
        "08212e895b958225f959f761e33da53e35faa44cebc75e329dcaa7b477fbddc0",
        "a8455fc3bf4f53a12fd7fac83ac10b16241e37d6ab97bdfad5c2ebdffb543bea",
    ]


def test_embedded_notice_names_authors_licence_and_files():
    folder = Path(mnist.__file__).parent / "embedded" / "mnist"
    notice = (folder / "NOTICE.md").read_text()
    assert listing(folder) == ["NOTICE.md", *PACKED]
    for words in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", *mnist.FILES):
        assert words in notice


@pytest.mark.parametrize("name", mnist.DATA_SETS)
def test_arrays_are_normalized_as_torchvision_does(name, tmp_path):
    files = make_files(train=20, test=7)
    pixels = np.arange(20 * 784).reshape(20, 28, 28).astype(np.uint8)  # every value occurs
    data = mnist.load(name, data_dir=write_files(tmp_path / "own", files | {mnist.FILES[0]: encode(pixels)}))
    mean, std = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}[name]
    x, y = data.train
    assert (x.dtype, x.shape, y.dtype, y.shape) == (np.float32, (20, 784), np.int64, (20,))
    assert x.flags.c_contiguous and x.flags.owndata
    assert np.array_equal(y, data.train_labels)
    np.testing.assert_allclose(x, (pixels.reshape(20, -1) / 255.0 - mean) / std, rtol=2e-6, atol=2e-7)
    x_test, y_test = data.test
    assert x_test.shape == (7, 784) and np.array_equal(y_test, data.test_labels)
    assert np.array_equal(x_test[0, 0], x[np.nonzero(pixels.reshape(20, -1) == data.test_images[0, 0, 0])][0])
    assert data.train_images.dtype == np.uint8 and np.array_equal(data.train_images, pixels)  # left as they were


def test_table_has_ten_classes_and_four_distinct_digests_a_row():
    digests = [digest for row in mnist.DATA_SETS.values() for digest in row.sha256]
    assert len(set(digests)) == len(digests) == 4 * len(mnist.DATA_SETS)
    for row in mnist.DATA_SETS.values():
        assert len(set(row.classes)) == 10 and row.licence
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in row.mirrors) and row.mirrors


def test_import_is_light():
    heavy = ("ray", "scipy", "tqdm", "torch", "urllib.request", "http.client", "importlib.resources", "tempfile")
    code = f"import sys, pargrad.data.mnist; print(sorted(set({heavy}) & set(sys.modules)))"
    root = Path(mnist.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ----- the search -----


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("inside", [".", "mnist", "MNIST/raw"])
def test_data_dir_layouts(inside, packed, tmp_path):
    write_files(tmp_path / "own" / inside, make_files(seed=3), packed)
    data = mnist.load("mnist", data_dir=tmp_path / "own")
    assert data.source == f"the directory {tmp_path / 'own' / inside} (12 train, 5 test)" and not data.embedded
    assert encode(data.test_images) == make_files(seed=3)["t10k-images-idx3-ubyte"]


def test_search_order(tiny, tmp_path, monkeypatch, empty_home):
    own, environment = tmp_path / "own", tmp_path / "environment"
    write_files(own, make_files(train=1))
    assert mnist.load("mnist").embedded
    write_files(empty_home, tiny)
    assert mnist.load("mnist").source == f"the cache {empty_home} (12 train, 5 test)"
    environment.mkdir()
    monkeypatch.setenv("PARGRAD_DATA", str(environment))
    assert mnist.load("mnist").source.startswith("the cache ")  # a directory with none of the files is passed over
    write_files(environment, make_files(train=2))
    assert mnist.load("mnist").source == f"the directory {environment} of $PARGRAD_DATA (2 train, 5 test)"
    write_files(environment / "mnist", make_files(train=3))
    assert len(mnist.load("mnist").train_images) == 3
    assert len(mnist.load("mnist", data_dir=own).train_images) == 1


def test_cache_is_in_the_home_directory_without_xdg(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = write_files(tmp_path / ".cache" / "pargrad" / "mnist", tiny)
    assert mnist.load("mnist").source.startswith(f"the cache {folder} ")


@pytest.mark.parametrize("exists", [True, False])
def test_data_dir_without_the_files_is_an_error_that_names_them(exists, tiny, tmp_path, empty_home):
    write_files(empty_home, tiny)  # a good cache, which data_dir rules out
    if exists:
        (tmp_path / "own").mkdir()
    with pytest.raises(DataError) as error:
        mnist.load("mnist", data_dir=tmp_path / "own")
    for words in (str(tmp_path / "own"), *mnist.FILES, ".gz", "MNIST/raw", "--download", "--data-dir"):
        assert words in str(error.value)
    assert ("not a directory" in str(error.value)) is not exists


@pytest.mark.parametrize("place", ["data_dir", "environment", "cache"])
def test_incomplete_place_is_an_error_that_names_what_it_lacks(place, tiny, tmp_path, monkeypatch, empty_home):
    folder = empty_home if place == "cache" else tmp_path / "own"
    write_files(folder, {file: tiny[file] for file in mnist.FILES[:3]})
    if place == "environment":
        monkeypatch.setenv("PARGRAD_DATA", str(folder))
    with pytest.raises(DataError, match="found no t10k-labels-idx1-ubyte ") as error:
        mnist.load("mnist", data_dir=folder if place == "data_dir" else None)
    assert str(error.value).startswith(f"{folder}: ") and "train-images" not in str(error.value)


@pytest.mark.parametrize("place", ["data_dir", "environment", "cache"])
def test_damaged_file_is_never_passed_over(place, tiny, tmp_path, monkeypatch, empty_home):
    folder = write_files(empty_home if place == "cache" else tmp_path / "own", tiny)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    if place == "environment":
        write_files(empty_home, tiny)
        monkeypatch.setenv("PARGRAD_DATA", str(folder))
    with pytest.raises(DataError, match="got damaged gzip") as error:
        mnist.load("mnist", data_dir=folder if place == "data_dir" else None)
    assert str(error.value).startswith(f"{path}: ")


def test_checksums_hold_for_the_cache_and_not_for_a_users_directory(tiny, tmp_path, empty_home):
    assert len(mnist.load("mnist", data_dir=write_files(tmp_path / "own", make_files(seed=9))).train_images) == 12
    path = write_files(empty_home, tiny | {mnist.FILES[1]: make_files(seed=9)[mnist.FILES[1]]}) / f"{mnist.FILES[1]}.gz"
    with pytest.raises(DataError, match="got sha256 .* expected ") as error:
        mnist.load("mnist")
    assert str(error.value).startswith(f"{path}: ") and mnist.DATA_SETS["mnist"].sha256[1] in str(error.value)


def zeros(*shape: int, dtype: str = "uint8") -> bytes:
    return encode(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("index", "raw", "got"),
    [
        (0, zeros(12, 28, 27), r"got uint8 of shape \(12, 28, 27\), expected uint8 of shape \(n, 28, 28\)"),
        (0, zeros(12, 784), r"got uint8 of shape \(12, 784\), expected uint8 of shape \(n, 28, 28\)"),
        (0, zeros(12, 28, 28, dtype="int8"), r"got int8 of shape \(12, 28, 28\), expected uint8"),
        (2, zeros(0, 28, 28), r"got uint8 of shape \(0, 28, 28\), .*at least 1"),
        (1, zeros(11), r"got uint8 of shape \(11,\), .*expected uint8 of shape \(12,\)"),
        (1, zeros(12, 1), r"got uint8 of shape \(12, 1\), .*expected uint8 of shape \(12,\)"),
        (3, zeros(5, dtype="int32"), r"got int32 of shape \(5,\), .*expected uint8"),
        (3, zeros(), r"got uint8 of shape \(\), .*expected uint8 of shape \(5,\)"),
        (3, encode(np.array([0, 9, 10, 0, 0], np.uint8)), r"largest label 10, expected .* 0 to 9"),
    ],
)
def test_structure_of_a_users_own_data_is_checked(index, raw, got, tmp_path):
    folder = write_files(tmp_path / "own", make_files() | {mnist.FILES[index]: raw})
    with pytest.raises(DataError, match=got) as error:
        mnist.load("mnist", data_dir=folder)
    assert str(error.value).startswith(f"{folder / mnist.FILES[index]}.gz: ")


def test_the_other_data_set_under_the_same_file_names_is_refused(tiny, tmp_path):
    folder = write_files(tmp_path / "own", tiny)
    assert mnist.load("mnist", data_dir=folder).name == "mnist"
    with pytest.raises(DataError, match="got the labels of mnist, expected those of fashion-mnist"):
        mnist.load("fashion-mnist", data_dir=folder)


def test_fashion_mnist_without_a_source_says_what_to_pass(tmp_path):
    with pytest.raises(DataError, match="fashion-mnist") as error:
        mnist.load("fashion-mnist")
    for words in ("--download", "--data-dir", str(tmp_path / "cache" / "pargrad" / "fashion-mnist")):
        assert words in str(error.value)


def test_pargrad_data_must_be_a_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("PARGRAD_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match="PARGRAD_DATA: got .*typo.*expected a directory"):
        mnist.load("mnist")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="got the data set name 'mnits', expected one of mnist, fashion-mnist"):
        mnist.load("mnits")


# ----- the downloader -----


class Mirrors:
    """A server on the loopback address; the first part of a request's path names how that mirror behaves."""

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.requests: list[str] = []
        self.released = threading.Event()
        mirrors = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirrors.requests.append(self.path)
                behaviour, file = self.path.strip("/").split("/")
                getattr(mirrors, behaviour)(self, gzip.compress(mirrors.files[file.removesuffix(".gz")]))

            def log_message(self, format, *args):  # silence
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def url(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{behaviour}/"

    @staticmethod
    def answer(handler, body: bytes, announced: int | None = None):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(body)

    def good(self, handler, body):
        self.answer(handler, body)

    def missing(self, handler, body):
        handler.send_error(404)

    def broken(self, handler, body):
        handler.send_error(500)

    def short(self, handler, body):
        self.answer(handler, body[:-10], announced=len(body))

    def cut(self, handler, body):
        self.answer(handler, body[:-10])

    def page(self, handler, body):
        self.answer(handler, b"<html>Log in to this network</html>")

    def other(self, handler, body):
        self.answer(handler, gzip.compress(gzip.decompress(body)[:-1] + b"\x07"))

    def endless(self, handler, body):
        self.answer(handler, body + bytes(200_000))

    def silent(self, handler, body):
        self.released.wait()

    def hangup(self, handler, body):
        handler.wfile.write(b"not HTTP\r\n\r\n")

    def labels_only(self, handler, body):
        self.answer(handler, body) if handler.path.endswith("labels-idx1-ubyte.gz") else handler.send_error(503)


REASONS = {
    "missing": "HTTP Error 404",
    "broken": "HTTP Error 500",
    "short": "expected the announced",
    "cut": "damaged gzip",
    "page": "expected an IDX file",
    "other": "got sha256",
    "endless": "more than 100,000 bytes",
    "silent": "timed out",  # see the fixture
    "hangup": "BadStatusLine",
}


@pytest.fixture
def mirrors(tiny, monkeypatch):
    server = Mirrors(tiny)

    def use(*behaviours: str) -> Mirrors:
        row = dataclasses.replace(mnist.DATA_SETS["mnist"], mirrors=tuple(map(server.url, behaviours)))
        monkeypatch.setitem(mnist.DATA_SETS, "mnist", row)
        return server

    def impatient(url: str, timeout: float):
        # The silent mirror never answers, so a short limit is safe there; elsewhere it would race with a busy machine.
        assert timeout == mnist.TIMEOUT
        return urlopen(url, timeout=0.01 if "/silent/" in url else timeout)

    monkeypatch.setattr(urllib.request, "urlopen", impatient)
    monkeypatch.setattr(mnist, "MAX_BODY_BYTES", 100_000)
    yield use
    server.close()


@pytest.mark.parametrize("behaviour", REASONS)
def test_download_goes_on_to_the_next_mirror(behaviour, mirrors, empty_home):
    server = mirrors(behaviour, "good")
    data = mnist.load("mnist", download=True)
    assert encode(data.train_images) == server.files[mnist.FILES[0]] and not data.embedded
    assert data.source == f"the cache {empty_home} (12 train, 5 test)"
    assert server.requests == [f"/{mirror}/{file}.gz" for file in mnist.FILES for mirror in (behaviour, "good")]
    assert listing(empty_home) == PACKED
    changed = empty_home.stat().st_mtime_ns
    assert mnist.load("mnist", download=True).source == data.source  # neither fetched nor written again
    assert len(server.requests) == 8 and empty_home.stat().st_mtime_ns == changed


def test_download_that_fails_lists_every_mirror_and_leaves_nothing(mirrors, empty_home):
    server = mirrors(*REASONS)
    with pytest.raises(DataError) as error:
        mnist.load("mnist", download=True)
    message = str(error.value)
    for behaviour, reason in REASONS.items():
        line = next(line for line in message.splitlines() if server.url(behaviour) in line)
        assert reason in line
    assert "--data-dir" in message and mnist.DATA_SETS["mnist"].sha256[0] in message
    assert listing(empty_home) == []
    assert mnist.load("mnist").embedded  # a failed download does not stand in the way of what worked before


def test_download_with_no_server_at_all(mirrors, empty_home):
    server = mirrors("good")
    server.close()
    with pytest.raises(DataError, match="Connection refused"):
        mnist.load("mnist", download=True)
    assert listing(empty_home) == []


def test_bad_download_leaves_good_files_alone_and_adds_none(mirrors, tiny, tmp_path):
    own = write_files(tmp_path / "own", {mnist.FILES[0]: tiny[mnist.FILES[0]]})
    good = own / f"{mnist.FILES[0]}.gz"
    before = (good.read_bytes(), good.stat().st_mtime_ns, good.stat().st_ino)
    mirrors("other", "labels_only")  # one file arrives well, the next one does not
    with pytest.raises(DataError, match="no mirror gave t10k-images-idx3-ubyte.gz"):
        mnist.load("mnist", data_dir=own, download=True)
    assert (good.read_bytes(), good.stat().st_mtime_ns, good.stat().st_ino) == before
    assert listing(own) == [good.name]


def test_download_completes_a_data_dir_with_what_it_lacks(mirrors, tiny, tmp_path, empty_home):
    own = write_files(tmp_path / "own", {mnist.FILES[2]: tiny[mnist.FILES[2]]}, packed=False)
    server = mirrors("good")
    data = mnist.load("mnist", data_dir=own, download=True)
    assert data.source.startswith(f"the directory {own} ") and not empty_home.exists()
    assert server.requests == [f"/good/{mnist.FILES[index]}.gz" for index in (0, 1, 3)]
    assert listing(own) == sorted([mnist.FILES[2], *(f"{mnist.FILES[index]}.gz" for index in (0, 1, 3))])
    assert mnist.load("mnist", data_dir=tmp_path / "new" / "folder", download=True).train_images.shape == (12, 28, 28)


@pytest.mark.parametrize("where", ["while fetching", "while writing"])
def test_interrupted_download_leaves_nothing(where, mirrors, monkeypatch, empty_home):
    mirrors("good")
    calls = []

    def interrupt(function):
        def wrapped(*args, **kwargs):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapped

    if where == "while fetching":
        monkeypatch.setattr(mnist, "read_idx", interrupt(read_idx))
    else:
        monkeypatch.setattr(os, "fsync", interrupt(os.fsync))
    with pytest.raises(KeyboardInterrupt):
        mnist.load("mnist", download=True)
    assert len(calls) == 3 and listing(empty_home) == []


def test_download_does_not_replace_a_damaged_cache_in_silence(mirrors, tiny, empty_home):
    server = mirrors("good")
    write_files(empty_home, tiny | {mnist.FILES[3]: tiny[mnist.FILES[3]] + b"\0"})
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz: got more bytes"):
        mnist.load("mnist", download=True)
    assert server.requests == []


def test_nothing_is_downloaded_unasked(mirrors):
    server = mirrors("good")
    assert mnist.load("mnist").embedded and server.requests == []


def test_download_shows_progress_only_when_asked(mirrors, tmp_path, capfd):
    mirrors("good")
    mnist.load("mnist", download=True)
    assert capfd.readouterr() == ("", "")
    mnist.load("mnist", data_dir=tmp_path / "own", download=True, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and all(f"{file}.gz" in err for file in mnist.FILES)
