"""The timeline: a Chrome trace by the format's rules, whose spans are those of the run."""

import itertools
import json
import os

import numpy as np
import pytest

from pargrad.nn import functional as F
from pargrad.parallel import Timeline, Trainer
from pargrad.parallel.spans import Recorder, read_spans, recorder
from pargrad.parallel.stopwatch import COMPUTE, DATA, PARTS, Stopwatch
from tests.training import adamw, examples, mlp

NEEDED = {"X": {"name", "ts", "dur", "pid", "tid"}, "i": {"name", "ts", "pid", "tid", "s"}, "M": {"name", "args"}}


def wrong_events(trace):
    """What of a trace is against the Trace Event Format's rules for the events that are in it."""
    wrong = []
    if not isinstance(trace, dict) or not isinstance(trace.get("traceEvents"), list):
        return ["no object with a list traceEvents"]
    rows = {}
    for event in trace["traceEvents"]:
        kind = event.get("ph")
        if kind not in NEEDED:
            wrong.append(f"unknown phase {kind}")
            continue
        wrong += [f"{kind} without {name}" for name in NEEDED[kind] - event.keys()]
        wrong += [f"{name} is no integer" for name in ("pid", "tid") if type(event.get(name, 0)) is not int]
        times = [event[name] for name in ("ts", "dur") if name in event]
        wrong += [f"time {time!r}" for time in times if not (isinstance(time, int | float) and time >= 0)]
        if kind == "X" and {"ts", "dur", "pid", "tid"} <= event.keys():
            rows.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    for row, spans in rows.items():
        # Spans of one row are apart or one within the other; these are all apart.
        for (_, end), (begin, _) in itertools.pairwise(sorted(spans)):
            if begin < end - 1e-3:
                wrong.append(f"spans overlap in {row}")
    return wrong


def trained(path, workers, fits=1, epochs=2):
    """The trace of a run, and the seconds that its processes counted themselves."""
    model = mlp()
    data = examples(320)
    with Trainer(
        model, F.cross_entropy, adamw(model), batch_size=32, num_workers=workers, progress="off",
        callbacks=(Timeline(path),),
    ) as trainer:  # fmt: skip
        trainer.wait_for_workers()
        for _ in range(fits):
            trainer.fit(data, epochs=epochs, validation=data)
        seconds = trainer.pool.arena.seconds.sum(axis=0)
    return json.loads(path.read_text()), seconds


def spans_of(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X" and event["name"] in PARTS]


def test_the_trace_of_one_process(tmp_path):
    trace, seconds = trained(tmp_path / "trace.json", 0)
    assert wrong_events(trace) == []
    for part, expected in zip(PARTS, seconds):
        total = sum(event["dur"] for event in spans_of(trace) if event["name"] == part)
        assert total == pytest.approx(1e6 * expected, rel=1e-6)
    assert {event["args"]["step"] for event in spans_of(trace)} == set(range(1, 21))
    names = [event["name"] for event in trace["traceEvents"]]
    assert [name for name in names if name.startswith("step ")] == [f"step {n}" for n in range(1, 21)]
    assert names.count("evaluation") == 2
    assert {event["pid"] for event in trace["traceEvents"]} == {os.getpid()}


@pytest.mark.timeout(60)
def test_workers_have_rows_of_their_own(cluster, leaves_nothing, tmp_path):
    trace, seconds = trained(tmp_path / "trace.json", 2)
    assert wrong_events(trace) == []
    pids = {event["pid"] for event in spans_of(trace)}
    assert len(pids - {os.getpid()}) == 2
    named = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert named == {"driver", *(f"worker (process {pid})" for pid in pids - {os.getpid()})}
    waiting = [event for event in spans_of(trace) if event["name"] == "waiting"]
    assert {event["pid"] for event in waiting} >= pids - {os.getpid()}
    assert sum(event["dur"] for event in spans_of(trace)) == pytest.approx(1e6 * seconds[:-1].sum(), rel=1e-6)


def test_a_second_fit_adds_to_it(tmp_path):
    trace, _ = trained(tmp_path / "trace.json", 0, fits=3, epochs=1)
    assert wrong_events(trace) == []
    steps = [event["args"]["step"] for event in spans_of(trace) if event["name"] == "update"]
    assert steps == sorted(steps) and set(steps) == set(range(1, 31))
    assert len([event for event in trace["traceEvents"] if event["ph"] == "M"]) == 2


@pytest.mark.parametrize("wrong", [
    [], {"traceEvents": [{"ph": "X", "name": "a", "ts": 0, "pid": 1, "tid": 0}]}, {"traceEvents": [{"ph": "Y"}]},
    {"traceEvents": [{"ph": "X", "name": "a", "ts": -1, "dur": 1, "pid": 1, "tid": 0}]},
    {"traceEvents": [{"ph": "X", "name": "a", "ts": t, "dur": 2, "pid": 1, "tid": 0} for t in (0, 1)]},
    {"traceEvents": [{"ph": "i", "name": "a", "ts": 0, "pid": "driver", "tid": 0, "s": "g"}]},
])  # fmt: skip
def test_a_wrong_trace_is_seen(wrong):
    assert wrong_events(wrong)


def test_the_file_is_whole_before_the_first_step(tmp_path):
    timeline = Timeline(tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"] == []
    timeline.write()
    timeline.write()
    assert wrong_events(json.loads((tmp_path / "trace.json").read_text())) == []


def test_a_recorder_counts_as_the_stopwatch_does(tmp_path):
    watch, row = recorder(str(tmp_path)), np.zeros(len(PARTS) + 1)
    watch.start(7)
    watch.lap(DATA)
    watch.lap(COMPUTE)
    watch.hand_over(row)
    (path,) = tmp_path.iterdir()
    first, second = read_spans(path).tolist()
    assert (first[:2], second[:2]) == ((DATA, 7), (COMPUTE, 7))
    assert first[3] == second[2]
    assert row[DATA] == first[3] - first[2] and row[COMPUTE] == second[3] - second[2] and row[-1] == 1
    assert read_spans(path, 1).tolist() == [second]


def test_a_step_that_was_broken_off_leaves_nothing(tmp_path):
    watch, row = Recorder(tmp_path / "1.spans"), np.zeros(len(PARTS) + 1)
    watch.start(1)
    watch.lap(DATA)
    watch.start(1)
    watch.lap(COMPUTE)
    watch.hand_over(row)
    assert [span[0] for span in read_spans(tmp_path / "1.spans").tolist()] == [COMPUTE]


def test_it_costs_nothing_where_it_is_not_asked_for(tmp_path):
    model = mlp()
    with Trainer(model, F.cross_entropy, adamw(model), batch_size=32, num_workers=0, progress="off") as trainer:
        trainer.fit(examples(64), epochs=1)
        assert type(trainer.pool.replica.watch) is Stopwatch
    assert type(recorder(str(tmp_path / "on another machine"))) is Stopwatch


def test_its_directory_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="there is no directory"):
        Timeline(tmp_path / "nowhere" / "trace.json")
