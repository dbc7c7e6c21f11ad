"""Elementwise operators against torch where they are special: kinks, bounds, infinities, integers, literals."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import operators, special
from tests.agreement_torch import check_both
from tests.checks import assert_equal, both

NAN, INF = float("nan"), float("inf")


def named(name):
    """torch.NAME or torch.special.NAME, and pargrad's."""

    def function(library, *arguments, **settings):
        return (getattr(library, name, None) or getattr(library.special, name))(*arguments, **settings)

    return function


# ----- one argument -----

LINE = [-INF, -2.5, -1.0, -0.5, 0.0, 1e-3, 0.5, 1.0, 1.5, 2.5, INF, NAN]
FINITE = [-2.5, -1.0, -0.5, -0.0, 0.0, 1e-3, 0.5, 1.0, 1.5, 2.5]
ONE = {
    # acosh at -1, where there is no value: torch has inf, pargrad -inf.
    "acos": LINE, "acosh": [-INF, -2.5, 0.0, 1.0, 1.5, INF, NAN], "asin": LINE, "asinh": LINE, "atan": LINE,
    "atanh": LINE, "ceil": LINE, "cos": LINE, "cosh": LINE, "deg2rad": LINE, "erf": LINE, "erfc": LINE,
    "erfinv": LINE, "exp2": LINE, "expm1": LINE, "floor": LINE, "frac": LINE, "log10": LINE, "log1p": LINE,
    "log2": LINE, "logit": LINE, "nan_to_num": LINE, "positive": LINE, "rad2deg": LINE, "reciprocal": LINE,
    "round": LINE, "rsqrt": LINE, "sign": LINE[:-1], "sin": LINE, "sinh": LINE, "tan": LINE,
    "sinc": [x for x in LINE if x != 1e-3],
    "trunc": LINE, "ndtr": LINE, "ndtri": LINE, "entr": LINE, "erfcx": LINE, "log_ndtr": LINE[1:],
    # torch's Bessel functions are nan at infinity, scipy's are inf; torch's i1 and i1e of nan have the derivative 0.5.
    "i0": FINITE, "i0e": LINE, "i1": FINITE, "i1e": LINE[:-1],
    "isnan": LINE, "isinf": LINE, "isfinite": LINE, "isposinf": LINE, "isneginf": LINE, "signbit": LINE,
    "logical_not": LINE, "lgamma": [0.0, 1e-3, 0.5, 1.0, 1.5, 2.5, 30.0, -0.5, -1.5, INF, NAN],
}  # fmt: skip


@both
@pytest.mark.parametrize("name", ONE)
def test_one_argument(name, dtype):
    # In float32 torch's erfinv, log_ndtr and lgamma have five digits.
    check_both(named(name), [np.array(ONE[name], dtype)], 2e-5 if dtype == np.float32 else None)


@both
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "sin", "asinh", "atan", "expm1", "log1p", "erf"])
def test_the_sign_of_zero_is_kept(name, dtype):
    got = getattr(pg, name)(pg.tensor(np.array([-0.0, 0.0], dtype)))
    assert np.signbit(got.numpy()).tolist() == [True, False]


@both
def test_rounding_halves_to_even_and_to_decimals(dtype):
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.125, 14.9, -16.0, 250.0], dtype)
    for decimals in (0, 1, 2, -1, -2):
        check_both(lambda library, x, decimals=decimals: library.round(x, decimals=decimals), [x])


@both
@pytest.mark.parametrize("settings", [{"nan": 2.0}, {"posinf": 1.0}, {"nan": 1.0, "neginf": -3.0}], ids=str)
def test_nan_to_num(settings, dtype):
    check_both(lambda library, x: library.nan_to_num(x, **settings), [np.array(LINE, dtype)])


@both
@pytest.mark.parametrize("eps", [None, 0.0, 0.1, 1e-6])
def test_logit_at_its_bounds(eps, dtype):
    check_both(lambda library, x: library.logit(x, eps), [np.array([-0.5, 0.0, 0.1, 0.25, 0.9, 1.0, 1.5, NAN], dtype)])


@both
def test_sinc_near_zero_is_right_where_a_quotient_is_not(dtype):
    x = pg.tensor(np.array([1e-8, 1e-5, 1e-4, 1e-3, 0.0999, 0.1, 0.1001], dtype), requires_grad=True)
    special.sinc(x).sum().backward()
    far = x.detach().numpy().astype(np.longdouble) * np.longdouble(np.pi)
    series = [sum((-1) ** k * t ** (2 * k - 1) * 2 * k / _factorial(2 * k + 1) for k in range(1, 12)) for t in far]
    np.testing.assert_allclose(
        x.grad.numpy(), np.pi * np.array(series, float), rtol=3e-5 if dtype == np.float32 else 1e-13
    )


def _factorial(n):
    return 1 if n < 2 else n * _factorial(n - 1)


def test_sign_of_nan_is_nan_unlike_torch():
    assert np.isnan(pg.sign(pg.tensor([NAN])).numpy()).all()
    assert torch.sign(torch.tensor([NAN])).item() == 0


# ----- Gamma -----


@both
def test_digamma_at_its_poles(dtype):
    x = np.array([-0.0, 0.0, -1.0, -2.0, INF, -INF, NAN], dtype)
    with np.errstate(all="ignore"):
        got = pg.digamma(pg.tensor(x)).numpy()
    assert_equal([got], [torch.digamma(torch.tensor(x)).numpy()])


@both
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_polygamma(n, dtype):
    x = np.array([0.1, 0.5, 1.0, 2.5, 30.0, -0.5, -1.5, INF, NAN], dtype)
    # torch's trigamma has ten digits; its float32 one, and digamma below 0, five.
    tolerance = 1e-9 if dtype == np.float64 else 2e-5
    with np.errstate(all="ignore"):
        got = pg.polygamma(n, pg.tensor(x)).numpy()
    expected = torch.polygamma(n, torch.tensor(x)).numpy()
    if n:  # at infinity torch's zeta is nan
        got, expected = got[:-2], expected[:-2]
    assert_equal([got], [expected], tolerance)
    method = pg.tensor(x[:3]).polygamma(n)
    np.testing.assert_array_equal(method.numpy(), got[:3])


def test_trigamma_has_the_digits_that_torchs_own_has_not():
    x = np.array([0.7, 1.5, 3.0])
    exact = torch.special.zeta(torch.tensor(2.0, dtype=torch.float64), torch.tensor(x)).numpy()
    np.testing.assert_allclose(pg.polygamma(1, pg.tensor(x)).numpy(), exact, rtol=1e-14)
    assert np.abs(torch.polygamma(1, torch.tensor(x)).numpy() / exact - 1).max() > 1e-12


def test_polygamma_refuses_a_negative_order():
    with pytest.raises(RuntimeError, match="an n of at least 0, got -1"):
        pg.polygamma(-1, pg.ones(2))


@both
@pytest.mark.parametrize("p", [1, 2, 4])
def test_mvlgamma(p, dtype):
    check_both(
        lambda library, x: library.mvlgamma(x, p),
        [np.array([1.75, 2.5, 9.0], dtype)],
        2e-5 if dtype == np.float32 else None,
    )


@both
def test_zeta(dtype):
    x, q = np.array([2.0, 1.0, 3.0, 0.5, 3.0, 30.0], dtype), np.array([1.0, 2.0, 0.0, 2.0, -1.5, 2.0], dtype)
    got = special.zeta(pg.tensor(x), pg.tensor(q)).numpy()
    assert_equal([got], [torch.special.zeta(torch.tensor(x), torch.tensor(q)).numpy()])


def test_log_ndtr_deep_in_its_tail():
    x = np.array([-1000.0, -100.0, -30.0, -10.0])
    check_both(lambda library, x: library.special.log_ndtr(x), [x], 1e-10)  # at -1000 torch has 10 digits
    single = pg.tensor(x.astype(np.float32), requires_grad=True)
    special.log_ndtr(single).sum().backward()
    double = pg.tensor(x, requires_grad=True)
    special.log_ndtr(double).sum().backward()
    np.testing.assert_allclose(single.grad.numpy(), double.grad.numpy(), rtol=1e-6)


def test_bessel_functions_have_the_digits_that_torchs_have_not():
    x = np.array([-3.0, 0.0, 1e-3, 2.0, 20.0])
    spherical = special.spherical_bessel_j0(pg.tensor(x)).numpy()
    np.testing.assert_allclose(spherical, torch.special.spherical_bessel_j0(torch.tensor(x)).numpy(), rtol=1e-12)
    angle, x = (np.arange(400) + 0.5) * np.pi / 400, np.array([6.0, 8.0, 20.0])
    exact = np.cos(x[:, None] * np.sin(angle)).mean(axis=1)  # Bessel's integral
    np.testing.assert_allclose(special.bessel_j0(pg.tensor(x)).numpy(), exact, rtol=1e-12, atol=1e-14)
    assert np.abs(torch.special.bessel_j0(torch.tensor(x)).numpy() - exact).max() > 1e-9


@both
def test_incomplete_gamma_of_tensors(dtype):
    order, x = np.array([[0.5], [1.0], [4.0]], dtype), np.array([0.0, 0.1, 1.0, 5.0, 30.0, INF], dtype)
    tolerance = 2e-5 if dtype == np.float32 else None
    for name in ("gammainc", "gammaincc"):
        check_both(
            lambda library, x, name=name: getattr(library.special, name)(library.tensor(order), x), [x[1:-1]], tolerance
        )
        got = getattr(special, name)(pg.tensor(order), pg.tensor(x)).numpy()
        expected = getattr(torch.special, name)(torch.tensor(order), torch.tensor(x)).numpy()
        assert_equal([got], [expected], tolerance)


# ----- two arguments -----

PAIRS = [
    [0.0, -0.0, 1.0, -1.0, 2.0, 2.0, -2.0, 0.0, 3.0, 1.0, NAN, NAN],
    [1.0, -2.0, 1.0, -1.0, 1.0, -1.5, -1.5, 2.0, 0.5, NAN, 1.0, NAN],
]
ENDS = [[INF, -INF, INF, 1.0, -1.0, INF], [1.0, 1.0, -2.0, INF, -INF, INF]]
ZEROS = [[0.0, 0.0, 1.0, -1.0, 2.0], [0.0, 0.5, 0.0, 0.0, 0.0]]
TWO = {
    "atan2": [PAIRS, ENDS, ZEROS], "copysign": [PAIRS, ENDS, ZEROS], "fmax": [PAIRS, ENDS, ZEROS],
    "fmin": [PAIRS, ENDS, ZEROS], "fmod": [PAIRS, ZEROS], "hypot": [PAIRS, ENDS, ZEROS],
    "ldexp": [PAIRS, ENDS, ZEROS], "logaddexp": [PAIRS, ENDS, ZEROS], "logaddexp2": [PAIRS, ENDS, ZEROS],
    "nextafter": [PAIRS, ENDS, ZEROS], "xlogy": [PAIRS, ENDS, ZEROS], "xlog1py": [PAIRS, ENDS, ZEROS],
    "isclose": [PAIRS, ENDS, ZEROS], "logical_and": [PAIRS, ENDS, ZEROS], "logical_or": [PAIRS, ENDS, ZEROS],
    "logical_xor": [PAIRS, ENDS, ZEROS], "float_power": [ZEROS],
}  # fmt: skip


@both
@pytest.mark.parametrize(("name", "number"), [(name, i) for name, rows in TWO.items() for i in range(len(rows))])
def test_two_arguments(name, number, dtype):
    check_both(named(name), [np.array(x, dtype) for x in TWO[name][number]])


@both
def test_heaviside(dtype):
    x, values = np.array([-INF, -1.0, -0.0, 0.0, 1.0, INF, NAN], dtype), np.array(0.25, dtype)
    got = pg.heaviside(pg.tensor(x), pg.tensor(values)).numpy()
    assert_equal([got], [torch.heaviside(torch.tensor(x), torch.tensor(values)).numpy()])


@both
@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
def test_div_rounded(mode, dtype):
    x, y = [7.0, -7.0, 7.0, -7.0, 0.5, 1e6], [2.0, 2.0, -2.0, -2.0, -3.0, 0.1]
    check_both(lambda library, x, y: library.div(x, y, rounding_mode=mode), [np.array(x, dtype), np.array(y, dtype)])
    check_both(lambda library, x: x.div(2.5, rounding_mode=mode), [np.array(x, dtype)])


def test_a_wrong_rounding_mode_is_named():
    with pytest.raises(RuntimeError, match="rounding_mode is None, 'trunc' or 'floor', got 'up'"):
        pg.div(pg.ones(2), 2, rounding_mode="up")


@both
def test_three_arguments(dtype):
    generator = np.random.default_rng(0)
    arrays = [generator.uniform(0.5, 2, shape).astype(dtype) for shape in ((2, 3), (3,), (2, 1))]
    for value in (1, -0.5, 3):
        check_both(lambda library, x, y, z, value=value: library.addcmul(x, y, z, value=value), arrays)
        check_both(lambda library, x, y, z, value=value: library.addcdiv(x, y, z, value=value), arrays)
    check_both(lambda library, x, y, z: library.lerp(x, y, z), arrays)
    for weight in (0, 0.25, 0.5, 1, 1.5):
        check_both(lambda library, x, y, weight=weight: library.lerp(x, y, weight), arrays[:2])
        check_both(lambda library, x, y, weight=weight: x.lerp(y, weight), arrays[:2])


@both
def test_bounds_of_clamp_are_in_their_own_functions(dtype):
    x, low = np.array([-1.0, 0.5, 2.0, NAN], dtype), np.array([0.0, 0.5, 3.0, 1.0], dtype)
    check_both(lambda library, x: library.clamp_min(x, 0.5), [x])
    check_both(lambda library, x: library.clamp_max(x, 0.5), [x])
    check_both(lambda library, x, low: x.clamp_min(low), [x[:3], low[:3]])
    check_both(lambda library, x, low: x.clamp_max(low), [x[:3], low[:3]])


@both
def test_alpha(dtype):
    x, y = np.array([1.0, 2.0], dtype), np.array([[3.0], [0.5]], dtype)
    for alpha in (1, 2, -0.5):
        check_both(lambda library, x, y, alpha=alpha: library.add(x, y, alpha=alpha), [x, y])
        check_both(lambda library, x, y, alpha=alpha: x.sub(y, alpha=alpha), [x, y])
        check_both(lambda library, x, y, alpha=alpha: library.rsub(x, y, alpha=alpha), [x, y])
    check_both(lambda library, x: library.rsub(x, 2), [x])


# ----- integers, booleans and literals -----

FLOATS = ["acos", "asinh", "atan", "cos", "deg2rad", "erf", "exp2", "expm1", "i0", "lgamma", "log10", "log1p", "log2"]
FLOATS += ["logit", "rad2deg", "reciprocal", "rsqrt", "sinc", "tan", "ndtr", "entr", "i0e", "digamma"]
SAME = ["ceil", "floor", "trunc", "round", "sign", "positive", "signbit", "nan_to_num", "isnan", "isinf", "isfinite"]
SAME += ["logical_not"]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("name", FLOATS + SAME)
def test_integers(name, dtype):
    check_both(named(name), [np.array([0, 1, 2, 3]).astype(dtype)])


@pytest.mark.parametrize("name", ["atan2", "copysign", "fmod", "fmax", "fmin", "ldexp", "logaddexp", "xlogy", "isclose",
                                  "heaviside", "float_power", "logical_xor"])  # fmt: skip
def test_two_integers(name):
    if name == "logaddexp":  # torch has none of integers
        assert pg.logaddexp(pg.tensor([1]), pg.tensor([1])).dtype == np.float32
        return
    check_both(named(name), [np.array([7, -7, 0, 3]), np.array([2, 2, 5, 3])])


@pytest.mark.parametrize("mode", ["floor", "trunc"])
def test_integers_divided(mode):
    x, y = np.array([7, -7, 7, -7, 6, 2**60 + 1]), np.array([2, 2, -2, -2, -3, 1])
    check_both(lambda library, x, y: library.div(x, y, rounding_mode=mode), [x, y])
    check_both(lambda library, x: library.div(x, 2, rounding_mode=mode), [x[:5]])
    check_both(lambda library, x: library.div(x, 2.5, rounding_mode=mode), [x[:5]])


def test_shifts():
    x, y = np.array([1, -5, 12, 255]), np.array([0, 1, 2, 3])
    check_both(lambda library, x, y: x << y, [x, y])
    check_both(lambda library, x, y: x >> y, [x, y])
    check_both(lambda library, x, y: library.bitwise_right_shift(library.bitwise_left_shift(x, y), 2), [x, y])


@both
@pytest.mark.parametrize("name", ["xlogy", "xlog1py", "float_power"])
@pytest.mark.parametrize("number", [0, 0.0, 1, 2.5])
def test_a_literal_on_either_side(name, number, dtype):
    x = np.array([0.0, 0.5, 1.0, 3.0, NAN], dtype)
    check_both(lambda library, x: named(name)(library, x, number), [x])
    check_both(lambda library, x: named(name)(library, number, x), [x])


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, NAN], [1.0, NAN]), ([1.0], [1.0 + 1e-7]),
                                      ([1.0, 2.0], [1.0]), ([], [])])  # fmt: skip
def test_allclose_and_equal_are_python_bools(x, y):
    mine, theirs = [pg.tensor(x), pg.tensor(y)], [torch.tensor(x), torch.tensor(y)]
    assert pg.equal(*mine) is torch.equal(*theirs)
    assert mine[0].equal(mine[1]) is theirs[0].equal(theirs[1])
    for settings in ({}, {"equal_nan": True}, {"rtol": 0.0, "atol": 0.0}):
        assert pg.allclose(*mine, **settings) is torch.allclose(*theirs, **settings)


# ----- names -----


def test_special_has_torchs_names():
    assert [name for name in special.__all__ if not hasattr(torch.special, name)] == []
    assert [name for name in special.__all__ if not getattr(special, name).__doc__] == []
    assert [name for name in operators.SPECIAL_ONLY if hasattr(torch, name)] == []
    for alias, name in special.ALIASES.items():
        assert getattr(special, alias) is operators.FUNCTIONS[name]


def test_scipy_is_loaded_by_the_first_call_and_not_before():
    code = (
        "import sys, pargrad as pg, pargrad.special\n"
        "assert not any(name.split('.')[0] == 'scipy' for name in sys.modules)\n"
        "pg.erf(pg.ones(2)); assert 'scipy.special' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# ----- a second derivative finds its way -----


def test_twins_of_scipys_functions_know_tensors():
    from pargrad.rules.special import scipy_digamma, scipy_i1, scipy_polygamma

    x = pg.tensor([0.5, 1.5], dtype=pg.float64, requires_grad=True)
    for got, expected in (
        (scipy_digamma(x), pg.digamma(x)),
        (scipy_i1(x), special.i1(x)),
        (scipy_polygamma(x, 2), pg.polygamma(2, x)),
        (scipy_polygamma(x, 0), pg.digamma(x)),
    ):
        assert isinstance(got, pg.Tensor) and got.requires_grad
        np.testing.assert_array_equal(got.detach().numpy(), expected.detach().numpy())
