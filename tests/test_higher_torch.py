"""Derivatives of derivatives against torch, to the third, of composite and complex functions and at kinks."""

import numpy as np
import pytest

import pargrad as pg
from tests.both import BOTH
from tests.checks import array_of, assert_equal, weights


def linear(lib, x, w, b):
    return lib.nn.functional.linear(x, w, b).tanh()


def network(lib, x, w, b):
    return lib.nn.functional.cross_entropy(lib.nn.functional.linear(x, w, b).sin() * 2, lib.tensor([0, 2, 1, 1]))


FUNCTIONS = {
    "linear": (linear, (4, 2), (3, 2), (3,)),
    "cross_entropy": (network, (4, 2), (3, 2), (3,)),
    "cross_entropy smoothed": (
        lambda lib, x: lib.nn.functional.cross_entropy(
            x, lib.tensor([0, 2]), weight=lib.tensor([1.0, 2.0, 0.5], dtype=lib.float64), label_smoothing=0.1
        ),
        (2, 3),
    ),
    "softmax": (lambda lib, x: x.softmax(1) ** 2, (2, 3)),
    "log_softmax": (lambda lib, x, y: x.log_softmax(0) * y, (2, 3), (3,)),
    "logsumexp": (lambda lib, x: x.logsumexp(1) ** 2, (2, 3)),
    "norm": (lambda lib, x: lib.linalg.norm(x), (2, 3)),
    "vector norms": (lambda lib, x: lib.linalg.vector_norm(x, 3, dim=1), (2, 3)),
    "gelu": (lambda lib, x: lib.nn.functional.gelu(x), (2, 3)),
    "silu": (lambda lib, x: lib.nn.functional.silu(x), (2, 3)),
    "mse": (lambda lib, x, y: lib.nn.functional.mse_loss(x, y) ** 2, (2, 3), (2, 3)),
    "matmul": (lambda lib, x, y: (x @ y) ** 3, (2, 3), (3, 2)),
    "division": (lambda lib, x, y: x / (2 + y * y), (2, 3), (3,)),
    "pow": (lambda lib, x, y: (2 + x * x) ** y, (2, 3), (3,)),
    "indexing": (lambda lib, x: x[:, [0, 0, 2]] ** 3 * x[1, 1:2], (2, 3)),
    "reductions": (lambda lib, x: x.var(1) * x.mean() * x.prod(1), (2, 3)),
    "cumulative": (lambda lib, x: x.cumsum(1).cumprod(1), (2, 3)),
    "shapes": (lambda lib, x: lib.cat([x.T.reshape(-1), x.flatten()]).unsqueeze(0) ** 3, (2, 3)),
    "where": (lambda lib, x, y: lib.where(x > 0, x**3 * y, y**2), (2, 3), (3,)),
    "linear solve": (lambda lib, x, y: lib.linalg.solve(x + 3 * lib.eye(3, dtype=lib.float64), y), (3, 3), (3,)),
    "det": (lambda lib, x: lib.linalg.det(x), (3, 3)),
    "conv": (lambda lib, x, w: lib.nn.functional.conv1d(x, w, padding=1) ** 2, (2, 2, 4), (3, 2, 3)),
    "in place": (lambda lib, x, y: (x * 1).mul_(y).sin_().add_(x), (2, 3), (3,)),
}


def drawn(shape, seed, complex_numbers=False):
    generator = np.random.default_rng(seed)
    values = generator.uniform(-1, 1, shape)
    return np.asarray(values + 1j * generator.uniform(-1, 1, shape)) if complex_numbers else np.asarray(values)


def derivatives(lib, function, arrays, orders):
    """Values, then gradients, each of the products of those before with weights."""
    leaves = [lib.tensor(x, requires_grad=True) for x in arrays]
    out, found = [function(lib, *leaves)], []
    for order in range(orders):
        out = [each for each in out if each is not None and each.requires_grad]
        if not out:
            break
        seeds = [lib.tensor(weights(tuple(each.shape), array_of(each.detach()).dtype)) for each in out]
        out = lib.autograd.grad(out, leaves, seeds, create_graph=order + 1 < orders, allow_unused=True)
        found += [np.zeros_like(x) if g is None else array_of(g.detach()) for g, x in zip(out, arrays)]
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_third_derivatives(name):
    function, *shapes = FUNCTIONS[name]
    arrays = [drawn(shape, seed) for seed, shape in enumerate(shapes)]
    mine, other = (derivatives(lib, function, arrays, 3) for lib in BOTH)
    assert len(mine) == 3 * len(shapes)
    assert_equal(mine, other, 1e-8)


def test_the_third_derivative_of_layer_norm():
    """torch's is wrong: by differences of its own second ones, too, it is this one."""

    def layer_norm(lib, x, w, b):
        return lib.nn.functional.layer_norm(x, (3,), w, b)

    arrays = [drawn(shape, seed) for seed, shape in enumerate([(2, 3), (3,), (3,)])]
    mine, other = (derivatives(lib, layer_norm, arrays, 2) for lib in BOTH)
    assert_equal(mine, other, 1e-9)
    leaves = [pg.tensor(x, requires_grad=True) for x in arrays]

    def gradients(*xs):
        return pg.autograd.grad((layer_norm(pg, *xs) ** 3).sum(), xs, create_graph=True)

    assert pg.autograd.gradcheck(gradients, leaves, create_graph=True)
    assert pg.autograd.gradgradcheck(gradients, leaves)


COMPLEX = {
    "square": (lambda lib, z: z * z * z, (3,)),
    "exp": (lambda lib, z, w: (z * w).exp(), (3,), (3,)),
    "abs": (lambda lib, z: z.abs() ** 2, (3,)),
    "angle": (lambda lib, z: z.angle(), (3,)),
    "parts": (lambda lib, z: z.real * z.imag**2, (3,)),
    "conj": (lambda lib, z, w: z * w.conj() * z, (3,), (3,)),
    "division": (lambda lib, z, w: z / w, (3,), (3,)),
    "matmul": (lambda lib, z, w: (z @ w) ** 2, (2, 3), (3, 2)),
    "tanh": (lambda lib, z: (z * 0.5).tanh(), (3,)),
    "seen as real": (lambda lib, z: lib.view_as_real(z) ** 3, (3,)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_second_derivatives_of_complex_functions(name):
    function, *shapes = COMPLEX[name]
    arrays = [drawn(shape, seed, True) for seed, shape in enumerate(shapes)]
    mine, other = (derivatives(lib, function, arrays, 2) for lib in BOTH)
    assert_equal(mine, other, 1e-9)


KINKS = {
    "norm": lambda lib, x: lib.linalg.norm(x),
    "vector norm": lambda lib, x: lib.linalg.vector_norm(x, 2, dim=0),
    "abs": lambda lib, x: x.abs(),
    "relu": lambda lib, x: x.relu(),
    "square": lambda lib, x: x**2,
    "cube": lambda lib, x: x**3,
    "maximum": lambda lib, x: lib.maximum(x, x * 2),
    "clamp": lambda lib, x: x.clamp(0, 1) ** 2,
    "softplus": lambda lib, x: lib.nn.functional.softplus(x),
    "xlogy": lambda lib, x: lib.xlogy(x, 1 + x),
    "sinc": lambda lib, x: lib.sinc(x),
    "prod": lambda lib, x: x.prod(),
}


@pytest.mark.parametrize("name", KINKS)
def test_derivatives_at_zero(name):
    for arrays in ([np.zeros(3)], [np.array([0.0, 1.0, 0.0])]):
        mine, other = (derivatives(lib, KINKS[name], arrays, 2) for lib in BOTH)
        for i, expected in enumerate(other):  # a derivative without a graph is 0
            one, finite = mine[i] if i < len(mine) else np.zeros(3), np.isfinite(expected)
            np.testing.assert_allclose(one[finite], expected[finite], 1e-9, 1e-9)
        assert all(np.isfinite(one).all() for one in mine[:1])
