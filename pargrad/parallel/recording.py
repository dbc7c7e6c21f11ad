"""A model's forward pass, written down once and played again: the same calls of rules, without the way to them.

Between the rules lies Python: modules that call modules, operators that look at dtypes, nodes that note what was saved.
In a small model that takes as long as the arithmetic. What is played calls the same functions on the same arrays, so it
has the same bits, and leaves the same graph for backward.

Only what cannot come out differently the next time is written down: a forward pass that pargrad's own modules make up
between them, without hooks, of tensors whose values nobody looks at, drawing nothing and moving no statistic. A model
with a `forward` of the user's own is called, each time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad import random
from pargrad.graph import Node, as_array
from pargrad.modes import anomaly
from pargrad.nn import Module
from pargrad.nn.statistics import collected_by
from pargrad.parallel.statistics import NoStatistics
from pargrad.rules.table import Rule
from pargrad.stacking import FLOATS, Stacked, in_shape
from pargrad.tensor import Tensor, call

KINDS = 8  # of inputs, by shape and dtype, that are written down; whoever has more is called
PLAIN = (int, float, str, type(None), type(Ellipsis), np.dtype)  # settings that are always the same


class NotRecordable(Exception):
    """What was called may come out differently the next time, for what its text says."""


class Call(NamedTuple):
    """A call of a rule. places: of its inputs among the values; edges: for each vjp its place in the result, what
    fits its gradient to a stack's slices, and the rest of a node's edge; dropped: values that are not needed again."""

    function: Callable
    places: list[int]
    settings: dict[str, Any]
    differentiable: bool
    node: Node | None
    joint: bool
    edges: list[tuple[int, Callable | None, tuple]]
    dropped: list[int]


class Recording:
    """What a model computes of inputs of one kind."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []  # inputs, then parameters and buffers, in the order of their first use
        self.numbers: list[tuple[int, float]] = []
        self.count = 0
        self.calls: list[Call] = []
        self.places: dict[int, int] = {}  # of tensors by identity
        self.known: set[int] = set()  # parameters and buffers by identity
        self.output = 0
        self.like: Any = None  # the output: its node and index, and whether it is a stack

    def take(self, model: Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Calls the model, writes down what it does, and gives its output; raises NotRecordable."""
        self.known = {id(x) for named in (Module.named_parameters, Module.named_buffers) for _, x in named(model)}
        wrapped = [Observed(x, self, self.new_place()) for x in inputs]
        drawn = random.using(random.NoGenerator(NotRecordable("it draws random numbers")))
        with drawn, collected_by(NoStatistics(NotRecordable("it moves a running statistic"))):
            output = model(*wrapped)
        if not isinstance(output, Observed) or output.inner.node is None or output.inner.index:
            raise NotRecordable("its output is no tensor that it computed")
        self.output, self.like = output.place, output.inner
        self.drop(len(inputs))
        return output.inner

    def new_place(self) -> int:
        self.count += 1
        return self.count - 1

    def call(self, rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Observed:
        """Calls the rule and writes it down."""
        inner = tuple(x.inner if isinstance(x, Observed) else x for x in inputs)
        check_plain(rule, inner, settings)
        output = call(rule, inner, settings)
        if not isinstance(output, Tensor):
            raise NotRecordable(f"{rule.name} has several values")
        function: Callable = rule.function
        stacked = [isinstance(x, Stacked) for x in inner]
        if any(stacked):
            function = functools.partial(call_on_stack, rule, stacked)
        edges = [] if output.node is None else self.edges_of(rule, inner, output)
        places = [self.place_of(x) for x in inputs]
        place = self.new_place()
        self.calls.append(
            Call(function, [*places, place], settings, rule.differentiable, output.node, rule.joint, edges, [])
        )
        return Observed(output, self, place)

    def place_of(self, x: Any) -> int:
        if isinstance(x, Observed):
            return x.place
        if isinstance(x, float):
            self.numbers.append((self.new_place(), x))
            return self.numbers[-1][0]
        if id(x) not in self.known:
            raise NotRecordable("it uses a tensor that is neither a parameter nor a buffer")
        if id(x) not in self.places:
            self.places[id(x)] = self.new_place()
            self.tensors.append(x)
        return self.places[id(x)]

    def edges_of(self, rule: Rule, inputs: tuple, output: Tensor) -> list[tuple[int, Callable | None, tuple]]:
        """The node's edges, each with the place of its vjp in the rule's result."""
        edges = list(output.node.edges or ())
        wanting = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x._requires_grad]
        if len(wanting) != len(edges) or output.node.conjugate or output.node.hooks is not None:
            raise NotRecordable(f"not every input of {rule.name} has a derivative of the usual kind")
        found = []
        for i, (_, *rest) in zip(wanting, edges):
            fit: Callable | None = None
            if isinstance(output, Stacked):
                fit = functools.partial(in_shape, shape=rest[2], depth=output.slices.ndim, shared=False)
            found.append((i if rule.joint else i + 1, fit, tuple(rest)))
        return found

    def drop(self, inputs: int) -> None:
        """Notes after which call each value is used no more, so that what no vjp keeps is freed as it always is."""
        kept, seen = {place for place, _ in self.numbers} | {*self.places.values()}, {self.output}
        for number in reversed(range(len(self.calls))):
            each = self.calls[number]
            last = [place for place in dict.fromkeys(each.places) if place not in seen and place not in kept]
            seen.update(each.places)
            self.calls[number] = each._replace(dropped=last)

    def play(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The output for other inputs of the kind, and for the parameters as they are now."""
        values: list[Any] = [None] * self.count
        for place, x in enumerate(inputs):
            values[place] = x.slices if isinstance(x, Stacked) else x.array
        for tensor, place in zip(self.tensors, self.places.values()):
            values[place] = tensor.array
        for place, number in self.numbers:
            values[place] = number
        for function, places, settings, differentiable, node, joint, edges, dropped in self.calls:
            result = function(*[values[i] for i in places[:-1]], **settings)
            values[places[-1]] = as_array(result[0] if differentiable else result)
            if node is not None:
                if joint:
                    node.joint = result[1]
                    node.edges = [(place, *rest) for place, _, rest in edges]
                else:
                    node.edges = [
                        (result[place] if fit is None else fit(result[place]), *rest) for place, fit, rest in edges
                    ]
            for i in dropped:
                values[i] = None
        return type(self.like)(values[self.output], True, self.like.node)


class Observed(Tensor):
    """A tensor in a model that is being written down: rules may be called on it, and its values are nobody's."""

    __slots__ = ("inner", "place", "recording")
    stacked = True

    def __init__(self, inner: Tensor, recording: Recording, place: int):
        self.inner, self.recording, self.place = inner, recording, place
        self.node, self.index, self._cell, self._requires_grad = inner.node, inner.index, None, inner._requires_grad

    @property
    def array(self) -> np.ndarray:
        raise NotRecordable("it looks at a value")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.inner.shape

    @property
    def dtype(self) -> np.dtype:
        return self.inner.dtype

    @property
    def ndim(self) -> int:
        return self.inner.ndim

    def apply(self, rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Observed:
        return self.recording.call(rule, inputs, settings)


def check_plain(rule: Rule, inputs: tuple, settings: dict[str, Any]) -> None:
    """Floats of one width and weak literals need no promotion, and settings of plain numbers stay what they are."""
    dtypes = {x.dtype for x in inputs if isinstance(x, Tensor)}
    if len(dtypes) != 1 or not dtypes <= FLOATS:
        raise NotRecordable(f"{rule.name} is called on several dtypes")
    for x in inputs:
        if not isinstance(x, Tensor) and not (type(x) is float and rule.literals):
            raise NotRecordable(f"{rule.name} is called on {type(x).__name__}")

    def is_plain(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return all(map(is_plain, value))
        if isinstance(value, slice):
            return is_plain((value.start, value.stop, value.step))
        return isinstance(value, PLAIN)

    if not all(map(is_plain, settings.values())):
        raise NotRecordable(f"{rule.name} has a setting that may change")


def call_on_stack(rule: Rule, stacked: list[bool], *arrays: Any, **settings: Any) -> Any:
    assert rule.stack is not None
    return rule.stack(rule.function, list(arrays), stacked, settings)


class Player:
    """A model that is called, or played where it was written down."""

    def __init__(self, model: Module):
        self.model = model
        self.recordings: dict[Any, Recording | None] = {}
        if not all(map(is_own, Module.modules(model))):
            self.recordings = dict.fromkeys(range(KINDS))  # it is full

    def __call__(self, *inputs: Tensor) -> Any:
        kind = (self.model.training, *[(type(x), x.shape, x.dtype, x.stacked and len(x.slices)) for x in inputs])
        recording = self.recordings.get(kind)
        if recording is not None and not anomaly.enabled:
            return recording.play(inputs)
        if kind in self.recordings or len(self.recordings) >= KINDS:
            return self.model(*inputs)
        self.recordings[kind] = None
        with contextlib.suppress(Exception):  # an error of the model's own will come again
            recording = Recording()
            output = recording.take(self.model, inputs)
            self.recordings[kind] = recording
            return output
        return self.model(*inputs)


def is_own(module: Module) -> bool:
    """Whether what it computes is as pargrad has written it."""
    here = type(module).__module__.startswith("pargrad.nn.")
    return here and not {"forward", "_hooks"} & set(vars(module))
