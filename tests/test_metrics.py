"""Metrics: what they are, that any split gives the same, and that every pool does."""

import functools
import inspect
import math

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import metrics, nn, optim
from pargrad.metrics import METRICS, Metric, make_metric, over
from pargrad.parallel import Trainer
from tests.checks import check_explained
from tests.training import CLASSES, examples, make_trainer, mlp

CLASS_METRICS = [name for name in METRICS if name not in ("mean_absolute_error", "mean_squared_error", "r2")]


def outputs_for(name, count=101, seed=0):
    """Outputs and targets that a metric of the table takes, of examples that are uneven among the classes."""
    generator = np.random.default_rng(seed)
    if name not in CLASS_METRICS:
        target = generator.standard_normal((count, 3)) * [1, 10, 100] + 1000
        return (target + generator.standard_normal((count, 3))).astype(np.float32), target.astype(np.float32)
    classes = 2 if name.endswith("binary") else 7
    target = np.minimum(generator.integers(0, 2 * classes, count), classes - 1)
    output = generator.standard_normal((count, classes), dtype=np.float32)
    output[np.arange(count), target] += 1
    return output, target


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("cuts", [(1,), (50,), (3, 4, 90), tuple(range(1, 101))])
def test_any_split_gives_the_same(name, cuts):
    output, target = outputs_for(name)
    metric = make_metric(name)
    assert metric.name == name
    states = [metric.state(*pair) for pair in zip(np.split(output, cuts), np.split(target, cuts))]
    whole = metric.state(output, target)
    merged = functools.reduce(metric.merge, states)
    assert [np.shape(part) for part in merged] == [np.shape(part) for part in whole]
    if name in CLASS_METRICS:  # integers: to the bit
        assert all(np.asarray(part).dtype == np.int64 for part in whole)
        np.testing.assert_array_equal(metric.result(*merged), metric.result(*whole))
    else:
        assert metric.result(*merged) == pytest.approx(metric.result(*whole), rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_tells_good_outputs_from_bad_ones(name):
    output, target = outputs_for(name)
    good = np.eye(output.shape[1])[target] if name in CLASS_METRICS else target
    there, better = over(make_metric(name), output, target), over(make_metric(name), good, target)
    if name == "confusion_matrix":
        assert there.sum() == better.trace() == len(target) > there.trace()
    else:
        perfect = 0.0 if name.endswith("error") else 1.0
        assert np.all(better == perfect) and not np.all(there == perfect)


def test_classes_by_their_formulas():
    output = np.array([[3, 1, 2], [1, 3, 2], [1, 2, 3], [3, 2, 1], [2, 3, 1]], np.float32)  # 0 1 2 0 1
    target = np.array([0, 1, 1, 2, -100])
    assert over(make_metric("accuracy"), output, target) == 2 / 4
    assert over(make_metric("top2"), output, target) == 3 / 4
    np.testing.assert_array_equal(
        over(make_metric("confusion_matrix"), output, target), [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
    )
    np.testing.assert_array_equal(over(make_metric("precision_per_class"), output, target), [1 / 2, 1, 0])
    np.testing.assert_array_equal(over(make_metric("recall_per_class"), output, target), [1, 1 / 2, 0])
    np.testing.assert_allclose(over(make_metric("f1_per_class"), output, target), [2 / 3, 2 / 3, 0])
    assert over(make_metric("f1"), output, target) == pytest.approx(4 / 9)
    assert over(make_metric("f1_micro"), output, target) == 1 / 2
    assert over(make_metric("recall_weighted"), output, target) == pytest.approx((1 + 2 / 2 + 0) / 4)


def test_numbers_by_their_formulas():
    output, target = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [2.0]])
    assert over(make_metric("mean_absolute_error"), output, target) == 1.0
    assert over(make_metric("mean_squared_error"), output, target) == pytest.approx(5 / 3)
    assert over(make_metric("r2"), output, target) == pytest.approx(1 - 5 / 2)
    assert math.isnan(over(make_metric("r2"), output[:1], target[:1]))
    constant = np.ones((3, 1))
    assert over(make_metric("r2"), constant, constant) == 1.0
    assert over(make_metric("r2"), output, constant) == 0.0


def test_the_variance_of_large_targets_does_not_cancel():
    generator = np.random.default_rng(0)
    target = generator.standard_normal((512, 1)) + 1e8
    output = target + 0.1 * generator.standard_normal((512, 1))
    metric = make_metric("r2")
    merged = functools.reduce(
        metric.merge, [metric.state(output[i : i + 64], target[i : i + 64]) for i in range(0, 512, 64)]
    )
    assert metric.result(*merged) == pytest.approx(0.99, abs=0.002)


def test_one_score_an_example():
    scores, target = np.array([-1.0, 2.0, 0.5, -3.0]), np.array([0.0, 1.0, 0.0, 1.0])
    for shape in ((4,), (4, 1)):
        assert over(make_metric("accuracy"), scores.reshape(shape), target.reshape(shape)) == 0.5
        assert over(make_metric("f1"), scores.reshape(shape), target.reshape(shape)) == 0.5
    above = metrics.Precision(threshold=1.0)
    assert over(above, scores, target) == 1.0


def test_scores_of_many_places():
    generator = np.random.default_rng(0)
    output, target = generator.standard_normal((4, 3, 5)), generator.integers(0, 3, (4, 5))
    assert over(make_metric("accuracy"), output, target) == (output.argmax(1) == target).mean()


def test_of_equal_scores_the_first_counts():
    output, target = np.zeros((3, 3)), np.array([0, 1, 2])
    assert over(make_metric("accuracy"), output, target) == over(make_metric("top1"), output, target) == 1 / 3
    assert over(make_metric("top2"), output, target) == 2 / 3


WRONG = {
    "misspelt": (lambda: make_metric("acuracy"), ["'acuracy'", "did you mean 'accuracy'?", "confusion_matrix"]),
    "hyphen": (lambda: make_metric("F1-macro"), ["did you mean 'f1_macro'?"]),
    "no metric": (lambda: make_metric(3), ["expected a metric's name", "got 3"]),
    "nameless": (lambda: make_metric(Metric()), ["needs a name", "class Metric"]),
    "k": (lambda: metrics.TopK(0), ["k of at least 1", "got 0"]),
    "average": (lambda: metrics.F1("mean"), ["'macro'", "got 'mean'"]),
    "shapes": (lambda: over(make_metric("r2"), np.zeros((4, 1)), np.zeros(4)), ["[4, 1]", "[4]", "reshape(-1, 1)"]),
    "no classes": (lambda: over(make_metric("f1"), np.zeros((4, 2)), np.zeros((4, 2))), ["f1 needs class scores"]),
    "label": (lambda: over(make_metric("f1"), np.zeros((4, 2)), np.array([0, 1, 2, 1])), ["class 2", "0 to 1"]),
    "not binary": (
        lambda: over(make_metric("f1_binary"), np.zeros((1, 3)), np.zeros(1, int)),
        ["of two classes", "3", "'f1_macro'"],
    ),
}


@pytest.mark.parametrize(("act", "pieces"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(act, pieces):
    check_explained(act, pieces)


def test_every_metric_is_in_the_table():
    kinds = {type(make()) for make in METRICS.values()}
    final = {
        kind
        for kind in vars(metrics).values()
        if inspect.isclass(kind) and issubclass(kind, Metric) and "Abstract" not in (kind.__doc__ or "")
    }
    assert kinds == final


# ----- in the trainer -----


class Margin(Metric):
    """How far the score of the class is above the mean score, on average: a user's own metric."""

    name = "margin"

    def state(self, output, target):
        own = output[np.arange(len(target)), target].astype(np.float64)
        return (own - output.mean(1, dtype=np.float64)).sum(), np.int64(len(target))

    def result(self, total, count):
        return float(total / count)


SOME = ("f1", "top2", "confusion_matrix", "recall_per_class", Margin())


def test_every_pool_gives_the_same_bits(cluster):
    data, test = examples(600), examples(1300, seed=1)
    results = []
    for num_workers in (0, 1, 3):
        with make_trainer("mlp-adamw", num_workers, metrics=SOME) as trainer:
            trainer.wait_for_workers()
            (entry,) = trainer.fit(data, epochs=1, validation=test)
            results.append((trainer.evaluate(test), trainer.score(test, "margin"), trainer.score(test, "f1_weighted")))
            output = trainer.predict(test)
    assert all(repr(each) == repr(results[0]) for each in results[1:])
    figures = results[0][0]
    assert list(figures) == [
        "loss",
        "accuracy",
        "f1",
        "top2",
        "confusion_matrix",
        "recall_per_class",
        "margin",
        "count",
    ]
    for metric in map(make_metric, SOME):
        np.testing.assert_allclose(figures[metric.name], over(metric, output, test[1]), rtol=1e-12)
        assert entry[f"validation_{metric.name}"] == np.asarray(figures[metric.name]).tolist()
    assert results[0][1] == figures["margin"]


def test_without_metrics_there_is_accuracy_where_it_has_a_meaning():
    x, y = examples(100)
    with make_trainer("mlp-adamw", 0) as trainer:
        assert list(trainer.evaluate((x, y))) == ["loss", "accuracy", "count"]
    model = nn.Linear(12, 1)
    with Trainer(model, F.mse_loss, None, batch_size=8, num_workers=0, progress="off") as trainer:
        data = x, y.reshape(-1, 1).astype(np.float32)
        assert list(trainer.evaluate(data)) == ["loss", "count"]
        assert trainer.score(data, "r2") == over(make_metric("r2"), trainer.predict(data), data[1])
        with pytest.raises(ValueError, match="accuracy: class 2 is out of range"):
            trainer.score(data)
    # A loss whose integer targets are no class indices has no accuracy either.
    with Trainer(model, lambda o, t: (o[:, 0] - t) ** 2, None, batch_size=8, num_workers=0, progress="off") as trainer:
        assert list(trainer.evaluate((x, y))) == ["loss", "count"]


def test_a_model_is_scored_by_any_metric():
    data, model = examples(100), mlp()
    output = pg.no_grad()(lambda: model(pg.tensor(data[0])))().numpy()
    for metric in ("accuracy", "loss", "f1_macro", "top3", Margin()):
        value = model.score(data, metric, num_workers=0, progress="off")
        assert type(value) is float
        if metric != "loss":
            assert value == pytest.approx(over(make_metric(metric), output, data[1]))


def trainer_with(**options):
    model = mlp()
    return Trainer(
        model, F.cross_entropy, optim.AdamW(model.parameters()), batch_size=8, num_workers=0, progress="off", **options
    )


def hidden(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), len(batch[1])


WRONG_USE = {
    "unknown": (lambda: trainer_with(metrics=("acuracy",)), ["did you mean 'accuracy'?"]),
    "unknown score": (lambda: trainer_with().score(examples(9), "los"), ["did you mean 'loss'?"]),
    "unknown model score": (lambda: mlp().score(examples(9), "acc", num_workers=0), ["'acc'", "accuracy"]),
    "not a tuple": (lambda: trainer_with(metrics="f1"), ["metrics=('f1',)"]),
    "twice": (lambda: trainer_with(metrics=("f1", "f1")), ["two metrics named 'f1'"]),
    "new to the workers": (lambda: trainer_with().score(examples(9), Margin()), ["metrics=(margin,)", "'margin'"]),
    "no single score": (
        lambda: trainer_with().score(examples(9), "confusion_matrix"),
        [f"shape ({CLASSES}, {CLASSES})", "evaluate(data)['confusion_matrix']"],
    ),
}


@pytest.mark.parametrize(("act", "pieces"), WRONG_USE.values(), ids=WRONG_USE)
def test_wrong_use_is_explained(act, pieces):
    check_explained(act, pieces)


def test_a_step_of_ones_own_hides_what_metrics_need():
    model = mlp()
    with Trainer(
        model, None, None, step=hidden, batch_size=8, num_workers=0, progress="off", metrics=("f1",)
    ) as trainer:
        with pytest.raises(ValueError, match="f1 needs the model's outputs, which step= does not give"):
            trainer.evaluate(examples(9))
        assert trainer.score(examples(9), "loss") > 0
