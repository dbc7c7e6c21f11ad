"""Derivatives of derivatives: the vjps of a node over Tensors, so that what they compute is recorded itself.

A vjp is a closure over what it keeps. The same code over cells that hold Tensors, the argument instead of its array,
is the same derivative as a function of the argument. A rule that keeps something it made on the way is called again,
on Tensors; a fused one, whose code writes in place, has its plain composition called.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

import numpy as np

from pargrad.graph import Node, overwritten, run_backward
from pargrad.promotion import coerce
from pargrad.rules.shapes import reshape
from pargrad.tensor import Tensor, apply


def on_tensors(node: Node) -> tuple[list, Callable | None]:
    """The node's edges and joint vjp over Tensors."""
    for i, (x, version) in enumerate(zip(node.inputs or (), node.versions)):
        if isinstance(x, Tensor) and x._version != version:
            raise overwritten(node, x.cell, version, i)
    edges: list = node.edges  # type: ignore[assignment]
    if node.rule.plain is not None:
        return through_plain(node)
    if node.inputs is not None:
        return called_again(node)
    if node.joint is not None:
        return edges, over_tensors(node, node.joint)
    return [(over_tensors(node, vjp), *rest) for vjp, *rest in edges], None


def over_tensors(node: Node, vjp: Callable) -> Callable:
    """A vjp with Tensors in its closure in the place of the arrays of arguments and values."""
    if not isinstance(vjp, FunctionType) or vjp.__closure__ is None or vjp.__code__ not in node.rule.saved:
        return vjp
    cells = [
        CellType(in_graph(node, name, cell.cell_contents))
        for name, cell in zip(vjp.__code__.co_freevars, vjp.__closure__)
    ]
    return FunctionType(vjp.__code__, vjp.__globals__, vjp.__name__, vjp.__defaults__, tuple(cells))


def in_graph(node: Node, name: str, kept: Any) -> Any:
    """What a vjp keeps under a name, as a part of the graph where it is one."""
    if isinstance(kept, FunctionType):
        return over_tensors(node, kept)
    arguments = node.rule.arguments
    for cell, _, whose, what in node.saved:
        if whose < 0:
            if what is kept and kept.dtype.kind in "fc":  # an index is no part of the graph
                return value_of(node, -1 - whose, kept, cell)
        elif node.rule.variadic:
            if name == arguments[0]:
                return tuple(each[3] for each in node.saved if each[2] >= 0)
        elif arguments[whose] == name and what.requires_grad:
            return what if what.dtype == kept.dtype else what.to(kept.dtype)
    return kept


def value_of(node: Node, index: int, array: np.ndarray, cell: list) -> Tensor:
    """A value of the node as the Tensor that it was."""
    value = Tensor(np.asarray(array), True, node, index)
    value.cell = cell
    return value


def called_again(node: Node) -> tuple[list, Callable | None]:
    """The vjps of the rule called on its inputs as Tensors."""
    result = node.rule.function(*as_called(node), **(node.settings or {}))
    if node.joint is not None:
        return node.edges, result[1]  # type: ignore[return-value]
    return [(result[1 + place], *rest) for place, (_, *rest) in zip(places(node), node.edges or ())], None


def places(node: Node) -> list[int]:
    """Which argument each edge belongs to: edges are in the order of arguments, and some arguments have none."""
    found: list[int] = []
    candidates = enumerate(node.inputs or ())
    for _, key, *_ in node.edges or ():
        for i, x in candidates:
            if isinstance(x, Tensor) and x.requires_grad and same_key(x.key, key):
                found.append(i)
                break
    if len(found) != len(node.edges or ()):
        raise RuntimeError(
            f"{node.rule.name} saved its arguments for the derivative of its derivative, and an in-place operator has "
            "changed one since: write that operator out of place (x = x + y), or on x.clone()"
        )
    return found


def same_key(one: Any, other: Any) -> bool:
    return one is other or (type(one) is tuple and type(other) is tuple and one == other)


def as_called(node: Node) -> list[Any]:
    """The inputs of a node in the dtypes that its rule was called with."""
    inputs = node.inputs or ()
    if node.rule.dtype == "as is":
        return list(inputs)
    arrays = coerce(node.rule, [x.array if isinstance(x, Tensor) else x for x in inputs])
    return [
        (x if x.dtype == array.dtype else x.to(array.dtype)) if isinstance(x, Tensor) else array
        for x, array in zip(inputs, arrays)
    ]


def through_plain(node: Node) -> tuple[list, Callable]:
    """The derivative, recorded, of the plain composition that a fused rule names."""
    edges = [(place, *rest) for place, (_, *rest) in zip(places(node), node.edges or ())]

    def joint(g: Any) -> dict[int, Tensor]:
        # Copies, since an input may have been computed from another one.
        inputs = [
            apply(reshape, x, shape=x.shape) if isinstance(x, Tensor) and x.requires_grad else x
            for x in as_called(node)
        ]
        out = node.rule.plain(*inputs, **(node.settings or {}))  # type: ignore[misc]
        values, gradients = ((out,), (g,)) if node.outputs is None else (out, g)
        # Of several values, those that no gradient arrived for have an array of zeros in its place.
        roots = {value.key: each for value, each in zip(values, gradients) if isinstance(each, Tensor)}
        wanted = {inputs[place].key: inputs[place] for place, *_ in edges}
        found = dict.fromkeys(map(id, inputs))
        run_backward(roots, lambda x, gradient, _: found.update({id(x): gradient}), True, True, wanted)
        return {place: found[id(inputs[place])] for place, *_ in edges}  # type: ignore[misc]

    return edges, joint


Node.on_tensors = on_tensors  # type: ignore[method-assign, assignment]
