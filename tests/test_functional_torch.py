"""Dropout, embeddings and attention against torch's: values, gradients, draws, refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as theirs
from torch.nn.attention import SDPBackend, sdpa_kernel

import pargrad as pg
import pargrad.nn.functional as F
from tests.agreement_torch import check_twins
from tests.checks import assert_equal, both, run
from tests.higher import assert_as_finite, second_gradients

torch.set_num_threads(1)


def normal(*shape, seed=0):
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape))


def agree(name, arrays, settings, dtype, seed=None):
    """F.name and torch's give the same values and gradients; floats are cast first, and settings that are arrays."""
    arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in arrays]
    found = []
    for library, functional in ((pg, F), (torch, theirs)):
        library.manual_seed(seed or 0)
        given = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        found.append(run(library, lambda *x, f=functional, given=given: getattr(f, name)(*x, **given), arrays))
    (values, gradients), (expected, torch_gradients) = found
    assert_equal(values, expected)
    assert_equal(gradients, torch_gradients)


# ----- dropout -----


@both
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("dropout", (5, 7)),
        ("dropout", ()),
        ("dropout", (0, 3)),
        ("dropout1d", (3, 4, 5)),
        ("dropout1d", (4, 5)),
        ("dropout2d", (3, 4, 2, 2)),
        ("dropout3d", (3, 4, 2, 2, 2)),
        ("dropout3d", (4, 2, 2, 2)),
        ("alpha_dropout", (5, 7)),
        ("feature_alpha_dropout", (3, 4, 2)),
    ],
)
def test_dropout_draws_what_torch_draws(name, shape, p, dtype):
    agree(name, [normal(*shape)], {"p": p, "training": True}, dtype, seed=3)
    agree(name, [normal(*shape)], {"p": p, "training": False}, dtype)


@pytest.mark.filterwarnings("ignore:dropout2d")
def test_dropout2d_of_three_dimensions():
    agree("dropout2d", [normal(3, 4, 5)], {}, np.float32, seed=3)


# ----- embeddings -----

NUMBERS = np.array([[0, 2, 2], [4, 1, 2]])
TABLE = normal(5, 3)


@both
@pytest.mark.parametrize(
    "settings",
    [{}, {"padding_idx": 2}, {"padding_idx": -1}, {"scale_grad_by_freq": True},
     {"padding_idx": 2, "scale_grad_by_freq": True}],
    ids=str,
)  # fmt: skip
def test_embedding(settings, dtype):
    for numbers in (NUMBERS, NUMBERS[0].astype(np.int32), np.array(3), np.zeros((0, 2), np.int64)):
        agree("embedding", [numbers, TABLE], settings, dtype)


@pytest.mark.parametrize("norm_type", [2.0, 1.0])
def test_long_rows_that_are_taken_are_shortened_in_place(norm_type):
    ours, other = pg.tensor(TABLE), torch.tensor(TABLE)
    got = F.embedding(pg.tensor(NUMBERS[0]), ours, max_norm=1.0, norm_type=norm_type)
    expected = theirs.embedding(torch.tensor(NUMBERS[0]), other, max_norm=1.0, norm_type=norm_type)
    assert_equal([got.numpy(), ours.numpy()], [expected.numpy(), other.numpy()])
    assert (ours.numpy() != TABLE).any()
    assert ours._version == 1


BAGS = [
    ([NUMBERS], {}),
    ([NUMBERS.reshape(-1)], {"offsets": np.array([0, 2, 2, 5])}),
    ([NUMBERS.reshape(-1)], {"offsets": np.array([0, 2, 2, 6]), "include_last_offset": True}),
    ([NUMBERS], {"padding_idx": 2}),
    ([np.array([2, 2, 1, 0])], {"offsets": np.array([0, 2]), "padding_idx": 2}),
    ([np.array([2, 2, 1, 0])], {"offsets": np.array([0, 2, 4])}),
]


@both
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize(("arrays", "settings"), BAGS, ids=str)
def test_embedding_bag(arrays, settings, mode, dtype):
    agree("embedding_bag", [*arrays, TABLE], {"mode": mode, **settings}, dtype)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_the_gradient_of_a_bag_by_how_often_a_row_is_taken(mode):
    """As in the embedding that it is the sum of: torch's embedding_bag divides by counts of other rows."""
    check_twins(
        lambda x, table: F.embedding_bag(x, table, mode=mode, scale_grad_by_freq=True),
        lambda x, table: getattr(theirs.embedding(x, table, scale_grad_by_freq=True), mode)(1),
        [NUMBERS, TABLE],
    )


@both
def test_embedding_bag_with_weights(dtype):
    functions = {
        library: lambda table, weights, library=library, f=f: f.embedding_bag(
            library.tensor(NUMBERS), table, mode="sum", per_sample_weights=weights
        )
        for library, f in ((pg, F), (torch, theirs))
    }
    arrays = [TABLE.astype(dtype), normal(2, 3).astype(dtype)]
    got, expected = (run(library, function, arrays) for library, function in functions.items())
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


def test_embedding_bag_of_nothing():
    agree("embedding_bag", [np.zeros(0, np.int64), TABLE], {"offsets": np.array([0, 0])}, np.float32)


# ----- attention -----

Q, K, V = normal(2, 4, 5, 3), normal(2, 4, 6, 3, seed=1), normal(2, 4, 6, 2, seed=2)
MASK = np.random.default_rng(1).random((5, 6)) < 0.5
MASK[2] = False  # which sees nothing
BIAS = np.where(MASK, normal(5, 6), -np.inf)
ATTENTION = [
    ([Q, K, V], {}),
    ([Q[0], K[0], V[0]], {}),
    ([Q[0, 0], K[0, 0], V[0, 0]], {"scale": 0.3}),
    ([Q, K, V], {"scale": -0.5}),
    ([Q, K, V], {"is_causal": True}),
    ([K, Q, Q], {"is_causal": True}),
    ([Q, K, V], {"attn_mask": MASK}),
    ([Q, K, V], {"attn_mask": np.broadcast_to(MASK, (2, 1, 5, 6)).copy()}),
    ([Q, K, V, BIAS], {}),
    ([Q, K, V, normal(2, 4, 5, 6)], {}),
    ([Q, K[:, :2], V[:, :2]], {"enable_gqa": True}),
    ([Q, K[:, :1], V[:, :1]], {"enable_gqa": True, "is_causal": True}),
]


@both
@pytest.mark.parametrize(("arrays", "settings"), ATTENTION, ids=[str(i) for i in range(len(ATTENTION))])
def test_attention(arrays, settings, dtype):
    agree("scaled_dot_product_attention", arrays, settings, dtype)


@pytest.mark.parametrize(("arrays", "settings"), ATTENTION, ids=[str(i) for i in range(len(ATTENTION))])
def test_second_derivatives_of_attention(arrays, settings):
    found = []
    for library, functional in ((pg, F), (torch, theirs)):
        given = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
        with sdpa_kernel(SDPBackend.MATH):  # torch's other ones have no second derivative
            found.append(
                second_gradients(
                    library, lambda *x, f=functional, given=given: f.scaled_dot_product_attention(*x, **given), arrays
                )
            )
    assert_as_finite(*found, 1e-10)
    assert all(np.isfinite(x).all() for x in found[0])


def test_dropout_in_attention():
    agree("scaled_dot_product_attention", [Q, K, V], {"dropout_p": 0.4}, np.float32, seed=3)


# ----- several heads -----


class Heads:
    """torch's arguments of multi_head_attention_forward, from arrays by name; floating ones need gradients."""

    NAMES = ("query", "key", "value", "in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "out_proj_weight",
             "out_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight", "static_k", "static_v", "attn_mask",
             "key_padding_mask")  # fmt: skip

    def __init__(self, **given):
        self.arrays = {
            "query": normal(3, 2, 4), "key": normal(5, 2, 4, seed=1), "value": normal(5, 2, 4, seed=2),
            "in_proj_weight": normal(12, 4), "in_proj_bias": normal(12), "bias_k": None, "bias_v": None,
            "out_proj_weight": normal(4, 4), "out_proj_bias": normal(4),
        }  # fmt: skip
        self.options = {"embed_dim_to_check": 4, "num_heads": 2, "add_zero_attn": False, "dropout_p": 0.0}
        for name, value in given.items():
            (self.arrays if name in self.NAMES else self.options)[name] = value

    def outcome(self, library, functional):
        library.manual_seed(3)
        names = [name for name, array in self.arrays.items() if array is not None]
        rest = {name: None for name in self.arrays if name not in names} | self.options

        def function(*tensors):
            outputs = functional.multi_head_attention_forward(**dict(zip(names, tensors)), **rest)
            return tuple(x for x in outputs if x is not None)

        return run(library, function, [self.arrays[name] for name in names])


HEADS = [
    {},
    {"need_weights": False},
    {"average_attn_weights": False},
    {"query": normal(3, 4), "key": normal(5, 4), "value": normal(5, 4)},
    {"query": normal(3, 4), "key": normal(5, 4), "value": normal(5, 4), "key_padding_mask": np.arange(5) > 2},
    {"in_proj_bias": None, "out_proj_bias": None},
    {"attn_mask": np.triu(np.ones((3, 5), bool), 1)},
    {"attn_mask": np.triu(np.ones((3, 5), bool), 1), "is_causal": True, "need_weights": False},
    {"attn_mask": normal(3, 5)},
    {"attn_mask": normal(4, 3, 5), "key_padding_mask": np.array([0.0, 1.0, -1.0, 0.5, -np.inf] * 2).reshape(2, 5)},
    {"key_padding_mask": np.array([[False] * 5, [False, False, True, True, True]])},
    {"bias_k": normal(1, 1, 4), "bias_v": normal(1, 1, 4), "attn_mask": np.triu(np.ones((3, 5), bool), 1)},
    {"add_zero_attn": True, "key_padding_mask": np.array([[False] * 5, [False, False, True, True, True]])},
    {"use_separate_proj_weight": True, "in_proj_weight": None, "q_proj_weight": normal(4, 4),
     "k_proj_weight": normal(4, 6), "v_proj_weight": normal(4, 7), "key": normal(5, 2, 6), "value": normal(5, 2, 7)},
    {"static_k": normal(4, 6, 2), "static_v": normal(4, 6, 2, seed=1)},
    {"dropout_p": 0.4},
    {"dropout_p": 0.4, "training": False},
]  # fmt: skip


@pytest.mark.parametrize("given", HEADS, ids=[str(i) for i in range(len(HEADS))])
def test_several_heads(given):
    heads = Heads(**given)
    got, expected = heads.outcome(pg, F), heads.outcome(torch, theirs)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


# ----- refusals -----

X, WEIGHT = pg.ones(3, 5), pg.ones(4, 2)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda: F.dropout(X, 1.5), ValueError, r"got 1\.5"),
        (lambda: F.dropout1d(pg.ones(3)), RuntimeError, "2 or 3 dimensions"),
        (lambda: F.feature_alpha_dropout(pg.ones(3), training=True), RuntimeError, "channels"),
        (lambda: F.embedding(pg.tensor([4]), WEIGHT), IndexError, "from 0 to 3"),
        (lambda: F.embedding(pg.tensor([-1]), WEIGHT), IndexError, "from 0 to 3"),
        (lambda: F.embedding(X, WEIGHT), RuntimeError, r"write input\.long\(\)"),
        (lambda: F.embedding(pg.tensor([1]), pg.ones(3)), RuntimeError, r"\(rows, columns\)"),
        (lambda: F.embedding(pg.tensor([1]), WEIGHT, padding_idx=4), ValueError, "padding_idx"),
        (lambda: F.embedding(pg.tensor([1]), WEIGHT, sparse=True), RuntimeError, "sparse=False"),
        (lambda: F.embedding_bag(pg.tensor([1]), WEIGHT), ValueError, "offsets"),
        (lambda: F.embedding_bag(pg.tensor([[1]]), WEIGHT, pg.tensor([0])), ValueError, "no offsets"),
        (lambda: F.embedding_bag(pg.tensor([1]), WEIGHT, pg.tensor([1])), ValueError, "from 0 on"),
        (lambda: F.embedding_bag(pg.tensor([1]), WEIGHT, pg.tensor([0, 2])), ValueError, "length of the input, 1"),
        (lambda: F.embedding_bag(pg.tensor([[1]]), WEIGHT, mode="min"), ValueError, "'min'"),
        (lambda: F.embedding_bag(pg.tensor([[1]]), WEIGHT, per_sample_weights=pg.ones(1, 1)), ValueError, "sum"),
        (lambda: F.scaled_dot_product_attention(X, X, pg.ones(5)), RuntimeError, "2 dimensions"),
        (lambda: F.scaled_dot_product_attention(X, X, X, X > 0, is_causal=True), RuntimeError, "got both"),
        (lambda: F.scaled_dot_product_attention(X, X, X, enable_gqa=True), RuntimeError, "heads"),
        (lambda: Heads(num_heads=3).outcome(pg, F), RuntimeError, "3 heads"),
        (lambda: Heads(is_causal=True).outcome(pg, F), RuntimeError, "attn_mask"),
        (lambda: Heads(in_proj_weight=None).outcome(pg, F), RuntimeError, "expected in_proj_weight"),
    ],
)
def test_refusals(wrong, error, told):
    with pytest.raises(error, match=told):
        wrong()
