"""Tensor: operators with every kind of operand, the graph and its memory, modes, errors, numpy, indexing, copies."""

import copy
import gc
import operator
import pickle
import threading
import weakref

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import pargrad as pg
from pargrad.nn import Parameter
from pargrad.graph import run_backward
from pargrad.tensor import Tensor
from tests.checks import assert_equal, check_derivative, weights

X, Y = [0.5, 1.5, 2.5], [2.0, 4.0, 0.5]


def leaf(values, dtype=pg.float32):
    return pg.tensor(values, dtype=dtype, requires_grad=True)


def gradient_of(t):
    return None if t.grad is None else t.grad.numpy()


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


@pytest.mark.parametrize("other", [None, "text", [1.0, 2.0], (1.0,), {}, object()], ids=str)
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
    scalar = y.sum().to(second) if second != "bool" else y.any()
    assert (x + scalar).dtype == (first if (first, second) in SAME_CATEGORY else result)


SAME_CATEGORY = {("float32", "float64"), ("uint8", "int32"), ("int32", "int64")}


# ----- in-place operators -----


IN_PLACE = [
    (operator.iadd, operator.add),
    (operator.isub, operator.sub),
    (operator.imul, operator.mul),
    (operator.itruediv, operator.truediv),
    (operator.ipow, operator.pow),
    (operator.imod, operator.mod),
]
in_place = pytest.mark.parametrize(("act", "twin"), IN_PLACE, ids=[row[0].__name__ for row in IN_PLACE])


@in_place
@pytest.mark.parametrize("other", ["tensor", 2, 1.5, np.float64(1.5), "array", "itself"], ids=str)
def test_in_place_on_a_computed_tensor_is_the_operator_itself(act, twin, other):
    results = []
    for one in (act, twin):
        x, y = leaf(X), leaf(Y)
        t = x * 1.25
        same = t
        t = one(t, {"tensor": y, "array": np.array(Y, np.float32), "itself": t}.get(other, other))
        assert (t is same) == (one is act)
        (t * t).sum().backward()
        results.append([t.detach().numpy(), gradient_of(x), gradient_of(y)])
    assert_equal(*results)


@in_place
def test_in_place_on_a_leaf_that_requires_grad_is_refused(act, twin):
    x = leaf(X)
    with pytest.raises(RuntimeError, match=r"on a leaf that requires grad .* write it inside `with no_grad\(\):`"):
        act(x, 2.0)
    assert (x.tolist(), x._version, x.is_leaf) == (X, 0, True)


@in_place
def test_in_place_within_no_grad_changes_a_leaf_that_stays_one(act, twin):
    x = leaf(X)
    same, memory = x, x.array
    with pg.no_grad():
        x = act(x, 2.0)
    assert x is same
    assert x.array is memory
    assert_equal([memory], [twin(np.array(X, np.float32), np.float32(2.0))])
    assert (x.requires_grad, x.is_leaf) == (True, True)
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0] * 3


def test_in_place_within_no_grad_keeps_a_computed_tensor_in_its_graph():
    x = leaf(X)
    y = x * 2
    with pg.no_grad():
        y += 1
    assert y.tolist() == [2.0, 4.0, 6.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0] * 3


def test_in_place_with_a_tensor_that_requires_grad_takes_a_constant_into_the_graph():
    x, total = leaf(X), pg.zeros(3)
    for _ in range(3):
        total += x * x
    assert total.requires_grad
    total.sum().backward()
    assert_equal([x.grad.numpy()], [6 * np.array(X, np.float32)])


def test_named_in_place_methods():
    x = pg.tensor([4.0, 6.0])
    assert x.add_(2).sub_(1).mul_(2).div_(4) is x
    assert x.tolist() == [2.5, 3.5]
    assert x.copy_(pg.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert x.fill_(3).tolist() == [3.0, 3.0]
    assert x.zero_().tolist() == [0.0, 0.0]
    assert x._version == 7


def test_views_share_memory_in_both_directions():
    x = pg.zeros(2, 3)
    views = [
        x.T,
        x.reshape(6),
        x[0],
        x[:, 1:],
        x.view(3, 2),
        x.unsqueeze(0),
        x.permute(1, 0),
        x.detach(),
        x[1, 2],
        x.data,
    ]
    for i, view in enumerate(views):
        before = x.sum().item()
        view += 1
        assert x.sum().item() == before + view.numel(), i
    assert views[0].tolist() == x.numpy().T.tolist()
    x += 1
    assert views[2].tolist() == x.tolist()[0]
    assert {view._version for view in views} == {x._version} == {len(views) + 1}


def test_one_element_is_a_view_too():
    x = pg.zeros(3)
    for element in (x[0], x[pg.tensor(1)], x[np.int64(2)], x[np.array(0)]):
        element += 5
    assert x.tolist() == [10.0, 5.0, 5.0]


def test_copies_do_not_share_memory():
    x = pg.zeros(2, 3)
    for copied in (x.clone(), x[[0, 1]], x[x == 0], x + 0, x.T.reshape(6), x.to(pg.float64), pg.tensor(x)):
        copied += 1
    assert x.sum().item() == 0
    assert x._version == 0


SAVED = [
    ("exp", lambda x, w: x.exp(), "its value"),
    ("tanh", lambda x, w: x.tanh(), "its value"),
    ("relu", lambda x, w: x.relu(), "its value"),
    ("sigmoid", lambda x, w: x.sigmoid(), "its value"),
    ("softmax", lambda x, w: x.softmax(0), "its value"),
    ("logsumexp", lambda x, w: x.logsumexp(0, keepdim=True), "its value"),
    ("logsumexp", lambda x, w: pg.stack([x, x]).logsumexp(0), "its value"),
]


@pytest.mark.parametrize(("name", "act", "what"), SAVED, ids=[row[0] for row in SAVED])
def test_an_overwritten_value_is_an_error_that_names_the_operator(name, act, what):
    x = leaf(X)
    y = act(x, None)
    y += 1
    with pytest.raises(RuntimeError, match=rf"^{name} saved {what} for backward, and an in-place operator has changed"):
        y.sum().backward()


@pytest.mark.parametrize("through", ["itself", "detach", "data", "view of a view", "setitem"])
@pytest.mark.parametrize("argument", [0, 1])
def test_an_overwritten_argument_is_an_error_that_names_the_operator(argument, through):
    pair = [leaf(X) * 1, leaf(Y) * 1]
    overwritten = pair[argument]
    view = overwritten.reshape(3, 1)[1:]
    out = pair[0] * pair[1]
    if through == "setitem":
        with pg.no_grad():
            overwritten[0] = 7.0
    elif through == "view of a view":
        with pg.no_grad():
            view += 1
    else:
        target = {"itself": overwritten.detach(), "detach": overwritten.detach(), "data": overwritten.data}[through]
        target += 1
    with pytest.raises(RuntimeError, match=rf"^mul saved its argument {argument} .* write that operator out of place"):
        out.sum().backward()


def test_an_overwritten_array_that_was_not_saved_is_no_error():
    x, w = leaf(X), pg.tensor(Y)
    product = x * w
    product += 1  # mul saves w and x, not the product
    total = product + x
    product += 1  # add saves nothing
    total.sum().backward()
    assert x.grad.tolist() == [3.0, 5.0, 1.5]
    y, frozen = leaf(X) * 1, pg.tensor(Y)
    out = frozen * y  # only the derivative of y is kept, and it needs frozen alone
    with pg.no_grad():
        y += 1
    out.sum().backward()


def test_indices_may_change_after_they_were_used():
    x = leaf([1.0, 2.0, 4.0])
    for index in (np.array([0, 0]), pg.tensor([0, 0]), np.array([True, True, False])):
        y = x[index]
        index[:] = 1
        y.sum().backward()
    assert x.grad.tolist() == [5.0, 1.0, 0.0]
    values, indices = x.max(0)
    indices += -1
    values.backward()
    assert x.grad.tolist() == [5.0, 1.0, 1.0]


REFUSED_IN_PLACE = [
    (lambda: operator.iadd(pg.zeros(3), pg.zeros(2, 3)), r"would change the shape from \(3,\) to \(2, 3\)"),
    (lambda: operator.iadd(pg.tensor([1, 2]), 0.5), "gives float32, which int64 cannot hold"),
    (lambda: operator.itruediv(pg.tensor([1, 2]), 2), "gives float32, which int64 cannot hold"),
    (lambda: operator.iadd(pg.tensor([True]), 1), "gives int64, which bool cannot hold"),
    (lambda: operator.iadd(pg.zeros(1).expand(3), 1), r"on read-only memory .* write x.clone\(\) first"),
    (lambda: pg.zeros(1).expand(3).fill_(2), "read-only"),
    (lambda: operator.imul(leaf(X) * 1, leaf(X).reshape(3, 1)), r"would change the shape"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED_IN_PLACE)
def test_in_place_that_would_not_fit_is_refused(act, message):
    with pytest.raises(RuntimeError, match=message):
        act()


def test_in_place_on_memory_that_views_share_is_refused_inside_a_graph():
    x = leaf(X)
    y = x * 1
    view = y[1:]
    with pytest.raises(
        RuntimeError, match=r"on memory that views share, inside a graph.*write it out of place|on x.clone"
    ):
        y += x
    with pytest.raises(RuntimeError, match="on memory that views share"):
        view *= 2
    assert y.tolist() == X


def test_in_place_takes_another_dtype_of_its_category_into_its_own():
    for mine, other in [(pg.float32, pg.float64), (pg.int32, pg.int64), (pg.uint8, pg.int64)]:
        x = pg.tensor([1, 2], dtype=mine)
        x += pg.tensor([3, 4], dtype=other)
        assert (x.dtype, x.tolist()) == (mine, [4, 6])
    x, y = leaf(X), leaf(Y, pg.float64)
    t = x * 1
    t *= y
    t.sum().backward()
    assert (t.dtype, x.grad.dtype, y.grad.dtype) == (pg.float32, pg.float32, pg.float64)
    assert (x.grad.tolist(), y.grad.tolist()) == (Y, X)


def test_matmul_has_no_in_place_form():
    x = pg.ones(2, 2)
    y = x
    y @= x
    assert (y is x, x.tolist()) == (False, [[1.0, 1.0], [1.0, 1.0]])


# ----- graphs -----


def test_a_shared_gradient_is_not_added_to_in_place():
    # Only one of the two orders breaks an engine that adds in place to what add handed to both of its arguments.
    for act in (lambda x, y: x * 2 + (x + y), lambda x, y: (x + y) + x * 2, lambda x, y: (x + y) + (x + y) * x):
        x, y = leaf([1.0, 2.0]), leaf([3.0, 5.0])
        act(x, y).sum().backward()
        assert x.grad.tolist() in ([3.0, 3.0], [1 + 4 + 1, 1 + 7 + 2])
        assert y.grad.tolist() in ([1.0, 1.0], [1 + 1, 1 + 2])


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
    run_backward({top.key: np.ones((), np.float64)}, lambda *_: alive_at_the_leaf.append([one() is not None for one in exps]))
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


# ----- modes -----


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


# ----- errors: what was got, what was expected, what to write -----

ERRORS = [
    (lambda: pg.ones(2, 3) + pg.ones(4, 3), RuntimeError, ["add", "float32[2, 3]", "float32[4, 3]", "broadcast"]),
    (lambda: pg.ones(2, 3) @ pg.ones(2, 3), RuntimeError, ["matmul", "float32[2, 3], float32[2, 3]"]),
    (lambda: pg.ones(2) @ pg.tensor(1.0), RuntimeError, ["matmul", "float32[2]", "float32[]"]),
    (
        lambda: pg.ones(2, 2) @ pg.ones(2, 2, dtype=pg.float64),
        RuntimeError,
        ["matmul: expected tensors of one dtype", "float32 and float64", "write x.float() or x.to(y.dtype)"],
    ),
    (lambda: pg.ones(2, 2) @ 2, TypeError, ["unsupported operand type(s) for @: 'Tensor' and 'int'"]),
    (lambda: 2.0 @ pg.ones(2, 2), TypeError, ["unsupported operand type(s) for @: 'float' and 'Tensor'"]),
    (lambda: pg.tensor([1, 2]).mean(), RuntimeError, ["mean: expected a floating-point", "int64", "x.float()"]),
    (lambda: pg.tensor([True]).softmax(0), RuntimeError, ["softmax: expected a floating", "bool", "x.float()"]),
    (
        lambda: leaf(X).backward(),
        RuntimeError,
        ["takes a tensor of one element", "(3,)", "x.sum().backward() or x.backward(gradient)"],
    ),
    (lambda: pg.ones(()).backward(), RuntimeError, ["does not require grad", "requires_grad=True", "no_grad()"]),
    (lambda: (leaf(X) > 1).sum().backward(), RuntimeError, ["does not require grad"]),
    (lambda: (leaf(X) * 2).backward(pg.ones(2)), RuntimeError, ["expected shape (3,), got (2,)"]),
    (lambda: (leaf(X) * 2).backward(pg.tensor(1.0)), RuntimeError, ["expected shape (3,), got ()"]),
    (lambda: pg.ones(2).item(), RuntimeError, ["1 element", "(2,)", "x.tolist()"]),
    (lambda: pg.ones(0).item(), RuntimeError, ["1 element", "(0,)"]),
    (lambda: float(pg.ones(2)), ValueError, ["float()", "1 element", "(2,)", "x.tolist()"]),
    (lambda: int(pg.ones(2)), ValueError, ["int()", "1 element", "(2,)"]),
    (lambda: bool(pg.ones(2)), RuntimeError, ["(2,)", "ambiguous", "(x != 0).all() or .any()"]),
    (lambda: range(3)[pg.tensor(1.0)], TypeError, ["only an integer tensor", "float32", "int(x)"]),
    (lambda: range(3)[pg.tensor([1, 2])], TypeError, ["only an integer tensor", "(2,)"]),
    (lambda: len(pg.tensor(1.0)), TypeError, ["len() of a 0-d tensor"]),
    (lambda: list(pg.tensor(1.0)), TypeError, ["0-d tensor"]),
    (lambda: leaf(X).numpy(), RuntimeError, ["requires grad", "x.detach().numpy()"]),
    (lambda: np.asarray(leaf(X)), RuntimeError, ["requires grad", "x.detach().numpy()"]),
    (lambda: pg.ones(2, 3).sum(2), IndexError, ["sum(float32[2, 3], dim=2", "axis 2 is out of bounds"]),
    (lambda: pg.ones(2, 3).max(2), IndexError, ["max(float32[2, 3], dim=2", "axis 2 is out of bounds"]),
    (lambda: pg.ones(2, 3).softmax(-3), IndexError, ["softmax(float32[2, 3], dim=-3"]),
    (lambda: pg.ones(2, 3).transpose(0, 2), IndexError, ["transpose: expected a dim from -2 to 1", "(2, 3), got 2"]),
    (lambda: pg.ones(2, 3).flatten(3), IndexError, ["flatten: expected a dim from -2 to 1", "got 3"]),
    (lambda: pg.ones(2, 3).flatten(1, 0), RuntimeError, ["start_dim 1 comes after end_dim 0", "(2, 3)"]),
    (lambda: pg.ones(2, 3).permute(0, 2), IndexError, ["permute(float32[2, 3], dims=(0, 2))"]),
    (lambda: pg.ones(2, 3).permute(0, 0), RuntimeError, ["permute", "repeated"]),
    (lambda: pg.ones(2, 3).permute(0), RuntimeError, ["permute", "dims=(0,)"]),
    (lambda: pg.ones(2, 3).reshape(4, 2), RuntimeError, ["reshape(float32[2, 3], shape=(4, 2))"]),
    (lambda: pg.ones(2, 3).reshape(-1, -1), RuntimeError, ["reshape", "(-1, -1)"]),
    (lambda: pg.ones(2, 3).T.view(6), RuntimeError, ["not contiguous", "(3, 2)", "write x.reshape(6,)"]),
    (lambda: pg.ones(2, 3).expand(2, 4), RuntimeError, ["expand(float32[2, 3], size=(2, 4))"]),
    (lambda: pg.ones(2, 3).expand(3), RuntimeError, ["expand(float32[2, 3], size=(3,))"]),
    (lambda: pg.ones(3).expand(-1, 3), RuntimeError, ["expand", "the first 1 are new: give their sizes"]),
    (lambda: pg.ones(2, 3, 4).t(), RuntimeError, ["at most 2 dimensions", "(2, 3, 4)", "x.transpose(dim0, dim1)"]),
    (lambda: pg.cat([]), RuntimeError, ["cat: expected a list of at least one tensor"]),
    (lambda: pg.cat([pg.ones(2), pg.ones(2, 2)]), RuntimeError, ["cat(float32[2], float32[2, 2]"]),
    (lambda: pg.stack([pg.ones(2), pg.ones(3)]), RuntimeError, ["stack(float32[2], float32[3]"]),
    (lambda: pg.ones(3)[3], IndexError, ["getitem(float32[3], index=3)", "out of bounds"]),
    (lambda: pg.ones(3)[0, 0], IndexError, ["getitem(float32[3]", "too many indices"]),
    (lambda: pg.ones(3)[pg.tensor([True, False])], IndexError, ["boolean index did not match"]),
    (lambda: pg.ones(3)[pg.tensor([0.5])], IndexError, ["getitem"]),
    (lambda: operator.setitem(pg.ones(3), slice(2), pg.ones(3)), RuntimeError, ["(3,)", "broadcast"]),
    (lambda: operator.setitem(leaf(X), 0, 1.0), RuntimeError, ["not recorded", "pargrad.where", "with no_grad():"]),
    (lambda: operator.setitem(pg.ones(3), 0, leaf(X)[0]), RuntimeError, ["not recorded", "pargrad.where"]),
    (lambda: pg.clamp(pg.ones(3)), RuntimeError, ["clamp: expected min, max or both"]),
    (lambda: pg.add(pg.ones(3), "text"), TypeError, ["takes tensors, numpy arrays and numbers, got str"]),
    (lambda: pg.add(pg.ones(3), None), TypeError, ["got NoneType", "write pargrad.tensor(...)"]),
    (lambda: pg.add(pg.ones(3)), TypeError, ["add() lacks its argument 'y'"]),
    (lambda: pg.add(1, 2, 3), TypeError, ["add() got 3 arguments, expected at most 2: x, y"]),
    (lambda: pg.add(pg.ones(3), 1, beta=2), TypeError, ["add() got an unknown argument 'beta'", "takes x, y"]),
    (lambda: pg.ones(3).sum(dims=0), TypeError, ["sum() got an unknown argument 'dims'", "x, dim, keepdim"]),
    (lambda: pg.ones(3).sum(0, axis=0), TypeError, ["'dim' both by position and by name"]),
    (lambda: pg.ones(3).max(dims=0), TypeError, ["dims"]),
    (lambda: pg.ones(2, 3).sum(0, 1), TypeError, ["keepdim=True or False, got 1", "dim=(0, 1)"]),
    (lambda: pg.tensor([1]) + 2**70, OverflowError, ["too large"]),
    (lambda: pg.ones(3).reshape(sizes=(3,)), TypeError, ["sizes"]),
    (lambda: pg.tensor("text"), TypeError, ["expected numbers"]),
    (lambda: pg.tensor([[1, 2], [3]]), ValueError, ["inhomogeneous"]),
    (lambda: pg.from_numpy([1.0]), TypeError, ["takes a numpy array, got list", "pargrad.tensor(data)"]),
    (lambda: copy.deepcopy(leaf(X) * 2), RuntimeError, ["only a leaf", "x.detach().clone()"]),
    (lambda: pickle.dumps(leaf(X) * 2), RuntimeError, ["only a leaf", "x.detach()"]),
    (lambda: pg.amax(pg.ones(0)), RuntimeError, ["amax(float32[0]"]),
    (lambda: pg.tensor([2]) ** -1, RuntimeError, ["pow(int64[1]", "negative integer powers"]),
]


@pytest.mark.parametrize(
    ("act", "kind", "pieces"), ERRORS, ids=[f"{i}-{row[2][0][:40]}" for i, row in enumerate(ERRORS)]
)
def test_an_error_says_what_it_got_and_what_to_write(act, kind, pieces):
    with pytest.raises(kind) as error:
        act()
    assert type(error.value) is kind
    for piece in pieces:
        assert piece in str(error.value)


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
