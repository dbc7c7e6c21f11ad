"""The comparisons of agreement_torch.py fail on what is wrong, in values or only in gradients."""

import numpy as np
import pytest

import pargrad as pg
from tests.agreement_torch import agree, check_both, check_twins

X = np.array([0.5, -1.5, 2.0])
WRONG = {
    "a value": lambda library, x: x * (2 if library is pg else 2.001),
    "a gradient": lambda library, x: x + (x.detach() if library is pg else x),
    "a dtype": lambda library, x: x.float() if library is pg else x,
    "a refusal": lambda library, x: x.reshape(2 if library is pg else 3),
}


@pytest.mark.parametrize("check", [agree, check_both])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_difference_is_seen(check, wrong):
    with pytest.raises((AssertionError, RuntimeError)):
        check(WRONG[wrong], [X])


def test_what_agrees_passes():
    assert agree(lambda library, x: library.exp(x), [X])
    check_both(lambda library, x: library.exp(x), [X])
    check_twins(lambda x: x**2, lambda x: x * x, [X])
