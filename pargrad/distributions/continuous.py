"""Distributions of one real number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad import creation, operators, sampling, special
from pargrad.distributions.distribution import (
    Constraint,
    Distribution,
    broadcast_all,
    nonnegative,
    positive,
    real,
    unit_interval,
)
from pargrad.modes import no_grad
from pargrad.tensor import Tensor

HALF_LOG_TWO_PI = math.log(math.sqrt(2 * math.pi))


class LocationScale(Distribution):
    """A base: two parameters, where it lies and how wide it is."""

    has_rsample = True
    parameters = ("loc", "scale")
    constraints = {"loc": real, "scale": positive}  # noqa: RUF012

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        self.settle(self.loc.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc


class Normal(LocationScale):
    """Normal, with mean loc and standard deviation scale.

    https://docs.pytorch.org/docs/stable/distributions.html#normal

    >>> normal = pg.distributions.Normal(0.0, 2.0)
    >>> normal.stddev, normal.sample((3,)).shape
    (tensor(2.), (3,))
    """

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self.shape_of(sample_shape)
        return sampling.normal(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + standard_normal(self.shape_of(sample_shape), self.loc.dtype) * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        value = self.valued(value)
        return -((value - self.loc) ** 2) / (2 * self.variance) - operators.log(self.scale) - HALF_LOG_TWO_PI

    def entropy(self) -> Tensor:
        return 0.5 + HALF_LOG_TWO_PI + operators.log(self.scale)

    def cdf(self, value: Tensor) -> Tensor:
        return 0.5 * (1 + operators.erf((self.valued(value) - self.loc) / self.scale / math.sqrt(2)))

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * operators.erfinv(2 * value - 1) * math.sqrt(2)


def standard_normal(shape: Any, dtype: Any) -> Tensor:
    return sampling.normal(creation.zeros(shape, dtype=dtype), creation.ones(shape, dtype=dtype))


class LogNormal(LocationScale):
    """exp of a Normal with this loc and scale: https://docs.pytorch.org/docs/stable/distributions.html#lognormal"""

    @property
    def base_dist(self) -> Normal:
        """The Normal whose exponential this is."""
        return Normal(self.loc, self.scale, validate_args=False)

    @property
    def support(self) -> Constraint:
        return positive

    @property
    def mean(self) -> Tensor:
        return operators.exp(self.loc + self.scale**2 / 2)

    @property
    def mode(self) -> Tensor:
        return operators.exp(self.loc - self.scale**2)

    @property
    def variance(self) -> Tensor:
        return operators.expm1(self.scale**2) * operators.exp(2 * self.loc + self.scale**2)

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return operators.exp(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return operators.exp(self.base_dist.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        logarithm = operators.log(self.valued(value))
        return self.base_dist.log_prob(logarithm) - logarithm

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc

    def cdf(self, value: Tensor) -> Tensor:
        return self.base_dist.cdf(operators.log(self.valued(value)))

    def icdf(self, value: Tensor) -> Tensor:
        return operators.exp(self.base_dist.icdf(value))


class Laplace(LocationScale):
    """Laplace, exp(-|value - loc| / scale) / (2 * scale): https://docs.pytorch.org/docs/stable/distributions.html#laplace"""

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale**2

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn = creation.empty(self.shape_of(sample_shape), dtype=self.loc.dtype)
        drawn.uniform_(float(np.finfo(self.loc.dtype).eps) - 1, 1)
        return self.loc - self.scale * drawn.sign() * operators.log1p(-drawn.abs())

    def log_prob(self, value: Tensor) -> Tensor:
        return -operators.log(2 * self.scale) - (self.valued(value) - self.loc).abs() / self.scale

    def entropy(self) -> Tensor:
        return 1 + operators.log(2 * self.scale)

    def cdf(self, value: Tensor) -> Tensor:
        away = self.valued(value) - self.loc
        return 0.5 - 0.5 * away.sign() * operators.expm1(-away.abs() / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        away = value - 0.5
        return self.loc - self.scale * away.sign() * operators.log1p(-2 * away.abs())


class Uniform(Distribution):
    """Of [low, high): https://docs.pytorch.org/docs/stable/distributions.html#uniform"""

    has_rsample = True
    parameters = ("low", "high")

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None):
        self.low, self.high = broadcast_all(low, high)
        self.settle(self.low.shape, (), validate_args)
        if self.validate and not (self.low.array < self.high.array).all():
            raise ValueError(f"Uniform: expected low below high, got {self.low.detach()!r} and {self.high.detach()!r}")

    @property
    def support(self) -> Constraint:
        low, high = self.low.array, self.high.array
        return Constraint(lambda x: (x >= low) & (x <= high), f"from {low} to {high}")

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        """nan: all values are equally likely."""
        return math.nan * self.high

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn = sampling.rand(self.shape_of(sample_shape), dtype=self.low.dtype)
        return self.low + drawn * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        inside = (self.valued(value) >= self.low) & (value < self.high)
        return operators.log(inside.to(self.low.dtype)) - operators.log(self.high - self.low)

    def entropy(self) -> Tensor:
        return operators.log(self.high - self.low)

    def cdf(self, value: Tensor) -> Tensor:
        return ((self.valued(value) - self.low) / (self.high - self.low)).clamp(min=0, max=1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low


class Exponential(Distribution):
    """rate * exp(-rate * value), of values above 0.

    https://docs.pytorch.org/docs/stable/distributions.html#exponential
    """

    has_rsample = True
    parameters = ("rate",)
    constraints = {"rate": positive}  # noqa: RUF012

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        self.settle(self.rate.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return nonnegative

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return creation.zeros_like(self.rate)

    @property
    def variance(self) -> Tensor:
        return self.rate**-2

    @property
    def stddev(self) -> Tensor:
        return 1 / self.rate

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return creation.empty(self.shape_of(sample_shape), dtype=self.rate.dtype).exponential_() / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return operators.log(self.rate) - self.rate * self.valued(value)

    def entropy(self) -> Tensor:
        return 1 - operators.log(self.rate)

    def cdf(self, value: Tensor) -> Tensor:
        return 1 - operators.exp(-self.rate * self.valued(value))

    def icdf(self, value: Tensor) -> Tensor:
        return -operators.log1p(-value) / self.rate


# ----- of which nothing is drawn as torch draws it -----


def gamma_draws(concentration: np.ndarray) -> np.ndarray:
    """Gamma numbers of these concentrations and rate 1, in float64.

    Marsaglia and Tsang 2000, A simple method for generating gamma variables: a normal number is cubed and accepted
    with a probability near 1; one of a concentration below 1 is made of one above it.
    """
    shape = concentration.shape
    raised = concentration.astype(np.float64) + (concentration < 1)
    third = raised - 1 / 3

    def attempt() -> tuple[np.ndarray, np.ndarray]:
        normal = sampling.randn(shape, dtype=np.float64).array
        uniform = 1 - sampling.rand(shape, dtype=np.float64).array  # never 0
        cube = (1 + normal / np.sqrt(9 * third)) ** 3
        with np.errstate(invalid="ignore", divide="ignore"):
            bound = 0.5 * normal**2 + third * (1 - cube + np.log(cube))
        return third * cube, (cube > 0) & (np.log(uniform) < bound)

    out, accepted = attempt()
    while not accepted.all():
        again, fine = attempt()
        out, accepted = np.where(accepted, out, again), accepted | fine
    power = 1 - sampling.rand(shape, dtype=np.float64).array
    return np.where(concentration < 1, out * power ** (1 / concentration), out)


class Gamma(Distribution):
    """Gamma: sums of `concentration` exponential waiting times of this rate.

    https://docs.pytorch.org/docs/stable/distributions.html#gamma

    Unlike torch's its draws have no gradients, and are not torch's for the same seed.
    """

    parameters = ("concentration", "rate")
    constraints = {"concentration": positive, "rate": positive}  # noqa: RUF012

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None):
        self.concentration, self.rate = broadcast_all(concentration, rate)
        self.settle(self.concentration.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return nonnegative

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = gamma_draws(self.concentration.expand(self.shape_of(sample_shape)).array)
        return Tensor(drawn.astype(self.rate.dtype)) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        value = self.valued(value)
        grown = operators.xlogy(self.concentration, self.rate) + operators.xlogy(self.concentration - 1, value)
        return grown - self.rate * value - operators.lgamma(self.concentration)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - operators.log(self.rate) + operators.lgamma(a) + (1 - a) * operators.digamma(a)

    def cdf(self, value: Tensor) -> Tensor:
        return special.gammainc(self.concentration, self.rate * self.valued(value))


class Beta(Distribution):
    """Beta, on [0, 1]: value^(concentration1 - 1) * (1 - value)^(concentration0 - 1), up to a factor.

    https://docs.pytorch.org/docs/stable/distributions.html#beta

    Unlike torch's its draws have no gradients, and are not torch's for the same seed.
    """

    parameters = ("concentration1", "concentration0")
    constraints = {"concentration1": positive, "concentration0": positive}  # noqa: RUF012

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None):
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        self.settle(self.concentration1.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return unit_interval

    @property
    def total(self) -> Tensor:
        """The sum of both concentrations."""
        return self.concentration1 + self.concentration0

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / self.total

    @property
    def mode(self) -> Tensor:
        return (self.concentration1 - 1) / (self.total - 2)

    @property
    def variance(self) -> Tensor:
        return self.concentration1 * self.concentration0 / (self.total**2 * (self.total + 1))

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self.shape_of(sample_shape)
        first, second = (gamma_draws(x.expand(shape).array) for x in (self.concentration1, self.concentration0))
        return Tensor((first / (first + second)).astype(self.concentration1.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        value = self.valued(value)
        powers = operators.xlogy(self.concentration1 - 1, value) + operators.xlogy(self.concentration0 - 1, 1 - value)
        return powers - self.log_beta()

    def log_beta(self) -> Tensor:
        """The logarithm of the beta function of the concentrations, the density's denominator."""
        return (
            operators.lgamma(self.concentration1) + operators.lgamma(self.concentration0) - operators.lgamma(self.total)
        )

    def entropy(self) -> Tensor:
        a, b, total = self.concentration1, self.concentration0, self.total
        return (
            self.log_beta()
            - (a - 1) * operators.digamma(a)
            - (b - 1) * operators.digamma(b)
            + (total - 2) * operators.digamma(total)
        )
