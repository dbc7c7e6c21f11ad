"""torch.nn.parameter's names, which `nn` has, too."""

from pargrad.nn.module import Buffer, Parameter

__all__ = ["Buffer", "Parameter"]
