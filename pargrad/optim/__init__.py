"""Optimizers and schedules, as torch.optim has them."""

from pargrad.optim import lr_scheduler, swa_utils
from pargrad.optim.adadelta import Adadelta
from pargrad.optim.adafactor import Adafactor
from pargrad.optim.adagrad import Adagrad
from pargrad.optim.adam import Adam
from pargrad.optim.adamax import Adamax
from pargrad.optim.adamw import AdamW
from pargrad.optim.asgd import ASGD
from pargrad.optim.lbfgs import LBFGS
from pargrad.optim.muon import Muon
from pargrad.optim.nadam import NAdam
from pargrad.optim.optimizer import Optimizer
from pargrad.optim.radam import RAdam
from pargrad.optim.rmsprop import RMSprop
from pargrad.optim.rprop import Rprop
from pargrad.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "swa_utils",
]

# By name; LBFGS alone needs a closure, and is not for the trainer.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    name: kind for name in __all__ if isinstance(kind := globals()[name], type) and kind is not Optimizer
}
