"""The derivatives: pure numpy, one function an operator, no knowledge of Tensor."""

from pargrad.rules import elementwise, linear, losses, reductions, shapes
from pargrad.rules.table import RULES, Rule, Sample, boolean, integers, rule, sample

__all__ = [
    "RULES",
    "Rule",
    "Sample",
    "boolean",
    "elementwise",
    "integers",
    "linear",
    "losses",
    "reductions",
    "rule",
    "sample",
    "shapes",
]
