"""The step on the arena against the reference over plain arrays, to the bit; losses and errors of the Trainer."""

import copy
import functools

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import ArrayData, epoch_order
from pargrad.parallel import NonFiniteError, ResourcesError, Trainer
from pargrad.parallel.arena import BLOCK, Layout, Spec, arena_size
from pargrad.parallel.objective import Objective
from pargrad.parallel.shards import all_reduce, shard_slice
from pargrad.parallel.step import Replica, Step, make_layout
from pargrad.random import ShardGenerator, using
from tests.training import CLASSES, WAYS, bits, examples, make_trainer


def tensors(arrays):
    return tuple(map(pg.from_numpy, arrays))


def reference(way, steps):
    """The same training over plain arrays: shard gradients, all_reduce, the optimizer's own step."""
    trainer = make_trainer(way, 0)
    model, optimizer, objective = trainer.model.train(), trainer.optimizer, trainer.objective
    x, y = examples()
    data, order = ArrayData(x, y), epoch_order(len(x), trainer.seed, 0)
    parameters = list(model.parameters())
    for number in range(1, steps + 1):
        batch = order[(number - 1) * trainer.batch_size : number * trainer.batch_size]
        gradients, divisors = [], []
        for shard in range(trainer.shards):
            indices = batch[shard_slice(shard, trainer.shards, len(batch))]
            model.zero_grad()
            if len(indices):
                with using(ShardGenerator(trainer.seed, number, shard)) as generator:
                    total, divisor, _ = objective(model, tensors(data.batch(indices, generator)))
                    total.backward()
            gradients.append([None if p.grad is None else p.grad.numpy() for p in parameters])
            if not len(indices):
                divisor = 0
            elif divisor is None:  # a sum that is not divided: the first shard says 1, the others add nothing
                divisor = float(not any(divisors))
            divisors.append(divisor)
        sums = all_reduce(gradients, divisors)
        model.zero_grad()
        if trainer.penalty is not None:
            trainer.penalty(model).backward()
        for p, g in zip(parameters, sums):
            if g is not None:
                p.grad = pg.from_numpy(g if p.grad is None else g + p.grad.numpy())
        if trainer.clip_norm is not None:
            norm = np.sqrt(
                sum(
                    float(np.sum(np.square(p.grad.numpy(), dtype=np.float64))) for p in parameters if p.grad is not None
                )
            )
            scale = min(1.0, trainer.clip_norm / (float(norm) + 1e-6))
            for p in parameters:
                if p.grad is not None and scale != 1.0:
                    p.grad = pg.from_numpy(p.grad.numpy() * scale)
        optimizer.step()
    return bits(trainer)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("blocks", "statistics", "whole-batch")])
def test_the_arena_has_the_bits_of_the_reference(way):
    steps = 3 if WAYS[way][3]["batch_size"] > 100 else 12
    with make_trainer(way, 0) as trainer:
        trainer.fit(examples(), max_steps=steps)
    assert bits(trainer) == reference(way, steps)


def test_blocks_and_their_norm_agree_with_the_reference():
    """Where a parameter has several blocks, the norm is added up in another order: equal to rounding."""
    with make_trainer("blocks", 0) as trainer:
        trainer.fit(examples(), max_steps=3)
    for ours, theirs in zip(bits(trainer), reference("blocks", 3)):
        assert len(ours) == len(theirs)
        if len(ours) > 8:
            np.testing.assert_allclose(
                np.frombuffer(ours, np.float32), np.frombuffer(theirs, np.float32), rtol=1e-4, atol=1e-6
            )


def test_the_blocks_of_all_workers_are_every_block_once():
    trainer = make_trainer("blocks", 0)
    layout = make_layout(trainer.model, trainer.optimizer, trainer.shards, trainer.penalty)
    assert len(layout.blocks) > len(layout.parameters)
    for workers in range(1, 9):
        owned = [layout.owned_blocks(worker, workers) for worker in range(workers)]
        assert [block for blocks in owned for block in blocks] == layout.blocks


def test_layout_is_made_from_names_shapes_and_dtypes():
    specs = [
        Spec("a", (3, 5), "float32", 0, 2),
        Spec("b", (2 * BLOCK + 1,), "float32", 0, 2),
        Spec("c", (2,), "float64", -1),
    ]
    layout = Layout(specs, [], 8, "element", 8)
    assert layout.offsets == [0, 16, 0]  # each on a cache line of its dtype's array
    assert [(b.parameter, b.start, b.stop) for b in layout.blocks] == [
        (0, 0, 15), (1, 16, 16 + BLOCK), (1, 16 + BLOCK, 16 + 2 * BLOCK), (1, 16 + 2 * BLOCK, 17 + 2 * BLOCK),
    ]  # fmt: skip
    whole = Layout(specs, [], 8, "parameter", 8)
    assert [(b.start, b.stop) for b in whole.blocks] == [(0, 15), (16, 17 + 2 * BLOCK)]
    assert all(len(run.blocks) == 1 for run in whole.runs(whole.blocks))


def test_the_arena_is_as_large_as_the_design_says():
    """2 (parameters + buffers + state) + slots x gradient, and no more than small change on top."""
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    layout = make_layout(model, optim.AdamW(model.parameters()), 8, None)
    parameters = 4 * sum(p.numel() for p in model.parameters())
    expected = 2 * 3 * parameters + 8 * parameters
    assert expected <= arena_size(layout) < 1.01 * expected + 10_000


def test_a_model_sees_parameters_that_only_the_update_can_write():
    class Writes(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(12, 5)

        def forward(self, x):
            with pg.no_grad():
                self.layer.bias += 1
            return self.layer(x)

    model = Writes()
    with (
        Trainer(
            model, F.cross_entropy, optim.SGD(model.parameters()), batch_size=10, num_workers=0, progress="off"
        ) as trainer,
        pytest.raises(RuntimeError, match="read-only") as caught,
    ):
        trainer.fit(examples(20), epochs=1)
    assert "shard 0 of 8" in caught.value.__notes__[0]
    model.layer.bias.array[0] = 7  # its own again


def test_a_buffer_that_is_replaced_in_training_is_named():
    class Counts(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(12, 5)
            self.register_buffer("seen", pg.tensor(0.0))

        def forward(self, x):
            self.seen = self.seen + len(x)
            return self.layer(x)

    model = Counts()
    with (
        Trainer(
            model, F.cross_entropy, optim.SGD(model.parameters()), batch_size=10, num_workers=0, progress="off"
        ) as trainer,
        pytest.raises(RuntimeError, match="buffer 'seen' of Counts"),
    ):
        trainer.fit(examples(20), epochs=1)


def test_the_model_has_its_own_arrays_again_after_close_and_after_an_error():
    trainer = make_trainer("mlp-adamw", 0)
    own = [p.array for p in trainer.model.parameters()]
    before = [array.copy() for array in own]
    with pytest.raises(KeyError), trainer:
        trainer.fit(examples(), max_steps=2)
        assert all(p.array is not array for p, array in zip(trainer.model.parameters(), own))
        raise KeyError
    assert all(p.array is array for p, array in zip(trainer.model.parameters(), own))
    assert all((a != b).any() for a, b in zip(own, before))


def test_fits_go_on_where_the_last_one_ended():
    whole, pieces = make_trainer("mlp-adamw", 0), make_trainer("mlp-adamw", 0)
    with whole, pieces:
        whole.fit(examples(), epochs=3)
        pieces.fit(examples(), max_steps=3)
        assert (pieces.epoch, pieces.batches, pieces.steps) == (0, 3, 3)
        pieces.fit(examples(), max_steps=2)
        assert (pieces.epoch, pieces.batches, pieces.steps) == (1, 1, 5)
        pieces.fit(examples(), epochs=2)
    assert whole.epoch == pieces.epoch == 3
    assert bits(whole) == bits(pieces)
    assert [entry["steps"] for entry in pieces.history] == [3, 1, 1, 3, 4]


def test_a_second_trainer_takes_the_optimizer_as_the_first_left_it():
    whole, first = make_trainer("mlp-adamw", 0), make_trainer("mlp-adamw", 0)
    with whole:
        whole.fit(examples(), epochs=2)
    with first:
        first.fit(examples(), epochs=1)
    second = Trainer(
        first.model, F.cross_entropy, first.optimizer, batch_size=257, num_workers=0, seed=3, progress="off"
    )
    second.steps, second.epoch = first.steps, first.epoch
    with second:
        second.fit(examples(), epochs=1)
    assert bits(second) == bits(whole)


def test_history_is_the_mean_over_examples_and_validation_is_evaluated():
    with make_trainer("mlp-adamw", 0) as trainer:
        history = trainer.fit(examples(), epochs=2, validation=examples(100, seed=5))
        results = trainer.evaluate(examples(100, seed=5))
    assert history is trainer.history
    assert [entry["epoch"] for entry in history] == [0, 1]
    assert history[1]["loss"] < history[0]["loss"]
    assert history[1]["validation_accuracy"] == results["accuracy"]
    assert history[1]["validation_loss"] == results["loss"]
    assert set(history[0]) >= {"steps", "seconds", "samples_per_second"}


# ----- shards that are run in one call -----


@pytest.mark.parametrize("way", ["even-shards", "blocks", "groups-penalty"])
def test_shards_in_one_call_have_the_bits_of_one_at_a_time(way, monkeypatch):
    def train():
        with make_trainer(way, 0) as trainer:
            trainer.fit(examples(1600), max_steps=12)
            stackable = trainer.pool.replica.stackable
        return bits(trainer), stackable

    with monkeypatch.context() as patched:
        patched.setattr(Replica, "shard_gradient", None)  # so that it cannot be called
        patched.setattr(Replica, "stacked_gradient", must(Replica.stacked_gradient))
        together, stackable = train()
    assert stackable
    monkeypatch.setattr("pargrad.parallel.step.STACKED_ELEMENTS", 0)
    alone, stackable = train()
    assert not stackable
    assert together == alone


def must(method):
    """A method that has to give something true."""

    def strict(*arguments):
        assert method(*arguments)
        return True

    return strict


def test_a_model_that_looks_at_values_or_draws_is_run_shard_by_shard():
    with make_trainer("branching", 0, batch_size=64) as trainer:
        trainer.fit(examples(), max_steps=2)
        assert not trainer.pool.replica.stackable


class Transposing(nn.Module):
    """A model whose class scores lie in memory the other way round."""

    def __init__(self):
        self.weight = nn.Parameter(pg.rand(40, 12) - 0.5)

    def forward(self, x):
        return (self.weight @ x.permute(1, 0)).permute(1, 0)


def own_with_where(output, target):
    """float64 among float32, which promotion looks at."""
    return pg.where(target > 1, F.log_softmax(output, 1).sum(1), pg.tensor(np.float64(0.5)) * output.mean(1))


@pytest.mark.parametrize(("model", "loss"), [
    (Transposing, F.cross_entropy),
    (Transposing, lambda o, t: -(F.log_softmax(o, 1) * 0.1).sum(1)),
    (lambda: nn.Linear(12, CLASSES), own_with_where),
    (lambda: nn.Linear(12, CLASSES), lambda o, t: (o.permute(1, 0) * 2).sum(0)),
])  # fmt: skip
def test_other_layouts_and_dtypes_have_the_same_bits_in_one_call(model, loss, monkeypatch):
    def train():
        pg.manual_seed(3)
        trained = model()
        with make(
            model=trained, loss=loss, optimizer=optim.SGD(trained.parameters(), lr=0.01), batch_size=64
        ) as trainer:
            trainer.fit(examples(256), epochs=2)
        return [p.array.tobytes() for p in trained.parameters()]

    together = train()
    monkeypatch.setattr("pargrad.parallel.step.STACKED_ELEMENTS", 0)
    assert together == train()


def test_a_model_that_catches_exceptions_does_not_catch_what_stacks_raise(monkeypatch):
    class Catching(nn.Linear):
        def forward(self, x):
            try:
                scale = 1.0 + float(x.array[0, 0])
            except Exception:
                scale = 0.0
            return super().forward(x) * scale

    def train():
        pg.manual_seed(3)
        model = Catching(12, CLASSES)
        with make(model=model, optimizer=optim.SGD(model.parameters(), lr=0.01), batch_size=64) as trainer:
            trainer.fit(examples(128), epochs=1)
        return model.weight.array.tobytes()

    together = train()
    monkeypatch.setattr("pargrad.parallel.step.STACKED_ELEMENTS", 0)
    assert together == train()


def test_a_stack_that_fails_where_its_slices_do_not_says_so(monkeypatch):
    def broken(*arguments):
        raise ArithmeticError("of the stack alone")

    monkeypatch.setattr(Replica, "stacked_gradient", broken)
    with make_trainer("even-shards", 0) as trainer, pytest.warns(UserWarning, match="of the stack alone") as warned:
        trainer.fit(examples(), max_steps=3)
    assert len(warned) == 1
    assert trainer.steps == 3


# ----- the loss protocol -----


def test_every_form_of_a_loss_gives_the_same_sum_and_divisor():
    x, y = examples(40)
    pg.manual_seed(0)
    model = nn.Linear(12, 5)
    mean = float(F.cross_entropy(model(pg.from_numpy(x)), pg.from_numpy(y)).item())
    forms = [
        Objective(F.cross_entropy),
        Objective(nn.CrossEntropyLoss()),
        Objective(lambda o, t: F.cross_entropy(o, t, reduction="none")),
        Objective(lambda o, t: (F.cross_entropy(o, t, reduction="sum"), len(t))),
        Objective(lambda o, t: F.cross_entropy(o, t), "mean over examples"),
        Objective(None, step=lambda m, batch: (F.cross_entropy(m(batch[0]), batch[1], reduction="sum"), len(batch[1]))),
    ]
    for objective in forms:
        total, divisor, _ = objective(model, tensors((x, y)))
        assert divisor == 40
        assert float(total.item()) / divisor == pytest.approx(mean, rel=1e-6)
    total, divisor, _ = Objective(lambda o, t: F.cross_entropy(o, t, reduction="sum"), "sum")(model, tensors((x, y)))
    assert (divisor, float(total.item())) == (None, pytest.approx(40 * mean, rel=1e-6))


@pytest.mark.parametrize("loss", [
    lambda o, t: F.cross_entropy(o, t),  # a mean of what?
    lambda o, t: 0.5,
    lambda o, t: o,  # (n, classes): not one value per example
    lambda o, t: (o, 3),
])  # fmt: skip
def test_a_loss_that_does_not_say_its_divisor_is_refused_with_the_remedies(loss):
    with pytest.raises(ValueError, match="loss_is='mean over examples'"):
        Objective(loss)(nn.Linear(12, 5), tensors(examples(10)))


class Hundredfold(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return 100 * F.cross_entropy(output, target, reduction="none")


@functools.wraps(F.cross_entropy)
def hundredfold(output, target):
    return 100 * F.cross_entropy(output, target, reduction="none")


@pytest.mark.parametrize("loss", [Hundredfold(), hundredfold, functools.partial(hundredfold)])
def test_a_loss_that_builds_on_pargrads_is_the_users_own(loss):
    x, y = examples(40)
    model = nn.Linear(12, CLASSES)
    plain, _, _ = Objective(F.cross_entropy)(model, tensors((x, y)))
    total, divisor, _ = Objective(loss)(model, tensors((x, y)))
    assert (divisor, total.item()) == (40, pytest.approx(100 * plain.item(), rel=1e-5))


def test_wrong_objectives():
    with pytest.raises(ValueError, match="leave it out"):
        Objective(F.cross_entropy, "sum")
    with pytest.raises(ValueError, match="loss_is"):
        Objective(F.cross_entropy, "mean")
    with pytest.raises(ValueError, match="either a loss or step"):
        Objective(None)
    with pytest.raises(ValueError, match="both"):
        Objective(F.cross_entropy, step=lambda model, batch: (0, 1))
    with pytest.raises(TypeError, match="can be called"):
        Objective("cross_entropy")


# ----- what is refused -----


def make(**options):
    model = nn.Linear(12, 5)
    given = {"model": model, "loss": F.cross_entropy, "optimizer": optim.SGD(model.parameters()), "batch_size": 8}
    given |= {"num_workers": 0, "progress": "off"} | options
    return Trainer(given.pop("model"), given.pop("loss"), given.pop("optimizer"), **given)


@pytest.mark.parametrize(("options", "error", "told"), [
    ({"scheduler": object()}, TypeError, "optim.lr_scheduler.StepLR"),
    ({"schedule_per": "batch"}, ValueError, "schedule_per"),
    ({"override": True}, ValueError, "need a run_dir"),
    ({"resume": "never"}, ValueError, "resume"),
    ({"callbacks": [print]}, TypeError, "callbacks"),
    ({"metrics": ("f9",)}, ValueError, "metric"),
    ({"max_failures": -1}, ValueError, "max_failures"),
    ({"shards": 6}, ValueError, "power of two"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"num_workers": -1}, ValueError, "num_workers"),
    ({"num_workers": 2.0}, ValueError, "num_workers"),
    ({"num_workers": (2, 1)}, ValueError, "num_workers"),
    ({"num_workers": 9}, ValueError, "shards=16"),
    ({"clip_norm": 0.0}, ValueError, "clip_norm"),
    ({"progress": "loud"}, ValueError, "progress"),
    ({"model": lambda x: x}, TypeError, "Module"),
    ({"optimizer": "adamw"}, TypeError, "optim.AdamW"),
])  # fmt: skip
def test_wrong_arguments_are_refused_by_name(options, error, told):
    with pytest.raises(error, match=told):
        make(**options)


def test_more_workers_than_cores_fail_before_ray_is_started(monkeypatch):
    monkeypatch.setattr("pargrad.parallel.workers.ray_is_initialized", lambda: False)
    with pytest.raises(ResourcesError, match=r"asked for 4096 workers .* has \d+ available"):
        make(num_workers=4096, shards=4096)


@pytest.mark.parametrize(("arguments", "error", "told"), [
    ({"data": examples(20)}, ValueError, "needs an end"),
    ({"data": examples(20), "epochs": -1}, ValueError, "epochs"),
    ({"data": examples(20), "max_steps": 1.5}, ValueError, "max_steps"),
    ({"data": examples(5), "epochs": 1}, ValueError, "batch_size 8 is larger than the data set, which has 5"),
    ({"data": examples(0), "epochs": 1}, ValueError, "empty"),
    ({"data": (examples(20)[0], examples(19)[1]), "epochs": 1}, ValueError, "one length"),
    ({"data": 3, "epochs": 1}, TypeError, "arrays"),
])  # fmt: skip
def test_wrong_data_are_refused(arguments, error, told):
    with make() as trainer, pytest.raises(error, match=told):
        trainer.fit(**arguments)


def test_an_optimizer_over_other_parameters_is_refused():
    with (
        pytest.raises(ValueError, match="the model does not"),
        make(optimizer=optim.SGD(nn.Linear(2, 2).parameters())) as trainer,
    ):
        trainer.fit(examples(20), epochs=1)


def test_a_closed_trainer_says_so():
    trainer = make()
    trainer.close()
    trainer.close()
    with pytest.raises(RuntimeError, match="closed"):
        trainer.evaluate(examples(20))


def test_fit_needs_an_optimizer():
    with make(optimizer=None) as trainer, pytest.raises(ValueError, match="needs an optimizer"):
        trainer.fit(examples(20), epochs=1)


def test_a_batch_without_a_divisor_is_refused_and_changes_nothing():
    model = nn.Linear(12, 5)
    x, y = examples(32)
    loss = nn.CrossEntropyLoss(ignore_index=0)
    with make(model=model, loss=loss, optimizer=optim.AdamW(model.parameters())) as trainer:
        before = copy.deepcopy(trainer.model.state_dict())
        with pytest.raises(NonFiniteError, match="divisor of the batch is 0"):
            trainer.fit((x, np.zeros_like(y)), epochs=1)
        trainer.fit((x, y), epochs=1)  # goes on
    assert all((before[name].numpy() != value.numpy()).any() for name, value in trainer.model.state_dict().items())


def test_a_loss_that_is_not_finite_names_the_shard_and_changes_nothing():
    x, y = examples(32)
    with make(shards=4, batch_size=32) as trainer:
        place = int(np.flatnonzero(epoch_order(32, 0, 0) == 30)[0]) // 8
        x[30, 3] = np.nan
        before = [p.numpy().copy() for p in trainer.model.state_dict().values()]
        with pytest.raises(NonFiniteError, match=f"the loss of shard {place} of 4 is not finite"):
            trainer.fit((x, y), epochs=1)
    assert all((a == b.numpy()).all() for a, b in zip(before, trainer.model.state_dict().values()))


def test_a_gradient_that_is_not_finite_is_named_where_its_norm_is_taken():
    model = nn.Linear(12, 5)
    with make(model=model, optimizer=optim.SGD(model.parameters()), clip_norm=1.0,
              penalty=lambda m: ((m.bias - m.bias.detach()) ** 2).sum().sqrt()) as trainer:  # fmt: skip
        with pytest.raises(NonFiniteError, match="the gradient of bias is not finite"):
            trainer.fit(examples(32), epochs=1)
        assert trainer.steps == trainer.pool.completed == 0
    assert np.isfinite(model.bias.array).all()


@pytest.mark.parametrize("change", [
    lambda trainer: trainer.model.weight.requires_grad_(False),
    lambda trainer: setattr(trainer.model, "more", nn.Parameter(np.ones(3, np.float32))),
    lambda trainer: trainer.optimizer.add_param_group({"params": [pg.zeros(2, requires_grad=True)]}),
])  # fmt: skip
def test_what_workers_cannot_see_changing_is_refused(change):
    with make() as trainer:
        trainer.fit(examples(32), epochs=1)
        change(trainer)
        with pytest.raises(RuntimeError, match="while the trainer was open"):
            trainer.fit(examples(32), epochs=1)


def test_an_error_before_the_arena_is_filled_leaves_the_model_as_it_was():
    model = nn.Linear(12, 5)
    optimizer = optim.AdamW(model.parameters())
    optimizer.state[model.weight] = {"step": 1, "exp_avg": np.zeros(3), "exp_avg_sq": np.zeros(3)}
    before, own = model.weight.array.copy(), model.weight.array
    with make(model=model, optimizer=optimizer) as trainer, pytest.raises(ValueError, match=r"exp_avg of weight: exp"):
        trainer.fit(examples(32), epochs=1)
    assert model.weight.array is own
    assert (own == before).all()


def test_a_parameter_that_appears_while_training_does_not_disturb_the_others():
    class Lazy(nn.Linear):
        def forward(self, x):
            self.extra = nn.Parameter(np.ones(3, np.float32))
            return super().forward(x)

    model = Lazy(12, 5)
    with make(model=model, optimizer=optim.SGD(model.parameters())) as trainer:
        trainer.fit(examples(32), epochs=1)
    assert model.weight.array.flags.writeable


def test_an_epoch_is_finished_with_the_data_it_was_begun_with():
    with make() as trainer:
        trainer.fit(examples(32), max_steps=2)
        with pytest.raises(ValueError, match="under way over 32 examples, got 16"):
            trainer.fit(examples(16), epochs=1)


def test_a_penalty_that_is_no_tensor_is_refused():
    with make(penalty=lambda model: 0.5) as trainer, pytest.raises(TypeError, match="penalty"):
        trainer.fit(examples(32), epochs=1)


# ----- scoring -----


def test_scores_count_every_example_once():
    x, y = examples(1300)
    model = nn.Linear(12, 5)
    hits = (x @ model.weight.array.T + model.bias.array).argmax(1) == y
    with make(model=model, optimizer=optim.SGD(model.parameters())) as trainer:
        results = trainer.evaluate((x, y))
        outputs = trainer.predict(x)
        assert trainer.predict(pg.from_numpy(x)).tobytes() == trainer.predict((x, y)).tobytes() == outputs.tobytes()
    assert results["count"] == 1300
    assert results["accuracy"] == hits.mean()
    np.testing.assert_allclose(outputs, x @ model.weight.array.T + model.bias.array, rtol=1e-5, atol=1e-6)
    assert model.score((x, y), num_workers=0, progress="off") == hits.mean()
    assert results["loss"] == pytest.approx(F.cross_entropy(model(pg.from_numpy(x)), pg.from_numpy(y)).item(), rel=1e-5)


def test_dropout_is_off_while_scoring_and_on_while_training():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(12, 5))
    with make(model=model, optimizer=optim.SGD(model.parameters(), lr=0.0)) as trainer:
        assert trainer.evaluate(examples(64)) == trainer.evaluate(examples(64))
        trainer.fit(examples(64), epochs=1)
        assert model.training
        trainer.evaluate(examples(64))
        assert model.training  # as it was before


def test_wrong_metrics_are_refused():
    with make() as trainer:
        with pytest.raises(ValueError, match="did you mean 'accuracy'. Expected one of loss, accuracy"):
            trainer.score(examples(20), "acuracy")
        assert trainer.score(examples(20), "loss") > 0
    regression = nn.Linear(12, 1)
    with make(model=regression, loss=F.mse_loss, optimizer=optim.SGD(regression.parameters())) as trainer:
        x, _ = examples(20)
        with pytest.raises(ValueError, match="accuracy needs class scores"):
            trainer.score((x, x[:, :1]))


def test_step_takes_its_options_with_it():
    """Learning rates travel in the step: changing them between fits is enough."""
    with make(batch_size=20) as trainer:
        trainer.fit(examples(20), max_steps=1)
        before = trainer.model.weight.array.copy()
        trainer.optimizer.param_groups[0]["lr"] = 0.0
        trainer.fit(examples(20), max_steps=1)
        assert (trainer.model.weight.array == before).all()
    assert Step(1, 0, np.arange(3), [{"lr": 0.1}]).hyperparameters == [{"lr": 0.1}]
