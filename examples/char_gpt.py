"""A small GPT learns to spell: a transformer guesses each character of a text from those before it.

`--data FILE` gives it a text of its own; without it, it reads three chapters of Pride and Prejudice.
"""

from pathlib import Path

import pargrad.nn.functional as F
from examples import EXCERPT, command
from pargrad import (
    Tensor,
    arange,
    manual_seed,
    multinomial,
    nn,
    no_grad,
    optim,
    randint,
    set_num_threads,
    stack,
    tensor,
)

LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 4, 128, 4, 64, 12


class Block(nn.Module):
    """Every place looks at those before it, then thinks for itself."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.gather = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        heads = self.queries_keys_values(self.norm1(x)).unflatten(2, (3, HEADS, WIDTH // HEADS))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, places, WIDTH // HEADS)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.gather(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, characters: int):
        super().__init__()
        self.what = nn.Embedding(characters, WIDTH)
        self.where = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, characters)
        for embedding in (self.what, self.where):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.what(text) + self.where(arange(text.shape[1])))))

    @no_grad()
    def write(self, text: Tensor, length: int) -> list[int]:
        written = []
        for _ in range(length):
            chances = F.softmax(self(text[:, -CONTEXT:])[:, -1], 1)
            text = F.pad(text, (0, 1))
            text[:, -1:] = multinomial(chances, 1)
            written.append(text[0, -1].item())
        return written


def main(data: str = EXCERPT, steps: int = 60, seed: int = 0) -> dict[str, float]:
    text = Path(data).read_text()
    alphabet = sorted(set(text))
    numbers = tensor([alphabet.index(character) for character in text])
    print(f"{len(text):,} characters, {len(alphabet)} of them different")

    manual_seed(seed)
    model = GPT(len(alphabet))
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    figures = {}
    for step in range(1, steps + 1):
        starts = randint(len(numbers) - CONTEXT, (BATCH,)).tolist()
        lines = stack([numbers[start : start + CONTEXT + 1] for start in starts])
        loss = F.cross_entropy(model(lines[:, :-1]).flatten(0, 1), lines[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == 1 or step % 20 == 0:
            figures[f"loss at step {step}"] = loss.item()
            print(f"step {step:3}: loss {loss.item():.6f}")

    print("".join(alphabet[number] for number in model.write(numbers[None, :CONTEXT], 80)))
    return figures


if __name__ == "__main__":
    set_num_threads(1)  # such small matrices are multiplied sooner than several threads have met
    command(main)
