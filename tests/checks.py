"""What the tests of rules and tensors are checked with; test_checks.py shows that each fails on something wrong.

A rule is checked on one of its samples. Derivatives are compared in float64 and complex128 only, by one random
direction in and one out: two dot products, whatever the shapes. That of complex numbers is Re(sum(conj(w) z)), which is
what a complex gradient is meant for. The tolerances are constants: a test cannot be made to pass by a wider one.
"""

import re
import zlib

import numpy as np
import pytest

import pargrad
import pargrad.autograd
from pargrad.graph import unbroadcast
from pargrad.modes import no_grad
from pargrad.rules import RULES
from pargrad.tensor import Tensor, apply

STEP = 1e-5
DIFFERENCE = 1e-6  # between a derivative and a central difference, next to the size of both
EXACT = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 2e-6}  # rounding, a few operations long
EXACT |= {np.dtype(np.complex128): EXACT[np.dtype(np.float64)], np.dtype(np.complex64): EXACT[np.dtype(np.float32)]}

# The dtypes that most is tried in.
both = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])

CASES = [
    (f"{rule.name}-{number}", rule, sample) for rule in RULES.values() for number, sample in enumerate(rule.samples)
]


def draw(rule, sample, dtype=np.float64):
    """The arguments of a sample, the same in every run, and different ones for different rules."""
    # A sample's functions are written with their addresses, which are others in every run.
    seed = zlib.crc32(re.sub(r" at 0x\w+", "", f"{rule.name} {sample}").encode())
    arrays = sample.arrays(np.random.default_rng(seed), dtype)
    return [x.astype(np.result_type(dtype, 1j)) if is_complex(x) else x for x in arrays]


def weights(shape, dtype=np.float64):
    """A gradient to send backward: no element is 0, and no two are equal."""
    values = np.random.default_rng(int(np.prod(shape)) + len(shape)).uniform(0.5, 1.5, shape)
    values[np.arange(values.size).reshape(shape) % 3 == 1] *= -1
    if np.dtype(dtype).kind == "c":
        values = np.asarray(values + 1j * np.random.default_rng(values.size).uniform(-1.5, 1.5, shape))
    return values.astype(dtype)


def can_require_grad(x):
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc"


def is_complex(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "c"


def product(weights, values):
    """The real inner product, of real and of complex arrays."""
    return float(np.vdot(weights, values).real)


def precision(x):
    """float32 of float32 and complex64, float64 of float64 and complex128."""
    return np.finfo(np.asarray(x).dtype).dtype


def listed(x):
    return list(x) if isinstance(x, tuple) else [x]


def copied(arrays):
    return [x.copy() if isinstance(x, np.ndarray) else x for x in arrays]


def array_of(tensor):
    """The elements of a tensor; torch may have noted, and not yet done, that they are conjugated, negated or 0."""
    return tensor.array if isinstance(tensor, Tensor) else tensor.numpy(force=True)


def run(library, function, arrays):
    """Values of `function` and gradients of its float and complex arrays, in pargrad or torch.

    The two agree on every name used here. Each such value is sent `weights` of its shape. A gradient that never
    arrives is None.
    """
    tensors = [library.tensor(x, requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    values = listed(function(*tensors))
    for value in values:
        if value.requires_grad:
            seed = library.tensor(weights(tuple(value.shape), array_of(value).dtype))
            value.backward(seed, retain_graph=True)
    gradients = [
        None if not can_require_grad(x) or t.grad is None else array_of(t.grad) for x, t in zip(arrays, tensors)
    ]
    return [array_of(value) for value in values], gradients


def assert_equal(got, expected, tolerance=None):
    """Lists of arrays agree in shape and dtype and, to rounding in their dtype, in value. None agrees with None."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected):
        if one is None or other is None:
            assert one is other, f"one is None, the other is not: {one} and {other}"
            continue
        one, other = np.asarray(one), np.asarray(other)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        rounding = EXACT.get(one.dtype, 0) if tolerance is None else tolerance
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding)


def check_explained(act, pieces):
    """It is refused, in words that these pieces are part of."""
    with pytest.raises((ValueError, TypeError)) as error:
        act()
    for piece in pieces:
        assert piece in str(error.value)


def call(rule, arrays, settings):
    """The rule as a bare function: its values, and its vjps, one per argument or a joint one."""
    if not rule.differentiable:
        return [rule.function(*arrays, **settings)], []
    value, *vjps = rule.function(*arrays, **settings)
    return listed(value), vjps


def gradients_of(rule, arrays, settings, seeds):
    """What the vjps of a rule give, before anything is un-broadcast or cast."""
    values, vjps = call(rule, arrays, settings)
    g = tuple(seeds) if len(values) > 1 else seeds[0]
    if rule.joint:
        return list(vjps[0](g))
    return [None if vjp is None else vjp(g) for vjp in vjps]


def as_function(rule, settings):
    return lambda *inputs: apply(rule, *inputs, **settings)


# ----- checks -----


def check_derivative(function, arrays):
    """backward agrees with central differences, for each argument that has one by itself; says how many there were."""
    generator = np.random.default_rng(7)
    _, gradients = run(pargrad, function, arrays)
    checked = 0
    for i, x in enumerate(arrays):
        if not can_require_grad(x) or gradients[i] is None:
            continue
        assert precision(x) == np.float64, "derivatives are compared in float64 only"
        direction = generator.uniform(-1, 1, x.shape)
        if is_complex(x):
            direction = direction + 1j * generator.uniform(-1, 1, x.shape)

        def projected(distance, i=i, x=x, direction=direction):
            moved = [Tensor(each) if isinstance(each, np.ndarray) else each for each in arrays]
            moved[i] = Tensor(np.asarray(x + distance * direction))
            values = [value.array for value in listed(function(*moved))]
            return sum(product(weights(value.shape, value.dtype), value) for value in values if can_require_grad(value))

        numeric = (projected(STEP) - projected(-STEP)) / (2 * STEP)
        exact = product(gradients[i], direction)
        assert abs(exact - numeric) <= DIFFERENCE * max(1.0, abs(numeric)), (
            f"argument {i}: the derivative along a random direction is {exact}, by differences {numeric}"
        )
        checked += 1
    return checked


def check_dtypes(rule, sample):
    """float32 in, float32 out (and complex64): the value, what each vjp gives, and what reaches the leaf."""
    arrays = draw(rule, sample, np.float32)
    values, _ = call(rule, arrays, sample.settings)
    cast = sample.settings.get("dtype", np.float32)
    for value in values:
        if can_require_grad(np.asarray(value)):
            assert precision(value) == precision(np.zeros(0, cast)), f"float32 became {np.asarray(value).dtype}"
    if not rule.differentiable:
        return
    seeds = [weights(np.shape(value), np.asarray(value).dtype) for value in values]
    for gradient in gradients_of(rule, arrays, sample.settings, seeds):
        if gradient is not None:
            assert precision(gradient) == precision(np.zeros(0, cast)), (
                f"a gradient of float32 is {np.asarray(gradient).dtype}"
            )
    leaves = [Tensor(x, requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    outputs = listed(apply(rule, *leaves, **sample.settings))
    outputs[0].backward(Tensor(weights(outputs[0].shape, outputs[0].dtype)))
    for x, leaf in zip(arrays, leaves):
        if can_require_grad(x) and leaf.grad is not None:
            assert (leaf.grad.dtype, leaf.grad.shape) == (x.dtype, x.shape)


def layouts(x):
    """The same values in other memory, all of it read-only: transposed, strided, backwards."""
    x = np.asarray(x)
    strided = np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else np.repeat(x, 2)[1, ...]
    backwards = x[::-1].copy()[::-1] if x.ndim else x.copy()
    for other in (x.copy(order="F"), strided, backwards):
        other.flags.writeable = False
        assert np.array_equal(other, x, equal_nan=can_require_grad(other))
        yield other


def check_layouts(rule, sample):
    """Values and gradients are the same however the arguments lie in memory, which the rule does not write to."""
    arrays = draw(rule, sample)
    values, _ = call(rule, copied(arrays), sample.settings)
    seeds = [weights(np.shape(value), np.asarray(value).dtype) for value in values]
    expected = gradients_of(rule, copied(arrays), sample.settings, seeds) if rule.differentiable else []
    others = [list(layouts(x)) if isinstance(x, np.ndarray) else [x] * 3 for x in arrays]
    for other, seed in zip(zip(*others), zip(*(layouts(seed) for seed in seeds))):
        assert_equal(call(rule, other, sample.settings)[0], values)
        if rule.differentiable:
            assert_equal(gradients_of(rule, other, sample.settings, seed), expected)


def check_memory(rule, sample):
    """A vjp reads `g` without writing, and what it gives shares memory with nothing but `g`.

    The engine adds to an array in place when it has no base and is not `g`: such a one must be the vjp's own.
    """
    arrays = draw(rule, sample)
    value, *vjps = rule.function(*arrays, **sample.settings)
    values = [np.asarray(each) for each in listed(value)]
    seeds = [weights(each.shape, each.dtype) for each in values]
    for seed in seeds:
        seed.flags.writeable = False
    g = tuple(seeds) if len(values) > 1 else seeds[0]
    kept = [*values, *(x for x in arrays if isinstance(x, np.ndarray))]
    results = list(vjps[0](g)) if rule.joint else [vjp(g) for vjp in vjps if vjp is not None]
    before = copied(results)
    for i, one in enumerate(results):
        one = np.asarray(one)
        assert not any(np.shares_memory(one, other) for other in kept), "a gradient shares memory with what was saved"
        if any(one is seed for seed in seeds) or one.base is not None:
            continue
        assert not any(np.shares_memory(one, other) for other in (*seeds, *results[:i], *results[i + 1 :])), (
            "a gradient that looks like the vjp's own shares memory with another one"
        )
        one[...] = 0
    again = list(vjps[0](g)) if rule.joint else [vjp(g) for vjp in vjps if vjp is not None]
    assert_equal(again, before)  # a second walk finds what the first found
    for one, other in zip(results, again):
        if not any(np.shares_memory(one, seed) for seed in seeds):
            assert not np.shares_memory(one, other), "two walks are given one array"


def saved_names(rule, sample):
    """For each vjp, the names of the arrays that its closure keeps alive, in alphabetical order."""
    arrays = draw(rule, sample)
    _, vjps = call(rule, arrays, sample.settings)

    def names(function):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            content = cell.cell_contents
            if callable(content):
                yield from names(content)
            elif isinstance(content, np.ndarray | np.generic) or (
                isinstance(content, tuple | list) and any(isinstance(part, np.ndarray) for part in content)
            ):
                yield name

    return [" ".join(sorted(set(names(vjp)))) for vjp in vjps if vjp is not None]


def check_plain(rule, sample):
    """A fused rule agrees, in value and gradients, with the composition that it names."""
    arrays = draw(rule, sample)
    got = run(pargrad, as_function(rule, sample.settings), arrays)
    plain = run(pargrad, lambda *inputs: rule.plain(*inputs, **sample.settings), arrays)
    assert_equal(got[0], plain[0])
    assert_equal(got[1], plain[1])


def check_versions(rule, sample):
    """Overwriting an argument or a value after the call gives the same gradients, or an error that names the rule."""
    arrays = draw(rule, sample)

    def attempt(overwritten):
        leaves = [
            Tensor(x.copy(), requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays
        ]
        # Clones, because a leaf is never freed and could not be overwritten outside no_grad.
        inputs = [apply(RULES["clone"], x) if isinstance(x, Tensor) else x for x in leaves]
        outputs = listed(apply(rule, *inputs, **sample.settings))
        seeds = [Tensor(weights(each.shape, each.dtype)) for each in outputs]
        if overwritten is not None:
            tensor = outputs[overwritten[1]] if isinstance(overwritten, tuple) else inputs[overwritten]
            with no_grad():
                tensor[...] = {
                    "f": lambda x: x + 0.7,
                    "c": lambda x: x + 0.7j,
                    "i": lambda x: 1 - x,
                    "b": np.logical_not,
                }[tensor.dtype.kind](tensor.array)
        for output, seed in zip(outputs, seeds):
            if output.requires_grad:
                output.backward(seed, retain_graph=True)
        return [x.grad.array if isinstance(x, Tensor) and x.grad is not None else None for x in leaves]

    expected = attempt(None)
    values, _ = call(rule, arrays, sample.settings)
    candidates = [i for i, x in enumerate(arrays) if isinstance(x, np.ndarray)]
    candidates += [("value", i) for i, value in enumerate(values) if np.asarray(value).flags.writeable]
    for candidate in candidates:
        try:
            got = attempt(candidate)
        except RuntimeError as error:
            if not str(error).startswith(f"{rule.name} saved "):
                raise
        else:
            assert_equal(got, expected)


def check_unbroadcast(rule, sample):
    """Un-broadcast, what a vjp gives has the shape of its argument."""
    arrays = draw(rule, sample)
    values, _ = call(rule, arrays, sample.settings)
    seeds = [weights(np.shape(value), np.asarray(value).dtype) for value in values]
    for x, gradient in zip(arrays, gradients_of(rule, arrays, sample.settings, seeds)):
        if gradient is not None:
            assert unbroadcast(np.asarray(gradient), x.shape).shape == x.shape


def check_recorded(rule, sample):
    """Given Tensors, the vjps give what they give for arrays, and it is differentiable in the gradients given."""
    arrays = draw(rule, sample)
    values, _ = call(rule, arrays, sample.settings)
    seeds = [weights(np.shape(value), np.asarray(value).dtype) for value in values]
    expected = gradients_of(rule, arrays, sample.settings, seeds)
    leaves = [Tensor(seed, can_require_grad(seed)) for seed in seeds]
    total, squares = 0, 0.0
    for one, other in zip(gradients_of(rule, arrays, sample.settings, leaves), expected, strict=True):
        if other is not None:
            one = one if isinstance(one, Tensor) else Tensor(np.asarray(one))
            assert_equal([one.detach().array], [np.asarray(other)])
            total = total + ((one * one.conj()).real if one.dtype.kind == "c" else one * one).sum()
            squares += product(other, other)
    if squares:
        assert total.requires_grad, "what a vjp gives is outside the graph of what it was given"
        total.backward()
        # Of what is linear in g, the derivative of half the square along g is the square.
        along = sum(product(leaf.grad.array, seed) for leaf, seed in zip(leaves, seeds) if leaf.grad is not None)
        assert abs(along / 2 - squares) <= DIFFERENCE * squares, f"the square is {squares}, by derivatives {along / 2}"


def check_second_derivative(function, arrays):
    """The derivative of the gradients agrees with central differences of the gradients."""

    def gradients(*inputs):
        wanted = [x for x in inputs if isinstance(x, Tensor) and can_require_grad(x.array)]
        for x in wanted:
            x.requires_grad_()  # which differences do not ask for
        values = [value for value in listed(function(*inputs)) if value.requires_grad]
        seeds = [Tensor(weights(value.shape, value.dtype)) for value in values]
        found = pargrad.autograd.grad(values, wanted, seeds, create_graph=True, allow_unused=True)
        # With what was given beside them, a derivative that never arrives is 0, and not left out.
        return (*(each for each in found if each is not None), *(1 * x for x in wanted))

    return check_derivative(gradients, arrays)


def title(argument):
    """An argument as the name of a test: without addresses, so that every process has the same names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(argument))
