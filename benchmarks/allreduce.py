"""Milliseconds to add two gradients up and update: pargrad's arena, gloo, and plain Ray objects.

    python -m benchmarks.allreduce                          # 1k to 30M float32 parameters; some three minutes
    python -m benchmarks.allreduce --sizes 10000000 --only 'pargrad-arena,gloo'

A turn is some steps of AdamW whose gradients are there from the beginning. Of pargrad, two members on shared memory
take the very steps of a run, with every look at what is not finite, and find their gradients complete. With gloo, each
of two processes all-reduces one flat tensor, halves it as DDP does, and takes torch's fused AdamW. With plain Ray
objects, two actors hand their gradients to each other through the object store, and take the same AdamW of torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.by_hand import open_shared
from benchmarks.command import add_rivals, parser_of, present, race
from benchmarks.processes import Place, ProcessRival, Turn, in_process
from benchmarks.report import Report
from benchmarks.rivals import Entry, process_group
from benchmarks.tasks import numbers
from pargrad import nn, optim
from pargrad.data import ArrayData
from pargrad.nn import functional as F
from pargrad.parallel.arena import Arena, arena_size
from pargrad.parallel.cores import keep_freed_memory
from pargrad.parallel.meeting import Meeting, make_pipes
from pargrad.parallel.objective import Objective
from pargrad.parallel.pool import Member
from pargrad.parallel.step import Replica, Step, Work, make_layout

PROCESSES = 2
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 30_000_000)
YARDSTICKS = ("gloo", "ray-objects")
NO_DATA = ArrayData(np.empty(PROCESSES), np.empty(PROCESSES))  # nothing of it is read


@dataclass(frozen=True)
class Reduction:
    """Parameters, a gradient of each process, and as many steps of AdamW as make a turn."""

    size: int
    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.01

    def values(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal(self.size, dtype=np.float32)

    def gradient(self, rank: int) -> np.ndarray:
        return np.random.default_rng(1 + rank).standard_normal(self.size, dtype=np.float32)

    @staticmethod
    def figure(values: np.ndarray) -> float:
        """What all rivals must agree on: a few of the parameters' sizes, in the mean."""
        return float(np.abs(values[:: max(1, len(values) // 1000)]).mean(dtype=np.float64))


# ----- pargrad -----


class Vector(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.values = nn.Parameter(np.zeros(size, np.float32))


def work_of(task: Reduction) -> tuple[Work, Any]:
    """What members of a run are given, and the optimizer's options."""
    model = Vector(task.size)
    optimizer = optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay)
    layout = make_layout(model, optimizer, PROCESSES, None)
    options = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    return Work(model, Objective(F.mse_loss), None, type(optimizer), layout, 0), options


class ArenaRival(ProcessRival):
    """Members of a run on one arena, a process each."""

    def __init__(self, name: str, task: Reduction):
        self.pipes = make_pipes(PROCESSES)
        folder = f"/proc/{os.getpid()}/fd"
        paths = [[(f"{folder}/{write}", f"{folder}/{read}") for write, read in ends] for ends in self.pipes]
        size = arena_size(work_of(task)[0].layout)
        super().__init__(name, arena_member, task, paths, processes=PROCESSES, memory=size)

    def close(self) -> None:
        super().close()
        for write, read in (pair for ends in self.pipes for pair in ends):
            os.close(write)
            os.close(read)


@contextlib.contextmanager
def arena_member(place: Place, task: Reduction, paths: list[list[tuple[str, str]]]) -> Iterator[tuple[Turn, int]]:
    work, options = work_of(task)
    keep_freed_memory()  # as every worker does
    arena = Arena(work.layout, open_shared(place.memory))
    pipes = [(os.open(write, os.O_WRONLY), os.open(read, os.O_RDONLY)) for write, read in paths[place.rank]]
    meeting, rank, taken = Meeting(pipes), place.rank, 0
    arena.slot_views[rank][0][:] = task.gradient(rank)
    arena.reached[rank] = arena.divisors[rank] = 1
    if rank == 0:
        arena.halves[0].parameters["float32"][:] = task.values()
    member = Member(Replica(work, arena), rank, place.processes, range(place.processes))

    def turn(number: int) -> float:
        nonlocal taken
        for _ in range(task.steps):
            step = Step(taken + 1, 0, np.arange(PROCESSES), [options])
            arena.done[rank] = (1 << 32) + step.number, 1  # its gradient of this step of run 1 is complete
            member.step(NO_DATA, step, taken, 1, None, meeting)
            taken += 1
        return task.figure(arena.halves[taken % 2].parameters["float32"]) / place.processes

    with threadpool_limits(1), contextlib.closing(meeting):
        yield turn, 1


# ----- the others -----


def torch_parameters(task: Reduction, gradient: np.ndarray) -> tuple[Any, Any]:
    """A flat parameter with a gradient, and its optimizer; one thread."""
    import torch

    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.from_numpy(task.values()))
    parameter.grad = torch.from_numpy(gradient)
    return parameter, torch.optim.AdamW([parameter], lr=task.lr, weight_decay=task.weight_decay, fused=True)


@contextlib.contextmanager
def gloo(place: Place, task: Reduction) -> Iterator[tuple[Turn, int]]:
    import torch.distributed as distributed

    parameter, optimizer = torch_parameters(task, task.gradient(place.rank))

    def turn(number: int) -> float:
        for _ in range(task.steps):  # the mean of two means is the mean: the gradient is that of every step
            distributed.all_reduce(parameter.grad)
            parameter.grad /= place.processes
            optimizer.step()
        return task.figure(parameter.detach().numpy()) / place.processes

    with process_group(place):
        yield turn, 1


class RayObjects:
    """Actors, and the references to what they put into the object store."""

    def __init__(self, name: str, task: Reduction):
        import ray

        self.name, self.processes, self.threads = name, PROCESSES, 1
        self.task, self.ray = task, ray
        actor = ray.remote(num_cpus=1)(RayActor)
        self.actors = [actor.remote(task, rank) for rank in range(PROCESSES)]

    def turn(self, number: int) -> float:
        for _ in range(self.task.steps):
            gradients = [actor.gradient.remote() for actor in self.actors]
            self.ray.get([actor.update.remote(*gradients) for actor in self.actors])
        figures = self.ray.get([actor.figure.remote() for actor in self.actors])
        return sum(figures) / len(figures)

    def close(self) -> None:
        for actor in self.actors:
            self.ray.kill(actor)


class RayActor:
    def __init__(self, task: Reduction, rank: int):
        self.task, self.own = task, task.gradient(rank)
        self.parameter, self.optimizer = torch_parameters(task, np.empty_like(self.own))

    def gradient(self) -> np.ndarray:
        return self.own

    def update(self, *gradients: np.ndarray) -> None:
        mean = self.parameter.grad.numpy()
        np.add(*gradients, out=mean)
        mean /= PROCESSES
        self.optimizer.step()

    def figure(self) -> float:
        return self.task.figure(self.parameter.detach().numpy())


RIVALS = {
    "pargrad-arena": Entry(ArenaRival),
    "gloo": Entry(in_process(gloo, processes=PROCESSES)),
    "ray-objects": Entry(RayObjects, cores=PROCESSES),
}


def steps_of(size: int) -> int:
    """As many as take about a tenth of a second."""
    return int(np.clip(20_000_000 // size, 2, 200))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("allreduce", __doc__, turns=9)
    parser.add_argument("--sizes", type=numbers, default=SIZES, help="parameters, as 1000,1000000 (%(default)s)")
    add_rivals(parser, tuple(RIVALS), tuple(RIVALS))
    options = parser.parse_args(arguments)

    report, names = Report("allreduce"), present(options.only)
    for size in options.sizes:
        task = Reduction(size, steps_of(size))
        title = f"{task.steps} reductions and updates of {size:,} parameters"
        race(report, title, task, names, options.turns, table=RIVALS, tolerance=1e-5, yardsticks=YARDSTICKS)
    report.write(options.json)


if __name__ == "__main__":
    main()
