"""Proof: the derivative of every rule, at random points and in random shapes, is what central differences find."""

import hashlib

import numpy as np
from hypothesis import strategies as st

from pargrad.gradcheck import gradcheck
from pargrad.rules import RULES
from pargrad.rules.stacks import elementwise
from pargrad.tensor import Tensor, apply
from tests.checks import can_require_grad
from tests.proofs import proof
