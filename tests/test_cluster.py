"""Many machines in one run: three nodes of a cluster, each a raylet of its own, through losses and newcomers."""

import contextlib
import io
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray.util import placement_group, placement_group_table, remove_placement_group

from pargrad.commands import train
from pargrad.parallel import ResourcesError
from pargrad.parallel.machines import shares_of
from pargrad.parallel.plan import Machine
from pargrad.parallel.shards import aligned_nodes
from pargrad.reporting.runs import read_run
from tests import cluster
from tests.cluster import ThreeNodes, after, processes, serial, trainer_of, warned
from tests.processes import gone, wait_until
from tests.training import bits, examples

pytestmark = pytest.mark.timeout(300)
STEPS = 40


@pytest.fixture(scope="module")
def nodes():
    nodes = ThreeNodes()
    try:
        yield nodes
    finally:
        nodes.close()


# ----- what is done in the cluster's process -----


class Fails:
    """A data set whose examples cannot be had on the workers."""

    def __len__(self):
        return 256

    def batch(self, indices, generator):
        raise ZeroDivisionError("as asked")


def train_and_score():
    """A run on three machines, a worker of which is lost in the middle of a step; errors in between."""
    directory = Path(cluster.directory, "run")
    with trainer_of(4, run_dir=directory) as trainer, warned() as said:
        pool = trainer.open()
        pool.wait_for(4)
        with after(pool, 20, lambda: cluster.send_signal(signal.SIGKILL, processes("WorkerActor")[:1])):
            history = trainer.fit(examples(), max_steps=STEPS)
        workers = [peer.workers for peer in pool.members]
        scores = trainer.evaluate(examples(700, seed=9)), trainer.predict(examples(700, seed=9)[0]).tobytes()
        errors = [error_of(trainer, data) for data in (Fails(), a_file_that_is_gone())]
        traffic, gradient = pool.traffic, sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    sent = history[-1]["bytes_per_step"], [line["bytes_per_step"] for line in read_run(directory).steps]
    return bits(trainer), [entry["loss"] for entry in history], scores, workers, errors, traffic, gradient, sent, said


def a_file_that_is_gone():
    x, y = examples(100)
    np.save(f"{cluster.directory}/x.npy", x)
    data = np.load(f"{cluster.directory}/x.npy", mmap_mode="r"), y
    os.unlink(f"{cluster.directory}/x.npy")
    return data


def error_of(trainer, data):
    try:
        trainer.evaluate(data)
    except Exception as error:
        return type(error), "\n".join([str(error), *getattr(error, "__notes__", [])])


def lose_and_gain():
    """A core gets free, a node is killed in mid-step, another one joins, an agent falls silent, and all are killed."""
    from pargrad.parallel import crew, ray_cluster

    crew.LATE_SECONDS, crew.LATE_MEDIANS, ray_cluster.ANSWER_SECONDS = 3.0, 0.0, 1.0
    ray_cluster.AGAIN_SECONDS = 3.0
    with trainer_of((1, 4)) as trainer, warned() as said:
        with cluster.core_in_use():
            pool = trainer.open()
            pool.wait_for(3)
            trainer.fit(examples(), max_steps=1)
        cluster.wait_for_workers(pool, 4, lambda: trainer.fit(examples(), max_steps=1))
        grown = sorted(peer.workers for peer in pool.members)
        with after(pool, trainer.steps + 10, lambda: cluster.kill_node(cluster.nodes[-1])):
            trainer.fit(examples(), max_steps=30)
        left, before = pool.workers, trainer.steps
        cluster.add_node()
        cluster.wait_for_workers(pool, 4, lambda: trainer.fit(examples(), max_steps=1))
        joined = trainer.steps - before
        trainer.fit(examples(), max_steps=10)
        pool.start_timeout = 1.0
        victim = processes("Agent")[-1]
        with after(pool, trainer.steps + 5, lambda: cluster.send_signal(signal.SIGSTOP, [victim])):
            trainer.fit(examples(), max_steps=30)
        cluster.send_signal(signal.SIGCONT, [victim])
        trainer.fit(examples(), max_steps=1)
        pool.start_timeout = 40.0
        with after(pool, trainer.steps + 5, lambda: cluster.send_signal(signal.SIGKILL, processes("Agent"))):
            trainer.fit(examples(), max_steps=20)
        steps, failures = trainer.steps, pool.failures_in_all
        wait_until(lambda: gone([victim]), 30, "the end of an agent that was given up")
    return bits(trainer), steps, grown, joined, left, failures, said


def ask_for_too_many():
    started = time.monotonic()
    with trainer_of(8) as trainer:
        trainer.start_timeout = 1.0
        try:
            trainer.open()
        except ResourcesError as error:
            return str(error), time.monotonic() - started


def kinds_of_pool():
    """The pool where all workers have room on the driver's node; and how many workers there can be."""
    with trainer_of(2) as small, trainer_of("auto") as large:
        return type(small.open()).__name__, small.num_workers, large.num_workers


def train_in_a_group():
    """One worker on each node, by a resource that each has once; then three in a group, two of them in one bundle."""
    with trainer_of(3, resources_per_worker={"fast_disk": 1}) as trainer:
        spread = sorted(peer.workers for peer in trainer.open().members)
    group = placement_group([{"CPU": 2}, {"CPU": 1}], strategy="STRICT_SPREAD")
    with trainer_of("auto", placement_group=group) as trainer:
        trainer.fit(examples(), max_steps=STEPS)
        seats = [[seat.bundle for seat in peer.seats] for peer in trainer.pool.members]
        free = ray.available_resources()["CPU"]
    left = placement_group_table(group)["state"]
    remove_placement_group(group)
    return bits(trainer), spread, seats, free, left


def predict_and_check(directory):
    """Messages between two nodes measured, and a step on two of them predicted, then taken."""
    from pargrad.cli import main
    from pargrad.parallel import calibration, ray_messages

    ray_messages.ROUNDS, ray_messages.REPEATS, ray_messages.CALLS = 5, 1, 5
    calibration.REPEATS, calibration.NODES, calibration.PREDICTED, calibration.BATCHES = 1, (2,), ((64, 32, 10),), (64,)
    machine, said = f"{directory}/machine.json", f"{directory}/said.json"
    first = ["--measure", machine], ["--machine", machine, "--predict", said]
    codes = [main(["plan", *words, "--address", "auto"]) for words in first]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        codes.append(main(["plan", "--check", said, "--json", "--address", "auto"]))
    return codes, calibration.load_machine(machine), json.loads(printed.getvalue())


# ----- tests -----


def test_three_machines_train_and_score_with_the_bits_of_one_process(nodes):
    state, losses, scores, workers, errors, traffic, gradient, sent, said = nodes.call(train_and_score)
    assert (state, losses, scores) == serial(STEPS)
    assert workers == [2, 1, 1]
    assert [line for line in said if "(process" in line and "was lost while" in line]
    for share, one in zip(shares_of(workers, 8), traffic):
        formula = (len(aligned_nodes(share)) + 1) * 2 / 3 * gradient
        assert one.steps == STEPS
        assert one.bytes / STEPS == pytest.approx(formula, rel=0.15)
    mean, lines = sent
    assert len(lines) == STEPS
    assert lines == pytest.approx([mean] * STEPS, rel=0.05)
    (kind, text), (missing, told) = errors
    assert kind is ZeroDivisionError
    assert "in the evaluation of examples 0 to 255" in text
    assert "raised in worker" in text
    assert "raised in machine" in text
    assert missing is FileNotFoundError
    assert f"on machine {os.uname().nodename}, " in told
    assert "x.npy" in told


def test_nodes_that_join_are_killed_in_mid_step_or_fall_silent_change_no_bit(nodes):
    state, steps, grown, joined, left, failures, said = nodes.call(lose_and_gain)
    assert state == serial(steps)[0]
    assert grown == [1, 1, 2]
    assert left == 3
    assert joined > 0
    assert failures >= 2 + 2
    assert [line for line in said if line.startswith("machine ") and " was lost while" in line]
    assert [line for line in said if line.startswith("machine ") and " was late and given up while" in line]


def test_a_full_cluster_is_said_in_time(nodes):
    told, seconds = nodes.call(ask_for_too_many)
    assert told.startswith("asked for 8 workers of one core each, but the cluster has ")
    assert told.count(" free") >= 4  # of all, and of each node
    assert seconds < 10


def test_workers_that_have_room_on_the_drivers_node_are_on_no_other(nodes):
    assert nodes.call(kinds_of_pool) == ("RayPool", 2, 4)


def test_workers_are_where_their_resources_and_their_group_are(nodes):
    state, spread, seats, free, left = nodes.call(train_in_a_group)
    assert spread == [1, 1, 1]
    assert seats == [[0, 0], [1]]
    assert free == 1  # of the cluster's four cores, beside the group's
    assert left == "CREATED"
    assert state == serial(STEPS)[0]


def test_messages_are_measured_and_steps_on_nodes_checked(nodes, tmp_path):
    codes, machine, (seen,) = nodes.call(predict_and_check, tmp_path)
    assert codes == [0, 0, 0]
    usual = Machine()
    assert 0 < machine.message_seconds != usual.message_seconds
    assert 0 < machine.message_bandwidth != usual.message_bandwidth
    assert 0 < machine.call_seconds != usual.call_seconds
    assert 0 <= machine.agent_seconds != usual.agent_seconds
    assert (seen["nodes"], seen["num_workers"]) == (2, 0)
    assert 0 < seen["processor"] < 5


@pytest.mark.parametrize(("sent", "told"), [({"bytes_per_step": 1_234_567.8}, True), ({}, False)])
def test_train_says_what_a_machine_sends(sent, told, capsys):
    history = []
    entry = {"loss": 1.0, "samples_per_second": 5.0, **sent}
    trainer = SimpleNamespace(history=history, fit=lambda *_, **__: history.append(entry))
    train.fit(trainer, SimpleNamespace(recipe=None, train=None, validation=None), 1)
    assert (", 1,234,568 bytes sent a machine and step\n" in capsys.readouterr().out) == told


def test_machines_of_other_kinds():
    from pargrad.parallel.ray_agent import facts
    from pargrad.parallel.ray_cluster import differences

    here = facts()
    assert list(differences(here, here)) == []
    said = list(differences(here, here._replace(host="other", processor="Z80", numpy="1.0")))
    assert [line.partition(" has ")[2].partition(",")[0] for line in said] == ["numpy 1.0", "processor Z80"]
    with pytest.raises(ResourcesError, match=r"machine other has python 2.7, and this one 3\."):
        list(differences(here, here._replace(host="other", python="2.7")))
