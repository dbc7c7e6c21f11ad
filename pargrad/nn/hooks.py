"""What a module calls around its forward and backward passes: torch's hooks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from pargrad.function import Function
from pargrad.graph import RemovableHandle
from pargrad.tensor import Tensor


class Hook(NamedTuple):
    function: Callable
    with_kwargs: bool = False
    always_call: bool = False


class ModuleHooks:
    """The hooks of one module: a dict for each kind, in the order in which they are called."""

    def __init__(self) -> None:
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}
        self.before_backward: dict[int, Hook] = {}
        self.after_backward: dict[int, Hook] = {}
        self.before_state: dict[int, Hook] = {}
        self.after_state: dict[int, Hook] = {}
        self.before_load: dict[int, Hook] = {}


def registered(hooks: dict[int, Any], hook: Hook, prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks, hook)  # type: ignore[arg-type]  # which only keeps it
    if prepend:
        for key in [key for key in hooks if key != handle.id]:
            hooks[key] = hooks.pop(key)
    return handle


def call_with_hooks(module: Any, hooks: ModuleHooks, args: tuple, named: dict[str, Any]) -> Any:
    """`module(*args, **named)`, hooks included."""
    result, called = None, set()
    try:
        for hook in list(hooks.before.values()):
            args, named = given(module, hook, args, named)
        backward = Backward(module, hooks) if hooks.before_backward or hooks.after_backward else None
        if backward is not None:
            args = backward.enter(args)
        result = module.forward(*args, **named)
        for key, hook in list(hooks.after.items()):
            called.add(key)
            result = returned(module, hook, args, named, result)
        return result if backward is None else backward.leave(result)
    except Exception:
        for key, hook in list(hooks.after.items()):
            if hook.always_call and key not in called:
                try:
                    result = returned(module, hook, args, named, result)
                except Exception as error:  # the first one is what is to be seen
                    warnings.warn(f"a forward hook with always_call=True raised {error!r}", stacklevel=3)
        raise


def given(module: Any, hook: Hook, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of forward as a hook before it leaves them."""
    if not hook.with_kwargs:
        changed = hook.function(module, args)
        return (args if changed is None else changed if isinstance(changed, tuple) else (changed,)), named
    changed = hook.function(module, args, named)
    if changed is None:
        return args, named
    if not (isinstance(changed, tuple) and len(changed) == 2):
        raise RuntimeError(f"a forward pre-hook with kwargs returns None or (args, kwargs), got {changed!r}")
    return changed


def returned(module: Any, hook: Hook, args: tuple, named: dict[str, Any], result: Any) -> Any:
    """The result of forward as a hook after it leaves it."""
    changed = hook.function(module, args, named, result) if hook.with_kwargs else hook.function(module, args, result)
    return result if changed is None else changed


# ----- backward -----


class Passage(Function):
    """The identity; what goes back through it passes a function, which may change it.

    zeros: what stands for a gradient that does not arrive, in the place of None.
    """

    @staticmethod
    def forward(ctx: Any, on_gradients: Callable, zeros: bool, *tensors: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        ctx.on_gradients = on_gradients
        ctx.set_materialize_grads(zeros)
        ctx.mark_non_differentiable(*(x for x in tensors if not x.requires_grad))
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple:
        return None, None, *ctx.on_gradients(gradients)


def passed(values: tuple, on_gradients: Callable, zeros: bool) -> tuple[tuple, list[int]]:
    """Values with their tensors led through a Passage, and where these are; none where no tensor requires grad."""
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
    if not any(values[place].requires_grad for place in places):
        return values, []
    through = list(values)
    for place, tensor in zip(places, Passage.apply(on_gradients, zeros, *(values[place] for place in places))):
        through[place] = tensor
    return tuple(through), places


def spread(values: tuple, places: list[int], size: int) -> tuple:
    """Values at their places, None at the others."""
    found = dict(zip(places, values))
    return tuple(found.get(place) for place in range(size))


class Backward:
    """One call of a module whose gradients pass its hooks.

    What arrives at its outputs goes to the hooks before backward; these, and what arrives at its inputs, to those
    after it, or at once where no input requires a gradient.
    """

    def __init__(self, module: Any, hooks: ModuleHooks):
        self.module = module
        self.before = [hook.function for hook in hooks.before_backward.values()]
        self.after = [hook.function for hook in hooks.after_backward.values()]
        self.input_places: list[int] = []
        self.output_places: list[int] = []
        self.inputs = self.outputs = 0
        self.grad_output: tuple = ()

    def enter(self, args: tuple) -> tuple:
        self.inputs = len(args)
        args, self.input_places = passed(args, self.at_inputs, zeros=True)
        return args

    def leave(self, result: Any) -> Any:
        values = result if isinstance(result, tuple) else (result,)
        self.outputs = len(values)
        values, self.output_places = passed(values, self.at_outputs, zeros=False)
        return values if isinstance(result, tuple) else values[0]

    def at_outputs(self, gradients: tuple) -> list:
        grad_output = spread(gradients, self.output_places, self.outputs)
        for function in self.before:
            grad_output = replaced("pre-hook", function(self.module, grad_output), grad_output)
        self.grad_output = grad_output
        if not self.input_places:
            nothing = (None,) * self.inputs
            for function in self.after:
                if any(
                    each is not None for each in replaced("hook", function(self.module, nothing, grad_output), nothing)
                ):
                    raise RuntimeError(
                        "a backward hook of a module none of whose inputs requires grad has no gradient to replace: "
                        "return None"
                    )
        return [grad_output[place] for place in self.output_places]

    def at_inputs(self, gradients: tuple) -> list:
        grad_input = spread(gradients, self.input_places, self.inputs)
        for function in self.after:
            grad_input = replaced("hook", function(self.module, grad_input, self.grad_output), grad_input)
        return [grad_input[place] for place in self.input_places]


def replaced(kind: str, result: Any, gradients: tuple) -> tuple:
    """What a hook returned in the place of the gradients, if anything, checked."""
    if result is None:
        return gradients
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(gradients):
        raise RuntimeError(f"a backward {kind} returns None or {len(gradients)} gradients, got {len(result)}")
    return result
