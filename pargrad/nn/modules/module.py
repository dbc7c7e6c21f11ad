"""torch.nn.modules.module: Module, where scripts import it from."""

from pargrad.nn.module import Module

__all__ = ["Module"]
