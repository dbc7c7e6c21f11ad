"""torch.nn.functional: activations, layers and losses as functions, gathered from the modules that hold them.

Every loss has `LOSS.sum_and_divisor(...)`, what data parallelism adds up (see `terms`).
"""

from pargrad.nn.activations import *  # noqa: F403
from pargrad.nn.attention import *  # noqa: F403
from pargrad.nn.class_losses import *  # noqa: F403
from pargrad.nn.dropout import *  # noqa: F403
from pargrad.nn.linear import *  # noqa: F403
from pargrad.nn.loss_functions import *  # noqa: F403
from pargrad.nn.normalization import *  # noqa: F403
from pargrad.nn.pair_losses import *  # noqa: F403
from pargrad.nn.pooling import *  # noqa: F403
from pargrad.nn.resampling import *  # noqa: F403
from pargrad.nn.sparse import *  # noqa: F403
from pargrad.nn.spatial import *  # noqa: F403
from pargrad.operators.indexing import one_hot as one_hot
from pargrad.operators.products import bilinear as bilinear
from pargrad.operators.products import cosine_similarity as cosine_similarity
from pargrad.operators.products import pairwise_distance as pairwise_distance
from pargrad.operators.products import pdist as pdist
