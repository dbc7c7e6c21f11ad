"""Modules and losses without torch: state, modes, copies, attributes that shadow methods, and what is refused."""

import copy
import functools
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn
from pargrad.parallel import score


class Block(nn.Module):
    """A module with a parameter, two buffers and children of its own."""

    def __init__(self, size=3):
        self.inner = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Dropout(0.5))
        self.scale = nn.Parameter(pg.ones(size))
        self.register_buffer("mean", pg.zeros(size))
        self.register_buffer("scratch", pg.zeros(1), persistent=False)

    def forward(self, x):
        return self.inner(x) * self.scale + self.mean


class Tied(nn.Module):
    """Two layers with one weight, and a layer under two names."""

    def __init__(self):
        self.encoder = nn.Linear(3, 3)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight
        self.again = self.encoder

    def forward(self, x):
        return self.decoder(self.again(x))


X = np.arange(6, dtype=np.float32).reshape(2, 3) / 5 - 0.4


def snapshot(module):
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def same_arrays(left, right):
    """Two dicts of arrays have the same names in the same order and the same bits."""
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and left[name].tobytes() == right[name].tobytes() for name in left
    )


def test_same_arrays_sees_a_difference():
    left = {"a": np.zeros(2), "b": np.ones(1)}
    assert same_arrays(left, copy.deepcopy(left))
    assert not same_arrays(left, {"b": left["b"], "a": left["a"]})
    assert not same_arrays(left, {"a": np.array([0.0, -0.0]), "b": left["b"]})
    assert not same_arrays(left, {"a": np.zeros(2, np.float32), "b": left["b"]})


# ----- state -----


def test_state_dict_is_on_the_modules_own_memory():
    block = Block()
    state = block.state_dict()
    assert type(state) is OrderedDict
    assert not any(value.requires_grad for value in state.values())
    assert state["scale"].array is block.scale.array
    with pg.no_grad():
        block.scale += 1
    assert state["scale"].tolist() == [2, 2, 2]


def test_the_order_is_that_of_the_attributes_first_assignment():
    class Late(nn.Module):
        def __init__(self):
            self.first = None  # torch moves it to the end when a parameter takes its place
            self.second = nn.Parameter(pg.ones(1))
            self.first = nn.Parameter(pg.ones(1))

    assert [name for name, _ in Late().named_parameters()] == ["first", "second"]


def test_loading_copies_into_the_modules_own_memory():
    source, target = Block(), Block()
    before = target.scale.array
    state = source.state_dict()
    assert target.load_state_dict(state) == ([], [])
    assert same_arrays(snapshot(target), snapshot(source))
    assert target.scale.array is before
    with pg.no_grad():
        source.scale += 1
    assert target.scale.tolist() == [1, 1, 1]


def test_loading_casts_to_the_modules_dtype():
    block = Block().double()
    block.load_state_dict({name: value.astype(np.float32) for name, value in snapshot(Block()).items()})
    assert {value.dtype for value in block.state_dict().values()} == {np.dtype(np.float64)}


def test_loading_counts_as_a_change_of_the_tensors():
    linear = nn.Linear(3, 3)
    out = linear(linear(pg.tensor(X))).sum()
    linear.load_state_dict(nn.Linear(3, 3).state_dict())
    with pytest.raises(RuntimeError, match="in-place"):
        out.backward()


def test_tied_parameters_are_one_in_the_parameters_and_two_in_the_state():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["encoder.weight", "encoder.bias"]
    assert list(model.state_dict()) == [
        "encoder.weight", "encoder.bias", "decoder.weight", "again.weight", "again.bias",
    ]  # fmt: skip
    model(pg.tensor(X)).sum().backward()
    once, twice = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
    once.load_state_dict(model.encoder.state_dict())
    twice.load_state_dict(model.decoder.state_dict())
    twice(once(pg.tensor(X))).sum().backward()
    np.testing.assert_allclose(
        model.encoder.weight.grad.numpy(), (once.weight.grad + twice.weight.grad).numpy(), rtol=1e-6
    )


WRONG_STATES = {
    "missing": (lambda state: state.pop("scale"), ["missing: scale"]),
    "unexpected": (lambda state: state.update(more=np.zeros(1)), ["unexpected: more"]),
    "shape": (lambda state: state.update(scale=np.zeros(4)), [r"scale: expected shape \(3,\), got \(4,\)"]),
    "a shape that would be broadcast": (lambda state: state.update(scale=np.zeros(1)), [r"got \(1,\)"]),
    "complex numbers": (lambda state: state.update(scale=np.zeros(3, complex)), ["scale: complex128"]),
    "strings": (lambda state: state.update(scale=np.array(["1", "2", "3"])), ["scale: <U1"]),
    "all at once": (
        lambda state: (state.pop("mean"), state.update({"more": np.zeros(1), "inner.0.bias": np.zeros(2)})),
        ["missing: mean", "unexpected: more", r"inner\.0\.bias: expected shape \(3,\), got \(2,\)"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG_STATES)
def test_a_wrong_state_is_refused_whole(wrong):
    block, state = Block(), {name: value + 1 for name, value in snapshot(Block()).items()}
    before = snapshot(block)
    spoil, told = WRONG_STATES[wrong]
    spoil(state)
    with pytest.raises(RuntimeError, match="Block") as error:
        block.load_state_dict(state)
    for part in told:
        error.match(part)
    assert same_arrays(snapshot(block), before)


def test_loading_what_there_is_where_strict_is_off():
    block = Block()
    result = block.load_state_dict({"scale": np.full(3, 7.0), "more": np.zeros(1)}, strict=False)
    assert block.scale.tolist() == [7, 7, 7]
    assert result.unexpected_keys == ["more"]
    assert result.missing_keys == ["mean", "inner.0.weight", "inner.0.bias"]
    with pytest.raises(RuntimeError, match=r"got \(4,\)"):
        block.load_state_dict({"scale": np.zeros(4)}, strict=False)


def test_read_only_memory_is_refused_before_anything_is_changed():
    block = Block()
    state = {name: value + 1 for name, value in snapshot(block).items()}
    before = snapshot(block)
    last = block.inner[0].bias
    last.array = last.array.copy()
    last.array.flags.writeable = False
    with pytest.raises(RuntimeError, match=r"inner\.0\.bias: its memory is read-only"):
        block.load_state_dict(state)
    assert same_arrays(snapshot(block), before)


def test_assigning_takes_the_given_memory_and_keeps_what_is_tied():
    model, given = Tied(), {name: value.astype(np.float64) + 1 for name, value in snapshot(Tied()).items()}
    held = model.encoder.weight
    assert model.load_state_dict(given, assign=True) == ([], [])
    assert model.encoder.weight is model.decoder.weight is held
    assert held.array is given["again.weight"]  # of several names, the last
    assert held.requires_grad
    assert model.encoder.bias.dtype == np.float64
    with pytest.raises(RuntimeError, match="int64 cannot take the place of a parameter"):
        model.load_state_dict({"encoder.bias": np.array([1, 2, 3])}, strict=False, assign=True)


class Remembering(nn.Module):
    """A module with state that is no tensor."""

    def __init__(self):
        self.linear = nn.Linear(1, 1)
        self.seen = []

    def get_extra_state(self):
        return {"seen": list(self.seen)}

    def set_extra_state(self, state):
        self.seen = list(state["seen"])


def test_extra_state():
    source, target = nn.Sequential(Remembering()), nn.Sequential(Remembering())
    source[0].seen += [1, 2]
    state = source.state_dict()
    assert list(state) == ["0._extra_state", "0.linear.weight", "0.linear.bias"]
    target.load_state_dict(state)
    assert target[0].seen == [1, 2]
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match=r"missing: 0\._extra_state"):
        target.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"unexpected: _extra_state"):
        nn.ReLU().load_state_dict({"_extra_state": 1})
    with pytest.raises(NotImplementedError, match="def get_extra_state"):
        nn.ReLU().get_extra_state()


def test_a_state_is_added_to_another_and_may_hold_the_tensors_themselves():
    block, into = Block(), {"before": 1}
    assert block.state_dict(destination=into, prefix="b.", keep_vars=True) is into
    assert list(into)[:2] == ["before", "b.scale"]
    assert into["b.scale"] is block.scale


def test_a_module_that_writes_its_own_state_is_heard():
    class Terse(nn.Linear):
        def state_dict(self, *, destination, prefix, keep_vars):
            destination[prefix + "w"] = self.weight.detach()
            return destination

    assert list(nn.Sequential(Terse(1, 1), nn.Linear(1, 1)).state_dict()) == ["0.w", "1.weight", "1.bias"]


def test_a_tensor_in_a_parameters_place_is_neither_trained_nor_saved():
    linear = nn.Linear(3, 3)
    linear.weight = pg.zeros(3, 3)
    assert list(linear.state_dict()) == ["bias"]
    assert len(list(linear.parameters())) == 1
    assert linear(pg.tensor(X)).tolist() == [linear.bias.tolist()] * 2
    linear.weight = nn.Parameter(pg.ones(3, 3))
    assert list(linear.state_dict()) == ["weight", "bias"]


def test_buffers():
    block = Block()
    assert [name for name, _ in block.named_buffers()] == ["mean", "scratch"]
    assert "scratch" not in block.state_dict()
    block.mean = pg.ones(3)  # another tensor under the name is the buffer now
    assert block.state_dict()["mean"].tolist() == [1, 1, 1]
    block.register_buffer("mean", None)
    assert "mean" not in block.state_dict()


@pytest.mark.parametrize(
    ("name", "value", "error", "told"),
    [
        ("inner.mean", pg.zeros(1), KeyError, "without a dot"),
        ("", pg.zeros(1), KeyError, "without a dot"),
        ("inner", pg.zeros(1), KeyError, "already has an attribute 'inner'"),
        ("count", 3, TypeError, "got int"),
    ],
)
def test_buffers_that_are_refused(name, value, error, told):
    with pytest.raises(error, match=told):
        Block().register_buffer(name, value)


# ----- mode, dtype, gradients -----


def test_train_and_eval_reach_every_module():
    block = nn.Sequential(Block(), Block())
    assert all(module.training for module in block.modules())
    assert block.eval() is block
    assert not any(module.training for module in block.modules())
    np.testing.assert_array_equal(block(pg.tensor(X)).detach().numpy(), block(pg.tensor(X)).detach().numpy())
    assert block.train() is block
    assert all(module.training for module in block.modules())
    assert nn.Linear(1, 1).training  # the mode is the object's, not the class's


def test_a_class_that_overrides_train_is_heard():
    class Frozen(Block):
        def train(self, mode=True):
            return super().train(False)

    model = nn.Sequential(Frozen(), Block())
    model.train()
    assert [module.training for module in model[0].modules()] == [False] * 5
    assert all(module.training for module in model[1].modules())


def test_dtypes():
    model = Tied()
    model.register_buffer("count", pg.tensor([1, 2]))
    model(pg.tensor(X)).sum().backward()
    assert model.double() is model
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert model.encoder.weight.grad.dtype == np.float64
    assert model.decoder.weight is model.encoder.weight
    assert model.count.dtype == np.int64
    assert model(pg.tensor(X.astype(np.float64))).dtype == np.float64
    model.float()
    assert model(pg.tensor(X)).dtype == np.float32


def test_zero_grad_and_requires_grad():
    block = Block().eval()
    block(pg.tensor(X)).sum().backward()
    gradient = block.scale.grad
    block.zero_grad(set_to_none=False)
    assert block.scale.grad is gradient
    assert not gradient.numpy().any()
    block.zero_grad()
    assert [p.grad for p in block.parameters()] == [None] * 3
    assert block.requires_grad_(False) is block
    assert not block(pg.tensor(X)).requires_grad
    assert block.requires_grad_()(pg.tensor(X)).requires_grad


# ----- copies -----

COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda module: pickle.loads(pickle.dumps(module))}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_owns_its_arrays(how):
    block = Block().eval()
    twin = COPIES[how](block)
    assert same_arrays(snapshot(twin), snapshot(block))
    assert repr(twin) == repr(block)
    assert [module.training for module in twin.modules()] == [False] * 5
    assert [name for name, _ in twin.named_buffers()] == ["mean", "scratch"]
    assert all(type(p) is nn.Parameter and p.requires_grad for p in twin.parameters())
    for (name, ours), (_, theirs) in zip(block.state_dict().items(), twin.state_dict().items(), strict=True):
        assert not np.may_share_memory(ours.array, theirs.array), name
    with pg.no_grad():
        twin.scale += 1
    assert block.scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_buffer_is_one_and_as_persistent(how):
    model = nn.ReLU()
    model.kept, model.scratch = nn.Buffer(pg.ones(2)), nn.Buffer(pg.zeros(1), persistent=False)
    twin = COPIES[how](model)
    assert [name for name, _ in twin.named_buffers()] == ["kept", "scratch"]
    assert list(twin.state_dict()) == ["kept"]


@pytest.mark.parametrize("how", COPIES)
def test_what_is_tied_stays_tied(how):
    twin = COPIES[how](Tied())
    assert twin.decoder.weight is twin.encoder.weight
    assert twin.again is twin.encoder
    assert len(list(twin.parameters())) == 2


def test_a_copy_of_a_view_owns_its_memory():
    flat = np.arange(12, dtype=np.float32)
    model = nn.Linear(3, 2)
    model.weight.data = flat[:6].reshape(2, 3)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.weight.array.base is None or twin.weight.array.base.nbytes == 24  # and not all 12 numbers
    assert not np.may_share_memory(copy.deepcopy(model).weight.array, flat)


# ----- attributes that are called as methods are -----

METHODS = sorted(
    name for name in vars(nn.Module) if not name.startswith("__") and name not in ("training", "forward", "extra_repr")
)


class Shadowing(nn.Module):
    """A model in which every method of Module is an attribute: a layer, a parameter or something else."""

    def __init__(self):
        self.linear = nn.Linear(3, 3)
        for i, name in enumerate(METHODS):
            setattr(self, name, [nn.Linear(3, 3, bias=False), nn.Parameter(pg.ones(2)), "something else"][i % 3])

    def forward(self, x):
        for _, layer in nn.Module.named_children(self):
            x = layer(x)
        return x


def test_attributes_shadow_methods():
    assert {"score", "parameters", "state_dict", "train", "eval", "named_modules", "zero_grad"} <= set(METHODS)
    model = Shadowing()
    layers, loose = METHODS[::3], METHODS[1::3]
    expected = [*loose, "linear.weight", "linear.bias", *(f"{name}.weight" for name in layers)]
    assert list(nn.Module.state_dict(model)) == expected
    assert [name for name, _ in nn.Module.named_parameters(model)] == expected
    assert len(list(nn.Module.parameters(model))) == len(expected)
    assert len(list(nn.Module.modules(model))) == len(layers) + 2
    twin = copy.deepcopy(model)
    nn.Module.load_state_dict(twin, {name: value + 1 for name, value in snapshot_of(model).items()})
    assert snapshot_of(twin)["linear.bias"].tolist() == (snapshot_of(model)["linear.bias"] + 1).tolist()
    nn.Module.eval(twin)
    assert not twin.training
    assert not twin.linear.training
    nn.Module.double(twin)
    assert twin.linear.weight.dtype == np.float64
    nn.Module.requires_grad_(twin, False)
    nn.Module.zero_grad(twin)
    assert repr(model).count("Linear") == len(layers) + 1


def snapshot_of(module):
    return {name: value.numpy().copy() for name, value in nn.Module.state_dict(module).items()}


def test_a_model_with_shadowed_methods_is_scored():
    model, inputs = Shadowing(), np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    target = model(pg.tensor(inputs)).detach().numpy().argmax(1)
    target[0] = (target[0] + 1) % 3
    assert score(model, (inputs, target), num_workers=0, progress="off") == 8 / 9


def test_shadowing_below_the_root_and_by_a_layer_called_score():
    class Inner(nn.Module):
        def __init__(self):
            self.score = nn.Linear(3, 2)
            self.train_step = 3

        def forward(self, x):
            return self.score(x)

    model = nn.Sequential(OrderedDict(parameters=Inner(), score=nn.Linear(2, 2)))
    assert list(model.state_dict()) == [
        "parameters.score.weight", "parameters.score.bias", "score.weight", "score.bias",
    ]  # fmt: skip
    assert model(pg.tensor(X)).shape == (2, 2)


# ----- sequences, parameters -----


def test_a_sequence_runs_its_layers_in_order_also_one_twice():
    double, add = nn.Linear(1, 1), nn.Linear(1, 1)
    double.load_state_dict({"weight": np.array([[2.0]]), "bias": np.array([0.0])})
    add.load_state_dict({"weight": np.array([[1.0]]), "bias": np.array([1.0])})
    model = nn.Sequential(double, add, double)
    assert model(pg.tensor([[3.0]])).tolist() == [[14.0]]
    assert len(model) == 3
    assert list(model) == [double, add, double]
    assert model[-1] is double
    assert [*model[1:]] == [add, double]
    with pytest.raises(IndexError):
        model[3]


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: nn.Sequential(F.relu), TypeError, r"write nn\.ReLU\(\)"),
        (lambda: nn.Sequential(OrderedDict({"a.b": nn.ReLU()})), KeyError, r"'a\.b'"),
        (lambda: nn.Sequential(OrderedDict({"forward": nn.ReLU()})), KeyError, "'forward'"),
        (lambda: nn.Module()(1), NotImplementedError, "def forward"),
        (lambda: nn.Parameter(pg.tensor([1, 2])), RuntimeError, "int64"),
        (lambda: nn.Linear(3, 2)(pg.ones(2, 4)), RuntimeError, r"\(\.\.\., 3\).*got \(2, 4\)"),
        (lambda: nn.Linear(3, 2)(pg.ones(2, 3).double()), RuntimeError, "one dtype"),
    ],
)
def test_what_makes_no_sense_is_refused(make, error, told):
    with pytest.raises(error, match=told):
        make()


def test_a_parameter_of_integers_may_be_had_without_gradient():
    assert not nn.Parameter(pg.tensor([1, 2]), requires_grad=False).requires_grad


# ----- losses -----

SCORES, LABELS = pg.tensor(np.arange(12.0).reshape(4, 3) % 5), pg.tensor([0, 2, 1, 1])
ONES = pg.ones(4, 3, dtype=pg.float64)

WRONG_LOSSES = {
    "class too large": (lambda: F.cross_entropy(SCORES, pg.tensor([0, 3, 1, 1])), IndexError, "class 3 .* 3 classes"),
    "class below 0": (lambda: F.nll_loss(SCORES, pg.tensor([0, -1, 1, 1])), IndexError, "class -1"),
    "the default ignore_index, not set": (
        lambda: F.cross_entropy(SCORES, pg.tensor([0, -100, 1, 1]), ignore_index=0), IndexError, "class -100",
    ),
    "fewer targets": (lambda: F.cross_entropy(SCORES, pg.tensor([0, 1])), ValueError, r"\(4,\).*got int64 .*\(2,\)"),
    "targets as a column": (lambda: F.nll_loss(SCORES, LABELS.reshape(4, 1)), ValueError, r"got .* shape \(4, 1\)"),
    "targets as floats": (lambda: F.cross_entropy(SCORES, LABELS.float()), ValueError, r"write target\.long\(\)"),
    "targets as booleans": (lambda: F.cross_entropy(SCORES, LABELS > 1), ValueError, "got bool"),
    "nll of probabilities": (lambda: F.nll_loss(SCORES, SCORES), ValueError, "class indices"),
    "probabilities of another shape": (
        lambda: F.cross_entropy(SCORES, pg.ones(4, 2)), ValueError, r"\(4, 3\) and \(4, 2\)",
    ),
    "integer scores": (lambda: F.cross_entropy(SCORES.long(), LABELS), ValueError, "int64"),
    "a single score": (lambda: F.nll_loss(pg.tensor(1.0), LABELS), ValueError, r"shape \(\)"),
    "class weights too short": (
        lambda: F.cross_entropy(SCORES, LABELS, weight=pg.ones(2)), RuntimeError, r"3 classes.*\(2,\)",
    ),
    "class weights too long": (
        lambda: F.nll_loss(SCORES, LABELS, weight=pg.ones(4)), RuntimeError, r"3 classes.*\(4,\)",
    ),
    "class weights with probabilities": (
        lambda: F.cross_entropy(SCORES, SCORES, weight=pg.ones(4, 3)), RuntimeError, r"3 classes.*\(4, 3\)",
    ),
    "label_smoothing": (lambda: F.cross_entropy(SCORES, LABELS, label_smoothing=1.5), ValueError, r"got 1\.5"),
    "a column met by a row": (lambda: F.mse_loss(pg.ones(4, 1), pg.ones(4)), ValueError, r"\(4, 1\) and \(4,\)"),
    "weight of another shape": (lambda: F.mse_loss(ONES, ONES, weight=pg.ones(3)), ValueError, "weight"),
    "bce of another shape": (lambda: F.binary_cross_entropy_with_logits(ONES, pg.ones(4)), ValueError, "one shape"),
    **{
        f"reduction of {loss.__name__}": (
            lambda loss=loss: loss(SCORES, LABELS, reduction="avg"), ValueError, "'mean', 'sum' or 'none', got 'avg'",
        )
        for loss in [F.mse_loss, F.cross_entropy, F.nll_loss, F.binary_cross_entropy_with_logits]
    },
    **{
        f"reduction of {loss.__name__}": (lambda loss=loss: loss(reduction="avg"), ValueError, "got 'avg'")
        for loss in [nn.MSELoss, nn.CrossEntropyLoss, nn.NLLLoss, nn.BCEWithLogitsLoss]
    },
}  # fmt: skip


@pytest.mark.parametrize(("call", "error", "told"), WRONG_LOSSES.values(), ids=WRONG_LOSSES)
def test_losses_refuse(call, error, told):
    with pytest.raises(error, match=told):
        call()


LOSSES = {
    "mse": (F.mse_loss, nn.MSELoss(), (SCORES, ONES), 12),
    "mse weighted": (functools.partial(F.mse_loss, weight=ONES * 0.5), None, (SCORES, ONES), 6.0),
    "cross entropy": (F.cross_entropy, nn.CrossEntropyLoss(), (SCORES, LABELS), 4),
    "cross entropy, ignoring": (
        functools.partial(F.cross_entropy, ignore_index=1), nn.CrossEntropyLoss(ignore_index=1), (SCORES, LABELS), 2,
    ),
    "cross entropy, weighted and smoothed": (
        functools.partial(F.cross_entropy, weight=pg.tensor([0.5, 2.0, 3.0]), label_smoothing=0.1),
        nn.CrossEntropyLoss(pg.tensor([0.5, 2.0, 3.0]), label_smoothing=0.1), (SCORES, LABELS), 7.5,
    ),
    "cross entropy of probabilities": (F.cross_entropy, nn.CrossEntropyLoss(), (SCORES, ONES / 3), 4),
    "nll": (F.nll_loss, nn.NLLLoss(), (SCORES, LABELS), 4),
    "bce": (F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss(), (SCORES, ONES), 12),
}  # fmt: skip


def terms_of(loss):
    """`sum_and_divisor`, also of a partial."""
    if isinstance(loss, functools.partial):
        return functools.partial(loss.func.sum_and_divisor, **loss.keywords)
    return loss.sum_and_divisor


@pytest.mark.parametrize("name", LOSSES)
def test_sum_and_divisor(name):
    function, module, arguments, expected = LOSSES[name]
    for loss in [function] if module is None else [function, module]:
        total, divisor = terms_of(loss)(*arguments)
        assert divisor == expected
        assert type(divisor) is type(expected)  # counts are ints: they add up exactly
        np.testing.assert_allclose(total.item() / divisor, loss(*arguments).item(), rtol=1e-14)
    summed, undivided = terms_of(functools.partial(function, reduction="sum"))(*arguments)
    assert undivided is None
    np.testing.assert_allclose(summed.item(), total.item(), rtol=1e-14)


def test_weights_do_not_change_the_dtype():
    scores, weight = SCORES.float(), pg.tensor(np.array([0.5, 2.0, 3.0]))
    assert weight.dtype == np.float64
    for target in (LABELS, ONES.float() / 3):
        for options in ({}, {"label_smoothing": 0.1}, {"ignore_index": 1}):
            assert F.cross_entropy(scores, target, weight=weight, **options).dtype == np.float32
    assert F.nll_loss(scores, LABELS, weight=weight).dtype == np.float32


def test_a_modules_weights_are_buffers_that_follow_its_dtype():
    loss = nn.CrossEntropyLoss(weight=pg.tensor([0.5, 2.0, 3.0]))
    assert list(loss.state_dict()) == ["weight"]
    assert loss.double().weight.dtype == np.float64
    assert nn.BCEWithLogitsLoss(pos_weight=pg.ones(3)).state_dict().keys() == {"pos_weight"}
