"""A long proof that a run takes nothing more the longer it is: memory, object store and descriptors."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.proofs import proof
from tests.training import examples, make_trainer

WORKERS, EVERY = 2, 500
COUNT = 20_000  # examples: an entry of the history is kept for each epoch, and is no leak
SETTLED = 2_000  # steps after which everything is there that ever will be
MOST = 2 << 20  # bytes
RAYS_OWN = 1  # descriptors that a process may have more: Ray opens one connection when it likes


class Held(NamedTuple):
    """What a run holds: resident bytes and descriptors of each process, and bytes in Ray's object store."""

    resident: list[int]
    descriptors: list[int]
    stored: float


def resident(pid):
    """Bytes of a process's own memory: what it shares with others is counted where it was made."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return 1024 * sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


def held(pool):
    import ray

    processes = [os.getpid(), *(peer.pid for peer in pool.members)]
    stored = ray.cluster_resources()["object_store_memory"] - ray.available_resources()["object_store_memory"]
    return Held([resident(pid) for pid in processes], [len(os.listdir(f"/proc/{pid}/fd")) for pid in processes], stored)


def drive(steps):
    """A run with checkpoints; prints what is held after SETTLED steps, or a half of them, and at the end."""
    with tempfile.TemporaryDirectory() as root:
        options = {"run_dir": root, "checkpoint_steps": EVERY}
        with make_trainer("branching", WORKERS, **options) as trainer:
            pool, data = trainer.open(), examples(COUNT)
            while len(pool.members) < WORKERS:
                trainer.fit(data, max_steps=10)
            trainer.fit(data, max_steps=min(SETTLED, steps // 2) - trainer.steps % SETTLED)
            time.sleep(3)  # Ray opens some descriptors for a moment
            before = held(pool)
            trainer.fit(data, max_steps=steps - trainer.steps)
            deadline = time.monotonic() + 10
            while max(held(pool).descriptors) > max(before.descriptors) and time.monotonic() < deadline:
                time.sleep(0.2)
            return before, held(pool)


@proof(20_000)
def leaks(examples, seed):
    """Memory within 2 MB, descriptors and object store as they were at step 2,000: two workers, with checkpoints."""
    # In a process of its own: what other tests hold is none of this run's.
    command = [sys.executable, "-m", "tests.proofs_leaks", str(examples)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())
    return examples


def main(steps):
    before, after = drive(steps)
    grown = [late - early for early, late in zip(before.resident, after.resident)]
    print(f"driver and workers grew by {', '.join(f'{each / 2**20:+.2f} MB' for each in grown)}")
    print(
        f"descriptors {before.descriptors} then {after.descriptors}; stored {after.stored - before.stored:+.0f} bytes"
    )
    assert max(grown) <= MOST, f"resident bytes: {before.resident} then {after.resident}"
    more = [late - early for early, late in zip(before.descriptors, after.descriptors)]
    assert max(more) <= RAYS_OWN, f"descriptors: {before.descriptors} then {after.descriptors}"
    assert after.stored == before.stored


if __name__ == "__main__":
    main(int(sys.argv[1]))
