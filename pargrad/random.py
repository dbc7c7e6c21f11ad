"""Random numbers: a Generator is a stream of 32-bit words, and torch's draws are functions of those words.

The formulas give torch's CPU results to the bit for the same seed (torch seeds its Mersenne twister as numpy's
RandomState does). Inside a shard of a data-parallel step the words come from Philox instead, at a counter made of
step and shard: so what is drawn there depends on neither the worker nor the order of the work.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pargrad.tensor import Tensor

__all__ = [
    "Generator",
    "default_generator",
    "fork_rng",
    "get_rng_state",
    "initial_seed",
    "manual_seed",
    "seed",
    "set_rng_state",
]

WORD = np.uint64(0xFFFFFFFF)
# What torch.Generator.get_state gives, field by field: states can be exchanged with torch's.
STATE = np.dtype(
    [
        ("seed", "u8"), ("left", "i4"), ("seeded", "i4"), ("next", "u8"), ("words", "u8", 624),
        ("unused", "V8"), ("normal", "f8"), ("unused_too", "V8"), ("has_normal", "i4"), ("end", "V12"),
    ]
)  # fmt: skip
SHARD_STATE = np.dtype(
    [("seed", "u8"), ("step", "i8"), ("shard", "i8"), ("taken", "u8"), ("normal", "f8"), ("has_normal", "u8")]
)


class Generator:
    """torch.Generator on the CPU: mt19937. https://docs.pytorch.org/docs/stable/generated/torch.Generator.html

    spare: normal numbers come in pairs, and this is the second of a pair of which one was asked for.
    """

    def __init__(self, device: str = "cpu"):
        if str(device) != "cpu":
            raise ValueError(f"Generator: expected device 'cpu', got {device!r}")
        self.device = "cpu"
        self.manual_seed(67280421310721)  # torch's, where none is given

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream of this seed; negative seeds count from 2^64 down, as torch's."""
        self._seed = int(seed) % 2**64
        self._bits: Any = None
        self.spare: float | None = None
        return self

    def seed(self) -> int:
        """Starts the stream of a seed that nobody can foresee, and gives the seed."""
        return self.manual_seed(secrets.randbits(64))._seed

    def initial_seed(self) -> int:
        """The seed that the stream was started with."""
        return self._seed

    def words(self, count: int) -> np.ndarray:
        """The next `count` 32-bit words, as uint64 of shape (count,)."""
        if not count:
            return np.empty(0, np.uint64)
        if self._bits is None:  # made at the first draw: most generators never draw
            self._bits = self._twister()
        return self._bits.random_raw(count)

    def _twister(self) -> Any:
        bits = np.random.MT19937()
        np.random.RandomState(bits).seed(self._seed & 0xFFFFFFFF)
        return bits

    def get_state(self) -> Tensor:
        """Where the stream is, as bytes: torch's own for the same draws."""
        twister = (self._bits or self._twister()).state["state"]
        state = np.zeros(1, STATE)
        state["seed"], state["seeded"], state["words"] = self._seed, 1, twister["key"]
        # Both count the words taken of 624; but torch says 0, with none made, where nothing was taken yet.
        state["next"], state["left"] = (twister["pos"], 625 - twister["pos"]) if self._bits else (0, 1)
        return state_bytes(state, self.spare)

    def set_state(self, new_state: Tensor) -> Generator:
        """Goes back to where a stream was; the state may be one of torch's."""
        state, self.spare = state_fields(new_state, STATE)
        self._seed, self._bits = int(state["seed"]), None
        if state["next"]:
            twister = {"key": state["words"].astype(np.uint32), "pos": int(state["next"])}
            self._bits = np.random.MT19937()
            self._bits.state = {"bit_generator": "MT19937", "state": twister}
        return self


def state_bytes(state: np.ndarray, spare: float | None) -> Tensor:
    state["normal"], state["has_normal"] = spare or 0.0, spare is not None
    return Tensor(state.view(np.uint8))


def state_fields(state: Any, kind: np.dtype) -> tuple[Any, float | None]:
    """The fields of a state, and the spare normal number in it."""
    array = np.asarray(state)
    if array.dtype != np.uint8 or array.size != kind.itemsize:
        raise TypeError(
            f"set_state: expected the {kind.itemsize} bytes (uint8) that get_state gives for this kind of generator, "
            f"got {array.dtype} of shape {array.shape}"
        )
    fields = np.frombuffer(array.tobytes(), kind)[0]
    return fields, float(fields["normal"]) if fields["has_normal"] else None


class ShardGenerator(Generator):
    """The stream of one shard of one step: Philox keyed by (seed, stream), at counter (shard, step)."""

    STREAM = 1

    def __init__(self, seed: int, step: int, shard: int):
        self.device = "cpu"
        self._place, self._taken, self._left = (shard, step), 0, np.empty(0, np.uint64)
        self.manual_seed(seed)

    def words(self, count: int) -> np.ndarray:
        if self._bits is None:
            self._seek(0)
        need = count - len(self._left)
        if need > 0:
            pairs = self._bits.random_raw((need + 1) // 2)
            self._left = np.concatenate([self._left, np.stack([pairs & WORD, pairs >> np.uint64(32)], 1).reshape(-1)])
        out, self._left = self._left[:count], self._left[count:]
        self._taken += count
        return out

    def _seek(self, taken: int) -> None:
        """Goes to where so many words have been taken; Philox makes 8 of them from one counter."""
        shard, step = self._place
        # The low counter words are the position in the stream, the high ones say which stream it is.
        key = np.array([self._seed, self.STREAM], np.uint64)
        self._bits = np.random.Philox(key=key, counter=np.array([taken // 8, 0, shard, step], np.uint64))
        self._left = np.empty(0, np.uint64)
        self._taken = taken - taken % 8
        self.words(taken % 8)

    def get_state(self) -> Tensor:
        shard, step = self._place
        state = np.zeros(1, SHARD_STATE)
        state["seed"], state["step"], state["shard"] = self._seed, step, shard
        state["taken"] = 0 if self._bits is None else self._taken
        return state_bytes(state, self.spare)

    def set_state(self, new_state: Tensor) -> Generator:
        state, self.spare = state_fields(new_state, SHARD_STATE)
        self._seed, self._place = int(state["seed"]), (int(state["shard"]), int(state["step"]))
        self._seek(int(state["taken"]))
        return self


class NoGenerator(Generator):
    """Where nothing may be drawn: drawing raises the error that it was made with."""

    def __init__(self, error: BaseException):
        super().__init__()
        self.error = error

    def words(self, count: int) -> np.ndarray:
        raise self.error

    def get_state(self) -> Tensor:
        raise self.error


class _Current(threading.local):
    generator: Generator | None = None


default_generator = Generator().manual_seed(secrets.randbits(64))
_current = _Current()


def current_generator() -> Generator:
    """What draws use where no generator is passed: the shard's inside a data-parallel step, else the default one."""
    return _current.generator or default_generator


def source(generator: Generator | None) -> Generator:
    """What a draw uses that was passed this generator, or None.

    Where nothing may be drawn that holds for a generator of one's own, too: stacked slices would share its numbers.
    """
    current = current_generator()
    return current if generator is None or isinstance(current, NoGenerator) else generator


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
    """Seeds the default generator and gives it: https://docs.pytorch.org/docs/stable/generated/torch.manual_seed.html

    >>> _ = pg.manual_seed(0)
    >>> first = pg.rand(3)
    >>> _ = pg.manual_seed(0)
    >>> pg.equal(pg.rand(3), first)
    True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seeds the default generator unforeseeably and gives the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Where the default generator's stream is: bytes, torch's own for the same draws."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Brings the default generator back to where it was at get_rng_state."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = (), enabled: bool = True) -> Iterator[None]:
    """Inside the block draws are free: afterwards the default generator is where it was before.

    https://docs.pytorch.org/docs/stable/random.html#torch.random.fork_rng; `devices` is taken and means nothing here.
    """
    before = get_rng_state() if enabled else None
    try:
        yield
    finally:
        if before is not None:
            set_rng_state(before)


# ----- torch's draws as functions of the words -----


def whole(generator: Generator, count: int) -> np.ndarray:
    """64-bit numbers, uint64 of shape (count,), two words each."""
    pairs = generator.words(2 * count).reshape(count, 2)
    return (pairs[:, 0] << np.uint64(32)) | pairs[:, 1]


def doubles(generator: Generator, count: int) -> np.ndarray:
    """53-bit numbers in [0, 1), float64 of shape (count,)."""
    return (whole(generator, count) & np.uint64(2**53 - 1)) * 2.0**-53


def unit(generator: Generator, count: int, dtype: Any) -> np.ndarray:
    """Numbers in [0, 1) for a dtype, as float64 of shape (count,): of 53 bits for float64, of 24 for the others."""
    if np.dtype(dtype) == np.float64:
        return doubles(generator, count)
    return (generator.words(count) & np.uint64(2**24 - 1)) * 2.0**-24


def uniform(generator: Generator, shape: tuple[int, ...], low: float, high: float, dtype: Any) -> np.ndarray:
    """torch's Tensor.uniform_(low, high): 24-bit numbers for float32, 53-bit numbers for float64."""
    count = math.prod(shape)
    if np.dtype(dtype) == np.float64:
        drawn = affine(doubles(generator, count), high - low, low)
    else:
        low, high = float(np.float32(low)), float(np.float32(high))
        drawn = affine_to_float32(unit(generator, count, dtype), high - low, low).astype(dtype, copy=False)
    drawn[drawn == high] = low  # where it was rounded up to high, which the interval does not hold
    return drawn.reshape(shape)


def bernoulli(generator: Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """torch's Tensor.bernoulli_(p): booleans, true with probability p."""
    return (doubles(generator, math.prod(shape)) < p).reshape(shape)


def bernoulli_each(generator: Generator, p: np.ndarray) -> np.ndarray:
    """torch.bernoulli(p): booleans, each with a probability of its own, from as many bits as p's dtype holds."""
    return unit(generator, p.size, p.dtype).reshape(p.shape) < p


def integers(generator: Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """torch.randint(low, high, shape): int64; a range of 2^28 or more takes two words a number."""
    if not -(2**63) <= low < high < 2**63:
        raise ValueError(f"randint: expected low < high, both of 64 bits, got low={low}, high={high}")
    count = math.prod(shape)
    words = generator.words(count) if high - low < 2**28 else whole(generator, count)
    # Unsigned numbers wrap around, so that the widest ranges come out right.
    drawn = words % np.uint64(high - low) + np.uint64(low % 2**64)
    return drawn.view(np.int64).reshape(shape)


def any_integers(generator: Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """torch's Tensor.random_(): all the numbers from 0 that a dtype holds (a float dtype: holds without gaps)."""
    dtype, count = np.dtype(dtype), math.prod(shape)
    wide = dtype.itemsize == 8
    words = whole(generator, count) if wide else generator.words(count)
    if dtype.kind == "f":
        many = 2 ** (53 if wide else 24) + 1
    else:
        many = 2 if dtype == np.bool_ else int(np.iinfo(dtype).max) + 1
    return (words if many == 2**64 else words % np.uint64(many)).astype(dtype).reshape(shape)


def permutation(generator: Generator, n: int) -> np.ndarray:
    """torch.randperm(n): int64, by swapping place i with one of the places from i on, for every i in turn.

    All swaps at once: what place p holds at its own turn came from the last place that swapped with it before, which
    had what came to it in the same way; and the place that turn i takes from holds what the turn before i that
    swapped with it left there.
    """
    if n < 2:
        return np.arange(n)
    steps = generator.words(n - 1) % np.arange(n, 1, -1, dtype=np.uint64)
    turns, away = np.arange(n - 1), steps > 0
    places = turns + steps.astype(np.int64)
    origin = np.arange(n)
    origin[places[away]] = turns[away]  # of turns with the same place the last one stays
    while not np.array_equal(further := origin[origin], origin):
        origin = further
    pairs = np.sort((places << 32) | turns)
    held, turns = pairs >> 32, pairs & 0xFFFFFFFF
    again = np.flatnonzero(held[1:] == held[:-1]) + 1
    held[again] = origin[turns[again - 1]]
    order = np.empty(n, np.int64)
    order[turns], order[-1] = held, origin[-1]
    return order


def normal(
    generator: Generator, shape: tuple[int, ...], mean: float, std: float, dtype: Any, contiguous: bool = True
) -> np.ndarray:
    """torch's Tensor.normal_(mean, std), which has two ways (Box and Muller 1958, doi 10.1214/aoms/1177706645).

    Fewer than 16 numbers, or numbers for memory that is not contiguous, are made in float64, in pairs. Others are
    made in their own dtype in blocks of 16; where those leave a rest the last 16 of all are drawn anew.
    """
    count, dtype = math.prod(shape), np.dtype(dtype)
    if count < 16 or not contiguous:
        drawn = affine(normal_pairs(generator, count), std, mean).astype(dtype, copy=False)
    else:
        drawn = unit(generator, count, dtype).astype(dtype)
        drawn[: count // 16 * 16] = normal_blocks(drawn[: count // 16 * 16])
        if count % 16:
            drawn[-16:] = normal_blocks(unit(generator, 16, dtype).astype(dtype))
        if (mean, std) != (0, 1):
            drawn = (
                affine(drawn, std, mean)
                if dtype == np.float64
                else affine_to_float32(drawn.astype(np.float64), float(np.float32(std)), float(np.float32(mean)))
            )
    return drawn.reshape(shape)


def normal_pairs(generator: Generator, count: int) -> np.ndarray:
    """Standard normal numbers, float64 of shape (count,): first the spare one of the draw before."""
    if not count:
        return np.empty(0)
    spare = [] if generator.spare is None else [generator.spare]
    angle, distance = doubles(generator, (count - len(spare) + 1) // 2 * 2).reshape(-1, 2).T
    angle, distance = 2 * np.pi * angle, np.sqrt(-2 * np.log1p(-distance))
    pairs = np.stack([distance * np.cos(angle), distance * np.sin(angle)], 1)
    drawn = np.concatenate([spare, pairs.reshape(-1)])
    generator.spare = float(drawn[count]) if len(drawn) > count else None
    return drawn[:count]


def normal_blocks(numbers: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1), a multiple of 16, as standard normal ones; the dtype stays."""
    number = numbers.dtype.type
    distance, angle = numbers.reshape(-1, 2, 8).swapaxes(0, 1)
    distance, angle = np.sqrt(number(-2) * np.log(number(1) - distance)), number(2 * np.pi) * angle
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], 1).reshape(-1)


def exponential(generator: Generator, shape: tuple[int, ...], lambd: float) -> np.ndarray:
    """torch's Tensor.exponential_(lambd), in float64."""
    return np.log1p(-doubles(generator, math.prod(shape))).reshape(shape) * (-1 / lambd)


def geometric(generator: Generator, shape: tuple[int, ...], p: float) -> np.ndarray:
    """torch's Tensor.geometric_(p), in float64: the number of trials up to the first success."""
    drawn = doubles(generator, math.prod(shape)).reshape(shape)
    with np.errstate(divide="ignore"):  # the logarithm of 0, as in torch
        return np.ceil(np.log(drawn) / math.log1p(-p))


def cauchy(generator: Generator, shape: tuple[int, ...], median: float, sigma: float) -> np.ndarray:
    """torch's Tensor.cauchy_(median, sigma), in float64."""
    drawn = doubles(generator, math.prod(shape))
    return affine(np.tan(np.pi * (drawn - 0.5)), sigma, median).reshape(shape)


def log_normal(generator: Generator, shape: tuple[int, ...], mean: float, std: float) -> np.ndarray:
    """torch's Tensor.log_normal_(mean, std), in float64; mean and std are those of the logarithm."""
    return np.exp(affine(normal_pairs(generator, math.prod(shape)), std, mean)).reshape(shape)


def multinomial(generator: Generator, weights: np.ndarray, count: int, replacement: bool) -> np.ndarray:
    """torch.multinomial: `count` column numbers for each row of weights (rows, columns), int64."""
    if not replacement or count == 1:
        # A race: the first to arrive, by exponential times over weights (Efraimidis and Spirakis 2006).
        times = exponential(generator, weights.shape, 1.0).astype(weights.dtype)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.argsort(-(weights / times), axis=1, kind="stable")[:, :count]
    bounds = np.cumsum(weights, axis=1)
    bounds /= bounds[:, -1:]
    bounds[:, -1] = 1
    drawn = doubles(generator, len(weights) * count).reshape(len(weights), count)
    return np.stack([np.searchsorted(bound, each) for bound, each in zip(bounds, drawn)]).astype(np.int64)


# ----- draws that take words until they are content -----


@contextmanager
def one_by_one(generator: Generator) -> Iterator[Callable[[], float]]:
    """Inside the block, a function that gives the next number of `doubles`; what is read ahead is given back."""
    before, used = generator.get_state(), 0
    block: Iterator[float] = iter(())

    def take() -> float:
        nonlocal used, block
        used += 1
        for number in block:
            return number
        block = iter(doubles(generator, 256).tolist())
        return next(block)

    try:
        yield take
    finally:
        generator.set_state(before)
        generator.words(2 * used)


def poisson(generator: Generator, rates: np.ndarray) -> np.ndarray:
    """torch.poisson(rates), in float64."""
    with one_by_one(generator) as take:
        drawn = [poisson_one(take, rate) for rate in rates.reshape(-1).tolist()]
    return np.array(drawn, np.float64).reshape(rates.shape)


def poisson_one(take: Callable[[], float], rate: float) -> int:
    """Up to a rate of 10 by counting factors, from there on by transformed rejection (PTRS).

    Hoermann 1993, The transformed rejection method for generating Poisson random variables, doi
    10.1016/0167-6687(93)90997-4.
    """
    if rate < 10:
        product, count, floor = 1.0, -1, math.exp(-rate)
        while rate and product > floor:
            product, count = product * take(), count + 1
        return max(count, 0)
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha, accepted = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    while True:
        u, v = take() - 0.5, take()
        edge = 0.5 - abs(u)
        k = math.floor((2 * a / edge + b) * u + rate + 0.43) if edge else -1
        if edge >= 0.07 and v <= accepted:
            return k
        if k < 0 or (edge < 0.013 and v > edge):
            continue
        proposed = logarithm(v) + math.log(inverse_alpha) - math.log(a / (edge * edge) + b)
        if proposed <= k * math.log(rate) - rate - math.lgamma(k + 1):
            return k


def binomial(generator: Generator, counts: np.ndarray, p: np.ndarray) -> np.ndarray:
    """torch.binomial(counts, p) of two arrays of one shape, in float64."""
    with one_by_one(generator) as take:
        drawn = [binomial_one(take, *pair) for pair in zip(counts.reshape(-1).tolist(), p.reshape(-1).tolist())]
    return np.array(drawn, np.float64).reshape(counts.shape)


def binomial_one(take: Callable[[], float], count: float, p: float) -> float:
    """Few successes by the waiting times between them, many by transformed rejection; the likelier side by the other.

    Hoermann 1993, The generation of binomial random variates (BTRS), doi 10.1080/00949659308811496.
    """
    if count <= 0 or p <= 0:
        return 0
    if p >= 1:
        return count
    if p > 0.5:
        return count - binomial_one(take, count, 1 - p)
    if math.isnan(p):
        return p
    if count * p < 10:
        successes, trials, scale = -1, 0.0, math.log1p(-p)
        while trials <= count:
            trials, successes = trials + math.ceil(logarithm(take()) / scale), successes + 1
        return successes
    spread, odds = math.sqrt(count * p * (1 - p)), p / (1 - p)
    b = 1.15 + 2.53 * spread
    a, alpha, accepted = -0.0873 + 0.0248 * b + 0.01 * p, (2.83 + 5.1 / b) * spread, 0.92 - 4.2 / b
    mode = math.floor((count + 1) * p)
    while True:
        u, v = take() - 0.5, take()
        edge = 0.5 - abs(u)
        k = math.floor((2 * a / edge + b) * u + count * p + 0.5) if edge else -1
        if edge >= 0.07 and v <= accepted:
            return k
        if k < 0 or k > count:
            continue
        ratio = math.lgamma(mode + 1) + math.lgamma(count - mode + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        if logarithm(v * alpha / (a / (edge * edge) + b)) <= ratio + (k - mode) * math.log(odds):
            return k


def logarithm(x: float) -> float:
    return math.log(x) if x else -math.inf


# ----- one rounding where numpy makes two: torch's uniform_ is compiled to fused multiply-adds -----


def affine(x: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """x * scale + offset, rounded once."""
    return x if (scale, offset) == (1, 0) else fused_multiply_add(x, scale, offset)


def affine_to_float32(x: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """The same of numbers that float32 holds, rounded once to float32."""
    if (scale, offset) == (1, 0):
        return x.astype(np.float32)
    product = x * float(np.float32(scale))  # exact
    return sum_to_odd(product, np.float64(offset)).astype(np.float32)


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
