"""MNIST by data-parallel training: the Trainer cuts every batch into shards, and workers compute their gradients.

python -m examples.mnist [NUM_WORKERS]: "auto" takes the free cores, 0 stays in this process; the result is the same.
"""

import sys

import pargrad.nn.functional as F
from pargrad import manual_seed, nn, optim
from pargrad.data import mnist
from pargrad.parallel import Trainer

SEED = 0


def main(num_workers: int | str = "auto", epochs: int = 5) -> dict[str, float]:
    data = mnist.load("mnist")
    print(f"MNIST: {data.source}")
    train, test = data.train, data.test

    manual_seed(SEED)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    figures = {}
    with Trainer(model, F.cross_entropy, optimizer, batch_size=128, num_workers=num_workers, seed=SEED) as trainer:
        for epoch in range(1, epochs + 1):
            loss = trainer.fit(train, epochs=1)[-1]["loss"]
            accuracy = trainer.score(test)
            figures[f"loss of epoch {epoch}"] = loss
            figures[f"accuracy after epoch {epoch}"] = accuracy
            print(f"epoch {epoch}: loss {loss:.6f}, test accuracy {accuracy:.2%}")
    return figures


if __name__ == "__main__":
    main(*(int(argument) if argument.isdigit() else argument for argument in sys.argv[1:2]))
