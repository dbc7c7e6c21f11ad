"""The graph and its memory, and the walk back through it."""

import gc
import weakref

import numpy as np
import pytest

import pargrad as pg
from pargrad.graph import run_backward
from pargrad.tensor import Tensor
from tests.checks import assert_equal, weights
from tests.tensors import X, Y, leaf


def test_a_shared_gradient_is_not_added_to_in_place():
    # Only one of the two orders breaks an engine that adds in place to what add handed to both of its arguments.
    for act in (lambda x, y: x * 2 + (x + y), lambda x, y: (x + y) + x * 2, lambda x, y: (x + y) + (x + y) * x):
        x, y = leaf([1.0, 2.0]), leaf([3.0, 5.0])
        act(x, y).sum().backward()
        assert x.grad.tolist() in ([3.0, 3.0], [1 + 4 + 1, 1 + 7 + 2])
        assert y.grad.tolist() in ([1.0, 1.0], [1 + 1, 1 + 2])


def test_a_fused_rules_overwritten_input_is_noticed_in_a_second_derivative():
    w, t = leaf([X, X]), pg.tensor([0, 1])
    x = w * 2
    y = pg.nn.functional.cross_entropy(x, t)
    with pg.no_grad():
        x.mul_(3)
    with pytest.raises(RuntimeError, match="softmax_cross_entropy saved its argument 0"):
        pg.autograd.grad(y, w, create_graph=True)
    (gradient,) = pg.autograd.grad(y, w)  # the first derivative keeps what it needs of its own
    assert gradient.shape == w.shape


def test_exact_values_in_graphs_with_shared_nodes():
    x = leaf(3.0)
    y = x * x
    z = y + y * y  # x^2 + x^4
    z.backward()
    assert (z.item(), x.grad.item()) == (90.0, 2 * 3 + 4 * 27)
    x = y = leaf(2.0)
    for _ in range(20):  # a million paths, 20 nodes
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**20


def test_an_operator_on_the_same_tensor_twice():
    x = leaf(3.0)
    (x + x).backward()
    assert x.grad.item() == 2.0
    (x - x).backward()
    assert x.grad.item() == 2.0
    (x / x).backward()
    assert x.grad.item() == 2.0
    pg.cat([x.reshape(1), x.reshape(1), (x * x).reshape(1)]).sum().backward()
    assert x.grad.item() == 2.0 + 2.0 + 6.0


def test_broadcast_gradients_are_summed_on_every_path():
    x, y, z = leaf([1.0, 2.0]), leaf([[1.0], [2.0], [4.0]]), leaf(3.0)
    (x * y * z).sum().backward()
    assert x.grad.tolist() == [21.0, 21.0]
    assert y.grad.tolist() == [[9.0], [9.0], [9.0]]
    assert z.grad.item() == 21.0
    x = leaf([1.0, 2.0])
    x.expand(3, 2).sum().backward()
    pg.where(pg.ones(3, 2) > 0, x, 0).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]


def test_a_chain_of_100_000_operators():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    assert y.item() == 100_001
    y.backward()
    assert x.grad.item() == 1.0
    # And one that is thrown away without backward: freeing it must not recurse, either.
    y = x
    for _ in range(100_000):
        y = y * 1.0
    reference = weakref.ref(y)
    del y
    assert reference() is None


def test_a_graph_needs_no_garbage_collector():
    gc.disable()
    try:
        x = leaf(X)
        y = (x * 2).tanh()
        reference = weakref.ref(y.array)
        loss = (y * y).sum()
        loss.backward()
        del y, loss
        assert reference() is None
    finally:
        gc.enable()


def test_backward_frees_what_was_saved_and_refuses_a_second_walk():
    x = leaf(X)
    y = x.exp()
    reference = weakref.ref(y.array)
    z = (y * y).sum()
    del y
    assert reference() is not None
    z.backward()
    assert reference() is None
    with pytest.raises(RuntimeError, match=r"a second time: .* freed .* Write backward\(retain_graph=True\)"):
        z.backward()


def test_backward_frees_as_it_goes():
    """When a node is reached, what the nodes before it kept is gone: memory shrinks during the walk."""
    x = leaf(np.ones(4))
    values = [x]
    for _ in range(6):
        values.append(values[-1].exp() * 0.1)
    exps = []
    node = values[-1].node
    while node is not None:
        if node.rule.name == "exp":
            exps.append(weakref.ref(node.edges[0][0].__closure__[0].cell_contents))
        target = node.edges[0][1]
        node = None if isinstance(target, Tensor) else target
    top = values[-1].sum()
    del values, node, target
    alive_at_the_leaf = []
    seeds = {top.key: np.ones((), np.float64)}
    run_backward(seeds, lambda *_: alive_at_the_leaf.append([one() is not None for one in exps]))
    assert len(exps) == 6
    assert not any(alive_at_the_leaf[0][:-1])  # from the newest to the oldest; the last may be the one in hand


def test_retain_graph_allows_a_second_walk_that_adds_up():
    x = leaf(X)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    first = x.grad.tolist()
    y.backward()
    assert x.grad.tolist() == [2 * each for each in first]


def test_a_walk_through_a_freed_part_is_refused_before_anything_is_added():
    x, w = leaf(X), leaf(Y)
    shared = x.exp()
    shared.sum().backward()
    before = x.grad.tolist()
    with pytest.raises(RuntimeError, match="a second time"):
        (w * shared).sum().backward()
    assert (x.grad.tolist(), w.grad) == (before, None)


def test_gradients_accumulate_in_the_same_tensor_over_backwards():
    x = leaf(X)
    (x * 2).sum().backward()
    grad = x.grad
    (x * 3).sum().backward()
    assert x.grad is grad
    assert grad.tolist() == [5.0] * 3
    assert (grad.requires_grad, grad.is_leaf) == (False, True)
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0] * 3
    x.grad.zero_()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0] * 3


ALIASES = [
    lambda x, y: x + y,
    lambda x, y: x - y * -1,
    lambda x, y: (x + y).reshape(3, 1),
    lambda x, y: (x.unsqueeze(0) + y.T)[0],
    lambda x, y: x.clone() + y.to(pg.float64),
    lambda x, y: pg.stack([x, y]).sum(0),
    lambda x, y: pg.cat([x, y])[:3] + pg.cat([x, y])[3:],
    lambda x, y: x.expand(3) + y.squeeze(),
]


@pytest.mark.parametrize("act", ALIASES)
def test_gradients_share_memory_with_nothing(act):
    x, y = leaf(X, pg.float64), leaf(Y, pg.float64)
    seed = pg.ones(*act(x, y).shape, dtype=pg.float64)
    act(x, y).backward(seed)
    x.grad *= 100
    assert y.grad.tolist() == [1.0] * 3
    y.grad *= 10
    assert x.grad.tolist() == [100.0] * 3
    assert (x.tolist(), y.tolist()) == (X, Y)
    assert set(seed.reshape(-1).tolist()) == {1.0}
    assert not np.shares_memory(x.grad.array, y.grad.array)
    # Neither is a second walk written to by the first one's owner.
    act(x, y).backward(seed)
    assert (x.grad.tolist(), y.grad.tolist()) == ([101.0] * 3, [11.0] * 3)


def test_the_gradient_given_to_backward_stays_the_callers():
    x = leaf(X)
    seed = pg.tensor([1.0, 2.0, 3.0])
    x.backward(seed)
    (x + 0).backward(seed)
    (x.reshape(3, 1) + 0).reshape(3).backward(seed)
    assert x.grad.tolist() == [3.0, 6.0, 9.0]
    x.grad *= 0
    assert seed.tolist() == [1.0, 2.0, 3.0]


def test_backward_takes_a_gradient_of_the_same_shape_as_tensor_or_array():
    for seed in (pg.tensor([1.0, 0.0, 2.0]), np.array([1.0, 0.0, 2.0]), pg.tensor([1, 0, 2]), [1.0, 0.0, 2.0]):
        x = leaf(X)
        (x * 2).backward(seed)
        x.backward(seed)
        assert (x.grad.dtype, x.grad.tolist()) == (pg.float32, [3.0, 0.0, 6.0])
        y = leaf(X)
        y.backward(seed)
        assert (y.grad.dtype, y.grad.tolist()) == (pg.float32, [1.0, 0.0, 2.0])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_backward_of_one_element_needs_no_gradient(shape):
    x = pg.ones(*shape, requires_grad=True)
    (3 * x).backward()
    assert x.grad.numpy().tolist() == np.full(shape, 3.0).tolist()


def test_only_leaves_get_a_gradient():
    x = leaf(X)
    y = x * 2
    y.sum().backward()
    assert (x.is_leaf, y.is_leaf, y.grad, x.grad.tolist()) == (True, False, None, [2.0] * 3)
    assert (x.grad_fn, repr(y.grad_fn)) == (None, "<MulBackward0>")


def test_a_leaf_that_is_not_reached_has_no_gradient():
    x, y = leaf(X), leaf(Y)
    values, _ = pg.stack([x, y]).max(0)
    (values * 0 + x).sum().backward()
    assert y.grad.tolist() == [0.0] * 3  # reached, by a gradient of zero
    z = leaf(X)
    assert (z * 2).requires_grad
    assert z.grad is None


def test_accumulate_is_called_once_a_leaf_with_its_whole_gradient():
    x, y, z = leaf(X), leaf(Y), leaf(1.0)
    calls = []

    def accumulate(target, gradient, owned):
        calls.append((target, gradient, owned))

    total = ((x + y) + x * y + x * z).sum()
    run_backward({total.key: np.ones((), np.float32)}, accumulate)
    assert [next(name for name, one in zip("xyz", (x, y, z)) if one is target) for target, *_ in calls].count("x") == 1
    assert {id(target) for target, *_ in calls} == {id(x), id(y), id(z)}
    assert len(calls) == 3
    found = {id(target): gradient for target, gradient, _ in calls}
    np.testing.assert_allclose(found[id(x)], 2.0 + np.array(Y))
    np.testing.assert_allclose(found[id(y)], 1.0 + np.array(X))
    np.testing.assert_allclose(found[id(z)], sum(X))
    assert all(target.grad is None for target, *_ in calls)
    assert {found[id(t)].dtype for t in (x, y, z)} == {np.dtype(np.float32)}


def test_what_accumulate_is_told_it_owns_is_nobody_elses():
    cases = [
        (lambda x, y: x + y, {False}),
        (lambda x, y: x * y, {True}),
        (lambda x, y: x.reshape(3, 1).reshape(3) + y.T, {False}),
        (lambda x, y: x + x + y * 0, {True}),
        (lambda x, y: (x + y) * 1.0 + (x + y), {True}),
        (lambda x, y: pg.cat([x, y]), {False}),
        (lambda x, y: pg.stack([x, x * y]), None),
        (lambda x, y: x.expand(2, 3) * y, None),
    ]
    for act, expected in cases:
        x, y = leaf(X), leaf(Y)
        out = act(x, y)
        seed = weights(out.shape, np.float32)
        kept = seed.copy()
        told = []

        def accumulate(target, gradient, owned, told=told):
            told.append((gradient.copy(), gradient, owned))
            if owned:
                gradient[...] = np.nan

        run_backward({out.key: seed}, accumulate, retain_graph=True)
        assert expected is None or {owned for *_, owned in told} == expected
        assert not np.isnan(seed).any()
        assert_equal([seed], [kept])
        first = [values for values, *_ in told]
        told.clear()
        run_backward({out.key: seed}, accumulate)
        assert_equal([values for values, *_ in told], first)


def test_a_leaf_as_the_root_gets_the_gradient_itself():
    x, calls = leaf(X), []
    run_backward({x.key: np.ones(3, np.float32)}, lambda *call: calls.append(call))
    assert [(target is x, gradient.tolist(), owned) for target, gradient, owned in calls] == [(True, [1.0] * 3, False)]
