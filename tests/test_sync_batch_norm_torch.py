"""SyncBatchNorm against torch's BatchNorm on the whole batch, in one process: gradients, curves, running statistics."""

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer
from tests.test_trainer_torch import difference, train_with_torch
from tests.training import CLASSES, examples

# Networks over a library and its norms: of (N, C) or (N, C, L), of images.
NETWORKS = {
    "plain": lambda lib, norm, _: [lib.nn.Linear(12, 9), norm(9), lib.nn.Tanh(), lib.nn.Linear(9, CLASSES)],
    "several": lambda lib, norm, _: [
        norm(12, affine=False), lib.nn.Linear(12, 10), norm(10, eps=0.1), lib.nn.ReLU(), lib.nn.Unflatten(1, (2, 5)),
        norm(2, momentum=0.4, bias=False), lib.nn.Flatten(), norm(10, momentum=None), lib.nn.Linear(10, CLASSES),
    ],
    "images": lambda lib, norm, norm2d: [
        lib.nn.Unflatten(1, (1, 3, 4)), lib.nn.Conv2d(1, 4, 2, padding=1), norm2d(4), lib.nn.ReLU(),
        lib.nn.Conv2d(4, 3, 2), norm2d(3, track_running_stats=False), lib.nn.Flatten(), lib.nn.Linear(36, CLASSES),
    ],
}  # fmt: skip


def twins(network, norm=nn.SyncBatchNorm):
    """The same float64 network twice, in torch's draws."""
    made = []
    for lib, norms in ((pg, (norm, norm)), (torch, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))):
        lib.manual_seed(5)
        made.append(lib.nn.Sequential(*NETWORKS[network](lib, *norms)).double())
    return made


def trained(network, shards, batch_size=47, **other):
    """Both twins after three epochs of 211 examples, the last batch of each shorter."""
    x, y = examples(211)
    x = x.astype(np.float64)
    ours, theirs = twins(network, **other)
    optimizer = optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    options = {"batch_size": batch_size, "shards": shards, "seed": 2, "num_workers": 0, "progress": "off"}
    with Trainer(ours, F.cross_entropy, optimizer, **options) as trainer:
        trainer.fit((x, y), epochs=3)
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    train_with_torch(theirs, torch.nn.functional.cross_entropy, sgd, x, y, batch_size, 3, 2)
    return ours, theirs


def furthest_buffers(ours, theirs):
    pairs = zip(ours.buffers(), theirs.buffers(), strict=True)
    return max((float(np.abs(a.array - b.numpy()).max()) for a, b in pairs), default=0.0)


@pytest.mark.parametrize("shards", [1, 4, 8, 64])
@pytest.mark.parametrize("network", NETWORKS)
def test_uneven_batches_end_where_torch_ends(network, shards):
    """Of 64 shards some are empty, and others have one example."""
    ours, theirs = trained(network, shards)
    assert difference(ours, theirs) < 1e-9
    assert furthest_buffers(ours, theirs) < 1e-9


def test_the_statistics_of_shards_are_seen():
    """The comparison above can fail: BatchNorm sees its shard, and ends elsewhere."""
    assert difference(*trained("images", 8, norm=nn.BatchNorm2d)) > 1e-3
    assert difference(*trained("images", 1, norm=nn.BatchNorm2d)) < 1e-9


def test_the_layers_names_and_words_are_torchs():
    ours = nn.SyncBatchNorm(4, 1e-3, None, bias=False)
    theirs = torch.nn.SyncBatchNorm(4, 1e-3, None, bias=False)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_a_network_is_converted_as_torchs():
    found = []
    for n in (nn, torch.nn):
        network = n.Sequential(
            n.Sequential(n.Linear(12, 4), n.BatchNorm1d(4, momentum=0.3)), n.BatchNorm1d(4, affine=False),
            n.InstanceNorm1d(4), n.BatchNorm1d(4, track_running_stats=False).eval(),
        )  # fmt: skip
        converted = n.SyncBatchNorm.convert_sync_batchnorm(network)
        assert converted is network
        found.append([repr(network), list(network.state_dict()), [each.training for each in network.modules()]])
        layer = n.BatchNorm2d(3)
        alone = n.SyncBatchNorm.convert_sync_batchnorm(layer)
        assert isinstance(alone, n.SyncBatchNorm)
        assert alone.weight is layer.weight
        assert alone.running_mean is layer.running_mean
    assert found[0] == found[1]
