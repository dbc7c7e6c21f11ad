"""Where a trainer's workers are: in a placement group that was given or is around it, and where there are resources."""

import contextlib
import functools
import os
import signal

import pytest
from ray._private import state
from ray.util import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pargrad.parallel import ResourcesError, workers
from tests.processes import wait_until, workers_of
from tests.training import bits, examples, make_trainer, with_workers

pytestmark = [pytest.mark.usefixtures("leaves_nothing"), pytest.mark.timeout(120)]
STEPS = 50


@functools.cache
def serial():
    with make_trainer("mlp-adamw", 0) as trainer:
        trainer.fit(examples(), max_steps=STEPS)
    return bits(trainer)


@pytest.fixture
def make_group(cluster):
    with contextlib.ExitStack() as stack:

        def make(*bundles):
            group = placement_group(list(bundles))
            stack.callback(remove_placement_group, group)
            return group

        yield make


def free_cores(group=None):
    """Of Ray's nodes, or of a group's bundles, as Ray says itself."""
    (free,) = state.available_resources_per_node().values()
    return free.get("CPU" if group is None else f"CPU_group_{group.id.hex()}", 0)


@pytest.mark.filterwarnings("ignore:worker .* was lost:UserWarning")
def test_workers_and_their_replacements_are_in_the_group(make_group):
    group = make_group({"CPU": 1}, {"CPU": 2})
    with make_trainer("mlp-adamw", 3, placement_group=group) as trainer:
        with_workers(trainer).fit(examples(), max_steps=20)
        wait_until(lambda: (free_cores(), free_cores(group)) == (1, 0), 20, "three workers in the group")
        os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
        trainer.fit(examples(), max_steps=STEPS - 20)
        wait_until(lambda: trainer.pool.arrived(3), 30, "the replacement")
        wait_until(lambda: (free_cores(), free_cores(group)) == (1, 0), 20, "the replacement in the group")
    assert bits(trainer) == serial()
    assert placement_group_table(group)["state"] == "CREATED"


def test_a_group_that_is_too_small_pending_or_gone_is_refused(make_group):
    group = make_group({"CPU": 1}, {"CPU": 1, "memory": 1e6})
    told = r"asked for 3 workers of one core each, but the placement group has 2 free cores \(bundle 0: 1 of 1 CPU"
    with pytest.raises(ResourcesError, match=told), make_trainer("mlp-adamw", 3, placement_group=group) as trainer:
        trainer.fit(examples(), max_steps=1)
    asked = {"placement_group": group, "resources_per_worker": {"memory": 1e6}}
    told = r"2 workers of 1 CPU, 1e\+06 memory each, but the placement group has room for 1 .* write num_workers=1"
    with pytest.raises(ResourcesError, match=told), make_trainer("mlp-adamw", 2, **asked) as trainer:
        trainer.fit(examples(), max_steps=1)
    pending = {"placement_group": make_group({"CPU": 4}), "start_timeout": 0.5}
    told = r"no room for the bundles \[{'CPU': 4.*}\] of placement_group after 0.5 s"
    with pytest.raises(ResourcesError, match=told), make_trainer("mlp-adamw", 1, **pending) as trainer:
        trainer.fit(examples(), max_steps=1)
    remove_placement_group(group)
    told = "placement_group cannot be used, it may have been removed"
    with pytest.raises(ResourcesError, match=told), make_trainer("mlp-adamw", 1, placement_group=group) as trainer:
        trainer.fit(examples(), max_steps=1)


class Other:
    """An actor that has a place which a worker could have."""


def test_a_worker_takes_a_place_in_the_group_when_it_gets_free(cluster, make_group):
    group = make_group({"CPU": 1}, {"CPU": 1})
    first = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
    other = cluster.remote(num_cpus=1, scheduling_strategy=first)(Other).remote()
    wait_until(lambda: (free_cores(), free_cores(group)) == (2, 1), 20, "the other in the group")
    with make_trainer("mlp-adamw", (1, 2), placement_group=group) as trainer:
        trainer.fit(examples(), max_steps=20)
        assert trainer.pool.workers == 1
        cluster.kill(other)
        wait_until(lambda: trainer.pool.arrived(2), 30, "the second worker")
        trainer.fit(examples(), max_steps=STEPS - 20)
        assert trainer.pool.workers == 2
        wait_until(lambda: (free_cores(), free_cores(group)) == (2, 0), 20, "both in the group")
    assert bits(trainer) == serial()


def train_inside():
    """A trainer that is told of no group, with as many workers as there is room for around it."""
    with make_trainer("mlp-adamw", "auto") as trainer:
        trainer.fit(examples(), max_steps=STEPS)
        return bits(trainer), trainer.num_workers


@pytest.mark.parametrize(("captures", "room"), [(True, 2), (False, 1)])
def test_a_trainer_inside_a_task_stays_in_its_group_when_that_captures_what_it_starts(
    cluster, make_group, captures, room
):
    group = make_group({"CPU": 1}, {"CPU": 2})
    wait_until(lambda: free_cores(group) == 3 and free_cores() == 1, 20, "what the group has")
    inside = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=captures)
    task = cluster.remote(num_cpus=1, scheduling_strategy=inside)(train_inside)
    assert cluster.get(task.remote(), timeout=60) == (serial(), room)


def test_two_trainers_at_once_in_one_ray(make_group):
    group = make_group({"CPU": 2})
    with make_trainer("mlp-adamw", 2) as first, make_trainer("mlp-adamw", 2, placement_group=group) as second:
        for _ in range(2):
            first.fit(examples(), max_steps=STEPS // 2)
            second.fit(examples(), max_steps=STEPS // 2)
    assert bits(first) == bits(second) == serial()


def test_resources_that_nobody_has_are_refused(monkeypatch):
    asked = {"resources_per_worker": {"fast_disk": 1}}
    told = r"asked for 2 workers of 1 CPU, 1 fast_disk each, but Ray has room for 0 \(.*, 0 of 0 fast_disk free\)"
    with pytest.raises(ResourcesError, match=told), make_trainer("mlp-adamw", 2, **asked) as trainer:
        trainer.fit(examples(), max_steps=1)
    with make_trainer("mlp-adamw", 0, **asked) as trainer:  # it needs no Ray
        trainer.fit(examples(), max_steps=1)
    monkeypatch.setattr(workers, "ray_is_initialized", lambda: False)
    with pytest.raises(ResourcesError, match="asks for fast_disk, which a Ray that pargrad starts does not have"):
        make_trainer("mlp-adamw", 1, **asked)
    with pytest.raises(ResourcesError, match="1 workers of 4096 cores each, but this machine has"):
        make_trainer("mlp-adamw", "auto", resources_per_worker={"CPU": 4096})
    with pytest.raises(ResourcesError, match="a Ray that this process is not in"):
        make_trainer("mlp-adamw", 1, placement_group="one")


@pytest.mark.parametrize(("asked", "told"), [
    ({"CPU": 0.5}, "expected 'CPU' to be a whole number of at least 1, got 0.5"),
    ({"CPU": 0}, "expected 'CPU' to be a whole number of at least 1, got 0"),
    ({"GPU": 1}, "leave 'GPU' out, pargrad computes on CPUs"),
    ({"memory": "2 GB"}, "expected 'memory' to be a number of at least 0, got '2 GB'"),
    ({"fast_disk": -1}, "expected 'fast_disk' to be a number of at least 0, got -1"),
])  # fmt: skip
def test_wrong_resources_are_refused_at_once(asked, told):
    with pytest.raises(ValueError, match=told):
        make_trainer("mlp-adamw", 0, resources_per_worker=asked)


def test_resources_that_are_no_dict_are_refused_at_once():
    with pytest.raises(TypeError, match="expected resources_per_worker to be a dict such as {'CPU': 1}, got 2"):
        make_trainer("mlp-adamw", 0, resources_per_worker=2)


def test_resources_as_ray_train_writes_them():
    assert workers.make_request("local", {"CPU": 2.0, "GPU": 0}, None).resources == {"CPU": 2}
