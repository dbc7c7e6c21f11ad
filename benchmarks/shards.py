"""What the same bits for any number of workers cost: a step with as many shards as workers, with 8, and with 32.

    python -m benchmarks.shards       # the three sizes of mnist_mlp; some two minutes on two cores

As many shards as workers is what others compute: its bits change with the number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.command import chooser, epoch_of, parser_of, race
from benchmarks.mnist_mlp import PRESETS
from benchmarks.report import Report

SHARDS = [f"pargrad-workers-2-shards-{shards}" for shards in (2, 8, 32)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("shards", __doc__, turns=7)
    parser.add_argument(
        "--preset", type=chooser(list(PRESETS), "preset"), default=list(PRESETS), help=", ".join(PRESETS)
    )
    parser.add_argument("--examples", type=int, default=60_000, help="(%(default)s)")
    options = parser.parse_args(arguments)

    report = Report("shards")
    for preset in options.preset:
        task = replace(PRESETS[preset], examples=options.examples)
        race(report, epoch_of(task), task, SHARDS, options.turns, yardsticks=SHARDS[:1])
    report.write(options.json)


if __name__ == "__main__":
    main()
