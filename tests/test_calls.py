"""The forms of a call, and operators on any shapes."""

import operator

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import pargrad as pg
from tests.checks import assert_equal, check_derivative, weights
from tests.tensors import leaf
from tests.test_numpy import scattered
from tests.test_tensor import ARITHMETIC

# ----- the forms of a call -----


def same(*tensors):
    first = tensors[0]
    for other in tensors[1:]:
        assert_equal([other.detach().numpy()], [first.detach().numpy()])


def test_names_of_arguments_are_torchs_and_numpys():
    x, y = pg.tensor([[1.0, 5.0], [7.0, 2.0]]), pg.tensor([[2.0, 2.0], [2.0, 2.0]])
    same(pg.add(x, y), pg.add(input=x, other=y), pg.add(x, other=y), x.add(y), x.add(other=y), x + y)
    same(pg.pow(x, 2), pg.pow(input=x, exponent=2), x.pow(exponent=2), x**2)
    same(x.sum(1), x.sum(dim=1), x.sum(axis=1), pg.sum(x, 1), pg.sum(input=x, dim=1), x.sum([1]), x.sum((-1,)))
    same(x.sum(1, True), x.sum(1, keepdim=True), x.sum(axis=1, keepdims=True), pg.sum(x, dim=1, keepdim=True))
    same(x.mean((0, 1)), x.mean([0, 1]), x.mean(dim=(0, 1)), x.mean())
    same(pg.cat([x, y]), pg.cat((x, y), 0), pg.cat(tensors=[x, y], dim=0), pg.cat([x, y], axis=-2), pg.concat([x, y]))
    same(pg.stack([x, y], 2), pg.stack((x, y), dim=-1), pg.stack(tensors=(x, y), axis=2))
    same(pg.softmax(x, 1), x.softmax(1), x.softmax(dim=-1), x.softmax(axis=1))
    same(pg.where(x > 2, x, y), x.where(x > 2, y), pg.where(condition=x > 2, input=x, other=y))
    same(pg.clamp(x, 2, 5), x.clamp(min=2, max=5), x.clip(2, 5), x.clamp(2.0, max=5.0), x.clamp(np.float64(2), 5))
    same(pg.clamp(x, 2, 5), x.clamp(pg.tensor(2.0), pg.tensor(5.0)), x.clamp(y, 5), x.clamp(np.float32([2]), max=5))
    same(pg.squeeze(x[None]), x[None].squeeze(0), x[None].squeeze(dim=0), x[None].squeeze())
    same(x.unsqueeze(1), pg.unsqueeze(x, 1), pg.unsqueeze(input=x, dim=1), x[:, None])
    same(x.sub(y), x.subtract(y), pg.sub(x, y), x - y)
    same(x.mul(2), x.multiply(2), 2 * x)
    same(x.div(2), x.divide(2), x.true_divide(2), x / 2)
    same(x.neg(), x.negative(), -x)
    same(x.abs(), x.absolute(), abs(x))
    same(x.gt(y), x.greater(y), x > y)
    same(x.le(y), x.less_equal(y), x <= y)
    same(x.matmul(y), pg.matmul(input=x, other=y), x @ y)
    same(x.remainder(y), x % y)
    assert not hasattr(x, "cat")
    assert not hasattr(x, "concat")


@pytest.mark.parametrize(("name", "pair"), [("max", "maximum"), ("min", "minimum")])
def test_max_and_min_are_called_in_three_ways(name, pair):
    values = np.array([[1.0, 5.0, 5.0], [7.0, -2.0, 0.0]])
    best, where = getattr(np, name), getattr(np, f"arg{name}")
    x = leaf(values, pg.float64)
    function, method = getattr(pg, name), getattr(x, name)
    for out in (function(x), method(), function(input=x)):
        assert out.item() == best(values)
    for pairs in (function(x, 1), method(1), method(dim=-1), method(axis=1), function(x, dim=1)):
        assert pairs.values.tolist() == best(values, axis=1).tolist()
        assert pairs.indices.tolist() == where(values, axis=1).tolist()
        assert (pairs.indices.dtype, pairs[0] is pairs.values) == (pg.int64, True)
    for kept in (method(0, True), method(0, keepdim=True), method(axis=0, keepdims=True)):
        assert kept.values.shape == kept.indices.shape == (1, 3)
    other = np.full((2, 3), 3.0)
    for out in (
        function(x, pg.tensor(other)),
        method(other=pg.tensor(other)),
        function(x, other),
        getattr(pg, pair)(x, 3),
    ):
        assert_equal([out.detach().numpy()], [getattr(np, pair)(values, 3.0)])


def test_equal_extremes_share_the_gradient_and_the_indexed_one_takes_it_all():
    x = leaf([3.0, 1.0, 3.0])
    x.max().backward()
    assert x.grad.tolist() == [0.5, 0.0, 0.5]
    x.grad = None
    x.max(0).values.backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    x.grad = None
    x.max(pg.tensor([3.0, 2.0, 2.0])).sum().backward()
    assert x.grad.tolist() == [0.5, 0.0, 1.0]


def test_clamp_with_tensors_sends_the_gradient_to_the_one_that_was_taken():
    x, low, high = leaf([0.0, 1.0, 2.0, 3.0]), leaf(1.0), leaf([2.5] * 4)
    out = x.clamp(low, high)
    assert out.tolist() == [1.0, 1.0, 2.0, 2.5]
    out.sum().backward()
    assert (x.grad.tolist(), low.grad.item(), high.grad.tolist()) == ([0.0, 1.0, 1.0, 0.0], 1.0, [0.0, 0.0, 0.0, 1.0])
    assert pg.tensor([1, 2, 3]).clamp(min=1.5).tolist() == [1.5, 2.0, 3.0]
    assert pg.tensor([1, 2, 3]).clamp(min=1.5).dtype == pg.float32
    assert pg.tensor([1, 2, 3]).clamp(max=2).dtype == pg.int64
    assert x.clamp(0, 1).node.rule.name == "clamp"  # with numbers it is one operator


def test_the_forms_of_shapes():
    x = pg.arange(24).reshape(2, 3, 4)
    n = x.numpy()
    for shape in [(4, 6), (24,), (-1,), (2, -1), (1, 24, 1)]:
        for out in (x.reshape(*shape), x.reshape(shape), x.reshape(list(shape)), pg.reshape(x, shape), x.view(*shape)):
            assert_equal([out.numpy()], [n.reshape(shape)])
        assert_equal([x.view(shape).numpy(), x.reshape(shape=shape).numpy()], [n.reshape(shape)] * 2)
    for out in (x.permute(2, 0, 1), x.permute((2, 0, 1)), x.permute([2, 0, 1]), x.permute(dims=(-1, 0, 1))):
        assert_equal([out.numpy()], [n.transpose(2, 0, 1)])
    same(
        x.transpose(0, 1),
        x.transpose(-3, -2),
        pg.transpose(x, dim0=0, dim1=1),
        x.transpose(1, 0),
        pg.tensor(n.swapaxes(0, 1)),
    )
    same(x[0].T, x[0].t(), pg.t(x[0]), x[0].transpose(0, 1), pg.tensor(n[0].T))
    same(x.T, pg.tensor(n.T))
    same(x[0, 0].t(), x[0, 0])
    same(x.flatten(), pg.flatten(x), x.flatten(0, -1), x.reshape(-1))
    same(x.flatten(1), x.flatten(start_dim=1), x.reshape(2, 12))
    same(x.flatten(0, 1), x.flatten(end_dim=1), x.reshape(6, 4))
    assert pg.tensor(1.0).flatten().shape == (1,)
    assert pg.tensor(1.0).transpose(0, -1).shape == ()
    same(x[:, :1].expand(2, 5, 4), x[:, :1].expand((2, 5, -1)), x[:, :1].expand(size=(-1, 5, -1)))
    assert x[0].expand(2, 2, 3, 4).shape == (2, 2, 3, 4)
    assert pg.zeros(0, 2).reshape(0).shape == (0,)


def test_shapes_carry_their_gradient_back():
    x = np.arange(6.0).reshape(2, 3)
    for act in (
        lambda t: t.reshape(3, 2).T.flatten(),
        lambda t: t.view(6)[::2],
        lambda t: t.permute(1, 0).unsqueeze(0).expand(2, 3, 2),
        lambda t: t.transpose(0, 1).t().squeeze(),
        lambda t: pg.stack(list(t), 1).sum(0),
    ):
        assert check_derivative(act, [x]) == 1


def test_dtypes_are_changed_by_name():
    x = pg.tensor([0.0, 1.5])
    assert [x.double().dtype, x.int().dtype, x.long().dtype, x.bool().dtype] == [
        pg.float64,
        pg.int32,
        pg.int64,
        pg.bool,
    ]
    assert x.to(pg.float64).float().dtype == pg.float32
    assert x.to(pg.float32) is x
    assert (x.float() is x, x.long().tolist()) == (True, [0, 1])
    y = leaf([0.0, 1.5])
    y.double().sum().backward()
    assert (y.grad.dtype, y.grad.tolist()) == (pg.float32, [1.0, 1.0])


# ----- any shapes: hypothesis -----

examples = settings(max_examples=100, deadline=None, derandomize=True)
sizes = st.integers(0, 3)
shapes = st.lists(sizes, max_size=4).map(tuple)


def drawn(shape, seed):
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2.0, shape))


def summed_to(array, shape):
    """A gradient of a broadcast argument, by hand."""
    lead = array.ndim - len(shape)
    array = array.sum(axis=tuple(range(lead)))
    return array.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True).reshape(shape)


@examples
@given(
    arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3),
    st.sampled_from(ARITHMETIC),
)
def test_any_two_shapes_broadcast_as_in_numpy(pair, row):
    act, of_left, of_right = row
    x, y = (drawn(shape, seed) for seed, shape in enumerate(pair.input_shapes))
    left, right = leaf(x, pg.float64), leaf(y, pg.float64)
    out = act(left, right)
    assert_equal([out.detach().numpy()], [np.asarray(act(x, y))])
    g = weights(pair.result_shape)
    out.backward(pg.tensor(g))
    expected = [summed_to(np.asarray(g * of(x, y)), z.shape) for of, z in [(of_left, x), (of_right, y)]]
    assert_equal([left.grad.numpy(), right.grad.numpy()], expected)


@examples
@given(st.data())
def test_any_reduction_of_any_shape(data):
    shape = data.draw(shapes)
    axes = range(-len(shape), len(shape))
    dim = data.draw(
        st.none()
        | (st.sampled_from(axes) if shape else st.none())
        | arrays_of.valid_tuple_axes(len(shape), min_size=min(1, len(shape)))
    )
    keepdim = data.draw(st.booleans())
    name = data.draw(st.sampled_from(["sum", "mean", "amax", "amin"]))
    x = np.random.default_rng(len(shape)).permutation(int(np.prod(shape))).reshape(shape) + 1.0
    reduced = shape if dim is None else [shape[i] for i in np.atleast_1d(dim).astype(int)]
    assume(name == "sum" or np.prod(reduced))  # there is something to take the mean or extreme of
    axis = None if dim == () else dim
    expected = np.asarray(getattr(np, name)(x, axis=axis, keepdims=keepdim))
    t = leaf(x, pg.float64)
    out = getattr(pg, name)(t, dim=dim, keepdim=keepdim)
    assert_equal([out.detach().numpy()], [expected])
    g = weights(expected.shape)
    out.backward(pg.tensor(g))
    all_axes = tuple(range(len(shape))) if axis is None else axis
    spread = g if keepdim or not shape else np.expand_dims(g, all_axes)
    kept = np.asarray(getattr(np, name)(x, axis=axis, keepdims=True))
    by_hand = {
        "sum": lambda: np.broadcast_to(spread, shape),
        "mean": lambda: np.broadcast_to(spread, shape) / max(1, np.prod(reduced)),
    }.get(name, lambda: np.where(x == kept, np.broadcast_to(spread, shape), 0.0))()
    assert_equal([t.grad.numpy()], [np.array(by_hand)])


@examples
@given(st.data())
def test_any_index_of_any_shape(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple))
    x = drawn(shape, 3)
    index = data.draw(
        arrays_of.basic_indices(shape, allow_newaxis=True)
        | arrays_of.integer_array_indices(shape)
        | arrays_of.arrays(np.bool_, shape)
    )
    t = leaf(x, pg.float64)
    out = t[index]
    assert_equal([out.detach().numpy()], [x[index]])
    g = weights(x[index].shape)
    out.backward(pg.tensor(g))
    assert_equal([t.grad.numpy()], [scattered(shape, index, g)])
    if np.shares_memory(x, x[index]) and x[index].size:
        assert out.array.base is not None


@examples
@given(st.data())
def test_any_matrix_product(data):
    signature = "(m?,n),(n,p?)->(m?,p?)"
    given = data.draw(arrays_of.mutually_broadcastable_shapes(signature=signature, max_dims=2, max_side=3))
    arrays = [drawn(shape, seed) for seed, shape in enumerate(given.input_shapes)]
    out = pg.tensor(arrays[0]) @ pg.tensor(arrays[1])
    assert out.shape == given.result_shape
    assert_equal([out.numpy()], [np.asarray(arrays[0] @ arrays[1])])
    assert check_derivative(operator.matmul, arrays) == 2
