"""Whether this machine, and a cluster, can train: what is there, what is wrong with it, and what to change."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pargrad.parallel.authentication import HOW_TO_EXPORT, token_mode, token_source
from pargrad.parallel.cores import available_cores, controller, quota
from pargrad.parallel.errors import ResourcesError
from pargrad.parallel.workers import import_ray
from pargrad.version import __version__

LEAST_SHARED = 100_000_000  # bytes of /dev/shm: a little more than the store of a Ray that pargrad starts
LEAST_MEMORY = 1_000_000_000
LEAST_DISK = 100_000_000


class Finding(NamedTuple):
    name: str
    level: Literal["ok", "warning", "error"]  # an error: it cannot train
    text: str
    advice: str = ""  # what to change


def examine(address: str | None = None, run_dir: str | None = None) -> Iterator[Finding]:
    """One finding after the other. With an address the cluster there is joined, and left again."""
    yield versions()
    yield blas()
    yield cores()
    yield memory()
    yield shared_memory()
    yield authentication(address)
    if address is not None:
        yield from cluster(address)
    yield job_client()
    yield data()
    yield run_directory(run_dir)


def versions() -> Finding:
    found = {name: version_of(name) for name in ("numpy", "scipy", "ray")}
    text = f"pargrad {__version__} in {Path(__file__).parents[1]}, Python {platform.python_version()}, " + ", ".join(
        f"{name} {version or 'missing'}" for name, version in found.items()
    )
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return Finding("versions", "error", text, f"pip install {' '.join(missing)}")
    return Finding("versions", "ok", f"{text}, {platform.machine()} {platform.system()}")


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def blas() -> Finding:
    import numpy as np

    np.ones((2, 2)) @ np.ones((2, 2))  # the library is there after its first use
    libraries = [
        f"{one['internal_api']} {one['version']} ({one.get('architecture', 'any')}), {one['num_threads']} threads"
        for one in controller().info()
        if one["user_api"] == "blas"
    ]
    if not libraries:
        return Finding(
            "BLAS", "warning", "numpy's is not one that threadpoolctl knows, so it cannot be held to one thread",
            "export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 VECLIB_MAXIMUM_THREADS=1",
        )  # fmt: skip
    return Finding("BLAS", "ok", f"{'; '.join(libraries)}; a worker holds it to one")


def cores() -> Finding:
    count, limit = available_cores(), quota()
    load = os.getloadavg()[0]
    text = f"{count} for this process, {os.cpu_count()} in the machine, quota {limit:g}, load {load:.1f}"
    if load > count / 2:
        return Finding("cores", "warning", text, "something else computes here: steps will take longer")
    return Finding("cores", "ok", text)


def memory() -> Finding:
    free = available_memory()
    if free is None:
        return Finding("memory", "ok", "not known on this system")
    text = f"{free / 1e9:.1f} GB available"
    if free < LEAST_MEMORY:
        return Finding("memory", "warning", text, f"Ray and a worker need about {LEAST_MEMORY / 1e9:g} GB")
    return Finding("memory", "ok", text)


def available_memory() -> int | None:
    """Bytes that are left, by the machine and by the control group (cgroup v2), whichever is less."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    (free,) = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else min(free, int(limit) - used)


def shared_memory(place: str = "/dev/shm") -> Finding:
    if not os.path.isdir(place):
        return Finding("shared memory", "ok", f"{place} is not there on this system; Ray uses files")
    size = shutil.disk_usage(place).total
    text = f"{place} has {size / 1e6:,.0f} MB"
    if size < LEAST_SHARED:
        where = "a container's usual size" if in_container() else "little"
        return Finding(
            "shared memory", "warning", f"{text}, which is {where}: Ray's object store goes to a disk",
            "docker run --shm-size=1g; on Kubernetes an emptyDir with medium: Memory at /dev/shm",
        )  # fmt: skip
    return Finding("shared memory", "ok", text)


def in_container() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))


def authentication(address: str | None) -> Finding:
    if token_mode():
        source = token_source()
        if source is None:
            return Finding("authentication", "error", "RAY_AUTH_MODE=token, and there is no token", HOW_TO_EXPORT)
        return Finding("authentication", "ok", f"token, from {source}")
    if address in (None, "local"):
        return Finding("authentication", "ok", "RAY_AUTH_MODE is not token; a Ray of this machine's own needs none")
    return Finding(
        "authentication", "warning", "RAY_AUTH_MODE is not token: who reaches the cluster's ports can run code on it",
        HOW_TO_EXPORT,
    )  # fmt: skip


def cluster(address: str) -> Iterator[Finding]:
    try:
        found = import_ray(address).resources_of(address)
    except (ValueError, ResourcesError, RuntimeError) as error:
        yield Finding("Ray", "error", str(error).partition("\n")[0])
        return
    yield free_cores(address, found.available, found.total)
    for node in found.nodes:
        yield described(node)


def free_cores(address: str, available: dict[str, float], total: dict[str, float]) -> Finding:
    free, all_of_them = int(available.get("CPU", 0)), int(total.get("CPU", 0))
    text = f"{free} of {all_of_them} cores are free at {address}"
    if free:
        return Finding("Ray", "ok", text)
    return Finding("Ray", "error", text, "wait for other jobs or stop them (`ray job list`), or add nodes")


def described(node: dict[str, Any]) -> Finding:
    text = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}), {int(node['Resources'].get('CPU', 0))} cores"
    if not node["Alive"]:
        return Finding("node", "warning", f"{text}: it is gone")
    return Finding("node", "ok", text)


def job_client() -> Finding:
    if find_spec("aiohttp") is None or find_spec("pydantic") is None:
        return Finding("jobs", "ok", "pargrad submit is not there; for it: pip install 'pargrad[cluster]'")
    return Finding("jobs", "ok", "pargrad submit is there")


def data() -> Finding:
    from pargrad.data.mnist import load

    try:
        images = load("mnist")
    except (ValueError, OSError) as error:
        return Finding("data", "error", str(error).partition("\n")[0])
    note = "; for all of MNIST: pargrad train mnist --download" if images.embedded else ""
    return Finding("data", "ok", f"mnist from {images.source}{note}")


def run_directory(run_dir: str | None) -> Finding:
    """Whether checkpoints can be written: into the directory, or the nearest that is there above it."""
    wanted = Path(run_dir or ".").absolute()
    place = next(parent for parent in (wanted, *wanted.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        level: Literal["warning", "error"] = "warning" if run_dir is None else "error"
        return Finding("run directory", level, f"{wanted} cannot be written: {error}", "give another --run-dir")
    text = f"{wanted} can be written, {free / 1e9:.1f} GB free"
    if free < LEAST_DISK:
        return Finding("run directory", "warning", text, "make room, or give a --run-dir on another disk")
    return Finding("run directory", "ok", text)
