"""`pargrad doctor`: says whether this machine, and a cluster, can train, and what to change."""

from __future__ import annotations

import json
from dataclasses import dataclass

HELP = "say what is there to train with, and what to change"
EXAMPLES = """\
  pargrad doctor                                         this machine
  pargrad doctor --address 10.0.0.1:6379                 a Ray cluster, too
  pargrad doctor --run-dir /mnt/runs --json              as JSON, one object a finding\
"""
EXIT_CANNOT_TRAIN = 3


@dataclass
class Options:
    """Say what is there to train with, and what to change; the exit code is 0 where it can train, else 3.

    Args:
        address: a Ray cluster to look at, auto or HOST:PORT; by default none is joined
        run_dir: where checkpoints are to be written; by default the current directory
        json: print a list of JSON objects with name, level (ok, warning, error), text and advice
    """

    address: str | None = None
    run_dir: str | None = None
    json: bool = False


def run(options: Options) -> int:
    from pargrad.parallel.doctor import examine

    findings = []
    for finding in examine(options.address, options.run_dir):
        findings.append(finding)
        if not options.json:
            print(f"{finding.level:8}{finding.name}: {finding.text}", flush=True)
            if finding.advice:
                print(f"{'':8}  {finding.advice}", flush=True)
    if options.json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
    errors = [finding.name for finding in findings if finding.level == "error"]
    if not options.json:
        print(f"cannot train: {', '.join(errors)}" if errors else "can train", flush=True)
    return EXIT_CANNOT_TRAIN if errors else 0
