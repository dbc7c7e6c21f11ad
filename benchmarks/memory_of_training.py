"""What training takes of a machine's memory, beside the formula: 2 (parameters + buffers + state) + nodes x gradient.

    python -m benchmarks.memory_of_training                  # 10M parameters on 1 and 2 workers; a minute

A page that several processes have mapped counts once, by its proportional set size (proc(5), Linux): added up over the
driver and the workers that is what the machine has given. The arena and the data set are told apart from what is each
process's own by the names and sizes of their mappings. nodes: those that the workers hand on, which others wait for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import at_least_one, parser_of
from benchmarks.report import Report, Rows, figures_of, with_ratios
from benchmarks.rivals import PargradRival, entry_of_pargrad, open_rivals
from benchmarks.tasks import Perceptron, numbers
from pargrad.parallel.arena import Arena, Layout
from pargrad.parallel.shards import all_nodes

MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)$")
MIB = 2**20


def shared_pages(pid: int) -> dict[int, int]:
    """Proportional bytes of this process's mappings of pargrad's memory, by the size of the mapping."""
    found: dict[int, int] = {}
    size, is_ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := MAPPING.match(line):
            size, is_ours = int(mapping[2], 16) - int(mapping[1], 16), mapping[3].startswith("/memfd:pargrad")
        elif is_ours and line.startswith("Pss:"):
            found[size] = found.get(size, 0) + 1024 * int(line.split()[1])
    return found


def proportional(pid: int) -> int:
    """Bytes of a process, of shared pages its part."""
    return 1024 * int(re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])  # type: ignore[index]


def added_up(each: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for found in each:
        for size, pages in found.items():
            total[size] = total.get(size, 0) + pages
    return total


def formula(layout: Layout, workers: int) -> int:
    """Bytes: 2 (parameters + buffers + state) + nodes x gradient."""
    arena = Arena(layout, None)
    halves = sum(
        array.nbytes
        for half in arena.halves
        for array in (*half.parameters.values(), *half.buffers, *(a for states in half.states.values() for a in states))
    )
    gradient = sum(array.nbytes for array in arena.slots[0].values())
    return halves + len(all_nodes(max(workers, 1), layout.shards)) * gradient


def pages(size: int) -> int:
    """A mapping's size."""
    page = os.sysconf("SC_PAGE_SIZE")
    return -(-size // page) * page


def measure(task: Perceptron, workers: int, shards: int) -> Rows:
    """MiB after an epoch, in which every example was read, beside what they should be."""
    name, entry = entry_of_pargrad(workers, shards)
    with open_rivals(task, [name], {name: entry}) as (rival,):
        assert isinstance(rival, PargradRival)
        rival.turn(0)
        pool: Any = rival.trainer.open()
        processes = [os.getpid(), *(peer.pid for peer in pool.members)]
        shared = added_up(map(shared_pages, processes))
        arena = shared.pop(pages(pool.size))
        own = sum(map(proportional, processes)) - arena - sum(shared.values())
        data = sum(array.nbytes for array in rival.data)
        expected = formula(pool.arena.layout, workers)
    counted = {
        "the formula": expected,
        "pargrad, the arena": arena,
        "the data set's arrays": data,
        "pargrad, the data set": sum(shared.values()),
        "pargrad, what each process has for itself": own,
    }
    return {name: figures_of([size / MIB], processes=len(processes)) for name, size in counted.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of("memory_of_training", __doc__, turns=1)
    parser.add_argument(
        "--sizes", type=numbers, default=(784, 2048, 2048, 2048, 10), help="of the layers (%(default)s)"
    )
    parser.add_argument("--examples", type=at_least_one, default=20_000, help="(%(default)s)")
    parser.add_argument("--workers", type=numbers, default=(1, 2), help="(%(default)s)")
    parser.add_argument("--shards", type=at_least_one, default=8, help="(%(default)s)")
    options = parser.parse_args(arguments)

    report = Report("memory_of_training")
    task = Perceptron(examples=options.examples, sizes=options.sizes, batch_size=512)
    for workers in options.workers:
        rows = measure(task, workers, options.shards)
        title = f"{'-'.join(map(str, task.sizes))}, {workers} workers, {options.shards} shards"
        report.add(title, with_ratios(rows, ["the formula", "the data set's arrays"]), "MiB", task=vars(task))
    report.write(options.json)


if __name__ == "__main__":
    main()
