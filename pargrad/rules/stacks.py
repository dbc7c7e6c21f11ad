"""How a rule runs with one more leading axis: on all slices of a stack in one call, with the bits of one at a time.

Each function here takes a rule's function, its arrays, which of them are stacked, and its settings, and gives what
the rule gives: the value with the leading axis, and vjps that take and give gradients with it. What cannot be had
with the same bits raises NotStackable; it is then done slice by slice.
"""

import numpy as np


class NotStackable(BaseException):
    """This is not done on a stack: do it slice by slice. No Exception, so that a model does not catch it by chance."""


def elementwise(function, arrays, stacked, settings):
    """Slices are aligned at their last dimensions, as broadcasting aligns them without the leading axis."""
    depth = max(np.ndim(x) - flag for x, flag in zip(arrays, stacked))

    def aligned(x):
        return x.reshape(len(x), *(1,) * (depth + 1 - x.ndim), *x.shape[1:])

    return function(*(aligned(x) if flag else x for x, flag in zip(arrays, stacked)), **settings)


def shifted(dim):
    """A dimension of a slice as one of the stack."""
    return tuple(map(shifted, dim)) if isinstance(dim, tuple) else dim + (dim >= 0)


def along(function, arrays, stacked, settings):
    """A reduction or normalization over `dim`: one dimension further on; over all of them, each slice in one row."""
    (x,), dim = arrays, settings.get("dim")
    contiguous(x)
    if dim == () or (x.ndim == 1 and dim is not None):
        raise NotStackable
    if dim is None:
        if settings.get("keepdim"):
            raise NotStackable
        return function(x.reshape(len(x), -1), **{**settings, "dim": 1})
    return function(x, **{**settings, "dim": shifted(dim)})


def along_last(function, arrays, stacked, settings):
    """`along`, for a rule whose dim is the last one where none is given."""
    return along(function, arrays, stacked, {"dim": -1} | settings)


def full(arrays, stacked):
    """Every array with the leading axis; what all slices share is repeated without a copy."""
    count = next(len(x) for x, flag in zip(arrays, stacked) if flag)
    return [x if flag else np.broadcast_to(x, (count, *np.shape(x))) for x, flag in zip(arrays, stacked)]


def joined(function, arrays, stacked, settings):
    """Several arrays as one, along a dim that is one further on."""
    return function(*full(arrays, stacked), **{**settings, "dim": shifted(settings.get("dim", 0))})


def indexed(function, arrays, stacked, settings):
    """An index of a slice, after all of the leading axis; numpy would move two arrays of an index in front of it."""
    (x,), index = arrays, settings["index"]
    parts = index if isinstance(index, tuple) else (index,)
    picks = [part for part in parts if not isinstance(part, slice | None) and part is not Ellipsis]
    if any(isinstance(pick, bool | np.bool_ | list) or (np.ndim(pick) and len(picks) > 1) for pick in picks):
        raise NotStackable
    shape = {"shape": (len(x), *settings["shape"])} if "shape" in settings else {}
    return function(x, **{**settings, **shape, "index": (slice(None), *parts)})


def normalized(function, arrays, stacked, settings):
    """`along`, for a rule whose vjp adds up gradients: they must lie as a slice's do."""
    value, vjp = along(function, arrays, stacked, settings)
    return value, lambda g: vjp(contiguous(g))


def contiguous(x):
    """x, whose slices numpy then adds up as it adds up one alone: in the order of memory, which a view may change."""
    if not x.flags.c_contiguous:
        raise NotStackable("a sum over memory in another order")
    return x


def reshaped(function, arrays, stacked, settings):
    (x,), shape = arrays, settings["shape"]
    if -1 in shape and not x.size:
        raise NotStackable
    return function(x, shape=(len(x), *shape))


def permuted(function, arrays, stacked, settings):
    (x,) = arrays
    return function(x, dims=(0, *(dim % (x.ndim - 1) + 1 for dim in settings["dims"])))


def matrices(function, arrays, stacked, settings):
    """Matrix products of slices, whose batches are aligned as numbers are; numpy multiplies matrices one by one."""
    if any(x.ndim - flag < 2 for x, flag in zip(arrays, stacked)):
        raise NotStackable
    return elementwise(function, arrays, stacked, settings)
