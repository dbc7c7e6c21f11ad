"""Random numbers: a Generator is a stream of 32-bit words, and torch's draws are functions of those words.

The formulas give torch's CPU results to the bit for the same seed (torch seeds its Mersenne twister as numpy's
RandomState does). Inside a shard of a data-parallel step the words come from Philox instead, at a counter made of
step and shard: so what is drawn there depends on neither the worker nor the order of the work.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any

import numpy as np

WORD = np.uint64(0xFFFFFFFF)


class Generator:
    """torch.Generator on the CPU: mt19937. https://docs.pytorch.org/docs/stable/generated/torch.Generator.html"""

    def __init__(self, device: str = "cpu"):
        if str(device) != "cpu":
            raise ValueError(f"Generator: expected device 'cpu', got {device!r}")
        self._bits: Any = None
        self._seed = 67280421310721  # torch's, where none is given

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream of this seed; negative seeds count from 2^64 down, as torch's."""
        self._seed = int(seed) % 2**64
        self._bits = None
        return self

    def initial_seed(self) -> int:
        return self._seed

    def words(self, count: int) -> np.ndarray:
        """The next `count` 32-bit words, as uint64 of shape (count,)."""
        if self._bits is None:  # made at the first draw: most generators never draw
            self._bits = np.random.MT19937()
            np.random.RandomState(self._bits).seed(self._seed & 0xFFFFFFFF)
        return self._bits.random_raw(count)


class ShardGenerator(Generator):
    """The stream of one shard of one step: Philox keyed by (seed, stream), at counter (shard, step)."""

    STREAM = 1

    def __init__(self, seed: int, step: int, shard: int):
        super().__init__()
        self._seed = seed % 2**64
        self._place = (shard, step)

    def words(self, count: int) -> np.ndarray:
        if self._bits is None:
            shard, step = self._place
            # The low counter words are the position in the stream, the high ones say which stream it is.
            key, counter = np.array([self._seed, self.STREAM], np.uint64), np.array([0, 0, shard, step], np.uint64)
            self._bits = np.random.Philox(key=key, counter=counter)
            self._left = np.empty(0, np.uint64)
        need = count - len(self._left)
        if need > 0:
            pairs = self._bits.random_raw((need + 1) // 2)
            self._left = np.concatenate([self._left, np.stack([pairs & WORD, pairs >> np.uint64(32)], 1).reshape(-1)])
        out, self._left = self._left[:count], self._left[count:]
        return out


class NoGenerator(Generator):
    """Where nothing may be drawn: drawing raises the error that it was made with."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.error = error

    def words(self, count: int) -> np.ndarray:
        raise self.error


class _Current(threading.local):
    generator: Generator | None = None


default_generator = Generator().manual_seed(secrets.randbits(64))
_current = _Current()


def current_generator() -> Generator:
    """What draws use where no generator is passed: the shard's inside a data-parallel step, else the default one."""
    return _current.generator or default_generator


class using:
    """Inside the block, draws come from this generator."""

    def __init__(self, generator: Generator):
        self.generator = generator

    def __enter__(self) -> Generator:
        self.before, _current.generator = _current.generator, self.generator
        return self.generator

    def __exit__(self, *error: object) -> None:
        _current.generator = self.before


def manual_seed(seed: int) -> Generator:
    """Seeds the default generator and gives it: https://docs.pytorch.org/docs/stable/generated/torch.manual_seed.html"""
    return default_generator.manual_seed(seed)


# ----- torch's draws as functions of the words -----


def whole(generator: Generator, count: int) -> np.ndarray:
    """64-bit numbers, uint64 of shape (count,), two words each."""
    pairs = generator.words(2 * count).reshape(count, 2)
    return (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]


def doubles(generator: Generator, count: int) -> np.ndarray:
    """53-bit numbers in [0, 1), float64 of shape (count,)."""
    return (whole(generator, count) & np.uint64(2**53 - 1)) * 2.0**-53


def uniform(generator: Generator, shape: tuple[int, ...], low: float, high: float, dtype: Any) -> np.ndarray:
    """torch's Tensor.uniform_(low, high): 24-bit numbers for float32, 53-bit numbers for float64."""
    count, dtype = int(np.prod(shape)), np.dtype(dtype)
    if dtype == np.float64:
        drawn = fused_multiply_add(doubles(generator, count), high - low, low)
    else:
        low, high = float(np.float32(low)), float(np.float32(high))
        unit = (generator.words(count) & np.uint64(2**24 - 1)) * 2.0**-24
        width = float(np.float32(high - low))
        drawn = sum_to_odd(unit * width, np.float64(low)).astype(dtype)  # the product is exact
    drawn[drawn == high] = low  # where it was rounded up to high, which the interval does not hold
    return drawn.reshape(shape)


def bernoulli(generator: Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """torch's Tensor.bernoulli_(p): booleans, true with probability p."""
    return (doubles(generator, int(np.prod(shape))) < p).reshape(shape)


def integers(generator: Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """torch.randint(low, high, shape): int64; a range of 2^28 or more takes two words a number."""
    if not -(2**63) <= low < high < 2**63:
        raise ValueError(f"randint: expected low < high, both of 64 bits, got low={low}, high={high}")
    count = int(np.prod(shape))
    words = generator.words(count) if high - low < 2**28 else whole(generator, count)
    # Unsigned numbers wrap around, so that the widest ranges come out right.
    drawn = words % np.uint64(high - low) + np.uint64(low % 2**64)
    return drawn.view(np.int64).reshape(shape)


def permutation(generator: Generator, n: int) -> np.ndarray:
    """torch.randperm(n): int64, by swapping place i with one of the places from i on."""
    order = list(range(n))
    if n > 1:
        steps = generator.words(n - 1) % np.arange(n, 1, -1, dtype=np.uint64)
        for i, step in enumerate(steps.tolist()):
            order[i], order[i + step] = order[i + step], order[i]
    return np.array(order, np.int64)


# ----- one rounding where numpy makes two: torch's uniform_ is compiled to fused multiply-adds -----


def fused_multiply_add(x: np.ndarray, y: float, z: float) -> np.ndarray:
    """x * y + z of float64, rounded once (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819)."""
    product, product_rest = exact_product(x, y)
    inner, inner_rest = exact_sum(z, product_rest)
    outer, outer_rest = exact_sum(product, inner)
    return outer + sum_to_odd(outer_rest, inner_rest)


def sum_to_odd(x: np.ndarray, y: Any) -> np.ndarray:
    """x + y of float64 rounded to odd: where bits are lost the last is 1, so that a second rounding knows of them."""
    total, rest = exact_sum(x, y)
    bits = total.view(np.int64)
    return (bits + np.where((rest != 0) & (bits % 2 == 0), np.where((rest > 0) == (total > 0), 1, -1), 0)).view(
        total.dtype
    )


def exact_sum(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The rounded sum and what rounding left out (Knuth's two-sum)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def exact_product(x: np.ndarray, y: float) -> tuple[np.ndarray, np.ndarray]:
    """The rounded product and what rounding left out (Dekker 1971)."""
    (x_high, x_low), (y_high, y_low) = halves(x), halves(np.float64(y))
    product = x * y
    return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def halves(x: Any) -> tuple[Any, Any]:
    """Two numbers of at most 26 bits whose sum is x: products of such numbers are exact."""
    high = ((x.view(np.int64) + 2**26) & -(2**27)).view(np.float64)
    return high, x - high
