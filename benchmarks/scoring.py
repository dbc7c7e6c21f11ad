"""Seconds to score a test set: pargrad's workers beside torch without gradients, for the MLP and the CNN.

    python -m benchmarks.scoring      # some minutes on two cores

The loss and the number of right answers, over every example once. All must find the same number of right answers, and
have looked at as many examples as there are. torch goes through them in chunks of 512, as pargrad does, and of 2,048:
others are divided by the better of the two.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pargrad
from benchmarks.command import add_rivals, parser_of, present, race
from benchmarks.processes import Place, Turn, in_process
from benchmarks.report import Report
from benchmarks.rivals import Entry, TrainerRival
from benchmarks.tasks import Convolutions, Perceptron, Task
from pargrad.nn import functional as F

TASKS = (Perceptron(examples=60_000), Convolutions(examples=2048, dropout=False))


class PargradRival(TrainerRival):
    """`Trainer.evaluate`."""

    def __init__(self, name: str, task: Task, *, workers: int):
        super().__init__(name, task, workers, task.with_weights(pargrad), F.cross_entropy, None)

    def turn(self, number: int) -> float:
        found = self.trainer.evaluate(self.data)
        return right_answers(found["accuracy"] * found["count"], found["count"], len(self.data[0]))


def right_answers(right: float, seen: int, examples: int) -> float:
    if seen != examples:
        raise ValueError(f"{seen} of {examples} examples were scored")
    return round(right)


@contextlib.contextmanager
def torch_scores(place: Place, task: Task, threads: int, chunk: int) -> Iterator[tuple[Turn, int]]:
    import torch

    if threads:
        torch.set_num_threads(threads)
    model = task.with_weights(torch).eval()
    inputs, labels = (torch.from_numpy(array) for array in task.data())

    @torch.no_grad()
    def turn(number: int) -> float:
        right = seen = 0
        loss = 0.0
        for x, target in zip(inputs.split(chunk), labels.split(chunk)):
            output = model(x)
            loss += task.loss(torch, output, target).item() * len(x)
            right += int((output.argmax(1) == target).sum())
            seen += len(x)
        return right_answers(right, seen, task.examples)

    yield turn, torch.get_num_threads()


RIVALS = {
    "torch": Entry(in_process(torch_scores, 0, 512)),
    "torch:chunks-of-2048": Entry(in_process(torch_scores, 0, 2048)),
    "torch-one-thread": Entry(in_process(torch_scores, 1, 512)),
    **{f"pargrad-workers-{n}": Entry(functools.partial(PargradRival, workers=n), n) for n in (0, 1, 2)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("scoring", __doc__, turns=15)
    parser.add_argument("--examples", type=int, help="another number of them")
    add_rivals(parser, tuple(RIVALS), tuple(RIVALS))
    options = parser.parse_args(arguments)

    report, names = Report("scoring"), present(options.only)
    for task in TASKS:
        task = replace(task, examples=options.examples or task.examples)
        title = f"scoring {task.examples:,} examples: {task.title.partition(',')[0]}"
        race(report, title, task, names, options.turns, table=RIVALS, tolerance=0.0)
    report.write(options.json)


if __name__ == "__main__":
    main()
