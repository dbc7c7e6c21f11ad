"""Long proofs about workers that die."""

import random
import warnings
from collections import Counter
from statistics import median

from pargrad.parallel.chaos import PHASES, Killer
from tests.proofs import proof
from tests.training import bits, make_trainer
from tests.training import examples as data

WAY, STEPS, KILLS_A_RUN = "branching", 400, 10
MOMENTS = [*PHASES, "start"]


def undisturbed():
    with make_trainer(WAY, 0) as trainer:
        history = trainer.fit(data(), max_steps=STEPS)
    return bits(trainer), [(entry["loss"], entry["steps"]) for entry in history]


def disturbed(kills, moments, generator):
    """A run with this many kills, the moments at which they hit, and the seconds that they took."""
    workers = generator.randint(2, 4)
    steps = sorted(generator.sample(range(2, STEPS - 50), kills))
    with make_trainer(WAY, workers, max_failures=1000) as trainer:
        pool = trainer.open()
        schedule = [(at, generator.randrange(workers), moment) for at, moment in zip(steps, moments)]
        with Killer(pool, schedule) as killer:
            history = trainer.fit(data(), max_steps=STEPS)
    losses = [(entry["loss"], entry["steps"]) for entry in history]
    return bits(trainer), losses, [kill.phase for kill in killer.killed], killer.recoveries


@proof(200)
def kills(examples, seed):
    """Workers killed in every phase of a step and while starting, 2 to 4 of them: no bit and no loss is another."""
    import ray

    generator, own = random.Random(seed), not ray.is_initialized()
    if own:
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            counts, recoveries = Counter(), []
            expected = undisturbed()
            while counts.total() < examples:
                # The moments that were hit least come first; nobody starts before the first one is killed.
                least = sorted(MOMENTS, key=lambda moment: (moment == "start", counts[moment]))
                moments = [least[i % len(least)] for i in range(min(KILLS_A_RUN, examples - counts.total()))]
                state, losses, hit, seconds = disturbed(len(moments), moments, generator)
                assert state == expected[0], f"other bits after kills in {hit}"
                assert losses == expected[1], f"other losses after kills in {hit}"
                counts.update(hit)
                recoveries += seconds
                assert hit, "nobody was killed"
    finally:
        if own:
            ray.shutdown()
    print(f"kills: {dict(counts)}")
    print(f"kills: {len(recoveries)} taken over in {median(recoveries):.3f} s, the worst in {max(recoveries):.3f} s")
    return counts.total()
