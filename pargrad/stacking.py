"""A stack of tensors that is worked on in one call: each operator runs once for all slices, with the bits of one.

To the code that computes with it a Stacked is one slice: it has a slice's shape, and what is recorded is one graph.
Its backward pass gives every leaf the gradients of all slices, one under the other. What looks at values, or has no
way to run on a stack, raises NotStackable: then the same code is run slice by slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.rules.stacks import NotStackable, contiguous
from pargrad.rules.table import Rule
from pargrad.tensor import Node, Tensor, as_array, coerce, is_grad_enabled, unbroadcast


class Stacked(Tensor):
    """Tensors of one shape and dtype, as one; slices: their arrays under a leading axis."""

    __slots__ = ("slices",)
    stacked = True

    @property
    def array(self) -> np.ndarray:
        raise NotStackable("a value of one slice was looked at")

    @array.setter
    def array(self, value: np.ndarray) -> None:
        self.slices = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.slices.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.slices.dtype

    @property
    def ndim(self) -> int:
        return self.slices.ndim - 1

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return math.prod(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> np.ndarray:
        return self.array  # which says why not

    def detach(self) -> Tensor:
        return Stacked(self.slices)

    def apply(self, rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Any:
        """What `tensor.apply` does, for all slices at once."""
        if rule.stack is None or rule.joint:
            raise NotStackable(rule.name)
        arrays, stacked = [], []
        for x in inputs:
            if isinstance(x, Tensor) and not x.stacked and x.requires_grad and not x.is_leaf:
                raise NotStackable("a tensor that all slices share was computed in the graph")
            arrays.append(x.slices if isinstance(x, Stacked) else x.array if isinstance(x, Tensor) else x)
            stacked.append(isinstance(x, Stacked))
        if rule.dtype != "as is":
            moving = {x.dtype for i, x in enumerate(arrays) if isinstance(x, np.ndarray) and i not in rule.fixed}
            if len(moving) > 1:
                raise NotStackable("promotion looks at dimensions")
            arrays = coerce(rule, arrays)
        result = rule.stack(rule.function, arrays, stacked, settings)
        if not rule.differentiable:
            return Stacked(as_array(result))
        value, count = as_array(result[0]), len(self.slices)
        edges: list = []
        if is_grad_enabled() and value.dtype.kind in "fc":
            for x, vjp in zip(inputs, result[1:]):
                if isinstance(x, Tensor) and x.requires_grad and vjp is not None:
                    shape = (count, *x.shape)
                    target = x if x.node is None else x.node
                    edges.append((per_slice(vjp, shape, value.ndim), target, x.index, shape, x.dtype))
        return Stacked(value, True, Node(rule, edges, None, None)) if edges else Stacked(value)


def per_slice(vjp: Callable, shape: tuple[int, ...], depth: int) -> Callable:
    """A vjp whose gradients are of `shape`, the leading axis included: a slice's un-broadcasting, for all of them."""

    def of_slices(g: np.ndarray) -> np.ndarray:
        out = vjp(g)
        if out.shape == shape:
            return out
        if out.size != math.prod(shape):
            out = unbroadcast(contiguous(out), (shape[0], *(1,) * (depth - len(shape)), *shape[1:]))
        return out.reshape(shape)

    return of_slices
