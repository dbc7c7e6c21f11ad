"""A direction is learned: the parameter is any vector, and the graph divides it by its length."""

from torch import manual_seed, nn, optim, rand

from examples import command

STEPS = 200


def main(seed: int = 0) -> dict[str, float]:
    manual_seed(seed)
    truth = rand(5) - 0.5
    truth = truth / (truth * truth).sum().sqrt()
    points = rand(100, 5) - 0.5
    seen = points @ truth + 0.2 * (rand(100) - 0.5)  # how far each point lies along it, measured badly

    vector = nn.Parameter(rand(5) - 0.5)
    optimizer = optim.SGD([vector], lr=0.05)

    figures = {}
    for step in range(1, STEPS + 1):
        length = (vector * vector).sum().sqrt()
        direction = vector / length
        loss = ((points @ direction - seen) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 1 or step % 25 == 0:
            # Along the vector the gradient is zero, so a step can only make it longer.
            cosine = (direction * truth).sum()
            figures[f"loss at step {step}"] = loss.item()
            figures[f"cosine at step {step}"] = cosine.item()
            print(f"step {step:3}: loss {loss.item():.6f}, cosine {cosine.item():.6f}, length {length.item():.6f}")
    return figures


if __name__ == "__main__":
    command(main)
