"""MNIST by an ordinary loop: the same arrays, initial weights, order and optimizer as the data-parallel twin."""

import torch
import torch.nn.functional as F
from torch import nn, optim

from pargrad.data import mnist

SEED, BATCH_SIZE = 0, 128


def main(epochs: int = 5) -> dict[str, float]:
    data = mnist.load("mnist")
    print(f"MNIST: {data.source}")
    (inputs, labels), (test_inputs, test_labels) = (map(torch.from_numpy, arrays) for arrays in (data.train, data.test))

    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    figures = {}
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(SEED + epoch - 1))
        total = 0.0
        for batch in order.split(BATCH_SIZE):
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        with torch.no_grad():
            accuracy = (model(test_inputs).argmax(1) == test_labels).double().mean().item()
        figures[f"loss of epoch {epoch}"] = total / len(inputs)
        figures[f"accuracy after epoch {epoch}"] = accuracy
        print(f"epoch {epoch}: loss {total / len(inputs):.6f}, test accuracy {accuracy:.2%}")
    return figures


if __name__ == "__main__":
    main()
