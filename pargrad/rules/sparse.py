"""Rows of a table by their number, as torch.nn.functional's embedding takes them."""

import numpy as np

from pargrad.rules.indexing import add_into_zeros
from pargrad.rules.table import integers, rule, sample


@rule(
    sample((4, 3), integers(4, 2, 5)),
    sample((4, 3), integers(4, 9)),
    sample((4, 3), integers(4)),
    dtype="as is",
)
def embedding(weight, index, *, padding_idx=None, scale_grad_by_freq=False):
    """weight[index]. The row padding_idx is given no gradient; scale_grad_by_freq: a row's is the mean of its uses'."""
    shape = weight.shape

    def vjp(g):
        rows = np.asarray(index)  # in second derivatives it may be a Tensor
        if padding_idx is not None:
            g = np.where(np.expand_dims(rows == padding_idx, -1), 0, g)
        if scale_grad_by_freq:
            uses = np.bincount(rows.reshape(-1), minlength=shape[0])[rows]
            g = g / np.expand_dims(uses, -1).astype(g.dtype)
        return add_into_zeros(g, index=rows, shape=shape)

    return weight[index], vjp, None
