"""`checkpoint` against the same function without it, and against torch's."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn
from pargrad.utils.checkpoint import checkpoint
from tests.both import leaf, same


def of(lib):
    """checkpoint of either library."""
    if lib is pg:
        return checkpoint
    return lambda *args, **named: torch.utils.checkpoint.checkpoint(*args, use_reentrant=False, **named)


def values_and_gradients(lib):
    x, w = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    out = of(lib)(lambda x, w: (x * w).sin() * x, x, w)
    (out * out).sum().backward()
    return out, x.grad, w.grad, out.requires_grad


def a_closure(lib):
    x, w = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    of(lib)(lambda x: (x * w).exp(), x).sum().backward()
    return x.grad, w.grad


def a_closure_alone(lib):
    """Of the arguments none requires a gradient."""
    w = leaf(lib)
    of(lib)(lambda x: x * w, lib.ones(3, dtype=lib.float64)).sum().backward()
    return w.grad


def computed_inputs(lib):
    x = leaf(lib)
    y = x.exp()
    (of(lib)(lambda y: y.sin() * y, y * 2) * y).sum().backward()
    return x.grad


def nested(lib):
    x, w = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])

    def inner(y):
        return (y * w).sin()

    def outer(x):
        return of(lib)(inner, x * 2) * of(lib)(inner, x)

    of(lib)(outer, x).sum().backward()
    return x.grad, w.grad


def one_after_the_other(lib):
    x = leaf(lib)
    out = x
    for _ in range(4):
        out = of(lib)(lambda y: y.tanh() * 2, out)
    out.sum().backward()
    return x.grad


def several_outputs(lib):
    x = leaf(lib)
    first, second, third = of(lib)(lambda x: (x * 2, x.exp().sum(), 7), x)
    (first.sum() + second * 3).backward()
    return x.grad, third


def one_of_several_outputs(lib):
    x = leaf(lib)
    of(lib)(lambda x: (x * 2, x.exp()), x)[1].sum().backward()
    return x.grad


def grad_by_an_inner_input(lib):
    x = leaf(lib)
    y = x * 2
    out = of(lib)(lambda y: y.exp(), y)
    return lib.autograd.grad(out.sum(), [x, y])


def second_derivative(lib):
    x, w = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    out = of(lib)(lambda x: (x * w).sin() * x, x).sum()
    first = lib.autograd.grad(out, [x, w], create_graph=True)
    return first, lib.autograd.grad(sum((g * g).sum() for g in first), [x, w])


def retained(lib):
    x = leaf(lib)
    out = of(lib)(lambda x: x.exp(), x).sum()
    out.backward(retain_graph=True)
    out.backward()
    return x.grad


def not_retained(lib):
    x = leaf(lib)
    out = of(lib)(lambda x: x.exp(), x).sum()
    out.backward()
    out.backward()


def keywords(lib):
    x = leaf(lib)
    of(lib)(lambda x, *, scale: x.exp() * scale, x, scale=3.0).sum().backward()
    return x.grad


def within_no_grad(lib):
    x = leaf(lib)
    with lib.no_grad():
        out = of(lib)(lambda x: x * 2, x)
    return out, out.requires_grad


def in_place_inside(lib):
    x = leaf(lib)

    def function(x):
        y = x * 2
        y[0] = 1.0
        y.mul_(3)
        return y.sin()

    of(lib)(function, x).sum().backward()
    return x.grad


def hooks_outside(lib):
    x = leaf(lib)
    out = of(lib)(lambda x: x * 2, x)
    out.register_hook(lambda g: g * 10)
    out.retain_grad()
    out.sum().backward()
    return x.grad, out.grad


ACTS = [
    values_and_gradients, a_closure, a_closure_alone, computed_inputs, nested, one_after_the_other, several_outputs,
    one_of_several_outputs, grad_by_an_inner_input, second_derivative, retained, not_retained, keywords, within_no_grad,
    in_place_inside, hooks_outside,
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_checkpoint(act):
    same(act)


@pytest.mark.parametrize("preserve", [True, False])
def test_the_second_call_draws_what_the_first_drew(preserve):
    x = pg.ones(1000, requires_grad=True)
    pg.manual_seed(3)
    out = checkpoint(lambda x: F.dropout(x * 1, 0.5), x, preserve_rng_state=preserve)
    after = pg.rand(4).tolist()
    out.sum().backward()
    assert (x.grad.tolist() == out.tolist()) == preserve
    if preserve:  # the generator goes on as if nothing had been called again
        further = pg.rand(4).tolist()
        pg.manual_seed(3)
        F.dropout(pg.ones(1000), 0.5)
        assert (pg.rand(4).tolist(), pg.rand(4).tolist()) == (after, further)


def test_a_model_has_the_bits_of_one_without_checkpoints():
    pg.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3)))
    x = pg.rand(5, 8)
    found = []
    for run in (lambda layer, x: layer(x), checkpoint):
        pg.manual_seed(1)
        model.zero_grad()
        out = x
        for layer in model:
            out = run(layer, out)
        out.sum().backward()
        found.append((out.array.tobytes(), [p.grad.array.tobytes() for p in model.parameters()]))
    assert found[0] == found[1]


def test_the_inner_graph_is_not_kept():
    gc.collect()
    gc.disable()
    try:
        x, inside, calls = leaf(pg), [], []

        def function(x):
            calls.append(1)
            y = x.exp()
            inside.append(weakref.ref(y.array))
            inside.append(weakref.ref(y.grad_fn))
            return (y * y).sin()

        out = checkpoint(function, x)
        assert [reference() for reference in inside] == [None, None]
        out.sum().backward()
        assert [reference() for reference in inside] == [None] * 4
        assert len(calls) == 2
        function(x)
        out = function(x)  # without a checkpoint they are
        assert all(reference() is not None for reference in inside[-2:])
        assert np.isfinite(out.tolist()).all()
    finally:
        gc.enable()


def test_an_input_that_changed_is_noticed():
    x = leaf(pg) * 1
    out = checkpoint(lambda x: x.exp(), x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="checkpoint saved its argument 0"):
        out.sum().backward()


def test_an_error_inside_leaves_the_generator_alone():
    calls = []

    def function(x):
        calls.append(1)
        if len(calls) == 2:
            pg.rand(3)
            raise ZeroDivisionError
        return x * 2

    x = leaf(pg)
    pg.manual_seed(0)
    out = checkpoint(function, x)
    with pytest.raises(ZeroDivisionError):
        out.sum().backward()
    found = pg.rand(3).tolist()
    pg.manual_seed(0)
    assert pg.rand(3).tolist() == found
    assert pg.is_grad_enabled()
