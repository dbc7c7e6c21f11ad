"""What a step takes on so many machines, by a model of its parts, and which shards and batch to take there.

A step is what the machine with the most shards computes, the adding up of gradients, the exchange, and the update:

    compute   per shard of a worker: examples x FLOP, the parameters read and their gradient written and added, overhead
    reduce    the nodes of all workers read, and AdamW's six arrays read or written, by all cores
    exchange  2(M - 1) messages of alpha each and two latencies; (k + 1)(M - 1)/M gradients over the link; and what one
              core, the envoy's, packs, unpacks, reads and writes of them (see `machines`)
    driver    one call a machine for every message of steps, beside the machines' work: the longer of the two counts

Of several machines each has an agent, which tells its workers of steps beside their work, in the envoy's process: a
step is no shorter than what that process computes. Machines that are nodes of one host have its cores together. All
compute at once, and then all exchange: either part is no shorter than what all of them compute in it by so many cores,
and what agents and the driver compute beside comes on top, since those cores are in use.

M is the machines, k the aligned nodes of a machine's shards, which the functions that trainers call give. The model of
a message, alpha-beta, is Hockney's (Parallel Computing 20, 1994); Thakur, Rabenseifner and Gropp (IJHPCA 19, 2005)
apply it to a reduce-scatter with an all-gather.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

from pargrad.parallel.crew_pool import AHEAD_SECONDS, MOST_AHEAD
from pargrad.parallel.machines import shares_of
from pargrad.parallel.shards import aligned_nodes, all_nodes, check_shards, part_of

MOST_SHARDS = 1 << 17
ADAMW_ARRAYS = 6  # parameters and two moments, each read from one half and written into the other
SHARD_ARRAYS = 5  # parameters read forward and backward; a gradient written, read, and added to another
NEARLY = 1.02  # a step that is longer by less is taken as being as long


def checked(numbers: object, may_be_zero: Iterable[str]) -> None:
    for field in fields(numbers):  # type: ignore[arg-type]
        value = getattr(numbers, field.name)
        if not math.isfinite(value) or value < 0 or (value == 0 and field.name not in may_be_zero):
            least = "0 or more" if field.name in may_be_zero else "more than 0"
            raise ValueError(f"{field.name}={value}: expected {least}")


@dataclass(frozen=True)
class Job:
    """What a step computes. flops_per_example: forward and backward; 6 a parameter where each is used once."""

    parameters: int
    flops_per_example: float
    batch_size: int
    shards: int = 8
    bytes_per_parameter: int = 4

    def __post_init__(self) -> None:
        checked(self, ())
        check_shards(self.shards)
        if self.shards > self.batch_size:
            raise ValueError(
                f"shards={self.shards} of batch_size={self.batch_size}: some would be empty; write at most "
                f"shards={1 << (self.batch_size.bit_length() - 1)}"
            )

    @property
    def bytes(self) -> int:
        """Those of a gradient."""
        return self.parameters * self.bytes_per_parameter


@dataclass(frozen=True)
class Machine:
    """One of a cluster's machines, all alike, and its link.

    cores: workers; gflops: 10^9 FLOP/s that a core has in a model's products; memory_bandwidth: of all cores together,
    and core_bandwidth, of one, bytes/s read and written; cache_bandwidth: of a core's caches, where a gradient of at
    most cached_bytes stays from one shard to the next; link_bandwidth: bytes/s sent, and as many received at once;
    latency: seconds; message_seconds: what a message between machines costs the one that sends and the one that gets
    it, and message_bandwidth the bytes/s at which a core packs or unpacks one; call_seconds: what a message to a
    machine and its answer cost the driver; shard_seconds, step_seconds and meeting_seconds: what a shard, a step, and
    a step of several workers, cost beside what grows with the model; driver_seconds: what a step costs the driver's
    process; agent_seconds: what it costs each of several machines beside, in its agent and in Ray; host_cores: those
    that all machines, and the driver, have together as nodes of one host, 0 where each machine has its own.
    """

    cores: int = 8
    gflops: float = 30.0
    memory_bandwidth: float = 40e9
    core_bandwidth: float = 8e9
    cache_bandwidth: float = 16e9
    cached_bytes: int = 4 << 20
    link_bandwidth: float = 1.25e9
    latency: float = 50e-6
    message_seconds: float = 450e-6
    message_bandwidth: float = 1e9
    call_seconds: float = 200e-6
    shard_seconds: float = 50e-6
    step_seconds: float = 300e-6
    meeting_seconds: float = 300e-6
    driver_seconds: float = 300e-6
    agent_seconds: float = 2e-3
    host_cores: int = 0

    def __post_init__(self) -> None:
        names = {field.name for field in fields(self)}
        checked(self, {name for name in names if name.endswith("seconds")} | {"latency", "cached_bytes", "host_cores"})

    def bandwidth_of(self, cores: int) -> float:
        """Bytes/s that each of so many cores has when all are at it."""
        return min(self.core_bandwidth, self.memory_bandwidth / cores)


class Spread(NamedTuple):
    """How shards lie on machines: the most that a worker has, the nodes (see `shards`), and those of all machines."""

    most_shards: int
    worker_nodes: int
    nodes: int
    all_nodes: int


class Prediction(NamedTuple):
    """Seconds of a step's parts, and `step` of all; bytes that the busiest machine sends; nodes: k of that machine.

    work: the processor time of all machines and the driver.
    """

    machines: int
    batch_size: int
    shards: int
    most_shards: int
    nodes: int
    compute: float
    reduce: float
    exchange: float
    driver: float
    work: float
    step: float
    bytes_sent: float

    @property
    def examples_per_second(self) -> float:
        return self.batch_size / self.step


class Proposal(NamedTuple):
    """The best shards and batch for so many machines; efficiency: of one machine's examples/s, in as many machines."""

    prediction: Prediction
    efficiency: float


@lru_cache(maxsize=4096)
def spread_over(workers: tuple[int, ...], shards: int) -> Spread:
    """How so many shards lie on machines with so many workers each."""
    if sum(workers) > shards:
        raise ValueError(
            f"{sum(workers)} workers of {shards} shards: write shards={1 << (sum(workers) - 1).bit_length()} or more"
        )
    shares = shares_of(list(workers), shards)
    nodes = [len(aligned_nodes(share)) for share in shares]
    return Spread(
        max(len(part_of(share, count - 1, count)) for share, count in zip(shares, workers)),
        max(len(all_nodes(count, share)) for share, count in zip(shares, workers)),
        max(nodes),
        sum(nodes),
    )


def bytes_sent(gradient: float, nodes: int, machines: int) -> float:
    """What a machine sends in a step: of its nodes the others' pieces, and its own piece of the sum to each."""
    return (nodes + 1) * (machines - 1) / machines * gradient


def predict(job: Job, machine: Machine, workers: int | tuple[int, ...]) -> Prediction:
    """A step of a job on so many machines, or on machines of which each has so many workers."""
    if isinstance(workers, int):
        if workers < 1:
            raise ValueError(f"expected 1 machine or more, got {workers}")
        workers = (machine.cores,) * workers
    machines, spread = len(workers), spread_over(workers, job.shards)
    busy = min(max(workers), spread.most_shards * max(workers))
    bandwidth = machine.bandwidth_of(min(sum(workers), machine.host_cores) or busy)
    shard = (
        -(-job.batch_size // job.shards) * job.flops_per_example / (machine.gflops * 1e9)
        + SHARD_ARRAYS * job.bytes / (machine.cache_bandwidth if job.bytes <= machine.cached_bytes else bandwidth)
        + machine.shard_seconds
    )
    compute = machine.step_seconds + spread.most_shards * shard
    summands = spread.worker_nodes if machines == 1 else 1
    touched, meeting = (summands + ADAMW_ARRAYS) * job.bytes, machine.meeting_seconds * (busy > 1 or machines > 1)
    reduce = touched / (bandwidth * busy) + meeting
    envoy = envoy_seconds(job, machine, machines, spread) if machines > 1 else 0.0
    agent = envoy + machine.agent_seconds if machines > 1 else 0.0
    exchange = envoy + link_seconds(job, machine, machines, spread) if machines > 1 else 0.0
    alone = compute + reduce + exchange
    driver = machines * machine.call_seconds / steps_ahead(alone) if machines > 1 else 0.0
    computing = (
        job.shards * shard
        + sum(workers) * machine.step_seconds
        + (sum(workers) + machines * (machines > 1)) * meeting  # the envoy of each machine meets, too
        + machines * touched / bandwidth
    )
    beside = driver + machine.driver_seconds + machines * machine.agent_seconds * (machines > 1)
    work = computing + machines * envoy + beside
    if machine.host_cores:
        computing, exchanging, beside = (each / machine.host_cores for each in (computing, machines * envoy, beside))
        alone = max(compute + reduce, computing) + max(exchange, exchanging) + beside
    step = max(alone, driver, agent)
    return Prediction(
        machines, job.batch_size, job.shards, spread.most_shards, spread.nodes, compute, reduce, exchange, driver,
        work, step, bytes_sent(job.bytes, spread.nodes, machines),
    )  # fmt: skip


def bytes_received(job: Job, machines: int, spread: Spread) -> float:
    """At most: a machine has one node or more."""
    return (spread.all_nodes - 1 + machines - 1) * job.bytes / machines


def envoy_seconds(job: Job, machine: Machine, machines: int, spread: Spread) -> float:
    """The processor time of the reduce-scatter and the all-gather: messages, packing, and sums read and written."""
    packed = bytes_sent(job.bytes, spread.nodes, machines) + bytes_received(job, machines, spread)
    touched = (spread.worker_nodes + 2 * spread.nodes + 4) * job.bytes + spread.all_nodes * job.bytes / machines
    return (
        2 * (machines - 1) * machine.message_seconds
        + packed / machine.message_bandwidth
        + touched / machine.core_bandwidth
    )


def link_seconds(job: Job, machine: Machine, machines: int, spread: Spread) -> float:
    """The time that messages are under way."""
    most = max(bytes_sent(job.bytes, spread.nodes, machines), bytes_received(job, machines, spread))
    return 2 * machine.latency + most / machine.link_bandwidth


def two_level_seconds(job: Job, machine: Machine, machines: int, group: int) -> float:
    """The exchange of a design that is not built: reduce-scatter in groups, between them, and back.

    group: machines, a power of two, whose shards together are one node of the tree. Each machine has one node. It sends
    G(g - 1)/g in its group, of its piece G/g twice (n - 1)/n to its fellows in the n groups, and G(g - 1)/g at the end.
    """
    groups = -(-machines // group)
    messages = 2 * (group - 1) + 2 * (groups - 1)
    sent = job.bytes * (2 * (group - 1) / group + 2 * (groups - 1) / (groups * group))
    return (
        messages * machine.message_seconds
        + 4 * machine.latency
        + sent / machine.link_bandwidth
        + 2 * sent / machine.message_bandwidth
        + 8 * job.bytes / machine.core_bandwidth
    )


def best_two_level_seconds(job: Job, machine: Machine, machines: int) -> float:
    """With groups of the best size; on one or two machines there is nothing to group."""
    groups = [1 << power for power in range(1, (machines - 1).bit_length())]
    return min((two_level_seconds(job, machine, machines, group) for group in groups), default=0.0)


def steps_ahead(seconds: float) -> int:
    """The steps that the driver sends at once (see `CrewPool.attempt`)."""
    return max(1, min(MOST_AHEAD, round(AHEAD_SECONDS / seconds)))


def best_shards(job: Job, machine: Machine, machines: int) -> Prediction | None:
    """The fewest shards with which a step is nearly as short as it can be; None where some worker would have none."""
    fewest = 1 << (machines * machine.cores - 1).bit_length()
    tried = [
        predict(with_size(job, job.batch_size, fewest << more), machine, machines)
        for more in range(8)
        if fewest << more <= min(job.batch_size, MOST_SHARDS)
    ]
    shortest = min((one.step for one in tried), default=0.0)
    return next((one for one in tried if one.step <= shortest * NEARLY), None)


def propose(
    job: Job, machine: Machine, machines: Iterable[int], efficiency: float = 0.8, most_batch: int = 1 << 20
) -> Iterator[Proposal | None]:
    """For each number of machines the smallest batch, of doublings of the job's, that is efficient; else the best.

    None where even `most_batch` examples are too few for one shard a worker.
    """
    if not 0 < efficiency <= 1:
        raise ValueError(f"efficiency={efficiency}: expected a number above 0, and 1 at most")
    alone = best_shards(job, machine, 1)
    if alone is None:
        raise ValueError(f"batch_size={job.batch_size} is less than one example a core: write {machine.cores} or more")
    for count in machines:
        tried: list[Proposal] = []
        batch = job.batch_size
        while batch <= max(most_batch, job.batch_size):
            found = best_shards(with_size(job, batch, 1), machine, count)
            if found is not None:
                rate = found.examples_per_second / (count * alone.examples_per_second)
                tried.append(Proposal(found, rate))
                if rate >= efficiency:
                    break
            batch *= 2
        yield max(tried, key=lambda one: min(one.efficiency, efficiency), default=None)


def with_size(job: Job, batch_size: int, shards: int) -> Job:
    return Job(job.parameters, job.flops_per_example, batch_size, shards, job.bytes_per_parameter)
