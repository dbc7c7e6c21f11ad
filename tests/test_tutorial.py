"""The tutorial is sixty lines, ends well, and would not if its step were wrong."""

import ast
import functools
import io
import re
import tokenize

import pytest

from examples import tutorial
from tests.pages import ROOT

NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines_of_code(source):
    """The lines that are neither blank, nor comments, nor the module's docstring."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    docstring = ast.parse(source).body[0]
    return len(lines - set(range(docstring.lineno, docstring.end_lineno + 1)))


def test_it_is_sixty_lines():
    assert lines_of_code('"""Two\nlines."""\n\n# One more.\nx = (\n    1\n)  # three\n') == 3
    assert lines_of_code((ROOT / "examples" / "tutorial.py").read_text()) <= 60


def test_workers_processes_and_the_trainer_have_the_same_bits(capsys):
    hashes = tutorial.main()
    printed = capsys.readouterr().out
    assert list(hashes) == ["workers: 1", "workers: 2", "workers: 3", "workers: 4", "processes: 2", "Trainer"]
    assert len(set(hashes.values())) == 1
    assert printed.count(hashes["Trainer"]) == 6


def test_it_ends_with_an_error_if_means_of_shards_are_added(monkeypatch):
    real = tutorial.F.cross_entropy
    monkeypatch.setattr(tutorial.F, "cross_entropy", lambda *inputs, reduction="mean": real(*inputs))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        tutorial.main()


def in_order(parts, add):
    """A sum from the first to the last, whatever tree they are nodes of."""
    present = [part for part in parts if part is not None]
    return functools.reduce(add, present) if present else None


def test_it_ends_with_an_error_if_the_order_of_additions_depends_on_the_workers(monkeypatch, capsys):
    monkeypatch.setattr(tutorial, "reduce_tree", in_order)
    with pytest.raises(AssertionError) as caught:
        tutorial.main()
    assert "Mismatched elements" not in str(caught.value)  # the gradient is right, to rounding
    hashes = dict(re.findall(r"^workers: (\d) +(\w{64})$", capsys.readouterr().out, re.MULTILINE))
    assert len(hashes) == 4
    assert len(set(hashes.values())) > 1
