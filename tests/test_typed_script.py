"""What a user writes, under mypy's strict rules: pyproject.toml has mypy check this file, and here it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.metrics import Accuracy
from pargrad.parallel import Callback, EarlyStopping, Trainer
from pargrad.sklearn import PargradClassifier
from pargrad.utils.data import DataLoader, TensorDataset

X = np.random.default_rng(0).standard_normal((100, 20), dtype=np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(20, 32)
        self.norm = nn.BatchNorm1d(32)
        self.last = nn.Linear(32, 2)

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        scores: pg.Tensor = self.last(F.relu(self.norm(self.first(x))))
        return scores


class Keep(Callback):
    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def on_fit_end(self, trainer: Trainer) -> None:
        self.last = trainer.history[-1]


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    pg.manual_seed(0)
    model = Net()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    losses: list[float] = []
    for _ in range(10):
        for x, y in DataLoader(TensorDataset(pg.tensor(X), pg.tensor(Y)), batch_size=50, shuffle=True):
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
    assert losses[-1] < losses[0]
    pg.save(model.state_dict(), str(tmp_path / "model.safetensors"))
    model.load_state_dict(pg.load(str(tmp_path / "model.safetensors")))
    with pg.no_grad():
        probabilities = F.softmax(model(pg.tensor(X)), dim=1)
    labels: np.ndarray[Any, Any] = probabilities.argmax(1).numpy()
    assert labels.shape == Y.shape


def test_the_engine() -> None:
    x = pg.randn(3, 4, requires_grad=True)
    y = pg.stack([pg.exp(x), x * 2 + 1]).mean(0).reshape(-1, 4) @ pg.ones(4, 1)
    (gradient,) = pg.autograd.grad(y.sum() + pg.linalg.norm(x), [x])
    shape: tuple[int, ...] = gradient.shape
    assert shape == (3, 4)


def test_arguments_that_do_not_exist_are_seen_by_the_checker_too() -> None:
    """pyproject.toml has mypy say so where an ignored line is none that it refuses."""
    with pytest.raises(TypeError, match="hidden"):
        nn.LSTM(20, hidden=8)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="average"):
        F.mse_loss(pg.ones(2), pg.ones(2), average=True)  # type: ignore[call-arg]


def test_the_trainer_and_an_estimator() -> None:
    net = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2))
    keep = Keep()
    with Trainer(
        net, F.cross_entropy, optim.AdamW(net.parameters(), lr=1e-2), batch_size=32, num_workers=0, progress="off",
        metrics=("f1", Accuracy()), callbacks=(keep, EarlyStopping(patience=2)),
    ) as trainer:  # fmt: skip
        history = trainer.fit((X, Y), epochs=2, validation=(X, Y))
        accuracy: float = trainer.evaluate((X, Y))["accuracy"]
        assert trainer.predict(X).shape == (100, 2)
    assert keep.last == history[-1]
    assert net.score((X, Y)) == accuracy
    classifier = PargradClassifier(max_iter=20).fit(X, Y)
    assert classifier.score(X, Y) > 0.5
