"""Layers, losses and their functions, as torch.nn has them."""

from pargrad.nn import functional, init
from pargrad.nn.layers import Dropout, Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh
from pargrad.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, NLLLoss
from pargrad.nn.module import Module, Parameter

__all__ = [
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "MSELoss",
    "Module",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
]
