"""Small models and data for the tests of training, and the table of ways to train them."""

import functools

import numpy as np

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer

CLASSES = 5


def examples(count=1000, seed=0):
    """Inputs (count, 12) float32 and classes (count,), learnable."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 12), dtype=np.float32)
    y = (x @ generator.standard_normal((12, CLASSES), dtype=np.float32)).argmax(axis=1)
    return x, y


class Branching(nn.Module):
    """A model with a tied weight, dropout, a parameter that only some shards reach and one that none does."""

    def __init__(self):
        self.first = nn.Linear(12, 12)
        self.again = nn.Linear(12, 12)
        self.again.weight = self.first.weight
        self.drop = nn.Dropout(0.2)
        self.rare = nn.Parameter(np.full(12, 0.1, np.float32))
        self.never = nn.Parameter(np.ones(3, np.float32))
        self.last = nn.Linear(12, CLASSES)
        self.score = nn.Linear(12, 1)  # named like a method, which must do no harm
        self.register_buffer("scale", pg.tensor([1.5]))

    def forward(self, x):
        h = self.drop(F.relu(self.first(x))) * self.scale
        if x.array[0, 0] > 0.5:
            h = h + self.rare
        return self.last(F.tanh(self.again(h))) + 0 * self.score(h)


class Poisoned(nn.Module):
    """Some examples, see `poison`, make the loss infinite, or the gradient of `rare` alone."""

    def __init__(self):
        self.rare = nn.Parameter(np.full(1, 0.1, np.float32))
        self.last = nn.Linear(12, CLASSES)

    def forward(self, x):
        marks = x.array[:, :1]
        clean = pg.where(pg.tensor(np.abs(marks) < 100), x, 0.0)
        infinite = pg.tensor(np.where(marks == POISONS["loss"], np.float32(np.inf), np.float32(0)))
        # A root has no derivative at 0.
        at_zero = ((self.rare - self.rare.detach()) ** 2).sqrt() * pg.tensor(
            np.where(marks == POISONS["gradient"], np.float32(1), np.float32(0))
        )
        touched = at_zero if (marks == POISONS["gradient"]).any() else 0.0
        return self.last(clean) + self.rare + infinite + touched


POISONS = {"loss": 1000.0, "gradient": 2000.0}


def poison(x, row, kind):
    """Marks an example, of which Poisoned makes something that is not finite."""
    x[row, 0] = POISONS[kind]


def mlp():
    return nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, CLASSES))


def normalized():
    """Running statistics: of the batch, of examples, and a plain average over all batches."""
    return nn.Sequential(
        nn.Linear(12, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Unflatten(1, (2, 4)),
        nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
        nn.Flatten(),
        nn.BatchNorm1d(8, momentum=None),
        nn.Linear(8, CLASSES),
    )


def whole_batch():
    """Layers whose statistics are the whole batch's, and which the shards exchange."""
    return nn.Sequential(
        nn.SyncBatchNorm(12),
        nn.Linear(12, 8),
        nn.SyncBatchNorm(8, affine=False, momentum=None),
        nn.Dropout(0.2),
        nn.Unflatten(1, (2, 4)),
        nn.SyncBatchNorm(2, track_running_stats=False),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


def large():
    """More than one block a parameter."""
    return nn.Sequential(nn.Linear(12, 3000), nn.Tanh(), nn.Linear(3000, CLASSES))


def adamw(model):
    return optim.AdamW(model.parameters(), lr=3e-3)


def two_groups(model):
    parameters = list(model.parameters())
    return optim.SGD(
        [{"params": parameters[:1], "lr": 0.05, "weight_decay": 0.01}, {"params": parameters[1:-1]}],
        lr=0.02,
        momentum=0.9,
    )


def adafactor(model):
    """One that updates whole parameters, and whose state has other shapes than they."""
    return optim.Adafactor(model.parameters(), weight_decay=0.1)


WEIGHT = np.linspace(0.5, 2.0, CLASSES).astype(np.float32)
weighted = functools.partial(F.cross_entropy, weight=pg.tensor(WEIGHT), ignore_index=2)


def own_loss(output, target):
    """A user's loss: one value per example."""
    return -F.log_softmax(output, 1)[pg.arange(len(target)), target]


# name: model, optimizer, loss, options of the Trainer
WAYS = {
    "mlp-adamw": (mlp, adamw, F.cross_entropy, {"batch_size": 257}),
    "even-shards": (mlp, adamw, F.cross_entropy, {"batch_size": 64}),
    "fewer-examples-than-shards": (mlp, adamw, F.cross_entropy, {"batch_size": 5}),
    "weights-and-ignored": (mlp, adamw, weighted, {"batch_size": 257, "clip_norm": 0.5}),
    "branching": (Branching, adamw, own_loss, {"batch_size": 61}),
    "statistics": (normalized, adamw, F.cross_entropy, {"batch_size": 61}),
    "whole-batch": (whole_batch, adamw, F.cross_entropy, {"batch_size": 61}),
    "groups-penalty": (mlp, two_groups, nn.CrossEntropyLoss(reduction="sum"),
                       {"batch_size": 64, "penalty": lambda model: 0.01 * (model[0].weight ** 2).sum()}),
    "whole-parameters": (Branching, adafactor, F.cross_entropy, {"batch_size": 61}),
    "blocks": (large, adamw, F.cross_entropy, {"batch_size": 100, "clip_norm": 1.0, "shards": 4}),
}  # fmt: skip


def with_optimizer(name, **options):
    def optimizer_of(model):
        # Muon is for matrices; the other parameters then stay as they are.
        return optim.OPTIMIZERS[name]([p for p in model.parameters() if p.ndim == 2 or name != "Muon"], **options)

    return Branching, optimizer_of, F.cross_entropy, {"batch_size": 61}


# Every optimizer, for the tests that need no Ray.
OPTIMIZERS = {
    name: with_optimizer(name, **options)
    for name, options in {
        "SGD": {"momentum": 0.9, "nesterov": True},
        "Adam": {"amsgrad": True, "weight_decay": 0.1},
        "AdamW": {},
        "NAdam": {"weight_decay": 0.1},
        "RAdam": {"betas": (0.9, 0.9)},
        "Adamax": {},
        "Adagrad": {"initial_accumulator_value": 0.1},
        "Adadelta": {},
        "RMSprop": {"centered": True, "momentum": 0.5, "eps": 0.1},
        "Rprop": {},
        "ASGD": {"lambd": 0.1, "t0": 2},
        "Adafactor": {},
        "Muon": {},
    }.items()
}


def make_trainer(way, num_workers, at_once=False, **more):
    """A fresh model under a fresh trainer, whose workers are there, unless it is to begin at once."""
    model_of, optimizer_of, loss, options = (WAYS | OPTIMIZERS)[way]
    pg.manual_seed(1)
    model = model_of()
    options = {"seed": 3, "progress": "off", "num_workers": num_workers, **options, **more}
    trainer = Trainer(model, loss, optimizer_of(model), **options)
    return trainer if at_once else with_workers(trainer)


def with_workers(trainer):
    """A trainer whose workers are there: else this process would take the first steps, and often all of them."""
    try:
        if trainer.num_workers:
            trainer.wait_for_workers()
    except BaseException:
        trainer.close()
        raise
    return trainer


def bits(trainer):
    """Everything that promise 2 speaks of, as bytes: parameters, buffers, optimizer state."""
    state = [tensor.numpy().tobytes() for tensor in trainer.model.state_dict().values()]
    for p in trainer.model.parameters():
        held = trainer.optimizer.state.get(p, {})
        state += [np.asarray(value).tobytes() for _, value in sorted(held.items())]
    return state
