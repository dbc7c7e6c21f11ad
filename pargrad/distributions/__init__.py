"""Distributions to draw from, with torch.distributions' names: the common ones, and Kullback-Leibler divergences.

Draws are torch's for the same seed, but those of Gamma, Beta and Dirichlet, which have no `rsample` either.
https://docs.pytorch.org/docs/stable/distributions.html
"""

from pargrad.distributions.continuous import Beta, Exponential, Gamma, Laplace, LogNormal, Normal, Uniform
from pargrad.distributions.discrete import Bernoulli, Categorical, Geometric, OneHotCategorical, Poisson
from pargrad.distributions.distribution import Distribution
from pargrad.distributions.kl import kl_divergence, register_kl
from pargrad.distributions.multivariate import Dirichlet, Independent, MultivariateNormal

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Dirichlet",
    "Distribution",
    "Exponential",
    "Gamma",
    "Geometric",
    "Independent",
    "Laplace",
    "LogNormal",
    "MultivariateNormal",
    "Normal",
    "OneHotCategorical",
    "Poisson",
    "Uniform",
    "kl_divergence",
    "register_kl",
]
