"""What scripts ask of torch.accelerator: there is none."""

from __future__ import annotations


def is_available() -> bool:
    """False: there is no accelerator."""
    return False


def device_count() -> int:
    """No accelerators: 0."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """None: there is no accelerator."""
    return None
