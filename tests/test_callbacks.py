"""Callbacks: when they are called, how they stop a fit, and that nothing is lost when one fails."""

import time

import pytest

from pargrad import optim
from pargrad.parallel import Callback, EarlyStopping, LearningRateLogger, TimeLimit
from tests.checks import check_explained
from tests.training import bits, examples, make_trainer

STEPS = 16  # of an epoch of 1000 examples


def started(way, num_workers, **options):
    """A trainer whose workers are there: else the driver would take the first steps."""
    trainer = make_trainer(way, num_workers, **options)
    trainer.wait_for_workers()
    return trainer


class Diary(Callback):
    """Writes down every moment."""

    def __init__(self):
        self.lines = []

    def on_fit_start(self, trainer):
        self.lines.append("fit start")

    def on_step_end(self, trainer, result):
        self.lines.append(f"step {result.number} of epoch {result.epoch}")

    def on_evaluation_end(self, trainer, results):
        self.lines.append("evaluation " + " ".join(results))

    def on_epoch_end(self, trainer, entry):
        assert trainer.history[-1] is entry
        self.lines.append(f"epoch {entry['epoch']}: {entry['steps']} steps")

    def on_checkpoint(self, trainer, path):
        assert (path / "model.safetensors").exists()
        self.lines.append(f"checkpoint {path.name}")

    def on_fit_end(self, trainer):
        self.lines.append("fit end")


class RunningAhead(Diary):
    runs_ahead = True


class Stop(Callback):
    """Stops, or raises, after a step."""

    def __init__(self, step, error=None):
        self.step, self.error = step, error

    def on_step_end(self, trainer, result):
        if result.number == self.step:
            if self.error is not None:
                raise self.error
            trainer.stop()


@pytest.mark.parametrize("kind", [Diary, RunningAhead])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_moment_has_its_place(cluster, num_workers, kind):
    diary = kind()
    with started("even-shards", num_workers, callbacks=(diary,)) as trainer:
        trainer.fit(examples(), epochs=2, validation=examples(50))
        trainer.evaluate(examples(50))
    seen = "evaluation loss accuracy count"
    assert diary.lines == [
        "fit start",
        *(f"step {number} of epoch 0" for number in range(1, STEPS + 1)),
        seen,
        f"epoch 0: {STEPS} steps",
        *(f"step {number} of epoch 1" for number in range(STEPS + 1, 2 * STEPS + 1)),
        seen,
        f"epoch 1: {STEPS} steps",
        "fit end",
        seen,
    ]


def test_checkpoints_are_told_once_and_when_they_are_whole(tmp_path):
    diary = Diary()
    with make_trainer("even-shards", 0, callbacks=(diary,), run_dir=tmp_path, checkpoint_steps=7) as trainer:
        trainer.fit(examples(), epochs=1)
    told = [line for line in diary.lines if line.startswith("checkpoint")]
    assert told[-1] == "checkpoint step-00000016"  # one before it may have been overtaken
    assert len(told) == len(set(told)) and diary.lines[-1] == "fit end"
    again = Diary()
    with make_trainer("even-shards", 0, callbacks=(again,), run_dir=tmp_path) as trainer:
        trainer.fit(examples(), epochs=1)
        trainer.fit(examples(), max_steps=1)
    told = [line for line in again.lines if line.startswith("checkpoint")]
    assert told == ["checkpoint step-00000017"]  # what was there before is no news


def test_callbacks_change_no_bit(cluster):
    results = []
    for num_workers, callbacks in ((0, ()), (0, (Diary(),)), (2, (Diary(),)), (2, (RunningAhead(),))):
        with started("branching", num_workers, callbacks=callbacks) as trainer:
            trainer.fit(examples(), epochs=1)
        results.append(bits(trainer))
    assert all(result == results[0] for result in results[1:])


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_a_stop_is_a_fit_of_so_many_steps(cluster, num_workers):
    diary = Diary()
    schedule = {"schedule_per": "step"}
    stopped = started("even-shards", num_workers, callbacks=(Stop(5), diary), **schedule)
    asked = started("even-shards", num_workers, **schedule)
    for trainer in (stopped, asked):
        trainer.schedule.scheduler = optim.lr_scheduler.StepLR(trainer.optimizer, 2, 0.5)
        trainer.schedule.every_step = True
    with stopped, asked:
        history = stopped.fit(examples(), epochs=3)
        asked.fit(examples(), max_steps=5)
        assert stopped.steps == 5 and stopped.batches == 5 and history[0]["steps"] == 5
        assert stopped.optimizer.param_groups[0]["lr"] == asked.optimizer.param_groups[0]["lr"]
        assert bits(stopped) == bits(asked)
        assert diary.lines[-2:] == ["epoch 0: 5 steps", "fit end"]
        # A second fit goes on from there, to the same bits.
        stopped.fit(examples(), max_steps=20)
        asked.fit(examples(), max_steps=20)
        assert stopped.steps == 25 and bits(stopped) == bits(asked)


def test_a_stop_of_a_callback_that_runs_ahead_counts_what_was_sent(cluster):
    class StopAhead(Stop):
        runs_ahead = True

    diary = RunningAhead()
    with started("even-shards", 2, callbacks=(StopAhead(100), diary)) as trainer:
        trainer.fit(examples(), max_steps=3000)
        assert 100 <= trainer.steps < 400
        assert len([line for line in diary.lines if line.startswith("step")]) == trainer.steps
        assert sum(entry["steps"] for entry in trainer.history) == trainer.steps
        steps = trainer.steps
    with make_trainer("even-shards", 0) as other:
        other.fit(examples(), max_steps=steps)
    assert bits(trainer) == bits(other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_a_callback_raises_loses_nothing(cluster, num_workers):
    with started("even-shards", num_workers, callbacks=(Stop(5, LookupError("mine")),)) as trainer:
        with pytest.raises(LookupError, match="mine"):
            trainer.fit(examples(), epochs=1)
        assert trainer.steps == 5
        trainer.fit(examples(), max_steps=STEPS - 5)
        assert sum(entry["steps"] for entry in trainer.history) == STEPS
    with make_trainer("even-shards", 0) as other:
        other.fit(examples(), epochs=1)
    assert bits(trainer) == bits(other)


def test_a_callback_can_evaluate_between_two_steps(cluster):
    class Evaluating(Callback):
        def on_step_end(self, trainer, result):
            if result.number == 3:
                self.loss = trainer.score(examples(50), "loss")

    figures = []
    for num_workers in (0, 2):
        with started("branching", num_workers, callbacks=(Evaluating(),)) as trainer:
            trainer.fit(examples(), max_steps=6)
            figures.append((trainer.callbacks.all[0].loss, bits(trainer)))
    with make_trainer("branching", 0) as trainer:
        trainer.fit(examples(), max_steps=6)
        assert figures == [(figures[0][0], bits(trainer))] * 2


def test_a_lost_worker_is_told(cluster):
    class Losing(Callback):
        def __init__(self):
            self.messages = []

        def on_step_end(self, trainer, result):
            if result.number == 3:
                trainer.pool.members[0].kill()

        def on_worker_lost(self, trainer, message):
            self.messages.append(message)

    losing = Losing()
    with started("even-shards", 2, callbacks=(losing,)) as trainer, pytest.warns(UserWarning, match="was lost"):
        trainer.fit(examples(), epochs=1)
    assert len(losing.messages) == 1 and "its shards" in losing.messages[0]


# ----- those that are there -----


def history_of(trainer, values, key="validation_loss"):
    """Has a callback see epochs that came to these values; gives the epoch after which it stopped."""
    (callback,) = trainer.callbacks.all
    callback.on_fit_start(trainer)
    for i, value in enumerate(values):
        trainer.history.append({"epoch": i, key: value})
        callback.on_epoch_end(trainer, trainer.history[-1])
        if trainer.stopping:
            return i
    return None


@pytest.mark.parametrize(
    ("options", "values", "stopped"),
    [
        ({}, [3, 2, 1, 0.5], None),
        ({"patience": 2}, [3, 2, 2, 2.5, 1], 3),
        ({"patience": 2}, [3, 4, 2, 4, 4], 4),
        ({"patience": 1}, [3, float("nan")], 1),
        ({"patience": 2}, [float("nan")] * 4, 2),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.6], 2),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.4, 2.3, 2.2], 4),
        ({"patience": 1, "monitor": "validation_accuracy"}, [0.5, 0.6, 0.6], 2),
        ({"patience": 1, "monitor": "validation_accuracy", "mode": "min"}, [0.5, 0.6], 1),
        ({"patience": 1, "monitor": "validation_mean_squared_error"}, [3, 2, 2], 2),
    ],
)
def test_early_stopping(options, values, stopped):
    stopping = EarlyStopping(**options)
    with make_trainer("mlp-adamw", 0, callbacks=(stopping,)) as trainer:
        assert history_of(trainer, values, stopping.monitor) == stopped


def test_early_stopping_keeps_the_best():
    stopping = EarlyStopping(patience=2, keep_best=True)
    with make_trainer("mlp-adamw", 0, callbacks=(stopping,)) as trainer:
        trainer.optimizer.param_groups[0]["lr"] = 0.3
        history = trainer.fit(examples(300), epochs=50, validation=examples(100, seed=9))
    losses = [entry["validation_loss"] for entry in history]
    assert len(losses) == losses.index(min(losses)) + 3 < 50
    trainer.model.load_state_dict(stopping.best_state)
    loss = trainer.model.score(examples(100, seed=9), "loss", num_workers=0, progress="off")
    assert loss == pytest.approx(min(losses))


def test_a_resumed_run_stops_where_the_unbroken_one_does(tmp_path):
    def run(run_dir, *others):
        with make_trainer("mlp-adamw", 0, callbacks=(EarlyStopping(patience=2), *others), run_dir=run_dir) as trainer:
            trainer.optimizer.param_groups[0]["lr"] = 0.3
            trainer.fit(examples(300), epochs=50, validation=examples(100, seed=9))
        return trainer

    whole = run(tmp_path / "whole")
    cut = run(tmp_path / "cut", Stop(whole.steps - 1))
    assert cut.steps == whole.steps - 1
    resumed = run(tmp_path / "cut")
    assert resumed.steps == whole.steps and bits(resumed) == bits(whole)
    assert run(tmp_path / "cut").steps == whole.steps  # and has stopped for good


def test_early_stopping_says_what_there_is_to_monitor():
    with make_trainer("mlp-adamw", 0, callbacks=(EarlyStopping(),)) as trainer:
        with pytest.raises(ValueError, match="the history has epoch, loss, steps.*Give fit a validation set"):
            trainer.fit(examples(), epochs=3)
        assert trainer.epoch == 1 and len(trainer.history) == 1


def test_learning_rates_are_those_of_the_steps(cluster):
    for num_workers in (0, 2):
        logger = LearningRateLogger()
        trainer = started("mlp-adamw", num_workers, callbacks=(logger,))
        trainer.schedule.scheduler = optim.lr_scheduler.StepLR(trainer.optimizer, 3, 0.5)
        trainer.schedule.every_step = True
        with trainer:
            trainer.fit(examples(), epochs=2)
        assert logger.rates == [(step + 1, pytest.approx(3e-3 * 0.5 ** (step // 3))) for step in range(8)]
        assert [entry["lr"] for entry in trainer.history] == [logger.rates[3][1], logger.rates[7][1]]
    logger = LearningRateLogger()
    with make_trainer("groups-penalty", 0, callbacks=(logger,)) as trainer:
        trainer.fit(examples(), max_steps=1)
    assert logger.rates == [(1, [0.05, 0.02])]


def test_a_time_limit_ends_a_fit_in_order():
    with make_trainer("mlp-adamw", 0, callbacks=(TimeLimit(0.2),)) as trainer:
        began = time.monotonic()
        trainer.fit(examples(), epochs=1_000_000)
        assert time.monotonic() - began >= 0.2
        assert sum(entry["steps"] for entry in trainer.history) == trainer.steps > 0


WRONG = {
    "not a tuple": (lambda: make_trainer("mlp-adamw", 0, callbacks=TimeLimit(1)), ["a tuple", "callbacks=("]),
    "a class": (lambda: make_trainer("mlp-adamw", 0, callbacks=(TimeLimit,)), ["a tuple", "TimeLimit"]),
    "a function": (lambda: make_trainer("mlp-adamw", 0, callbacks=(print,)), ["print", "subclass of Callback"]),
    "mode": (lambda: EarlyStopping(mode="least"), ["'min'", "got 'least'"]),
    "patience": (lambda: EarlyStopping(patience=0), ["at least 1", "got 0"]),
    "min_delta": (lambda: EarlyStopping(min_delta=-1), ["at least 0", "got -1"]),
    "seconds": (lambda: TimeLimit(0), ["above 0", "got 0"]),
}


@pytest.mark.parametrize(("act", "pieces"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_explained(act, pieces):
    check_explained(act, pieces)
