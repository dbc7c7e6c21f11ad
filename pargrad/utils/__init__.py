"""What torch keeps in `torch.utils`."""

from pargrad.utils import checkpoint as checkpoint

__all__ = ["checkpoint"]
