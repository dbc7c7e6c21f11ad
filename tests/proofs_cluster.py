"""A long proof about nodes of a cluster that are killed, and others that join."""

import random

from tests.cluster import ThreeNodes, add_node, after, kill_node, nodes, serial, trainer_of, wait_for_workers, warned
from tests.proofs import proof
from tests.training import bits, examples

STEPS = 40  # of a fit in which a node is killed, or another one joins, at the most


def kill_and_join(times, seed):
    """In the cluster's process: so many nodes are killed, each in the middle of steps, and as many join in others."""
    generator = random.Random(seed)
    with trainer_of((1, 3), max_failures=100) as trainer, warned():
        pool = trainer.open()
        pool.wait_for(3)
        for _ in range(times):
            victim = nodes.pop(generator.randrange(1, len(nodes)))
            moment = trainer.steps + generator.randrange(1, STEPS)
            with after(pool, moment, lambda victim=victim: kill_node(victim)):
                trainer.fit(examples(), max_steps=STEPS)
            trainer.fit(examples(), max_steps=generator.randrange(1, STEPS))
            add_node()  # its processes live as long as the thread that starts them: this one
            wait_for_workers(pool, 3, lambda: trainer.fit(examples(), max_steps=generator.randrange(1, STEPS)))
    return bits(trainer), trainer.steps, pool.failures_in_all


@proof(10)
def cluster(examples, seed):
    """Nodes of a cluster of three killed, and others joined, in the middle of random steps: the bits of one process."""
    three = ThreeNodes((1, 1, 1))
    try:
        state, steps, failures = three.call(kill_and_join, examples, seed)
    finally:
        three.close()
    assert failures >= examples, f"{examples} nodes were killed, and {failures} were missed"
    assert state == serial(steps)[0], f"other bits after {steps} steps"
    return examples
