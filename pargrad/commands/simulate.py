"""`pargrad simulate`: the driver's own decisions against simulated machines that fail, hours in seconds."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from pargrad.parallel.simulation import Conditions

HELP = "run the driver against simulated machines that fail"
EXAMPLES = """\
  pargrad simulate                                       1,000 machines for 24 hours, each failing once a day
  pargrad simulate --detect 30 --max-failures 3          failures that are noticed late
  pargrad simulate --slow 0.001                          one machine in a thousand computes half as fast\
"""
EXIT_ENDED = 4


@dataclass(frozen=True)
class Options(Conditions):
    """Run the driver's decisions against simulated machines; the exit code is 4 where too many failures end the run.

    Args:
        machines: how many there are
        hours: of simulated time
        failures_per_day: of one machine, on average
        detect: seconds until the driver learns of a failure
        repair: seconds from then until another machine is there
        max_failures: so many in a row without a completed step are allowed
        least: machines to go on with
        slow: the share of machines that are slow
        slow_factor: how many times as long these compute
        seed: of the failures
        parameters: of the model
        flops_per_example: forward and backward; by default 6 a parameter
        batch_size: examples of one optimizer step
        shards: pieces of a batch, a power of two
        machine: a JSON file of a machine's numbers, as pargrad plan --measure writes it
        json: print JSON
    """

    parameters: int = 10_000_000
    flops_per_example: float | None = None
    batch_size: int = 262_144
    shards: int = 16_384
    machine: str | None = None
    json: bool = False


def run(options: Options) -> int:
    from pargrad.parallel.calibration import load_machine
    from pargrad.parallel.plan import Job
    from pargrad.parallel.simulation import Scenario, expected_ends, expected_goodput, simulate

    flops = 6.0 * options.parameters if options.flops_per_example is None else options.flops_per_example
    job = Job(options.parameters, flops, options.batch_size, options.shards)
    conditions = {field.name: getattr(options, field.name) for field in fields(Conditions)}
    scenario = Scenario(**conditions, job=job, machine=load_machine(options.machine))
    report = simulate(scenario)
    expected = {"goodput": expected_goodput(scenario), "ends": expected_ends(scenario)}
    if options.json:
        print(json.dumps({**report._asdict(), "step": scenario.step(options.machines), "expected": expected}, indent=2))
        return EXIT_ENDED if report.ended else 0
    print(f"{options.machines} machines, {report.hours:.1f} hours, a step {scenario.step(options.machines):.2f} s")
    without = " without slow machines" * bool(options.slow)
    print(
        f"goodput      {report.goodput:.2%}, by the closed form{without} {expected['goodput']:.2%}; "
        f"{report.steps:,} steps"
    )
    print(f"failures     {report.failures:,}; {report.joined:,} machines joined, {report.fewest} were the fewest")
    print(f"recomputed   {report.recomputed / 3600:,.1f} machine-hours, {report.recomputed_share:.2%} of the work")
    print(f"driver       {report.messages:,} messages, {report.driver_load:.1%} of its time")
    print(f"max_failures {options.max_failures}, which ends {expected['ends']:.3g} runs of such a length on average")
    if report.ended:
        print(f"ended after {report.hours:.2f} hours: {report.ended}")
    return EXIT_ENDED if report.ended else 0
