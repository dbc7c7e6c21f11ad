"""What recurrent layers take apart: a sequence into its steps, gates into those of each kind."""

from itertools import pairwise

import numpy as np

from pargrad.rules.shapes import cat
from pargrad.rules.stacks import shifted
from pargrad.rules.table import rule, sample


def pieces_of_slices(function, arrays, stacked, settings):
    return function(*arrays, sizes=settings["sizes"], dim=shifted(settings["dim"]))


@rule(
    sample((5, 2), sizes=(2, 2, 1), dim=0),
    sample((2, 6), sizes=(3, 3), dim=-1),
    sample((3, 2), sizes=(3,), dim=0),
    sample((2, 3), sizes=(0, 2, 1), dim=1),
    dtype="as is",
    stack=pieces_of_slices,
)
def pieces(x, *, sizes, dim):
    """Copies of the pieces of these sizes along `dim`.

    Unlike with views of one tensor, each of which would add its gradient into zeros of the whole's size, the time
    that the gradient takes does not grow with the square of their number.
    """
    before = (slice(None),) * (dim % x.ndim)
    ends = [0, *np.cumsum(sizes).tolist()]
    return tuple(x[(*before, slice(*span))].copy() for span in pairwise(ends)), lambda g: cat(*g, dim=dim)
