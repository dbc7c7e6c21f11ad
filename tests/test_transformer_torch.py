"""Attention and transformers against torch's: each row is a way to build one, and one to call it."""

import copy

import numpy as np
import pytest
import torch

import pargrad as pg
from tests.checks import title
from tests.twins_torch import arguments, assert_agree, build, check, doubled, outcome, uniform

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long

# torch says that it cannot take its faster way, which there is none of here.
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")

LENGTH, KEYS, BATCH, SIZE, HEADS = 4, 5, 3, 8, 2


def hidden(*shape, seed=0):
    """A mask of booleans; the first key may always be looked at."""
    mask = np.random.default_rng(seed).uniform(size=shape) < 0.4
    mask[..., 0] = False
    return mask


def with_minus_infinity(mask):
    return np.where(mask, -np.inf, 0.0)


# ----- MultiheadAttention -----

SETTINGS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "bias": False},
    {"kdim": 6},
    {"vdim": 7, "bias": False},
    {"kdim": 6, "vdim": 7, "add_bias_kv": True, "batch_first": True},
    {"kdim": SIZE, "vdim": SIZE, "batch_first": True},
    {"dropout": 0.4},
    {"dropout": 0.4, "batch_first": True, "add_zero_attn": True},
]
PER_HEAD = BATCH * HEADS
CALLS = {
    "weights": ({}, {}),
    "weights of each head": ({}, {"average_attn_weights": False}),
    "no weights": ({}, {"need_weights": False}),
    "booleans": ({"attn_mask": hidden(LENGTH, KEYS)}, {}),
    "numbers": ({"attn_mask": uniform(LENGTH, KEYS, seed=3)}, {"need_weights": False}),
    "minus infinity": ({"attn_mask": with_minus_infinity(hidden(LENGTH, KEYS))}, {}),
    "booleans of each head": ({"attn_mask": hidden(PER_HEAD, LENGTH, KEYS)}, {"need_weights": False}),
    "numbers of each head": ({"attn_mask": uniform(PER_HEAD, LENGTH, KEYS, seed=3)}, {}),
    "padding": ({"key_padding_mask": hidden(BATCH, KEYS)}, {}),
    "padding of numbers": ({"key_padding_mask": with_minus_infinity(hidden(BATCH, KEYS))}, {"need_weights": False}),
    "both": ({"attn_mask": hidden(LENGTH, KEYS), "key_padding_mask": hidden(BATCH, KEYS, seed=1)}, {}),
    "causal": ({"attn_mask": np.triu(np.ones((LENGTH, KEYS), bool), 1)}, {"is_causal": True, "need_weights": False}),
    "causal with weights": ({"attn_mask": np.triu(np.ones((LENGTH, KEYS), bool), 1)}, {"is_causal": True}),
}


def inputs(settings, batch=BATCH):
    rows = (batch,) if batch else ()
    shapes = {"query": (LENGTH, SIZE), "key": (KEYS, settings.get("kdim", SIZE))}
    shapes["value"] = (KEYS, settings.get("vdim", SIZE))
    swap = settings.get("batch_first") and batch
    return {
        name: uniform(*rows, length, size, seed=i) if swap else uniform(length, *rows, size, seed=i)
        for i, (name, (length, size)) in enumerate(shapes.items())
    }


def calling(**named):
    return lambda module, x: module(**x, **named)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_attention_is_torchs(settings, call):
    masks, named = CALLS[call]
    check("MultiheadAttention", (SIZE, HEADS), settings, {**inputs(settings), **masks}, calling(**named))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_attention_in_evaluation_and_without_a_batch_is_torchs(settings):
    check("MultiheadAttention", (SIZE, HEADS), settings, inputs(settings), calling(), training=False)
    single = inputs(settings, batch=None)
    for masks in (
        {},
        {"attn_mask": hidden(LENGTH, KEYS)},
        {"attn_mask": hidden(HEADS, LENGTH, KEYS), "key_padding_mask": hidden(KEYS, seed=2)},
    ):
        check("MultiheadAttention", (SIZE, HEADS), settings, {**single, **masks}, calling())


def test_attention_of_a_sequence_to_itself_is_torchs():
    settings = {"batch_first": True}
    check(
        "MultiheadAttention",
        (SIZE, HEADS),
        settings,
        {"x": uniform(BATCH, LENGTH, SIZE)},
        lambda m, t: m(t["x"], t["x"], t["x"]),
    )


def test_attention_by_position_and_its_attributes():
    mine, theirs = build("MultiheadAttention", 8, 2, 0.5, False, True, True, 3, 4, True)
    for name in ("embed_dim", "kdim", "vdim", "num_heads", "dropout", "batch_first", "head_dim", "add_zero_attn"):
        assert getattr(mine, name) == getattr(theirs, name)


@pytest.mark.parametrize("method", ["__init__", "forward"])
@pytest.mark.parametrize("name", ["MultiheadAttention", *(name for name in dir(torch.nn) if "Transformer" in name)])
def test_arguments_are_torchs(name, method):
    assert arguments(pg, name, method) == arguments(torch, name, method)


def test_wrong_attention_is_said():
    for args in ((8, 3), (0, 2), (8, 0)):
        with pytest.raises(ValueError, match=f"got embed_dim={args[0]} and num_heads={args[1]}"):
            pg.nn.MultiheadAttention(*args)
    layer = pg.nn.MultiheadAttention(8, 2)
    x = pg.zeros(4, 3, 8)
    with pytest.raises(RuntimeError, match="is_causal says what attn_mask is: give that, too"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(RuntimeError, match="got .4, 3, 7., .4, 3, 8. and .4, 3, 8."):
        layer(pg.zeros(4, 3, 7), x, x)
    with pytest.raises(RuntimeError, match="all of 2 or all of 3 dimensions, got shapes .4, 8., .4, 3, 8. and"):
        layer(x[:, 0], x, x)
    with pytest.raises(RuntimeError, match="attn_mask .* of shape .4, 4. or .6, 4, 4., got bool of shape .4, 3."):
        layer(x, x, x, attn_mask=pg.zeros(4, 3, dtype=pg.bool))
    with pytest.raises(
        RuntimeError, match="key_padding_mask of booleans .* of shape .3, 4., got int64 of shape .3, 4."
    ):
        layer(x, x, x, key_padding_mask=pg.zeros(3, 4, dtype=pg.int64))
    with pytest.raises(RuntimeError, match="key_padding_mask .* got float32 of shape .4, 3."):
        layer(x, x, x, key_padding_mask=pg.zeros(4, 3))


# ----- layers and what is made of them -----

TRANSFORMER = [
    {},
    {"norm_first": True},
    {"activation": "gelu"},
    {"activation": lambda library: library.nn.functional.gelu, "batch_first": True},
    {"activation": lambda library: library.nn.SiLU(), "norm_first": True},
    {"bias": False, "layer_norm_eps": 1e-2},
    {"batch_first": True, "norm_first": True, "bias": False},
    {"dropout": 0.0, "batch_first": True},
]
rows = pytest.mark.parametrize("settings", TRANSFORMER, ids=title)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
SMALL = (SIZE, HEADS, 6)


def sequences(settings, single=False, **lengths):
    def sequence(length, seed):
        if single:
            return uniform(length, SIZE, seed=seed)
        swap = settings.get("batch_first")
        return uniform(*((BATCH, length) if swap else (length, BATCH)), SIZE, seed=seed)

    return {name: sequence(length, i) for i, (name, length) in enumerate(lengths.items())}


CAUSAL = np.triu(np.ones((LENGTH, LENGTH), bool), 1)
ENCODER_MASKS = [
    {},
    {"src_mask": with_minus_infinity(CAUSAL)},
    {"src_mask": hidden(LENGTH, LENGTH), "src_key_padding_mask": hidden(BATCH, LENGTH, seed=1)},
]
DECODER_MASKS = [
    {},
    {"tgt_mask": CAUSAL, "memory_mask": hidden(LENGTH, KEYS)},
    {
        "tgt_mask": with_minus_infinity(CAUSAL),
        "tgt_key_padding_mask": with_minus_infinity(hidden(BATCH, LENGTH)),
        "memory_key_padding_mask": with_minus_infinity(hidden(BATCH, KEYS, seed=1)),
    },
]


@modes
@rows
def test_an_encoder_layer_is_torchs(settings, training):
    name, x = "TransformerEncoderLayer", sequences(settings, src=LENGTH)
    for masks in ENCODER_MASKS:
        check(name, SMALL, settings, {**x, **masks}, calling(), training)
    check(name, SMALL, settings, {**x, "src_mask": CAUSAL}, calling(is_causal=True), training)
    check(name, SMALL, settings, sequences(settings, single=True, src=LENGTH), calling(), training)


@modes
@rows
def test_a_decoder_layer_is_torchs(settings, training):
    name, x = "TransformerDecoderLayer", sequences(settings, tgt=LENGTH, memory=KEYS)
    for masks in DECODER_MASKS:
        check(name, SMALL, settings, {**x, **masks}, calling(), training)
    check(name, SMALL, settings, {**x, "tgt_mask": CAUSAL}, calling(tgt_is_causal=True), training)
    check(name, SMALL, settings, sequences(settings, single=True, tgt=LENGTH, memory=KEYS), calling(), training)


# Not those whose activation is a Module: the copies of torch's decoder forget it.
@pytest.mark.parametrize("settings", TRANSFORMER[:4] + TRANSFORMER[5:], ids=title)
def test_a_transformer_is_torchs(settings):
    args = (SIZE, HEADS, 2, 1, 6)
    x = sequences(settings, src=KEYS, tgt=LENGTH)
    check("Transformer", args, settings, x, calling())
    masks = {
        "src_mask": hidden(KEYS, KEYS),
        "tgt_mask": CAUSAL,
        "memory_mask": hidden(LENGTH, KEYS, seed=1),
        "src_key_padding_mask": hidden(BATCH, KEYS, seed=2),
        "tgt_key_padding_mask": hidden(BATCH, LENGTH, seed=3),
        "memory_key_padding_mask": hidden(BATCH, KEYS, seed=4),
    }
    check("Transformer", args, settings, {**x, **masks}, calling(tgt_is_causal=True), training=False)
    check("Transformer", args, settings, sequences(settings, single=True, src=KEYS, tgt=LENGTH), calling())


def stack_of(library, which, norm):
    layer = getattr(library.nn, f"Transformer{which}Layer")(*SMALL, norm_first=True)
    return getattr(library.nn, f"Transformer{which}")(layer, 2, library.nn.LayerNorm(SIZE) if norm else None)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("which", ["Encoder", "Decoder"])
def test_layers_on_layers_are_torchs_and_copies_of_the_first(which, norm):
    pairs = []
    for library in (pg, torch):
        library.manual_seed(3)
        pairs.append(stack_of(library, which, norm))
    mine, theirs = pairs
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    first, second = mine.layers
    assert all((one == other).all() for one, other in zip(first.parameters(), second.parameters()))
    assert not {id(x) for x in first.parameters()} & {id(x) for x in second.parameters()}
    doubled(mine, theirs, np.random.default_rng(1))
    if which == "Encoder":
        x = sequences({}, src=LENGTH)
        masks, named = {"mask": CAUSAL}, {"is_causal": True}
    else:
        x = sequences({}, tgt=LENGTH, memory=KEYS)
        masks, named = {"tgt_mask": CAUSAL}, {"tgt_is_causal": True}
    for arrays, call in ((x, calling()), ({**x, **masks}, calling()), ({**x, **masks}, calling(**named))):
        results = []
        for library, module in ((pg, mine), (torch, theirs)):
            library.manual_seed(9)
            results.append(outcome(library, module, call, arrays))
            module.zero_grad()
        assert_agree(*results)


def test_copies_of_a_decoder_keep_their_activation():
    model = pg.nn.Transformer(*SMALL[:2], 1, 2, activation=pg.nn.SiLU())
    assert {type(layer.activation) for layer in (*model.encoder.layers, *model.decoder.layers)} == {pg.nn.SiLU}


def test_outside_a_graph_an_encoder_gives_what_torchs_faster_way_gives():
    pairs = build("TransformerEncoderLayer", *SMALL, batch_first=True)
    doubled(*pairs, np.random.default_rng(2))
    x = uniform(BATCH, LENGTH, SIZE)
    results = []
    for library, module in zip((pg, torch), pairs):
        module.eval()
        with library.no_grad():
            results.append({"output": module(library.tensor(x), src_mask=library.tensor(CAUSAL)).numpy()})
    assert_agree(*results)


def test_custom_parts_are_taken():
    class Double(pg.nn.Module):
        def forward(self, x, *others, **named):
            return x * 2

    model = pg.nn.Transformer(SIZE, HEADS, custom_encoder=Double(), custom_decoder=Double())
    assert (model(pg.ones(4, 1, SIZE), pg.ones(2, 1, SIZE)) == 2).all()
    assert list(model.state_dict()) == []


def test_the_causal_mask_is_torchs():
    for dtype in ("float32", "float64"):
        mask = pg.nn.Transformer.generate_square_subsequent_mask(4, dtype=getattr(pg, dtype))
        expected = torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=getattr(torch, dtype))
        assert mask.dtype == dtype
        np.testing.assert_array_equal(mask.array, expected.numpy())
    assert pg.nn.Transformer.generate_square_subsequent_mask(2).dtype == np.float32


def test_a_layer_that_was_trained_is_copied_whole():
    layer = pg.nn.TransformerEncoderLayer(*SMALL)
    layer(pg.ones(2, 1, SIZE)).sum().backward()
    other = copy.deepcopy(layer)
    assert (other.linear1.weight.grad == layer.linear1.weight.grad).all()
    assert other.linear1.weight is not layer.linear1.weight


def test_what_does_not_fit_is_said():
    with pytest.raises(RuntimeError, match="expected 'relu', 'gelu' or a function of a tensor, got 'elu'"):
        pg.nn.TransformerEncoderLayer(8, 2, activation="elu")
    model = pg.nn.Transformer(8, 2, 1, 1, 4)
    with pytest.raises(RuntimeError, match="of one batch, got shapes .4, 3, 8. and .4, 2, 8."):
        model(pg.zeros(4, 3, 8), pg.zeros(4, 2, 8))
    with pytest.raises(RuntimeError, match="of d_model=8 features, got shapes .4, 3, 7. and .4, 3, 8."):
        model(pg.zeros(4, 3, 7), pg.zeros(4, 3, 8))
