"""`python -m tests.long NAME` runs a proof at its full size; without a name it lists them. The suite runs a tenth."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence

from tests.proofs import Proof, load


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long", description=__doc__)
    parser.add_argument("name", nargs="*", help="which proofs; `all` is every one")
    parser.add_argument("--examples", type=int, help="how many, in place of the proof's own size")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same examples (default 0)")
    options = parser.parse_args(arguments)
    proofs = load()
    if not options.name:
        for proof in proofs.values():
            print(f"{proof.name:<16}{proof.size:>8,}  {(proof.function.__doc__ or '').splitlines()[0]}")
        return 0
    names = list(proofs) if options.name == ["all"] else options.name
    unknown = [name for name in names if name not in proofs]
    if unknown:
        parser.error(f"there is no proof named {unknown[0]!r}: choose from {', '.join(proofs)}")
    # Each is run, whatever the others find.
    return max([run(proofs[name], options.examples or proofs[name].size, options.seed) for name in names])


def run(proof: Proof, examples: int, seed: int) -> int:
    """Runs a proof, prints what it found, and gives 1 if that is something, or if it cannot be run here."""
    if (reason := proof.refusal()) is not None:
        print(f"{proof.name}: {reason}")
        return 1
    print(f"{proof.name}: {examples:,} examples, seed {seed} ...", flush=True)
    start = time.perf_counter()
    try:
        count = proof.function(examples, seed)
    except Exception as error:
        traceback.print_exc(limit=-3, file=sys.stdout)  # with the note of the example that fails
        print(f"{proof.name}: {type(error).__name__} after {time.perf_counter() - start:.1f} s, see above")
        return 1
    print(f"{proof.name}: {count:,} examples in {time.perf_counter() - start:.1f} s, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
