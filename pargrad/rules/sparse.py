"""Rows of a table by their number, as torch.nn.functional's embedding takes them."""

import numpy as np

from pargrad.rules.indexing import add_into_zeros
from pargrad.rules.stacks import NotStackable
from pargrad.rules.table import integers, rule, sample


def embeddings(function, arrays, stacked, settings):
    """On a stack of indices: the gradients of the table as those of as many tables, one below the other."""
    weight, index = arrays
    if stacked != [False, True] or settings.get("scale_grad_by_freq"):
        raise NotStackable
    count, rows = len(index), len(weight)
    apart = index + rows * np.arange(count).reshape(-1, *(1,) * (index.ndim - 1))

    def vjp(g):
        g = counted(g, index, settings.get("padding_idx"))
        out = add_into_zeros(g, index=apart, shape=(count * rows, *weight.shape[1:]))
        return out.reshape(count, *weight.shape)

    return np.take(weight, index, axis=0), vjp, None


def counted(g, rows, padding_idx):
    """g without what belongs to the padding."""
    return g if padding_idx is None else np.where(np.expand_dims(rows == padding_idx, -1), 0, g)


@rule(
    sample((4, 3), integers(4, 2, 5)),
    sample((4, 3), integers(4, 9)),
    sample((4, 3), integers(4)),
    dtype="as is",
    stack=embeddings,
)
def embedding(weight, index, *, padding_idx=None, scale_grad_by_freq=False):
    """weight[index]. The row padding_idx is given no gradient; scale_grad_by_freq: a row's is the mean of its uses'."""
    shape = weight.shape

    def vjp(g):
        rows = np.asarray(index)  # in second derivatives it may be a Tensor
        g = counted(g, rows, padding_idx)
        if scale_grad_by_freq:
            uses = np.bincount(rows.reshape(-1), minlength=shape[0])[rows]
            g = g / np.expand_dims(uses, -1).astype(g.dtype)
        return add_into_zeros(g, index=rows, shape=shape)

    return np.take(weight, index, axis=0), vjp, None
