"""torch.distributions.multivariate_normal: MultivariateNormal, where scripts import it from."""

from pargrad.distributions.multivariate import MultivariateNormal

__all__ = ["MultivariateNormal"]
