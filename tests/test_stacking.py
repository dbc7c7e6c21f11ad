"""One more leading axis: every rule that runs on a stack has, to the bit, the values and gradients of its slices."""

import itertools

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad.graph import run_backward
from pargrad.rules import RULES
from pargrad.rules.patches import windows
from pargrad.rules.stacks import NotStackable
from pargrad.rules.table import Rule, integers, sample
from pargrad.stacking import Stacked
from pargrad.tensor import Tensor, apply
from tests.checks import listed

SLICES = 4
CASES = [
    pytest.param(rule, one, id=f"{name}-{i}")
    for name, rule in RULES.items()
    if rule.stack is not None
    for i, one in enumerate(rule.samples)
]
# What a stack cannot do with the same bits, or at all; it is then done slice by slice.
LEFT_OUT = {
    "matmul-3", "matmul-4", "matmul-5", "softmax_cross_entropy-1", "complex-1", "gather-3", "scatter_add-3",
    "scatter-2", "scatter_prod-3", "scatter_extreme-3", "scatter_extreme-7", "flip-3", "roll-2", "roll-4", "unfold-4",
    "getitem-3",
}  # fmt: skip


def gradients(outputs, leaves, cotangents):
    """The gradient of each leaf; a stack's all below each other."""
    found = {}
    seeds = {output.key: cotangent for output, cotangent in zip(outputs, cotangents)}
    run_backward(seeds, lambda leaf, gradient, owned: found.__setitem__(leaf, gradient))
    return [found.get(leaf) for leaf in leaves]


def differences(rule, one, stacked, dtype):
    """What differs between the stack in one call and its slices one by one: names of what has other bits."""
    generator = np.random.default_rng(0)
    draws = [one.arrays(generator, dtype) for _ in range(SLICES)]
    for draw in draws[1:]:  # what is not stacked is the same for all slices
        draw[:] = [x if flag else first for x, flag, first in zip(draw, stacked, draws[0])]

    def leaf(kind, array):
        return kind(array, array.dtype.kind == "f") if isinstance(array, np.ndarray) else array

    together = [leaf(Stacked, np.stack(xs)) if flag else leaf(Tensor, xs[0]) for xs, flag in zip(zip(*draws), stacked)]
    out = listed(apply(rule, *together, **one.settings))
    slices = [[leaf(Tensor, x) for x in draw] for draw in draws]
    outs = [listed(apply(rule, *xs, **one.settings)) for xs in slices]
    wrong = []
    for whole, *parts in zip(out, *outs, strict=True):
        if whole.slices.tobytes() != np.stack([part.array for part in parts]).tobytes():
            wrong.append("value")
        assert whole.shape == parts[0].shape
        assert whole.dtype == parts[0].dtype
    if out[0].requires_grad:
        cotangents = [generator.standard_normal(whole.slices.shape).astype(whole.dtype) for whole in out]
        of_stack = gradients(out, together, cotangents)
        of_slices = [gradients(o, xs, c) for o, xs, c in zip(outs, slices, zip(*cotangents))]
        for i, gradient in enumerate(of_stack):
            expected = [each[i] for each in of_slices]
            if gradient is None:
                assert all(each is None for each in expected)
            elif gradient.tobytes() != np.stack(expected).tobytes():
                wrong.append(f"gradient {i}")
    return wrong


def choices(one):
    """Every way to stack at least one of the arrays."""
    arrays = [not isinstance(argument, int | float) for argument in one.arguments]
    for flags in itertools.product(*([True, False] if array else [False] for array in arrays)):
        if any(flags):
            yield list(flags)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rule", "one"), CASES)
def test_a_stack_has_the_bits_of_its_slices(rule, one, dtype, request):
    done = 0
    for stacked in choices(one):
        try:
            assert differences(rule, one, stacked, dtype) == [], stacked
            done += 1
        except NotStackable:
            continue
    case = request.node.callspec.id.removesuffix("-float32").removesuffix("-float64")
    assert (done > 0) == (case not in LEFT_OUT)


def test_larger_stacks_have_the_bits_of_their_slices():
    """Sizes at which numpy and BLAS take other paths than for a handful of elements."""
    for rows, one in itertools.product(
        (1, 16, 33, 100),
        (("linear", lambda n: sample((n, 300), (70, 300), (70,)), [True, False, False]),
         ("softmax_cross_entropy", lambda n: sample((n, 41), integers(41, n)), [True, True]),
         ("linear", lambda n: sample((3, n, 130), (70, 130), (70,)), [True, False, False]),
         ("matmul", lambda n: sample((n, 300), (300, 70)), [True, False]),
         ("matmul", lambda n: sample((3, n, 30), (30, 70)), [True, False]),
         ("matmul", lambda n: sample((2, 3, n, 30), (3, 30, n)), [True, True]),
         ("exp", lambda n: sample((n, 301)), [True]),
         ("tanh", lambda n: sample((n, 301)), [True]),
         ("add", lambda n: sample((n, 301), (301,)), [True, True]),
         ("sum", lambda n: sample((n, 301)), [True]),
         ("sum", lambda n: sample((n, 301), dim=0), [True]),
         ("mean", lambda n: sample((n, 301), dim=1), [True]),
         ("log_softmax", lambda n: sample((n, 301), dim=1), [True]),
         ("scaled_dot_product_attention",
          lambda n: sample((2, n, 30), (2, n, 30), (2, n, 20), (n, n), scale=0.2), [True, True, True, False]),
         ("rnn", lambda n: sample((3 * n, 40), (n, 40), (40, 40), (40,),
                                  sizes=(n,) * 3, reverse=False, nonlinearity="tanh"), [True, True, False, False]),
         ("lstm", lambda n: sample((3 * n, 160), (n, 40), (n, 40), (160, 40), (160,), sizes=(n,) * 3, reverse=False),
          [True, True, True, False, False]),
         ("gru", lambda n: sample((3 * n, 120), (n, 40), (120, 40), (120,), sizes=(n,) * 3, reverse=True),
          [True, True, False, False]),
         ("convolution", lambda n: sample((n, 4, 13, 12), (6, 4, 3, 3), windows=windows((13, 12), 3)), [True, False]),
         ("convolution", lambda n: sample((n, 4, 9, 7), (4, 1, 3, 3), windows=windows((9, 7), 3, 2, 1), groups=4),
          [True, False]),
         ("convolution", lambda n: sample((n, 4, 9, 7), (4, 1, 3, 3), windows=windows((9, 7), 3, 1, 1), groups=4),
          [True, False]),
         ("convolution_input", lambda n: sample((n, 6, 13, 12), (6, 4, 3, 3), windows=windows((13, 12), 3, 1, 1)),
          [True, False]),
         ("max_pool", lambda n: sample((n, 5, 9, 8), windows=windows((9, 8), 3, 2, 1)), [True]),
         ("standardize", lambda n: sample((n, 301), (301,), (301,), dim=-1, eps=1e-5), [True, False, True]),
         ("layer_norm", lambda n: sample((n, 301), (301,), (301,), eps=1e-5), [True, False, False]),
         ("standardize", lambda n: sample((n, 5, 7), (5, 1), 0.0, dim=(0, 2), eps=1e-5), [True, False, False]),
         ("standardize", lambda n: sample((n, 50), (50,), (50,), dim=0, eps=1e-5), [True, False, False])),
    ):  # fmt: skip
        name, make, stacked = one
        for dtype in (np.float32, np.float64):
            assert differences(RULES[name], make(rows), stacked, dtype) == [], (name, rows)


def test_rows_of_all_slices_in_one_product_are_seen():
    """The comparison can fail: one product over the rows of all slices has other bits."""

    def flattened(function, arrays, stacked, settings):
        x, y = arrays
        out = x.reshape(-1, x.shape[-1]) @ y
        return (out.reshape(*x.shape[:-1], -1), lambda g: g @ y.T, lambda g: np.swapaxes(x, 1, 2) @ g)

    matmul = RULES["matmul"]
    wrong = Rule(matmul.function, matmul.samples, "match", (), True, False, False, (), None, flattened)
    found = [differences(wrong, sample((rows, 784), (784, 128)), [True, False], np.float32) for rows in range(1, 40)]
    assert ["value"] in found


# ----- what a stack is to the code that computes with it -----


def stack_of(*shape):
    return Stacked(np.random.default_rng(0).standard_normal((SLICES, *shape)).astype(np.float32), True)


def test_a_stack_looks_like_one_slice():
    x = stack_of(2, 3)
    assert (x.shape, x.ndim, x.dim(), x.numel(), len(x), x.size(), x.size(1)) == ((2, 3), 2, 2, 6, 2, (2, 3), 3)
    assert F.relu(x * 2 + 1).sum(1).shape == (2,)
    assert x.detach().shape == (2, 3)


def test_rows_of_a_table_are_taken_for_all_slices():
    weight = Tensor(np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32), True)
    index = np.random.default_rng(1).integers(0, 7, (SLICES, 2, 5))
    taken = F.embedding(Stacked(index), weight)
    assert taken.slices.tobytes() == weight.array[index].tobytes()
    with pytest.raises(IndexError, match="from 0 to 6, got 0 to 7"):
        F.embedding(Stacked(np.arange(8).reshape(4, 2)), weight)


@pytest.mark.parametrize("look", [
    lambda x: x.array, lambda x: x.numpy(), lambda x: x.sum().item(), lambda x: bool(x.sum() > 0), lambda x: repr(x),
    lambda x: x.tolist(), lambda x: np.asarray(x), lambda x: x.__iadd__(1), lambda x: pg.nonzero(x), lambda x: x[x > 0],
])  # fmt: skip
def test_looking_at_a_value_is_refused(look):
    with pytest.raises(NotStackable):
        look(stack_of(2, 3) * 1)


def test_what_all_slices_share_must_be_a_leaf():
    weight = pg.ones(3, 3, requires_grad=True)
    with pytest.raises(NotStackable):
        stack_of(2, 3) @ (weight * 2)
    assert (stack_of(2, 3) @ weight).shape == (2, 3)


def test_a_shared_leaf_gets_the_gradient_of_every_slice():
    weight, x = pg.ones(3, requires_grad=True), stack_of(2, 3)
    total = ((x * weight).sum() + (weight * x).sum()) * 1.0
    (gradient,) = gradients([total], [weight], [np.ones(SLICES, np.float32)])
    assert gradient.shape == (SLICES, 3)
    np.testing.assert_array_equal(gradient, x.slices.sum(axis=1) + x.slices.sum(axis=1))
