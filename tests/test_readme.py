"""The pages tell the truth: their code runs, their commands are taken by what they name, their links lead somewhere."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from pargrad.cli import COMMANDS
from tests import pages
from tests.pages import PAGES, ROOT, blocks

README, CONTRIBUTING = PAGES["README.md"], PAGES[".github/CONTRIBUTING.md"]
CHANGELOG = (ROOT / ".github" / "CHANGELOG.md").read_text()
PYTHON = {(name, number): block for name, text in PAGES.items() for number, block in enumerate(blocks(text, "python"))}
PROGRAMS = {key: block for key, block in PYTHON.items() if "import" in block}


@pytest.mark.parametrize("key", PROGRAMS, ids=str)
def test_programs_run(key, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS[key])
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_programs():
    assert len(PROGRAMS) == 5


def test_what_is_no_program_is_a_piece_of_the_source_or_runs_with_what_it_takes_as_given():
    rule, step = (block for key, block in PYTHON.items() if key not in PROGRAMS)
    assert rule in (ROOT / "pargrad" / "rules" / "elementwise.py").read_text()
    updates = []
    given = {"gradient": lambda step, shard: shard, "reduce_tree": sum, "update": updates.append, "step": 0}
    exec(step, given | {"shards": 4, "divisor": 4})
    assert updates == [(0 + 1 + 2 + 3) / 4]


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {piece.language for text in PAGES.values() for piece in pages.pieces(text)}
    assert kinds == {"python", "sh", "indented", "inline", ""}
    (tree,) = (block for text in PAGES.values() for block in blocks(text, ""))
    assert tree.startswith("pargrad/\n")  # see test_the_tree_is_the_tree


TOLD = [(name, command) for name, text in PAGES.items() for command in pages.told_commands(text)]


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_one(name):
    """Each is parsed by the parser of what it names, down to its options and files."""
    told = [command for page, command in TOLD if page == name]
    assert told
    for command in told:
        pages.check_command(command)


def test_every_program_that_no_test_can_run_is_named_by_a_page():
    assert {command[0] for _, command in TOLD} == {"pargrad", "python", "pip", "ray", *pages.ARGUED}


@pytest.mark.parametrize(
    "wrong",
    [
        "pargrad trane mnist",
        "pargrad train mnist --workers 2",
        "pargrad submit -- trane mnist",
        "python -m pargrad train mnist --epochs many",
        "python -m pytest tests/test_nothing.py",
        "python -m tests.long nothing",
        "python -m examples.nothing",
        "python -m examples.cnn --steps 3",
        "python -m benchmarks.mnist_mlp --preset tiny",
        "python -m benchmarks.nothing",
        "python -m json.tool",
        'pip install ".[tests]"',
        "pip install pargradd",
        "ray upp cluster/launcher-local.yaml",
        "ray up --no cluster/launcher-local.yaml",
        "ray up cluster/nothing.yaml",
        "kubectl apply -f cluster/nothing.yaml",
        "curl http://127.0.0.1",
    ],
)
def test_a_wrong_command_is_seen(wrong):
    (words,) = pages.told_commands(f"```sh\n{wrong}\n```\n")
    with pytest.raises((AssertionError, SystemExit, ImportError, FileNotFoundError, ValueError)):
        pages.check_command(words)


@pytest.mark.parametrize("name", PAGES)
def test_options_and_names_exist(name):
    text = PAGES[name]
    assert pages.told_flags(text) <= pages.known_flags(name)
    assert [
        piece.text for piece in pages.pieces(text) if piece.language == "inline" and pages.wrong_name(piece.text)
    ] == []


def test_wrong_options_and_names_are_seen():
    assert pages.told_flags("`--num-worker 2`, and `--epochs`") - pages.known_flags("README.md") == {"--num-worker"}
    for wrong in ("pg.fftt", "nn.Linnear(2, 1)", "optim.AdamW.stepp", 'Trainer(run_directory="here")'):
        assert pages.wrong_name(wrong)
    for right in (
        "pg.fft",
        "nn.Linear(2, 1)",
        "optim.AdamW.step",
        'Trainer(run_dir="here")',
        "Trainer(..., address=1)",
    ):
        assert not pages.wrong_name(right)


def test_ci_runs_the_test_command():
    (command,) = [block.strip() for block in blocks(README, "sh") if "pytest" in block]
    install, test = command.split(" && ")
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert any(line.startswith(install) for line in lines)
    assert test in lines


def test_githubs_checks_are_yaml_with_steps():
    """A colon in a plain scalar was enough for no check to run."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text())["jobs"]
    assert set(jobs) == {"lint", "tests", "wheel"}
    assert all({"run", "uses"} & set(step) for job in jobs.values() for step in job["steps"])


def test_contributors_are_told_what_ci_runs():
    told = re.findall(r"`(ruff [^`]+|mypy)`", CONTRIBUTING)
    steps = (ROOT / ".github" / "workflows" / "checks.yml").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert len(told) == 3
    for command in told:
        assert f"- run: {command.replace('format .', 'format --check .')}\n" in steps
        assert f"entry: {command.removesuffix(' .')}" in hooks
    (install,) = (block.strip().split(" && ") for block in blocks(CONTRIBUTING, "sh") if "lint" in block)
    assert f"- run: {install[1]}\n" in steps


def test_the_changes_name_every_command():
    assert set(re.findall(r"`(\w+)`", CHANGELOG.partition("The command:")[2])) == set(COMMANDS)


def leads_somewhere(base, link):
    """Whether a file is there and, where a heading of it is named, that too."""
    path, _, heading = link.partition("#")
    headings = re.findall(r"^#+ (.+)$", (base / path).read_text(), re.MULTILINE) if heading else []
    return (base / path).exists() and heading in ["", *(words.lower().replace(" ", "-") for words in headings)]


def test_a_link_that_leads_nowhere_is_seen():
    assert leads_somewhere(ROOT, "README.md#try-it")
    assert not leads_somewhere(ROOT, "README.md#try-this")
    assert not leads_somewhere(ROOT, "NOTHING.md")


@pytest.mark.parametrize("name", PAGES)
def test_links_and_files_that_are_named_exist(name):
    text = PAGES[name]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    named = re.findall(r"\b(?:pargrad|tests|benchmarks|examples)/[\w/]+\.py", text)
    scripts = re.findall(r"`(\w+\.py)`", text)  # of a folder that the page is about
    assert links + named + scripts
    base = (ROOT / name).parent
    assert [link for link in links if not leads_somewhere(base, link)] == []
    assert [path for path in named if not (ROOT / path).exists()] == []
    folders = [base, ROOT / "pargrad", ROOT / "pargrad" / "parallel"]
    assert [script for script in scripts if not any((folder / script).exists() for folder in folders)] == []


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
