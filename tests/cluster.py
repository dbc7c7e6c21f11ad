"""A Ray cluster of three nodes on this machine, in a process of its own, which trains when it is told to.

A process can be in one Ray only, and the tests' own is in theirs. What is to be done there are functions of modules.
"""

import contextlib
import multiprocessing
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.parallel import Trainer
from tests.processes import descendants, wait_until
from tests.training import bits, examples

# Ray sees after two seconds that a node is gone, in place of half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
RESOURCES = {"fast_disk": 1}  # of each node, beside its cores
SECONDS = 600  # for one call

nodes = []  # in the cluster's process
directory = None


class ThreeNodes:
    """The cluster as the tests see it: nodes with so many logical cores, the first of which is the driver's."""

    def __init__(self, cores=(2, 1, 1)):
        self.process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.call(start, cores)

    def call(self, function, *arguments):
        """What the function gives, or raises, there."""
        return self.process.submit(function, *arguments).result(SECONDS)

    def close(self):
        try:
            self.call(end)
        finally:
            self.process.shutdown()


def trainer_of(num_workers, **options):
    """Running statistics, two groups of parameters, a penalty, a norm that is clipped, a short last batch."""
    pg.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 2000), nn.Tanh(), nn.Linear(2000, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    first, *others = model.parameters()
    optimizer = optim.AdamW([{"params": [first], "lr": 0.01}, {"params": others}], lr=0.002)
    settings = {"batch_size": 60, "clip_norm": 0.5, "penalty": penalty, "progress": "off", "start_timeout": 40.0}
    return Trainer(model, F.cross_entropy, optimizer, num_workers=num_workers, **(settings | options))


def penalty(model):
    return 0.01 * (model[0].weight ** 2).sum()


def serial(steps):
    with trainer_of(0) as trainer:
        history = trainer.fit(examples(), max_steps=steps)
        scores = trainer.evaluate(examples(700, seed=9)), trainer.predict(examples(700, seed=9)[0]).tobytes()
    return bits(trainer), [entry["loss"] for entry in history], scores


# ----- in the cluster's process -----


def start(cores):
    global directory
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    import ray
    from ray.cluster_utils import Cluster

    directory = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    cluster = Cluster()
    cluster.add_node(
        num_cpus=cores[0], resources=RESOURCES, include_dashboard=False, temp_dir=directory,
        object_store_memory=80_000_000, _system_config=HEALTH,
    )  # fmt: skip
    nodes.append(cluster)
    for count in cores[1:]:
        add_node(count)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")


def add_node(cores=1):
    nodes.append(nodes[0].add_node(num_cpus=cores, resources=RESOURCES, object_store_memory=80_000_000))


def end():
    import ray

    ray.shutdown()
    nodes[0].shutdown()
    send_signal(signal.SIGKILL, descendants(os.getpid()))
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def core_in_use():
    """Somebody else has a core of the driver's node."""
    import ray
    from ray.util import placement_group, remove_placement_group

    head = ray.get_runtime_context().get_node_id()
    group = placement_group([{"CPU": 1}], strategy="STRICT_PACK", _soft_target_node_id=head)
    ray.get(group.ready(), timeout=30)
    yield
    remove_placement_group(group)


def kill_node(node):
    """Everything on a node that is not the driver's, at once."""
    trees = [info.process.pid for infos in node.all_processes.values() for info in infos]
    send_signal(signal.SIGKILL, [child for tree in trees for child in (tree, *descendants(tree))])


def send_signal(number, pids):
    """To those of these processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def processes(name):
    """The actors' processes of a class, by the names that Ray gives them."""
    return [pid for pid, command in descendants(os.getpid()).items() if command.startswith(f"ray::{name}")]


@contextlib.contextmanager
def after(pool, steps, action):
    """Does something in the middle of the steps that are taken inside, when so many have been completed."""

    def wait():
        while pool.completed < steps:
            time.sleep(0.001)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive(), f"{steps} steps were not completed"


@contextlib.contextmanager
def warned():
    """A list of the warnings' texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = []
        yield said
        said += [str(one.message) for one in caught]


def wait_for_workers(pool, count, fit):
    """Trains until there are so many."""

    def are_there():
        fit()
        return pool.workers == count

    wait_until(are_there, 60, f"{count} workers")
