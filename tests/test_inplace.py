"""In-place operators, memory that is shared, and versions."""

import operator

import numpy as np
import pytest

import pargrad as pg
from tests.checks import assert_equal
from tests.tensors import X, Y, gradient_of, leaf

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
    values, indices = x.max(0)  # these are a value of max itself
    indices += -1
    with pytest.raises(RuntimeError, match="^max saved its value"):
        values.backward()


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
