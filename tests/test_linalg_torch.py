"""Linear algebra against torch: values, gradients and second gradients, real and complex, in batches and of nothing."""

import functools
import math
import warnings

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.autograd
from tests.agreement_torch import check_both
from tests.checks import array_of, assert_equal, check_derivative, listed, run, weights

# LAPACKs differ by the rounding of a factorization; a derivative multiplies it by the condition, here 10 at most.
ROUNDING = {np.float32: 1e-4, np.float64: 1e-11, np.complex64: 1e-4, np.complex128: 1e-11}


def drawn(*shape):
    """Complex numbers; where a real dtype is tried, their real parts."""
    generator = np.random.default_rng(len(shape) + sum(shape))
    return generator.uniform(-1, 1, shape) + 1j * generator.uniform(-1, 1, shape)


def regular(*shape):
    """Matrices whose singular values are far from 0 and from each other."""
    diagonal = np.zeros(shape[-2:])
    np.fill_diagonal(diagonal, 3.0 + 2 * np.arange(min(shape[-2:])))
    return 0.5 * drawn(*shape) + diagonal


def definite(*shape):
    """Matrices that are their own adjoint, of positive eigenvalues that are far from each other."""
    x = regular(*shape)
    return x + np.conj(np.swapaxes(x, -1, -2))


def cast(x, dtype):
    if not isinstance(x, np.ndarray) or x.dtype.kind != "c":
        return x
    return (x if np.dtype(dtype).kind == "c" else x.real).astype(dtype)


def linalg(name, *arguments, **named):
    """A call in either library: an argument `...` is the next tensor."""

    def function(library, *tensors):
        given = iter(tensors)
        return getattr(library.linalg, name)(*(next(given) if x is ... else x for x in arguments), **named)

    return function


def top(name, *arguments, **named):
    def function(library, *tensors):
        given = iter(tensors)
        return getattr(library, name)(*(next(given) if x is ... else x for x in arguments), **named)

    return function


def projections(vectors):
    """What does not depend on the phase of vectors, which are columns."""
    return tuple(vectors[..., i : i + 1] @ vectors[..., i : i + 1].mH for i in range(vectors.shape[-1]))


def eigh(uplo="L"):
    def function(library, x):
        w, v = library.linalg.eigh(x, uplo)
        return w, *projections(v), v.abs()

    return function


def eig(library, x):
    w, v = library.linalg.eig(x)
    order = np.argsort(array_of(w).real, axis=-1) if w.ndim == 1 else None
    w, v = (w, v) if order is None else (w[order.tolist()], v[:, order.tolist()])
    return w, *projections(v), v.abs()


def cholesky(call):
    """torch's gradient is not its own adjoint, as that of complex numbers should be: only that part is compared."""
    return lambda library, x: call(library, (x + x.mH) / 2)


def of_triangle(name, upper):
    """torch gives gradients of the other triangle, too, which is not read."""

    def function(library, *tensors):
        *others, factor = tensors
        return getattr(library, name)(*others, library.triu(factor) if upper else library.tril(factor), upper)

    return function


def cond(p):
    """torch's backward raises where the condition number is no ratio of singular values."""

    def function(library, x):
        if library is pg or p in (None, 2, -2):
            return library.linalg.cond(x, p)
        return library.linalg.matrix_norm(x, p) * library.linalg.matrix_norm(library.linalg.inv(x), p)

    return function


def svd(full):
    def function(library, x):
        u, s, vh = library.linalg.svd(x, full_matrices=full)
        count = s.shape[-1]
        both = tuple(u[..., i : i + 1] @ vh[..., i : i + 1, :] for i in range(count))
        return s, *both, *projections(u[..., :count]), vh[..., :count, :].abs()

    return function


def old_svd(library, x):
    u, s, v = library.svd(x)
    return u @ v.mH, s


def lu_solve(**named):
    def function(library, x, y):
        return library.linalg.lu_solve(*library.linalg.lu_factor(x), y, **named)

    return function


def factor(library, x):
    packed, pivots = library.linalg.lu_factor(x)
    return packed, pivots


def least_squares(driver):
    def function(library, x, y):
        return tuple(library.linalg.lstsq(x, y, driver=driver))

    return function


A, B, TALL, WIDE = regular(3, 3), regular(2, 3, 3), regular(5, 3), regular(2, 2, 4)
H, HB = definite(3, 3), definite(2, 3, 3)
ONE, NONE, NO_BATCH, FLAT = (
    regular(1, 1),
    np.zeros((0, 0), complex),
    np.zeros((0, 2, 2), complex),
    np.zeros((0, 3), complex),
)
V, M, C = drawn(3), drawn(3, 2), drawn(2, 3, 2)
DEFICIENT = np.diag([2.0, 0, 0]).astype(complex)

MANY = {
    "solve": ([A, M], [A, V], [B, C], [B, M], [A, C], [B, drawn(2, 3)], [NONE, FLAT]),
    "triangular": ((A, M), (B, M), (A, C)),
    "lu": (A, B, TALL, WIDE, regular(4, 4)[::-1], regular(5, 3)[::-1], FLAT, NONE),
    "lu_solve": ((A[::-1], M), (B, C), (B[:, ::-1], M)),
    "definite": (H, HB, definite(1, 1), NONE),
    "lstsq": (
        [TALL, drawn(5, 2)], [TALL, drawn(5)], [WIDE, drawn(2, 2, 3)], [regular(2, 4, 2), drawn(2, 4)], [A, M],
    ),
    "householder": ([A, V], [TALL, V], [TALL, drawn(2)], [B, drawn(2, 3)], [drawn(2, 4, 2), drawn(2, 2)]),
    "norm": (
        (V, ()), (B, ()), (C, (None, 1)), (C, (None, (0, 1), True)), (V, (3,)), (A, ("nuc",)), (A, (2,)), (A, (1,)),
        (B, (1, 0)), (B, (1, [2])), (B, (math.inf, (0, 2))), (C, (None, None, True)),
    ),
    "matrix_norm": ((TALL, (-2, -1)), (regular(2, 3, 4), (0, 2)), (regular(2, 3, 4), (2, 1))),
}  # fmt: skip
NORMS = ("fro", "nuc", 2, -2, 1, -1, math.inf, -math.inf)
YES_AND_NO = (True, False)


def right(left, y):
    """A right-hand side, or one for equations that have the unknown at the left."""
    return y if left else y.swapaxes(-1, -2)


CALLS = {
    "inv": [*((linalg("inv", ...), [x]) for x in (A, B, ONE, NONE, NO_BATCH)), (top("inverse", ...), [B])],
    "solve": [
        *((linalg("solve", ..., ...), xs) for xs in MANY["solve"]),
        *((linalg("solve", ..., ..., left=False), xs) for xs in ([A, drawn(2, 3)], [B, drawn(4, 3)])),
    ],
    "solve_triangular": [
        (linalg("solve_triangular", ..., ..., upper=upper, left=left, unitriangular=unit), [x, right(left, y)])
        for upper in YES_AND_NO for left in YES_AND_NO for unit in YES_AND_NO for x, y in MANY["triangular"]
    ],
    "lu": [(linalg("lu", ...), [x]) for x in MANY["lu"]],
    "lu_factor": [(factor, [x]) for x in MANY["lu"][:-1]],
    "lu_solve": [
        *(
            (lu_solve(left=left, adjoint=adjoint), [x, right(left, y)])
            for left in YES_AND_NO for adjoint in YES_AND_NO for x, y in MANY["lu_solve"]
        ),
        (lambda library, x, y: library.lu_solve(y, *library.linalg.lu_factor(x)), [A, M]),
    ],
    "cholesky": [
        *((cholesky(linalg("cholesky", ..., upper=up)), [x]) for up in YES_AND_NO for x in MANY["definite"]),
        (cholesky(top("cholesky", ...)), [H]),
        (cholesky(top("cholesky", ..., True)), [HB]),
    ],
    "cholesky_solve": [
        (of_triangle("cholesky_solve", up), [y, x]) for up in YES_AND_NO for x, y in ((H, M), (HB, C))
    ],
    "cholesky_inverse": [(of_triangle("cholesky_inverse", up), [x]) for up in YES_AND_NO for x in (H, HB)],
    "det": [*((linalg("det", ...), [x]) for x in (A, B, ONE, NONE, NO_BATCH)), (top("det", ...), [A])],
    "slogdet": [*((linalg("slogdet", ...), [x]) for x in (A, B, A[::-1], ONE, NONE)), (top("slogdet", ...), [A])],
    "logdet": [(top("logdet", ...), [x]) for x in (H, HB)],
    "qr": [
        *((linalg("qr", ...), [x]) for x in (A, B, TALL, WIDE, FLAT)),
        *((linalg("qr", ..., "complete"), [x]) for x in (A, WIDE)),
        (top("qr", ...), [TALL]),
    ],
    "eigh": [(eigh(uplo), [x]) for uplo in "LU" for x in (H, HB)],
    "eigvalsh": [(linalg("eigvalsh", ..., uplo), [x]) for uplo in "LU" for x in (H, HB, NONE)],
    "eig": [(eig, [x]) for x in (A, A + 9 * np.eye(3, k=1) - 9 * np.eye(3, k=-1))],
    "eigvals": [(lambda library, x: (library.linalg.eigvals(x) ** 3).sum(-1), [x]) for x in (A, B)],
    "svd": [*((svd(full), [x]) for full in YES_AND_NO for x in (A, B, TALL, WIDE)), (old_svd, [TALL])],
    "svdvals": [(linalg("svdvals", ...), [x]) for x in (A, B, TALL, WIDE, FLAT)],
    "pinv": [
        *((linalg("pinv", ...), [x]) for x in (A, B, TALL, WIDE, FLAT, DEFICIENT)),
        (linalg("pinv", ..., hermitian=True), [H]),
        (linalg("pinv", ..., rtol=0.5), [DEFICIENT + np.diag([0, 0, 0.1])]),
        (linalg("pinv", ..., atol=0.5, rtol=0.01), [DEFICIENT]),
        (linalg("pinv", ..., 1e-3), [TALL]),
        (top("pinverse", ...), [WIDE]),
    ],
    "lstsq": [
        (least_squares(driver), xs) for driver in (None, "gels", "gelsy", "gelsd", "gelss") for xs in MANY["lstsq"]
    ],
    "matrix_exp": [
        *((linalg("matrix_exp", ...), [x]) for x in (A / 4, B / 4, ONE, drawn(4, 4) * 1e-3, NONE)),
        (top("matrix_exp", ...), [A]),
    ],
    "matrix_power": [
        *((linalg("matrix_power", ..., n), [x]) for n in (0, 1, 2, 3, 5, 8, -1, -3) for x in (A / 4, B / 4)),
        (top("matrix_power", ..., 3), [A]),
    ],
    "householder_product": [(linalg("householder_product", ..., ...), xs) for xs in MANY["householder"]],
    "vector_norm": [
        *((linalg("vector_norm", ..., p), [x]) for p in (2, 1, 3, 0.5, math.inf, -math.inf, -1.5) for x in (V, B)),
        *((linalg("vector_norm", ..., 2, dim, keep), [C]) for dim in (0, -1, (0, 2), [1], None) for keep in YES_AND_NO),
    ],
    "matrix_norm": [
        (linalg("matrix_norm", ..., p, dim, keep), [x])
        for p in NORMS for x, dim in MANY["matrix_norm"] for keep in YES_AND_NO
    ],
    "norm": [
        *((linalg("norm", ..., *given), [x]) for x, given in MANY["norm"]),
        *((top("norm", ..., *given), [x]) for x, given in ((B, ("fro",)), (A, ("nuc",)), (B, ("nuc", (0, 2))))),
    ],
    "cond": [
        *((cond(p), [x]) for p in (None, *NORMS) for x in (A, B)),
        *((cond(p), [x]) for p in (None, 2, -2) for x in (TALL, WIDE)),
        (linalg("cond", ...), [NONE]),
        (linalg("cond", ..., 1), [np.zeros((2, 0, 0), complex)]),
    ],
    "multi_dot": [
        *(
            (lambda library, *xs: library.linalg.multi_dot(xs), xs)
            for xs in ([A, M], [M, drawn(2, 5), drawn(5, 3), A], [V, A, M], [V, A, V], [A, V])
        ),
        (lambda library, *xs: library.chain_matmul(*xs), [A, M, drawn(2, 4)]),
    ],
    "tensorinv": [
        (linalg("tensorinv", ..., 2), [regular(6, 6).reshape(2, 3, 6)]),
        (linalg("tensorinv", ..., ind=1), [regular(6, 6).reshape(6, 3, 2)]),
    ],
    "tensorsolve": [
        (linalg("tensorsolve", ..., ...), [regular(6, 6).reshape(2, 3, 6), drawn(2, 3)]),
        (
            linalg("tensorsolve", ..., ..., dims=(0, 2)),
            [regular(6, 6).reshape(3, 2, 2, 3).transpose(2, 0, 3, 1), drawn(3, 2)],
        ),
    ],
    "vander": [
        (linalg("vander", ..., **named), [x])
        for x, named in ((V, {}), (M, {"N": 5}), (np.zeros(2, complex), {"N": 2}), (np.asarray(drawn()), {"N": 3}))
    ],
    "diagonal": [
        (linalg("diagonal", ..., **named), [B]) for named in ({}, {"offset": 1}, {"offset": -1, "dim1": 0, "dim2": 1})
    ],
    "matmul": [(linalg("matmul", ..., ...), xs) for xs in ([A, M], [B, V])],
    "vecdot": [(linalg("vecdot", ..., ..., dim=dim), [C, drawn(2, 3, 2)]) for dim in (-1, 0)],
    "cross": [(linalg("cross", ..., ..., dim=dim), xs) for dim, xs in ((-1, [M.T, drawn(1, 3)]), (1, [C, C[::-1]]))],
}  # fmt: skip
TABLE = [(f"{name}-{i}", *row) for name, rows in CALLS.items() for i, row in enumerate(rows)]
FIRST = {f"{name}-{i}" for name in CALLS for i in range(2)}


def cases(whole, first):
    """Every row in the dtypes of `whole`, and the first rows of each name in those of `first` as well."""
    return pytest.mark.parametrize(
        ("function", "arrays", "dtype"),
        [
            pytest.param(function, arrays, dtype, id=f"{name}-{np.dtype(dtype).name}")
            for name, function, arrays in TABLE
            for dtype in (*whole, *(first if name in FIRST else ()))
        ],
    )


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", UserWarning)
        yield


@cases([np.float64, np.complex128], [np.float32, np.complex64])
def test_values_and_gradients(function, arrays, dtype):
    arrays = [cast(x, dtype) for x in arrays]
    check_both(function, arrays, ROUNDING[dtype])


def second(library, function, arrays):
    """The derivative of what the gradients are along weights."""
    grad = pargrad.autograd.grad if library is pg else torch.autograd.grad
    tensors = [library.tensor(x, requires_grad=True) for x in arrays]
    values = [value for value in listed(function(library, *tensors)) if value.requires_grad]
    seeds = [library.tensor(weights(tuple(value.shape), array_of(value).dtype)) for value in values]
    first = grad(values, tensors, seeds, create_graph=True, allow_unused=True)
    first = [each for each in first if each is not None and each.requires_grad]
    seeds = [library.tensor(weights(tuple(each.shape), array_of(each).dtype)) for each in first]
    found = grad(first, tensors, seeds, allow_unused=True) if first else [None] * len(arrays)
    return [np.zeros_like(x) if each is None else array_of(each) for x, each in zip(arrays, found)]


@cases([np.float64], [np.complex128])
def test_second_gradients(function, arrays, dtype):
    arrays = [cast(x, dtype) for x in arrays]
    assert_equal(second(pg, function, arrays), second(torch, function, arrays), 1e-9)


# ----- where matrices are singular, or values are equal -----

RANK_TWO = np.outer([1.0, 2, 3], [1, -1, 2]) + np.outer([1, 0, 0], [0, 1, 0])
SINGULAR = [
    RANK_TWO,
    np.diag([2.0, 3, 0]) + np.diag([1.0, 0], 1),
    np.diag([2.0, 0, 0]),
    np.zeros((1, 1)),
    np.zeros((3, 3)),
]


@pytest.mark.parametrize("x", [*SINGULAR, np.stack([SINGULAR[1], A.real, SINGULAR[4]])], ids=range(6))
def test_the_determinant_of_a_singular_matrix_has_a_derivative(x):
    """torch's backward gives it with create_graph alone: without, it is det * inv(A).T, which it finds to be 0."""
    check_derivative(pg.det, [x])
    twin, leaf = torch.tensor(x, requires_grad=True), pg.tensor(x, requires_grad=True)
    seed = weights(x.shape[:-2])
    (expected,) = torch.autograd.grad(torch.det(twin), twin, torch.tensor(seed), create_graph=True)
    (got,) = pargrad.autograd.grad(pg.det(leaf), leaf, pg.tensor(seed))
    assert_equal([got.array], [expected.detach().numpy()], 1e-12)


@pytest.mark.parametrize("x", SINGULAR[:2], ids=range(2))
def test_the_determinant_of_a_singular_matrix_has_a_second_derivative(x):
    assert_equal(second(pg, top("det", ...), [x]), second(torch, top("det", ...), [x]), 1e-10)


def test_the_logarithm_of_no_determinant():
    for x in (SINGULAR[1], -np.eye(3)):
        assert_equal([pg.logdet(pg.tensor(x)).array], [torch.logdet(torch.tensor(x)).numpy()])
        assert_equal(
            [each.array for each in pg.slogdet(pg.tensor(x))], [each.numpy() for each in torch.slogdet(torch.tensor(x))]
        )
    x = pg.tensor(np.stack([SINGULAR[1], 2 * np.eye(3)]), requires_grad=True)
    pg.slogdet(x).logabsdet.sum().backward()
    assert not np.isfinite(x.grad.array[0]).any()
    np.testing.assert_array_equal(x.grad.array[1], np.eye(3) / 2)


def test_equal_eigenvalues_and_singular_values():
    cases = (("eigvalsh", np.eye(3)), ("eigvals", np.eye(3)), ("svdvals", np.eye(4, 3)), ("svdvals", np.zeros((2, 3))))
    for name, x in cases:
        function = linalg(name, ...)
        got, expected = (run(each, lambda x, each=each: function(each, x).abs(), [x]) for each in (pg, torch))  # noqa: B023
        assert_equal(got[0], expected[0])
        if x.any():
            assert_equal([np.linalg.svdvals(got[1][0])], [np.linalg.svdvals(expected[1][0])])  # any basis will do
        assert np.isfinite(got[1][0]).all()


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize(
    "named", [{}, {"atol": 0.1}, {"rtol": 0.2}, {"atol": 0.0, "rtol": 0.4}, {"atol": 9.0, "rtol": 0.1}]
)
@pytest.mark.parametrize("x", [H, HB, np.diag([3.0, 0.9, -0.05]), np.zeros((2, 2)), np.zeros((2, 0, 0))], ids=range(5))
def test_matrix_rank(x, named, hermitian):
    got = pg.linalg.matrix_rank(pg.tensor(x), hermitian=hermitian, **named)
    expected = torch.linalg.matrix_rank(torch.tensor(x), hermitian=hermitian, **named)
    assert_equal([got.array], [expected.numpy()])


def test_tolerances_that_are_tensors():
    x = np.stack([np.diag([3.0, 0.9, 0.05])] * 2)
    for library in (pg, torch):
        bounds = library.tensor([0.1, 1.0])
        assert library.linalg.matrix_rank(library.tensor(x), atol=bounds).tolist() == [2, 1]
        assert library.linalg.matrix_rank(library.tensor(x), 0.01).tolist() == [3, 3]
        inverse = library.linalg.pinv(library.tensor(x), atol=bounds).numpy()
        np.testing.assert_allclose(inverse[:, [0, 1, 2], [0, 1, 2]], [[1 / 3, 1 / 0.9, 0], [1 / 3, 0, 0]])


@pytest.mark.parametrize(("name", "x"), [("eigh", H), ("eig", A), ("svd", TALL)])
def test_what_depends_on_a_phase_is_refused(name, x):
    for library in (pg, torch):
        leaf = library.tensor(x, requires_grad=True)
        vectors = getattr(library.linalg, name)(leaf)[0 if name == "svd" else 1]
        with pytest.raises(RuntimeError, match="depends on"):
            vectors.imag.sum().backward()


# ----- one triangle, named results, errors -----


@pytest.mark.parametrize("upper", [False, True])
def test_only_one_triangle_is_read_and_the_gradient_is_that_of_both(upper):
    x = H + 0.1 * np.tri(3, k=-1)
    uplo = "U" if upper else "L"
    for function in (linalg("eigvalsh", ..., uplo), linalg("cholesky", ..., upper=upper)):
        assert_equal([function(pg, pg.tensor(x)).array], [function(torch, torch.tensor(x)).numpy()], 1e-12)
        results = [run(library, functools.partial(function, library), [x.real.copy()]) for library in (pg, torch)]
        for one, other in zip(*results):
            assert_equal(one, other, 1e-12)


RESULTS = {
    "eigh": "eigenvalues eigenvectors", "eig": "eigenvalues eigenvectors", "svd": "U S Vh", "qr": "Q R", "lu": "P L U",
    "lu_factor": "LU pivots", "slogdet": "sign logabsdet", "lu_factor_ex": "LU pivots info", "inv_ex": "inverse info",
    "cholesky_ex": "L info",
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_results_have_torchs_names(name):
    results = [getattr(library.linalg, name)(library.tensor(H.real)) for library in (pg, torch)]
    for result in results:
        assert [getattr(result, field) is each for field, each in zip(RESULTS[name].split(), result)] == [True] * len(
            result
        )


def test_least_squares_and_the_old_names_have_torchs_names():
    for library in (pg, torch):
        x = library.tensor(TALL.real)
        found = library.linalg.lstsq(x, library.tensor(drawn(5, 1).real))
        assert [
            found.solution is found[0],
            found.residuals is found[1],
            found.rank is found[2],
            found.singular_values is found[3],
        ]
        three = library.svd(x, some=False)
        assert [tuple(each.shape) for each in (three.U, three.S, three.V)] == [(5, 5), (3,), (3, 3)]
        three = library.svd(x, compute_uv=False)
        assert [tuple(each.shape) for each in (three.U, three.S, three.V)] == [(5, 5), (3,), (3, 3)]
        assert not three.U.any() and not three.V.any()
        assert tuple(library.qr(x, some=False).Q.shape) == (5, 5)


def test_qr_with_other_modes():
    x = TALL.real
    for library in (pg, torch):
        q, r = library.linalg.qr(library.tensor(x), "r")
        assert tuple(q.shape) == (0,)
        np.testing.assert_allclose(r.numpy(), np.linalg.qr(x, "r"), atol=1e-12)
        with pytest.raises(RuntimeError, match="mode='complete'"):
            library.linalg.qr(library.tensor(x, requires_grad=True), "complete")[1].sum().backward()
    check_derivative(lambda x: pg.linalg.qr(x, "r").R, [x])  # torch has none


ZEROS = np.zeros((2, 2))
PIVOTS = [np.array([1, 2], np.int32)]  # of no swaps
REFUSED = [
    ("inv", [ZEROS], {}, r"linalg.inv\(float64\[2, 2\]\): Singular matrix: write linalg.pinv"),
    ("inv", [TALL.real], {}, "expected square matrices, got shape"),
    ("inv", [np.eye(2, dtype=int)], {}, "expected floating-point or complex numbers, got int64"),
    ("det", [np.ones(3)], {}, "expected a matrix or a batch"),
    ("solve", [ZEROS, ZEROS], {}, "Singular matrix: write linalg.lstsq"),
    ("solve", [np.eye(2), np.ones((3, 1))], {}, r"expected B of shape \(..., 2, k\), got \(3, 1\)"),
    ("solve", [np.eye(2), np.ones((2, 3))], {"left": False}, r"expected B of shape \(..., k, 2\), got \(2, 3\)"),
    ("lu_solve", [np.eye(2), *PIVOTS, np.ones(2)], {}, r"got \(2,\): write B.unsqueeze\(-1\) for a vector"),
    ("lu_solve", [np.eye(2), *PIVOTS, np.ones((3, 1))], {}, r"expected B of shape \(..., 2, k\), got \(3, 1\)"),
    ("lu_solve", [np.eye(2), *PIVOTS, np.ones(2)], {"left": False}, r"write B.unsqueeze\(0\) for a vector"),
    ("solve_triangular", [np.eye(2), np.ones(2)], {"upper": True}, r"write B.unsqueeze\(-1\) for a vector"),
    ("solve_triangular", [np.eye(2), np.ones((3, 1))], {"upper": True}, r"got \(3, 1\)"),
    ("solve", [np.eye(2), np.ones(2, np.float32)], {}, "expected tensors of one dtype"),
    ("solve", [np.eye(2), np.ones(2)], {"left": False}, "expected B to be a matrix"),
    ("cholesky", [-np.eye(2)], {}, "not positive definite: add a multiple"),
    ("lu_factor", [ZEROS], {}, "a diagonal element of U is 0"),
    ("lu", [np.eye(2)], {"pivot": False}, "write pivot=True"),
    ("matrix_power", [ZEROS, -1], {}, "Singular matrix"),
    ("svd", [np.full((2, 2), np.nan)], {}, "did not converge"),
    ("eigh", [np.eye(2), "X"], {}, "expected UPLO to be"),
    ("qr", [np.eye(2), "full"], {}, "expected mode to be"),
    ("lstsq", [np.eye(2), np.eye(2)], {"driver": "x"}, "expected driver to be"),
    ("lstsq", [np.ones((3, 2)), np.ones((3, 2))], {"driver": "gels"}, "not of full rank"),
    ("norm", [np.ones((2, 2, 2)), 2], {}, "where no dim is given"),
    ("matrix_norm", [np.eye(2), 3], {}, "expected ord to be"),
    ("matrix_norm", [np.eye(2), 2, 1], {}, "expected two dims"),
    ("vander", [np.ones(3)], {"N": 1}, "expected N to be more than 1"),
    ("tensorinv", [np.eye(4)], {"ind": 2}, "has as many elements"),
    ("householder_product", [np.ones((2, 3)), np.ones(2)], {}, "no more columns than rows"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "named", "message"), REFUSED, ids=[f"{row[0]}-{i}" for i, row in enumerate(REFUSED)]
)
def test_wrong_use_is_refused(name, arguments, named, message):
    for library in (pg, torch):
        given = [library.tensor(x) if isinstance(x, np.ndarray) else x for x in arguments]
        with pytest.raises(
            (RuntimeError, TypeError) if library is torch else RuntimeError, match=message if library is pg else None
        ):
            getattr(library.linalg, name)(*given, **named)


def test_what_numpy_calls_a_linalg_error_is_this_modules():
    for function, x in ((pg.linalg.inv, ZEROS), (pg.linalg.cholesky, -np.eye(2)), (pg.inverse, ZEROS)):
        with pytest.raises(pg.linalg.LinAlgError):
            function(pg.tensor(x))
    with pytest.raises(TypeError, match=r"write pargrad.tensor\(...\)"):
        pg.linalg.inv(np.eye(2))


HALF = np.stack([H, H - 8 * np.eye(3), -H])  # one matrix of three is positive definite
ONE_OF_TWO = np.stack([A, np.diag([2.0, 0, 0])])
TRIED = [
    *(("inv_ex", x, lambda x: (x,), {}) for x in (ONE_OF_TWO, A, NO_BATCH, NONE)),
    *(("solve_ex", ONE_OF_TWO, lambda x, y=y: (x, y(x)), {}) for y in (lambda x: x + 1, lambda x: x[..., 0])),
    ("solve_ex", ONE_OF_TWO, lambda x: (x, x), {"left": False}),
    ("lu_factor_ex", ONE_OF_TWO, lambda x: (x,), {}), ("lu_factor_ex", TALL, lambda x: (x,), {}),
    ("cholesky_ex", HALF, lambda x: (x,), {}), ("cholesky_ex", HALF, lambda x: (x,), {"upper": True}),
    ("cholesky_ex", NO_BATCH, lambda x: (x,), {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "x", "arguments", "named"), TRIED, ids=[f"{row[0]}-{i}" for i, row in enumerate(TRIED)]
)
def test_what_failed_is_told_instead_of_raised(name, x, arguments, named):
    """Where it failed the result is nan; torch's is what was there when it stopped."""
    leaves = [library.tensor(x.real, requires_grad=True) for library in (pg, torch)]
    got, expected = (
        getattr(library.linalg, name)(*arguments(leaf), **named) for library, leaf in zip((pg, torch), leaves)
    )
    assert_equal([got.info.array], [expected.info.numpy()])
    done = got.info.array == 0
    assert_equal([got[0].detach().array[done]], [expected[0].detach().numpy()[done]], 1e-12)
    if name == "lu_factor_ex":
        return
    assert np.isnan(got[0].detach().array[~done]).all()
    if x.size:
        got[0][done].sum().backward()
        expected[0][torch.tensor(done)].sum().backward()
        assert_equal([leaves[0].grad.array[done]], [leaves[1].grad.numpy()[done]], 1e-11)
        assert np.isfinite(leaves[0].grad.array).all()
    if not done.all():
        with pytest.raises(RuntimeError):
            getattr(pg.linalg, name)(*arguments(leaves[0]), **named, check_errors=True)


def test_the_old_names_are_methods():
    x = pg.tensor(H.real)
    for name in ("cholesky", "det", "inverse", "logdet", "matrix_exp", "pinverse", "qr", "slogdet", "svd"):
        ours, top_level = listed(getattr(x, name)()), listed(getattr(pg, name)(x))
        assert_equal([each.array for each in ours], [each.array for each in top_level])
    assert_equal(
        [x.matrix_power(n=3).array, pg.matrix_power(input=x, n=3).array], [np.linalg.matrix_power(H.real, 3)] * 2
    )
    assert_equal([np.linalg.inv(x).array, np.linalg.det(x).array], [pg.inverse(input=x).array, pg.det(input=x).array])


def test_every_name_is_torchs_and_all_but_three_are_here():
    assert [name for name in pg.linalg.__all__ if not hasattr(torch.linalg, name)] == []
    lacking = {name for name in dir(torch.linalg) if callable(getattr(torch.linalg, name))} - {*pg.linalg.__all__}
    assert {name for name in lacking if name[0].islower()} == {"ldl_factor", "ldl_factor_ex", "ldl_solve"}
