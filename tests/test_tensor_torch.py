"""Tensors against torch: dtypes of mixed operands, text, classes of errors, views, and gradients of random programs."""

import operator
import warnings

import numpy as np
import pytest
import torch

import pargrad as pg
from tests.agreement_torch import check_twins
from tests.checks import assert_equal

# ----- dtypes of mixed operands -----

DTYPES = ["bool", "uint8", "int32", "int64", "float32", "float64"]
OPERANDS = [*((dtype, ndim) for dtype in DTYPES for ndim in (1, 0)), (True, None), (2, None), (1.5, None)]
MIXING = {
    "add": lambda library, x, y: x + y,
    "sub": lambda library, x, y: x - y,
    "mul": lambda library, x, y: x * y,
    "div": lambda library, x, y: x / y,
    "floor_divide": lambda library, x, y: x // y,
    "remainder": lambda library, x, y: x % y,
    "pow": lambda library, x, y: x**y,
    "eq": lambda library, x, y: x == y,
    "lt": lambda library, x, y: x < y,
    "where": lambda library, x, y: library.where(library.tensor([True, False]), x, y),
    "maximum": lambda library, x, y: library.maximum(x, y),
    "and": lambda library, x, y: x & y,
    "or": lambda library, x, y: x | y,
    "in place add": lambda library, x, y: operator.iadd(x, y),
    "in place mul": lambda library, x, y: operator.imul(x, y),
    "in place div": lambda library, x, y: operator.itruediv(x, y),
}


ARITHMETIC_WITHOUT_BOOLEANS = ("floor_divide", "remainder", "pow")


def made(library, dtype, ndim, values):
    if ndim is None:
        return dtype
    return library.tensor(np.array(values if ndim else values[1]).astype(dtype))


def outcome(library, act, first, second):
    """The dtype, shape and values of a result, or "error"."""
    x, y = made(library, *first, [1, 3]), made(library, *second, [1, 2])
    try:
        out = act(library, x, y)
    except (RuntimeError, TypeError) as error:
        return "error", str(error)
    return str(out.dtype).removeprefix("torch."), tuple(out.shape), out.tolist()


@pytest.mark.parametrize("name", MIXING)
def test_mixed_operands_have_torchs_dtype(name):
    wrong, compared = [], 0
    for first in OPERANDS:
        for second in OPERANDS:
            if first[1] is None and (second[1] is None or name.startswith("in place")):
                continue
            if name == "maximum" and None in (first[1], second[1]):
                continue  # torch's takes tensors alone, pargrad's numbers, too
            booleans = [each[0] in ("bool", True) for each in (first, second)]
            if (name == "sub" and any(booleans)) or (name in ARITHMETIC_WITHOUT_BOOLEANS and all(booleans)):
                continue  # torch refuses some of these, numpy others
            ours, theirs = (outcome(library, MIXING[name], first, second) for library in (pg, torch))
            compared += 1
            same = ours[0] == theirs[0] == "error" or (ours[:2] == theirs[:2] and np.allclose(ours[2], theirs[2], 1e-6))
            if not same:
                wrong.append((first, second, ours, theirs))
    assert not wrong
    assert compared >= 130


def test_joined_tensors_have_torchs_dtype():
    for first in DTYPES:
        for second in DTYPES:
            for join in ("cat", "stack"):
                ours, theirs = (
                    getattr(library, join)([made(library, first, 1, [1, 3]), made(library, second, 1, [1, 2])])
                    for library in (pg, torch)
                )
                assert (str(theirs.dtype), theirs.tolist()) == (f"torch.{ours.dtype}", ours.tolist())


def test_reductions_and_functions_have_torchs_dtype():
    functions = [
        "sum", "amax", "argmax", "abs", "square", "exp", "sqrt", "tanh", "sigmoid", "relu", "clone", "any", "all",
    ]  # fmt: skip
    for dtype in DTYPES[1:]:
        for name in functions:
            ours, theirs = (getattr(made(library, dtype, 1, [1, 3]), name)() for library in (pg, torch))
            if (dtype, name) not in {("uint8", "any"), ("uint8", "all")}:  # torch's are uint8, by old habit
                assert str(theirs.dtype) == f"torch.{ours.dtype}", (dtype, name)


# ----- creation -----

DATA = [
    1, 1.5, True, [1, 2], [1, 2.5], [True, 2], [], [[1], [2]], [[]], np.float64(1), np.float32(1), np.int32(1),
    [np.float64(1)], [[np.float64(1), 2]], [np.float32(1), 2.5], [np.int64(1), 2.5], np.ones(2), np.ones(2, np.uint8),
    [np.ones(2), np.ones(2)], (1, 2), np.array(3),
]  # fmt: skip


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_tensor_infers_torchs_dtype(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: a list of arrays is slow
        theirs = torch.tensor(data)
    ours = pg.tensor(data)
    assert (f"torch.{ours.dtype}", ours.shape, ours.tolist()) == (
        str(theirs.dtype),
        tuple(theirs.shape),
        theirs.tolist(),
    )


@pytest.mark.parametrize("bounds", [(5,), (1, 5), (1, 5, 2), (0, 1, 0.1), (5.0,), (1, 2.5), (5, 1, -1), (np.int64(3),)])
def test_arange(bounds):
    ours, theirs = pg.arange(*bounds), torch.arange(*bounds)
    assert str(theirs.dtype) == f"torch.{ours.dtype}"
    assert_equal([ours.numpy()], [theirs.numpy()])


# ----- text -----

GENERATOR = np.random.default_rng(0)
TEXTS = [
    np.float32(1.5), np.array(0.0), np.array(-0.0), np.array(3), np.array([1.0, 2.0], "f"), np.array([1.5, 2], "f"),
    np.array([1e-5, 1], "f"), np.array([1e9, 1]), np.array([1234567.0]), np.array([1000.5, 1]), np.array([1, -20, 300]),
    np.array([True, False]), np.array([True] * 40), np.zeros(0, "f"), np.zeros((0, 2), "f"), np.zeros(0, "i8"),
    np.zeros((2, 0), "u1"), np.array([np.nan, np.inf, -np.inf, 0], "f"), np.array([np.nan, 1.5, -np.inf, 0], "f"),
    np.array([-0.0, 1]), np.full(3, 1e-4, "f"), np.arange(100.0), GENERATOR.normal(size=(3, 4)).astype("f"),
    GENERATOR.normal(size=(2, 2, 3, 4)), GENERATOR.normal(size=2000).astype("f"), GENERATOR.normal(size=(40, 50)),
    GENERATOR.normal(size=(1200, 2)), GENERATOR.normal(size=(2, 1200)), GENERATOR.integers(0, 255, (28, 40)),
    GENERATOR.normal(size=(2, 30)).astype("f"), GENERATOR.normal(size=5).astype("f"), np.array([[1, 2]], "u1"),
]  # fmt: skip


@pytest.mark.parametrize("array", TEXTS, ids=lambda array: f"{array.dtype}{list(array.shape)}")
def test_text_is_torchs_to_the_letter(array):
    ours, theirs = pg.tensor(array), torch.tensor(array)
    assert repr(ours) == repr(theirs).replace("dtype=torch.", "dtype=")
    if array.dtype == np.float32:
        for act in (lambda t: t.requires_grad_(), lambda t: t.requires_grad_() * 1):
            assert repr(act(ours)) == repr(act(theirs))
    assert f"{ours}" == f"{theirs}".replace("dtype=torch.", "dtype=")


# ----- classes of errors -----

ERRORS = {
    "shapes that do not broadcast": lambda library, x: x + library.ones(4),
    "shapes that do not multiply": lambda library, x: x @ x,
    "matmul of dtypes": lambda library, x: x @ library.ones(3, dtype=library.float64),
    "matmul with a number": lambda library, x: x @ 2,
    "matmul of a number": lambda library, x: x @ library.tensor(2.0),
    "add a string": lambda library, x: x + "text",
    "add None": lambda library, x: x + None,
    "add a list": lambda library, x: operator.add(x, [1.0]),
    "mean of integers": lambda library, x: library.arange(3).mean(),
    "softmax of integers": lambda library, x: library.arange(3).softmax(0),
    "backward of many": lambda library, x: (x * 2).backward(),
    "backward without grad": lambda library, x: x.detach().sum().backward(),
    "backward with another shape": lambda library, x: (x * 2).backward(library.ones(2)),
    "second backward": lambda library, x: [y.backward() for y in [x.exp().sum()] * 2],
    "item of many": lambda library, x: x.item(),
    "float of many": lambda library, x: float(x.detach()),
    "int of many": lambda library, x: int(x.detach()),
    "truth of many": lambda library, x: bool(x),
    "a float as index": lambda library, x: [1, 2][library.tensor(1.0)],
    "many as index": lambda library, x: [1, 2][library.tensor([1, 2])],
    "length of a number": lambda library, x: len(library.tensor(1.0)),
    "iteration over a number": lambda library, x: list(library.tensor(1.0)),
    "numpy of a graph": lambda library, x: x.numpy(),
    "dim out of range in sum": lambda library, x: x.sum(2),
    "dim out of range in mean": lambda library, x: x.mean(-3),
    "dim out of range in max": lambda library, x: x.max(2),
    "dim out of range in softmax": lambda library, x: x.softmax(2),
    "dim out of range in cat": lambda library, x: library.cat([x, x], 2),
    "dim out of range in stack": lambda library, x: library.stack([x, x], 3),
    "dim out of range in transpose": lambda library, x: x.transpose(0, 2),
    "dim out of range in flatten": lambda library, x: x.flatten(2),
    "dim out of range in permute": lambda library, x: x.permute(0, 2),
    "dim out of range in unsqueeze": lambda library, x: x.unsqueeze(3),
    "dim out of range in squeeze": lambda library, x: x.squeeze(2),
    "dim out of range in a number": lambda library, x: x.sum().sum(1),
    "a dim twice in permute": lambda library, x: x.permute(0, 0),
    "too few dims in permute": lambda library, x: x.permute(0),
    "a dim twice in sum": lambda library, x: x.sum((0, 0)),
    "reshape to another size": lambda library, x: x.reshape(4, 2),
    "reshape with two unknown": lambda library, x: x.reshape(-1, -1),
    "reshape with a float": lambda library, x: x.reshape(2.0, 3),
    "view of what is not contiguous": lambda library, x: x.t().view(6),
    "expand to another size": lambda library, x: x.expand(2, 4),
    "expand to fewer dims": lambda library, x: x.expand(3),
    "expand with an unknown new dim": lambda library, x: x.expand(-1, 2, 3),
    "t of three dims": lambda library, x: library.ones(2, 2, 2).t(),
    "cat of shapes": lambda library, x: library.cat([x, library.ones(2)]),
    "cat of numbers": lambda library, x: library.cat([library.tensor(1.0), library.tensor(2.0)]),
    "stack of shapes": lambda library, x: library.stack([x, library.ones(2)]),
    "index out of range": lambda library, x: x[2],
    "negative index out of range": lambda library, x: x[-3],
    "too many indices": lambda library, x: x[0, 0, 0],
    "index tensor out of range": lambda library, x: x[library.tensor([0, 2])],
    "mask of another shape": lambda library, x: x[library.tensor([True, False, True])],
    "a float tensor as index": lambda library, x: x[library.tensor([0.5])],
    "an unknown argument": lambda library, x: x.sum(dims=0),
    "an unknown argument of max": lambda library, x: x.max(dims=0),
    "a number as keepdim": lambda library, x: x.sum(0, 1),
    "an integer too large": lambda library, x: library.tensor([1]) + 2**70,
    "an argument too many": lambda library, x: library.exp(x, x, x),
    "an argument too few": lambda library, x: library.add(x),
    "clamp without bounds": lambda library, x: library.clamp(x),
    "grad for integers": lambda library, x: library.tensor([1], requires_grad=True),
    "grad for integers later": lambda library, x: library.tensor([1]).requires_grad_(),
    "grad off in a graph": lambda library, x: setattr(x * 2, "requires_grad", False),
    "in place on a leaf": lambda library, x: operator.iadd(x, 1),
    "in place to another shape": lambda library, x: operator.iadd(library.ones(3), x.detach()),
    "in place to another category": lambda library, x: operator.iadd(library.arange(3), 0.5),
    "in place on expanded memory": lambda library, x: library.ones(1).expand(3).add_(1),
    "in place on what was saved": lambda library, x: [(y := x.exp()).add_(1), y.sum().backward()],
    "assignment of another shape": lambda library, x: operator.setitem(library.ones(3), slice(2), library.ones(3)),
    "integers to negative powers": lambda library, x: library.arange(3) ** -1,
    "extreme of nothing": lambda library, x: library.ones(0).max(),
    "a string as data": lambda library, x: library.tensor("text"),
    "uneven lists as data": lambda library, x: library.tensor([[1, 2], [3]]),
    "from_numpy of a list": lambda library, x: library.from_numpy([1.0]),
}


def raised(library, act):
    x = library.tensor(np.arange(6, dtype=np.float32).reshape(2, 3), requires_grad=True)
    with pytest.raises((RuntimeError, IndexError, TypeError, ValueError, OverflowError)) as error:
        act(library, x)
    return error.type


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_of_torchs_class(name):
    ours, theirs = raised(pg, ERRORS[name]), raised(torch, ERRORS[name])
    # torch's "not implemented for integers" is a RuntimeError, too.
    assert issubclass(ours, RuntimeError if theirs is NotImplementedError else theirs), (ours, theirs)


# ----- what shares memory -----

VIEWS = {
    "detach": lambda t: t.detach(),
    "data": lambda t: t.data,
    "reshape": lambda t: t.reshape(3, 2),
    "reshape of a transposed": lambda t: t.t().reshape(6),
    "view": lambda t: t.view(6),
    "T": lambda t: t.T,
    "permute": lambda t: t.permute(1, 0),
    "unsqueeze": lambda t: t.unsqueeze(0),
    "squeeze": lambda t: t.squeeze(),
    "row": lambda t: t[0],
    "one element": lambda t: t[0, 1],
    "slice": lambda t: t[:, ::2],
    "integer tensor": lambda t: t[t.new_tensor(1).long()] if hasattr(t, "new_tensor") else t[pg.tensor(1)],
    "mask": lambda t: t[t > -1],
    "list": lambda t: t[[0, 1]],
    "clone": lambda t: t.clone(),
    "to its own dtype": lambda t: t.float(),
    "to another dtype": lambda t: t.double(),
    "plus": lambda t: +t,
    "flatten": lambda t: t.flatten(),
    "flatten nothing": lambda t: t.flatten(0, 0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_memory_is_shared_where_torch_shares_it(name):
    changed = []
    for library in (pg, torch):
        t = library.tensor(np.zeros((2, 3), np.float32))
        VIEWS[name](t).add_(1)
        changed.append(t.tolist())
    assert changed[0] == changed[1]


# ----- gradients of random programs -----

FULL = (2, 3)
LEAVES = [(2, 3), (1, 3), (3,), (2, 1), ()]  # all broadcast together, and so does what is computed from them
STEPS = [
    lambda library, x, y: (x + y) / 2,
    lambda library, x, y: x - y * 0.5,
    lambda library, x, y: 1 - x,
    lambda library, x, y: x * y,
    lambda library, x, y: x / (1 + y * y),
    lambda library, x, y: 2 / (1.5 + x * x),
    lambda library, x, y: -x,
    lambda library, x, y: x**2,
    lambda library, x, y: (1 + x * x) ** 0.3,
    lambda library, x, y: (1 + x * x) ** library.tanh(y),
    lambda library, x, y: 2**y,
    lambda library, x, y: x.tanh(),
    lambda library, x, y: library.exp(x.tanh()),
    lambda library, x, y: library.log(1.5 + x * x),
    lambda library, x, y: library.sqrt(0.1 + x * x),
    lambda library, x, y: library.sigmoid(x - y),
    lambda library, x, y: library.relu(x),
    lambda library, x, y: abs(x),
    lambda library, x, y: library.square(x) * 0.5,
    lambda library, x, y: library.maximum(x, y),
    lambda library, x, y: library.minimum(x, y),
    lambda library, x, y: x.clamp(-0.5, 0.5),
    lambda library, x, y: library.where(x > y, x, y * 0.5),
    lambda library, x, y: x % 1.5,
    lambda library, x, y: x.expand(FULL).sum(1, keepdim=True),
    lambda library, x, y: x.expand(FULL).mean(0),
    lambda library, x, y: x.sum() * 0.1,
    lambda library, x, y: x.expand(FULL).amax(0, keepdim=True),
    lambda library, x, y: (x + y).expand(FULL).amin((0, 1)),
    lambda library, x, y: x.expand(FULL).softmax(1),
    lambda library, x, y: (x - y).expand(FULL).log_softmax(0),
    lambda library, x, y: x.expand(FULL).logsumexp(1, keepdim=True),
    lambda library, x, y: x.expand(FULL) @ y.expand(FULL).T @ x.expand(FULL) * 0.1,
    lambda library, x, y: library.cat([x.expand(FULL), y.expand(FULL)], 0)[1:3],
    lambda library, x, y: library.stack([x.expand(FULL), y.expand(FULL)], 1)[:, 1],
    lambda library, x, y: library.stack([x.expand(FULL), y.expand(FULL)], -1).mean(-1),
    lambda library, x, y: x.expand(FULL).T.reshape(6).reshape(3, 2).permute(1, 0),
    lambda library, x, y: x.expand(FULL)[:, [2, 0, 0]],
    lambda library, x, y: x.expand(FULL)[library.tensor([1, 1])],
    lambda library, x, y: x.expand(FULL).flatten().unsqueeze(0)[0, ::2].squeeze(),
    lambda library, x, y: x.expand(FULL).clone() + y,
    lambda library, x, y: operator.iadd(x * 0.5, y.sum()),
    lambda library, x, y: operator.imul((x + y).clone(), 0.5),
    lambda library, x, y: operator.isub(x.expand(FULL).clone(), y),
    lambda library, x, y: x.detach() * y,
    lambda library, x, y: x,
]


def program(seed):
    """15 steps: which one, and a number for each of its two operands."""
    return np.random.default_rng(seed).integers(0, (len(STEPS), 1000, 1000), (15, 3)).tolist()


@pytest.mark.parametrize("seed", range(60))
def test_gradients_of_a_random_program(seed):
    generator = np.random.default_rng(1000 + seed)
    arrays = [np.asarray(generator.uniform(-2, 2, shape)) for shape in LEAVES]

    def play(library):
        def function(*leaves):
            pool = list(leaves)
            for step, first, second in program(seed):
                # One of the newest and any one: programs get deep, and old values are used again.
                x, y = pool[-1 - first % min(len(pool), 5)], pool[second % len(pool)]
                pool.append(STEPS[step](library, x, y))
            return sum((i + 1) * value.sum() for i, value in enumerate(pool))

        return function

    check_twins(play(pg), play(torch), arrays, 1e-9)


def test_every_step_of_the_programs_is_taken():
    assert {step for seed in range(60) for step, *_ in program(seed)} == set(range(len(STEPS)))
