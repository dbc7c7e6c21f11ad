"""Metrics and callbacks: F1 beside the accuracy, a callback of one's own, and a fit that ends when it has learned.

The data are two interleaved spirals, which no straight line parts.
"""

import math

import pargrad.nn.functional as F
from examples import command
from pargrad import Tensor, arange, cat, manual_seed, nn, optim, rand, randn, stack
from pargrad.parallel import Callback, EarlyStopping, LearningRateLogger, Trainer


def spirals(examples: int) -> tuple[Tensor, Tensor]:
    half = examples // 2
    radius = rand(half).sqrt()
    angle = 3 * math.pi * radius
    one = stack([radius * angle.cos(), radius * angle.sin()], 1)
    return cat([one, -one]) + 0.02 * randn(examples, 2), arange(examples) // half


class Steepest(Callback):
    """Notes the step with the largest gradient."""

    runs_ahead = True  # it only looks on: later steps need not wait for it

    def __init__(self) -> None:
        self.norm, self.step = 0.0, 0

    def on_step_end(self, trainer, result) -> None:
        if result.norm is not None and result.norm > self.norm:
            self.norm, self.step = result.norm, result.number


def main(num_workers: int | str = "auto", epochs: int = 200, seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    train, validation = spirals(1000), spirals(500)
    model = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    stopping, steepest = EarlyStopping("validation_f1", patience=10, keep_best=True), Steepest()
    trainer = Trainer(
        model,
        F.cross_entropy,
        optimizer,
        batch_size=100,
        num_workers=num_workers,
        seed=seed,
        scheduler=optim.lr_scheduler.ExponentialLR(optimizer, 0.98),
        clip_norm=1.0,
        metrics=("f1", "confusion_matrix"),
        callbacks=(stopping, steepest, LearningRateLogger()),
    )
    with trainer:
        history = trainer.fit(train, epochs=epochs, validation=validation)
    model.load_state_dict(stopping.best_state)

    best = max(history, key=lambda entry: entry["validation_f1"])
    figures = {
        "epochs": float(len(history)),
        "lr": history[-1]["lr"],
        "norm": steepest.norm,
        "validation F1": model.score(validation, "f1", num_workers=0, progress="off"),
    }
    print(f"ended after {figures['epochs']:.6f} epochs at a learning rate of {figures['lr']:.6f}")
    print(f"largest gradient in step {steepest.step}: {figures['norm']:.6f}")
    print(f"best epoch {best['epoch'] + 1}: F1 {figures['validation F1']:.6f}, {best['validation_confusion_matrix']}")
    return figures


if __name__ == "__main__":
    command(main)
