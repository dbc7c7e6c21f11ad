"""SyncBatchNorm in data-parallel steps: the same bits for any number of workers, deaths, disagreement, what is left."""

import functools
import os
import signal
import threading

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer, exchange
from pargrad.parallel.arena import Arena
from pargrad.parallel.exchange import Lockstep
from pargrad.parallel.meeting import CalledOff
from pargrad.parallel.pool import GRADIENT
from tests.proofs_elastic import check
from tests.simulated_pool import Fault
from tests.test_simulated_pool import CASE, broken, dense
from tests.training import CLASSES, bits, examples, make_trainer, with_workers

DRIVER = os.getpid()


@pytest.fixture(autouse=True)
def leaves_no_thread():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pargrad-shard")] == []


@functools.cache
def serial():
    with make_trainer("whole-batch", 0) as trainer:
        trainer.fit(examples(), max_steps=20)
    return bits(trainer)


def trained(model, batch_size=24, steps=1, loss=F.cross_entropy, **options):
    """The model after some steps of SGD in this process."""
    options = {"batch_size": batch_size, "num_workers": 0, "progress": "off", **options}
    with with_workers(Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), **options)) as trainer:
        trainer.fit(examples(batch_size * steps), max_steps=steps)
    return model


def parameters_of(model):
    return [p.array.copy() for p in model.parameters()]


# ----- workers -----


@pytest.mark.usefixtures("leaves_nothing")
def test_four_workers_have_the_bits_of_none():
    """One to three have them in the tests of Ray's pool."""
    with make_trainer("whole-batch", 4) as trainer:
        trainer.fit(examples(), max_steps=20)
    assert bits(trainer) == serial()


class Deadly(nn.Module):
    """A model whose worker is killed the third time that it is between two exchanges, where a file is not there yet."""

    def __init__(self, path):
        self.norm, self.last, self.path, self.calls = nn.SyncBatchNorm(12), nn.Linear(12, CLASSES), str(path), 0

    def forward(self, x):
        x = self.norm(x)
        self.calls += 1
        if self.calls == 3 and os.getpid() != DRIVER and not os.path.exists(self.path):
            open(self.path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.last(x)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_worker_that_is_killed_in_the_middle_of_a_step_changes_no_bit(tmp_path):
    found = []
    for workers in (0, 2):
        pg.manual_seed(2)
        model = Deadly(tmp_path / "killed")
        if workers:
            with pytest.warns(UserWarning, match="was lost while computing gradients in the step after"):
                trained(model, 61, 8, num_workers=workers)
        else:
            trained(model, 61, 8)
        found.append([p.tobytes() for p in parameters_of(model)])
    assert (tmp_path / "killed").exists()
    assert found[0] == found[1]


@pytest.mark.usefixtures("leaves_nothing")
def test_an_error_of_one_worker_ends_the_others():
    class Failing(nn.Module):
        def __init__(self):
            self.norm, self.last = nn.SyncBatchNorm(12), nn.Linear(12, CLASSES)

        def forward(self, x):
            x = self.norm(x)
            if len(x) == 7:  # of 61 examples, the first shard has 7, and others have 8
                raise ZeroDivisionError("as asked")
            return self.last(x)

    for workers in (0, 3):
        with pytest.raises(ZeroDivisionError, match="as asked") as caught:
            trained(Failing(), 61, num_workers=workers)
        assert "in step 1 (epoch 0), shard 0 of 8, examples 0 to 6 of the batch of 61" in caught.value.__notes__[0]


WHOLE_BATCH = CASE._replace(way="whole-batch")


@pytest.mark.filterwarnings("ignore:worker .* was:UserWarning")
@pytest.mark.parametrize("lines", [5, 60, 250, 700])
@pytest.mark.parametrize("stops", [False, True])
def test_a_worker_that_ends_on_any_line_changes_no_bit(lines, stops):
    """Also one that ends in a shard's thread, and one that others wait for in an exchange."""
    faults = Fault(1, 1, GRADIENT, lines, stops=stops), Fault(2, 3, GRADIENT, lines // 2)
    assert check(WHOLE_BATCH._replace(plan=WHOLE_BATCH.plan._replace(faults=faults))) == {"gradient": 2}


def once(self, layout, memory, made=Arena.__init__):
    """An arena whose rows of exchanges are there once."""
    made(self, layout, memory)
    for name in ("exchanges", "exchanged"):
        rows = getattr(self, name)
        setattr(self, name, np.lib.stride_tricks.as_strided(rows, strides=(0, *rows.strides[1:])))


BROKEN = {
    "nobody waits for the rows": (Lockstep, "run", broken(Lockstep.run, "meet()  # every", "pass  #")),
    "rows are there once": (Arena, "__init__", once),
}


@pytest.mark.filterwarnings("ignore:worker .* was:UserWarning")
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found(rule, monkeypatch):
    monkeypatch.setattr(*BROKEN[rule])
    with pytest.raises((AssertionError, RuntimeError, CalledOff)):
        for seed in range(60):
            check(dense(seed)._replace(way="whole-batch"))


# ----- shards -----


class Chosen(nn.Module):
    """Calls what a function of the shard says."""

    def __init__(self, choose):
        self.first, self.second = nn.SyncBatchNorm(12), nn.SyncBatchNorm(12)
        self.last, self.choose = nn.Linear(12, CLASSES), choose

    def forward(self, x):
        for name in self.choose(x):
            x = getattr(self, name)(x)
        return self.last(x)


DISAGREEMENTS = {
    "number": (lambda x: ["first", "second"][: 1 + (len(x) == 8)], "shard 0 is at its end, and shard 1 .* of second"),
    "order": (lambda x: ["first", "second"][:: 1 if len(x) == 7 else -1], "forward pass of first, and .* of second"),
    "none": (lambda x: ["first"] * (len(x) == 7), "shard 0 is at the forward pass of first, and shard 1 at its end"),
}  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("choice", DISAGREEMENTS)
def test_shards_that_call_other_layers_are_told(choice, workers, request):
    choose, told = DISAGREEMENTS[choice]
    if workers:
        request.getfixturevalue("leaves_nothing")
    with pytest.raises(RuntimeError, match=f"same SyncBatchNorm layers in the same order.*{told}.*write BatchNorm"):
        trained(Chosen(choose), 61, num_workers=workers)


def test_shards_that_agree_may_call_a_layer_twice_or_not_at_all():
    trained(Chosen(lambda x: ["first", "first", "second"]), 61)
    model = trained(Chosen(lambda x: []), 61)
    assert model.first.num_batches_tracked.item() == 0


def test_a_shard_may_have_one_example_and_a_batch_may_not():
    model = trained(nn.Sequential(nn.SyncBatchNorm(12), nn.Linear(12, CLASSES)), 8)
    np.testing.assert_allclose(model[0].running_mean.numpy(), 0.1 * examples(8)[0].mean(0), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        trained(nn.Sequential(nn.SyncBatchNorm(12), nn.Linear(12, CLASSES)), 1)
    assert "examples 0 to 0 of the batch of 1" in caught.value.__notes__[0]


def test_what_forward_leaves_on_a_module_is_its_own_shards():
    """A loss may read it, though other shards were there in the meantime."""

    class Leaving(nn.Module):
        def __init__(self):
            self.norm, self.last, self.left = nn.SyncBatchNorm(12), nn.Linear(12, CLASSES), None

        def forward(self, x):
            self.left, self.anomaly = x, pg.autograd.set_detect_anomaly(len(x) == 7)
            return self.last(self.norm(x))

    model = Leaving()
    right = []

    def loss(output, target):
        right.append(len(model.left) == len(target) and pg.autograd.is_anomaly_enabled() == (len(target) == 7))
        return F.cross_entropy(output, target, reduction="none")

    try:
        trained(model, 61, loss=loss)
    finally:
        pg.autograd.set_detect_anomaly(False)
    assert right == [True] * 8


def test_a_model_that_catches_errors_ends_with_the_others():
    class Catching(nn.Module):
        def __init__(self):
            self.norm, self.last = nn.SyncBatchNorm(12), nn.Linear(12, CLASSES)

        def forward(self, x):
            if len(x) == 8:
                raise ZeroDivisionError("as asked")
            for _ in range(3):
                try:
                    x = self.norm(x)
                except CalledOff:
                    continue
            return self.last(x)

    with pytest.raises(ZeroDivisionError, match="as asked"):
        trained(Catching(), 61)


def test_an_interrupt_leaves_no_thread():
    """It comes to the thread of the process, while a shard is at work."""
    began = threading.Event()

    def slow(x):
        if not began.is_set():
            began.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return ["first", "second"]

    with pytest.raises(KeyboardInterrupt):
        trained(Chosen(slow), 61)


# ----- where nothing is exchanged -----


def test_other_models_have_no_rows_and_no_threads(monkeypatch):
    monkeypatch.setattr(exchange, "ShardThread", None)  # so that it cannot be called
    trained(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, CLASSES)))
    with pytest.raises(TypeError):
        trained(nn.Sequential(nn.SyncBatchNorm(12), nn.Linear(12, CLASSES)))


def test_scoring_takes_the_running_statistics():
    model = nn.Sequential(nn.SyncBatchNorm(12), nn.Linear(12, CLASSES))
    x, _ = examples(600)
    with make_trainer("whole-batch", 0) as trainer:
        trainer.fit(examples(), max_steps=3)
    model[0].load_state_dict(trainer.model[0].state_dict())
    with Trainer(model, F.cross_entropy, None, batch_size=8, num_workers=0, progress="off") as trainer:
        found = trainer.predict(x)
    running = model[0].running_mean.numpy(), model[0].running_var.numpy()
    normalized = (x - running[0]) / np.sqrt(running[1] + 1e-5) * model[0].weight.array + model[0].bias.array
    np.testing.assert_allclose(found, normalized @ model[1].weight.array.T + model[1].bias.array, rtol=1e-4, atol=1e-5)


def test_a_penalty_has_no_batch_to_normalize():
    model = nn.Sequential(nn.SyncBatchNorm(12), nn.Linear(12, CLASSES))
    with pytest.raises(RuntimeError, match="penalty.model. called a layer that takes a batch's statistics"):
        trained(model, penalty=lambda model: model(pg.ones(4, 12)).sum())


def test_a_layer_that_the_model_does_not_have_is_refused():
    class Loose(nn.Module):
        def __init__(self, more):
            self.last, self.more = nn.Linear(12, CLASSES), more
            self.loose = [nn.SyncBatchNorm(12, affine=False, track_running_stats=False)]

        def forward(self, x):
            return self.last(self.loose[0](x))

    for more in (None, nn.SyncBatchNorm(12)):
        with pytest.raises(RuntimeError, match="no module of the model.*write self.norm = nn.SyncBatchNorm"):
            trained(Loose(more))


def test_another_number_of_channels_is_refused():
    with pytest.raises(RuntimeError, match="expected 13 channels, got input of shape"):
        trained(nn.Sequential(nn.SyncBatchNorm(13, affine=False, track_running_stats=False), nn.Linear(12, CLASSES)))


def test_there_are_no_process_groups():
    with pytest.raises(ValueError, match="expected process_group to be None, got 3"):
        nn.SyncBatchNorm(4, process_group=3)


def test_a_second_derivative_is_refused_in_a_step():
    def loss(output, target):
        (gradient,) = pg.autograd.grad(output.sum(), [model[0].weight], create_graph=True)
        return F.cross_entropy(output, target, reduction="sum") + (gradient**2).sum(), len(target)

    model = nn.Sequential(nn.SyncBatchNorm(12), nn.Tanh(), nn.Linear(12, CLASSES))
    with pytest.raises(RuntimeError, match="has no second derivative"):
        trained(model, loss=loss)


def test_a_tied_layer_is_converted_once():
    layer = nn.BatchNorm1d(3)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer, nn.ReLU(), layer))
    assert isinstance(model[0], nn.SyncBatchNorm)
    assert model[0] is model[2]
