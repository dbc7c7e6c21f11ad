"""Long proofs: what holds for thousands of random examples. `python -m tests.long` runs them whole, the suite a tenth.

    @proof(10_000)
    def broadcasting(examples, seed):
        \"\"\"What it proves, in one line.\"\"\"
        return hold(check, cases(), examples, seed)

A proof runs as many examples as it is told, the same ones for the same seed, and says how many there were; it raises
what it found. Modules named `proofs_*.py` have them, `proofs_*_torch.py` those that need torch.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

PROOFS: dict[str, "Proof"] = {}


class Proof(NamedTuple):
    """function(examples, seed) runs that many examples; size: how many make the proof.

    refusal() says why this system cannot run it, and gives None where it can.
    """

    name: str
    function: Callable[[int, int], int]
    size: int
    refusal: Callable[[], str | None]


def proof(size: int, refusal: Callable[[], str | None] = lambda: None) -> Callable[[Callable], Callable]:
    """Enters a function into PROOFS under its own name."""

    def enter(function):
        name = function.__name__
        if name in PROOFS:
            raise ValueError(f"two proofs are named {name!r}")
        if not function.__doc__:
            raise ValueError(f"proof {name!r} does not say what it proves: give it a docstring")
        PROOFS[name] = Proof(name, function, size, refusal)
        return function

    return enter


def load() -> dict[str, Proof]:
    """All proofs that can be run here, by name."""
    has_torch = importlib.util.find_spec("torch") is not None
    for path in sorted(Path(__file__).parent.glob("proofs_*.py")):
        if has_torch or not path.stem.endswith("_torch"):
            importlib.import_module(f"tests.{path.stem}")
    return PROOFS


def hold(check: Callable, strategy, examples: int, seed: int) -> int:
    """Runs `check` on what hypothesis draws; a failure is raised on the least example that fails, with a note of it.

    Says how many examples there were; one is left out where `check` returns False: it then proves nothing.
    """
    count = 0

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def holds(case):
        nonlocal count
        count += check(case) is not False

    holds()
    return count
