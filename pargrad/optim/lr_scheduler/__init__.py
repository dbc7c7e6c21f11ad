"""Schedules: objects that write a learning rate into an optimizer's groups each time `step()` is called.

Most go on from the rate that they find, so that several may take turns and a rate that someone else has written
counts; `step(epoch)` starts from the first rate again, by a closed form. A torch schedule's `state_dict()` loads here.
https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

from pargrad.optim.lr_scheduler.composites import ChainedScheduler, SequentialLR
from pargrad.optim.lr_scheduler.curves import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    PolynomialLR,
)
from pargrad.optim.lr_scheduler.cycles import CyclicLR, OneCycleLR
from pargrad.optim.lr_scheduler.factors import ConstantLR, LambdaLR, MultiplicativeLR, MultiStepLR, StepLR
from pargrad.optim.lr_scheduler.plateau import ReduceLROnPlateau
from pargrad.optim.lr_scheduler.scheduler import LRScheduler

_LRScheduler = LRScheduler  # torch's older name, which subclasses still use

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
