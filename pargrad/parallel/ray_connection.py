"""How this process gets into a Ray, of its own or one that is there, and out of it again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import ray

from pargrad.parallel.authentication import HOW_TO_EXPORT, require_token
from pargrad.parallel.cores import available_cores
from pargrad.parallel.errors import ResourcesError

OBJECT_STORE = 80_000_000  # bytes: Ray's least; arrays travel in the arena, not in the store


class Home(threading.Thread):
    """The thread that Ray lives in: Ray's processes end with the thread that started them."""

    def __init__(self, address: str, cores: int):
        super().__init__(name="pargrad-ray", daemon=True)
        self.address, self.cores = address, cores
        self.tried, self.over = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            join_ray(self.address, self.cores)
        except BaseException as error:
            self.error = error
        self.tried.set()
        self.over.wait()
        if self.error is None:
            ray.shutdown()

    def is_there(self, patience: float) -> bool:
        """Whether Ray has started, after so many seconds at the most; what kept it from starting is raised."""
        there = self.tried.wait(patience)
        if self.error is not None:
            raise self.error
        return there

    def end(self) -> None:
        """Ends Ray, when it has started."""
        self.over.set()
        if self.ident is not None:
            self.join()


def join_ray(address: str, cores: int) -> None:
    """Starts a Ray of this process's own, of so many cores, or joins the cluster at an address."""
    if address != "local":
        require_token()
    before = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        os.environ.pop("RAY_JOB_CONFIG_JSON_ENV_VAR", None)  # a job's directory is not known to a Ray of its own
        options |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        ray.init(**options)
    except SystemExit:
        if callable(before):
            before(signal.SIGTERM, None)  # Ray's handler took the signal that was the program's
        raise
    except ConnectionError as error:
        raise ResourcesError(
            f"no Ray cluster at address {address!r}: {error}. Write address='local', or start one with "
            f"`ray start --head`. If there is one, it may want a token: {HOW_TO_EXPORT}"
        ) from error
    except Exception as error:  # Ray has no type for it: most often the machine has more to do than Ray can wait for
        if address != "local":
            raise
        raise ResourcesError(
            f"Ray could not start on this machine: {last_line(error)} Try again when it has less to do, or write "
            "num_workers=0, which needs no Ray"
        ) from error
    finally:
        if before is not signal.SIG_DFL and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray puts its own handler in the place of the program's


class Resources(NamedTuple):
    """What a Ray has, altogether and by node, in Ray's own words."""

    available: dict[str, float]
    total: dict[str, float]
    nodes: list[dict[str, Any]]


@contextlib.contextmanager
def inside(address: str) -> Iterator[None]:
    """Inside, this process is in a Ray: the one that it is in anyway, or the one at an address."""
    joined = not ray.is_initialized()
    if joined:
        join_ray(address, available_cores())
    try:
        yield
    finally:
        if joined:
            ray.shutdown()


def resources_of(address: str) -> Resources:
    """What the Ray has that this process is in, or would join."""
    with inside(address):
        return Resources(ray.available_resources(), ray.cluster_resources(), ray.nodes())


def last_line(error: Exception) -> str:
    """What happened, after where it did."""
    return str(error).strip().rpartition("\n")[2]
