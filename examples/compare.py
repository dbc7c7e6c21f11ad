"""Each example beside its PyTorch twin: both are run, and their figures printed side by side.

python -m examples.compare [NAME ...]
"""

import importlib.util
import json
import math
import subprocess
import sys

PAIRS = ("mlp", "losses", "unit_vector", "mnist")
TOLERANCE = 1e-4  # relative: rounding grows with every step, a mistake is larger at once
ARGUMENTS = {"examples.mnist": {"num_workers": 0}}  # its figures are the same for every number of workers

RUN = """
import importlib, json, sys
figures = importlib.import_module(sys.argv[1]).main(**json.loads(sys.argv[2]))
print(json.dumps(figures))
"""


def figures_of(module: str) -> dict[str, float]:
    """What an example's main() returns, in a process of its own."""
    command = [sys.executable, "-c", RUN, module, json.dumps(ARGUMENTS.get(module, {}))]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{module} ended with exit code {result.returncode}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def differences(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """The relative difference of each figure; infinite where one side lacks it or has no number."""

    def difference(name: str) -> float:
        one, other = ours.get(name, math.nan), theirs.get(name, math.nan)
        apart = 0.0 if one == other else abs(one - other) / max(abs(one), abs(other))
        return math.inf if math.isnan(apart) else apart

    return {name: difference(name) for name in ours | theirs}


def compare(name: str) -> float:
    """Runs a pair, prints its figures, and gives the largest relative difference."""
    ours, theirs = figures_of(f"examples.{name}"), figures_of(f"examples.pytorch.{name}")
    apart = differences(ours, theirs)
    width = max(map(len, apart))
    print(f"{name:{width + 2}}   {'pargrad':>12}   {'torch':>12}   difference")
    for each, difference in apart.items():
        one, other = ours.get(each, math.nan), theirs.get(each, math.nan)
        print(f"  {each:{width}}   {one:12.8f}   {other:12.8f}   {difference:10.1e}")
    worst = max(apart.values())
    print(f"  largest relative difference {worst:.1e}\n")
    return worst


def main(names: list[str]) -> int:
    unknown = set(names) - set(PAIRS)
    if unknown:
        print(f"there is no pair called {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}", file=sys.stderr)
        return 2
    if importlib.util.find_spec("torch") is None:
        print("the twins in examples/pytorch need torch, which is not installed: pip install torch", file=sys.stderr)
        return 2
    worst = {name: compare(name) for name in names or PAIRS}
    wrong = [name for name, difference in worst.items() if difference > TOLERANCE]
    print(f"these differ by more than {TOLERANCE:g}: {', '.join(wrong)}" if wrong else f"all agree to {TOLERANCE:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
