"""The trainer against torch: the whole batch's gradient, whatever the shards; the same curve from the same seed."""

import functools

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import epoch_order
from pargrad.parallel import Trainer
from tests.training import CLASSES, examples

WEIGHT = np.linspace(0.2, 3.0, CLASSES)


def weighted(**more):
    """The same loss twice: pargrad's, torch's."""
    ours = functools.partial(F.cross_entropy, weight=pg.tensor(WEIGHT), **more)
    theirs = functools.partial(torch.nn.functional.cross_entropy, weight=torch.tensor(WEIGHT), **more)
    return ours, theirs


LOSSES = {
    "mean": (F.cross_entropy, torch.nn.functional.cross_entropy),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), torch.nn.CrossEntropyLoss(reduction="sum")),
    "weights": weighted(),
    "weights-ignored-smoothed": weighted(ignore_index=1, label_smoothing=0.1),
    "ignored": (nn.CrossEntropyLoss(ignore_index=0), torch.nn.CrossEntropyLoss(ignore_index=0)),
}
OPTIMIZERS = {
    "adamw": (lambda p: optim.AdamW(p, lr=1e-2), lambda p: torch.optim.AdamW(p, lr=1e-2)),
    "sgd": (lambda p: optim.SGD(p, lr=1e-2, momentum=0.9), lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9)),
}


def twins():
    """The same float64 network twice, in torch's draws."""
    pg.manual_seed(5)
    torch.manual_seed(5)
    ours = nn.Sequential(nn.Linear(12, 17), nn.Tanh(), nn.Linear(17, CLASSES)).double()
    theirs = torch.nn.Sequential(torch.nn.Linear(12, 17), torch.nn.Tanh(), torch.nn.Linear(17, CLASSES)).double()
    return ours, theirs


def train_with_torch(model, loss, optimizer, x, y, batch_size, epochs, seed, clip_norm=None):
    """An ordinary loop over whole batches."""
    for epoch in range(epochs):
        order = epoch_order(len(x), seed, epoch)
        for start in range(0, len(x), batch_size):
            indices = order[start : start + batch_size]
            optimizer.zero_grad()
            loss(model(torch.from_numpy(x[indices])), torch.from_numpy(y[indices])).backward()
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()


def difference(ours, theirs):
    """The largest relative difference of two models' parameters."""
    pairs = zip(ours.parameters(), theirs.parameters())
    return max(float(np.abs(a.array - b.detach().numpy()).max() / np.abs(b.detach().numpy()).max()) for a, b in pairs)


@pytest.mark.parametrize("shards", [1, 4, 8, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_uneven_batches_end_where_torch_ends(loss, optimizer, shards):
    x, y = examples(211)
    x = x.astype(np.float64)
    ours, theirs = twins()
    options = {"batch_size": 47, "shards": shards, "seed": 2, "num_workers": 0, "progress": "off"}
    with Trainer(ours, LOSSES[loss][0], OPTIMIZERS[optimizer][0](ours.parameters()), **options) as trainer:
        trainer.fit((x, y), epochs=3)
    train_with_torch(theirs, LOSSES[loss][1], OPTIMIZERS[optimizer][1](theirs.parameters()), x, y, 47, 3, 2)
    assert difference(ours, theirs) < 1e-9


def test_the_mean_of_shard_means_is_seen():
    """The comparison above can fail: averaging the shards' means is off by far more than it allows."""
    x, y = examples(211)
    x = x.astype(np.float64)
    ours, theirs = twins()
    mean_of_means = lambda output, target: (F.cross_entropy(output, target), 1)  # noqa: E731
    with Trainer(
        ours, mean_of_means, optim.SGD(ours.parameters(), lr=1e-2), batch_size=47, seed=2, num_workers=0, progress="off"
    ) as trainer:
        trainer.fit((x, y), epochs=3)
    train_with_torch(
        theirs, torch.nn.functional.cross_entropy, torch.optim.SGD(theirs.parameters(), lr=1e-2), x, y, 47, 3, 2
    )
    assert difference(ours, theirs) > 1e-6


def test_clipping_is_torchs():
    x, y = examples(211)
    x = x.astype(np.float64)
    ours, theirs = twins()
    options = {"batch_size": 47, "seed": 2, "num_workers": 0, "progress": "off", "clip_norm": 0.05}
    with Trainer(ours, F.cross_entropy, optim.SGD(ours.parameters(), lr=0.5), **options) as trainer:
        trainer.fit((x, y), epochs=2)
    train_with_torch(
        theirs, torch.nn.functional.cross_entropy, torch.optim.SGD(theirs.parameters(), lr=0.5), x, y, 47, 2, 2, 0.05
    )
    assert difference(ours, theirs) < 1e-9


def test_a_penalty_is_added_once_a_batch():
    x, y = examples(211)
    x = x.astype(np.float64)
    ours, theirs = twins()
    options = {"batch_size": 47, "seed": 2, "num_workers": 0, "progress": "off"}
    with Trainer(
        ours,
        F.cross_entropy,
        optim.SGD(ours.parameters(), lr=0.1),
        penalty=lambda model: 0.1 * (model[0].weight ** 2).sum(),
        **options,
    ) as trainer:
        trainer.fit((x, y), epochs=2)

    def penalized(output, target):
        return torch.nn.functional.cross_entropy(output, target) + 0.1 * (theirs[0].weight ** 2).sum()

    train_with_torch(theirs, penalized, torch.optim.SGD(theirs.parameters(), lr=0.1), x, y, 47, 2, 2)
    assert difference(ours, theirs) < 1e-9


def test_regression_in_float32_follows_torch():
    x, _ = examples(500)
    target = np.tanh(x[:, :1]) + 0.1
    pg.manual_seed(7)
    torch.manual_seed(7)
    ours = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    theirs = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    with Trainer(
        ours, F.mse_loss, optim.AdamW(ours.parameters()), batch_size=64, num_workers=0, progress="off"
    ) as trainer:
        history = trainer.fit((x, target), epochs=5)
    train_with_torch(theirs, torch.nn.functional.mse_loss, torch.optim.AdamW(theirs.parameters()), x, target, 64, 5, 0)
    assert difference(ours, theirs) < 1e-4
    assert history[-1]["loss"] < history[0]["loss"]
