"""scikit-learn: its own checks of the estimators, what they share with the Trainer, and metrics beside its own."""

import pickle
from unittest import SkipTest

import numpy as np
import pytest
from sklearn import datasets
from sklearn import metrics as reference
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pargrad import nn
from pargrad.metrics import AVERAGES, make_metric, over
from pargrad.sklearn import ACTIVATIONS, PargradClassifier, PargradRegressor
from tests.test_imports import loaded_by


def quick(kind, **options):
    return kind(**{"max_iter": 25, "learning_rate": 1e-2, "shards": 1, "random_state": 0, **options})


@parametrize_with_checks([quick(PargradClassifier), quick(PargradRegressor)])
def test_scikit_learn_finds_an_estimator(estimator, check):
    try:
        check(estimator)
        reason = None
    except SkipTest as skipped:  # two of them are about what is not installed, or not turned on
        reason = str(skipped)
    assert reason is None or "pandas" in reason or "SCIPY_ARRAY_API" in reason


# ----- metrics beside scikit-learn's -----


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("average", [average for average in AVERAGES if average != "auto"])
def test_shares_are_scikit_learns(classes, average):
    generator = np.random.default_rng(classes)
    output = generator.standard_normal((300, classes))
    target = generator.integers(0, max(2, classes - 1), 300)  # one class may be missing
    if average == "binary" and classes > 2:
        average, target, output = "macro", target, output
    for name in ("precision", "recall", "f1"):
        theirs = getattr(reference, f"{name}_score")(
            target,
            output.argmax(1),
            average=None if average == "per_class" else average,
            zero_division=0,
            **({"labels": range(classes)} if average == "per_class" else {}),
        )
        np.testing.assert_allclose(over(make_metric(f"{name}_{average}"), output, target), theirs, rtol=1e-12)
    if classes == 2:
        assert over(make_metric("f1"), output, target) == reference.f1_score(target, output.argmax(1))


def test_other_metrics_are_scikit_learns():
    generator = np.random.default_rng(0)
    output, target = generator.standard_normal((300, 7)), generator.integers(0, 7, 300)
    guess = output.argmax(1)
    assert over(make_metric("accuracy"), output, target) == reference.accuracy_score(target, guess)
    assert over(make_metric("top3"), output, target) == reference.top_k_accuracy_score(target, output, k=3)
    matrix = reference.confusion_matrix(target, guess)
    np.testing.assert_array_equal(over(make_metric("confusion_matrix"), output, target), matrix)
    assert over(make_metric("recall_macro"), output, target) == pytest.approx(
        reference.balanced_accuracy_score(target, guess), rel=1e-12
    )
    y = generator.standard_normal((300, 4)) * [1, 2, 3, 4] + 1000
    guess = y + generator.standard_normal((300, 4))
    for name in ("mean_absolute_error", "mean_squared_error"):
        assert over(make_metric(name), guess, y) == pytest.approx(getattr(reference, name)(y, guess), rel=1e-12)
    assert over(make_metric("r2"), guess, y) == pytest.approx(reference.r2_score(y, guess), rel=1e-9)


# ----- the estimators -----


def digits():
    x, y = datasets.load_digits(return_X_y=True)
    return x[:600] / 16, y[:600]


def test_a_classifier_learns_labels_of_any_kind():
    x, y = digits()
    names = np.array([f"digit {i}" for i in range(10)])[y]
    classifier = quick(PargradClassifier).fit(x[:500], names[:500])
    assert classifier.score(x[500:], names[500:]) > 0.8
    assert classifier.predict_proba(x[:7]).sum(1) == pytest.approx(1)
    assert list(classifier.classes_) == sorted(set(names)) and classifier.predict(x[:1])[0] in names
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(x), classifier.predict_proba(x))


def test_a_regressor_learns_several_columns():
    x, y = datasets.make_regression(300, 6, n_targets=3, random_state=0)
    y = y / y.std(0)
    regressor = quick(PargradRegressor, max_iter=100).fit(x, y)
    assert regressor.predict(x).shape == (300, 3) and regressor.score(x, y) > 0.95
    assert quick(PargradRegressor).fit(x, y[:, 0]).predict(x).shape == (300,)


def test_it_fits_into_pipelines_and_searches():
    x, y = digits()
    pipeline = make_pipeline(StandardScaler(), quick(PargradClassifier, max_iter=5))
    assert cross_val_score(pipeline, x, y, cv=3).min() > 0.7
    search = GridSearchCV(quick(PargradClassifier, max_iter=3), {"learning_rate": [1e-5, 1e-2]}, cv=2).fit(x, y)
    assert search.best_params_ == {"learning_rate": 1e-2}


def weights(estimator):
    return [tensor.numpy().tobytes() for tensor in estimator.model_.state_dict().values()]


def test_workers_do_not_change_a_bit(cluster):
    x, y = digits()
    results = [weights(quick(PargradClassifier, max_iter=2, shards=4, num_workers=n).fit(x, y)) for n in (0, 1, 2)]
    assert results[0] == results[1] == results[2]


def test_partial_fits_are_the_epochs_of_a_fit():
    x, y = digits()
    whole = quick(PargradClassifier, max_iter=3).fit(x, y)
    parts = quick(PargradClassifier)
    for _ in range(3):
        parts.partial_fit(x, y, classes=range(10))
    assert weights(parts) == weights(whole) and parts.n_iter_ == whole.n_iter_ == 3
    assert parts.loss_curve_ == whole.loss_curve_ and parts.loss_ == parts.loss_curve_[2]


def test_a_weight_is_a_repetition():
    x, y = digits()
    weight = np.arange(len(x)) % 3
    whole = {"max_iter": 5, "batch_size": 2000}
    weighted = quick(PargradClassifier, **whole).fit(x, y, sample_weight=weight)
    repeated = quick(PargradClassifier, **whole).fit(x.repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-6)
    plain = quick(PargradClassifier, **whole).fit(x, y)
    assert not np.allclose(weighted.predict_proba(x), plain.predict_proba(x), rtol=1e-2)


def test_early_stopping_takes_the_best():
    x, y = digits()
    options = {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 200, "validation_fraction": 0.3}
    classifier = quick(PargradClassifier, learning_rate=0.1, **options).fit(x, y)
    losses = [entry["validation_loss"] for entry in classifier.history_]
    assert classifier.n_iter_ == len(losses) == losses.index(min(losses)) + 3 < 200


def test_a_module_of_ones_own_in_the_dtype_of_the_data():
    def wide(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 5), nn.Dropout(0.1), nn.LayerNorm(5), nn.Linear(5, outputs))

    x, y = digits()
    classifier = clone(quick(PargradClassifier, module=wide)).fit(x.astype(np.float32), y)
    assert [p.dtype.name for p in classifier.model_.parameters()] == ["float32"] * 6
    assert classifier.predict_proba(x).dtype == np.float32
    assert {p.dtype.name for p in quick(PargradClassifier).fit(x, y).model_.parameters()} == {"float64"}


def test_every_activation_is_there():
    x, y = digits()
    for activation in ACTIVATIONS:
        assert quick(PargradClassifier, max_iter=1, activation=activation).fit(x, y).n_iter_ == 1


def test_the_global_generator_is_left_alone():
    import pargrad as pg

    x, y = digits()
    before = pg.get_rng_state().numpy().tobytes()
    quick(PargradClassifier, max_iter=1).fit(x, y)
    assert pg.get_rng_state().numpy().tobytes() == before


X, Y = np.eye(4), np.array([0, 1, 0, 1])
WRONG = {
    "activation": (lambda: PargradClassifier(activation="rulu").fit(X, Y), ["'relu'", "got 'rulu'"]),
    "max_iter": (lambda: PargradClassifier(max_iter=0).fit(X, Y), ["max_iter", "at least 1", "got 0"]),
    "sizes": (lambda: PargradClassifier(hidden_layer_sizes=(0,)).fit(X, Y), ["such as (100,)", "got (0,)"]),
    "fraction": (lambda: PargradClassifier(validation_fraction=1).fit(X, Y), ["between 0 and 1"]),
    "no module": (lambda: PargradClassifier(module=lambda i, o: None).fit(X, Y), ["gave NoneType", "nn.Module"]),
    "no classes": (lambda: PargradClassifier().partial_fit(X, Y), ["classes=numpy.unique(y)"]),
    "new class": (
        lambda: quick(PargradClassifier).partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y + 1),
        ["label", "2", "is not among the classes"],
    ),
    "other classes": (
        lambda: quick(PargradClassifier).partial_fit(X, Y, classes=[0, 1]).partial_fit(X, Y, classes=[0, 2]),
        ["is not that of the first"],
    ),
    "weights": (lambda: PargradClassifier().fit(X, Y, sample_weight=np.zeros(4)), ["zero"]),
    "shards": (lambda: PargradClassifier(shards=3).fit(X, Y), ["power of two"]),
}


@pytest.mark.parametrize(("act", "pieces"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_explained(act, pieces):
    with pytest.raises((ValueError, TypeError)) as error:
        act()
    for piece in pieces:
        assert piece in str(error.value).lower() or piece in str(error.value)


def test_only_those_who_use_it_need_scikit_learn():
    assert "sklearn" not in loaded_by("import pargrad, pargrad.parallel, pargrad.metrics")
    assert "sklearn" in loaded_by("import pargrad.sklearn")
