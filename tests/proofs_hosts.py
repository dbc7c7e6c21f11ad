"""A long proof about hosts with addresses of their own, whose links are slowed, lossy, and cut."""

import random
import tempfile
import time
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from pargrad.parallel import ResourcesError
from tests.cluster import serial, trainer_of, warned
from tests.hosts import Hosts, refusal
from tests.processes import wait_until
from tests.proofs import proof
from tests.training import bits, examples

STEPS = 5  # that are to be taken while a link is as it should not be
PATIENCE = 90  # seconds for them, and for an error: Ray sees after two that a host is gone

trainer = None  # in the driver's process


# ----- in the driver's process -----


def open_trainer(workers):
    global trainer
    trainer = trainer_of(workers, max_failures=100)
    trainer.wait_for_workers()


def wait_at_the_most(seconds):
    """For workers in the place of those that are lost."""
    trainer.open().start_timeout = seconds


def train(folder):
    """Takes steps until there is a file `stop`, saying in another how many were taken, and by how many workers."""
    said, new = Path(folder, "said"), Path(folder, "new")
    with warned():
        while not Path(folder, "stop").exists():
            trainer.fit(examples(), max_steps=1)
            new.write_text(f"{trainer.steps} {trainer.open().workers}")
            new.rename(said)


def close_trainer():
    trainer.close()
    return bits(trainer), trainer.steps


# ----- in the proof's -----


class Run:
    """Steps that are being taken."""

    def __init__(self, hosts, folder):
        self.folder = folder
        self.future: Future = hosts.driver.submit(train, folder)

    def said(self):
        if self.future.done():
            self.future.result()  # raises what ended it
        path = Path(self.folder, "said")
        return tuple(map(int, path.read_text().split())) if path.exists() else (0, 0)

    def take(self, steps, workers=None):
        """Waits for so many more steps, and then until there are so many workers."""
        begin = self.said()[0]
        wait_until(lambda: self.said()[0] >= begin + steps, PATIENCE, f"{steps} steps after {begin}")
        wait_until(lambda: workers in (None, self.said()[1]), PATIENCE, f"a step with {workers} workers")


@contextmanager
def running(hosts):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(hosts, folder)
        try:
            yield run
        finally:
            Path(folder, "stop").touch()
            run.future.exception(PATIENCE)
        run.future.result()


def slow(hosts, run, generator):
    generator.choice(hosts.network.links).slow(generator.randrange(2, 50))
    run.take(STEPS)


def lose(hosts, run, generator):
    generator.choice(hosts.network.links).lose(generator.uniform(0.005, 0.05))
    run.take(STEPS)


def interrupt(hosts, run, generator):
    """Cuts a link for less than Ray takes to see it."""
    link = generator.choice(hosts.network.links)
    link.cut()
    time.sleep(generator.uniform(0.1, 0.5))
    link.mend()
    run.take(STEPS)


def cut(hosts, run, generator):
    """The driver's own link may be among them: it then goes on alone."""
    host = generator.randrange(len(hosts.network.links)) + 1
    hosts.network.links[host - 1].cut()
    left = [1] if host == 1 else [other for other in (1, 2, 3) if other != host]
    hosts.wait_for(left)
    run.take(STEPS, len(left))


HAPPENINGS = (cut, lose, slow, interrupt)


@proof(20, refusal)
def hosts(examples, seed):
    """Hosts whose links are slowed, lossy, interrupted or cut in the middle of steps: the bits of one process."""
    three, generator = Hosts(), random.Random(seed)
    try:
        three.driver.submit(open_trainer, (1, 3)).result(PATIENCE)
        with running(three) as run:
            run.take(STEPS, 3)
            for number in range(examples):
                HAPPENINGS[number % len(HAPPENINGS)](three, run, generator)
                three.revive()
                run.take(STEPS, 3)
        state, steps = three.driver.submit(close_trainer).result(PATIENCE)
        ended = end_of_run_without_host(three)
    finally:
        three.close()
    assert state == serial(steps)[0], f"other bits after {steps} steps"
    assert isinstance(ended, ResourcesError), f"of three workers one was cut off, and the run ended with {ended!r}"
    assert "2 of 3 workers" in str(ended)
    return examples


def end_of_run_without_host(three):
    """What ends a run that is to have all hosts, when one is cut off and does not come back."""
    three.driver.submit(open_trainer, (3, 3)).result(PATIENCE)
    three.driver.submit(wait_at_the_most, 5.0).result(PATIENCE)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(three, folder)
        run.take(STEPS)
        three.network.links[-1].cut()
        return run.future.exception(PATIENCE)
