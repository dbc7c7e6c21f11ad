"""Schedules against torch's: the same rates, and momenta, at every step; averages of models."""

import copy
import json
import math

import numpy as np
import pytest
import torch

import pargrad as pg

STEPS = 60
RATES = [0.1, 0.03, 1.0]  # of three groups
# torch's, which would see the optimizer step between, and has step(epoch) called deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*(lr_scheduler.step|epoch parameter)")


class Warmup:
    """A function that keeps something, as a state_dict keeps it."""

    def __init__(self, length):
        self.length = length

    def __call__(self, epoch):
        return min(1.0, (epoch + 1) / self.length)


def sequential(library, optimizer):
    schedule = library.optim.lr_scheduler
    parts = [
        schedule.LinearLR(optimizer, 0.1, total_iters=10),
        schedule.ConstantLR(optimizer, 0.5, 3),
        schedule.CosineAnnealingLR(optimizer, 20),
        schedule.ExponentialLR(optimizer, 0.9),
    ]
    return schedule.SequentialLR(optimizer, parts, [10, 15, 40])


def chained(library, optimizer):
    schedule = library.optim.lr_scheduler
    return schedule.ChainedScheduler(
        [schedule.ConstantLR(optimizer, 0.1, 7), schedule.ExponentialLR(optimizer, 0.95)], optimizer
    )


def nested(library, optimizer):
    schedule = library.optim.lr_scheduler
    inner = [schedule.LinearLR(optimizer, 0.2, total_iters=5), schedule.StepLR(optimizer, 4, 0.5)]
    first = schedule.SequentialLR(optimizer, inner, [6])
    return schedule.SequentialLR(optimizer, [first, schedule.ExponentialLR(optimizer, 0.9)], [20])


def made(name, *arguments, **named):
    """A way to make a schedule in either library."""
    return lambda library, optimizer, **more: getattr(library.optim.lr_scheduler, name)(
        optimizer, *arguments, **named, **more
    )


SCHEDULES = {
    "StepLR": made("StepLR", 7, gamma=0.5),
    "MultiStepLR": made("MultiStepLR", [5, 20, 20, 50], gamma=0.3),
    "ConstantLR": made("ConstantLR"),
    "ConstantLR for long": made("ConstantLR", 0.7, total_iters=33),
    "LinearLR": made("LinearLR"),
    "LinearLR down": made("LinearLR", 1.0, 0.01, total_iters=41),
    "ExponentialLR": made("ExponentialLR", 0.9),
    "PolynomialLR": made("PolynomialLR"),
    "PolynomialLR, square": made("PolynomialLR", 50, power=2.0),
    "CosineAnnealingLR": made("CosineAnnealingLR", 60),
    "CosineAnnealingLR up again": made("CosineAnnealingLR", 9, eta_min=0.002),
    "CosineAnnealingWarmRestarts": made("CosineAnnealingWarmRestarts", 8),
    "CosineAnnealingWarmRestarts, longer": made("CosineAnnealingWarmRestarts", 5, T_mult=2, eta_min=0.001),
    "LambdaLR": made("LambdaLR", lambda epoch: 0.95**epoch),
    "LambdaLR of each group": made("LambdaLR", [lambda epoch: 1 / (1 + epoch), Warmup(9), lambda epoch: 0.5]),
    "MultiplicativeLR": made("MultiplicativeLR", lambda epoch: 0.99 if epoch % 3 else 0.8),
    "OneCycleLR": made("OneCycleLR", 0.5, total_steps=STEPS),
    "OneCycleLR, linear": made("OneCycleLR", 0.5, epochs=6, steps_per_epoch=10, anneal_strategy="linear"),
    "OneCycleLR, three phases": made(
        "OneCycleLR", [0.5, 0.1, 2.0], total_steps=70, pct_start=0.4, three_phase=True, div_factor=10.0,
        final_div_factor=100.0, base_momentum=0.7, max_momentum=[0.9, 0.95, 0.99],
    ),
    "OneCycleLR, momentum as it is": made("OneCycleLR", 0.5, total_steps=STEPS, cycle_momentum=False),
    "CyclicLR": made("CyclicLR", 0.01, 0.1, step_size_up=7),
    "CyclicLR, uneven": made("CyclicLR", [0.01, 0.02, 0.03], 0.5, 4, 9, base_momentum=0.6, max_momentum=0.95),
    "CyclicLR, triangular2": made("CyclicLR", 0.01, 0.1, step_size_up=5, mode="triangular2", cycle_momentum=False),
    "CyclicLR, exp_range": made("CyclicLR", 0.01, 0.1, step_size_up=5, mode="exp_range", gamma=0.97),
    "CyclicLR, a function": made(
        "CyclicLR", 0.01, 0.1, step_size_up=5, scale_fn=lambda x: 0.9**x, scale_mode="iterations"
    ),
    "SequentialLR": sequential,
    "ChainedScheduler": chained,
    "SequentialLR of SequentialLR": nested,
    "SWALR": lambda library, optimizer: library.optim.swa_utils.SWALR(optimizer, 0.05),
    "SWALR, linear": lambda library, optimizer: library.optim.swa_utils.SWALR(
        optimizer, [0.05, 0.2, 0.01], anneal_epochs=25, anneal_strategy="linear"
    ),
    "SWALR at once": lambda library, optimizer: library.optim.swa_utils.SWALR(optimizer, 0.05, anneal_epochs=0),
}  # fmt: skip
CLOSED = [name for name in SCHEDULES if not name.startswith(("Sequential", "Chained", "SWALR", "MultiplicativeLR"))]


def optimizer(library, kind="SGD"):
    options = {"momentum": 0.9} if kind == "SGD" else {}
    groups = [{"params": [library.zeros(2, requires_grad=True)], "lr": lr} for lr in RATES]
    return getattr(library.optim, kind)(groups, **options)


def values(optimizer):
    """What a schedule may have written into the groups."""
    return [
        [group["lr"], group["betas"][0] if "betas" in group else group["momentum"]] for group in optimizer.param_groups
    ]


def followed(schedule, optimizer, steps=STEPS, first=()):
    """Rates and momenta at the beginning and after each step; `get_last_lr` tells the rates."""
    seen = [*first, values(optimizer)]
    for _ in range(steps):
        schedule.step()
        seen.append(values(optimizer))
        assert schedule.get_last_lr() == [lr for lr, _ in seen[-1]]
    return np.array(seen)


def assert_same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_sixty_steps(name, kind):
    ours, theirs = (
        followed(SCHEDULES[name](library, each), each) for library in (pg, torch) for each in [optimizer(library, kind)]
    )
    assert_same(ours, theirs)
    assert (ours[:, 0, 0] != RATES[0]).any()  # it has moved


def test_every_schedule_is_compared():
    compared = {name.split(",")[0].split(" ")[0] for name in SCHEDULES}
    assert compared | {"LRScheduler", "ReduceLROnPlateau"} == set(pg.optim.lr_scheduler.__all__) | {"SWALR"}
    assert set(torch.optim.lr_scheduler.__all__) == set(pg.optim.lr_scheduler.__all__)


@pytest.mark.parametrize("name", CLOSED)
def test_a_step_to_an_epoch(name):
    seen = []
    for library in (pg, torch):
        each = optimizer(library)
        schedule = SCHEDULES[name](library, each)
        seen.append([])
        for epoch in (3, 0, 17, 17, 40, 8):
            schedule.step(epoch)
            seen[-1].append(values(each))
            assert schedule.last_epoch == epoch
        seen[-1] += list(followed(schedule, each, 3))
    assert_same(*seen)


def test_warm_restarts_take_parts_of_epochs():
    seen = []
    for library in (pg, torch):
        each = optimizer(library)
        schedule = SCHEDULES["CosineAnnealingWarmRestarts, longer"](library, each)
        seen.append([])
        for step in range(100):
            schedule.step(step / 7)
            seen[-1].append(values(each))
    assert_same(*seen)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if "Chained" not in name])
def test_a_rate_that_someone_else_wrote_counts_as_in_torch(name):
    seen = []
    for library in (pg, torch):
        each = optimizer(library)
        schedule = SCHEDULES[name](library, each)
        first = followed(schedule, each, 12)
        each.param_groups[0]["lr"] = 0.77
        seen.append(followed(schedule, each, 20, first))
    assert_same(*seen)


@pytest.mark.parametrize("way", ["pargrad's", "torch's"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_from_a_state_dict(name, way):
    each = optimizer(pg)
    unbroken = followed(SCHEDULES[name](pg, each), each)
    library = pg if way == "pargrad's" else torch
    before = optimizer(library)
    schedule = SCHEDULES[name](library, before)
    followed(schedule, before, 13)
    state, groups = copy.deepcopy(schedule.state_dict()), before.state_dict()
    after = optimizer(pg)
    again = SCHEDULES[name](pg, after)
    after.load_state_dict(groups)
    again.load_state_dict(state)
    assert not any(key == "optimizer" or callable(value) for key, value in state.items())
    assert_same(followed(again, after, STEPS - 13), unbroken[13:])
    assert not any(p is q for p in after.param_groups for q in before.param_groups)


@pytest.mark.parametrize(
    "name", [name for name in CLOSED if "Constant" not in name and "Cyclic" not in name and "Restarts" not in name]
)
def test_a_schedule_goes_on_from_a_last_epoch(name):
    seen = []
    for library in (pg, torch):
        each = optimizer(library)
        followed(SCHEDULES[name](library, each), each, 12)
        with pytest.raises(KeyError, match="initial_lr"):
            SCHEDULES[name](library, optimizer(library), last_epoch=12)
        schedule = SCHEDULES[name](library, each, last_epoch=12)
        seen.append(followed(schedule, each, 20))
    assert_same(*seen)


METRICS = [
    1.0,
    0.9,
    0.95,
    0.9,
    0.9 - 1e-6,
    0.91,
    0.93,
    0.5,
    *[0.6] * 9,
    0.4,
    math.nan,
    0.45,
    *[0.41] * 20,
    -1.0,
    *[0.0] * 20,
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2, "factor": 0.5},
        {"patience": 0, "cooldown": 3},
        {"mode": "max", "patience": 4, "threshold": 0.05},
        {"threshold_mode": "abs", "threshold": 0.1, "patience": 1},
        {"mode": "max", "threshold_mode": "abs", "threshold": 0.1, "patience": 1},
        {"patience": 1, "min_lr": 0.02},
        {"patience": 1, "min_lr": [0.02, 0.001, 0.5], "eps": 0.01},
    ],
    ids=str,
)
def test_reduce_on_plateau(options):
    seen = []
    for library in (pg, torch):
        each = optimizer(library)
        schedule = library.optim.lr_scheduler.ReduceLROnPlateau(each, **options)
        seen.append([])
        for i, metric in enumerate(METRICS):
            schedule.step(library.tensor(metric, dtype=library.float64) if i % 2 else metric)
            seen[-1].append(
                [*schedule.get_last_lr(), schedule.num_bad_epochs, schedule.cooldown_counter, schedule.best]
            )
            if i == 20:  # taken up again
                state = schedule.state_dict()
                schedule = library.optim.lr_scheduler.ReduceLROnPlateau(each)
                schedule.load_state_dict(state)
        assert schedule.last_epoch == len(METRICS)
    assert_same(*seen)
    assert len(np.unique(np.array(seen[0])[:, 0])) > 1


def test_a_state_dict_without_functions_is_plain():
    each = optimizer(pg)
    for name, make in SCHEDULES.items():
        if "Multi" not in name and "Lambda" not in name:
            json.dumps(make(pg, each).state_dict())


def taken(schedule, steps):
    for _ in range(steps):
        schedule.step()


SGD = optimizer(pg)
schedules = pg.optim.lr_scheduler
REFUSED = {
    "no optimizer": (lambda: schedules.StepLR([0.1], 3), TypeError, "expected an optimizer, got list"),
    "two functions": (lambda: schedules.LambdaLR(SGD, [abs, abs]), ValueError, "3 parameter groups, got 2"),
    "no function": (lambda: schedules.LambdaLR(SGD, 0.1), TypeError, "expected functions, got float"),
    "step_size": (lambda: schedules.StepLR(SGD, 0), ValueError, "step_size greater than 0, got 0"),
    "T_max": (lambda: schedules.CosineAnnealingLR(SGD, 0), ValueError, "T_max greater than 0, got 0"),
    "step_size_up": (lambda: schedules.CyclicLR(SGD, 0.1, 1.0, 0), ValueError, "step_size_up greater than 0, got 0"),
    "div_factor": (
        lambda: schedules.OneCycleLR(SGD, 0.1, 9, div_factor=0), ValueError, "div_factor greater than 0, got 0",
    ),
    "factor": (lambda: schedules.ConstantLR(SGD, 1.5), ValueError, r"factor in \(0, 1\], got 1\.5"),
    "no factor": (
        lambda: schedules.ConstantLR(SGD, 0.0), ValueError, r"got 0\.0: .* write LambdaLR.*float\(epoch >= 5\)",
    ),
    "start_factor": (lambda: schedules.LinearLR(SGD, 0.0), ValueError, r"start_factor in \(0, 1\], got 0\.0"),
    "end_factor": (lambda: schedules.LinearLR(SGD, 0.1, -1.0), ValueError, r"end_factor in \[0, 1\], got -1\.0"),
    "T_0": (lambda: schedules.CosineAnnealingWarmRestarts(SGD, 0), ValueError, "T_0 of at least 1, got 0"),
    "an epoch below 0": (
        lambda: schedules.CosineAnnealingWarmRestarts(SGD, 3).step(-1), ValueError, "at least 0, got -1",
    ),
    "mode": (lambda: schedules.CyclicLR(SGD, 0.1, 1.0, mode="square"), ValueError, "got 'square'"),
    "no total": (lambda: schedules.OneCycleLR(SGD, 0.1, epochs=3), ValueError, "total_steps, or epochs and"),
    "total": (lambda: schedules.OneCycleLR(SGD, 0.1, 0), ValueError, "at least one step, got 0"),
    "pct_start": (lambda: schedules.OneCycleLR(SGD, 0.1, 9, pct_start=2.0), ValueError, r"in \[0, 1\], got 2"),
    "strategy": (lambda: schedules.OneCycleLR(SGD, 0.1, 9, anneal_strategy="x"), ValueError, "'linear', got 'x'"),
    "no momentum": (
        lambda: schedules.OneCycleLR(optimizer(pg, "Adagrad"), 0.1, 9), ValueError, "Adagrad has no momentum",
    ),
    "after the end": (
        lambda: taken(schedules.OneCycleLR(optimizer(pg), 0.1, 9), 11), ValueError, "step 10 is after the last of 9",
    ),
    "milestones": (
        lambda: schedules.SequentialLR(SGD, [schedules.StepLR(SGD, 3)], [4]), ValueError, "expected 0 milestones",
    ),
    "another optimizer's": (
        lambda: schedules.ChainedScheduler([schedules.StepLR(SGD, 3), schedules.StepLR(optimizer(pg), 3)]),
        ValueError, "schedule 1 is of another optimizer",
    ),
    "a metric's": (
        lambda: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(SGD)]), ValueError, "needs a metric",
    ),
    "none": (lambda: schedules.ChainedScheduler([]), ValueError, "at least one schedule"),
    "no schedule": (lambda: schedules.SequentialLR(SGD, [3], []), TypeError, "schedule 0 is a int"),
    "plateau factor": (lambda: schedules.ReduceLROnPlateau(SGD, factor=1.0), ValueError, "factor below 1"),
    "plateau mode": (lambda: schedules.ReduceLROnPlateau(SGD, "least"), ValueError, "got 'least'"),
    "plateau threshold": (
        lambda: schedules.ReduceLROnPlateau(SGD, threshold_mode="x"), ValueError, "'rel' or 'abs', got 'x'",
    ),
    "swa strategy": (lambda: pg.optim.swa_utils.SWALR(SGD, 0.1, anneal_strategy="x"), ValueError, "got 'x'"),
    "swa epochs": (lambda: pg.optim.swa_utils.SWALR(SGD, 0.1, -1), ValueError, "at least 0, got -1"),
    "decay": (lambda: pg.optim.swa_utils.get_ema_multi_avg_fn(1.5), ValueError, r"decay in \[0, 1\], got 1\.5"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "told"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(make, error, told):
    with pytest.raises(error, match=told):
        make()


def test_a_schedule_of_ones_own():
    """A subclass written for torch: it reads base_lrs, last_epoch and the optimizer's groups."""
    seen = []
    for library in (pg, torch):

        class InverseRoot(library.optim.lr_scheduler._LRScheduler):
            def __init__(self, optimizer, warmup, last_epoch=-1):
                self.warmup = warmup
                super().__init__(optimizer, last_epoch)

            def get_lr(self):
                if not self._get_lr_called_within_step:
                    raise AssertionError
                step = self.last_epoch + 1
                return [base * min(step**-0.5, step * self.warmup**-1.5) for base in self.base_lrs]

        each = optimizer(library)
        seen.append(followed(InverseRoot(each, 10), each))
    assert_same(*seen)


# ----- averages of models -----


def model_of(library):
    library.manual_seed(0)
    layers = library.nn.Linear(3, 4), library.nn.BatchNorm1d(4), library.nn.Linear(4, 2)
    return library.nn.Sequential(*layers).double()


AVERAGES = {
    "mean": lambda utils: {},
    "mean, as a function": lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    "mean of one": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "exponential": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.9)},
    "exponential, forgetful": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.3)},
    "exponential of one": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.9)},
    "with buffers": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.9), "use_buffers": True},
    "mean with buffers": lambda utils: {"avg_fn": utils.get_swa_avg_fn(), "use_buffers": True},
    "one's own": lambda utils: {"avg_fn": lambda average, value, count: 0.25 * average + 0.75 * value},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averaged_model(name):
    states, outputs, models = [], [], []
    for library in (pg, torch):
        model = model_of(library)
        average = library.optim.swa_utils.AveragedModel(model, **AVERAGES[name](library.optim.swa_utils))
        sgd = library.optim.SGD(model.parameters(), lr=0.01)
        x = np.random.default_rng(0).normal(size=(8, 3))
        for step in range(6):
            sgd.zero_grad()
            (model(library.tensor(x * (1 + step))) ** 2).sum().backward()
            sgd.step()
            average.update_parameters(model)
        library.optim.swa_utils.update_bn([library.tensor(x), [library.tensor(x[:3] * 2), None]], average)
        states.append({key: np.array(value.tolist()) for key, value in average.state_dict().items()})
        average.eval()
        outputs.append(average(library.tensor(x)).detach().numpy())
        models.append((model, average))
    assert list(states[0]) == list(states[1])
    rounding = 1e-7 if name == "mean, as a function" else 1e-9  # torch's weight is then a float32
    for key in states[0]:
        np.testing.assert_allclose(states[0][key], states[1][key], rtol=rounding, atol=rounding / 10)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=rounding, atol=rounding / 10)
    model, average = models[0]
    assert average.n_averaged.item() == 6
    assert average.module[1].momentum == 0.1
    assert not np.allclose(average.module[0].weight.detach().numpy(), model[0].weight.detach().numpy())


def test_one_kind_of_average_only():
    with pytest.raises(ValueError, match="avg_fn or multi_avg_fn, got both"):
        pg.optim.swa_utils.AveragedModel(pg.nn.Linear(1, 1), avg_fn=max, multi_avg_fn=max)
