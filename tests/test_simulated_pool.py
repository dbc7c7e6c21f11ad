"""The simulated pool does what its plan says; what the elastic proof finds where a rule of the step is broken."""

import functools
import gc
import inspect
import itertools
import random
import textwrap

import numpy as np
import pytest

from pargrad.data import ArrayData
from pargrad.parallel.crew_pool import CHUNKS_SECONDS, CrewPool, at_once
from pargrad.parallel.meeting import CalledOff, Meeting
from pargrad.parallel.pool import GRADIENT, REDUCE, UPDATE, Member, SerialPool
from pargrad.parallel.ray_workers import WorkerPool
from pargrad.parallel.step import Replica
from pargrad.parallel.workers import Workers
from tests.processes import descriptors
from tests.proofs_elastic import Case, check, opened, steps_of
from tests.simulated_pool import PHASES, START, Fault, Plan, SimulatedPool
from tests.training import examples

pytestmark = pytest.mark.filterwarnings("ignore:worker .* was:UserWarning")

CASE = Case("branching", 8, 16, 40, False, Workers(3, 1, 3), (), Plan(seed=1, turn=200, seconds=0.02))


def with_faults(*faults):
    return CASE._replace(plan=CASE.plan._replace(faults=faults))


# ----- the pool -----


@pytest.mark.parametrize(("phase", "stops"), [*itertools.product(list(PHASES)[:-1], [False, True]), (START, False)])
def test_a_planned_fault_hits_in_its_phase(phase, stops):
    assert check(with_faults(Fault(1, 1, phase, 3, stops=stops))) == {PHASES[phase]: 1}


def test_everyone_dies_at_once_and_others_come():
    faults = [Fault(worker, 2, UPDATE, 20) for worker in range(3)]
    assert check(with_faults(*faults, Fault(4, 2, GRADIENT, 5))) == {"update": 3, "gradient": 1}


def test_the_same_plan_is_the_same_run():
    def turns(case):
        seen = []
        with SimulatedPool(case.workers, case.plan) as pool:
            optimizer = opened(case, pool)
            pool.turns.watch = lambda: seen.append([pool.arena.meetings.tolist(), pool.arena.phases.tolist()])
            list(pool.run(ArrayData(*examples(40)), steps_of(case, optimizer)))
        return seen

    case = with_faults(Fault(1, 1, REDUCE, 5))
    other = case._replace(plan=case.plan._replace(seed=2))
    assert turns(case) == turns(case) != turns(other)


def test_small_chunks_are_sent_together_while_there_are_many():
    assert at_once(np.inf, 1000, 2) == 1  # nothing is known of their time
    assert at_once(CHUNKS_SECONDS / 7.5, 1000, 2) == 7
    assert at_once(CHUNKS_SECONDS / 7.5, 17, 2) == 2
    assert at_once(CHUNKS_SECONDS / 7.5, 3, 2) == at_once(2 * CHUNKS_SECONDS, 1000, 2) == 1


def test_nothing_is_left():
    gc.collect()  # what other tests left to it
    before = descriptors()
    check(with_faults(Fault(0, 1, GRADIENT, 30), Fault(1, 1, UPDATE, 30), Fault(2, 3, REDUCE, 1, stops=True)))
    gc.collect()
    assert descriptors() == before


def test_a_worker_dies_in_the_middle_of_an_update():
    """The half that is written is not whole then: the line where it dies is within the optimizer's."""
    with SimulatedPool(CASE.workers, with_faults(Fault(1, 2, UPDATE, 40)).plan) as pool:
        optimizer = opened(CASE, pool)
        torn = []
        put_down = pool.put_down
        pool.put_down = lambda peers: (torn.append(pool.arena.progress[:3].tolist()), put_down(peers))
        list(pool.run(ArrayData(*examples(40)), steps_of(CASE, optimizer)))
        assert torn[0][1] == 2


@pytest.mark.parametrize("lines", range(9))
def test_a_worker_dies_on_any_line_while_it_starts(lines):
    """Also between its last answer and its first place."""
    plan = Plan(seed=lines, turn=20, faults=(Fault(0, 0, START, lines),))
    check(CASE._replace(workers=Workers(2, 1, 2), plan=plan))


def test_the_only_worker_dies_when_the_driver_turns_away():
    """The next run waits for another one."""
    plan = Plan(turn=20, faults=(Fault(0, 1, GRADIENT, 0),))
    assert check(Case("mlp-adamw", 8, 1, 1, False, Workers(1, 1, 1), (1,), plan)) == {"gradient": 1}


# ----- nodes that are complete -----


def test_a_node_is_not_complete_when_a_shard_of_it_was_begun_again():
    """4 to 7 were added up by one worker; then 5 was another's, which died in it; then one has 4 to 7 again."""

    class Dies(BaseException):
        pass

    def dies(*arguments):
        raise Dies

    pool = SerialPool()
    optimizer = opened(CASE, pool)
    replica, data, step = pool.replica, ArrayData(*examples(40)), steps_of(CASE, optimizer)[0]
    replica.gradient_once(data, step, (4, 4), 1)
    expected = pool.arena.sums.copy(), pool.arena.divisors.copy()
    replica.backward = dies
    with pytest.raises(Dies):
        replica.gradient_once(data, step, (5, 1), 1)
    del replica.backward
    replica.gradient_once(data, step, (4, 4), 1)
    np.testing.assert_array_equal((pool.arena.sums, pool.arena.divisors), expected)


# ----- rules that are broken -----

OWNERS = {cls.__name__: cls for cls in (Replica, Member, Meeting, CrewPool, WorkerPool)}
FORGOTTEN = "done[(begins < start + size) & (begins + done[:, 1] > start)] = 0"
BROKEN = {
    "a node's mark does not say its size": (Replica.gradient_once, "step.number, size)", "step.number, 1)"),
    "a node is complete when it is begun": (Replica.gradient_once, FORGOTTEN, "done[start] = mark"),
    "the current half is written": (Replica.update_one, "self.piece_of(1 - self.half", "self.piece_of(self.half"),
    "the next half is read": (Replica.update_one, "= state[:count]", "= new_state[:count]"),
    "a step that is taken again is counted again": (
        Replica.update, "= taken[i] + ever[i]", "= max(int(self.next.steps[i]), taken[i]) + ever[i]"),
    "gradients are added in the order of workers": (
        Replica.reduce, "return reduce_tree(level, np.add)", "return sum_in_order(level)"),
    "nobody waits for the gradients": (Member.step, "self.meet(meet)  # every node is", "pass  #"),
    "nobody waits for the norm": (Member.step, "self.meet(meet)  # every block", "pass  #"),
    "nobody waits for the update": (Member.step, "self.meet(meet)  # the other half", "pass  #"),
    "progress is said before the update": (
        Member.step, "self.enter(UPDATE)", "arena.progress[self.number] = completed + 1; self.enter(UPDATE)"),
    "the end of another is not seen": (Meeting.__call__, "if heard != HERE:", "if heard == OFF:"),
    "what one has finished is complete": (WorkerPool.reached, ".min()", ".max()"),
    "results of steps before a loss are not given": (
        CrewPool.run, "self.completed_of(taken, self.completed - before)", "[]"),
    "members keep their places": (CrewPool.drain, "self.formed = False", "pass"),
}  # fmt: skip


def sum_in_order(level):
    present = [part for part in level if part is not None]
    return functools.reduce(np.add, present) if present else None


def broken(function, old, new):
    """The function with a piece of its text replaced; its lines are still the module's for whoever traces them."""
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(old) == 1, f"expected {old!r} once in {function.__qualname__}"
    names = {**function.__globals__, "sum_in_order": sum_in_order}
    exec(
        compile("from __future__ import annotations\n" + text.replace(old, new), function.__code__.co_filename, "exec"),
        names,
    )
    return names[function.__name__]


def dense(seed):
    """A run with two losses that may hit one step, and replacements that come at different times."""
    draw = random.Random(seed)
    first, most = draw.choice([(2, 2), (2, 4), (3, 3)])
    workers, steps = draw.sample(range(first), 2), draw.randrange(1, 4)
    faults = (
        Fault(workers[0], steps, draw.choice([GRADIENT, REDUCE, UPDATE]), draw.randrange(60)),
        Fault(workers[1], steps, draw.choice([GRADIENT, UPDATE]), draw.randrange(300), losses=draw.randrange(2)),
    )
    delays = (*[0] * first, *(draw.randrange(4) for _ in range(4)))
    plan = Plan(seed, draw.choice([20, 2000]), draw.choice([1.0, 0.002, 0.002]), faults, delays)
    way = draw.choice(["weights-and-ignored", "branching"])
    return Case(way, 8, 12, 30, draw.random() < 0.5, Workers(first, 1, most), (), plan)


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found(rule, monkeypatch):
    function, old, new = BROKEN[rule]
    owner = OWNERS[function.__qualname__.split(".")[0]]
    monkeypatch.setattr(owner, function.__name__, broken(function, old, new))
    with pytest.raises((AssertionError, CalledOff)):
        for seed in range(60):
            check(dense(seed))


def test_unbroken_rules_hold_in_the_same_runs():
    for seed in range(8):
        check(dense(seed))
