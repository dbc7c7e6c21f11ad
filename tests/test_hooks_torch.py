"""Hooks, modes, anomalies and graphs that are looked at, against torch."""

import re

import pytest

import pargrad as pg
from tests.both import BOTH, leaf, plain, same

# ----- hooks -----


def hooks_in_order(lib):
    x = leaf(lib)
    x.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    return x.grad


def hook_on_the_whole(lib):
    """A hook is called once, with the sum over all uses."""
    x, seen = leaf(lib), []
    y = x * 1
    y.register_hook(lambda g: seen.append(plain(g)))
    x.register_hook(lambda g: seen.append(plain(g)))
    (y * 2 + y * 3 + y.sum() + x).sum().backward()
    return seen


def hook_on_non_leaf(lib):
    x = leaf(lib)
    y = x * 2
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    return x.grad


def hook_on_root(lib):
    x, y = leaf(lib, 1.0), leaf(lib, 2.0)
    z = x * y
    z.register_hook(lambda g: g * 5)
    z.backward()
    y.register_hook(lambda g: g * 7)
    y.backward()
    return x.grad, y.grad


def hook_of_one_output(lib):
    x = leaf(lib)
    values, _indices = x.sort()
    values.register_hook(lambda g: g * 2)
    values.sum().backward()
    return x.grad


def hook_removed(lib):
    x = leaf(lib)
    handle = x.register_hook(lambda g: g * 10)
    (x * 2).sum().backward()
    handle.remove()
    handle.remove()
    (x * 2).sum().backward()
    y = x * 2
    with y.register_hook(lambda g: g * 100):
        y.sum().backward()
    return x.grad


def hook_that_removes_itself(lib):
    x = leaf(lib)
    handles = []

    def hook(g):
        handles[0].remove()
        return g * 10

    handles.append(x.register_hook(hook))
    for _ in range(2):
        (x * 2).sum().backward()
    return x.grad


def hook_of_wrong_shape(lib):
    x = leaf(lib)
    x.register_hook(lambda g: g[:1])
    x.sum().backward()


def hook_of_wrong_dtype(lib):
    x = leaf(lib)
    x.register_hook(lambda g: g.float())
    x.sum().backward()


def hook_without_gradient(lib):
    lib.ones(2).register_hook(lambda g: g)


def hook_raises(lib):
    x = leaf(lib)
    x.register_hook(lambda g: {}["missing"])
    try:
        x.sum().backward()
    except KeyError as error:
        return str(error), x.grad is None


def hook_in_grad(lib):
    x = leaf(lib)
    y = x * 2
    x.register_hook(lambda g: g * 3)
    y.register_hook(lambda g: g * 5)
    # With both at once torch gives that of y as it was before the hook.
    return lib.autograd.grad((y * y).sum(), x, retain_graph=True), lib.autograd.grad((y * y).sum(), y)


def hook_with_graph(lib):
    x = leaf(lib)
    x.register_hook(lambda g: g * g)
    (g,) = lib.autograd.grad((x * x).sum(), x, create_graph=True)
    return g, g.requires_grad, *lib.autograd.grad(g.sum(), x)


def modes_of_hooks(lib):
    x, seen = leaf(lib), []
    x.register_hook(lambda g: seen.append((lib.is_grad_enabled(), g.requires_grad)))
    (x * x).sum().backward()
    lib.autograd.grad((x * x).sum(), x, create_graph=True)
    return seen


def retained_gradient(lib):
    x = leaf(lib)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    z = y * y
    z.register_hook(lambda g: g * 10)
    z.retain_grad()
    z.sum().backward(retain_graph=True)
    z.sum().backward()
    return y.grad, z.grad, x.grad, y.retains_grad, x.retains_grad, y.is_leaf


def retained_by_a_leaf(lib):
    x = leaf(lib)
    x.retain_grad()
    (x * 2).sum().backward()
    return x.grad, x.retains_grad


def retained_without_gradient(lib):
    lib.ones(2).retain_grad()


def retained_in_grad(lib):
    x = leaf(lib)
    y = x * 2
    y.retain_grad()
    found = lib.autograd.grad((y * y).sum(), [x, y])
    return found, y.grad, x.grad is None


def retained_after_hooks(lib):
    x = leaf(lib)
    y = x * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    return y.grad


def after_accumulating(lib):
    x, seen = leaf(lib), []
    handle = x.register_post_accumulate_grad_hook(lambda p: seen.append((p is x, plain(p.grad))))
    (x * 2 + x).sum().backward()
    (x * 2).sum().backward()
    handle.remove()
    (x * 2).sum().backward()
    return seen


def update_after_accumulating(lib):
    x = leaf(lib)

    def update(p):
        p.add_(p.grad, alpha=-0.5)
        p.grad = None

    x.register_post_accumulate_grad_hook(update)
    for _ in range(3):
        (x * x).sum().backward()
    return x, x.grad is None, x.is_leaf


def after_in_grad(lib):
    x, seen = leaf(lib), []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(1))
    lib.autograd.grad(x.sum(), x)
    x.sum().backward(inputs=[x])
    return len(seen)


def after_on_non_leaf(lib):
    (leaf(lib) * 2).register_post_accumulate_grad_hook(lambda p: None)


HOOKS = [
    hooks_in_order, hook_on_the_whole, hook_on_non_leaf, hook_on_root, hook_of_one_output, hook_removed,
    hook_that_removes_itself, hook_of_wrong_shape, hook_of_wrong_dtype, hook_without_gradient, hook_raises,
    hook_in_grad, hook_with_graph, modes_of_hooks, retained_gradient, retained_by_a_leaf,
    retained_without_gradient, retained_in_grad, after_accumulating, update_after_accumulating, after_in_grad,
    after_on_non_leaf, retained_after_hooks,
]  # fmt: skip


@pytest.mark.parametrize("act", HOOKS, ids=lambda act: act.__name__)
def test_hooks(act):
    same(act)


def test_a_hook_sees_a_gradient_that_others_do_not():
    """A hook that keeps and changes what it was given changes nothing else: x + y hands one array to both."""
    x, y = leaf(pg), leaf(pg)
    x.register_hook(lambda g: g * 1)
    (x + y).sum().backward()
    x.grad.mul_(100)
    assert y.grad.tolist() == [1.0] * 3


# ----- modes -----


def inference(lib):
    x = leaf(lib)
    with lib.inference_mode():
        assert lib.is_inference_mode_enabled()
        y = x * 2
        inside = lib.is_grad_enabled(), y.requires_grad
        with lib.inference_mode(False):
            outside = lib.is_grad_enabled(), (x * 2).requires_grad, lib.is_inference_mode_enabled()
    return inside, outside, lib.is_inference_mode_enabled(), lib.is_grad_enabled(), (x * 2).requires_grad


def inference_as_decorator(lib):
    @lib.inference_mode()
    def double(x):
        return x * 2

    @lib.inference_mode
    def triple(x):
        return x * 3

    return double(leaf(lib)).requires_grad, triple(leaf(lib)).requires_grad, lib.is_inference_mode_enabled()


def saved_inference_tensor(lib):
    with lib.inference_mode():
        w = lib.ones(3, dtype=lib.float64) * 2
    return leaf(lib) * w


def added_inference_tensor(lib):
    with lib.inference_mode():
        w = lib.ones(3, dtype=lib.float64) * 2
    return leaf(lib) + w


def switched(lib):
    seen = []
    for mode in (False, True):
        with lib.set_grad_enabled(mode):
            seen.append((leaf(lib) * 2).requires_grad)
    return seen


MODES = [
    inference, inference_as_decorator, saved_inference_tensor, added_inference_tensor, switched,
]  # fmt: skip


@pytest.mark.parametrize("act", MODES, ids=lambda act: act.__name__)
def test_modes(act):
    same(act)


# ----- anomalies -----

ANOMALIES = {
    "sqrt": (lambda lib, x: ((x - x).sqrt() * 0).sum(), "sqrt"),
    "div": (lambda lib, x: ((x - x) / (x - x)).sum(), "div"),
    "log": (lambda lib, x: (x - 10).log().sum() * x.sum(), "log"),
    "pow": (lambda lib, x: ((x * 0 - 1) ** 0.5).exp().sum(), "pow"),
    "norm of squares": (lambda lib, x: (x * 0).square().sum().sqrt() * 0, "sqrt"),
}


@pytest.mark.parametrize("name", ANOMALIES)
@pytest.mark.filterwarnings(
    "ignore:Error detected", "ignore:Anomaly Detection", "ignore:invalid value", "ignore:divide"
)
def test_an_anomaly_is_named(name):
    act, operator = ANOMALIES[name]
    for lib in BOTH:
        x = leaf(lib)
        with lib.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan"):
            act(lib, x).backward()
        with lib.autograd.set_detect_anomaly(True, check_nan=False):
            act(lib, x).backward()
        act(lib, x).backward()
    with pytest.raises(RuntimeError) as error, pg.autograd.detect_anomaly():
        act(pg, leaf(pg)).backward()
    assert re.search(rf"\b{operator} (gave a gradient|, recorded at)|that of {operator}\b", str(error.value))
    assert "test_hooks_torch.py" in str(error.value)  # where it was written


@pytest.mark.filterwarnings("ignore:divide", "ignore:invalid")
def test_anomalies_of_a_graph_from_before_say_how_to_see_more():
    x = leaf(pg)
    y = ((x - x).sqrt() * 0).sum()
    with pg.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match=r"write `with .*detect_anomaly"):
        y.backward()
    y = ((leaf(pg)) * 2).sum()
    with pg.autograd.detect_anomaly():
        y.backward()


@pytest.mark.filterwarnings("ignore:divide", "ignore:invalid")
def test_detection_can_be_switched_on_without_a_block():
    pg.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(RuntimeError, match="sqrt gave"):
            ((leaf(pg) * 0).sqrt() * 0).sum().backward()
    finally:
        pg.autograd.set_detect_anomaly(False)
    ((leaf(pg) * 0).sqrt() * 0).sum().backward()


# ----- the graph, looked at -----


def walked(node, depth=0):
    """Names of a graph, and which output each edge goes to."""
    return [node.name(), [[index, walked(each, depth + 1)] for each, index in node.next_functions if each is not None]]


GRAPHS = {
    "mul": lambda lib, x: x * x,
    "exp": lambda lib, x: x.exp(),
    "chain": lambda lib, x: (x.tanh() * 2 + x).sum(),
    "several": lambda lib, x: x.sort()[0].sum() + x.max(0)[0],
    "log_softmax": lambda lib, x: x.log_softmax(0),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_has_torchs_names_and_edges(name):
    mine, other = (walked(GRAPHS[name](lib, leaf(lib)).grad_fn) for lib in BOTH)
    text = str(other).replace("torch::autograd::", "")
    assert str(mine) == text


def test_the_node_of_a_leaf_accumulates():
    for lib in BOTH:
        x = leaf(lib)
        node, index = (x * 2).grad_fn.next_functions[0]
        assert (node.name().rpartition(":")[2], index) == ("AccumulateGrad", 0)
        assert node.variable is x
        assert node.next_functions == ()
        assert (x.grad_fn, x.detach().grad_fn) == (None, None)
