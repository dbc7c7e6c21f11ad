"""Memory for time: a function whose inner graph is not kept, but recorded again when backward comes to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from pargrad import random
from pargrad.graph import Named, Node, node_of, now, run_backward
from pargrad.modes import enable_grad, mode
from pargrad.tensor import Tensor

__all__ = ["checkpoint"]


class CheckpointNode(Node):
    """A node whose vjp runs the function again, and walks what that records."""

    __slots__ = ("again",)
    again: Any  # calls the function, and gives its outputs

    def name(self) -> str:
        return "CheckpointBackward"

    def free(self) -> None:
        super().free()
        self.again = None

    def gradients(self, g: Any, create_graph: bool = False) -> list[Any]:
        """For each edge what arrives there, from the outputs through the function's own graph."""
        roots = {output.key: each for output, each in zip(self.again(), g)}
        # What the function was given is known to the walk by the node, or leaf, that was there before it.
        wanted = {key: place for place, key, *_ in self.edges or ()}
        found = [None] * len(wanted)
        run_backward(
            roots, lambda place, gradient, _: found.__setitem__(place, gradient), True, create_graph, wanted, False
        )
        return found

    def on_tensors(self) -> tuple[list, Callable | None]:
        return self.edges, lambda g: self.gradients(g, create_graph=True)  # type: ignore[return-value]


def checkpoint(
    function: Callable, *args: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True, **named: Any
) -> Any:
    """function(*args), of whose graph nothing is kept but its inputs: backward calls the function a second time.

    Parameters and other tensors that the function reaches by itself get their gradients, too. preserve_rng_state: the
    second call draws the first one's random numbers. use_reentrant is torch's, and changes nothing here.
    https://docs.pytorch.org/docs/stable/checkpoint.html

    >>> block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    >>> x = pg.ones(2, 4, requires_grad=True)
    >>> pg.utils.checkpoint.checkpoint(block, x, use_reentrant=False).sum().backward()
    >>> x.grad.shape
    (2, 4)
    """
    if not mode.grad:
        return function(*args, **named)
    generator = random.current_generator()
    state = generator.get_state() if preserve_rng_state else None
    start = now()

    def again() -> list[Tensor]:
        with enable_grad(), random.using(generator):
            here = generator.get_state()
            try:
                if state is not None:
                    generator.set_state(state)
                return [x for x in listed(function(*args, **named)) if made_since(start, x)]
            finally:
                if state is not None:
                    generator.set_state(here)

    result = function(*args, **named)
    outputs = [x for x in listed(result) if made_since(start, x)]
    if not outputs:
        return result
    node = CheckpointNode(Named("checkpoint"), outer_edges(outputs, start))
    reference = weakref.ref(node)  # a node that held itself would be freed late
    node.again, node.joint = again, lambda g: reference().gradients(g)  # type: ignore[union-attr]
    node.outputs = [(x.shape, x.dtype) for x in outputs]
    node.saved = [(x.cell, x.cell[0], place, x) for place, x in enumerate(args) if isinstance(x, Tensor)]
    places = {id(x): i for i, x in enumerate(outputs)}
    values = [Tensor(x.array, True, node, places[id(x)]) if id(x) in places else x for x in listed(result)]
    return type(result)(values) if isinstance(result, tuple | list) else values[0]


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def made_since(start: int, x: Any) -> bool:
    return isinstance(x, Tensor) and x.node is not None and x.node.order > start


def outer_edges(outputs: list[Tensor], start: int) -> list:
    """The edges that lead out of a function's graph, each place once."""
    found: dict[Any, tuple] = {}
    seen = {x.node for x in outputs}
    stack = list(seen)
    while stack:
        for _, key, leaf, shape, dtype in stack.pop().edges:  # type: ignore[union-attr]
            node = node_of(key)
            if isinstance(node, Node) and node.order > start:
                if node not in seen:
                    seen.add(node)
                    stack.append(node)
            else:
                found.setdefault(key, (len(found), key, leaf, shape, dtype))
    return list(found.values())
