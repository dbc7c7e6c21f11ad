"""torch.nn.modules: where scripts import bases from that they ask isinstance of; the layers themselves are in `nn`."""

from pargrad.nn.module import Module
from pargrad.nn.modules import batchnorm, conv, loss, module, utils

__all__ = ["Module", "batchnorm", "conv", "loss", "module", "utils"]
