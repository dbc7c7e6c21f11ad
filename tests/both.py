"""One function in pargrad and in torch: what it gives, and whether it raises, is the same."""

import torch

import pargrad as pg
from tests.checks import array_of

BOTH = (pg, torch)
X = [0.5, -1.5, 2.0]


def leaf(lib, values=X, dtype="float64"):
    return lib.tensor(values, dtype=getattr(lib, dtype), requires_grad=True)


def plain(result):
    """A result of either library as lists and numbers."""
    if isinstance(result, tuple | list):
        return [plain(each) for each in result]
    return (array_of(result.detach()) + 0.0).round(10).tolist() if hasattr(result, "requires_grad") else result


def attempt(act, lib):
    try:
        return plain(act(lib))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return "error", type(error)


def same(act):
    """What act(library) gives is the same in both, also where it is an error."""
    mine, other = (attempt(act, lib) for lib in BOTH)
    assert mine == other
    return mine
