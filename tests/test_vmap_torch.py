"""`vmap` against torch's, and against its own slices: with their bits, in one call where that can be."""

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import func, stacking
from tests.test_func_torch import drawn, network, rows, same, targets

x0, y0, m0 = drawn(4, 3), drawn(4, 3, seed=1), drawn(2, 4, 3, seed=2)


def vmap_of(function, **named):
    return lambda lib, *xs: lib.func.vmap(lambda *each: function(lib, *each), **named)(*xs)


MAPS = {
    "elementwise": (vmap_of(lambda lib, x, y: x * y + 1), x0, y0),
    "shared": (vmap_of(lambda lib, x, y: x * y, in_dims=(0, None)), x0, y0[0]),
    "shared first": (vmap_of(lambda lib, x, y: (x * y).sum(), in_dims=(None, 0)), x0, y0[:, 0]),
    "second dimension": (vmap_of(lambda lib, x: x.cumsum(0), in_dims=1), x0),
    "last dimension": (vmap_of(lambda lib, x: x.softmax(0), in_dims=-1), x0),
    "two dimensions": (vmap_of(lambda lib, x, y: x @ y, in_dims=(0, 2)), m0, drawn(3, 2, 2)),
    "out_dims": (vmap_of(lambda lib, x: x * 2, out_dims=1), x0),
    "out_dims from the end": (vmap_of(lambda lib, x: x * 2, out_dims=-1), m0),
    "several outputs": (vmap_of(lambda lib, x: (x.sum(), x * 2), out_dims=(0, 1)), x0),
    "one out_dims for all": (vmap_of(lambda lib, x: (x * 1, x * 2), out_dims=1), x0),
    "a dict": (vmap_of(lambda lib, x: {"sum": x.sum(), "top": x.max()}), x0),
    "a constant": (vmap_of(lambda lib, x: lib.ones(2)), x0),
    "a constant, unmapped": (vmap_of(lambda lib, x: lib.ones(2), out_dims=None), x0),
    "the argument itself": (vmap_of(lambda lib, x: x), x0),
    "shapes": (vmap_of(lambda lib, x: x.unsqueeze(0).expand(2, 3).T.reshape(-1)), x0),
    "indices": (vmap_of(lambda lib, x: x[1:] * x[0] + x[[0, 2]]), x0),
    "new axes": (vmap_of(lambda lib, x: x[None, :, None]), x0),
    "joined": (vmap_of(lambda lib, x, y: lib.cat([x, y]).sum() * lib.stack([x, y]).prod()), x0, y0),
    "matrices": (vmap_of(lambda lib, x: x @ x.T), m0),
    "matrix and vector": (vmap_of(lambda lib, x, y: x @ y, in_dims=(None, 0)), m0[0], x0),
    "sort": (vmap_of(lambda lib, x: x.sort()[0]), x0),
    "argmax": (vmap_of(lambda lib, x: x.argmax()), x0),
    "where": (vmap_of(lambda lib, x, y: lib.where(x > y, x, y)), x0, y0),
    "norm": (vmap_of(lambda lib, x: lib.linalg.norm(x)), x0),
    "solve": (vmap_of(lambda lib, x, y: lib.linalg.solve(x @ x.T + lib.eye(4, dtype=x.dtype), y)), m0, drawn(2, 4)),
    "layer_norm": (vmap_of(lambda lib, x: lib.nn.functional.layer_norm(x, (3,))), x0),
    "cross_entropy": (
        vmap_of(lambda lib, x, y: lib.nn.functional.cross_entropy(x, y)), m0, np.array([[0, 1, 2, 0], [1, 1, 0, 2]]),
    ),
    "integers": (vmap_of(lambda lib, x: x * 2 + 1), np.arange(4)),
    "numbers": (vmap_of(lambda lib, x: x * 2), x0[:, 0]),
    "in place": (vmap_of(lambda lib, x: (x * 1).mul_(2).exp_()), x0),
    "complex": (vmap_of(lambda lib, x, y: (x + 1j * y).abs()), x0, y0),
    "one example": (vmap_of(lambda lib, x: x.sum()), x0[:1]),
    "two nested": (vmap_of(lambda lib, x: lib.func.vmap(lambda y: y.sum())(x)), m0),
    "two nested, a closure": (vmap_of(lambda lib, x: lib.func.vmap(lambda y: x * y)(x)), x0),
    "outer product": (lambda lib, x, y: lib.func.vmap(lambda a: lib.func.vmap(lambda b: a * b)(y))(x), x0[:, 0], y0[0]),
    "three nested": (
        lambda lib, x: lib.func.vmap(lib.func.vmap(lib.func.vmap(lambda a: a * 2 + 1)), in_dims=1, out_dims=1)(x), m0,
    ),
    "nests": (
        lambda lib, x, y: lib.func.vmap(lambda t, u: (t["a"] * t["b"][0]).sum() * u, ({"a": 0, "b": [None]}, 0))(
            {"a": x, "b": [y[0]]}, y[:, 0]),
        x0, y0,
    ),
    "chunks": (vmap_of(lambda lib, x: x.sum(), chunk_size=2), x0),
    "keyword": (lambda lib, x: lib.func.vmap(lambda x, *, scale: x * scale)(x, scale=lib.tensor(x0)), x0),
}  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_a_map(name):
    act, *values = MAPS[name]
    same(act, *values)


# ----- with gradients -----


def gradient_of_each(lib, x, y):
    return lib.func.vmap(lib.func.grad(lambda x, y: (x**3 * y).sum()))(x, y)


def gradient_through(lib, x, y):
    """Of all slices together, by what they share and by what is their own."""
    shared = y[0].clone().requires_grad_()
    own = x.clone().requires_grad_()
    out = lib.func.vmap(lambda x: (x * shared).sin().sum())(own)
    return out, lib.autograd.grad((out * out).sum(), [own, shared])


def gradient_through_twice(lib, x, y):
    shared = y[0].clone().requires_grad_()
    own = x.clone().requires_grad_()
    out = lib.func.vmap(lambda x: (x * shared).exp().sum())(own)
    first = lib.autograd.grad((out * out).sum(), [own, shared], create_graph=True)
    return lib.autograd.grad(sum((g * g).sum() for g in first), [own, shared])


def gradient_of_a_map(lib, x, y):
    return lib.func.grad(lambda x: lib.func.vmap(lambda a, b: (a * b).tanh().sum())(x, y).sum())(x)


def second_gradient_of_each(lib, x, y):
    inner = lib.func.grad(lambda x, y: (x**3 * y).sum())
    return lib.func.vmap(lib.func.grad(lambda x, y: (inner(x, y) ** 2).sum()))(x, y)


def jacobian_of_each(lib, x, y):
    return lib.func.vmap(lib.func.jacrev(lambda x, y: x.sin() * y))(x, y)


def forward_jacobian_of_each(lib, x, y):
    return lib.func.vmap(lib.func.jacfwd(lambda x: x.sin() * x.sum()))(x)


def hessian_of_each(lib, x, y):
    return lib.func.vmap(lib.func.hessian(lambda x, y: (x**3 * y).sum() + x.prod()))(x, y)


def jacobian_of_a_map(lib, x, y):
    return lib.func.jacrev(lambda x: lib.func.vmap(lambda a, b: (a * b).sum())(x, y))(x)


def hessian_of_a_map(lib, x, y):
    return lib.func.hessian(lambda x: lib.func.vmap(lambda a, b: (a * b).exp().sum())(x, y).sum())(x)


def directions(lib, x, y):
    return lib.func.vmap(lambda v: lib.func.jvp(lambda x: x.exp() * x.sum(), (x[0],), (v,))[1])(y)


def cotangents(lib, x, y):
    _out, pull = lib.func.vjp(lambda x: x.exp() * x.sum(), x[0])
    return lib.func.vmap(pull)(y)


def gradient_of_each_by_a_shared_one(lib, x, y):
    return lib.func.vmap(lib.func.grad(lambda w, x: (w * x).sin().sum()), in_dims=(None, 0))(y[0], x)


def closure_over_the_outer_one(lib, x, y):
    return lib.func.vmap(lambda a: lib.func.grad(lambda b: (a * b * b).sum())(y[0]))(x)


def gradient_by_the_outer_one(lib, x, y):
    w = y[0].clone().requires_grad_()
    each = lib.func.vmap(lib.func.grad(lambda x: (x * x * w).sum()))(x)
    return each, lib.autograd.grad((each * each).sum(), w)


def inside_no_grad(lib, x, y):
    w = y[0].clone().requires_grad_()
    with lib.no_grad():
        out = lib.func.vmap(lambda x: (x * w).sum())(x)
        each = lib.func.vmap(lib.func.grad(lambda x: (x * x * w).sum()))(x)
    return out, out.requires_grad, each, each.requires_grad


GRADIENTS = [
    gradient_of_each, gradient_through, gradient_through_twice, gradient_of_a_map, second_gradient_of_each,
    jacobian_of_each, forward_jacobian_of_each, hessian_of_each, jacobian_of_a_map, hessian_of_a_map, directions,
    cotangents, gradient_of_each_by_a_shared_one, closure_over_the_outer_one, gradient_by_the_outer_one, inside_no_grad,
]  # fmt: skip


@pytest.mark.parametrize("act", GRADIENTS, ids=lambda act: act.__name__)
def test_maps_and_gradients_in_any_order(act):
    same(act, x0, y0, tolerance=1e-9)


# ----- random numbers -----


def test_random_numbers_are_refused_alike_or_different():
    x = pg.zeros(6, 4)

    def draw(x):
        return x + pg.rand(4)

    with pytest.raises(RuntimeError, match="randomness='different' or 'same'"):
        func.vmap(draw)(x)
    for mode, distinct in (("different", 6), ("same", 1)):
        pg.manual_seed(0)
        out = func.vmap(draw, randomness=mode)(x)
        assert len({tuple(row) for row in out.tolist()}) == distinct
        out = func.vmap(lambda x: F.dropout(x + 1, 0.5), randomness=mode)(pg.zeros(6, 40))
        assert len({tuple(row) for row in out.tolist()}) == distinct
        assert set(out.flatten().tolist()) == {0.0, 2.0}
    assert func.vmap(lambda x: F.dropout(x + 1, 0.5, training=False))(x).tolist() == [[1.0] * 4] * 6


# ----- the bits of slices, in one call -----


@pytest.fixture
def calls(monkeypatch):
    """How often a function was called slice by slice."""
    seen = []

    def one_by_one(*args):
        seen.append(args)
        return original(*args)

    original = stacking.one_by_one
    monkeypatch.setattr(stacking, "one_by_one", one_by_one)
    return seen


IN_ONE_CALL = {
    "linear": lambda x, w: F.linear(x, w[:, :3]),
    "relu": lambda x, w: F.relu(x),
    "tanh": lambda x, w: x.tanh(),
    "sigmoid": lambda x, w: x.sigmoid(),
    "gelu": lambda x, w: F.gelu(x),
    "softmax": lambda x, w: x.softmax(-1),
    "log_softmax": lambda x, w: x.log_softmax(-1),
    "layer_norm": lambda x, w: F.layer_norm(x, (3,)),
    "matmul": lambda x, w: x @ w.T @ w,
    "reductions": lambda x, w: x.sum() * x.mean(0) + x.amax(),
    "shapes": lambda x, w: x.unsqueeze(0).reshape(2, 6).flatten(),
    "mse_loss": lambda x, w: F.mse_loss(x, x * 2),
    "arithmetic": lambda x, w: (x * 2 + 1) / (3 - x) ** 2,
}
w0 = drawn(5, 3, seed=9)


@pytest.mark.parametrize("name", IN_ONE_CALL)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bits_of_each_slice_in_one_call(name, dtype, calls):
    x, w = pg.tensor(drawn(6, 4, 3).astype(dtype)), pg.tensor(w0.astype(dtype))
    function = IN_ONE_CALL[name]
    together = func.vmap(lambda x: function(x, w))(x)

    def loss(x):
        out = function(x, w) ** 2
        return out.sum() if out.ndim else out

    gradients = func.vmap(func.grad(loss))(x)
    assert calls == []
    for i in range(6):
        assert together[i].numpy().tobytes() == function(x[i], w).numpy().tobytes()
        expected = func.grad(loss)(x[i])
        assert gradients[i].numpy().tobytes() == expected.numpy().tobytes()


def test_gradients_of_each_example_of_a_network_in_one_call(calls):
    model = network(pg)
    params = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(params, x, y):
        return F.cross_entropy(func.functional_call(model, params, (x[None],)), y[None])

    x, y = pg.tensor(rows), pg.tensor(targets)
    together = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(params, x, y)
    assert calls == []
    for i in range(len(rows)):
        for name, gradient in func.grad(loss)(params, x[i], y[i]).items():
            assert together[name][i].numpy().tobytes() == gradient.numpy().tobytes(), name


def test_what_cannot_run_in_one_call_runs_slice_by_slice(calls):
    x = pg.tensor(x0)
    out = func.vmap(lambda x: x * 2 if x.sum().item() > 0 else x * 3)(x)
    assert len(calls) == 1
    for row, values in zip(out.tolist(), x0):
        assert row == (values * (2 if values.sum() > 0 else 3)).tolist()
    assert stacking.current() is None


def test_a_level_is_left_when_a_function_fails():
    with pytest.raises(ZeroDivisionError):
        func.vmap(lambda x: 1 // 0)(pg.ones(2))
    assert stacking.current() is None
    assert pg.rand(1).numel() == 1


def test_no_example_is_refused():
    for lib in (pg, torch):
        out = lib.func.vmap(lambda x: x * 2)(lib.ones(0, 3))
        assert tuple(out.shape) == (0, 3)
