"""Layers, losses and their functions, as torch.nn has them."""

from pargrad.nn import (
    activation_layers,
    containers,
    conv_layers,
    dropout_layers,
    functional,
    init,
    lazy_layers,
    linear_layers,
    losses,
    modules,
    normalization_layers,
    output_layers,
    parameter,
    pooling_layers,
    recurrent,
    shape_layers,
    transformer,
    utils,
)
from pargrad.nn.activation_layers import *  # noqa: F403
from pargrad.nn.containers import *  # noqa: F403
from pargrad.nn.conv_layers import *  # noqa: F403
from pargrad.nn.dropout_layers import *  # noqa: F403
from pargrad.nn.lazy_layers import *  # noqa: F403
from pargrad.nn.linear_layers import *  # noqa: F403
from pargrad.nn.losses import *  # noqa: F403
from pargrad.nn.module import Module
from pargrad.nn.normalization_layers import *  # noqa: F403
from pargrad.nn.output_layers import *  # noqa: F403
from pargrad.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
from pargrad.nn.pooling_layers import *  # noqa: F403
from pargrad.nn.recurrent import *  # noqa: F403
from pargrad.nn.shape_layers import *  # noqa: F403
from pargrad.nn.transformer import *  # noqa: F403
from pargrad.operators.documentation import add_pages

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedParameter",
    "functional",
    "init",
    "modules",
    "parameter",
    "utils",
    *activation_layers.__all__,
    *containers.__all__,
    *conv_layers.__all__,
    *dropout_layers.__all__,
    *lazy_layers.__all__,
    *linear_layers.__all__,
    *losses.__all__,
    *normalization_layers.__all__,
    *output_layers.__all__,
    *pooling_layers.__all__,
    *recurrent.__all__,
    *shape_layers.__all__,
    *transformer.__all__,
]
add_pages("nn.functional.", vars(functional))
add_pages("nn.", {name: globals()[name] for name in __all__})
