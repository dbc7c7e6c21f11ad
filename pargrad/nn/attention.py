"""Attention as a function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.nn.activations import softmax
from pargrad.nn.dropout import check_probability, dropout, kept
from pargrad.nn.linear import linear
from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value: query (..., L, E), key (..., S, E), value (..., S, Ev).

    attn_mask: booleans, True where a query may look at a key, or numbers that are added. is_causal: a query may look
    at keys no later than itself. A query that may look at nothing gets 0. scale: by default 1 / sqrt(E). enable_gqa:
    several heads (dim -3) of the query share one of key and value. Vaswani et al. 2017.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html

    >>> query, key, value = pg.randn(2, 4, 8), pg.randn(2, 6, 8), pg.randn(2, 6, 3)
    >>> F.scaled_dot_product_attention(query, key, value).shape
    (2, 4, 3)
    """
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise RuntimeError(
            "scaled_dot_product_attention: expected at least 2 dimensions, got shapes "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: expected attn_mask or is_causal, got both")
    if enable_gqa:
        key, value = shared_heads(query, key), shared_heads(query, value)
    if len({x.dtype for x in (query, key, value)}) > 1:
        raise RuntimeError(
            "scaled_dot_product_attention: expected query, key and value of one dtype, got "
            f"{query.dtype}, {key.dtype} and {value.dtype}: write x.to(query.dtype)"
        )
    if is_causal:
        bias: Tensor | None = causal(query.shape[-2], key.shape[-2], query.dtype)
    else:
        bias = None if attn_mask is None else additive(attn_mask, query.dtype)
    return attention(query, key, value, bias, dropout_p, 1 / math.sqrt(query.shape[-1]) if scale is None else scale)


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout_p: float, scale: float) -> Tensor:
    """The same with a mask that is added, or none. What dropout keeps is drawn as for a tensor of the weights."""
    check_probability("scaled_dot_product_attention", dropout_p)
    settings: dict[str, Any] = {"scale": scale}
    if dropout_p:
        batches = [x.shape[:-2] for x in (query, key, bias) if x is not None]
        shape = (*np.broadcast_shapes(*batches), query.shape[-2], key.shape[-2])
        settings |= {"keep": kept(shape, dropout_p), "dropout_p": dropout_p}
    inputs = query, key, value, 0.0 if bias is None else bias
    return apply(RULES["scaled_dot_product_attention"], *inputs, **settings)


def causal(length: int, keys: int, dtype: np.dtype) -> Tensor:
    """What is added to the scores (length, keys) so that a query looks at no later key than itself."""
    return Tensor(np.where(np.tri(length, keys, dtype=np.bool_), 0, -np.inf).astype(dtype))


def additive(mask: Tensor, dtype: np.dtype) -> Tensor:
    """A mask of booleans, True where a query may look at a key, as numbers that are added; one of numbers as it is."""
    if mask.dtype.kind not in "bf":
        raise RuntimeError(
            "scaled_dot_product_attention: expected attn_mask of booleans or floating-point numbers, got "
            f"{mask.dtype}: write mask.bool()"
        )
    return Tensor(np.where(mask.array, 0, -np.inf).astype(dtype)) if mask.dtype.kind == "b" else mask


def shared_heads(query: Tensor, x: Tensor) -> Tensor:
    """x with each of its heads repeated, so that there are as many as query's."""
    if query.ndim < 3 or x.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise RuntimeError(
            "scaled_dot_product_attention: enable_gqa expects the query's heads (dim -3) to be a multiple of those of "
            f"key and value, got shapes {query.shape} and {x.shape}"
        )
    return operators.repeat_interleave(x, query.shape[-3] // x.shape[-3], -3)


def softmax_of_some(scores: Tensor, bias: Tensor | None) -> Tensor:
    """softmax of scores + bias along the last dimension; 0 where all of it is -inf."""
    if bias is None:
        return softmax(scores, -1)
    blocked = np.isneginf(bias.array).all(axis=-1, keepdims=True)
    if not blocked.any():
        return softmax(scores + bias, -1)
    # softmax of nothing would be nan, and so its derivative.
    return operators.where(blocked, 0.0, softmax(operators.where(blocked, 0.0, scores + bias), -1))


# ----- several heads -----


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention in `num_heads` subspaces: the output, and the weights (None where need_weights=False).

    query (L, N, E) or (L, E), key and value (S, N, ...) or (S, ...). Masks of booleans are True where a query may
    *not* look at a key: attn_mask (L, S) or (N * num_heads, L, S), key_padding_mask (N, S); those of numbers are
    added. is_causal says that attn_mask is causal, and as in torch it is then not looked at where it is the only one
    and no weights are needed. A query that may look at nothing gets weights of 0, where torch's may be nan. https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
    """
    single = query.ndim == 2
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise RuntimeError(
            "multi_head_attention_forward: expected query, key and value all of 2 or all of 3 dimensions, got shapes "
            f"{query.shape}, {key.shape} and {value.shape}"
        )
    itself = query is key is value
    if single:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, count, size = query.shape
    if size != embed_dim_to_check or size % num_heads or key.shape[:2] != value.shape[:2] or key.shape[1] != count:
        raise RuntimeError(
            f"multi_head_attention_forward: expected query (L, N, {embed_dim_to_check}), of a size that {num_heads} "
            f"heads divide, and key and value (S, N, ...), got {query.shape}, {key.shape} and {value.shape}"
        )
    keys = len(key)
    check_mask("attn_mask", attn_mask, (length, keys), (count * num_heads, length, keys))
    check_mask("key_padding_mask", key_padding_mask, (count, keys if static_k is None else static_k.shape[1]))
    if is_causal and attn_mask is None:
        raise RuntimeError("multi_head_attention_forward: is_causal says what attn_mask is: give that, too")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else None
    if in_proj_weight is not None and separate is None and itself:  # one product, not three
        query, key, value = apply(
            RULES["pieces"], linear(query, in_proj_weight, in_proj_bias), sizes=(size,) * 3, dim=-1
        )
    else:
        query, key, value = projected((query, key, value), in_proj_weight, separate, in_proj_bias)

    def in_heads(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], count, num_heads, size // num_heads).permute(1, 2, 0, 3)

    def given(x: Tensor) -> Tensor:
        return x.reshape(count, num_heads, *x.shape[1:])

    if bias_k is not None and bias_v is not None:
        key, value = (operators.cat([x, last.expand(1, count, size)]) for x, last in ((key, bias_k), (value, bias_v)))
    query = in_heads(query)
    key = in_heads(key) if static_k is None else given(static_k)
    value = in_heads(value) if static_v is None else given(static_v)
    if add_zero_attn:
        nothing = np.zeros((count, num_heads, 1, size // num_heads), query.dtype)
        key, value = (operators.cat([x, nothing], 2) for x in (key, value))

    if is_causal and key_padding_mask is None and not need_weights:
        bias: Tensor | None = causal(length, key.shape[2], query.dtype)
    else:
        shape = (count, num_heads, length, key.shape[2])
        bias = mask_of_heads(attn_mask, key_padding_mask, shape, query.dtype)
    scale, dropout_p = math.sqrt(num_heads / size), dropout_p if training else 0.0
    weights = None
    if need_weights:
        weights = dropout(softmax_of_some((query * scale) @ key.swapaxes(-1, -2), bias), dropout_p)
        output = weights @ value
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        output = attention(query, key, value, bias, dropout_p, scale)
    output = output.permute(2, 0, 1, 3).reshape(length, count, size)
    output = linear(output, out_proj_weight, out_proj_bias)
    return output[:, 0] if single else output, weights[0] if single and weights is not None else weights


def projected(
    inputs: tuple[Tensor, ...], packed: Tensor | None, separate: tuple[Tensor | None, ...] | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """Query, key and value by the three matrices, which may be packed under each other, as their biases are."""
    matrices = separate if separate is not None else (None,) * 3 if packed is None else operators.chunk(packed, 3)
    if any(matrix is None for matrix in matrices):
        raise RuntimeError(
            "multi_head_attention_forward: expected in_proj_weight, or use_separate_proj_weight=True and a weight for "
            "each of query, key and value"
        )
    biases = (None,) * 3 if bias is None else operators.chunk(bias, 3)
    return tuple(linear(*each) for each in zip(inputs, matrices, biases))


def check_mask(name: str, mask: Tensor | None, *shapes: tuple[int, ...]) -> None:
    if mask is not None and (mask.dtype.kind not in "bf" or mask.shape not in shapes):
        raise RuntimeError(
            f"multi_head_attention_forward: expected {name} of booleans or floating-point numbers, of shape "
            f"{' or '.join(map(str, shapes))}, got {mask.dtype} of shape {mask.shape}"
        )


def mask_of_heads(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, shape: tuple[int, int, int, int], dtype: np.dtype
) -> Tensor | None:
    """What is added to the scores (N, num_heads, L, S); keys that were appended behind the masks may be looked at."""
    count, heads, length, keys = shape

    def additive(mask: Tensor) -> Tensor:
        if mask.dtype.kind == "b":
            mask = Tensor(np.where(mask.array, -np.inf, 0).astype(dtype))
        if mask.shape[-1] == keys:
            return mask
        return operators.cat([mask, np.zeros((*mask.shape[:-1], keys - mask.shape[-1]), dtype)], -1)

    total = None
    if attn_mask is not None:
        total = additive(attn_mask)
        total = total if total.ndim == 2 else total.reshape(count, heads, length, keys)
    if key_padding_mask is not None:
        padding = additive(key_padding_mask).reshape(count, 1, 1, keys)
        total = padding if total is None else total + padding
    return total


__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]
