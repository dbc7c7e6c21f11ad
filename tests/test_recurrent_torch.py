"""Recurrent layers and cells against torch's: each row is a way to build one and an input to give it."""

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad.graph import run_backward
from pargrad.stacking import Stacked
from tests import twins_torch
from tests.twins_torch import arguments, assert_agree, build, check, doubled, outcome, uniform

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long

LAYERS = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("GRU", {}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
]
SETTINGS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True},
    {"num_layers": 2},
    {"num_layers": 3, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "bias": False},
    {"num_layers": 3, "dropout": 0.4},
    {"num_layers": 2, "dropout": 1.0},
    {"num_layers": 2, "dropout": 0.25, "bidirectional": True, "batch_first": True},
]
ROWS = [(name, {**which, **settings}) for name, which in LAYERS for settings in SETTINGS]
IDS = [f"{name}-{settings}" for name, settings in ROWS]
every = pytest.mark.parametrize(("name", "settings"), ROWS, ids=IDS)


def arrays_of(name, settings, length=4, batch=3, given=True):
    """An input, and a state where one is given; batch=None: without the dimension of a batch."""
    rows = () if batch is None else (batch,)
    count = settings.get("num_layers", 1) * (1 + settings.get("bidirectional", False))
    shape = (batch, length, 3) if settings.get("batch_first") and batch is not None else (length, *rows, 3)
    arrays = {"input": uniform(*shape), "h_0": None, "c_0": None}
    if given:
        arrays["h_0"] = uniform(count, *rows, settings.get("proj_size", 5), seed=1)
        if name == "LSTM":
            arrays["c_0"] = uniform(count, *rows, 5, seed=2)
    return arrays


def call(module, x):
    if x["h_0"] is None:
        return module(x["input"])
    return module(x["input"], x["h_0"] if x["c_0"] is None else (x["h_0"], x["c_0"]))


def test_the_checker_sees_a_difference_in_any_gradient_output_or_draw():
    mine, theirs = build("GRU", 3, 5)
    doubled(mine, theirs, np.random.default_rng(5))
    arrays = arrays_of("GRU", {})
    expected = outcome(torch, theirs, call, arrays)
    assert all(value is not None for value in expected.values()) and len(expected) == 2 + 2 + 4
    for name, value in expected.items():
        wrong = {**expected, name: value * (1 + 3e-9)}
        with pytest.raises(AssertionError, match=name):
            assert_agree(wrong, expected)
        with pytest.raises(AssertionError, match=name):
            assert_agree({**expected, name: None}, expected)
    again = build("GRU", 3, 5)
    again[0].weight_hh_l0.data[0, 0] += 1e-7
    with pytest.raises(AssertionError, match="weight_hh_l0"):
        twins_torch.assert_same_state(*again)


@every
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_is_torchs(name, settings, training):
    check(name, (3, 5), settings, arrays_of(name, settings), call, training)


@every
def test_a_layer_without_a_batch_or_a_state_is_torchs(name, settings):
    check(name, (3, 5), settings, arrays_of(name, settings, batch=None), call)
    check(name, (3, 5), settings, arrays_of(name, settings, given=False), call)
    check(name, (3, 5), settings, arrays_of(name, settings, length=1, batch=1), call)


LENGTHS = [([4, 2, 2], True), ([1, 4, 1], False)]


def packed(lengths, enforce_sorted):
    def call_packed(module, x):
        utils = (pg if isinstance(module, pg.nn.Module) else torch).nn.utils.rnn
        sequence = utils.pack_padded_sequence(x["input"], lengths, module.batch_first, enforce_sorted)
        output, state = call(module, {**x, "input": sequence})
        assert isinstance(output, utils.PackedSequence)
        return utils.pad_packed_sequence(output, module.batch_first)[0], state

    return call_packed


@every
def test_packed_sequences_are_torchs(name, settings):
    for lengths, enforce_sorted in LENGTHS:
        check(name, (3, 5), settings, arrays_of(name, settings), packed(lengths, enforce_sorted))
    lengths, enforce_sorted = LENGTHS[1]
    check(name, (3, 5), settings, arrays_of(name, settings, given=False), packed(lengths, enforce_sorted))


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_what_is_given_by_position_is_what_torch_takes_there(name):
    between = ("relu",) if name == "RNN" else ()
    args = (3, 5, 2, *between, False, True, 0.5, True)
    mine, theirs = build(name, *args)
    assert (mine.batch_first, mine.dropout, mine.bidirectional) == (True, 0.5, True)
    for attribute in ("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "proj_size"):
        assert getattr(mine, attribute) == getattr(theirs, attribute)
    assert [len(each) for each in mine.all_weights] == [len(each) for each in theirs.all_weights]
    assert mine.flatten_parameters() is None


@pytest.mark.parametrize("settings", [{}, {"bias": False}], ids=str)
@pytest.mark.parametrize(
    ("name", "which"), [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("GRUCell", {}), ("LSTMCell", {})]
)
@pytest.mark.parametrize("rows", [(3,), ()], ids=["batch", "single"])
def test_a_cell_is_torchs(name, which, settings, rows):
    arrays = {"input": uniform(*rows, 3), "h_0": uniform(*rows, 5, seed=1), "c_0": None}
    if name == "LSTMCell":
        arrays["c_0"] = uniform(*rows, 5, seed=2)
    check(name, (3, 5), {**which, **settings}, arrays, call)
    check(name, (3, 5), {**which, **settings}, {**arrays, "h_0": None, "c_0": None}, call)


@pytest.mark.parametrize("name", ["RNNBase", "RNNCell", "GRUCell", "LSTMCell"])
def test_arguments_are_torchs(name):
    assert arguments(pg, name, "__init__") == arguments(torch, name, "__init__")
    if name != "RNNBase":
        assert arguments(pg, name, "forward") == arguments(torch, name, "forward")


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_float32_stays_float32_and_a_step_after_the_other_is_the_sequence(name):
    mine, theirs = build(name, 3, 5)
    x = uniform(6, 2, 3).astype(np.float32)
    assert_agree(outcome(pg, mine, lambda m, t: m(t["x"]), {"x": x}),
                 outcome(torch, theirs, lambda m, t: m(t["x"]), {"x": x}), 2e-5)  # fmt: skip
    cell = getattr(pg.nn, f"{name}Cell")(3, 5)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in mine.state_dict().items()})
    state, outputs = None, []
    for step in pg.tensor(x):
        state = cell(step, state)
        outputs.append(state[0] if name == "LSTM" else state)
    whole = mine(pg.tensor(x))[0]
    np.testing.assert_allclose(pg.stack(outputs).detach().array, whole.detach().array, rtol=1e-5, atol=1e-6)


def test_a_sequence_of_no_examples_has_outputs_of_torchs_shapes():
    mine, theirs = build("LSTM", 3, 5, num_layers=2, bidirectional=True)
    got, expected = (
        twins_torch.leaves(module(library.zeros(4, 0, 3))) for library, module in ((pg, mine), (torch, theirs))
    )
    assert [x.shape for x in got] == [tuple(x.shape) for x in expected]


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_stack_has_the_bits_of_its_slices(name, settings):
    layer = getattr(pg.nn, name)(3, 5, **settings)
    x = uniform(4, 3, 2, 3).astype(np.float32)
    stacked = Stacked(x, True)
    outputs = twins_torch.leaves(layer(stacked))
    total = sum((output * output).reshape(-1).sum() for output in outputs)
    found = {}
    run_backward({total.key: np.ones(4, np.float32)}, lambda leaf, gradient, _: found.__setitem__(leaf, gradient))
    for i, each in enumerate(x):
        one = pg.tensor(each, requires_grad=True)
        layer.zero_grad()
        expected = twins_torch.leaves(layer(one))
        sum((output * output).reshape(-1).sum() for output in expected).backward()
        for output, alone in zip(outputs, expected, strict=True):
            assert output.slices[i].tobytes() == alone.array.tobytes()
        for leaf, alone in [(stacked, one), *((parameter, parameter) for parameter in layer.parameters())]:
            assert found[leaf][i].tobytes() == alone.grad.array.tobytes()


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_the_gradient_of_a_gradient_is_torchs(name):
    mine, theirs = build(name, 2, 3, num_layers=2)
    doubled(mine, theirs, np.random.default_rng(3))

    def squared(library, module):
        x = library.tensor(uniform(3, 2, 2), requires_grad=True)
        (first,) = library.autograd.grad((module(x)[0] ** 2).sum(), [x], create_graph=True)
        (first**3).sum().backward()
        return {name: parameter.grad.detach().numpy() for name, parameter in module.named_parameters()}

    assert_agree(squared(pg, mine), squared(torch, theirs))


WRONG = [
    ("LSTM", (3, 0), {}, ValueError, "hidden_size to be 1 or more, got 0"),
    ("LSTM", (3, 4.0), {}, TypeError, "an int for hidden_size, got 4.0"),
    ("LSTM", (3, 4), {"proj_size": 4}, ValueError, "smaller than hidden_size=4; got proj_size=4"),
    ("GRU", (3, 4), {"proj_size": 2}, ValueError, "only an LSTM has a projection"),
    ("GRU", (3, 4), {"dropout": 1.5}, ValueError, "between 0 and 1, got 1.5"),
    ("GRU", (3, 4), {"bias": 1}, TypeError, "a bool for bias, got 1"),
    ("RNN", (3, 4), {"nonlinearity": "elu"}, ValueError, "expected 'tanh' or 'relu', got 'elu'"),
    ("RNNCell", (3, 4), {"nonlinearity": "elu"}, ValueError, "expected 'tanh' or 'relu', got 'elu'"),
]


@pytest.mark.parametrize(("name", "args", "settings", "error", "told"), WRONG, ids=lambda value: str(value)[:20])
def test_what_cannot_be_built_is_said(name, args, settings, error, told):
    with pytest.raises(error, match=told):
        getattr(pg.nn, name)(*args, **settings)


def test_dropout_with_one_layer_warns_as_torch_does():
    with pytest.warns(UserWarning, match="dropout=0.5 does nothing with one layer"):
        pg.nn.LSTM(2, 3, dropout=0.5)


def test_what_does_not_fit_is_said():
    lstm, gru, cell = pg.nn.LSTM(3, 4), pg.nn.GRU(3, 4, batch_first=True), pg.nn.GRUCell(3, 4)
    with pytest.raises(RuntimeError, match="expected input of shape .L, N, 3. or .L, 3., got .5, 2, 4."):
        lstm(pg.zeros(5, 2, 4))
    with pytest.raises(ValueError, match="expected input of shape .N, L, 3. or .L, 3., got .5,."):
        gru(pg.zeros(5))
    with pytest.raises(RuntimeError, match="a sequence of 1 step or more"):
        gru(pg.zeros(2, 0, 3))
    with pytest.raises(TypeError, match="expected the state as a tuple .h_0, c_0., got Tensor"):
        lstm(pg.zeros(5, 1, 3), pg.zeros(1, 1, 4))
    with pytest.raises(TypeError, match="expected the state as one tensor, got tuple"):
        gru(pg.zeros(5, 1, 3), (pg.zeros(1, 5, 4),))
    with pytest.raises(RuntimeError, match="expected a state of shape .1, 5, 4., got .1, 1, 4."):
        gru(pg.zeros(5, 1, 3), pg.zeros(1, 1, 4))
    with pytest.raises(RuntimeError, match="expected a state of 3 dimensions, as the input has, got shape .1, 4."):
        gru(pg.zeros(5, 1, 3), pg.zeros(1, 4))
    with pytest.raises(RuntimeError, match="expected a state of 2 dimensions, as the input has, got shape .1, 1, 4."):
        gru(pg.zeros(5, 3), pg.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="expected input of float32, as its weights are, got float64: write input.to"):
        gru(pg.zeros(5, 1, 3, dtype=pg.float64))
    with pytest.raises(RuntimeError, match="expected packed rows of 3 features, got shape .3, 2."):
        gru(pg.nn.utils.rnn.pack_sequence([pg.zeros(2, 2), pg.zeros(1, 2)]))
    with pytest.raises(RuntimeError, match="expected input of shape .N, 3. or .3,., got .1, 4."):
        cell(pg.zeros(1, 4))
    with pytest.raises(RuntimeError, match="expected a state of shape .2, 4., got .1, 4."):
        cell(pg.zeros(2, 3), pg.zeros(1, 4))
