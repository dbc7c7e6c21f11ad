"""Products of vectors, matrices and tensors, einsum and distances against torch: values, gradients, dtypes, errors."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as torch_functional

import pargrad as pg
import pargrad.nn.functional as functional
from pargrad import autograd, rules
from pargrad.operators import products
from tests.agreement_torch import check_both, check_twins
from tests.checks import assert_equal, check_derivative, run
from tests.higher import assert_as_finite, second_gradients

pytestmark = pytest.mark.filterwarnings("ignore:Using torch.cross without:UserWarning")
DTYPES = [np.float32, np.float64, np.complex128]
every = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
both = pytest.mark.parametrize("dtype", DTYPES[:2], ids=lambda dtype: np.dtype(dtype).name)


def drawn(*shapes, dtype=np.float64, seed=0):
    """An array of each shape, between -2 and 2."""
    generator = np.random.default_rng([seed, len(shapes)])
    for shape in shapes:
        x = generator.uniform(-2, 2, shape)
        if np.dtype(dtype).kind == "c":
            x = x + 1j * generator.uniform(-2, 2, shape)
        elif np.dtype(dtype).kind in "iub":
            x = generator.integers(0, 2 if dtype is bool else 5, shape)
        yield np.asarray(x).astype(dtype)


def named(name, **settings):
    def function(library, *tensors):
        return getattr(library, name)(*tensors, **settings)

    return function


# name, shapes, settings
VECTORS_AND_MATRICES = [
    ("mm", [(2, 3), (3, 4)], {}), ("mm", [(0, 3), (3, 2)], {}), ("mm", [(2, 0), (0, 3)], {}),
    ("bmm", [(4, 2, 3), (4, 3, 5)], {}), ("bmm", [(0, 2, 3), (0, 3, 2)], {}),
    ("mv", [(2, 3), (3,)], {}), ("mv", [(2, 0), (0,)], {}),
    ("dot", [(5,), (5,)], {}), ("dot", [(0,), (0,)], {}), ("vdot", [(5,), (5,)], {}),
    ("inner", [(5,), (5,)], {}), ("inner", [(2, 3), (4, 3)], {}), ("inner", [(2, 1, 3), (3,)], {}),
    ("inner", [(), (2, 3)], {}), ("inner", [(3,), ()], {}), ("inner", [(2, 0), (3, 0)], {}),
    ("outer", [(3,), (4,)], {}), ("outer", [(0,), (4,)], {}), ("ger", [(3,), (2,)], {}),
    ("kron", [(2, 3), (4, 5)], {}), ("kron", [(3,), (2, 2)], {}), ("kron", [(2, 1, 2), (3,)], {}),
    ("kron", [(), (2, 3)], {}), ("kron", [(0, 2), (3, 2)], {}),
    ("trace", [(3, 3)], {}), ("trace", [(2, 4)], {}), ("trace", [(0, 0)], {}),
    ("matmul", [(3,), (3,)], {}), ("matmul", [(2, 1, 2, 3), (4, 3, 2)], {}), ("matmul", [(3,), (4, 3, 2)], {}),
    ("matmul", [(4, 2, 3), (3,)], {}),
    ("cross", [(4, 3), (4, 3)], {"dim": 1}), ("cross", [(3, 4), (3, 4)], {"dim": -2}),
    ("cross", [(1, 3), (4, 3)], {"dim": -1}), ("cross", [(3, 3), (3, 3)], {}), ("cross", [(2, 3, 3), (2, 3, 1)], {}),
    ("cross", [(3,), (3,)], {}), ("cross", [(0, 3), (0, 3)], {}),
    *(("tensordot", [(2, 3, 4), (3, 4, 5)], {"dims": dims}) for dims in (2, ((1, 2), (0, 1)), ([-1, 1], [1, -3]))),
    ("tensordot", [(2, 3, 4), (4, 3, 5)], {"dims": ([1, 2], [1, 0])}), ("tensordot", [(3,), (3,)], {"dims": 1}),
    ("tensordot", [(2, 3), (4,)], {"dims": 0}), ("tensordot", [(2, 1), (3, 2)], {"dims": 1}),
    ("tensordot", [(2, 3), (2, 3)], {"dims": 2}), ("tensordot", [(), ()], {"dims": 0}),
    ("tensordot", [(2, 0), (0, 3)], {"dims": 1}),
]  # fmt: skip
SCALES = [{}, {"beta": 2, "alpha": -3}, {"beta": 0.5, "alpha": 0.25}, {"beta": 0}]
ADDED = [
    ("addmm", [[(2, 4), (4,), (2, 1), ()], (2, 3), (3, 4)]),
    ("addmv", [[(2,), (1,), ()], (2, 3), (3,)]),
    ("addr", [[(2, 3), (3,), (2, 1), ()], (2,), (3,)]),
    ("baddbmm", [[(5, 2, 4), (2, 4), (5, 1, 1)], (5, 2, 3), (5, 3, 4)]),
    ("addbmm", [[(2, 4), (1, 4), ()], (5, 2, 3), (5, 3, 4)]),
]
ADDED_CASES = [
    (name, [first, *rest], scales)
    for name, (firsts, *rest) in ADDED
    for first, scales in [*itertools.product(firsts[:1], SCALES), *itertools.product(firsts[1:], SCALES[1:2])]
]
ADDED_IN_PLACE = [(name, [firsts[0], *rest], {"beta": 2, "alpha": -3}) for name, (firsts, *rest) in ADDED]
ADDED_IN_PLACE += [("renorm", [(3, 4)], {"p": 2, "dim": 1, "maxnorm": 1.0})]
EMPTY = [("addbmm", [(2, 2), (0, 2, 3), (0, 3, 2)], {}), ("addmm", [(2,), (3, 0), (0, 2)], {"beta": 2})]


@pytest.mark.parametrize("dtype", [*DTYPES, np.complex64], ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize(("name", "shapes", "settings"), VECTORS_AND_MATRICES + ADDED_CASES + EMPTY, ids=str)
def test_products(name, shapes, settings, dtype):
    arrays = list(drawn(*shapes, dtype=dtype))
    check_both(named(name, **settings), arrays)
    if name not in products.NOT_METHODS:
        values, _ = run(pg, lambda x, *rest: getattr(x, name)(*rest, **settings), arrays)
        assert_equal(values, run(pg, lambda *xs: named(name, **settings)(pg, *xs), arrays)[0])


@both
@pytest.mark.parametrize(("name", "shapes", "settings"), ADDED_IN_PLACE, ids=str)
def test_in_place(name, shapes, settings, dtype):
    def function(library, x, *rest):
        out = x * 1
        assert getattr(out, f"{name}_")(*rest, **settings) is out
        return out

    check_both(function, list(drawn(*shapes, dtype=dtype)))


WHOLE = [
    (name, shapes, settings)
    for name, shapes, settings in VECTORS_AND_MATRICES + ADDED_CASES
    if not any(type(x) is float for x in settings.values()) and shapes != [(2, 1), (3, 2)]
]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(("name", "shapes", "settings"), WHOLE, ids=str)
def test_products_of_integers(name, shapes, settings, dtype):
    if dtype is np.uint8 and settings.get("alpha", 0) < 0:
        settings = settings | {"alpha": 3}
    check_both(named(name, **settings), list(drawn(*shapes, dtype=dtype)))


@pytest.mark.parametrize(("name", "shapes"), [
    ("outer", [(2,), (3,)]), ("kron", [(2,), (3, 1)]), ("addr", [(2, 3), (2,), (3,)]), ("inner", [(), (3,)]),
])  # fmt: skip
def test_products_of_booleans(name, shapes):
    check_both(named(name), list(drawn(*shapes, dtype=bool)))


@pytest.mark.parametrize("name", ["outer", "kron", "addr"])
@pytest.mark.parametrize("dtypes", list(itertools.permutations([np.int64, np.float32, np.complex128], 2)))
def test_elementwise_products_promote(name, dtypes):
    shapes = [(2, 3), (2,), (3,)][0 if name == "addr" else 1 :]
    kinds = (dtypes * 2)[: len(shapes)]
    arrays = [x for shape, dtype in zip(shapes, kinds) for x in drawn(shape, dtype=dtype)]
    if name != "addr":
        check_both(named(name), arrays)
    else:  # torch's backward cannot
        assert_equal([pg.addr(*arrays).numpy()], [torch.addr(*map(torch.tensor, arrays)).numpy()])


@every
def test_an_input_times_zero_is_not_looked_at_and_has_the_gradient_zero(dtype):
    x, *rest = drawn((2, 2), (2, 3), (3, 2), dtype=dtype)
    check_both(named("addmm", beta=0), [np.full_like(x, np.nan), *rest])


SHAPES_OF_VECDOT = [([(4, 3), (4, 3)], -1), ([(3,), (3,)], 0), ([(2, 1, 3), (4, 3)], -1), ([(2, 4), (4,)], 0)]


@every
@pytest.mark.parametrize(("shapes", "dim"), SHAPES_OF_VECDOT, ids=str)
def test_vecdot(shapes, dim, dtype):
    arrays = list(drawn(*shapes, dtype=dtype))
    check_twins(lambda x, y: products.vecdot(x, y, dim=dim), lambda x, y: torch.linalg.vecdot(x, y, dim=dim), arrays)


@every
@pytest.mark.parametrize(("shapes", "dim"), [([(4, 3), (1, 3)], -1), ([(3, 2), (3, 1)], 0)], ids=str)
def test_cross_along_a_dim(shapes, dim, dtype):
    arrays = list(drawn(*shapes, dtype=dtype))
    check_twins(
        lambda x, y: products.cross_along(x, y, dim=dim), lambda x, y: torch.linalg.cross(x, y, dim=dim), arrays
    )


# ----- einsum -----

EQUATIONS = [
    # one operand
    ("i->i", [(3,)]), ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("ij->j", [(2, 3)]), ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]), ("iij->ji", [(2, 2, 3)]), ("iji->j", [(3, 2, 3)]), ("iiijj->ji", [(2, 2, 2, 3, 3)]),
    ("...ij->...ji", [(2, 4, 3)]), ("...ii->...", [(2, 4, 3, 3)]), ("...ii", [(2, 3, 3)]), ("...->...", [()]),
    ("i...->...", [(3, 2)]), ("i...->i", [(3, 2, 2)]), ("...", [(2, 3)]), ("ba", [(2, 3)]), ("bA", [(2, 3)]),
    ("", [()]), ("->", [()]), ("i j -> j i", [(2, 3)]), ("ij->...ij", [(2, 3)]), ("ij->i", [(2, 0)]),
    # two
    ("i,i", [(3,), (3,)]), ("i,j", [(3,), (2,)]), ("i,j->ji", [(3,), (2,)]), ("i,i->i", [(3,), (3,)]),
    ("ij,jk", [(2, 3), (3, 4)]), ("ij,jk->ki", [(2, 3), (3, 4)]), ("ij,kj->ik", [(2, 3), (4, 3)]),
    ("ji,jk->ik", [(3, 2), (3, 4)]), ("ij,j->i", [(2, 3), (3,)]), ("ij,ij", [(2, 3), (2, 3)]),
    ("ij,ij->i", [(2, 3), (2, 3)]), ("ij,ji->", [(2, 3), (3, 2)]), ("ij,k->", [(2, 3), (2,)]),
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]), ("bij,bkj->bik", [(5, 2, 3), (5, 4, 3)]),
    ("ijb,jkb->ikb", [(2, 3, 5), (3, 4, 5)]), ("bqhd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 4, 5)]),
    ("bhqk,bkhd->bqhd", [(2, 4, 3, 6), (2, 6, 4, 5)]), ("abcd,cdef->abef", [(2, 3, 2, 3), (2, 3, 4, 2)]),
    ("abc,cb->a", [(2, 3, 4), (4, 3)]), ("pq,rs->", [(2, 3), (3, 2)]), ("ii,i->i", [(3, 3), (3,)]),
    ("...ij,...jk->...ik", [(2, 1, 2, 3), (5, 3, 4)]), ("...ij,jk", [(5, 2, 3), (3, 4)]),
    ("i...,j...", [(2, 3), (4, 3)]), ("i...,i...->...", [(2, 3), (2, 1)]), ("...,...", [(2, 3), (3,)]),
    ("...i,...i->i", [(2, 3), (4, 2, 3)]), (",ij", [(), (2, 3)]), ("ij,->ji", [(2, 3), ()]), ("B,a", [(2,), (3,)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]), ("ij,ij->ij", [(1, 3), (2, 3)]), ("bij,bjk->bik", [(1, 2, 3), (5, 3, 4)]),
    ("ij,jk->ik", [(2, 3), (1, 4)]), ("ij,jk->ik", [(2, 0), (0, 4)]), ("ij,jk->ik", [(0, 3), (3, 4)]),
    ("aab,bcc->ac", [(2, 2, 3), (3, 4, 4)]),
    # more
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]), ("i,j,k->kij", [(2,), (3,), (4,)]), ("i,i,i->i", [(3,), (3,), (3,)]),
    ("bn,anm,bm->ba", [(2, 3), (4, 3, 5), (2, 5)]), ("ij,ik,il->jkl", [(2, 3), (2, 3), (2, 3)]),
    ("ea,fb,abcd,gc,hd->efgh", [(2, 3), (2, 3), (3, 3, 3, 3), (2, 3), (2, 3)]), ("i,i,i", [(3,), (3,), (3,)]),
    ("...i,i,ij->...j", [(2, 4, 3), (3,), (3, 2)]), ("ij,jk,ik->i", [(2, 3), (3, 4), (2, 4)]),
]  # fmt: skip


@every
@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=str)
def test_einsum(equation, shapes, dtype):
    arrays = list(drawn(*shapes, dtype=dtype))
    check_both(lambda library, *tensors: library.einsum(equation, *tensors), arrays)
    if dtype == np.float64:
        check_both(lambda library, *tensors: library.einsum(equation, list(tensors)), arrays)


LISTS = [
    ([(2, 3)], [[1, 0]], None), ([(2, 3)], [[51, 0]], None), ([(2, 3), (3, 4)], [[0, 1], [1, 2]], [0, 2]),
    ([(2, 3), (3, 4)], [(7, 30), (30, 9)], None), ([(2, 3, 4), (4, 5)], [[..., 0], [0, 1]], [..., 1]),
    ([(2, 3, 4), (4, 5)], [[..., 0], [0, 1]], None), ([(3, 3)], [[4, 4]], [4]), ([(3, 3)], [[4, 4]], []),
]  # fmt: skip


@both
@pytest.mark.parametrize(("shapes", "lists", "output"), LISTS, ids=str)
def test_einsum_of_lists_of_labels(shapes, lists, output, dtype):
    last = [] if output is None else [output]

    def function(library, *tensors):
        return library.einsum(*itertools.chain(*zip(tensors, lists)), *last)

    check_both(function, list(drawn(*shapes, dtype=dtype)))


@pytest.mark.parametrize("dtype", [np.int64, np.int32], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("ij,jk->ik", [(2, 3), (3, 4)]), ("ij->", [(2, 3)]), ("ii->i", [(2, 2)]), ("ij,ij->ij", [(2, 3)] * 2)],
    ids=str,
)
def test_einsum_of_integers(equation, shapes, dtype):
    check_both(lambda library, *tensors: library.einsum(equation, *tensors), list(drawn(*shapes, dtype=dtype)))


def test_einsum_of_booleans():
    x, y = drawn((3, 3), (3, 3), dtype=bool)
    check_both(lambda library, x: library.einsum("ii", x), [x])
    check_both(lambda library, x, y: library.einsum("ij,ij->ij", x, y), [x, y])


def test_einsum_gives_views_where_nothing_is_computed():
    x = pg.zeros(3, 3)
    for equation in ("ij->ji", "ii->i", "ij->ij"):
        assert np.shares_memory(pg.einsum(equation, x).numpy(), x.numpy())


@pytest.mark.parametrize(("equation", "shapes"), [
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]), ("bij,bkj->bik", [(5, 2, 3), (5, 4, 3)]),
    ("ij,jk", [(2, 3), (3, 4)]), ("...ij,...jk->...ik", [(2, 1, 2, 3), (5, 3, 4)]), ("i,i", [(3,), (3,)]),
])  # fmt: skip
def test_einsum_is_a_matrix_product_where_it_can_be(equation, shapes, monkeypatch):
    seen = []

    def spy(name, *inputs, **settings):
        seen.append(name)
        return spied(name, *inputs, **settings)

    spied = products.call
    monkeypatch.setattr(products, "call", spy)
    pg.einsum(equation, *map(pg.tensor, drawn(*shapes)))
    assert seen.count("matmul") == 1
    assert set(seen) <= {"matmul", "permute", "reshape"}
    assert equation == "i,i" or "reshape" not in seen


# ----- distances -----

ORDERS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, float("inf")]
EXACTLY = {"compute_mode": "donot_use_mm_for_euclid_dist"}  # torch's other way loses digits


@both
@pytest.mark.parametrize("p", ORDERS)
@pytest.mark.parametrize("shapes", [[(4, 3), (5, 3)], [(2, 1, 4, 3), (3, 5, 3)], [(2, 0), (3, 0)], [(0, 2), (3, 2)]])
def test_cdist(shapes, p, dtype):
    check_both(lambda library, x, y: library.cdist(x, y, p, **EXACTLY), list(drawn(*shapes, dtype=dtype)))


@both
@pytest.mark.parametrize("p", ORDERS)
def test_distances_at_zero_and_at_ties(p, dtype):
    x = np.array([[1, 2, 0], [1, 2, 0], [1, 3, 1], [0, 1, 1]], dtype)
    check_both(lambda library, x: library.cdist(x, x, p, **EXACTLY), [x])
    check_both(lambda library, x: library.pdist(x, p), [x])


@both
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_pdist(rows, dtype):
    for p in ORDERS:
        check_both(named("pdist", p=p), list(drawn((rows, 3), dtype=dtype)))


@pytest.mark.parametrize("size", [1, 7, 20])
def test_cdist_of_several_blocks(size, monkeypatch):
    monkeypatch.setattr(rules.products, "BLOCK", size)
    check_both(lambda library, x, y: library.cdist(x, y, **EXACTLY), list(drawn((2, 1, 5, 2), (3, 4, 2))))


def test_pdist_of_no_rows():
    """torch's backward ends the process."""
    x = pg.zeros(0, 3, requires_grad=True)
    out = pg.pdist(x)
    out.sum().backward()
    assert (out.shape, x.grad.shape, torch.pdist(torch.zeros(0, 3)).shape) == ((0,), (0, 3), (0,))


def test_cdist_keeps_digits_that_torchs_matrix_product_loses():
    x = np.random.default_rng(0).uniform(1000, 1001, (30, 3)).astype(np.float32)
    exact = np.sqrt(((x[:, None].astype(np.float64) - x) ** 2).sum(-1))
    np.testing.assert_allclose(pg.cdist(pg.tensor(x), pg.tensor(x)).numpy(), exact, rtol=1e-6)
    assert np.abs(torch.cdist(torch.tensor(x), torch.tensor(x)).numpy() - exact).max() > 1e-3


@both
@pytest.mark.parametrize(
    "settings", [{}, {"p": 1.0}, {"p": 3.0, "eps": 0.1}, {"keepdim": True}, {"p": np.inf}], ids=str
)
@pytest.mark.parametrize("shapes", [[(4, 3), (4, 3)], [(3,), (4, 3)], [(2, 1, 3), (4, 3)], [(3,), (3,)]], ids=str)
def test_pairwise_distance(shapes, settings, dtype):
    check_both(named("pairwise_distance", **settings), list(drawn(*shapes, dtype=dtype)))


@both
@pytest.mark.parametrize(("shapes", "settings"), [
    ([(4, 3), (4, 3)], {}), ([(4, 3), (1, 3)], {"dim": -1}), ([(4, 1), (3,)], {}), ([(3,), (3,)], {"dim": 0}),
    ([(2, 3, 4), (2, 1, 4)], {"dim": 2}), ([(4, 3), (4, 3)], {"eps": 5.0}), ([(4, 3), (4, 3)], {"eps": 2.0}),
], ids=str)  # fmt: skip
def test_cosine_similarity(shapes, settings, dtype):
    check_both(named("cosine_similarity", **settings), list(drawn(*shapes, dtype=dtype)))


@both
def test_cosine_similarity_of_nothing(dtype):
    x = np.array([[0, 0], [1, 2], [1e-12, 0]], dtype)
    check_both(named("cosine_similarity"), [x, np.ones_like(x)])


def test_similarities_promote():
    x, y = next(drawn((2, 3), dtype=np.float32)), next(drawn((2, 3)))
    for name in ("cosine_similarity", "pairwise_distance"):
        check_both(named(name), [x, y])
        check_both(named(name), [x, np.arange(6).reshape(2, 3)])


@every
@pytest.mark.parametrize("p", [0.5, 1, 2, 3.0, float("inf")])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_renorm(p, dim, dtype):
    x = next(drawn((2, 3, 4), dtype=dtype))
    x[0, 0], x[1, :, 1] = 0, 1e-3
    for maxnorm in (0, 2.0, 100.0):
        check_both(named("renorm", p=p, dim=dim, maxnorm=maxnorm), [x])


@both
@pytest.mark.parametrize("shapes", [
    [(4, 2), (4, 3), (5, 2, 3), (5,)], [(4, 2), (4, 3), (5, 2, 3)], [(2,), (3,), (5, 2, 3), (5,)],
    [(6, 4, 2), (6, 4, 3), (1, 2, 3), (1,)], [(0, 2), (0, 3), (5, 2, 3), (5,)],
], ids=str)  # fmt: skip
def test_bilinear(shapes, dtype):
    check_both(named("bilinear"), list(drawn(*shapes, dtype=dtype)))


def test_functional_has_them_too():
    for name in ("bilinear", "cosine_similarity", "pairwise_distance", "pdist"):
        assert getattr(functional, name) is getattr(pg, name)
        assert hasattr(torch_functional, name)


# ----- derivatives, names, errors -----


def test_derivatives_are_those_that_differences_find():
    arrays = list(drawn((2, 3), (3, 4), (4, 2)))
    assert check_derivative(lambda *xs: pg.einsum("ij,jk,ki->k", *xs), arrays) == 3
    for p in (1.5, 2.0, 4.0):
        assert check_derivative(lambda x, y, p=p: pg.cdist(x, y, p), list(drawn((3, 2), (4, 2)))) == 2
    assert check_derivative(lambda x: pg.renorm(x, 2, 0, 0.5), arrays[:1]) == 1


SECOND = [
    *((named(name, **settings), shapes) for name, shapes, settings in VECTORS_AND_MATRICES + ADDED_CASES),
    *((lambda library, *xs, by=equation: library.einsum(by, *xs), shapes) for equation, shapes in EQUATIONS),
    *((named("pairwise_distance", p=p), [(4, 3), (1, 3)]) for p in (1.0, 2.0, 3.0)),
    *((named("renorm", p=p, dim=0, maxnorm=1.0), [(3, 4)]) for p in (1, 2, 3.0)),
    (named("cosine_similarity"), [(4, 3), (1, 3)]), (named("bilinear"), [(4, 2), (4, 3), (5, 2, 3), (5,)]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "shapes"), SECOND, ids=range(len(SECOND)))
def test_second_derivatives(function, shapes):
    arrays = list(drawn(*shapes))
    got = second_gradients(pg, lambda *xs: function(pg, *xs), arrays)
    expected = second_gradients(torch, lambda *xs: function(torch, *xs), arrays)
    assert_as_finite(got, expected, 1e-11)


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_second_derivatives_of_distances_which_torch_has_not(p):
    def gradients(x, y):
        x, y = (each if each.requires_grad else each.requires_grad_() for each in (x, y))
        return autograd.grad((pg.cdist(x, y, p) ** 2).sum() + pg.pdist(x, p).sum(), [x, y], create_graph=True)

    assert check_derivative(lambda x, y: tuple(gradients(x, y)), list(drawn((3, 2), (4, 2)))) == 2


def test_torch_has_every_name_in_the_same_places():
    for name in products.FUNCTIONS:
        assert hasattr(torch, name)
        assert getattr(pg, name) is products.FUNCTIONS[name]
        assert hasattr(torch.Tensor, name) == hasattr(pg.Tensor, name)
        assert hasattr(torch.Tensor, f"{name}_") == hasattr(pg.Tensor, f"{name}_")
    assert not hasattr(pg, "distance")


NUMPYS = [
    (lambda x, y: np.einsum("ij,kj->ik", x, y), [(2, 3), (4, 3)]), (np.inner, [(2, 3), (4, 3)]),
    (np.kron, [(2, 3), (4, 3)]), (np.outer, [(2, 3), (4,)]), (np.vdot, [(2, 3), (2, 3)]),
    (lambda x, y: np.tensordot(x, y, axes=1), [(2, 3), (3, 4)]), (np.tensordot, [(5, 2, 3), (2, 3, 4)]),
    (lambda x, y: np.tensordot(x, y, axes=([0], [1])), [(2, 3), (4, 2)]),
    (lambda x, y: np.tensordot(x, y, axes=(0, 1)), [(2, 3), (4, 2)]),
    (lambda x, y: np.trace(x, 1, 0, 2) + np.trace(y), [(3, 2, 3), (3, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "shapes"), NUMPYS, ids=range(len(NUMPYS)))
def test_numpys_functions_do_on_tensors_what_they_do_on_arrays(function, shapes):
    arrays = list(drawn(*shapes))
    (value,), gradients = run(pg, function, arrays)
    assert_equal([value], [function(*arrays)])
    assert all(gradient is not None for gradient in gradients)


F, V, I = np.ones((2, 3)), np.ones(3), np.ones((2, 3), np.int64)  # noqa: E741
ERRORS = [
    ("mm", [F, V], "mm: expected a matrix, got shape"), ("mm", [F, F], r"matmul\(float64\[2, 3\], float64\[2, 3\]\)"),
    ("mm", [F, I.T], "expected tensors of one dtype"), ("mm", [I > 0, I.T > 0], "booleans"),
    ("matmul", [I[0] > 0, I[0] > 0], "booleans"), ("matmul", [np.ones(()), V], "matmul"),
    ("bmm", [F, F], "bmm: expected a batch"), ("bmm", [np.ones((2, 1, 1)), np.ones((1, 1, 1))], "as many matrices"),
    ("mv", [F, F.T], "mv: expected a vector"), ("mv", [V, V], "mv: expected a matrix"), ("dot", [F, F], "dot: ex"),
    ("dot", [V, V[:2]], "matmul"), ("dot", [V, V[:1]], "matmul"), ("dot", [V, I[0]], "expected tensors of one dtype"),
    ("vdot", [F, F], "vdot: expected"), ("outer", [F, V], "outer: expected a vector"), ("inner", [F, V[:2]], "inner"),
    ("trace", [V], "trace: expected a matrix"), ("trace", [F > 0], "trace: expected numbers, got booleans"),
    ("addmm", [np.ones(4), F, F.T], "does not broadcast"), ("addmm", [np.ones((1, 1, 2, 2)), F, F.T], "does not broad"),
    ("addmm", [I[:, :2], F, F.T], "addmm: expected tensors of one dtype, got float64 and int64"),
    ("addbmm", [F, np.ones((2, 2, 3)), np.ones((1, 3, 3))], "addbmm: matrices of shapes"),
    ("cross", [F, V], "as many dimensions"), ("cross", [F, I], "one dtype"), ("cross", [F[:, :2]] * 2, "of length 3"),
    ("cross", [I > 0, I > 0], "booleans"),
    ("cdist", [I, I], "cdist: expected a floating-point tensor, got int64"), ("cdist", [V, V], "rows of one length"),
    ("cdist", [F, F[:, :2]], "rows of one length"), ("cdist", [F, F, -1], "a p of 0 or more, got -1"),
    ("cdist", [F, F.astype(np.float32)], "one dtype"),
    ("cdist", [F + 0j, F + 0j], "expected a floating-point tensor, got complex128"),
    ("pdist", [I], "floating-point"), ("pdist", [V], "expected a matrix"), ("pdist", [F, -1.0], "a p of 0 or more"),
    ("cosine_similarity", [I, I], "floating-point"), ("renorm", [V, 2, 0, 1.0], "at least 2 dimensions"),
    ("renorm", [F, 0, 0, 1.0], "p above 0"), ("renorm", [F, 2, 0, -1.0], "maxnorm of 0"),
    ("renorm", [I, 2, 0, 1.0], "floating-point"),
    ("bilinear", [F, F[:1], np.ones((1, 3, 3))], "bilinear: expected inputs"), ("bilinear", [F, F, F], "bilinear"),
    ("bilinear", [F, F, np.ones((1, 3, 2))], "bilinear: expected inputs of shapes"),
    ("tensordot", [F, F, 3], "expected dims from 0 to 2, got 3"), ("tensordot", [F, F, -1], "dims from 0 to 2, got -1"),
    ("tensordot", [F, F, ([0], [1])], "differ in length"), ("tensordot", [F, F, ([0], [0, 1])], "as many dims"),
    ("tensordot", [F, F, ([0, 0], [0, 1])], "each once"), ("tensordot", [F, F, ([2], [0])], "a dim from -2 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "message"), ERRORS, ids=[f"{e[0]}-{i}" for i, e in enumerate(ERRORS)])
def test_wrong_use_is_refused_as_torch_does(name, arguments, message):
    def put(library):
        return [library.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]

    with pytest.raises((RuntimeError, IndexError), match=message):
        getattr(pg, name)(*put(pg))
    with pytest.raises((RuntimeError, IndexError)):
        getattr(torch, name)(*put(torch))


@pytest.mark.parametrize("name", ["addmm", "addr"])
@pytest.mark.parametrize("settings", [{"alpha": 0.5}, {"beta": 0.5}])
def test_integers_are_not_scaled_by_fractions(name, settings):
    """torch's addmm rounds them down without a word."""
    x = pg.ones(2, 2).long()
    with pytest.raises(RuntimeError, match=f"{name}: expected an integer as {next(iter(settings))}"):
        getattr(pg, name)(x, *((x, x) if name == "addmm" else (x[0], x[0])), **settings)


WRONG_EQUATIONS = [
    ("i->ii", [(2,)], "each once, got 'ii'"), ("i->j", [(2,)], "labels of the operands in the output, each once"),
    ("ii", [(1, 3)], "i has the length 3 in shape"), ("ij,jk", [(2, 2), (3, 2)], "j has the length 3"),
    ("ijk", [(2, 2)], "3 labels do not fit an operand of 2"), ("i", [(2, 2)], "1 labels do not fit"),
    ("ij,jk", [(2, 2)], "expected 2 operands, as the equation has it, got 1"), ("i.j", [(2, 2)], "expected letters"),
    ("......", [(2, 2)], "at most one '...'"), ("i->...i...", [(2,)], "at most one '...'"), ("1j", [(2, 2)], "letters"),
    ("ij...", [(2,)], "2 labels do not fit"), ("i->i->i", [(2,)], "letters"), ("...,...", [(2,), (3,)], "the length"),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes", "message"), WRONG_EQUATIONS, ids=str)
def test_wrong_equations_are_refused(equation, shapes, message):
    with pytest.raises(RuntimeError, match=message):
        pg.einsum(equation, *(pg.ones(*shape) for shape in shapes))
    with pytest.raises(RuntimeError):
        torch.einsum(equation, *(torch.ones(*shape) for shape in shapes))


@pytest.mark.parametrize(("arguments", "message"), [
    (lambda x: ("",), "expected 1 operands"), (lambda x: (x, [52, 0]), "labels from 0 to 51"),
    (lambda x: (x, [-1, 0]), "labels from 0 to 51"), (lambda x: (x, [..., ...]), "at most one Ellipsis"),
    (lambda x: (x, "ij"), "expected a list of labels after each operand, got str"),
    (lambda x: (x,), "expected a list of labels"),
])  # fmt: skip
def test_wrong_lists_are_refused(arguments, message):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        pg.einsum(*arguments(pg.ones(2, 2)))
