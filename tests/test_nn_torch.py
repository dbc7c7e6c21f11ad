"""Modules and layers against torch's: names and their order, what they print and compute, and their gradients."""

from collections import OrderedDict

import numpy as np
import pytest
import torch

import pargrad as pg

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long


def assert_close(mine, reference):
    """Equal to the digits that a dtype has, of the largest element: 1 - tanh(x)^2 has no more at large x."""
    tolerance = {"float64": 1e-12, "float32": 5e-6}[reference.dtype.name]
    scale = np.abs(reference).max(initial=0.0)
    np.testing.assert_allclose(mine, reference, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_checker_sees_a_difference(dtype):
    reference = np.array([1.0, 1e-3, 0.0], dtype)
    assert_close(reference.copy(), reference)
    for i in range(3):
        wrong = reference.copy()
        wrong[i] += {"float64": 1e-11, "float32": 5e-5}[dtype]
        with pytest.raises(AssertionError):
            assert_close(wrong, reference)


# ----- models written once for both libraries: each takes the library -----


def mlp(lib):
    return lib.nn.Sequential(lib.nn.Linear(4, 3), lib.nn.ReLU(), lib.nn.Linear(3, 2, bias=False))


def named_sequence(lib):
    return lib.nn.Sequential(OrderedDict(first=lib.nn.Linear(2, 2), act=lib.nn.Tanh(), last=lib.nn.Linear(2, 1)))


def empty_sequence(lib):
    return lib.nn.Sequential()


def layers(lib):
    nn = lib.nn
    return nn.Sequential(
        nn.Flatten(), nn.Flatten(0, 1), nn.Dropout(), nn.Dropout(0.25), nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(),
        nn.Sigmoid(), nn.Linear(1, 2), nn.Linear(2, 1, bias=False), nn.Dropout(0.1, inplace=True),
        nn.Sequential(nn.Tanh()),
    )  # fmt: skip


def a_layer_used_twice(lib):
    act, linear = lib.nn.ReLU(), lib.nn.Linear(3, 3)
    return lib.nn.Sequential(linear, act, lib.nn.Sequential(linear, act), act)


def nested(lib):
    class Block(lib.nn.Module):
        def __init__(self, size):
            super().__init__()
            self.inner = lib.nn.Linear(size, size)
            self.scale = lib.nn.Parameter(lib.ones(size))  # after a module: its own parameters come first all the same
            self.register_buffer("count", lib.zeros(1))
            self.register_buffer("scratch", lib.zeros(2), persistent=False)
            self.register_buffer("nothing", None)

        def forward(self, x):
            return self.inner(x) * self.scale

    class Nested(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = lib.nn.Sequential(Block(2), Block(2))
            self.shift = lib.nn.Parameter(lib.zeros(2))
            self.head = Block(2)
            self.register_buffer("mean", lib.ones(2))
            self.plain = lib.ones(2)  # a tensor that is neither
            self.missing = None
            self.in_a_list = [lib.nn.Linear(2, 2)]

        def forward(self, x):
            return self.head(self.blocks(x) + self.shift) - self.mean

    return Nested()


def tied(lib):
    class Tied(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = lib.nn.Linear(3, 3)
            self.decoder = lib.nn.Linear(3, 3, bias=False)
            self.decoder.weight = self.encoder.weight
            self.again = self.encoder
            self.register_buffer("one", lib.ones(1))
            self.register_buffer("other", self.one)

        def forward(self, x):
            return self.decoder(self.encoder(x)) + self.again(x)

    return Tied()


def telling(lib):
    class Telling(lib.nn.Module):
        def __init__(self, text, *children):
            super().__init__()
            self.text = text
            for i, child in enumerate(children):
                setattr(self, f"part_{i}", child)

        def extra_repr(self):
            return self.text

    return Telling("alone=1", Telling("a\nb"), Telling("c", Telling("")), Telling("d\ne", Telling("f")))


MODELS = {
    model.__name__: model
    for model in [mlp, named_sequence, empty_sequence, layers, a_layer_used_twice, nested, tied, telling]
}

WALKS = {
    "named_parameters": lambda model: [(name, p.shape) for name, p in model.named_parameters()],
    "named_parameters with duplicates": lambda model: [n for n, _ in model.named_parameters(remove_duplicate=False)],
    "named_parameters of its own": lambda model: [name for name, _ in model.named_parameters(recurse=False)],
    "named_parameters with a prefix": lambda model: [name for name, _ in model.named_parameters("model")],
    "named_buffers": lambda model: [name for name, _ in model.named_buffers()],
    "named_buffers with duplicates": lambda model: [n for n, _ in model.named_buffers(remove_duplicate=False)],
    "named_modules": lambda model: [(name, type(module).__name__) for name, module in model.named_modules()],
    "named_modules with duplicates": lambda model: [name for name, _ in model.named_modules(remove_duplicate=False)],
    "named_children": lambda model: [name for name, _ in model.named_children()],
    "state_dict": lambda model: [(name, value.shape) for name, value in model.state_dict().items()],
    "state_dict with a prefix": lambda model: list(model.state_dict(prefix="model.")),
    "counts": lambda model: [
        len(list(each)) for each in (model.parameters(), model.buffers(), model.modules(), model.children())
    ],
    "repr": repr,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("walk", WALKS)
def test_walks(walk, model):
    assert WALKS[walk](MODELS[model](pg)) == WALKS[walk](MODELS[model](torch))


def test_the_walks_tell_models_apart():
    differing = {walk for walk in WALKS if WALKS[walk](nested(pg)) != WALKS[walk](tied(torch))}
    assert differing == set(WALKS)


CALCULATING = {name: MODELS[name] for name in ["mlp", "named_sequence", "a_layer_used_twice", "nested", "tied"]}
WIDTH = {"mlp": 4, "named_sequence": 2, "a_layer_used_twice": 3, "nested": 2, "tied": 3}


def both(name, dtype="float64"):
    """A model of pargrad's and torch's with the same parameters, drawn for the occasion."""
    ours, theirs = CALCULATING[name](pg), CALCULATING[name](torch)
    ours, theirs = (ours.double(), theirs.double()) if dtype == "float64" else (ours, theirs)
    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=v.shape).astype(dtype) for k, v in theirs.state_dict().items()}
    assert list(ours.load_state_dict(arrays)) == [[], []]
    theirs.load_state_dict({k: torch.from_numpy(ours.state_dict()[k].numpy()) for k in arrays})  # tied ones agree
    return ours, theirs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CALCULATING)
def test_models_compute_and_differentiate_as_torchs(name, dtype):
    ours, theirs = both(name, dtype)
    x = np.random.default_rng(1).normal(size=(5, WIDTH[name])).astype(dtype)
    one, other = pg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    (ours(one) * ours(one)).sum().backward()
    (theirs(other) * theirs(other)).sum().backward()
    for mine, reference in [(one, other), *zip(ours.parameters(), theirs.parameters(), strict=True)]:
        assert mine.grad.dtype == dtype
        assert_close(mine.grad.numpy(), reference.grad.numpy())


@pytest.mark.parametrize("name", CALCULATING)
def test_state_travels_both_ways(name):
    ours, theirs = both(name)
    fresh = CALCULATING[name](pg).double()
    fresh.load_state_dict(theirs.state_dict())  # torch's tensors, as they are
    x = np.random.default_rng(1).normal(size=(5, WIDTH[name]))
    np.testing.assert_array_equal(fresh(pg.tensor(x)).detach().numpy(), ours(pg.tensor(x)).detach().numpy())
    theirs.load_state_dict({k: torch.from_numpy(v.numpy() + 1) for k, v in ours.state_dict().items()})
    fresh.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    np.testing.assert_array_equal(
        next(fresh.parameters()).detach().numpy(), next(ours.parameters()).detach().numpy() + 1
    )


# ----- layers and functions, alone -----

LAYERS = {
    **{
        f"Linear {shape} bias={bias}": (lambda nn, bias=bias: nn.Linear(3, 2, bias=bias), shape)
        for shape in [(3,), (5, 3), (2, 4, 3), (2, 1, 4, 3), (0, 3)]
        for bias in [True, False]
    },
    **{
        f"Flatten {dims} {shape}": (lambda nn, dims=dims: nn.Flatten(*dims), shape)
        for dims, shape in [
            ((), (2, 3, 4)), ((), (2, 3)), ((0,), (2, 3, 4)), ((0,), ()), ((1, 2), (2, 3, 4, 5)), ((-2,), (2, 3, 4)),
            ((2, 2), (2, 3, 4)),
        ]
    },
    **{
        f"{name} {shape}": (lambda nn, name=name: getattr(nn, name)(), shape)
        for name in ["ReLU", "Tanh", "Sigmoid"]
        for shape in [(), (4,), (3, 5)]
    },
    "Dropout while training": (lambda nn: nn.Dropout(0.3), (20, 10)),
    "Dropout of nothing": (lambda nn: nn.Dropout(0.0), (4,)),
    "Dropout of everything": (lambda nn: nn.Dropout(1.0), (4,)),
    "Dropout in evaluation": (lambda nn: nn.Dropout(0.3).eval(), (20, 10)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer, dtype):
    make, shape = LAYERS[layer]
    x = np.asarray(np.random.default_rng(0).normal(size=shape) * 3).astype(dtype)
    if x.size > 2:
        x.flat[:3] = [0.0, 200.0, -200.0]  # a kink, and where exp overflows
    results = []
    for lib in (pg, torch):
        lib.manual_seed(3)
        module = make(lib.nn)
        module = module.double() if dtype == "float64" else module
        input = lib.tensor(x, requires_grad=True) if lib is pg else torch.tensor(x, requires_grad=True)
        output = module(input)
        upstream = np.linspace(1, 2, output.numel()).reshape(output.shape).astype(dtype)
        output.backward(lib.tensor(upstream))
        results.append([output.detach().numpy(), input.grad.numpy(), *(p.grad.numpy() for p in module.parameters())])
    for mine, reference in zip(*results, strict=True):
        assert (mine.dtype, mine.shape) == (reference.dtype, reference.shape)
        assert_close(mine, reference)


@pytest.mark.parametrize("index", [0, 2, -1, np.int64(1)])
def test_a_layer_of_a_sequence(index):
    assert repr(layers(pg)[index]) == repr(layers(torch)[index])


@pytest.mark.parametrize("cut", [slice(None), slice(1, 3), slice(None, None, 2), slice(-2, None), slice(5, 5)], ids=str)
@pytest.mark.parametrize("model", [layers, named_sequence, mlp])
def test_a_slice_of_a_sequence(model, cut):
    ours, theirs = model(pg), model(torch)
    assert repr(ours[cut]) == repr(theirs[cut])
    assert list(ours[cut].state_dict()) == list(theirs[cut].state_dict())
    assert len(ours[cut]) == len(theirs[cut])
