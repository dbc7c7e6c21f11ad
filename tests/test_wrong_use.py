"""Errors: what was got, what was expected, what to write."""

import copy
import operator
import pickle

import numpy as np
import pytest

import pargrad as pg
from tests.tensors import X, leaf

ERRORS = [
    (lambda: pg.ones(2, 3) + pg.ones(4, 3), RuntimeError, ["add", "float32[2, 3]", "float32[4, 3]", "broadcast"]),
    (lambda: pg.ones(2, 3) @ pg.ones(2, 3), RuntimeError, ["matmul", "float32[2, 3], float32[2, 3]"]),
    (lambda: pg.ones(2) @ pg.tensor(1.0), RuntimeError, ["matmul", "float32[2]", "float32[]"]),
    (
        lambda: pg.ones(2, 2) @ pg.ones(2, 2, dtype=pg.float64),
        RuntimeError,
        ["matmul: expected tensors of one dtype", "float32 and float64", "write x.float() or x.to(y.dtype)"],
    ),
    (lambda: pg.ones(2, 2) @ 2, TypeError, ["unsupported operand type(s) for @: 'Tensor' and 'int'"]),
    (lambda: 2.0 @ pg.ones(2, 2), TypeError, ["unsupported operand type(s) for @: 'float' and 'Tensor'"]),
    (lambda: pg.tensor([1, 2]).mean(), RuntimeError, ["mean: expected a floating-point", "int64", "x.float()"]),
    (lambda: pg.tensor([True]).softmax(0), RuntimeError, ["softmax: expected a floating", "bool", "x.float()"]),
    (
        lambda: leaf(X).backward(),
        RuntimeError,
        ["takes a tensor of one element", "(3,)", "x.sum().backward() or x.backward(gradient)"],
    ),
    (lambda: pg.ones(()).backward(), RuntimeError, ["does not require grad", "requires_grad=True", "no_grad()"]),
    (lambda: (leaf(X) > 1).sum().backward(), RuntimeError, ["does not require grad"]),
    (lambda: (leaf(X) * 2).backward(pg.ones(2)), RuntimeError, ["expected shape (3,), got (2,)"]),
    (lambda: (leaf(X) * 2).backward(pg.tensor(1.0)), RuntimeError, ["expected shape (3,), got ()"]),
    (lambda: pg.ones(2).item(), RuntimeError, ["1 element", "(2,)", "x.tolist()"]),
    (lambda: pg.ones(0).item(), RuntimeError, ["1 element", "(0,)"]),
    (lambda: float(pg.ones(2)), ValueError, ["float()", "1 element", "(2,)", "x.tolist()"]),
    (lambda: int(pg.ones(2)), ValueError, ["int()", "1 element", "(2,)"]),
    (lambda: bool(pg.ones(2)), RuntimeError, ["(2,)", "ambiguous", "(x != 0).all() or .any()"]),
    (lambda: range(3)[pg.tensor(1.0)], TypeError, ["only an integer tensor", "float32", "int(x)"]),
    (lambda: range(3)[pg.tensor([1, 2])], TypeError, ["only an integer tensor", "(2,)"]),
    (lambda: len(pg.tensor(1.0)), TypeError, ["len() of a 0-d tensor"]),
    (lambda: list(pg.tensor(1.0)), TypeError, ["0-d tensor"]),
    (lambda: leaf(X).numpy(), RuntimeError, ["requires grad", "x.detach().numpy()"]),
    (lambda: np.asarray(leaf(X)), RuntimeError, ["requires grad", "x.detach().numpy()"]),
    (lambda: pg.ones(2, 3).sum(2), IndexError, ["sum(float32[2, 3], dim=2", "axis 2 is out of bounds"]),
    (lambda: pg.ones(2, 3).max(2), IndexError, ["max(float32[2, 3], dim=2", "axis 2 is out of bounds"]),
    (lambda: pg.ones(2, 3).softmax(-3), IndexError, ["softmax(float32[2, 3], dim=-3"]),
    (lambda: pg.ones(2, 3).transpose(0, 2), IndexError, ["transpose: expected a dim from -2 to 1", "(2, 3), got 2"]),
    (lambda: pg.ones(2, 3).flatten(3), IndexError, ["flatten: expected a dim from -2 to 1", "got 3"]),
    (lambda: pg.ones(2, 3).flatten(1, 0), RuntimeError, ["start_dim 1 comes after end_dim 0", "(2, 3)"]),
    (lambda: pg.ones(2, 3).permute(0, 2), IndexError, ["permute(float32[2, 3], dims=(0, 2))"]),
    (lambda: pg.ones(2, 3).permute(0, 0), RuntimeError, ["permute", "repeated"]),
    (lambda: pg.ones(2, 3).permute(0), RuntimeError, ["permute", "dims=(0,)"]),
    (lambda: pg.ones(2, 3).reshape(4, 2), RuntimeError, ["reshape(float32[2, 3], shape=(4, 2))"]),
    (lambda: pg.ones(2, 3).reshape(-1, -1), RuntimeError, ["reshape", "(-1, -1)"]),
    (lambda: pg.ones(2, 3).T.view(6), RuntimeError, ["not contiguous", "(3, 2)", "write x.reshape(6,)"]),
    (lambda: pg.ones(2, 3).expand(2, 4), RuntimeError, ["expand(float32[2, 3], size=(2, 4))"]),
    (lambda: pg.ones(2, 3).expand(3), RuntimeError, ["expand(float32[2, 3], size=(3,))"]),
    (lambda: pg.ones(3).expand(-1, 3), RuntimeError, ["expand", "the first 1 are new: give their sizes"]),
    (lambda: pg.ones(2, 3, 4).t(), RuntimeError, ["at most 2 dimensions", "(2, 3, 4)", "x.transpose(dim0, dim1)"]),
    (lambda: pg.cat([]), RuntimeError, ["cat: expected a list of at least one tensor"]),
    (lambda: pg.cat([pg.ones(2), pg.ones(2, 2)]), RuntimeError, ["cat(float32[2], float32[2, 2]"]),
    (lambda: pg.stack([pg.ones(2), pg.ones(3)]), RuntimeError, ["stack(float32[2], float32[3]"]),
    (lambda: pg.ones(3)[3], IndexError, ["getitem(float32[3], index=3)", "out of bounds"]),
    (lambda: pg.ones(3)[0, 0], IndexError, ["getitem(float32[3]", "too many indices"]),
    (lambda: pg.ones(3)[pg.tensor([True, False])], IndexError, ["boolean index did not match"]),
    (lambda: pg.ones(3)[pg.tensor([0.5])], IndexError, ["getitem"]),
    (lambda: operator.setitem(pg.ones(3), slice(2), pg.ones(3)), RuntimeError, ["(3,)", "broadcast"]),
    (
        lambda: operator.setitem(leaf(X), 0, 1.0),
        RuntimeError,
        ["in-place copy_ on a view of a leaf that requires grad", "with no_grad():", "out of place"],
    ),
    (lambda: operator.setitem(leaf(X), [0], 1.0), RuntimeError, ["x[index] = value on a leaf", "with no_grad():"]),
    (lambda: operator.setitem(leaf(X) * 1, [0, 1], pg.ones(3)), RuntimeError, ["set_at", "(2,)"]),
    (lambda: pg.clamp(pg.ones(3)), RuntimeError, ["clamp: expected min, max or both"]),
    (lambda: pg.add(pg.ones(3), "text"), TypeError, ["takes tensors, numpy arrays and numbers, got str"]),
    (lambda: pg.add(pg.ones(3), None), TypeError, ["got NoneType", "write pargrad.tensor(...)"]),
    (lambda: pg.add(pg.ones(3)), TypeError, ["add() lacks its argument 'y'"]),
    (lambda: pg.add(1, 2, 3), TypeError, ["add() got 3 arguments, expected at most 2: x, y"]),
    (lambda: pg.add(pg.ones(3), 1, beta=2), TypeError, ["add() got an unknown argument 'beta'", "takes x, y"]),
    (lambda: pg.ones(3).sum(dims=0), TypeError, ["sum() got an unknown argument 'dims'", "x, dim, keepdim"]),
    (lambda: pg.ones(3).sum(0, axis=0), TypeError, ["'dim' both by position and by name"]),
    (lambda: pg.ones(3).max(dims=0), TypeError, ["dims"]),
    (lambda: pg.ones(2, 3).sum(0, 1), TypeError, ["keepdim=True or False, got 1", "dim=(0, 1)"]),
    (lambda: pg.tensor([1]) + 2**70, OverflowError, ["too large"]),
    (lambda: pg.ones(3).reshape(sizes=(3,)), TypeError, ["sizes"]),
    (lambda: pg.tensor("text"), TypeError, ["expected numbers"]),
    (lambda: pg.tensor([[1, 2], [3]]), ValueError, ["inhomogeneous"]),
    (lambda: pg.from_numpy([1.0]), TypeError, ["takes a numpy array, got list", "pargrad.tensor(data)"]),
    (lambda: copy.deepcopy(leaf(X) * 2), RuntimeError, ["only a leaf", "x.detach().clone()"]),
    (lambda: pickle.dumps(leaf(X) * 2), RuntimeError, ["only a leaf", "x.detach()"]),
    (lambda: pg.amax(pg.ones(0)), RuntimeError, ["amax(float32[0]"]),
    (lambda: pg.tensor([2]) ** -1, RuntimeError, ["pow(int64[1]", "negative integer powers"]),
]


@pytest.mark.parametrize(
    ("act", "kind", "pieces"), ERRORS, ids=[f"{i}-{row[2][0][:40]}" for i, row in enumerate(ERRORS)]
)
def test_an_error_says_what_it_got_and_what_to_write(act, kind, pieces):
    with pytest.raises(kind) as error:
        act()
    assert type(error.value) is kind
    for piece in pieces:
        assert piece in str(error.value)
