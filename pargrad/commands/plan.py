"""`pargrad plan`: says what a step would take on so many machines, and which shards and batch to take there."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pargrad.parallel.plan import Machine

HELP = "predict a step's time on 1 to 10,000 machines, and propose shards and batch"
EXAMPLES = """\
  pargrad plan --parameters 10000000 --batch-size 4096      the usual machine, 1 to 10,000 of it
  pargrad plan --measure machine.json                       what this machine does
  pargrad plan --machine machine.json --predict said.json   other networks' steps, before they are run
  pargrad plan --check said.json                            runs them
  pargrad plan --machine machine.json --measure machine.json --address auto     and a cluster's messages\
"""
MACHINES = "1,2,3,4,8,16,64,100,256,1000,1024,4096,10000"
GIGA, MICRO = 1e9, 1e-6


@dataclass
class Options:
    """Predict what a step takes on so many machines, and propose the shards and the batch to take there.

    Args:
        parameters: of the model
        flops_per_example: forward and backward; by default 6 a parameter
        bytes_per_parameter: 4 for float32
        batch_size: the smallest batch to propose; the one of the comparison with one machine
        shards: take these, with this batch, and propose nothing
        machines: how many, separated by commas
        efficiency: the smallest batch is proposed that reaches this part of as many single machines' examples a second
        most_batch: the largest batch to propose
        machine: a JSON file of a machine's numbers, as --measure writes it
        cores: workers of a machine
        gflops: 10^9 FLOP/s of one core in the model's products
        memory_gigabytes: 10^9 bytes/s of memory that all cores have together
        link_gigabits: 10^9 bits/s of the link, each way
        latency_microseconds: of the link
        message_microseconds: what a message between machines costs them
        call_microseconds: what a message to a machine and its answer cost the driver
        measure: measure this machine, or with --address messages, write it to this file, and plan with it
        predict: write what steps of two other networks will take on this machine to this file
        check: run what this file predicts, and print both
        address: a Ray cluster, auto or HOST:PORT, between whose nodes to measure messages, or on 1 to 3 of which to
            take the steps of --predict and --check, with a worker on each
        json: print JSON
    """

    parameters: int = 1_000_000
    flops_per_example: float | None = None
    bytes_per_parameter: int = 4
    batch_size: int = 1024
    shards: int | None = None
    machines: str = MACHINES
    efficiency: float = 0.8
    most_batch: int = 1 << 20
    machine: str | None = None
    cores: int | None = None
    gflops: float | None = None
    memory_gigabytes: float | None = None
    link_gigabits: float | None = None
    latency_microseconds: float | None = None
    message_microseconds: float | None = None
    call_microseconds: float | None = None
    measure: str | None = None
    predict: str | None = None
    check: str | None = None
    address: str | None = None
    json: bool = False


def run(options: Options) -> int:
    if options.address is None:
        return run_here(options)
    from pargrad.parallel.workers import import_ray

    with import_ray(options.address).inside(options.address):
        return run_here(options)


def run_here(options: Options) -> int:
    from pargrad.parallel.calibration import calibrate, calibrate_messages, check_predictions, write_predictions

    if options.check is not None:
        show_seen([one._asdict() for one in check_predictions(options.check)], options.json)
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > 1.25 * cores and not options.json:
            print(f"this machine is busy (a load of {load:.1f} on {cores} cores): its clock says little")
        return 0
    machine = machine_of(options)
    if options.measure is not None:
        from pargrad.parallel.checkpoints import write_whole

        machine = calibrate(machine) if options.address is None else calibrate_messages(machine)
        write_whole(Path(options.measure), (json.dumps(asdict(machine), indent=2) + "\n").encode())
    if options.predict is not None:
        show_seen([one._asdict() for one in write_predictions(options.predict, machine)], options.json)
        return 0
    rows = rows_of(options, machine)
    if options.json:
        print(json.dumps({"machine": asdict(machine), "plan": rows}, indent=2))
    else:
        show(rows, machine)
    return 0


def machine_of(options: Options) -> Machine:
    from pargrad.parallel.calibration import load_machine

    def times(number: float | None, unit: float) -> float | None:
        return None if number is None else number * unit

    return load_machine(
        options.machine,
        cores=options.cores,
        gflops=options.gflops,
        memory_bandwidth=times(options.memory_gigabytes, GIGA),
        link_bandwidth=times(options.link_gigabits, GIGA / 8),
        latency=times(options.latency_microseconds, MICRO),
        message_seconds=times(options.message_microseconds, MICRO),
        call_seconds=times(options.call_microseconds, MICRO),
    )


def rows_of(options: Options, machine: Machine) -> list[dict[str, Any]]:
    """What is said of each number of machines."""
    from pargrad.parallel.plan import Job, Proposal, best_two_level_seconds, predict, propose

    counts = numbers_in(options.machines)
    flops = 6.0 * options.parameters if options.flops_per_example is None else options.flops_per_example
    job = Job(options.parameters, flops, options.batch_size, options.shards or 1, options.bytes_per_parameter)
    if options.shards is None:
        proposals = list(propose(job, machine, counts, options.efficiency, options.most_batch))
    else:
        rate = predict(job, machine, 1).examples_per_second
        found = [predict(job, machine, count) for count in counts]
        proposals = [Proposal(one, one.examples_per_second / (one.machines * rate)) for one in found]
    return [
        {"machines": count}
        if one is None
        else {
            **one.prediction._asdict(),
            "efficiency": one.efficiency,
            "two_level_exchange": best_two_level_seconds(job, machine, count),
        }
        for count, one in zip(counts, proposals)
    ]


def numbers_in(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ValueError(f"--machines {text}: expected whole numbers above 0, separated by commas, as in 1,10,100")
    return numbers


def show(rows: list[dict[str, Any]], machine: Machine) -> None:
    print(f"machines of {machine.cores} cores with {machine.gflops:.1f} GFLOP/s each")
    print(
        f"{'machines':>8} {'batch':>9} {'shards':>7} {'step':>10} {'compute':>10} {'exchange':>10} {'driver':>10} "
        f"{'sent':>9} {'k':>3} {'efficiency':>10}  {'two levels':>10}"
    )
    for row in rows:
        if len(row) == 1:
            print(f"{row['machines']:>8} no batch that is allowed has an example for every worker: --most-batch")
            continue
        print(
            f"{row['machines']:>8} {row['batch_size']:>9} {row['shards']:>7} {milliseconds(row['step'])} "
            f"{milliseconds(row['compute'])} {milliseconds(row['exchange'])} {milliseconds(row['driver'])} "
            f"{row['bytes_sent'] / 1e6:>6.1f} MB {row['nodes']:>3} {row['efficiency']:>10.1%}  "
            f"{milliseconds(row['two_level_exchange'])}"
        )
    print("two levels: the exchange of a design that is not built")


def show_seen(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(
        f"{'network':>22} {'batch':>6} {'shards':>6} {'workers':>7} {'nodes':>5} {'predicted':>10} {'clock':>10} "
        f"{'ratio':>6} {'processor':>10} {'ratio':>6}"
    )
    for row in rows:
        seen = [
            f"{milliseconds(seconds)} {seconds / row['predicted']:>6.2f}"
            for seconds in (row["seen"], row["processor"])
            if seconds is not None
        ]
        workers = row["nodes"] or row["num_workers"]
        print(
            f"{row['widths']:>22} {row['batch_size']:>6} {row['shards']:>6} {workers:>7} {row['nodes'] or 1:>5} "
            f"{milliseconds(row['predicted'])} {' '.join(seen)}"
        )


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:>7,.1f} ms"
