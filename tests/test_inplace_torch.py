"""In-place operators and assignment against torch: every form, in graphs, on views and bases, and what is refused."""

import operator

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import operators
from pargrad.tensor import Tensor, apply
from tests.checks import CASES, assert_equal, can_require_grad, draw, listed, run, weights

BOTH = (pg, torch)


def rng(seed=0):
    return np.random.default_rng(seed)


def both(function, arrays, tolerance=None):
    """function(library, *tensors) in both libraries: values and gradients are compared."""
    got, expected = (run(library, lambda *xs, lib=library: function(lib, *xs), arrays) for library in BOTH)
    assert_equal(got[0], expected[0], tolerance)
    assert_equal(got[1], expected[1], tolerance)
    return got


# ----- every method in place -----

OTHER = {  # what is given beside the tensor; the others are given nothing, or one tensor
    "addcdiv": lambda lib, y: (y, y + 2), "addcmul": lambda lib, y: (y, y), "clamp": lambda lib, y: (-0.5, 0.5),
    "clip": lambda lib, y: (0.1, None), "clamp_max": lambda lib, y: (0.5,), "clamp_min": lambda lib, y: (0.5,),
    "cumprod": lambda lib, y: (1,), "cumsum": lambda lib, y: (0,), "lerp": lambda lib, y: (y, 0.25),
    "logit": lambda lib, y: (0.2,), "mvlgamma": lambda lib, y: (2,), "polygamma": lambda lib, y: (1,),
    "round": lambda lib, y: (), "tril": lambda lib, y: (), "triu": lambda lib, y: (1,), "pow": lambda lib, y: (1.5,),
    "ldexp": lambda lib, y: (lib.tensor([1, 2, 3]),),
}  # fmt: skip
TWO = {
    "add", "arctan2", "atan2", "copysign", "div", "divide", "eq", "float_power", "floor_divide", "fmod", "ge",
    "greater", "greater_equal", "gt", "heaviside", "hypot", "igamma", "igammac", "le", "less", "less_equal",
    "logical_and", "logical_or", "logical_xor", "lt", "mul", "multiply", "ne", "nextafter", "not_equal", "remainder",
    "sub", "subtract", "true_divide", "xlogy",
}  # fmt: skip
BITS = [name for name in operators.IN_PLACE if name.startswith("bitwise") or name in ("gcd", "lcm")]
# Of these torch has no derivative by the first argument, or none at all.
CONSTANT = {"igamma", "igammac", "nextafter", "heaviside", "floor_divide"}
CONSTANT |= {"logical_and", "logical_not", "logical_or", "logical_xor"}  # of which torch says that it is 1
# torch has these in place, but not their derivative then.
UNRECORDED = {"acosh", "arccosh", "asinh", "arcsinh", "atanh", "arctanh", "sgn"}
SEVEN_DIGITS = {"digamma": 1e-8, "polygamma": 1e-8}  # of torch's polygamma
DOMAINS = {"acosh": (1.5, 3.0), "arccosh": (1.5, 3.0), "mvlgamma": (2.0, 4.0)}
EVERY = [*(name for name in operators.IN_PLACE if name not in BITS), "polygamma"]


def given(name, library, y):
    return OTHER[name](library, y) if name in OTHER else (y,) if name in TWO else ()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("on", ["the whole", "a view", "a base"])
def test_a_method_in_place(name, on):
    low, high = DOMAINS.get(name, (0.2, 0.9))
    x, y = rng(1).uniform(low, high, (2, 3)), rng(2).uniform(0.2, 0.9, 3)

    def function(library, x, y):
        y = y.detach() if name in CONSTANT else y * 1
        computed = (x.detach() if name in CONSTANT else x) * 1
        view = computed[:, 1:]
        target = view if on == "a view" else computed
        if on == "a view":
            y = y[1:]
            others = given(name, library, y)
            others = (library.tensor([1, 2]),) if name == "ldexp" else others
        else:
            others = given(name, library, y)
        if library is torch and name in UNRECORDED:
            target.copy_(getattr(target.clone(), name)(*others))
        else:
            assert getattr(target, f"{name}_")(*others) is target
        return computed * 2, view * 3, y * 1

    both(function, [x, y], SEVEN_DIGITS.get(name))


def test_bits_in_place():
    for name in BITS:
        others = () if name == "bitwise_not" else ([1, 1, 2],)
        results = [getattr(lib.tensor([5, 6, 7]), f"{name}_")(*map(lib.tensor, others)).tolist() for lib in BOTH]
        assert results[0] == results[1], name


def test_every_name_of_torchs_is_there():
    elementwise = {name[:-1] for name in dir(torch.Tensor) if name.endswith("_") and not name.startswith("_")}
    shapes = {
        "as_strided",
        "squeeze",
        "swapaxes",
        "swapdims",
        "t",
        "transpose",
        "unsqueeze",
    }  # which change the shape, not elements
    lacking = {name for name in elementwise - shapes if name in operators.FUNCTIONS and not hasattr(Tensor, f"{name}_")}
    assert lacking == set()
    assert set(operators.IN_PLACE) <= elementwise


def test_settings_go_along():
    both(lambda lib, x, y: (x * 1).add_(y, alpha=3), [rng().random(3), rng(1).random(3)])
    both(lambda lib, x, y: (x * 1).sub_(y, alpha=0.5), [rng().random(3), rng(1).random(3)])
    both(lambda lib, x, y: (x * 1).addcmul_(x, y, value=2), [rng().random(3), rng(1).random(3)])
    both(lambda lib, x: (x * 1).clamp_(min=0.5), [rng().random(3)])
    both(lambda lib, x: (x * 1).nan_to_num_(nan=2.0), [np.array([1.0, np.nan, np.inf])])
    for lib in BOTH:
        assert lib.tensor([7.0, -7.0]).div_(2, rounding_mode="floor").tolist() == [3.0, -4.0]


@pytest.mark.parametrize("act", [
    lambda x: x.zero_(), lambda x: x.fill_(2.0), lambda x: x.copy_(x.detach()), lambda x: x.eq_(1), lambda x: x.ceil_(),
    lambda x: operator.setitem(x, slice(None), 1.0), lambda x: operator.setitem(x, slice(1), 1.0),
    lambda x: operator.setitem(x, Ellipsis, 1.0), lambda x: x.masked_fill_(x > -9, 0.0),
])  # fmt: skip
def test_what_is_overwritten_by_a_constant_stays_in_the_graph(act):
    found = []
    for lib in BOTH:
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        view = y[:1]
        act(y)
        (y * y + view).sum().backward()
        found.append((y.requires_grad, view.requires_grad, x.grad.tolist(), y.is_leaf))
    assert found[0] == found[1]


def test_detach_in_place():
    for lib in BOTH:
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        assert y.detach_() is y
        assert (y.requires_grad, y.is_leaf, y.grad_fn, x.requires_grad) == (False, True, None, True)
        with pytest.raises(RuntimeError, match="(?i)view"):
            (x * 2)[:1].detach_()


# ----- x[index] = value -----

INDICES = [
    0, -1, slice(1, 3), slice(None), slice(None, None, 2), Ellipsis, None, (), (0, 1), (slice(None), 0), (Ellipsis, 0),
    (0, Ellipsis, 1), (None, 0), (slice(1, None), slice(0, 2)), (slice(None), None, 1), (1, 2, 0),
    np.array([0, 2]), np.array([[0, 1], [3, 2]]), np.array([-1]), (np.array([0, 1]), np.array([2, 1])),
    (np.array([[0], [1]]), np.array([0, 2])), (slice(None), np.array([0, 2])), (np.array([0, 1]), slice(1, 3)),
    (np.array([0, 3]), None, 1), (slice(0, 2), np.array([0, 1]), 1), (Ellipsis, np.array([0, 1])),
    (np.array([0, 1]), slice(None), np.array([0, 1])), np.array([True, False, True, False]),
    (np.array([True, False, True, True]), 0), (slice(None), np.array([True, False, True])), np.array([], np.int64),
    np.zeros(4, bool), rng(3).random((4, 3)) < 0.5, rng(4).random((4, 3, 2)) < 0.5, np.array(2), np.array(True), True,
    False, [0, 2], [True, False, True, True], ([0, 1], [1, 2]),
]  # fmt: skip


def in_library(library, index):
    if isinstance(index, tuple):
        return tuple(in_library(library, part) for part in index)
    return library.tensor(index) if isinstance(index, np.ndarray) else index


def name_of(index):
    return repr(index).replace("\n", "")[:60]


@pytest.mark.parametrize("index", INDICES, ids=name_of)
@pytest.mark.parametrize("value", ["number", "0-d", "full", "row", "leading one", "itself", "constant"])
def test_assignment_inside_a_graph(index, value):
    x = rng().uniform(-1, 1, (4, 3, 2))
    shape = x[index].shape

    def function(library, x, y):
        at = in_library(library, index)
        z = x * 1
        view = z[1:, 0]
        given = {
            "number": lambda: 0.5,
            "0-d": lambda: y.sum(),
            "full": lambda: y * 2,
            "row": lambda: y[-1:] * 2 if y.ndim else y,
            "leading one": lambda: (y * 2)[None],
            "itself": lambda: z[at] * 2,
            "constant": lambda: y.detach(),
        }[value]()
        z[at] = given
        return z * 3, view * 2, y * 1

    if value == "row" and len(shape) and not shape[0]:
        shape = (1, *shape[1:])
    both(function, [x, rng(1).uniform(-1, 1, shape)])


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "complex128"])
@pytest.mark.parametrize("value", [2, 2.5, True, "float32", "int32", "uint8"])
def test_assignment_casts_to_the_tensors_dtype(dtype, value):
    found = []
    for lib in BOTH:
        x = lib.ones(3, dtype=getattr(lib, dtype))
        given = lib.tensor([1, 2], dtype=getattr(lib, value)) if isinstance(value, str) else value
        x[1:] = given
        # Where the index is a tensor, torch wants the dtype to be the same.
        x[lib.tensor([0])] = given[:1] if isinstance(value, str) and lib is pg else 1
        found.append(x.tolist())
    assert found[0] == found[1]


def test_assigned_values_get_gradients_in_their_own_dtype():
    def function(library, x, y):
        z = x * 1
        z[0] = y[0]
        z[library.tensor([1, 2])] = y[1:] if library is pg else y[1:].to(z.dtype)
        z[z < -5] = y[0]
        return z * 2

    both(function, [rng().random(3).astype(np.float32), rng(1).random(3)])
    both(function, [rng().random(3), rng(1).random(3).astype(np.float32)])


def test_an_index_may_change_after_the_assignment():
    def function(library, x, y):
        z, index, mask = x * 1, library.tensor([0, 2]), library.tensor([False, True, False])
        z[index] = y[:2]
        z[mask] = y[2]
        if library is pg:  # an error in torch's backward
            index[:] = 1
            mask[:] = True
        return z * 2

    both(function, [rng().random(3), rng(1).random(3)])


@pytest.mark.parametrize(
    "index", [3, (0, 0, 0, 0), np.array([5]), np.array([True, False]), (0, np.array([7]))], ids=name_of
)
def test_an_assignment_out_of_bounds_is_an_index_error(index):
    for lib in BOTH:
        for x in (lib.zeros(3, 2), lib.zeros(3, 2, requires_grad=True) * 1):
            with pytest.raises(IndexError):
                x[in_library(lib, index)] = 1.0


@pytest.mark.parametrize("index", [slice(None), np.array([0, 1])], ids=name_of)
def test_an_assignment_that_does_not_fit_is_a_runtime_error(index):
    for lib in BOTH:
        for x in (lib.zeros(3, 2), lib.zeros(3, 2, requires_grad=True) * 1):
            before = x.tolist()
            with pytest.raises(RuntimeError):
                x[in_library(lib, index)] = lib.ones(5)
            assert x.tolist() == before


# ----- aliasing, views and bases -----

PROGRAMS = {
    "x[0] += 1": lambda lib, x, y: operator.setitem(x, 0, operator.iadd(x[0], 1)),
    "x[0] *= y": lambda lib, x, y: operator.setitem(x, 0, operator.imul(x[0], y)),
    "x += x": lambda lib, x, y: x.add_(x),
    "x += x[0]": lambda lib, x, y: x.add_(x[0] if lib is pg else x[0].clone()),  # torch refuses the overlap
    "x -= x.mean()": lambda lib, x, y: x.sub_(x.mean()),
    "rows swapped": lambda lib, x, y: x.copy_(x[[1, 0]]),
    "x[1] = x[0]": lambda lib, x, y: operator.setitem(x, 1, x[0]),
    "x[[1, 0]] = x": lambda lib, x, y: operator.setitem(x, [1, 0], x if lib is pg else x.clone()),
    "a column becomes the row's": lambda lib, x, y: operator.setitem(x, (slice(None), 0), y[:2]),
    "a view of a view": lambda lib, x, y: x.T[1:].T[0].mul_(y[:2]),
    "reshaped": lambda lib, x, y: x.reshape(-1)[1::2].add_(y),
    "unsqueezed": lambda lib, x, y: x.unsqueeze(1).mul_(2),
    "diagonal": lambda lib, x, y: x.diagonal().add_(y[:2]),
    "split": lambda lib, x, y: x.narrow(1, 1, 2).mul_(y[1:]),
    "exp_": lambda lib, x, y: x[1].exp_(),
    "twice": lambda lib, x, y: (x[0].add_(y), x[0].mul_(2), x[1].sub_(x[0])),
    "view, base, view": lambda lib, x, y: (x[0].mul_(2), x.add_(1), x[:, 0].mul_(3)),
    "masked": lambda lib, x, y: operator.setitem(x, x > 0, 0.5),
    "scatter_": lambda lib, x, y: x.scatter_(1, lib.tensor([[0], [2]]), 0.25),
    "index_add_": lambda lib, x, y: x.index_add_(0, lib.tensor([1]), y[None]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_views_and_bases_see_what_they_share(name):
    def function(library, x, y):
        base = x * 1.5
        views = [base[0], base[:, 1:], base.T, base.reshape(-1), base.T[1:].T, base.detach()]
        PROGRAMS[name](library, base, y)
        return (base * 2, *(view * (i + 2) for i, view in enumerate(views)), y * 1)

    arrays = [rng().uniform(-1, 1, (2, 3)), rng(1).uniform(-1, 1, 3)]
    got = both(function, arrays)
    assert got[1][0] is not None


COMPLEX = {
    "real": lambda lib, z, w: z.real.mul_(w),
    "imag": lambda lib, z, w: z.imag.add_(w),
    "both": lambda lib, z, w: (z.real.mul_(w), z.imag.mul_(2)),
    "view_as_real": lambda lib, z, w: lib.view_as_real(z)[:, 1].mul_(w),
    "real = ": lambda lib, z, w: z.real.copy_(w),
    "part of the real": lambda lib, z, w: z.real[1:].mul_(w[1:]),
    "itself": lambda lib, z, w: z.mul_(w * 1j),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_parts_of_complex_numbers_are_views(name):
    def function(library, z, w):
        base = z * 1
        COMPLEX[name](library, base, w)
        return base * base.conj() * (1 + 2j)

    z = rng().uniform(-1, 1, 3) + 1j * rng(1).uniform(-1, 1, 3)
    both(function, [z, rng(2).uniform(-1, 1, 3)])


def test_a_real_base_seen_as_complex():
    def function(library, x, w):
        base = x * 1
        library.view_as_complex(base)[1:].mul_(w * (2 + 1j))
        return base * base

    both(function, [rng().uniform(-1, 1, (3, 2)), rng(2).uniform(-1, 1, 2)])


@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_a_view_is_found_in_any_memory_layout(order):
    array = rng().uniform(-1, 1, (3, 4))
    array = np.repeat(array, 2, axis=1)[:, ::2] if order == "strided" else np.array(array, order=order)
    x, y = pg.tensor([2.0, 3.0, 4.0], dtype=pg.float64, requires_grad=True), pg.from_numpy(array)
    values = array.copy()
    y.T[1].mul_(x)
    y.T.T[0, :2].mul_(x[:2])
    (y * y).sum().backward()
    values[0, :2] *= 1
    expected = 2 * np.array([2.0, 3.0, 4.0]) * values[:, 1] ** 2
    first, second = values[0, 0] ** 2, values[0, 1] ** 2
    # y[0, 0] = v x0, y[0, 1] = v x0 x1, y[i, 1] = v xi
    expected[0] = first * 2 * 2.0 + second * 2 * 2.0 * 9.0
    expected[1] += second * 4.0 * 2 * 3.0
    np.testing.assert_allclose(x.grad.numpy(), expected)


def test_a_parameter_that_takes_in_a_constant_base():
    def function(library, x):
        if library is torch:  # which takes the second row for a leaf
            return library.stack([x + 1, x]) * 2, (x + 1) * 3, x[None] * 4
        total = library.zeros(2, 3, dtype=library.float64)
        rows = total[0], total[1:]
        rows[0].add_(x)
        total += 1
        rows[1].mul_(x)
        return total * 2, rows[0] * 3, rows[1] * 4

    both(function, [rng().uniform(-1, 1, 3)])


def test_views_that_are_dead_are_forgotten():
    y = pg.ones(3, requires_grad=True) * 1
    for _ in range(1000):
        y[0]
    assert len(y.cell[1]) < 50
    view = y[1:]
    y.mul_(2)
    assert view.tolist() == [2.0, 2.0]
    view.sum().backward()


def test_a_retained_gradient_is_that_of_the_new_value():
    for lib in BOTH:
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        y.retain_grad()
        y.mul_(3)
        (y * y).sum().backward()
        assert (y.retains_grad, y.grad.tolist(), x.grad.tolist()) == (True, [12.0, 24.0], [72.0, 144.0])


def test_a_hook_sees_the_gradient_of_the_value_it_was_put_on():
    for lib in BOTH:
        seen = []
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        y.register_hook(lambda g: seen.append(g.tolist()))  # noqa: B023
        y.mul_(3)
        y.register_hook(lambda g: seen.append(g.tolist()))  # noqa: B023
        (y * y).sum().backward()
        assert seen == [[12.0, 24.0], [36.0, 72.0]]


def test_a_constant_over_one_of_several_outputs_stays_in_the_graph():
    for lib in BOTH:

        class Two(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2, x * 3

            @staticmethod
            def backward(ctx, g, h):
                return 2 * g + 3 * h

        x = lib.tensor([3.0, 1.0], requires_grad=True)
        first, second = Two.apply(x)
        second.fill_(2.0)
        (first.sum() + second.sum()).backward()
        assert x.grad.tolist() == [2.0, 2.0]
        x.grad = None
        values, _ = lib.sort(x)
        values.fill_(2.0)
        values.sum().backward()
        assert x.grad.tolist() == [0.0, 0.0]


# ----- what is refused -----

LEAVES = {
    "+=": lambda lib, x: operator.iadd(x, 1),
    "mul_": lambda lib, x: x.mul_(2),
    "zero_": lambda lib, x: x.zero_(),
    "copy_": lambda lib, x: x.copy_(x.detach()),
    "x[0] = 1": lambda lib, x: operator.setitem(x, 0, 1.0),
    "x[[0]] = 1": lambda lib, x: operator.setitem(x, [0], 1.0),
    "x[mask] = 1": lambda lib, x: operator.setitem(x, x.detach() > 0, 1.0),
    "x[0] += 1": lambda lib, x: operator.iadd(x[0], 1),
    "x.T[0].exp_()": lambda lib, x: x.T[0].exp_(),
    "x.view(-1).zero_()": lambda lib, x: x.view(-1).zero_(),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_is_changed_within_no_grad_alone(name):
    for lib in BOTH:
        x = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        with pytest.raises(RuntimeError, match="leaf"):
            LEAVES[name](lib, x)
        assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert x._version == 0
        with lib.no_grad():
            LEAVES[name](lib, x)
        assert (x.is_leaf, x.requires_grad, x._version > 0) == (True, True, True)
        LEAVES[name](lib, x.detach())


def test_a_view_that_became_a_leaf_is_one():
    for lib in BOTH:
        x = lib.zeros(3)
        view = x[1:]
        view.requires_grad_()
        with pytest.raises(RuntimeError, match="leaf"):
            view += 1
        x += 1
        assert (view.requires_grad, view.is_leaf, view.tolist()) == (True, True, [1.0, 1.0])


VERSIONS = {
    "mul": (lambda x, y: x * y, lambda x, y: y.add_(1)),
    "exp": (lambda x, y: x.exp().mul(1), lambda x, y: None),
    "div": (lambda x, y: x / y, lambda x, y: y.zero_()),
    "matmul": (lambda x, y: x @ y, lambda x, y: operator.setitem(x, 0, 1.0)),
    "sin": (lambda x, y: x.sin(), lambda x, y: x.cos_()),
    "pow": (lambda x, y: x**2, lambda x, y: x[1:].mul_(2)),
    "of a view": (lambda x, y: x[:1] * y[:1], lambda x, y: x[1:].mul_(2)),
    "of a base": (lambda x, y: x * y, lambda x, y: x[1:].mul_(2)),
    "detached": (lambda x, y: x * y, lambda x, y: x.detach().mul_(2)),
    "sum": (lambda x, y: x.sum() + y.mean(), lambda x, y: (x.mul_(2), y.zero_())),
    "add": (lambda x, y: x + y, lambda x, y: (x.mul_(2), y.zero_())),
    "norm": (lambda x, y: x.norm(), lambda x, y: x.mul_(2)),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_what_was_saved_and_overwritten_is_an_error_where_it_is_one_in_torch(name):
    compute, change = VERSIONS[name]
    errors = []
    for lib in BOTH:
        x, y = (lib.tensor(values, requires_grad=True) * 1 for values in ([0.5, 1.5], [2.0, 4.0]))
        out = compute(x, y)
        change(x, y)
        try:
            out.sum().backward()
            errors.append(None)
        except RuntimeError as error:
            errors.append(str(error))
    assert (errors[0] is None) == (errors[1] is None)
    if errors[0]:
        assert "saved its argument" in errors[0]
        assert "write that operator out of place" in errors[0]


DIFFERENTIABLE = [case for case in CASES if case[1].differentiable]


@pytest.mark.parametrize(
    ("rule", "sample"), [row[1:] for row in DIFFERENTIABLE], ids=[row[0] for row in DIFFERENTIABLE]
)
def test_second_derivatives_notice_a_change_too(rule, sample):
    """With an argument overwritten after the call, the derivative of the gradient is what it was, or an error."""
    arrays = draw(rule, sample)

    def attempt(overwritten):
        leaves = [
            Tensor(x.copy(), can_require_grad(x) and i not in rule.fixed) if isinstance(x, np.ndarray) else x
            for i, x in enumerate(arrays)
        ]
        inputs = [x.clone() if isinstance(x, Tensor) else x for x in leaves]
        values = [out for out in listed(apply(rule, *inputs, **sample.settings)) if out.requires_grad]
        wanted = [x for x in leaves if isinstance(x, Tensor) and x.requires_grad]
        if not values or not wanted:
            return []
        if overwritten is not None:
            inputs[overwritten].mul_(1.25).add_(0.0625)
        seeds = [Tensor(weights(value.shape, value.dtype)) for value in values]
        first = pg.autograd.grad(values, wanted, seeds, create_graph=True, allow_unused=True)
        first = [each for each in first if each is not None and each.requires_grad]
        if not first:
            return []
        seeds = [Tensor(weights(each.shape, each.dtype)) for each in first]
        second = pg.autograd.grad(first, wanted, seeds, allow_unused=True)
        return [None if each is None else each.array for each in second]

    expected = attempt(None)
    for i, x in enumerate(arrays):
        if can_require_grad(x) and i not in rule.fixed:
            try:
                got = attempt(i)
            except RuntimeError as error:
                assert " saved " in str(error)  # noqa: PT017
            else:
                assert_equal(got, expected)


def test_inference_tensors_stay_outside():
    for lib in BOTH:
        x = lib.ones(2)
        with lib.inference_mode():
            made = x * 2
            made += 1
            made[0] = 5.0
            assert made.tolist() == [5.0, 3.0]
            x.mul_(3)
            view = x[:1]
        assert x.tolist() == [3.0, 3.0]
        view += 1  # of a normal tensor, and so one itself
        assert x.tolist() == [4.0, 3.0]
        with pytest.raises(RuntimeError, match="(?i)inference"):
            made += 1
        with pytest.raises(RuntimeError, match="(?i)inference"):
            made[0] = 1.0
        with pytest.raises(RuntimeError, match="(?i)inference"):
            (lib.ones(2, requires_grad=True) * made).sum().backward()
        if lib is pg:  # torch changes it and then complains
            assert made.tolist() == [5.0, 3.0]
        assert (lib.ones(2, requires_grad=True) + made).requires_grad
        assert (lib.ones(2, requires_grad=True) * made.clone()).requires_grad


def test_a_method_takes_no_text():
    with pytest.raises(TypeError, match="got str"):
        pg.ones(2).add_("a")


def test_a_name_of_a_rule_in_an_error():
    x = pg.tensor([1.0], requires_grad=True) * 1
    y = x * x
    x.sqrt_()
    with pytest.raises(
        RuntimeError, match=r"^mul saved its argument . for backward, and an in-place operator has changed it since"
    ):
        y.backward()
