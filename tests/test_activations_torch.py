"""Activations against torch's: values, gradients, draws, in place, second derivatives and refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as theirs

import pargrad as pg
import pargrad.nn.functional as F
from tests.agreement_torch import check_twins
from tests.checks import assert_equal, both, run
from tests.higher import assert_as_finite, second_gradients

torch.set_num_threads(1)
# torch multiplies by a 1 / 6 of float32.
ROUGH = {"hardsigmoid": 1e-7}
NAN, INF = float("nan"), float("inf")


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape) * 2)


def agree(name, arrays, settings, dtype):
    """F.name and torch's give the same values and gradients; floats are cast to dtype first."""
    arrays = [x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in arrays]
    with np.errstate(all="ignore"):
        values, gradients = run(pg, lambda *tensors: getattr(F, name)(*tensors, **settings), arrays)
    expected, torch_gradients = run(torch, lambda *tensors: getattr(theirs, name)(*tensors, **settings), arrays)
    assert_equal(values, expected)
    assert_equal(gradients, torch_gradients, ROUGH.get(name) if dtype == np.float64 else None)


# ----- activations -----

# Each activation with the settings that it is tried with, and points at which it, or its derivative, has a kink.
ACTIVATIONS = [
    ("relu", {}, ()),
    ("relu6", {}, (6.0,)),
    ("leaky_relu", {}, ()),
    ("leaky_relu", {"negative_slope": -0.5}, ()),
    ("leaky_relu", {"negative_slope": 2}, ()),
    ("rrelu", {}, ()),
    ("rrelu", {"lower": 0.1, "upper": 0.5}, ()),
    ("elu", {}, ()),
    ("elu", {"alpha": 0.5}, ()),
    ("selu", {}, ()),
    ("celu", {}, ()),
    ("celu", {"alpha": 2.0}, ()),
    ("gelu", {}, ()),
    ("gelu", {"approximate": "tanh"}, ()),
    ("silu", {}, ()),
    ("mish", {}, ()),
    ("softplus", {}, (20.0, 20.1)),
    ("softplus", {"beta": 2, "threshold": 1}, (0.5,)),
    ("softsign", {}, ()),
    ("tanhshrink", {}, ()),
    ("hardtanh", {}, (-1.0, 1.0)),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}, (-0.5, 2.0)),
    ("hardsigmoid", {}, (-3.0, 3.0)),
    ("hardswish", {}, (-3.0, 3.0)),
    ("hardshrink", {}, (-0.5, 0.5)),
    ("hardshrink", {"lambd": 1.0}, (-1.0, 1.0)),
    ("softshrink", {}, (-0.5, 0.5)),
    ("softshrink", {"lambd": 0}, ()),
    ("threshold", {"threshold": 0.5, "value": -2.0}, (0.5,)),
    ("logsigmoid", {}, ()),
    ("sigmoid", {}, ()),
    ("tanh", {}, ()),
]
ids = [f"{name}{''.join(f'-{key}={value}' for key, value in settings.items())}" for name, settings, _ in ACTIVATIONS]


@both
@pytest.mark.parametrize(("name", "settings", "kinks"), ACTIVATIONS, ids=ids)
def test_activations(name, settings, kinks, dtype):
    for shape in [(3, 4), (), (0, 2)]:
        agree(name, [normal(*shape)], settings, dtype)
    agree(name, [np.array([*kinks, 0.0, -0.0, 1e-8, -1e-8, 1e-3, -1e-3, 5.0, -5.0, 9.0, -9.0])], settings, dtype)


@both
@pytest.mark.parametrize(("name", "settings", "kinks"), ACTIVATIONS, ids=ids)
def test_the_gradient_is_finite_wherever_torchs_is(name, settings, kinks, dtype):
    x = np.array([INF, -INF, 1e30, -1e30, 300.0, -300.0, 90.0, -90.0, 30.0, -30.0, 0.0, NAN, *kinks], dtype)
    with np.errstate(all="ignore"):
        (value,), (gradient,) = run(pg, lambda x: getattr(F, name)(x, **settings), [x])
    (expected,), (torch_gradient,) = run(torch, lambda x: getattr(theirs, name)(x, **settings), [x])
    known, finite = ~np.isnan(expected), np.isfinite(torch_gradient) & ~np.isnan(x)
    np.testing.assert_allclose(value[known], expected[known], rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-30)
    np.testing.assert_allclose(gradient[finite], torch_gradient[finite], rtol=1e-5, atol=1e-30)


# ----- those of more than one element, or of two tensors -----

TOGETHER = [
    ("prelu", [normal(2, 3), normal(3)], {}),
    ("prelu", [normal(2, 3, 4), normal(3)], {}),
    ("prelu", [normal(2, 3), normal(1)], {}),
    ("prelu", [normal(2, 3), normal()], {}),
    ("prelu", [normal(5), normal(1)], {}),
    ("prelu", [normal(), normal(1)], {}),
    ("glu", [normal(3, 4)], {}),
    ("glu", [normal(4, 3)], {"dim": 0}),
    ("glu", [normal(2, 0)], {}),
    ("softmax", [normal(3, 4)], {"dim": 0}),
    ("softmax", [normal(3, 4)], {"dim": -1, "dtype": "float64"}),
    ("softmin", [normal(3, 4)], {"dim": 1}),
    ("log_softmax", [normal(3, 4)], {"dim": 1}),
    ("log_softmax", [normal(3, 4)], {"dim": 1, "dtype": "float64"}),
    ("normalize", [normal(3, 4)], {}),
    ("normalize", [normal(3, 4, 2)], {"p": 1, "dim": -1}),
    ("normalize", [normal(3, 4)], {"p": 3.0, "dim": (0, 1)}),
    ("normalize", [normal(3, 4)], {"p": INF, "dim": 0}),
    ("normalize", [np.array([[0.0, 0.0], [1e-3, 2e-3], [3.0, 4.0]])], {"eps": 0.1}),
    ("linear", [normal(2, 3), normal(4, 3), normal(4)], {}),
    ("linear", [normal(2, 5, 3), normal(4, 3)], {}),
    ("bilinear", [normal(5, 3), normal(5, 4), normal(2, 3, 4), normal(2)], {}),
    ("bilinear", [normal(2, 5, 3), normal(2, 5, 4), normal(2, 3, 4)], {}),
    ("bilinear", [normal(3), normal(4), normal(2, 3, 4)], {}),
    ("bilinear", [normal(0, 3), normal(0, 4), normal(2, 3, 4)], {}),
    ("pairwise_distance", [normal(5, 3), normal(5, 3)], {}),
    ("pairwise_distance", [normal(5, 3), normal(3)], {"p": 1.0, "keepdim": True}),
    ("pairwise_distance", [normal(3), normal(3)], {"p": 3.0, "eps": 0.1}),
    ("pairwise_distance", [np.ones((2, 3)), np.ones((2, 3))], {"eps": 0.0}),
    ("cosine_similarity", [normal(5, 3), normal(5, 3)], {}),
    ("cosine_similarity", [normal(2, 5, 3), normal(5, 1)], {"dim": -1}),
    ("cosine_similarity", [np.array([[1e-3, 0.0], [3.0, 4.0]]), normal(2, 2)], {"eps": 0.1}),
]


@both
@pytest.mark.parametrize(
    ("name", "arrays", "settings"), TOGETHER, ids=[f"{i}-{row[0]}" for i, row in enumerate(TOGETHER)]
)
def test_of_several_elements(name, arrays, settings, dtype):
    arrays = [x.astype(dtype) for x in arrays]

    def of(library, function):
        named = {k: getattr(library, v) if k == "dtype" else v for k, v in settings.items()}
        return run(library, lambda *tensors: function(*tensors, **named), arrays)

    got, expected = of(pg, getattr(F, name)), of(torch, getattr(theirs, name))
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


@both
def test_prelu_at_its_kink(dtype):
    agree("prelu", [np.array([[0.0, -0.0], [1.0, -1.0]]), np.array([0.5, -0.5])], {}, dtype)


# ----- in place -----


@pytest.mark.parametrize(
    "name", ["relu_", "leaky_relu_", "elu_", "selu_", "celu_", "hardtanh_", "rrelu_", "threshold_"]
)
def test_in_place(name):
    settings = {"threshold": 0.5, "value": 2.0} if name == "threshold_" else {}
    x = normal(3, 4)
    check_twins(lambda x: getattr(F, name)(x * 2, **settings), lambda x: getattr(theirs, name)(x * 2, **settings), [x])
    y = pg.tensor(x)
    assert getattr(F, name)(y, **settings) is y
    assert_equal([y.numpy()], [getattr(F, name[:-1])(pg.tensor(x), **settings).numpy()])


@pytest.mark.parametrize(
    "name",
    ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardtanh", "hardsigmoid", "hardswish"],
)
def test_inplace_overwrites_the_input_inside_a_graph(name):
    def overwritten(library, functional):
        leaf = library.tensor([-1.0, 0.5, 2.0, -0.3], requires_grad=True)
        x = leaf * 1.5
        y = getattr(functional, name)(x, inplace=True)
        assert y is x
        (x * x).sum().backward()
        return [x.detach().numpy(), leaf.grad.numpy()]

    assert_equal(overwritten(pg, F), overwritten(torch, torch.nn.functional))
    for call in (lambda x: getattr(F, name)(x, inplace=True), lambda x: getattr(F, name)(input=x, inplace=True)):
        x = pg.tensor([-1.0, 2.0])
        assert call(x) is x
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        getattr(F, name)(pg.ones(2, requires_grad=True), inplace=True)


# ----- draws -----


@both
def test_rrelu_draws_what_torch_draws(dtype):
    x = normal(4, 5).astype(dtype)
    pg.manual_seed(5)
    got = run(pg, lambda x: F.rrelu(x, 0.1, 0.6, training=True), [x])
    torch.manual_seed(5)
    expected = run(torch, lambda x: theirs.rrelu(x, 0.1, 0.6, training=True), [x])
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


@both
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("tau", "dim"), [(1, -1), (0.3, 0)])
def test_gumbel_softmax_draws_what_torch_draws(tau, dim, hard, dtype):
    x = normal(4, 5).astype(dtype)
    pg.manual_seed(5)
    got = run(pg, lambda x: F.gumbel_softmax(x, tau, hard, dim=dim), [x])
    torch.manual_seed(5)
    expected = run(torch, lambda x: theirs.gumbel_softmax(x, tau, hard, dim=dim), [x])
    assert_equal(got[0], expected[0], 1e-5 if dtype == np.float32 else None)
    assert_equal(got[1], expected[1], 1e-5 if dtype == np.float32 else None)


# ----- second derivatives -----


POINTS = np.array([1e-3, -1e-3, 0.7, -0.7, 3.5, -3.5, 9.0, -9.0, 25.0, -25.0])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in ("elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "softsign", "tanhshrink")),
        *((name, {}) for name in ("logsigmoid", "hardswish", "relu", "leaky_relu", "hardtanh", "softshrink")),
        ("gelu", {"approximate": "tanh"}),
        ("softplus", {"beta": 2, "threshold": 3}),
    ],
)
def test_second_derivatives(name, settings):
    got = second_gradients(pg, lambda x: getattr(F, name)(x, **settings), [POINTS])
    expected = second_gradients(torch, lambda x: getattr(theirs, name)(x, **settings), [POINTS])
    assert_as_finite(got, expected, 1e-11)


@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "softplus", "logsigmoid"])
def test_second_derivatives_of_smooth_functions_at_0(name):
    x = np.zeros(3)
    got = second_gradients(pg, getattr(F, name), [x])
    assert_as_finite(got, second_gradients(torch, getattr(theirs, name), [x]), 1e-12)


@pytest.mark.parametrize(
    ("name", "arrays", "settings"), TOGETHER, ids=[f"{i}-{row[0]}" for i, row in enumerate(TOGETHER)]
)
def test_second_derivatives_of_several_elements(name, arrays, settings):
    settings = {k: v for k, v in settings.items() if k != "dtype"}
    got = second_gradients(pg, lambda *tensors: getattr(F, name)(*tensors, **settings), arrays)
    expected = second_gradients(torch, lambda *tensors: getattr(theirs, name)(*tensors, **settings), arrays)
    assert_as_finite(got, expected, 1e-11)


# ----- refusals -----

X = pg.ones(3, 5)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda: F.prelu(X, pg.ones(3)), RuntimeError, "5 channels"),
        (lambda: F.prelu(X, pg.ones(5, 1)), RuntimeError, "at most 1 dimension"),
        (lambda: F.rrelu(X, 0.5, 0.1), RuntimeError, "0.5 and 0.1"),
        (lambda: F.hardtanh(X, 1.0, -1.0), ValueError, "min_val"),
        (lambda: F.softshrink(X, -1.0), RuntimeError, "lambd"),
        (lambda: F.celu(X, 0), RuntimeError, "alpha"),
        (lambda: F.gelu(X, "erf"), RuntimeError, "'erf'"),
        (lambda: F.gelu(pg.tensor([1])), RuntimeError, r"write x\.float\(\)"),
        (lambda: F.glu(X), RuntimeError, "even size .* got 5"),
        (lambda: F.glu(pg.tensor(1.0)), RuntimeError, "number"),
        (lambda: F.linear(X, pg.ones(2, 4)), RuntimeError, r"\(\.\.\., 4\)"),
        (lambda: F.bilinear(X, X, pg.ones(2, 5, 4)), RuntimeError, r"\(2, 5, 4\)"),
    ],
)
def test_refusals(wrong, error, told):
    with pytest.raises(error, match=told):
        wrong()


@pytest.mark.parametrize("name", ["softmax", "softmin", "log_softmax"])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 2), (2, 3, 2, 2)])
def test_a_dimension_left_out_is_the_one_that_torch_takes(name, shape):
    x = np.random.default_rng(0).normal(size=shape)
    with pytest.warns(UserWarning, match=f"{name} without dim takes dim=[01]: write dim=-1"):
        mine = getattr(F, name)(pg.tensor(x))
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        theirs = getattr(torch.nn.functional, name)(torch.tensor(x))
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-12)
