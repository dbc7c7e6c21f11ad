"""What torch keeps in `torch.utils`."""

from pargrad.utils import checkpoint as checkpoint
from pargrad.utils import data as data

__all__ = ["checkpoint", "data"]
