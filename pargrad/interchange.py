"""Tensors from torch and to it: of a state_dict, of anything that lies in dicts, lists and tuples.

torch is imported by `to_torch` alone, and only where it is called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pargrad.tensor import Tensor

__all__ = ["from_torch", "to_torch"]


def from_torch(obj: Any) -> Any:
    """torch tensors as pargrad tensors with memory of their own, outside any graph; what is no tensor stays as it is.

    obj: a tensor, or tensors in dicts, lists and tuples at any depth: `model.load_state_dict(pg.from_torch(state))`.
    Shapes and dtypes stay, except that bfloat16, which numpy has not, becomes float32, without loss. Tensors of other
    devices come by way of torch's own memory on the CPU.
    """
    return mapped(obj, is_torch, from_torch_tensor)


def to_torch(obj: Any) -> Any:
    """pargrad tensors as torch tensors with memory of their own, outside any graph; what is no tensor stays as it is.

    obj: a tensor, or tensors in dicts, lists and tuples at any depth: `network.load_state_dict(pg.to_torch(state))`.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("to_torch makes tensors of torch, which is not installed: pip install torch") from error
    return mapped(obj, lambda each: isinstance(each, Tensor), lambda each: torch.from_numpy(np.array(each.array)))


def mapped(obj: Any, chosen: Callable[[Any], bool], change: Callable[[Any], Any]) -> Any:
    """The same structure with what is chosen changed."""
    if chosen(obj):
        return change(obj)
    if isinstance(obj, Mapping):
        kind = OrderedDict if isinstance(obj, OrderedDict) else dict
        return kind((name, mapped(each, chosen, change)) for name, each in obj.items())
    if isinstance(obj, list | tuple):
        return type(obj)(mapped(each, chosen, change) for each in obj)
    return obj


def is_torch(obj: Any) -> bool:
    return type(obj).__module__.partition(".")[0] == "torch" and hasattr(obj, "__array__")


def from_torch_tensor(tensor: Any) -> Tensor:
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    try:
        return Tensor(np.array(tensor.resolve_conj().resolve_neg().numpy()))
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"from_torch: a tensor of {tensor.dtype}, {tensor.layout}, has no place in numpy ({error}): convert it "
            "first, with tensor.float() or tensor.to_dense()"
        ) from error
