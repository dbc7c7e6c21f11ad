"""What scripts written for torch do besides computing: lazy layers, old constructors, shapes in place, amp."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.utils.parametrizations
import torch.nn.utils.parametrize
from ray import cloudpickle

import pargrad as pg
from pargrad import nn, optim
from pargrad.data import as_data
from pargrad.nn import functional as F
from pargrad.parallel import Trainer, payload
from pargrad.parallel.payload import SharedData, make_recipe, mark_of

# name, arguments, shape of the input
LAZY = [
    ("LazyLinear", (3,), (2, 5)),
    ("LazyLinear", (3, False), (2, 4, 5)),
    ("LazyConv1d", (4, 3), (2, 3, 8)),
    ("LazyConv2d", (4, 3, 2, 1, 1, 1), (2, 3, 8, 8)),
    ("LazyConv2d", (4, 3, 1, 0, 1, 2), (4, 8, 8)),
    ("LazyConv3d", (4, 3), (2, 3, 5, 5, 5)),
    ("LazyConvTranspose1d", (4, 3), (2, 3, 8)),
    ("LazyConvTranspose2d", (4, 3, 2, 1, 1, 2), (2, 4, 8, 8)),
    ("LazyConvTranspose3d", (2, 2), (2, 3, 4, 4, 4)),
    ("LazyBatchNorm1d", (), (4, 3)),
    ("LazyBatchNorm2d", (), (4, 3, 5, 5)),
    ("LazyBatchNorm3d", (1e-3, 0.2), (4, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), (4, 3, 5)),
    ("LazyInstanceNorm2d", (), (4, 3, 5, 5)),
    ("LazyInstanceNorm3d", (), (4, 3, 2, 2, 2)),
]


def settled(library, name, arguments, shape):
    """A lazy layer through its life: its text, made before the optimizer's parameters have shapes, and one step."""
    library.manual_seed(0)
    layer = getattr(library.nn, name)(*arguments)
    before = repr(layer)
    optimizer = library.optim.SGD(layer.parameters(), lr=0.1)
    out = layer(library.rand(*shape))
    (out**2).mean().backward()
    optimizer.step()
    words = before, repr(layer), type(layer).__name__, list(layer.state_dict())
    return words, [out.detach().numpy(), *(x.detach().numpy() for x in layer.state_dict().values())], layer


@pytest.mark.parametrize(("name", "arguments", "shape"), LAZY)
def test_lazy_layers_become_torchs(name, arguments, shape):
    (words, arrays, layer), (their_words, expected, _) = (settled(x, name, arguments, shape) for x in (pg, torch))
    assert words == their_words
    for mine, theirs in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    loaded = copy.deepcopy(pickle.loads(pickle.dumps(getattr(nn, name)(*arguments)))).double()
    assert loaded.load_state_dict(layer.state_dict()) == ([], [])
    x = pg.rand(*shape, dtype=pg.float64)
    layer.eval(), loaded.eval()
    np.testing.assert_allclose(loaded(x).detach().numpy(), layer.double()(x).detach().numpy(), rtol=1e-12)
    assert type(loaded) is type(layer) and "Lazy" not in repr(loaded)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda layer: layer.weight.shape,
        lambda layer: layer.weight + 1,
        lambda layer: layer.weight.numel(),
        lambda layer: nn.init.zeros_(layer.weight),
        lambda layer: nn.Linear(2, 3).load_state_dict(layer.state_dict()),
    ],
)
def test_what_has_no_shape_says_so(wrong):
    with pytest.raises(RuntimeError, match="call the model on one batch first"):
        wrong(nn.LazyLinear(3))


def test_a_trainer_wants_shapes_first():
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        ValueError, match=r"0.weight, 0.bias, 1.weight, 1.bias have no shape yet: call the model on one"
    ):
        Trainer(model, F.cross_entropy, optimizer, batch_size=4, num_workers=0)
    model(pg.ones(4, 2))
    with Trainer(model, F.cross_entropy, optimizer, batch_size=16, num_workers=0, progress="off") as trainer:
        trainer.fit((np.random.default_rng(0).random((32, 2), np.float32), np.arange(32) % 3), epochs=1)


@pytest.mark.parametrize("size", [4, 5])
def test_normalization_across_maps_is_torchs(size):
    x = np.random.default_rng(0).normal(size=(2, 6, 3, 3))
    mine, theirs = (library.nn.CrossMapLRN2d(size, alpha=0.5) for library in (pg, torch))
    assert repr(mine) == repr(theirs)
    got, reach = mine(pg.tensor(x)).numpy(), (size - 1) // 2
    # Behind these torch's sums keep channel 0.
    np.testing.assert_allclose(got[:, : reach + 1], theirs(torch.tensor(x)).numpy()[:, : reach + 1], rtol=1e-12)
    sums = [np.square(x[:, max(0, c - reach) : c + reach + 1]).sum(1) for c in range(6)]
    np.testing.assert_allclose(got, x * (1 + 0.5 / size * np.stack(sums, 1)) ** -0.75, rtol=1e-12)


# ----- tensors -----


@pytest.mark.parametrize("given", [(2, 3), (5,), (), ([1, 2],), ([[1.5, 2]],), (2, 3, 1, 0), (1, 1, 1, 1, 1, 2)])
def test_old_constructors_are_torchs(given):
    mine, theirs = pg.Tensor(*given), torch.Tensor(*given)
    assert mine.shape == tuple(theirs.shape) and mine.dtype == np.float32
    if given and isinstance(given[0], list):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


IN_PLACE = {
    "squeeze_": lambda x: x.reshape(1, 2, 3).squeeze_(0),
    "unsqueeze_": lambda x: x.unsqueeze_(1),
    "transpose_": lambda x: x.transpose_(0, 1),
    "t_": lambda x: x.t_(),
    "swapaxes_": lambda x: x.swapaxes_(0, 1),
    "fill_diagonal_": lambda x: x.fill_diagonal_(7.0),
    "fill_diagonal_ again below": lambda x: x.reshape(6, 1).expand(6, 2).clone().fill_diagonal_(7.0, wrap=True),
    "a view of what it was": lambda x: (x[0], x.t_())[0].mul_(5),
    "in place after it": lambda x: x.t_().mul_(x.detach().clone()),
    "twice": lambda x: x.unsqueeze_(0).transpose_(1, 2),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_shapes_in_place_are_torchs(name):
    results = []
    for library in (pg, torch):
        leaf = library.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
        x = leaf * 2
        out = IN_PLACE[name](x)
        ((out * out).sum() + x.sum()).backward()
        results.append([out.detach().numpy(), x.detach().numpy(), leaf.grad.numpy()])
    for mine, theirs in zip(*results):
        np.testing.assert_array_equal(mine, theirs)


def test_a_leaf_keeps_its_shape_inside_the_graph():
    parameter = nn.Parameter(pg.ones(1, 3))
    with pytest.raises(RuntimeError, match=r"squeeze_ of a leaf that requires grad.*no_grad"):
        parameter.squeeze_(0)
    with pg.no_grad():
        parameter.squeeze_(0)
    (parameter * 2).sum().backward()
    assert parameter.shape == parameter.grad.shape == (3,)


@pytest.mark.parametrize(
    "options",
    [{"precision": 2}, {"sci_mode": False}, {"sci_mode": True}, {"profile": "short"}, {"linewidth": 40},
     {"threshold": 5, "edgeitems": 1}, {"profile": "full"}],
)  # fmt: skip
def test_print_options_are_torchs(options):
    values = [1.0, 1e-6], [1.234567, 2.0], list(range(20)), [[0.1234567] * 30], [[0.5] * 40] * 30
    try:
        pg.set_printoptions(**options)
        torch.set_printoptions(**options)
        for value in values:
            assert repr(pg.tensor(value)) == repr(torch.tensor(value))
    finally:
        pg.set_printoptions(profile="default")
        torch.set_printoptions(profile="default")


def test_dtypes_are_asked_as_in_torch():
    names = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"]
    for first in names:
        for second in names:
            mine, theirs = (
                (library.promote_types(getattr(library, first), getattr(library, second)),
                 library.can_cast(getattr(library, first), getattr(library, second)))
                for library in (pg, torch)
            )  # fmt: skip
            assert (str(mine[0]), mine[1]) == (str(theirs[0]).removeprefix("torch."), theirs[1])
    assert pg.result_type(pg.ones(1), 1) == pg.float32 and pg.result_type(pg.ones(1, dtype=pg.int64), 1.5) == pg.float32
    assert isinstance(pg.float32, pg.dtype) and isinstance(pg.ones(2).shape, pg.Size) and pg.Size([2, 3]).numel() == 6
    for wrong in (lambda: pg.zeros(2, dtype=pg.bfloat16), lambda: pg.ones(2).bfloat16()):
        with pytest.raises(TypeError, match="numpy has no bfloat16: write float32"):
            wrong()


# ----- gradients -----


FUNCTIONS = {
    "jacobian": lambda x, y: (x.exp() * y.sum(), (x * y).sin()),
    "hessian": lambda x, y: (x**3 * y**2).sum(),
    "vjp": lambda x, y: (x.exp() * y.sum(), (x * y).sin()),
    "jvp": lambda x, y: (x.exp() * y.sum(), (x * y).sin()),
    "hvp": lambda x, y: (x**3 * y**2).sum(),
    "vhp": lambda x, y: (x**3 * y**2).sum(),
}


def leaves(values):
    return [leaf for value in values for leaf in leaves(value)] if isinstance(values, tuple) else [values]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("create_graph", [False, True])
def test_higher_functions_are_torchs(name, create_graph):
    results = []
    for library in (pg, torch):
        inputs = tuple(library.tensor(v, dtype=library.float64, requires_grad=True) for v in ([0.3, 0.7], [1.1, -0.4]))
        v = () if name in ("jacobian", "hessian") else (tuple(x.detach() for x in inputs),)
        found = leaves(
            getattr(library.autograd.functional, name)(FUNCTIONS[name], inputs, *v, create_graph=create_graph)
        )
        assert all(x.requires_grad == create_graph for x in found)
        if create_graph:
            sum((x * x).sum() for x in found).backward()
        results.append([*(x.detach().numpy() for x in found), *(x.grad.numpy() for x in inputs if create_graph)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_higher_functions_refuse():
    x = pg.ones(2)
    functional = pg.autograd.functional
    with pytest.raises(RuntimeError, match=r"expected a function that gives one number, got shape \(2,\)"):
        functional.hessian(lambda x: x, x)
    with pytest.raises(RuntimeError, match=r"expected v of shape \(2,\), got shape \(3,\)"):
        functional.vjp(lambda x: x, x, pg.ones(3))
    with pytest.raises(RuntimeError, match="does not depend on the inputs, which strict=True refuses"):
        functional.jacobian(lambda x: pg.ones(2), x, strict=True)
    with pytest.raises(TypeError, match="a tuple of tensors, got int"):
        functional.jacobian(lambda x: 3, x)


def test_an_ensemble_is_torchs():
    results = []
    for library in (pg, torch):
        library.manual_seed(0)
        models = [library.nn.BatchNorm1d(2).eval() for _ in range(3)]
        for model in models:
            library.nn.init.normal_(model.weight)
        parameters, buffers = library.func.stack_module_state(models)
        assert all(x.is_leaf and x.requires_grad for x in parameters.values())

        def run(p, b, x, model=models[0], library=library):
            return library.func.functional_call(model, (p, b), (x,))

        out = library.func.vmap(run, in_dims=(0, 0, None))(parameters, buffers, library.ones(4, 2))
        results.append([out.detach().numpy(), *(list(x) for x in (parameters, buffers))])
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    assert results[0][1:] == results[1][1:]
    with pytest.raises(RuntimeError, match="modules of one class"):
        pg.func.stack_module_state([nn.Linear(1, 1), nn.ReLU()])


# ----- modules and optimizers -----


def test_parametrized_weights_are_torchs():
    results = []
    for library in (pg, torch):
        library.manual_seed(0)
        layers = library.nn
        parametrize, known = layers.utils.parametrize, layers.utils.parametrizations

        class Symmetric(layers.Module):
            def forward(self, x):
                return x.triu() + x.triu(1).transpose(-1, -2)

        first = layers.Linear(3, 3)
        parametrize.register_parametrization(first, "weight", Symmetric())
        model = layers.Sequential(
            first, known.weight_norm(layers.Linear(3, 4)), known.spectral_norm(layers.Linear(4, 2))
        )
        optimizer = library.optim.Adam(model.parameters(), lr=0.05)
        x, losses = library.randn(5, 3), []
        for _ in range(5):
            with parametrize.cached():
                assert first.weight is first.weight
                loss = model(x).pow(2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        names = list(model.state_dict()), [name for name, _ in model.named_parameters()], repr(first)
        copied = copy.deepcopy(model).eval()
        value = copied(x).sum().item()
        parametrize.remove_parametrizations(first, "weight")
        assert type(first) is layers.Linear and parametrize.is_parametrized(copied[0], "weight")
        results.append((names, losses, value, first.weight.detach().numpy()))
    assert results[0][0] == results[1][0]
    for mine, theirs in zip(results[0][1:], results[1][1:]):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_parametrizations_refuse():
    class Row(nn.Module):
        def forward(self, x):
            return x[0]

    parametrize = nn.utils.parametrize
    with pytest.raises(ValueError, match=r"expected 'weight' to stay of shape \(2, 2\).*unsafe=True"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Row())
    with pytest.raises(ValueError, match="Linear has no parameter or buffer 'scale'"):
        parametrize.register_parametrization(nn.Linear(2, 2), "scale", Row())
    with pytest.raises(ValueError, match="Linear does not compute 'weight'"):
        parametrize.remove_parametrizations(nn.Linear(2, 2), "weight")


class Momentum(optim.Optimizer):
    """As scripts write one: a step of its own, and state that nobody else knows."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    @pg.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["average"], state["steps"] = pg.zeros_like(p), 0
                state["steps"] += 1
                state["average"].mul_(0.9).add_(p.grad, alpha=0.1)
                p.add_(state["average"], alpha=-group["lr"])


def test_an_optimizer_of_ones_own_goes_on_where_it_was():
    def steps(parameter, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()

    first = nn.Parameter(pg.ones(3))
    optimizer = Momentum([first])
    steps(first, optimizer, 3)
    second = nn.Parameter(first.detach().clone())
    again = Momentum([second], lr=5.0)
    again.load_state_dict(optimizer.state_dict())
    steps(first, optimizer, 2)
    steps(second, again, 2)
    assert pg.equal(first, second) and again.state[second]["steps"] == 5


def test_a_data_set_wrapped_anew_is_known_again():
    """Each fit wraps a map-style data set: workers that have it need not be sent it again."""
    examples, others = [(np.ones(2), 1)] * 4, [(np.ones(2), 1)] * 4
    first, second, other = as_data(examples), as_data(examples), as_data(others)
    assert first is not second
    shared = SharedData(first, mark_of(cloudpickle, first), *make_recipe(cloudpickle, first))
    assert shared.is_of(second, mark_of(cloudpickle, second))
    assert not shared.is_of(other, mark_of(cloudpickle, other))
    examples[0] = (np.zeros(2), 1)
    assert not shared.is_of(second, mark_of(cloudpickle, second))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_change_of_large_arrays_is_seen_in_a_sample_of_them(order, monkeypatch):
    monkeypatch.setattr(payload, "MARKED_BYTES", 0)
    x = np.arange(100_000, dtype=np.float32).reshape(5000, 20).copy(order)
    marks = []
    changes = (lambda: x, lambda: np.copyto(x, x[::-1].copy()), lambda: x[:, 7].fill(0), lambda: x[4000:4500].fill(1))
    for change in changes:
        change()
        marks += [mark_of(cloudpickle, as_data((x, np.arange(5000)))) for _ in range(2)]
    assert marks[::2] == marks[1::2]
    assert len({tuple(mark) for mark in marks}) == 4


# ----- what is there and does nothing -----


def test_amp_casts_and_scales_nothing():
    parameter = nn.Parameter(pg.ones(2))
    optimizer = optim.SGD([parameter], lr=0.5)
    with pytest.warns(UserWarning, match="scales nothing"):
        scaler = pg.cuda.amp.GradScaler()
    assert not scaler.is_enabled() and scaler.state_dict() == {}
    with pytest.warns(UserWarning, match="casts nothing"), pg.autocast("cuda", dtype=pg.float16):
        loss = (parameter * 2).sum()
    assert loss.dtype == np.float32
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_array_equal(parameter.detach().numpy(), [0, 0])
    with pg.amp.autocast("cpu", enabled=False):
        pass
    with pytest.raises(RuntimeError, match=r"autocast\('cpu', enabled=False\), or leave it out"):
        pg.amp.autocast("cpu")


def test_assert_close_is_torchs():
    x = [1.0, 2.0]
    for change, fails in [(0.0, False), (1e-6, False), (1e-3, True)]:
        for library in (pg, torch):
            pair = [library.tensor(x)], [library.tensor(x) + change]
            if fails:
                with pytest.raises(AssertionError):
                    library.testing.assert_close(*pair)
            else:
                library.testing.assert_close(*pair)
    with pytest.raises(AssertionError, match="dtypes"):
        pg.testing.assert_close(pg.ones(2), pg.ones(2, dtype=pg.float64))
    with pytest.raises(AssertionError, match="shapes"):
        pg.testing.assert_close(pg.ones(2), pg.ones(3))


def test_what_is_joined_lies_in_order_as_torchs():
    """Dropout's draws go by the order in memory."""
    for library in (pg, torch):
        x = library.ones(2, 3, 4).transpose(1, 2)
        assert library.cat([x, x], dim=1).is_contiguous() and library.stack([x, x]).is_contiguous()
        rows = library.nn.utils.rnn.pad_sequence([library.ones(2), library.ones(3)], batch_first=True)
        assert rows.is_contiguous()
