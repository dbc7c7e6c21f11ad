"""Modes of recording, each for the thread that is in it: no_grad, enable_grad, inference_mode; anomaly detection."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any


class Mode(threading.local):
    grad = True
    inference = False


class Anomaly:
    """Whether nan is looked for, in all threads: backward may run in another one than the forward pass."""

    enabled = False
    check_nan = True


mode, anomaly = Mode(), Anomaly()


class InferenceCell(list):
    """In the place of a version cell: a tensor made inside `inference_mode` has no versions and is in no graph."""

    def __getitem__(self, index: Any) -> Any:
        if index == 0 and not mode.inference:
            raise RuntimeError(
                "a tensor made inside inference_mode can be neither saved for backward nor changed in place outside: "
                "write x.clone() first"
            )
        return super().__getitem__(index)


INFERENCE = InferenceCell([0, None])


class Setting:
    """Gives attributes of `mode` other values inside a `with` block or a decorated function."""

    def __init__(self, **values: bool):
        self.values = values
        self.before: list[dict[str, bool]] = []

    def again(self) -> Setting:
        """A block of its own: two threads in one decorated function must not restore each other's mode."""
        return Setting(**self.values)

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"a decorated generator, {function.__name__}, would run outside the mode: write the `with` block where "
                "its values are used"
            )

        @functools.wraps(function)
        def within(*args: Any, **named: Any) -> Any:
            with self.again():
                return function(*args, **named)

        return within

    def __enter__(self) -> None:
        self.before.append({name: getattr(mode, name) for name in self.values})
        for name, value in self.values.items():
            setattr(mode, name, value)

    def __exit__(self, *error: object) -> None:
        for name, value in self.before.pop().items():
            setattr(mode, name, value)


class set_grad_enabled(Setting):
    """Records operators, or not, inside a `with` block or a decorated function, in this thread.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.set_grad_enabled.html; unlike torch's
    it acts only as a context manager or decorator, so that a mode cannot leak.
    """

    def __init__(self, mode: bool):
        super().__init__(grad=mode)


class Bare(Setting):
    """A Setting whose decorator may be written without brackets: `@no_grad` and `@no_grad()` are the same."""

    def __new__(cls, function: Callable | None = None) -> Any:
        return object.__new__(cls) if function is None else cls()(function)


class no_grad(Bare):
    """Records nothing inside: https://docs.pytorch.org/docs/stable/generated/torch.no_grad.html

    >>> x = pg.tensor([1.0], requires_grad=True)
    >>> with pg.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(grad=False)


class enable_grad(Bare):
    """Records inside, even within `no_grad`."""

    def __init__(self) -> None:
        super().__init__(grad=True)


class inference_mode(Setting):
    """Records nothing inside, and what is computed inside can never be part of a graph.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html
    """

    def __new__(cls, mode: Any = True) -> Any:
        return cls()(mode) if callable(mode) else object.__new__(cls)

    def __init__(self, mode: bool = True):
        super().__init__(**({"grad": False, "inference": True} if mode else {"grad": True, "inference": False}))


def is_grad_enabled() -> bool:
    """Whether operators are being recorded in this thread."""
    return mode.grad


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return mode.inference
