"""Distributions against torch's: log_prob, entropy, moments, draws, gradients, divergences; and what they refuse."""

import numpy as np
import pytest
import torch
import torch.distributions

import pargrad as pg
from pargrad import distributions

RNG = np.random.default_rng(5)
POSITIVE, OTHER = RNG.uniform(0.3, 3, (2, 3)), RNG.uniform(0.3, 3, (2, 3))
ANY, PROBS = RNG.normal(size=(2, 3)), RNG.uniform(0.1, 0.9, (2, 3))
MATRIX = RNG.normal(size=(3, 3))
COVARIANCE = MATRIX @ MATRIX.T + np.eye(3)
UNIT, SIMPLEX = RNG.uniform(0.05, 0.95, (2, 3)), np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
INTEGERS = np.array([[0, 1, 4], [2, 3, 0]])
ONE_HOT = np.eye(3)[[1, 2]]
# name, arguments, a value of the distribution
CASES = [
    ("Normal", {"loc": ANY, "scale": POSITIVE}, OTHER),
    ("LogNormal", {"loc": ANY, "scale": POSITIVE}, OTHER),
    ("Laplace", {"loc": ANY, "scale": POSITIVE}, OTHER),
    ("Uniform", {"low": ANY, "high": ANY + POSITIVE}, ANY + 0.5 * POSITIVE),
    ("Exponential", {"rate": POSITIVE}, OTHER),
    ("Gamma", {"concentration": POSITIVE, "rate": OTHER}, UNIT),
    ("Beta", {"concentration1": POSITIVE + 1, "concentration0": OTHER + 1}, UNIT),
    ("Dirichlet", {"concentration": POSITIVE}, SIMPLEX),
    ("Bernoulli", {"probs": PROBS}, (UNIT > 0.5).astype(float)),
    ("Bernoulli", {"logits": ANY}, (UNIT > 0.5).astype(float)),
    ("Geometric", {"probs": PROBS}, INTEGERS.astype(float)),
    ("Geometric", {"logits": ANY}, INTEGERS.astype(float)),
    ("Poisson", {"rate": POSITIVE}, INTEGERS.astype(float)),
    ("Categorical", {"probs": POSITIVE}, np.array([0, 2])),
    ("Categorical", {"logits": ANY}, np.array([[0, 2], [1, 1], [2, 0]])),
    ("OneHotCategorical", {"logits": ANY}, ONE_HOT),
    ("OneHotCategorical", {"probs": POSITIVE}, ONE_HOT),
    ("MultivariateNormal", {"loc": ANY, "covariance_matrix": COVARIANCE}, OTHER),
    ("MultivariateNormal", {"loc": ANY[0], "precision_matrix": COVARIANCE}, OTHER),
    ("MultivariateNormal", {"loc": ANY, "scale_tril": np.linalg.cholesky(COVARIANCE)}, OTHER),
]
IDS = [f"{name}-{'-'.join(arguments)}" for name, arguments, _ in CASES]
OWN_DRAWS = {"Gamma", "Beta", "Dirichlet"}


def made(library, name, arguments, dtype=np.float64, grad=False):
    given = {key: library.tensor(np.asarray(value, dtype), requires_grad=grad) for key, value in arguments.items()}
    return getattr(library.distributions, name)(**given), list(given.values())


def close(mine, theirs, rtol=1e-9):
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=rtol, atol=1e-12)


def same_gradients(mine, theirs, own, their_own):
    for result, inputs in ((mine, own), (theirs, their_own)):
        (result * result).sum().backward()
        assert any(x.grad is not None for x in inputs)
    for x, y in zip(own, their_own):
        assert (x.grad is None) == (y.grad is None)
        if x.grad is not None:
            np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("name", "arguments", "value"), CASES, ids=IDS)
@pytest.mark.parametrize("what", ["log_prob", "entropy", "mean", "variance", "stddev", "mode", "cdf"])
def test_values_and_gradients_are_torchs(name, arguments, value, what):
    (mine, own), (theirs, their_own) = (made(library, name, arguments, grad=True) for library in (pg, torch))
    assert (mine.batch_shape, mine.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    try:
        asked = getattr(theirs, what)
        expected = asked(torch.tensor(value)) if what in ("log_prob", "cdf") else asked() if callable(asked) else asked
    except NotImplementedError:
        with pytest.raises(NotImplementedError, match="has no"):
            got = getattr(mine, what)
            got = got(pg.tensor(value)) if callable(got) and what == "cdf" else got() if callable(got) else got
        return
    got = getattr(mine, what)
    got = got(pg.tensor(value)) if what in ("log_prob", "cdf") else got() if callable(got) else got
    close(got, expected)
    if expected.requires_grad and (name, what) != ("Gamma", "cdf"):
        same_gradients(got, expected, own, their_own)


@pytest.mark.parametrize(("name", "arguments", "value"), CASES, ids=IDS)
@pytest.mark.parametrize("sample_shape", [(), (5,), (40, 2)])
def test_draws_are_torchs(name, arguments, value, sample_shape):
    (mine, _), (theirs, _) = (made(library, name, arguments, np.float32) for library in (pg, torch))
    pg.manual_seed(3)
    torch.manual_seed(3)
    got, expected = mine.sample(sample_shape), theirs.sample(sample_shape)
    assert got.shape == tuple(expected.shape)
    assert str(got.dtype) == str(expected.dtype).removeprefix("torch.")
    if name not in OWN_DRAWS:
        np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    else:
        mine.log_prob(got)  # every draw is in the support


@pytest.mark.parametrize("name", ["Normal", "LogNormal", "Laplace", "Uniform", "Exponential", "MultivariateNormal"])
def test_gradients_of_draws_are_torchs(name):
    arguments = next(arguments for other, arguments, _ in CASES if other == name)
    (mine, own), (theirs, their_own) = (made(library, name, arguments, grad=True) for library in (pg, torch))
    assert mine.has_rsample
    pg.manual_seed(4)
    torch.manual_seed(4)
    got, expected = mine.rsample((6,)), theirs.rsample((6,))
    close(got, expected)
    same_gradients(got, expected, own, their_own)


@pytest.mark.parametrize("name", sorted(OWN_DRAWS))
def test_own_draws_have_the_moments(name):
    arguments = next(arguments for other, arguments, _ in CASES if other == name)
    mine, _ = made(pg, name, arguments)
    pg.manual_seed(0)
    count = 40_000
    drawn = mine.sample((count,)).numpy()
    error = mine.stddev.numpy() / np.sqrt(count)
    assert (np.abs(drawn.mean(0) - mine.mean.numpy()) < 5 * error).all()
    np.testing.assert_allclose(drawn.var(0), mine.variance.numpy(), rtol=0.1)
    with pytest.raises(NotImplementedError, match="has no rsample here"):
        mine.rsample()


PAIRS = sorted({name for name, _, _ in CASES})


@pytest.mark.parametrize("name", PAIRS)
def test_divergences_are_torchs(name):
    arguments = next(arguments for other, arguments, _ in CASES if other == name)
    others = {key: value * (1 if value.shape == (3, 3) else 1.1) for key, value in arguments.items()}
    results, inputs = [], []
    for library in (pg, torch):
        (p, first), (q, second) = (made(library, name, given, grad=True) for given in (arguments, others))
        results.append(library.distributions.kl_divergence(p, q))
        inputs.append(first + second)
    close(*results)
    if np.isfinite(results[1].detach().numpy()).all():
        same_gradients(*results, *inputs)


def test_independent_is_torchs():
    results = []
    for library in (pg, torch):
        normal, _ = made(library, "Normal", CASES[0][1])
        other, _ = made(library, "Normal", {"loc": OTHER, "scale": UNIT})
        kind = library.distributions.Independent
        p, q = kind(normal, 1), kind(other, 1)
        assert tuple(p.batch_shape) == (2,) and tuple(p.event_shape) == (3,) and p.has_rsample
        divergence = library.distributions.kl_divergence(p, q)
        results.append([p.log_prob(library.tensor(UNIT)), p.entropy(), divergence, p.expand((4, 2)).entropy()])
    for mine, theirs in zip(*results):
        close(mine, theirs)


def test_expand_and_text_are_torchs():
    for name, arguments, value in CASES:
        (mine, _), (theirs, _) = (made(library, name, arguments) for library in (pg, torch))
        batch = (3, *mine.batch_shape) if mine.batch_shape else (2,)
        close(mine.expand(batch).log_prob(pg.tensor(value)), theirs.expand(batch).log_prob(torch.tensor(value)))
    for kind, given in (("Normal", (0.0, 1.0)), ("Bernoulli", (0.3,)), ("Uniform", (0, 2)), ("Exponential", (1.5,))):
        theirs = repr(getattr(torch.distributions, kind)(*given))
        assert repr(getattr(distributions, kind)(*given)) == theirs


def test_categories_are_enumerated():
    probs = np.float32([[0.2, 0.8], [0.5, 0.5]])
    mine, theirs = (library.distributions.Categorical(library.tensor(probs)) for library in (pg, torch))
    np.testing.assert_array_equal(mine.enumerate_support().numpy(), theirs.enumerate_support().numpy())


REFUSED = [
    (lambda: distributions.Normal(0.0, -1.0), "expected scale to be values above 0"),
    (lambda: distributions.Normal(float("nan"), 1.0), "expected loc to be numbers"),
    (lambda: distributions.Normal(0.0, 1.0).log_prob(3.0), "a value that is a tensor, got float"),
    (lambda: distributions.Normal(pg.zeros(3), 1.0).log_prob(pg.ones(2)), r"\(2,\) does not broadcast with \(3,\)"),
    (lambda: distributions.Uniform(1.0, 0.0), "expected low below high"),
    (lambda: distributions.Uniform(0.0, 1.0).log_prob(pg.tensor(2.0)), "from 0.0 to 1.0"),
    (lambda: distributions.Bernoulli(), "exactly one of probs and logits"),
    (lambda: distributions.Bernoulli(1.5), "values from 0 to 1"),
    (lambda: distributions.Categorical(pg.tensor([-1.0, 2.0])), "expected probs from 0 on"),
    (lambda: distributions.Categorical(pg.ones(3)).log_prob(pg.tensor(3)), "integers below 3"),
    (lambda: distributions.MultivariateNormal(pg.zeros(2), pg.eye(3)), r"\(\.\.\., d, d\), got \(2,\) and \(3, 3\)"),
    (lambda: distributions.MultivariateNormal(pg.zeros(2), scale_tril=pg.ones(2, 2)), "lower triangular"),
    (lambda: distributions.Independent(distributions.Normal(0.0, 1.0), 1), "from 0 to 0"),
]


@pytest.mark.parametrize(("wrong", "told"), REFUSED)
def test_refusals(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_checks_can_be_left_out_and_unknown_divergences_are_refused():
    assert distributions.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
    with pytest.raises(NotImplementedError, match="Normal and Uniform is known: write one with register_kl"):
        distributions.kl_divergence(distributions.Normal(0.0, 1.0), distributions.Uniform(0.0, 1.0))
