"""What of a directory is sent with a job, against what git and Ray leave out."""

import inspect
import subprocess
import zipfile

import pytest
from ray._private.runtime_env.packaging import create_package, get_uri_for_directory

from pargrad.parallel import ray_package
from pargrad.parallel.ray_package import contents_of, lay_out

TREE = {
    ".gitignore": "runs/\n*.log\n!kept.log\n/only_at_the_top.txt\n",
    "train.py": "x",
    "a.log": "x",
    "kept.log": "x",
    "only_at_the_top.txt": "x",
    "runs/first/metrics.jsonl": "x",
    "model/__init__.py": "",
    "model/only_at_the_top.txt": "x",
    "model/cache/big.bin": "x",
    "model/.gitignore": "cache/\n",
    "cache/small.bin": "x",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(contents):
    return {str(file) for file in contents.files}


def test_what_git_ignores_is_left_out(tree):
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    git = subprocess.run(listed, cwd=tree, capture_output=True, text=True, check=True).stdout.split()
    contents = contents_of(tree)
    assert names(contents) == set(git) == set(TREE) - {
        "a.log", "only_at_the_top.txt", "runs/first/metrics.jsonl", "model/cache/big.bin",
    }  # fmt: skip
    assert contents.left_out == [".git/", "runs/", "a.log", "only_at_the_top.txt", "model/cache/"]
    assert contents.size == sum(len(TREE[name]) for name in git)


def test_rayignore_holds_besides_gitignore_and_alone_where_that_is_said(tree, monkeypatch):
    (tree / ".rayignore").write_text("# data\n*.bin\n")
    assert "cache/small.bin" not in names(contents_of(tree))
    assert "a.log" not in names(contents_of(tree))
    monkeypatch.setenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "1")
    assert "cache/small.bin" not in names(contents_of(tree))
    assert "a.log" in names(contents_of(tree))


def test_environments_are_never_sent_and_links_to_directories_not_followed(tree, tmp_path_factory):
    for place in (".venv/lib", "model/__pycache__", "venv"):
        (tree / place).mkdir(parents=True)
        (tree / place / "x.py").write_text("x")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "y.py").write_text("y")
    (tree / "linked").symlink_to(elsewhere)
    (tree / "linked.py").symlink_to(elsewhere / "y.py")
    (tree / "loop").symlink_to(tree)
    contents = contents_of(tree)
    assert {".venv/", "venv/", "model/__pycache__/", "linked/", "loop/"} <= set(contents.left_out)
    assert "linked.py" in names(contents)


def test_too_much_names_the_largest_and_the_file_to_write(tree, monkeypatch):
    (tree / "data.npy").write_bytes(b"0" * 1000)
    monkeypatch.setattr(ray_package, "LIMIT", 999)
    with pytest.raises(ValueError, match=r"The largest: data.npy \(0.0 MB\), .* Name what .*rayignore"):
        contents_of(tree)
    (tree / ".rayignore").write_text("*.npy\n")
    assert "data.npy" not in names(contents_of(tree))


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no such directory"):
        contents_of(tmp_path / "nowhere")


def test_ray_sends_what_is_laid_out_and_nothing_else(tree, tmp_path_factory):
    """By Ray's own packing; equal files have one name there, so they are sent once."""
    contents = contents_of(tree)
    target = tmp_path_factory.mktemp("scratch") / "sent"
    lay_out(tree, contents.files, target)
    create_package(str(target), target.with_suffix(".zip"), **gitignore(True))
    with zipfile.ZipFile(target.with_suffix(".zip")) as archive:
        assert set(archive.namelist()) == names(contents)
        assert archive.read("model/.gitignore") == b"cache/\n"
    before = get_uri_for_directory(str(target), **gitignore(True))
    (tree / "a.log").write_text("another")
    assert get_uri_for_directory(str(target), **gitignore(True)) == before
    (tree / "train.py").write_text("another")
    assert get_uri_for_directory(str(target), **gitignore(True)) != before


def gitignore(holds):
    """The argument by that name, which older versions of Ray do not have."""
    known = inspect.signature(create_package).parameters
    return {"include_gitignore": holds} if "include_gitignore" in known else {}
