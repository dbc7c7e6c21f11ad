"""Each example beside its PyTorch twin: both are run, and their figures printed side by side.

python -m examples.compare [NAME ...] [--seeds N] [--OPTION VALUE ...]

Other options are those of the scripts: `python -m examples.compare mnist --seeds 5 --data-dir DIR --epochs 1`.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from typing import Any

from examples import number_or_word

PAIRS = ("mlp", "losses", "unit_vector", "mnist", "cnn", "char_gpt", "regression", "custom_loop")
OPTIONS = {  # the figures are the same for every number of workers
    "mnist": {"num_workers": 0, "every": 1},
    "cnn": {"num_workers": 0},
    "regression": {"num_workers": 0},
}
# By how much losses may differ, relative, and accuracies, absolute. Rounding grows with every step, and decides for
# examples on the border; a mistake is larger at once.
LOSS, ACCURACY = 1e-4, 0.003
MEAN_ACCURACY = 0.001  # over several seeds
ROUGH = {"cnn": (0.1, 0.02)}  # the Trainer's dropout masks are not those of torch's loop

RUN = """
import importlib, json, sys
figures = importlib.import_module(sys.argv[1]).main(**json.loads(sys.argv[2]))
print(json.dumps(figures))
"""


def figures_of(module: str, options: dict[str, Any]) -> dict[str, float]:
    """What an example's main() returns, in a process of its own."""
    command = [sys.executable, "-c", RUN, module, json.dumps(options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # such small matrices need no more
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode:
        raise RuntimeError(f"{module} ended with exit code {result.returncode}:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def difference(name: str, one: float, other: float) -> float:
    """Of two figures, relative but for accuracies; infinite where one of them is no number."""
    apart = 0.0 if one == other else abs(one - other)
    if "accuracy" not in name and apart:
        apart /= max(abs(one), abs(other))
    return math.inf if math.isnan(apart) else apart


def differences(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """The difference of each figure; infinite where one side lacks it."""
    return {name: difference(name, ours.get(name, math.nan), theirs.get(name, math.nan)) for name in ours | theirs}


def allowed(pair: str, figure: str) -> float:
    loss, accuracy = ROUGH.get(pair, (LOSS, ACCURACY))
    return accuracy if "accuracy" in figure else loss


def too_far(pair: str, apart: dict[str, float]) -> list[str]:
    """The figures that differ by more than they may."""
    return [figure for figure, difference in apart.items() if difference > allowed(pair, figure)]


def is_shown(figure: str) -> bool:
    """Of the losses at single steps, the first and every fifth."""
    _, at, step = figure.rpartition(" at step ")
    return not at or step == "1" or int(step) % 5 == 0


def compare(pair: str, options: dict[str, Any]) -> tuple[bool, dict[str, float], dict[str, float]]:
    """Runs a pair and prints its figures; whether they agree, ours and theirs."""
    options = OPTIONS.get(pair, {}) | options
    ours, theirs = figures_of(f"examples.{pair}", options), figures_of(f"examples.pytorch.{pair}", options)
    apart = differences(ours, theirs)
    title = f"{pair}, seed {options['seed']}"
    width = max(map(len, [title, *apart]))
    print(f"{title:{width + 2}}   {'pargrad':>12}   {'torch':>12}   difference")
    for figure in filter(is_shown, apart):
        one, other = ours.get(figure, math.nan), theirs.get(figure, math.nan)
        print(f"  {figure:{width}}   {one:12.8f}   {other:12.8f}   {apart[figure]:10.1e}")
    wrong = too_far(pair, apart)
    print(f"  largest difference of {len(apart)} figures {max(apart.values()):.1e}")
    print(f"  too far apart: {', '.join(wrong)}\n" if wrong else "")
    return not wrong, ours, theirs


def compare_seeds(pair: str, seeds: int, options: dict[str, Any]) -> bool:
    """Runs a pair from every seed; the means of accuracies must be closer than each."""
    agree, ours, theirs = zip(*(compare(pair, {"seed": seed} | options) for seed in range(seeds)))
    right = all(agree)
    for figure in ours[0] if seeds > 1 else ():
        if "accuracy" in figure:
            one, other = (sum(figures[figure] for figures in side) / seeds for side in (ours, theirs))
            right &= abs(one - other) <= ROUGH.get(pair, (LOSS, MEAN_ACCURACY))[1]
            print(f"{pair}, mean {figure} over {seeds} seeds: {one:.3%} and {other:.3%}\n")
    return right


def main(arguments: list[str]) -> int:
    words, names, options = iter(arguments), [], {}
    for word in words:
        if word.startswith("--"):
            options[word[2:].replace("-", "_")] = number_or_word(next(words, ""))
        else:
            names.append(word)
    unknown = set(names) - set(PAIRS)
    if unknown:
        print(f"there is no pair called {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}", file=sys.stderr)
        return 2
    if importlib.util.find_spec("torch") is None:
        print("the twins in examples/pytorch need torch, which is not installed: pip install torch", file=sys.stderr)
        return 2
    seeds = options.pop("seeds", 1)
    wrong = [name for name in names or PAIRS if not compare_seeds(name, seeds, options)]
    print(f"these do not agree: {', '.join(wrong)}" if wrong else "all agree")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
