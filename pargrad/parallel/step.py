"""The data-parallel step: gradient of a node of shards, reduce of a block, update of a block.

Each reads the current half of the arena and writes only its own slot, or its own block of the other half, so each
can be called again after a death. Every pool calls these and none writes them again.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from pargrad import random
from pargrad.data import ArrayData, Data
from pargrad.graph import run_backward
from pargrad.modes import no_grad
from pargrad.nn import Module, Parameter
from pargrad.nn.statistics import collected_by
from pargrad.parallel.arena import Arena, Block, Layout, Run, Spec
from pargrad.parallel.errors import NonFiniteError
from pargrad.parallel.objective import Objective
from pargrad.parallel.shards import Node, reduce_tree, shard_slice
from pargrad.parallel.statistics import NOTHING, NoStatistics, ShardStatistics, move_statistics
from pargrad.rules.stacks import NotStackable
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, seed_gradient

STACKED_ELEMENTS = 1 << 20


class Step(NamedTuple):
    """One optimizer step: its number from 1, its epoch, the batch's indices, the options of each parameter group."""

    number: int
    epoch: int
    indices: np.ndarray
    hyperparameters: list[dict[str, Any]]


class StepResult(NamedTuple):
    """What a step says of its batch: the mean loss, its divisor, the norm of the gradient where it was clipped."""

    number: int
    epoch: int
    loss: float
    divisor: float
    examples: int
    norm: float | None


class Chunk(NamedTuple):
    """A piece of an evaluation: the examples [start, stop), to be scored or predicted."""

    number: int
    start: int
    stop: int
    predict: bool


class ChunkScore(NamedTuple):
    """A chunk of an evaluation as sums and counts; correct is None where the output is no class scores."""

    sum: float
    divisor: float
    correct: int | None
    examples: int


class Work(NamedTuple):
    """What every process of a run is given: all but the data set and the memory."""

    model: Module
    objective: Objective
    penalty: Any
    optimizer: Any  # the class, whose functions need no instance
    layout: Layout
    seed: int


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
    return Layout(parameters, buffers, shards, getattr(optimizer, "unit", "element"), slots)


def set_mode(model: Module, training: bool) -> None:
    """model.train(training), also where the model's class has its own and where an attribute hides it."""
    type(model).train(model, training)


class Replica:
    """A model on the arena, and this process's part of a step."""

    def __init__(self, work: Work, arena: Arena):
        self.work = work
        self.arena = arena
        self.layout = work.layout
        self.parameters = [p for _, p in Module.named_parameters(work.model)]
        self.buffers = [b for _, b in Module.named_buffers(work.model)]
        modules = dict(Module.named_modules(work.model))
        places = [(name, *name.rpartition(".")[::2], b) for name, b in Module.named_buffers(work.model)]
        self.places = {id(b): i for i, b in enumerate(self.buffers)}
        self.buffer_places = [(name, modules[path], attribute, b) for name, path, attribute, b in places]
        self.index = {p: i for i, p in enumerate(self.parameters)}
        # Where the gradients of one shard are large, running several at once saves nothing and takes memory.
        self.stackable = max((p.numel() for p in self.parameters), default=0) <= STACKED_ELEMENTS
        self.select(0)

    def select(self, half: int) -> None:
        """Makes `half` the one that is read: the model's parameters and buffers point into it."""
        self.now, self.next = self.arena.halves[half], self.arena.halves[1 - half]
        for parameter, view in zip(self.parameters, self.now.parameter_views):
            parameter.array = view
        for buffer, view in zip(self.buffers, self.now.buffer_views):
            buffer.array = view

    # ----- gradient -----

    def gradient_once(self, data: Data, step: Step, node: Node, run: int) -> None:
        """The node's gradient, unless it is complete already."""
        start, size = node
        done, mark = self.arena.done, ((run << 32) + step.number, size)
        if (done[start] == mark).all():
            return
        # Nodes within this one lose their slots, and those around it what their shards said.
        begins = np.arange(len(done))
        done[(begins < start + size) & (begins + done[:, 1] > start)] = 0
        self.gradient(data, step, node)
        done[start] = mark

    def gradient(self, data: Data, step: Step, node: Node) -> None:
        """The node's gradient into slot `start`, its shards' sums and divisors into theirs."""
        start, size = node
        if size > 1 and self.stackable:
            try:
                if self.stacked_gradient(data, step, node):
                    return
            except NotStackable:
                self.stackable = False  # nor will it be in the next step
            except Exception as error:
                # If it is the model's or the data's, the shard that it belongs to will raise it again.
                self.stackable = False
                self.gradient(data, step, node)
                warnings.warn(f"shards are run one by one: several at once failed with {error!r}", stacklevel=2)
                return
        if size <= 2:
            for shard in range(start, start + size):
                self.shard_gradient(data, step, shard, start)
            return
        half = size // 2
        self.gradient(data, step, (start, half))
        self.gradient(data, step, (start + half, half))
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
        with nothing_drawn, collected_by(NoStatistics()):
            batch = self.stacked_batch(data, step, start, parts)
            total, divisor, _ = self.work.objective(self.work.model, batch)
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

    def shard_gradient(self, data: Data, step: Step, shard: int, slot: int) -> None:
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
            statistics = ShardStatistics(arena, shard, self.places)
            with random.using(generator), collected_by(statistics):
                batch = tuple(Tensor(array) for array in data.batch(indices, generator))
                total, divisor, _ = self.work.objective(self.work.model, batch)
                self.backward(total, slot)
            self.check_buffers()
        except Exception as error:
            shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
            error.add_note(
                f"in step {step.number} (epoch {step.epoch}), shard {shard} of {self.layout.shards}, "
                f"examples {part.start} to {part.stop - 1} of the batch of {len(step.indices)}: indices [{shown}] "
                "of the data"
            )
            raise
        arena.sums[shard], arena.divisors[shard] = total.array, divisor_at(part.start, divisor)

    def penalty_gradient(self, step: Step) -> None:
        """The gradient of the batch's penalty, which belongs to no shard, into the last slot."""
        slot = self.layout.shards
        self.arena.reached[slot] = 0
        with random.using(random.ShardGenerator(self.work.seed, step.number, slot)):
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

        def add(leaf: Tensor, gradient: np.ndarray, owned: bool) -> None:
            i = index.get(leaf)  # type: ignore[call-overload]
            if i is not None:
                if reached[i]:
                    np.add(views[i], gradient, out=views[i])
                else:
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
            run_backward({total.key: np.ones_like(total.slices)}, add_slices)
        else:
            run_backward({total.key: seed_gradient(total, None)}, add)

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
        total = self.reduce(nodes, block)
        # A sum that was just made may be divided where it is; a slot may not.
        out = None if total is None else np.divide(total, divisor, out=total if total.base is None else None)
        if self.work.penalty is not None:
            parameter = block.parameter if isinstance(block, Block) else block.blocks[0].parameter
            slot = self.layout.shards
            if self.arena.reached[slot, parameter]:
                penalty = self.arena.slots[slot][block.dtype][block.start : block.stop]
                out = penalty.copy() if out is None else np.add(out, penalty, out=out)
        return out

    def squares(self, nodes: list[Node], blocks: list[tuple[int, Block]], divisor: float) -> None:
        """The float64 sum of squares of each block's gradient, into the arena: in block order they make the norm."""
        for i, block in blocks:
            gradient = self.gradient_of(nodes, block, divisor)
            self.arena.squares[i] = 0.0 if gradient is None else np.sum(np.square(gradient, dtype=np.float64))

    # ----- update -----

    def update(self, step: Step, nodes: list[Node], runs: list[Run], divisor: float, scale: float) -> None:
        """The optimizer's step on these runs: gradient / divisor * scale in, the other half out."""
        starts = [start for start, _ in nodes] + [self.layout.shards] * (self.work.penalty is not None)
        reached = self.arena.reached[starts]
        alike = bool(reached.all())
        for run in runs:
            first, last = run.blocks[0].parameter, run.blocks[-1].parameter
            steps = self.now.steps[first : last + 1]
            if alike and (steps == steps[0]).all():
                self.update_one(step, nodes, run, int(steps[0]), divisor, scale)
            else:
                for block in run.blocks:
                    self.update_one(step, nodes, block, int(self.now.steps[block.parameter]), divisor, scale)
            for block in run.blocks:
                if block.first:
                    i = block.parameter
                    self.next.steps[i] = self.now.steps[i] + bool(reached[:, i].any())

    def move_statistics(self, places: range) -> None:
        """The running statistics of these buffers into the other half."""
        for place in places:
            move_statistics(self.arena, self.now, self.next, place)

    def update_one(
        self, step: Step, nodes: list[Node], block: Block | Run, steps: int, divisor: float, scale: float
    ) -> None:
        piece, options = slice(block.start, block.stop), step.hyperparameters[block.group]
        old, new = self.now.parameters[block.dtype][piece], self.next.parameters[block.dtype][piece]
        count = len(self.work.optimizer.state_names(options))
        state = tuple(array[piece] for array in self.now.states[block.dtype][:count])
        new_state = tuple(array[piece] for array in self.next.states[block.dtype][:count])
        gradient = self.gradient_of(nodes, block, divisor)
        if gradient is None or not gradient.size:
            # No shard's graph reached it: it stays as it is, as torch's with grad None.
            for array, other in zip((old, *state), (new, *new_state)):
                np.copyto(other, array)
            return
        if scale != 1.0:
            gradient *= scale
        if self.layout.unit == "parameter":
            shape = self.layout.parameters[
                block.blocks[0].parameter if isinstance(block, Run) else block.parameter
            ].shape or (1,)  # numpy's `out=` takes no number
            old, new, gradient = old.reshape(shape), new.reshape(shape), gradient.reshape(shape)
            state, new_state = self.shaped(state, shape, options), self.shaped(new_state, shape, options)
        self.work.optimizer.update(old, gradient, state, new, new_state, steps + 1, options)

    def shaped(self, flat: tuple[np.ndarray, ...], shape: tuple[int, ...], options: dict[str, Any]) -> tuple:
        """A parameter's state arrays in their shapes, each at the beginning of the room that it has."""
        names = self.work.optimizer.state_names(options)
        return tuple(of_shape(array, self.work.optimizer.state_shape(name, shape)) for array, name in zip(flat, names))

    # ----- evaluation -----

    def evaluate(self, data: Data, chunk: Chunk) -> ChunkScore | np.ndarray:
        """Loss and hits of one chunk, or the model's output for it; without a graph."""
        generator = random.ShardGenerator(self.work.seed, 0, chunk.number)  # step 0: no training step has this stream
        indices = np.arange(chunk.start, chunk.stop)
        with no_grad(), random.using(generator):
            try:
                batch = tuple(Tensor(array) for array in data.batch(indices, generator))
                if chunk.predict:
                    return self.work.model(*batch[:-1]).array
                total, divisor, output = self.work.objective(self.work.model, batch)
            except Exception as error:
                error.add_note(f"in the evaluation of examples {chunk.start} to {chunk.stop - 1}")
                raise
        return ChunkScore(
            float(total.array), divisor_at(chunk.start, divisor), hits(output, batch[-1].array), len(indices)
        )


def of_shape(flat: np.ndarray, shape: tuple[int, ...] | None) -> np.ndarray | None:
    return None if shape is None else flat[: math.prod(shape)].reshape(shape)


def divisor_at(start: int, divisor: float | None) -> float:
    """A shard's divisor; of a sum that is not divided, 1 in the shard that begins the batch, and nothing in others."""
    return float(start == 0) if divisor is None else float(divisor)


def hits(output: Any, target: np.ndarray) -> int | None:
    """How many class scores have their largest at the target; None where these are no class scores and indices."""
    if not isinstance(output, Tensor) or output.ndim != 2 or target.ndim != 1 or target.dtype.kind not in "iu":
        return None
    return int(np.count_nonzero(output.array.argmax(axis=1) == target))


def totals(arena: Arena, step: Step) -> tuple[float, float]:
    """The batch's mean loss and divisor, in the tree's order; what is not finite is refused, naming its shard."""
    shards = arena.layout.shards
    sums, divisors = arena.sums[:shards].tolist(), arena.divisors[:shards].tolist()
    total, divisor = (reduce_tree(values, lambda left, right: left + right) for values in (sums, divisors))
    assert total is not None and divisor is not None
    penalty = float(arena.sums[shards]) if len(arena.sums) > shards else 0.0
    if divisor == 0:
        raise NonFiniteError(
            f"step {step.number} (epoch {step.epoch}): the divisor of the batch is 0, so its mean is not defined. "
            "Every target is ignored or has weight 0: leave such batches out, or use a larger batch_size"
        )
    if not math.isfinite(total) or not math.isfinite(divisor) or not math.isfinite(penalty):
        wrong = [i for i, value in enumerate(sums) if not math.isfinite(value)]
        where = (
            f"the loss of shard {wrong[0]} of {shards} is {sums[wrong[0]]}"
            if wrong
            else f"the loss is {total + penalty}"
        )
        raise NonFiniteError(
            f"step {step.number} (epoch {step.epoch}): {where}. The parameters are as they were before this step: "
            "lower the learning rate, look for nan in the data, or set clip_norm"
        )
    return total / divisor + penalty, divisor


def norm_of(arena: Arena, step: Step) -> float:
    """The gradient's norm from the blocks' float64 sums of squares, added in block order."""
    total = 0.0
    for block, square in zip(arena.layout.blocks, arena.squares.tolist()):
        if not math.isfinite(square):
            name = arena.layout.parameters[block.parameter].name
            raise NonFiniteError(
                f"step {step.number} (epoch {step.epoch}): the gradient of {name} is not finite. The parameters are as "
                "they were before this step: lower the learning rate, or look for what has no derivative where it is"
            )
        total += square
    return math.sqrt(total)
