"""torch.testing: `assert_close`, for the tests that scripts bring with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad.tensor import Tensor

__all__ = ["assert_close"]

# By dtype the relative and absolute tolerances that torch takes.
TOLERANCES = {"float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
    msg: str | None = None,
    **named: Any,
) -> None:
    """Raises AssertionError unless |actual - expected| <= atol + rtol * |expected|; of lists and dicts, each part.

    By default the tolerances go with the dtype; of integers they are 0.
    https://docs.pytorch.org/docs/stable/testing.html#torch.testing.assert_close
    """
    settings = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan, "check_dtype": check_dtype, "msg": msg}
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close: expected rtol and atol both, or neither")
    if isinstance(actual, dict) and isinstance(expected, dict):
        if actual.keys() != expected.keys():
            raise AssertionError(msg or f"the keys are not the same: {[*actual]} and {[*expected]}")
        actual, expected = list(actual.values()), [expected[key] for key in actual]
    if isinstance(actual, list | tuple) and isinstance(expected, list | tuple):
        if len(actual) != len(expected):
            raise AssertionError(msg or f"the lengths are not the same: {len(actual)} and {len(expected)}")
        for first, second in zip(actual, expected):
            assert_close(first, second, **settings, **named)  # type: ignore[arg-type]
        return
    x, y = (value.detach().array if isinstance(value, Tensor) else np.asarray(value) for value in (actual, expected))
    if x.shape != y.shape:
        raise AssertionError(msg or f"the shapes are not the same: {x.shape} and {y.shape}")
    if check_dtype and x.dtype != y.dtype:
        raise AssertionError(msg or f"the dtypes are not the same: {x.dtype} and {y.dtype}")
    usual = [max(pair) for pair in zip(*(TOLERANCES.get(z.real.dtype.name, (0.0, 0.0)) for z in (x, y)))]
    relative, absolute = usual if rtol is None or atol is None else (rtol, atol)
    np.testing.assert_allclose(x, y, rtol=relative, atol=absolute, equal_nan=equal_nan, err_msg=msg or "")
