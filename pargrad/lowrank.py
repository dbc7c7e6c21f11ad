"""Singular values and principal components of matrices of low rank, found from random combinations of columns.

Halko, Martinsson and Tropp 2009, algorithm 5.1: https://arxiv.org/abs/0909.4061
"""

# ruff: noqa: N803 (the matrices have their letters as names, in torch, too)

from __future__ import annotations

from typing import Any

from pargrad import linalg, sampling
from pargrad.tensor import Tensor


def range_of(A: Tensor, q: int, niter: int) -> Tensor:
    """Orthonormal columns, q of them, that nearly span what A gives."""
    combined = A @ sampling.randn(A.shape[-1], q, dtype=A.dtype)
    Q = linalg.qr(combined)[0]
    for _ in range(niter):
        Q = linalg.qr(A.mH @ Q)[0]
        Q = linalg.qr(A @ Q)[0]
    return Q


def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Any:
    """(U, S, V) with A - M nearly U @ diag(S) @ V.mH, of q columns, after `niter` rounds.

    https://docs.pytorch.org/docs/stable/generated/torch.svd_lowrank.html
    """
    count, rounds = 6 if q is None else q, 2 if niter is None else niter
    A = A if M is None else A - M
    if A.ndim < 2 or not 0 <= count <= min(A.shape[-2:]) or rounds < 0:
        raise ValueError(
            f"svd_lowrank: expected matrices, q from 0 to their shorter side and niter from 0 on, got shape {A.shape}, "
            f"{count} and {rounds}"
        )
    wide = A.shape[-2] < A.shape[-1]
    tall = A.mH if wide else A
    Q = range_of(tall, count, rounds)
    U, S, Vh = linalg.svd(Q.mH @ tall, full_matrices=False)
    U, V = Q @ U, Vh.mH
    return (V, S, U) if wide else (U, S, V)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """`svd_lowrank` of A with, if `center`, the mean of each column taken off: V has the principal directions.

    https://docs.pytorch.org/docs/stable/generated/torch.pca_lowrank.html
    """
    if A.ndim < 2:
        raise ValueError(f"pca_lowrank: expected matrices, got shape {A.shape}")
    count = min(6, *A.shape[-2:]) if q is None else q
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, count, niter)


__all__ = ["pca_lowrank", "svd_lowrank"]
