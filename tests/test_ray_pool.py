"""Ray's pool: the bits of the serial one for any number of workers, and what happens when a worker or a step fails."""

import functools
import os
import signal
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from ray import cloudpickle

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import ArrayData
from pargrad.parallel import CannotSendError, ResourcesError, Trainer, WorkerLostError, crew, ray_connection
from pargrad.parallel.meeting import CalledOff, Meeting, make_pipes
from pargrad.parallel.payload import make_recipe, modules_by_value
from tests.processes import descendants, gone, workers_of
from tests.training import WAYS, bits, examples, make_trainer, with_workers

pytestmark = pytest.mark.usefixtures("leaves_nothing")
DRIVER = os.getpid()


@functools.cache
def serial(way):
    with make_trainer(way, 0) as trainer:
        history = trainer.fit(examples(), max_steps=50, validation=examples(700, seed=9))
        results = trainer.evaluate(examples(1500, seed=4)), trainer.predict(examples(1500, seed=4)[0])
    return bits(trainer), [entry["loss"] for entry in history], results


@pytest.mark.parametrize(("way", "workers"), [*((way, 3) for way in WAYS), ("mlp-adamw", 1), ("branching", 2)])
def test_bits_do_not_depend_on_the_number_of_workers(way, workers):
    expected, losses, (scores, outputs) = serial(way)
    with make_trainer(way, workers) as trainer:
        history = trainer.fit(examples(), max_steps=50, validation=examples(700, seed=9))
        assert trainer.evaluate(examples(1500, seed=4)) == scores
        assert trainer.predict(examples(1500, seed=4)[0]).tobytes() == outputs.tobytes()
    assert bits(trainer) == expected
    assert [entry["loss"] for entry in history] == losses


def test_bits_that_differ_are_seen():
    """The comparison above can fail: another seed, and another number of shards, have other bits."""
    for options in ({"seed": 4}, {"shards": 4}):
        with make_trainer("mlp-adamw", 0, **options) as trainer:
            trainer.fit(examples(), max_steps=50)
        assert bits(trainer) != serial("mlp-adamw")[0]


def test_a_trainer_is_used_again_and_closed_twice():
    with make_trainer("mlp-adamw", 2) as trainer:
        trainer.fit(examples(), max_steps=5)
        middle = trainer.evaluate(examples(700, seed=9))
        x, y = examples()
        for _ in range(6):  # more data sets than the workers keep
            trainer.evaluate((x.copy(), y))
        trainer.fit((x, y), max_steps=45)
        assert trainer.evaluate(examples(700, seed=9)) != middle
    trainer.close()
    assert bits(trainer) == serial("mlp-adamw")[0]


def test_arrays_that_were_changed_are_shared_anew():
    x, _ = examples(100)
    with make_trainer("mlp-adamw", 1) as trainer:
        before = trainer.predict(x)
        x *= 2
        assert (trainer.predict(x) != before).any()


class Traced:
    """A data set that does something once, in one process, at one example. Its path travels with it, by value."""

    def __init__(self, what, example, worker_only=True):
        self.x, self.y = examples(512)
        self.what, self.example, self.driver = what, example, DRIVER if worker_only else None

    def __len__(self):
        return len(self.x)

    def batch(self, indices, generator):
        if self.example in indices and os.getpid() != self.driver:
            self.what()
        return self.x[indices], self.y[indices]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ZeroDivisionError("as asked")


def after(steps):
    """The bits of the serial run after so many steps of 64."""
    with make_trainer("mlp-adamw", 0, batch_size=64) as trainer:
        trainer.fit(examples(512), max_steps=steps)
    return [p.tobytes() for p in (q.array for q in trainer.model.parameters())]


def step_of(example):
    order = pg.random.permutation(pg.Generator().manual_seed(3), 512)
    return int(np.flatnonzero(order == example)[0]) // 64 + 1


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.filterwarnings("ignore:worker .* was lost:UserWarning")
def test_workers_that_die_at_one_step_again_and_again_end_the_run_with_the_last_completed_step(workers):
    example = int(pg.random.permutation(pg.Generator().manual_seed(3), 512)[5 * 64 + 40])
    trainer = make_trainer("mlp-adamw", workers, batch_size=64, max_failures=2)
    said = (
        r"worker \d+ \(process \d+ on .*\) was lost while computing gradients in the step after 5.* failure 3 in a row"
    )
    with pytest.raises(WorkerLostError, match=said), trainer:
        trainer.fit(Traced(die, example), epochs=1)
    assert step_of(example) == 6
    assert [p.array.tobytes() for p in trainer.model.parameters()] == after(5)


def test_a_worker_killed_from_outside_while_idle():
    trainer = make_trainer("mlp-adamw", 2)
    with trainer:
        trainer.fit(examples(), max_steps=4)
        victims = workers_of(DRIVER)
        assert len(victims) == 2
        os.kill(trainer.pool.members[1].pid, signal.SIGKILL)
        with pytest.warns(UserWarning, match=r"worker 1 \(.*\) was lost while waiting in the step after 4"):
            trainer.fit(examples(), max_steps=46)
    assert gone(victims)
    assert bits(trainer) == serial("mlp-adamw")[0]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_in_a_worker_is_raised_here_with_its_place_and_traceback(workers):
    example = int(pg.random.permutation(pg.Generator().manual_seed(3), 512)[3 * 64 + 7])
    after_3, after_5 = after(3), after(5)
    with make_trainer("mlp-adamw", workers, batch_size=64) as trainer:
        with pytest.raises(ZeroDivisionError, match="as asked") as caught:
            trainer.fit(Traced(fail, example), epochs=1)
        notes = "\n".join(caught.value.__notes__)
        assert "in step 4 (epoch 0), shard 0 of 8, examples 0 to 7 of the batch of 64: indices [" in notes
        assert str(example) in notes
        assert "raised in worker 0" in notes
        assert "in fail" in notes
        # Nothing of the failed step was kept, and the trainer goes on from there.
        assert [p.array.tobytes() for p in trainer.model.parameters()] == after_3
        assert (trainer.steps, trainer.batches, trainer.pool.completed) == (3, 3, 3)
        trainer.fit(examples(512), max_steps=2)
        assert [p.array.tobytes() for p in trainer.model.parameters()] == after_5


def test_an_error_while_scoring_names_the_examples():
    with make_trainer("mlp-adamw", 2) as trainer:
        with pytest.raises(ZeroDivisionError) as caught:
            trainer.evaluate(Traced(fail, 511))
        assert "examples 0 to 511" in "\n".join(caught.value.__notes__)
        assert trainer.evaluate(examples(64))["count"] == 64


def test_a_worker_that_dies_while_others_steps_are_given_up_is_replaced():
    """The results are no longer asked for, and what was sent can no longer be answered."""
    trainer = make_trainer("mlp-adamw", 2, batch_size=64)
    with trainer:
        pool = trainer.open()
        example = int(pg.random.permutation(pg.Generator().manual_seed(3), 512)[64 + 40])
        steps = pool.run(Traced(die, example), trainer.steps_of_epoch(512, None))
        next(steps)
        with pytest.warns(UserWarning, match="was lost"):
            steps.close()
        assert pool.completed == 1
        trainer.steps, trainer.batches, trainer.examples = 1, 1, 512
        trainer.fit(examples(512), max_steps=4)
    assert [p.array.tobytes() for p in trainer.model.parameters()] == after(5)


def test_an_exception_between_steps_leaves_nothing():
    trainer = make_trainer("mlp-adamw", 2)
    with pytest.raises(KeyError), trainer:
        trainer.fit(examples(), max_steps=3)
        raise KeyError


def interrupt():
    os.kill(DRIVER, signal.SIGINT)


def test_an_interrupt_in_the_middle_of_steps_leaves_nothing_and_a_whole_model():
    trainer = make_trainer("mlp-adamw", 2, batch_size=64)
    with pytest.raises(KeyboardInterrupt), trainer:
        trainer.fit(examples(512), epochs=1)
        pool = trainer.pool
        trainer.fit(Traced(interrupt, 100), epochs=10**6)  # once an epoch, until it is seen
    assert pool.completed >= 8
    assert [p.array.tobytes() for p in trainer.model.parameters()] == after(pool.completed)


# ----- what cannot be started or sent -----


def test_more_workers_than_free_cores():
    with (
        pytest.raises(ResourcesError, match="asked for 5 workers of one core each, but Ray has 4 free"),
        make_trainer("mlp-adamw", 5) as trainer,
    ):
        trainer.fit(examples(), max_steps=1)


def test_auto_takes_the_free_cores_of_the_ray_that_is_there():
    assert make_trainer("mlp-adamw", "auto", at_once=True).num_workers == 4
    assert make_trainer("mlp-adamw", "auto", at_once=True, shards=2).num_workers == 2


class Locked(nn.Linear):
    def __init__(self):
        super().__init__(12, 5)
        self.lock = threading.Lock()


class Heavy(nn.Linear):
    def __init__(self):
        super().__init__(12, 5)
        self.table = np.random.default_rng(0).random(200_000)


@pytest.mark.parametrize(("model", "told"), [
    (Locked, "model.lock cannot be sent"),
    (Heavy, r"the largest part is model.table with 1,\d\d\d,\d\d\d"),
])  # fmt: skip
def test_what_cannot_be_sent_is_named_before_a_worker_starts(model, told):
    model = model()
    trainer = Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters()), batch_size=8, num_workers=1, progress="off"
    )
    with pytest.raises(CannotSendError, match=told), trainer:
        trainer.fit(examples(), max_steps=1)
    model.weight.array[0] = 1  # still its own


def test_a_data_set_that_cannot_be_sent_is_named():
    data = Traced(fail, -1)
    data.lock = threading.Lock()
    with make_trainer("mlp-adamw", 1) as trainer, pytest.raises(CannotSendError, match="data set Traced"):
        trainer.fit(data, max_steps=1)


def test_large_parameters_do_not_travel_in_the_payload():
    model = nn.Linear(12, 100_000)  # 5.2 MB
    y = np.zeros(16, np.int64)
    with Trainer(
        model, F.cross_entropy, optim.SGD(model.parameters()), batch_size=8, num_workers=1, progress="off"
    ) as trainer:
        with_workers(trainer).fit((examples(16)[0], y), max_steps=2)
    assert trainer.steps == 2


def test_a_module_under_two_names_is_sent_once(monkeypatch):
    """As the script of a process that multiprocessing has spawned."""
    script = types.ModuleType("__mp_main__")
    script.__file__ = "script.py"
    for name in ("__mp_main__", "__other_main__"):
        monkeypatch.setitem(sys.modules, name, script)
    with modules_by_value(cloudpickle):
        assert "__mp_main__" in cloudpickle.list_registry_pickle_by_value()
    assert "__mp_main__" not in cloudpickle.list_registry_pickle_by_value()


def test_memory_mapped_files_are_opened_by_the_workers(tmp_path):
    x, y = examples()
    np.save(tmp_path / "x.npy", x)
    recipe, memory = make_recipe(cloudpickle, ArrayData(tmp_path / "x.npy", y))
    os.close(memory)
    assert [array.path for array in recipe.arrays] == [str(tmp_path / "x.npy"), None]
    with make_trainer("mlp-adamw", 2) as trainer:
        trainer.fit((str(tmp_path / "x.npy"), y), max_steps=50)
    assert bits(trainer) == serial("mlp-adamw")[0]


def test_score_of_a_module_is_parallel_and_the_same():
    x, y = examples(3000)
    pg.manual_seed(0)
    model = nn.Linear(12, 5)
    assert model.score((x, y), num_workers=3, progress="off") == model.score((x, y), num_workers=0, progress="off")


def test_a_ray_that_does_not_start_is_one_clear_error(monkeypatch):
    def init(**options):
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray_connection.ray, "init", init)
    told = "Ray could not start on this machine: The current node timed out during startup. Try again .* num_workers=0"
    with pytest.raises(ResourcesError, match=told):
        ray_connection.join_ray("local", 1)


def test_another_rays_processes_are_left_alone():
    before = [pid for pid, command in descendants(DRIVER).items() if "raylet" in command.split(" ")[0]]
    with make_trainer("mlp-adamw", 1) as trainer:
        trainer.fit(examples(), max_steps=1)
    after_closing = [pid for pid, command in descendants(DRIVER).items() if "raylet" in command.split(" ")[0]]
    assert before == after_closing != []


# ----- meetings -----


@pytest.mark.parametrize("members", [1, 2, 3, 5, 8])
def test_nobody_leaves_a_meeting_before_everybody_came(members):
    meetings = [Meeting(pipes) for pipes in make_pipes(members)]
    arrived, wrong = [0] * members, []

    def attend(member):
        for round_number in range(1, 51):
            arrived[member] = round_number
            meetings[member]()
            if min(arrived) < round_number:
                wrong.append((member, round_number))

    threads = [threading.Thread(target=attend, args=[member]) for member in range(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    for meeting in meetings:
        meeting.close()


@pytest.mark.parametrize("ends", ["calls off", "dies"])
@pytest.mark.parametrize("members", [2, 3, 5, 8])
def test_everybody_leaves_a_meeting_that_is_called_off(members, ends):
    meetings = [Meeting(pipes) for pipes in make_pipes(members)]
    left = []

    def attend(member):
        try:
            meetings[member]()
            meetings[member]()
        except CalledOff:
            left.append(member)

    if ends == "dies":
        meetings[0].close()
    else:
        meetings[0].call_off()
    threads = [threading.Thread(target=attend, args=[member]) for member in range(1, members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(left) == list(range(1, members))
    for meeting in meetings:
        meeting.close()


def test_processes_that_do_not_end_by_themselves_are_killed():
    stubborn = subprocess.Popen(["sleep", "600"])
    assert crew.is_alive(stubborn.pid)
    crew.end_processes([stubborn.pid, 2**22 + 1], 0.01)
    assert not crew.is_alive(stubborn.pid)
    assert stubborn.wait() == -signal.SIGKILL
