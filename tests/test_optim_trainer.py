"""Every optimizer in the data-parallel trainer: the bits of its own step on the whole batch's gradient."""

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer
from tests.test_step import reference
from tests.training import OPTIMIZERS, bits, examples, make_trainer


def test_every_optimizer_is_here():
    assert set(OPTIMIZERS) == set(optim.OPTIMIZERS) - {"LBFGS"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_has_the_bits_of_steps_by_hand(name):
    with make_trainer(name, 0) as trainer:
        before = bits(trainer)
        trainer.fit(examples(), max_steps=6)
    assert bits(trainer) == reference(name, 6)
    assert bits(trainer) != before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_goes_on_in_another_trainer_from_a_state_dict(name):
    with make_trainer(name, 0) as unbroken:
        unbroken.fit(examples(), max_steps=6)
    with make_trainer(name, 0) as first:
        first.fit(examples(), max_steps=3)
    second = make_trainer(name, 0)
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.steps, second.batches, second.examples = first.steps, first.batches, first.examples
    with second:
        second.fit(examples(), max_steps=3)
    assert bits(second) == bits(unbroken)


class Odd(nn.Module):
    """Parameters without elements and numbers, before and after others: state of other shapes must find its place."""

    def __init__(self):
        self.nothing = nn.Parameter(np.zeros((0, 3), np.float32))
        self.factor = nn.Parameter(np.float32(1.5))
        self.layer = nn.Linear(12, 5)
        self.end = nn.Parameter(np.zeros((3, 0), np.float32))

    def forward(self, x):
        return self.layer(x) * self.factor + self.nothing.sum() + self.end.sum()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "Muon"])
def test_numbers_and_parameters_without_elements(name):
    def run(trained):
        pg.manual_seed(0)
        model = Odd()
        with Trainer(
            model, F.cross_entropy, optim.OPTIMIZERS[name](trained(model)), batch_size=50, num_workers=0, progress="off"
        ) as trainer:
            trainer.fit(examples(100), epochs=2)
        return bits(trainer)

    everything = run(lambda model: model.parameters())
    assert [each for each in everything if each] == [
        each for each in run(lambda model: [model.factor, *model.layer.parameters()]) if each
    ]


def test_lbfgs_is_refused_with_the_reason():
    model = nn.Linear(12, 5)
    with pytest.raises(ValueError, match=r"LBFGS evaluates the loss as often as it likes.*optimizer\.step\(closure\)"):
        Trainer(model, F.cross_entropy, optim.LBFGS(model.parameters()), batch_size=5, num_workers=0)
