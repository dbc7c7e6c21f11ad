"""A run as one HTML page that needs nothing else: no other file, no network, no JavaScript."""

from __future__ import annotations

import html
import io
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

from pargrad.parallel.checkpoints import FILES
from pargrad.parallel.stopwatch import PARTS
from pargrad.reporting.curves import curves, phases, title_of
from pargrad.reporting.figures import LOOK, matplotlib
from pargrad.reporting.runs import Line, Run, series, summary
from pargrad.serialization import Reader

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --back: #f6f8fa; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --back: #0d1117; --card: #151b23; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; }
h2 { font-size: 17px; margin: 36px 0 10px; }
p { margin: 4px 0; color: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 24px 0; }
.figures div, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.figures b { display: block; font-size: 22px; font-weight: 600; }
.figures span { color: var(--soft); font-size: 13px; }
.curves { color-scheme: light; background: #ffffff; overflow-x: auto; }
.curves svg { display: block; width: 100%; height: auto; min-width: 640px; }
.tables { columns: 2 340px; column-gap: 28px; }
.tables section { break-inside: avoid; padding-top: 26px; }
.tables h2 { margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 500; }
td.number, th.number { text-align: right; }
code { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
"""

Table = tuple[Sequence[str], list[list[str]]]


def page(run: Run) -> str:
    """The page's text. Raises ValueError for a run that has no step yet."""
    figures, told = summary(run), html.escape(title_of(run))
    sections = [
        f'<h2>Curves</h2>\n<div class="card curves">{drawing(run)}</div>',
        titled("Epochs", columns(epochs(run))),
        '<div class="tables">',
        titled("Phases of a step", pairs(phase_rows(run))),
        titled("Options", pairs(run.config.items())) if run.config else "",
        titled("Optimizer and schedule", pairs(optimizer_rows(run))),
        titled("Data", pairs(data_rows(run))),
        titled("Versions", pairs(run.state.get("versions", {}).items())),
        "</div>",
        titled("Checkpoints", columns(checkpoint_rows(run))),
        titled("What went wrong", trouble(run)),
        f"<h2>State</h2>\n<p>sha256 of the parameters: <code>{figures['state_sha256'] or 'not known'}</code></p>",
    ]
    body = "\n".join(section for section in sections if section)
    when = "" if figures["when"] is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(figures["when"]))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{told}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{told}</h1>\n<p>{html.escape(str(run.path.resolve()))}, last step {when}</p>\n"
        f"{cards(figures)}\n{body}\n</main>\n</body>\n</html>\n"
    )


# ----- parts of a page -----


def cards(figures: dict[str, Any]) -> str:
    """The figures that one looks for first."""
    accuracy, r2 = figures["best_validation_accuracy"], figures["best_validation_r2"]
    speed, loss, sent = figures["samples_per_second"], figures["loss"], figures["bytes_per_step"]
    shown = [
        ("best validation accuracy", None if accuracy is None else f"{accuracy:.2%}"),
        ("best validation r2", None if r2 is None else f"{r2:.4f}"),
        ("loss, mean of the last epoch", None if loss is None else f"{loss:.4f}"),
        ("epochs", f"{figures['epoch']:,}"),
        ("steps", f"{figures['step']:,}"),
        ("samples a second, median", None if speed is None else f"{speed:,.0f}"),
        ("bytes sent a machine and step", None if sent is None else f"{sent:,.0f}"),
    ]
    inside = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in shown if value is not None)
    return f'<div class="figures">{inside}</div>'


def drawing(run: Run) -> str:
    """The curves as an svg element."""
    text = io.StringIO()
    figure = curves([run])
    figure.suptitle("")
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib().rc_context(LOOK):
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]  # without the prolog, which is a file's


def titled(title: str, inside: str) -> str:
    return f'<section>\n<h2>{title}</h2>\n<div class="scroll">{inside}</div>\n</section>' if inside else ""


def pairs(rows: Iterable[tuple[Any, Any]]) -> str:
    """A table of names and values."""
    cells = "".join(f"<tr><th>{html.escape(words(k))}</th><td>{html.escape(words(v))}</td></tr>\n" for k, v in rows)
    return f"<table>\n{cells}</table>" if cells else ""


def columns(table: Table) -> str:
    """A table with headings; all columns but the first have numbers."""
    headings, rows = table
    if not rows:
        return ""
    lines = [cells(headings, "th"), *(cells(map(html.escape, row), "td") for row in rows)]
    return f"<table>\n{''.join(lines)}</table>"


def cells(row: Iterable[str], kind: str) -> str:
    opened = itertools.chain([f"<{kind}>"], itertools.repeat(f'<{kind} class="number">'))
    return f"<tr>{''.join(f'{tag}{cell}</{kind}>' for tag, cell in zip(opened, row))}</tr>\n"


def words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value))
    return "none" if value is None else str(value)


# ----- what a run says -----


def epochs(run: Run) -> Table:
    """A row an epoch: its steps, the mean of its losses, what the evaluation after it gave."""
    evaluations = {line["epoch"]: line for line in run.evaluations}
    names = list(dict.fromkeys(name for line in run.evaluations for name in line if is_figure(line, name)))
    rows = []
    for epoch, lines in itertools.groupby(run.steps, lambda line: line["epoch"]):
        steps = list(lines)
        losses, speeds = series(steps, "loss")[1], series(steps, "samples_per_second")[1]
        after = evaluations.get(epoch, {})
        rows.append([
            str(epoch + 1),
            f"{len(steps):,}",
            mean_of(losses, "{:.4f}"),
            *(f"{after[name]:.4f}" if is_figure(after, name) else "" for name in names),
            mean_of(speeds, "{:,.0f}"),
        ])  # fmt: skip
    return ["epoch", "steps", "loss", *(name.replace("_", " ") for name in names), "samples/s"], rows


def is_figure(line: Line, name: str) -> bool:
    return name.startswith("validation_") and isinstance(line.get(name), int | float)


def mean_of(values: list[float], form: str) -> str:
    return form.format(sum(values) / len(values)) if values else ""


def phase_rows(run: Run) -> list[tuple[str, str]]:
    times = phases(run)
    whole = sum(times.values())
    return [(part, f"{times[part]:.3g} ms, {times[part] / whole:.1%}") for part in PARTS if part in times and whole]


def optimizer_rows(run: Run) -> list[tuple[str, Any]]:
    """What the newest checkpoint says of optimizer, schedule, clipping and shards."""
    if not run.state:
        return []
    made = Reader({}).built(run.state["now"])
    rows = [("optimizer", run.state["optimizer"]), ("batch size", run.state["batch_size"])]
    rows += [("shards", run.state["shards"]), ("seed", run.state["seed"])]
    rows += [
        (" ".join(filter(None, (group, name))).replace("_", " "), value)
        for group, options in made.items()
        for name, value in options.items()
    ]
    return rows


def data_rows(run: Run) -> list[tuple[str, Any]]:
    data = run.state.get("data") or {}
    if not data:
        return []
    each = [f"{dtype} of shape {tuple(shape)}" for shape, dtype in zip(data["shapes"], data["dtypes"])]
    return [("examples", f"{data['length']:,}"), ("each", each), ("sha256 of 64 rows", data["sha256_of_64_rows"])]


def checkpoint_rows(run: Run) -> Table:
    """A row a checkpoint, the newest first."""
    best = (run.state.get("best") or {}).get("step")
    rows = []
    for step, path in run.checkpoints:
        there = [path / name for name in FILES if (path / name).is_file()]
        size = sum(file.stat().st_size for file in there)
        note = "lowest validation loss" if step == best else ""
        rows.append([path.name, f"{step:,}", f"{size / 1e6:,.1f} MB", note])
    return ["checkpoint", "after step", "size", ""], rows


def trouble(run: Run) -> str:
    """Workers that were lost and steps that were left without effect; nothing where there were none."""
    told = [
        (f"step {line['step']:,}", what)
        for line in run.steps
        for what in (*line.get("workers_lost", ()), *filter(None, [line.get("without_effect")]))
    ]
    return pairs(told)
