"""How many cores this process may use, and BLAS held to one thread on them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import ThreadpoolController


def available_cores() -> int:
    """Cores by the process's affinity and its control group's quota, whichever is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(cores, quota())))


def quota() -> float:
    """Cores that the control group grants (cgroup v2, then v1); infinite without a limit."""
    with contextlib.suppress(OSError, ValueError):
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.inf if limit == "max" else max(1.0, int(limit) / int(period))
    with contextlib.suppress(OSError, ValueError):
        limit_v1 = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text())
        period_v1 = int(Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text())
        return math.inf if limit_v1 < 0 else max(1.0, limit_v1 / period_v1)
    return math.inf


@functools.cache
def controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through every loaded library, which takes milliseconds: once


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Inside, this process computes as a worker does: with one BLAS thread, and keeping the memory that it frees."""
    with one_blas_thread():
        keep_freed_memory()
        try:
            yield
        finally:
            set_allocator(*OF_GLIBC)


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, matrix products run on one thread: another number of threads gives other bits."""
    with controller().limit(limits=1):
        yield


def keep_freed_memory() -> None:
    """Has glibc keep what this process frees for the next step, instead of giving it back and faulting it in again.

    Arrays of up to 256 MiB then come from the heap, which is not trimmed. Elsewhere than on Linux nothing is done.
    """
    set_allocator(1 << 28, 1 << 28)


OF_GLIBC = 1 << 26, 1 << 25  # where its own thresholds end up, which move with what is freed


def set_allocator(trim: int, mmap: int) -> None:
    """Free bytes at the heap's end that are given back, and from how many bytes on an array has pages of its own.

    https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    trim_threshold, mmap_threshold = -1, -3
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(trim_threshold, trim)
        library.mallopt(mmap_threshold, mmap)
