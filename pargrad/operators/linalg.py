"""torch's linear algebra, `pg.linalg.NAME`: https://docs.pytorch.org/docs/stable/linalg.html

Everything is done on the last two dimensions, for every matrix of a batch. The signatures are torch's (`out` excepted)
and so are values and derivatives. A matrix that should be its own adjoint (cholesky, eigh) is read as torch reads it,
one triangle alone; where it is not, the gradient is that of this triangle, and torch's that of a whole matrix.
"""

# ruff: noqa: N803 (the matrices have their letters as names, in torch, too)

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators.compositions import adjoint as adjoint_of
from pargrad.operators.compositions import broadcast_to, movedim
from pargrad.operators.indexing import take_along_dim
from pargrad.operators.products import cross_along as cross
from pargrad.operators.products import multi_dot, vecdot
from pargrad.rules import RULES
from pargrad.rules.decompositions import permutation
from pargrad.tensor import Tensor, apply


class LinAlgError(RuntimeError):
    """A matrix that is singular, not positive definite, or for which an iteration did not converge."""


REMEDIES = {
    "inv": "write linalg.pinv(A)",
    "solve": "write linalg.lstsq(A, B)",
    "cholesky": "add a multiple of the identity, or write linalg.eigh(A)",
}

eigenvalues_and_eigenvectors = namedtuple("eigenvalues_and_eigenvectors", ["eigenvalues", "eigenvectors"])
singular_values_and_vectors = namedtuple("singular_values_and_vectors", ["U", "S", "Vh"])
orthogonal_and_triangular = namedtuple("orthogonal_and_triangular", ["Q", "R"])
permuted_factors = namedtuple("permuted_factors", ["P", "L", "U"])
packed_factors = namedtuple("packed_factors", ["LU", "pivots"])
packed_factors_and_info = namedtuple("packed_factors_and_info", ["LU", "pivots", "info"])
factor_and_info = namedtuple("factor_and_info", ["L", "info"])
inverse_and_info = namedtuple("inverse_and_info", ["inverse", "info"])
result_and_info = namedtuple("result_and_info", ["result", "info"])
sign_and_logarithm = namedtuple("sign_and_logarithm", ["sign", "logabsdet"])
least_squares = namedtuple("least_squares", ["solution", "residuals", "rank", "singular_values"])


# ----- arguments -----


def call(name: str, *inputs: Any, **settings: Any) -> Any:
    """A rule; numpy's error of linear algebra is this module's."""
    try:
        return apply(RULES[name], *inputs, **settings)
    except RuntimeError as error:
        if not isinstance(error.__context__, np.linalg.LinAlgError):
            raise
        remedy = f": {REMEDIES[name]}" if name in REMEDIES else ""
        raise LinAlgError(f"linalg.{error}{remedy}") from None


def check(name: str, *tensors: Tensor, square: bool = False) -> None:
    """Refuses what is no matrix of floating-point or complex numbers, or of two dtypes."""
    for x in tensors:
        if not isinstance(x, Tensor):
            raise TypeError(f"linalg.{name}: expected tensors, got {type(x).__name__}: write pargrad.tensor(...)")
        if x.dtype.kind not in "fc":
            raise RuntimeError(
                f"linalg.{name}: expected floating-point or complex numbers, got {x.dtype}: write x.float()"
            )
        if x.dtype != tensors[0].dtype:
            raise RuntimeError(
                f"linalg.{name}: expected tensors of one dtype, got {tensors[0].dtype} and {x.dtype}: "
                "write x.to(y.dtype)"
            )
    if tensors[0].ndim < 2:
        raise RuntimeError(f"linalg.{name}: expected a matrix or a batch of them, got shape {tensors[0].shape}")
    if square and tensors[0].shape[-1] != tensors[0].shape[-2]:
        raise RuntimeError(f"linalg.{name}: expected square matrices, got shape {tensors[0].shape}")


def check_right_side(name: str, A: Tensor, B: Tensor, left: bool) -> None:
    """Refuses a B that is no matrix of as many rows, or columns with left=False, as A."""
    if B.ndim < 2 or B.shape[-2 if left else -1] != A.shape[-1]:
        shape = f"(..., {A.shape[-1]}, k)" if left else f"(..., k, {A.shape[-1]})"
        vector = "" if B.ndim > 1 else f": write B.unsqueeze({-1 if left else 0}) for a vector"
        raise RuntimeError(f"linalg.{name}: expected B of shape {shape}, got {B.shape}{vector}")


def is_vector(A: Tensor, B: Tensor) -> bool:
    """Whether B is one right-hand side for each matrix of A, as torch tells it."""
    return B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1])


def identity(*shape: int, dtype: Any) -> Tensor:
    """Matrices of this shape with ones on the diagonal."""
    return Tensor(np.broadcast_to(np.eye(*shape[-2:], dtype=dtype), shape).copy())


def precision(x: Tensor) -> np.dtype:
    """The dtype of an absolute value."""
    return np.finfo(x.dtype).dtype


def hermitian_of(A: Tensor) -> Tensor:
    """A where it is its own adjoint, otherwise what its lower triangle makes of it."""
    if np.array_equal(A.array, np.conj(np.swapaxes(A.array, -1, -2))):
        return A
    below, diagonal = call("tril", A, diagonal=-1), call("diagonal", A, dim1=-2, dim2=-1)
    return below + adjoint_of(below) + call("diag_embed", diagonal.real if A.dtype.kind == "c" else diagonal)


# ----- inverses and systems -----


def inv(A: Tensor) -> Tensor:
    """The inverse of each matrix (..., n, n); LinAlgError where one is singular."""
    check("inv", A, square=True)
    return call("inv", A)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """The X of A @ X = B, or of X @ A = B with left=False; B is a matrix or, with left=True, a vector.

    A (..., n, n), B (..., n, k) or (n,); batches broadcast. LinAlgError where A is singular.

    >>> A, b = pg.tensor([[2.0, 0.0], [0.0, 4.0]]), pg.tensor([2.0, 2.0])
    >>> pg.linalg.solve(A, b)
    tensor([1.0000, 0.5000])
    """
    check("solve", A, B, square=True)
    if is_vector(A, B):
        if not left:
            raise RuntimeError(f"linalg.solve: expected B to be a matrix where left=False, got shape {B.shape}")
        return solve(A, B.unsqueeze(-1)).squeeze(-1)
    check_right_side("solve", A, B, left)
    return call("solve", A, B) if left else call("solve", A.mT, B.mT).mT


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """`solve` by substitution: only the lower or the upper triangle is read, without the diagonal if it is ones."""
    check("solve_triangular", A, B, square=True)
    check_right_side("solve_triangular", A, B, left)
    if left:
        return call("solve_triangular", A, B, upper=upper, unitriangular=unitriangular)
    return call("solve_triangular", A.mT, B.mT, upper=not upper, unitriangular=unitriangular).mT


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """The X of least |A @ X - B|, a named tuple (solution, residuals, rank, singular_values).

    A (..., m, n), B (..., m, k) or (..., m); solution (..., n, k) or (..., n).

    As in torch the residuals are empty for driver="gelsy" (the default), where A has not full rank and where it has
    no more rows than columns; the singular values but for "gelsd" and "gelss", the rank for "gels".
    """
    check("lstsq", A, B)
    driver = "gelsy" if driver is None else driver
    if driver not in ("gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"linalg.lstsq: expected driver to be 'gels', 'gelsy', 'gelsd' or 'gelss', got {driver!r}")
    if is_vector(A, B):
        found = lstsq(A, B.unsqueeze(-1), rcond, driver=driver)
        return least_squares(found.solution.squeeze(-1), *found[1:])
    solution, rank, singular = call("lstsq", A, B, rcond=rcond, driver="gelsy" if driver == "gels" else driver)
    rows, columns = A.shape[-2:]
    if driver == "gels" and (rank.array < min(rows, columns)).any():
        raise LinAlgError("linalg.lstsq: a matrix is not of full rank, as driver='gels' expects: write driver='gelsy'")
    residuals = Tensor(np.zeros(0, precision(A)))
    if driver != "gelsy" and rows > columns and (rank.array == columns).all():
        residuals = (A @ solution - B).abs().square().sum(-2)
    rank = Tensor(np.zeros(0, np.int64)) if driver == "gels" else rank
    return least_squares(solution, residuals, rank, singular.detach())


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """What counts as 0 among singular values, absolutely and next to the largest: torch's defaults."""
    atol, rtol = (x.array if isinstance(x, Tensor) else x for x in (atol, rtol))
    if rtol is None:
        standard = max(A.shape[-2:]) * float(np.finfo(A.dtype).eps)
        rtol = standard if atol is None else np.where(np.asarray(atol) > 0, 0.0, standard)
    return 0.0 if atol is None else atol, rtol


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse; singular values of at most max(atol, rtol * the largest) are taken for 0.

    (..., m, n) gives (..., n, m). rtol is by default max(m, n) times the dtype's epsilon, or 0 where atol is above 0.
    """
    check("pinv", A, square=hermitian)
    atol, rtol = tolerances(A, atol, rcond if rtol is None else rtol)
    return call("pinv", hermitian_of(A) if hermitian else A, rtol=rtol, atol=atol)


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """How many singular values are more than max(atol, rtol * the largest), as in `pinv`: (...) int64."""
    check("matrix_rank", A, square=hermitian)
    atol, rtol = (tol, 0.0) if tol is not None else tolerances(A, atol, rtol)
    detached = A.detach()
    sizes = (eigvalsh(detached).abs() if hermitian else svdvals(detached)).array
    if not sizes.shape[-1]:
        return Tensor(np.zeros(sizes.shape[:-1], np.int64))
    atol, rtol = (np.asarray(x.array if isinstance(x, Tensor) else x) for x in (atol, rtol))
    bound = np.maximum(atol, rtol * sizes.max(axis=-1))
    return Tensor(np.asarray(np.count_nonzero(sizes > bound[..., None], axis=-1)))


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse for tensordot(A, B, B.ndim): the first `ind` dimensions are the rows, the others the columns."""
    rows, columns = math.prod(A.shape[:ind]), math.prod(A.shape[ind:])
    if ind < 1 or rows != columns:
        raise RuntimeError(
            f"linalg.tensorinv: expected ind of 1 or more, before and after which shape {A.shape} has as many "
            f"elements, got {ind}"
        )
    return inv(A.reshape(rows, columns)).reshape(*A.shape[ind:], *A.shape[:ind])


def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The X of tensordot(A, X, X.ndim) = B; dims, if any, are first moved to the end of A."""
    if dims is not None:
        A = movedim(A, tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A.shape[B.ndim :]
    if math.prod(shape) != math.prod(B.shape):
        raise RuntimeError(
            f"linalg.tensorsolve: expected A of as many elements after its first {B.ndim} dimensions as B, got shapes "
            f"{A.shape} and {B.shape}"
        )
    return solve(A.reshape(math.prod(B.shape), math.prod(shape)), B.reshape(-1)).reshape(*shape)


# ----- determinants -----


def det(A: Tensor) -> Tensor:
    """The determinant of each matrix (..., n, n), as (...); of a singular one the derivative is finite, too."""
    check("det", A, square=True)
    return call("det", A)


def slogdet(A: Tensor) -> Any:
    """A named tuple (sign, logabsdet): sign * exp(logabsdet) is the determinant; 0 and -inf if A is singular."""
    check("slogdet", A, square=True)
    return sign_and_logarithm(*call("slogdet", A))


# ----- triangular factorizations -----


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L of A = L @ L.mH, or the upper triangular U of A = U.mH @ U.

    That triangle of A alone is read. LinAlgError where a matrix is not positive definite.
    """
    check("cholesky", A, square=True)
    factor = call("cholesky", A, upper=bool(upper))
    return adjoint_of(factor) if upper else factor


def qr(A: Tensor, mode: str = "reduced") -> Any:
    """A named tuple (Q, R): Q with orthonormal columns, R upper triangular; mode="complete" makes Q square.

    A (..., m, n) gives Q (..., m, k) and R (..., k, n), k = min(m, n), or m where Q is square.

    mode="r" leaves Q empty; it has a derivative, which torch's has not.
    """
    check("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"linalg.qr: expected mode to be 'reduced', 'complete' or 'r', got {mode!r}")
    Q, R = call("qr", A, mode="reduced" if mode == "r" else mode)
    return orthogonal_and_triangular(Tensor(np.zeros(0, A.dtype)) if mode == "r" else Q, R)


def check_pivot(name: str, pivot: bool) -> None:
    if not pivot:
        raise RuntimeError(f"linalg.{name}: there is no factorization without pivots here: write pivot=True")


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """A named tuple (LU, pivots) for `lu_solve`: L and U in one matrix, and the row each was swapped with, from 1."""
    check("lu_factor", A)
    check_pivot("lu_factor", pivot)
    LU, pivots = call("lu_factor", A)
    if not np.diagonal(LU.array, 0, -2, -1).all():
        raise RuntimeError(
            "linalg.lu_factor: a diagonal element of U is 0, so that there is no lu_solve: write linalg.lu"
        )
    return packed_factors(LU, pivots)


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """A named tuple (P, L, U) with A = P @ L @ U: a permutation, a unit lower and an upper triangular matrix.

    (..., m, m), (..., m, k) and (..., k, n), k = min(m, n). pivot=False is refused: RuntimeError.
    """
    check("lu", A)
    check_pivot("lu", pivot)
    LU, pivots = call("lu_factor", A)
    rows, columns = A.shape[-2:]
    count = min(rows, columns)
    order = permutation(pivots.array, rows)
    L = call("tril", LU[..., :count], diagonal=-1) + np.eye(rows, count, dtype=A.dtype)
    return permuted_factors(
        Tensor((order[..., None, :] == np.arange(rows)[:, None]).astype(A.dtype)), L, call("triu", LU[..., :count, :])
    )


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """The X of A @ X = B, given what lu_factor gave of A; of A.mH with adjoint, of X @ A = B with left=False."""
    check("lu_solve", LU, B, square=True)
    check_right_side("lu_solve", LU, B, left)
    if not left:
        return adjoint_of(lu_solve(LU, pivots, adjoint_of(B), adjoint=not adjoint))
    order = permutation(pivots.array, LU.shape[-1])[..., None]
    B = broadcast_to(B, (*np.broadcast_shapes(LU.shape[:-2], B.shape[:-2]), *B.shape[-2:]))
    if adjoint:
        middle = solve_triangular(adjoint_of(LU), B, upper=False)
        out = solve_triangular(adjoint_of(LU), middle, upper=True, unitriangular=True)
        return take_along_dim(out, np.argsort(order, axis=-2), -2)
    middle = solve_triangular(LU, take_along_dim(B, order, -2), upper=False, unitriangular=True)
    return solve_triangular(LU, middle, upper=True)


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first columns of the product of Householder matrices 1 - tau v v.mH, whose v are below A's diagonal."""
    check("householder_product", A, tau)
    rows, columns = A.shape[-2:]
    if columns > rows or tau.shape[:-1] != A.shape[:-2] or tau.shape[-1] > columns:
        raise RuntimeError(
            f"linalg.householder_product: expected A with no more columns than rows, and one tau for each column at "
            f"most, got shapes {A.shape} and {tau.shape}"
        )
    vectors = call("tril", A, diagonal=-1) + np.eye(rows, columns, dtype=A.dtype)
    out = identity(*A.shape, dtype=A.dtype)
    for i in reversed(range(tau.shape[-1])):
        v = vectors[..., i : i + 1]
        out = out - tau[..., i : i + 1, None] * v @ (adjoint_of(v) @ out)
    return out


# ----- the same, with a word on what failed instead of an error -----


def where_possible(function: Callable[[Tensor], Any], A: Tensor, info: np.ndarray, dims: int = 2) -> Any:
    """A function of matrices, and nan for those of which `info` says that there is none."""
    failed = info > 0
    if not failed.any():
        return function(A)
    out = function(call("where", failed[..., None, None], np.eye(A.shape[-1], dtype=A.dtype), A))
    return call("where", np.expand_dims(failed, tuple(range(-dims, 0))), np.asarray(np.nan, A.dtype), out)


def first_zero(LU: np.ndarray) -> np.ndarray:
    """Which diagonal element of U is the first to be 0, from 1 on; 0 if none is."""
    zeros = np.diagonal(LU, 0, -2, -1) == 0
    first = zeros.argmax(axis=-1) + 1 if zeros.shape[-1] else 0
    return np.where(zeros.any(axis=-1), first, 0).astype(np.int32)


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """lu_factor, with info: which diagonal element of U is the first to be 0, or 0."""
    if check_errors:
        lu_factor(A, pivot=pivot)
    check("lu_factor_ex", A)
    check_pivot("lu_factor_ex", pivot)
    LU, pivots = call("lu_factor", A)
    return packed_factors_and_info(LU, pivots, Tensor(first_zero(LU.array)))


def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """inv, with info: which diagonal element of U is the first to be 0, or 0; the inverse is nan then, torch's inf."""
    check("inv_ex", A, square=True)
    info = first_zero(RULES["lu_factor"](A.array)[0])
    return inverse_and_info(inv(A) if check_errors else where_possible(inv, A, info), Tensor(info))


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """solve, with info: which diagonal element of U is the first to be 0, or 0; the result is nan then."""
    check("solve_ex", A, B, square=True)
    info = first_zero(RULES["lu_factor"](A.array)[0])
    if check_errors:
        return result_and_info(solve(A, B, left=left), Tensor(info))
    dims = 1 if is_vector(A, B) else 2
    return result_and_info(where_possible(lambda A: solve(A, B, left=left), A, info, dims), Tensor(info))


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """cholesky, with info: the order of the first leading minor that is not positive, or 0; the factor is nan then."""
    from scipy.linalg import get_lapack_funcs

    check("cholesky_ex", A, square=True)
    potrf = get_lapack_funcs("potrf", (A.array,))
    info = np.zeros(A.shape[:-2], np.int32)
    for i in np.ndindex(info.shape) if math.prod(A.shape) else ():
        info[i] = potrf(A.array[i], lower=not upper)[1]
    if check_errors:
        return factor_and_info(cholesky(A, upper=upper), Tensor(info))
    return factor_and_info(where_possible(lambda A: cholesky(A, upper=upper), A, info), Tensor(info))


# ----- eigenvalues and singular values -----


def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """A named tuple (eigenvalues, eigenvectors) of matrices that are their own adjoints; UPLO: the triangle read.

    Eigenvalues (..., n) are real, in ascending order; eigenvectors are the columns of (..., n, n).
    """
    check("eigh", A, square=True)
    if UPLO not in ("L", "U", "l", "u"):
        raise RuntimeError(f"linalg.eigh: expected UPLO to be 'L' or 'U', got {UPLO!r}")
    return eigenvalues_and_eigenvectors(*call("eigh", A, upper=UPLO in "Uu"))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of matrices that are their own adjoints, in ascending order."""
    return eigh(A, UPLO).eigenvalues


def eig(A: Tensor) -> Any:
    """A named tuple (eigenvalues (..., n), eigenvectors (..., n, n), in columns), always complex."""
    check("eig", A, square=True)
    return eigenvalues_and_eigenvectors(*call("eig", A))


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues (..., n) of square matrices (..., n, n), always complex."""
    return eig(A).eigenvalues


def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """A named tuple (U, S, Vh) with A = U @ diag(S) @ Vh, S in descending order; driver is torch's, for GPUs.

    U (..., m, m), Vh (..., n, n), without full_matrices (..., m, k) and (..., k, n); S (..., k), k = min(m, n), real.
    """
    check("svd", A)
    return singular_values_and_vectors(*call("svd", A, full_matrices=full_matrices))


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, in descending order: (..., min(m, n)), real."""
    return svd(A, full_matrices=False).S


# ----- norms -----


def vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of order `ord`, any number, of all elements, or along one or several dims."""
    x = x if dtype is None else x.to(dtype)
    if x.dtype.kind not in "fc":
        raise RuntimeError(f"linalg.vector_norm: expected floating-point or complex numbers, got {x.dtype}")
    dim = tuple(dim) if isinstance(dim, list) else dim
    return call("norm", x.abs() if x.dtype.kind == "c" else x, p=ord, dim=dim, keepdim=keepdim)


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices, which lie in two dims: "fro", "nuc", 2 and -2 (of singular values), 1, -1, inf, -inf."""
    A = A if dtype is None else A.to(dtype)
    check("matrix_norm", A)
    if not isinstance(dim, tuple | list) or len(dim) != 2:
        raise RuntimeError(f"linalg.matrix_norm: expected two dims, got {dim}")
    if ord == "fro":
        return vector_norm(A, 2, dim, keepdim)
    rows, columns = (each % A.ndim for each in dim)
    if ord in ("nuc", 2, -2):
        values = svdvals(movedim(A, (rows, columns), (-2, -1)))
        out = values.sum(-1) if ord == "nuc" else extreme(values, ord > 0, -1)
        return out.unsqueeze(min(rows, columns)).unsqueeze(max(rows, columns)) if keepdim else out
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(
            f"linalg.matrix_norm: expected ord to be 'fro', 'nuc', 1, 2, inf or its negative, got {ord!r}"
        )
    inner, outer = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = A.abs().sum(inner, keepdim=True)
    out = extreme(sums, ord > 0, outer)
    return out.unsqueeze(outer) if keepdim else out.squeeze(inner - (inner > outer))


def extreme(x: Tensor, greatest: bool, dim: int) -> Tensor:
    """The greatest or the least along a dimension; of nothing 0 is the greatest."""
    if greatest and not x.shape[dim]:
        return x.sum(dim)
    return call("amax" if greatest else "amin", x, dim=dim)


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`vector_norm` along one dim, or of all elements where neither ord nor dim is given; `matrix_norm` of two dims."""
    if isinstance(dim, int):
        dim = (dim,)
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype)
    if dim is None:
        if A.ndim not in (1, 2):
            raise RuntimeError(f"linalg.norm: expected a vector or a matrix where no dim is given, got shape {A.shape}")
        dim = tuple(range(A.ndim))
    if len(dim) == 2:
        return matrix_norm(A, ord, dim, keepdim, dtype=dtype)
    if len(dim) != 1 or isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: expected two dims for a matrix norm, one for a number, got {ord!r} and {dim}")
    return vector_norm(A, ord, dim, keepdim, dtype=dtype)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number norm(A, p) * norm(inv(A), p), by default the largest over the least singular value."""
    check("cond", A, square=p not in (None, 2, -2))
    if not math.prod(A.shape[-2:]):
        return Tensor(np.zeros(A.shape[:-2], precision(A)))
    if p in (None, 2, -2):
        values = svdvals(A)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    singular = np.asarray(np.linalg.slogdet(A.array).sign == 0)
    regular = call("where", singular[..., None, None], np.eye(A.shape[-1], dtype=A.dtype), A)
    product = matrix_norm(A, p) * matrix_norm(inv(regular), p)
    return call("where", singular, np.asarray(np.inf, product.dtype), product)


# ----- powers and products -----


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A multiplied by itself, n times in all; by its inverse where n is negative."""
    check("matrix_power", A, square=True)
    if n < 0:
        A, n = inv(A), -n
    if not n:
        return call("where", np.asarray(False), A, identity(*A.shape, dtype=A.dtype))  # its derivative is 0
    out = None
    while n:
        if n % 2:
            out = A if out is None else out @ A
        n //= 2
        A = A @ A if n else A
    return out.clone() if out is A else out  # type: ignore[return-value, union-attr]


def matrix_exp(A: Tensor) -> Tensor:
    """The exponential 1 + A + A @ A / 2 + ... of each matrix."""
    check("matrix_exp", A, square=True)
    return call("matrix_exp", A)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as `@`."""
    return call("matmul", input, other)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A view of the diagonal of each matrix."""
    return call("diagonal", A, offset=offset, dim1=dim1, dim2=dim2)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of each element, in a dimension more."""
    x = x if x.ndim else x.reshape(1)
    count = x.shape[-1] if N is None else N
    if count <= 1:
        raise RuntimeError(f"linalg.vander: expected N to be more than 1, got {count}")
    powers = call("expand", x.unsqueeze(-1), size=(*x.shape, count - 1))
    ones = np.ones((*x.shape, 1), x.dtype)
    return call("cat", ones, call("cumprod", powers, dim=-1), dim=-1)


__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh",
    "householder_product", "inv", "inv_ex", "lstsq", "lu", "lu_factor", "lu_factor_ex", "lu_solve", "matmul",
    "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_ex", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]  # fmt: skip
