"""Regression on a table: the Trainer with the squared error, a validation set, and predictions.

The table is Friedman's: ten columns, of which five matter, one pair by its product and one by its square
(J. H. Friedman, "Multivariate adaptive regression splines", 1991).
"""

import math

import torch.nn.functional as F
from torch import Tensor, manual_seed, nn, optim, rand, randn

from examples import command
from examples.pytorch.trainer import Trainer


def table(rows: int) -> tuple[Tensor, Tensor]:
    x = rand(rows, 10)
    y = 10 * (math.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, (y + randn(rows)).unsqueeze(1)


def main(num_workers: int | str = "auto", epochs: int = 20, seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    (x, y), validation = table(2000), table(500)
    mean, deviation = y.mean(), y.std()
    train, validation = (x, (y - mean) / deviation), (validation[0], (validation[1] - mean) / deviation)

    model = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    figures = {}
    with Trainer(model, F.mse_loss, optimizer, batch_size=50, num_workers=num_workers, seed=seed) as trainer:
        for epoch, entry in enumerate(trainer.fit(train, epochs=epochs, validation=validation), 1):
            if epoch % 5 == 0:
                figures[f"loss in epoch {epoch}"] = entry["loss"]
                figures[f"validation loss after epoch {epoch}"] = entry["validation_loss"]
                print(f"epoch {epoch}: loss {entry['loss']:.6f}, validation loss {entry['validation_loss']:.6f}")
        predicted = trainer.predict(validation)

    error = (predicted - validation[1].numpy()) * deviation.item()
    figures["root mean square error"] = float((error**2).mean() ** 0.5)
    print(f"root mean square error {figures['root mean square error']:.6f}, of which 1 is noise")
    return figures


if __name__ == "__main__":
    command(main)
