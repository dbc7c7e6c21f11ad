"""Linear algebra under the names that torch has at its top level: `pg.det`, `x.inverse()`, `pg.svd`."""

# ruff: noqa: N803 (the matrices have their letters as names, in torch, too)

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.operators import linalg, reductions
from pargrad.operators.compositions import adjoint as adjoint_of
from pargrad.tensor import Tensor

singular_values_and_vectors = namedtuple("singular_values_and_vectors", ["U", "S", "V"])
solution_and_matrix = namedtuple("solution_and_matrix", ["solution", "cloned_coefficient"])
reflections = namedtuple("reflections", ["a", "tau"])


def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant: -inf where that is 0, nan where it is negative."""
    sign, logabsdet = linalg.slogdet(input)
    return logabsdet + sign.log()


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """The X of A @ X = B, given a factor of A that cholesky gave; B (..., n, k), RuntimeError for other shapes."""
    linalg.check_right_side("cholesky_solve", L, B, left=True)
    lower = adjoint_of(L) if upper else L
    middle = linalg.solve_triangular(lower, B, upper=False)
    return linalg.solve_triangular(adjoint_of(lower), middle, upper=True)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, given a factor of A that cholesky gave."""
    linalg.check("cholesky_inverse", L, square=True)
    return cholesky_solve(linalg.identity(*L.shape, dtype=L.dtype), L, upper)


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """The lower triangular L of input = L @ L.mH, or the upper triangular U of input = U.mH @ U."""
    return linalg.cholesky(input, upper=upper)


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The Moore-Penrose inverse; singular values of at most rcond * the largest are taken for 0."""
    return linalg.pinv(input, rcond)


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """The X of A @ X = b, given what linalg.lu_factor gave of A."""
    return linalg.lu_solve(LU_data, LU_pivots, b)


@reductions.public
def norm_(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The norm of order p of all elements, or of vectors along `dim`; "fro" is 2; "nuc" is of matrices, in two dims."""
    if isinstance(p, str) and p == "nuc":
        return linalg.matrix_norm(input, "nuc", tuple(range(input.ndim)) if dim is None else dim, keepdim, dtype=dtype)
    return reductions.norm(input, p, dim, keepdim, dtype)


def qr(input: Tensor, some: bool = True) -> Any:
    """linalg.qr, with mode="complete" for some=False."""
    return linalg.qr(input, "reduced" if some else "complete")


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """A named tuple (U, S, V) with input = U @ diag(S) @ V.mH; without compute_uv, U and V are zeros."""
    U, S, Vh = linalg.svd(input, full_matrices=not some and compute_uv)
    if compute_uv:
        return singular_values_and_vectors(U, S, adjoint_of(Vh))
    rows, columns = (Tensor(np.zeros((*input.shape[:-2], n, n), input.dtype)) for n in input.shape[-2:])
    return singular_values_and_vectors(rows, S, columns)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices in the order of fewest multiplications."""
    return linalg.multi_dot(matrices) if len(matrices) > 1 else matrices[0]


def lu(A: Tensor, pivot: bool = True, get_infos: bool = False, out: Any = None) -> tuple[Tensor, ...]:
    """linalg.lu_factor; with get_infos, linalg.lu_factor_ex: `lu_unpack` takes them apart."""
    if out is not None:
        raise TypeError("lu: results are new tensors here: leave out= out")
    LU, pivots, info = linalg.lu_factor_ex(A, pivot=pivot)
    return (LU, pivots, info) if get_infos else (LU, pivots)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """A named tuple (P, L, U) with A = P @ L @ U, given what lu_factor gave of A; what is not wanted is empty."""
    rows, columns = LU_data.shape[-2:]
    count = min(rows, columns)
    P = L = U = Tensor(np.zeros(0, LU_data.dtype))
    if unpack_data:
        L = LU_data[..., :count].tril(-1) + np.eye(rows, count, dtype=LU_data.dtype)
        U = LU_data[..., :count, :].triu()
    if unpack_pivots:
        order = linalg.permutation(LU_pivots.array, rows)
        P = Tensor((order[..., None, :] == np.arange(rows)[:, None]).astype(LU_data.dtype))
    return linalg.permuted_factors(P, L, U)


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """A named tuple (solution, cloned_coefficient): the X of A @ X = b, or of A.mT @ X = b; linalg.solve_triangular."""
    matrix = A.mT if transpose else A
    solution = linalg.solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular)
    return solution_and_matrix(solution, A.clone())


def geqrf(input: Tensor) -> Any:
    """A named tuple (a, tau): R, below its diagonal the vectors of the reflections that make Q, as LAPACK has it."""
    packed, tau = np.linalg.qr(input.array, mode="raw")
    return reflections(Tensor(np.ascontiguousarray(np.swapaxes(packed, -1, -2))), Tensor(tau))


def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q @ other, or other @ Q with left=False, of the whole Q that `geqrf` gave; with transpose, of Q.mH."""
    if not left:
        return adjoint_of(ormqr(input, tau, adjoint_of(other), True, not transpose))
    rows, columns = input.shape[-2:]
    vectors = input.tril(-1) + np.eye(rows, columns, dtype=input.dtype)
    order = range(tau.shape[-1]) if transpose else reversed(range(tau.shape[-1]))
    out = other
    for i in order:
        v, factor = vectors[..., i : i + 1], tau[..., i : i + 1, None]
        out = out - (factor.conj() if transpose else factor) * v @ (adjoint_of(v) @ out)
    return out


def of_input(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of what torch calls `input` at its top level and A in linalg."""

    @functools.wraps(function)
    def called(input: Tensor, *arguments: Any, **named: Any) -> Any:
        return function(input, *arguments, **named)

    return called


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        chain_matmul, cholesky, cholesky_inverse, cholesky_solve, geqrf, logdet, lu, lu_solve, lu_unpack, norm_, ormqr,
        pinverse, qr, svd, triangular_solve,
    )
}  # fmt: skip
FUNCTIONS |= {name: of_input(getattr(linalg, name)) for name in ("det", "matrix_exp", "matrix_power", "slogdet")}
FUNCTIONS["inverse"] = of_input(linalg.inv)
FUNCTIONS["orgqr"] = of_input(linalg.householder_product)
NOT_METHODS = {"chain_matmul", "lu_unpack"}
# Rules that torch has in linalg alone.
INTERNAL = {"eig", "eigh", "inv", "lstsq", "lu_factor", "pinv", "solve", "solve_triangular"}
