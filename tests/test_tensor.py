"""Tensor: operators with every kind of operand, creation, text and copies."""

import copy
import operator
import pickle

import numpy as np
import pytest

import pargrad as pg
from pargrad.nn import Parameter
from pargrad.tensor import Tensor
from tests.checks import assert_equal, title, weights
from tests.tensors import X, Y, gradient_of, leaf

# ----- operators and their operands -----

ARITHMETIC = [
    (operator.add, lambda x, y: 1 + 0 * x, lambda x, y: 1 + 0 * x),
    (operator.sub, lambda x, y: 1 + 0 * x, lambda x, y: -1 + 0 * x),
    (operator.mul, lambda x, y: y + 0 * x, lambda x, y: x + 0 * y),
    (operator.truediv, lambda x, y: 1 / y + 0 * x, lambda x, y: -x / y**2),
    (operator.mod, lambda x, y: 1 + 0 * x, lambda x, y: -np.floor(x / y)),
    (operator.pow, lambda x, y: y * x ** (y - 1), lambda x, y: x**y * np.log(x)),
]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
SCALARS = [
    2,
    1.5,
    True,
    np.float64(1.5),
    np.float32(1.5),
    np.int64(2),
    np.int32(2),
    np.uint8(2),
    np.bool_(True),
    np.array(1.5),
    np.array(2),
    pg.tensor(1.5, dtype=pg.float64),
    pg.tensor(2),
    pg.tensor(True),
]


def scalar_name(x):
    return f"{type(x).__name__}-{getattr(x, 'dtype', '')}{'' if not hasattr(x, 'ndim') else x.ndim}"


each_scalar = pytest.mark.parametrize("scalar", SCALARS, ids=scalar_name)
each_dtype = pytest.mark.parametrize("dtype", [pg.float32, pg.float64], ids=str)


@each_dtype
@each_scalar
@pytest.mark.parametrize(("act", "of_left", "of_right"), ARITHMETIC, ids=[row[0].__name__ for row in ARITHMETIC])
def test_arithmetic_with_a_scalar_keeps_the_dtype(act, of_left, of_right, scalar, dtype):
    number, x = float(scalar), np.array(X)
    for out_of, derivative, expected in [
        (lambda t: act(t, scalar), of_left(x, number), act(x, number)),
        (lambda t: act(scalar, t), of_right(number, x), act(number, x)),
    ]:
        t = leaf(X, dtype)
        out = out_of(t)
        assert isinstance(out, Tensor)
        assert_equal([out.detach().numpy()], [expected.astype(dtype)])
        out.backward(pg.tensor(weights((3,), dtype)))
        assert_equal([t.grad.numpy()], [(weights((3,), dtype) * derivative).astype(dtype)])


@each_dtype
@pytest.mark.parametrize(("act", "of_left", "of_right"), ARITHMETIC, ids=[row[0].__name__ for row in ARITHMETIC])
@pytest.mark.parametrize("constant", ["neither", "left array", "right array", "left tensor", "right tensor"])
def test_arithmetic_of_arrays_and_tensors(act, of_left, of_right, constant, dtype):
    x, y = np.array(X, dtype), np.array(Y, dtype)
    left, right = leaf(X, dtype), leaf(Y, dtype)
    given_left = {"left array": x, "left tensor": pg.tensor(x)}.get(constant, left)
    given_right = {"right array": y, "right tensor": pg.tensor(y)}.get(constant, right)
    out = act(given_left, given_right)
    assert isinstance(out, Tensor)
    assert_equal([out.detach().numpy()], [act(x, y)])
    seed = weights((3,), dtype)
    out.backward(pg.tensor(seed))
    for t, given_one, derivative in [(left, given_left, of_left(x, y)), (right, given_right, of_right(x, y))]:
        assert_equal([gradient_of(t)], [seed * derivative if given_one is t else None])


@each_scalar
@pytest.mark.parametrize("act", COMPARISONS, ids=lambda act: act.__name__)
def test_comparisons_with_a_scalar_give_booleans_outside_the_graph(act, scalar):
    t = leaf([0.5, float(scalar), 2.5])
    for out, expected in [
        (act(t, scalar), act(t.detach().numpy(), np.float32(scalar))),
        (act(scalar, t), act(np.float32(scalar), t.detach().numpy())),
    ]:
        assert isinstance(out, Tensor)
        assert not out.requires_grad
        assert_equal([out.numpy()], [expected])


@pytest.mark.parametrize("act", COMPARISONS, ids=lambda act: act.__name__)
def test_comparisons_of_arrays_and_tensors(act):
    x, y = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    for left, right in [(x, pg.tensor(y)), (pg.tensor(x), y), (pg.tensor(x), pg.tensor(y))]:
        assert_equal([act(left, right).numpy()], [act(x, y)])


def test_a_tensor_is_not_what_it_cannot_be_compared_with():
    t = pg.ones(2)
    assert (t == None) is False  # noqa: E711
    assert (t != "text") is True
    assert t in [t]
    assert len({t, t, pg.ones(2)}) == 2


@pytest.mark.parametrize("other", [None, "text", [1.0, 2.0], (1.0,), {}, object()], ids=title)
@pytest.mark.parametrize("act", [operator.add, operator.mul, operator.matmul, operator.isub, operator.lt])
def test_arithmetic_with_what_is_no_number_is_a_type_error(act, other):
    with pytest.raises(TypeError):
        act(pg.ones(2), other)
    with pytest.raises(TypeError):
        act(other, pg.ones(2))


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_matmul_with_an_array_on_either_side(side):
    x, y = np.array([[1.0, 2.0]], np.float32), np.array([[3.0], [5.0]], np.float32)
    left, right = pg.tensor(x, requires_grad=True), pg.tensor(y, requires_grad=True)
    out = (x if side == "left" else left) @ (y if side == "right" else right)
    out.backward()
    assert out.tolist() == [[13.0]]
    assert left.grad is None if side == "left" else left.grad.tolist() == [[3.0, 5.0]]
    assert right.grad is None if side == "right" else right.grad.tolist() == [[1.0], [2.0]]


def test_negation_absolute_value_and_plus():
    x = leaf([-1.0, 2.0])
    (-x * 3 + abs(x) + +x).sum().backward()
    assert x.grad.tolist() == [-3.0, -1.0]
    assert (+x) is x


def test_floor_division_and_remainder_take_pythons_signs():
    x = pg.tensor([7, -7, 7, -7])
    y = pg.tensor([2, 2, -2, -2])
    assert (x // y).tolist() == [7 // 2, -7 // 2, 7 // -2, -7 // -2]
    assert (x % y).tolist() == [7 % 2, -7 % 2, 7 % -2, -7 % -2]
    assert (-7 // pg.tensor([2])).tolist() == [-4]
    assert (-7 % pg.tensor([2])).tolist() == [1]


def test_masks_are_combined_by_pythons_operators():
    x = pg.tensor([-1.0, 0.5, 2.0])
    inside = (x > 0) & (x < 1)
    assert inside.tolist() == [False, True, False]
    assert (~inside | (x > 1)).tolist() == [True, False, True]
    assert (inside ^ (x > 0)).tolist() == [False, False, True]
    assert (True & inside).dtype == pg.bool
    inside &= x > 9
    assert not inside.any()
    assert (~pg.tensor([5]) | 1).tolist() == [-5]


def test_the_builtin_sum_adds_tensors():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    total = sum([x, y, x])
    assert total.tolist() == [5.0, 8.0]
    total.sum().backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0, 2.0], [1.0, 1.0])


def test_integers_and_a_float_literal_are_the_default_float():
    for out in (pg.tensor([1, 2]) * 0.5, 0.5 * pg.tensor([1, 2]), pg.tensor([1, 2]) / 2, pg.tensor([True]) + 0.5):
        assert out.dtype == pg.float32
    assert (pg.tensor([1, 2]) * 2).dtype == pg.int64
    assert (pg.tensor([1, 2], dtype=pg.int32) * 2).dtype == pg.int32
    assert (pg.tensor([1, 2], dtype=pg.int32) * pg.tensor(2)).dtype == pg.int32
    assert (pg.tensor([1], dtype=pg.uint8) * np.float64(0.5)).dtype == pg.float32


PROMOTED = [
    ("int64", "float32", "float32"), ("float32", "int64", "float32"), ("float32", "float64", "float64"),
    ("bool", "uint8", "uint8"), ("uint8", "int32", "int32"), ("int32", "int64", "int64"),
    ("bool", "float32", "float32"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "result"), PROMOTED)
def test_tensors_of_two_dtypes_give_the_wider_one(first, second, result):
    x, y = pg.ones(2, dtype=first), pg.ones(2, dtype=second)
    assert {out.dtype.name for out in (x + y, y + x, pg.cat([x, y]), pg.where(x > 0, x, y))} == {result}
    # Among those that are no scalars, a scalar's dtype counts only where its category is the higher one.
    scalar = y.sum().to(getattr(pg, second)) if second != "bool" else y.any()
    assert (x + scalar).dtype == (first if (first, second) in SAME_CATEGORY else result)


SAME_CATEGORY = {("float32", "float64"), ("uint8", "int32"), ("int32", "int64")}


# ----- creation -----


def test_tensor_takes_its_dtype_from_what_it_is_given():
    rows = [
        (1.5, "float32"), (1, "int64"), (True, "bool"), ([1, 2.5], "float32"), ([], "float32"), ([[1], [2]], "int64"),
        (np.float64(1), "float64"), (np.float32(1), "float32"), ([np.float64(1)], "float64"), 
        ([[np.float64(1)]], "float64"),
        ([np.float32(1), 2.5], "float32"), ([np.int64(1), 2.5], "float32"), (np.ones(2), "float64"),
        (np.ones(2, np.uint8), "uint8"), (pg.ones(2, dtype=pg.float64), "float64"), ([pg.tensor(1.0), 2.0], "float32"),
        ([np.ones(2), np.ones(2)], "float64"),
    ]  # fmt: skip
    for data, dtype in rows:
        assert pg.tensor(data).dtype == dtype, data
        assert pg.tensor(data, dtype=pg.float64).dtype == "float64"


def test_tensor_copies_and_from_numpy_and_as_tensor_share():
    array = np.zeros(2, np.float32)
    shared, copied = [pg.from_numpy(array), pg.as_tensor(array)], [pg.tensor(array), pg.as_tensor(array, pg.float64)]
    array += 1
    assert [t.tolist() for t in shared] == [[1.0, 1.0]] * 2
    assert [t.tolist() for t in copied] == [[0.0, 0.0]] * 2
    assert pg.as_tensor(shared[0]) is shared[0]


def test_constants():
    assert pg.zeros(2, 3).shape == pg.ones((2, 3)).shape == pg.zeros([2, 3]).shape == (2, 3)
    assert (pg.zeros(()).shape, pg.ones().shape) == ((), ())
    assert {pg.zeros(2).dtype, pg.ones(2).dtype, pg.zeros(2, dtype=None).dtype, pg.ones(1, dtype=None).dtype} == {
        pg.float32
    }
    assert [pg.full((2,), fill).dtype for fill in (1.5, 1, True)] == [pg.float32, pg.int64, pg.bool]
    assert pg.full((2, 2), 7.0, requires_grad=True).requires_grad
    assert pg.zeros_like(pg.ones(2, dtype=pg.float64)).dtype == pg.float64
    assert pg.ones_like(pg.ones(2), dtype=pg.int32).tolist() == [1, 1]
    assert [pg.arange(*bounds).dtype for bounds in [(3,), (1, 3), (0, 1, 0.5), (np.int64(3),), (3.0,)]] == [
        pg.int64, pg.int64, pg.float32, pg.int64, pg.float32,
    ]  # fmt: skip
    assert (pg.arange(1, 7, 2).tolist(), pg.arange(3, dtype=pg.float32).tolist()) == ([1, 3, 5], [0.0, 1.0, 2.0])


# ----- text -----

TEXTS = [
    (lambda: pg.tensor(1.5), "tensor(1.5000)"),
    (lambda: pg.tensor([1.0, 2.0]), "tensor([1., 2.])"),
    (lambda: pg.tensor([[1, -20], [3, 4]]), "tensor([[  1, -20],\n        [  3,   4]])"),
    (lambda: pg.tensor([True, False]), "tensor([ True, False])"),
    (lambda: pg.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: pg.tensor([1000.0, 1.5]), "tensor([1000.0000,    1.5000])"),
    (lambda: pg.tensor([1000.0, 0.5]), "tensor([1.0000e+03, 5.0000e-01])"),
    (lambda: pg.tensor([1.0, 2.0], dtype=pg.float64), "tensor([1., 2.], dtype=float64)"),
    (lambda: pg.tensor([1], dtype=pg.uint8), "tensor([1], dtype=uint8)"),
    (lambda: pg.tensor([1.5, float("nan"), -float("inf")]), "tensor([1.5000,    nan,   -inf])"),
    (lambda: pg.tensor([]), "tensor([])"),
    (lambda: pg.zeros(0, 2), "tensor([], size=(0, 2))"),
    (lambda: pg.zeros(0, dtype=pg.int64), "tensor([], dtype=int64)"),
    (lambda: leaf(1.0), "tensor(1., requires_grad=True)"),
    (lambda: leaf(1.0) * 2, "tensor(2., grad_fn=<MulBackward0>)"),
    (lambda: leaf([1.0]).log_softmax(0), "tensor([0.], grad_fn=<LogSoftmaxBackward0>)"),
    (lambda: Parameter(pg.ones(2)), "Parameter containing:\ntensor([1., 1.], requires_grad=True)"),
    (lambda: pg.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
]


@pytest.mark.parametrize(("make", "text"), TEXTS, ids=[row[1][:30] for row in TEXTS])
def test_text_is_torchs(make, text):
    assert repr(make()) == str(make()) == text


def test_long_text_is_broken_and_cut():
    lines = repr(pg.ones(30) * 0.5).split("\n")
    assert [len(line) for line in lines] == [79, 79, 79, 32]
    lines = repr(pg.zeros(40, 30)).split("\n")
    assert lines == [
        "tensor([[0., 0., 0.,  ..., 0., 0., 0.],",
        *["        [0., 0., 0.,  ..., 0., 0., 0.],"] * 2,
        "        ...,",
        *["        [0., 0., 0.,  ..., 0., 0., 0.],"] * 2,
        "        [0., 0., 0.,  ..., 0., 0., 0.]])",
    ]
    assert repr(pg.zeros(2, 2, 1)).count("\n\n") == 1


def test_a_number_is_formatted_as_one():
    assert f"{pg.tensor(1.25):.1f} {leaf(2.0):5.2f} {pg.tensor(3)} {pg.tensor(3):>4}" == "1.2  2.00 3    3"
    assert f"{pg.ones(1)}" == "tensor([1.])"
    with pytest.raises(TypeError, match="unsupported format string"):
        f"{pg.ones(2):.2f}"


# ----- copies -----


@pytest.mark.parametrize("kind", [lambda x: pg.tensor(x, requires_grad=True), lambda x: Parameter(pg.tensor(x))])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize(
    "values", [np.arange(6.0).reshape(2, 3).T, np.array(2.5), np.ones((0, 2))], ids=["T", "0-d", "empty"]
)
def test_a_copy_owns_its_memory(kind, copied, values):
    t = kind(values)
    other = copied(t)
    assert (type(other), other.requires_grad, other.is_leaf, other.shape) == (type(t), True, True, t.shape)
    assert_equal([other.detach().numpy()], [values])
    with pg.no_grad():
        other += 1
    assert_equal([t.detach().numpy()], [values])
    assert not np.shares_memory(t.array, other.array)
    (other * 2).sum().backward()
    assert t.grad is None


def test_a_copy_of_a_view_is_only_as_large_as_the_view():
    big = pg.zeros(1000)
    view = big[:2]
    for other in (copy.deepcopy(view), pickle.loads(pickle.dumps(view))):
        assert other.array.base is None or other.array.base.size == 2
        other += 1
    assert len(pickle.dumps(view)) < 1000
    assert not big.array.any()


def test_a_deep_copy_copies_the_gradient_and_keeps_sharing_within_itself():
    x = leaf(X)
    (x * 2).sum().backward()
    (first, second), grad = copy.deepcopy(((x, x), x.grad))
    assert first is second
    assert first.grad is grad
    first.grad += 1
    assert x.grad.tolist() == [2.0] * 3


def test_a_read_only_tensor_can_be_copied_and_the_copy_written():
    array = np.ones(3)
    array.flags.writeable = False
    t = pg.from_numpy(array)
    pickled = [pickle.loads(pickle.dumps(t, protocol)) for protocol in (2, 4, 5)]
    for other in (copy.deepcopy(t), pg.tensor(array), t.clone(), *pickled):
        other += 1
        assert other.tolist() == [2.0] * 3


def test_a_pickle_whose_buffers_travel_beside_it_owns_its_memory():
    x, buffers = leaf(X), []
    data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    other = pickle.loads(data, buffers=buffers)
    assert len(buffers) == 1
    assert not np.shares_memory(other.array, x.array)
