"""What scripts ask of torch.cuda: there is no GPU, and what may be called without one may be called here."""

from __future__ import annotations

from typing import Any

from pargrad.cuda import amp as amp


def is_available() -> bool:
    """False: there is no GPU."""
    return False


def is_initialized() -> bool:
    """False: there is no GPU."""
    return False


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False: there is no GPU."""
    return False


def device_count() -> int:
    """No GPUs: 0."""
    return 0


def memory_allocated(device: Any = None) -> int:
    """No memory of a GPU: 0."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def manual_seed(seed: int) -> None:
    """Taken, and means nothing: there is no GPU's generator to seed. `pargrad.manual_seed` seeds the CPU's."""


def manual_seed_all(seed: int) -> None:
    """Taken, and means nothing: there is no GPU's generator to seed. `pargrad.manual_seed` seeds the CPU's."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """Taken, and means nothing: there is no GPU's memory."""


def empty_cache() -> None:
    """Taken, and means nothing: there is no GPU's memory."""


def get_rng_state_all() -> list:
    """The states of no generators."""
    return []


def set_rng_state_all(new_states: Any) -> None:
    """Taken, and means nothing: there is no GPU's generator."""


def current_device() -> int:
    """There is none: an error that says so."""
    raise RuntimeError("there is no GPU: ask cuda.is_available() first")


def set_device(device: Any) -> None:
    """There is none: an error that says so."""
    current_device()


def synchronize(device: Any = None) -> None:
    """There is no GPU to wait for: an error that says so."""
    current_device()


def get_device_name(device: Any = None) -> str:
    """There is none: an error that says so."""
    return str(current_device())
