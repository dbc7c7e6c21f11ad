"""torch.linalg's names: https://docs.pytorch.org/docs/stable/linalg.html

A is a matrix (m, n) or a batch of them (..., m, n), of floating-point or complex numbers.
RuntimeError for integers (`diagonal` and `matmul` take them), for two dtypes, and where A is not square and has to be.
LinAlgError is a RuntimeError too.
"""

from pargrad.operators.linalg import *  # noqa: F403
from pargrad.operators.linalg import __all__ as __all__
