"""Choosing elements by a mask, as fast for a mask that nobody foresees as for one of a single value.

numpy's `where` takes another way for each element, which a processor guesses; guessing wrong costs it ten elements.
Here the bits of a mask's elements cut out those of the others, with the same result.
"""

import numpy as np

WHOLE = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}  # integers of as many bits
FEW = 512  # elements, of which numpy's one call is faster


def where(condition, x, y):
    """np.where(condition, x, y); 0 for x or y is faster than an array."""
    given = y if type(y) is np.ndarray else x
    if type(condition) is not np.ndarray or type(given) is not np.ndarray or condition.size < FEW:
        return np.where(condition, x, y)
    whole, shape = WHOLE.get(given.dtype), condition.shape
    if whole is None or condition.dtype != np.bool_ or given.shape != shape:
        return np.where(condition, x, y)
    if y is given and type(x) is int and x == 0:
        bits = np.subtract(condition.view(np.int8), 1, dtype=np.int8).astype(whole)  # all of them where it is False
        bits &= y.view(whole)
    elif type(y) is int and y == 0:
        bits = np.negative(condition.view(np.int8)).astype(whole)  # all of them where it is True
        bits &= x.view(whole)
    elif y is given and type(x) is np.ndarray and x.dtype == y.dtype and x.shape == shape:
        bits = np.negative(condition.view(np.int8)).astype(whole)
        bits &= x.view(whole) ^ y.view(whole)
        bits ^= y.view(whole)
    else:
        return np.where(condition, x, y)
    return bits.view(given.dtype)
