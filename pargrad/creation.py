"""Tensors made from data, from constants and from random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from pargrad import random
from pargrad.random import Generator
from pargrad.tensor import DEFAULT_FLOAT, Tensor, check_can_require_grad


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A copy of numbers, nested lists, arrays or tensors: Python floats become float32, Python integers int64.

    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html
    """
    if isinstance(data, Tensor):
        data = data.array
    if dtype is None and not isinstance(data, np.ndarray | np.generic):
        array = np.array(data)
        if array.dtype == np.float64 and not holds_float64(data):
            array = array.astype(DEFAULT_FLOAT)
    else:
        array = np.array(data, dtype=dtype)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"tensor(): expected numbers of one shape, got {array.dtype} from {type(data).__name__}")
    return leaf(array, requires_grad)


def holds_float64(data: Any) -> bool:
    """Whether nested lists hold a float64 of numpy's or in a tensor; Python's floats have no dtype."""
    if isinstance(data, list | tuple):
        return any(holds_float64(part) for part in data)
    return isinstance(data, np.ndarray | np.generic | Tensor) and data.dtype == np.float64


def leaf(array: np.ndarray, requires_grad: bool = False) -> Tensor:
    if requires_grad:
        check_can_require_grad(array.dtype)
    return Tensor(array, requires_grad)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor on the array's own memory: https://docs.pytorch.org/docs/stable/generated/torch.from_numpy.html"""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy() takes a numpy array, got {type(ndarray).__name__}: write pargrad.tensor(data)")
    return Tensor(ndarray)


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """The data as a tensor, on the same memory where that is possible."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray):
        return Tensor(np.asarray(data, dtype=dtype))
    return tensor(data, dtype=dtype)


def shape_of(size: tuple) -> tuple[int, ...]:
    """zeros(2, 3) and zeros((2, 3)) mean the same."""
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], tuple | list) else size


def zeros(*size: Any, dtype: Any = DEFAULT_FLOAT, requires_grad: bool = False) -> Tensor:
    """Zeros of this shape."""
    return leaf(np.zeros(shape_of(size), dtype or DEFAULT_FLOAT), requires_grad)


def ones(*size: Any, dtype: Any = DEFAULT_FLOAT, requires_grad: bool = False) -> Tensor:
    """Ones of this shape."""
    return leaf(np.ones(shape_of(size), dtype or DEFAULT_FLOAT), requires_grad)


def full(size: Any, fill_value: float, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere, of the value's own dtype unless another is given."""
    return leaf(np.full(size, fill_value, dtype or tensor(fill_value).dtype), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the input's shape and dtype."""
    return leaf(np.zeros(input.shape, dtype or input.dtype), requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the input's shape and dtype."""
    return leaf(np.ones(input.shape, dtype or input.dtype), requires_grad)


def arange(*range: float, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """arange(end), arange(start, end) or arange(start, end, step): int64, or float32 where a bound is a float."""
    whole = all(isinstance(bound, int | np.integer) for bound in range)
    return leaf(np.arange(*range, dtype=dtype or (np.int64 if whole else DEFAULT_FLOAT)), requires_grad)


def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = DEFAULT_FLOAT, requires_grad: bool = False
) -> Tensor:
    """Uniform in [0, 1): torch's numbers for the same seed, to the bit."""
    drawn = random.uniform(generator or random.current_generator(), shape_of(size), 0.0, 1.0, dtype)
    return leaf(drawn, requires_grad)


def randint(low: Any = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Integers in [low, high), or randint(high, size) in [0, high): torch's numbers for the same seed."""
    if isinstance(high, tuple | list):
        high, size = None, high
    if high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint() lacks its size: write randint(10, (2, 3)) or randint(0, 10, (2, 3))")
    return Tensor(random.integers(generator or random.current_generator(), low, high, tuple(size)))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """A permutation of 0 to n - 1: torch's for the same seed."""
    return Tensor(random.permutation(generator or random.current_generator(), n))
