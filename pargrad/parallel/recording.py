"""The sum of a shard's losses, written down once and played again: the same calls of rules, without the way to them.

Between the rules lies Python: modules that call modules, operators that look at dtypes, a graph, made and walked. In a
small model that takes as long as the arithmetic. What is played calls the same functions on the same arrays, and
adds up the same gradients in the same order, so it has the same bits.

Only what cannot come out differently the next time is written down: what pargrad's own modules and losses make up
between them, without hooks, drawing nothing, moving no statistic, of tensors whose values nobody looks at. A question
about values (`tensor.answer`) is asked again each time, and where the answer is another one, all of it is called, as
is a model with a `forward` of the user's own, each time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad import random
from pargrad.graph import as_array, cast, reach, run_backward, takes_out, unbroadcast
from pargrad.modes import anomaly
from pargrad.nn import Module
from pargrad.nn.statistics import collected_by
from pargrad.parallel.objective import Objective
from pargrad.parallel.statistics import NoStatistics
from pargrad.rules.stacks import NotStackable
from pargrad.rules.table import Rule
from pargrad.stacking import FLOATS, Stacked, WithoutValue, in_shape
from pargrad.tensor import Tensor, call

KINDS = 8  # of batches, by shapes and dtypes, that are written down; those of more are called
PLAIN = (int, float, str, type(None), type(Ellipsis), np.dtype)  # settings that are always the same


class NotRecordable(BaseException):  # which nobody on the way takes for an error of his own
    """What was called may come out differently the next time, for what its text says."""


class Edge(NamedTuple):
    """Where one gradient of a call goes. vjp: its place beside the others; fit: what makes it that of a stack's
    slices; leaf: whether target is a number among the parameters, and not among the values; takes_out: it can be
    written where it belongs."""

    vjp: int
    fit: Callable | None
    leaf: bool
    target: int
    shape: tuple[int, ...]
    dtype: np.dtype
    takes_out: bool


class Call(NamedTuple):
    """A call of a rule. places: of its inputs among the values; dropped: of values that are not needed again."""

    function: Callable
    places: list[int]
    output: int
    settings: dict[str, Any]
    differentiable: bool
    joint: bool
    edges: list[Edge]
    dropped: list[int]


class Recording:
    """What is computed of a batch of one kind."""

    def __init__(self, model: Module):
        self.known = {id(x): x for named in (Module.named_parameters, Module.named_buffers) for _, x in named(model)}
        self.count = 0  # of values
        self.tensors: dict[int, Tensor] = {}  # parameters and buffers, by their place among the values
        self.numbers: dict[int, float] = {}
        self.questions: list[tuple[int, Callable, Any]] = []  # the value that it is about, and the answer
        self.calls: list[Call] = []
        self.leaves: dict[Tensor, int] = {}
        self.places: dict[Any, int] = {}  # of tensors by identity, of what nodes made by node

    def take(self, function: Callable, batch: tuple[Tensor, ...]) -> tuple[Tensor, float | None]:
        """Calls the function, and writes down what it does; raises NotRecordable."""
        observed = tuple(Observed(x, self, self.new_place()) for x in batch)
        self.inputs = len(batch)
        drawn = random.using(random.NoGenerator(NotRecordable("it draws random numbers")))
        with drawn, collected_by(NoStatistics(NotRecordable("it moves a running statistic"))):
            total, self.divisor, _ = function(observed)
        if not isinstance(total, Observed) or total.inner.node is None:
            raise NotRecordable("the sum was not computed of the parameters")
        self.like, self.output = type(total.inner), total.place
        nodes, uses = reach({total.inner.key: None})
        self.uses = [uses.get(leaf, 0) for leaf in self.leaves]
        self.finish({self.places[node] for node in nodes})
        return total.inner, self.divisor

    def new_place(self) -> int:
        self.count += 1
        return self.count - 1

    def call(self, rule: Rule, inputs: tuple, settings: dict[str, Any]) -> Observed:
        """Calls the rule, and writes it down."""
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
        if output.node is not None:
            self.places[output.node] = place
        self.calls.append(Call(function, places, place, settings, rule.differentiable, rule.joint, edges, []))
        return Observed(output, self, place)

    def place_of(self, x: Any) -> int:
        if isinstance(x, Observed):
            return x.place
        if isinstance(x, float):
            place = self.new_place()
            self.numbers[place] = x
            return place
        if id(x) not in self.known:
            raise NotRecordable("it uses a tensor that is neither a parameter nor a buffer")
        if id(x) not in self.places:
            self.places[id(x)] = self.new_place()
            self.tensors[self.places[id(x)]] = x
        return self.places[id(x)]

    def edges_of(self, rule: Rule, inputs: tuple, output: Tensor) -> list[Edge]:
        """The edges of the output's node."""
        edges = output.node.edges or ()
        wanting = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x._requires_grad]
        if len(wanting) != len(edges) or output.node.conjugate:
            raise NotRecordable(f"not every input of {rule.name} has a derivative of the usual kind")
        found = []
        for i, (vjp, key, leaf, shape, dtype) in zip(wanting, edges):
            fit = None
            if isinstance(output, Stacked):
                fit = functools.partial(in_shape, shape=shape, depth=output.slices.ndim, shared=False)
            if leaf and key.hooks is not None:
                raise NotRecordable("a parameter has a hook")
            target = self.leaves.setdefault(key, len(self.leaves)) if leaf else self.places[key]
            writes = fit is None and not rule.joint and takes_out(vjp)
            found.append(Edge(i, fit, leaf, target, shape, dtype, writes))
        return found

    def answer(self, place: int, inner: Tensor, question: Callable) -> Any:
        """The answer to a question about values of the batch, which is to be asked again."""
        if place >= self.inputs:
            raise NotRecordable("it asks about a value that is computed")
        answer = question(values_of(inner))
        self.questions.append((place, question, answer))
        return answer

    def finish(self, reached: set[int]) -> None:
        """What backward will need is now known; what no vjp keeps is dropped where it is used last."""
        kept, seen = {*self.numbers, *self.tensors}, {self.output}
        for number in reversed(range(len(self.calls))):
            each = self.calls[number]
            last = [place for place in dict.fromkeys(each.places) if place not in seen | kept]
            seen.update(each.places)
            edges = [
                edge._replace(takes_out=edge.takes_out and edge.leaf and self.uses[edge.target] == 1)
                for edge in each.edges
                if each.output in reached
            ]
            self.calls[number] = each._replace(dropped=last, edges=edges)
        self.known, self.places = {}, {}

    def play(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, float | None] | None:
        """The sum and the divisor for another batch of the kind, and the parameters as they are now; None where a
        question has another answer."""
        values: list[Any] = [None] * self.count
        for place, x in enumerate(batch):
            values[place] = values_of(x)
        for place, question, answer in self.questions:
            if question(values[place]) != answer:
                return None
        for place, tensor in self.tensors.items():
            values[place] = tensor.array
        for place, number in self.numbers.items():
            values[place] = number
        vjps = []
        for function, places, output, settings, differentiable, _, edges, dropped in self.calls:
            result = function(*[values[i] for i in places], **settings)
            values[output] = as_array(result[0] if differentiable else result)
            vjps.append(result[1:] if edges else None)
            for i in dropped:
                values[i] = None
        return self.like(values[self.output], True, Played(self, vjps)), self.divisor


class Played:
    """In the place of the graph: the vjps that each rule gave beside its value."""

    def __init__(self, recording: Recording, vjps: list[Any]):
        self.recording = recording
        self.vjps = vjps

    def backward(self, seed: np.ndarray, accumulate: Callable, destination: Callable | None) -> None:
        """What `run_backward` does with the graph, for the parameters."""
        recording = self.recording
        pending: list[Any] = [None] * recording.count
        pending[recording.output] = seed
        leaves, left = list(recording.leaves), list(recording.uses)
        sums: list[Any] = [None] * len(leaves)
        every, self.vjps = self.vjps, []
        for each in reversed(recording.calls):
            vjps = every.pop()  # what they keep is freed as soon as they were called
            g = pending[each.output]
            if g is None:
                continue
            pending[each.output] = None
            gradients = vjps[0](g) if each.joint else None
            for place, fit, leaf, target, shape, dtype, writes in each.edges:
                if gradients is not None:
                    out = gradients[place] if fit is None else fit(itself)(gradients[place])
                elif writes and destination is not None:
                    out = vjps[place](g, out=destination(leaves[target]))
                else:
                    out = vjps[place](g) if fit is None else fit(vjps[place])(g)
                into = sums if leaf else pending
                if out is not None:
                    out = as_array(out)
                    if out.shape != shape:
                        out = unbroadcast(out, shape)
                    if out.dtype is not dtype:
                        out = cast(out, dtype)
                    into[target] = out if into[target] is None else as_array(into[target] + out)
                if leaf:
                    left[target] -= 1
                    if not left[target] and sums[target] is not None:
                        accumulate(leaves[target], sums[target], False)
                        sums[target] = None
        for leaf_of, gradient in zip(leaves, sums):  # what else led there had no gradient to give
            if gradient is not None:
                accumulate(leaf_of, gradient, False)


def backward(total: Tensor, seed: np.ndarray, accumulate: Callable, destination: Callable | None = None) -> None:
    """Hands each parameter its gradient (see `run_backward`), whether the sum was called or played."""
    if isinstance(total.node, Played):
        total.node.backward(seed, accumulate, destination)
    else:
        run_backward({total.key: seed}, accumulate, destination=destination)


class Observed(WithoutValue):
    """A tensor of what is being written down: rules may be called on it, and its values are nobody's."""

    __slots__ = ("inner", "place", "recording")

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

    def answer(self, question: Callable[[np.ndarray], Any]) -> Any:
        return self.recording.answer(self.place, self.inner, question)


def itself(gradient: Any) -> Any:
    return gradient


def values_of(x: Tensor) -> np.ndarray:
    return x.slices if isinstance(x, Stacked) else x.array


def check_plain(rule: Rule, inputs: tuple, settings: dict[str, Any]) -> None:
    """Floats of one width and weak literals need no promotion, and settings of plain numbers stay what they are."""
    dtypes = {x.dtype for x in inputs if isinstance(x, Tensor)}
    if rule.dtype != "as is" and (len(dtypes) != 1 or not dtypes <= FLOATS):
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
    """An objective on a model: called, or played where it was written down."""

    def __init__(self, objective: Objective, model: Module):
        self.objective = objective
        self.model = model
        self.recordings: dict[Any, Recording | None] = {}
        self.records = objective.is_own and all(map(is_own, Module.modules(model)))

    def __call__(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, float | None]:
        """The sum and the divisor of a batch, a shard's or that of a stack of shards."""
        if self.records and not anomaly.enabled:
            kind = tuple((x.shape, x.dtype, len(x.slices) if isinstance(x, Stacked) else 0) for x in batch)
            recording = self.recordings.get(kind)
            played = None if recording is None else recording.play(batch)
            if played is not None:
                return played
            if kind not in self.recordings and len(self.recordings) < KINDS:
                self.recordings[kind] = None
                with contextlib.suppress(
                    Exception, NotRecordable, NotStackable
                ):  # an error of the model's own will come again
                    recording = Recording(self.model)
                    taken = recording.take(functools.partial(self.objective, self.model), batch)
                    self.recordings[kind] = recording
                    return taken
        total, divisor, _ = self.objective(self.model, batch)
        return total, divisor


def is_own(module: Module) -> bool:
    """Whether what it computes is as pargrad has written it."""
    here = type(module).__module__.startswith("pargrad.nn.")
    return here and not {"forward", "_hooks"} & set(vars(module))
