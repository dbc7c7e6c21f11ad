"""Normalizations against torch's: values, gradients, running statistics, second derivatives, refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as theirs

import pargrad as pg
import pargrad.nn.functional as F
from tests.checks import assert_equal, both, run
from tests.higher import assert_as_finite, second_gradients

torch.set_num_threads(1)
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-12}


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape) * 2 + 0.5)


# A normalization as a function of a library's functional and tensors; weight and bias where they are taken.
def layer(shape, **settings):
    return lambda f, x, *parameters: f.layer_norm(x, shape, *parameters, **settings)


def root(shape, **settings):
    return lambda f, x, *parameters: f.rms_norm(x, shape, *parameters, **settings)


def group(count, **settings):
    return lambda f, x, *parameters: f.group_norm(x, count, *parameters, **settings)


def batch(f, x, *parameters):
    return f.batch_norm(x, None, None, *parameters, training=True)


def instance(f, x, *parameters):
    return f.instance_norm(x, None, None, *parameters)


def neighbours(size, **settings):
    return lambda f, x: f.local_response_norm(x, size, **settings)


CASES = {
    "layer": (layer((4,)), [normal(2, 3, 4)]),
    "layer of two dims": (layer((3, 4)), [normal(2, 3, 4), normal(3, 4), normal(3, 4)]),
    "layer with a weight": (layer((4,)), [normal(3, 4), normal(4)]),
    "layer with eps": (layer((4,), eps=0.5), [normal(3, 4), normal(4), normal(4)]),
    "layer of one row": (layer((4,)), [normal(4), normal(4), normal(4)]),
    "layer of no rows": (layer((4,)), [normal(0, 4), normal(4), normal(4)]),
    "layer of equal elements": (layer((4,)), [np.ones((3, 4)), normal(4), normal(4)]),
    "root": (root((4,)), [normal(2, 3, 4)]),
    "root of two dims": (root((3, 4)), [normal(2, 3, 4), normal(3, 4)]),
    "root with eps": (root((4,), eps=0.5), [normal(2, 4), normal(4)]),
    "root of zeros": (root((4,)), [np.zeros((2, 4)), normal(4)]),
    "group": (group(2), [normal(3, 4, 5)]),
    "group with parameters": (group(2), [normal(3, 4, 2, 2), normal(4), normal(4)]),
    "group without positions": (group(2, eps=0.1), [normal(3, 4), normal(4), normal(4)]),
    "group of one": (group(4), [normal(3, 4, 5), normal(4)]),
    "batch": (batch, [normal(6, 3)]),
    "batch with parameters": (batch, [normal(3, 2, 2, 3), normal(2), normal(2)]),
    "batch of sequences": (batch, [normal(3, 2, 4), normal(2), normal(2)]),
    "batch of equal elements": (batch, [np.ones((4, 3)), normal(3), normal(3)]),
    "instance": (instance, [normal(3, 2, 4)]),
    "instance with parameters": (instance, [normal(3, 2, 2, 3), normal(2), normal(2)]),
    "neighbours": (neighbours(3), [normal(2, 5, 3)]),
    "an even number of neighbours": (neighbours(2, alpha=0.5, beta=0.5, k=2.0), [normal(2, 5, 3, 2)]),
    "more neighbours than channels": (neighbours(7, alpha=0.5), [normal(2, 3, 4)]),
}


@both
@pytest.mark.parametrize(("function", "arrays"), CASES.values(), ids=CASES)
def test_values_and_gradients(function, arrays, dtype):
    arrays = [x.astype(dtype) for x in arrays]
    got = run(pg, lambda *tensors: function(F, *tensors), arrays)
    expected = run(torch, lambda *tensors: function(theirs, *tensors), arrays)
    scale = max(1, *(np.abs(x).max(initial=0) for x in expected[1]))
    assert_equal(got[0], expected[0], TOLERANCE[dtype])
    assert_equal([x / scale for x in got[1]], [(x / scale).astype(dtype) for x in expected[1]], TOLERANCE[dtype])


# torch's second derivative of batch_norm of equal elements loses all digits.
@pytest.mark.parametrize("name", [name for name in CASES if "equal" not in name])
def test_second_derivatives(name):
    function, arrays = CASES[name]
    got = second_gradients(pg, lambda *tensors: function(F, *tensors), arrays)
    expected = second_gradients(torch, lambda *tensors: function(theirs, *tensors), arrays)
    assert_as_finite(got, expected, 1e-9)


def test_a_large_mean_takes_no_digits():
    x = (np.random.default_rng(0).normal(size=(4, 100)) + 1e4).astype(np.float32)
    expected = theirs.layer_norm(torch.tensor(x, dtype=torch.float64), (100,)).numpy()
    np.testing.assert_allclose(F.layer_norm(pg.tensor(x), (100,)).numpy(), expected, rtol=0, atol=1e-3)


# ----- running statistics -----


def statistics(library, dtype):
    return [library.tensor(x.astype(dtype)) for x in (np.linspace(-1, 1, 2), np.linspace(1, 2, 2))]


@both
@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0, 0.0])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics(name, momentum, dtype):
    """Two steps of training move them as torch moves them, and then they are what is taken."""
    x = normal(3, 2, 4).astype(dtype)
    found = []
    for library, functional in ((pg, F), (torch, theirs)):
        mean, variance = statistics(library, dtype)
        for step in (1, 2):
            getattr(functional, name)(library.tensor(x * step), mean, variance, None, None, True, momentum)
        parameters = [normal(2).astype(dtype), normal(2).astype(dtype)]
        values, gradients = run(
            library,
            lambda x, *parameters, f=functional, s=(mean, variance): getattr(f, name)(x, *s, *parameters, False),
            [x, *parameters],
        )
        found.append([mean.numpy(), variance.numpy(), *values, *gradients])
    assert_equal(*found, TOLERANCE[dtype])


def test_the_graph_and_the_version_know_nothing_and_something_of_running_statistics():
    mean, variance = statistics(pg, np.float32)
    F.batch_norm(pg.tensor(normal(3, 2).astype(np.float32), requires_grad=True), mean, variance, training=True)
    assert not mean.requires_grad
    assert (mean._version, variance._version) == (1, 1)


# ----- refusals -----

X, TWO, THREE = pg.ones(4, 3, 2), pg.ones(2), pg.ones(3)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda: F.layer_norm(X, (3,)), RuntimeError, r"ends in \(3,\), got \(4, 3, 2\)"),
        (lambda: F.layer_norm(X, ()), RuntimeError, r"ends in \(\)"),
        (lambda: F.layer_norm(X, (2,), THREE), RuntimeError, "weight"),
        (lambda: F.layer_norm(X, (2,), None, THREE), RuntimeError, "bias"),
        (lambda: F.layer_norm(X.long(), (2,)), RuntimeError, r"write x\.float\(\)"),
        (lambda: F.rms_norm(X, (2,), THREE), RuntimeError, "weight"),
        (lambda: F.group_norm(X, 2), RuntimeError, "divides 3 channels, got 2"),
        (lambda: F.group_norm(TWO, 1), RuntimeError, r"\(N, C, \.\.\.\)"),
        (lambda: F.batch_norm(X, None, None), RuntimeError, "running_mean"),
        (lambda: F.batch_norm(X, TWO, THREE), RuntimeError, r"running_mean of shape \(3,\)"),
        (lambda: F.batch_norm(pg.ones(1, 3), None, None, training=True), ValueError, "more than 1 value"),
        (lambda: F.instance_norm(pg.ones(4, 3, 1)), ValueError, "more than 1 value"),
        (lambda: F.instance_norm(X, weight=TWO), RuntimeError, "weight"),
        (lambda: F.local_response_norm(pg.ones(4, 3), 2), ValueError, "3 or more"),
    ],
)
def test_refusals(wrong, error, told):
    with pytest.raises(error, match=told):
        wrong()
