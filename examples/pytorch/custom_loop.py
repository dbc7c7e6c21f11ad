"""A training loop of one's own, without the Trainer: data set, loader, schedule, clipped gradients, save and load."""

import math
import tempfile
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, load, manual_seed, nn, no_grad, optim, rand, randn, save, stack
from torch.utils.data import DataLoader, Dataset, random_split

from examples import command


class Spirals(Dataset):
    """Points on two spirals that are wound into each other; which of the two is to be told."""

    def __init__(self, points: int):
        self.spiral = (rand(points) < 0.5).long()
        length = rand(points) ** 0.5
        angle = 2.5 * math.pi * length + math.pi * self.spiral
        self.points = stack([length * angle.cos(), length * angle.sin()], 1) + 0.02 * randn(points, 2)

    def __len__(self) -> int:
        return len(self.spiral)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.points[index], self.spiral[index]


def make_model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 64), nn.GELU(), nn.Dropout(0.05), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 2))


@no_grad()
def accuracy_of(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    right = sum((model(points).argmax(1) == spiral).sum().item() for points, spiral in loader)
    return right / len(loader.dataset)


def main(epochs: int = 30, seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    train, test = random_split(Spirals(800), [600, 200])
    train_loader, test_loader = DataLoader(train, batch_size=64, shuffle=True), DataLoader(test, batch_size=200)

    model = make_model()
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs=epochs, steps_per_epoch=len(train_loader))

    figures = {}
    for epoch in range(1, epochs + 1):
        model.train()
        for points, spiral in train_loader:
            loss = F.cross_entropy(model(points), spiral)
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        if epoch % 5 == 0:
            figures[f"loss after epoch {epoch}"] = loss.item()
            figures[f"gradient norm after epoch {epoch}"] = norm.item()
            rate = scheduler.get_last_lr()[0]
            print(f"epoch {epoch:2}: loss {loss.item():.6f}, gradient norm {norm.item():.6f}, learning rate {rate:.1e}")
    figures["accuracy"] = accuracy_of(model, test_loader)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spirals.weights")
        save(model.state_dict(), path)
        again = make_model()
        again.load_state_dict(load(path))
    figures["accuracy after loading"] = accuracy_of(again, test_loader)
    print(f"accuracy {figures['accuracy']:.2%}, after loading {figures['accuracy after loading']:.2%}")
    return figures


if __name__ == "__main__":
    command(main)
