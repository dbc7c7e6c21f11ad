"""MNIST by data-parallel training: the Trainer cuts every batch into shards, and workers compute their gradients.

`--num-workers` auto takes the free cores, 0 stays in this process: the figures are the same, to the last bit.
`--data-dir` names the directory of the full set's four files; without it, it is the embedded subset of 5,000 images.
"""

import pargrad.nn.functional as F
from examples import command
from pargrad import manual_seed, nn, optim
from pargrad.data import mnist
from pargrad.parallel import Trainer


def main(
    num_workers: int | str = "auto",
    data_dir: str | None = None,
    epochs: int = 5,
    seed: int = 0,
    every: int = 20,
    dtype: str = "float32",
) -> dict[str, float]:
    data = mnist.load("mnist", data_dir=data_dir)
    print(f"MNIST: {data.source}")
    train, test = ((images.astype(dtype), labels) for images, labels in (data.train, data.test))

    manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    if dtype == "float64":
        model.double()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    figures = {}
    with Trainer(model, F.cross_entropy, optimizer, batch_size=128, num_workers=num_workers, seed=seed) as trainer:
        for step in range(1, 101):  # one at a time, to see how it begins
            loss = trainer.fit(train, max_steps=1)[-1]["loss"]
            if step % every == 0:
                figures[f"loss at step {step}"] = loss
                print(f"step {step:3}: loss {loss:.6f}")
        for epoch in range(trainer.epoch + 1, epochs + 1):
            loss = trainer.fit(train, epochs=1)[-1]["loss"]
            accuracy = trainer.score(test)
            figures[f"loss in epoch {epoch}"] = loss
            figures[f"accuracy after epoch {epoch}"] = accuracy
            print(f"epoch {epoch}: loss {loss:.6f}, test accuracy {accuracy:.2%}")
    return figures


if __name__ == "__main__":
    command(main)
