"""Runs that were interrupted and go on: with the bits of one that never was, on any number of workers."""

import functools
import itertools
import json

import pytest

from pargrad import optim
from pargrad.optim import lr_scheduler
from pargrad.parallel import WorkerLostError, checkpoints
from pargrad.parallel.chaos import Killer
from tests.processes import wait_until
from tests.proofs_resume import lines_of
from tests.training import OPTIMIZERS, WAYS, bits, examples, make_trainer

STEPS = 40
CHECK = {"validation": examples(100, 1)}


class Stop(Exception):
    pass


def stop_after(trainer, count):
    """Has the trainer fail when it takes up the result of step `count`."""
    real = trainer.count

    def counted(result):
        if result.number == count:
            trainer.count = real  # it is asked for again when the trainer is closed
            raise Stop
        real(result)

    trainer.count = counted


def without_times(history):
    return [{name: value for name, value in entry.items() if "second" not in name} for entry in history]


def outcome(trainer):
    return bits(trainer), without_times(trainer.history)


def interrupted(way, directory, workers, stops, make=make_trainer, data=None, **options):
    """A run that fails after each of these steps and is taken up again each time; workers: in turn."""
    data = data or examples(300)
    workers = itertools.cycle(workers)
    for count in stops:
        with make(way, next(workers), run_dir=directory, **options) as trainer:
            stop_after(trainer, count)
            with pytest.raises(Stop):
                trainer.fit(data, max_steps=STEPS, **CHECK)
    with make(way, next(workers), run_dir=directory, **options) as trainer:
        trainer.fit(data, max_steps=STEPS, **CHECK)
    return outcome(trainer)


@pytest.mark.parametrize("way", [*WAYS, *OPTIMIZERS])
def test_a_resumed_run_has_the_bits_of_the_unbroken_one(way, tmp_path):
    with make_trainer(way, 0, run_dir=tmp_path / "unbroken") as trainer:
        trainer.fit(examples(300), max_steps=STEPS, **CHECK)
    assert interrupted(way, tmp_path / "broken", [0], (1, 9, 23), checkpoint_steps=4) == outcome(trainer)
    assert lines_of(tmp_path / "broken") == lines_of(tmp_path / "unbroken")


@pytest.fixture
def cores(cluster):
    """Ray's four cores, free again of the workers before."""
    wait_until(lambda: cluster.available_resources().get("CPU", 0) >= 4, 30, "the end of other workers")


@pytest.mark.parametrize("way", ["branching", "statistics"])
def test_a_run_goes_on_with_another_number_of_workers(way, tmp_path, cores):
    with make_trainer(way, 0, run_dir=tmp_path / "unbroken") as trainer:
        trainer.fit(examples(300), max_steps=STEPS, **CHECK)
    expected = outcome(trainer)
    assert interrupted(way, tmp_path / "broken", [2, 0, 3], (9, 23), checkpoint_steps=4) == expected
    assert lines_of(tmp_path / "broken") == lines_of(tmp_path / "unbroken")


def test_checkpoints_change_no_bit_with_workers(tmp_path, cores):
    with make_trainer("mlp-adamw", 0) as alone:
        alone.fit(examples(), max_steps=STEPS)
    with make_trainer("mlp-adamw", 2, run_dir=tmp_path, checkpoint_steps=3) as trainer:
        trainer.fit(examples(), max_steps=STEPS)
    assert outcome(trainer) == outcome(alone)


SCHEDULES = {
    "StepLR": (lambda o: lr_scheduler.StepLR(o, 2, 0.5), "epoch"),
    "MultiStepLR": (lambda o: lr_scheduler.MultiStepLR(o, [3, 8, 8, 20], 0.5), "step"),
    "ReduceLROnPlateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.3), "epoch"),
    "OneCycleLR": (lambda o: lr_scheduler.OneCycleLR(o, 0.01, STEPS + 1), "step"),
    "LambdaLR": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step), "step"),
    "SequentialLR": (
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.9)], [5]
        ),
        "step",
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_where_it_was(name, tmp_path):
    def make(way, workers, **options):
        schedule, per = SCHEDULES[name]
        held = []

        def optimizer_of(model):
            held.append(optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
            return held[0]

        with pytest.MonkeyPatch.context() as patch:
            model_of, _, loss, given = WAYS["even-shards"]
            patch.setitem(WAYS, "scheduled", (model_of, optimizer_of, loss, given))
            from pargrad.parallel import Trainer

            real = Trainer.__init__

            def init(self, model, loss, optimizer, **more):
                real(self, model, loss, optimizer, scheduler=schedule(optimizer), schedule_per=per, **more)

            patch.setattr(Trainer, "__init__", init)
            return make_trainer("scheduled", workers, **options)

    with make("scheduled", 0, run_dir=tmp_path / "unbroken") as trainer:
        trainer.fit(examples(300), max_steps=STEPS, **CHECK)
    rates = {line["lr"] for line in lines_of(tmp_path / "unbroken") if "lr" in line}
    assert len(rates) > 1
    got = interrupted("scheduled", tmp_path / "broken", [0], (7, 23), make=make, checkpoint_steps=3)
    assert got == outcome(trainer)
    assert lines_of(tmp_path / "broken") == lines_of(tmp_path / "unbroken")


# ----- a program that is run again -----


def program(directory, stop=0):
    """Three fits, with another learning rate and other data in the last."""
    with make_trainer("even-shards", 0, run_dir=directory, checkpoint_steps=2) as trainer:
        if stop:
            stop_after(trainer, stop)
        trainer.fit(examples(300), epochs=2, **CHECK)
        trainer.fit(examples(300), max_steps=3)
        trainer.fit(examples(300), epochs=1)
        trainer.optimizer.param_groups[0]["lr"] = 0.5
        trainer.fit(examples(200, 2), epochs=2, **CHECK)
    return trainer


@pytest.mark.parametrize("stop", range(1, 24))
def test_a_program_that_is_run_again_does_the_rest(stop, tmp_path):
    """Its fits are counted from the run's beginning, wherever it was interrupted."""
    expected = program(tmp_path / "unbroken")
    assert expected.steps == 23
    with pytest.raises(Stop):
        program(tmp_path / "broken", stop)
    again = program(tmp_path / "broken")
    assert outcome(again) == outcome(expected)
    assert lines_of(tmp_path / "broken") == lines_of(tmp_path / "unbroken")
    third = program(tmp_path / "broken")  # all of it is done
    assert outcome(third) == outcome(expected)


def test_an_interrupted_evaluation_is_done_again(tmp_path, monkeypatch):
    from pargrad.parallel import scoring

    data = examples(300)
    with make_trainer("even-shards", 0) as unbroken:
        unbroken.fit(data, epochs=2, **CHECK)
    with make_trainer("even-shards", 0, run_dir=tmp_path) as trainer, monkeypatch.context() as patch:

        def fail(*arguments):
            raise KeyboardInterrupt

        patch.setattr(scoring, "evaluate", fail)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(data, epochs=2, **CHECK)
    assert [step for step, _ in checkpoints.checkpoints_in(tmp_path / "checkpoints")] == [5]
    with make_trainer("even-shards", 0, run_dir=tmp_path) as trainer:
        trainer.fit(data, epochs=2, **CHECK)
    assert outcome(trainer) == outcome(unbroken)
    assert ["validation_loss" in line for line in lines_of(tmp_path)] == ([False] * 5 + [True]) * 2


def test_after_an_error_the_last_completed_step_is_in_a_checkpoint(tmp_path):
    with make_trainer("even-shards", 0, run_dir=tmp_path) as trainer:
        stop_after(trainer, 4)
        with pytest.raises(Stop):
            trainer.fit(examples(300), epochs=1)
    (step, path), *_ = checkpoints.checkpoints_in(tmp_path / "checkpoints")
    assert step == trainer.steps == 4
    state = json.loads((path / "state.json").read_text())
    assert (state["epoch"], state["batches"], state["under_way"][3]) == (0, 4, 4)


@pytest.mark.filterwarnings("ignore:worker .* was:UserWarning")
def test_after_too_many_failures_the_last_completed_step_is_in_a_checkpoint(tmp_path, cores):
    data = examples()
    make = functools.partial(make_trainer, "branching", 2, run_dir=tmp_path, max_failures=0)
    with pytest.raises(WorkerLostError), make() as trainer, Killer(trainer.open(), [(40, 1, "update")]):
        trainer.fit(data, max_steps=300)
    (step, _), *_ = checkpoints.checkpoints_in(tmp_path / "checkpoints")
    assert step == trainer.steps >= 40
    assert len(lines_of(tmp_path)) == step
    with make_trainer("branching", 0, run_dir=tmp_path) as again:
        again.fit(data, max_steps=300)
    with make_trainer("branching", 0) as unbroken:
        unbroken.fit(data, max_steps=300)
    assert outcome(again) == outcome(unbroken)
