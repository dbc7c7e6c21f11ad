"""Kullback-Leibler divergences: the expectation, under p, of log p - log q."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pargrad import linalg, operators
from pargrad.distributions.continuous import Beta, Exponential, Gamma, Laplace, LogNormal, Normal, Uniform
from pargrad.distributions.discrete import Bernoulli, Categorical, Geometric, OneHotCategorical, Poisson
from pargrad.distributions.distribution import Distribution
from pargrad.distributions.multivariate import Dirichlet, Independent, MultivariateNormal
from pargrad.nn import functional as F
from pargrad.tensor import Tensor

RULES: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(type_p: type, type_q: type) -> Callable:
    """A decorator: the function gives the divergence of these kinds of distributions, and of kinds of these."""

    def registered(function: Callable) -> Callable:
        RULES[type_p, type_q] = function
        return function

    return registered


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p || q), of shape batch_shape: https://docs.pytorch.org/docs/stable/distributions.html#module-torch.distributions.kl"""
    for first in type(p).__mro__:
        for second in type(q).__mro__:
            if (first, second) in RULES:
                return RULES[first, second](p, q)
    raise NotImplementedError(
        f"no divergence of {type(p).__name__} and {type(q).__name__} is known: write one with register_kl"
    )


@register_kl(Normal, Normal)
def of_normals(p: Normal, q: Normal) -> Tensor:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - operators.log(ratio))


@register_kl(LogNormal, LogNormal)
def of_log_normals(p: LogNormal, q: LogNormal) -> Tensor:
    return of_normals(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def of_laplaces(p: Laplace, q: Laplace) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc).abs()
    return -operators.log(ratio) + away / q.scale + ratio * operators.exp(-away / p.scale) - 1


@register_kl(Uniform, Uniform)
def of_uniforms(p: Uniform, q: Uniform) -> Tensor:
    wider = operators.log((q.high - q.low) / (p.high - p.low))
    return operators.where((q.low > p.low) | (q.high < p.high), math.inf, wider)


@register_kl(Exponential, Exponential)
def of_exponentials(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return -operators.log(ratio) + ratio - 1


@register_kl(Gamma, Gamma)
def of_gammas(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    shape = operators.lgamma(b) - operators.lgamma(a) + (a - b) * operators.digamma(a)
    return b * operators.log(p.rate / q.rate) + shape + (q.rate - p.rate) * (a / p.rate)


@register_kl(Beta, Beta)
def of_betas(p: Beta, q: Beta) -> Tensor:
    first = (p.concentration1 - q.concentration1) * operators.digamma(p.concentration1)
    second = (p.concentration0 - q.concentration0) * operators.digamma(p.concentration0)
    return q.log_beta() - p.log_beta() + first + second + (q.total - p.total) * operators.digamma(p.total)


@register_kl(Dirichlet, Dirichlet)
def of_dirichlets(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    expected = operators.digamma(a) - operators.digamma(a.sum(-1, keepdim=True))
    return q.log_beta() - p.log_beta() + ((a - b) * expected).sum(-1)


@register_kl(Bernoulli, Bernoulli)
def of_bernoullis(p: Bernoulli, q: Bernoulli) -> Tensor:
    def surprise(other: Bernoulli) -> Tensor:
        return F.binary_cross_entropy_with_logits(other.logits + 0 * p.logits, p.probs + 0 * q.probs, reduction="none")

    return surprise(q) - surprise(p)


@register_kl(Geometric, Geometric)
def of_geometrics(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - operators.log(1 - q.probs) / p.probs - q.logits


@register_kl(Categorical, Categorical)
def of_categoricals(p: Categorical, q: Categorical) -> Tensor:
    terms = p.probs * (p.logits - q.logits)
    terms = operators.where((q.probs == 0).expand(terms.shape), math.inf, terms)
    return operators.where((p.probs == 0).expand(terms.shape), 0.0, terms).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def of_one_hot_categoricals(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return of_categoricals(p.categorical, q.categorical)


@register_kl(Poisson, Poisson)
def of_poissons(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (operators.log(p.rate) - operators.log(q.rate)) - (p.rate - q.rate)


@register_kl(MultivariateNormal, MultivariateNormal)
def of_multivariate_normals(p: MultivariateNormal, q: MultivariateNormal) -> Tensor:
    spread = linalg.solve_triangular(q.scale_tril, p.scale_tril, upper=False)
    away = linalg.solve_triangular(q.scale_tril, (q.loc - p.loc).unsqueeze(-1), upper=False)
    squares = (spread**2).sum((-2, -1)) + (away**2).sum((-2, -1))
    return q.half_log_det() - p.half_log_det() + 0.5 * (squares - p.event_shape[0])


@register_kl(Independent, Independent)
def of_independents(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(
            "no divergence of Independents of different reinterpreted_batch_ndims: "
            f"{p.reinterpreted_batch_ndims} and {q.reinterpreted_batch_ndims}"
        )
    return p.summed(kl_divergence(p.base_dist, q.base_dist))
