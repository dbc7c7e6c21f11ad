"""A Module is an object whose attributes hold parameters, buffers and other modules; `vars` finds them, in order.

Nothing is intercepted: no `__getattr__`, no `__setattr__`. An attribute that a subclass sets wins over a method of
the same name, so the library calls the methods that it needs on the class (`Module.train(model)`).
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pargrad.promotion import CATEGORY
from pargrad.tensor import Tensor, check_can_require_grad

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])


class Parameter(Tensor):
    """A tensor that a Module trains: https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html"""

    def __init__(self, data: Any, requires_grad: bool = True):
        array = data.array if isinstance(data, Tensor) else np.asarray(data)
        if requires_grad:
            check_can_require_grad(array.dtype)
        super().__init__(array, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Module:
    """The base of layers and models: subclasses set attributes in `__init__` and compute in `forward`.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html
    """

    training: bool = True

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.forward(*args, **named)

    def forward(self, *args: Any, **named: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward: write `def forward(self, x): ...`")

    # ----- what it holds -----

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Its modules, each once, under its first name."""
        seen: set[int] = set()
        for name, child in own_modules(self):
            if id(child) not in seen:
                seen.add(id(child))
                yield name, child

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Itself and every module below it, parents first, each once or as often as it is reached."""
        memo = set() if memo is None else memo
        if id(self) not in memo:
            if remove_duplicate:
                memo.add(id(self))
            yield prefix, self
            for name, child in own_modules(self):
                path = f"{prefix}.{name}" if prefix else name
                yield from Module.named_modules(child, memo, path, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        for _, module in Module.named_modules(self):
            yield module

    def children(self) -> Iterator[Module]:
        for _, child in Module.named_children(self):
            yield child

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Names and parameters in the order of their attributes; a tied one once, under its first name.

        Unlike in torch, an attribute that was None before it became a parameter keeps the place that it had.
        """
        yield from named_tensors(self, own_parameters, prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        for _, parameter in Module.named_parameters(self, recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors that are state but not trained, as `register_buffer` named them."""
        yield from named_tensors(self, own_buffers, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        for _, buffer in Module.named_buffers(self, recurse=recurse):
            yield buffer

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Makes `self.name` a buffer; one that is not persistent is left out of `state_dict`."""
        if not isinstance(tensor, Tensor | None):
            raise TypeError(
                f"register_buffer: expected a tensor or None for {name!r}, got {type(tensor).__name__}: "
                "write pargrad.tensor(...)"
            )
        if not name or "." in name:
            raise KeyError(f"register_buffer: expected a name without a dot, got {name!r}")
        if name in vars(self) and name not in vars(self).get("_buffer_names", {}):
            raise KeyError(f"register_buffer: {type(self).__name__} already has an attribute {name!r}")
        vars(self).setdefault("_buffer_names", {})[name] = persistent
        setattr(self, name, tensor)

    # ----- its state -----

    def state_dict(self, prefix: str = "") -> OrderedDict[str, Tensor]:
        """Parameters and persistent buffers by name, on the module's own memory; a tied one under all its names."""
        state: OrderedDict[str, Tensor] = OrderedDict()
        for path, module in Module.named_modules(self, remove_duplicate=False):
            dot = f"{prefix}{path}." if path else prefix
            for name, tensor in (*own_parameters(module), *own_buffers(module, persistent_only=True)):
                state[dot + name] = tensor.detach()
        return state

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies tensors or arrays into the module's own by name; strict: every name must be on both sides.

        Raises RuntimeError with all missing, unexpected and mis-shaped names at once, before anything is changed.
        """
        own = Module.state_dict(self)
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        arrays = {name: as_array(value) for name, value in state_dict.items() if name in own}
        wrong = [
            f"{name}: expected shape {own[name].shape}, got {array.shape}"
            for name, array in arrays.items()
            if array.shape != own[name].shape
        ]
        wrong += [
            f"{name}: {array.dtype} cannot be loaded into {own[name].dtype}"
            for name, array in arrays.items()
            if CATEGORY.get(array.dtype.kind, 9) > CATEGORY[own[name].dtype.kind]
        ]
        wrong += [
            f"{name}: its memory is read-only while a Trainer is open: load before it opens, or after close()"
            for name in arrays
            if not own[name].array.flags.writeable
        ]
        told = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"unexpected: {', '.join(unexpected)}"] * bool(
            unexpected
        )
        if wrong or (strict and told):
            raise RuntimeError(
                f"load_state_dict of {type(self).__name__}: " + "; ".join([*(told if strict else []), *wrong])
            )
        for name, array in arrays.items():
            own[name].array[...] = array
            own[name].cell[0] += 1
        return IncompatibleKeys(missing, unexpected)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in Module.parameters(self):
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad.array[...] = 0

    # ----- its mode and dtype -----

    def train(self, mode: bool = True) -> Module:
        """Sets `training` here and below; a class that overrides `train` (to keep a part as it is) is heard."""
        self.training = mode
        for _, child in own_modules(self):
            type(child).train(child, mode)
        return self

    def eval(self) -> Module:
        return type(self).train(self, False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        for parameter in Module.parameters(self):
            parameter.requires_grad = requires_grad
        return self

    def to(self, dtype: Any) -> Module:
        """Floating-point parameters and buffers in another dtype, in place."""
        for tensor in (*Module.parameters(self), *Module.buffers(self)):
            if tensor.dtype.kind == "f":
                tensor.array = tensor.array.astype(dtype, copy=False)
                tensor.grad = None if tensor.grad is None else tensor.grad.to(dtype)
        return self

    def double(self) -> Module:
        return Module.to(self, np.float64)

    def float(self) -> Module:
        return Module.to(self, np.float32)

    # ----- what it says -----

    def score(self, data: Any, metric: str = "accuracy", *, num_workers: Any = "auto", **options: Any) -> Any:
        """The metric over a data set or `(inputs, target)` arrays, each example once, in parallel, with a progress bar.

        num_workers: Ray actors, "auto" for one a free core, 0 for this process alone. The result is one float, the
        same for every number of workers. Further options are those of `pargrad.parallel.score`.
        """
        from pargrad.parallel import score  # the one upward import of the library: scoring is what workers are for

        return score(self, data, metric, num_workers=num_workers, **options)

    def extra_repr(self) -> str:
        return ""

    def __repr__(self) -> str:
        extra = type(self).extra_repr(self)
        children = [f"({name}): {child!r}" for name, child in own_modules(self)]
        if not children and "\n" not in extra:
            return f"{type(self).__name__}({extra})"
        lines = "\n".join([*extra.splitlines(), *children]).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {lines}\n)"


def named_tensors(
    root: Module, own: Callable[[Module], list], prefix: str, recurse: bool, remove_duplicate: bool
) -> Iterator[tuple[str, Any]]:
    """What `own` finds in a module and, with recurse, in those below it, under full names."""
    paths = Module.named_modules(root, None, prefix, remove_duplicate) if recurse else [(prefix, root)]
    seen: set[int] = set()
    for path, module in paths:
        for name, tensor in own(module):
            if not (remove_duplicate and id(tensor) in seen):
                seen.add(id(tensor))
                yield (f"{path}.{name}" if path else name), tensor


def own_modules(module: Module) -> list[tuple[str, Module]]:
    """A module's direct children, as often as they are its attributes."""
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Module)]


def own_parameters(module: Module) -> list[tuple[str, Parameter]]:
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Parameter)]


def own_buffers(module: Module, persistent_only: bool = False) -> list[tuple[str, Tensor]]:
    names: dict[str, bool] = vars(module).get("_buffer_names", {})
    return [
        (name, getattr(module, name))
        for name, persistent in names.items()
        if getattr(module, name) is not None and (persistent or not persistent_only)
    ]


def as_array(value: Any) -> np.ndarray:
    # np.asarray also takes what is not ours: torch's tensors, safetensors' arrays, lists.
    return value.array if isinstance(value, Tensor) else np.asarray(value)
