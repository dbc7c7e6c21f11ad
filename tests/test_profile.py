"""`pargrad profile`: the sampler inside a process, folded stacks, and the flame graph."""

import os
import sys
import threading
import time
import xml.etree.ElementTree

import numpy as np
import pytest

import pargrad
from pargrad.cli import main
from pargrad.commands import profile
from pargrad.parallel.sampler import VARIABLE, Sampler, folded, sampled, short
from pargrad.reporting.flames import NARROWEST, Frame, flame_graph, frames, read_folded, shortened
from tests.training import examples

STACKS = {("driver", "main", "fit"): 3, ("driver", "main", "save"): 1, ("worker 0", "main"): 6}
SVG = "{http://www.w3.org/2000/svg}"


def test_stacks_that_begin_alike_share_frames():
    assert sorted(frames(STACKS)) == sorted([
        Frame("driver", 0, 0, 4), Frame("main", 1, 0, 4), Frame("fit", 2, 0, 3), Frame("save", 2, 3, 1),
        Frame("worker 0", 0, 4, 6), Frame("main", 1, 4, 6),
    ])  # fmt: skip


def test_the_widths_are_the_shares():
    graph = xml.etree.ElementTree.fromstring(flame_graph(STACKS, "a <command>"))
    widths = {
        group.find(f"{SVG}title").text: float(group.find(f"{SVG}rect").get("width")) for group in graph.iter(f"{SVG}g")
    }
    assert len(widths) == 6
    assert widths["driver: 4 samples, 40.0%"] / widths["worker 0: 6 samples, 60.0%"] == pytest.approx(4 / 6, rel=1e-3)
    assert "a <command>" in {text.text for text in graph.iter(f"{SVG}text")}


def test_frames_too_narrow_to_see_are_left_out():
    graph = flame_graph({("often",): 10**6, ("rare",): 1}, "title")
    assert NARROWEST > 1380 / 10**6
    assert "often" in graph and "rare" not in graph


def test_names_are_cut_to_their_room():
    name = "Member.step (pargrad/parallel/pool.py)"
    assert shortened(name, 60) == name
    assert shortened(name, 20) == "Member.step"
    assert shortened(name, 8) == "Member.…"
    assert shortened(name, 2) == ""


def test_folded_stacks_are_read_and_added():
    assert read_folded(["a;b c 2", "", "a;b c 3", "a 1"]) == {("a", "b c"): 5, ("a",): 1}
    with pytest.raises(ValueError, match="line 2 is no folded stack"):
        read_folded(["a;b 2", "a;b"])
    with pytest.raises(ValueError, match="no sample was taken"):
        flame_graph({}, "title")


def test_a_stack_is_pargrad_s_or_not_there():
    found = []

    class Watching(pargrad.nn.Module):
        def forward(self, x):
            found.append(folded(sys._current_frames()[threading.get_ident()]))
            return x

    Watching()(pargrad.tensor([1.0]))
    *_, call, own = found[0].split(";")
    assert "Module.__call__" in found[0] and "pargrad/nn/module.py" in call
    assert own.startswith("test_a_stack_is_pargrad_s_or_not_there.<locals>.Watching.forward (test_profile.py)")
    assert folded(sys._current_frames()[threading.get_ident()]) == ""
    assert short("/somewhere/site-packages/numpy/linalg/_linalg.py") == "numpy/linalg/_linalg.py"


def test_the_sampler_sees_what_is_done(tmp_path):
    x = pargrad.tensor(np.ones((300, 300)))
    sampler = Sampler(tmp_path / "1.folded", "driver", 500)
    deadline = time.monotonic() + 20
    while not any("matmul" in stack for stack in list(sampler.counts)) and time.monotonic() < deadline:
        x @ x
    sampler.stop()
    stacks = read_folded((tmp_path / "1.folded").read_text().splitlines())
    assert {stack[0] for stack in stacks} == {"driver"}
    assert any("matmul" in frame for stack in stacks for frame in stack)
    assert not sampler.thread.is_alive()


def test_a_process_that_is_not_asked_has_no_sampler(monkeypatch, tmp_path):
    before = threading.active_count()
    for value in ("", f"{tmp_path / 'elsewhere'}:100"):
        monkeypatch.setenv(VARIABLE, value)
        with sampled("driver"):
            assert threading.active_count() == before
    monkeypatch.setenv(VARIABLE, f"{tmp_path}:100")
    with sampled("driver"):
        assert threading.active_count() == before + 1
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.folded"]


class SlowWhereMade(pargrad.nn.Linear):
    """A model whose steps are for the workers: in the process that made it they take as long as Ray takes to start."""

    def __init__(self):
        super().__init__(12, 5)
        self.process = os.getpid()

    def forward(self, x):
        time.sleep(0.01 * (os.getpid() == self.process))
        return super().forward(x)


def parts():
    model = SlowWhereMade()
    return model, pargrad.nn.functional.cross_entropy, pargrad.optim.SGD(model.parameters()), examples()


@pytest.mark.timeout(100)
def test_the_command_draws_driver_and_worker(tmp_path, capfd):
    out = tmp_path / "flames.svg"
    arguments = ["--out", str(out), "--how", "sampling", "--rate", "200", "--"]
    training = ["train", "tests.test_profile:parts", "--num-workers", "1", "--epochs", "100"]
    assert main(["profile", *arguments, *training]) == 0
    printed = capfd.readouterr().out
    assert "state sha256" in printed and f"samples by sampling in {out}" in printed
    titles = [title.text for title in xml.etree.ElementTree.parse(out).iter(f"{SVG}title")]
    assert any(title.startswith("driver: ") for title in titles)
    assert any(title.startswith("worker 0: ") for title in titles)
    assert any("Member.step (pargrad/parallel/pool.py)" in title for title in titles)


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "give the command to run behind --"),
    (["--", "profile"], "give the command to run behind --"),
    (["--out", "a.png", "--", "train"], "expected a name that ends in .svg"),
    (["--rate", "0", "--", "train"], "--rate 0: expected 1 to 1000"),
])  # fmt: skip
def test_wrong_use_is_refused(capsys, arguments, message):
    assert main(["profile", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_py_spy_it_samples_itself(monkeypatch):
    monkeypatch.setattr(profile.shutil, "which", lambda *arguments, **named: None)
    assert profile.chosen("auto") is None
    with pytest.raises(ValueError, match="py-spy is not installed"):
        profile.chosen("py-spy")


def test_a_py_spy_that_is_not_allowed_is_not_used(monkeypatch, tmp_path):
    spy = tmp_path / "py-spy"
    spy.write_text("#!/bin/sh\necho 'Permission denied' >&2\nexit 1\n")
    spy.chmod(0o700)
    monkeypatch.setattr(profile.shutil, "which", lambda *arguments, **named: str(spy))
    assert profile.chosen("auto") is None
    with pytest.raises(ValueError, match=r"not allowed to look into processes here: Permission denied; or write"):
        profile.chosen("py-spy")
