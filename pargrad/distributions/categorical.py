"""torch.distributions.categorical: Categorical, where scripts import it from."""

from pargrad.distributions.discrete import Categorical

__all__ = ["Categorical"]
