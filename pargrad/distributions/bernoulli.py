"""torch.distributions.bernoulli: Bernoulli, where scripts import it from."""

from pargrad.distributions.discrete import Bernoulli

__all__ = ["Bernoulli"]
