"""scikit-learn estimators over the Trainer: networks that fit into its pipelines, searches and model selection.

    from pargrad.sklearn import PargradClassifier
    PargradClassifier(hidden_layer_sizes=(64,), random_state=0).fit(X, y).predict(X)

Needs scikit-learn, which nothing else of pargrad does: `pip install "pargrad[sklearn]"`.
https://scikit-learn.org/stable/developers/develop.html
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
except ImportError as error:
    raise ImportError('pargrad.sklearn needs scikit-learn: pip install "pargrad[sklearn]"') from error
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import EarlyStopping, Trainer
from pargrad.random import Generator, using
from pargrad.tensor import Tensor

__all__ = ["PargradClassifier", "PargradRegressor"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
DTYPES = [np.float64, np.float32]


class WeightedLoss:
    """A step of the Trainer, (sum, divisor) of a batch: losses times the examples' weights, and the sum of weights."""

    def __init__(self, loss: Callable[..., Tensor]):
        self.loss = loss

    def __call__(self, model: Any, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        x, y, weight = batch
        losses = self.loss(model(x), y, reduction="none")
        if losses.ndim > 1:
            losses = losses.mean(1)
        return (losses * weight).sum(), weight.sum()


class PargradEstimator(BaseEstimator):
    """What classifier and regressor share. Abstract: they say what targets are, and how outputs are read.

    hidden_layer_sizes, activation ("relu", "tanh", "logistic", "identity", "gelu", "silu"): of the network, unless
    module(n_features, n_outputs) gives another one. Trained with AdamW in the dtype of X, float32 or else float64.
    learning_rate, weight_decay, batch_size (at most all examples), max_iter (epochs): as the Trainer's.
    early_stopping: keeps validation_fraction of the examples aside, stops when their loss has not been lower for
    n_iter_no_change epochs, and takes the weights with the lowest; without it, stops when the training loss has not
    become lower by tol for as long.
    num_workers: Ray actors for fit; 0: this process. The result has the same bits for every number of them, given
    random_state and shards. Predictions are made in this process.

    sample_weight multiplies an example's loss, and batches are divided by the sum of their weights. Examples of weight
    0 are left out.

    After fit: model_ (a pargrad Module), n_iter_ (epochs), loss_ and loss_curve_ (training loss), history_ (as
    `Trainer.fit` gives it).
    """

    loss: Callable[..., Tensor]
    n_iter_: int

    def __init__(
        self,
        hidden_layer_sizes: tuple[int, ...] = (100,),
        activation: str = "relu",
        *,
        module: Callable[[int, int], nn.Module] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int = 128,
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        num_workers: Any = 0,
        shards: int = 8,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.num_workers = num_workers
        self.shards = shards
        self.random_state = random_state
        self.verbose = verbose

    # ----- what differs -----

    def encoded(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        """Targets as the loss takes them."""
        raise NotImplementedError(f"{type(self).__name__} has no encoded(y, dtype)")

    def strata(self, y: np.ndarray) -> np.ndarray | None:
        """What is kept in proportion when examples are set aside."""
        return None

    # ----- fitting -----

    def train(self, X: np.ndarray, y: np.ndarray, sample_weight: Any, *, epochs: int, stopping: bool) -> None:
        weight = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        if not weight.any():
            raise ValueError("the sample weights are all zero: expected at least one above 0")
        X, y, weight = (each[weight > 0] for each in (X, y, weight))
        target = self.encoded(y, X.dtype)
        data: Any = (X, target, weight)
        validation: Any = None
        callbacks: tuple[EarlyStopping, ...] = ()
        if stopping and self.early_stopping:
            parts = train_test_split(
                X, target, weight,
                test_size=self.validation_fraction, random_state=self.seed_, stratify=self.strata(target),
            )  # fmt: skip
            data, validation = parts[::2], parts[1::2]
            callbacks = (EarlyStopping(patience=self.n_iter_no_change, keep_best=True),)
        elif stopping:
            callbacks = (EarlyStopping("loss", patience=self.n_iter_no_change, min_delta=self.tol),)
        with Trainer(
            self.model_,
            None,
            self.optimizer_,
            step=WeightedLoss(type(self).loss),
            batch_size=min(self.batch_size, len(data[0])),
            shards=self.shards,
            num_workers=self.num_workers,
            callbacks=callbacks,
            seed=self.seed_ + self.n_iter_,  # that an epoch is shuffled as it would be in one call of fit
            progress="auto" if self.verbose else "off",
        ) as trainer:
            self.history_ += trainer.fit(data, epochs=epochs, validation=validation)
        if validation is not None:
            self.model_.load_state_dict(callbacks[0].best_state or {})
        self.n_iter_ = len(self.history_)
        self.loss_curve_ = [entry["loss"] for entry in self.history_]
        self.loss_ = self.loss_curve_[-1]

    def begin(self, dtype: Any, outputs: int) -> None:
        """A fresh network, and what belongs to it."""
        check_settings(self)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        make = self.module or self.perceptron
        with using(Generator().manual_seed(self.seed_)):
            self.model_ = make(self.n_features_in_, outputs)
        if not isinstance(self.model_, nn.Module):
            raise TypeError(
                f"module(n_features, n_outputs) gave {type(self.model_).__name__}, expected a pargrad.nn.Module"
            )
        self.model_.double() if dtype == np.float64 else self.model_.float()
        self.dtype_ = dtype
        self.optimizer_ = optim.AdamW(self.model_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        self.n_iter_ = 0
        self.history_: list[dict[str, Any]] = []

    def perceptron(self, inputs: int, outputs: int) -> nn.Module:
        sizes = [inputs, *np.atleast_1d(self.hidden_layer_sizes).astype(int).tolist()]
        layers = [
            layer
            for before, after in itertools.pairwise(sizes)
            for layer in (nn.Linear(before, after), ACTIVATIONS[self.activation]())
        ]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    # ----- predicting -----

    def outputs(self, X: Any) -> np.ndarray:
        """The network's outputs, (examples, outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=self.dtype_)
        with Trainer(self.model_, type(self).loss, None, batch_size=1, num_workers=0, progress="off") as trainer:
            return trainer.predict(X)


class PargradClassifier(ClassifierMixin, PargradEstimator):
    """A classifier, trained data-parallel with the cross-entropy; labels may be numbers or strings.

    Its parameters and attributes are those of `PargradEstimator`, and classes_, the labels in order.
    """

    loss = F.cross_entropy

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PargradClassifier:
        """Trains a fresh network on X (examples, features) and labels y (examples,)."""
        X, y = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self.begin(X.dtype, len(self.classes_))
        self.train(X, y, sample_weight, epochs=self.max_iter, stopping=True)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> PargradClassifier:
        """One more epoch, over these examples. classes: all labels there will be, in the first call."""
        first = not hasattr(self, "model_")
        X, y = validate_data(self, X, y, reset=first, dtype=DTYPES if first else self.dtype_)
        check_classification_targets(y)
        if first:
            if classes is None:
                raise ValueError("the first partial_fit needs all labels: write classes=numpy.unique(y)")
            self.classes_ = np.unique(classes)
            self.begin(X.dtype, len(self.classes_))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes={classes!r} is not that of the first partial_fit, {self.classes_!r}")
        self.train(X, y, sample_weight, epochs=1, stopping=False)
        return self

    def encoded(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"label {unknown[0]!r} is not among the classes {self.classes_!r}")
        return np.searchsorted(self.classes_, y)

    def strata(self, y: np.ndarray) -> np.ndarray | None:
        return y

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (examples, classes) in the order of classes_."""
        return F.softmax(Tensor(self.outputs(X)), 1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each example."""
        best = self.outputs(X).argmax(1)
        return self.classes_[best]


class PargradRegressor(RegressorMixin, PargradEstimator):
    """A regressor, trained data-parallel with the squared error; y may have several columns.

    Its parameters and attributes are those of `PargradEstimator`.
    """

    loss = F.mse_loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PargradRegressor:
        """Trains a fresh network on X (examples, features) and y (examples,) or (examples, outputs)."""
        X, y = validate_data(self, X, y, dtype=DTYPES, multi_output=True, y_numeric=True)
        self.single_ = y.ndim == 1
        self.begin(X.dtype, 1 if self.single_ else y.shape[1])
        self.train(X, y, sample_weight, epochs=self.max_iter, stopping=True)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> PargradRegressor:
        """One more epoch, over these examples."""
        first = not hasattr(self, "model_")
        dtype = DTYPES if first else self.dtype_
        X, y = validate_data(self, X, y, reset=first, dtype=dtype, multi_output=True, y_numeric=True)
        if first:
            self.single_ = y.ndim == 1
            self.begin(X.dtype, 1 if self.single_ else y.shape[1])
        self.train(X, y, sample_weight, epochs=1, stopping=False)
        return self

    def encoded(self, y: np.ndarray, dtype: Any) -> np.ndarray:
        return y.reshape(len(y), -1).astype(dtype)

    def predict(self, X: Any) -> np.ndarray:
        """The outputs, (examples,) or (examples, outputs) as y was."""
        outputs = self.outputs(X)
        return outputs[:, 0] if self.single_ else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def check_settings(estimator: PargradEstimator) -> None:
    """What the Trainer does not check itself, said in the estimator's words."""
    if estimator.activation not in ACTIVATIONS:
        allowed = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"expected activation to be one of {allowed}, got {estimator.activation!r}")
    for name in ("max_iter", "batch_size", "n_iter_no_change"):
        value = getattr(estimator, name)
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(f"expected {name} to be an integer of at least 1, got {value!r}")
    sizes = np.atleast_1d(estimator.hidden_layer_sizes)
    if sizes.ndim > 1 or (sizes.size and (sizes.dtype.kind not in "iu" or (sizes < 1).any())):
        raise ValueError(f"expected hidden_layer_sizes such as (100,), got {estimator.hidden_layer_sizes!r}")
    if not 0 < estimator.validation_fraction < 1:
        raise ValueError(f"expected validation_fraction between 0 and 1, got {estimator.validation_fraction!r}")
