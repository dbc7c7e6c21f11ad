"""The data-parallel step: gradient of a node of shards, reduce of a block, update of a block.

Each reads the current half of the arena and writes only its own slot, or its own block of the other half, so each
can be called again after a death. Every pool calls these and none writes them again.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pargrad import random
from pargrad.data import ArrayData, Data
from pargrad.metrics import Metric, make_metric, unasked_accuracy
from pargrad.modes import no_grad
from pargrad.nn import Module, Parameter
from pargrad.nn.statistics import collected_by
from pargrad.parallel.arena import Arena, Block, Layout, Run, Spec
from pargrad.parallel.exchange import Lockstep, exchange_width
from pargrad.parallel.finite import ALLOW, FINE, LOSS, PARAMETER, STOP, blocks_of, square_of, wrong_gradient
from pargrad.parallel.objective import Objective
from pargrad.parallel.recording import Player, backward
from pargrad.parallel.shards import Node, reduce_tree, shard_slice
from pargrad.parallel.spans import recorder
from pargrad.parallel.statistics import NOTHING, NoStatistics, ShardStatistics, move_statistics, no_exchange
from pargrad.parallel.stopwatch import COMPUTE, DATA, REDUCE, UPDATE, Stopwatch
from pargrad.rules.stacks import NotStackable
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, seed_gradient

STACKED_ELEMENTS = 1 << 20
PIECES = 1024  # views that are kept from step to step: more of them cost less than what is done to them
NO_EXAMPLES = "penalty(model) called a layer that takes a batch's statistics, and it has no batch: use parameters alone"


class Step(NamedTuple):
    """One optimizer step: its number from 1, its epoch, the batch's indices, the options of each parameter group."""

    number: int
    epoch: int
    indices: np.ndarray
    hyperparameters: list[dict[str, Any]]


class StepResult(NamedTuple):
    """What a step says of its batch: the mean loss, its divisor, the norm of the gradient where one is wanted.

    without_effect: what was not finite, where the step was skipped for that.
    """

    number: int
    epoch: int
    loss: float
    divisor: float
    examples: int
    norm: float | None
    lr: tuple[Any, ...] = ()  # of each parameter group
    without_effect: str | None = None


class Chunk(NamedTuple):
    """A piece of an evaluation: the examples [start, stop), to be predicted, or scored by these metrics."""

    number: int
    start: int
    stop: int
    predict: bool
    metrics: tuple[str, ...] = ()


class ChunkScore(NamedTuple):
    """A chunk of an evaluation as sums and counts, with the state of each metric by name."""

    sum: float
    divisor: float
    states: dict[str, tuple]
    examples: int


class Work(NamedTuple):
    """What every process of a run is given: all but the data set and the memory.

    norms: whether the gradient's norm is wanted where it is not needed for clipping. spans: a folder into which every
    process writes what it spends its steps on, see `spans`.
    """

    model: Module
    objective: Objective
    penalty: Any
    optimizer: Any  # the class, whose functions need no instance
    layout: Layout
    seed: int
    metrics: tuple[Metric, ...] = ()  # the trainer's; others are known by their names alone
    non_finite: str = STOP
    norms: bool = False
    spans: str | None = None

    def metric(self, name: str) -> Metric:
        return next((metric for metric in self.metrics if metric.name == name), None) or make_metric(name)


def make_layout(model: Module, optimizer: Any, shards: int, penalty: Any) -> Layout:
    """The layout of a model's parameters and buffers under an optimizer's groups; without one there are no slots."""
    groups = [] if optimizer is None else optimizer.param_groups
    group_of = {id(p): g for g, group in enumerate(groups) for p in group["params"]}
    named = list(Module.named_parameters(model))
    foreign = set(group_of) - {id(p) for _, p in named}
    if foreign:
        raise ValueError(
            f"the optimizer holds {len(foreign)} parameters that the model does not: write "
            "optim.AdamW(model.parameters())"
        )

    def spec(name: str, p: Parameter) -> Spec:
        group = group_of.get(id(p), -1)
        states = 0 if group < 0 else len(optimizer.state_names(groups[group]))
        return Spec(name, p.shape, p.dtype.name, group, states)

    parameters = [spec(name, p) for name, p in named]
    buffers = [Spec(name, b.shape, b.dtype.name) for name, b in Module.named_buffers(model)]
    slots = 0 if optimizer is None else shards + (penalty is not None)
    exchange = exchange_width(model) if slots else 0
    return Layout(parameters, buffers, shards, getattr(optimizer, "unit", "element"), slots, exchange)


def set_mode(model: Module, training: bool) -> None:
    """model.train(training), also where the model's class has its own and where an attribute hides it."""
    type(model).train(model, training)


class Replica:
    """A model on the arena, and this process's part of a step."""

    def __init__(self, work: Work, arena: Arena):
        self.work = work
        self.arena = arena
        self.layout = work.layout
        self.watch = Stopwatch() if work.spans is None else recorder(work.spans)
        self.parameters = [p for _, p in Module.named_parameters(work.model)]
        self.buffers = [b for _, b in Module.named_buffers(work.model)]
        modules = dict(Module.named_modules(work.model))
        places = [(name, *name.rpartition(".")[::2], b) for name, b in Module.named_buffers(work.model)]
        self.places = {id(b): i for i, b in enumerate(self.buffers)}
        self.buffer_places = [(name, modules[path], attribute, b) for name, path, attribute, b in places]
        self.index = {p: i for i, p in enumerate(self.parameters)}
        # Where the gradients of one shard are large, running several at once saves nothing and takes memory.
        self.stackable = max((p.numel() for p in self.parameters), default=0) <= STACKED_ELEMENTS
        self.lockstep = Lockstep(arena, work.model) if work.layout.exchange else None
        self.objective = Player(work.objective, work.model)
        self.piece_of = functools.lru_cache(PIECES)(arena.piece_of)
        self.select(0)

    def select(self, half: int) -> None:
        """Makes `half` the one that is read: the model's parameters and buffers point into it."""
        self.half, self.now, self.next = half, self.arena.halves[half], self.arena.halves[1 - half]
        for parameter, view in zip(self.parameters, self.now.parameter_views):
            parameter.array = view
        for buffer, view in zip(self.buffers, self.now.buffer_views):
            buffer.array = view

    # ----- gradient -----

    def gradients(self, data: Data, step: Step, nodes: list[Node], run: int, meet: Callable[[], None]) -> None:
        """The gradients of a member's nodes; where shards exchange statistics, while the others compute theirs."""
        if self.lockstep is None:
            for node in nodes:
                self.gradient_once(data, step, node, run)
            return
        # Also those that are complete, since others need what their shards hand over on the way.
        slots = {shard: shard - shard % min(size, 2) for start, size in nodes for shard in range(start, start + size)}
        self.shard_gradients(data, step, slots, meet)
        for node in nodes:
            self.add_up(node, lambda part: part[1] <= 2)

    def shard_gradients(self, data: Data, step: Step, slots: dict[int, int], meet: Callable[[], None]) -> None:
        """The gradients of shards, each into the slot given for it; where they exchange statistics, all at once."""
        if self.lockstep is None:
            for shard, slot in slots.items():
                self.shard_gradient(data, step, shard, slot)
            return
        self.lockstep.run(
            slots,
            lambda run: self.shard_gradient(data, step, run.shard, slots[run.shard], run.exchange),
            len(step.indices),
            meet,
        )

    def gradient_once(self, data: Data, step: Step, node: Node, run: int) -> None:
        """The node's gradient, unless it is complete already."""
        start, size = node
        done, mark = self.arena.done, ((run << 32) + step.number, size)
        if tuple(done[start].tolist()) == mark:
            return
        # Nodes within this one lose their slots, and those around it what their shards said.
        begins = np.arange(len(done))
        done[(begins < start + size) & (begins + done[:, 1] > start)] = 0
        self.gradient(data, step, node)
        done[start] = mark

    def gradient(self, data: Data, step: Step, node: Node) -> None:
        """The node's gradient into slot `start`, its shards' sums and divisors into theirs."""
        self.add_up(node, lambda part: self.leaf_gradient(data, step, part))

    def leaf_gradient(self, data: Data, step: Step, node: Node) -> bool:
        """The gradient of shards that are run in one call, or of no more than two; False of others."""
        start, size = node
        if size > 1 and self.stackable:
            try:
                if self.stacked_gradient(data, step, node):
                    return True
            except NotStackable:
                self.stackable = False  # nor will it be in the next step
            except Exception as error:
                # If it is the model's or the data's, the shard that it belongs to will raise it again.
                self.stackable = False
                self.gradient(data, step, node)
                warnings.warn(f"shards are run one by one: several at once failed with {error!r}", stacklevel=2)
                return True
        if size > 2:
            return False
        for shard in range(start, start + size):
            self.shard_gradient(data, step, shard, start)
        return True

    def add_up(self, node: Node, is_there: Callable[[Node], bool]) -> None:
        """The node's gradient from its halves', down to the nodes whose own is there."""
        if is_there(node):
            return
        start, half = node[0], node[1] // 2
        self.add_up((start, half), is_there)
        self.add_up((start + half, half), is_there)
        into, other = self.arena.slot_views[start], self.arena.slot_views[start + half]
        reached, also = self.arena.reached[start], self.arena.reached[start + half]
        for i in np.flatnonzero(also):
            if reached[i]:
                np.add(into[i], other[i], out=into[i])
            else:
                np.copyto(into[i], other[i])
        reached |= also

    def stacked_gradient(self, data: Data, step: Step, node: Node) -> bool:
        """The node's gradient with its shards run in one call, or False where that is not for this batch."""
        start, size = node
        parts = [shard_slice(shard, self.layout.shards, len(step.indices)) for shard in range(start, start + size)]
        if len({part.stop - part.start for part in parts}) > 1 or parts[0].start == parts[0].stop:
            return False
        nothing_drawn = random.using(random.NoGenerator(NotStackable("each shard has random numbers of its own")))
        with nothing_drawn, collected_by(NoStatistics(NotStackable("a running statistic"))):
            self.watch.lap(COMPUTE)
            batch = self.stacked_batch(data, step, start, parts)
            self.watch.lap(DATA)
            total, divisor = self.objective(batch)
            if not isinstance(total, Stacked) or not total.requires_grad:
                return False
            self.arena.reached[start] = 0
            self.arena.kinds[start : start + size] = NOTHING
            self.backward(total, start)
        self.check_buffers()
        self.arena.sums[start : start + size] = total.slices
        self.arena.divisors[start : start + size] = [divisor_at(part.start, divisor) for part in parts]
        return True

    def stacked_batch(self, data: Data, step: Step, start: int, parts: list[slice]) -> tuple[Tensor, ...]:
        if type(data) is ArrayData:  # which draws nothing: its rows can be gathered at once
            arrays = data.batch(step.indices[parts[0].start : parts[-1].stop], random.current_generator())
            return tuple(Stacked(array.reshape(len(parts), -1, *array.shape[1:])) for array in arrays)
        batches = [
            data.batch(step.indices[part], random.ShardGenerator(self.work.seed, step.number, shard))
            for shard, part in enumerate(parts, start)
        ]
        return tuple(Stacked(np.stack(arrays)) for arrays in zip(*batches, strict=True))

    def shard_gradient(
        self, data: Data, step: Step, shard: int, slot: int, exchange: Callable[..., Any] = no_exchange
    ) -> None:
        """Shard `shard`'s gradient: written into the slot where it begins the node, added where it is the second."""
        arena = self.arena
        arena.sums[shard] = arena.divisors[shard] = 0
        arena.kinds[shard] = NOTHING
        if shard == slot:
            arena.reached[slot] = 0
        part = shard_slice(shard, self.layout.shards, len(step.indices))
        indices = step.indices[part]
        if not len(indices):
            return  # an empty shard is absent
        try:
            generator = random.ShardGenerator(self.work.seed, step.number, shard)
            statistics = ShardStatistics(arena, shard, self.places, exchange)
            with random.using(generator), collected_by(statistics):
                self.watch.lap(COMPUTE)
                batch = tuple(Tensor(array) for array in data.batch(indices, generator))
                self.watch.lap(DATA)
                total, divisor = self.objective(batch)
                self.backward(total, slot)
            self.check_buffers()
        except Exception as error:
            error.add_note(place_of(step, shard, self.layout.shards))
            if isinstance(error, MemoryError):
                error.add_note(
                    f"it ran out of memory with {len(indices)} examples at once: write more shards or a smaller "
                    "batch_size, so that each shard is smaller, or fewer workers, so that fewer are under way"
                )
            raise
        arena.sums[shard], arena.divisors[shard] = total.array, divisor_at(part.start, divisor)

    def penalty_gradient(self, step: Step) -> None:
        """The gradient of the batch's penalty, which belongs to no shard, into the last slot."""
        slot = self.layout.shards
        self.arena.reached[slot] = 0
        generator = random.ShardGenerator(self.work.seed, step.number, slot)
        with random.using(generator), collected_by(NoStatistics(RuntimeError(NO_EXAMPLES))):
            total = self.work.penalty(self.work.model)
            if not isinstance(total, Tensor) or total.numel() != 1:
                raise TypeError(
                    f"penalty(model) gave {total!r}: expected a tensor of one element, computed from the model"
                )
            self.backward(total, slot)
        self.arena.sums[slot] = total.array

    def backward(self, total: Tensor, slot: int) -> None:
        """The gradients of a shard's sum, or of a stack of shards' sums, into a slot."""
        views, reached, index = self.arena.slot_views[slot], self.arena.reached[slot], self.index

        def place_of_first(leaf: Tensor) -> np.ndarray | None:
            i = index.get(leaf)  # type: ignore[call-overload]
            return None if i is None or reached[i] else views[i]

        def add(leaf: Tensor, gradient: np.ndarray, owned: bool) -> None:
            i = index.get(leaf)  # type: ignore[call-overload]
            if i is not None:
                if reached[i]:
                    np.add(views[i], gradient, out=views[i])
                else:
                    if gradient is not views[i]:
                        np.copyto(views[i], gradient)
                    reached[i] = 1

        def add_slices(leaf: Tensor, gradient: np.ndarray, owned: bool) -> None:
            i = index.get(leaf)  # type: ignore[call-overload]
            if i is not None:
                while len(gradient) > 2:  # the tree over the shards, a level at a time
                    gradient = gradient[::2] + gradient[1::2]
                np.add(gradient[0], gradient[1], out=views[i])
                reached[i] = 1

        if isinstance(total, Stacked):
            backward(total, np.ones_like(total.slices), add_slices)
        else:
            backward(total, seed_gradient(total, None), add, destination=place_of_first)

    def check_buffers(self) -> None:
        for (name, module, attribute, buffer), view in zip(self.buffer_places, self.now.buffer_views):
            if buffer.array is not view or getattr(module, attribute) is not buffer:
                raise RuntimeError(
                    f"buffer {name!r} of {type(module).__name__} was replaced in training: a shard must not change a "
                    "buffer, because its copies would differ. Keep such state outside the model"
                )

    # ----- reduce -----

    def reduce(self, nodes: list[Node], block: Block | Run) -> np.ndarray | None:
        """The tree's sum of the nodes' gradients over a block, or a run of blocks reached alike; None: not reached.

        What is returned may be a slot itself: it is not to be written.
        """
        parameter = block.parameter if isinstance(block, Block) else block.blocks[0].parameter
        level: list[np.ndarray | None] = [None] * self.layout.shards
        for start, _ in nodes:
            if self.arena.reached[start, parameter]:
                level[start] = self.arena.slots[start][block.dtype][block.start : block.stop]
        return reduce_tree(level, np.add)

    def gradient_of(self, nodes: list[Node], block: Block | Run, divisor: float) -> np.ndarray | None:
        """The batch's gradient over a block, in an array of its own: the sum divided once, and the penalty's added."""
        self.watch.lap(UPDATE)
        total = self.reduce(nodes, block)
        # A sum that was just made may be divided where it is; a slot may not.
        out = None if total is None else np.divide(total, divisor, out=total if total.base is None else None)
        if self.work.penalty is not None:
            parameter = block.parameter if isinstance(block, Block) else block.blocks[0].parameter
            slot = self.layout.shards
            if self.arena.reached[slot, parameter]:
                penalty = self.arena.slots[slot][block.dtype][block.start : block.stop]
                out = penalty.copy() if out is None else np.add(out, penalty, out=out)
        self.watch.lap(REDUCE)
        return out

    def squares(self, nodes: list[Node], blocks: list[Block], divisor: float) -> None:
        """The float64 sum of squares of each block's gradient, into the arena: in block order they make the norm."""
        for block in blocks:
            gradient = self.gradient_of(nodes, block, divisor)
            self.arena.squares[block.number] = 0.0 if gradient is None else square_of(gradient)

    # ----- update -----

    def update(self, step: Step, nodes: list[Node], runs: list[Run], divisor: float, scale: float) -> int:
        """The optimizer's step on these runs: gradient / divisor * scale in, the other half out.

        Ends at a gradient that is not finite, and gives its word (see `finite`), unless such ones are let through.
        """
        starts = [start for start, _ in nodes] + [self.layout.shards] * (self.work.penalty is not None)
        reached = self.arena.reached[starts]
        alike = 0 not in reached.tobytes()
        ever: Any = [True] * reached.shape[1] if alike else reached.any(axis=0).tolist()
        taken = self.now.steps.tolist()
        for run in runs:
            first, last = run.blocks[0].parameter, run.blocks[-1].parameter
            in_one_call = alike and taken[first : last + 1].count(taken[first]) == last + 1 - first
            pieces = [(run, first)] if in_one_call else [(block, block.parameter) for block in run.blocks]
            for piece, parameter in pieces:
                wrong = self.update_one(step, nodes, piece, taken[parameter], divisor, scale)
                if wrong:
                    return wrong
            for i in [block.parameter for block in run.blocks if block.first]:
                self.next.steps[i] = taken[i] + ever[i]
        return FINE

    def leave_as_it_was(self, runs: list[Run], places: range) -> None:
        """These runs and buffers of the other half as they are in this one: the step has no effect."""
        for run in runs:
            piece = slice(run.start, run.stop)
            pairs = [(self.now.parameters[run.dtype], self.next.parameters[run.dtype])]
            pairs += zip(self.now.states[run.dtype], self.next.states[run.dtype])
            for old, new in pairs:
                np.copyto(new[piece], old[piece])
            for block in run.blocks:
                self.next.steps[block.parameter] = self.now.steps[block.parameter]
        for place in places:
            np.copyto(self.next.buffers[place], self.now.buffers[place])

    def culprit(
        self, data: Data, step: Step, nodes: list[Node], has_penalty: bool, wrong: int, meet: Callable[[], None]
    ) -> int:
        """The first of these nodes' shards, from 1, that is not finite alone; the penalty after them; else 0.

        Shards are computed again, each into its own slot: what was in the slots is lost.
        """
        arena = self.arena
        if wrong < PARAMETER:
            found = np.flatnonzero(~np.isfinite(arena.sums))
            return int(found[0]) + 1 if wrong == LOSS and len(found) else 0
        place = wrong - PARAMETER

        def is_wrong(slot: int) -> bool:
            return bool(arena.reached[slot, place]) and not np.isfinite(arena.slot_views[slot][place]).all()

        # Where shards exchange statistics, every member has to take part.
        among = [node for node in nodes if self.lockstep is not None or is_wrong(node[0])]
        shards = [shard for start, size in among for shard in range(start, start + size)]
        arena.done[shards] = arena.reached[shards] = 0
        self.shard_gradients(data, step, {shard: shard for shard in shards}, meet)
        if has_penalty and is_wrong(self.layout.shards):
            shards.append(self.layout.shards)
        return next((slot + 1 for slot in shards if is_wrong(slot)), 0)

    def move_statistics(self, places: range) -> None:
        """The running statistics of these buffers into the other half."""
        for place in places:
            move_statistics(self.arena, self.now, self.next, place)

    def update_one(
        self, step: Step, nodes: list[Node], block: Block | Run, steps: int, divisor: float, scale: float
    ) -> int:
        """One run, or one block; gives the word of what is not finite."""
        options = step.hyperparameters[block.group]
        count = len(self.work.optimizer.state_names(options))
        old, state = self.piece_of(self.half, block.dtype, block.start, block.stop)
        new, new_state = self.piece_of(1 - self.half, block.dtype, block.start, block.stop)
        state, new_state = state[:count], new_state[:count]
        gradient = self.gradient_of(nodes, block, divisor)
        if gradient is None or not gradient.size:
            # No shard's graph reached it: it stays as it is, as torch's with grad None.
            for array, other in zip((old, *state), (new, *new_state)):
                np.copyto(other, array)
            for part in blocks_of(block) if self.work.norms else ():
                self.arena.squares[part.number] = 0.0
            return FINE
        wrong = FINE if self.work.non_finite == ALLOW else wrong_gradient(gradient, block)
        if wrong:
            return wrong
        for part in blocks_of(block) if self.work.norms else ():
            own = gradient[part.start - block.start : part.stop - block.start]
            self.arena.squares[part.number] = square_of(own)
        if scale != 1.0:
            gradient *= scale
        if self.layout.unit == "parameter":
            shape = self.layout.parameters[
                block.blocks[0].parameter if isinstance(block, Run) else block.parameter
            ].shape or (1,)  # numpy's `out=` takes no number
            old, new, gradient = old.reshape(shape), new.reshape(shape), gradient.reshape(shape)
            state, new_state = self.shaped(state, shape, options), self.shaped(new_state, shape, options)
        self.work.optimizer.update(old, gradient, state, new, new_state, steps + 1, options)
        return FINE

    def shaped(self, flat: tuple[np.ndarray, ...], shape: tuple[int, ...], options: dict[str, Any]) -> tuple:
        """A parameter's state arrays in their shapes, each at the beginning of the room that it has."""
        names = self.work.optimizer.state_names(options)
        return tuple(of_shape(array, self.work.optimizer.state_shape(name, shape)) for array, name in zip(flat, names))

    # ----- evaluation -----

    def evaluate(self, data: Data, chunk: Chunk) -> ChunkScore | np.ndarray:
        """Loss and metrics of one chunk, or the model's output for it; without a graph."""
        generator = random.ShardGenerator(self.work.seed, 0, chunk.number)  # step 0: no training step has this stream
        with no_grad(), random.using(generator):
            try:
                if type(data) is ArrayData:
                    arrays = data.rows(chunk.start, chunk.stop)
                else:
                    arrays = data.batch(np.arange(chunk.start, chunk.stop), generator)
                batch = tuple(map(Tensor, arrays))
                if chunk.predict:
                    return self.work.model(*batch[:-1]).array
                total, divisor, output = self.work.objective(self.work.model, batch)
                states = self.states_of(chunk.metrics, output, batch[-1].array)
            except Exception as error:
                error.add_note(f"in the evaluation of examples {chunk.start} to {chunk.stop - 1}")
                raise
        return ChunkScore(float(total.array), divisor_at(chunk.start, divisor), states, chunk.stop - chunk.start)

    def states_of(self, names: tuple[str, ...], output: Any, target: np.ndarray) -> dict[str, tuple]:
        """Each metric's state; that of accuracy, where it has a meaning, also when nobody asked for it."""
        if names and output is None:
            raise ValueError(
                f"{names[0]} needs the model's outputs, which step= does not give: use a loss, or no metrics"
            )
        output = output.array if isinstance(output, Tensor) else output
        states = {name: self.work.metric(name).state(output, target) for name in names}
        accuracy = None if "accuracy" in names else unasked_accuracy(output, target)
        return states if accuracy is None else {"accuracy": accuracy, **states}


def of_shape(flat: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray | None:
    return None if shape is None else flat[: math.prod(shape)].reshape(shape)


def divisor_at(start: int, divisor: float | None) -> float:
    """A shard's divisor; of a sum that is not divided, 1 in the shard that begins the batch, and nothing in others."""
    return float(start == 0) if divisor is None else float(divisor)


def place_of(step: Step, shard: int, shards: int) -> str:
    """Where a shard's examples come from, in words."""
    part = shard_slice(shard, shards, len(step.indices))
    indices = step.indices[part]
    shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
    return (
        f"in step {step.number} (epoch {step.epoch}), shard {shard} of {shards}, examples {part.start} to "
        f"{part.stop - 1} of the batch of {len(step.indices)}: indices [{shown}] of the data"
    )
