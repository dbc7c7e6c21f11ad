"""Distributions of yes and no, of one of several, and of counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad import creation, operators, sampling, special
from pargrad.distributions.distribution import (
    Constraint,
    Distribution,
    boolean,
    broadcast_all,
    counts,
    nonnegative,
    one_of,
    real,
    unit_interval,
)
from pargrad.modes import no_grad
from pargrad.nn import functional as F
from pargrad.tensor import Tensor


def inside(probs: Tensor) -> Tensor:
    """Probabilities away from 0 and 1 by the dtype's epsilon, so that their logarithms are finite."""
    eps = float(np.finfo(probs.dtype).eps)
    return probs.clamp(min=eps, max=1 - eps)


class YesOrNo(Distribution):
    """A base: of a probability, given as such or as its log-odds; the other one is computed when it is asked for."""

    parameters = ("probs", "logits")
    constraints = {"probs": unit_interval, "logits": real}  # noqa: RUF012

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        one_of(type(self).__name__, probs=probs, logits=logits)
        name = "probs" if logits is None else "logits"
        (given,) = broadcast_all(probs if logits is None else logits)
        vars(self)[name] = given
        self.settle(given.shape, (), validate_args)

    def __getattr__(self, name: str) -> Tensor:
        if name == "probs" and "logits" in vars(self):
            return operators.sigmoid(self.logits)
        if name == "logits" and "probs" in vars(self):
            return operators.log(inside(self.probs)) - operators.log1p(-inside(self.probs))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


class Bernoulli(YesOrNo):
    """1 with probability `probs`, else 0: https://docs.pytorch.org/docs/stable/distributions.html#bernoulli"""

    @property
    def support(self) -> Constraint:
        return boolean

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        likelier = (self.probs >= 0.5).to(self.probs.dtype)
        return operators.where(self.probs == 0.5, math.nan, likelier)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return sampling.bernoulli(self.probs.expand(self.shape_of(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self.valued(value))
        return -F.binary_cross_entropy_with_logits(logits, value, reduction="none")

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Geometric(YesOrNo):
    """How many failures come before the first success.

    https://docs.pytorch.org/docs/stable/distributions.html#geometric
    """

    @property
    def support(self) -> Constraint:
        return counts

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return creation.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = creation.empty(self.shape_of(sample_shape), dtype=self.probs.dtype)
        drawn.uniform_(float(np.finfo(drawn.dtype).tiny), 1)
        return (operators.log(drawn) / operators.log1p(-self.probs)).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        return special.xlog1py(self.valued(value), -self.probs) + operators.log(self.probs)

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs


class Categorical(Distribution):
    """One of the integers from 0 on, of which the last dimension has probabilities, or logits, to be normalized.

    https://docs.pytorch.org/docs/stable/distributions.html#categorical
    """

    parameters = ("probs", "logits")

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        one_of("Categorical", probs=probs, logits=logits)
        given: Any = probs if logits is None else logits
        if not isinstance(given, Tensor) or not given.ndim:
            raise ValueError("Categorical: expected probs or logits to be a tensor of at least one dimension")
        if probs is not None:
            total = probs.sum(-1, keepdim=True)
            if validate_args is not False and ((probs.array < 0).any() or not (total.array > 0).all()):
                raise ValueError(f"Categorical: expected probs from 0 on that add up to more, got {probs.detach()!r}")
            self.probs = probs / total
        else:
            self.logits = given - operators.logsumexp(given, -1, keepdim=True)
        self.choices = given.shape[-1]
        self.settle(given.shape[:-1], (), validate_args)
        if self.validate and logits is not None:
            self.check("logits", given, real)

    def __getattr__(self, name: str) -> Tensor:
        if name == "probs" and "logits" in vars(self):
            return F.softmax(self.logits, -1)
        if name == "logits" and "probs" in vars(self):
            return operators.log(inside(self.probs))
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def support(self) -> Constraint:
        return Constraint(lambda x: (x >= 0) & (x < self.choices) & (x % 1 == 0), f"integers below {self.choices}")

    @property
    def mean(self) -> Tensor:
        return creation.full(self.batch_shape, math.nan, dtype=self.probs.dtype)

    @property
    def variance(self) -> Tensor:
        return self.mean

    @property
    def mode(self) -> Tensor:
        return self.probs.argmax(-1)

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self.shape_of(sample_shape)
        drawn = sampling.multinomial(self.probs.reshape(-1, self.choices), math.prod(sample_shape), True)
        return drawn.t().reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        value, logits = operators.broadcast_tensors(self.valued(value).long().unsqueeze(-1), self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        # Where a probability is 0, the least number in the place of -inf: 0 times it is 0.
        finite = self.logits.clamp(min=float(np.finfo(self.logits.dtype).min))
        return -(finite * self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values along a new first dimension."""
        values = creation.arange(self.choices).view(-1, *(1 for _ in self.batch_shape))
        return values.expand(self.choices, *self.batch_shape) if expand else values


class OneHotCategorical(Distribution):
    """Categorical, whose values are one-hot: https://docs.pytorch.org/docs/stable/distributions.html#onehotcategorical"""

    parameters = ("probs", "logits")

    def __init__(self, probs: Tensor | None = None, logits: Tensor | None = None, validate_args: bool | None = None):
        self.categorical = Categorical(probs, logits, validate_args)
        self.settle(self.categorical.batch_shape, (self.categorical.choices,), validate_args)

    def expand(self, batch_shape: Any) -> OneHotCategorical:
        return OneHotCategorical(logits=self.logits.expand(*batch_shape, self.categorical.choices))

    def __repr__(self) -> str:
        return f"OneHot{self.categorical!r}"

    @property
    def probs(self) -> Tensor:
        """The probability of each class, along the last dimension."""
        return self.categorical.probs

    @property
    def logits(self) -> Tensor:
        """The logarithms of probs."""
        return self.categorical.logits

    @property
    def support(self) -> Constraint:
        return Constraint(lambda x: ((x == 0) | (x == 1)).all(-1) & (x.sum(-1) == 1), "one-hot in the last dimension")

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    @property
    def mode(self) -> Tensor:
        return F.one_hot(self.categorical.mode, self.categorical.choices).to(self.probs.dtype)

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return F.one_hot(self.categorical.sample(sample_shape), self.categorical.choices).to(self.probs.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.categorical.log_prob(self.valued(value).argmax(-1))

    def entropy(self) -> Tensor:
        return self.categorical.entropy()


class Poisson(Distribution):
    """How many events there are, where `rate` are expected.

    https://docs.pytorch.org/docs/stable/distributions.html#poisson
    """

    parameters = ("rate",)
    constraints = {"rate": nonnegative}  # noqa: RUF012

    def __init__(self, rate: Any, validate_args: bool | None = None):
        (self.rate,) = broadcast_all(rate)
        self.settle(self.rate.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return counts

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        return sampling.poisson(self.rate.expand(self.shape_of(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        value = self.valued(value)
        return operators.xlogy(value, self.rate) - self.rate - operators.lgamma(value + 1)
