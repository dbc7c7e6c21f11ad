"""What the engine costs beside torch, HIPS autograd and MyGrad, one thread each: seconds, and the peak of memory.

    pip install ".[test,bench]"
    python -m benchmarks.engine --save before             # a minute; prints one table
    python -m benchmarks.engine --only 'chain,mlp*'       # some rows
    python -m benchmarks.compare before after             # one table of two runs

Every row is first checked: the libraries must find the same values and gradients. Then they take turns, so that what
else the machine does hits all alike. pytest-benchmark keeps the figures; its own timing runs one test after the other,
so it is given a clock that shows what was measured here.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from benchmarks import compare, memory
from benchmarks.engine_rows import ALL, ROWS, Row
from benchmarks.libraries import LIBRARIES, installed, version
from benchmarks.report import DisagreementError, facts

TOLERANCE = 1e-4  # of the largest element: float32 and another order of additions give 1e-5 at most
SHORTEST = 0.002  # seconds: quicker steps are repeated until a turn takes as long
MEMORY = "memory"
MEMORY_TITLE = f"peak of a step, MLP of 50 layers, width {memory.FULL['sizes'][0]}, batch {memory.FULL['batch']}"
NAMES = (*ROWS, MEMORY)


# ----- agreement and turns -----


def check_agreement(row: str, found: dict[str, list[np.ndarray]]) -> None:
    """Raises DisagreementError unless all libraries found arrays of the same shapes and, to rounding, elements."""
    (one, expected), *others = found.items()
    for other, got in others:
        shapes = [x.shape for x in got], [x.shape for x in expected]
        if shapes[0] != shapes[1]:
            raise DisagreementError(f"{row}: {other} found arrays of shapes {shapes[0]}, {one} of {shapes[1]}")
        for place, (x, y) in enumerate(zip(got, expected)):
            apart, size = np.max(np.abs(x - y), initial=0), np.max(np.abs(y), initial=0)
            if not apart <= TOLERANCE * size < np.inf:
                raise DisagreementError(
                    f"{row}: {other} and {one} do not compute the same: array {place} of {len(got)} differs by "
                    f"{apart:.3g}, where its largest element is {size:.3g}"
                )


def turns(steps: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, all of them taking turns.

    Of the processor's time: with one thread it is what a clock shows on a machine that has nothing else to do.
    """
    repeats = {}
    for name, step in steps.items():
        start = time.process_time()
        step()
        repeats[name] = max(1, round(SHORTEST / (time.process_time() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    gc.collect()
    gc.freeze()  # or the collector walks what the other libraries have loaded, too
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(repeats[name]):
                step()
            seconds[name].append((time.process_time() - start) / repeats[name])
    gc.unfreeze()
    return seconds


@functools.cache
def library(name: str) -> Any:
    return LIBRARIES[name]()


def measure(row: Row, rounds: int, tiny: bool = False) -> dict[str, list[float]]:
    """Seconds of a row's step in each library that is installed and can take it."""
    names = [name for name in row.libraries if name in installed()]
    problem = row.draw(tiny)
    with threadpool_limits(1):
        steps = {name: getattr(library(name), row.step)(*problem) for name in names}
        check_agreement(row.name, {name: library(name).arrays(step()) for name, step in steps.items()})
        return turns(steps, rounds)


@functools.cache  # the first library's test measures for all of them
def measured(name: str, rounds: int, tiny: bool) -> dict[str, list[float]]:
    if name != MEMORY:
        return measure(ROWS[name], rounds, tiny)
    return {each: [memory.peak(each, tiny) / 2**20 for _ in range(min(rounds, 3))] for each in installed()}


# ----- what pytest sees -----


class Clock:
    """A timer for pytest-benchmark which goes on, with each call of `advance`, by the next of the figures."""

    def __init__(self) -> None:
        self.now = 0.0
        self.figures: Iterator[float] = iter(())

    def advance(self) -> None:
        self.now += next(self.figures)

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    patterns = metafunc.config.getoption("--only").split(",")
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in NAMES):
            raise pytest.UsageError(f"--only: no row is called {pattern}; there are {', '.join(NAMES)}")
    names = [name for name in NAMES if any(fnmatch(name, pattern) for pattern in patterns)]
    pairs = [
        (name, each)
        for name, each in itertools.product(names, installed())
        if each in (ALL if name == MEMORY else ROWS[name].libraries)
    ]
    metafunc.parametrize(("name", "library_name"), pairs)


@pytest.mark.benchmark(timer=CLOCK)
def test_engine(name: str, library_name: str, benchmark: Any, request: pytest.FixtureRequest) -> None:
    option = request.config.getoption
    figures = measured(name, option("--rounds"), option("--tiny"))[library_name]
    benchmark.group = MEMORY_TITLE if name == MEMORY else ROWS[name].title
    benchmark.extra_info |= {"row": name, "library": library_name, "version": version(library_name)}
    benchmark.extra_info |= {"unit": "MiB" if name == MEMORY else "s", "load": os.getloadavg()[0]}
    CLOCK.figures = iter(figures)
    benchmark.pedantic(CLOCK.advance, rounds=len(figures))


# ----- the command -----


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each library takes its turn (%(default)s)")
    parser.add_argument(
        "--tiny", action="store_true", help="small sizes, done in seconds, from which nothing is learned"
    )
    parser.add_argument("--only", default="*", help=f"names or patterns, of {', '.join(NAMES)}")
    parser.add_argument("--save", metavar="NAME", help="keeps the figures, for `python -m benchmarks.compare`")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"argument --rounds: expected at least 1, got {options.rounds}")
    if importlib.util.find_spec("pytest_benchmark") is None:
        print('this benchmark needs pytest-benchmark: pip install ".[test,bench]"', file=sys.stderr)
        return 2

    print(", ".join(f"{name} {value}" for name, value in facts().items()))
    with tempfile.TemporaryDirectory() as folder:
        path = compare.path_of(options.save) if options.save else Path(folder) / "figures.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = ["-x", "-q", "--no-header", "--tb=short", "--benchmark-quiet", "-p", "no:cacheprovider",
                    "-p", "no:xdist", "-o", "addopts=", "-o", "timeout=0", f"--benchmark-json={path}"]  # fmt: skip
        chosen = [f"--rounds={options.rounds}", f"--only={options.only}", *(["--tiny"] if options.tiny else [])]
        code = pytest.main([str(Path(__file__)), *settings, *chosen])
        if code == pytest.ExitCode.OK:
            print(compare.table(compare.load(path)))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
