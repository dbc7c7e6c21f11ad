"""Seconds for a few steps of other networks: the CNN and the character GPT of the examples, and an LSTM.

    python -m benchmarks.models                       # all three; some ten minutes on two cores
    python -m benchmarks.models --tasks cnn --only 'torch*,pargrad-workers-0-shards-1'

pargrad with one worker or none, and one shard, is one thread: it stands beside torch on one thread; two workers beside
torch on two, and beside DDP. Dropout draws other masks in each of them, so of a network that has it they first train an
epoch without, which must agree; what is timed has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.command import add_rivals, chooser, epoch_of, parser_of, present, race
from benchmarks.report import TOLERANCE, Report, check_agreement
from benchmarks.rivals import open_rivals
from benchmarks.tasks import Characters, Convolutions, Rows, Task

TASKS: dict[str, Task] = {
    "cnn": Convolutions(examples=640),
    "gpt": Characters(examples=360),
    "lstm": Rows(examples=1280),
}
USUAL = (
    "torch-one-thread", "torch", "torch-ddp", "torch-ddp:one-bucket",
    "pargrad-workers-0-shards-1", "pargrad-workers-2-shards-2", "pargrad-workers-2-shards-8",
)  # fmt: skip
MASKS = 0.2  # how far mean losses may lie apart that are those of other dropout masks


def check_without_dropout(task: Task, names: Sequence[str]) -> float:
    """Raises DisagreementError unless all train the same without dropout; gives the tolerance for what is timed."""
    if not getattr(task, "dropout", False):
        return TOLERANCE
    plain: Any = replace(task, dropout=False, examples=4 * task.batch_size)  # type: ignore[call-arg]
    with open_rivals(plain, names) as rivals:
        check_agreement({rival.name: rival.turn(0) for rival in rivals}, TOLERANCE)
    return MASKS


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("models", __doc__, turns=7)
    parser.add_argument("--tasks", type=chooser(list(TASKS), "task"), default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument(
        "--steps", type=int, help="of an epoch; by default 10 of the CNN, 30 of the GPT, 20 of the LSTM"
    )
    parser.add_argument("--batch-size", type=int, help="another one for all of them")
    add_rivals(parser, USUAL)
    options = parser.parse_args(arguments)

    report, names = Report("models"), present(options.only)
    for name in options.tasks:
        task = scaled(TASKS[name], options)
        tolerance = check_without_dropout(task, names)
        race(report, epoch_of(task), task, names, options.turns, tolerance=tolerance)
    report.write(options.json)


def scaled(task: Task, options: argparse.Namespace) -> Task:
    """The task at another batch size, or with other steps."""
    steps = options.steps or task.examples // task.batch_size
    batch_size = options.batch_size or task.batch_size
    return replace(task, batch_size=batch_size, examples=steps * batch_size)


if __name__ == "__main__":
    main()
