"""An operator of one's own, with both directions written out in tensors: torch's `autograd.Function`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any

from pargrad.graph import Named, Node
from pargrad.modes import Setting, mode, no_grad
from pargrad.rules.stacks import NotStackable
from pargrad.tensor import Tensor


class FunctionContext:
    """What `forward` leaves for `backward`.

    needs_input_grad: for each input of forward, whether its gradient is wanted.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.function.FunctionCtx.save_for_backward.html
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad
        self.materialize = True
        self.without_grad: tuple[int, ...] = ()
        self.kept: tuple[Tensor | None, ...] = ()
        self.node: weakref.ref[FunctionNode] | None = None
        self.values: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps inputs and outputs of forward; derivatives go through them, and an in-place change is noticed."""
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(
                    f"save_for_backward() takes tensors and None, got {type(x).__name__}: write ctx.name = value"
                )
        self.kept = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(self._in_graph(x) for x in self.kept)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Says that these outputs have no gradient."""
        self.without_grad = tuple(map(id, tensors))

    def set_materialize_grads(self, value: bool) -> None:
        """False: backward is given None, not zeros, for outputs without a gradient."""
        self.materialize = value

    def mark_dirty(self, *tensors: Tensor) -> None:
        raise NotImplementedError("a Function changes no input in place here: return a new tensor, assign it outside")

    def _in_graph(self, x: Tensor | None) -> Tensor | None:
        """A saved output as it left forward, with the node that it has since."""
        node = None if self.node is None else self.node()
        for index, value in enumerate(self.values):
            if x is value and value is not None and node is not None:
                out = Tensor(value.array, True, node, index)
                out.cell = value.cell
                return out
        return x


class FunctionNode(Node):
    """A node whose vjp is a user's `backward`."""

    __slots__ = ("context", "function")
    context: FunctionContext
    function: type[Function]

    def name(self) -> str:
        return f"{self.function.__name__}Backward"

    def free(self) -> None:
        super().free()
        self.context.kept = self.context.values = ()

    def no_gradient(self, index: int) -> Any:
        materialize = self.context.materialize and self.outputs[index][1] is not None  # type: ignore[index]
        return super().no_gradient(index) if materialize else None

    def gradients(self, g: Any, recorded: bool) -> list[Any]:
        given = list(g) if isinstance(g, tuple) else [g]
        given = [each if isinstance(each, Tensor) or each is None else Tensor(each) for each in given]
        with Setting(grad=recorded):
            result = self.function.backward(self.context, *given)
        results = list(result) if isinstance(result, tuple | list) else [result]
        wanted = self.context.needs_input_grad
        if len(results) > len(wanted) and all(each is None for each in results[len(wanted) :]):
            results = results[: len(wanted)]
        if len(results) != len(wanted):
            raise RuntimeError(
                f"{self.function.__name__}.backward returned {len(results)} gradients, expected one for each of the "
                f"{len(wanted)} inputs of forward: return None where there is none"
            )
        shapes = {edge[0]: edge[3] for edge in self.edges or ()}
        for place, shape in shapes.items():
            got = results[place]
            if got is not None and not sums_to(got.shape, shape):
                raise RuntimeError(
                    f"{self.function.__name__}.backward returned a gradient of shape {got.shape} for input {place}, "
                    f"expected {shape}"
                )
        return results

    def on_tensors(self) -> tuple[list, Callable | None]:
        return self.edges, lambda g: self.gradients(g, True)  # type: ignore[return-value]

    def on_arrays(self, g: Any) -> list[Any]:
        # As views: what backward returned may be held elsewhere, such as by two inputs, and is not to be added to.
        return [each.array[...] if isinstance(each, Tensor) else each for each in self.gradients(g, False)]


def without_cycle(node: FunctionNode) -> Callable:
    """The node's vjp as it may hold it: a graph is freed when it is dropped, not when cycles are looked for."""
    reference = weakref.ref(node)
    return lambda g: reference().on_arrays(g)  # type: ignore[union-attr]


def sums_to(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a gradient of one shape can be summed to another."""
    return len(shape) >= len(other) and all(a == b or b == 1 for a, b in zip(shape[::-1], other[::-1]))


class Function:
    """A base for operators with a derivative of one's own; called by `apply`.

    Subclasses write two static methods: `forward(ctx, *inputs)`, or `forward(*inputs)` together with
    `setup_context(ctx, inputs, output)`, and `backward(ctx, *gradients)`, which gives one gradient for each input, or
    None. Both see tensors; with create_graph, what backward computes is recorded.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.Function.html
    """

    @staticmethod
    def forward(*args: Any, **named: Any) -> Any:
        """The outputs for the inputs: a subclass writes it."""
        raise NotImplementedError("write `@staticmethod def forward(ctx, x): ...` in your Function")

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """The gradient of each input, or None, given that of each output: a subclass writes it."""
        raise NotImplementedError("write `@staticmethod def backward(ctx, gradient): ...` in your Function")

    setup_context: Callable | None = None

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not made into objects: call {type(self).__name__}.apply(...)")

    @classmethod
    def apply(cls, *inputs: Any) -> Any:
        """The outputs of `forward`, whose gradients go through `backward`: this is what is called."""
        if any(isinstance(x, Tensor) and x.stacked for x in inputs):
            raise NotStackable(cls.__name__)
        needs = tuple(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        context = FunctionContext(needs)
        with no_grad():
            if cls.setup_context is None:
                result = cls.forward(context, *inputs)
            else:
                result = cls.forward(*inputs)
                cls.setup_context(context, inputs, result)
        values = result if isinstance(result, tuple) else (result,)
        if not (mode.grad and any(needs)):
            return result
        context.values = tuple(value if any(value is x for x in context.kept) else None for value in values)
        node = FunctionNode(Named(cls.__name__), [])
        node.function, node.context, context.node = cls, context, weakref.ref(node)
        node.edges = [(place, x.key, x.is_leaf, x.shape, x.dtype) for place, x in enumerate(inputs) if needs[place]]
        node.joint = without_cycle(node)
        node.outputs = [(value.shape, value.dtype) if isinstance(value, Tensor) else ((), None) for value in values]
        node.saved = [(x.cell, x.cell[0], place, x) for place, x in enumerate(context.kept) if x is not None]
        outputs = tuple(recorded(value, node, index, context) for index, value in enumerate(values))
        return outputs if isinstance(result, tuple) else outputs[0]


def recorded(value: Any, node: Node, index: int, context: FunctionContext) -> Any:
    if not isinstance(value, Tensor) or value.dtype.kind not in "fc" or id(value) in context.without_grad:
        return value
    out = Tensor(value.array, True, node, index)
    out.cell = value.cell
    return out


def once_differentiable(backward: Callable) -> Callable:
    """For a `backward` whose own computation cannot be differentiated: a second derivative raises."""

    @functools.wraps(backward)
    def once(context: FunctionContext, *gradients: Any) -> Any:
        if mode.grad:
            raise RuntimeError(f"{backward.__qualname__} is marked once_differentiable: it has no second derivative")
        return backward(context, *gradients)

    return once
