"""Operators at sizes at which they take other paths than for the handful of elements of their samples."""

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad.rules import elementwise, masks
from pargrad.rules.indexing import add_into_zeros
from tests.agreement_torch import check_twins
from tests.checks import run

LARGE = elementwise.BLOCK + 77
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e-40]


def special(generator, dtype, *shape):
    """Numbers among which there are special ones, some of them of this dtype alone."""
    x = generator.standard_normal(shape).astype(dtype)
    x.reshape(-1)[:: max(1, x.size // 50)] = np.resize(
        np.array(SPECIAL).astype(dtype), len(x.reshape(-1)[:: max(1, x.size // 50)])
    )
    return x


# ----- choosing by a mask -----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, np.complex64])
@pytest.mark.parametrize("shape", [(3,), (masks.FEW,), (40, 50), (2, 30, 41)])
def test_where_has_the_bits_of_numpys(shape, dtype):
    generator = np.random.default_rng(0)
    x, y = special(generator, np.float64, *shape), special(generator, np.float64, *shape)
    with np.errstate(invalid="ignore"):
        x, y = x.astype(dtype), y.astype(dtype)
    condition = generator.random(shape) < 0.5
    for c in (condition, condition.T.copy().T, np.repeat(condition, 2, -1)[..., ::2]):
        for one, other in (
            (x, y),
            (x, 0),
            (0, x),
            (x, 0.0),
            (-0.0, x),
            (x, 1),
            (x, np.ones((), dtype)),
            (x[..., :1], y),
        ):
            got, expected = masks.where(c, one, other), np.where(c, one, other)
            assert got.dtype == expected.dtype
            assert got.tobytes() == expected.tobytes()


def test_where_takes_what_the_mask_is_broadcast_against():
    condition, x = np.arange(masks.FEW) % 3 == 0, np.ones((2, masks.FEW), np.float32)
    np.testing.assert_array_equal(masks.where(condition, x, 0), np.where(condition, x, 0))


# ----- elementwise, in blocks -----

ELEMENTWISE = [
    "elu", "gelu", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu", "selu", "sigmoid", "silu", "softplus",
    ("gelu", {"approximate": "tanh"}), ("softplus", {"beta": 2.0, "threshold": 3.0}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
def test_activations_of_many_elements(case, dtype):
    name, settings = case if isinstance(case, tuple) else (case, {})
    x = np.random.default_rng(0).standard_normal(LARGE).astype(dtype) * 5
    ours = run(pg, lambda x: getattr(F, name)(x, **settings), [x])
    theirs = run(torch, lambda x: getattr(torch.nn.functional, name)(x, **settings), [x])
    for one, other in zip((*ours[0], *ours[1]), (*theirs[0], *theirs[1]), strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(
            one, other, rtol=1e-6 if dtype == np.float32 else 1e-13, atol=3e-6 if dtype == np.float32 else 1e-13
        )


def test_gelu_in_float32_has_the_digits_of_float64():
    x = np.linspace(-12, 12, 100_001).astype(np.float32)
    value, (gradient,) = run(pg, F.gelu, [x])
    (precise,), (slope,) = run(pg, F.gelu, [x.astype(np.float64)])
    np.testing.assert_allclose(value[0], precise, atol=2e-7, rtol=3e-7)
    np.testing.assert_allclose(gradient, slope, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "silu", "mish", "softplus", "logsigmoid", "relu", "leaky_relu"])
def test_a_stack_of_many_elements_has_the_bits_of_its_slices(name):
    x = np.random.default_rng(0).standard_normal((3, LARGE // 2)).astype(np.float32)
    function = getattr(F, name)
    whole = run(pg, pg.func.vmap(function), [x])
    parts = [run(pg, function, [one]) for one in x]
    assert whole[0][0].tobytes() == np.stack([values[0] for values, _ in parts]).tobytes()


# ----- layers of one operator -----


def all_gradients(lib, layer, *arrays):
    """The value of a layer or function, and the gradients of its inputs and parameters, as arrays."""
    tensors = [lib.tensor(x, requires_grad=True) for x in arrays]
    value = layer(*tensors)
    value = value[0] if isinstance(value, tuple) else value
    (value * value).sum().backward()
    leaves = [*tensors, *(layer.parameters() if isinstance(layer, lib.nn.Module) else ())]
    return [value.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


@pytest.mark.parametrize(
    ("name", "settings"), [("LSTM", {}), ("LSTM", {"proj_size": 20}), ("GRU", {"bidirectional": True}), ("RNN", {})]
)
def test_a_recurrent_layer_of_many_units_is_torchs(name, settings):
    x = np.random.default_rng(0).standard_normal((30, 17, 24)).astype(np.float32)
    found = []
    for lib in (pg, torch):
        lib.manual_seed(0)
        found.append(all_gradients(lib, getattr(lib.nn, name)(24, 56, 2, **settings), x))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, np.abs(other).max()))


@pytest.mark.parametrize("settings", [{}, {"is_causal": True}])
def test_attention_to_many_places_is_torchs(settings):
    arrays = [np.random.default_rng(i).standard_normal((3, 4, 70, 24)).astype(np.float32) for i in range(3)]
    found = [
        all_gradients(lib, lambda *x, lib=lib: lib.nn.functional.scaled_dot_product_attention(*x, **settings), *arrays)
        for lib in (pg, torch)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)


# ----- rows added up -----


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.int64])
@pytest.mark.parametrize("shape", [(7, 40), (300, 2, 3)])
def test_rows_are_added_in_the_order_in_which_they_stand(shape, dtype):
    generator = np.random.default_rng(0)
    index = generator.integers(-shape[0], shape[0], (20, 30))
    x = (generator.standard_normal((20, 30, *shape[1:])) * 9).astype(dtype)
    expected = np.zeros(shape, dtype)
    np.add.at(expected, index, x)
    assert add_into_zeros(x, index=index, shape=shape).tobytes() == expected.tobytes()


@pytest.mark.parametrize("wrong", [7, -8])
def test_a_row_that_is_not_there_is_refused(wrong):
    index = np.zeros(100, np.int64)
    index[50] = wrong
    with pytest.raises(IndexError, match="from -7 to 6"):
        add_into_zeros(np.ones((100, 8)), index=index, shape=(7, 8))


# ----- pooling -----


@pytest.mark.parametrize("settings", [(3, 2, 1), (2,), (20, 1)], ids=str)
def test_max_pool_of_images_with_nan_and_ties(settings):
    x = np.round(special(np.random.default_rng(0), np.float32, 2, 3, 25, 24) * 2)
    check_twins(lambda x: F.max_pool2d(x, *settings), lambda x: torch.nn.functional.max_pool2d(x, *settings), [x])
