"""Hooks of modules against torch's: when they are called, with what, and what they change."""

import copy

import numpy as np
import pytest
import torch

import pargrad as pg
from tests.checks import array_of

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long


class Log:
    """What happened, in order; tensors as the numbers in them."""

    def __init__(self):
        self.lines = []

    def __call__(self, *words):
        self.lines.append(tuple(map(plain, words)))


def plain(value):
    if isinstance(value, pg.Tensor | torch.Tensor):
        return np.round(array_of(value.detach()).astype(np.float64), 5).tolist()
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value


def linear(lib):
    """A layer of two inputs and outputs with round numbers."""
    layer = lib.nn.Linear(2, 2)
    with lib.no_grad():
        layer.weight[...] = lib.tensor([[1.0, 2.0], [3.0, -1.0]])
        layer.bias[...] = lib.tensor([0.5, -0.5])
    return layer


def pair(lib):
    """A module of two inputs, one of which may be no tensor, and of two outputs."""

    class Pair(lib.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = lib.nn.Parameter(lib.ones(2) * 3)

        def forward(self, x, y=None, *, scale=1.0):
            return x * self.weight * scale, x if y is None else y * x

    return Pair()


def x_of(lib, requires_grad=True):
    return lib.tensor([[1.0, -2.0]], requires_grad=requires_grad)


# ----- programs: each takes the library and a Log -----


def forward_hooks(lib, log):
    layer, x = linear(lib), x_of(lib)
    layer.register_forward_pre_hook(lambda m, args: log("before", m is layer, args))
    layer.register_forward_pre_hook(lambda m, args: args[0] * 2)
    layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    layer.register_forward_hook(lambda m, args, out: log("after", args, out))
    layer.register_forward_hook(lambda m, args, out: out * 10)
    log(layer(x))
    layer(x).sum().backward()
    log(x.grad, layer.weight.grad)


def the_order_of_hooks(lib, log):
    layer = linear(lib)
    for name in "ab":
        layer.register_forward_pre_hook(lambda m, args, name=name: log("before", name))
        layer.register_forward_hook(lambda m, args, out, name=name: log("after", name))
        layer.register_full_backward_pre_hook(lambda m, g, name=name: log("backward before", name))
        layer.register_full_backward_hook(lambda m, gi, go, name=name: log("backward", name))
    layer.register_forward_pre_hook(lambda m, args: log("before", "first"), prepend=True)
    layer.register_forward_hook(lambda m, args, out: log("after", "first"), prepend=True)
    layer.register_full_backward_pre_hook(lambda m, g: log("backward before", "first"), prepend=True)
    layer.register_full_backward_hook(lambda m, gi, go: log("backward", "first"), prepend=True)
    layer(x_of(lib)).sum().backward()


def hooks_with_kwargs(lib, log):
    module, x = pair(lib), x_of(lib)
    module.register_forward_pre_hook(lambda m, args, kw: log("before", args, kw), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, args, kw: (args, {**kw, "scale": 5.0}), with_kwargs=True)
    module.register_forward_hook(lambda m, args, kw, out: log("after", args, kw, out), with_kwargs=True)
    module.register_forward_hook(lambda m, args, out: out[0])
    log(module(x, y=x, scale=2.0))


def hooks_that_are_removed(lib, log):
    layer, x = linear(lib), x_of(lib)
    handles = [
        layer.register_forward_pre_hook(lambda m, args: log("before")),
        layer.register_forward_hook(lambda m, args, out: log("after")),
        layer.register_full_backward_hook(lambda m, gi, go: log("backward")),
    ]
    layer(x).sum().backward()
    for handle in handles:
        handle.remove()
        layer(x).sum().backward()
    with layer.register_forward_hook(lambda m, args, out: log("in the block")):
        layer(x)
    layer(x)


def hooks_that_are_always_called(lib, log):
    layer = linear(lib)
    layer.register_forward_hook(lambda m, args, out: log("usual"))
    layer.register_forward_hook(lambda m, args, out: log("always", out), always_call=True)
    layer(x_of(lib))
    with pytest.raises(RuntimeError):
        layer(lib.ones(1, 3))
    layer.register_forward_hook(lambda m, args, out: 1 / 0, prepend=True)
    with pytest.raises(ZeroDivisionError):
        layer(x_of(lib))


def backward_hooks(lib, log):
    layer, x = linear(lib), x_of(lib)
    layer.register_full_backward_pre_hook(lambda m, g: log("arriving", m is layer, g))
    layer.register_full_backward_hook(lambda m, gi, go: log("gone through", gi, go))
    (layer(x) * lib.tensor([[1.0, 2.0]])).sum().backward()
    log(x.grad, layer.weight.grad, layer.bias.grad)


def backward_hooks_that_change_gradients(lib, log):
    layer, x = linear(lib), x_of(lib)
    layer.register_full_backward_pre_hook(lambda m, g: (g[0] * 2,))
    layer.register_full_backward_pre_hook(lambda m, g: (g[0] + 1,))
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))
    layer.register_full_backward_hook(lambda m, gi, go: log(gi, go))
    layer(x).sum().backward()
    log(x.grad, layer.weight.grad, layer.bias.grad)


def backward_hooks_without_gradients_of_inputs(lib, log):
    layer = linear(lib)
    layer.register_full_backward_pre_hook(lambda m, g: (g[0] * 3,))
    layer.register_full_backward_hook(lambda m, gi, go: log(gi, go))
    layer(x_of(lib, requires_grad=False)).sum().backward()
    log(layer.weight.grad)
    with lib.no_grad():
        layer(x_of(lib))
    layer.requires_grad_(False)
    layer(x_of(lib, requires_grad=False))


def backward_hooks_of_several(lib, log):
    module, x = pair(lib), x_of(lib)
    module.register_full_backward_hook(lambda m, gi, go: log(gi, go))
    for other in (lib.ones(1, 2), x_of(lib), 4.0):
        for chosen in ([0, 1], [0], [1]):
            outputs = module(x, other)
            sum(outputs[i].sum() for i in chosen).backward()
            log(x.grad, getattr(other, "grad", None))


def backward_hooks_of_nested_modules(lib, log):
    model = lib.nn.Sequential(linear(lib), lib.nn.Tanh(), linear(lib))
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, args, out, name=name: log("forward", name))
        module.register_full_backward_hook(lambda m, gi, go, name=name: log("backward", name, gi, go))
    x = x_of(lib)
    model(x).sum().backward()
    model(model(x)).sum().backward()
    log(x.grad, model[0].weight.grad)


def second_derivatives_through_hooks(lib, log):
    layer, x = linear(lib), x_of(lib)
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    (gradient,) = lib.autograd.grad((layer(x) ** 3).sum(), x, create_graph=True)
    gradient.sum().backward()
    log(gradient, x.grad, layer.weight.grad)


def hooks_of_a_copy(lib, log):
    layer, calls = linear(lib), []
    layer.register_forward_hook(lambda m, args, out: calls.append(1))
    twin = copy.deepcopy(layer)
    twin(x_of(lib))
    twin.register_forward_hook(lambda m, args, out: calls.append(2))
    layer(x_of(lib))
    log(tuple(calls))


def hooks_of_the_state(lib, log):
    model = lib.nn.Sequential(linear(lib), lib.nn.ReLU(), linear(lib))
    model[0].register_state_dict_pre_hook(lambda m, prefix, keep_vars: log("before", prefix, keep_vars))
    model[0].register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(hooked=prefix))
    log(tuple(model.state_dict()), tuple(model.state_dict(prefix="p.", keep_vars=True)))

    def renamed(module, state, prefix, meta, strict, missing, unexpected, errors):
        log("loading", prefix, strict, tuple(missing), tuple(unexpected), tuple(errors))
        state[prefix + "weight"] = state.pop(prefix + "kernel")

    model[2].register_load_state_dict_pre_hook(renamed)
    state = {"0.weight": lib.ones(2, 2), "0.bias": lib.ones(2), "2.kernel": lib.ones(2, 2) * 2, "2.bias": lib.ones(2)}
    log(tuple(map(tuple, model.load_state_dict(state))), tuple(state), model[2].weight)


PROGRAMS = [
    forward_hooks, the_order_of_hooks, hooks_with_kwargs, hooks_that_are_removed, hooks_that_are_always_called,
    backward_hooks, backward_hooks_that_change_gradients, backward_hooks_without_gradients_of_inputs,
    backward_hooks_of_several, backward_hooks_of_nested_modules, second_derivatives_through_hooks, hooks_of_a_copy,
    hooks_of_the_state,
]  # fmt: skip


def logged(program, lib):
    log = Log()
    program(lib, log)
    return log.lines


@pytest.mark.filterwarnings("ignore")  # torch's, that gradients of constants are None
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_hooks(program):
    expected = logged(program, torch)
    assert expected
    assert logged(program, pg) == expected


# ----- refused -----


@pytest.mark.parametrize(
    ("register", "hook", "told"),
    [
        ("register_forward_pre_hook", lambda m, args, kw: args, r"returns None or \(args, kwargs\)"),
        ("register_full_backward_hook", lambda m, gi, go: (gi[0], gi[0]), "1 gradients, got 2"),
        ("register_full_backward_pre_hook", lambda m, go: (), "1 gradients, got 0"),
        ("register_full_backward_hook", lambda m, gi, go: gi[0][:, :1].sum(0), "a gradient of shape"),
    ],
)
def test_what_hooks_must_not_return(register, hook, told):
    layer = linear(pg)
    getattr(layer, register)(hook, **({"with_kwargs": True} if "forward" in register else {}))
    with pytest.raises(RuntimeError, match=told):
        layer(x_of(pg)).sum().backward()


def test_a_gradient_that_nobody_asked_for_is_not_replaced():
    layer = linear(pg)
    layer.register_full_backward_hook(lambda m, gi, go: (pg.ones(1, 2),))
    with pytest.raises(RuntimeError, match="none of whose inputs requires grad"):
        layer(x_of(pg, requires_grad=False)).sum().backward()


def test_a_hook_that_fails_after_a_failure_is_told():
    layer = linear(pg)
    layer.register_forward_hook(lambda m, args, out: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="ZeroDivisionError"), pytest.raises(RuntimeError, match="linear"):
        layer(pg.ones(1, 3))
