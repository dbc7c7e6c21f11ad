"""Operators of one's own, `autograd.Function`, against torch; and that graphs are freed without looking for cycles."""

import gc
import weakref

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import autograd  # noqa: F401
from pargrad.utils.checkpoint import checkpoint
from tests.both import BOTH, leaf, plain, same


def functions(lib):
    """The same Functions in either library."""

    class Old(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x, y, power):
            ctx.save_for_backward(x, y)
            ctx.power = power
            return x**power * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            of_x = g * ctx.power * x ** (ctx.power - 1) * y if ctx.needs_input_grad[0] else None
            return of_x, g * x**ctx.power, None

    class New(lib.autograd.Function):
        @staticmethod
        def forward(x, y):
            return x * y, x + y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, of_product, of_sum):
            x, y = ctx.saved_tensors
            return of_product * y + of_sum, of_product * x + of_sum

    class Exp(lib.autograd.Function):
        """Saves its output."""

        @staticmethod
        def forward(ctx, x):
            out = x.exp()
            ctx.save_for_backward(out)
            return out

        @staticmethod
        def backward(ctx, g):
            (out,) = ctx.saved_tensors
            return g * out

    class Top(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            values, indices = x.sort()
            ctx.mark_non_differentiable(indices)
            ctx.save_for_backward(indices)
            return values, indices

        @staticmethod
        def backward(ctx, g, _):
            (indices,) = ctx.saved_tensors
            return lib.zeros(3, dtype=lib.float64).scatter_add(0, indices, g)

    class Mask(lib.autograd.Function):
        """A float output without a derivative."""

        @staticmethod
        def forward(ctx, x):
            mask = (x > 0).double()
            ctx.mark_non_differentiable(mask)
            return x * 2, mask

        @staticmethod
        def backward(ctx, g, of_mask):
            assert of_mask.tolist() == [0.0] * 3
            return g * 2

    class Reverse(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return -g

    class Once(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @lib.autograd.function.once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return lib.tensor((2 * g * x).numpy())

    class Unmaterialized(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, first, second):
            return (first is None, second is None) and (0 if first is None else first * 2) + (
                0 if second is None else second * 3
            )

    class Silent(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return None

    class Twice(lib.autograd.Function):
        """One array as the gradient of both."""

        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            out = g * 2
            return out, out

    class Kept(lib.autograd.Function):
        """Its gradient is what it saved."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x * x).sum() / 2

        @staticmethod
        def backward(ctx, g):
            return ctx.saved_tensors[0]

    found = [Old, New, Exp, Top, Mask, Reverse, Once, Unmaterialized, Silent, Twice, Kept]
    return {each.__name__: each for each in found}


MINE, THEIRS = functions(pg), functions(torch)


def get(lib, name):
    return (MINE if lib is pg else THEIRS)[name].apply


def old_style(lib):
    x, y = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    out = get(lib, "Old")(x, y, 3)
    out.sum().backward()
    return out, x.grad, y.grad


def needed_alone(lib):
    x, y = leaf(lib).detach(), leaf(lib)
    get(lib, "Old")(x, y, 2).sum().backward()
    return x.grad is None, y.grad


def new_style(lib):
    x, y = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    product, total = get(lib, "New")(x, y)
    (product * total).sum().backward()
    return x.grad, y.grad


def one_of_two_outputs(lib):
    x, y = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    get(lib, "New")(x, y)[1].sum().backward()
    return x.grad, y.grad


def saved_output(lib):
    x = leaf(lib)
    out = get(lib, "Exp")(x)
    return lib.autograd.grad(out.sum(), x)


def second_derivative(lib):
    x, y = leaf(lib), leaf(lib, [1.0, 2.0, 4.0])
    first = lib.autograd.grad(get(lib, "Old")(x, y, 3).sum(), [x, y], create_graph=True)
    return first, lib.autograd.grad(sum((g * g).sum() for g in first), [x, y])


def third_derivative_through_the_output(lib):
    x = leaf(lib)
    out = get(lib, "Exp")(x * 2).sum()
    for _ in range(3):
        (out,) = lib.autograd.grad(out, x, create_graph=True)
        found, out = out, out.sum()
    return found


def non_differentiable(lib):
    x = leaf(lib)
    values, indices = get(lib, "Top")(x)
    (values * lib.tensor([1.0, 10.0, 100.0], dtype=lib.float64)).sum().backward()
    return x.grad, indices.requires_grad, values.requires_grad


def non_differentiable_float(lib):
    x = leaf(lib)
    doubled, mask = get(lib, "Mask")(x)
    (doubled * mask).sum().backward()
    return x.grad, mask.requires_grad


def returned_input(lib):
    x = leaf(lib)
    y = x * 2
    out = get(lib, "Reverse")(y)
    out.sum().backward()
    return out is y, x.grad, get(lib, "Reverse")(x).requires_grad


def once(lib):
    x = leaf(lib)
    return lib.autograd.grad(get(lib, "Once")(x).sum(), x)


def once_twice(lib):
    x = leaf(lib)
    (g,) = lib.autograd.grad(get(lib, "Once")(x).sum(), x, create_graph=True)
    return lib.autograd.grad(g.sum(), x)


def unmaterialized(lib):
    x = leaf(lib)
    get(lib, "Unmaterialized")(x)[1].sum().backward()
    return x.grad


def silent(lib):
    x = leaf(lib)
    get(lib, "Silent")(x).sum().backward()
    return x.grad is None


def silent_on_the_way(lib):
    """A path that gives nothing does not keep the others' gradient from the leaf."""
    x = leaf(lib)
    (get(lib, "Silent")(x * 2) + x * 3).sum().backward()
    return x.grad


def silent_on_the_way_in_grad(lib):
    x = leaf(lib)
    y = x * 2
    return lib.autograd.grad((get(lib, "Silent")(y) + x * 3).sum(), [x, y], allow_unused=True)


def one_array_for_two(lib):
    x, y = leaf(lib), leaf(lib)
    out = (x * 1, y * 1)
    (out[0] * 10 + get(lib, "Twice")(*out)).sum().backward()
    x.grad.add_(5)
    (get(lib, "Twice")(x, y) + x * 10).sum().backward()
    (x * 10 + get(lib, "Twice")(x, y)).sum().backward()
    return x.grad, y.grad


def a_saved_array_as_gradient(lib):
    x = leaf(lib)
    for _ in range(2):
        (x.sum() + get(lib, "Kept")(x)).backward()
        (get(lib, "Kept")(x) + x.sum()).backward()
    get(lib, "Kept")(x).backward()
    x.grad.mul_(0)
    return x


def version_of_what_it_saved(lib):
    x = leaf(lib) * 1
    out = get(lib, "Old")(x, x, 2)
    x.add_(1)
    out.sum().backward()


def version_of_its_output(lib):
    out = get(lib, "Exp")(leaf(lib))
    out.add_(1)
    out.sum().backward()


def without_graph(lib):
    with lib.no_grad():
        out = get(lib, "Old")(leaf(lib), leaf(lib), 2)
    plain_input = get(lib, "Old")(lib.ones(3), lib.ones(3), 2)
    return out.requires_grad, out, plain_input.requires_grad


def hooks_and_names(lib):
    x = leaf(lib)
    out = get(lib, "Exp")(x)
    out.register_hook(lambda g: g * 3)
    out.retain_grad()
    out.sum().backward()
    return out.grad, x.grad, out.grad_fn.name()


def freed(lib):
    x = leaf(lib)
    out = get(lib, "Exp")(x).sum()
    out.backward()
    out.backward()


def in_float32(lib):
    x = leaf(lib, dtype="float32")
    out = get(lib, "Exp")(x)
    out.sum().backward()
    return str(out.dtype).rpartition(".")[2], str(x.grad.dtype).rpartition(".")[2]


def in_func_and_vmap(lib):
    x = lib.tensor([0.5, -1.0], dtype=lib.float64)
    return lib.func.grad(lambda x: (get(lib, "New")(x, x * 2)[0]).sum())(x)


ACTS = [
    old_style, needed_alone, new_style, one_of_two_outputs, saved_output, second_derivative,
    third_derivative_through_the_output, non_differentiable, non_differentiable_float, returned_input, once, once_twice,
    unmaterialized, silent, silent_on_the_way, silent_on_the_way_in_grad, one_array_for_two, a_saved_array_as_gradient,
    version_of_what_it_saved, version_of_its_output, without_graph, hooks_and_names, freed, in_float32,
    in_func_and_vmap,
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_function_of_ones_own(act):
    same(act)


# ----- wrong use -----


def wrong(lib, forward=lambda ctx, x: x * 2, backward=lambda ctx, g: g):
    wrong = type(
        "Wrong", (lib.autograd.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    )
    return wrong.apply


WRONG = {
    "too few": {"forward": lambda ctx, x, y: x * y, "backward": lambda ctx, g: g},
    "too many": {"backward": lambda ctx, g: (g, g)},
    "another shape": {"backward": lambda ctx, g: g[:2]},
    "no tensor saved": {"forward": lambda ctx, x: (ctx.save_for_backward("text"), x * 2)[1]},
    "raises": {"backward": lambda ctx, g: [][1]},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_an_error_in_both(name):
    for lib in BOTH:
        x = leaf(lib)
        given = (x, x) if name == "too few" else (x,)
        with pytest.raises((RuntimeError, TypeError, IndexError)):
            wrong(lib, **WRONG[name])(*given).sum().backward()


def test_errors_say_what_to_write():
    x = leaf(pg)
    with pytest.raises(RuntimeError, match=r"Wrong.backward returned 1 gradients, expected .* the 2 inputs"):
        wrong(pg, **WRONG["too few"])(x, x).sum().backward()
    with pytest.raises(RuntimeError, match=r"a gradient of shape \(2,\) for input 0, expected \(3,\)"):
        wrong(pg, **WRONG["another shape"])(x).sum().backward()
    with pytest.raises(TypeError, match=r"call Exp.apply\(...\)"):
        MINE["Exp"]()
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once_twice(pg)


def test_nones_too_many_are_dropped():
    for lib in BOTH:
        x = leaf(lib)
        wrong(lib, backward=lambda ctx, g: (g, None, None))(x).sum().backward()
        assert plain(x.grad) == [1.0] * 3


def test_a_gradient_that_broadcasts_is_summed():
    for lib in BOTH:
        x = lib.tensor([2.0], dtype=lib.float64, requires_grad=True)
        wrong(lib, lambda ctx, x: x.expand(3) * 1)(x).sum().backward()
        assert plain(x.grad) == [3.0]


# ----- memory -----


def of_rules(x):
    return (x * 2).tanh().softmax(0)


def of_two(x):
    values, _ = x.sort()
    return values


def of_in_place(x):
    y = x * 2
    view = y[1:]
    view.mul_(3)
    y.exp_()
    return view + y[:2]


MEMORY = {
    "rules": of_rules,
    "several outputs": of_two,
    "in place": of_in_place,
    "Function": lambda x: MINE["Exp"].apply(x * 2),
    "Function of two": lambda x: MINE["New"].apply(x, x * 2)[0],
    "Function that keeps its input": lambda x: MINE["Old"].apply(x * 2, x, 2),
    "checkpoint": lambda x: checkpoint(lambda x: (x * 2).exp(), x),
    "hooks": lambda x: hooked(x * 2),
    "retained": lambda x: retained(x * 2),
}


def hooked(x):
    x.register_hook(lambda g: g * 2)
    return x.exp()


def retained(x):
    x.retain_grad()
    return x.exp()


@pytest.mark.parametrize("name", MEMORY)
@pytest.mark.parametrize("end", ["dropped", "backward", "grad", "grad of grad"])
def test_a_graph_is_freed_without_the_garbage_collector(name, end):
    gc.collect()
    gc.disable()
    try:
        x = leaf(pg)
        y = x * 1
        inner = weakref.ref(y)
        node = weakref.ref(y.grad_fn)
        out = MEMORY[name](y)
        last = weakref.ref(out.grad_fn)
        del y
        if end == "backward":
            out.sum().backward()
        elif end == "grad":
            pg.autograd.grad(out.sum(), x)
        elif end == "grad of grad":
            (g,) = pg.autograd.grad((out * out).sum(), x, create_graph=True)
            pg.autograd.grad((g * g).sum(), x)
            del g
        del out
        assert (inner(), node(), last()) == (None, None, None)
    finally:
        gc.enable()


def test_what_a_function_saved_is_let_go_by_backward():
    x = leaf(pg)
    y = x * 2
    kept = weakref.ref(y.array)
    out = MINE["Old"].apply(y, x, 2).sum()
    del y
    assert kept() is not None
    out.backward()
    assert kept() is None
    assert np.isfinite(out.item())
