"""A parameter that is computed, each time it is read, from another one: torch.nn.utils.parametrize.

The module becomes one of a class made for it, whose property computes the parameter; what it is computed from is in
`module.parametrizations`. https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.register_parametrization.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pargrad.modes import no_grad
from pargrad.nn.containers import ModuleDict, ModuleList
from pargrad.nn.module import Module
from pargrad.nn.parameter import Parameter
from pargrad.tensor import Tensor

__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations"]

# What has been computed inside `cached()`, by list; None outside.
_computed: dict[int, Tensor] | None = None


class ParametrizationList(ModuleList):
    """The modules that compute a parameter, one after the other, and the originals that the first is called with."""

    def __init__(self, parametrization: Module, original: Tensor):
        super().__init__([parametrization])
        with no_grad():
            undone = inverse(parametrization, original)
        several = isinstance(undone, tuple)
        self.names = [f"original{i}" for i in range(len(undone))] if several else ["original"]
        for name, value in zip(self.names, undone if several else (undone,)):
            if value is original:
                setattr(self, name, original)
            elif isinstance(original, Parameter):
                setattr(self, name, Parameter(value, original.requires_grad))
            else:
                self.register_buffer(name, value)

    def forward(self) -> Tensor:
        first, *others = self
        value = first(*(getattr(self, name) for name in self.names))
        for each in others:
            value = each(value)
        return value

    @no_grad()
    def right_inverse(self, value: Tensor) -> None:
        """Sets the originals so that the parameter becomes this value."""
        for each in reversed(list(self)):
            value = inverse(each, value)
        for name, part in zip(self.names, value if isinstance(value, tuple) else (value,)):
            getattr(self, name).copy_(part)


def inverse(parametrization: Module, value: Any) -> Any:
    """What a parametrization would be called with to give the value; the value itself where it cannot say."""
    function = getattr(parametrization, "right_inverse", None)
    return value if function is None else function(value)


def computed(name: str) -> property:
    def get(self: Module) -> Tensor:
        source = self.parametrizations[name]  # type: ignore[attr-defined]
        if _computed is None:
            return source()
        if id(source) not in _computed:
            _computed[id(source)] = source()
        return _computed[id(source)]

    def put(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)  # type: ignore[attr-defined]

    return property(get, put)


def take_class(module: Module) -> None:
    """Makes the module's class the one that computes what it has parametrizations of."""
    plain = next(kind for kind in type(module).__mro__ if "computes" not in vars(kind))
    names = list(vars(module).get("parametrizations") or ())
    body: Any = {"computes": names, "__module__": plain.__module__, **{name: computed(name) for name in names}}
    module.__class__ = type(f"Parametrized{plain.__name__}", (plain,), body) if names else plain


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """From now on `module.tensor_name` is parametrization(original), or, where there is one already, of what it was.

    A parametrization that has right_inverse is given the first value by it. unsafe: the shape and dtype may change.
    """
    if is_parametrized(module, tensor_name):
        value = getattr(module, tensor_name)
        check(module, tensor_name, parametrization, value, unsafe)
        source: Any = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
        source.append(parametrization)
        return module
    original = vars(module).get(tensor_name)
    if not isinstance(original, Tensor):
        raise ValueError(
            f"register_parametrization: {type(module).__name__} has no parameter or buffer {tensor_name!r}"
        )
    source = ParametrizationList(parametrization, original)
    with no_grad():
        after = source()
    if not unsafe and (after.shape, after.dtype) != (original.shape, original.dtype):
        raise ValueError(wrong_kind(tensor_name, original, after))
    delattr(module, tensor_name)
    vars(module).get("_buffer_names", {}).pop(tensor_name, None)
    if "parametrizations" not in vars(module):
        module.parametrizations = ModuleDict()  # type: ignore[attr-defined]
    module.parametrizations[tensor_name] = source  # type: ignore[attr-defined]
    take_class(module)
    return module


def check(module: Module, name: str, parametrization: Module, value: Tensor, unsafe: bool) -> None:
    with no_grad():
        after = parametrization(value)
    if not unsafe and (after.shape, after.dtype) != (value.shape, value.dtype):
        raise ValueError(wrong_kind(name, value, after))


def wrong_kind(name: str, before: Tensor, after: Tensor) -> str:
    return (
        f"register_parametrization: expected {name!r} to stay of shape {before.shape} and {before.dtype}, got "
        f"{after.shape} and {after.dtype}: say unsafe=True if that is meant"
    )


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether the module computes this parameter, or any."""
    names = vars(module).get("parametrizations")
    return isinstance(names, ModuleDict) and (bool(len(names)) if tensor_name is None else tensor_name in names)


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Makes the parameter a plain one again, with the value it has, or with that of its original."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"remove_parametrizations: {type(module).__name__} does not compute {tensor_name!r}")
    source: Any = module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    first = getattr(source, source.names[0])
    if leave_parametrized:
        with no_grad():
            value = source()
    elif len(source.names) > 1:
        raise ValueError("remove_parametrizations: leave_parametrized=False takes one original, and there are several")
    else:
        value = first
    del module.parametrizations[tensor_name]  # type: ignore[attr-defined]
    if not len(module.parametrizations):  # type: ignore[attr-defined]
        del module.parametrizations  # type: ignore[attr-defined]
    take_class(module)
    if isinstance(first, Parameter):
        setattr(module, tensor_name, first if value is first else Parameter(value.detach(), first.requires_grad))
    else:
        module.register_buffer(tensor_name, value)
    return module


@contextmanager
def cached() -> Iterator[None]:
    """Inside, a computed parameter is computed once, however often it is read."""
    global _computed
    before = _computed
    _computed = {} if before is None else before
    try:
        yield
    finally:
        _computed = before
