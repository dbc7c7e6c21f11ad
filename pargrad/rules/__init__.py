"""The derivatives: pure numpy, one function an operator, no knowledge of Tensor."""

from pargrad.rules import elementwise, indexing, linear, losses, reductions, shapes, sorting, special
from pargrad.rules.table import RULES, Rule, Sample, boolean, integers, rule, sample

__all__ = [
    "RULES",
    "Rule",
    "Sample",
    "boolean",
    "elementwise",
    "indexing",
    "integers",
    "linear",
    "losses",
    "reductions",
    "rule",
    "sample",
    "shapes",
    "sorting",
    "special",
]
