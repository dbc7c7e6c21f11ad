"""Trainers that nobody closes: dropped, made again by the same cell, taken along by a fork."""

import gc
import json
import os
import traceback
import warnings
import weakref

import numpy as np
import pytest

import pargrad.nn.functional as F
from pargrad import optim
from pargrad.parallel import Callback, Trainer
from tests.processes import gone, wait_until
from tests.training import bits, examples, make_trainer, mlp


class Interrupt(Callback):
    def on_step_end(self, trainer, result):
        if result.number == 3:
            raise KeyboardInterrupt


def open_trainer(num_workers, **options):
    trainer = make_trainer("even-shards", num_workers, **options)
    trainer.wait_for_workers()
    return trainer


def workers_of(trainer):
    return [] if trainer.num_workers == 0 else [peer.pid for peer in trainer.pool.members]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_trainer_that_is_dropped_is_closed(leaves_nothing, num_workers, tmp_path):
    trainer = open_trainer(num_workers, run_dir=tmp_path)
    trainer.fit(examples(), max_steps=3)
    model, pids, expected = trainer.model, workers_of(trainer), trainer.model[0].weight.array.copy()
    assert len(pids) == num_workers and (not pids or not gone(pids))
    with pytest.warns(ResourceWarning, match="a Trainer was not closed: write `with Trainer"):  # noqa: PT031
        trainer = None
        gc.collect()  # its record refers to it
    wait_until(lambda: gone(pids), 5, "the end of the workers")
    np.testing.assert_array_equal(model[0].weight.array, expected)
    assert model[0].weight.array.flags.writeable and model[0].weight.array.flags.owndata
    with make_trainer("even-shards", 0, run_dir=tmp_path) as again:  # nobody has the directory any more
        assert again.steps == 3


def test_one_that_never_opened_leaves_quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = make_trainer("even-shards", 0)
        del trainer
        gc.collect()


CELL = """
model = mlp() if fresh else model
trainer = Trainer(
    model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=64, num_workers=2, progress="off",
    callbacks=callbacks, run_dir=run_dir,
)
trainer.wait_for_workers()
history = trainer.fit(examples(), max_steps=5)
"""


@pytest.mark.filterwarnings("ignore:.*was not closed")
def test_a_cell_that_is_run_again_ends_well(leaves_nothing, tmp_path):
    """With another model, interrupted, and again with the same model and directory: none keeps its workers."""
    names = {"mlp": mlp, "Trainer": Trainer, "F": F, "optim": optim, "examples": examples}
    trainers = []
    for fresh, callbacks, run_dir in ((True, (), tmp_path), (True, (Interrupt(),), None), (False, (), tmp_path)):
        names.update(fresh=fresh, callbacks=callbacks, run_dir=run_dir)
        try:
            exec(CELL, names)
        except KeyboardInterrupt as error:
            interrupted = error  # a notebook holds the last error, with its traceback, and that the trainer
        trainers.append(weakref.ref(names["trainer"]))
    first, second, third = (trainer() for trainer in trainers)
    assert interrupted.__traceback__ is not None and second.closed and (first is None or first.closed)
    assert third.steps == 5 and len(workers_of(third)) == 2
    third.close()
    names.clear()


def test_the_one_in_the_way_is_named(cluster):
    model = mlp()
    options = {"batch_size": 64, "num_workers": 0, "progress": "off"}
    first = Trainer(model, F.cross_entropy, optim.AdamW(model.parameters()), **options)
    first.fit(examples(), max_steps=2)
    second = Trainer(model, F.cross_entropy, optim.AdamW(model.parameters()), **options)
    with pytest.warns(UserWarning, match=r"another trainer, which was not closed, has the model: it is closed now"):
        second.fit(examples(), max_steps=2)
    with pytest.raises(RuntimeError, match="this trainer is closed"):
        first.fit(examples(), max_steps=2)
    second.close()


def test_a_model_is_scored_while_a_trainer_has_it(cluster):
    with open_trainer(2) as trainer:
        trainer.fit(examples(), max_steps=4)
        assert trainer.model.score(examples(), num_workers=0, progress="off") == trainer.score(examples())
        trainer.fit(examples(), max_steps=4)
    with make_trainer("even-shards", 0) as other:
        other.fit(examples(), max_steps=8)
    assert bits(trainer) == bits(other)


def test_several_trainers_at_once(cluster):
    alone = []
    for way in ("even-shards", "branching"):
        with make_trainer(way, 0) as trainer:
            trainer.fit(examples(), max_steps=6)
            alone.append(bits(trainer))
    with make_trainer("even-shards", 1) as first, make_trainer("branching", 1) as second:
        for _ in range(3):
            first.fit(examples(), max_steps=2)
            second.fit(examples(), max_steps=2)
    assert [bits(first), bits(second)] == alone


# ----- forks -----


def in_a_fork(act):
    """What a function gives in a process forked from this one, as JSON."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(act())
        except BaseException:
            answer = json.dumps(traceback.format_exc())
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = json.loads(file.read())
    assert os.waitpid(child, 0)[1] == 0
    return answer


def open_descriptors():
    names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return {os.readlink(name) for name in names if os.path.lexists(name)}


def ends_of(trainer):
    """The sockets between this process and a trainer's workers."""
    if not trainer.num_workers:
        return set()
    peers, listener = trainer.pool.members, trainer.pool.listener
    ends = [listener.socket, *(end for peer in peers for end in (peer.channel.socket, peer.channel.connection))]
    return {os.readlink(f"/proc/self/fd/{end.fileno()}") for end in ends}


def error_of(act):
    try:
        act()
    except RuntimeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_fork_lets_go_of_the_trainer(leaves_nothing, num_workers, tmp_path):
    trainer = open_trainer(num_workers, run_dir=tmp_path)
    trainer.fit(examples(), max_steps=3)
    pids, weight = workers_of(trainer), trainer.model[0].weight.array.copy()

    ends = ends_of(trainer)
    assert len(ends) == (num_workers and num_workers + 1) and ends <= open_descriptors()

    def child():
        left = list(ends & open_descriptors())
        said = [error_of(lambda: trainer.fit(examples(), max_steps=1)), error_of(lambda: trainer.evaluate(examples()))]
        same = bool((trainer.model[0].weight.array == weight).all())
        trainer.model[0].weight.array[:] = 0  # memory of its own
        trainer.close()
        return said, same, trainer.record.directory.metrics.closed, left

    said, same, closed, left = in_a_fork(child)
    assert said[0] == said[1] and "belongs to the process that this one was forked from" in said[0]
    assert same and closed and left == []  # else workers would not see that the first process has ended
    np.testing.assert_array_equal(trainer.model[0].weight.array, weight)
    assert not gone(pids) or not pids
    trainer.fit(examples(), max_steps=3)
    trainer.close()
    with make_trainer("even-shards", 0) as other:
        other.fit(examples(), max_steps=6)
    assert bits(trainer) == bits(other)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6


def test_a_fork_trains_by_itself(cluster):
    def child():
        with make_trainer("even-shards", 0) as mine:
            mine.fit(examples(), max_steps=3)
        return [part.hex() for part in bits(mine)], error_of(lambda: make_trainer("even-shards", 1).open())

    with make_trainer("even-shards", 0) as trainer:
        trainer.fit(examples(), max_steps=3)
        theirs, said = in_a_fork(child)
    assert theirs == [part.hex() for part in bits(trainer)]
    assert "Ray does not outlive a fork" in said and "num_workers=0" in said
