"""Seconds per epoch of a small network on MNIST-shaped data: pargrad, numpy by hand, torch and torch's DDP, in one run.

All of it takes one to two minutes on two cores; some of it less:

    python -m benchmarks.mnist_mlp --epochs 5 --only 'numpy,torch*,pargrad-workers-2-*' --json seconds.json
"""

import argparse
import json
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.report import contest, facts, summary, table
from benchmarks.rivals import RIVALS, Task, open_rivals


def chosen(patterns: str) -> list[str]:
    """The names of RIVALS that match any of the patterns, in the order of the table."""
    names = [name for name in RIVALS if any(fnmatch(name, pattern) for pattern in patterns.split(","))]
    for pattern in patterns.split(","):
        if not any(fnmatch(name, pattern) for name in names):
            raise argparse.ArgumentTypeError(f"no rival is called {pattern}; there are {', '.join(RIVALS)}")
    return names


def sizes(text: str) -> tuple[int, ...]:
    """`784,128,64,10` as a tuple."""
    return tuple(int(size) for size in text.split(","))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mnist_mlp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5, help="timed ones, after one to warm up (%(default)s)")
    parser.add_argument("--examples", type=int, default=Task.examples, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=Task.batch_size, help="(%(default)s)")
    parser.add_argument("--sizes", type=sizes, default=Task.sizes, help="of the layers (%(default)s)")
    parser.add_argument("--only", type=chosen, default=list(RIVALS), help=f"names or patterns, of {', '.join(RIVALS)}")
    parser.add_argument("--json", type=Path, help="a file for everything that was measured")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"argument --epochs: expected at least 1, got {options.epochs}")

    task = Task(examples=options.examples, sizes=options.sizes, batch_size=options.batch_size)
    about = {"task": vars(task), "facts": facts()}
    with open_rivals(task, options.only) as rivals:
        rows = summary(rivals, *contest(rivals, options.epochs))
    print(f"{task.examples} examples, batch size {task.batch_size}, layers {'-'.join(map(str, task.sizes))}")
    print(", ".join(f"{name} {value}" for name, value in about["facts"].items()))
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({**about, "rivals": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
