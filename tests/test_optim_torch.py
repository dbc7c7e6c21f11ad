"""The optimizers against torch's: the same gradients in, the same parameters, state and options out."""

import numpy as np
import pytest
import torch

import pargrad as pg

STEPS = 100
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
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
}
CASES = [
    (name, options, dtype)
    for name, rows in OPTIONS.items()
    for options in rows
    for dtype in TOLERANCE
    if not (dtype == "float32" and options.get("betas") == (0.0, 0.0))
]


def optimizer(library, name, options, dtype, groups=None):
    """Fresh parameters and one library's optimizer over them; groups: options of each quarter of SHAPES, or None."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in SHAPES]
    params = [library.tensor(array, requires_grad=True) for array in arrays]
    given = params if groups is None else [{"params": [p], **group} for p, group in zip(params, groups)]
    return params, getattr(library.optim, name)(given, **options)


def gradients(dtype, steps=STEPS, seed=1):
    """The gradients of every step: their sizes vary, so that the largest second moment is not always the latest."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        size = 10.0 ** rng.uniform(-3, 1) if step % 10 else 0.0
        yield [np.asarray(rng.normal(size=shape) * size).astype(dtype) for shape in SHAPES]


def take_step(params, optimizer, arrays):
    library = torch if isinstance(params[0], torch.Tensor) else pg
    for p, array in zip(params, arrays):
        p.grad = None if array is None else library.tensor(array)
    optimizer.step()


def assert_close(mine, reference, what, scale=0.0):
    """A tensor of pargrad's is torch's, to the digits that the dtype has of its largest element, or of `scale`."""
    mine, reference = mine.detach().numpy(), reference.detach().numpy()
    assert (mine.dtype, mine.shape) == (reference.dtype, reference.shape), what
    error, scale = np.abs(mine - reference).max(), max(scale, np.abs(reference).max())
    assert error <= TOLERANCE[reference.dtype.name] * scale, f"{what}: off by {error / scale:.2g}"


def assert_same_run(ours, theirs):
    """Parameters and state of (params, optimizer) of both libraries agree."""
    for i, (mine, reference) in enumerate(zip(ours[0], theirs[0], strict=True)):
        assert_close(mine, reference, f"parameter {i}", scale=1.0)  # from there it came: it may end near 0
        held, expected = ours[1].state.get(mine, {}), theirs[1].state.get(reference, {})
        assert set(expected) - {"step"} == set(held) - {"step"}
        assert "step" not in expected or held["step"] == expected["step"]
        for name in set(expected) - {"step"}:
            if np.abs(expected[name].numpy()).max() > 1e-30:
                assert_close(pg.tensor(held[name]), expected[name], f"{name} of parameter {i}")


def test_the_checker_sees_a_difference():
    def run(library, lr, steps=3, momentum=0.9):
        params, sgd = optimizer(library, "SGD", {"lr": lr, "momentum": momentum}, "float64")
        for arrays in gradients("float64", steps):
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
def test_a_hundred_steps(name, options, dtype):
    ours, theirs = optimizer(pg, name, options, dtype), optimizer(torch, name, options, dtype)
    for arrays in gradients(dtype):
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
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", GROUPS)
def test_groups_have_options_of_their_own_which_may_change(name, dtype):
    runs = [optimizer(library, name, {"lr": 0.02}, dtype, GROUPS[name]) for library in (pg, torch)]
    for step, arrays in enumerate(gradients(dtype)):
        for params, each in runs:
            for group in each.param_groups:
                group["lr"] *= 0.5 if step == 50 else 1.0
            take_step(params, each, arrays)
    assert_same_run(*runs)
    theirs = runs[1][1].param_groups
    for mine, reference in zip(runs[0][1].param_groups, theirs, strict=True):
        shared = set(mine) & set(reference) - {"params"}
        assert {k: mine[k] for k in shared} == {k: reference[k] for k in shared}
        assert len(shared) == len(mine) - 1


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9, "weight_decay": 0.1}), ("AdamW", {})], ids=str)
def test_no_gradient_leaves_a_parameter_alone_and_a_zero_gradient_decays_it(name, options):
    runs = [optimizer(library, name, options | {"lr": 0.1}, "float64") for library in (pg, torch)]
    for step, arrays in enumerate(gradients("float64", 12)):
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
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["from torch", "to torch"])
def test_a_run_goes_on_in_the_other_library(name, options, taken, way):
    libraries = (torch, pg) if way == "from torch" else (pg, torch)
    all_gradients = list(gradients("float64", 14))
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
            i: {k: torch.tensor(v.numpy()) for k, v in each.items() if name != "SGD" or k != "step"}
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
            assert_close(mine, reference, "parameter", scale=1.0)


@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_dict_is_shaped_as_torchs(name, taken):
    options = {"SGD": {"momentum": 0.9}, "AdamW": {"amsgrad": True}}[name]
    states = []
    for library in (pg, torch):
        params, each = optimizer(library, name, options, "float32", GROUPS[name])
        for arrays in gradients("float32", taken):
            take_step(params, each, arrays)
        states.append(each.state_dict())
    ours, theirs = states
    assert list(ours) == list(theirs)
    assert [group["params"] for group in ours["param_groups"]] == [group["params"] for group in theirs["param_groups"]]
    assert list(ours["state"]) == list(theirs["state"])
    for mine, reference in zip(ours["state"].values(), theirs["state"].values(), strict=True):
        shapes = {k: tuple(v.shape) for k, v in mine.items() if name != "SGD" or k != "step"}
        assert shapes == {k: tuple(v.shape) for k, v in reference.items() if v is not None}
    defaults = set(theirs["param_groups"][0]) - set(ours["param_groups"][0])
    assert defaults <= {"foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
