"""Optimizers, as torch.optim has them."""

from pargrad.optim.adamw import AdamW
from pargrad.optim.optimizer import Optimizer
from pargrad.optim.sgd import SGD

__all__ = ["SGD", "AdamW", "Optimizer"]
