"""The hash of a model's state, by which anyone can check that two runs ended in the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from pargrad.nn import Module


def state_sha256(model: Module) -> str:
    """sha256 of parameters and persistent buffers: little-endian, C order, in `state_dict` order, a tied one once."""
    seen: dict[int, np.ndarray] = {}
    for tensor in Module.state_dict(model).values():
        if tensor.array.size:
            seen.setdefault(tensor.array.__array_interface__["data"][0], tensor.array)
    return sha256_of(seen.values())


def sha256_of(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()
