"""Running statistics in data-parallel steps: those of the whole batch, moved once a step, by any number of workers."""

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer
from pargrad.parallel.shards import reduce_tree
from pargrad.parallel.statistics import Moments
from tests.training import CLASSES, examples


def moments(values):
    return Moments(len(values), values.mean(0), ((values - values.mean(0)) ** 2).sum(0))


@pytest.mark.parametrize("sizes", [(3, 1, 4, 1), (5, 9, 2, 6), (7,), (1, 1)])
def test_merged_moments_are_those_of_all_values(sizes):
    values = [np.random.default_rng(i).normal(i, 1 + i, (size, 3)) for i, size in enumerate(sizes)]
    whole, together = reduce_tree([moments(part) for part in values], Moments.merged), np.concatenate(values)
    assert whole.weight == len(together)
    np.testing.assert_allclose(whole.mean, together.mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.deviations, len(together) * together.var(0), rtol=1e-12)


def test_moments_that_forget_the_distance_of_the_means_are_wrong():
    left, right = moments(np.zeros((2, 1))), moments(np.ones((2, 1)))
    assert left.merged(right).deviations == 1.0
    assert left.deviations + right.deviations == 0.0


def trained(model, batch_size, steps, **options):
    with Trainer(
        model,
        F.cross_entropy,
        optim.SGD(model.parameters(), lr=0.0),
        batch_size=batch_size,
        num_workers=0,
        progress="off",
        **options,
    ) as trainer:
        trainer.fit(examples(batch_size), max_steps=steps)
    return model


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_statistics_are_the_batchs_and_move_once_a_step(momentum):
    model = trained(nn.Sequential(nn.BatchNorm1d(12, momentum=momentum), nn.Linear(12, CLASSES)), 61, 3)
    x = examples(61)[0].astype(np.float64)
    mean, variance = np.zeros(12), np.ones(12)
    for step in range(1, 4):  # each epoch has the same batch, in another order
        factor = momentum or 1 / step
        mean = (1 - factor) * mean + factor * x.mean(0)
        variance = (1 - factor) * variance + factor * x.var(0, ddof=1)
    np.testing.assert_allclose(model[0].running_mean.numpy(), mean, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(model[0].running_var.numpy(), variance, rtol=2e-6)
    assert model[0].num_batches_tracked.item() == 3


def test_a_layer_that_is_called_twice_sees_more_values():
    class Twice(nn.Module):
        def __init__(self):
            self.norm, self.last = nn.BatchNorm1d(12, momentum=1.0), nn.Linear(12, CLASSES)

        def forward(self, x):
            return self.last(self.norm(x) + self.norm(3 * x))

    model = trained(Twice(), 40, 1, shards=4)
    x = examples(40)[0].astype(np.float64)
    both = np.concatenate([x, 3 * x])
    np.testing.assert_allclose(model.norm.running_mean.numpy(), both.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.norm.running_var.numpy(), both.var(0, ddof=1), rtol=1e-5)


def test_statistics_that_no_shard_reached_stay():
    class Sometimes(nn.Module):
        def __init__(self):
            self.norm, self.last, self.calls = nn.BatchNorm1d(12), nn.Linear(12, CLASSES), 0

        def forward(self, x):
            self.calls += 1  # once for both shards together, which is given up, then for each
            return self.last(self.norm(x) if self.calls <= 3 else x)

    model = trained(Sometimes(), 40, 5, shards=2)  # the first step only
    assert model.norm.num_batches_tracked.item() == 1
    np.testing.assert_allclose(model.norm.running_mean.numpy(), 0.1 * examples(40)[0].mean(0), rtol=1e-5, atol=1e-7)


def test_a_shard_of_one_example_is_torchs_error_with_batch_and_shards():
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        trained(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, CLASSES)), 8, 1)
    (note,) = [note for note in caught.value.__notes__ if "shard" in note]
    assert "shard 0 of 8, examples 0 to 0 of the batch of 8" in note


def test_a_statistic_that_is_no_buffer_is_refused():
    class Loose(nn.Module):
        def __init__(self):
            self.last, self.held = nn.Linear(12, CLASSES), [pg.zeros(12), pg.ones(12)]

        def forward(self, x):
            return self.last(F.batch_norm(x, *self.held, training=True))

    with pytest.raises(RuntimeError, match="is no buffer of the model.*register_buffer"):
        trained(Loose(), 16, 1, shards=2)
