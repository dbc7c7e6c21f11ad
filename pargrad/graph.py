"""The graph of recorded operators, and `run_backward`, which walks it.

A Node is one recorded operator. The walk visits Nodes from the newest to the oldest, which is a topological order
because an operator is always newer than its inputs, and it needs no recursion.
"""

from __future__ import annotations

import itertools
import traceback
import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from pargrad.modes import anomaly

_order = itertools.count()


def now() -> int:
    """An order between that of all nodes so far and that of all to come."""
    return next(_order)


class Node:
    """One recorded operator: what to call backward, and where the results go.

    edges: one (vjp, key, leaf, shape, dtype) per input that needs a gradient. The key is what the gradient of that
    input goes by: a leaf itself, the Node that made it, or that Node and an output's index where the Node has several.
    A joint rule has its one vjp in `joint`, and in the edge the argument's position. outputs: (shape, dtype) of several
    values. saved: (version cell, version, whose, what) of what the vjps keep: the Tensor of argument `whose`, or the
    array of output `-1 - whose`; a cell of None is one that the Tensor had not yet. inputs: all of them, where a
    derivative of the derivatives must call the rule again. conjugate: the vjps are those of a holomorphic function.
    """

    # What backward reads of every node is in slots; the rest are attributes of the class until a node has its own.
    __slots__ = (
        "__dict__", "__weakref__", "conjugate", "edges", "hooks", "inputs", "joint", "order", "outputs", "rule", "saved"
    )  # fmt: skip
    settings: dict[str, Any] | None = None
    versions: tuple = ()  # of `inputs`, when they were kept
    trace: Any = None  # a Trace, where nan is looked for

    def __init__(self, rule: Any, edges: list):
        self.rule = rule
        self.order = next(_order)
        self.edges: list | None = edges
        self.saved: Any = ()
        self.joint: Callable | None = None
        self.outputs: list | None = None
        self.conjugate = False
        self.hooks: dict[int, Hooks] | None = None
        self.inputs: tuple | None = None

    def name(self) -> str:
        return "".join(word.capitalize() for word in self.rule.name.split("_")) + "Backward0"

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """(node, output index) of each input that needs a gradient; a leaf's node accumulates."""
        return tuple(
            key if isinstance(key, tuple) else (key if isinstance(key, Node) else AccumulateGrad(key), 0)
            for _, key, *_ in self.edges or ()
        )

    def no_gradient(self, index: int) -> Any:
        """What stands for the gradient of an output that none arrived for."""
        return np.zeros(*self.outputs[index])  # type: ignore[index]

    def free(self) -> None:
        """Lets go of what backward needed."""
        self.edges = self.joint = self.inputs = None
        self.saved = ()

    def on_tensors(self) -> tuple[list, Callable | None]:
        """edges and joint whose vjps take and give Tensors, and are recorded: `higher` defines it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class Trace(NamedTuple):
    """Where an operator was recorded, and whether its value has a nan that its inputs have not."""

    stack: str
    made_nan: bool

    @classmethod
    def of(cls, inputs: tuple, outputs: tuple) -> Trace:
        def nan(x: Any) -> bool:
            array = getattr(x, "array", None)  # a constant has none
            return array is not None and array.dtype.kind in "fc" and bool(np.isnan(array).any())

        stack = "".join(traceback.format_list(traceback.extract_stack()[:-3]))
        return cls(stack, any(map(nan, outputs)) and not any(map(nan, inputs)))


class AccumulateGrad:
    """What stands in a leaf's place where a graph is looked at."""

    def __init__(self, variable: Any):
        self.variable = variable
        self.next_functions: tuple = ()

    def name(self) -> str:
        return "AccumulateGrad"

    def __repr__(self) -> str:
        return f"<{self.name()}>"


class Named:
    """In the place of a rule, the name of a node that no rule was called for."""

    def __init__(self, name: str):
        self.name = name
        self.plain = None
        self.saved: dict = {}


class Hooks:
    """What is to be done with the gradient of one tensor: functions in order, then `.grad` of what retains it."""

    def __init__(self) -> None:
        self.functions: dict[int, Callable] = {}
        self.after: dict[int, Callable] = {}
        self.retains: weakref.ref | None = None

    receive: Callable[[Any, Any, bool], None]  # tensor.accumulate_grad, which adds to `.grad`

    def __call__(self, gradient: Any) -> Any:
        for function in list(self.functions.values()):
            gradient = function(gradient)
        return gradient


class RemovableHandle:
    """Takes a hook away again, by `remove()` or at the end of a `with` block."""

    ids = itertools.count()

    def __init__(self, hooks: dict[int, Callable], hook: Callable):
        self.hooks = hooks
        self.id = next(self.ids)
        hooks[self.id] = hook

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def as_array(value: Any) -> np.ndarray:
    return value if type(value) is np.ndarray else np.asarray(value)


def unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sums a gradient over the dimensions along which the input was repeated."""
    extra = gradient.ndim - len(shape)
    stretched = tuple(i + extra for i, size in enumerate(shape) if size == 1 and gradient.shape[i + extra] != 1)
    out = gradient.sum(axis=(*range(extra), *stretched))
    if isinstance(out, np.generic):
        out = np.asarray(out)  # numpy gives scalars where arrays were 0-d
    return out if out.shape == shape else out.reshape(shape)


def conj(g: Any) -> Any:
    """The conjugate, an array where g is one: numpy gives a scalar for one without dimensions."""
    out = np.conj(g)
    return np.asarray(out) if isinstance(out, np.generic) else out


def cast(gradient: Any, dtype: np.dtype) -> Any:
    """A gradient in the dtype of what it belongs to; of a complex one, a real input has the real part."""
    if gradient.dtype.kind == "c" and dtype.kind != "c":
        gradient = np.real(gradient)
    return gradient.astype(dtype, copy=False)


def run_backward(
    roots: dict[Any, Any],
    accumulate: Callable[[Any, Any, bool], None],
    retain_graph: bool = False,
    create_graph: bool = False,
    wanted: dict[Any, Any] | None = None,
    beyond: bool = True,
    destination: Callable[[Any], np.ndarray | None] | None = None,
) -> None:
    """Walks the graph under the roots once, newest operator first, and hands each leaf its whole gradient.

    roots: the gradient that each key (see `Node`) starts with. accumulate(leaf, gradient, owned) is called once a
    leaf, as soon as its last contribution has arrived; `owned` says whether the array is nobody else's. This is
    where the trainer's gradient slots come in. create_graph: gradients are Tensors, and what makes them is recorded.
    wanted: what alone is handed gradients, leaves or not, by key: the tensor, or what `accumulate` is called with in
    its place, and then without its hooks. Only what leads there is walked, and with beyond=False nothing behind it.
    destination(leaf) may give an array for the gradient of a leaf without hooks that is used once: a vjp that takes
    `out` writes there, and `accumulate` is handed that very array.
    """
    stops = set() if beyond or wanted is None else nodes_of(wanted)
    nodes, uses = reach(roots, stops)
    if wanted is not None:
        nodes, uses = leading_to(wanted, stops, nodes, uses)
        needed = set(nodes)
    pending = dict(roots)
    owned: set[Any] = set()  # keys whose pending array was made here, so that it may be added to in place
    looking = anomaly.enabled and anomaly.check_nan

    def hand_over(leaf: Any) -> None:
        gradient = pending.pop(leaf, None)
        if gradient is None:  # a user's own operator may have none to give
            return
        receiver = leaf if wanted is None else wanted[leaf]
        hooks = leaf.hooks if receiver is leaf else None
        if hooks is None:
            accumulate(receiver, gradient, leaf in owned)
            return
        accumulate(receiver, hooks(gradient), False)

    for leaf in [key for key in roots if key in uses and not uses[key]]:
        hand_over(leaf)

    for node in nodes:
        if node.hooks is not None or wanted is not None:
            finish(node, pending, wanted, accumulate)
        g: Any
        if node.outputs is None:
            g = pending.pop(node, None)
            if g is None:
                continue
        else:
            parts = [pending.pop((node, i), None) for i in range(len(node.outputs))]
            if all(part is None for part in parts):
                continue
            g = tuple(node.no_gradient(i) if part is None else part for i, part in enumerate(parts))
        edges: list = node.edges  # type: ignore[assignment]
        if wanted is not None:
            followed = {key for _, key, *_ in edges if key in wanted or node_of(key) in needed}
            if not followed or node in stops:
                continue
        for cell, version, whose, what in node.saved:
            if cell is None:
                cell = what._cell
            if cell is not None and cell[0] != version:
                raise overwritten(node, cell, version, whose)
        joint, conjugate = node.joint, node.conjugate
        if create_graph:
            edges, joint = node.on_tensors()
        if wanted is not None:
            edges = [edge for edge in edges if edge[1] in followed]
        if conjugate:
            g = conj(g) if node.outputs is None else tuple(map(conj, g))
        gradients = None if joint is None else joint(g)
        for vjp, key, leaf, shape, dtype in edges:
            if gradients is not None:
                out = gradients[vjp]
            elif leaf and destination is not None and uses[key] == 1 and key not in pending and takes_out(vjp):
                out = vjp(g, out=None if conjugate or key.hooks else destination(key))
            else:
                out = vjp(g)
            if out is not None:
                if conjugate:
                    out = conj(out)
                if type(out) is not np.ndarray and not create_graph:
                    out = np.asarray(out)
                if out.shape != shape:
                    out = unbroadcast(out, shape)
                if out.dtype is not dtype:
                    out = cast(out, dtype)
                if looking:
                    check_nan(node, nodes, out)
                if key not in pending:
                    pending[key] = out
                    if not create_graph and out is not g and out.base is None:  # it was made by this very vjp
                        owned.add(key)
                elif key in owned:
                    np.add(pending[key], out, out=pending[key])
                elif create_graph:
                    pending[key] = pending[key] + out
                else:
                    pending[key] = as_array(pending[key] + out)
                    owned.add(key)
            if leaf:
                uses[key] -= 1
                if not uses[key]:
                    hand_over(key)
        if not retain_graph:
            node.edges = None
            node.saved = ()
            if node.joint is not None or node.inputs is not None:
                node.free()
    for leaf in [key for key in pending if key in uses]:  # what else led there had no gradient to give
        hand_over(leaf)


def takes_out(vjp: Any) -> bool:
    """Whether a vjp can write what it gives into an array that it is given: `lambda g, out=None: ...`."""
    code = getattr(vjp, "__code__", None)
    return code is not None and code.co_argcount == 2 and code.co_varnames[1] == "out"


def finish(node: Node, pending: dict, wanted: dict | None, accumulate: Callable) -> None:
    """The whole gradients of a node's outputs have arrived: hooks see them, and whoever wanted one gets it."""
    for index in range(1 if node.outputs is None else len(node.outputs)):
        key = node if node.outputs is None else (node, index)
        gradient = pending.get(key)
        if gradient is None:
            continue
        receiver = None if wanted is None else wanted.get(key)
        hooks = node.hooks.get(index) if node.hooks is not None and not isinstance(receiver, int) else None
        if hooks is not None:
            gradient = pending[key] = hooks(gradient)
            retains = None if hooks.retains is None else hooks.retains()
            if retains is not None and not (receiver is retains and accumulate is Hooks.receive):
                Hooks.receive(retains, gradient, False)
        if receiver is not None:
            accumulate(receiver, gradient, False)


def reach(roots: Any, stops: Any = ()) -> tuple[list[Node], dict[Any, int]]:
    """The nodes under the roots, newest first, and how many edges lead to each leaf; nothing behind a stop."""
    uses: dict[Any, int] = {key: 0 for key in roots if not isinstance(key, Node | tuple)}
    stack = list(dict.fromkeys(node_of(key) for key in roots if isinstance(key, Node | tuple)))
    seen = set(stack)
    nodes = []
    while stack:
        node = stack.pop()
        nodes.append(node)
        if node in stops:
            continue
        if node.edges is None:
            raise RuntimeError(
                f"backward through {node} a second time: what it saved was freed by the first. "
                "Write backward(retain_graph=True) the first time, or compute the value again"
            )
        for _, key, leaf, _, _ in node.edges:
            if leaf:
                uses[key] = uses.get(key, 0) + 1
            else:
                target = key[0] if type(key) is tuple else key
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
    nodes.sort(key=attrgetter("order"), reverse=True)
    return nodes, uses


def node_of(key: Any) -> Any:
    return key[0] if type(key) is tuple else key


def nodes_of(keys: Any) -> set[Any]:
    return set(map(node_of, keys))


def leading_to(
    wanted: dict, stops: set[Any], nodes: list[Node], uses: dict[Any, int]
) -> tuple[list[Node], dict[Any, int]]:
    """Of what was reached, that from which something wanted can be reached, and what is wanted itself."""
    wanted_nodes = nodes_of(wanted)
    needed: set[Node] = set()
    counts = {leaf: 0 for leaf in uses if leaf in wanted}
    for node in reversed(nodes):
        leads = False
        for _, key, *_ in () if node in stops else node.edges or ():
            leads = leads or key in wanted or node_of(key) in needed
            if key in counts:
                counts[key] += 1
        if leads or node in wanted_nodes:
            needed.add(node)
    return [node for node in nodes if node in needed], counts


def overwritten(node: Node, cell: list, version: int, argument: int) -> RuntimeError:
    whose = "its value" if argument < 0 else f"its argument {argument}"
    return RuntimeError(
        f"{node.rule.name} saved {whose} for backward, and an in-place operator has changed it since (version "
        f"{cell[0]}, expected {version}): write that operator out of place (x = x + y), or on x.clone()"
    )


def check_nan(node: Node, nodes: list[Node], gradient: Any) -> None:
    """Raises where a vjp gave nan, naming the forward operator whose value was the first one with nan, if any was."""
    array = gradient if isinstance(gradient, np.ndarray) else gradient.array
    if not np.isnan(array).any():
        return
    made = min((each for each in nodes if each.trace and each.trace.made_nan), key=attrgetter("order"), default=None)
    said = f"{node.rule.name} gave a gradient with nan in backward"
    if made is not None:
        said += f"; the first value with nan was that of {made.rule.name}, recorded at\n{made.trace.stack}"
    elif node.trace:
        said += f", from values without nan; it was recorded at\n{node.trace.stack}"
    else:
        said += ": write `with pargrad.autograd.detect_anomaly():` around the forward pass, too, to see where"
    raise RuntimeError(said)
