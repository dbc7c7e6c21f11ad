"""A sum of losses that is played again has the bits of one that is called, and what may differ is called."""

import tracemalloc

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer, recording
from pargrad.parallel.objective import Objective
from pargrad.parallel.recording import NotRecordable, Played, Player, Recording, backward
from pargrad.tensor import answer

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.standard_normal((72, 1, 8, 8), dtype=np.float32), GENERATOR.integers(0, 5, 72)
EPOCHS, BATCH_SIZE = 2, 32  # 32, 32 and 8 examples


class Own(nn.Module):
    """A forward of the user's own, which may do another thing each time."""

    def __init__(self):
        super().__init__()
        self.layers = perceptron()

    def forward(self, x):
        return self.layers(x)


def perceptron():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 5))


def with_shared_layer():
    shared = nn.Linear(16, 16)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), shared, nn.Sigmoid(), shared, nn.Linear(16, 5))


def hooked():
    model = perceptron()
    model[1].register_forward_hook(lambda module, inputs, output: output * 1.5)
    return model


PLAYED = {
    "perceptron": perceptron,
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    ),
    "shared layer": with_shared_layer,
    "norms": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 5)),
}
CALLED = {
    "a forward of one's own": Own,
    "a hook": hooked,
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 5)),
    "running statistics": lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 5)),
    "in place": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(inplace=True), nn.Linear(24, 5)),
}


def trained(make_model, shards, loss=F.cross_entropy):
    """The parameters after some epochs in this process, and how often a Linear was called by Python."""
    calls = 0
    forward = nn.Linear.forward

    def counting(self, input):
        nonlocal calls
        calls += 1
        return forward(self, input)

    pg.manual_seed(0)
    model = make_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "forward", counting)
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        with Trainer(
            model, loss, optimizer, batch_size=BATCH_SIZE, shards=shards, num_workers=0, progress="off"
        ) as trainer:
            trainer.fit((X, Y), epochs=EPOCHS)
    return b"".join(p.numpy().tobytes() for p in model.state_dict().values()), calls


def trained_by_calls(make_model, shards, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "KINDS", 0)
        return trained(make_model, shards, **options)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("name", PLAYED)
def test_what_is_played_has_the_bits_of_what_is_called(name, shards):
    played, calls = trained(PLAYED[name], shards)
    called, all_calls = trained_by_calls(PLAYED[name], shards)
    assert played == called
    assert 0 < calls < all_calls


@pytest.mark.parametrize("name", CALLED)
def test_what_may_differ_the_next_time_is_called(name):
    played, calls = trained(CALLED[name], 2)
    called, all_calls = trained_by_calls(CALLED[name], 2)
    assert played == called
    assert calls >= all_calls


def test_beside_a_loss_of_ones_own_the_model_is_called():
    def loss(output, target):
        output *= 2.0  # which nobody who plays would know of
        return F.cross_entropy(output, target, reduction="none")

    played, calls = trained(perceptron, 1, loss)
    assert (played, calls) == trained_by_calls(perceptron, 1, loss=loss)


def recorded(function):
    return lambda batch: (*function(*batch), None)


def test_a_setting_that_is_an_array_is_not_written_down():
    index, model = np.array([0, 2]), nn.Linear(3, 3)
    with pytest.raises(NotRecordable, match="setting"):
        Recording(model).take(recorded(lambda x: (model(x)[:, index].sum(), 4)), (pg.randn(4, 3),))


def test_a_question_about_what_is_computed_is_not_written_down():
    model = nn.Linear(3, 3)
    with pytest.raises(NotRecordable, match="computed"):
        Recording(model).take(recorded(lambda x: (model(x) * float(answer(model(x), np.max)), 4)), (pg.randn(4, 3),))


def test_another_answer_is_not_played():
    objective, model = Objective(F.cross_entropy), nn.Linear(3, 4)
    player, x = Player(objective, model), pg.randn(2, 3)
    for labels, divisor in (([0, 3], 2), ([1, 1], 2), ([1, -100], 1), ([2, 2], 2)):
        total, counted = player((x, pg.tensor(labels)))
        assert counted == divisor
        assert total.item() == objective(model, (x, pg.tensor(labels)))[0].item()
        assert isinstance(total.node, Played) == (labels in ([1, 1], [2, 2]))
    with pytest.raises(IndexError, match="class 4 is out of range"):
        player((x, pg.tensor([0, 4])))


def test_an_error_of_the_model_comes_without_another_around_it():
    player = Player(Objective(F.mse_loss), nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(RuntimeError, match="linear: expected input") as error:
        player((pg.ones(2, 4), pg.ones(2, 2)))
    assert error.value.__context__ is None


def test_playing_keeps_no_more_than_calling():
    model = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(256, 256), nn.ReLU())))
    player, batch = Player(Objective(F.mse_loss), model), (pg.ones(2048, 256), pg.zeros(2048, 256))

    def peak(forward):
        tracemalloc.start()
        try:
            backward(forward()[0], np.ones((), np.float32), lambda *gradient: None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    first, played, called = (peak(each) for each in (lambda: player(batch), lambda: player(batch),
                                                     lambda: Objective(F.mse_loss)(model, batch)))  # fmt: skip
    assert played <= 1.01 * called, (first, played, called)
