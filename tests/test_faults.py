"""Workers that are lost in the middle of a step: the run goes on, and nobody can tell from its bits."""

import functools
import os
import signal
import threading
import time

import pytest

from pargrad.parallel import ResourcesError, crew
from tests.chaos import PHASES, Killer
from tests.processes import workers_of
from tests.training import bits, examples, make_trainer

pytestmark = [
    pytest.mark.usefixtures("leaves_nothing"),
    pytest.mark.filterwarnings("ignore:worker .* was:UserWarning"),
]
WAY, STEPS = "branching", 60


@functools.cache
def undisturbed(steps=STEPS):
    with make_trainer(WAY, 0) as trainer:
        history = trainer.fit(examples(), max_steps=steps)
    return bits(trainer), [(entry["loss"], entry["steps"]) for entry in history]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_in_a_phase_changes_no_bit(phase, workers):
    with make_trainer(WAY, workers) as trainer:
        pool = trainer.open()
        with Killer(pool, [(10, 0, phase), (30, 2, phase)]) as killer:
            history = trainer.fit(examples(), max_steps=STEPS)
    assert [kill[2] for kill in killer.killed] == [phase] * 2
    assert pool.failures_in_all == 2
    assert bits(trainer) == undisturbed()[0]
    assert [(entry["loss"], entry["steps"]) for entry in history] == undisturbed()[1]
    assert workers_of(os.getpid()) == []


def test_two_workers_killed_at_once():
    with make_trainer(WAY, 4) as trainer:
        pool = trainer.open()
        with Killer(pool, [(10, 0, "gradient"), (10, 3, "gradient"), (20, 1, "update")]):
            trainer.fit(examples(), max_steps=STEPS)
    assert bits(trainer) == undisturbed()[0]


def test_a_stopped_worker_is_given_up_and_cannot_write_when_it_goes_on(monkeypatch):
    monkeypatch.setattr(crew, "LATE_SECONDS", 1.0)
    monkeypatch.setattr(crew, "LATE_MEDIANS", 0.0)
    with make_trainer(WAY, 3) as trainer:
        pool = trainer.open()
        victims = workers_of(os.getpid())
        given_up = pytest.warns(UserWarning, match="late and given up")
        with Killer(pool, [(10, 1, "gradient")], kill=signal.SIGSTOP), given_up:
            trainer.fit(examples(), max_steps=STEPS)
        assert len(set(workers_of(os.getpid())) & set(victims)) == 2
    assert bits(trainer) == undisturbed()[0]


def test_a_worker_killed_while_evaluating():
    x, y = examples(20_000)
    with make_trainer(WAY, 0) as trainer:
        expected = trainer.evaluate((x, y))
    with make_trainer(WAY, 2) as trainer:
        pool = trainer.open()
        victim = threading.Timer(0.05, os.kill, (pool.members[0].pid, signal.SIGKILL))
        victim.start()
        results = [trainer.evaluate((x, y)) for _ in range(8)]
        assert all(result == expected for result in results)
        victim.join()
        assert trainer.evaluate((x, y)) == expected
        trainer.fit(examples(), max_steps=STEPS)
    assert pool.failures_in_all == 1
    assert bits(trainer) == undisturbed()[0]


def test_a_worker_killed_while_it_starts():
    def kill_first():
        while not (found := workers_of(os.getpid())):
            time.sleep(0.01)
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_first, daemon=True)
    with make_trainer(WAY, 2) as trainer:
        killer.start()
        pool = trainer.open()
        killer.join()
        trainer.fit(examples(), max_steps=STEPS)
    assert pool.failures_in_all == 1
    assert bits(trainer) == undisturbed()[0]


def test_a_run_begins_with_the_least_workers_and_takes_in_the_others():
    with make_trainer(WAY, (1, 3)) as trainer:
        pool = trainer.open()
        assert len(pool.members) >= 1
        while len(pool.members) < 3:
            trainer.fit(examples(), max_steps=1)
        trainer.fit(examples(), max_steps=max(0, STEPS - trainer.steps))
        done = trainer.steps
    assert bits(trainer) == undisturbed(done)[0]


def test_too_few_workers_are_waited_for_and_then_said():
    with make_trainer(WAY, (2, 2), start_timeout=20.0) as trainer:
        pool = trainer.open()
        pool.launch = lambda count: None  # no replacement comes
        pool.start_timeout = 1.0
        os.kill(pool.members[0].pid, signal.SIGKILL)
        with pytest.raises(ResourcesError, match="1 of 2 workers were there after 1 s"):
            trainer.fit(examples(), max_steps=5)


@pytest.mark.parametrize("pair", [(0, 2), (3, 2), (1, 2, 3), (True, 2)])
def test_bounds_that_make_no_sense_are_refused(pair):
    with pytest.raises(ValueError, match="with 1 <= least <= most"):
        make_trainer(WAY, pair)


def test_patience_is_for_the_median_step():
    median = crew.Median()
    assert median.patience(3) == crew.FIRST_LATE_SECONDS
    for seconds in (1.0, 2.0, 90.0):
        median.add(seconds)
    assert median.patience(1) == 40.0
    assert median.patience(2) == 80.0
