"""A pool runs steps. Written here once for all of them: the order of a step, and the pool that has no other process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pargrad.data import Data
from pargrad.nn import Module
from pargrad.parallel.arena import Arena, arena_size, private_memory
from pargrad.parallel.shards import aligned_nodes, all_nodes, owned_shards
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work, norm_of, totals


class Pool:
    """Opened on a run's work, runs its steps and evaluations, and is closed. Abstract: subclasses say who computes."""

    workers = 1
    arena: Arena
    replica: Replica

    def __init__(self) -> None:
        self.half = 0

    def open(self, work: Work) -> None:
        """Makes the arena and whatever computes; `fill` then gives it its first values."""
        raise NotImplementedError

    def fill(self, parameters: list[Any], states: list[Any], steps: list[int], buffers: list[Any]) -> None:
        """First values: of parameters and buffers into both halves, since some are never written; state into the current."""
        layout = self.arena.layout
        for half in self.arena.halves:
            for spec, offset, array in zip(layout.parameters, layout.offsets, parameters):
                half.parameters[spec.dtype][offset : offset + array.size] = array.reshape(-1)
            for into, buffer in zip(half.buffers, buffers):
                into[...] = buffer
        now = self.arena.halves[self.half]
        for spec, offset, arrays in zip(layout.parameters, layout.offsets, states):
            for into, array in zip(now.states[spec.dtype], arrays):
                into[offset : offset + array.size] = array.reshape(-1)
        now.steps[:] = steps

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        """The data-parallel step, over and over: gradients, their tree, the update into the other half.

        A result is handed out while the next step's gradients are already being computed.
        """
        self.share(data, training=True)
        result = None
        for step in steps:
            self.begin_gradients(step)
            if result is not None:
                try:
                    yield result
                except GeneratorExit:
                    self.end_gradients()
                    raise
            self.end_gradients()
            loss, divisor = totals(self.arena, step)
            norm, scale = None, 1.0
            if clip_norm is not None:
                self.squares(divisor)
                norm = norm_of(self.arena)
                scale = min(1.0, clip_norm / (norm + 1e-6))  # torch's clip_grad_norm_
            self.update(divisor, scale)
            self.half = 1 - self.half
            self.replica.select(self.half)
            result = StepResult(step.number, step.epoch, loss, divisor, len(step.indices), norm)
        if result is not None:
            yield result

    def share(self, data: Data, training: bool) -> None:
        """Puts a data set, and the model's mode, where the work is done."""
        raise NotImplementedError

    def begin_gradients(self, step: Step) -> None:
        raise NotImplementedError

    def end_gradients(self) -> None:
        raise NotImplementedError

    def squares(self, divisor: float) -> None:
        """Every block's sum of squares into the arena."""
        raise NotImplementedError

    def update(self, divisor: float, scale: float) -> None:
        """The optimizer's step on every block."""
        raise NotImplementedError

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        """(number, result) of every chunk, in whatever order they are done."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what `open` began. May be called again."""
        raise NotImplementedError


class Share:
    """The part of a step that one of `workers` does: its nodes of the tree, its blocks of the arrays."""

    def __init__(self, replica: Replica, worker: int, workers: int):
        layout = replica.layout
        self.replica = replica
        self.every_node = all_nodes(workers, layout.shards)
        self.nodes = aligned_nodes(owned_shards(worker, workers, layout.shards))
        mine = layout.owned_blocks(worker, workers)
        self.runs = layout.runs(mine)
        numbers = {block: i for i, block in enumerate(layout.blocks)}
        self.blocks = [(numbers[block], block) for block in mine]
        self.has_penalty = worker == 0 and replica.work.penalty is not None

    def gradients(self, data: Data, step: Step) -> None:
        for node in self.nodes:
            self.replica.gradient(data, step, node)
        if self.has_penalty:
            self.replica.penalty_gradient(step)

    def squares(self, divisor: float) -> None:
        self.replica.squares(self.every_node, self.blocks, divisor)

    def update(self, step: Step, divisor: float, scale: float) -> None:
        self.replica.update(step, self.every_node, self.runs, divisor, scale)


class SerialPool(Pool):
    """Every shard in this process, one after the other: the reference that other pools are tested against."""

    def open(self, work: Work) -> None:
        self.arena = Arena(work.layout, private_memory(arena_size(work.layout)))
        self.replica = Replica(work, self.arena)
        self.part = Share(self.replica, 0, 1)

    def share(self, data: Data, training: bool) -> None:
        self.data = data
        Module.train(self.replica.work.model, training)

    def begin_gradients(self, step: Step) -> None:
        self.step = step

    def end_gradients(self) -> None:
        self.part.gradients(self.data, self.step)

    def squares(self, divisor: float) -> None:
        self.part.squares(divisor)

    def update(self, divisor: float, scale: float) -> None:
        self.part.update(self.step, divisor, scale)

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        self.share(data, training=False)
        for chunk in chunks:
            yield chunk.number, self.replica.evaluate(data, chunk)

    def close(self) -> None:
        pass
