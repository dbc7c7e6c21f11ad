"""Factorizations of matrices, and what is solved with them: on the last two dimensions, whatever comes before.

The derivatives are those of M. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), where no other paper is named. Eigenvectors and singular vectors are defined up to a phase,
and where their values are equal up to a rotation: of what depends on either there is no derivative. The first is
refused, as in torch; the rotation has the derivative 0 here, where torch gives nan.
"""

from typing import Any

import numpy as np

from pargrad.rules.indexing import gather
from pargrad.rules.linear import transposed
from pargrad.rules.shapes import diag_embed
from pargrad.rules.stacks import NotStackable
from pargrad.rules.table import rule, sample

# Samples of matrices that are positive definite and far from singular, or have eigenvalues that are far apart.
DOMINANT: Any = (3 * np.eye(3) - 1, 3 * np.eye(3) + 1)
WIDE: Any = (3 * np.eye(2, 4) - 1, 3 * np.eye(2, 4) + 1)
SPREAD: Any = (np.diag([-3.0, 0.0, 3.0]) - 0.5, np.diag([-3.0, 0.0, 3.0]) + 0.5)
SQUARE = (sample((3, 3), domain=DOMINANT), sample((2, 3, 3), domain=DOMINANT), sample((1, 1), domain=(1.0, 2.0)))


def is_complex(x):
    return x.dtype.kind == "c"


def conjugate(x):
    return np.conj(x) if is_complex(x) else x


def adjoint(x):
    return conjugate(transposed(x))


def hermitian_part(x):
    return (x + adjoint(x)) / 2


def hermitian(x, upper):
    """What one triangle of x makes, or with upper=None the mean of both; a derivative is always that of the mean."""
    if upper is None:
        return hermitian_part(x)
    triangle = np.triu(x, 1) if upper else np.tril(x, -1)
    return triangle + adjoint(triangle) + diag_embed(main_diagonal(x).real).astype(x.dtype)


def skew(x):
    return x - adjoint(x)


def column(x):
    """A vector laid out so that it multiplies rows."""
    return x[..., :, None]


def row(x):
    """A vector laid out so that it multiplies columns."""
    return x[..., None, :]


def main_diagonal(x):
    return np.diagonal(x, 0, -2, -1)


def over(x, y):
    """x / y, and 0 where y is 0: what is undefined there has a subgradient of 0."""
    return np.where(y == 0, 0, x / np.where(y == 0, 1, y))


def one_by_one(function, arrays, stacked, settings):
    """On a stack as it stands: every matrix is worked on by itself."""
    (x,) = arrays
    if x.ndim < 3:
        raise NotStackable
    return function(x, **settings)


# ----- inverses and systems -----


@rule(*SQUARE, dtype="floating", numpy=np.linalg.inv, stack=one_by_one)
def inv(x):
    y = np.linalg.inv(x)
    return y, lambda g: -transposed(y) @ g @ transposed(y)


@rule(
    sample((3, 3), (3, 3), domain=DOMINANT),
    sample((2, 3, 3), (3, 3), domain=DOMINANT),
    sample((3, 3), (2, 1, 3, 3), domain=DOMINANT),
    sample((1, 1), (1, 4), domain=(1.0, 2.0)),
    dtype="match",
    joint=True,
)
def solve(x, y):
    """The z of x @ z = y, both matrices."""
    z = np.linalg.solve(x, y)

    def vjp(g):
        of_y = solve(transposed(x), g)
        return -of_y @ transposed(z), of_y

    return z, vjp


@rule(
    *(sample((3, 3), (3, 3), upper=upper, domain=DOMINANT) for upper in (False, True)),
    sample((2, 3, 3), (3, 3), upper=False, unitriangular=True, domain=DOMINANT),
    sample((3, 3), (2, 1, 3, 3), upper=True, unitriangular=True, domain=DOMINANT),
    dtype="match",
    joint=True,
)
def solve_triangular(x, y, *, upper, unitriangular=False):
    """The z of x @ z = y, both matrices; only one triangle of x is read, and no diagonal that is said to be ones."""
    from scipy.linalg import get_blas_funcs

    trsm = get_blas_funcs("trsm", (x, y))
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    wide, right = (np.broadcast_to(each, (*batch, *each.shape[-2:])) for each in (x, y))
    z = np.zeros(right.shape, y.dtype)
    for i in np.ndindex(batch) if z.size else ():
        z[i] = trsm(1, wide[i], right[i], lower=not upper, diag=unitriangular)

    def vjp(g):
        of_y = solve_triangular(transposed(x), g, upper=not upper, unitriangular=unitriangular)
        product = -of_y @ transposed(z)
        return (np.triu(product, unitriangular) if upper else np.tril(product, -unitriangular)), of_y

    return z, vjp


@rule(
    sample((4, 2)),
    sample((2, 4)),
    sample((2, 3, 3), domain=DOMINANT),
    dtype="floating",
    stack=one_by_one,
    holomorphic=False,
)
def pinv(x, *, rtol=None, atol=0.0):
    """The Moore-Penrose inverse, for which singular values of at most max(atol, rtol * the largest) are 0.

    G. Golub and V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate" (1973).
    """
    if rtol is None:
        rtol = max(x.shape[-2:]) * np.finfo(x.dtype).eps
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    bound = np.maximum(np.asarray(atol)[..., None], np.asarray(rtol)[..., None] * s[..., :1])
    y = (adjoint(vh) * row(np.where(s > bound, over(1, s), 0).astype(s.dtype))) @ adjoint(u)

    def vjp(g):
        yh, gh = adjoint(y), adjoint(g)
        left, right = gh - x @ (y @ gh), gh - (gh @ y) @ x  # what x does not see of gh on either side
        return -yh @ g @ yh + (left @ y) @ yh + yh @ (y @ right)

    return y, vjp


@rule(
    sample((4, 2), (4, 3)),
    sample((2, 4), (2, 4), domain=WIDE),
    sample((2, 3, 3), (2, 3, 3), domain=DOMINANT),
    dtype="match",
    joint=True,
    holomorphic=False,
)
def lstsq(x, y, *, rcond=None, driver="gelsy"):
    """The z for which x @ z is nearest to y, the smallest of them; the rank of x; its singular values, or nothing.

    The derivative is that of pinv(x) @ y.
    """
    import scipy.linalg

    rows, columns = x.shape[-2:]
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    left, right = (np.broadcast_to(each, (*batch, *each.shape[-2:])) for each in (x, y))
    z = np.zeros((*batch, columns, y.shape[-1]), y.dtype)
    rank = np.zeros(batch, np.int64)
    singular = np.zeros((*batch, min(rows, columns)) if driver != "gelsy" else 0, np.finfo(x.dtype).dtype)
    cutoff = max(rows, columns) * float(np.finfo(x.dtype).eps) if rcond is None else rcond
    for i in np.ndindex(batch) if x.size else ():
        z[i], _, rank[i], s = scipy.linalg.lstsq(left[i], right[i], cond=cutoff, lapack_driver=driver)
        if driver != "gelsy":
            singular[i] = s

    def vjp(g):
        p = pinv(x, rtol=cutoff)
        of_y = adjoint(p) @ g[0]
        rest = g[0] - adjoint(x) @ of_y  # what of g is not seen by x
        return -of_y @ adjoint(z) + (y - x @ z) @ adjoint(p @ of_y) + (adjoint(p) @ z) @ adjoint(rest), of_y

    return (z, rank, singular), vjp


# ----- determinants -----


def cofactors(x, y, singular):
    """The derivative of y, the determinant: y * inv(x).T, by way of singular values where that would be 0 / 0.

    N. Higham, "What is the adjugate of a matrix?" (2020), https://nhigham.com/2020/06/16/what-is-the-adjugate-of-a-matrix/
    """
    count, singular = x.shape[-1], singular[..., None, None]
    regular = y[..., None, None] * transposed(inv(np.where(singular, np.eye(count, dtype=x.dtype), x)))
    if not singular.any():
        return regular
    u, s, vh = svd(np.where(singular, x, np.diag(np.arange(1, count + 1)).astype(x.dtype)))
    others = np.prod(np.where(np.eye(count, dtype=bool), 1, row(s)), axis=-1)
    sign = (det(u) * det(vh))[..., None, None]
    return np.where(singular, sign * ((conjugate(u) * row(others)) @ conjugate(vh)), regular)


@rule(*SQUARE, dtype="floating", numpy=np.linalg.det, stack=one_by_one)
def det(x):
    y = np.asarray(np.linalg.det(x))
    singular = np.asarray(y == 0)
    return y, lambda g: g[..., None, None] * cofactors(x, y, singular)


@rule(*SQUARE, dtype="floating", holomorphic=False)
def slogdet(x):
    """The sign of the determinant, of complex matrices its phase, and the logarithm of its absolute value.

    Of a singular matrix the derivative is infinite.
    """
    sign, logabsdet = map(np.asarray, np.linalg.slogdet(x))
    singular = np.asarray(sign == 0)[..., None, None]

    def vjp(g):
        y = inv(np.where(singular, np.eye(x.shape[-1], dtype=x.dtype), x))
        scale = g[1] + 1j * np.imag(g[0] * np.conj(sign)) if is_complex(x) else g[1]
        return scale[..., None, None] * np.where(singular, np.inf, adjoint(y))

    return (sign, logabsdet), vjp


# ----- triangular factorizations -----


def half(x, upper):
    """The upper or the lower triangle with half of the diagonal."""
    whole = np.tri(x.shape[-1], k=-1)
    return x * ((whole.T if upper else whole) + np.eye(x.shape[-1]) / 2).astype(x.dtype)


@rule(*SQUARE, dtype="floating", stack=one_by_one, holomorphic=False)
def cholesky(x, *, upper=None):
    """The lower triangular y of y @ y.mH = x, of which one triangle is read, or the mean of both.

    I. Murray, "Differentiation of the Cholesky decomposition" (2016).
    """
    y = np.linalg.cholesky(hermitian(x, upper))

    def vjp(g):
        middle = half(adjoint(y) @ g, upper=False)
        left = solve_triangular(adjoint(y), middle, upper=True)
        return hermitian_part(adjoint(solve_triangular(adjoint(y), adjoint(left), upper=True)))

    return y, vjp


@rule(
    sample((3, 3)), sample((2, 4, 2)), sample((2, 4)), sample((1, 1)), sample((3, 3), mode="complete"),
    dtype="floating", holomorphic=False,
)  # fmt: skip
def qr(x, *, mode="reduced"):
    """S. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra functions with application in optimum
    experimental design" (2010); D. Roberts and L. Roberts, "QR and LQ decomposition matrix backpropagation algorithms
    for square, wide, and deep matrices" (2020)."""
    q, r = np.linalg.qr(x, mode)
    rows, columns = x.shape[-2:]
    count = min(rows, columns)

    def vjp(g):
        if rows > count and mode == "complete":
            raise RuntimeError(
                f"qr: mode='complete' has no derivative for {rows} rows and {columns} columns: the last columns of Q "
                "are any that are orthogonal to the first. Write mode='reduced'"
            )
        first, rest = r[..., :count], r[..., count:]
        of_q = g[0] + q @ (rest @ adjoint(g[1][..., count:]))
        upper = half(adjoint(q) @ of_q - g[1][..., :count] @ adjoint(first), upper=True)
        of_first = adjoint(solve_triangular(first, adjoint(of_q - q @ (upper + adjoint(upper))), upper=True))
        return np.concatenate([of_first, q @ g[1][..., count:]], axis=-1)

    return (q, r), vjp


def permutation(pivots, rows):
    """The order that rows come to when each is in turn swapped with that of its pivot, counted from 1."""
    order = np.broadcast_to(np.arange(rows), (*pivots.shape[:-1], rows)).copy()
    for i in range(pivots.shape[-1]):
        other = pivots[..., i : i + 1].astype(np.int64) - 1
        mine = order[..., i : i + 1].copy()
        order[..., i : i + 1] = np.take_along_axis(order, other, -1)
        np.put_along_axis(order, other, mine, -1)
    return order


@rule(
    *SQUARE[:2], sample((3, 3)), sample((2, 4, 2)), sample((2, 4)),
    dtype="floating",
)  # fmt: skip
def lu_factor(x):
    """L, less the ones of its diagonal, and U in one matrix; and which row each was swapped with, counted from 1."""
    from scipy.linalg import get_lapack_funcs

    getrf = get_lapack_funcs("getrf", (x,))
    shape, (rows, columns) = x.shape, x.shape[-2:]
    count = min(rows, columns)
    y, pivots = np.empty_like(x, order="C"), np.zeros((*x.shape[:-2], count), np.int32)
    for i in np.ndindex(x.shape[:-2]) if x.size else ():
        y[i], swaps, _ = getrf(x[i])
        pivots[i] = swaps + 1
    back = np.argsort(permutation(pivots, rows), axis=-1)

    def vjp(g):
        first = y[..., :count, :count]
        lower, upper = np.tril(g[0][..., :count, :count], -1), np.triu(g[0][..., :count, :count])
        below, beside = g[0][..., count:, :count], g[0][..., :count, count:]
        # L below and U beside the square part are solutions with its U and L.
        below = transposed(solve_triangular(first, transposed(below), upper=True))
        beside = solve_triangular(transposed(first), beside, upper=True, unitriangular=True)
        upper = upper - transposed(y[..., count:, :count]) @ below
        lower = lower - beside @ transposed(y[..., :count, count:])
        unit = np.tril(first, -1) + np.eye(count, dtype=first.dtype)
        middle = np.tril(transposed(unit) @ lower, -1) + np.triu(upper @ transposed(np.triu(first)))
        square = solve_triangular(transposed(first), middle, upper=True, unitriangular=True)
        square = transposed(solve_triangular(first, transposed(square), upper=True))
        whole = np.concatenate([square, below], axis=-2) if rows > count else np.concatenate([square, beside], axis=-1)
        return gather(whole, np.broadcast_to(back[..., None], shape), dim=-2)

    return (y, pivots), vjp


# ----- eigenvalues and singular values -----


def check_phases(turned):
    """Refuses a gradient along the phase of a complex vector, which can be any; `turned`: twice its i-fold, or 0."""
    if isinstance(turned, np.ndarray) and np.abs(turned).max(initial=0) > 0.01:
        raise RuntimeError(
            "the gradient depends on the phases of eigenvectors or singular vectors, and they can have any: write what "
            "is the same for all phases, such as v.abs() or v @ v.mH"
        )


def inverse_gaps(w):
    """1 / (w_j - w_i), and 0 between equal ones."""
    return over(1, row(w) - column(w))


@rule(sample((3, 3), domain=SPREAD), sample((2, 3, 3), domain=SPREAD), dtype="floating", holomorphic=False)
def eigh(x, *, upper=None):
    """Eigenvalues and eigenvectors of x, of which one triangle is read, or the mean of both."""
    w, v = np.linalg.eigh(hermitian(x, upper))

    def vjp(g):
        product = adjoint(v) @ g[1]
        if is_complex(v):
            check_phases(main_diagonal(skew(product)))
        middle = diag_embed(g[0]) + product * inverse_gaps(w)
        return hermitian_part(v @ middle @ adjoint(v))

    return (w, v), vjp


@rule(
    sample((2, 2), domain=(0.5, 2.0)),
    sample((3, 2, 2), domain=(0.5, 2.0)),
    sample((1, 1)),
    dtype="floating",
    holomorphic=False,
)
def eig(x):
    """C. Boeddeker et al., "On the computation of complex-valued gradients with application to statistically optimum
    beamforming" (2017); the eigenvectors have length 1."""
    dtype = np.result_type(x.dtype, np.complex64)
    w, v = (each.astype(dtype, copy=False) for each in np.linalg.eig(x))
    real = not is_complex(x)

    def vjp(g):
        vh = adjoint(v)
        product = vh @ g[1]
        if not real:
            check_phases(main_diagonal(skew(product)))
        lengths = (vh @ v) * row(np.real(main_diagonal(product)))
        middle = diag_embed(g[0]) + (product - lengths) * inverse_gaps(np.conj(w))
        y = solve(vh, middle @ vh)
        return np.real(y) if real else y

    return (w, v), vjp


@rule(
    sample((3, 3)),
    sample((2, 4, 2)),
    sample((2, 4)),
    sample((1, 1)),
    dtype="floating",
    holomorphic=False,
)
def svd(x, *, full_matrices=False):
    """J. Townsend, "Differentiating the singular value decomposition" (2016); of complex matrices Z.-Q. Wan and S.-X.
    Zhang, "Automatic differentiation for complex valued SVD" (2019).

    As in torch the gradient of the singular vectors that full_matrices adds is ignored: they can be any.
    """
    u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
    rows, columns = x.shape[-2:]
    count = min(rows, columns)

    def vjp(g):
        left, right, of_left, of_right = u[..., :count], vh[..., :count, :], g[0][..., :count], g[2][..., :count, :]
        turned_left, turned_right = skew(adjoint(left) @ of_left), skew(right @ adjoint(of_right))
        gaps = over(1, (row(s) - column(s)) * (row(s) + column(s)))
        middle = (turned_left * gaps) * row(s) + column(s) * (turned_right * gaps) + diag_embed(g[1])
        if is_complex(u):
            check_phases(main_diagonal(turned_left + turned_right))
            middle = middle + diag_embed(over(main_diagonal(turned_left - turned_right), 4 * s))
        # What turns out of the space that the singular vectors span.
        away_left, away_right = over(of_left, row(s)), over(of_right, column(s))
        y = left @ middle @ right
        if rows > count:
            y = y + (away_left - left @ (adjoint(left) @ away_left)) @ right
        if columns > count:
            y = y + left @ (away_right - (away_right @ adjoint(right)) @ right)
        return y

    return (u, s, vh), vjp


@rule(sample((3, 3)), sample((2, 2, 2)), sample((1, 1)), dtype="floating", stack=one_by_one)
def matrix_exp(x):
    """The derivative is a corner of the exponential of a matrix twice as large: R. Mathias, "A chain rule for matrix
    functions and applications" (1996)."""
    from scipy.linalg import expm

    count = x.shape[-1]

    def vjp(g):
        xt = transposed(x)
        above = np.concatenate([xt, g], axis=-1)
        below = np.concatenate([np.zeros(x.shape, x.dtype), xt], axis=-1)
        return matrix_exp(np.concatenate([above, below], axis=-2))[..., :count, count:]

    return expm(x), vjp
