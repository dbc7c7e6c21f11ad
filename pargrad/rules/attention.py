"""Attention: one operator, so that the largest arrays, a number for each pair of query and key, are few."""

import numpy as np

from pargrad.rules.linear import transposed
from pargrad.rules.softmax import largest, softmax, summed
from pargrad.rules.stacks import NotStackable, elementwise
from pargrad.rules.table import boolean, rule, sample


def composed(query, key, value, bias, *, scale, keep=None, dropout_p=0.0):
    scores = (query * scale) @ transposed(key) + bias
    blocked = np.max(bias, axis=-1, keepdims=True) == -np.inf if np.ndim(bias) else False
    # softmax of nothing would be nan, and so its derivative.
    weights = np.where(blocked, 0, softmax(np.where(blocked, 0, scores), dim=-1))
    return dropped(weights, keep, dropout_p) @ value


def dropped(x, keep, dropout_p):
    """x after dropout, which keeps some elements; all, where keep is None."""
    return x if keep is None else x * (keep.astype(x.dtype) / (1.0 - dropout_p if dropout_p < 1 else 1.0))


def exponentials(query, key, bias, scale):
    """exp of the scores less each line's largest, and the sum of each line; 1 where all is blocked by -inf."""
    scores = (query * scale) @ transposed(key)
    if type(bias) is np.ndarray:
        fits = np.broadcast_shapes(scores.shape, bias.shape) == scores.shape
        scores = np.add(scores, bias, out=scores if fits else None)
    top = largest(scores, -1)
    if type(bias) is np.ndarray:
        top[np.isneginf(top)] = 0
    scores -= top
    np.exp(scores, out=scores)
    sums = summed(scores, None, -1)
    if type(bias) is np.ndarray:
        sums[sums == 0] = 1
    return scores, sums


def by_place(batch, length, width, dtype):
    """An array (..., heads, places, width) that lies in memory as (..., places, heads, width).

    That is how the heads are then put beside each other, which takes no copy.
    """
    if not batch:
        return np.empty((length, width), dtype)
    return np.empty((*batch[:-1], length, batch[-1], width), dtype).swapaxes(-2, -3)


def slices(function, arrays, stacked, settings):
    if any(flag and x.ndim < 3 for x, flag in zip(arrays, stacked)):
        raise NotStackable
    return elementwise(function, arrays, stacked, settings)


@rule(
    sample((3, 2), (4, 2), (4, 5), 0.0, scale=0.5),
    sample((2, 3, 2), (2, 4, 2), (2, 4, 3), (3, 4), scale=-0.7),
    sample((2, 1, 3, 2), (2, 4, 2), (2, 4, 3), (2, 1, 1, 4), scale=1.0),
    sample((3, 2), (3, 2), (3, 2), 0.0, scale=0.5, keep=boolean(3, 3)(np.random.default_rng(0)), dropout_p=0.5),
    dtype="floating",
    joint=True,
    plain=composed,
    stack=slices,
)
def scaled_dot_product_attention(query, key, value, bias, *, scale, keep=None, dropout_p=0.0):
    """softmax(query @ key.T * scale + bias) @ value; bias is an array or 0.0, -inf where a query may not look.

    query (..., L, E), key (..., S, E), value (..., S, Ev), bias against (..., L, S). keep: which weights dropout keeps.
    With e the exponentials of the scores and s their sums, softmax is e / s. Here what is multiplied with e, and is
    smaller, is divided by s instead: value's product, and the gradient that has arrived for it.
    """
    e, sums = exponentials(query, key, bias, scale)
    biased = type(bias) is np.ndarray
    batch = np.broadcast_shapes(e.shape[:-2], value.shape[:-2])
    out = by_place(batch, e.shape[-2], value.shape[-1], e.dtype)
    np.matmul(dropped(e, keep, dropout_p), value, out=out)
    out /= sums

    def vjp(g):
        share = g / sums
        of_value = transposed(dropped(e, keep, dropout_p)) @ share
        of_scores = dropped(share @ transposed(value), keep, dropout_p)
        of_scores -= summed(share, out, -1)
        of_scores *= e
        of_query, of_key = of_scores @ key, transposed(of_scores) @ query
        of_query *= scale
        of_key *= scale
        return of_query, of_key, of_value, of_scores if biased else None

    return out, vjp
