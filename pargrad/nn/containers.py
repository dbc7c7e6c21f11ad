"""Modules that hold others, or parameters, in order or by name; what they hold are their attributes."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pargrad.nn.module import Module, Parameter, in_words, own_modules
from pargrad.tensor import Tensor

INTERNAL = ("training", "_hooks", "_buffer_names")  # attributes that are none of the entries


def place_of(container: Any, index: Any, count: int) -> int:
    place = operator.index(index)
    if not -count <= place < count:
        raise IndexError(f"{type(container).__name__}: index {place} is out of range of {count}")
    return place % count


class Row(Module):
    """A base: modules in a row, which are the attributes "0", "1", ..., or have names of their own."""

    def add(self, name: Any, module: Any) -> None:
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__} takes Modules, got {type(module).__name__} at {name}: "
                "write nn.ReLU(), not F.relu"
            )
        if name in ("", "forward", "training") or "." in str(name):
            raise KeyError(f"{type(self).__name__}: a layer cannot be named {name!r}")
        setattr(self, str(name), module)

    def refill(self, modules: Iterable[Any]) -> None:
        """Holds these modules instead, under numbers."""
        modules = list(modules)
        for name, _ in own_modules(self):
            delattr(self, name)
        for place, module in enumerate(modules):
            Row.add(self, place, module)

    def __len__(self) -> int:
        return len(own_modules(self))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in own_modules(self))

    def __contains__(self, module: object) -> bool:
        return any(module is each for each in Row.__iter__(self))

    def __getitem__(self, index: Any) -> Any:
        named = own_modules(self)
        if isinstance(index, slice):
            return type(self).made_of(self, named[index])
        return named[place_of(self, index, len(named))][1]

    def made_of(self, named: list[tuple[str, Module]]) -> Any:
        raise NotImplementedError

    def __setitem__(self, index: Any, module: Module) -> None:
        named = own_modules(self)
        Row.add(self, named[place_of(self, index, len(named))][0], module)

    def __delitem__(self, index: Any) -> None:
        raise NotImplementedError

    def __iadd__(self, modules: Iterable[Module]) -> Any:
        return Row.extend(self, modules)

    def append(self, module: Module) -> Any:
        Row.add(self, len(self), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        for module in list(modules):
            Row.append(self, module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Modules that had names of their own have numbers then."""
        modules = list(self)
        if not -len(modules) <= index <= len(modules):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range of {len(modules)}")
        modules.insert(index, module)
        Row.refill(self, modules)
        return self

    def pop(self, key: Any) -> Module:
        module = self[key]
        del self[key]
        return module


class Sequential(Row):
    """Modules called one after the other; they are its attributes "0", "1", ... or the names of an OrderedDict.

    >>> nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))(pg.ones(8, 2)).shape
    (8, 1)
    """

    def __init__(self, *args: Module | OrderedDict[str, Module]):
        named = args[0].items() if len(args) == 1 and isinstance(args[0], dict) else enumerate(args)
        for name, module in named:
            Row.add(self, name, module)

    def forward(self, input: Any) -> Any:
        for _, module in own_modules(self):
            input = module(input)
        return input

    def made_of(self, named: list[tuple[str, Module]]) -> Sequential:
        """A Sequential of some of its modules, as slices and sums give it."""
        return type(self)(OrderedDict(named))

    def __delitem__(self, index: Any) -> None:
        """As in torch, what is left is numbered again where it had numbers."""
        named = own_modules(self)
        if isinstance(index, slice):
            for name, _ in named[index]:
                delattr(self, name)
        else:
            delattr(self, named[place_of(self, index, len(named))][0])
        left = own_modules(self)
        if all(name.isdigit() for name, _ in left):
            Row.refill(self, [module for _, module in left])

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def __mul__(self, other: int) -> Sequential:
        if other <= 0:
            raise ValueError(f"Sequential: expected a number of repetitions above 0, got {other}")
        return Sequential(*[module for _ in range(other) for module in self])

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Sequential:
        if other <= 0:
            raise ValueError(f"Sequential: expected a number of repetitions above 0, got {other}")
        return Row.extend(self, [module for _ in range(other - 1) for module in self])


class ModuleList(Row):
    """A list of modules, which are the attributes "0", "1", ... of it; it does not call them."""

    def __init__(self, modules: Iterable[Module] | None = None):
        Row.extend(self, modules or ())

    def made_of(self, named: list[tuple[str, Module]]) -> ModuleList:
        """A ModuleList of some of its modules, as slices and sums give it."""
        return type(self)(module for _, module in named)

    def __delitem__(self, index: Any) -> None:
        modules = list(self)
        if not isinstance(index, slice):
            index = place_of(self, index, len(modules))
        del modules[index]
        Row.refill(self, modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """As torch does it, neighbours that say the same are told once."""
        children, first = [], 0
        for text, group in itertools.groupby(map(repr, self)):
            count = len(list(group))
            one = count == 1
            children.append(f"({first}): {text}" if one else f"({first}-{first + count - 1}): {count} x {text}")
            first += count
        return in_words(type(self).__name__, "", children)


class ByName:
    """A base: the methods of a dict, for an object whose entries are its attributes; `_entries` lists them."""

    def _entries(self) -> list[tuple[str, Any]]:
        raise NotImplementedError

    def _put(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def _check_key(self, key: Any) -> None:
        # An attribute wins over a method of the same name, and the methods of a dict are needed.
        if not isinstance(key, str):
            raise TypeError(f"{type(self).__name__}: expected names as keys, got {type(key).__name__}")
        taken = key in INTERNAL or key == "forward" or key in vars(ByName) or key.startswith("__")
        if not key or "." in key or taken:
            raise KeyError(f"{type(self).__name__}: an entry cannot be named {key!r}")

    def __getitem__(self, key: str) -> Any:
        return dict(self._entries())[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._put(key, value)

    def __delitem__(self, key: str) -> None:
        self[key]  # which raises where there is none
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._entries())

    def __iter__(self) -> Iterator[str]:
        return iter([key for key, _ in self._entries()])

    def __contains__(self, key: object) -> bool:
        return any(key == each for each, _ in self._entries())

    def keys(self) -> Iterable[str]:
        return dict(self._entries()).keys()

    def values(self) -> Iterable[Any]:
        return dict(self._entries()).values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return dict(self._entries()).items()

    def pop(self, key: str) -> Any:
        value = self[key]
        del self[key]
        return value

    def clear(self) -> None:
        for key in list(self):
            del self[key]

    def update(self, others: Any) -> None:
        """Takes entries from a mapping, or from pairs."""
        if not isinstance(others, Iterable):
            raise TypeError(f"{type(self).__name__}: expected a dict, or pairs, got {type(others).__name__}")
        pairs = others.items() if isinstance(others, Mapping | ByName) else others
        for key, value in pairs:
            self[key] = value


class ModuleDict(ByName, Module):
    """Modules by name, which are attributes of it; it does not call them."""

    def __init__(self, modules: Any = None):
        ModuleDict.update(self, modules or {})

    def _entries(self) -> list[tuple[str, Any]]:
        return own_modules(self)

    def _put(self, key: str, value: Any) -> None:
        self._check_key(key)
        Module.add_module(self, key, value)


# ----- of parameters -----


def as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def contents(named: Iterable[tuple[str, Any]]) -> str:
    """Parameters and what else is held, as torch tells them."""
    lines = []
    for name, value in named:
        if isinstance(value, Tensor):
            kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
            size = "x".join(map(str, value.shape))
            lines.append(f"  ({name}): {kind} containing: [{value.dtype} of size {size}]")
        elif isinstance(value, Module):
            lines.append(f"  ({name}): Module containing: {value}")
        else:
            lines.append(f"  ({name}): Object of type: {type(value).__name__}")
    return "\n".join(lines)


class ParameterList(Module):
    """A list of parameters, which are the attributes "0", "1", ... of it; tensors become parameters.

    As in torch, it holds other things, too.
    """

    def __init__(self, values: Iterable[Any] | None = None):
        self._size = 0
        ParameterList.extend(self, values or ())

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (vars(self)[str(place)] for place in range(self._size))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)([*self][index])
        return vars(self)[str(place_of(self, index, self._size))]

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, str(place_of(self, index, self._size)), as_parameter(value))

    def append(self, value: Any) -> ParameterList:
        """Adds a parameter at the end."""
        setattr(self, str(self._size), as_parameter(value))
        self._size += 1
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Adds parameters at the end."""
        if isinstance(values, Tensor) or not isinstance(values, Iterable):
            raise TypeError(f"ParameterList: expected parameters, such as in a list, got {type(values).__name__}")
        for value in list(values):
            ParameterList.append(self, value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return ParameterList.extend(self, values)

    def __repr__(self) -> str:
        return listing(self, [(str(place), value) for place, value in enumerate(self)])


class ParameterDict(ByName, Module):
    """Parameters by name, which are attributes of it; tensors become parameters. As in torch, it holds other things."""

    def __init__(self, parameters: Any = None):
        ParameterDict.update(self, parameters or {})

    def _entries(self) -> list[tuple[str, Any]]:
        return [(key, value) for key, value in vars(self).items() if key not in INTERNAL]

    def _put(self, key: str, value: Any) -> None:
        self._check_key(key)
        setattr(self, key, as_parameter(value))

    def copy(self) -> ParameterDict:
        """Another ParameterDict of the same parameters."""
        return ParameterDict(OrderedDict(self._entries()))

    def __repr__(self) -> str:
        return listing(self, self._entries())


def listing(container: Module, named: list[tuple[str, Any]]) -> str:
    """What a container of parameters says; modules that it holds are told a second time, as torch has it."""
    children = [f"({name}): {child!r}" for name, child in own_modules(container)]
    return in_words(type(container).__name__, contents(named), children)


__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]
