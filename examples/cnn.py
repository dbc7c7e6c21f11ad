"""The well-known two-convolution MNIST network, trained data-parallel: 98.5 % of the full test set within three epochs.

python -m examples.cnn [NUM_WORKERS [DATA_DIR [EPOCHS]]]: without arguments, one epoch over the embedded subset.
"""

import sys

import pargrad.nn.functional as F
from pargrad import manual_seed, nn, optim
from pargrad.data import mnist
from pargrad.parallel import Trainer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = x.view(-1, 1, 28, 28)
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(self.dropout2(x))


def main(num_workers: int | str = "auto", data_dir: str | None = None, epochs: int = 1) -> dict[str, float]:
    import time
    data = mnist.load("mnist", data_dir=data_dir)
    print(f"MNIST: {data.source}")

    manual_seed(0)
    model = Net()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    figures = {}
    with Trainer(model, F.cross_entropy, optimizer, batch_size=128, num_workers=num_workers) as trainer:
        for epoch in range(1, epochs + 1):
            t=time.time()
            loss = trainer.fit(data.train, epochs=1)[-1]["loss"]
            print(time.time()-t)
            accuracy = trainer.score(data.test)
            figures[f"loss of epoch {epoch}"] = loss
            figures[f"accuracy after epoch {epoch}"] = accuracy
            print(f"epoch {epoch}: loss {loss:.6f}, test accuracy {accuracy:.2%}", time.time()-t)
    return figures


if __name__ == "__main__":
    main(*(int(argument) if argument.isdigit() else argument for argument in sys.argv[1:]))
