"""How many workers there are to be, and the pool that has them."""

from __future__ import annotations

import math
import os
import secrets
import socket
import sys
from typing import Any, NamedTuple

from pargrad.parallel.cores import available_cores
from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.pool import Pool, SerialPool
from pargrad.parallel.progress import say

CONNECT_SECONDS = 5.0
FORKED: set[int] = set()  # this process, where it was forked with this module in it
REFUSED = {  # resources that no worker is given, and why
    "GPU": "pargrad computes on CPUs",
    "object_store_memory": "Ray gives no worker a part of its object store",
}


class Request(NamedTuple):
    """What is asked of Ray: of which one, what each worker is to have of it, and in which placement group."""

    address: str
    resources: dict[str, float]
    group: Any

    @property
    def cores(self) -> int:
        """Of one worker."""
        return int(self.resources["CPU"])

    @property
    def is_for_own_ray(self) -> bool:
        """Whether it goes to a Ray that is started for it."""
        return self.address == "local" and not ray_is_initialized()


def make_request(address: str, resources_per_worker: dict[str, float] | None, placement_group: Any) -> Request:
    if not isinstance(resources_per_worker, dict | None):
        raise TypeError(
            f"expected resources_per_worker to be a dict such as {{'CPU': 1}}, got {resources_per_worker!r}"
        )
    asked = {"CPU": 1, **(resources_per_worker or {})}
    for name, amount in asked.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < math.inf:
            raise ValueError(f"resources_per_worker: expected {name!r} to be a number of at least 0, got {amount!r}")
        if amount and name in REFUSED:
            raise ValueError(f"resources_per_worker: leave {name!r} out, {REFUSED[name]}")
    if asked["CPU"] < 1 or asked["CPU"] % 1:
        raise ValueError(
            f"resources_per_worker: expected 'CPU' to be a whole number of at least 1, got {asked['CPU']}: a worker "
            "computes on a core of its own, and all wait for the slowest"
        )
    return Request(address, {name: amount for name, amount in asked.items() if amount}, placement_group)


def make_pool(workers: Workers, request: Request, start_timeout: float, max_failures: int) -> Pool:
    if workers.most == 0:
        return SerialPool()
    import_ray(request.address)
    if request.is_for_own_ray:
        from pargrad.parallel.ray_pool import RayPool

        return RayPool(workers, request, start_timeout, max_failures)
    from pargrad.parallel import ray_cluster

    return ray_cluster.make_pool(workers, request, start_timeout, max_failures)


def import_ray(address: str) -> Any:
    """The module that leads into Ray, which is imported here and nowhere before; a wrong address is refused."""
    if ray_is_initialized() and os.getpid() in FORKED:
        raise ResourcesError(
            "this process was forked from one in which Ray runs, and Ray does not outlive a fork: start it with "
            "multiprocessing.get_context('spawn'), or write num_workers=0"
        )
    check_address(address)
    if "ray" not in sys.modules:  # it reads its environment once
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # they would look for a network
        os.environ.setdefault("RAY_worker_niceness", "0")  # training is no background work: Ray's default is 15
        if address == "local" and "RAY_AUTH_MODE" not in os.environ:
            # A token of this run's own: else Ray writes one to the user's home.
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    from pargrad.parallel import ray_connection

    return ray_connection


def check_address(address: str) -> None:
    """Ray itself would try for minutes where nothing listens."""
    if address in ("local", "auto") or "://" in address:
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"expected address to be 'local', 'auto' or 'HOST:PORT', got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ResourcesError(
            f"no Ray cluster at address {address!r}: {error}. Write address='local', or start one with "
            "`ray start --head`"
        ) from error


def note_fork() -> None:
    FORKED.add(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=note_fork)


class Workers(NamedTuple):
    """How many workers there must be to begin, how many to go on, and how many there should be."""

    first: int
    least: int
    most: int


def bounds_of_workers(
    num_workers: int | str | tuple[int, int], shards: int | None, request: Request, progress: str
) -> Workers:
    """A single number is what there should be, and must be to begin; a pair (least, most) begins with the least."""
    if not isinstance(num_workers, tuple):
        most = choose_workers(num_workers, shards, request, progress)
        return Workers(most, min(most, 1), most)
    whole = len(num_workers) == 2 and all(isinstance(n, int) and not isinstance(n, bool) for n in num_workers)
    if not whole or not 1 <= num_workers[0] <= num_workers[1]:
        raise ValueError(f"expected num_workers=(least, most) with 1 <= least <= most, got {num_workers!r}")
    least, most = num_workers
    return Workers(least, least, choose_workers(most, shards, request, progress))


def choose_workers(num_workers: int | str, shards: int | None, request: Request, progress: str) -> int:
    """`num_workers` as a number, refused at once where it is more than the shards or than this machine has room for."""
    if isinstance(num_workers, bool) or not (
        num_workers == "auto" or (isinstance(num_workers, int) and num_workers >= 0)
    ):
        raise ValueError(f"expected num_workers to be 'auto', 0 or a positive number, got {num_workers!r}")
    if num_workers == "auto":
        free = room_for(request)
        if shards is not None and free > shards:
            if progress != "off":
                say(
                    f"num_workers='auto' takes {shards}, and there is room for {free}: a batch has {shards} shards; "
                    f"write shards={1 << (free - 1).bit_length()} to use more"
                )
            return shards
        num_workers = max(free, 1)
    assert isinstance(num_workers, int)
    if shards is not None and num_workers > shards:
        raise ValueError(
            f"expected at most as many workers as shards, got num_workers={num_workers} and shards={shards}: write "
            f"shards={1 << (num_workers - 1).bit_length()}"
        )
    if num_workers and request.is_for_own_ray and num_workers > room_for(request):
        each = "one core" if request.cores == 1 else f"{request.cores} cores"
        raise ResourcesError(
            f"asked for {num_workers} workers of {each} each, but this machine has {available_cores()} available "
            f"cores: write num_workers={room_for(request)}"
        )
    return num_workers


def room_for(request: Request) -> int:
    """The workers for whom there is room: in a Ray that is there now, else on the cores of this machine."""
    if not request.is_for_own_ray:
        import_ray(request.address)
        from pargrad.parallel import ray_placement

        return ray_placement.count_free(request)
    if request.group is not None:
        raise ResourcesError("placement_group is one of a Ray that this process is not in: call ray.init(...) before")
    if others := request.resources.keys() - {"CPU", "memory"}:
        raise ResourcesError(
            f"resources_per_worker asks for {', '.join(sorted(others))}, which a Ray that pargrad starts does not "
            "have: join one that has it with address='auto', or call ray.init(resources={...}) before"
        )
    return available_cores() // request.cores


def ray_is_initialized() -> bool:
    ray = sys.modules.get("ray")  # who has not imported it has not initialised it
    return ray is not None and ray.is_initialized()
