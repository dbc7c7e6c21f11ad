"""A small network learns which points lie inside a circle: model, loss, optimizer and the loop that trains."""

import pargrad.nn.functional as F
from examples import command
from pargrad import manual_seed, nn, no_grad, optim, rand

STEPS = 120


def main(seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    points = rand(256, 2) * 2 - 1
    inside = ((points * points).sum(1) < 0.5).long()

    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = optim.AdamW(model.parameters(), lr=0.005)

    figures = {}
    for step in range(1, STEPS + 1):
        loss = F.cross_entropy(model(points), inside)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            figures[f"loss at step {step}"] = loss.item()
            print(f"step {step:3}: loss {loss.item():.6f}")

    with no_grad():
        accuracy = (model(points).argmax(1) == inside).float().mean().item()
    figures["accuracy"] = accuracy
    print(f"accuracy {accuracy:.2%}")
    return figures


if __name__ == "__main__":
    command(main)
