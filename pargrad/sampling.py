"""Tensors of random numbers, and random numbers into tensors: torch's on the CPU for the same seed.

The draws themselves are in `random`. What is drawn is a constant: no gradient reaches the parameters of a
distribution. https://docs.pytorch.org/docs/stable/torch.html#random-sampling
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad import random
from pargrad.creation import floating, leaf, python_number, shape_of
from pargrad.inplace import assign
from pargrad.random import Generator, source
from pargrad.tensor import Tensor

__all__ = [
    "bernoulli", "binomial", "multinomial", "normal", "poisson", "rand", "rand_like", "randint", "randint_like",
    "randn", "randn_like", "randperm",
]  # fmt: skip

REAL = {np.dtype(np.complex64): np.dtype(np.float32), np.dtype(np.complex128): np.dtype(np.float64)}


# ----- new tensors -----


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """Uniform in [0, 1): torch's numbers for the same seed, to the bit."""
    shape, kind = shape_of(size, placement), check_floating("rand", floating(dtype))
    if kind in REAL:
        drawn = random.uniform(source(generator), (*shape, 2), 0.0, 1.0, REAL[kind]).view(kind)[..., 0]
    else:
        drawn = random.uniform(source(generator), shape, 0.0, 1.0, kind)
    return leaf(drawn, requires_grad, placement)


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """Normal, of mean 0 and standard deviation 1: torch's numbers for the same seed, to the last bits."""
    shape, kind = shape_of(size, placement), check_floating("randn", floating(dtype))
    return leaf(normal_numbers(source(generator), shape, 0.0, 1.0, kind), requires_grad, placement)


def normal_numbers(
    generator: Generator, shape: tuple[int, ...], mean: float, std: float, dtype: np.dtype, contiguous: bool = True
) -> np.ndarray:
    """Complex numbers share the variance between their parts."""
    if dtype in REAL:
        drawn = random.normal(generator, (*shape, 2), 0.0, std / 2**0.5, REAL[dtype], contiguous)
        return drawn.view(dtype)[..., 0] + dtype.type(mean)
    return random.normal(generator, shape, mean, std, dtype, contiguous)


def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """Normal, of means and standard deviations that are tensors, numbers, or, for a size, two numbers.

    https://docs.pytorch.org/docs/stable/generated/torch.normal.html
    """
    given = [x.array for x in (mean, std) if isinstance(x, Tensor)]
    if bool(given) == (size is not None):
        raise TypeError("normal() takes a size for two numbers, and none for tensors: write normal(0.0, 1.0, (2, 3))")
    spread: Any = std.array if isinstance(std, Tensor) else python_number(std)
    if np.any(np.asarray(spread) < 0):
        raise RuntimeError("normal: expected std of 0 or more, got a negative one")
    if not given:
        shape, kind = shape_of((size,)), check_floating("normal", floating(dtype))
        drawn = normal_numbers(source(generator), shape, python_number(mean), spread, kind)
        return leaf(drawn, requires_grad, placement)
    shape, kind = np.broadcast_shapes(*(x.shape for x in given)), check_floating("normal", given[0].dtype)
    # In torch's order of operations: another order gives other last bits.
    drawn = normal_numbers(source(generator), shape, 0.0, 1.0 if isinstance(std, Tensor) else spread, kind)
    if isinstance(std, Tensor):
        drawn *= spread
    drawn += mean.array if isinstance(mean, Tensor) else python_number(mean)
    return leaf(drawn, requires_grad, placement)


def randint(
    low: Any = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """Integers in [low, high), or randint(high, size) in [0, high): torch's numbers for the same seed."""
    if isinstance(high, tuple | list):
        high, size = None, high
    if high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint() lacks its size: write randint(10, (2, 3)) or randint(0, 10, (2, 3))")
    kind = np.dtype(np.int64 if dtype is None else dtype)
    low, high = check_bounds("randint", python_number(low), python_number(high), kind)
    return leaf(random.integers(source(generator), low, high, shape_of((size,))).astype(kind), requires_grad, placement)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """A permutation of 0 to n - 1: torch's for the same seed."""
    kind = np.dtype(np.int64 if dtype is None else dtype)
    if n < 0:
        raise RuntimeError(f"randperm: expected n from 0 on, got {n}")
    if n:
        check_bounds("randperm", 0, n, kind)
    return leaf(random.permutation(source(generator), n).astype(kind, copy=False), requires_grad, placement)


def rand_like(input: Tensor, *, dtype: Any = None, **named: Any) -> Tensor:
    """Uniform in [0, 1), of the input's shape and dtype."""
    return rand(input.shape, dtype=dtype or input.dtype, **named)


def randn_like(input: Tensor, *, dtype: Any = None, **named: Any) -> Tensor:
    """Normal, of mean 0 and standard deviation 1, and of the input's shape and dtype."""
    return randn(input.shape, dtype=dtype or input.dtype, **named)


def randint_like(input: Tensor, low: Any = 0, high: Any = None, *, dtype: Any = None, **named: Any) -> Tensor:
    """Integers in [low, high), or randint_like(input, high) in [0, high), of the input's shape and dtype."""
    if high is None:
        low, high = 0, low
    return randint(low, high, input.shape, dtype=dtype or input.dtype, **named)


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that the element says, or with probability p everywhere, else 0; of the input's dtype.

    https://docs.pytorch.org/docs/stable/generated/torch.bernoulli.html
    """
    if p is not None:
        drawn = random.bernoulli(source(generator), input.shape, check_probability("bernoulli", p))
    else:
        check_floating("bernoulli", input.dtype)
        drawn = random.bernoulli_each(source(generator), check_probability("bernoulli", input.array))
    return Tensor(drawn.astype(input.dtype))


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices of a vector of weights, or of each row of a matrix, drawn with a probability as large as the weight.

    https://docs.pytorch.org/docs/stable/generated/torch.multinomial.html
    """
    weights = np.atleast_2d(input.array)
    check_floating("multinomial", input.dtype)
    if input.ndim not in (1, 2):
        raise RuntimeError(f"multinomial: expected a vector or matrix of weights, got shape {input.shape}")
    if num_samples < 1 or (not replacement and num_samples > weights.shape[1]):
        raise RuntimeError(
            f"multinomial: expected num_samples from 1 on{'' if replacement else ', at most the number of weights'}, "
            f"got {num_samples} for {weights.shape[1]} weights"
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(1) > 0).all()):
        raise RuntimeError("multinomial: expected finite weights of 0 or more, not all 0")
    drawn = random.multinomial(source(generator), weights, num_samples, replacement)
    return Tensor(drawn[0] if input.ndim == 1 else drawn)


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Numbers of events, each of a Poisson distribution whose rate is the element."""
    check_floating("poisson", input.dtype)
    if not (input.array >= 0).all():
        raise RuntimeError("poisson: expected rates of 0 or more")
    return Tensor(random.poisson(source(generator), input.array).astype(input.dtype))


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Numbers of successes in `count` trials that succeed with probability `prob`."""
    check_floating("binomial", count.dtype)
    if count.dtype != prob.dtype:
        raise RuntimeError(f"binomial: expected count and prob of one dtype, got {count.dtype} and {prob.dtype}")
    drawn = random.binomial(source(generator), *np.broadcast_arrays(count.array, prob.array))
    return Tensor(drawn.astype(count.dtype))


# ----- what may be asked for -----


def check_floating(name: str, dtype: np.dtype) -> np.dtype:
    if dtype.kind not in "fc":
        raise RuntimeError(f"{name}: expected a floating-point dtype, got {dtype}")
    return dtype


def check_bounds(name: str, low: int, high: int, dtype: np.dtype) -> tuple[int, int]:
    if dtype.kind in "biu" and dtype != np.int64:  # the draw itself sees to 64 bits
        limits = (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        if low < limits[0] or high - 1 > limits[1]:
            raise RuntimeError(f"{name}: {dtype} does not hold all numbers from {low} to {high - 1}")
    return int(low), int(high)


def check_probability(name: str, p: Any) -> Any:
    if not np.all((np.asarray(p) >= 0) & (np.asarray(p) <= 1)):
        raise RuntimeError(f"{name}: expected probabilities from 0 to 1, got {p}")
    return p


def check(name: str, fine: bool, expected: str) -> None:
    if not fine:
        raise RuntimeError(f"{name}: expected {expected}")


# ----- methods: in place -----


def overwrite(name: str, input: Tensor, draw: Callable[[tuple[int, ...]], np.ndarray], kinds: str = "f") -> Tensor:
    """Every element becomes what `draw` gives for the shape, in the order in which the elements lie in memory."""
    array = input.array
    if array.dtype.kind not in kinds:
        raise RuntimeError(f"{name}: expected a floating-point tensor, got {array.dtype}")
    order = memory_order(array)

    def drawn(_: Tensor) -> Tensor:
        lying = draw(array.transpose(order).shape).astype(array.dtype, copy=False)
        return Tensor(lying.transpose(np.argsort(order)))

    return assign(input, name, drawn, saves=False)


def memory_order(array: np.ndarray) -> np.ndarray:
    """An array's dimensions, from the one of the longest way in memory to the one of the shortest."""
    return np.argsort([-abs(stride) for stride in array.strides], kind="stable")


def uniform_(input: Tensor, start: float = 0.0, to: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers uniform in [start, to)."""
    check("uniform_", start <= to, f"a lower bound up to the upper one, got {start} and {to}")

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        if input.dtype.kind != "c":
            return random.uniform(source(generator), shape, start, to, input.dtype)
        parts = random.uniform(source(generator), (*shape, 2), start, to, np.finfo(input.dtype).dtype)
        return parts.view(input.dtype)[..., 0]

    return overwrite("uniform_", input, draw, "fc")


def normal_(input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with normal numbers."""
    check("normal_", std >= 0, f"std of 0 or more, got {std}")
    contiguous = input.array.flags.c_contiguous

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        return normal_numbers(source(generator), shape, mean, std, input.dtype, contiguous)

    return overwrite("normal_", input, draw, "fc")


def exponential_(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers of density lambd exp(-lambd x)."""
    check("exponential_", lambd > 0, f"lambd above 0, got {lambd}")
    return overwrite("exponential_", input, lambda shape: random.exponential(source(generator), shape, lambd))


def geometric_(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers of trials up to the first success, which has probability p."""
    check("geometric_", 0 < p < 1, f"p between 0 and 1, got {p}")
    return overwrite("geometric_", input, lambda shape: random.geometric(source(generator), shape, p), "iuf")


def cauchy_(input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers of a Cauchy distribution."""
    check("cauchy_", sigma > 0, f"sigma above 0, got {sigma}")
    return overwrite("cauchy_", input, lambda shape: random.cauchy(source(generator), shape, median, sigma))


def log_normal_(input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fills with numbers whose logarithms are normal, of this mean and standard deviation."""
    check("log_normal_", std > 0, f"std above 0, got {std}")
    return overwrite("log_normal_", input, lambda shape: random.log_normal(source(generator), shape, mean, std))


def random_(input: Tensor, *bounds: int, generator: Generator | None = None) -> Tensor:
    """Fills with integers: random_(to) from 0, random_(low, to) from low, random_() with all that the dtype holds."""
    if not bounds:
        return overwrite(
            "random_", input, lambda shape: random.any_integers(source(generator), shape, input.dtype), "biuf"
        )
    low, high = (0, *bounds)[-2:]
    check("random_", low < high, f"a lower bound below the upper one, got {low} and {high}")
    check_bounds("random_", low, high, input.dtype)
    return overwrite("random_", input, lambda shape: random.integers(source(generator), low, high, shape), "biuf")


def bernoulli_(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fills with ones, each with probability p (a number, or a tensor of a probability for each), and zeros."""
    if not isinstance(p, Tensor):
        check_probability("bernoulli_", p)
        return overwrite("bernoulli_", input, lambda shape: random.bernoulli(source(generator), shape, p), "biuf")
    check_floating("bernoulli_", p.dtype)
    each = np.broadcast_to(check_probability("bernoulli_", p.array), input.shape).transpose(memory_order(input.array))
    return overwrite("bernoulli_", input, lambda shape: random.bernoulli_each(source(generator), each), "biuf")


METHODS: dict[str, Callable] = {
    method.__name__: method
    for method in (
        uniform_, normal_, exponential_, geometric_, cauchy_, log_normal_, random_, bernoulli_, bernoulli, multinomial,
    )
}  # fmt: skip
for name, method in METHODS.items():
    setattr(Tensor, name, method)
