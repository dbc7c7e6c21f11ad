"""Backward walks against torch: grad, backward, and their options."""

import pytest

from tests.both import leaf, same

# ----- grad -----


def intermediate(lib):
    x = leaf(lib)
    y = x * 2
    z = (y * y).sum()
    return lib.autograd.grad(z, [x, y])


def beyond_intermediate(lib):
    """The gradient of a tensor is that of all paths, of which some go on past another wanted one."""
    x = leaf(lib)
    y = x * 2
    z = y.exp()
    out = (z * y).sum() + x.sum()
    return lib.autograd.grad(out, [z, y, x])


def root_is_input(lib):
    x = leaf(lib)
    y = x * 3
    seed = lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64)
    return lib.autograd.grad([y, x], [y, x], [seed, seed])


def same_root_twice(lib):
    x = leaf(lib)
    y = (x * x).sum()
    return lib.autograd.grad([y, y, y * 2], x)


def input_twice(lib):
    x = leaf(lib)
    return lib.autograd.grad((x * x).sum(), [x, x])


def several_outputs_of_one_operator(lib):
    x = leaf(lib)
    values, _ = x.sort()
    top, _ = (x * 2).max(0)
    return lib.autograd.grad([values, top], x, [lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64), None])


def one_output_of_several(lib):
    a = lib.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=lib.float64, requires_grad=True)
    values, _vectors = lib.linalg.eigh(a)
    (first,) = lib.autograd.grad(values[0], a, retain_graph=True)
    return first.sum().round(decimals=9), values.sum()


def dot_grad_is_left_alone(lib):
    x = leaf(lib)
    (found,) = lib.autograd.grad((x * x).sum(), x)
    return found, x.grad is None, found.requires_grad


def unused(lib, **named):
    x, y = leaf(lib), leaf(lib)
    return lib.autograd.grad(x.sum(), [x, y], **named)


def unused_intermediate(lib):
    x = leaf(lib)
    y = x * 2
    return lib.autograd.grad(x.sum(), [y], allow_unused=True)


def no_root(lib):
    return lib.autograd.grad(lib.ones(()), leaf(lib))


def no_input_graph(lib):
    return lib.autograd.grad(leaf(lib).sum(), lib.ones(3))


def several_without_gradients(lib):
    x = leaf(lib)
    return lib.autograd.grad([x * 2, x.sum()], x)


def tuple_of_seeds(lib):
    x = leaf(lib)
    return lib.autograd.grad((x * 2, x.sum()), (x,), (lib.ones(3, dtype=lib.float64), None))


def wrong_seed(lib):
    x = leaf(lib)
    return lib.autograd.grad(x * 2, x, lib.ones(2))


def batched(lib):
    x = leaf(lib)
    seeds = lib.eye(3, dtype=lib.float64)
    return lib.autograd.grad(x * x, x, seeds, is_grads_batched=True)


def batched_pairs(lib):
    x, y = leaf(lib), leaf(lib)
    seeds = [lib.eye(3, dtype=lib.float64), lib.ones(3, dtype=lib.float64)]
    return lib.autograd.grad([x * x * y, (y * y).sum()], [x, y], seeds, is_grads_batched=True)


def batched_twice(lib):
    x = leaf(lib)
    seeds = lib.eye(3, dtype=lib.float64)
    (jacobian,) = lib.autograd.grad(x * x * x, x, seeds, is_grads_batched=True, create_graph=True)
    return lib.autograd.grad(jacobian.sum(), x)


def retained(lib):
    x = leaf(lib)
    y = x.exp().sum()
    first = lib.autograd.grad(y, x, retain_graph=True)
    return first, lib.autograd.grad(y, x)


def not_retained(lib):
    x = leaf(lib)
    y = x.exp().sum()
    lib.autograd.grad(y, x)
    return lib.autograd.grad(y, x)


def retained_by_create_graph(lib):
    x = leaf(lib)
    y = x.exp().sum()
    y.backward(create_graph=True)
    y.backward()
    return x.grad


def half_freed(lib):
    """What does not lead to the input is not walked, and not freed."""
    x, y = leaf(lib), leaf(lib)
    left, right = x.exp(), y.exp()
    out = (left * 2).sum() + (right * 2).sum()
    lib.autograd.grad(out, x)
    return lib.autograd.grad(right.sum(), y)


def within_no_grad(lib):
    x = leaf(lib)
    y = (x**3).sum()
    with lib.no_grad():
        (first,) = lib.autograd.grad(y, x, create_graph=True)
    return lib.autograd.grad(first.sum(), x)


def unused_in_the_second(lib):
    x, y = leaf(lib), leaf(lib)
    first = lib.autograd.grad((x * 2 + y * y).sum(), [x, y], create_graph=True)
    return lib.autograd.grad(first[1].sum(), [x, y], allow_unused=True), first[0].requires_grad


def materialized_in_the_second(lib):
    x = leaf(lib)
    (first,) = lib.autograd.grad((x * 2).sum() + 0 * (x * x).sum(), x, create_graph=True)
    return lib.autograd.grad(first.sum(), x, materialize_grads=True)


def a_seed_with_a_graph(lib):
    x, v = leaf(lib), leaf(lib)
    (first,) = lib.autograd.grad(x.sin(), x, v, create_graph=True)
    return lib.autograd.grad(first.sum(), [x, v])


def double_backward_trick(lib):
    x, v = leaf(lib), lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64)
    u = lib.zeros(3, dtype=lib.float64, requires_grad=True)
    (g,) = lib.autograd.grad(x.exp(), x, u, create_graph=True)
    return lib.autograd.grad(g, u, v)


GRADS = [
    intermediate, beyond_intermediate, root_is_input, same_root_twice, input_twice, several_outputs_of_one_operator,
    one_output_of_several, dot_grad_is_left_alone, unused, unused_intermediate, no_root, no_input_graph,
    several_without_gradients, tuple_of_seeds, wrong_seed, batched, batched_pairs, batched_twice,
    retained, not_retained, retained_by_create_graph, half_freed, within_no_grad, unused_in_the_second,
    materialized_in_the_second, a_seed_with_a_graph, double_backward_trick,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("act", GRADS, ids=lambda act: act.__name__)
def test_grad(act):
    same(act)


def test_unused_inputs_are_an_error_none_or_zeros():
    assert same(unused)[0] == "error"
    assert same(lambda lib: unused(lib, allow_unused=True)) == [[1.0] * 3, None]
    assert same(lambda lib: unused(lib, materialize_grads=True)) == [[1.0] * 3, [0.0] * 3]
    assert same(lambda lib: unused(lib, allow_unused=True, materialize_grads=True)) == [[1.0] * 3, [0.0] * 3]
    assert same(lambda lib: unused(lib, allow_unused=False, materialize_grads=True))[0] == "error"


# ----- backward -----


def into_inputs(lib):
    x, y = leaf(lib), leaf(lib)
    z = x * y
    (z * z).sum().backward(inputs=[x, z])
    return x.grad, z.grad, y.grad is None


def into_one_input(lib):
    x, y = leaf(lib), leaf(lib)
    (x * y).sum().backward(inputs=x)
    return x.grad, y.grad is None


def into_a_retained_one(lib):
    x = leaf(lib)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward(inputs=[y])
    return y.grad, x.grad is None


def into_nothing(lib):
    leaf(lib).sum().backward(inputs=[])


def into_what_is_no_part(lib):
    x, y = leaf(lib), leaf(lib)
    x.sum().backward(inputs=[x, y])
    return x.grad, y.grad is None


def of_several(lib):
    x = leaf(lib)
    lib.autograd.backward([x.sum(), x * 2], [None, lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64)])
    return x.grad


def of_several_that_share(lib):
    x = leaf(lib)
    y = x.exp()
    lib.autograd.backward([y.sum(), (y * x).sum(), y.mean()])
    return x.grad


def twice_with_graph(lib):
    x = leaf(lib)
    (x * x).sum().backward(create_graph=True)
    (x.grad * x.grad).sum().backward()
    return x.grad


def graph_then_none(lib):
    """The second walk, which records nothing, adds to the gradient that has a graph."""
    x = leaf(lib)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    (x * 2).sum().backward()
    return x.grad, first is x.grad


def graph_then_graph(lib):
    x = leaf(lib)
    (x**3).sum().backward(create_graph=True)
    (x**2).sum().backward(create_graph=True)
    total = x.grad
    return lib.autograd.grad(total.sum(), x)


def gradients_of_their_own(lib):
    """With create_graph, too, a gradient is nobody else's."""
    x, y, seed = leaf(lib), leaf(lib), lib.ones(3, dtype=lib.float64)
    (x + y).backward(seed, create_graph=True)
    with lib.no_grad():
        x.grad *= 5
    return x.grad, y.grad, seed


def inside_no_grad(lib):
    x = leaf(lib)
    y = (x * x).sum()
    with lib.no_grad():
        y.backward()
    return x.grad, x.grad.requires_grad


def zero_dimensional_and_empty(lib):
    x, e = leaf(lib, 2.0), lib.zeros(0, 3, dtype=lib.float64, requires_grad=True)
    (x * x + (e * x).sum()).backward()
    return x.grad, e.grad, list(e.grad.shape)


def dtype_of_leaf(lib):
    x, y = leaf(lib, dtype="float32"), leaf(lib)
    (x * y).sum().backward()
    return str(x.grad.dtype).removeprefix("torch."), str(y.grad.dtype).removeprefix("torch.")


def seed_cast(lib):
    x = leaf(lib, dtype="float32")
    (x * 2).backward(lib.ones(3, dtype=lib.float32) * 3)
    return x.grad


def complex_loss(lib):
    z = lib.tensor([1 + 2j, -1j], requires_grad=True)
    (z * z).sum().backward()


def complex_seed(lib):
    z = lib.tensor([1 + 2j, -1j], requires_grad=True)
    (z * z).backward(lib.tensor([1j, 2 + 0j]))
    return z.grad


def real_of_complex(lib):
    x, z = leaf(lib, [1.0, 2.0]), lib.tensor([1 + 2j, -1j], dtype=lib.complex128, requires_grad=True)
    (x * z * z.conj() * (1 + 1j)).imag.sum().backward()
    return x.grad, z.grad


BACKWARDS = [
    into_inputs, into_one_input, into_a_retained_one, into_nothing, into_what_is_no_part, of_several,
    of_several_that_share, twice_with_graph, graph_then_none, graph_then_graph, gradients_of_their_own, inside_no_grad,
    zero_dimensional_and_empty, dtype_of_leaf, seed_cast, complex_loss, complex_seed, real_of_complex,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize("act", BACKWARDS, ids=lambda act: act.__name__)
def test_backward(act):
    same(act)
