"""The base of the distributions: shapes, checks, and what follows from the parts that each one writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad import creation, operators
from pargrad.modes import no_grad
from pargrad.tensor import Tensor

Shape = tuple[int, ...]


class Constraint(NamedTuple):
    """What values must be: a test of an array, and what it asks for in words."""

    holds: Callable[[np.ndarray], Any]
    words: str


real = Constraint(lambda x: x == x, "numbers, not nan")
positive = Constraint(lambda x: x > 0, "values above 0")
nonnegative = Constraint(lambda x: x >= 0, "values from 0 on")
boolean = Constraint(lambda x: (x == 0) | (x == 1), "0 or 1")
unit_interval = Constraint(lambda x: (x >= 0) & (x <= 1), "values from 0 to 1")
counts = Constraint(lambda x: (x >= 0) & (x % 1 == 0), "integers from 0 on")
simplex = Constraint(
    lambda x: (x >= 0).all(-1) & (np.abs(x.sum(-1) - 1) < 1e-6), "values from 0 on whose last dimension adds up to 1"
)


class Distribution:
    """The base: `batch_shape` independent distributions of values of `event_shape`.

    parameters: the names of the constructor's arguments, which are attributes. constraints: what these must be.
    validate_args=False leaves out all checks.
    """

    has_rsample = False
    parameters: tuple[str, ...] = ()
    constraints: dict[str, Constraint] = {}  # noqa: RUF012  # nobody writes into it
    batch_shape: Shape = ()
    event_shape: Shape = ()
    validate = True

    def settle(self, batch_shape: Shape, event_shape: Shape, validate_args: bool | None) -> None:
        """Sets the shapes and checks the parameters, which are set before."""
        self.batch_shape, self.event_shape = tuple(batch_shape), tuple(event_shape)
        self.validate = validate_args is not False
        for name, constraint in self.constraints.items():
            if self.validate and name in vars(self):
                self.check(name, vars(self)[name], constraint)

    def check(self, name: str, value: Tensor, constraint: Constraint) -> None:
        """Raises ValueError where a value is not what a parameter, or a sample, has to be."""
        if not np.all(constraint.holds(value.array)):
            raise ValueError(f"{type(self).__name__}: expected {name} to be {constraint.words}, got {value.detach()!r}")

    @property
    def support(self) -> Constraint:
        """What values have a probability."""
        return real

    def valued(self, value: Any) -> Tensor:
        """A value whose probability is asked for, checked."""
        if not isinstance(value, Tensor):
            raise ValueError(f"{type(self).__name__}: expected a value that is a tensor, got {type(value).__name__}")
        if self.validate:
            whole = self.batch_shape + self.event_shape
            if any(x != y and 1 not in (x, y) for x, y in zip(reversed(value.shape), reversed(whole))):
                raise ValueError(
                    f"{type(self).__name__}: a value of shape {value.shape} does not broadcast with {whole}"
                )
            self.check("the value", value, self.support)
        return value

    def shape_of(self, sample_shape: Any) -> Shape:
        """The shape of draws."""
        return (*sample_shape, *self.batch_shape, *self.event_shape)

    # ----- what each one writes -----

    @property
    def mean(self) -> Tensor:
        """The expected value, of shape batch_shape + event_shape; NotImplementedError where there is none."""
        raise NotImplementedError(f"{type(self).__name__} has no mean here")

    @property
    def variance(self) -> Tensor:
        """The variance of each element, of shape batch_shape + event_shape."""
        raise NotImplementedError(f"{type(self).__name__} has no variance here")

    @property
    def mode(self) -> Tensor:
        """The likeliest value."""
        raise NotImplementedError(f"{type(self).__name__} has no mode here")

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that have gradients with respect to the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no rsample here: write sample(), and log_prob of it")

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density, or of the probability, at a value."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob here")

    def entropy(self) -> Tensor:
        """The expectation of -log_prob."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy here")

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of what is at most the value."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf here")

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of `cdf`."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf here")

    # ----- what follows -----

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return operators.sqrt(self.variance)

    def perplexity(self) -> Tensor:
        """exp of the entropy, of shape batch_shape."""
        return operators.exp(self.entropy())

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of shape sample_shape + batch_shape + event_shape, outside of the graph."""
        return self.rsample(sample_shape)

    def expand(self, batch_shape: Any) -> Any:
        """The same, as a batch of this shape."""
        shape = tuple(batch_shape)
        given = {name: vars(self)[name] for name in self.parameters if name in vars(self)}
        tail = len(self.batch_shape)
        wide = {name: x.expand(shape + x.shape[tail:]) for name, x in given.items()}
        kind: Any = type(self)
        return kind(**wide, validate_args=self.validate)

    def __repr__(self) -> str:
        shown = {name: vars(self)[name] for name in self.parameters if name in vars(self)}
        words = (f"{name}: {x if x.numel() == 1 else x.shape}" for name, x in shown.items())
        return f"{type(self).__name__}({', '.join(words)})"


def broadcast_all(*values: Any) -> list[Tensor]:
    """Numbers and tensors as tensors of one shape; numbers alone are of the default dtype."""
    kinds = [x.dtype for x in values if isinstance(x, Tensor)]
    dtype = kinds[0] if kinds else creation.get_default_dtype()
    tensors = [x if isinstance(x, Tensor) else creation.tensor(x, dtype=dtype) for x in values]
    shape = np.broadcast_shapes(*(x.shape for x in tensors))
    return [x.expand(shape) for x in tensors]


def one_of(name: str, **given: Any) -> None:
    """Raises unless exactly one of the arguments that say the same is given."""
    if sum(value is not None for value in given.values()) != 1:
        raise ValueError(f"{name}: expected exactly one of {' and '.join(given)}")
