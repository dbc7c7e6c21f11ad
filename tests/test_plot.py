"""The curves of runs: what is drawn, and `pargrad plot`."""

import sys
import xml.etree.ElementTree

import numpy as np
import pytest

from pargrad.cli import main
from pargrad.reporting.curves import curves, means, phases
from pargrad.reporting.runs import read_run, series
from tests.run_directories import train_into


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one"
    train_into(path)
    return path


def panel(figure, beginning):
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith(beginning)]
    return axes


def test_the_curves_are_the_run_s(directory):
    run = read_run(directory)
    figure = curves([run])
    raw, mean, validation = panel(figure, "loss").get_lines()
    assert list(raw.get_ydata()) == series(run.steps, "loss")[1]
    assert list(mean.get_xdata()) == list(range(1, 31))
    assert list(validation.get_ydata()) == series(run.evaluations, "validation_loss")[1]
    (accuracy,) = panel(figure, "validation accuracy").get_lines()
    assert list(accuracy.get_xdata()) == [10, 20, 30]
    (rate,) = panel(figure, "learning rate").get_lines()
    assert set(rate.get_ydata()) == {3e-3}
    (speed,) = panel(figure, "throughput").get_lines()
    assert min(speed.get_ydata()) > 0


def test_the_phases_are_means_over_the_steps(directory):
    run = read_run(directory)
    bars = panel(curves([run]), "phases").patches
    widths = [bar.get_width() for bar in bars]
    assert len(widths) == 5
    assert widths == pytest.approx(list(phases(run).values()))
    assert widths[1] == pytest.approx(np.mean([line["compute_ms"] for line in run.steps]))


def test_several_runs_are_in_one_figure_under_their_names(directory):
    run = read_run(directory)
    figure = curves([run, run._replace(path=directory.parent / "other")])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one", "other"]
    assert len(panel(figure, "validation accuracy").get_lines()) == 2
    assert len({line.get_color() for line in panel(figure, "learning rate").get_lines()}) == 2


def test_means_keep_the_sum():
    x, y = means(range(100), np.arange(100.0), 10)
    assert x.tolist() == y.tolist() == np.arange(4.5, 100, 10).tolist()
    assert means([1, 2, 3], [5.0, 6.0, 7.0], 10)[1].tolist() == [5, 6, 7]
    x, y = means(range(7), np.ones(7), 3)
    assert y.tolist() == [1, 1, 1]


def test_a_run_without_evaluations_says_so(directory):
    figure = curves([read_run(directory)._replace(evaluations=[])])
    assert [text.get_text() for text in panel(figure, "validation accuracy").texts] == ["no evaluation yet"]


def test_a_regression_has_r2_in_place_of_accuracy(directory):
    run = read_run(directory)
    renamed = [{**line, "validation_r2": line["validation_accuracy"]} for line in run.evaluations]
    for line in renamed:
        del line["validation_accuracy"]
    figure = curves([run._replace(evaluations=renamed)])
    (curve,) = panel(figure, "validation r2").get_lines()
    assert list(curve.get_ydata()) == series(run.evaluations, "validation_accuracy")[1]
    best = max(curve.get_ydata())
    assert [text.get_text() for text in panel(figure, "validation r2").texts] == [f"{best:.4f}"]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_command_writes_the_file(directory, tmp_path, capsys, ending):
    out = tmp_path / f"curves.{ending}"
    assert main(["plot", str(directory), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    if ending == "png":
        assert out.read_bytes().startswith(b"\x89PNG")
    else:
        words = {element.text for element in xml.etree.ElementTree.parse(out).iter() if element.text}
        assert {"learning rate", "validation accuracy"} <= {word.strip() for word in words}


@pytest.mark.parametrize(("out", "message"), [
    ("curves.bmp", "expected a name that ends in .png, .svg, .pdf"),
    ("nowhere/curves.png", "there is no directory"),
])  # fmt: skip
def test_wrong_names_are_refused_before_anything_is_drawn(directory, capsys, out, message):
    assert main(["plot", str(directory), "--out", out]) == 2
    assert message in capsys.readouterr().err


def test_without_matplotlib_it_says_how_to_get_it(directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", str(directory), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err == (
        'pargrad: matplotlib, which draws, is not installed: pip install "pargrad[plot]"\n'
    )


def test_a_run_without_a_step_is_refused(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text("")
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert "there is nothing to draw: no step is done" in capsys.readouterr().err
