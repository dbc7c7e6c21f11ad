"""Putting elements by index, and finding where they are, against torch: values, gradients and errors."""

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad.operators.indexing import IN_PLACE
from pargrad.rules import RULES
from tests.agreement_torch import check_twins
from tests.checks import as_function, assert_equal, both, check_derivative, run
from tests.test_shapes_torch import EMPTY, Whole, arrays_of, calls, drawn, ids, mask

pytestmark = pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")

X, V, Z, B = drawn(3, 4), drawn(5), drawn(), drawn(2, 3, 4)
TIED = np.array([[1.0, 3.0, 0.0, -2.0], [2.0, 3.0, 0.0, 0.0], [1.0, 1.0, 5.0, 0.0]])
SOURCE = np.array([[1.0, 3.0, 0.0, -2.0], [1.0, 0.0, 0.0, 4.0]])
ROWS = np.array([[0, 0, 1, 2], [0, 1, 1, 2]])
NAN = float("nan")
INT = Whole([[1, 5, 2, 7], [0, 3, 9, 9]])

PUTS = [
    *(("index_copy", [x, dim, Whole(index), drawn(*shape)]) for x, dim, index, shape in (
        (X, 0, [2, 0], (2, 4)), (X, -1, [1], (3, 1)), (B, 1, [], (2, 0, 4)), (X, 0, 1, (1, 4)), (Z, 0, [0], ()),
        (Z, -1, 0, (1,)), (V, 0, [3], ()))),
    *(("index_fill", [x, dim, Whole(index), value]) for x, dim, index, value in (
        (X, 0, [0, 0, -1], 2.5), (X, 1, [], 1), (B, -2, 1, Z), (Z, 0, [0], 3), (INT, 0, [1], 2.7))),
    *(("index_put", [X, index, value]) for index, value in (
        ((Whole([2, 0]),), drawn(2, 4)), ((Whole([1]),), Z), ((Whole([[0], [2]]), Whole([1, 3])), drawn(2, 2)),
        ((mask(X > 0),), Z), ((mask([True, False, True]),), drawn(2, 4)),
        ((mask([True, False, True]), Whole([1, 2])), drawn(2)), ([Whole([-1]), Whole(0)], drawn(1)),
        ((Whole([]),), drawn(0, 4)))),
    *(("index_put", [X, index, value, True]) for index, value in (
        ((Whole([2, 2]),), drawn(2, 4)), ((Whole([0, 0, 1]), Whole([1, 1, -1])), drawn(3)), ((Whole([1, 1]),), Z),
        ((mask(X > 0),), drawn(1)), ((Whole([0, 0]), Whole([[1], [1]])), drawn(2, 2)))),
    *(("put", [x, Whole(index), source, *more]) for x, index, source, more in (
        (X, [0, -1], drawn(2), ()), (X, [[3], [1]], drawn(2), ()), (X, [1, 1, 5], drawn(3), (True,)), (X, 2, Z, ()),
        (Z, [0], drawn(1), ()), (X, [], drawn(0), ()))),
    *(("masked_scatter", [x, condition, source]) for x, condition, source in (
        (X, mask(X > 0), drawn(3, 4)), (X, mask([True, False, True, False]), drawn(9)), (drawn(4), mask(X < 0), X),
        (Z, mask(True), drawn(1)), (X, mask(X > 9), drawn(0)))),
    *(("select_scatter", [B, drawn(*shape), *at]) for shape, at in (
        ((3, 4), (0, 1)), ((2, 4), (1, -3)), ((2, 3), (-1, 2)))),
    *(("slice_scatter", [B, drawn(*shape), *at]) for shape, at in (
        ((2, 3, 4), ()), ((2, 3, 2), (2, 1, None, 2)), ((2, 2, 4), (1, -2)), ((2, 3, 4), (-1, -20, 99)),
        ((0, 3, 4), (0, 1, 1)), ((1, 3, 4), (0, 0, 1)))),
    *(("diagonal_scatter", [x, drawn(*shape), *at]) for x, shape, at in (
        (X, (3,), ()), (X, (2,), (2,)), (X, (2,), (-1,)), (B, (3, 2), (0, 0, -1)), (B, (2, 2), (1, 2, 1)),
        (X, (0,), (9,)))),
    *(("scatter_reduce", [X, dim, Whole(index), 0.9 * drawn(*shape), reduce]) for dim, index, shape in (
        (0, [[0, 2, 1, 0], [0, 0, 1, 1]], (2, 4)), (1, [[3, 3, 3, 1, 0, 0]], (1, 6)), (-1, [[2], [0]], (2, 1)),
        (0, np.zeros((0, 4)), (0, 4))) for reduce in ("sum", "prod", "mean", "amax", "amin")),
    *(("scatter_reduce", [Z, 0, Whole([0, 0]), drawn(2), reduce]) for reduce in ("prod", "mean", "amax")),
    *(("scatter_reduce", [TIED, 0, Whole(ROWS), SOURCE, reduce]) for reduce in ("prod", "amax", "amin")),
    *(("scatter_reduce", [Whole([3, 4, 5]), 0, Whole([0, 0, 2]), Whole([8, -1, -9]), reduce]) for reduce in (
        "sum", "prod", "mean", "amax", "amin")),
    *(("index_reduce", [X, dim, Whole(index), 0.9 * drawn(*shape), reduce]) for dim, index, shape in (
        (0, [1, 1], (2, 4)), (1, [0, 3, 3], (3, 3)), (-1, [], (3, 0))) for reduce in ("prod", "mean", "amax", "amin")),
    ("index_reduce", [B, 1, Whole([2, 2, 0]), 0.9 * drawn(2, 3, 4), "amax"]),
    ("index_reduce", [V, 0, Whole(1), drawn(1), "prod"]),
    ("narrow_copy", [X, 1, 1, 2]), ("where", [mask(X > 0), X, Z]), ("where", [mask(X > 0), X, 0.0]),
]  # fmt: skip
PUTS_NAMED = [
    *((name, arguments, {"include_self": False}) for name, arguments in PUTS
      if "reduce" in name and not any(x is TIED for x in arguments)),
    ("scatter_reduce", [TIED + 10, 0, Whole(ROWS), SOURCE, "amax"], {"include_self": False}),
    ("scatter_reduce", [TIED, 0, Whole(ROWS), SOURCE, "prod"], {"include_self": False}),
    ("index_put", [X, (Whole([1, 1]),), Z], {"accumulate": True}),
    ("put", [V, Whole([1])], {"source": torch.ones(1).double()}),
    ("slice_scatter", [X], {"src": torch.zeros(3, 2).double(), "dim": 1, "start": 0, "end": 4, "step": 2}),
    ("select_scatter", [X], {"src": torch.zeros(3).double(), "dim": 1, "index": -1}),
    ("diagonal_scatter", [X], {"src": torch.zeros(2).double(), "offset": 2, "dim1": 0, "dim2": 1}),
    ("index_fill", [X], {"dim": 0, "index": torch.tensor([1]), "value": 2.0}),
]  # fmt: skip

FINDS = [
    *((name, [x]) for name in ("argwhere", "nonzero") for x in (
        INT, Whole(3), Whole(0), mask([True, False]), EMPTY, X)),
    *(("where", [x]) for x in (INT, Whole(3), Whole(0), mask([[True, False]]), EMPTY)),
    *(("isin", [Whole(x), Whole(y)]) for x, y in (
        ([1, 2, 3], [2, 7]), ([[1, 2]], 2), (3, [3, 4]), ([], [1]), ([1], []))),
    ("isin", [np.array([NAN, 1.0]), np.array([NAN])]), ("isin", [INT, 5]),
    *(("unique_consecutive", [Whole(x), *given]) for x in ([1, 1, 2, 2, 1], [[1, 1], [1, 1], [2, 3]], 3) for given in (
        (), (True, True))),
    *(("unique_consecutive", [Whole([[1, 1, 2], [1, 1, 2], [2, 2, 3]]), True, True, dim]) for dim in (0, 1, -1)),
    ("unique_consecutive", [Whole([]), True, True]), ("unique_consecutive", [Whole(np.zeros((0, 3))), True, True, 0]),
    *(("unravel_index", [Whole(index), shape]) for index, shape in (
        ([5, 7], (3, 4)), ([[11], [0]], (2, 3, 2)), (5, (3, 4)), ([3, 1], 7), ([12, -1], (3, 4)), ([], (2, 2)))),
    *(("bucketize", [x, edges]) for x in (np.array([[1.0, 3.0, 6.0], [NAN, -9.0, 5.0]]), Z) for edges in (
        np.array([1.0, 3.0, 5.0]), np.zeros(0))),
    *(("searchsorted", [sequence, x]) for sequence, x in (
        (np.array([1.0, 3.0, 3.0, 5.0]), np.array([[3.0, NAN, 9.0], [0.0, 1.0, 5.0]])),
        (np.array([[1.0, 3.0, 3.0, 5.0], [0.0, 1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 9.0], [3.0, NAN, -1.0]])),
        (np.sort(drawn(2, 3, 7)), drawn(2, 3, 5)), (np.zeros((2, 0)), np.zeros((2, 3))), (np.zeros(0), np.ones(2)),
        (np.sort(V), Z))),
    ("searchsorted", [np.sort(V), 0.5]), ("bucketize", [3, Whole([1, 3, 5])]),
]  # fmt: skip
BINS = np.array([0.0, 1.0, 1.5, 3.0])
POINTS = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.5, 2.5]])
FINDS_NAMED = [
    ("nonzero", [INT], {"as_tuple": True}), ("nonzero", [Whole(0)], {"as_tuple": True}),
    ("nonzero_static", [INT], {"size": 2}), ("nonzero_static", [INT], {"size": 9, "fill_value": 5}),
    ("isin", [Whole([1, 2])], {"test_elements": torch.tensor([2]), "invert": True}),
    ("isin", [Whole([1, 2]), Whole([2])], {"assume_unique": True}),
    *((name, arguments, {"right": True}) for name, arguments in FINDS if name in ("searchsorted", "bucketize")),
    ("searchsorted", [np.sort(V), V], {"side": "right", "out_int32": True}),
    ("bucketize", [V, BINS], {"out_int32": True}),
    ("searchsorted", [np.sort(V), V], {"side": "left"}),
    *(("unique_consecutive", [Whole(x)], {which: True})
      for x in ([1, 1, 2, 2, 1], [[1, 1], [2, 3]], 3) for which in ("return_inverse", "return_counts")),
    ("searchsorted", [np.array([5.0, 3.0, 1.0]), V], {"sorter": torch.tensor([2, 1, 0])}),
    ("searchsorted", [X, X], {"sorter": torch.tensor(np.argsort(X, axis=1)), "right": True}),
    *((name, [3, 4, offset], {}) for name in ("tril_indices", "triu_indices") for offset in (0, 1, -2, 5, -5)),
    ("tril_indices", [0, 3], {}), ("triu_indices", [2, 2], {"offset": -1, "dtype": "int32"}),
    *(("histogram", [x, bins], {}) for x in (X, V, np.ones(2), np.zeros(0)) for bins in (4, BINS)),
    ("histogram", [V, 3], {"range": (-1.0, 2.0)}), ("histogram", [V, BINS], {"density": True}),
    ("histogram", [np.array([1.0, NAN, 0.0, 3.0, 9.0]), BINS], {}),
    ("histogram", [np.array([1.0, 2.0, 1.0]), 4],
     {"range": (0.0, 3.0), "weight": torch.tensor([1.0, 2.0, 4.0]).double()}),
    ("histogramdd", [POINTS, 2], {"density": True}), ("histogramdd", [POINTS, [2, 3]], {"range": [0.0, 2.0, 0.0, 2.5]}),
    ("histogramdd", [POINTS, (BINS, np.array([0.0, 2.0]))], {"weight": torch.arange(4.0).double()}),
    ("bincount", [Whole([1, 1, 3])], {"minlength": 6}), ("bincount", [Whole([1, 1, 3]), np.array([0.5, 1.0, 2.0])], {}),
]  # fmt: skip

CASES = [
    *((name, arguments, {}) for name, arguments in PUTS + FINDS), *PUTS_NAMED, *FINDS_NAMED,
]  # fmt: skip


def named_in(library, named):
    def put(x):
        if isinstance(x, torch.Tensor) and library is pg:
            return pg.tensor(x.numpy())
        return getattr(library, x) if x == "int32" else x

    return {key: put(value) if isinstance(value, str | torch.Tensor) else value for key, value in named.items()}


def flat(values):
    """Tensors within named and plain tuples, one after the other."""
    for x in values if isinstance(values, tuple | list) else [values]:
        yield from flat(x) if isinstance(x, tuple | list) else [x]


def agree(name, arguments, named, method, dtype=np.float64):
    arrays = [x.astype(dtype) for x in arrays_of(arguments)]
    named = {key: x.to(torch.float32) if dtype == np.float32 and isinstance(x, torch.Tensor) and x.is_floating_point()
             else x for key, x in named.items()}  # fmt: skip

    def of(library):
        function = calls(name, library, arguments, named_in(library, named), method)
        # torch would record what has no derivative, and refuse in backward.
        inputs = arrays if name in {row[0] for row in PUTS} else [Whole(x, x.dtype) for x in arrays]
        if inputs is arrays:
            return run(library, lambda *tensors: tuple(flat(function(*tensors))), arrays)
        return [x.numpy() for x in flat(function(*map(library.tensor, arrays)))], []

    got, expected = of(pg), of(torch)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


@both
@pytest.mark.parametrize(("name", "arguments", "named"), CASES, ids=ids(CASES))
def test_functions(name, arguments, named, dtype):
    agree(name, arguments, named, False, dtype)


METHODS = [
    case for case in CASES
    if hasattr(torch.Tensor, case[0]) and case[0] != "where" and isinstance(case[1][0], np.ndarray | Whole)
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "named"), METHODS, ids=ids(METHODS))
def test_methods(name, arguments, named):
    agree(name, arguments, named, True)


OVERWRITTEN = [
    case for case in [*((name, arguments, {}) for name, arguments in PUTS), *PUTS_NAMED]
    if case[0] in IN_PLACE and isinstance(case[1][0], np.ndarray)
    and not (case[0] == "masked_scatter" and case[1][0].ndim < case[1][1].array.ndim)
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "named"), OVERWRITTEN, ids=ids(OVERWRITTEN))
def test_in_place(name, arguments, named):
    arrays = list(arrays_of(arguments))

    def of(library):
        def overwritten(first, *rest):
            x = first * 2
            y = calls(f"{name}_", library, arguments, named_in(library, named), True)(x, *rest)
            assert y is x
            return x * x

        return run(library, overwritten, arrays)

    got, expected = of(pg), of(torch)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


ERRORS = [
    ("index_copy", [X, 0, Whole([-1]), drawn(1, 4)]), ("index_copy", [X, 0, Whole([0]), drawn(4)]),
    ("index_copy", [X, 0, Whole([3]), drawn(1, 4)]), ("index_copy", [X, 0, Whole([[0]]), drawn(1, 4)]),
    ("index_copy", [X, 0, Whole([0]), Whole([[1] * 4])]), ("index_copy", [X, 2, Whole([0]), drawn(1, 4)]),
    ("index_fill", [X, 0, Whole([3]), 1.0]), ("index_fill", [X, 0, Whole([0]), drawn(1)]),
    ("index_fill", [X, 0, Whole([0]), 1j]), ("index_fill", [X, 0, Whole([0.0], np.float64), 1.0]),
    ("index_put", [X, (Whole([3]),), Z]), ("index_put", [X, (Whole([1]),), drawn(3)]),
    ("index_put", [X, (Whole([1]),), Whole(1)]), ("index_put", [X, (mask([True, False]),), Z]),
    ("index_put", [X, (Whole([0.0], np.float64),), Z]), ("index_put", [X, (Whole([0]),) * 3, Z]),
    ("put", [X, Whole([12]), drawn(1)]), ("put", [X, Whole([1, 2]), drawn(1)]), ("put", [X, Whole([1]), Whole([1])]),
    ("masked_scatter", [X, mask(X > -9), drawn(5)]), ("masked_scatter", [X, Whole(X > 0), drawn(12)]),
    ("masked_scatter", [X, mask([True] * 3), drawn(12)]),
    ("select_scatter", [X, drawn(1), 0, 0]), ("select_scatter", [X, drawn(4), 0, 3]), ("select_scatter", [Z, Z, 0, 0]),
    ("select_scatter", [X, drawn(4), 2, 0]), ("slice_scatter", [X, drawn(4), 0, 0, 1]),
    ("slice_scatter", [X, X, 0, 0, 3, 0]), ("slice_scatter", [X, X, 2]), ("diagonal_scatter", [X, drawn(1)]),
    ("diagonal_scatter", [X, drawn(3), 0, 0, 0]), ("diagonal_scatter", [V, drawn(1)]),
    ("scatter_reduce", [X, 0, Whole([[0]]), drawn(1, 1), "largest"]),
    ("scatter_reduce", [X, 0, Whole([[3]]), drawn(1, 1), "sum"]),
    ("scatter_reduce", [X, 0, Whole([[0, 1]]), drawn(1, 1), "amax"]),
    ("scatter_reduce", [X, 0, Whole([0]), drawn(1), "prod"]),
    ("scatter_reduce", [X, 0, Whole([[0]]), Whole([[1]]), "prod"]),
    ("index_reduce", [X, 0, Whole([0]), drawn(1, 4), "sum"]),
    ("index_reduce", [X, 0, Whole([0]), drawn(1, 3), "prod"]),
    ("index_reduce", [X, 0, Whole([3]), drawn(1, 4), "prod"]),
    ("searchsorted", [Z, V]), ("searchsorted", [X, V]), ("searchsorted", [X, 1.0]),
    ("bucketize", [V, X]), ("unravel_index", [V, (3, 4)]), ("tril_indices", [-1, 3]), ("triu_indices", [3, -1]),
    ("histogram", [INT, 3]), ("histogram", [V, 0]), ("histogram", [np.array([NAN, 1.0]), 3]), ("histogram", [V, X]),
    ("histogramdd", [V, 3]), ("histogramdd", [POINTS, [3]]), ("bincount", [Whole([-1])]), ("bincount", [INT]),
]  # fmt: skip
ERRORS_NAMED = [
    *((name, arguments, {}) for name, arguments in ERRORS),
    ("searchsorted", [V, V], {"side": "middle"}), ("searchsorted", [V, V], {"side": "left", "right": True}),
    ("searchsorted", [V, V], {"sorter": torch.tensor([0])}),
    ("searchsorted", [V, V], {"sorter": torch.tensor([5] * 5)}),
    ("histogramdd", [POINTS, 3], {"range": [0.0, 1.0]}), ("histogram", [V, 3], {"range": (1.0, 0.0)}),
    ("bincount", [Whole([1])], {"minlength": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "named"), ERRORS_NAMED, ids=ids(ERRORS_NAMED))
def test_wrong_arguments_are_refused_as_torch_refuses_them(name, arguments, named):
    for library in (torch, pg):
        tensors = [library.tensor(x) for x in arrays_of(arguments)]
        with pytest.raises((RuntimeError, IndexError, ValueError, TypeError, NotImplementedError)):
            calls(name, library, arguments, named_in(library, named), False)(*tensors)


def test_isin_of_numbers_and_where_of_two_arguments_are_refused():
    with pytest.raises(TypeError, match="at least one tensor"):
        pg.isin(1, 2)
    with pytest.raises(TypeError, match=r"write where\(condition, x, y\)"):
        pg.where(pg.tensor([True]), 1.0)
    with pytest.raises(TypeError, match=r"write \(index,\)"):
        pg.index_put(pg.ones(2), pg.tensor([0]), pg.ones(1))


def test_none_among_indices_takes_a_dimension_whole():
    x, value = pg.tensor(X, requires_grad=True), pg.tensor(drawn(3, 2), requires_grad=True)
    got = pg.index_put(x, (None, pg.tensor([1, 3])), value)
    expected = X.copy()
    expected[:, [1, 3]] = value.tolist()
    assert_equal([got.detach().numpy()], [expected])


# ----- x[index] = value -----

INDICES = [
    0, -1, slice(1, None), (slice(None), slice(None, None, 2)), (Ellipsis, 1), None, (0, None, slice(2)), (),
    np.array([2, 0]), (np.array([[0], [2]]), np.array([1, 3])), (slice(None), np.array([3, 0])), X > 0,
    np.array([True, False, True]), (np.array([True, False, True]), 2), (1, np.array([0, 2])), np.zeros(0, int), (2, 3),
    np.array(True), (np.array([0, 2]), slice(1, 3)),
]  # fmt: skip


def in_torch(index):
    if isinstance(index, tuple):
        return tuple(in_torch(part) for part in index)
    return torch.tensor(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broadcast"])
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_set_at_is_what_torch_assigns(index, whole):
    shape = X[index].shape if whole else (1,) * X[index].ndim
    value = np.asarray(np.random.default_rng(1).uniform(-1, 1, shape))

    def assigned(x, value):
        y = x.clone()
        y[in_torch(index)] = value
        return y

    check_twins(as_function(RULES["set_at"], {"index": index}), assigned, [X, value])


def test_every_value_of_an_element_that_is_named_twice_gets_its_gradient():
    index = np.array([1, 1, 0])
    got = run(pg, as_function(RULES["set_at"], {"index": index}), [V, V[:3]])
    expected = run(torch, lambda x, value: torch.index_put(x, (torch.tensor(index),), value), [V, V[:3]])
    assert_equal(got[1], expected[1])


def test_a_value_may_have_more_dimensions_of_length_one():
    function = as_function(RULES["set_at"], {"index": 1})
    assert check_derivative(function, [X, drawn(1, 1, 4)]) == 2
    assert check_derivative(function, [X, drawn(1, 1, 1)]) == 2


def test_set_at_keeps_the_dtype():
    for x, value, expected in (
        (np.array([1, 2]), np.array(2.7), [2, 2]),
        (np.ones(2, np.float32), np.array(0.1), None),
    ):
        got = pg.tensor(x).clone()
        out = as_function(RULES["set_at"], {"index": 0})(got, value)
        assert out.dtype == x.dtype
        assert expected is None or out.tolist() == expected


def test_an_index_or_mask_that_changes_later_changes_no_gradient():
    x, index, keep = pg.zeros(3, requires_grad=True), np.array([0, 0]), np.array([True, False, False])
    one, two = pg.ones(1, requires_grad=True), pg.ones(2, requires_grad=True)
    outs = [
        pg.index_put(x, (index,), two), pg.put(x, index, two), pg.index_copy(x, 0, index, two),
        pg.index_fill(x, 0, index, 1.0), pg.masked_scatter(x, keep, one), pg.index_reduce(x, 0, index, two, "mean"),
        pg.index_put(x, (index,), two, accumulate=True),
    ]  # fmt: skip
    index[:], keep[:] = 2, True
    pg.cat(outs).sum().backward()
    np.testing.assert_allclose(x.grad.array, [1 + 1 / 3, 7, 7])
    np.testing.assert_allclose(two.grad.array, [4 + 1 / 3] * 2)
    assert one.grad.tolist() == [1.0]


def test_numpys_where_of_a_condition_alone():
    x = pg.tensor(X, requires_grad=True)
    assert [part.tolist() for part in np.where(x > 0)] == [part.tolist() for part in np.where(X > 0)]


# ----- where torch has no derivative, or another -----


def test_an_element_that_is_not_included_has_no_part_in_a_tie():
    """torch counts it, and an element gets half of the gradient."""
    for library, gradient in ((pg, 1.0), (torch, 0.5)):
        x, src = (library.tensor([2.0], requires_grad=True) for _ in range(2))
        library.scatter_reduce(x, 0, library.tensor([0]), src, "amax", include_self=False).sum().backward()
        assert (x.grad.tolist(), src.grad.tolist()) == ([0.0], [gradient])


def test_what_is_nan_gives_nan():
    def greatest(library):
        return lambda x, src: library.scatter_reduce(x, 0, library.tensor([0, 1, 2]), src, "amax")

    arrays = [np.array([1.0, NAN, 3.0]), np.array([NAN, 2.0, 5.0])]
    got, expected = (run(library, greatest(library), arrays) for library in (pg, torch))
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


def test_scatter_that_multiplies_has_a_derivative():
    index = pg.tensor(ROWS)
    arrays = [TIED + 0.1, SOURCE]
    assert check_derivative(lambda x, src: pg.scatter(x, 0, index, src, reduce="multiply"), arrays) == 2


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean"])
def test_scatter_reduce_of_complex_numbers(reduce):
    """torch has the values alone."""
    index, arrays = pg.tensor(ROWS), [X + 1j * X[::-1], SOURCE - 2j]
    expected = torch.scatter_reduce(torch.tensor(arrays[0]), 0, torch.tensor(ROWS), torch.tensor(arrays[1]), reduce)
    function = lambda x, src: pg.scatter_reduce(x, 0, index, src, reduce)  # noqa: E731
    assert_equal(run(pg, function, arrays)[0], [expected.numpy()])
    assert check_derivative(function, arrays) == 2


@pytest.mark.parametrize("function", [
    lambda x: pg.scatter_reduce(x, 0, pg.tensor(ROWS), x[:2], "amax"), pg.sort, lambda x: pg.topk(x, 1),
    lambda x: pg.cummax(x, 0), lambda x: pg.median(x, 0),
])  # fmt: skip
def test_what_needs_an_order_refuses_complex_numbers(function):
    with pytest.raises(RuntimeError, match="have no order"):
        function(pg.tensor(X + 1j))


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce_by_differences(reduce, include_self):
    index = pg.tensor(ROWS)

    def function(x, src):
        return pg.scatter_reduce(x, 0, index, src, reduce, include_self=include_self)

    assert check_derivative(function, [X, drawn(2, 5)]) == 2  # a source larger than its index
