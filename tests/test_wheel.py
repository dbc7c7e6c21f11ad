"""What is installed: the wheel, small, with the data and without the tests; the sdist builds it again."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_BYTES = 2_000_000


def build(kind, source, into):
    """The wheel or the sdist of a source tree, by the backend that pyproject.toml names, without a network."""
    into.mkdir(exist_ok=True)
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(into)], cwd=source, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist, the wheel that is built of the sdist); of a copy, since building leaves files behind."""
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "pargrad", source / "pargrad", ignore=shutil.ignore_patterns("__pycache__"))
    wheel, sdist = build("wheel", source, place / "wheel"), build("sdist", source, place / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    return wheel, sdist, build("wheel", unpacked, place / "again")


def contents(wheel):
    """The files of a wheel with their checksums, without the list of them."""
    with zipfile.ZipFile(wheel) as archive:
        return {each.filename: each.CRC for each in archive.infolist() if not each.filename.endswith("/RECORD")}


def test_the_wheel_is_small_and_for_every_machine(built):
    for each in built:
        assert each.stat().st_size < MOST_BYTES
    assert built[0].name.endswith("-py3-none-any.whl")


def test_the_package_is_inside_and_nothing_else(built):
    inside = contents(built[0])
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pargrad").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in inside if ".dist-info/" not in name} == there
    assert {"pargrad/py.typed", "pargrad/data/embedded/mnist/train-images-idx3-ubyte.gz"} <= set(inside)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in inside)


def test_the_sdist_builds_the_wheel_again(built):
    wheel, _, again = built
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def test_the_command_runs_from_the_wheel(built, tmp_path):
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(tmp_path / "installed")
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "pargrad = pargrad.cli:entry_point" in archive.read(entry).decode()
    done = subprocess.run(
        [sys.executable, "-m", "pargrad", "train", "mnist", "--num-workers", "0", "--fast-dev-run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")}, capture_output=True, text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mnist from the embedded subset" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"installed"}
