"""The page of a run: whole by itself, well-formed, and true."""

import html.parser
import re
import warnings

import pytest

from pargrad.cli import main
from pargrad.nn import functional as F
from pargrad.parallel import Callback, Trainer, state_sha256
from pargrad.reporting.page import page
from pargrad.reporting.runs import read_run
from tests.run_directories import as_of_machines, train_into
from tests.training import adamw, examples, mlp

VOID = {"meta", "br", "hr", "img", "link", "input"}
LEADS_OUT = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}


class Checker(html.parser.HTMLParser):
    """Collects what is wrong with a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.words, self.tags = [], [], [], set()
        self.feed(text)
        self.close()
        self.wrong += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            if name in LEADS_OUT and not value.startswith("#"):
                self.wrong.append(f"{name}={value} leads out of the page")
            if name.startswith("on"):
                self.wrong.append(f"{name} is a script")
            if name == "style":
                self.check_style(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes another")

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] == "style":
            self.check_style(data)

    def check_style(self, text):
        if re.search(r"@import|url\((?!#)", text):
            self.wrong.append("a style leads out of the page")

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one & only"
    train_into(path, config={"model": "mlp", "data_set": "<none>", "lr": 0.003})
    return path


def test_the_page_is_well_formed_and_needs_nothing_else(directory):
    checked = Checker(page(read_run(directory)))
    assert checked.wrong == []
    assert not checked.tags & {"script", "img", "link", "iframe", "object"}
    assert {"svg", "table", "h1"} <= checked.tags


@pytest.mark.parametrize("wrong", [
    "<p><b></p></b>", "<div>", '<img src="a.png">', '<a href="https://somewhere">x</a>',
    "<style>@import 'a.css'</style>", '<p onclick="f()"></p>', "<style>p { background: url(a.png) }</style>",
])  # fmt: skip
def test_the_checker_sees_what_is_wrong(wrong):
    assert Checker(wrong).wrong


def test_what_it_says_is_the_run_s(directory):
    run = read_run(directory)
    text = Checker(page(run)).text
    assert "one & only: mlp on <none>" in text
    for line in run.evaluations:
        assert f"{line['validation_loss']:.4f}" in text
    for _, path in run.checkpoints:
        assert path.name in text
    assert run.state["state_sha256"] in text
    assert run.state["versions"]["numpy"] in text
    assert "AdamW" in text and "0.003" in text
    assert "320" in text and "float32 of shape (12,)" in text
    assert "What went wrong" not in text


def test_the_command_writes_it(directory, tmp_path, capsys):
    assert main(["report", str(directory), "--out", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["report", str(tmp_path)]) == 2
    assert "is no run directory, which has metrics.jsonl" in capsys.readouterr().err


def test_what_machines_sent_is_told_where_there_were_several(directory, tmp_path):
    assert "bytes sent" not in Checker(page(read_run(directory))).text
    (tmp_path / "metrics.jsonl").write_text((directory / "metrics.jsonl").read_text())
    as_of_machines(tmp_path, 1_234_567)
    assert "1,234,567 bytes sent a machine and step" in " ".join(Checker(page(read_run(tmp_path))).text.split())


def test_a_run_without_checkpoints_has_a_page(directory, tmp_path):
    (tmp_path / "metrics.jsonl").write_text((directory / "metrics.jsonl").read_text())
    checked = Checker(page(read_run(tmp_path)))
    assert checked.wrong == []
    assert "not known" in checked.text


class Loses(Callback):
    """Says that workers were lost, as a pool does."""

    def on_step_end(self, trainer, result):
        if result.number in (2, 4):
            trainer.pool.lost = (*trainer.pool.lost, f"worker 1 was lost after {result.number}")


def test_workers_that_were_lost_and_steps_without_effect_are_told(tmp_path):
    x, y = examples(64)
    x[40] = float("inf")
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Trainer(
            model, F.cross_entropy, adamw(model), batch_size=8, num_workers=0, run_dir=tmp_path, progress="off",
            callbacks=(Loses(),), non_finite="skip",
        ) as trainer:  # fmt: skip
            trainer.fit((x, y), epochs=1)
    run = read_run(tmp_path)
    assert {line["step"]: line["workers_lost"] for line in run.steps if "workers_lost" in line} == {
        3: ["worker 1 was lost after 2"],
        5: ["worker 1 was lost after 4"],
    }
    text = Checker(page(run)).text
    assert "What went wrong" in text
    (skipped,) = [line["without_effect"] for line in run.steps if "without_effect" in line]
    assert "worker 1 was lost after 2" in text and skipped in text
    assert run.state["state_sha256"] == state_sha256(model)
