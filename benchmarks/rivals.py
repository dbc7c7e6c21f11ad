"""The rivals that train: pargrad, numpy by hand, torch with DDP and without, Ray Train, JAX, autograd and MyGrad.

A turn is an epoch, and training and nothing else: the shuffle, the gathers, the steps, the short last batch; its figure
is the mean loss over the examples.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

import pargrad
from benchmarks.by_hand import Network, NumpyRival, numpy_shared, shared_size
from benchmarks.engine_rows import entropy
from benchmarks.processes import Crowd, Place, ProcessRival, Rival, Turn, answer, in_process
from benchmarks.tasks import Perceptron, Task
from pargrad import optim
from pargrad.nn import functional as F
from pargrad.parallel import Trainer
from pargrad.parallel.cores import available_cores

OBJECT_STORE = 1_000_000_000  # bytes, taken as they are needed: `allreduce` puts gradients there
WHOLE = 10_000  # MB: a bucket that holds every gradient


# ----- torch -----


@contextlib.contextmanager
def torch_alone(place: Place, task: Task, threads: int) -> Iterator[tuple[Turn, int]]:
    """One process; threads: 0 for as many as torch takes."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    yield torch_epochs(task, task.with_weights(torch), 0, 1), torch.get_num_threads()


@contextlib.contextmanager
def torch_ddp(place: Place, task: Task, bucket: int | None) -> Iterator[tuple[Turn, int]]:
    """One of the processes of DDP with gloo, one thread each; bucket: in MB, None for torch's own."""
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    with process_group(place):
        model = DistributedDataParallel(task.with_weights(torch), gradient_as_bucket_view=True, bucket_cap_mb=bucket)
        yield torch_epochs(task, model, place.rank, place.processes), 1


@contextlib.contextmanager
def process_group(place: Place) -> Iterator[None]:
    """The processes of this place, met over gloo."""
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=place.meeting, rank=place.rank, world_size=place.processes)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def torch_epochs(task: Task, model: Any, rank: int, processes: int) -> Turn:
    """Trains this process's part of every batch of an epoch, and gives its part of the mean loss."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay, fused=True)
    inputs, labels = (torch.from_numpy(array) for array in task.data())

    def epoch(number: int) -> float:
        generator = torch.Generator().manual_seed(task.seed + number)
        mine = torch.randperm(task.examples, generator=generator)[rank::processes]  # as DistributedSampler deals them
        total = 0.0
        for batch in mine.split(task.batch_size // processes):
            optimizer.zero_grad()
            loss = task.loss(torch, model(inputs[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        return total / task.examples

    return epoch


def ddp(name: str, task: Task, *, bucket: int | None, processes: int = 2) -> Rival:
    check_equal_parts(name, task, processes)
    return ProcessRival(name, torch_ddp, task, bucket, processes=processes)


def check_equal_parts(name: str, task: Task, processes: int) -> None:
    """DDP averages the means of its processes, which is the mean of the batch only when all have as many examples."""
    if task.examples % processes or task.batch_size % processes:
        raise ValueError(
            f"{name}: {task.examples} examples in batches of {task.batch_size} do not fall into {processes} equal "
            f"parts; take numbers that are multiples of {processes}"
        )


# ----- Ray Train -----


class RayTrainRival:
    """Ray Train's TorchTrainer in the benchmark's own Ray: workers of one core, which prepare_model puts under DDP."""

    def __init__(self, name: str, task: Task, *, processes: int = 2):
        check_equal_parts(name, task, processes)
        self.name, self.processes = name, processes
        self.folder = tempfile.TemporaryDirectory()
        self.key = secrets.token_bytes(32)
        self.address = str(Path(self.folder.name) / "turns")
        self.crowd = Crowd(name, [])
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.fit, args=(task,), daemon=True)
        try:
            with Listener(self.address, authkey=self.key) as listener:
                self.thread.start()
                self.crowd.connections += [listener.accept() for _ in range(processes)]
                self.threads = self.crowd.ask("threads")[0]
        except BaseException as error:
            self.close()
            raise self.error or error from None

    def fit(self, task: Task) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        logging.getLogger("ray.train").setLevel(logging.ERROR)
        place = {"task": task, "address": self.address, "key": self.key}
        try:
            TorchTrainer(
                ray_train_worker,
                train_loop_config=place,
                scaling_config=ScalingConfig(num_workers=self.processes),
                run_config=RunConfig(storage_path=self.folder.name),
            ).fit()
        except BaseException as error:
            self.error = error
            with contextlib.suppress(OSError):  # whoever still waits for a worker is told by one that has ended
                Client(self.address, authkey=self.key).close()

    def turn(self, number: int) -> float:
        return sum(self.crowd.ask(number))

    def close(self) -> None:
        self.crowd.close()  # the workers end, and with them `fit`
        if self.thread.ident is not None:
            self.thread.join(timeout=30)
        self.folder.cleanup()


def ray_train_worker(place: dict[str, Any]) -> None:
    import torch
    from ray import train
    from ray.train.torch import prepare_model

    torch.set_num_threads(1)
    task, context = place["task"], train.get_context()
    model = prepare_model(task.with_weights(torch), parallel_strategy_kwargs={"gradient_as_bucket_view": True})
    turn = torch_epochs(task, model, context.get_world_rank(), context.get_world_size())
    with Client(place["address"], authkey=place["key"]) as connection:
        answer(connection, turn, torch.get_num_threads())  # type: ignore[arg-type]


# ----- JAX, autograd and MyGrad -----


@contextlib.contextmanager
def jax_jitted(place: Place, task: Perceptron) -> Iterator[tuple[Turn, int]]:
    """One jitted step, which gathers the batch; parameters and moments are donated to it."""
    import jax
    import jax.numpy as jnp

    start = [jnp.asarray(array) for array in task.weights().values()]
    zeros = list(map(jnp.zeros_like, start))
    state = (start, zeros, list(map(jnp.zeros_like, start)), jnp.float32(0), jnp.float32(0))
    inputs, labels = (jnp.asarray(array) for array in task.data())
    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def mean_loss(parameters: Any, x: Any, target: Any) -> Any:
        layers = list(zip(parameters[::2], parameters[1::2]))
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight.T + bias)
        weight, bias = layers[-1]
        chances = jax.nn.log_softmax(x @ weight.T + bias)
        return -jnp.take_along_axis(chances, target[:, None], 1).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: Any, inputs: Any, labels: Any, indices: Any) -> Any:
        parameters, first, second, steps, total = state
        loss, gradient = jax.value_and_grad(mean_loss)(parameters, inputs[indices], labels[indices])
        steps += 1
        first = [m + (1 - beta1) * (g - m) for m, g in zip(first, gradient)]
        second = [beta2 * v + (1 - beta2) * g * g for v, g in zip(second, gradient)]
        rate, root = task.lr / (1 - beta1**steps), (1 - beta2**steps) ** -0.5
        parameters = [
            p * (1 - task.lr * task.weight_decay) - rate * m / (jnp.sqrt(v) * root + eps)
            for p, m, v in zip(parameters, first, second)
        ]
        return parameters, first, second, steps, total + loss * len(indices)

    def epoch(number: int) -> float:
        nonlocal state
        state = (*state[:-1], jnp.float32(0))
        for indices in task.batches(number):
            state = step(state, inputs, labels, indices.astype(np.int32))
        return float(state[-1]) / task.examples

    yield epoch, available_cores()


@contextlib.contextmanager
def python_engine(place: Place, task: Perceptron, library: str) -> Iterator[tuple[Turn, int]]:
    """autograd's or MyGrad's gradient, and AdamW by hand; one BLAS thread."""
    from benchmarks.libraries import LIBRARIES

    engine, network = LIBRARIES[library](), Network(task)

    def turn(number: int) -> float:
        total = 0.0
        for indices in task.batches(number):
            step = engine.gradient(entropy, network.parameters, [network.inputs[indices], network.labels[indices]])
            value, *gradients = engine.arrays(step())
            np.concatenate([gradient.ravel() for gradient in gradients], out=network.gradients[0])
            network.update(slice(None))
            total += float(value) * len(indices)
        return total / task.examples

    with threadpool_limits(1):
        yield turn, 1


# ----- pargrad -----


class TrainerRival:
    """A base: a Trainer with `workers` Ray actors, or none, in which case the steps run in this process."""

    def __init__(self, name: str, task: Task, workers: int, *trained: Any, **options: Any):
        self.name, self.processes, self.threads = name, max(workers, 1), 1
        self.data = task.data()
        common = {"batch_size": task.batch_size, "num_workers": workers, "address": "auto", "progress": "off"}
        self.trainer = Trainer(*trained, **common, **options)
        try:
            self.trainer.wait_for_workers()  # this process would do their work until they have started
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.trainer.close()


class PargradRival(TrainerRival):
    """`Trainer.fit`."""

    def __init__(self, name: str, task: Task, *, workers: int, shards: int):
        model = task.with_weights(pargrad)
        optimizer = optim.AdamW(model.parameters(), lr=task.lr, weight_decay=task.weight_decay)
        plain = isinstance(task, Perceptron)
        loss = F.cross_entropy if plain else functools.partial(task.loss, pargrad)
        options = {"loss_is": None if plain else "mean over examples", "shards": shards, "seed": task.seed}
        super().__init__(name, task, workers, model, loss, optimizer, **options)

    def turn(self, number: int) -> float:
        latest = self.trainer.fit(self.data, epochs=1)[-1]
        if latest["epoch"] != number:  # its order is that of another epoch, so it would not train the same thing
            raise ValueError(f"{self.name}: asked for epoch {number}, the trainer went on with epoch {latest['epoch']}")
        return latest["loss"]


class Entry(NamedTuple):
    """A row of a table of rivals: what makes one of its name and a task, and the cores of Ray that it takes."""

    make: Callable[[str, Any], Rival]
    cores: int = 0


def entry_of_pargrad(workers: int, shards: int) -> tuple[str, Entry]:
    """Name and entry. With 8 shards the bits are the same for all; as many shards as workers is what DDP computes."""
    make = functools.partial(PargradRival, workers=workers, shards=shards)
    return f"pargrad-workers-{workers}-shards-{shards}", Entry(make, workers)


RIVALS = {
    "numpy": Entry(NumpyRival),
    "numpy-2-processes": Entry(
        lambda name, task: ProcessRival(name, numpy_shared, task, processes=2, memory=shared_size(task, 2))
    ),
    "torch": Entry(in_process(torch_alone, 0)),
    "torch-one-thread": Entry(in_process(torch_alone, 1)),
    "torch-ddp": Entry(functools.partial(ddp, bucket=None)),
    "torch-ddp:one-bucket": Entry(functools.partial(ddp, bucket=WHOLE)),
    "ray-train": Entry(RayTrainRival, cores=2),
    "jax": Entry(in_process(jax_jitted)),
    "autograd": Entry(in_process(python_engine, "autograd")),
    "mygrad": Entry(in_process(python_engine, "mygrad")),
    **dict(entry_of_pargrad(workers, shards) for shards in (8, 1, 2, 32) for workers in (0, 1, 2) if workers <= shards),
}
MODULES = {"ray-train": ("torch", "pandas", "pyarrow"), "gloo": ("torch",)}  # what a rival of another name imports


def missing(name: str) -> list[str]:
    """The modules that a rival needs and this Python does not have."""
    needed = MODULES.get(name, (name.partition(":")[0].partition("-")[0],))
    return [module for module in needed if importlib.util.find_spec(module) is None]


@contextlib.contextmanager
def open_rivals(task: Any, names: Sequence[str], table: Mapping[str, Entry] = RIVALS) -> Iterator[list[Rival]]:
    """The rivals of these names, ready for their turns; all that they started has ended afterwards."""
    cores = sum(table[name].cores for name in names)
    with ray_of(cores) if cores else contextlib.nullcontext(), contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(table[name].make(name, task))) for name in names]


@contextlib.contextmanager
def ray_of(cores: int) -> Iterator[None]:
    """A Ray that counts one core for every worker of every rival: they take turns, so that the real ones suffice.

    One that this process is in already is left as it is.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")  # as the trainer starts its own
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(
        address="local",
        num_cpus=cores,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE,
    )
    try:
        yield
    finally:
        ray.shutdown()
