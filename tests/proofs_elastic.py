"""A long proof about steps on workers that come, die and stop at any line: nobody can tell from what they come to."""

import itertools
import math
import warnings
from collections import Counter, deque
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from hypothesis import strategies as st

import pargrad as pg
import pargrad.nn.functional as F
from pargrad.data import ArrayData, epoch_order
from pargrad.parallel import NonFiniteError, arena
from pargrad.parallel.cores import one_blas_thread
from pargrad.parallel.objective import Objective
from pargrad.parallel.pool import GRADIENT, IDLE, REDUCE, UPDATE, SerialPool
from pargrad.parallel.step import Step, Work, make_layout
from pargrad.parallel.workers import Workers
from tests.proofs import hold, proof
from tests.simulated_pool import PHASES, START, Fault, Plan, SimulatedPool
from tests.training import POISONS, WAYS, Poisoned, adamw, examples, poison

BLOCK = 128  # elements: small parameters then have several blocks
MOST_STEPS, MOST_WORKERS = 8, 5
SEED = 3


class NoisyData(ArrayData):
    """A data set that draws random numbers, and which workers are sent as an object."""

    def batch(self, indices, generator):
        x, y = super().batch(indices, generator)
        return x + np.float32(0.1) * pg.randn(*x.shape, generator=generator).array, y


# Models of which some examples make something that is not finite.
POISONED = {
    "poisoned": (Poisoned, adamw, F.cross_entropy, {}),
    "poisoned-and-clipped": (Poisoned, adamw, F.cross_entropy, {"clip_norm": 0.5}),
}
MODELS = WAYS | POISONED


class Case(NamedTuple):
    """A run. pieces: after how many results the driver turns away and begins another `run`.

    poisons: (example, kind) of those that are not finite, in the ways that know them.
    """

    way: str
    shards: int
    batch_size: int
    examples: int
    noisy: bool
    workers: Workers
    pieces: tuple[int, ...]
    plan: Plan
    norms: bool = False
    non_finite: str = "stop"
    poisons: tuple[tuple[int, str], ...] = ()


@st.composite
def faults(draw):
    phase = draw(st.sampled_from([GRADIENT, UPDATE, REDUCE, IDLE, START]))
    most = 8 if phase in (IDLE, START) else draw(st.sampled_from([150, 20, 600]))
    return Fault(
        worker=draw(st.integers(0, 6)),
        steps=draw(st.integers(0, 4)),
        phase=phase,
        lines=draw(st.integers(0, most)),
        losses=draw(st.sampled_from([0, 0, 1])),
        stops=phase != START and draw(st.integers(0, 4)) == 4,
    )


@st.composite
def cases(draw):
    shards = draw(st.sampled_from([8, 4, 2, 1]))
    most = draw(st.integers(1, min(shards, MOST_WORKERS)))
    first = draw(st.integers(1, most))
    batch_size = draw(st.integers(1, 24))
    plan = Plan(
        seed=draw(st.integers(0, 1000)),
        turn=draw(st.sampled_from([20, 200, 2000])),
        seconds=draw(st.sampled_from([1.0, 0.02, 0.002])),
        faults=tuple(draw(st.lists(faults(), max_size=5, unique_by=lambda fault: fault.worker))),
        delays=tuple(draw(st.lists(st.integers(0, 8), max_size=8))),
        helps=draw(st.integers(0, 3)) == 3,
    )
    ways = [*(way for way in WAYS if way != "blocks"), *2 * list(POISONED)]
    length = draw(st.integers(batch_size, 4 * batch_size))
    poison = st.tuples(st.integers(0, length - 1), st.sampled_from(list(POISONS)))
    return Case(
        way=draw(st.sampled_from(ways)),
        shards=shards,
        batch_size=batch_size,
        examples=length,
        noisy=draw(st.booleans()),
        workers=Workers(first, draw(st.integers(1, first)), most),
        pieces=tuple(draw(st.lists(st.integers(0, 3), max_size=2))),
        plan=plan,
        norms=draw(st.booleans()),
        non_finite=draw(st.sampled_from(["skip", "skip", "stop", "allow"])),
        poisons=tuple(draw(st.lists(poison, min_size=1, max_size=3))),
    )


class Outcome(NamedTuple):
    """What a run came to; error: what ended it early."""

    results: list
    completed: int
    error: str | None


def half_after(pool, steps):
    """All of what is current after so many steps."""
    layout, half = pool.arena.layout, pool.arena.halves[steps % 2]
    # What lies between two parameters is nobody's, and an update that takes both in one run may write there.
    flat = [
        array[offset : offset + math.prod(spec.shape)]
        for spec, offset in zip(layout.parameters, layout.offsets)
        for array in (half.parameters[spec.dtype], *half.states[spec.dtype])
    ]
    arrays = (*flat, *half.buffers, half.steps)
    # A nan is a nan: which of a processor's it is depends on the place in a vector where it arose.
    return [np.where(np.isnan(array), np.array(np.nan, array.dtype), array).tobytes() if array.dtype.kind == "f"
            else array.tobytes() for array in arrays]  # fmt: skip


def opened(case, pool):
    """The pool, opened on a fresh model and filled with its values."""
    model_of, optimizer_of, loss, options = MODELS[case.way]
    pg.manual_seed(1)
    model = model_of()
    optimizer, penalty = optimizer_of(model), options.get("penalty")
    layout = make_layout(model, optimizer, case.shards, penalty)
    arrays = [[tensor.array for tensor in tensors] for tensors in (model.parameters(), model.buffers())]
    work = Work(model, Objective(loss), penalty, type(optimizer), layout, SEED, non_finite=case.non_finite)
    pool.open(work._replace(norms=case.norms and "clip_norm" not in options))
    pool.fill(arrays[0], [], [0] * len(arrays[0]), arrays[1])
    return optimizer


def steps_of(case, optimizer):
    """Epochs of batches, the last of each as short as it comes, up to MOST_STEPS."""
    hyperparameters = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    batches = range(0, case.examples, case.batch_size)
    return [
        Step(number, epoch, epoch_order(case.examples, SEED, epoch)[batches[i] :][: case.batch_size], hyperparameters)
        for number in range(1, MOST_STEPS + 1)
        for epoch, i in [divmod(number - 1, len(batches))]
    ]


def outcome(case, pool, see=lambda results: None):
    """Opens a pool and takes the case's steps; see: is called before the first and after every result."""
    optimizer = opened(case, pool)
    steps, pieces = steps_of(case, optimizer), deque(case.pieces)
    x, y = examples(case.examples)
    for row, kind in case.poisons if case.way in POISONED else ():
        poison(x, row, kind)
    data = (NoisyData if case.noisy and case.way not in POISONED else ArrayData)(x, y)
    results, error = [], None
    see(results)
    try:
        while pool.completed < len(steps):
            run = pool.run(data, steps[pool.completed :], MODELS[case.way][3].get("clip_norm"))
            for result in itertools.islice(run, pieces.popleft() if pieces else None):
                results.append(result)
                see(results)
            run.close()
    except (ValueError, NonFiniteError) as raised:
        error = repr(raised)
    assert pool.replica.now is pool.arena.halves[pool.completed % 2], "the user's model has other parameters"
    return Outcome(results, pool.completed, error)


def check(case):
    """Takes the steps on a serial pool, then on a simulated one, whose current half is looked at after every turn."""
    halves = []
    with patch.object(arena, "BLOCK", BLOCK), one_blas_thread():
        serial = SerialPool()
        expected = outcome(
            case._replace(pieces=()), serial, lambda results: halves.append(half_after(serial, len(results)))
        )
        with SimulatedPool(case.workers, case.plan) as pool:

            def look():
                steps = pool.reached()
                assert half_after(pool, steps) == halves[steps], f"after {steps} steps the current half is not whole"

            def see(results):
                pool.turns.watch = look

            results, completed, error = outcome(case, pool, see)
        look()
    assert (completed, error) == (expected.completed, expected.error)
    numbers = [result.number for result in results]
    assert numbers == sorted(set(numbers)), "a result was given twice"
    assert list(map(repr, results)) == [repr(expected.results[number - 1]) for number in numbers]  # nan is nan
    assert case.pieces or error or len(results) == completed, "a result was not given"
    return pool.hit


@proof(2_000)
def elastic(examples, seed):
    """Workers that join, die and stop at any line of a step, 1 to 5 of them: no bit and no result is another."""
    hit = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is not finite
        count = hold(lambda case: hit.update(check(case)), cases(), examples, seed)
    assert set(hit) == set(PHASES.values()), f"nobody was hit in some phases: {hit}"
    print(f"elastic: workers hit: {dict(hit)}")
    return count
