"""A meeting is where the members of a step wait for each other: a dissemination barrier over pipes.

In round k member w writes one byte to member w + 2^k and reads one from member w - 2^k (Hensgen, Finkel and Manber
1988): after log2(members) rounds everyone has heard of everyone. A member that fails calls off the meeting, and a
member that dies closes its pipes: either way the others leave it with `CalledOff`, instead of waiting for ever.
"""

from __future__ import annotations

import contextlib
import os
import select

HERE, OFF = b"h", b"o"
LOOKS = 200  # before a member goes to sleep: about a fifth of a millisecond


class CalledOff(Exception):
    """Another member failed or died; its own error says why."""


class Meeting:
    """One member's ends of the pipes: (write to, read from) for each round; none for a member that is alone."""

    def __init__(self, pipes: list[tuple[int, int]]):
        self.pipes = pipes
        self.poll = {}
        for _, read in pipes:
            self.poll[read] = select.poll()
            self.poll[read].register(read, select.POLLIN)

    def __call__(self) -> None:
        """Waits until every member has called this as often as this one has."""
        for write, read in self.pipes:
            try:
                os.write(write, HERE)
                for _ in range(LOOKS):  # to be woken from sleep takes longer than most waits
                    if self.poll[read].poll(0):
                        break
                heard = os.read(read, 1)
            except BrokenPipeError:
                heard = b""
            if heard != HERE:
                self.call_off()
                raise CalledOff

    def call_off(self) -> None:
        """Tells everyone who hears this member; they pass it on."""
        for write, _ in self.pipes:
            with contextlib.suppress(BrokenPipeError):
                os.write(write, OFF)

    def close(self) -> None:
        for pair in self.pipes:
            for descriptor in pair:
                os.close(descriptor)
        self.pipes = []


def make_pipes(members: int) -> list[list[tuple[int, int]]]:
    """For each member its (write, read) descriptors, one pair a round."""
    ends: list[list[tuple[int, int]]] = [[] for _ in range(members)]
    distance = 1
    while distance < members:
        pipes = [os.pipe() for _ in range(members)]  # pipe w goes from member w to member w + distance
        for member in range(members):
            ends[member].append((pipes[member][1], pipes[(member - distance) % members][0]))
        distance *= 2
    return ends
