"""torch.nn.modules.batchnorm: the layers, and their base as torch calls it."""

from pargrad.nn.normalization_layers import BatchNorm as _BatchNorm
from pargrad.nn.normalization_layers import BatchNorm1d, BatchNorm2d, BatchNorm3d
from pargrad.nn.normalization_layers import RunningNorm as _NormBase

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "_BatchNorm", "_NormBase"]
