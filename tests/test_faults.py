"""Workers that are lost in the middle of a step: the run goes on, and nobody can tell from its bits."""

import functools
import gc
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest

from pargrad import nn, optim
from pargrad.nn import functional as F
from pargrad.parallel import ResourcesError, Trainer, channel, crew
from pargrad.parallel.chaos import PHASES, Killer
from pargrad.parallel.crew_pool import CrewPool
from tests.processes import gone, wait_until, workers_of
from tests.training import bits, examples, make_trainer

pytestmark = [
    pytest.mark.usefixtures("leaves_nothing"),
    pytest.mark.filterwarnings("ignore:worker .* (was|did|has):UserWarning"),
]
WAY, STEPS = "branching", 60
DRIVER = os.getpid()


@functools.cache
def undisturbed(steps=STEPS):
    with make_trainer(WAY, 0) as trainer:
        trainer.fit(examples(), max_steps=steps)
    return bits(trainer)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_killed_in_every_phase_change_no_bit(workers):
    schedule = [(10 * i, i % 3, phase) for i, phase in enumerate(PHASES, start=1)]
    with make_trainer(WAY, workers) as trainer:
        pool = trainer.open()
        with Killer(pool, schedule) as killer:
            while len(killer.killed) < len(schedule):  # others have the work done meanwhile, this process too
                trainer.fit(examples(), max_steps=STEPS)
            trainer.fit(examples(), max_steps=STEPS)
        done = trainer.steps
    assert [kill.phase for kill in killer.killed] == list(PHASES)
    assert pool.failures_in_all == len(schedule)
    assert bits(trainer) == undisturbed(done)


def test_two_workers_killed_at_once():
    with make_trainer(WAY, 4) as trainer:
        pool = trainer.open()
        with Killer(pool, [(10, 0, "gradient"), (10, 3, "gradient"), (20, 1, "update")]):
            trainer.fit(examples(), max_steps=STEPS)
    assert bits(trainer) == undisturbed()


def test_a_stopped_worker_is_given_up_and_cannot_write_when_it_goes_on(monkeypatch):
    monkeypatch.setattr(crew, "LATE_SECONDS", 3.0)
    monkeypatch.setattr(crew, "LATE_MEDIANS", 0.0)
    with make_trainer(WAY, 3) as trainer:
        pool = trainer.open()
        victims = workers_of(os.getpid())
        given_up = pytest.warns(UserWarning, match="late and given up")
        with Killer(pool, [(10, 1, "gradient")], kill=signal.SIGSTOP), given_up:
            trainer.fit(examples(), max_steps=STEPS)
        assert len(set(workers_of(os.getpid())) & set(victims)) == 2
    assert bits(trainer) == undisturbed()


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
    assert bits(trainer) == undisturbed()


def test_a_worker_that_is_stopped_while_evaluating_is_given_up(monkeypatch):
    monkeypatch.setattr(crew, "LATE_SECONDS", 3.0)
    x, y = examples(20_000)
    with make_trainer(WAY, 0) as trainer:
        expected = trainer.evaluate((x, y))
    with make_trainer(WAY, 2) as trainer:
        pool = trainer.open()
        pool.wait_for(2)
        assert trainer.evaluate((x, y)) == expected
        victim = pool.members[0].pid
        os.kill(victim, signal.SIGSTOP)
        with pytest.warns(UserWarning, match="late and given up while evaluating"):
            assert trainer.evaluate((x, y)) == expected
        assert gone([victim])


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
    assert bits(trainer) == undisturbed()


def test_a_run_begins_with_the_least_workers_and_takes_in_the_others():
    with make_trainer(WAY, (1, 3)) as trainer:
        pool = trainer.open()
        assert len(pool.members) >= 1
        while len(pool.members) < 3:
            trainer.fit(examples(), max_steps=1)
        trainer.fit(examples(), max_steps=max(0, STEPS - trainer.steps))
        done = trainer.steps
    assert bits(trainer) == undisturbed(done)


def test_too_few_workers_are_waited_for_and_then_said():
    with make_trainer(WAY, (2, 2), start_timeout=20.0) as trainer:
        pool = trainer.open()
        pool.launch = lambda count: None  # no replacement comes
        pool.start_timeout = 1.0
        os.kill(pool.members[0].pid, signal.SIGKILL)
        with pytest.raises(ResourcesError, match="1 of 2 workers were there after 1 s"):
            trainer.fit(examples(), max_steps=5)


class Hangs(nn.Linear):
    """A model that a worker cannot unpickle: it waits for ever, the first time that it is tried."""

    def __init__(self, path):
        super().__init__(12, 5)
        self.path = str(path)

    def __setstate__(self, state):
        vars(self).update(state)
        if os.getpid() != DRIVER and not os.path.exists(self.path):
            open(self.path, "w").close()
            time.sleep(1000)


def test_a_channel_is_there_until_the_end_of_what_closes_it():
    class Closes:
        def __del__(self):
            os.fstat(self.channel.connection.fileno())
            os.fstat(self.channel.socket.fileno())
            self.channel.close()
            closed.append(self.channel.connection.closed)

    closed, (here, there) = [], socket.socketpair()
    cycle = channel.Channel(here)  # older than what closes it, and so the first to be finalized
    closes = Closes()
    closes.channel, closes.itself = cycle, closes
    del cycle, closes
    gc.collect()
    assert closed == [True]
    there.close()


def test_a_worker_that_takes_nothing_is_as_one_that_is_gone(monkeypatch):
    monkeypatch.setattr(channel, "SEND_SECONDS", 1)
    listener = channel.Listener()
    silent = channel.connect(listener.address)
    here = listener.accept(10.0)
    with pytest.raises(EOFError):
        here.send(bytes(1 << 24))
    for each in (silent, here, listener):
        each.close()


class Raises(nn.Linear):
    """One whose copy in a worker raises."""

    def __setstate__(self, state):
        vars(self).update(state)
        if os.getpid() != DRIVER:
            raise ZeroDivisionError("as asked")


def make(model, workers, **options):
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, F.cross_entropy, optimizer, batch_size=50, num_workers=workers, progress="off", **options)


def train_until_there_are(trainer, workers, start_timeout=lambda pool: 60.0):
    pool, data = trainer.open(), examples()
    while len(pool.members) < workers:
        pool.start_timeout = start_timeout(pool)
        trainer.fit(data, max_steps=10)


def test_a_worker_that_hangs_while_it_joins_is_given_up_and_replaced(tmp_path):
    said = r"worker \d \(process \d+ on .*\) did not answer within 2 s while joining, and is given up"
    with make(Hangs(tmp_path / "hung"), (1, 2)) as trainer:
        with pytest.warns(UserWarning, match=said):
            # When the other one is there, this one has had its time.
            train_until_there_are(
                trainer, 2, lambda pool: 2.0 if pool.members and pool.joining and not pool.failures_in_all else 60.0
            )
        assert trainer.pool.failures_in_all == 1


def test_a_worker_that_is_stopped_before_it_connects_is_given_up_and_replaced():
    stopped = threading.Event()

    def stop_first():
        while not (found := workers_of(os.getpid())):
            time.sleep(0.001)
        os.kill(found[0], signal.SIGSTOP)
        stopped.victim = found[0]
        stopped.set()

    said = r"worker \d (has a core, but did not connect|\(process.*did not answer) within 0.1 s"
    with make(nn.Linear(12, 5), (1, 2)) as trainer:
        threading.Thread(target=stop_first, daemon=True).start()
        with pytest.warns(UserWarning, match=said):
            # When the other one is there, this one has had its time.
            train_until_there_are(trainer, 2, lambda pool: 0.1 if pool.members and not pool.failures_in_all else 60.0)
        assert stopped.is_set()
        assert trainer.pool.failures_in_all == 1
    wait_until(lambda: gone([stopped.victim]), 20, "the end of the worker that was stopped")


def test_an_error_while_joining_is_raised_here_and_not_tried_again():
    with pytest.raises(ZeroDivisionError, match="as asked") as caught, make(Raises(12, 5), 2) as trainer:
        train_until_there_are(trainer, 2)
    assert "in __setstate__" in "\n".join(caught.value.__notes__)


class Huge:
    """Data that need more memory than there is, in a worker."""

    def __len__(self):
        return 100

    def batch(self, indices, generator):
        return np.zeros((len(indices), 1 << 50)), None


def test_memory_that_is_not_there_is_an_error_and_no_failure_of_the_worker():
    with make(nn.Linear(12, 5), 2) as trainer:
        train_until_there_are(trainer, 2)
        trainer.fit(examples(), epochs=1 - (trainer.batches == 0))  # to the end of the epoch, for other data
        with pytest.raises(MemoryError, match="Unable to allocate") as caught:
            trainer.fit(Huge(), max_steps=1)
        assert trainer.pool.failures_in_all == 0
    notes = "\n".join(caught.value.__notes__)
    assert "it ran out of memory with 6 examples at once: write more shards" in notes
    assert "shard 0 of 8, examples 0 to 5 of the batch of 50" in notes
    assert "raised in worker 0" in notes


@pytest.mark.parametrize("pair", [(0, 2), (3, 2), (1, 2, 3), (True, 2)])
def test_bounds_that_make_no_sense_are_refused(pair):
    with pytest.raises(ValueError, match="with 1 <= least <= most"):
        make_trainer(WAY, pair)


def test_patience_is_for_the_median_step():
    median = crew.Median()
    assert median.patience() == crew.FIRST_LATE_SECONDS
    for seconds in (1.0, 2.0, 90.0):
        median.add(seconds)
    assert median.patience() == 40.0


def test_who_is_asked_for_many_steps_is_late_when_one_of_them_is():
    here, there = socket.socketpair()
    with here, there:
        pool = CrewPool((1, 1, 1), 1.0, 3)
        pool.members = [crew.Peer(0, channel.Channel(here), "worker 0")]
        steps = iter((3, 4, 6, 6))  # that are completed: when it is asked, and each time that patience is over
        pool.reached = lambda: next(steps)
        with pytest.raises(crew.Lost) as caught:
            pool.collect(0.01)
        assert caught.value.late
        assert list(steps) == []
