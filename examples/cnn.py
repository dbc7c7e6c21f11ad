"""The well-known MNIST network of two convolutions, data-parallel: 98.5 % of the full test set within three epochs.

`--data-dir` names the directory of the full set's four files; without it, it is the embedded subset of 5,000 images.
Dropout draws from a stream of each shard's own: the masks, and so the figures, are those of any number of workers,
and not those of a loop in one process, where they are torch's.
"""

import pargrad.nn.functional as F
from examples import command
from pargrad import Tensor, manual_seed, nn, optim
from pargrad.data import mnist
from pargrad.parallel import Trainer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 1, 28, 28)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout2(x))


def main(
    num_workers: int | str = "auto",
    data_dir: str | None = None,
    epochs: int = 1,
    max_steps: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    data = mnist.load("mnist", data_dir=data_dir)
    print(f"MNIST: {data.source}")
    train, test = data.train, data.test

    manual_seed(seed)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    figures = {}
    with Trainer(model, F.cross_entropy, optimizer, batch_size=128, num_workers=num_workers, seed=seed) as trainer:
        for epoch in range(1, epochs + 1):
            loss = trainer.fit(train, epochs=1, max_steps=max_steps)[-1]["loss"]
            accuracy = trainer.score(test)
            figures[f"loss in epoch {epoch}"] = loss
            figures[f"accuracy after epoch {epoch}"] = accuracy
            print(f"epoch {epoch}: loss {loss:.6f}, test accuracy {accuracy:.2%}")
    return figures


if __name__ == "__main__":
    command(main)
