"""A stack of tensors that is worked on in one call: each operator runs once for all slices, with the bits of one.

To the code that computes with it a Stacked is one slice: it has a slice's shape, and what is recorded is one graph.
Its backward pass gives every leaf the gradients of all slices, one under the other. What looks at values, or has no
way to run on a stack, raises NotStackable: then the same code is run slice by slice.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pargrad import higher, random, tree
from pargrad.graph import Node, as_array, unbroadcast
from pargrad.modes import mode
from pargrad.promotion import coerce
from pargrad.rules.indexing import getitem
from pargrad.rules.shapes import expand, permute, reshape, stack
from pargrad.rules.stacks import NotStackable, contiguous
from pargrad.rules.table import Rule
from pargrad.tensor import Tensor, apply

FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}
UNIFORM = [{dtype, *literal} for dtype in FLOATS for literal in ((), (float,))]


class WithoutValue(Tensor):
    """A tensor that has a shape, and no array of its own to look at. Abstract: it says shape, ndim, array, apply."""

    __slots__ = ()
    stacked = True

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return math.prod(self.shape)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.shape[0]

    def numpy(self) -> np.ndarray:
        return self.array  # which says why not


class Stacked(WithoutValue):
    """Tensors of one shape and dtype, as one; slices: their arrays under a leading axis."""

    __slots__ = ("slices",)

    @property
    def array(self) -> np.ndarray:
        raise NotStackable("a value of one slice was looked at")

    @array.setter
    def array(self, value: np.ndarray) -> None:
        self.slices = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self.slices.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        return self.slices.dtype

    @property
    def ndim(self) -> int:
        return self.slices.ndim - 1

    def detach(self) -> Tensor:
        return Stacked(self.slices)

    def answer(self, question: Callable[[np.ndarray], Any]) -> Any:
        return question(self.slices)

    def apply(self, rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Any:
        """What `tensor.apply` does, for all slices at once."""
        if rule.stack is None:
            raise NotStackable(rule.name)
        level = current()
        arrays, stacked, needed, dtypes = [], [], False, set()
        for x in inputs:
            is_stack = isinstance(x, Stacked)
            stacked.append(is_stack)
            if isinstance(x, Tensor):
                array = x.slices if is_stack else x.array
                if x._requires_grad:
                    needed = True
                    if level is None and not is_stack and x.node is not None:
                        raise NotStackable("a tensor that all slices share was computed in the graph")
                arrays.append(array)
                dtypes.add(array.dtype)
            else:
                arrays.append(x)
                dtypes.add(type(x))
        # Floats of one width and weak literals are the way of nearly every call: there is nothing to promote.
        if rule.dtype != "as is" and dtypes not in UNIFORM:
            moving = {x.dtype for i, x in enumerate(arrays) if isinstance(x, np.ndarray) and i not in rule.fixed}
            if len(moving) > 1:
                raise NotStackable("promotion looks at dimensions")
            if not moving <= FLOATS or not all(type(x) is np.ndarray or type(x) is float for x in arrays):
                arrays = coerce(rule, arrays)
        result = rule.stack(rule.function, arrays, stacked, settings)
        if not rule.differentiable:
            return Stacked(as_array(result))
        values = list(map(as_array, result[0])) if type(result[0]) is tuple else [as_array(result[0])]
        edges: list = []
        fixes: dict[int, Callable] = {}
        if needed and mode.grad and any(value.dtype.kind in "fc" for value in values):
            for i, x in enumerate(inputs):
                vjp: Any = i if rule.joint else result[i + 1]
                if isinstance(x, Tensor) and x._requires_grad and vjp is not None:
                    shape = (len(self.slices), *x.shape)
                    shared = level is not None and not x.stacked
                    if rule.joint:
                        fixes[i] = to_shape(shape, values[0].ndim, shared)
                    else:
                        vjp = in_shape(vjp, shape, values[0].ndim, shared)
                    edges.append((vjp, x.key, x.node is None, x.shape if shared else shape, x.dtype))
        if not edges:
            outputs = tuple(map(Stacked, values))
            return outputs if type(result[0]) is tuple else outputs[0]
        node = StackedNode(rule, edges)
        if rule.joint:
            node.joint = jointly(fixes, result[1])
        if values[0].dtype.kind == "c":
            node.conjugate = rule.holomorphic
        if level is not None:
            node.inputs, node.settings = inputs, settings
        if type(result[0]) is not tuple:
            return Stacked(values[0], True, node)
        node.outputs = [(value.shape, value.dtype) for value in values]
        return tuple(
            Stacked(value, True, node, i) if value.dtype.kind in "fc" else Stacked(value)
            for i, value in enumerate(values)
        )


class StackedNode(Node):
    """A node of all slices, whose gradients have the leading axis."""

    __slots__ = ()

    def on_tensors(self) -> tuple[list, Callable | None]:
        """The rule's own vjps, called on the stack as on one slice; what slices share is given their sum."""
        if self.inputs is None or self.outputs is not None or (self.rule.joint and self.rule.plain is None):
            raise NotStackable(f"a second derivative of {self.rule.name}")
        if current() is None:
            return self.on_tensors_outside()
        inputs = self.inputs
        spots = higher.places(self)
        if self.rule.plain is not None:
            _, joint = higher.through_plain(self)
        else:
            result = self.rule.function(*inputs, **(self.settings or {}))

            def joint(g: Any) -> dict[int, Any]:
                return {spot: result[1 + spot](g) for spot in spots}

        def of_inputs(g: Any) -> dict[int, Any]:
            return {spot: as_input(gradient, inputs[spot]) for spot, gradient in joint(g).items()}

        edges = [
            (spot, key, leaf, inputs[spot].shape, dtype)
            for spot, (_, key, leaf, _, dtype) in zip(spots, self.edges or ())
        ]
        return edges, of_inputs

    def on_tensors_outside(self) -> tuple[list, Callable | None]:
        """The same where the walk is outside of the vmap: gradients are tensors that have the leading axis."""
        count = next(len(x.slices) for x in self.inputs or () if isinstance(x, Stacked))
        try:
            with running(count):
                inside, joint = self.on_tensors()
        except NotStackable as reason:
            raise RuntimeError(f"{reason} is not there for what vmap ran in one call: differentiate inside") from None

        def of_inputs(g: Any) -> dict[int, Any]:
            with running(count):
                found = joint(enter(g, 0))  # type: ignore[misc]
                return {spot: leave(x) if isinstance(x, Stacked) else x for spot, x in found.items()}

        return [(spot, *rest) for (spot, *_), (_, *rest) in zip(inside, self.edges or ())], of_inputs


def as_input(gradient: Any, x: Tensor) -> Any:
    """A gradient of slices as that of an input: a stack's own, or the sum where all slices share it."""
    if x.stacked or not isinstance(gradient, Stacked):
        return gradient
    return leave(gradient if gradient.shape == x.shape else unbroadcast(gradient, x.shape)).sum(0)


def jointly(fixes: dict[int, Callable], vjp: Callable) -> Callable:
    def joint(g: Any) -> dict[int, Any]:
        gradients = vjp(g)
        return {place: fix(gradients[place]) for place, fix in fixes.items()}

    return joint


def in_shape(vjp: Callable, shape: tuple[int, ...], depth: int, shared: bool) -> Callable:
    """A vjp whose gradient has `shape`, the leading axis included: a slice's un-broadcasting, for all of them.

    shared: what all slices have in common is given the sum over them.
    """

    def of_slices(g: np.ndarray) -> np.ndarray:
        out = vjp(g)
        if out.shape != shape:
            if out.size != math.prod(shape):
                out = unbroadcast(contiguous(out), (shape[0], *(1,) * (depth - len(shape)), *shape[1:]))
            out = out.reshape(shape)
        return out.sum(axis=0) if shared else out

    return of_slices


def to_shape(shape: tuple[int, ...], depth: int, shared: bool) -> Callable:
    """`in_shape` for one gradient of a joint vjp."""
    return in_shape(lambda gradient: gradient, shape, depth, shared)


# ----- vmap -----


class Level:
    """A vmap that is running: how many slices it has."""

    def __init__(self, count: int):
        self.count = count


class _Running(threading.local):
    level: Level | None = None


_running = _Running()


def current() -> Level | None:
    """The vmap that this thread is in."""
    return _running.level


@contextmanager
def running(count: int) -> Iterator[None]:
    before, _running.level = _running.level, Level(count)
    try:
        yield
    finally:
        _running.level = before


def enter(x: Any, dim: int | None) -> Any:
    """A tensor as the stack of its slices along a dimension; with None, as what all slices share."""
    if dim is None:
        return x
    if x.stacked:
        raise NotStackable("a stack of stacks")
    moved = x if dim == 0 else apply(permute, x, dims=(dim, *(i for i in range(x.ndim) if i != dim % x.ndim)))
    if moved.requires_grad and moved.node is None:
        moved = apply(reshape, moved, shape=moved.shape)  # a stack is known to the graph by a node
    return Stacked(moved.array, moved.requires_grad, moved.node, moved.index)


def leave(x: Any, dim: int | None = 0) -> Tensor:
    """A stack as a tensor that has the slices along a dimension; with None, what all slices share as it is."""
    if not isinstance(x, Tensor):
        raise RuntimeError(f"vmap() takes a function that returns tensors, got {type(x).__name__}")
    if dim is None:
        if x.stacked:
            raise RuntimeError("vmap(): out_dims is None for what every slice has for itself: write a dimension")
        return x
    if not isinstance(x, Stacked):
        level = current()
        assert level is not None
        out = apply(expand, x, size=(level.count, *x.shape))
    else:
        out = Tensor(x.slices, x.requires_grad, x.node, x.index)
    return out if dim == 0 else apply(permute, out, dims=moved_to(dim % out.ndim, out.ndim))


def moved_to(dim: int, count: int) -> tuple[int, ...]:
    """The permutation that brings the first dimension to `dim`."""
    others = list(range(1, count))
    return (*others[:dim], 0, *others[dim:])


def mapped(
    function: Callable, args: tuple, dims: Any, named: dict[str, Any], out_dims: Any, count: int, randomness: str
) -> Any:
    """A function on all slices: in one call where that can be, else slice by slice."""
    if current() is not None:
        raise NotStackable("a vmap inside a vmap")
    try:
        with running(count), random.using(random.NoGenerator(NotStackable("each slice draws"))):
            result = function(*tree.mapped(enter, args, dims), **named)
            return tree.mapped(leave, result, tree.spread(out_dims, result))
    except NotStackable:
        return one_by_one(function, args, dims, named, out_dims, count, randomness)


def one_by_one(
    function: Callable, args: tuple, dims: Any, named: dict[str, Any], out_dims: Any, count: int, randomness: str
) -> Any:
    generator = random.current_generator()
    refusal = RuntimeError("vmap() of a function that draws random numbers: write randomness='different' or 'same'")
    state = generator.get_state() if randomness == "same" else None
    rows = []
    with random.using(random.NoGenerator(refusal) if randomness == "error" else generator):
        for i in range(count):
            if state is not None:
                generator.set_state(state)

            def slice_of(x: Any, dim: int | None, i: int = i) -> Any:
                return x if dim is None else apply(getitem, x, index=(slice(None),) * (dim % x.ndim) + (i,))

            rows.append(function(*tree.mapped(slice_of, args, dims), **named))

    def joined(dim: int | None, *column: Any) -> Tensor:
        return column[0] if dim is None else apply(stack, *column, dim=dim)

    if not rows:
        raise RuntimeError("vmap() of no example: the dimension that counts them is 0 long")
    return tree.mapped(joined, tree.spread(out_dims, rows[0]), *rows)
