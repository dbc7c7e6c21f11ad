"""The losses against torch's: values and gradients, as functions and as modules, whole and cut into shards."""

import itertools
import re

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn
from tests.checks import title
from tests.higher import assert_as_finite, second_gradients

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long
pytestmark = pytest.mark.filterwarnings("ignore:reduction. .mean. divides:UserWarning")  # torch's advice: batchmean
REDUCTIONS = ["mean", "sum", "none"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}
MODULES = {
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "cosine_embedding_loss": "CosineEmbeddingLoss",
    "cross_entropy": "CrossEntropyLoss",
    "ctc_loss": "CTCLoss",
    "gaussian_nll_loss": "GaussianNLLLoss",
    "hinge_embedding_loss": "HingeEmbeddingLoss",
    "huber_loss": "HuberLoss",
    "kl_div": "KLDivLoss",
    "l1_loss": "L1Loss",
    "margin_ranking_loss": "MarginRankingLoss",
    "mse_loss": "MSELoss",
    "multi_margin_loss": "MultiMarginLoss",
    "multilabel_margin_loss": "MultiLabelMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "nll_loss": "NLLLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
    "smooth_l1_loss": "SmoothL1Loss",
    "soft_margin_loss": "SoftMarginLoss",
    "triplet_margin_loss": "TripletMarginLoss",
    "triplet_margin_with_distance_loss": "TripletMarginWithDistanceLoss",
}
# Targets of 1 and -1, by which torch does not differentiate, or not always.
SIGNS = ("soft_margin_loss", "hinge_embedding_loss", "cosine_embedding_loss", "margin_ranking_loss")


class Case:
    """One way to call a loss: arrays for both libraries (floats in float64), and options, some of them arrays."""

    def __init__(self, name, *arrays, **options):
        self.name, self.arrays, self.options = name, arrays, options

    def __repr__(self):
        told = [f"{k}={v.shape if isinstance(v, np.ndarray) else v}" for k, v in self.options.items()]
        return f"{self.name} {self.arrays[0].shape} {self.arrays[1].dtype} {' '.join(told)}"

    def of(self, library, dtype):
        """Inputs and options as one library's tensors, floats in `dtype`; floating inputs need gradients."""

        def tensor(array):
            array = array.astype(dtype) if array.dtype.kind == "f" else array
            return pg.tensor(array) if library is pg else torch.tensor(array)

        inputs = [tensor(array) for array in self.arrays]
        for x, array in zip(inputs, self.arrays):
            if array.dtype.kind == "f" and not (self.name in SIGNS and x is inputs[-1]):
                x.requires_grad_()
        return inputs, {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}


rng = np.random.default_rng(0)


def normal(*shape):
    return np.asarray(rng.normal(size=shape) * 2)


def uniform(*shape):
    return np.asarray(rng.random(shape) * 3)


def classes(*shape, ignore=None):
    target = rng.integers(0, 5, shape)
    return target if ignore is None else np.where(rng.random(shape) < 0.4, ignore, target)


def probabilities(*shape):
    weights = rng.random(shape)
    return weights / weights.sum(axis=1 if len(shape) > 1 else 0, keepdims=True)


def logarithms(*shape):
    return np.log(probabilities(*shape))


def signs(*shape):
    return np.asarray(rng.choice([-1.0, 1.0], shape))


def combinations(**choices):
    """Every combination of options; None leaves one out."""
    for values in itertools.product(*choices.values()):
        yield {name: value for name, value in zip(choices, values) if value is not None}


CLASS_SHAPES = [((6, 5), (6,)), ((3, 5, 4, 2), (3, 4, 2)), ((5,), ())]
WEIGHT = rng.random(5) + 0.1
CASES = [
    *(
        Case("mse_loss", normal(*shape), normal(*shape), **options)
        for shape in [(4, 3), (5,), (), (0, 3)]
        for options in combinations(reduction=REDUCTIONS)
    ),
    *(
        Case("mse_loss", normal(4, 3), normal(4, 3), **options)
        for options in combinations(reduction=REDUCTIONS, weight=[rng.random((4, 3))])
    ),
    *(
        Case("cross_entropy", normal(*shape), classes(*target_shape, ignore=options.get("ignore_index")), **options)
        for shape, target_shape in CLASS_SHAPES
        for options in combinations(
            reduction=REDUCTIONS,
            weight=[None, WEIGHT],
            ignore_index=[None, -100, 2, 77],
            label_smoothing=[None, 0.1, 1.0],
        )
    ),
    *(
        Case("cross_entropy", normal(*shape), probabilities(*shape), **options)
        for shape, _ in CLASS_SHAPES
        for options in combinations(reduction=REDUCTIONS, weight=[None, WEIGHT], label_smoothing=[None, 0.2])
    ),
    *(
        Case("nll_loss", logarithms(*shape), classes(*target_shape, ignore=options.get("ignore_index")), **options)
        for shape, target_shape in CLASS_SHAPES
        for options in combinations(reduction=REDUCTIONS, weight=[None, WEIGHT], ignore_index=[None, -100, 3])
    ),
    *(
        Case("binary_cross_entropy_with_logits", normal(*shape), rng.random(shape), **options)
        for shape in [(4, 5), (5,), ()]
        for options in combinations(
            reduction=REDUCTIONS, weight=[None, uniform(*shape)], pos_weight=[None, uniform(*shape)]
        )
    ),
    *(  # weights that are broadcast over the batch
        Case("binary_cross_entropy_with_logits", normal(4, 5), rng.random((4, 5)), **options)
        for options in combinations(
            reduction=REDUCTIONS,
            weight=[None, rng.random(5), rng.random((4, 1))],
            pos_weight=[rng.random(5), np.zeros(())],
        )
    ),
    *(
        Case(name, normal(*shape), normal(*shape), **settings, **options)
        for name, settings in [
            ("l1_loss", {}),
            ("smooth_l1_loss", {}),
            ("smooth_l1_loss", {"beta": 0.5}),
            ("smooth_l1_loss", {"beta": 0.0}),
            ("huber_loss", {}),
            ("huber_loss", {"delta": 0.5}),
        ]
        for shape in [(4, 3), (), (0, 3)]
        for options in combinations(reduction=REDUCTIONS)
    ),
    *(
        Case(name, normal(4, 3), normal(4, 3), **options)
        for name in ["l1_loss", "huber_loss"]
        for options in combinations(reduction=REDUCTIONS, weight=[rng.random((4, 3))])
    ),
    *(
        Case("binary_cross_entropy", rng.random(shape), rng.random(shape), **options)
        for shape in [(4, 3), (5,)]
        for options in combinations(reduction=REDUCTIONS, weight=[None, uniform(*shape)])
    ),
    *(
        Case("kl_div", logarithms(*shape), target(*shape), log_target=target is logarithms, reduction=reduction)
        for shape in [(4, 3), (5,)]
        for target in [logarithms, probabilities]
        for reduction in [*REDUCTIONS, "batchmean"]
    ),
    *(
        Case("poisson_nll_loss", uniform(4, 3) + 0.1, uniform(4, 3), **options)
        for options in combinations(reduction=REDUCTIONS, log_input=[True, False], full=[True, False], eps=[None, 0.1])
    ),
    *(
        Case("gaussian_nll_loss", normal(4, 3), normal(4, 3), uniform(*shape), **options)
        for shape in [(4, 3), (4, 1), (4,)]
        for options in combinations(reduction=REDUCTIONS, full=[True, False], eps=[None, 1.0])
    ),
    *(
        Case(name, normal(*shape), signs(*shape), **options)
        for name in ["soft_margin_loss", "hinge_embedding_loss"]
        for shape in [(4, 3), (5,), ()]
        for options in combinations(reduction=REDUCTIONS, margin=[None] if name[0] == "s" else [None, 0.3])
    ),
    *(
        Case("margin_ranking_loss", normal(*shape), normal(*shape), signs(*shape), **options)
        for shape in [(4, 3), (5,), ()]
        for options in combinations(reduction=REDUCTIONS, margin=[None, 0.3])
    ),
    *(
        Case("cosine_embedding_loss", normal(*shape, 3), normal(*shape, 3), signs(*shape), **options)
        for shape in [(6,), ()]
        for options in combinations(reduction=REDUCTIONS, margin=[None, 0.3])
    ),
    *(
        Case("multi_margin_loss", normal(*shape, 5), classes(*shape), **options)
        for shape in [(6,), ()]
        for options in combinations(reduction=REDUCTIONS, p=[None, 2], margin=[None, 0.3], weight=[None, WEIGHT])
    ),
    *(
        Case("multilabel_margin_loss", normal(*np.shape(target)), np.array(target), reduction=reduction)
        for target in [[[3, 0, -1, 1], [-1, 0, 1, 2], [0, 1, 2, 3], [2, 2, -1, -1]], [1, 2, -1, 0]]
        for reduction in REDUCTIONS
    ),
    *(
        Case("multilabel_soft_margin_loss", normal(*shape), rng.random(shape), **options)
        for shape in [(4, 5), (5,), (2, 3, 5)]
        for options in combinations(reduction=REDUCTIONS, weight=[None, rng.random(5)])
    ),
    *(
        Case("triplet_margin_loss", *(normal(*shape) for _ in range(3)), **options)
        for shape in [(6, 3), (4, 2, 3), (3,)]
        for options in combinations(reduction=REDUCTIONS, margin=[None, 3.0], p=[None, 1, 3], swap=[None, True])
    ),
    *(
        Case("triplet_margin_with_distance_loss", *(normal(6, 3) for _ in range(3)), **options)
        for options in combinations(
            reduction=REDUCTIONS,
            margin=[None, 3.0],
            swap=[None, True],
            distance_function=[None, lambda x, y: (x - y).abs().sum(-1)],
        )
    ),
    # Nothing to average: torch gives nan for the mean, 0 for the sum.
    *(
        Case(name, make(*shape), np.full(target_shape, -100), **options)
        for name, make in [("cross_entropy", normal), ("nll_loss", logarithms)]
        for shape, target_shape in CLASS_SHAPES
        for options in combinations(reduction=REDUCTIONS, weight=[None, WEIGHT])
    ),
    *(Case("cross_entropy", normal(0, 5), classes(0), reduction=reduction) for reduction in REDUCTIONS),
    *(
        Case(
            "cross_entropy", normal(3, 5), np.array([1, 1, 1]), weight=np.array([1.0, 0, 1, 1, 1]), reduction=reduction
        )
        for reduction in REDUCTIONS
    ),
]


def outcome(library, loss, case, dtype):
    """The loss and the gradients of its inputs, under a gradient that tells the elements apart."""
    inputs, options = case.of(library, dtype)
    value = loss(*inputs, **options)
    upstream = np.linspace(1, 2, value.numel()).reshape(value.shape).astype(dtype)
    value.backward(pg.tensor(upstream) if library is pg else torch.tensor(upstream))
    results = [value.detach(), *(x.grad for x in inputs)]
    return [None if result is None else result.numpy() for result in results]


def assert_same_outcome(case, dtype, ours, theirs):
    """Two losses, one for each library, agree in value, gradients, shapes and dtypes."""
    found, expected = outcome(pg, ours, case, dtype), outcome(torch, theirs, case, dtype)
    names = ["value", *(f"gradient of input {i}" for i in range(len(case.arrays)))]
    for what, one, other in zip(names, found, expected, strict=True):
        assert (one is None) == (other is None), what
        if one is not None:
            assert one.dtype == other.dtype, what
            scale = np.abs(other[np.isfinite(other)]).max(initial=0.1)
            np.testing.assert_allclose(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale, err_msg=what)
            assert one.shape == other.shape, what


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda input, target: ((input - target) * (input - target)).mean() * (1 + 1e-11), "value"),
        (lambda input, target: F.mse_loss(input.detach(), target) + (input - input).sum(), "gradient of input 0"),
        (lambda input, target: F.mse_loss(input, target.detach()), "gradient of input 1"),
        (lambda input, target: F.mse_loss(input, target).reshape(1), "value"),
        (lambda input, target: F.mse_loss(input, target).to(np.float32), "value"),
    ],
    ids=["value", "gradient", "no gradient", "shape", "dtype"],
)
def test_the_checker_sees_a_difference(wrong, told):
    case = Case("mse_loss", normal(4, 3), normal(4, 3))
    with pytest.raises(AssertionError, match=told):
        assert_same_outcome(case, "float64", wrong, torch.nn.functional.mse_loss)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES, ids=title)
def test_functions(case, dtype):
    assert_same_outcome(case, dtype, getattr(F, case.name), getattr(torch.nn.functional, case.name))


# torch's modules of these do not take the weight that their functions take.
UNWEIGHTED = ("mse_loss", "l1_loss", "huber_loss")


HELD = [
    case for case in CASES
    if case.options.get("reduction") in ("none", "batchmean")
    and not (case.name in UNWEIGHTED and "weight" in case.options)
]  # fmt: skip


@pytest.mark.parametrize("case", HELD, ids=title)
def test_modules(case):
    kind = MODULES[case.name]
    assert_same_outcome(
        case,
        "float64",
        lambda *inputs, **options: getattr(nn, kind)(**options)(*inputs),
        lambda *inputs, **options: getattr(torch.nn, kind)(**options)(*inputs),
    )


WEIGHTS_OF = {
    **{name: {"weight"} for name in ("cross_entropy", "nll_loss", "binary_cross_entropy")},
    **{name: {"weight"} for name in ("multi_margin_loss", "multilabel_soft_margin_loss")},
    "binary_cross_entropy_with_logits": {"weight", "pos_weight"},
}


# torch's holds the default distance as a module of its own.
@pytest.mark.parametrize("name", sorted({*MODULES} - {"triplet_margin_with_distance_loss"}))
def test_a_module_prints_and_keeps_its_weights_as_torchs(name):
    for options in [{}, {"weight": WEIGHT}, {"weight": WEIGHT, "pos_weight": WEIGHT}]:
        if not set(options) <= WEIGHTS_OF.get(name, set()):
            continue
        ours = getattr(nn, MODULES[name])(**{k: pg.tensor(v) for k, v in options.items()})
        theirs = getattr(torch.nn, MODULES[name])(**{k: torch.tensor(v) for k, v in options.items()})
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())


# ----- at the edges of what numbers hold -----

EXTREMES = [
    *(
        Case(name, np.array([[1e4, -1e4, 0.0], [0.0, 0, 0], [-1e4, -1e4, 1e4]]), target, **options)
        for name, target, options in [
            ("cross_entropy", np.array([1, 2, 2]), {}),
            ("cross_entropy", np.array([0, 1, 0]), {"label_smoothing": 0.1}),
            ("cross_entropy", np.array([[0.2, 0.3, 0.5]] * 3), {}),
            ("binary_cross_entropy_with_logits", np.array([[0.0, 1, 0.5]] * 3), {}),
            ("binary_cross_entropy_with_logits", np.array([[1.0, 0, 0.5]] * 3), {"pos_weight": np.array(3.0)}),
            ("mse_loss", np.array([[1e4, 0, -1e4]] * 3), {}),
        ]
    ),
    *(
        Case(name, np.array([[1e4, -1e4, 0.0], [0.0, 0, 0]]), np.array([[1.0, 1, -1], [-1, 1, 1]]), **options)
        for name, options in [
            ("hinge_embedding_loss", {}),
            ("l1_loss", {}),
            ("smooth_l1_loss", {}),
            ("smooth_l1_loss", {"beta": 1e-6}),
            ("huber_loss", {"delta": 1e5}),
        ]
    ),
    # Where the derivative has a kink.
    Case("kl_div", np.array([0.0, -1.0]), np.array([0.5, 1.0])),
    Case("margin_ranking_loss", np.array([1.0, 2.0]), np.array([1.0, 1.0]), np.array([1.0, 1.0]), margin=1.0),
    Case("triplet_margin_loss", np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))),
    Case("triplet_margin_loss", np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3)), eps=0.0),
    Case("gaussian_nll_loss", np.ones((2, 3)), np.zeros((2, 3)), np.array([0.0, 1e-9])),
    Case("multi_margin_loss", np.zeros((2, 5)), np.array([0, 4]), margin=0.0),
    # Classes ruled out by -inf, also where the example is ignored.
    *(
        Case("cross_entropy", np.array([[-np.inf, 0.0, 1], [0, -np.inf, 2], [-np.inf, 3, 0]]), target)
        for target in [np.array([1, 0, 2]), np.array([1, -100, 1]), np.array([-100, 0, -100])]
    ),
    Case("nll_loss", np.array([[-np.inf, -0.5, -1], [-0.3, -np.inf, -2]]), np.array([-100, 0])),
    Case("nll_loss", np.array([[-0.5, -0.5, -np.inf], [-0.3, -np.inf, -2]]), np.array([0, -100])),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", EXTREMES, ids=title)
def test_extremes(case, dtype):
    test_functions(case, dtype)
    value, gradient, *_ = outcome(pg, getattr(F, case.name), case, dtype)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_linear_cross_entropy(reduction, dtype):
    for arrays, target, options in [
        ([normal(6, 3), normal(5, 3)], classes(6, ignore=2), {"ignore_index": 2}),
        ([normal(6, 3), normal(5, 3), normal(5)], classes(6), {"label_smoothing": 0.1}),
        ([normal(3), normal(5, 3), normal(5)], classes(), {}),
        ([normal(6, 3), normal(5, 2, 3), normal(5, 2)], classes(6, 2), {}),
        ([normal(6, 3), normal(5, 3)], probabilities(6, 5).astype(dtype), {}),
    ]:

        def of(library, functional, target=target, options=options):
            return lambda input, weight, bias=None: functional.linear_cross_entropy(
                input, weight, library.tensor(target), linear_bias=bias, reduction=reduction, **options
            )

        case = Case("linear_cross_entropy", *arrays)
        assert_same_outcome(case, dtype, of(pg, F), of(torch, torch.nn.functional))


def test_a_variance_may_be_a_number():
    x, y = normal(4, 3), normal(4, 3)
    got = F.gaussian_nll_loss(pg.tensor(x), pg.tensor(y), 0.5)
    expected = torch.nn.functional.gaussian_nll_loss(torch.tensor(x), torch.tensor(y), 0.5)
    assert got.item() == pytest.approx(expected.item(), rel=1e-12)


def test_what_torch_overflows_at_is_finite():
    x = np.array([1e4, -1e4])
    _, gradient = outcome(pg, F.soft_margin_loss, Case("soft_margin_loss", x, np.array([-1.0, 1.0])), "float32")[:2]
    np.testing.assert_array_equal(gradient, np.array([0.5, -0.5], np.float32))


@pytest.mark.parametrize("case", [
    Case("binary_cross_entropy", np.array([0.0, 1, 0, 1, 0.5]), np.array([0.0, 1, 1, 0, 0.5])),
    Case("cosine_embedding_loss", np.zeros((2, 3)), np.ones((2, 3)), np.array([1.0, -1.0])),
], ids=title)  # fmt: skip
def test_where_torchs_epsilon_is_of_float32(case):
    got = outcome(pg, getattr(F, case.name), case, "float64")
    expected = outcome(torch, getattr(torch.nn.functional, case.name), case, "float64")
    assert_as_finite(got[:2], expected[:2], 1e-8)
    assert all(np.isfinite(x).all() for x in got if x is not None)


# A loss by each of its inputs twice; what torch refuses to differentiate twice is left out.
ONCE = ("ctc_loss", "multilabel_margin_loss", "multi_margin_loss", "binary_cross_entropy")


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.options.get("reduction") == "none" and case.name not in ONCE], ids=title
)
def test_second_derivatives(case):
    count = len(case.arrays) - (case.name in SIGNS)

    def second(library, function):
        inputs, options = case.of(library, "float64")
        return second_gradients(
            library, lambda *given: function(*given, *inputs[count:], **options), case.arrays[:count]
        )

    got, expected = second(pg, getattr(F, case.name)), second(torch, getattr(torch.nn.functional, case.name))
    assert_as_finite(got, expected, 1e-10)


# ----- refusals -----

X, Y = pg.ones(4, 3), pg.ones(4, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        (lambda: F.smooth_l1_loss(X, Y, beta=-1.0), RuntimeError, "beta"),
        (lambda: F.huber_loss(X, Y, delta=0.0), RuntimeError, "delta"),
        (lambda: F.binary_cross_entropy(X * 2, Y), RuntimeError, "write F.binary_cross_entropy_with_logits"),
        (lambda: F.kl_div(X, Y, reduction="batch"), ValueError, "'batchmean' or 'none'"),
        (lambda: F.mse_loss(X, Y, reduction="batchmean"), ValueError, "'batchmean'"),
        (lambda: F.gaussian_nll_loss(X, Y, pg.ones(4, 2)), ValueError, "expected var"),
        (lambda: F.gaussian_nll_loss(X, Y, -Y), ValueError, "negative"),
        (lambda: F.margin_ranking_loss(X, Y, pg.ones(4)), RuntimeError, "as many dimensions"),
        (lambda: F.cosine_embedding_loss(X, Y, Y), RuntimeError, "target"),
        (lambda: F.triplet_margin_loss(X, X, X, margin=0.0), ValueError, "margin"),
        (lambda: F.triplet_margin_loss(X, X, pg.ones(3)), RuntimeError, "as many dimensions"),
        (lambda: F.multi_margin_loss(X, pg.tensor([0, 1, 2, 0]), p=3), ValueError, "1 or 2, got 3"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "1 or 2, got 3"),
        (lambda: nn.TripletMarginLoss(margin=-1.0), ValueError, "greater than 0, got -1"),
        (lambda: nn.TripletMarginWithDistanceLoss(margin=0.0), ValueError, "greater than 0, got 0"),
        (lambda: nn.HuberLoss(delta=0.0), RuntimeError, "greater than 0, got 0"),
        (lambda: nn.SmoothL1Loss(beta=-1.0), RuntimeError, "0 or more, got -1"),
        (lambda: F.multilabel_margin_loss(X, Y), ValueError, "integers"),
        (lambda: F.multilabel_margin_loss(X, pg.tensor([[3, -1, -1]] * 4)), IndexError, "class 3"),
    ],
)
def test_refusals(wrong, error, told):
    with pytest.raises(error, match=told):
        wrong()


TABLE, LABELS = (4, 3), [0, 1, 2, 0]
WRONG_SHAPES = [  # a loss, the shapes of what it is given, and what is said
    ("binary_cross_entropy", [TABLE, TABLE, (4,)], {}, "expected weight to broadcast to input's shape (4, 3), got"),
    ("binary_cross_entropy", [(3,), (3,), (2, 3)], {}, "input's shape (3,), got shape (2, 3)"),
    ("binary_cross_entropy_with_logits", [TABLE, TABLE, (4,)], {}, "expected weight to broadcast to input's shape"),
    ("binary_cross_entropy_with_logits", [TABLE, TABLE], {"pos_weight": (2,)}, "expected pos_weight to broadcast"),
    ("multilabel_soft_margin_loss", [TABLE, TABLE, (4,)], {}, "expected weight to broadcast to input's shape (4, 3)"),
    ("cross_entropy", [TABLE, LABELS, (4,)], {}, "expected one weight for each of 3 classes, got shape (4,)"),
    ("multi_margin_loss", [TABLE, LABELS], {"weight": (4,)}, "one weight for each of 3 classes, got shape (4,)"),
    ("cosine_embedding_loss", [TABLE, TABLE, (5,)], {}, "target (N,), or (D,) and (), got (4, 3), (4, 3) and (5,)"),
    ("cosine_embedding_loss", [TABLE, (4, 2), (4,)], {}, "got (4, 3), (4, 2) and (4,)"),
    ("margin_ranking_loss", [(4,), (3,), (4,)], {}, "got shapes (4,), (3,) and (4,)"),
    ("triplet_margin_loss", [TABLE, (5, 3), TABLE], {}, "got shapes (4, 3), (5, 3) and (4, 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "inputs", "named", "told"), WRONG_SHAPES, ids=lambda value: str(value)[:40])
def test_shapes_that_do_not_go_together_are_named(name, inputs, named, told):
    for library in (torch, pg):

        def given(x, library=library):
            return library.ones(*x) if isinstance(x, tuple) else library.tensor(x)

        with pytest.raises(RuntimeError, match=re.escape(told) if library is pg else None):
            getattr(library.nn.functional, name)(*map(given, inputs), **{key: given(x) for key, x in named.items()})


@pytest.mark.parametrize("name", sorted({*MODULES} - {"ctc_loss", "gaussian_nll_loss", "huber_loss",
                                                      "triplet_margin_with_distance_loss"}))  # fmt: skip
def test_what_is_deprecated_says_how_to_reduce(name):
    for given, reduction in [
        ({"size_average": True}, "mean"), ({"size_average": False}, "sum"), ({"reduce": False}, "none"),
        ({"reduce": True}, "mean"), ({"size_average": False, "reduce": False}, "none"),
    ]:  # fmt: skip
        with pytest.warns(DeprecationWarning, match=f"write reduction='{reduction}'"):
            mine = getattr(nn, MODULES[name])(**given)
        with pytest.warns(UserWarning, match="deprecated"):
            theirs = getattr(torch.nn, MODULES[name])(**given)
        assert mine.reduction == theirs.reduction == reduction


# ----- what data parallelism adds up -----

SHARDED = [
    case for case in CASES
    if case.arrays[0].ndim > 1 and len(case.arrays[0]) > 1 and case.options.get("reduction") != "none"
]  # fmt: skip


def batched(options, part, count):
    """The options of a shard: weights of every example are cut, those of classes are not."""
    return {
        k: v[part] if isinstance(v, np.ndarray) and v.ndim > 1 and len(v) == count else v for k, v in options.items()
    }


@pytest.mark.parametrize("cuts", [[2, 2], [1, 3]], ids=str)  # one of three shards is empty, or they are uneven
@pytest.mark.parametrize("case", SHARDED, ids=title)
def test_the_sums_and_divisors_of_uneven_shards_add_up_to_the_batchs(case, cuts):
    inputs, options = case.of(torch, "float64")
    expected = getattr(torch.nn.functional, case.name)(*inputs, **options)
    expected.backward()

    count, summing = len(case.arrays[0]), case.options.get("reduction") == "sum"
    total, divisor = 0.0, 1 if summing else 0
    gradients = [np.zeros_like(array) for array in case.arrays]
    for start, stop in itertools.pairwise([0, *cuts, count]):
        part = slice(start, stop)
        shard = Case(case.name, *(array[part] for array in case.arrays), **batched(case.options, part, count))
        tensors, options = shard.of(pg, "float64")
        shard_sum, shard_divisor = getattr(F, case.name).sum_and_divisor(*tensors, **options)
        assert shard_sum.shape == ()
        # A sum is not divided; a divisor is no numpy number, for it travels.
        assert shard_divisor is None if summing else type(shard_divisor) in (int, float)
        shard_sum.backward()
        for gradient, tensor in zip(gradients, tensors):
            if tensor.grad is not None:
                gradient[part] = tensor.grad.numpy()
        total, divisor = total + shard_sum.item(), divisor + (shard_divisor or 0)

    if divisor == 0:
        assert np.isnan(expected.item())
        assert total == 0
        assert not gradients[0].any()
        return
    np.testing.assert_allclose(total / divisor, expected.item(), rtol=1e-12, atol=1e-13)
    for gradient, tensor in zip(gradients, inputs):
        if tensor.grad is not None:
            np.testing.assert_allclose(gradient / divisor, tensor.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("library", [pg, torch], ids=["pargrad", "torch"])
def test_losses_of_ones_own_are_made_as_torchs(library):
    bases = library.nn.modules.loss

    class Dice(bases._Loss):
        def __init__(self, smooth, size_average=None, reduce=None, reduction="mean"):
            super().__init__(size_average, reduce, reduction)
            self.smooth = smooth

    class Focal(library.nn.CrossEntropyLoss):
        function = staticmethod(library.nn.functional.cross_entropy)

        def __init__(self, gamma):
            super().__init__(library.ones(3), label_smoothing=0.1)
            self.gamma = gamma

    assert (Dice(2, reduction="sum").reduction, Dice(2).smooth) == ("sum", 2)
    assert (Focal(3).gamma, Focal(3).label_smoothing, list(Focal(3).state_dict())) == (3, 0.1, ["weight"])
    assert list(bases._WeightedLoss(library.ones(2), reduction="none").state_dict()) == ["weight"]
    assert isinstance(library.nn.NLLLoss(), bases._WeightedLoss)
