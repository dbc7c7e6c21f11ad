"""What torch keeps in `torch.signal`."""

from pargrad.signal import windows as windows

__all__ = ["windows"]
