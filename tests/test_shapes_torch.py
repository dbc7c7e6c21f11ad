"""Shapes and indexing against torch: values, gradients, shared memory and errors, on every kind of argument."""

import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pargrad as pg
import pargrad.nn.functional as functional
from pargrad.tensor import Tensor
from tests.agreement_torch import check_twins
from tests.checks import assert_equal

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def drawn(*shape):
    return np.random.default_rng(len(shape)).uniform(-2, 2, shape)


class Whole:
    """An integer or boolean array among the arguments: a tensor in either library, without a gradient."""

    def __init__(self, values, dtype=np.int64):
        self.array = np.array(values, dtype)


def mask(values):
    return Whole(values, np.bool_)


def flattened(value):
    return tuple(value) if isinstance(value, tuple | list) else value


def calls(name, library, arguments, named, method):
    """The call in one library; each array among the arguments, also within a list, is the next of those given."""

    def function(*tensors):
        given = iter(tensors)

        def put(x):
            if isinstance(x, np.ndarray):
                return next(given)
            if isinstance(x, Whole):
                return library.tensor(x.array)
            return type(x)(put(each) for each in x) if isinstance(x, tuple | list) else x

        first, *rest = map(put, arguments)
        if method:
            out = getattr(first, name)
            return flattened(out(*rest, **named) if callable(out) and not hasattr(out, "shape") else out)
        return flattened(getattr(library, name)(first, *rest, **named))

    return function


def arrays_of(arguments):
    for x in arguments:
        if isinstance(x, tuple | list):
            yield from arrays_of(x)
        elif isinstance(x, np.ndarray):
            yield x


X, V, Z, B, C = drawn(3, 4), drawn(5), drawn(), drawn(2, 3, 4), drawn(2, 6, 4)
EMPTY, NONE = drawn(0, 3), drawn(0)

VIEWS = [
    *(("movedim", [B, *dims]) for dims in ((0, 2), (-1, 0), ((0, 1), (1, 2)), ([0, -1], [-1, 0]), ((), ()))),
    ("movedim", [Z, 0, -1]), ("moveaxis", [B, 2, 0]), ("movedim", [EMPTY, 0, 1]),
    *(("swapaxes", [B, *dims]) for dims in ((0, 1), (-1, -3), (1, 1))), ("swapaxes", [Z, 0, -1]),
    ("swapdims", [B, 0, -1]), ("ravel", [X]), ("ravel", [Z]), ("ravel", [V]), ("ravel", [EMPTY]),
    *(("unflatten", [X, *given]) for given in ((1, (2, 2)), (-1, (2, -1)), (0, [3, 1, -1]), (1, (-1,)))),
    ("unflatten", [EMPTY, 1, (3, -1)]), ("unflatten", [EMPTY, 0, (0, 4)]),
    *(("broadcast_to", [X, size]) for size in ((3, 4), (2, 3, 4), [2, -1, 4])), ("broadcast_to", [Z, (2, 2)]),
    ("broadcast_to", [drawn(1, 3), (0, 3)]),
    *(("select", [B, dim, i]) for dim, i in ((0, 1), (-1, -4), (1, 2))),
    *(("narrow", [B, *given]) for given in ((1, 0, 2), (-1, 1, 3), (0, -1, 1), (1, 3, 0))),
    ("narrow", [EMPTY, 0, 0, 0]),
    ("narrow", [B, 1, Whole(1), 2]),
    ("unbind", [B]), ("unbind", [B, 1]), ("unbind", [B, -1]), ("unbind", [EMPTY, 1]), ("unbind", [V]),
    *(("split", [C, *given]) for given in ((1,), (2, 1), (4, 1), (9, -1), ([1, 2, 3], 1), ((4, 0), -1))),
    ("split", [EMPTY, 2]), ("split", [EMPTY, 0]),
    *(("chunk", [C, *given]) for given in ((2,), (4, 1), (5, 1), (3, -1))), ("chunk", [EMPTY, 3]),
    *(("tensor_split", [C, *given]) for given in ((2,), (4, 1), (7, -1), ((1, 4), 1), ([-2, 9], 1), ((3, 1), 1))),
    ("tensor_split", [C, Whole([1, 2]), 1]), ("tensor_split", [C, Whole(3), 1]), ("tensor_split", [EMPTY, 2]),
    *(("hsplit", [C, by]) for by in (2, 3, (1, 2), [1])), ("hsplit", [V, 5]), ("hsplit", [V, [2]]),
    *(("vsplit", [C, by]) for by in (2, (1,))), *(("dsplit", [C, by]) for by in (2, 4, (1, 3))),
    *(("diagonal", [B, *given]) for given in ((), (1,), (-1, 1, 2), (0, -1, 0), (9, 0, 1))), ("diagonal", [EMPTY]),
    *(("atleast_1d", [x]) for x in (Z, V, X, B)), *(("atleast_2d", [x]) for x in (Z, V, X, B, NONE)),
    *(("atleast_3d", [x]) for x in (Z, V, X, B, NONE, EMPTY)),
    ("atleast_1d", [Z, V, X]), ("atleast_2d", [Z, V]), ("atleast_3d", [(Z, V, X)]), ("atleast_1d", [[Z]]),
    ("broadcast_tensors", [X, Z, drawn(4)]), ("broadcast_tensors", [X]), ("broadcast_tensors", [drawn(0, 1), drawn(3)]),
    ("meshgrid", [V, X[0], Z]), ("meshgrid", [[V, X[0]]]), ("meshgrid", [NONE, V]), ("adjoint", [B]),
]  # fmt: skip
COPIES = [
    ("flip", [B, (0,)]), ("flip", [B, (0, -1)]), ("flip", [B, [1]]), ("flip", [Z, (0,)]), ("flip", [EMPTY, (0, 1)]),
    ("flip", [B, ()]), ("fliplr", [X]), ("flipud", [X]), ("flipud", [V]), ("fliplr", [B]),
    *(("rot90", [X, *given]) for given in ((), (2,), (-1,), (4,), (1, (1, 0)), (3, [0, -1]))),
    ("rot90", [B, 1, (1, 2)]),
    *(("roll", [B, *given]) for given in ((1,), (-7,), (2, 1), (1, -1), ((1, 2), (0, 2)), ((1, 1), (1, 1)))),
    ("roll", [B, (3,), (0,)]),
    ("roll", [Z, 3]), ("roll", [EMPTY, 1, 1]), ("roll", [NONE, 2]),
    *((name, [x, k]) for name in ("tril", "triu") for x in (X, B, EMPTY) for k in (0, 1, -2, 9)),
    ("diag", [V]), ("diag", [V, 1]), ("diag", [X, -1]), ("diag", [X]), ("diag", [NONE, 2]),
    *(("diag_embed", [X, *given]) for given in ((), (1,), (-1, 0, 2), (2, -1, 0))), ("diag_embed", [EMPTY]),
    ("diagflat", [X]), ("diagflat", [V, -2]), ("diagflat", [Z, 1]),
    *(("tile", [X, by]) for by in ((2,), (2, 1), (2, 1, 3), (0, 2), (), [3])), ("tile", [Z, (2, 2)]),
    *(("repeat_interleave", [X, *given]) for given in (
        (2,), (2, 0), (3, -1), (Whole([1, 0, 2]), 0), (Whole([2]), 1), (Whole(2), 1), (0, 0))),
    ("repeat_interleave", [Whole([0, 2, 1])]), ("repeat_interleave", [Z, 3]),
    ("repeat_interleave", [V, Whole([1] * 5)]),
    ("hstack", [[X, drawn(3, 2)]]), ("hstack", [(V, Z)]), ("hstack", [[EMPTY, drawn(0, 2)]]),
    ("vstack", [[X, drawn(4)]]),
    ("vstack", [[Z, drawn(1)]]), ("row_stack", [[X, X]]), ("dstack", [[V, V]]), ("dstack", [[X, X]]),
    ("dstack", [(B, B)]),
    ("column_stack", [[V, drawn(5, 2)]]), ("column_stack", [(Z, Z)]), ("column_stack", [[B, B]]),
    ("block_diag", [X, Z, V]), ("block_diag", [V]), ("block_diag", [X, EMPTY, drawn(1, 0)]),
    ("cartesian_prod", [V]), ("cartesian_prod", [V, X[0]]), ("cartesian_prod", [V, X[0], NONE]),
    *(("combinations", [V, *given]) for given in ((), (1,), (3,), (2, True), (0,), (6,))),
    ("combinations", [NONE, 2, True]),
    *(("gather", [X, dim, Whole(index)]) for dim, index in (
        (0, [[0, 2], [1, 1], [2, 0], [0, 0], [1, 2]]), (1, [[3, 0, 0]]), (-1, [[0], [1]]), (0, np.zeros((0, 4))))),
    ("gather", [Z, 0, Whole([0, 0])]), ("gather", [V, 0, Whole(3)]), ("gather", [X, 0, Whole([[1]], np.int32)]),
    *(("take_along_dim", [X, Whole(index), dim]) for dim, index in (
        (0, [[0, 2, 1, -1]]), (1, [[3], [0], [1]]), (-1, [[1, 2, 3]]), (None, [1, 5, 11]), (None, [[1], [2]]))),
    ("take_along_dim", [B, Whole([[[1]]]), 1]), 
    ("take_along_dim", [Z, Whole([0])]),
    *(("index_select", [B, dim, Whole(index)]) for dim, index in ((0, [1, 1, 0]), (-1, [3]), (1, 2), (2, []))),
    ("index_select", [Z, 0, Whole([0])]), ("index_select", [B, 1, Whole([0, 2], np.int32)]),
    *(("take", [X, Whole(index)]) for index in ([0, 11, 11], [[-1], [3]], 4, [])), ("take", [Z, Whole([0, -1])]),
    ("masked_select", [X, mask(X > 0)]), ("masked_select", [X, mask([True, False, True, True])]),
    ("masked_select", [Z, mask([[True], [True]])]), ("masked_select", [X, mask(True)]),
    ("masked_select", [Z, mask(False)]),
    ("masked_fill", [X, mask(X > 0), 2]), ("masked_fill", [X, mask(X > 0), float("-inf")]),
    ("masked_fill", [X, mask([[True]] * 3), Z]), ("masked_fill", [X, mask(True), -0.5]),
    ("masked_fill", [drawn(4), mask([[True] * 4, [False] * 4]), 1.5]),
    ("masked_fill", [Whole([1, 2]), mask([1, 0]), 7]),
    *(("scatter", [X, dim, Whole(index), src]) for dim, index, src in (
        (0, [[0, 2, 1, 0]], drawn(1, 4)), (1, [[3], [0], [1]], drawn(3, 1)), (-1, [[2, 1]], 1.5), (0, [[1]], 2),
        (0, np.zeros((0, 4)), drawn(0, 4)))),
    ("scatter", [V, 0, Whole(2), Z]), ("scatter", [Z, 0, Whole(0), 3.0]), ("scatter", [Z, 0, Whole([0]), Z]),
    *(("scatter_add", [X, dim, Whole(index), src]) for dim, index, src in (
        (0, [[0, 2, 1, 0], [0, 0, 1, 1]], drawn(2, 4)), (1, [[3, 3, 3, 1, 0, 0]], drawn(1, 6)),
        (0, np.zeros((0, 4)), drawn(0, 4)))),
    ("scatter_add", [V, -1, Whole([1, 1]), drawn(2)]), ("scatter_add", [V, 0, Whole(1), Z]),
    *(("index_add", [X, dim, Whole(index), src]) for dim, index, src in (
        (0, [1, 1], drawn(2, 4)), (-1, [0, 3, 3], drawn(3, 3)), (1, [], drawn(3, 0)), (1, 2, drawn(3, 1)))),
    ("index_add", [Z, 0, Whole([0]), Z]), ("index_add", [Z, 0, Whole(0), Z]),
]  # fmt: skip
NAMED = [
    ("diagonal", [B], {"offset": 1, "dim1": 0, "dim2": 2}), ("diag", [X], {"diagonal": 1}),
    ("tril", [X], {"diagonal": -1}),
    ("diag_embed", [X], {"offset": 1, "dim1": 0, "dim2": -1}), ("flip", [X], {"dims": (0,)}),
    ("tile", [X], {"dims": (2,)}),
    ("roll", [X], {"shifts": 1, "dims": 0}), ("rot90", [X], {"k": 1, "dims": [0, 1]}), ("unbind", [X], {"dim": 1}),
    ("split", [X], {"split_size_or_sections": 2, "dim": 1}), ("chunk", [X], {"chunks": 2, "dim": 1}),
    ("tensor_split", [X], {"indices": (1,), "dim": 1}), ("tensor_split", [X], {"sections": 2, "dim": 0}),
    ("movedim", [X], {"source": 0, "destination": 1}), ("swapaxes", [X], {"axis0": 0, "axis1": 1}),
    ("swapdims", [X], {"dim0": 0, "dim1": 1}), ("narrow", [X], {"dim": 0, "start": 1, "length": 2}),
    ("select", [X], {"dim": 0, "index": 1}), ("unflatten", [X], {"dim": 1, "sizes": (2, 2)}),
    ("meshgrid", [V, X[0]], {"indexing": "xy"}), ("meshgrid", [V, X[0], Z], {"indexing": "xy"}),
    ("meshgrid", [V, X[0]], {"indexing": "ij"}), ("meshgrid", [V], {"indexing": "xy"}),
    ("broadcast_to", [V], {"size": (2, 5)}),
    ("combinations", [V], {"r": 2, "with_replacement": True}), ("repeat_interleave", [X], {"repeats": 2, "dim": 1}),
    ("repeat_interleave", [X, Whole([1, 0, 2])], {"dim": 0, "output_size": 3}),
    ("gather", [X], {"dim": 0, "index": torch.tensor([[0]])}), ("take", [X], {"index": torch.tensor([3])}),
    ("scatter", [X, 0, Whole([[1, 1, 2, 0]])], {"value": 2.5}),
    ("index_add", [X, 0, Whole([1, 1]), drawn(2, 4)], {"alpha": -2.5}),
]  # fmt: skip
METHODS = [
    *(("repeat", [X, *by]) for by in ((2, 1), ((2, 3),), (2, 1, 3), (0, 1), ([1, 1],))), ("repeat", [Z, 2]),
    ("repeat", [Z, 2, 2]), ("tile", [X, 2, 1]), ("flip", [X, 0, 1]), ("flip", [X, 0]), ("split", [X, [1, 2], 0]),
    *(("unfold", [C, *given]) for given in ((1, 3, 1), (-1, 2, 2), (0, 2, 1), (1, 6, 4), (1, 0, 2))),
    ("unfold", [Z, 0, 1, 1]), ("unfold", [Z, 0, 0, 1]), ("unfold", [EMPTY, 1, 2, 1]),
    ("H", [X]), ("H", [Z]), ("T", [X]), ("mT", [B]), ("mT", [Z]), ("mH", [B]), ("view_as", [X, drawn(2, 6)]),
    ("expand_as", [X, B]), ("reshape_as", [X, drawn(2, 6)]),
]  # fmt: skip


def agree(name, arguments, named, method):
    arrays = list(arrays_of(arguments))
    there = {key: Tensor(value.numpy()) if isinstance(value, torch.Tensor) else value for key, value in named.items()}
    check_twins(calls(name, pg, arguments, there, method), calls(name, torch, arguments, named, method), arrays)


FUNCTIONS = [(name, arguments, {}) for name, arguments in VIEWS + COPIES] + NAMED


def ids(cases):
    return [f"{case[0]}-{i}" for i, case in enumerate(cases)]


@pytest.mark.parametrize(("name", "arguments", "named"), FUNCTIONS, ids=ids(FUNCTIONS))
def test_functions(name, arguments, named):
    agree(name, arguments, named, False)


METHOD_CASES = [
    *((name, arguments, {}) for name, arguments in METHODS),
    *(case for case in FUNCTIONS if hasattr(torch.Tensor, case[0]) and isinstance(case[1][0], np.ndarray | Whole)
      and "split_size_or_sections" not in case[2]  # the method's is called split_size
      and (case[0] != "repeat_interleave" or len(case[1]) + len(case[2]) > 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "named"), METHOD_CASES, ids=ids(METHOD_CASES))
def test_methods(name, arguments, named):
    agree(name, arguments, named, True)


SHARING = [
    *((name, arguments, False) for name, arguments in VIEWS + COPIES),
    *((name, arguments, True) for name, arguments in METHODS),
]


@pytest.mark.parametrize(("name", "arguments", "method"), SHARING, ids=ids(SHARING))
def test_a_view_where_torch_has_one(name, arguments, method):
    def pairs(library):
        tensors = [library.tensor(x) for x in arrays_of(arguments)]
        values = calls(name, library, arguments, {}, method)(*tensors)
        return itertools.product(values if isinstance(values, tuple) else (values,), tensors)

    for (y, x), (torch_y, torch_x) in zip(pairs(pg), pairs(torch), strict=True):
        if y.numel():
            shared = torch_y.untyped_storage().data_ptr() == torch_x.untyped_storage().data_ptr()
            assert np.may_share_memory(y.array, x.array) == shared
            assert (y.cell is x.cell) == shared


def test_writing_to_a_view_writes_to_its_tensor():
    def written(x):
        views = [x.diagonal(), x.unfold(1, 2, 2), x.select(0, 2), x.narrow(1, 0, 1), x.mT, x.chunk(2)[1]]
        for view in views:
            view += 1
        return x.tolist()

    assert written(pg.zeros(3, 4)) == written(torch.zeros(3, 4))


def test_windows_that_overlap_are_not_written_to():
    view = pg.zeros(5).unfold(0, 3, 1)
    with pytest.raises((RuntimeError, ValueError), match="read-only"):
        view += 1


ERRORS = [
    ("flip", [X, (0, 0)]), ("flip", [X, (0, -2)]), ("flip", [X, (2,)]), ("flip", [X, (-3,)]), ("fliplr", [V]),
    ("flipud", [Z]), ("rot90", [V]), ("rot90", [X, 1, (0, 0)]), ("rot90", [X, 1, (0, -2)]), ("rot90", [X, 1, (0, 2)]),
    ("rot90", [X, 1, (0,)]), ("roll", [Z, 1, 0]), ("roll", [X, (1, 2)]), ("roll", [X, (1, 2), 0]),
    ("roll", [X, 1, (0, 1)]),
    ("roll", [X, 1, 2]), ("tril", [V]), ("triu", [Z]), ("diagonal", [X, 0, 0, 0]), ("diagonal", [X, 0, 0, 2]),
    ("diagonal", [V]), ("diag", [Z]), ("diag", [B]), ("diag_embed", [V, 0, 0, 0]), ("diag_embed", [V, 0, 0, 2]),
    ("movedim", [X, (0, 1), (1, 1)]), ("movedim", [X, 0, 2]), ("movedim", [X, (0, 0), (0, 1)]),
    ("movedim", [X, (0,), (1, 0)]),
    ("swapaxes", [X, 0, 2]), ("unflatten", [X, 1, (3, -1)]), ("unflatten", [X, 1, (-1, -1)]), ("unflatten", [X, 1, ()]),
    ("unflatten", [X, 2, (1,)]), ("broadcast_to", [X, (3, 5)]), ("broadcast_to", [X, (4,)]), ("select", [X, 1, 4]),
    ("select", [X, 2, 0]), ("select", [Z, 0, 0]), ("narrow", [X, 1, 2, 3]), ("narrow", [X, 1, 0, -1]),
    ("narrow", [X, 2, 0, 1]),
    ("narrow", [X, 1, 5, 0]), ("narrow", [Z, 0, 0, 1]), ("unbind", [Z]), ("unbind", [X, 2]), ("split", [X, 0]),
    ("split", [X, -1]),
    ("split", [X, [1, 1]]), ("split", [X, 1, 2]), ("split", [Z, 1]), ("chunk", [X, 0]), ("chunk", [Z, 1]),
    ("chunk", [X, 1, 2]),
    ("tensor_split", [X, 0]), ("tensor_split", [Z, 1]), ("tensor_split", [X, 1, 2]), ("hsplit", [X, 3]),
    ("hsplit", [Z, 1]),
    ("vsplit", [V, 1]), ("dsplit", [X, 1]), ("vsplit", [X, 0]), ("broadcast_tensors", [X, V]), ("meshgrid", [X]),
    ("cartesian_prod", [X]), ("cartesian_prod", [Z]), ("combinations", [X]), ("combinations", [V, -1]),
    ("block_diag", [B]),
    ("hstack", [[]]), ("hstack", [[X, drawn(2, 2)]]), ("vstack", [[X, drawn(2, 2)]]), ("repeat_interleave", [X, -1]),
    ("repeat_interleave", [X, Whole([1, 2]), 0]), ("repeat_interleave", [X, Whole([[1, 2, 3]]), 0]),
    ("repeat_interleave", [X, 1, 2]), ("tile", [X, (-1,)]), ("gather", [X, 0, Whole([[-1]])]),
    ("gather", [X, 0, Whole([[3]])]),
    ("gather", [X, 2, Whole([[0]])]), ("gather", [X, 0, Whole([0])]), ("gather", [X, 1, Whole([0])]),
    ("gather", [X, 0, Whole([[0] * 5])]), ("gather", [X, 0, Whole([[0]], np.float64)]),
    ("take_along_dim", [X, Whole([0]), 1]),
    ("take_along_dim", [X, Whole([[0]]), 2]), ("take_along_dim", [X, Whole([[0, 1], [0, 1]]), 1]),
    ("take_along_dim", [X, Whole([[0.0]], np.float64), 1]), ("index_select", [X, 0, Whole([-1])]),
    ("index_select", [X, 0, Whole([3])]),
    ("index_select", [X, 0, Whole([[0]])]), ("index_select", [X, 2, Whole([0])]),
    ("index_select", [Z, 0, Whole([0, 0])]),
    ("take", [X, Whole([12])]), ("take", [X, Whole([-13])]), ("take", [X, Whole([0.0], np.float64)]),
    ("masked_select", [X, Whole(X > 0)]), ("masked_select", [X, mask([True] * 3)]),
    ("masked_fill", [X, Whole(X > 0), 1]),
    ("masked_fill", [X, mask(X > 0), V]), ("masked_fill", [X, mask([True] * 3), 1]),
    ("scatter", [X, 0, Whole([[0]]), Z]),
    ("scatter", [X, 0, Whole([[3]]), 1.0]), ("scatter", [X, 0, Whole([[0, 0]]), drawn(1, 1)]),
    ("scatter", [X, 0, Whole([[0]]), Whole([[1]])]), ("scatter_add", [X, 0, Whole([[0] * 5]), drawn(1, 5)]),
    ("scatter_add", [X, 0, Whole([[0] * 4]), drawn(1, 3)]), ("scatter_add", [X, 0, Whole([[-1]]), drawn(1, 1)]),
    ("scatter_add", [X, 2, Whole([[0]]), drawn(1, 1)]), ("index_add", [X, 0, Whole([0, -1]), drawn(2, 4)]),
    ("index_add", [X, 0, Whole([0, 0]), drawn(2, 1)]), ("index_add", [X, 0, Whole([0]), drawn(2, 4)]),
    ("index_add", [X, 2, Whole([0]), drawn(1, 4)]), ("index_add", [X, 0, Whole([0, 0]), Whole([[1] * 4] * 2)]),
    ("repeat", [X, 2]), ("repeat", [X, -1, 1]), ("unfold", [X, 1, 5, 1]), ("unfold", [X, 1, 1, 0]),
    ("unfold", [X, 2, 1, 1]),
    ("mT", [V]), ("H", [V]), ("H", [B]), ("mH", [V]), ("view_as", [X, V]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), ERRORS, ids=ids(ERRORS))
def test_wrong_arguments_are_refused_as_torch_refuses_them(name, arguments):
    def raised(library):
        tensors = [library.tensor(x) for x in arrays_of(arguments)]
        method = not hasattr(library, name)
        with pytest.raises((RuntimeError, IndexError, ValueError)) as caught:
            calls(name, library, arguments, {}, method)(*tensors)
        return IndexError if isinstance(caught.value, IndexError) else RuntimeError

    expected = raised(torch)
    assert raised(pg) is expected or (expected, name) in LENIENT


# torch raises either for an index that is out of range, by the way it takes.
LENIENT = {(RuntimeError, "index_add")}


def test_a_mask_or_index_that_changes_later_changes_no_gradient():
    x, index, keep = pg.ones(3, requires_grad=True), np.array([0, 0]), np.array([True, False, True])
    outs = [pg.index_select(x, 0, index), pg.take(x, index), pg.masked_select(x, keep), x.masked_fill(keep, 0.0)]
    index[:], keep[:] = 2, False
    pg.cat(outs).sum().backward()
    assert x.grad.tolist() == [1 + 4.0, 1.0, 1.0]


def test_an_index_that_was_overwritten_is_noticed():
    x, index = pg.ones(3, requires_grad=True), pg.tensor([0, 0])
    y = pg.gather(x, 0, index)
    index += 1
    with pytest.raises(RuntimeError, match="gather saved its argument 1"):
        y.sum().backward()


def test_a_source_larger_than_its_index():
    x, src, index = pg.zeros(3, requires_grad=True), pg.ones(4, requires_grad=True), pg.tensor([1, 0])
    (pg.scatter(x, 0, index, src) + 2 * pg.scatter_add(x, 0, index, src)).sum().backward()
    assert src.grad.tolist() == [3.0, 3.0, 0.0, 0.0]
    assert x.grad.tolist() == [2.0, 2.0, 3.0]


def test_scatter_that_adds():
    x, index = pg.tensor(X, requires_grad=True), np.array([[1, 1, 2, 0]] * 2)
    for src in (2.5, drawn(2, 4)):
        got = pg.scatter(x, 0, pg.tensor(index), pg.tensor(src) if np.ndim(src) else src, reduce="add")
        laid = torch.tensor(np.broadcast_to(src, (2, 4)).copy())
        assert_equal([got.detach().array], [torch.scatter_add(torch.tensor(X), 0, torch.tensor(index), laid).numpy()])
    got.sum().backward()  # torch: "derivative for aten::scatter is not implemented"
    assert x.grad.tolist() == np.ones((3, 4)).tolist()


def test_scatter_that_multiplies():
    index = np.array([[0, 0, 2, 1], [0, 1, 2, 1]])
    for src in (2.5, drawn(2, 4)):
        got = pg.scatter(pg.tensor(X), 0, pg.tensor(index), pg.tensor(src) if np.ndim(src) else src, reduce="multiply")
        expected = torch.scatter(
            torch.tensor(X), 0, torch.tensor(index), torch.tensor(src) if np.ndim(src) else src, reduce="multiply"
        )
        assert_equal([got.array], [expected.numpy()])


def test_take_along_dim_refuses_what_is_out_of_range():
    assert torch.take_along_dim(torch.arange(2.0), torch.tensor([5]), 0).tolist() == [1.0]  # torch counts on
    with pytest.raises(RuntimeError, match="expected an index from 0 to 1"):
        pg.take_along_dim(pg.arange(2.0), pg.tensor([5]), 0)


@pytest.mark.parametrize(("values", "classes"), [
    ([0, 2, 1], -1), ([[0, 1]], 4), (1, 3), (np.zeros((0, 2)), 4), ([0], 1),
])  # fmt: skip
def test_one_hot(values, classes):
    values = np.array(values, np.int64)
    got, expected = functional.one_hot(pg.tensor(values), classes), F.one_hot(torch.tensor(values), classes)
    assert_equal([got.array], [expected.numpy()])


@pytest.mark.parametrize(("values", "classes"), [([0, 2], 2), ([-1], 3), ([0.0], 2), (np.zeros(0, int), -1), ([0], 0)])
def test_one_hot_refuses(values, classes):
    with pytest.raises(RuntimeError):
        F.one_hot(torch.tensor(values), classes)
    with pytest.raises(RuntimeError):
        functional.one_hot(pg.tensor(values), classes)


@pytest.mark.parametrize(("name", "arguments", "method"), SHARING, ids=ids(SHARING))
def test_float32_is_kept(name, arguments, method):
    small = [np.asarray(x, np.float32) for x in arrays_of(arguments)]
    check_twins(calls(name, pg, arguments, {}, method), calls(name, torch, arguments, {}, method), small)


def test_integers_and_booleans_move_too():
    for x in (np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 4) % 2 == 0):
        for function in (
            lambda x: x.flip(0), lambda x: x.roll(1), lambda x: x.tril(), lambda x: x.diagonal(),
            lambda x: x.repeat(2, 2), lambda x: x.unfold(1, 2, 1), lambda x: x.masked_fill(x > 0, 0),
            lambda x: x[0].diag(), lambda x: x.mH,            lambda x: x.gather(1, (x > 0).long()),
        ):  # fmt: skip
            got, expected = function(pg.tensor(copy.copy(x))), function(torch.tensor(x))
            assert_equal([got.array], [expected.numpy()])
