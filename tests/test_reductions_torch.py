"""Reductions, scans and sorting against torch: values and gradients, called in every way its documentation has."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pargrad as pg
from tests.agreement_torch import check_both
from tests.checks import assert_equal, both, run

NAN, INF = float("nan"), float("inf")


def call(name, *args, **named):
    """torch.NAME(x, *args, **named), with dtypes and tensors named as both libraries have them."""

    def function(library, *tensors):
        given = {key: getattr(library, value) if key == "dtype" else value for key, value in named.items()}
        return getattr(library, name)(*tensors, *args, **given)

    return function


def random(shape, dtype, seed=0, low=-2.0, high=2.0):
    return np.asarray(np.random.default_rng(seed).uniform(low, high, shape), dtype)


DIMS = [
    ((2, 3), {}),
    ((), {}),
    ((4,), {"dim": 0}),
    ((4,), {"dim": -1, "keepdim": True}),
    ((2, 3, 4), {"dim": 1}),
    ((2, 3, 4), {"dim": -2, "keepdim": True}),
    ((), {"dim": 0}),
    ((), {"dim": -1, "keepdim": True}),
]
SEVERAL = [((2, 3, 4), {"dim": (0, 2)}), ((2, 3, 4), {"dim": [0, -1], "keepdim": True}), ((2, 3), {"dim": ()})]
EMPTY = [((0, 3), {"dim": 1}), ((0, 3), {"dim": 0}), ((2, 0), {"dim": 1, "keepdim": True}), ((0,), {})]
OVER = {
    "sum": [*DIMS, *SEVERAL, *EMPTY],
    "mean": [*DIMS, *SEVERAL, *EMPTY],
    "nansum": [*DIMS, *SEVERAL, *EMPTY],
    "nanmean": [*DIMS, *SEVERAL, *EMPTY],
    "prod": [*(case for case in DIMS), *EMPTY],
    "var": [*DIMS, *SEVERAL[:2], *EMPTY],
    "std": [*DIMS, *SEVERAL[:2], *EMPTY],
    "amax": [case for case in (*DIMS, *SEVERAL) if "dim" in case[1]],
    "aminmax": DIMS,
    "norm": [*DIMS, *SEVERAL, *EMPTY],
    "median": [*DIMS, ((0,), {}), ((0, 3), {"dim": 1})],
    "nanmedian": [*DIMS, ((0,), {}), ((0, 3), {"dim": 1})],
    "mode": [*DIMS, ((0, 3), {"dim": 1})],
    "all": [*DIMS, *SEVERAL, *EMPTY],
    "any": [*DIMS, *SEVERAL, *EMPTY],
    "count_nonzero": [case for case in (*DIMS, *SEVERAL, *EMPTY) if "keepdim" not in case[1]],
}
CASES = [(name, shape, settings) for name, cases in OVER.items() for shape, settings in cases]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@both
@pytest.mark.parametrize(("name", "shape", "settings"), CASES, ids=str)
def test_dims(name, shape, settings, dtype):
    check_both(call(name, **settings), [random(shape, dtype)])


CALLS = [
    ("sum", (2, 3), (), {"dtype": "float64"}),
    ("mean", (2, 3), (), {"dtype": "float64"}),
    ("mean", (2, 3), (1, True), {}),
    ("prod", (2, 3), (), {"dtype": "float64"}),
    ("nansum", (2, 3), (0,), {"dtype": "float64"}),
    ("nanmean", (2, 3), (0,), {"dtype": "float64"}),
    ("cumsum", (2, 3), (0,), {"dtype": "float64"}),
    ("cumprod", (2, 3), (0,), {"dtype": "float64"}),
    *((name, shape, (dim,), {}) for name in ("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
      for shape, dim in (((2, 3), 0), ((2, 3, 4), -2), ((5,), -1), ((), 0), ((0, 2), 0), ((2, 0), 1))),
    *((name, (2, 3, 4), args, named) for name in ("var", "std", "var_mean", "std_mean") for args, named in (
        ((), {}), ((True,), {}), ((False,), {}), ((1,), {}), ((1, False), {}), ((1, True, True), {}),
        (((0, 1),), {"correction": 0}), ((), {"correction": 2}), ((), {"dim": 1, "correction": 0.5, "keepdim": True}),
        ((-1,), {"unbiased": False}), ((), {"dim": 1, "correction": 3}), ((), {"dim": 1, "correction": 4}))),
    *(("norm", shape, (p,), named) for p in (0.5, 1, 1.5, 2, 3, INF, -INF, -1, -2.5, "fro") for shape, named in (
        ((2, 3), {}), ((2, 3, 4), {"dim": 1}), ((2, 3, 4), {"dim": (0, 2), "keepdim": True}), ((), {}))),
    ("norm", (2, 3), (2,), {"dtype": "float64"}),
    ("norm", (0, 3), (1,), {"dim": 0}),
    ("sort", (3, 4), (), {}),
    ("sort", (3, 4), (0, True), {}),
    ("sort", (3, 4), (), {"dim": 0, "stable": True}),
    ("sort", (3, 4), (), {"dim": -1, "descending": True, "stable": True}),
    ("sort", (), (), {}),
    ("sort", (0, 3), (), {"dim": 0}),
    ("argsort", (3, 4), (), {}),
    ("argsort", (3, 4), (0, True), {}),
    ("argsort", (), (), {}),
    ("argsort", (3, 4), (), {"dim": 0, "descending": True, "stable": True}),
    ("msort", (3, 4), (), {}),
    ("msort", (5,), (), {}),
    ("topk", (3, 5), (2,), {}),
    ("topk", (5, 3), (2, 0), {}),
    ("topk", (5, 3), (2,), {"dim": 0, "largest": False, "sorted": True}),
    ("topk", (3,), (0,), {}),
    ("topk", (), (1,), {}),
    ("topk", (), (0,), {}),
    ("kthvalue", (3, 5), (2,), {}),
    ("kthvalue", (5, 3), (3, 0, True), {}),
    ("kthvalue", (5,), (5,), {"dim": -1}),
    ("kthvalue", (), (1,), {}),
    ("median", (3, 4), (1,), {}),
    ("median", (3, 4), (0, True), {}),
    ("mode", (3, 4), (), {}),
    ("mode", (3, 4), (0, True), {}),
    *(("diff", (4, 3), (), named) for named in ({}, {"n": 2}, {"n": 0}, {"dim": 0}, {"n": 5}, {"n": 3, "dim": 0})),
    ("diff", (1,), (), {}),
    ("diff", (0,), (), {}),
    *((name, (3, 4), (), named) for name in ("trapezoid", "cumulative_trapezoid") for named in (
        {}, {"dx": 0.5}, {"dim": 0}, {"dx": 2, "dim": -2})),
    ("trapezoid", (1,), (), {}),
    *((name, (3, 5), (q,), named) for name in ("quantile", "nanquantile") for q in (0.0, 0.3, 0.5, 1.0) for named in (
        {}, {"dim": 1}, {"dim": 0, "keepdim": True}, {"keepdim": True},
        *({"dim": -1, "interpolation": how} for how in ("linear", "lower", "higher", "midpoint", "nearest")))),
    ("quantile", (), (0.3,), {}),
    ("quantile", (), (0.3,), {"dim": 0}),
    ("cov", (3, 5), (), {}),
    ("cov", (3, 5), (), {"correction": 0}),
    ("cov", (5,), (), {}),
    ("cov", (1, 5), (), {}),
    ("corrcoef", (3, 5), (), {}),
    ("corrcoef", (5,), (), {}),
    ("unique", (3, 5), (), {}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@both
@pytest.mark.parametrize(("name", "shape", "args", "named"), CALLS, ids=str)
def test_calls(name, shape, args, named, dtype):
    array = random(shape, dtype)
    if name == "unique":
        check_both(lambda library, x: library.unique(x.detach(), *args, **named), [array])
    else:
        # Powers and corrections of several roundings.
        loose = {np.float32: 2e-5, np.float64: 1e-11}[dtype] if name in ("norm", "cov", "corrcoef") else None
        check_both(call(name, *args, **named), [array], loose)


@both
@pytest.mark.parametrize("method", [
    lambda x: x.sum(1), lambda x: x.prod(0), lambda x: x.std(), lambda x: x.var(1, keepdim=True), lambda x: x.norm(),
    lambda x: x.norm(1, dim=0), lambda x: x.median(), lambda x: x.median(1).values, lambda x: x.sort(1).indices,
    lambda x: x.topk(2).values, lambda x: x.kthvalue(1).indices, lambda x: x.cumsum(0), lambda x: x.cummax(1).values,
    lambda x: x.aminmax().max, lambda x: x.aminmax(dim=1).min, lambda x: x.quantile(0.4), lambda x: x.diff(),
    lambda x: x.nanmean(), lambda x: x.count_nonzero(), lambda x: x.mode().values, lambda x: x.cov(),
    lambda x: x.corrcoef(), lambda x: x.argsort(), lambda x: x.msort(), lambda x: x.logcumsumexp(1),
    lambda x: x.histc(4, -2, 2) if not x.requires_grad else x.detach().histc(4, -2, 2), lambda x: x.detach().unique(),
])  # fmt: skip
def test_methods_and_named_values(method, dtype):
    check_both(lambda library, x: method(x), [random((3, 4), dtype)], {np.float32: 5e-6, np.float64: 1e-12}[dtype])


def test_what_is_no_method_of_torchs_is_none_here():
    for name in ("trapezoid", "cumulative_trapezoid", "var_mean", "std_mean"):
        assert not hasattr(pg.Tensor, name)
        assert not hasattr(torch.Tensor, name)


TIES = [[2.0, 1.0, 2.0, 1.0], [0.0, -0.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0]]
MISSING = [[1.0, NAN, 2.0, 0.0], [NAN, NAN, NAN, NAN], [INF, -INF, 0.0, 1.0]]
ZEROS = [[2.0, 0.0, 3.0, 4.0], [0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
KINKS = [
    *((name, ZEROS, args, {}) for name in ("prod", "cumprod") for args in ((0,), (1,))),
    ("prod", ZEROS, (), {}),
    ("prod", [2.0, 0.0, 3.0], (), {}),
    ("cumprod", 0.0, (0,), {}),
    ("cumprod", [1.0, NAN, 2.0], (0,), {}),
    *(("norm", ZEROS, (p,), {"dim": 1}) for p in (0.5, 1, 1.5, 2, 2.5, INF, -INF, -1, -0.5)),
    *(("norm", TIES, (p,), {"dim": 1}) for p in (INF, -INF)),
    *(("norm", MISSING[:2], (p,), {"dim": 1}) for p in (1, 2, 3)),
    *(("norm", MISSING, (p,), {"dim": 1}) for p in (INF, -INF)),
    *((name, ZEROS, (), {"dim": 1}) for name in ("std", "var")),
    *((name, [[1.0], [2.0]], (), {"dim": 1}) for name in ("std", "var")),
    *((name, [1.0], (), {}) for name in ("std", "var", "std_mean", "var_mean")),
    *((name, 1.0, (), {}) for name in ("std", "var")),
    *((name, [[1.0], [2.0]], (), {"dim": 1, "correction": 0}) for name in ("std", "var")),
    *((name, MISSING, (), {"dim": 1}) for name in ("std", "var", "nansum", "nanmean", "sum", "aminmax", "prod")),
    *((name, MISSING, (), {}) for name in ("nansum", "nanmean", "median", "nanmedian", "aminmax")),
    *((name, TIES, (), {}) for name in ("median", "nanmedian", "aminmax")),
    ("aminmax", TIES, (), {"dim": 1}),
    *((name, MISSING, (), {"dim": 1}) for name in ("amax", "amin", "max", "min", "argmax", "argmin")),
    *((name, array, (), {}) for name in ("max", "min", "argmax", "argmin") for array in (TIES, MISSING)),
    *((name, array, (), {}) for name in ("max", "min") for array in (1.0, NAN)),
    ("median", MISSING, (1,), {}),
    ("nanmedian", [[1.0, NAN, 2.0, 0.0], [NAN, NAN, 3.0, NAN]], (1,), {}),
    *((name, array, (1,), {}) for name in ("cummax", "cummin", "logcumsumexp", "cumsum") for array in (TIES, MISSING)),
    ("logcumsumexp", [900.0, -900.0, 900.0], (0,), {}),
    ("logcumsumexp", [-INF, -INF, 0.0], (0,), {}),
    *(("sort", array, (), {"stable": True, "descending": down}) for array in (TIES, MISSING) for down in (True, False)),
    ("argsort", TIES, (), {"stable": True}),
    ("argsort", TIES, (), {"stable": True, "descending": True}),
    ("topk", [1.0, NAN, INF, 2.0, -INF], (2,), {}),
    ("topk", [1.0, NAN, INF, 2.0, -INF], (4,), {"largest": False}),
    ("kthvalue", [1.0, NAN, INF, 2.0, -INF], (4,), {}),
    ("kthvalue", [1.0, NAN, INF, 2.0, -INF], (5,), {}),
    ("mode", TIES[:1], (), {}),
    ("mode", [[3.0, 1.0, 3.0, 2.0, 3.0], [1.0, 2.0, 2.0, 5.0, 1.0]], (), {}),
    *((name, MISSING, (0.5,), {"dim": 1}) for name in ("quantile", "nanquantile")),
    *((name, MISSING[:1], (0.25,), {"dim": 1, "interpolation": how}) for name in ("quantile", "nanquantile")
      for how in ("linear", "lower", "higher", "midpoint", "nearest")),
    ("quantile", TIES, (0.4,), {"dim": 1}),
    ("count_nonzero", MISSING, (), {"dim": 1}),
    ("all", MISSING, (), {"dim": 1}),
    ("any", ZEROS, (), {"dim": 1}),
    ("diff", MISSING, (), {}),
    ("corrcoef", [[1.0, 1.0], [1.0, 2.0]], (), {}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@both
@pytest.mark.parametrize(("name", "array", "args", "named"), KINKS, ids=str)
def test_ties_zeros_and_what_is_not_finite(name, array, args, named, dtype):
    check_both(call(name, *args, **named), [np.array(array, dtype)], {np.float32: 5e-6, np.float64: 1e-12}[dtype])


INTEGERS = [
    *((name, (), {}) for name in ("sum", "prod", "count_nonzero", "median", "nanmedian", "all", "any", "aminmax",
                                  "nansum", "mode", "argsort", "msort", "unique", "amax", "diff", "trapezoid",
                                  "cumulative_trapezoid", "cov")),
    *((name, (1,), {}) for name in ("cumsum", "cumprod", "cummax", "cummin", "sum", "prod", "all")),
    ("sum", (), {"dtype": "float32"}),
    ("mean", (), {"dtype": "float32"}),
    ("cumsum", (0,), {"dtype": "float64"}),
    ("prod", (), {"dtype": "int32"}),
    ("unique", (), {"return_inverse": True, "return_counts": True}),
    ("unique", (), {"dim": 1, "return_inverse": True, "return_counts": True}),
    ("unique", (), {"return_counts": True}),
]  # fmt: skip


NO_BOOLEANS = ("median", "nanmedian", "trapezoid", "cumulative_trapezoid", "cov")


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_], ids=["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize(("name", "args", "named"), INTEGERS, ids=str)
def test_integers(name, args, named, dtype):
    array = np.array([[3, 1, 3, 0], [7, 1, 9, 4]]).astype(dtype)
    if dtype == np.bool_ and name in NO_BOOLEANS:
        with pytest.raises((RuntimeError, NotImplementedError)):
            call(name, *args, **named)(torch, torch.tensor(array))
        call(name, *args, **named)(pg, pg.tensor(array))  # what torch's CPU build lacks is there
    else:
        check_both(call(name, *args, **named), [array], 2e-6)


@pytest.mark.parametrize("name", ["mean", "var", "std", "nanmean", "norm", "quantile", "histc", "logcumsumexp"])
def test_integers_are_refused_where_torch_refuses_them(name):
    args = {"quantile": (0.5,), "logcumsumexp": (0,)}.get(name, ())
    for library in (pg, torch):
        with pytest.raises(RuntimeError):
            getattr(library, name)(library.tensor([1, 2, 3]), *args)


@both
def test_several_arguments(dtype):
    x, y, t = random((3, 4), dtype), random((3, 4), dtype, 1), np.sort(random((4,), dtype, 2))
    for p in (0.5, 1, 1.5, 2, 3, INF, -INF):
        check_both(lambda library, a, b, p=p: library.dist(a, b, p), [x, y], 5e-6)
    check_both(lambda library, a, b: library.dist(a, b), [x, t], 5e-6)
    check_both(lambda library, a, b: library.dist(a, b), [x, x.copy()])
    for name in ("trapezoid", "cumulative_trapezoid"):
        check_both(lambda library, a, b, name=name: getattr(library, name)(a, b), [x, t])
        check_both(lambda library, a, b, name=name: getattr(library, name)(a, b), [x, y])
        check_both(lambda library, a, b, name=name: getattr(library, name)(a, b, dim=0), [x, t[:3].copy()])
        check_both(lambda library, a, b, name=name: getattr(library, name)(a, x=b, dim=0), [x, y])
    check_both(lambda library, a, b: library.diff(a, prepend=b), [x, y])
    check_both(lambda library, a, b: library.diff(a, n=2, dim=0, prepend=b, append=a), [x, y])
    q = np.array([0.1, 0.5, 0.95], dtype)
    for name in ("quantile", "nanquantile"):
        for named in ({}, {"dim": 1}, {"dim": 0, "keepdim": True}, {"keepdim": True}):
            check_both(
                lambda library, a, name=name, named=named: getattr(library, name)(a, library.tensor(q), **named), [x]
            )
        check_both(lambda library, a, name=name: getattr(library, name)(a, library.tensor(q[0])), [x])


@both
def test_weighted_covariances(dtype):
    x = random((3, 5), dtype)
    counts, weights = np.array([1, 2, 1, 3, 1]), random((5,), dtype, 3, 0.1, 1.0)
    for correction in (0, 1, 2):
        for f, a in ((True, False), (False, True), (True, True)):

            def weighted(library, x, f=f, a=a, correction=correction):
                named = {"fweights": library.tensor(counts)} if f else {}
                named |= {"aweights": library.tensor(weights)} if a else {}
                return library.cov(x, correction=correction, **named)

            check_both(weighted, [x], {np.float32: 1e-5, np.float64: 1e-11}[dtype])


@both
def test_counting(dtype):
    x = random((50,), dtype)
    for args in ((), (10,), (7, -1.0, 1.0), (4, 0.0, 0.0), (3, 5.0, 6.0), (5, -2, 2)):
        check_both(lambda library, a, args=args: library.histc(a.detach(), *args), [x])
    check_both(lambda library, a: library.histc(a.detach(), 4), [np.full(3, 2.0, dtype)])
    check_both(
        lambda library, a: library.histc(a.detach(), bins=4, min=0, max=1), [np.array([0.25, 0.5, 1.0, NAN], dtype)]
    )
    places = np.array([0, 3, 1, 3, 3])
    check_both(lambda library, i: library.bincount(i), [places])
    check_both(lambda library, i: library.bincount(i, minlength=7), [places])
    check_both(lambda library, i: library.bincount(i), [np.zeros(0, np.int64)])
    check_both(lambda library, i: library.bincount(i, library.tensor(x[:5])), [places])
    check_both(lambda library, i: library.bincount(i, i), [places])
    check_both(lambda library, a: library.unique(a.detach()), [np.array([1.0, NAN, 0.0, 1.0, NAN], dtype)])


def test_a_count_as_a_norm_is_flat():
    """torch leaves the gradient None."""
    x = pg.tensor([1.0, 0.0, -2.0], requires_grad=True)
    pg.norm(x, 0).backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]
    assert pg.norm(x, 0).item() == torch.norm(torch.tensor([1.0, 0.0, -2.0]), 0).item() == 2.0


def test_where_torchs_gradient_is_not_the_derivative():
    """torch's gradient of a variance over dim=(), which is all dimensions, is infinite."""
    x = random((2, 3), np.float64)
    for name in ("var", "std"):
        ours, whole, theirs = (
            run(library, lambda x, name=name, library=library, named=named: getattr(library, name)(x, **named), [x])
            for library, named in ((pg, {"dim": ()}), (pg, {}), (torch, {"dim": ()}))
        )
        assert_equal(ours[0], theirs[0])
        assert_equal(ours[1], whole[1])
        assert np.isinf(theirs[1][0]).all()


def test_an_integral_over_no_points_is_zero():
    for library in (pg, torch):
        assert library.trapezoid(library.zeros(0)).item() == 0.0
        assert tuple(library.cumulative_trapezoid(library.zeros(0)).shape) == (0,)


@pytest.mark.parametrize(("function", "error"), [
    (lambda library, x: library.sum(x, 2), IndexError),
    (lambda library, x: library.cumsum(x, 2), IndexError),
    (lambda library, x: library.sort(x, 2), IndexError),
    (lambda library, x: library.median(x, -3), IndexError),
    (lambda library, x: library.var(x, 5), IndexError),
    (lambda library, x: library.quantile(x, 0.5, 2), IndexError),
    (lambda library, x: library.diff(x, dim=2), IndexError),
    (lambda library, x: library.topk(x, 4), RuntimeError),
    (lambda library, x: library.kthvalue(x, 0), RuntimeError),
    (lambda library, x: library.quantile(x, 1.5), RuntimeError),
    (lambda library, x: library.quantile(x, 0.5, interpolation="cubic"), RuntimeError),
    (lambda library, x: library.diff(x, n=-1), RuntimeError),
    (lambda library, x: library.diff(library.tensor(1.0)), RuntimeError),
    (lambda library, x: library.trapezoid(x, library.tensor([1.0, 2.0])), RuntimeError),
    (lambda library, x: library.bincount(x), RuntimeError),
    (lambda library, x: library.bincount(library.tensor([-1])), RuntimeError),
    (lambda library, x: library.histc(x, 0), RuntimeError),
    (lambda library, x: library.histc(x, 4, 2, 1), RuntimeError),
    (lambda library, x: library.cov(library.ones(2, 2, 2)), RuntimeError),
    (lambda library, x: library.norm(x, "nonsense"), RuntimeError),
    (lambda library, x: library.sum(x, dtype="nonsense"), TypeError),
    (lambda library, x: library.var(x, 1, True, correction=1), TypeError),
    (lambda library, x: library.median(library.ones(0, 3), 0), IndexError),
])  # fmt: skip
def test_wrong_use_is_refused_as_torch_refuses_it(function, error):
    x = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    for library in (pg, torch):
        with pytest.raises(error):
            function(library, library.tensor(x))


@both
def test_numpy_flattens_where_no_axis_is_named(dtype):
    x = random((2, 3), dtype)
    for function in (np.cumsum, np.cumprod):
        for named in ({}, {"axis": 1}):
            out = function(pg.tensor(x, requires_grad=True), **named)
            assert out.requires_grad
            assert_equal([out.detach().numpy()], [function(x, **named)])


# ----- any shape, any dims, ties and zeros -----

REDUCTIONS = ["sum", "mean", "nansum", "nanmean", "amax", "amin", "var", "std", "norm", "logsumexp"]
ALONG_ONE = ["prod", "median", "nanmedian", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "max", "min"]


@st.composite
def reductions(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    whole = [draw(st.integers(-2, 2)) for _ in range(int(np.prod(shape)))]
    several = draw(st.booleans())
    name = draw(st.sampled_from(REDUCTIONS if several else ALONG_ONE))
    count = len(shape) or 1
    named = {} if name.startswith(("cum", "logcum")) else {"keepdim": draw(st.booleans())}
    if several:
        axes = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
        dim = tuple(axis - count if draw(st.booleans()) else axis for axis in axes)
    else:
        dim = draw(st.integers(-count, count - 1))
    return name, np.array(whole, np.float64).reshape(shape), {"dim": dim, **named}


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@settings(max_examples=1000, deadline=None)
@given(reductions())
def test_any_shape_and_dims(case):
    name, array, named = case
    if "median" in name:  # the index of one among equals is nowhere promised, nor is which of them gets the gradient
        array = np.asarray(array + np.arange(array.size).reshape(array.shape) * 1e-3)
    if name == "norm":
        named = {"p": 2, **named}  # "fro" takes at most two dims in torch
    check_both(call(name, **named), [array], 1e-11)
