"""numpy's functions on tensors, and indexing, which is numpy's."""

import operator

import numpy as np
import pytest

import pargrad as pg
from pargrad.tensor import Tensor
from tests.checks import assert_equal, check_derivative, weights
from tests.tensors import X, Y, leaf

# ----- numpy's functions -----


def test_numpy_functions_on_tensors_are_recorded():
    # Each row: numpy's function of a tensor, and its derivative at X by hand (times ones).
    x = np.array(X)
    rows = [
        (lambda t: np.exp(t), np.exp(x)),
        (lambda t: np.log(t), 1 / x),
        (lambda t: np.sqrt(t), 0.5 / np.sqrt(x)),
        (lambda t: np.tanh(t), 1 - np.tanh(x) ** 2),
        (lambda t: np.square(t), 2 * x),
        (lambda t: np.abs(t), np.ones(3)),
        (lambda t: np.negative(t), -np.ones(3)),
        (lambda t: np.add(np.array(Y), t), np.ones(3)),
        (lambda t: np.subtract(np.array(Y), t), -np.ones(3)),
        (lambda t: np.array(Y) * t, np.array(Y)),
        (lambda t: np.divide(1.0, t), -1 / x**2),
        (lambda t: np.float64(2) / t, -2 / x**2),
        (lambda t: np.power(t, 2), 2 * x),
        (lambda t: np.maximum(t, 1.0), (x > 1) * 1.0),
        (lambda t: np.minimum(1.0, t), (x < 1) * 1.0),
        (lambda t: np.clip(t, 1.0, 2.0), ((x > 1) & (x < 2)) * 1.0),
        (lambda t: np.clip(t, 1.0, None), (x > 1) * 1.0),
        (lambda t: np.clip(t, a_min=None, a_max=2.0), (x < 2) * 1.0),
        (lambda t: np.clip(t, min=1.0), (x > 1) * 1.0),
        (lambda t: np.sum(t), np.ones(3)),
        (lambda t: np.sum(t, axis=0, keepdims=True), np.ones(3)),
        (lambda t: np.sum(t, 0, dtype=None, out=None), np.ones(3)),
        (lambda t: np.mean(t, axis=-1), np.full(3, 1 / 3)),
        (lambda t: np.max(t, axis=0), np.array([0.0, 0.0, 1.0])),
        (lambda t: np.min(t), np.array([1.0, 0.0, 0.0])),
        (lambda t: np.amax(t, axis=(0,), keepdims=True), np.array([0.0, 0.0, 1.0])),
        (lambda t: np.concatenate([t, t]), np.full(3, 2.0)),
        (lambda t: np.concatenate((np.array(Y), t), axis=0), np.ones(3)),
        (lambda t: np.stack([t, t, t], axis=1), np.full(3, 3.0)),
        (lambda t: np.where(np.array([True, False, True]), t, 0.0), np.array([1.0, 0.0, 1.0])),
        (lambda t: np.where(t > 1, 2 * t, t), np.array([1.0, 2.0, 2.0])),
        (lambda t: np.transpose(np.reshape(t, (3, 1))), np.ones(3)),
        (lambda t: np.transpose(t[None], axes=(1, 0)), np.ones(3)),
        (lambda t: np.swapaxes(t[None], 0, 1), np.ones(3)),
        (lambda t: np.expand_dims(t, axis=1), np.ones(3)),
        (lambda t: np.squeeze(np.expand_dims(t, 0), axis=0), np.ones(3)),
        (lambda t: np.reshape(t, -1), np.ones(3)),
        (lambda t: np.broadcast_to(t, (4, 3)), np.full(3, 4.0)),
        (lambda t: np.matmul(np.ones((2, 3)), t), np.full(3, 2.0)),
        (lambda t: np.remainder(t, 1.0), np.ones(3)),
    ]
    for i, (act, derivative) in enumerate(rows):
        t = leaf(X, pg.float64)
        out = act(t)
        assert isinstance(out, Tensor), i
        assert_equal([out.detach().numpy()], [np.asarray(act(np.array(X)))])
        out.sum().backward()
        assert_equal([t.grad.numpy()], [derivative])


def test_numpy_comparisons_are_tensors_outside_the_graph():
    for function in (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal):
        out = function(np.array(Y), leaf(X))
        assert isinstance(out, Tensor)
        assert_equal([out.numpy()], [function(np.array(Y), np.array(X))])
    assert np.argmax(leaf(X)).item() == 2


UNSUPPORTED = [
    lambda t: np.cbrt(t),
    lambda t: np.divmod(1.0, t),
    lambda t: np.median(t),
    lambda t: np.dot(t, t),
    lambda t: np.add.reduce(t),
    lambda t: np.multiply.outer(t, np.ones(2)),
    lambda t: np.exp(t, dtype=np.float64),
    lambda t: np.linalg.norm(t),
    lambda t: np.hstack([t, t]),
    lambda t: np.sort(t),
]


@pytest.mark.parametrize("act", UNSUPPORTED)
def test_a_numpy_function_without_operator_is_refused_where_a_graph_would_be_lost(act):
    with pytest.raises(TypeError, match=r"numpy\.\w+ has no operator here and would leave the graph: .* x.detach\(\)"):
        act(leaf(X))
    np.testing.assert_array_equal(act(pg.tensor(X)), act(np.array(X, np.float32)))


@pytest.mark.parametrize(
    "act",
    [
        lambda t, out: np.add(t, 1, out=out),
        lambda t, out: np.sum(t, axis=0, keepdims=True, out=out),
        lambda t, out: np.exp(t, out=(out,)),
        lambda t, out: operator.iadd(out, t),
        lambda t, out: np.exp(out, out=t),
    ],
)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_out_is_refused(act, requires_grad):
    out = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match="out"):
        act(pg.tensor(X, requires_grad=requires_grad), out)
    assert not out.any()


def test_numpy_functions_without_a_derivative_work_inside_a_graph():
    x = leaf([[1.0, float("nan")]])
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((1, 2), 2, 2)
    assert np.isnan(x).tolist() == [[False, True]]
    assert np.zeros_like(x).tolist() == [[0.0, 0.0]]
    assert np.array_equal(x, x) is False
    np.testing.assert_array_equal(np.ones_like(x), np.ones((1, 2), np.float32))


def test_numpy_reads_a_tensor_outside_the_graph_without_a_copy():
    x = pg.tensor(X)
    assert np.asarray(x) is x.numpy()
    assert np.array(x) is not x.numpy()
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.asarray(pg.from_numpy(x.numpy())) is x.numpy()


# ----- indexing -----

INDICES = [
    0,
    -1,
    np.int64(1),
    slice(1, 3),
    slice(None, None, 2),
    slice(None, None, -1),
    Ellipsis,
    None,
    (),
    (0, 1),
    (slice(None), 0),
    (Ellipsis, 0),
    (0, Ellipsis),
    (None, 0, None),
    (slice(1, None), None, slice(0, 2)),
    np.array([0, 2, 2]),
    np.array([[0, 1], [1, -1]]),
    [0, 2],
    [True, False, True, False],
    np.array([True, False, True, False]),
    np.array([], np.int64),
    (np.array([0, 1]), np.array([2, 2])),
    (np.array([[0], [1]]), np.array([0, 2])),
    (slice(None), np.array([0, 0, 1])),
    (np.array([0, 0]), slice(1, 3)),
    (np.array([1, 1]), None, 1),
    (np.array([True, False, True, True]), slice(None), 0),
    (Ellipsis, np.array([1, 1, 0])),
    True,
    False,
]


def as_tensors(index):
    if isinstance(index, tuple):
        return tuple(as_tensors(part) for part in index)
    return pg.tensor(index) if isinstance(index, np.ndarray | list) else index


def scattered(shape, index, g):
    out = np.zeros(shape)
    np.add.at(out, index, g)
    return out


@pytest.mark.parametrize("index", INDICES, ids=repr)
@pytest.mark.parametrize("tensors", [False, True], ids=["arrays", "tensors"])
def test_an_index_means_what_it_means_in_numpy(index, tensors):
    x = np.arange(24.0).reshape(4, 3, 2)
    t = leaf(x, pg.float64)
    out = t[as_tensors(index) if tensors else index]
    assert_equal([out.detach().numpy()], [x[index]])
    g = weights(x[index].shape)
    out.backward(pg.tensor(g))
    assert_equal([t.grad.numpy()], [scattered(x.shape, index, g)])
    assert check_derivative(lambda t: t[index], [x]) == 1
    plain = pg.tensor(x)
    with pg.no_grad():
        plain[as_tensors(index) if tensors else index] = 5.0
    x[index] = 5.0
    assert_equal([plain.numpy()], [x])


def test_elements_named_twice_are_given_both_gradients():
    x = leaf([1.0, 2.0, 4.0])
    (x[[0, 0, 2, -3]] * pg.tensor([1.0, 10.0, 100.0, 1000.0])).sum().backward()
    assert x.grad.tolist() == [1011.0, 0.0, 100.0]


def test_integer_tensors_are_pythons_indices():
    assert [10, 20, 30][pg.tensor(1)] == 20
    assert list(range(pg.tensor(3))) == [0, 1, 2]
    assert operator.index(pg.tensor([2])) == 2
    assert pg.arange(5)[pg.tensor(1) : pg.tensor(3)].tolist() == [1, 2]


def test_iteration_length_and_numbers():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    rows = list(x)
    assert (len(x), len(rows), [row.tolist() for row in rows]) == (2, 2, [[1.0, 2.0], [3.0, 4.0]])
    (first, _), (_, last) = x
    (first + 2 * last).backward()
    assert x.grad.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    assert (float(pg.tensor([2.5])), int(pg.tensor(2.5)), bool(pg.tensor([[0]])), bool(pg.tensor(0.1))) == (
        2.5,
        2,
        0,
        1,
    )
    assert type(float(pg.tensor(2))) is float
    assert (2.0 in x, 7.0 in x, pg.tensor(4.0) in x) == (True, False, True)
    assert (pg.tensor(True).item(), pg.tensor(3).item(), leaf(2.5).item()) == (True, 3, 2.5)
    assert (x.size(), x.size(-1), x.dim(), x.numel(), x.shape, x.ndim) == ((2, 2), 2, 2, 4, (2, 2), 2)


def test_assignment_counts_as_a_change_and_takes_tensors_arrays_and_numbers():
    x = pg.zeros(2, 2)
    x[0] = 1
    x[1] = pg.tensor([2.0, 3.0])
    x[x > 2] = np.float64(9)
    x[pg.tensor(0), 1] = True
    x[:, 0] += 10
    assert x.tolist() == [[11.0, 1.0], [12.0, 9.0]]
    assert x._version >= 5
    with pg.no_grad():
        w = leaf(X)
        w[1] = leaf(Y)[0]
    assert (w.tolist(), w.requires_grad) == ([0.5, 2.0, 2.5], True)
