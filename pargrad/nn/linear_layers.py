"""Layers that are linear in their input, tables of vectors, and how alike two vectors are."""

from __future__ import annotations

import math
from typing import Any

from pargrad import creation
from pargrad.modes import no_grad
from pargrad.nn import functional as F
from pargrad.nn import init
from pargrad.nn.module import Module, Parameter
from pargrad.nn.sparse import check_dense, check_mode, row_of_padding
from pargrad.tensor import Tensor


def empty(shape: Any, device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter that is still to be given its first values."""
    return Parameter(creation.empty(shape, dtype=dtype, device=device))


class Identity(Module):
    """Its input, unchanged; whatever arguments it is made with say nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def forward(self, input: Any) -> Any:
        return input


class Linear(Module):
    """y = x @ weight.T + bias: x (..., in_features), weight (out_features, in_features), bias (out_features,).

    Both begin uniform in +-1/sqrt(in_features), drawn as torch draws them: weight first, then bias.

    >>> layer = nn.Linear(20, 30)
    >>> layer(pg.randn(128, 20)).shape
    (128, 30)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        self.in_features = in_features
        self.out_features = out_features
        self.weight = empty((out_features, in_features), device, dtype)
        self.bias = empty(out_features, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, as torch draws them."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y[..., k] = x1 @ weight[k] @ x2 + bias[k]: weight (out_features, in1_features, in2_features).

    The inputs agree in all but the last dimension: RuntimeError where they do not, there is no broadcast.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Bilinear.html
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        if in1_features <= 0:
            raise ValueError(f"Bilinear: expected in1_features above 0, got {in1_features}")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = empty((out_features, in1_features, in2_features), device, dtype)
        self.bias = empty(out_features, device, dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, as torch draws them."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


# ----- tables -----


class Table(Module):
    """A base: num_embeddings vectors of embedding_dim elements, normal at first; that of the padding is 0."""

    weight: Parameter
    padding_idx: int | None

    def fill(self, given: Tensor | None, frozen: bool, shape: tuple[int, int], device: Any, dtype: Any) -> None:
        """Sets the weight: what is given, or one that is drawn."""
        if given is not None and given.shape != shape:
            raise ValueError(f"{type(self).__name__}: expected a weight of shape {shape}, got {given.shape}")
        self.weight = empty(shape, device, dtype) if given is None else Parameter(given)
        self.weight.requires_grad = not frozen
        self.padding_idx = row_of_padding(type(self).__name__, self.padding_idx, self.weight)
        if given is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def told(self, *names: str) -> list[str]:
        """Settings that are not the usual ones, with their names."""
        given, usual = (
            vars(self),
            {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False},
        )
        return [f"{name}={given[name]!r}" for name in names if name not in usual or given[name] != usual[name]]


def check_matrix(embeddings: Tensor) -> None:
    if embeddings.ndim != 2:
        raise ValueError(f"from_pretrained: expected embeddings of shape (rows, columns), got {embeddings.shape}")


class Embedding(Table):
    """Row i of a table for each integer i of the input: https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html

    input (...), of integers, gives (..., embedding_dim); IndexError for one that is not from 0 to num_embeddings - 1.
    padding_idx: a row that begins as 0 and is given no gradient. There are no sparse gradients: sparse=True is refused.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        check_dense("Embedding", sparse)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self.fill(_weight, _freeze, (num_embeddings, embedding_dim), device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """A table of these vectors, on their memory; freeze: it is not trained."""
        check_matrix(embeddings)
        rows, columns = embeddings.shape
        own = (embeddings, freeze)
        return cls(rows, columns, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, *own)

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def extra_repr(self) -> str:
        told = self.told("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *told])


class EmbeddingBag(Table):
    """Sums, means or maxima of rows of a table: https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html

    input (bags, rows in each), or (rows,) with offsets (bags,), where each bag begins, gives (bags, embedding_dim);
    mode: "sum", "mean" or "max", else ValueError. per_sample_weights, for "sum" alone, are of input's shape.
    There are no sparse gradients: sparse=True is refused.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ):
        check_dense("EmbeddingBag", sparse)
        check_mode("EmbeddingBag", mode, scale_grad_by_freq)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.padding_idx = padding_idx
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self.fill(_weight, False, (num_embeddings, embedding_dim), device, dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> EmbeddingBag:
        """A table of these vectors, on their memory; freeze: it is not trained."""
        check_matrix(embeddings)
        rows, columns = embeddings.shape
        own = (embeddings, include_last_offset, padding_idx)
        bag = cls(rows, columns, max_norm, norm_type, scale_grad_by_freq, mode, sparse, *own)
        bag.weight.requires_grad = not freeze
        return bag

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        told = self.told("max_norm", "norm_type", "scale_grad_by_freq", "mode", "padding_idx")
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *told])


# ----- two inputs -----


class CosineSimilarity(Module):
    """The cosine of the angle between two inputs along a dimension, which goes: (N, D) gives (N,)."""

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of x1 - x2 + eps along the last dimension: (N, D) gives (N,), with keepdim (N, 1)."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False):
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


__all__ = [
    "Bilinear",
    "CosineSimilarity",
    "Embedding",
    "EmbeddingBag",
    "Identity",
    "Linear",
    "PairwiseDistance",
]
