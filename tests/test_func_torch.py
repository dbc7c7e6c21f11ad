"""`pargrad.func` against `torch.func`: gradients, products, Jacobians, modules as functions, nested in any order."""

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import func, nn
from tests.checks import array_of

BOTH = (pg, torch)


def drawn(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).uniform(-1, 1, shape))


def arrays(tree):
    if isinstance(tree, dict):
        return {key: arrays(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return [arrays(each) for each in tree]
    return array_of(tree.detach()) if hasattr(tree, "requires_grad") else tree


def assert_same_tree(mine, other, tolerance):
    if isinstance(other, dict):
        assert mine.keys() == other.keys()
        mine, other = list(mine.values()), list(other.values())
    if isinstance(other, list):
        assert len(mine) == len(other)
        for one, expected in zip(mine, other):
            assert_same_tree(one, expected, tolerance)
    elif isinstance(other, np.ndarray):
        np.testing.assert_allclose(mine, other, tolerance, tolerance, strict=True)
    else:
        assert mine == other


def same(act, *values, tolerance=1e-11):
    """act(library, *tensors) gives the same nest of values in both."""
    mine, other = (arrays(act(lib, *(lib.tensor(x) for x in values))) for lib in BOTH)
    assert_same_tree(mine, other, tolerance)
    return mine


# Functions of a vector (and another) to a number, and to vectors.
NUMBERS = {
    "squares": lambda lib, x, y: (x * x * y).sum(),
    "logsumexp": lambda lib, x, y: (x * y).logsumexp(0),
    "softmax": lambda lib, x, y: (x.softmax(0) * y).sum(),
    "norm": lambda lib, x, y: lib.linalg.norm(x + y),
    "network": lambda lib, x, y: lib.nn.functional.linear(x.tanh(), lib.outer(y, y)).sin().sum(),
    "indexed": lambda lib, x, y: x[0] * y[1:].prod() + (x[[0, 0, 2]] ** 3).sum(),
    "joined": lambda lib, x, y: (lib.cat([x, y]) * lib.stack([x, y]).flatten().cumsum(0)).sum(),
    "a branch": lambda lib, x, y: x.exp().sum() if float(y[0].detach()) > -9 else y.sum(),
    "constant in x": lambda lib, x, y: (y * y).sum(),
    "in place": lambda lib, x, y: (x * 1).mul_(y).exp_().sum(),
}
VECTORS = {
    "elementwise": lambda lib, x, y: x.sin() * y,
    "matrix": lambda lib, x, y: lib.outer(x, y * y),
    "cumulative": lambda lib, x, y: (x * y).cumprod(0),
    "number": lambda lib, x, y: (x * y).sum() ** 3,
    "softmax": lambda lib, x, y: (x * y).softmax(0),
}
x0, y0, v0 = drawn(3), drawn(3, seed=1), drawn(3, seed=2)
each_number = pytest.mark.parametrize("name", NUMBERS)
each_vector = pytest.mark.parametrize("name", VECTORS)


def bound(lib, table, name):
    return lambda x, y: table[name](lib, x, y)


@each_number
def test_gradients(name):
    def act(lib, x, y):
        f = bound(lib, NUMBERS, name)
        grad = lib.func.grad
        if name == "a branch" and lib is torch:
            f = lambda x, y: x.exp().sum()  # noqa: E731
        first = lib.func.grad_and_value(lambda x, y: (f(x, y), {"x": x * 2}), has_aux=True)(x, y)
        return (
            grad(f)(x, y), grad(f, argnums=1)(x, y), grad(f, argnums=(1, 0))(x, y), grad(f, argnums=-1)(x, y),
            lib.func.grad_and_value(f)(x, y), grad(lambda *a: (f(*a), a[0]), has_aux=True)(x, y), first[0], first[1][1],
            grad(lambda x: grad(lambda x: f(x, y))(x).sum())(x),
            grad(lambda x: grad(lambda y: f(x, y))(y).sum())(x),
        )  # fmt: skip

    same(act, x0, y0)


def test_the_value_first():
    x = pg.tensor(x0)
    value, gradient = func.value_and_grad(lambda x: (x * x).sum())(x)
    (value2, aux), gradient2 = func.value_and_grad(lambda x: ((x * x).sum(), x), has_aux=True)(x)
    np.testing.assert_allclose(gradient.numpy(), 2 * x0)
    assert (value.item(), gradient2.tolist(), aux.tolist()) == (value2.item(), gradient.tolist(), x.tolist())
    assert (value.requires_grad, aux.requires_grad, gradient.requires_grad) == (False, False, False)


@each_vector
def test_vector_jacobian_products(name):
    def act(lib, x, y):
        out, pull = lib.func.vjp(bound(lib, VECTORS, name), x, y)
        first, again = pull(out * 2), pull(lib.ones_like(out))
        _, pull_aux, aux = lib.func.vjp(lambda x: (x * 2, {"a": x}), x, has_aux=True)
        out2, pull2 = lib.func.vjp(lambda x: {"a": x * y, "b": (x.sin(), x.sum())}, x)
        return out, first, again, aux, pull_aux(x), out2, pull2(out2)

    same(act, x0, y0)


@each_vector
def test_jacobian_vector_products(name):
    def act(lib, x, y, v):
        f = bound(lib, VECTORS, name)
        return (
            lib.func.jvp(f, (x, y), (v, v * 2)),
            lib.func.jvp(lambda x: f(x, y), (x,), (v,)),
            lib.func.jvp(lambda x: (f(x, y), x), (x,), (v,), has_aux=True),
            lib.func.jvp(lambda t: {"a": f(t[0], t[1]), "b": t[0]}, ((x, y),), ((v, v),)),
            lib.func.jvp(lambda x: lib.func.jvp(lambda x: f(x, y), (x,), (v,))[1], (x,), (v,)),
        )

    same(act, x0, y0, v0)


@each_vector
def test_jacobians(name):
    def act(lib, x, y):
        f = bound(lib, VECTORS, name)
        rev, fwd = lib.func.jacrev, lib.func.jacfwd
        return (
            rev(f)(x, y), rev(f, argnums=1)(x, y), rev(f, argnums=(0, 1))(x, y), fwd(f)(x, y), fwd(f, argnums=1)(x, y),
            rev(lambda x: (f(x, y), {"a": x}), has_aux=True)(x), fwd(lambda x: (f(x, y), {"a": x}), has_aux=True)(x),
            rev(lambda x: {"a": f(x, y), "b": (x.sum(), x)})(x), fwd(lambda x: (f(x, y), x.sum()))(x),
            rev(lambda t: f(t["x"], t["y"]))({"x": x, "y": y}), rev(rev(f))(x, y), fwd(rev(f))(x, y),
            rev(fwd(f))(x, y), fwd(fwd(f))(x, y),
        )  # fmt: skip

    same(act, x0, y0)


@each_number
def test_hessians(name):
    def act(lib, x, y):
        f = bound(lib, NUMBERS, name)
        if name == "a branch" and lib is torch:
            f = lambda x, y: x.exp().sum()  # noqa: E731
        return lib.func.hessian(f)(x, y), lib.func.hessian(f, argnums=1)(x, y), lib.func.hessian(f, (0, 1))(x, y)

    if name == "in place":  # torch's forward mode has none
        return
    same(act, x0, y0, tolerance=1e-9)


@each_number
def test_hessian_vector_products(name):
    x, y, v = (pg.tensor(each) for each in (x0, y0, v0))
    f = bound(pg, NUMBERS, name)
    value, product = func.hvp(lambda x: f(x, y), x, v)
    np.testing.assert_allclose(product.numpy(), (func.hessian(f)(x, y) @ v).numpy(), 1e-9, 1e-12)
    assert value.item() == f(x, y).item()
    value, (of_x, of_y) = func.hvp(f, (x, y), (v, v))
    (xx, xy), (yx, yy) = func.hessian(f, (0, 1))(x, y)
    np.testing.assert_allclose(of_x.numpy(), (xx @ v + xy @ v).numpy(), 1e-9, 1e-12)
    np.testing.assert_allclose(of_y.numpy(), (yx @ v + yy @ v).numpy(), 1e-9, 1e-12)


# ----- in the graphs and modes outside -----


def outer_graph(lib, x, y):
    w = y.clone().requires_grad_()
    g = lib.func.grad(lambda x: (x * x * w).sum())(x)
    return g, g.requires_grad, lib.autograd.grad((g * g).sum(), w)


def outer_graph_of_the_input(lib, x, y):
    w = x.clone().requires_grad_()
    g = lib.func.grad(lambda x: (x**3).sum())(w)
    return g, g.requires_grad, lib.autograd.grad(g.sum(), w)


def outer_value(lib, x, y):
    w = y.clone().requires_grad_()
    _g, value = lib.func.grad_and_value(lambda x: (x * w).sum())(x)
    return value.requires_grad, lib.autograd.grad(value, w)


def no_outer_graph(lib, x, y):
    g, value = lib.func.grad_and_value(lambda x: (x * y).sum())(x)
    return g.requires_grad, value.requires_grad, g


def inside_no_grad(lib, x, y):
    w = y.clone().requires_grad_()
    with lib.no_grad():
        g = lib.func.grad(lambda x: (x * x * w).sum())(x)
    return g, g.requires_grad


def no_grad_inside(lib, x, y):
    def f(x):
        with lib.no_grad():
            scale = x.sum()
        return (x * scale).sum()

    return lib.func.grad(f)(x)


def outer_jvp(lib, x, y):
    w = y.clone().requires_grad_()
    _, tangent = lib.func.jvp(lambda x: (x * x * w).sin(), (x,), (y,))
    return lib.autograd.grad(tangent.sum(), w)


def outer_vjp(lib, x, y):
    w = y.clone().requires_grad_()
    out, pull = lib.func.vjp(lambda x: (x * x * w).sin(), x)
    (g,) = pull(lib.ones_like(out))
    return lib.autograd.grad(g.sum(), w)


def detached(lib, x, y):
    return lib.func.grad(lambda x: (x.detach() * x).sum())(x)


def confused(lib, x, y):
    """What an inner one differentiates by is not what an outer one does (perturbation confusion)."""
    one = lib.tensor(1.0, dtype=lib.float64)
    return lib.func.grad(lambda x: x * lib.func.grad(lambda y: x + y)(one))(one)


def same_tensor_twice(lib, x, y):
    return lib.func.grad(lambda a, b: (a * b).sum(), argnums=(0, 1))(x, x)


def third(lib, x, y):
    number = x[0]
    return lib.func.grad(lib.func.grad(lib.func.grad(lambda x: x**4 * y[0])))(number)


ACTS = [
    outer_graph, outer_graph_of_the_input, outer_value, no_outer_graph, inside_no_grad, no_grad_inside, outer_jvp,
    outer_vjp, detached, confused, same_tensor_twice, third,
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_graphs_and_modes_outside(act):
    same(act, x0, y0)


def test_dot_grad_is_left_alone():
    w = pg.tensor(x0, requires_grad=True)
    func.grad(lambda x: (x * w).sum())(w)
    func.jacrev(lambda x: x * w)(w)
    assert w.grad is None


# ----- trees -----


def test_arguments_may_be_nests():
    def act(lib, x, y):
        def loss(params, data):
            return ((params["w"] * data[0] + params["more"][0]).sum() - data[1].sum()) ** 2

        params = {"w": x, "more": [y, (y * 2,)]}
        found = lib.func.grad(loss, argnums=(0, 1))(params, (x, y))
        if lib is torch:
            return found
        assert isinstance(found[0]["more"], list)
        assert isinstance(found[0]["more"][1], tuple)
        return found

    same(act, x0, y0)


# ----- wrong use -----

WRONG = {
    "no number": lambda lib, x: lib.func.grad(lambda x: x * 2)(x),
    "no tensor": lambda lib, x: lib.func.grad(lambda x: 2.0)(x),
    "an argnum too far": lambda lib, x: lib.func.grad(lambda x: x.sum(), argnums=1)(x),
    "tangents of another number": lambda lib, x: lib.func.jvp(lambda x: x, (x,), (x, x)),
    "tangents of another shape": lambda lib, x: lib.func.jvp(lambda x: x, (x,), (x[:1],)),
    "tangents without a tuple": lambda lib, x: lib.func.jvp(lambda x: x, x, x),
    "cotangents of another shape": lambda lib, x: lib.func.vjp(lambda x: x * 2, x)[1](x[:1]),
    "integers": lambda lib, x: lib.func.grad(lambda x: x.sum())(lib.tensor([1, 2])),
    "cotangents of another number": lambda lib, x: lib.func.vjp(lambda x: x * 2, x)[1](x, x),
    "an unknown randomness": lambda lib, x: lib.func.vmap(lambda x: x, randomness="any")(x),
    "no dimension to map": lambda lib, x: lib.func.vmap(lambda x: x, in_dims=None)(x),
    "a dimension too far": lambda lib, x: lib.func.vmap(lambda x: x, in_dims=1)(x),
    "two lengths": lambda lib, x: lib.func.vmap(lambda x, y: x + y)(x, x[:1]),
    "a number mapped": lambda lib, x: lib.func.vmap(lambda x, y: x + y)(x, 2.0),
    "no tensor returned": lambda lib, x: lib.func.vmap(lambda x: "text")(x),
    "in_dims of another form": lambda lib, x: lib.func.vmap(lambda x, y: x, in_dims=(0,))(x, x),
    "a name that is no parameter": lambda lib, x: lib.func.functional_call(
        lib.nn.Linear(2, 2), {"q": x}, x, strict=True
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_an_error_in_both(name):
    for lib in BOTH:
        with pytest.raises((RuntimeError, ValueError, TypeError)) as error:
            WRONG[name](lib, lib.tensor(x0))
        assert "object has no attribute" not in str(error.value)


# ----- modules as functions -----


def network(lib):
    """The same small network in both libraries."""
    model = lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.Tanh(), lib.nn.Linear(4, 2))
    with lib.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter.copy_(lib.tensor(drawn(*parameter.shape, seed=i).astype(np.float32)))
    return model


rows, targets = drawn(5, 3).astype(np.float32), np.array([0, 1, 1, 0, 1])


def test_a_module_with_other_parameters():
    def act(lib, x):
        model = network(lib)
        before = {name: parameter for name, parameter in model.named_parameters()}
        doubled = {name: parameter.detach() * 2 for name, parameter in before.items()}
        call = lib.func.functional_call
        found = (
            call(model, doubled, (x,)), call(model, doubled, x), call(model, {"0.bias": doubled["0.bias"]}, (x,)),
            call(model, (doubled, {}), args=(x,)), call(model, {}, (x,)), call(model, doubled, (), {"input": x}),
        )  # fmt: skip
        assert all(before[name] is parameter for name, parameter in model.named_parameters())
        with pytest.raises((RuntimeError, ValueError, TypeError)):
            call(model, doubled, (x[:, :1],))
        assert all(before[name] is parameter for name, parameter in model.named_parameters())
        return found

    same(act, rows, tolerance=1e-6)


def test_tied_parameters_are_replaced_together():
    def act(lib, x):
        model = lib.nn.Sequential(lib.nn.Linear(3, 3), lib.nn.Linear(3, 3))
        model[1].weight = model[0].weight
        zeros = {name: lib.zeros_like(parameter) for name, parameter in model.named_parameters()}
        weight = {**zeros, "0.weight": lib.ones(3, 3)}
        return lib.func.functional_call(model, weight, (x,))

    same(act, rows, tolerance=1e-6)


def per_example(lib, x, y):
    model = network(lib)
    params = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(params, x, y):
        out = lib.func.functional_call(model, params, (x[None],))
        return lib.nn.functional.cross_entropy(out, y[None])

    return lib.func.vmap(lib.func.grad(loss), in_dims=(None, 0, 0))(params, x, y)


def test_gradients_of_each_example():
    found = same(per_example, rows, targets, tolerance=1e-5)
    assert [gradient.shape for gradient in found.values()] == [(5, 4, 3), (5, 4), (5, 2, 4), (5, 2)]
    model = network(pg)
    for i in range(5):
        model.zero_grad()
        nn.functional.cross_entropy(model(pg.tensor(rows[i : i + 1])), pg.tensor(targets[i : i + 1])).backward()
        for parameter, gradients in zip(model.parameters(), found.values()):
            np.testing.assert_allclose(gradients[i], parameter.grad.numpy(), 1e-5, 1e-6)
