"""Jacobians, Hessians and products with them, of functions of tensors: torch.autograd.functional.

`pargrad.func` has the newer names. https://docs.pytorch.org/docs/stable/autograd.html#functional-higher-level-api
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.autograd.gradients import grad
from pargrad.creation import ones_like, zeros_like
from pargrad.modes import enable_grad
from pargrad.rules.shapes import reshape, stack
from pargrad.tensor import Tensor, apply

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = Tensor | tuple[Tensor, ...]


class Call:
    """A function's outputs, and the inputs that it was called with: views of those given, so that grads are theirs.

    create_graph: what is found can be differentiated again by the inputs given.
    """

    def __init__(self, name: str, func: Callable, inputs: Any, create_graph: bool, strict: bool):
        self.name, self.create_graph, self.strict = name, create_graph, strict
        self.single_input = isinstance(inputs, Tensor)
        given = check(name, "inputs", inputs)
        with enable_grad():
            self.inputs = [own(x, create_graph) for x in given]
            result = func(*self.inputs)
            self.single_output = isinstance(result, Tensor)
            self.outputs = list(check(name, "outputs of the function", result))
            for i, output in enumerate(self.outputs):
                if strict and not output.requires_grad:
                    raise RuntimeError(f"{name}: output {i} does not depend on the inputs, which strict=True refuses")

    def scalar(self) -> Tensor:
        if not self.single_output or self.outputs[0].numel() != 1:
            raise RuntimeError(f"{self.name}: expected a function that gives one number, got {shapes(self.outputs)}")
        return apply(reshape, self.outputs[0], shape=())

    def gradients(
        self, outputs: list[Tensor], seeds: list[Tensor], inputs: list[Tensor], create_graph: bool
    ) -> list[Tensor]:
        """The gradients of the outputs, each times its seed; zeros for an input that they do not depend on."""
        reached = [(output, seed) for output, seed in zip(outputs, seeds) if output.requires_grad]
        found: Any = [None] * len(inputs)
        if reached:
            roots, given = zip(*reached)
            with enable_grad():
                found = grad(roots, inputs, given, retain_graph=True, create_graph=create_graph, allow_unused=True)
        for i, each in enumerate(found):
            if each is None and self.strict:
                raise RuntimeError(f"{self.name}: the outputs do not depend on input {i}, which strict=True refuses")
        return [zeros_like(x) if each is None else each for x, each in zip(inputs, found)]

    def vectors(self, v: Any, like: list[Tensor], single: bool) -> list[Tensor]:
        """The vector that is multiplied with: of the shapes of `like`; left out for one number."""
        if v is None:
            if not single or like[0].numel() != 1:
                raise RuntimeError(f"{self.name}: v can only be left out for one number, got {shapes(like)}")
            return [ones_like(like[0])]
        given = [own(x, self.create_graph) for x in check(self.name, "v", v)]
        if shapes(given) != shapes(like):
            raise RuntimeError(f"{self.name}: expected v of {shapes(like)}, got {shapes(given)}")
        return given

    def result(self, values: list[Any], single: bool) -> Any:
        kept = [x if self.create_graph else x.detach() for x in values]
        return kept[0] if single else tuple(kept)


def check(name: str, what: str, given: Any) -> tuple[Tensor, ...]:
    values = (given,) if isinstance(given, Tensor) else given
    if not isinstance(values, tuple) or not all(isinstance(x, Tensor) for x in values):
        raise TypeError(f"{name}: expected {what} to be a tensor or a tuple of tensors, got {type(given).__name__}")
    return values


def own(x: Tensor, create_graph: bool) -> Tensor:
    """The values as a tensor whose gradient is nobody else's; with create_graph still part of x's graph."""
    if create_graph and x.requires_grad:
        return apply(reshape, x, shape=x.shape)
    return x.detach().requires_grad_()


def shapes(tensors: Any) -> str:
    return "shape " + " and ".join(str(x.shape) for x in tensors)


def jacobian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """For each output and input the derivatives, of shape (*output.shape, *input.shape), in tuples for several.

    One backward walk for each element of the outputs; vectorize and strategy are torch's, and change nothing.
    """
    call = Call("jacobian", func, inputs, create_graph, strict)
    rows = [blocks(call, output) for output in call.outputs]
    return call_result(call, rows)


def blocks(call: Call, output: Tensor) -> list[Tensor]:
    """The derivatives of one output by each input."""
    unit = np.eye(output.numel(), dtype=output.dtype).reshape(output.numel(), *output.shape)
    walks = [call.gradients([output], [Tensor(row)], call.inputs, call.create_graph) for row in unit]
    if not walks:
        return [zeros_like(x).reshape(*output.shape, *x.shape) for x in call.inputs]
    with enable_grad():
        stacked = [apply(stack, *column) for column in zip(*walks)]
        return [apply(reshape, s, shape=(*output.shape, *x.shape)) for s, x in zip(stacked, call.inputs)]


def call_result(call: Call, rows: list[list[Tensor]]) -> Any:
    parts = [call.result(row, call.single_input) for row in rows]
    return parts[0] if call.single_output else tuple(parts)


def hessian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function that gives one number: (*first.shape, *second.shape) for each two inputs."""
    single = isinstance(inputs, Tensor)

    def gradient(*own_inputs: Tensor) -> Any:
        call = Call("hessian", func, own_inputs, True, strict)
        return tuple(call.gradients([call.scalar()], [Tensor(np.ones((), call.outputs[0].dtype))], call.inputs, True))

    given = check("hessian", "inputs", inputs)
    found = jacobian(gradient, given, create_graph, strict)
    return found[0][0] if single else found


def vjp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, v times the Jacobian): v of the outputs' shapes, and may be left out where they are one number."""
    call = Call("vjp", func, inputs, create_graph, strict)
    seeds = call.vectors(v, call.outputs, call.single_output)
    product = call.gradients(call.outputs, seeds, call.inputs, create_graph)
    return call.result(call.outputs, call.single_output), call.result(product, call.single_input)


def jvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(outputs, the Jacobian times v): v of the inputs' shapes. A second walk goes back to the seed of the first."""
    call = Call("jvp", func, inputs, create_graph, strict)
    direction = call.vectors(v, call.inputs, call.single_input)
    seeds = [zeros_like(output).requires_grad_() for output in call.outputs]
    transposed = call.gradients(call.outputs, seeds, call.inputs, True)
    product = call.gradients(transposed, direction, seeds, create_graph)
    return call.result(call.outputs, call.single_output), call.result(product, call.single_output)


def vhp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, v times the Hessian) of a function that gives one number; v of the inputs' shapes."""
    call = Call("vhp", func, inputs, create_graph, strict)
    direction = call.vectors(v, call.inputs, call.single_input)
    output = call.scalar()
    gradients = call.gradients([output], [ones_like(output)], call.inputs, True)
    product = call.gradients(gradients, direction, call.inputs, create_graph)
    return call.result(call.outputs, True), call.result(product, call.single_input)


def hvp(
    func: Callable, inputs: Tensors, v: Tensors | None = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(output, the Hessian times v): what `vhp` gives, for a Hessian is symmetric."""
    return vhp(func, inputs, v, create_graph, strict)
