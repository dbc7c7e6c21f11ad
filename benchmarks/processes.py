"""Rivals in processes of their own, which take their turns when they are told to.

They are not in the benchmark's own process so that neither the threads of one library nor those of another are limited
by what the others are told. Between two turns they sleep, reading a pipe.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pargrad.parallel.arena import shared_memory

Turn = Callable[[int], float]


class Rival(Protocol):
    """Whoever takes part in a contest.

    turn(number) does the work once, and gives a figure that must be the same for all rivals: an epoch of training its
    mean loss. What has to start has started when the rival has been made, or does so in turn 0, which nobody times.
    """

    name: str
    processes: int  # that compute
    threads: int  # of each

    def turn(self, number: int) -> float: ...

    def close(self) -> None: ...


class Place(NamedTuple):
    """What a process is told of itself; meeting: a URL for torch; memory: the path of what all of them share."""

    rank: int
    processes: int
    meeting: str
    memory: str


class Crowd:
    """Processes at the other end of connections, each of which answers every question."""

    def __init__(self, name: str, connections: Sequence[Any]):
        self.name = name
        self.connections = list(connections)

    def ask(self, question: Any) -> list[Any]:
        """One answer from each process, read as they come: the others would wait long for one that has ended."""
        answers = dict.fromkeys(self.connections)
        waiting = list(self.connections)
        try:
            for connection in self.connections:
                connection.send(question)
            while waiting:
                for connection in wait(waiting):
                    answers[connection] = connection.recv()  # type: ignore[union-attr]
                    waiting.remove(connection)
        except (EOFError, OSError):
            raise RuntimeError(f"{self.name}: one of its processes ended; its error is printed above") from None
        return list(answers.values())

    def close(self) -> None:
        for connection in self.connections:
            connection.close()  # the other end reads the end of the file, and ends


def answer(connection: Connection, turn: Turn, threads: int) -> None:
    """The other end of a Crowd. That it can say how many threads it has is how the benchmark knows that it is ready."""
    with contextlib.suppress(EOFError, ConnectionResetError):  # the benchmark has closed its end, or is gone
        while True:
            question = connection.recv()
            connection.send(threads if question == "threads" else turn(question))


class ProcessRival:
    """`processes` new processes, in each of which `work(place, *arguments)` is a context that gives (turn, threads).

    A turn's figure is the sum of what the processes answer. memory: bytes that they share.
    """

    def __init__(self, name: str, work: Callable[..., Any], *arguments: Any, processes: int = 1, memory: int = 0):
        self.name, self.processes = name, processes
        self.crowd = Crowd(name, [])
        self.children: list[Any] = []
        self.ending = contextlib.ExitStack()
        folder = self.ending.enter_context(tempfile.TemporaryDirectory())
        meeting = (Path(folder) / "meeting").as_uri()
        context = multiprocessing.get_context("spawn")
        shared = ""
        try:
            if memory:
                descriptor = shared_memory(memory)
                self.ending.callback(os.close, descriptor)
                shared = f"/proc/{os.getpid()}/fd/{descriptor}"  # it has no name but this
            for rank in range(processes):
                connection, far_end = context.Pipe()
                place = Place(rank, processes, meeting, shared)
                child = context.Process(target=take_turns, args=(far_end, work, place, *arguments), daemon=True)
                self.crowd.connections.append(connection)
                child.start()
                self.children.append(child)
                far_end.close()  # so that a child that ends is seen as an end of file
            self.threads = self.crowd.ask("threads")[0]
        except BaseException:
            self.close()
            raise

    def turn(self, number: int) -> float:
        return sum(self.crowd.ask(number))

    def close(self) -> None:
        self.crowd.close()
        for child in self.children:
            child.join(timeout=5)
            child.kill()
            child.join()
        self.ending.close()


def take_turns(connection: Connection, work: Callable[..., Any], place: Place, *arguments: Any) -> None:
    """What a child does."""
    with work(place, *arguments) as (turn, threads):
        answer(connection, turn, threads)


def in_process(work: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[str, Any], Rival]:
    """A rival as a table has it: what makes it of its name and a task."""
    return lambda name, task: ProcessRival(name, work, task, *arguments, **options)
