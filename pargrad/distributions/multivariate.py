"""Distributions of vectors, and dimensions of a batch taken as part of one value."""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad import linalg, operators
from pargrad.distributions.continuous import HALF_LOG_TWO_PI, gamma_draws, standard_normal
from pargrad.distributions.distribution import Constraint, Distribution, one_of, positive, real, simplex
from pargrad.modes import no_grad
from pargrad.nn import functional as F
from pargrad.tensor import Tensor


class MultivariateNormal(Distribution):
    """Of a mean loc (..., d) and one of covariance_matrix, precision_matrix and scale_tril (..., d, d).

    scale_tril: the lower triangular Cholesky factor of the covariance, with which everything is computed.
    https://docs.pytorch.org/docs/stable/distributions.html#multivariatenormal
    """

    has_rsample = True
    parameters = ("loc", "scale_tril")
    constraints = {"loc": real}  # noqa: RUF012

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        one_of(
            "MultivariateNormal",
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        given: Any = next(x for x in (covariance_matrix, precision_matrix, scale_tril) if x is not None)
        size = loc.shape[-1] if loc.ndim else 0
        if not loc.ndim or given.shape[-2:] != (size, size):
            raise ValueError(
                f"MultivariateNormal: expected loc of shape (..., d) and a matrix (..., d, d), got {loc.shape} and "
                f"{given.shape}"
            )
        batch = np.broadcast_shapes(loc.shape[:-1], given.shape[:-2])
        self.loc = loc.expand(*batch, size)
        if covariance_matrix is not None:
            given = linalg.cholesky(given)
        elif precision_matrix is not None:
            given = cholesky_of_inverse(given)
        self.scale_tril = given.expand(*batch, size, size)
        self.settle(batch, (size,), validate_args)
        diagonal = self.scale_tril.array.diagonal(0, -2, -1)
        if self.validate and (not (diagonal > 0).all() or np.triu(self.scale_tril.array, 1).any()):
            raise ValueError("MultivariateNormal: expected scale_tril lower triangular with a diagonal above 0")

    @property
    def covariance_matrix(self) -> Tensor:
        """(..., d, d): scale_tril @ scale_tril.mT."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Tensor:
        """(..., d, d): the inverse of the covariance."""
        return linalg.inv(self.covariance_matrix)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril**2).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn = standard_normal(self.shape_of(sample_shape), self.loc.dtype)
        return self.loc + (self.scale_tril @ drawn.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        away = (self.valued(value) - self.loc).unsqueeze(-1)
        whitened = linalg.solve_triangular(self.scale_tril, away, upper=False).squeeze(-1)
        return -0.5 * (whitened**2).sum(-1) - self.event_shape[0] * HALF_LOG_TWO_PI - self.half_log_det()

    def half_log_det(self) -> Tensor:
        """Half the logarithm of the covariance's determinant: the sum of log of scale_tril's diagonal."""
        return operators.log(self.scale_tril.diagonal(0, -2, -1)).sum(-1)

    def entropy(self) -> Tensor:
        return self.event_shape[0] * (0.5 + HALF_LOG_TWO_PI) + self.half_log_det()


def cholesky_of_inverse(matrix: Tensor) -> Tensor:
    """The Cholesky factor of a matrix's inverse, without the inverse: by way of the factor of what is turned around."""
    turned = linalg.cholesky(matrix.flip(-2, -1)).flip(-2, -1).mT
    identity = Tensor(np.eye(matrix.shape[-1], dtype=matrix.dtype))
    return linalg.solve_triangular(turned, identity, upper=False)


class Dirichlet(Distribution):
    """Dirichlet: d shares that add up to 1, for a concentration (..., d).

    https://docs.pytorch.org/docs/stable/distributions.html#dirichlet

    Unlike torch's its draws have no gradients, and are not torch's for the same seed.
    """

    parameters = ("concentration",)
    constraints = {"concentration": positive}  # noqa: RUF012

    def __init__(self, concentration: Tensor, validate_args: bool | None = None):
        if not concentration.ndim:
            raise ValueError("Dirichlet: expected concentration of at least one dimension")
        self.concentration = concentration
        self.settle(concentration.shape[:-1], concentration.shape[-1:], validate_args)

    @property
    def support(self) -> Constraint:
        return simplex

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        """Where no concentration is above 1 the density is highest in a corner: that of the highest one is given."""
        above = (self.concentration - 1).clamp(min=0)
        inside = above / above.sum(-1, keepdim=True)
        corner = F.one_hot(self.concentration.argmax(-1), self.event_shape[0]).to(inside.dtype)
        return operators.where((self.concentration < 1).all(-1, keepdim=True), corner, inside)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))

    @no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = gamma_draws(self.concentration.expand(self.shape_of(sample_shape)).array)
        return Tensor((drawn / drawn.sum(-1, keepdims=True)).astype(self.concentration.dtype))

    def log_prob(self, value: Tensor) -> Tensor:
        return operators.xlogy(self.concentration - 1, self.valued(value)).sum(-1) - self.log_beta()

    def log_beta(self) -> Tensor:
        """The logarithm of the multivariate beta function, the density's denominator."""
        return operators.lgamma(self.concentration).sum(-1) - operators.lgamma(self.concentration.sum(-1))

    def entropy(self) -> Tensor:
        a, size = self.concentration, self.event_shape[0]
        total = a.sum(-1)
        return self.log_beta() - (size - total) * operators.digamma(total) - ((a - 1) * operators.digamma(a)).sum(-1)


class Independent(Distribution):
    """The last dimensions of a batch of distributions as one value, whose log_prob is their sum.

    https://docs.pytorch.org/docs/stable/distributions.html#independent
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ):
        batch = base_distribution.batch_shape
        if not 0 <= reinterpreted_batch_ndims <= len(batch):
            raise ValueError(
                f"Independent: expected reinterpreted_batch_ndims from 0 to {len(batch)}, which the batch has, got "
                f"{reinterpreted_batch_ndims}"
            )
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims
        split = len(batch) - reinterpreted_batch_ndims
        self.settle(batch[:split], batch[split:] + base_distribution.event_shape, validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        return self.summed(self.base_dist.entropy())

    def summed(self, values: Tensor) -> Tensor:
        """Over the dimensions that are part of one value."""
        count = self.reinterpreted_batch_ndims
        return values.sum(tuple(range(-count, 0))) if count else values

    def expand(self, batch_shape: Any) -> Independent:
        count = self.reinterpreted_batch_ndims
        own = self.base_dist.batch_shape[len(self.base_dist.batch_shape) - count :]
        return Independent(self.base_dist.expand((*batch_shape, *own)), count, self.validate)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"
