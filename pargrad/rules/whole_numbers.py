"""Operators on integers, which have no derivative."""

import numpy as np

from pargrad.rules.stacks import elementwise
from pargrad.rules.table import integers, rule, sample


def check_whole(x, y):
    if np.result_type(x, y).kind not in "iu":
        raise ValueError(f"expected integers, got {np.result_type(x, y)}")


@rule(sample(integers(30, 2, 3), integers(30, 3)), numpy=np.gcd, differentiable=False, stack=elementwise)
def gcd(x, y):
    check_whole(x, y)
    return np.gcd(x, y)


@rule(sample(integers(30, 2, 3), integers(30, 3)), numpy=np.lcm, differentiable=False, stack=elementwise)
def lcm(x, y):
    check_whole(x, y)
    return np.lcm(x, y)
