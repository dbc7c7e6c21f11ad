"""torch.distributions.normal: Normal, where scripts import it from."""

from pargrad.distributions.continuous import Normal

__all__ = ["Normal"]
