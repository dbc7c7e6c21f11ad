"""A layer here and the same one of torch's: built from one seed, given one state, held against each other."""

import inspect

import numpy as np
import torch

import pargrad as pg
from tests.checks import array_of, weights

RELATIVE = 1e-9  # of the largest element, in float64


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def build(name, *args, seed=7, **settings):
    """The layer of this name in both libraries, from the same seed: they are alike, to what they print.

    A setting that is a function is given the library.
    """

    def built(library):
        library.manual_seed(seed)
        given = {key: value(library) if callable(value) else value for key, value in settings.items()}
        return getattr(library.nn, name)(*args, **given)

    with torch.random.fork_rng():
        theirs = built(torch)
    mine = built(pg)
    assert repr(mine) == repr(theirs)
    assert_same_state(mine, theirs)
    return mine, theirs


def assert_same_state(mine, theirs):
    """Names in one order, shapes, and what was drawn: normal numbers to the last bits, uniform ones to the bit."""
    for listed in ("state_dict", "named_parameters", "named_buffers"):
        one, other = dict(getattr(mine, listed)()), dict(getattr(theirs, listed)())
        assert list(one) == list(other)
        for key, value in other.items():
            assert one[key].requires_grad == value.requires_grad
            normal = key.endswith(("bias_k", "bias_v"))  # the only normal numbers among the defaults of these layers
            tolerance = 1e-6 if normal else 0
            np.testing.assert_allclose(array_of(one[key]), array_of(value), rtol=tolerance, atol=0, err_msg=key)


def doubled(mine, theirs, generator):
    """Both in float64, with one new state: what begins as 0 or 1 would hide mistakes."""
    theirs.double()
    mine.double()
    state = {
        name: generator.uniform(-0.6, 0.6, tuple(value.shape)) if value.is_floating_point() else value.numpy()
        for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    mine.load_state_dict(state)


def arguments(library, name, method):
    """Names, kinds and defaults of what a layer's method takes; a default that is a function is told by its name."""
    given = inspect.signature(getattr(getattr(library.nn, name), method)).parameters.values()
    return [(each.name, each.kind, getattr(each.default, "__name__", each.default)) for each in given]


def leaves(value):
    """The tensors of tuples in tuples, in order; None stays, so that both sides must have it."""
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple | list) else [value]


def outcome(library, module, call, arrays):
    """What `call(module, *tensors)` gives, and the gradients of its inputs and of the parameters."""
    tensors = {
        name: None if x is None else library.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in arrays.items()
    }
    values = leaves(call(module, tensors))
    for value in values:
        if value is not None:
            value.backward(library.tensor(weights(tuple(value.shape))), retain_graph=True)
    named = [*tensors.items(), *module.named_parameters()]
    found = {f"output {i}": value for i, value in enumerate(values)}
    found |= {f"gradient of {name}": x.grad for name, x in named if x is not None and x.requires_grad}
    return {name: None if x is None else array_of(x.detach()) for name, x in found.items()}


def assert_agree(got, expected, relative=RELATIVE):
    assert list(got) == list(expected)
    for name, other in expected.items():
        one = got[name]
        assert (one is None) == (other is None), name
        if other is not None:
            assert (one.shape, one.dtype) == (other.shape, other.dtype), name
            scale = np.abs(other).max(initial=0)
            np.testing.assert_allclose(one, other, rtol=relative, atol=relative * scale, err_msg=name)


def check(name, args, settings, arrays, call, training=True, seed=11):
    """Outputs, input gradients and parameter gradients of a layer are torch's, in float64, for one state and seed."""
    mine, theirs = build(name, *args, **settings)
    doubled(mine, theirs, np.random.default_rng(5))
    mine.train(training)
    theirs.train(training)
    pg.manual_seed(seed)
    got = outcome(pg, mine, call, arrays)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        expected = outcome(torch, theirs, call, arrays)
    assert_agree(got, expected)
