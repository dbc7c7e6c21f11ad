"""The pages as what can be checked of them: blocks, commands, options and names, each held against the real thing."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import shlex
import tomllib
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pargrad
from pargrad import nn, optim
from pargrad.cli import COMMANDS
from pargrad.commands import submit
from pargrad.commands.options import hyphenated, make_parser, parse
from pargrad.parallel import Trainer

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / name).read_text() for name in (
    "README.md", "examples/README.md", "cluster/README.md", "benchmarks/README.md", ".github/CONTRIBUTING.md",
    ".github/TRIALS.md",
)}  # fmt: skip

# What is not run or parsed here, and why that is enough. Files that they name are looked for.
ARGUED = {
    "kubectl": "there is no Kubernetes here; test_cluster_files.py holds the manifests against KubeRay's schemas",
    "docker": "there is no Docker here; test_cluster_files.py reads the Dockerfile",
    "sbatch": "there is no SLURM here; test_cluster_files.py checks the script with shellcheck",
    "scancel": "as sbatch",
    "export": "a shell's own; test_cluster_files.py checks the shell with shellcheck",
    "pre-commit": "test_readme.py holds its hooks against what CONTRIBUTING says",
    "ruff": "as pre-commit; it is CI that runs it",
    "mypy": "as ruff",
}


# ----- what a page has -----


class Piece(NamedTuple):
    """A piece of code of a page. language: of a fenced block; "indented" and "inline" are the others."""

    language: str
    text: str


def pieces(text: str) -> list[Piece]:
    fenced = r"^ *```(\w*)\n(.*?)^ *```"
    found = [Piece(language, block) for language, block in re.findall(fenced, text, re.MULTILINE | re.DOTALL)]
    text = re.sub(fenced, "", text, flags=re.MULTILINE | re.DOTALL)
    indented = r"(?:^ {4}[a-z].*\n)+"
    found += [Piece("indented", block) for block in re.findall(indented, text, re.MULTILINE)]
    return found + [Piece("inline", " ".join(code.split())) for code in re.findall(r"`([^`]+)`", text)]


def blocks(text: str, language: str) -> list[str]:
    return [piece.text for piece in pieces(text) if piece.language == language]


def commands_of(shell: str) -> list[list[str]]:
    """The commands of some lines of shell as words. One whose first word sets a variable is `export`."""
    found = []
    for line in shell.replace("\\\n", " ").splitlines():
        if re.match(r"\s*\w+=", line):
            found.append(["export"])
            continue
        for part in re.split(r"\s*&&\s*|\s*&$", line):
            words = shlex.split(part, comments=True)
            found += [words] if words else []
    return found


def told_commands(text: str) -> list[list[str]]:
    """Every command that a page names: all of its shell, and what is inline and begins with a program's name."""
    found = []
    for piece in pieces(text):
        inline = piece.language == "inline" and piece.text.split()[0] in CHECKS
        if (inline and not re.search(r"\w\.$", piece.text)) or piece.language in ("sh", "indented"):
            found += commands_of(piece.text)
    rows = re.search(r"^\| command: `(.+?\.)` .*\n(?:\|.*\n)+", text, re.MULTILINE)
    if rows:  # a table whose first column goes on from its heading
        cells = re.findall(r"^\| `([a-z].*?)` \|", rows[0], re.MULTILINE)
        found += [shlex.split(rows[1] + cell) for cell in cells]
    return found


# ----- what is held against the real thing -----


class Parsed(BaseException):
    """Ends a command that would begin, its arguments being right."""


def parse_only(main, words):
    """Runs a command to where its arguments are parsed; wrong ones end it with SystemExit."""
    real = ArgumentParser.parse_args

    def parse_args(self, *given):
        raise Parsed(real(self, *given))

    with mock.patch.object(ArgumentParser, "parse_args", parse_args), contextlib.suppress(Parsed):
        main(words)
        raise AssertionError(f"{main} parsed nothing")


def check_pargrad(words: list[str]) -> None:
    if len(words) <= 1:  # spoken of, not written out
        assert not words or words[0] in COMMANDS, words
        return
    _, options = parse(COMMANDS, words)
    if isinstance(options, submit.Options) and options.command:
        submit.checked_command(options.command)


def check_python(words: list[str]) -> None:
    if words[0].endswith(".py"):
        check_files(words)
        return
    flag, name, *words = words
    assert flag == "-m", flag
    package, _, module = name.partition(".")
    if name == "pargrad":
        check_pargrad(words)
    elif name == "pytest":
        assert [word for word in words if not (ROOT / word).exists()] == []
    elif name == "tests.long":
        proofs = "".join(path.read_text() for path in (ROOT / "tests").glob("proofs_*.py"))
        assert [word for word in words if not re.search(rf"^@proof.*\ndef {word}\(", proofs, re.MULTILINE)] == []
    elif package == "examples" or name in ("benchmarks.compare", "tests.torch_operators"):
        known = example_flags() | {"--seeds"} if module == "compare" else flags_of(ROOT / package / f"{module}.py")
        assert {word for word in words if word.startswith("--")} <= known
    elif package == "benchmarks":
        parse_only(importlib.import_module(name).main, words)
    else:
        raise AssertionError(f"python -m {name} is not known to the tests")


def check_pip(words: list[str]) -> None:
    """That extras are extras, and packages are some that pyproject.toml names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = " ".join([*project["dependencies"], *(name for names in extras.values() for name in names)])
    assert words[0] == "install", words
    for word in words[1:]:
        name, _, wanted = word.partition("[")
        if name in (".", "pargrad"):
            assert not wanted or set(wanted.rstrip("]").split(",")) <= set(extras), word
        else:
            known = [*re.findall(r"[A-Za-z][\w-]*", asked), "pandas", "pyarrow"]  # Ray Train wants these besides
            assert re.split(r"[=><\[]", word)[0] in known, word


def check_ray(words: list[str]) -> None:
    """That Ray has this command, and these options of it."""
    from ray.scripts.scripts import cli

    command = cli
    while words and hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    words = words[: words.index("--")] if "--" in words else words
    takes = [command, cli.commands["start"]] if command is cli.commands["symmetric-run"] else [command]
    known = {option for one in takes for parameter in one.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= known, given - known
    check_files(words)


def check_files(words: list[str]) -> None:
    files = [word for word in words if re.match(r"(cluster|tests|examples|benchmarks|\.github)/", word)]
    assert [file for file in files if not (ROOT / file).exists()] == []


CHECKS = {
    "pargrad": check_pargrad, "python": check_python, "pip": check_pip, "ray": check_ray,
    **dict.fromkeys(ARGUED, check_files),
}  # fmt: skip


def check_command(words: list[str]) -> None:
    """Ends with an error unless the command is one."""
    program, *words = words
    assert program in CHECKS, f"{program} is not known to the tests"
    CHECKS[program](words)


def flags_of(script: Path) -> set[str]:
    """The options of an example, which are the parameters of its main."""
    (main,) = (node for node in ast.parse(script.read_text()).body if getattr(node, "name", None) == "main")
    return {f"--{argument.arg.replace('_', '-')}" for argument in main.args.args}


def example_flags() -> set[str]:
    return set().union(*(flags_of(script) for script in (ROOT / "examples").glob("[a-z]*.py")))


def benchmark_flags() -> set[str]:
    source = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    return {"--help", *re.findall(r'add_argument\(\s*"(--[\w-]+)"', source)}


def known_flags(page: str) -> set[str]:
    """The options that a page may speak of by their names alone."""
    flags = {hyphenated(flag) for flag in make_parser(COMMANDS).flags()}
    if page == "examples/README.md":
        return flags | example_flags() | {"--help"}
    return flags | benchmark_flags() if page == "benchmarks/README.md" else flags


def told_flags(text: str) -> set[str]:
    """The options that a page names by themselves: `--num-workers 0`."""
    return {piece.text.split()[0] for piece in pieces(text) if re.match(r"--[a-z]", piece.text) and piece.text != "--"}


def wrong_name(code: str) -> bool:
    """Whether inline code names what pargrad has not: `pg.fft`, `nn.Linear(2, 1)`, `Trainer(run_dir=...)`."""
    roots = {"pg": pargrad, "pargrad": pargrad, "nn": nn, "optim": optim}
    dotted = re.match(r"(pg|nn|optim)((?:\.\w+)+)", code)
    if dotted:
        value = roots[dotted[1]]
        for part in dotted[2].split(".")[1:]:
            if not hasattr(value, part):
                return True
            value = getattr(value, part)
    if code.startswith("Trainer(") and code.endswith(")"):
        call = ast.parse(code, mode="eval").body
        return not {keyword.arg for keyword in call.keywords} <= set(inspect.signature(Trainer).parameters)
    return False
