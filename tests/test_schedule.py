"""Learning-rate schedules in the trainer: the rates of a loop by hand, by any number of workers, through errors."""

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.optim import lr_scheduler
from pargrad.parallel import Trainer
from tests.training import CLASSES, examples, with_workers

MAKE = {
    "step": (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=60), "step"),
    "warm-restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7), "step"),
    "epoch": (lambda o: lr_scheduler.StepLR(o, 1, gamma=0.5), "epoch"),
    "plateau": (lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.5), "epoch"),
}


def parts(name):
    pg.manual_seed(2)
    model = nn.Linear(12, CLASSES)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    make, per = MAKE[name]
    return model, optimizer, make(optimizer), per


def trained(name, workers=0, epochs=3, **options):
    model, optimizer, scheduler, per = parts(name)
    with Trainer(model, F.cross_entropy, optimizer, batch_size=64, num_workers=workers, scheduler=scheduler,
                 schedule_per=per, progress="off", shards=4, **options) as trainer:  # fmt: skip
        with_workers(trainer).fit(examples(500), epochs=epochs)
    return model, optimizer, scheduler


def by_hand(name, epochs=3):
    """The rates of every step of the same training, and those at the end."""
    model, optimizer, scheduler, per = parts(name)
    with Trainer(model, F.cross_entropy, optimizer, batch_size=64, num_workers=0, progress="off", shards=4) as trainer:
        for _ in range(epochs):
            for _ in range(8):
                trainer.fit(examples(500), max_steps=1)
                if per == "step":
                    scheduler.step()
            if per == "epoch":
                last = trainer.history[-8:]
                counts = [64] * 7 + [52]
                loss = sum(entry["loss"] * count for entry, count in zip(last, counts)) / 500
                scheduler.step(*([loss] if name == "plateau" else []))
    return model, optimizer, scheduler


@pytest.mark.parametrize("name", MAKE)
def test_a_schedule_is_that_of_a_loop_by_hand(name):
    (model, optimizer, scheduler), (other, also, its) = trained(name), by_hand(name)
    assert optimizer.param_groups[0]["lr"] == also.param_groups[0]["lr"]
    assert scheduler.state_dict().keys() == its.state_dict().keys()
    assert model.weight.array.tobytes() == other.weight.array.tobytes()


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("name", ["step", "epoch"])
def test_a_schedule_does_not_depend_on_the_number_of_workers(name):
    assert trained(name, 2)[0].weight.array.tobytes() == trained(name)[0].weight.array.tobytes()


def test_after_an_error_the_rates_are_those_of_the_last_completed_step():
    class Bad:
        def __init__(self):
            self.x, self.y = examples(500)

        def __len__(self):
            return 500

        def batch(self, indices, generator):
            if 77 in indices:
                raise ZeroDivisionError
            return self.x[indices], self.y[indices]

    model, optimizer, scheduler, per = parts("step")
    with Trainer(model, F.cross_entropy, optimizer, batch_size=64, num_workers=0, scheduler=scheduler, schedule_per=per,
                 progress="off", shards=4) as trainer:  # fmt: skip
        with pytest.raises(ZeroDivisionError):
            trainer.fit(Bad(), epochs=1)
        done = trainer.steps
        assert 0 < done < 8
        expected = parts("step")[2]
        for _ in range(done):
            expected.step()
        assert scheduler.last_epoch == done
        assert np.isclose(optimizer.param_groups[0]["lr"], expected.optimizer.param_groups[0]["lr"], rtol=1e-12)


@pytest.mark.parametrize(("scheduler", "per", "error", "told"), [
    (lambda o: "cosine", "epoch", TypeError, "optim.lr_scheduler.StepLR"),
    (lambda o: lr_scheduler.StepLR(optim.SGD([nn.Parameter(pg.ones(1))], lr=1.0), 2), "epoch", ValueError, "another"),
    (lambda o: lr_scheduler.ReduceLROnPlateau(o), "step", ValueError, "leave schedule_per='epoch'"),
    (lambda o: None, "batch", ValueError, "'epoch' or 'step'"),
])  # fmt: skip
def test_wrong_schedules_are_refused(scheduler, per, error, told):
    model = nn.Linear(12, CLASSES)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(error, match=told):
        Trainer(model, F.cross_entropy, optimizer, batch_size=4, scheduler=scheduler(optimizer), schedule_per=per,
                num_workers=0)  # fmt: skip
