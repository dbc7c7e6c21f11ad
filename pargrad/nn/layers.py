"""Layers: Modules that hold what torch.nn's of the same name hold, under the same names."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.nn import functional as F
from pargrad.nn import init
from pargrad.nn.module import Module, Parameter, own_modules
from pargrad.tensor import DEFAULT_FLOAT, Tensor


class Sequential(Module):
    """Modules called one after the other; they are its attributes "0", "1", ... or the names of an OrderedDict."""

    def __init__(self, *args: Module | OrderedDict[str, Module]):
        named = args[0].items() if len(args) == 1 and isinstance(args[0], dict) else enumerate(args)
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential takes Modules, got {type(module).__name__} at {name}: write nn.ReLU(), not F.relu"
                )
            if name in ("", "forward", "training") or "." in str(name):
                raise KeyError(f"Sequential: a layer cannot be named {name!r}")
            setattr(self, str(name), module)

    def forward(self, input: Any) -> Any:
        for _, module in own_modules(self):
            input = module(input)
        return input

    def __len__(self) -> int:
        return len(own_modules(self))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in own_modules(self))

    def __getitem__(self, index: Any) -> Any:
        named = own_modules(self)
        return Sequential(OrderedDict(named[index])) if isinstance(index, slice) else named[index][1]


class Linear(Module):
    """y = x @ weight.T + bias: x (..., in_features), weight (out_features, in_features), bias (out_features,).

    Both begin uniform in +-1/sqrt(in_features), drawn as torch draws them: weight first, then bias.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        kind = dtype or DEFAULT_FLOAT
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(np.empty((out_features, in_features), kind))
        self.bias = Parameter(np.empty(out_features, kind)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """The dimensions from start_dim to end_dim as one: by default all but the batch's."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return operators.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """While training, zeroes elements with probability p and divides the others by 1 - p."""

    def __init__(self, p: float = 0.5, inplace: bool = False):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: expected a probability p between 0 and 1, got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class ReLU(Module):
    """max(x, 0), elementwise."""

    def __init__(self, inplace: bool = False):
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Tanh(Module):
    """tanh(x), elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x)), elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)
