"""What an operator is called with: torch's promotion of tensors, numbers and categories to one dtype.

Literals are weak: they change the category of a dtype (integer to float), never its width.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pargrad.rules.table import Rule

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}
# What Python's numbers of a category become; `set_default_dtype` changes the last two.
CATEGORY_DEFAULT = {0: np.dtype(np.bool_), 1: np.dtype(np.int64), 2: FLOAT32, 3: np.dtype(np.complex64)}


def literal(x: Any) -> Any:
    """An operator's input as numpy takes it: an array, or a Python number that changes no dtype."""
    if isinstance(x, np.generic):  # np.float64 is a float, too, but one that would make float32 float64
        return x.item()
    if isinstance(x, np.ndarray | int | float | complex):
        return x
    raise TypeError(
        f"an operator takes tensors, numpy arrays and numbers, got {type(x).__name__}: write pargrad.tensor(...)"
    )


def category(number: Any) -> int:
    return next(rank for rank, kind in enumerate((bool, int, float, complex)) if isinstance(number, kind))


def from_sizes_or_data(*given: Any) -> np.ndarray:
    """What Tensor(2, 3) holds, zeros, and Tensor([1, 2]), the numbers, in the default dtype.

    Behind what was given may stand False and None, which are no sizes.
    """
    sizes = list(itertools.takewhile(lambda x: isinstance(x, int) and not isinstance(x, bool), given))
    if sizes:
        return np.zeros(sizes, CATEGORY_DEFAULT[2])
    data = getattr(given[0], "array", given[0])  # of another tensor
    return np.array(data, CATEGORY_DEFAULT[2])


def result_dtype(arrays: list[Any]) -> np.dtype:
    """torch's promotion: the dtype of arrays, then of 0-d arrays, then of literals, each only to a higher category."""
    result = None
    for rank in (
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and x.ndim],
        [x.dtype for x in arrays if isinstance(x, np.ndarray) and not x.ndim],
        [CATEGORY_DEFAULT[category(x)] for x in arrays if not isinstance(x, np.ndarray)],
    ):
        highest = None
        for dtype in rank:
            if highest is None:
                highest = dtype
            elif CATEGORY[dtype.kind] == CATEGORY[highest.kind] or {dtype.kind, highest.kind} == {"f", "c"}:
                highest = np.promote_types(highest, dtype)  # a complex number of the wider one's width
            elif CATEGORY[dtype.kind] > CATEGORY[highest.kind]:
                highest = dtype
        if highest is not None and (result is None or CATEGORY[highest.kind] > CATEGORY[result.kind]):
            wide = result is not None and result.kind == "f"  # a complex number of this float's width
            result = np.result_type(result, np.complex64) if wide else highest
    assert result is not None
    return result


def wrapped(number: int, dtype: np.dtype) -> np.ndarray:
    """A number that an integer dtype cannot hold as what its last bits are there, as in torch."""
    return np.asarray(number).astype(dtype)


def coerce(rule: Rule, arrays: list[Any]) -> list[Any]:
    """Brings the array arguments of a rule to one dtype, as its row says."""
    arrays = [literal(x) for x in arrays]
    moving = [x for i, x in enumerate(arrays) if i not in rule.fixed]
    if rule.dtype == "match":
        kinds = {str(x.dtype) for x in moving if isinstance(x, np.ndarray)}
        if len(kinds) > 1 or len(moving) > sum(isinstance(x, np.ndarray) for x in moving):
            raise RuntimeError(
                f"{rule.name}: expected tensors of one dtype, got {' and '.join(sorted(kinds)) or 'a number'}: "
                "write x.float() or x.to(y.dtype); of an array of data x.astype(numpy.float32)"
            )
        return arrays
    target = result_dtype(moving)
    if CATEGORY[target.kind] < 2:
        if rule.dtype == "floating":
            raise RuntimeError(f"{rule.name}: expected a floating-point tensor, got {target}: write x.float()")
        if rule.dtype == "float":
            target = CATEGORY_DEFAULT[2]
    single = all(not isinstance(x, np.ndarray) for x in moving)
    limits = np.iinfo(target) if target.kind in "iu" else None
    return [
        x
        if i in rule.fixed
        else x.astype(target, copy=False)
        if isinstance(x, np.ndarray)
        else np.asarray(x, target)
        if single
        else wrapped(x, target)
        if limits is not None and not limits.min <= x <= limits.max
        else x
        for i, x in enumerate(arrays)
    ]


def explain(rule: Rule, arrays: list[Any], settings: dict[str, Any], error: Exception) -> Exception:
    """numpy's error in the operator's terms, of the type that torch raises."""
    given = ", ".join(f"{x.dtype}{list(x.shape)}" if isinstance(x, np.ndarray) else repr(x) for x in arrays)
    told = "".join(f", {name}={value!r}" for name, value in settings.items())
    kind = IndexError if isinstance(error, IndexError) else RuntimeError
    return kind(f"{rule.name}({given}{told}): {error}")
