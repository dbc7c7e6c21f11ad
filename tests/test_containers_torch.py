"""Containers of modules and parameters, and what a Module does with those it holds, against torch's."""

from collections import OrderedDict

import pytest
import torch

import pargrad as pg
from pargrad import nn
from tests.checks import array_of

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long


def layers(lib):
    return [lib.nn.Linear(2, 2), lib.nn.ReLU(), lib.nn.Linear(2, 3)]


def named(lib):
    return lib.nn.Sequential(OrderedDict(zip(("first", "act", "last"), layers(lib))))


def changed(container, *changes):
    """A container, and it again after each change."""
    yield container
    for change in changes:
        change(container)
        yield container


def act(lib):
    return lib.nn.Tanh()


# Programs give objects: modules are compared by what they say and their state's names, others as they are.
PROGRAMS = {
    "Sequential appended to": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: s.append(act(lib)), lambda s: s.extend(layers(lib))
    ),
    "Sequential inserted into": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: s.insert(1, act(lib)), lambda s: s.insert(0, act(lib)),
        lambda s: s.insert(len(s), act(lib)), lambda s: s.insert(-1, act(lib)),
    ),
    "Sequential deleted from": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: s.__delitem__(0), lambda s: s.pop(-1), lambda s: s.append(act(lib))
    ),
    "Sequential with a slice deleted": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: s.__delitem__(slice(0, 2))
    ),
    "Sequential with names, appended to": lambda lib: changed(named(lib), lambda s: s.append(act(lib))),
    "Sequential with names, assigned to": lambda lib: changed(named(lib), lambda s: s.__setitem__(1, act(lib))),
    "Sequential with attributes": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: setattr(s, "more", act(lib)), lambda s: s.add_module("5", act(lib))
    ),
    "Sequential added and multiplied": lambda lib: [
        lib.nn.Sequential(*layers(lib)) + named(lib), lib.nn.Sequential(*layers(lib)) * 2, 2 * named(lib)
    ],
    "Sequential multiplied in place": lambda lib: changed(lib.nn.Sequential(*layers(lib)), lambda s: s.__imul__(2)),
    "Sequential added to in place": lambda lib: changed(
        lib.nn.Sequential(*layers(lib)), lambda s: s.__iadd__(lib.nn.Sequential(act(lib)))
    ),
    "ModuleList": lambda lib: changed(
        lib.nn.ModuleList(layers(lib)), lambda m: m.append(act(lib)), lambda m: m.extend(layers(lib)),
        lambda m: m.insert(1, act(lib)), lambda m: m.pop(1),
        lambda m: m.__delitem__(slice(1, 3)), lambda m: m.__delitem__(-1), lambda m: m.__setitem__(0, act(lib)),
        lambda m: m.__iadd__(layers(lib)),
    ),
    "ModuleList, parts of it": lambda lib: (
        [part for m in [lib.nn.ModuleList(layers(lib))] for part in [m[0], m[-1], m[1:], m[::2], len(m), *m, m + m]]
    ),
    "ModuleList of many that are alike": lambda lib: [
        lib.nn.ModuleList([*(lib.nn.Linear(2, 2) for _ in range(3)), act(lib), lib.nn.Linear(2, 2)]),
        lib.nn.ModuleList([lib.nn.Sequential(act(lib)) for _ in range(2)]), lib.nn.ModuleList(),
    ],
    "ModuleList from a generator": lambda lib: [lib.nn.ModuleList(lib.nn.Linear(2, i) for i in range(1, 3))],
    "ModuleDict": lambda lib: changed(
        lib.nn.ModuleDict({"a": act(lib), "b": lib.nn.Linear(2, 2)}),
        lambda m: m.update({"c": act(lib), "a": named(lib)}), lambda m: m.update([("d", act(lib))]),
        lambda m: m.pop("a"), lambda m: m.__setitem__("b", act(lib)),
        lambda m: m.__delitem__("b"), lambda m: m.clear(),
    ),
    "ModuleDict, parts of it": lambda lib: [
        part
        for m in [lib.nn.ModuleDict([("x", act(lib)), ("y", lib.nn.ReLU())])]
        for part in [
            len(m), list(m), list(m.keys()), *m.values(), *(v for _, v in m.items()), "x" in m, "z" in m, m["y"],
        ]
    ],
    "ParameterList": lambda lib: changed(
        lib.nn.ParameterList([lib.zeros(2, 3), lib.nn.Parameter(lib.ones(1))]), lambda p: p.append(lib.ones(4)),
        lambda p: p.extend([lib.ones(2), 3]), lambda p: p.__setitem__(0, lib.ones(5)),
        lambda p: p.__iadd__([lib.ones(1)]), lambda p: p.append("text"),
    ),
    "ParameterList, parts of it": lambda lib: [
        part
        for p in [lib.nn.ParameterList([lib.zeros(2, 3), lib.ones(1), lib.ones(2)])]
        for part in [len(p), p[1:], p[0].shape, p[-1].shape, [tuple(x.shape) for x in p], p[0].requires_grad]
    ],
    "ParameterDict": lambda lib: changed(
        lib.nn.ParameterDict({"a": lib.zeros(2, 3), "b": lib.nn.Parameter(lib.ones(1))}),
        lambda p: p.update({"c": lib.ones(2)}), lambda p: p.pop("a"), lambda p: p.__setitem__("b", lib.ones(3)),
        lambda p: p.__delitem__("c"), lambda p: p.__setitem__("n", 3), lambda p: p.clear(),
    ),
    "ParameterDict, parts of it": lambda lib: [
        part
        for p in [lib.nn.ParameterDict([("x", lib.ones(2)), ("y", lib.ones(3))])]
        for part in [
            len(p), list(p), list(p.keys()), [tuple(v.shape) for v in p.values()], "x" in p, p["y"].requires_grad,
        ]
    ],
    "containers in a module": lambda lib: [holding(lib)],
    "empty ones": lambda lib: [
        getattr(lib.nn, name)() for name in ("Sequential", "ModuleDict", "ParameterList", "ParameterDict")
    ],
    "submodules": lambda lib: [
        part
        for m in [holding(lib)]
        for part in [
            m.get_submodule(""), m.get_submodule("blocks.0"), m.get_submodule("heads.b"),
            tuple(m.get_parameter("heads.b.weight").shape), tuple(m.get_buffer("norm.running_mean").shape),
        ]
    ],
    "a submodule in another's place": lambda lib: changed(
        holding(lib), lambda m: m.set_submodule("heads.b", act(lib)), lambda m: m.set_submodule("blocks.1", act(lib)),
        lambda m: m.set_submodule("new", act(lib)),
    ),
    "what apply is called with": lambda lib: [visited(holding(lib))],
    "what is registered": lambda lib: changed(
        lib.nn.Linear(2, 2), lambda m: m.register_parameter("scale", lib.nn.Parameter(lib.ones(1))),
        lambda m: m.register_parameter("nothing", None), lambda m: m.register_module("child", act(lib)),
        lambda m: m.register_buffer("state", lib.ones(2)), lambda m: m.register_parameter("bias", None),
        lambda m: delattr(m, "scale"), lambda m: delattr(m, "state"), lambda m: delattr(m, "child"),
    ),
    "buffers that are assigned": lambda lib: changed(
        act(lib), lambda m: setattr(m, "mean", lib.nn.Buffer(lib.ones(2))),
        lambda m: setattr(m, "scratch", lib.nn.Buffer(lib.ones(2), persistent=False)),
        lambda m: setattr(m, "mean", lib.zeros(3)) if lib is torch else setattr(m, "mean", lib.nn.Buffer(lib.zeros(3))),
    ),
    "a buffer that becomes a parameter": lambda lib: changed(
        lib.nn.BatchNorm1d(2), lambda m: setattr(m, "running_mean", lib.nn.Parameter(lib.ones(2)))
        if lib is pg else (delattr(m, "running_mean"), setattr(m, "running_mean", lib.nn.Parameter(lib.ones(2)))),
    ),
}  # fmt: skip


def holding(lib):
    class Holding(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = lib.nn.ModuleList(layers(lib))
            self.heads = lib.nn.ModuleDict({"a": act(lib), "b": lib.nn.Linear(2, 1)})
            self.scales = lib.nn.ParameterList([lib.ones(2), lib.ones(3)])
            self.shifts = lib.nn.ParameterDict({"x": lib.ones(1)})
            self.norm = lib.nn.BatchNorm1d(2)

    return Holding()


def visited(model):
    names = []
    model.apply(lambda module: names.append(type(module).__name__))
    return names


def seen(value):
    """Modules as text and the names and shapes of what they hold."""
    if hasattr(value, "state_dict"):
        text = repr(value).replace("torch.FloatTensor", "float32").replace("torch.", "")
        parameters = [(name, tuple(p.shape)) for name, p in value.named_parameters()]
        buffers = [name for name, _ in value.named_buffers()]
        return text, [(name, tuple(v.shape)) for name, v in value.state_dict().items()], parameters, buffers
    return tuple(value) if isinstance(value, torch.Size) else value


@pytest.mark.parametrize("program", PROGRAMS)
def test_containers(program):
    ours, theirs = PROGRAMS[program](pg), PROGRAMS[program](torch)
    count = 0
    for mine, reference in zip(ours, theirs, strict=True):
        assert seen(mine) == seen(reference)
        count += 1
    assert count


MISTAKES = {
    "append a function": lambda lib: lib.nn.Sequential().append(torch.relu),
    "a list of functions": lambda lib: lib.nn.ModuleList([torch.relu]),
    "a function by name": lambda lib: lib.nn.ModuleDict({"a": torch.relu}),
    "beyond the end": lambda lib: lib.nn.ModuleList(layers(lib))[3],
    "beyond the end of parameters": lambda lib: lib.nn.ParameterList([lib.ones(1)])[1],
    "before the beginning": lambda lib: lib.nn.Sequential(*layers(lib))[-4],
    "inserted too far": lambda lib: lib.nn.Sequential(*layers(lib)).insert(7, act(lib)),
    "no such module": lambda lib: lib.nn.ModuleDict()["a"],
    "popped where there is none": lambda lib: lib.nn.ModuleDict().pop("a"),
    "a method of a dict": lambda lib: lib.nn.ModuleDict({"keys": act(lib)}),
    "a dot": lambda lib: lib.nn.ModuleDict({"a.b": act(lib)}),
    "not a name": lambda lib: lib.nn.ModuleDict({3: act(lib)}),
    "update with a number": lambda lib: lib.nn.ModuleDict().update(3),
    "extend with a number": lambda lib: lib.nn.ParameterList().extend(3),
    "no repetition": lambda lib: lib.nn.Sequential(*layers(lib)) * 0,
    "no submodule": lambda lib: holding(lib).get_submodule("blocks.7"),
    "a submodule that is a parameter": lambda lib: holding(lib).get_submodule("norm.weight"),
    "no parameter": lambda lib: holding(lib).get_parameter("norm.running_mean"),
    "no buffer": lambda lib: holding(lib).get_buffer("norm.weight"),
    "strict set_submodule": lambda lib: holding(lib).set_submodule("new", act(lib), strict=True),
    "register a tensor as a parameter": lambda lib: act(lib).register_parameter("a", lib.ones(1)),
    "register a parameter with a dot": lambda lib: act(lib).register_parameter("a.b", None),
    "register a parameter without a name": lambda lib: act(lib).register_parameter("", None),
    "register what is there": lambda lib: lib.nn.Dropout().register_parameter("p", None),
    "register under a number": lambda lib: act(lib).register_parameter(3, None),
    "add a module that is a number": lambda lib: act(lib).add_module("a", 3),
    "add a module where something else is": lambda lib: lib.nn.Dropout().add_module("p", act(lib)),
    "to integers": lambda lib: lib.nn.Linear(1, 1).to(lib.int64),
    "forward is missing": lambda lib: lib.nn.ModuleList()(1),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_torchs_kind_of_error(mistake):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        MISTAKES[mistake](torch)
    with pytest.raises(theirs.type):
        MISTAKES[mistake](pg)


def test_a_parameter_list_computes():
    results = []
    for lib in (pg, torch):
        p = lib.nn.ParameterList([lib.ones(2), lib.ones(2) * 3])
        (p[0] * p[1] ** 2).sum().backward()
        results.append([array_of(x.grad).tolist() for x in p])
    assert results[0] == results[1]


# ----- dtypes and places -----


@pytest.mark.parametrize(
    "arguments",
    [lambda lib: (lib.float64,), lambda lib: ("cpu", lib.float64), lambda lib: (lib.ones(1, dtype=lib.float64),),
     lambda lib: ("cpu",), lambda lib: ("cpu", lib.float64, True), lambda lib: (lib.float16,)],
)  # fmt: skip
def test_to(arguments):
    dtypes = []
    for lib in (pg, torch):
        module = lib.nn.BatchNorm1d(2)
        assert module.to(*arguments(lib)) is module
        dtypes.append([str(value.dtype).removeprefix("torch.") for value in module.state_dict().values()])
    assert dtypes[0] == dtypes[1]


def test_there_is_no_other_device():
    linear = nn.Linear(1, 1)
    assert linear.cpu() is linear.to("cpu") is linear.to(device="cpu", non_blocking=True) is linear
    assert linear.half().weight.dtype == pg.float16
    with pytest.raises(RuntimeError, match="there is no cuda"):
        linear.cuda()
    with pytest.raises(RuntimeError, match="'cuda'"):
        linear.to("cuda")


@pytest.mark.parametrize(
    "make",
    [lambda **k: nn.Linear(2, 2, **k), lambda **k: nn.Conv1d(2, 2, 1, **k), lambda **k: nn.BatchNorm2d(2, **k),
     lambda **k: nn.Embedding(2, 2, **k), lambda **k: nn.LayerNorm(2, **k), lambda **k: nn.PReLU(**k),
     lambda **k: nn.ConvTranspose3d(2, 2, 1, **k), lambda **k: nn.Bilinear(1, 1, 1, **k)],
)  # fmt: skip
def test_a_layer_is_made_in_another_dtype(make):
    tensors = make(dtype=pg.float64, device="cpu").state_dict().values()
    assert {value.dtype for value in tensors} - {pg.int64} == {pg.float64}
    with pytest.raises(Exception, match="cuda"):
        make(device="cuda")


# ----- pretrained tables -----


@pytest.mark.parametrize("name", ["Embedding", "EmbeddingBag"])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_table_that_is_given(name, freeze):
    results = []
    for lib in (pg, torch):
        given = lib.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        table = getattr(lib.nn, name).from_pretrained(given, freeze=freeze, padding_idx=1)
        with lib.no_grad():
            given[0, 0] = 7  # it is the same memory
        out = table(lib.tensor([[0, 1, 2]]))
        results.append((repr(table), array_of(out.detach()).tolist(), out.requires_grad, table.weight.requires_grad))
    assert results[0] == results[1]
