"""torch.linalg's names: https://docs.pytorch.org/docs/stable/linalg.html"""

from pargrad.operators.linalg import *  # noqa: F403
from pargrad.operators.linalg import __all__ as __all__
