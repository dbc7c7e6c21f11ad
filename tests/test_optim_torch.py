"""The optimizers against torch's: the same gradients in, the same parameters, state and options out."""

import inspect

import numpy as np
import pytest
import torch

import pargrad as pg

STEPS = 50
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
MATRICES = [(3, 4), (5, 2), (4, 4), (1, 6)]  # what Muon takes
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
MUON = 2e-2  # torch computes its directions in bfloat16
STEPLESS = ("SGD", "Muon")  # torch's count no steps
NUMBERS = ("mu_product", "eta", "mu")  # which torch keeps in float32 beside any parameter
torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long

# Options of each optimizer, as both libraries take them.
OPTIONS = {
    "SGD": [
        {},
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.3},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.4},
        {"lr": 0.1, "momentum": 0.8, "nesterov": True},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        {"lr": 0.01, "momentum": 0.5, "dampening": 0.2, "weight_decay": 0.1, "maximize": True},
        {"lr": 0.0, "momentum": 0.9},
    ],
    "AdamW": [
        {},
        {"lr": 0.1},
        {"lr": 0.03, "betas": (0.5, 0.9)},
        {"lr": 0.03, "betas": (0.0, 0.0)},  # torch's m keeps more digits than ours below beta1 = 0.5: float64 alone
        {"lr": 0.03, "eps": 0.1},
        {"lr": 0.03, "eps": 1e-6, "weight_decay": 0.0},
        {"lr": 0.03, "weight_decay": 0.5},
        {"lr": 0.03, "amsgrad": True},
        {"lr": 0.03, "maximize": True},
        {"lr": 0.03, "amsgrad": True, "maximize": True, "betas": (0.8, 0.99), "weight_decay": 0.2, "eps": 1e-3},
    ],
    "Adam": [
        {},
        {"lr": 0.03, "weight_decay": 0.1},
        {"lr": 0.03, "betas": (0.5, 0.9), "amsgrad": True, "maximize": True, "weight_decay": 0.1, "eps": 1e-3},
        {"lr": 0.03, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "NAdam": [
        {},
        {"lr": 0.03, "weight_decay": 0.1},
        {"lr": 0.03, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        {"lr": 0.01, "betas": (0.5, 0.9), "momentum_decay": 0.1, "eps": 1e-3},
    ],
    "RAdam": [
        {},
        {"lr": 0.03, "weight_decay": 0.1},
        {"lr": 0.03, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
    ],
    "Adamax": [{}, {"lr": 0.03, "weight_decay": 0.1}, {"maximize": True, "betas": (0.5, 0.9), "eps": 1e-3}],
    "Adagrad": [
        {},
        {"lr": 0.1, "weight_decay": 0.1, "lr_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "maximize": True, "eps": 1e-3},
    ],
    "Adadelta": [{}, {"lr": 10.0, "weight_decay": 0.1, "rho": 0.5}, {"maximize": True, "eps": 1e-3}],
    "RMSprop": [
        {},
        {"lr": 0.03, "weight_decay": 0.1, "alpha": 0.5},
        {"centered": True, "eps": 1e-3},
        {"momentum": 0.9, "maximize": True},
        {"momentum": 0.5, "centered": True, "eps": 0.1, "weight_decay": 0.1},
    ],
    "Rprop": [{}, {"lr": 0.1, "etas": (0.3, 1.5)}, {"step_sizes": (0.01, 0.1), "maximize": True}],
    "ASGD": [
        {},
        {"lr": 0.1, "weight_decay": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 5},
        {"t0": 0, "maximize": True},
    ],
    "Adafactor": [
        {},
        {"lr": 0.1, "weight_decay": 0.1, "beta2_decay": -0.5},
        {"eps": (1e-3, 0.1), "d": 2.0, "maximize": True},
    ],
    "Muon": [
        {},
        {"lr": 0.01, "nesterov": False, "momentum": 0.5, "adjust_lr_fn": "match_rms_adamw", "weight_decay": 0.5},
        {"lr": 0.1, "ns_steps": 2, "ns_coefficients": (2.0, -1.5, 0.5), "eps": 1e-3, "adjust_lr_fn": "original"},
    ],
}
CASES = [
    (name, options, dtype)
    for name, rows in OPTIONS.items()
    for options in rows
    for dtype in TOLERANCE
    if not (dtype == "float32" and options.get("betas") == (0.0, 0.0))
]


def shapes_of(name):
    return MATRICES if name == "Muon" else SHAPES


def optimizer(library, name, options, dtype, groups=None):
    """Fresh parameters and one library's optimizer over them; groups: options of each quarter of them, or None."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in shapes_of(name)]
    params = [library.tensor(array, requires_grad=True) for array in arrays]
    given = params if groups is None else [{"params": [p], **group} for p, group in zip(params, groups)]
    return params, getattr(library.optim, name)(given, **options)


def gradients(name, dtype, steps=STEPS, seed=1):
    """The gradients of every step: their sizes vary, so that the largest second moment is not always the latest."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        size = 10.0 ** rng.uniform(-3, 1) if step % 10 else 0.0
        yield [np.asarray(rng.normal(size=shape) * size).astype(dtype) for shape in shapes_of(name)]


def take_step(params, optimizer, arrays):
    library = torch if isinstance(params[0], torch.Tensor) else pg
    for p, array in zip(params, arrays):
        p.grad = None if array is None else library.tensor(array)
    optimizer.step()


def assert_close(mine, reference, what, scale=0.0, tolerance=None):
    """A tensor of pargrad's is torch's, to the digits that the dtype has of its largest element, or of `scale`."""
    mine, reference = mine.detach().numpy(), reference.detach().numpy()
    assert (mine.dtype, mine.shape) == (reference.dtype, reference.shape), what
    error, scale = np.abs(mine - reference).max(), max(scale, np.abs(reference).max())
    assert error <= (tolerance or TOLERANCE[reference.dtype.name]) * scale, f"{what}: off by {error / scale:.2g}"


def assert_same_run(ours, theirs):
    """Parameters and state of (params, optimizer) of both libraries agree."""
    tolerance = MUON if isinstance(theirs[1], torch.optim.Muon) else None
    for i, (mine, reference) in enumerate(zip(ours[0], theirs[0], strict=True)):
        # From 1 it came, and may end near 0.
        assert_close(mine, reference, f"parameter {i}", scale=1.0, tolerance=tolerance)
        held, expected = ours[1].state.get(mine, {}), theirs[1].state.get(reference, {})
        if expected.get("step") == 0:  # Adagrad of torch has state before it has been stepped
            expected = {}
        assert set(expected) - {"step"} == set(held) - {"step"}
        assert "step" not in expected or held["step"] == expected["step"]
        for name in set(expected) - {"step"}:
            if np.abs(expected[name].numpy()).max() > 1e-30:
                reference = expected[name].to(torch.float64) if name in NUMBERS else expected[name]
                value = held[name].astype(np.float64) if name in NUMBERS else held[name]
                # A mean of many gradients may end near 0, with none of its seven digits right.
                scale = 0.1 if value.dtype == np.float32 else 0.0
                assert_close(pg.tensor(value), reference, f"{name} of parameter {i}", scale)


def test_the_checker_sees_a_difference():
    def run(library, lr, steps=3, momentum=0.9):
        params, sgd = optimizer(library, "SGD", {"lr": lr, "momentum": momentum}, "float64")
        for arrays in gradients("SGD", "float64", steps):
            take_step(params, sgd, arrays)
        return params, sgd

    assert_same_run(run(pg, 0.1), run(torch, 0.1))
    for other in [run(torch, 0.1 + 1e-10), run(torch, 0.1, 2), run(torch, 0.1, momentum=0.0)]:
        with pytest.raises(AssertionError):
            assert_same_run(run(pg, 0.1), other)
    stateless = run(pg, 0.1)
    stateless[1].state.clear()
    with pytest.raises(AssertionError):
        assert_same_run(stateless, run(torch, 0.1))


@pytest.mark.parametrize(("name", "options", "dtype"), CASES, ids=str)
def test_fifty_steps(name, options, dtype):
    ours, theirs = optimizer(pg, name, options, dtype), optimizer(torch, name, options, dtype)
    for arrays in gradients(name, dtype):
        take_step(*ours, arrays)
        take_step(*theirs, arrays)
    assert_same_run(ours, theirs)


GROUPS = {
    "SGD": [{"lr": 0.5}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.2}, {"maximize": True}],
    "AdamW": [
        {"lr": 0.5},
        {"betas": (0.3, 0.7), "eps": 1e-2},
        {"weight_decay": 0.0, "amsgrad": True},
        {"maximize": True},
    ],
    "Adam": [{"lr": 0.5}, {"betas": (0.3, 0.7)}, {"weight_decay": 0.1, "amsgrad": True}, {"maximize": True}],
    "NAdam": [{"lr": 0.5}, {"betas": (0.3, 0.7)}, {"momentum_decay": 0.1}, {"maximize": True}],
    "RAdam": [{"lr": 0.5}, {"betas": (0.3, 0.7)}, {"decoupled_weight_decay": True}, {"weight_decay": 0.1}],
    "Adamax": [{"lr": 0.5}, {"betas": (0.3, 0.7)}, {"eps": 1e-2}, {"weight_decay": 0.1}],
    "Adagrad": [{"lr": 0.5}, {"lr_decay": 0.1}, {"eps": 1e-2}, {"weight_decay": 0.1}],
    "Adadelta": [{"lr": 0.5}, {"rho": 0.5}, {"eps": 1e-2}, {"weight_decay": 0.1}],
    "RMSprop": [{"alpha": 0.5}, {"momentum": 0.5}, {"centered": True, "eps": 0.1}, {"weight_decay": 0.1}],
    "Rprop": [{"lr": 0.5}, {"etas": (0.1, 2.0)}, {"step_sizes": (1e-3, 1.0)}, {"maximize": True}],
    "ASGD": [{"lr": 0.5}, {"lambd": 0.1}, {"alpha": 0.5, "t0": 3}, {"weight_decay": 0.1}],
    "Adafactor": [{"lr": 0.5}, {"beta2_decay": -0.5}, {"d": 2.0, "eps": (1e-2, 1e-2)}, {"weight_decay": 0.1}],
    "Muon": [{"momentum": 0.5}, {"nesterov": False}, {"ns_steps": 3}, {"adjust_lr_fn": "match_rms_adamw"}],
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", GROUPS)
def test_groups_have_options_of_their_own_which_may_change(name, dtype):
    runs = [optimizer(library, name, {"lr": 0.02}, dtype, GROUPS[name]) for library in (pg, torch)]
    for step, arrays in enumerate(gradients(name, dtype)):
        for params, each in runs:
            for group in each.param_groups:
                group["lr"] *= 0.5 if step == 25 else 1.0
            take_step(params, each, arrays)
    assert_same_run(*runs)
    theirs = runs[1][1].param_groups
    for mine, reference in zip(runs[0][1].param_groups, theirs, strict=True):
        shared = set(mine) & set(reference) - {"params"}
        assert {k: mine[k] for k in shared} == {k: reference[k] for k in shared}
        assert len(shared) == len(mine) - 1


@pytest.mark.parametrize("name", OPTIONS)
def test_no_gradient_leaves_a_parameter_alone_and_a_zero_gradient_decays_it(name):
    options = OPTIONS[name][-1] | ({} if name == "Rprop" else {"weight_decay": 0.1})
    runs = [optimizer(library, name, options | {"lr": 0.1}, "float64") for library in (pg, torch)]
    for step, arrays in enumerate(gradients(name, "float64", 12)):
        arrays[0] = None
        arrays[1] = np.zeros_like(arrays[1])
        arrays[2] = None if step % 3 else arrays[2]  # now and then
        for run in runs:
            take_step(*run, arrays)
    assert_same_run(*runs)
    params, ours = runs[0]
    untouched, before = params[0], optimizer(pg, name, options, "float64")[0]
    assert untouched.tolist() == before[0].tolist()
    assert untouched not in ours.state
    if name in ("SGD", "AdamW"):
        assert (np.abs(params[1].detach().numpy()) < np.abs(before[1].detach().numpy())).all()
    assert ours.state[params[2]]["step"] == 4


@pytest.mark.parametrize("taken", [0, 1, 7])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"momentum": 0.9, "lr": 0.1, "dampening": 0.3}),
        ("SGD", {"lr": 0.1}),
        ("AdamW", {"lr": 0.03}),
        ("AdamW", {"lr": 0.03, "amsgrad": True}),
        *[(name, rows[-1]) for name, rows in OPTIONS.items() if name not in ("SGD", "AdamW")],
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["from torch", "to torch"])
def test_a_run_goes_on_in_the_other_library(name, options, taken, way):
    if (name, taken, way) == ("Adagrad", 0, "to torch"):
        return  # its state is there before the first step in torch, and after it here
    libraries = (torch, pg) if way == "from torch" else (pg, torch)
    all_gradients = list(gradients(name, "float64", 14))
    before, after, unbroken = (
        optimizer(libraries[0], name, options, "float64"),
        optimizer(libraries[1], name, {**options, "lr": 77.0}, "float64"),
        optimizer(torch, name, options, "float64"),
    )
    for arrays in all_gradients[:taken]:
        take_step(*before, arrays)
    state = before[1].state_dict()
    if libraries[1] is torch:  # torch takes tensors of its own
        state["state"] = {
            i: {k: torch.tensor(v.numpy()) for k, v in each.items() if k != "step" or name not in STEPLESS}
            for i, each in state["state"].items()
        }
    after[1].load_state_dict(state)
    for old, new in zip(before[0], after[0]):
        new.data = libraries[1].tensor(old.detach().numpy())
    for arrays in all_gradients[taken:]:
        take_step(*after, arrays)
    for arrays in all_gradients:
        take_step(*unbroken, arrays)
    if libraries[1] is pg:
        assert_same_run(after, unbroken)
    else:
        for mine, reference in zip(after[0], unbroken[0], strict=True):
            # torch loads what it keeps in float32 in the parameter's dtype, and goes on in that.
            tolerance = {"Muon": MUON, "NAdam": 1e-9, "ASGD": 1e-9}.get(name)
            assert_close(mine, reference, "parameter", scale=1.0, tolerance=tolerance)


@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_dict_is_shaped_as_torchs(name, taken):
    options = {"SGD": {"momentum": 0.9}, "AdamW": {"amsgrad": True}}.get(name, OPTIONS[name][-1])
    states = []
    for library in (pg, torch):
        params, each = optimizer(library, name, options, "float32", GROUPS[name])
        for arrays in gradients(name, "float32", taken):
            take_step(params, each, arrays)
        states.append(each.state_dict())
    ours, theirs = states
    assert list(ours) == list(theirs)
    assert [group["params"] for group in ours["param_groups"]] == [group["params"] for group in theirs["param_groups"]]
    if (name, taken) == ("Adagrad", 0):
        theirs["state"] = {}
    assert list(ours["state"]) == list(theirs["state"])
    for mine, reference in zip(ours["state"].values(), theirs["state"].values(), strict=True):
        shapes = {k: tuple(v.shape) for k, v in mine.items() if k != "step" or name not in STEPLESS}
        assert shapes == {k: tuple(v.shape) for k, v in reference.items() if v is not None}
    defaults = set(theirs["param_groups"][0]) - set(ours["param_groups"][0])
    assert defaults <= {"foreach", "capturable", "differentiable", "fused"}


@pytest.mark.parametrize("name", [*OPTIONS, "LBFGS"])
def test_the_arguments_are_torchs(name):
    def arguments(library):
        signature = inspect.signature(getattr(library.optim, name).__init__)
        return [(p.name, p.kind, p.default) for p in list(signature.parameters.values())[1:]]

    assert arguments(pg) == arguments(torch)


def test_every_optimizer_is_compared():
    assert {*OPTIONS, "LBFGS"} == set(pg.optim.OPTIMIZERS)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("Muon", "Adafactor")])
def test_complex_parameters_are_two_real_ones(name):
    runs = []
    for library in (pg, torch):
        rng = np.random.default_rng(0)
        params = [library.tensor(rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3)), requires_grad=True)]
        runs.append((params, getattr(library.optim, name)(params, **OPTIONS[name][-1])))
    rng = np.random.default_rng(1)
    for _ in range(5):
        arrays = [rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))]
        for run in runs:
            take_step(*run, arrays)
    np.testing.assert_allclose(runs[0][0][0].detach().numpy(), runs[1][0][0].detach().numpy(), rtol=1e-12)
    for key, expected in runs[1][1].state[runs[1][0][0]].items():
        if key != "step" and expected is not None:
            held = runs[0][1].state[runs[0][0][0]][key]
            np.testing.assert_allclose(held, expected.numpy(), rtol=1e-6 if key in NUMBERS else 1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 6), (6, 1)])
@pytest.mark.parametrize("options", OPTIONS["Muon"], ids=str)
def test_muon_is_its_formula(shape, options):
    """The polynomial of a matrix is that of its singular values."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    p = pg.tensor(start.copy(), requires_grad=True)
    muon = pg.optim.Muon([p], **options)
    o, expected, m = muon.defaults, start.copy(), np.zeros(shape)
    for _ in range(20):
        g = rng.normal(size=shape)
        take_step([p], muon, [g])
        m = o["momentum"] * m + (1 - o["momentum"]) * g
        direction = (1 - o["momentum"]) * g + o["momentum"] * m if o["nesterov"] else m
        left, s, right = np.linalg.svd(direction, full_matrices=False)
        s = s / max(np.linalg.norm(s), o["eps"])
        for _ in range(o["ns_steps"]):
            s = np.polyval([o["ns_coefficients"][2], 0, o["ns_coefficients"][1], 0, o["ns_coefficients"][0], 0], s)
        rows, columns = shape
        scale = 0.2 * max(shape) ** 0.5 if o["adjust_lr_fn"] == "match_rms_adamw" else max(1, rows / columns) ** 0.5
        expected = expected * (1 - o["lr"] * o["weight_decay"]) - o["lr"] * scale * (left * s) @ right
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


# ----- LBFGS -----


def rosenbrock(library, x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def ravine(library, x):
    """Far from quadratic, so that line searches bracket and zoom."""
    return (library.log(1 + (x - 3) ** 2) + 0.1 * library.sin(5 * x)).sum() + (x[0] * x[1]).abs()


def minimized(library, function, options, steps=3, start=None, again=None):
    """What LBFGS makes of it: the losses of all evaluations and the end; again: a state_dict that it goes on from."""
    x = library.tensor(np.array([-1.5, 2.0, 0.7, -0.3]) if start is None else start, requires_grad=True)
    unused = library.tensor(np.ones(2), requires_grad=True)
    lbfgs, losses = library.optim.LBFGS([x, unused], **options), []
    if again is not None:
        lbfgs.load_state_dict(again)

    def closure():
        lbfgs.zero_grad()
        loss = function(library, x)
        loss.backward()
        losses.append(loss.item())
        return loss

    first = [lbfgs.step(closure).item() for _ in range(steps)]
    return first, losses, x.detach().numpy(), lbfgs


@pytest.mark.parametrize("function", [rosenbrock, ravine], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-3},
        {"lr": 1e-3, "max_iter": 7, "history_size": 3},
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "lr": 0.3, "max_iter": 50, "history_size": 2},
        {"line_search_fn": "strong_wolfe", "lr": 20.0, "max_eval": 9},
        {"line_search_fn": "strong_wolfe", "tolerance_grad": 1.0},
        {"line_search_fn": "strong_wolfe", "tolerance_change": 1e-2},
    ],
    ids=str,
)
def test_lbfgs(function, options):
    ours, theirs = minimized(pg, function, options), minimized(torch, function, options)
    # What is computed from losses that are nearly alike is known to half of their digits.
    for mine, reference, tolerance in zip(ours[:3], theirs[:3], (1e-9, 1e-9, 1e-7)):
        assert len(mine) == len(reference)
        np.testing.assert_allclose(mine, reference, rtol=tolerance, atol=tolerance)
    states = [run[3].state_dict()["state"][0] for run in (ours, theirs)]
    assert [states[0][key] for key in ("func_evals", "n_iter")] == [states[1][key] for key in ("func_evals", "n_iter")]
    assert len(states[0]["old_dirs"]) == len(states[1]["old_dirs"])


@pytest.mark.parametrize("way", ["from torch", "from pargrad"])
def test_lbfgs_goes_on_from_a_state(way):
    options = {"line_search_fn": "strong_wolfe", "max_iter": 4}
    unbroken = minimized(torch, rosenbrock, options, steps=6)
    _, before, middle, lbfgs = minimized(torch if way == "from torch" else pg, rosenbrock, options)
    _, after, end, _ = minimized(pg, rosenbrock, options, start=middle.copy(), again=lbfgs.state_dict())
    np.testing.assert_allclose(before + after, unbroken[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(end, unbroken[2], rtol=1e-9)
