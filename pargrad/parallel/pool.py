"""A pool runs steps. Here: what one member of a pool does in a step, and the pool whose only member is this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pargrad.data import Data
from pargrad.nn import Module
from pargrad.parallel.arena import Arena, arena_size, private_memory
from pargrad.parallel.shards import aligned_nodes, all_nodes, owned_shards
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work, norm_of, set_mode, totals

IDLE, GRADIENT, REDUCE, UPDATE = range(4)
PHASES = ("waiting", "computing gradients", "adding gradients up", "updating parameters")


class Member:
    """Member `number` of `members`: its nodes of the tree, its blocks of the arrays, and its way through a step."""

    def __init__(self, replica: Replica, number: int, members: int):
        layout = replica.layout
        self.replica = replica
        self.number = number
        self.every_node = all_nodes(members, layout.shards)
        self.nodes = aligned_nodes(owned_shards(number, members, layout.shards))
        mine = layout.owned_blocks(number, members)
        self.runs = layout.runs(mine)
        places = {block: i for i, block in enumerate(layout.blocks)}
        self.blocks = [(places[block], block) for block in mine]
        self.buffers = range(number, len(layout.buffers), members)
        self.has_penalty = number == 0 and replica.work.penalty is not None

    def step(
        self, data: Data, step: Step, completed: int, run: int, clip_norm: float | None, meet: Callable[[], None]
    ) -> None:
        """The data-parallel step, as every member of every pool takes it after `completed` others.

        What the batch's sums and norms say is worked out by every member from the same numbers in the same order,
        so all go on alike, and all stop alike where something is not finite. A node whose gradient is complete, since
        others began this step of this run before one of them was lost, is not computed again.
        """
        replica, arena = self.replica, self.replica.arena
        replica.select(completed % 2)
        self.enter(GRADIENT)
        for node in self.nodes:
            replica.gradient_once(data, step, node, run)
        if self.has_penalty:
            replica.penalty_gradient(step)
        self.meet(meet)  # every node is in its slot

        self.enter(REDUCE)
        loss, divisor = totals(arena, step)
        norm, scale = None, 1.0
        if clip_norm is not None:
            replica.squares(self.every_node, self.blocks, divisor)
            self.meet(meet)  # every block's sum of squares is there
            norm = norm_of(arena, step)
            scale = min(1.0, clip_norm / (norm + 1e-6))  # torch's clip_grad_norm_

        self.enter(UPDATE)
        replica.update(step, self.every_node, self.runs, divisor, scale)
        replica.move_statistics(self.buffers)
        arena.results[step.number % len(arena.results)] = step.number, loss, divisor, math.nan if norm is None else norm
        arena.progress[self.number] = completed + 1
        self.meet(meet)  # the other half is whole, and nobody reads a slot any more
        self.enter(IDLE)

    def enter(self, phase: int) -> None:
        self.replica.arena.phases[self.number] = phase

    def meet(self, meet: Callable[[], None]) -> None:
        self.replica.arena.meetings[self.number] += 1
        meet()


def result_of(arena: Arena, step: Step) -> StepResult:
    """What a completed step came to."""
    number, loss, divisor, norm = arena.results[step.number % len(arena.results)].tolist()
    assert number == step.number, "results of steps that are this old are not kept"
    return StepResult(step.number, step.epoch, loss, divisor, len(step.indices), None if math.isnan(norm) else norm)


class Pool:
    """Opened on a run's work, filled with first values, runs its steps and evaluations, and is closed. Abstract."""

    arena: Arena
    replica: Replica  # this process's, whose model is the user's
    completed = 0  # steps since it was opened; the half of that parity is the current one
    runs = 0  # calls of `run`

    def open(self, work: Work) -> None:
        """Makes the arena, and whatever computes on it."""
        raise NotImplementedError

    def fill(self, parameters: list[Any], states: list[Any], steps: list[int], buffers: list[Any]) -> None:
        """First values: of parameters and buffers into both halves, since some are never written; of state into one."""
        layout = self.arena.layout
        for half in self.arena.halves:
            for spec, offset, array in zip(layout.parameters, layout.offsets, parameters):
                half.parameters[spec.dtype][offset : offset + array.size] = array.reshape(-1)
            for into, buffer in zip(half.buffers, buffers):
                into[...] = buffer
        now = self.arena.halves[0]
        for spec, offset, arrays in zip(layout.parameters, layout.offsets, states):
            for into, array in zip(now.states[spec.dtype], arrays):
                into[offset : offset + array.size] = array.reshape(-1)
        now.steps[:] = steps

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        """Takes the steps and gives their results in order; several may be taken before the first result is given.

        After an error, or when it is no longer asked for results, `completed` says how many steps were taken.
        """
        raise NotImplementedError

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        """(number, result) of every chunk, in whatever order they are done."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends what `open` began; the arena stays readable, with `completed` steps in it. May be called again."""
        raise NotImplementedError


class SerialPool(Pool):
    """Every shard in this process, one after the other: the reference that other pools are tested against."""

    def open(self, work: Work) -> None:
        self.arena = Arena(work.layout, private_memory(arena_size(work.layout)))
        self.replica = Replica(work, self.arena)
        self.member = Member(self.replica, 0, 1)

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        set_mode(self.replica.work.model, True)
        self.runs += 1
        for step in steps:
            self.member.step(data, step, self.completed, self.runs, clip_norm, lambda: None)
            self.completed += 1
            self.replica.select(self.completed % 2)
            yield result_of(self.arena, step)

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        before = [(module, module.training) for module in Module.modules(self.replica.work.model)]
        set_mode(self.replica.work.model, False)
        try:
            for chunk in chunks:
                yield chunk.number, self.replica.evaluate(data, chunk)
        finally:
            for module, training in before:
                module.training = training

    def close(self) -> None:
        pass
