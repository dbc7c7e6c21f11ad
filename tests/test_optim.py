"""The optimizers as functions on arrays, on slices and in place; their groups, their state, and what they refuse."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pargrad as pg
from pargrad import nn, optim

# Each way to run an optimizer's update function.
UPDATES = {
    "SGD": (optim.SGD, {}),
    "SGD with decay": (optim.SGD, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    "SGD with momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
    "SGD with nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "AdamW": (optim.AdamW, {}),
    "AdamW with amsgrad": (optim.AdamW, {"lr": 0.1, "amsgrad": True, "maximize": True, "betas": (0.5, 0.9)}),
    "Adam": (optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    "NAdam": (optim.NAdam, {"weight_decay": 0.1}),
    "RAdam": (optim.RAdam, {"betas": (0.9, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "Adamax": (optim.Adamax, {"weight_decay": 0.1, "maximize": True}),
    "Adagrad": (optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "Adadelta": (optim.Adadelta, {"weight_decay": 0.1}),
    "RMSprop": (optim.RMSprop, {}),
    "RMSprop, centered, with momentum": (optim.RMSprop, {"centered": True, "momentum": 0.5, "maximize": True}),
    "Rprop": (optim.Rprop, {}),
    "ASGD": (optim.ASGD, {"lambd": 0.1, "t0": 1, "weight_decay": 0.1}),
    "Adafactor": (optim.Adafactor, {"weight_decay": 0.1}),
    "Muon": (optim.Muon, {}),
}
# Those whose update of an element depends on it alone, so that it may be computed in any pieces.
ELEMENTWISE = [name for name, (kind, _) in UPDATES.items() if kind.unit == "element"]
DTYPES = ["float32", "float64"]


def settings_of(name):
    """An optimizer class and all its options, defaults included."""
    kind, options = UPDATES[name]
    return kind, kind([pg.zeros(1, 1, requires_grad=True)], **options).defaults


def trained(kind, model):
    """The parameters of a model that an optimizer is for."""
    return [p for p in model.parameters() if kind is not optim.Muon or p.ndim == 2]


def test_every_optimizer_is_here_but_the_one_that_has_no_update():
    assert {kind for kind, _ in UPDATES.values()} == set(optim.OPTIMIZERS.values()) - {optim.LBFGS}
    assert list(optim.OPTIMIZERS) == [kind.__name__ for kind in optim.OPTIMIZERS.values()]


SIGNED = ("exp_avg", "momentum_buffer", "grad_avg", "prev", "ax")


def arrays_of(name, size, dtype, seed=0):
    """A parameter, a gradient and state as they are after some steps; a matrix where an update is of parameters."""
    kind, options = settings_of(name)
    rng = np.random.default_rng(seed)
    shape = (size,) if kind.unit == "element" else (size // 10, 10)

    def draw(shape, signed=True):
        return np.asarray(rng.uniform(-1, 1, shape) if signed else rng.uniform(2, 5, shape)).astype(dtype)

    shapes = {each: kind.state_shape(each, shape) for each in kind.state_names(options)}
    state = [None if at is None else draw(at, each in SIGNED) for each, at in shapes.items()]
    return draw(shape), draw(shape), state


def updated(name, parameter, gradient, state, step, cuts=()):
    """The new parameter and state, computed on the pieces that `cuts` make, into arrays of their own."""
    kind, options = settings_of(name)

    def blank(array):
        return None if array is None else np.full_like(array, np.nan)

    new_parameter, new_state = blank(parameter), [blank(each) for each in state]
    if not cuts:
        kind.update(parameter, gradient, tuple(state), new_parameter, tuple(new_state), step, options)
        return [new_parameter, *new_state]
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(parameter)]):
        piece = slice(start, stop)
        kind.update(
            parameter[piece], gradient[piece], tuple(each[piece] for each in state),
            new_parameter[piece], tuple(each[piece] for each in new_state), step, options,
        )  # fmt: skip
    return [new_parameter, *new_state]


def bits(arrays):
    return [array.tobytes() for array in arrays if array is not None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
@given(size=st.integers(1, 200), step=st.integers(1, 3), data=st.data())
@settings(max_examples=25, deadline=None)
def test_pieces_of_an_array_are_updated_as_the_whole(name, dtype, size, step, data):
    cuts = data.draw(st.lists(st.integers(0, size), max_size=6))
    arrays = arrays_of(name, size, dtype, seed=size)
    assert bits(updated(name, *arrays, step, cuts)) == bits(updated(name, *arrays, step))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_pieces_of_a_large_array_at_any_alignment(name):
    # numpy's loops have vector bodies and scalar tails, which must agree.
    arrays = arrays_of(name, 70_001, "float32")
    whole = bits(updated(name, *arrays, 2))
    for cuts in ([1], [3, 8, 32_768, 32_769], [65_536], range(0, 70_001, 4097)):
        assert bits(updated(name, *arrays, 2, cuts)) == whole


def test_an_update_that_mixes_elements_would_be_seen(monkeypatch):
    def mixing(parameter, gradient, state, new_parameter, new_state, step, options):
        new_parameter[...] = parameter - gradient.sum()

    arrays = arrays_of("SGD", 50, "float64")
    monkeypatch.setattr(optim.SGD, "update", staticmethod(mixing))
    assert bits(updated("SGD", *arrays, 1, [20])) != bits(updated("SGD", *arrays, 1))


@pytest.mark.parametrize("step", [1, 2, 50])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UPDATES)
def test_in_place_and_into_other_arrays_are_the_same(name, dtype, step):
    kind, options = settings_of(name)
    parameter, gradient, state = arrays_of(name, 100, dtype)
    before = bits([parameter, gradient, *state])
    elsewhere = updated(name, parameter, gradient, state, step)
    assert bits([parameter, gradient, *state]) == before  # neither the old arrays nor the gradient were written to
    assert all(array.dtype == dtype and np.isfinite(array).all() for array in elsewhere if array is not None)
    gradient.flags.writeable = False
    kind.update(parameter, gradient, tuple(state), parameter, tuple(state), step, options)
    assert bits([parameter, *state]) == bits(elsewhere)
    assert bits([gradient]) == [before[1]]


def test_the_first_two_steps_by_hand():
    p = pg.tensor([1.0], requires_grad=True)
    sgd = optim.SGD([p], lr=0.5, momentum=0.5)
    for expected in (1.0 - 0.5 * 2, 0.0 - 0.5 * (0.5 * 2 + 2)):
        p.grad = pg.tensor([2.0])
        sgd.step()
        assert p.item() == expected
    q = pg.tensor([1.0], dtype=pg.float64, requires_grad=True)
    adamw = optim.AdamW([q], lr=0.1, weight_decay=0.5)
    q.grad = pg.tensor([4.0], dtype=pg.float64)
    adamw.step()
    # The first step of Adam is lr in the gradient's direction, whatever its size.
    np.testing.assert_allclose(q.item(), 1 * (1 - 0.1 * 0.5) - 0.1, rtol=1e-8)


# ----- in a user's own loop -----


def model_and_data():
    pg.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, pg.rand(8, 3), pg.rand(8, 1)


def train(model, optimizer, x, y, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return bits(p.detach().numpy() for p in model.parameters())


@pytest.mark.parametrize("how", ["state_dict", "pickled state_dict", "deepcopy"])
@pytest.mark.parametrize("name", UPDATES)
def test_a_run_that_is_taken_up_again_has_the_bits_of_the_unbroken_one(name, how):
    kind, options = UPDATES[name]
    model, x, y = model_and_data()
    unbroken = train(model, kind(trained(kind, model), **options), x, y, 7)

    model, x, y = model_and_data()
    optimizer = kind(trained(kind, model), **options)
    train(model, optimizer, x, y, 3)
    if how == "deepcopy":
        again, copied = copy.deepcopy((model, optimizer))
    else:
        again, copied = copy.deepcopy(model), None
        copied = kind(trained(kind, again), lr=123.0)
        state = optimizer.state_dict()
        copied.load_state_dict(pickle.loads(pickle.dumps(state)) if how.startswith("pickled") else state)
    halfway = bits(p.detach().numpy() for p in model.parameters())
    assert train(again, copied, x, y, 4) == unbroken
    assert bits(p.detach().numpy() for p in model.parameters()) == halfway  # the copy shares nothing
    assert train(model, optimizer, x, y, 4) == unbroken  # nor its state


def test_a_loss_goes_down():
    for name, (kind, options) in UPDATES.items():
        if options.get("maximize"):
            continue
        model, x, y = model_and_data()
        before = nn.functional.mse_loss(model(x), y).item()
        lr = {"Adadelta": 30.0, "ASGD": 0.3}.get(kind.__name__, 0.05)
        train(model, kind(trained(kind, model), **{**options, "lr": lr}), x, y, 30)
        assert nn.functional.mse_loss(model(x), y).item() < before / 2, name


def test_a_closure_is_called_once_and_its_loss_given_back():
    model, x, y = model_and_data()
    sgd, calls = optim.SGD(model.parameters(), lr=0.1), []

    def closure():
        sgd.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        calls.append(loss)
        return loss

    with pg.no_grad():
        assert sgd.step(closure) is calls[0]
    assert len(calls) == 1


@pytest.mark.parametrize("kind", [optim.SGD, optim.LBFGS])
def test_hooks_are_called_before_and_after_a_step(kind):
    p = pg.tensor([1.0], requires_grad=True)
    optimizer, seen = kind([p], lr=0.1), []

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    before = optimizer.register_step_pre_hook(lambda *given: seen.append((given, p.item())))
    optimizer.register_step_post_hook(lambda *given: seen.append((given, p.item())))
    optimizer.step(closure)
    after = p.item()
    assert seen == [((optimizer, (closure,), {}), 1.0), ((optimizer, (closure,), {}), after)]
    before.remove()
    optimizer.step(closure)
    assert len(seen) == 3
    assert after != 1.0


def test_a_step_counts_as_a_change_of_the_parameters():
    model, x, _ = model_and_data()
    sgd = optim.SGD(model.parameters())
    out = (model(x) * model(x)).sum()
    model(x).sum().backward()
    sgd.step()
    with pytest.raises(RuntimeError, match="in-place"):
        out.backward()


def test_a_step_writes_no_gradient_and_zero_grad_clears_them():
    model, x, y = model_and_data()
    for kind, options in UPDATES.values():
        params = trained(kind, model)
        optimizer = kind(params, **options)
        nn.functional.mse_loss(model(x), y).backward()
        before = bits(p.grad.numpy() for p in params)
        optimizer.step()
        assert bits(p.grad.numpy() for p in params) == before
        optimizer.zero_grad(set_to_none=False)
        assert not any(p.grad.numpy().any() for p in params)
        optimizer.zero_grad()
        assert [p.grad for p in params] == [None] * len(params)
        model.zero_grad()


@pytest.mark.parametrize("name", [name for name in UPDATES if name != "Muon"])
def test_a_parameter_may_be_a_number(name):
    kind, options = UPDATES[name]
    number = pg.tensor(3.0, requires_grad=True)
    row = pg.tensor([3.0], requires_grad=True)
    optimizer = kind([number, row], **options)
    for _ in range(3):
        number.grad, row.grad = pg.tensor(0.5), pg.tensor([0.5])
        optimizer.step()
    assert number.shape == ()
    assert number.item() == row.item() != 3.0
    assert all(array.shape == () for key, array in optimizer.state_dict()["state"][0].items() if key != "step")


# ----- groups -----


def test_groups():
    model, _, _ = model_and_data()
    first, second = model[0], model[2]
    sgd = optim.SGD([{"params": first.parameters(), "lr": 0.5}, {"params": second.weight}], lr=0.1, momentum=0.3)
    sgd.add_param_group({"params": [("bias", second.bias)], "momentum": 0.0})
    assert [(group["lr"], group["momentum"]) for group in sgd.param_groups] == [(0.5, 0.3), (0.1, 0.3), (0.1, 0.0)]
    assert [len(group["params"]) for group in sgd.param_groups] == [2, 1, 1]
    assert optim.SGD(model.named_parameters()).param_groups[0]["params"] == list(model.parameters())


def test_a_group_may_have_a_name_and_what_schedules_write_and_a_rate_in_a_tensor():
    group = {"params": [pg.ones(1, requires_grad=True)], "name": "head", "initial_lr": 0.5, "lr": pg.tensor(0.25)}
    sgd = optim.SGD([group], lr=pg.tensor(0.5, dtype=pg.float64))
    assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["initial_lr"]) == (0.25, 0.5)
    again = optim.SGD([pg.ones(1, requires_grad=True)])
    again.load_state_dict(sgd.state_dict())
    assert {k: v for k, v in again.param_groups[0].items() if k != "params"} == {
        k: v for k, v in sgd.param_groups[0].items() if k != "params"
    }


def test_adams_state_makes_no_adam_of_adamw():
    params = [pg.ones(1, requires_grad=True)]
    adamw = optim.AdamW(params)
    adamw.load_state_dict(optim.Adam(params, lr=0.5).state_dict())
    assert (adamw.param_groups[0]["lr"], adamw.param_groups[0]["decoupled_weight_decay"]) == (0.5, True)


TENSOR = pg.ones(2, requires_grad=True)
REFUSED = {
    "nothing": (lambda: optim.SGD([]), ValueError, "empty"),
    "a used-up generator": (lambda: optim.SGD(p for p in ()), ValueError, "used up"),
    "an array": (lambda: optim.SGD([np.ones(2)]), TypeError, "got ndarray"),
    "a set": (lambda: optim.SGD({TENSOR}), TypeError, "no order"),
    "a model": (lambda: optim.AdamW([nn.Linear(1, 1)]), TypeError, r"got Linear: write model\.parameters\(\)"),
    "a computed tensor": (lambda: optim.SGD([TENSOR * 2]), ValueError, "MulBackward"),
    "a parameter twice": (lambda: optim.SGD([TENSOR, TENSOR]), ValueError, "given twice"),
    "a parameter in two groups": (
        lambda: optim.SGD([{"params": [TENSOR]}, {"params": [TENSOR]}]), ValueError, "given twice",
    ),
    "a group without parameters": (lambda: optim.SGD([{"lr": 0.1}]), TypeError, "expected a group"),
    "a list among groups": (lambda: optim.SGD([{"params": [TENSOR]}, [TENSOR]]), TypeError, "expected a group"),
    "an unknown option": (lambda: optim.SGD([{"params": [TENSOR], "betas": 1}]), ValueError, "'betas'.*'lr'"),
    "an unknown argument": (lambda: optim.SGD([TENSOR], learning_rate=1), TypeError, "learning_rate"),
    "differentiable": (lambda: optim.AdamW([TENSOR], differentiable=True), ValueError, "not recorded"),
    "nesterov alone": (lambda: optim.SGD([TENSOR], nesterov=True), ValueError, "nesterov needs momentum > 0"),
    "nesterov with dampening": (
        lambda: optim.SGD([TENSOR], nesterov=True, momentum=0.9, dampening=0.1), ValueError, "got 0.9 and 0.1",
    ),
    "three betas": (lambda: optim.AdamW([TENSOR], betas=(0.1, 0.2, 0.3)), ValueError, "two betas"),
    "beta 1": (lambda: optim.AdamW([TENSOR], betas=(1.0, 0.9)), ValueError, r"betas\[0\] in \[0, 1\), got 1\.0"),
    "beta 2": (lambda: optim.AdamW([TENSOR], betas=(0.9, -0.1)), ValueError, r"betas\[1\]"),
    **{
        f"{kind.__name__} {name}={value}": (
            lambda kind=kind, name=name, value=value: kind([TENSOR], **{name: value}),
            ValueError, f"{kind.__name__}: expected {name} >= 0, got {value}",
        )
        for kind, extra in [(optim.SGD, "momentum"), (optim.AdamW, "eps")]
        for name in ["lr", "weight_decay", extra]
        for value in [-0.1, float("nan")]
    },
    **{
        f"{kind.__name__} {option}": (
            lambda kind=kind, option=option: kind([pg.ones(2, 2, requires_grad=True)], **option), ValueError, told,
        )
        for kind, option, told in [
            (optim.Adam, {"differentiable": True}, "not recorded"),
            (optim.NAdam, {"momentum_decay": -1.0}, r"momentum_decay >= 0, got -1\.0"),
            (optim.Adagrad, {"lr_decay": -1.0}, r"lr_decay >= 0, got -1\.0"),
            (optim.Adagrad, {"initial_accumulator_value": -1.0}, "initial_accumulator_value >= 0"),
            (optim.Adadelta, {"rho": 1.5}, r"rho in \[0, 1\], got 1\.5"),
            (optim.RMSprop, {"alpha": -0.5}, r"alpha >= 0, got -0\.5"),
            (optim.Rprop, {"etas": (1.5, 1.2)}, r"etas\[0\] < 1 < etas\[1\], got \(1\.5, 1\.2\)"),
            (optim.Adafactor, {"beta2_decay": 0.5}, r"beta2_decay <= 0, got 0\.5"),
            (optim.Adafactor, {"d": 0.5}, r"d >= 1, got 0\.5"),
            (optim.Adafactor, {"eps": (None, -1.0)}, "two eps >= 0"),
            (optim.Muon, {"adjust_lr_fn": "mine"}, "'match_rms_adamw' or None, got 'mine'"),
            (optim.Muon, {"ns_coefficients": (1, 2)}, "three ns_coefficients"),
            (optim.Muon, {"ns_steps": 100}, r"ns_steps in \[0, 100\), got 100"),
            (optim.LBFGS, {"line_search_fn": "armijo"}, "'strong_wolfe' or None, got 'armijo'"),
        ]
    },
    "Muon of a vector": (lambda: optim.Muon([TENSOR]), ValueError, r"expected matrices .*AdamW\), got float32 \(2,\)"),
    "Adafactor of complex numbers": (
        lambda: optim.Adafactor([pg.ones(2, dtype=pg.complex64, requires_grad=True)]), ValueError, "got complex64",
    ),
    "LBFGS with two groups": (
        lambda: optim.LBFGS([{"params": [TENSOR]}, {"params": [pg.ones(1, requires_grad=True)]}]),
        ValueError, "one group of parameters",
    ),
    "LBFGS without a closure": (lambda: optim.LBFGS([TENSOR]).step(), TypeError, "expected a closure"),
    "an option of a group": (
        lambda: optim.SGD([{"params": [TENSOR], "lr": -1.0}]), ValueError, r"lr >= 0, got -1\.0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "told"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused(make, error, told):
    with pytest.raises(error, match=told):
        make()


def test_a_group_that_was_refused_is_not_added():
    sgd = optim.SGD([TENSOR])
    with pytest.raises(ValueError, match="lr >= 0"):
        sgd.add_param_group({"params": [pg.ones(1, requires_grad=True)], "lr": -1.0})
    assert len(sgd.param_groups) == 1


# ----- state -----


def stepped(name):
    kind, options = UPDATES[name]
    model, x, y = model_and_data()
    optimizer = kind(trained(kind, model), **options)
    train(model, optimizer, x, y, 2)
    return optimizer


def spoil_shape(state):
    state["state"][3]["exp_avg"] = np.zeros((1, 1))


def spoil_groups(state):
    state["param_groups"][0]["params"].pop()


def spoil_options(state):
    state["param_groups"][0]["lr"] = -1.0


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_shape, r"exp_avg of parameter 3 has shape \(1, 1\), expected \(1,\)"),
        (spoil_groups, r"groups of \[4\] parameters, got \[3\]"),
        (spoil_options, r"lr >= 0, got -1\.0"),
    ],
)
def test_a_wrong_state_is_refused_whole(spoil, told):
    optimizer, other = stepped("AdamW"), stepped("AdamW with amsgrad")
    before = copy.deepcopy(optimizer.state_dict())
    state = other.state_dict()
    spoil(state)
    with pytest.raises(ValueError, match=told):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    assert [bits(v.numpy() for v in each.values()) for each in after["state"].values()] == [
        bits(v.numpy() for v in each.values()) for each in before["state"].values()
    ]


def test_loading_replaces_all_state_and_options_also_by_none():
    optimizer = stepped("AdamW")
    fresh = optim.AdamW([pg.zeros(*p.shape, requires_grad=True) for p in optimizer.param_groups[0]["params"]], lr=0.5)
    optimizer.load_state_dict(fresh.state_dict())
    assert optimizer.state_dict()["state"] == {}
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_repr_tells_the_options():
    assert repr(stepped("SGD")).startswith("SGD({'lr': 0.001, 'momentum': 0")
    assert "array" not in repr(stepped("AdamW"))
