"""A pool runs steps. Here: what one member of a pool does in a step, and the pool whose only member is this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pargrad.data import Data
from pargrad.nn import Module
from pargrad.parallel import stopwatch
from pargrad.parallel.arena import Arena, arena_size, private_memory
from pargrad.parallel.errors import NonFiniteError
from pargrad.parallel.finite import (
    ALLOW,
    DIVISOR,
    FINE,
    NO_NORM,
    NORM_TO_COME,
    REMEDIES,
    STOP,
    describe,
    first_of,
    norm_of,
    totals,
    wrong_norm,
    wrong_total,
)
from pargrad.parallel.machines import Envoy, total_slot
from pargrad.parallel.shards import aligned_nodes, all_nodes, part_of
from pargrad.parallel.step import Chunk, Replica, Step, StepResult, Work, place_of, set_mode

IDLE, GRADIENT, REDUCE, UPDATE = range(4)
PHASES = ("waiting", "computing gradients", "adding gradients up", "updating parameters")


class Member:
    """Member `number` of `members`: its nodes of the tree, its blocks of the arrays, and its way through a step.

    share: the shards of this machine. Where other machines have the rest, the last member is their envoy here: it has
    no nodes and no blocks, and does the exchanges (see `machines`), for which the others wait.
    """

    def __init__(self, replica: Replica, number: int, members: int, share: range, envoy: Envoy | None = None):
        layout = replica.layout
        self.replica = replica
        self.number = number
        self.members = members
        self.envoy = envoy
        self.is_apart = len(share) < layout.shards
        workers = members - self.is_apart
        self.worker_nodes = all_nodes(workers, share)
        self.every_node = [(total_slot(share, layout.shards), 1)] if self.is_apart else self.worker_nodes
        self.nodes = aligned_nodes(part_of(share, number, workers)) if envoy is None else []
        mine = layout.owned_blocks(number, workers)
        self.runs = layout.runs(mine)
        self.blocks = mine
        self.buffers = range(number if envoy is None else len(layout.buffers), len(layout.buffers), workers)
        self.has_penalty = number == 0 and replica.work.penalty is not None

    def step(
        self, data: Data, step: Step, completed: int, run: int, clip_norm: float | None, meet: Callable[[], None]
    ) -> None:
        """The data-parallel step, as every member of every pool takes it after `completed` others.

        What the batch's sums and norms say is worked out by every member from the same numbers in the same order,
        so all go on alike, and all stop alike where something is not finite. A node whose gradient is complete, since
        others began this step of this run before one of them was lost, is not computed again.
        """
        replica, arena, work = self.replica, self.replica.arena, self.replica.work
        replica.select(completed % 2)
        replica.watch.start(step.number)
        self.enter(GRADIENT)
        if self.envoy is not None:
            self.envoy.begin(completed)
        replica.gradients(data, step, self.nodes, run, self.with_rows(meet))
        if self.has_penalty:
            replica.penalty_gradient(step)
        replica.watch.lap(stopwatch.COMPUTE)
        self.meet(meet)  # every node is in its slot
        self.meet_others(meet, lambda envoy: envoy.gradients(self.worker_nodes))

        self.enter(REDUCE)
        loss, divisor = totals(arena)
        wrong = FINE if work.non_finite == ALLOW else wrong_total(loss, divisor)
        norm, scale = NORM_TO_COME if work.norms else NO_NORM, 1.0
        if not wrong and clip_norm is not None:
            replica.squares(self.every_node, self.blocks, divisor)
            self.meet(meet)  # every block's sum of squares is there
            norm = norm_of(arena)
            wrong = FINE if work.non_finite == ALLOW else wrong_norm(arena)
            scale = clip_norm / (norm + 1e-6)  # torch's clip_grad_norm_, also where the norm is nan
            scale = 1.0 if scale > 1.0 else scale
        replica.watch.lap(stopwatch.REDUCE)

        self.enter(UPDATE)
        if not wrong:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is looked for
                wrong = replica.update(step, self.every_node, self.runs, divisor, scale)
            replica.move_statistics(self.buffers)
        result = arena.results[step.number % len(arena.results)]
        result[:] = step.number, loss, divisor, norm, FINE, 0
        arena.wrong[self.number] = wrong
        if not wrong:  # else the step is not complete, whoever else took no notice
            arena.progress[self.number] = completed + 1
        replica.watch.lap(stopwatch.UPDATE)
        self.meet(meet)  # the other half is whole, and nobody reads a slot any more
        wrong = first_of(arena.wrong[: self.members])
        if wrong:
            self.agree(data, step, completed, wrong, meet)
        elif norm == NORM_TO_COME:
            result[3] = norm_of(arena)
        replica.watch.hand_over(arena.seconds[self.number])
        self.enter(IDLE)

    def agree(self, data: Data, step: Step, completed: int, wrong: int, meet: Callable[[], None]) -> None:
        """What all members do where something is not finite: leave the step without effect, or stop."""
        replica, arena, layout = self.replica, self.replica.arena, self.replica.layout
        arena.culprits[self.number] = replica.culprit(
            data, step, self.nodes, self.has_penalty, wrong, self.with_rows(meet)
        )
        stops = replica.work.non_finite == STOP
        if not stops:
            replica.leave_as_it_was(self.runs, self.buffers)
        self.meet(meet)  # every member has looked at its shards, and the other half is whole
        self.meet_others(meet, lambda envoy: envoy.culprits(self.number, self.members))
        slot = first_of(arena.culprits[: self.members])
        if stops:
            error = NonFiniteError(
                f"step {step.number} (epoch {step.epoch}): {describe(layout, wrong, slot)}. The parameters are as they "
                f"were before this step: {REMEDIES[wrong == DIVISOR]}, or leave such steps out with non_finite='skip'"
            )
            if 0 < slot <= layout.shards:
                error.add_note(place_of(step, slot - 1, layout.shards))
            raise error
        arena.results[step.number % len(arena.results)][3:] = NO_NORM, wrong, slot
        arena.progress[self.number] = completed + 1

    def enter(self, phase: int) -> None:
        self.replica.arena.phases[self.number] = phase

    def with_rows(self, meet: Callable[[], None]) -> Callable[[], None]:
        """The meeting in which shards hand over their rows; its how manyth call in the step is their number."""
        numbers = itertools.count()

        def meet_with_rows() -> None:
            number = next(numbers)
            self.meet(meet)
            self.meet_others(meet, lambda envoy: envoy.rows(number))

        return meet_with_rows

    def meet_others(self, meet: Callable[[], None], exchange: Callable[[Envoy], None]) -> None:
        """After a meeting of the members here: what the machines, if there are others, have to tell each other."""
        if self.is_apart:
            if self.envoy is not None:
                exchange(self.envoy)
            self.meet(meet)

    def meet(self, meet: Callable[[], None]) -> None:
        self.replica.arena.meetings[self.number] += 1
        meet()
        self.replica.watch.lap(stopwatch.WAITING)


def result_of(arena: Arena, step: Step) -> StepResult:
    """What a completed step came to."""
    row = arena.results[step.number % len(arena.results)]
    number, loss, divisor, norm, wrong, slot = row.tolist()
    assert number == step.number, "results of steps that are this old are not kept"
    if norm == NORM_TO_COME:  # who would have added it up was lost; nobody has taken another step since
        norm = row[3] = norm_of(arena)
    return StepResult(
        step.number, step.epoch, loss, divisor, len(step.indices), None if norm == NO_NORM else norm,
        tuple(options.get("lr") for options in step.hyperparameters),
        describe(arena.layout, int(wrong), int(slot)) if wrong else None,
    )  # fmt: skip


class Pool:
    """Opened on a run's work, filled with first values, runs its steps and evaluations, and is closed. Abstract."""

    arena: Arena
    replica: Replica  # this process's, whose model is the user's
    completed = 0  # steps since it was opened; the half of that parity is the current one
    runs = 0  # calls of `run`
    taken_here = 0  # steps that this process took for workers that were not there
    lost: tuple[str, ...] = ()  # a description of every worker that was lost

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

    def sent(self) -> tuple[int, int]:
        """The bytes that machines have sent to others, and the steps of each that those were for; none of one."""
        return 0, 0

    def bytes_per_step(self) -> float:
        """What a machine sends to others in a step, on average, where there are several."""
        sent, steps = self.sent()
        return sent / steps if steps else 0.0

    def wait_for_workers(self) -> None:
        """Waits until there are as many as this begins with."""

    def close(self) -> None:
        """Ends what `open` began; the arena stays readable, with `completed` steps in it. May be called again."""
        raise NotImplementedError

    def leave(self) -> None:
        """In a process forked from the one that opened it: lets go of what leads to others, and ends nothing."""


class SerialPool(Pool):
    """Every shard in this process, one after the other: the reference that other pools are tested against."""

    def open(self, work: Work) -> None:
        self.arena = Arena(work.layout, private_memory(arena_size(work.layout)))
        self.replica = Replica(work, self.arena)
        self.member = Member(self.replica, 0, 1, range(work.layout.shards))

    def run(self, data: Data, steps: Iterable[Step], clip_norm: float | None = None) -> Iterator[StepResult]:
        set_mode(self.replica.work.model, True)
        self.runs += 1
        for step in steps:
            self.member.step(data, step, self.completed, self.runs, clip_norm, lambda: None)
            self.completed += 1
            self.replica.select(self.completed % 2)
            yield result_of(self.arena, step)

    def evaluate(self, data: Data, chunks: list[Chunk]) -> Iterator[tuple[int, Any]]:
        return evaluate_here(self.replica, data, chunks)

    def close(self) -> None:
        pass


def evaluate_here(replica: Replica, data: Data, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Any]]:
    """The chunks in this process, whose model is then in the mode that it was in."""
    before = [(module, module.training) for module in Module.modules(replica.work.model)]
    set_mode(replica.work.model, False)
    try:
        for chunk in chunks:
            yield chunk.number, replica.evaluate(data, chunk)
    finally:
        for module, training in before:
            module.training = training
