"""pargrad agrees with torch on the samples of torch's own tests, but for what a table says."""

import pytest
import torch

from tests.torch_operators import DIFFERENT, MISSING, OPERATORS, counted, missing, problems

CASES = [(operator, dtype) for operator in OPERATORS if operator.twin is not None for dtype in operator.dtypes]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Arrays as small as these are no work for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("operator", "dtype"), CASES, ids=[f"{operator.title}-{str(dtype)[6:]}" for operator, dtype in CASES]
)
def test_agrees_with_torch_as_far_as_the_table_says(operator, dtype):
    assert problems(operator, dtype) == []


def test_what_is_missing_is_what_the_table_says():
    assert [x.title for x in OPERATORS if (x.twin is None) != (missing(x) is not None)] == []
    titles = {operator.title for operator in OPERATORS}
    assert {name for names in MISSING.values() for name in names.split()} | DIFFERENT.keys() <= titles


def test_more_than_300_differentiable_operators_agree():
    assert len(counted()) >= 300
