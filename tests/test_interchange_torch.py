"""Tensors from torch and to it."""

import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import nn
from tests.test_imports import loaded_by

DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
    "complex64",
    "complex128",
]


def networks():
    layers = (("Linear", 6, 4), ("BatchNorm1d", 4), ("Linear", 4, 3))
    return [kind.Sequential(*(getattr(kind, name)(*sizes) for name, *sizes in layers)) for kind in (nn, torch.nn)]


def test_a_state_dict_goes_both_ways():
    mine, theirs = networks()
    x = np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)
    mine.load_state_dict(pg.from_torch(theirs.state_dict()))
    assert list(pg.from_torch(theirs.state_dict())) == list(theirs.state_dict())
    for model in (mine, theirs):
        model.eval()
    expected = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(mine(pg.tensor(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    mine[0].weight.array[:] = 2
    theirs.load_state_dict(pg.to_torch(mine.state_dict()))
    assert (theirs[0].weight == 2).all()


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_and_shape_comes_back(name, shape):
    array = np.asarray(np.random.default_rng(0).standard_normal(shape) * 3).astype(name)
    theirs = torch.from_numpy(array)
    mine = pg.from_torch(theirs)
    assert mine.dtype == array.dtype and mine.shape == array.shape and not mine.requires_grad
    np.testing.assert_array_equal(mine.numpy(), array)
    again = pg.to_torch(mine)
    assert again.dtype == theirs.dtype and torch.equal(again, theirs)


def test_bfloat16_becomes_float32():
    theirs = torch.randn(7).bfloat16()
    mine = pg.from_torch(theirs)
    assert mine.dtype == pg.float32 and (mine.numpy() == theirs.float().numpy()).all()


def test_memory_is_not_shared_and_graphs_are_left():
    theirs = torch.nn.Parameter(torch.ones(3))
    mine = pg.from_torch(theirs * 2)
    assert not mine.requires_grad and mine.array.flags.writeable
    theirs.data[:] = 0
    assert (mine.numpy() == 2).all()
    back = pg.to_torch(pg.ones(3, requires_grad=True) * 3)
    assert not back.requires_grad and back.sum() == 9


def test_structures_stay():
    state = OrderedDict(
        step=3, state=[{"exp_avg": torch.ones(2)}, ("text", None)], conj=torch.ones(2, dtype=torch.complex64).conj()
    )
    mine = pg.from_torch(state)
    assert type(mine) is OrderedDict and mine["step"] == 3 and mine["state"][1] == ("text", None)
    assert type(mine["state"][0]["exp_avg"]) is pg.Tensor and type(mine["conj"]) is pg.Tensor
    assert torch.equal(pg.to_torch(mine)["state"][0]["exp_avg"], torch.ones(2))


def test_what_numpy_has_not_is_said():
    with pytest.raises(TypeError, match=r"torch.sparse_coo.*tensor.to_dense\(\)"):
        pg.from_torch(torch.eye(2).to_sparse())


def test_torch_is_imported_where_it_is_needed(monkeypatch):
    assert "torch" not in loaded_by("import pargrad as pg; pg.from_torch({'a': 1})")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        pg.to_torch(pg.ones(2))
