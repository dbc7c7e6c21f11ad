"""torch.nn.modules.loss: the losses, and their bases as torch calls them."""

from pargrad.nn.losses import *  # noqa: F403
from pargrad.nn.losses import Loss as _Loss
from pargrad.nn.losses import WeightedLoss as _WeightedLoss

__all__ = ["_Loss", "_WeightedLoss"]
