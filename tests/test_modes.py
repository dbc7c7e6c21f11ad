"""no_grad and its like, detach, and which tensors can require grad."""

import threading

import numpy as np
import pytest

import pargrad as pg
from pargrad.nn import Parameter
from tests.checks import assert_equal
from tests.tensors import X, Y, leaf


def test_no_grad_records_nothing_and_ends_with_its_block():
    x = leaf(X)
    with pg.no_grad():
        assert not pg.is_grad_enabled()
        y = x * 2
        with pg.enable_grad():
            assert pg.is_grad_enabled()
            z = x * 2
        assert not pg.is_grad_enabled()
    assert pg.is_grad_enabled()
    assert (y.requires_grad, y.is_leaf, z.requires_grad, (x * 2).requires_grad) == (False, True, True, True)


@pytest.mark.parametrize("mode", [True, False])
def test_set_grad_enabled_takes_the_mode_and_restores_the_one_before(mode):
    for before in (True, False):
        with pg.set_grad_enabled(before):
            with pg.set_grad_enabled(mode):
                assert pg.is_grad_enabled() is mode
            assert pg.is_grad_enabled() is before


def test_an_exception_ends_a_mode():
    with pytest.raises(ZeroDivisionError), pg.no_grad():
        raise ZeroDivisionError
    assert pg.is_grad_enabled()

    @pg.no_grad()
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert pg.is_grad_enabled()


def test_one_mode_object_can_be_entered_again_within_itself():
    mode = pg.no_grad()
    with mode:
        with mode:
            assert not pg.is_grad_enabled()
        assert not pg.is_grad_enabled()
    assert pg.is_grad_enabled()


@pytest.mark.parametrize("decorate", [pg.no_grad(), pg.no_grad, pg.set_grad_enabled(False)], ids=["()", "bare", "set"])
def test_a_mode_is_a_decorator_that_keeps_name_arguments_and_result(decorate):
    @decorate
    def scale(x, *, factor):
        """Documentation."""
        return x * factor, pg.is_grad_enabled()

    out, enabled = scale(leaf(X), factor=2)
    assert (out.requires_grad, enabled, scale.__name__, scale.__doc__) == (False, False, "scale", "Documentation.")
    assert pg.is_grad_enabled()
    with pg.no_grad():
        assert pg.enable_grad(pg.is_grad_enabled)() is True


def test_a_decorated_function_may_call_itself():
    @pg.no_grad()
    def down(depth):
        assert not pg.is_grad_enabled()
        return 0 if not depth else 1 + down(depth - 1)

    assert down(3) == 3
    assert pg.is_grad_enabled()


def test_a_generator_is_not_decorated_because_it_would_run_outside_the_mode():
    def values():
        yield pg.is_grad_enabled()

    with pytest.raises(TypeError, match=r"a decorated generator, values, would run outside the mode: write the `with`"):
        pg.no_grad()(values)


def test_modes_belong_to_threads():
    seen, entered, leave = [], threading.Event(), threading.Event()

    @pg.no_grad()
    def within(act):
        act()
        return pg.is_grad_enabled()

    def other():
        seen.append(pg.is_grad_enabled())
        seen.append(within(lambda: (entered.set(), leave.wait(10))))
        seen.append(pg.is_grad_enabled())

    with pg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
        # The same decorated function in two threads: the other one leaves it while this one is inside.
        assert within(lambda: (leave.set(), thread.join(10))) is False
        assert not pg.is_grad_enabled()
    assert pg.is_grad_enabled()
    assert seen == [True, False, True]


def test_threads_build_and_walk_graphs_of_their_own():
    def work(result, factor):
        x = leaf(np.ones(50))
        for _ in range(50):
            (x * factor).sum().backward()
        result.append(x.grad.tolist())

    results = [[] for _ in range(4)]
    threads = [threading.Thread(target=work, args=(result, i)) for i, result in enumerate(results)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [[[50.0 * i] * 50] for i in range(4)]


def test_detach_leaves_the_graph_and_shares_the_memory():
    x = leaf(X)
    y = x * 2
    d = y.detach()
    assert (d.requires_grad, d.is_leaf, d.array is y.array) == (False, True, True)
    (y * d).sum().backward()
    assert_equal([x.grad.numpy()], [4 * np.array(X, np.float32)])
    d += 1
    assert y.tolist() == [2.0, 4.0, 6.0]


def test_data_is_the_memory_and_can_be_replaced():
    x = leaf(X)
    assert x.data.array is x.array
    assert not x.data.requires_grad
    x.data = pg.tensor(Y)
    assert (x.tolist(), x.requires_grad) == (Y, True)
    x.data = np.array(X)
    assert x.dtype == pg.float64


@pytest.mark.parametrize("values", [[1, 2], [True], np.array([1], np.uint8)], ids=str)
def test_only_floats_can_require_grad(values):
    message = r"only floating-point tensors can require grad, got \w+: write x.float\(\) first"
    for act in (
        lambda: pg.tensor(values, requires_grad=True),
        lambda: pg.tensor(values).requires_grad_(),
        lambda: Parameter(pg.tensor(values)),
        lambda: pg.zeros(2, dtype=pg.tensor(values).dtype, requires_grad=True),
    ):
        with pytest.raises(RuntimeError, match=message):
            act()
    assert not Parameter(pg.tensor(values), requires_grad=False).requires_grad


def test_requires_grad_can_be_switched_on_a_leaf_alone():
    x = pg.ones(2)
    assert x.requires_grad_() is x
    assert x.requires_grad
    y = x * 2
    with pytest.raises(RuntimeError, match=r"of a computed tensor cannot be switched off: write x.detach\(\)"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_integers_computed_from_a_graph_are_outside_it():
    x = leaf(X)
    for out in (x > 1, x.argmax(), x.long(), x.bool(), x.max(0).indices, x // 1):
        assert not out.requires_grad
    assert x.double().requires_grad
