"""torch.distributions.independent: Independent, where scripts import it from."""

from pargrad.distributions.multivariate import Independent

__all__ = ["Independent"]
