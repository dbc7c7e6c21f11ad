"""Losses and gradients that are not finite: the run stops, leaves the step without effect, or lets them through."""

import json
import math

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import epoch_order
from pargrad.parallel import NonFiniteError, Trainer
from pargrad.parallel.arena import Block, Run
from pargrad.parallel.finite import FINE, PARAMETER, describe, square_of, wrong_gradient
from pargrad.parallel.step import make_layout
from tests.training import CLASSES, Poisoned, bits, examples, poison, with_workers

pytestmark = pytest.mark.filterwarnings("ignore:(divide by zero|invalid value|overflow):RuntimeWarning")
COUNT, BATCH = 200, 40
GRADIENT = "the gradient of rare is not finite in shard {} of 8"
LOSS = "the loss of shard {} of 8 is not finite"
SAID = {"gradient": GRADIENT, "loss": LOSS}


def make(workers, model=Poisoned, loss=F.cross_entropy, **options):
    pg.manual_seed(0)
    model = model()
    options = {"batch_size": BATCH, "progress": "off", **options}
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    options["scheduler"] = options.get("scheduler", lambda optimizer: None)(optimizer)
    return with_workers(Trainer(model, loss, optimizer, num_workers=workers, **options))


def poisoned(*rows, kind):
    x, y = examples(COUNT)
    for row in rows:
        poison(x, row, kind)
    return x, y


def place_of(row, epoch=0):
    """The step of an epoch in which an example is used, from 1, and its shard."""
    at = int(np.flatnonzero(epoch_order(COUNT, 0, epoch) == row)[0])
    return at // BATCH + 1, at % BATCH // (BATCH // 8)


ROW = next(row for row in range(COUNT) if place_of(row)[0] == 3 and place_of(row)[1] == 5)


def after(steps):
    with make(0) as trainer:
        trainer.fit(examples(COUNT), max_steps=steps)
    return trainer


# ----- stop -----


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("workers", [0, 3])
def test_the_run_stops_with_the_parameters_of_the_step_before(workers, kind, request):
    if workers:
        request.getfixturevalue("leaves_nothing")
    with make(workers) as trainer:
        told = SAID[kind].format(5) + ". The parameters are as they were before this step"
        with pytest.raises(NonFiniteError, match=told) as caught:
            trainer.fit(poisoned(ROW, kind=kind), epochs=1)
        assert trainer.steps == trainer.pool.completed == 2
        assert f"indices [{epoch_order(COUNT, 0, 0)[2 * BATCH + 25]}, " in caught.value.__notes__[0]
        assert "non_finite='skip'" in str(caught.value)
    assert bits(trainer) == bits(after(2))


def test_a_trainer_that_was_stopped_goes_on_with_other_data():
    with make(0) as trainer:
        with pytest.raises(NonFiniteError):
            trainer.fit(poisoned(ROW, kind="gradient"), epochs=1)
        trainer.fit(examples(COUNT), max_steps=3)
    with make(0) as other:
        other.fit(examples(COUNT), max_steps=5)
    assert bits(trainer) == bits(other)


def test_the_first_of_several_parameters_and_shards_is_named():
    rows = [next(row for row in range(COUNT) if place_of(row) == (2, shard)) for shard in (6, 2, 7)]
    with make(0) as trainer, pytest.raises(NonFiniteError, match=GRADIENT.format(2)):
        trainer.fit(poisoned(*rows, kind="gradient"), epochs=1)


class Huge(nn.Module):
    """A gradient of 3e38 in every shard: each is finite, and their sum is not."""

    def __init__(self):
        self.weight = nn.Parameter(np.zeros(1, np.float32))

    def forward(self, x):
        return pg.zeros(len(x), CLASSES) + self.weight * np.float32(3e38)


def test_a_sum_that_overflows_is_no_shard_s():
    def loss(output, target):
        return output[:, 0] * 0.2

    with make(0, Huge, loss) as trainer, pytest.raises(NonFiniteError, match="though that of each shard is: their sum"):
        trainer.fit(examples(COUNT), epochs=1)


def test_a_gradient_whose_squares_alone_overflow_is_finite():
    def loss(output, target):
        return output[:, 0] * 1e-10

    with make(0, Huge, loss) as trainer:
        trainer.fit(examples(COUNT), max_steps=1)


def test_a_penalty_is_named():
    def penalty(model):
        return ((model.last.bias - model.last.bias.detach()) ** 2).sum().sqrt()

    told = "the gradient of last.bias is not finite in the penalty"
    with make(0, penalty=penalty) as trainer, pytest.raises(NonFiniteError, match=told):
        trainer.fit(examples(COUNT), epochs=1)


class Synchronized(Poisoned):
    """One whose shards exchange statistics: to compute one of them alone, all others must be computed, too."""

    def __init__(self):
        super().__init__()
        self.normalize = nn.SyncBatchNorm(12)

    def forward(self, x):
        return super().forward(pg.cat([x[:, :1], self.normalize(x)[:, 1:]], 1))


@pytest.mark.parametrize("workers", [0, 3])
def test_a_shard_that_cannot_be_computed_alone_is_named(workers, request):
    if workers:
        request.getfixturevalue("leaves_nothing")
    with make(workers, Synchronized) as trainer, pytest.raises(NonFiniteError, match=GRADIENT.format(5)):
        trainer.fit(poisoned(ROW, kind="gradient"), epochs=1)


# ----- skip -----


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize("workers", [0, 3])
def test_a_step_without_effect_is_counted(workers, kind, clip_norm, request, tmp_path):
    if workers:
        request.getfixturevalue("leaves_nothing")
    data = poisoned(ROW, kind=kind)
    options = {"non_finite": "skip", "clip_norm": clip_norm}
    with make(workers, run_dir=tmp_path, **options) as trainer:
        with pytest.warns(UserWarning, match="step 3 .epoch 0. is left without effect: the " + kind) as said:
            trainer.fit(data, max_steps=3)
        assert any(SAID[kind].format(5) in str(warning.message) for warning in said)
        with make(0, clip_norm=clip_norm) as before:
            before.fit(examples(COUNT), max_steps=2)
        pool, after = trainer.pool, bits(before)
        trainer.publish(pool)
        assert bits(trainer) == after
        trainer.fit(data, max_steps=2)
        assert trainer.steps == 5
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line.get("without_effect", "") != "" for line in lines] == [False, False, True, False, False]
    assert (lines[2]["loss"] is None) == (kind == "loss")
    assert math.isfinite(trainer.history[0]["loss"])
    steps = {int(state["step"]) for state in trainer.optimizer.state.values() if "step" in state}
    assert max(steps) == 4  # the third is not one


def test_the_schedule_goes_on_over_a_skipped_step():
    def halves(optimizer):
        return optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    with make(0, scheduler=halves, schedule_per="step", non_finite="skip") as trainer:
        with pytest.warns(UserWarning, match="without effect"):
            trainer.fit(poisoned(ROW, kind="gradient"), max_steps=4)
        assert trainer.optimizer.param_groups[0]["lr"] == 1e-2 / 16


class Normalized(Poisoned):
    def __init__(self):
        super().__init__()
        self.normalize = nn.BatchNorm1d(CLASSES)

    def forward(self, x):
        return self.normalize(super().forward(x))


def test_running_statistics_are_left_as_they_were():
    data = poisoned(ROW, kind="loss")
    with make(0, Normalized, non_finite="skip") as trainer, pytest.warns(UserWarning, match="without effect"):
        trainer.fit(data, max_steps=3)
    with make(0, Normalized) as other:
        other.fit(examples(COUNT), max_steps=2)
    assert bits(trainer) == bits(other)
    assert int(trainer.model.normalize.num_batches_tracked.item()) == 2


def test_an_epoch_of_skipped_steps_has_no_loss():
    data = poisoned(*range(COUNT), kind="loss")
    with make(0, non_finite="skip") as trainer, pytest.warns(UserWarning, match="without effect"):
        (entry,) = trainer.fit(data, epochs=1)
    assert math.isnan(entry["loss"])
    assert entry["steps"] == 5


def test_a_batch_without_a_divisor_is_skipped():
    x, y = examples(COUNT)
    with make(0, loss=nn.CrossEntropyLoss(ignore_index=0), non_finite="skip") as trainer:
        before = [p.array.copy() for p in trainer.model.parameters()]
        with pytest.warns(UserWarning, match="the divisor of the batch is 0"):
            trainer.fit((x, np.zeros_like(y)), max_steps=2)
    assert all((p.array == old).all() for p, old in zip(trainer.model.parameters(), before))


# ----- allow -----


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("kind", SAID)
def test_what_is_not_finite_may_be_let_through(kind, clip_norm):
    with make(0, non_finite="allow", clip_norm=clip_norm) as trainer:
        (entry,) = trainer.fit(poisoned(ROW, kind=kind), epochs=1)
    assert trainer.steps == 5
    assert math.isnan(entry["loss"])
    assert np.isnan(trainer.model.rare.array).all()


def test_other_choices_are_refused():
    with pytest.raises(ValueError, match="non_finite to be 'stop', 'skip' or 'allow', got 'warn'"):
        make(0, non_finite="warn")


# ----- what looks for it -----


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_is_looked_at_exactly(dtype, value):
    pieces = tuple(Block(i, i, dtype, 0, 10 + 4 * i, 14 + 4 * i, True) for i in range(3))
    run = Run(dtype, 0, 10, 22, pieces)
    for place in range(12):
        gradient = np.full(12, np.finfo(dtype).max, dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            assert wrong_gradient(gradient, run) == FINE  # though its squares overflow
            gradient[place] = value
            assert wrong_gradient(gradient, run) == PARAMETER + place // 4
            assert wrong_gradient(gradient[:4], pieces[0]) == (PARAMETER if place < 4 else FINE)


def test_squares_are_summed_in_float64():
    many = np.full(30_000, 0.1, np.float32)
    assert square_of(many) == pytest.approx(30_000 * float(np.float32(0.1)) ** 2, rel=1e-13)
    assert square_of(np.array([3 + 4j, 1j], np.complex64)) == 26.0


def test_what_is_wrong_is_described():
    model = Poisoned()
    layout = make_layout(model, optim.SGD(model.parameters()), 4, None)
    assert describe(layout, PARAMETER, 4) == "the gradient of rare is not finite in shard 3 of 4"
    assert describe(layout, PARAMETER + 1, 5) == "the gradient of last.weight is not finite in the penalty"
