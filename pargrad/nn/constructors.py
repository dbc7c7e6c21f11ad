"""Constructors that take what another layer's takes, but for an argument or a default."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def parameters_of(layer: type, **defaults: Any) -> list[inspect.Parameter]:
    """What a layer's constructor takes, with other defaults for some of it."""
    _, *parameters = inspect.signature(layer.__init__).parameters.values()  # type: ignore[misc]
    return [parameter.replace(default=defaults.get(parameter.name, parameter.default)) for parameter in parameters]


def with_another(parameters: list[inspect.Parameter], name: str, before: str) -> list[inspect.Parameter]:
    """These, and before one of them another with the same default."""
    place = [parameter.name for parameter in parameters].index(before)
    return [*parameters[:place], parameters[place].replace(name=name), *parameters[place:]]


def taking(parameters: Iterable[inspect.Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Has a constructor, which is called with all its settings by name, take them as these parameters say."""
    signature = inspect.Signature(list(parameters))

    def decorate(construct: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(construct)
        def constructor(self: Any, *args: Any, **named: Any) -> None:
            try:
                given = signature.bind(*args, **named)
            except TypeError as error:
                raise TypeError(f"{type(self).__name__}: {error}") from None
            given.apply_defaults()
            construct(self, **given.arguments)

        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        own = signature.replace(parameters=[itself, *signature.parameters.values()])
        constructor.__signature__ = own  # type: ignore[attr-defined]
        return constructor

    return decorate
