"""README tells the truth: its code runs, its commands are those that CI runs, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pargrad.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = (ROOT / "examples" / "README.md").read_text()
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
CHANGELOG = (ROOT / ".github" / "CHANGELOG.md").read_text()


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


PROGRAMS = [block for text in (README, CONTRIBUTING) for block in blocks(text, "python") if "import" in block]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_run(number, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS[number])
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=100,
        env={**__import__("os").environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_programs():
    assert len(PROGRAMS) == 2 + len(blocks(CONTRIBUTING, "python")) == 5


def test_ci_runs_the_test_command():
    (command,) = [block.strip() for block in blocks(README, "sh") if "pytest" in block]
    install, test = command.split(" && ")
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert any(line.startswith(install) for line in lines)
    assert test in lines


def test_contributors_are_told_what_ci_runs():
    told = re.findall(r"`(ruff [^`]+|mypy)`", CONTRIBUTING)
    steps = (ROOT / ".github" / "workflows" / "checks.yml").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert len(told) == 3
    for command in told:
        assert f"- run: {command.replace('format .', 'format --check .')}\n" in steps
        assert f"entry: {command.removesuffix(' .')}" in hooks
    (install,) = (block.strip().split(" && ") for block in blocks(CONTRIBUTING, "sh"))
    assert f"- run: {install[1]}\n" in steps


def test_the_changes_name_every_command():
    assert set(re.findall(r"`(\w+)`", CHANGELOG.partition("The command:")[2])) == set(COMMANDS)


@pytest.mark.parametrize("name", ["README.md", "examples/README.md", ".github/CONTRIBUTING.md"])
def test_links_and_tests_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"(?:tests|benchmarks|examples)/[\w/]+\.py", text)
    assert links + named
    base = (ROOT / name).parent
    assert [link for link in links if not (base / link).exists()] == []
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_tree_is_the_tree():
    (tree,) = re.findall(r"^```\n(pargrad/\n.*?)^```", README, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^  ([\w./]+?)(?:/|\.py)?(?=  | [\w/])", tree, re.MULTILINE)
    for part in named:
        assert (ROOT / "pargrad" / part).exists() or (ROOT / "pargrad" / f"{part}.py").exists(), part
    assert len(named) >= 8


def test_the_top_level_is_what_it_is_meant_to_be():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    top = {line.split("/")[0] for line in out.stdout.splitlines()}
    allowed = {"pyproject.toml", "README.md", "LICENSE", "pargrad", "tests", "examples", "cluster", "benchmarks"}
    assert "pargrad" in top
    assert {name for name in top if not name.startswith(".")} <= allowed
