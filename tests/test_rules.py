"""Every rule of the table, walked: derivatives, dtypes, memory, what is saved, and the table's own refusals."""

import weakref

import numpy as np
import pytest

import pargrad as pg
from pargrad.rules import RULES, boolean, integers, rule, sample, table
from pargrad.tensor import Tensor, apply
from tests.checks import (
    CASES,
    as_function,
    assert_equal,
    call,
    can_require_grad,
    check_derivative,
    check_dtypes,
    check_layouts,
    check_memory,
    check_plain,
    check_recorded,
    check_second_derivative,
    check_unbroadcast,
    check_versions,
    draw,
    gradients_of,
    listed,
    run,
    saved_names,
    weights,
)
from tests.saved import SAVED

every = pytest.mark.parametrize(("rule", "sample"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
DIFFERENTIABLE = [case for case in CASES if case[1].differentiable]
differentiable = pytest.mark.parametrize(
    ("rule", "sample"), [case[1:] for case in DIFFERENTIABLE], ids=[case[0] for case in DIFFERENTIABLE]
)


@differentiable
def test_the_derivative_is_the_one_that_differences_find(rule, sample):
    arrays = draw(rule, sample)
    function = as_function(rule, sample.settings)
    assert check_derivative(function, arrays) == sum(map(can_require_grad, arrays)) - len(
        [i for i in rule.fixed if can_require_grad(arrays[i])]
    )


@every
def test_float32_stays_float32(rule, sample):
    check_dtypes(rule, sample)


@every
def test_layout_changes_nothing_and_arguments_are_only_read(rule, sample):
    check_layouts(rule, sample)


@differentiable
def test_gradients_own_their_memory_or_are_views_of_g(rule, sample):
    check_memory(rule, sample)


@differentiable
def test_un_broadcast_gradients_have_the_shape_of_their_argument(rule, sample):
    check_unbroadcast(rule, sample)


@differentiable
def test_an_overwritten_array_is_noticed_where_it_was_saved(rule, sample):
    check_versions(rule, sample)


FUSED = [case for case in CASES if case[1].plain is not None]


@pytest.mark.parametrize(("rule", "sample"), [case[1:] for case in FUSED], ids=[case[0] for case in FUSED])
def test_a_fused_rule_is_its_plain_composition(rule, sample):
    check_plain(rule, sample)


PLAIN = [case for case in DIFFERENTIABLE if case[1].plain is None]


@pytest.mark.parametrize(("rule", "sample"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_a_derivative_is_written_in_operators_so_that_it_has_one(rule, sample):
    check_recorded(rule, sample)


@differentiable
def test_the_second_derivative_is_the_one_that_differences_find(rule, sample):
    check_second_derivative(as_function(rule, sample.settings), draw(rule, sample))


# ----- what is saved -----


@differentiable
def test_each_vjp_keeps_what_its_row_says(rule, sample):
    assert rule.name in SAVED, f"say in SAVED what {rule.name} keeps: {saved_names(rule, sample)}"
    # An index is a setting that may be an array.
    expected = [" ".join(name for name in names.split() if name not in rule.settings) for names in SAVED[rule.name]]
    got = [" ".join(name for name in names.split() if name not in rule.settings) for names in saved_names(rule, sample)]
    assert got == expected


def test_what_is_saved_is_said_of_rules_that_exist():
    assert set(SAVED) == {rule.name for rule in RULES.values() if rule.differentiable}


@differentiable
def test_a_recorded_operator_keeps_alive_what_its_row_says_and_nothing_else(rule, sample):
    arrays = draw(rule, sample)
    leaves = [Tensor(x, requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    inputs = [apply(RULES["clone"], x) if isinstance(x, Tensor) else x for x in leaves]
    outputs = listed(apply(rule, *inputs, **sample.settings))
    node = outputs[0].node
    references = [weakref.ref(x.array) if isinstance(x, Tensor) else None for x in inputs]
    del inputs, outputs
    # A fused rule's second derivative is that of its plain composition, which needs all the inputs.
    kept = set(" ".join(SAVED[rule.name]).split()) if rule.plain is None else set(rule.arguments)
    names = rule.arguments * len(arrays) if rule.variadic else rule.arguments
    for name, reference in zip(names, references):
        if reference is not None:
            assert (reference() is not None) == (name in kept), f"{rule.name} and its argument {name}"
    assert node.edges  # the graph is what kept them, and is still there


def test_a_vjp_that_no_input_needs_is_not_kept():
    weight, data = pg.ones(3, 2, requires_grad=True), pg.ones(4, 3)
    node = (data @ weight).node
    assert [edge[0].__code__.co_name for edge in node.edges] == ["vjp_y"]
    assert [edge[1] is weight for edge in node.edges] == [True]


# ----- literals -----

SCALARS = [
    2,
    2.0,
    True,
    np.float64(2.0),
    np.float32(2.0),
    np.int64(2),
    np.array(2.0),
    np.array(2, np.int32),
    Tensor(np.array(2.0)),
    Tensor(np.array(2)),
]
PAIRS = [
    rule
    for rule in RULES.values()
    if len(rule.arguments) == 2
    and rule.dtype in ("promote", "float")
    and rule.plain is None
    and isinstance(rule.samples[0].arguments[0], tuple)  # floats, not masks
]


@pytest.mark.parametrize("side", [0, 1], ids=["left", "right"])
@pytest.mark.parametrize(
    "scalar", SCALARS, ids=lambda scalar: f"{type(scalar).__name__}-{getattr(scalar, 'dtype', '')}"
)
@pytest.mark.parametrize("rule", PAIRS, ids=lambda rule: rule.name)
def test_a_scalar_on_either_side_changes_no_dtype(rule, scalar, side):
    x = np.array([0.5, 1.5, 2.5], np.float32)
    leaf = Tensor(x, requires_grad=True)
    out = apply(rule, *((scalar, leaf) if side == 0 else (leaf, scalar)))
    number = np.float32(scalar.item() if hasattr(scalar, "item") else scalar)
    pair = (np.full(3, number), x) if side == 0 else (x, np.full(3, number))
    values, gradients = run(pg, as_function(rule, {}), pair)
    assert_equal([out.array], values)
    if rule.differentiable:
        assert out.dtype == np.float32
        out.backward(Tensor(weights((3,), np.float32)))
        assert_equal([leaf.grad.array], [gradients[1 - side]])


# ----- numpy's functions -----

NUMPY_NAMES = {"dim": "axis", "keepdim": "keepdims", "min": "a_min", "max": "a_max"}
NUMPY_NAMES |= {name: name for name in ("decimals", "nan", "posinf", "neginf", "rtol", "atol", "equal_nan", "n")}
NUMPY_NAMES |= {name: name for name in ("decimals", "nan", "posinf", "neginf", "rtol", "atol", "equal_nan", "n")}
# torch, and so the rule, leaves a dimension alone that is not 1 long, and adds complex logarithms; numpy raises.
NOT_NUMPYS = ("squeeze-2", "logaddexp-4")
NAMED = [(name, function, row, one) for name, row, one in CASES for function in row.numpy if name not in NOT_NUMPYS]


@pytest.mark.parametrize(
    ("function", "rule", "sample"),
    [case[1:] for case in NAMED],
    ids=[f"{case[0]}-{case[1].__name__}" for case in NAMED],
)
def test_a_rule_gives_what_the_numpy_function_gives_that_it_stands_for(function, rule, sample):
    arrays = draw(rule, sample)
    settings = {NUMPY_NAMES[name]: value for name, value in sample.settings.items()}
    if function is np.clip:
        settings = {"a_min": None, "a_max": None} | settings
    given = [arrays] if rule.variadic else arrays
    expected = np.asarray(function(*given, **settings))
    assert_equal(call(rule, arrays, sample.settings)[0], [expected])
    tensors = [Tensor(x, requires_grad=can_require_grad(x)) if isinstance(x, np.ndarray) else x for x in arrays]
    out = function(*([tensors] if rule.variadic else tensors), **settings)
    assert isinstance(out, Tensor)
    assert_equal([out.array], [expected])
    assert out.requires_grad == rule.differentiable


# ----- numbers and nothing -----

NUMBER = [
    ("sum", {"dim": 0}, 1.0),
    ("sum", {"dim": (), "keepdim": True}, 1.0),
    ("mean", {"dim": -1}, 1.0),
    ("amax", {"dim": 0}, 1.0),
    ("amin", {"dim": -1, "keepdim": True}, 1.0),
    ("max", {"dim": 0}, 1.0),
    ("min", {"dim": -1, "keepdim": True}, 1.0),
    ("logsumexp", {"dim": 0}, 1.0),
    ("softmax", {"dim": 0}, 0.0),
    ("log_softmax", {"dim": -1}, 0.0),
    ("permute", {"dims": ()}, 1.0),
    ("reshape", {"shape": (1, 1, 1)}, 1.0),
    ("getitem", {"index": ()}, 1.0),
    ("getitem", {"index": None}, 1.0),
    ("getitem", {"index": Ellipsis}, 1.0),
]


@pytest.mark.parametrize(("name", "settings", "derivative"), NUMBER, ids=str)
def test_a_number_has_gradients_too(name, settings, derivative):
    (value, *_), (gradient,) = run(pg, as_function(RULES[name], settings), [np.array(0.7)])
    seed = weights(value.shape).sum()
    assert gradient.shape == ()
    assert gradient == pytest.approx(derivative * seed)


NOTHING = [
    ("sum", [(0, 3)], {"dim": 1}, (0,)),
    ("sum", [(0, 3)], {}, ()),
    ("mean", [(0, 3)], {"dim": 1}, (0,)),
    ("amax", [(0, 3)], {"dim": 1}, (0,)),
    ("max", [(0, 3)], {"dim": 1}, (0,)),
    ("softmax", [(0, 3)], {"dim": 1}, (0, 3)),
    ("log_softmax", [(2, 0)], {"dim": 0}, (2, 0)),
    ("logsumexp", [(0, 3)], {"dim": 1}, (0,)),
    ("matmul", [(2, 0), (0, 3)], {}, (2, 3)),
    ("matmul", [(0, 2), (2, 3)], {}, (0, 3)),
    ("matmul", [(0,), (0,)], {}, ()),
    ("linear", [(0, 3), (2, 3), (2,)], {}, (0, 2)),
    ("cat", [(0, 3), (2, 3)], {"dim": 0}, (2, 3)),
    ("stack", [(0,), (0,)], {"dim": 0}, (2, 0)),
    ("getitem", [(3, 2)], {"index": np.array([], np.int64)}, (0, 2)),
    ("getitem", [(3, 2)], {"index": np.zeros(3, bool)}, (0, 2)),
    ("getitem", [(3, 2)], {"index": slice(3, None)}, (0, 2)),
    ("squeeze", [(0, 1)], {}, (0,)),
    ("expand", [(1, 0)], {"size": (4, 0)}, (4, 0)),
    ("permute", [(0, 2)], {"dims": (1, 0)}, (2, 0)),
]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the mean of no number is nan
@pytest.mark.parametrize(("name", "shapes", "settings", "shape"), NOTHING, ids=str)
def test_arrays_without_elements(name, shapes, settings, shape):
    (value, *_), gradients = run(pg, as_function(RULES[name], settings), [np.ones(each) for each in shapes])
    assert value.shape == shape
    assert [gradient.shape for gradient in gradients] == shapes
    if not value.size:
        assert not any(gradient.any() for gradient in gradients)


# ----- several values, one vjp for all, lists of arguments -----


@pytest.mark.usefixtures("own_table")
def test_a_rule_with_several_values():
    @rule(sample((3,)))
    def both(x):
        y = np.exp(x)
        return (2 * x, y), lambda g: 2 * g[0] + g[1] * y

    x = pg.tensor([0.0, 1.0], dtype=pg.float64, requires_grad=True)
    double, power = apply(both, x)
    assert (double.node, power.node) == (power.node, double.node)
    assert (double.index, power.index) == (0, 1)
    (3 * power).sum().backward(retain_graph=True)  # the other value is sent zeros
    np.testing.assert_allclose(x.grad.array, 3 * np.exp([0.0, 1.0]))
    x.grad = None
    (double * power).sum().backward()
    np.testing.assert_allclose(x.grad.array, np.exp([0.0, 1.0]) * (2 + 2 * np.array([0.0, 1.0])))


@pytest.mark.usefixtures("own_table")
def test_a_joint_vjp_is_called_once_and_with_gradients_for_all():
    calls = []

    @rule(sample((3,), (3,)), joint=True)
    def scaled(*tensors):
        def vjp(g):
            calls.append(g)
            return tuple((i + 1) * g for i in range(len(tensors)))

        return sum((i + 1) * x for i, x in enumerate(tensors)), vjp

    x, y, z = pg.ones(3, requires_grad=True), pg.ones(3), pg.ones(3, requires_grad=True)
    apply(scaled, x, y, z).sum().backward()
    assert len(calls) == 1
    assert (x.grad.tolist(), y.grad, z.grad.tolist()) == ([1.0] * 3, None, [3.0] * 3)


@pytest.mark.usefixtures("own_table")
def test_an_argument_without_a_derivative_gets_none():
    @rule(sample((3,), (3,)))
    def weighted(x, weight):
        return x * weight, lambda g: g * weight, None

    x, weight = pg.ones(3, requires_grad=True), pg.full((3,), 2.0, requires_grad=True)
    out = apply(weighted, x, weight)
    out.sum().backward()
    assert (x.grad.tolist(), weight.grad) == ([2.0] * 3, None)
    assert not apply(weighted, x.detach(), weight).requires_grad


@pytest.mark.usefixtures("own_table")
def test_a_literal_argument_of_a_variadic_rule_is_a_constant():
    x = pg.tensor([1.0, 2.0], requires_grad=True)
    pg.stack([x, np.array([3.0, 4.0], np.float32), x]).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# ----- the table -----


@pytest.mark.usefixtures("own_table")
def test_a_second_rule_of_one_name_is_refused():
    def square(x):
        return x * x, lambda g: 2 * g * x

    assert rule(sample((2,)))(square) is table.RULES["square"]
    with pytest.raises(ValueError, match="two rules are named 'square': an alias is an assignment"):
        rule(sample((2,)))(square)


@pytest.mark.usefixtures("own_table")
def test_a_rule_without_a_sample_is_refused():
    with pytest.raises(ValueError, match=r"rule 'square' has no sample: give @rule at least one sample"):

        @rule()
        def square(x):
            return x * x, lambda g: 2 * g * x

    assert table.RULES == {}


@pytest.mark.usefixtures("own_table")
def test_a_rule_knows_its_arguments_settings_and_what_each_vjp_saves():
    @rule(sample((2,), (2,), (2,), scale=2.0), fixed=("z",))
    def mixed(x, y, z, *, scale=1.0, shift=0.0):
        value = x * y * scale + shift

        def of_both():
            return x * y

        return value, lambda g: g * y * scale, lambda g: g * of_both(), lambda g: g * value

    assert (mixed.arguments, mixed.settings, mixed.fixed) == (("x", "y", "z"), ("scale", "shift"), (2,))
    assert (mixed.variadic, mixed.joint, mixed.view, mixed.differentiable) == (False, False, False, True)
    assert repr(mixed) == "<rule mixed>"
    _, of_x, of_y, of_z = mixed.function(*np.ones((3, 2)))
    saved = [mixed.saved[vjp.__code__] for vjp in (of_x, of_y, of_z)]
    assert [each.arguments for each in saved] == [(1,), (0, 1), ()]
    # What is neither an argument, a setting nor a function may be the value.
    assert [[vjp.__code__.co_freevars[i] for i in each.locals] for vjp, each in zip((of_x, of_y, of_z), saved)] == [
        [],
        [],
        ["value"],
    ]


def test_a_sample_draws_what_it_describes():
    generator = np.random.default_rng(0)
    one = sample((40, 5), (), boolean(100), integers(3, 100), 2.5, domain=(1.0, 2.0), dim=1)
    x, number, mask, classes, literal = one.arrays(generator, np.float32)
    assert (x.shape, x.dtype, number.shape, number.dtype) == ((40, 5), np.float32, (), np.float32)
    assert ((x >= 1) & (x <= 2)).all()
    assert x.min() < 1.1 < 1.9 < x.max()
    assert (mask.dtype, set(mask.tolist())) == (np.bool_, {True, False})
    assert (classes.dtype, set(classes.tolist())) == (np.int64, {0, 1, 2})
    assert literal == 2.5
    assert one.settings == {"dim": 1}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_returns_a_vjp_for_every_argument(rule):
    one = rule.samples[0]
    values, vjps = call(rule, draw(rule, one), one.settings)
    if not rule.differentiable:
        assert len(values) == 1
        assert isinstance(values[0], np.ndarray | np.generic)
        assert values[0].dtype.kind in "bif"
    else:
        assert len(vjps) == (1 if rule.joint else len(rule.arguments))
        assert all(vjp is None or callable(vjp) for vjp in vjps)
        assert any(vjp is not None for vjp in vjps)


def test_an_element_named_twice_is_given_both_gradients():
    arrays = [np.arange(4.0)]
    got = gradients_of(RULES["getitem"], arrays, {"index": np.array([1, 1, -3, 0])}, [np.array([1.0, 2.0, 4.0, 8.0])])
    assert_equal(got, [np.array([8.0, 7.0, 0.0, 0.0])])
