"""Machines without Ray: each has an arena, its members are threads, and what they send each other is put into place."""

import copy
import threading

import pargrad as pg
from pargrad.parallel.arena import Arena, arena_size, private_memory
from pargrad.parallel.machines import Envoy, Mail, forget_others, shares_of, size_of
from pargrad.parallel.meeting import Meeting, make_pipes
from pargrad.parallel.objective import Objective
from pargrad.parallel.pool import Member, Pool
from pargrad.parallel.step import Replica, Work, make_layout
from tests.training import OPTIMIZERS, WAYS

SEED = 3


def work_of(way, shards):
    """A fresh model with everything that a process of a run is given, and its optimizer."""
    model_of, optimizer_of, loss, options = (WAYS | OPTIMIZERS)[way]
    pg.manual_seed(1)
    model = model_of()
    optimizer, penalty = optimizer_of(model), options.get("penalty")
    layout = make_layout(model, optimizer, shards, penalty)
    return Work(model, Objective(loss), penalty, type(optimizer), layout, SEED), optimizer


def fill(pool, work):
    arrays = [[tensor.array for tensor in tensors] for tensors in (work.model.parameters(), work.model.buffers())]
    Pool.fill(pool, arrays[0], [], [0] * len(arrays[0]), arrays[1])


class Machine:
    """One of the machines: what `Pool.fill` needs of a pool, and its members."""

    def __init__(self, way, shares, place, workers):
        self.works = [work_of(way, 1 << (shares[-1].stop.bit_length() - 1))[0] for _ in range(workers + 1)]
        layout = self.works[0].layout
        self.arena = Arena(layout, private_memory(arena_size(layout)))
        self.mail = Mail()
        self.sent = 0
        fill(self, work_of(way, layout.shards)[0])
        self.place = place
        forget_others(self.arena, shares[place])
        self.replicas = [Replica(work, self.arena) for work in self.works]


class Machines:
    """Machines with so many workers each, which take steps together."""

    def __init__(self, way, workers, shards=8):
        shares = shares_of(workers, shards)
        self.machines = [Machine(way, shares, place, count) for place, count in enumerate(workers)]
        self.meetings, self.members = [], []
        for machine, count in zip(self.machines, workers):
            machine.mail.open(0)
            envoy = Envoy(machine.arena, machine.place, shares, machine.mail, self.sender(machine))
            meetings = [Meeting(pipes) for pipes in make_pipes(count + 1)]
            self.meetings += meetings
            self.members += [
                (Member(replica, number, count + 1, shares[machine.place], envoy if number == count else None), meeting)
                for number, (replica, meeting) in enumerate(zip(machine.replicas, meetings))
            ]

    def sender(self, machine):
        def send(receivers, key, message):
            machine.sent += size_of(message) * len(receivers)
            for other in receivers:
                self.machines[other].mail.deliver(0, machine.place, key, copy.deepcopy(message))

        return send

    def step(self, data, step, completed, clip_norm=None):
        """One step of all, whose errors are raised: the first that is no other's."""
        errors = []

        def take(member, meeting):
            try:
                member.step(data, step, completed, 1, clip_norm, meeting)
            except BaseException as error:
                errors.append(error)
                meeting.call_off()
                for machine in self.machines:
                    machine.mail.call_off(0)

        threads = [threading.Thread(target=take, args=one) for one in self.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        if errors:
            raise errors[0]

    def close(self):
        for meeting in self.meetings:
            meeting.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
