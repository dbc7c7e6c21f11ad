"""A picture of a graph: graphviz text, with shapes, dtypes and operator names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pargrad.graph import Node, node_of
from pargrad.tensor import Tensor

__all__ = ["dot"]


def dot(tensors: Any, params: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None) -> str:
    """The operators and leaves that tensors were computed from, as text in graphviz's language.

    tensors: one, or several. params: names for leaves, such as `model.named_parameters()`. Leaves are boxes, operators
    ellipses, and arrows follow the computation, with the shape and dtype of what flows along them. Write the text to
    a file and run `dot -Tsvg graph.dot -o graph.svg`. Names and colours are escaped, so any name may be given.

    >>> x = pg.ones(2, requires_grad=True)
    >>> print(pg.viz.dot((x * 2).sum()).splitlines()[0])
    digraph {
    """
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    pairs = params.items() if isinstance(params, Mapping) else params or ()
    names = {id(tensor): name for name, tensor in pairs}
    marks: dict[int, str] = {}
    lines = ["digraph {", "  rankdir=LR;", '  node [fontname="monospace", fontsize=10];', "  edge [fontsize=8];"]
    stack: list[Any] = []

    def mark(thing: Any) -> str:
        if id(thing) not in marks:
            marks[id(thing)] = f"n{len(marks)}"
            lines.append(f"  {marks[id(thing)]} {described(thing, names)};")
            stack.append(thing)
        return marks[id(thing)]

    for number, root in enumerate(roots):
        source = mark(root if root.node is None else root.node)
        label = quoted(names.get(id(root), "output"), form(root.shape, root.dtype))
        lines.append(f"  out{number} [label={label}, shape=box, style=bold];")
        lines.append(f"  {source} -> out{number};")
    while stack:
        thing = stack.pop()
        if not isinstance(thing, Node):
            continue
        if thing.edges is None:
            raise RuntimeError(
                f"the graph of {thing} was freed by backward: draw it before, or write retain_graph=True"
            )
        for _, key, _, shape, dtype in thing.edges:
            lines.append(f"  {mark(node_of(key))} -> {marks[id(thing)]} [label={quoted(form(shape, dtype))}];")
    return "\n".join([*lines, "}", ""])


def described(thing: Any, names: dict[int, str]) -> str:
    if isinstance(thing, Node):
        return f"[label={quoted(thing.rule.name)}]"
    lines = [*([names[id(thing)]] if id(thing) in names else []), form(thing.shape, thing.dtype)]
    return f"[label={quoted(*lines)}, shape=box, style=filled, fillcolor=lightblue]"


def form(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{dtype} {list(shape)}"


def quoted(*lines: str) -> str:
    """Lines of text between quotation marks, as graphviz reads them."""
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for line in lines) + '"'
