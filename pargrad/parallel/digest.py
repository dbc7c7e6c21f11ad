"""The hash of a model's state, by which anyone can check that two runs ended in the same bits."""

from __future__ import annotations

import hashlib

import numpy as np

from pargrad.nn import Module


def state_sha256(model: Module) -> str:
    """sha256 of parameters and persistent buffers: little-endian, C order, in `state_dict` order, a tied one once."""
    digest = hashlib.sha256()
    seen: set[int] = set()
    for tensor in Module.state_dict(model).values():
        place = tensor.array.__array_interface__["data"][0]
        if tensor.array.size and place in seen:
            continue
        seen.add(place)
        little = tensor.array.astype(tensor.array.dtype.newbyteorder("<"), copy=False)
        digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()
