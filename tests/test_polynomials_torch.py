"""Orthogonal polynomials and Airy's function against torch's values, and the derivatives that torch has not."""

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import special
from pargrad.rules import RULES
from pargrad.tensor import apply
from tests.checks import assert_equal, both, check_derivative, run

NAMES = [name for name in special.__all__ if "polynomial" in name]
POINTS = [-1.5, -1.0, -0.3, 0.0, 0.25, 0.5, 0.9, 1.0, 1.5]
# torch evaluates cosines where the recurrence has more digits.
ROUGH = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}


def values(name, *arguments, tolerance=None):
    got = getattr(special, name)(*(pg.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments))
    expected = getattr(torch.special, name)(
        *(torch.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments)
    ).numpy()
    scale = np.maximum(1, np.abs(expected)).astype(expected.dtype)
    assert_equal([got.detach().numpy() / scale], [expected / scale], tolerance or ROUGH.get(expected.dtype))


def test_they_are_all_there():
    assert sorted(NAMES) == [name for name in sorted(dir(torch.special)) if "_polynomial_" in name]
    missing = {name for name in torch.special.__all__ if not hasattr(special, name)}
    assert missing == set()


@both
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [-1, 0, 1, 2, 3, 7, 12, 2.7])
def test_polynomials_of_one_degree(name, n, dtype):
    values(name, np.array(POINTS, dtype), n)


@pytest.mark.parametrize("name", NAMES)
def test_polynomials_of_many_degrees(name):
    x = np.array(POINTS)
    values(name, x, np.array([[0], [-3], [4], [9]]))
    values(name, x.astype(np.float32), np.arange(9.0))
    values(name, 0.75, np.arange(5))
    values(name, np.arange(3), 2)
    values(name, np.zeros((2, 0)), np.zeros(0))


def test_of_degree_0_the_polynomial_is_1_everywhere():
    x = np.array([np.nan, np.inf, 1.0], np.float32)
    values("hermite_polynomial_h", x, 0)


MODULES = {
    "chebyshev_polynomial_t": np.polynomial.Chebyshev,
    "hermite_polynomial_h": np.polynomial.Hermite,
    "hermite_polynomial_he": np.polynomial.HermiteE,
    "laguerre_polynomial_l": np.polynomial.Laguerre,
    "legendre_polynomial_p": np.polynomial.Legendre,
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
def test_derivatives_are_numpys(name, n):
    x = np.array(POINTS)
    (value,), (gradient,) = run(pg, lambda x: getattr(special, name)(x, n) * pg.ones(1).double(), [x])
    exact = MODULES[name].basis(n)
    seeds = run(pg, lambda x: x * 1, [x])[1][0]  # what `run` sends backward
    scale = np.maximum(1, np.abs(exact(x)))
    assert_equal([value / scale], [exact(x) / scale], 1e-12)
    slope = exact.deriv()(x) * seeds
    assert_equal([gradient / np.maximum(1, np.abs(slope))], [slope / np.maximum(1, np.abs(slope))], 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_those_that_differences_find(name):
    degrees = pg.tensor([[0], [3], [1], [-1], [2]])
    assert check_derivative(lambda x: getattr(special, name)(x, degrees), [np.array(POINTS)]) == 1


def test_complex_numbers_are_refused_as_torch_does():
    with pytest.raises(RuntimeError, match="chebyshev_polynomial_t: expected real numbers, got complex128"):
        special.chebyshev_polynomial_t(pg.tensor(np.ones(2, complex)), 2)
    with pytest.raises(RuntimeError):
        torch.special.chebyshev_polynomial_t(torch.ones(2, dtype=torch.complex128), 2)


# ----- what torch.special has from elsewhere -----

FORMS = [
    lambda library, x: library.special.softmax(x, 1),
    lambda library, x: library.special.softmax(x, dim=0, dtype=library.float64),
    lambda library, x: library.special.log_softmax(x, 1, dtype=library.float32),
    lambda library, x: library.special.logsumexp(x, (0, 1), keepdim=True),
    lambda library, x: library.special.round(x, decimals=1),
    lambda library, x: library.special.logit(x / 5, eps=0.1),
    lambda library, x: library.special.multigammaln(x, 2),
    lambda library, x: library.special.xlogy(2, x),
    lambda library, x: library.special.xlog1py(x, other=x),
    lambda library, x: library.special.expit(x),
    lambda library, x: library.special.psi(x),
    lambda library, x: library.special.gammaln(x),
]


@both
@pytest.mark.parametrize("function", FORMS, ids=range(len(FORMS)))
def test_torchs_ways_to_call_them(function, dtype):
    x = np.random.default_rng(0).uniform(1.5, 4, (3, 4)).astype(dtype)
    got, expected = run(pg, lambda x: function(pg, x), [x]), run(torch, lambda x: function(torch, x), [x])
    tolerance = 1e-5 if np.float32 in (dtype, got[0][0].dtype) else 1e-9
    assert_equal(got[0] + got[1], expected[0] + expected[1], tolerance)


# ----- Airy -----


@both
def test_airy(dtype):
    values(
        "airy_ai", np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 5.0, 200.0, np.nan], dtype), tolerance=1e-5
    )  # torch has five
    values("airy_ai", np.array([0, 1]))


def test_airys_equation_and_the_derivative_of_its_derivative():
    x = np.linspace(-5, 3, 9)
    rule = RULES["airy_ai"]
    for derivative in (0, 1):
        assert check_derivative(lambda x, d=derivative: apply(rule, x, derivative=d), [x]) == 1
