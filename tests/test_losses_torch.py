"""The losses against torch's: values and gradients, as functions and as modules, whole and cut into shards."""

import itertools

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long
REDUCTIONS = ["mean", "sum", "none"]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}
MODULES = {
    "mse_loss": "MSELoss",
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
}


class Case:
    """One way to call a loss: arrays for both libraries (floats in float64), and options, some of them arrays."""

    def __init__(self, name, input, target, **options):
        self.name, self.input, self.target, self.options = name, input, target, options

    def __repr__(self):
        told = [f"{k}={v.shape if isinstance(v, np.ndarray) else v}" for k, v in self.options.items()]
        return f"{self.name} {self.input.shape} {self.target.dtype} {' '.join(told)}"

    def of(self, library, dtype):
        """Input, target and options as one library's tensors, floats in `dtype`; input and target need gradients."""

        def tensor(array):
            array = array.astype(dtype) if array.dtype.kind == "f" else array
            return pg.tensor(array) if library is pg else torch.tensor(array)

        input, target = tensor(self.input).requires_grad_(), tensor(self.target)
        options = {k: tensor(v) if isinstance(v, np.ndarray) else v for k, v in self.options.items()}
        return input, target.requires_grad_() if self.target.dtype.kind == "f" else target, options


rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape) * 2


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
    """The loss and the gradients of input and target, under a gradient that tells the elements apart."""
    input, target, options = case.of(library, dtype)
    value = loss(input, target, options)
    upstream = np.linspace(1, 2, value.numel()).reshape(value.shape).astype(dtype)
    value.backward(pg.tensor(upstream) if library is pg else torch.tensor(upstream))
    results = [value.detach(), input.grad, target.grad]
    return [None if result is None else result.numpy() for result in results]


def assert_same_outcome(case, dtype, ours, theirs):
    """Losses of (input, target, options), one for each library, agree in value, gradients, shapes and dtypes."""
    found, expected = outcome(pg, ours, case, dtype), outcome(torch, theirs, case, dtype)
    for what, one, other in zip(["value", "gradient of input", "gradient of target"], found, expected, strict=True):
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
        (lambda input, target: F.mse_loss(input.detach(), target) + (input - input).sum(), "gradient of input"),
        (lambda input, target: F.mse_loss(input, target.detach()), "gradient of target"),
        (lambda input, target: F.mse_loss(input, target).reshape(1), "value"),
        (lambda input, target: F.mse_loss(input, target).to(np.float32), "value"),
    ],
    ids=["value", "gradient", "no gradient", "shape", "dtype"],
)
def test_the_checker_sees_a_difference(wrong, told):
    case = Case("mse_loss", normal(4, 3), normal(4, 3))
    with pytest.raises(AssertionError, match=told):
        assert_same_outcome(
            case,
            "float64",
            lambda input, target, options: wrong(input, target),
            lambda input, target, options: torch.nn.functional.mse_loss(input, target),
        )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_functions(case, dtype):
    assert_same_outcome(
        case,
        dtype,
        lambda input, target, options: getattr(F, case.name)(input, target, **options),
        lambda input, target, options: getattr(torch.nn.functional, case.name)(input, target, **options),
    )


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "mse_loss" or "weight" not in case.options], ids=repr
)
def test_modules(case):
    kind = MODULES[case.name]
    assert_same_outcome(
        case,
        "float64",
        lambda input, target, options: getattr(nn, kind)(**options)(input, target),
        lambda input, target, options: getattr(torch.nn, kind)(**options)(input, target),
    )


WEIGHTS_OF = {
    "mse_loss": set(),
    "cross_entropy": {"weight"},
    "nll_loss": {"weight"},
    "binary_cross_entropy_with_logits": {"weight", "pos_weight"},
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_prints_and_keeps_its_weights_as_torchs(name):
    for options in [{}, {"weight": WEIGHT}, {"weight": WEIGHT, "pos_weight": WEIGHT}]:
        if not set(options) <= WEIGHTS_OF[name]:
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
    # Classes ruled out by -inf, also where the example is ignored.
    *(
        Case("cross_entropy", np.array([[-np.inf, 0.0, 1], [0, -np.inf, 2], [-np.inf, 3, 0]]), target)
        for target in [np.array([1, 0, 2]), np.array([1, -100, 1]), np.array([-100, 0, -100])]
    ),
    Case("nll_loss", np.array([[-np.inf, -0.5, -1], [-0.3, -np.inf, -2]]), np.array([-100, 0])),
    Case("nll_loss", np.array([[-0.5, -0.5, -np.inf], [-0.3, -np.inf, -2]]), np.array([0, -100])),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("case", EXTREMES, ids=repr)
def test_extremes(case, dtype):
    test_functions(case, dtype)
    value, gradient, _ = outcome(
        pg, lambda input, target, options: getattr(F, case.name)(input, target, **options), case, dtype
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# ----- what data parallelism adds up -----

SHARDED = [
    case for case in CASES if case.input.ndim > 1 and len(case.input) > 1 and case.options["reduction"] != "none"
]


def batched(options, part, count):
    """The options of a shard: weights of every example are cut, those of classes are not."""
    return {
        k: v[part] if isinstance(v, np.ndarray) and v.ndim > 1 and len(v) == count else v for k, v in options.items()
    }


@pytest.mark.parametrize("cuts", [[], [1], [2, 2], [1, 3]], ids=str)
@pytest.mark.parametrize("case", SHARDED, ids=repr)
def test_the_sums_and_divisors_of_uneven_shards_add_up_to_the_batchs(case, cuts):
    whole, count = case.of(torch, "float64"), len(case.input)
    expected = getattr(torch.nn.functional, case.name)(whole[0], whole[1], **whole[2])
    expected.backward()

    summing = case.options["reduction"] == "sum"
    total, divisor = 0.0, 1 if summing else 0
    gradient = np.zeros_like(case.input)
    for start, stop in itertools.pairwise([0, *cuts, count]):
        part = slice(start, stop)
        options = batched(case.options, part, count)
        shard = Case(case.name, case.input[part], case.target[part], **options)
        input, target, options = shard.of(pg, "float64")
        shard_sum, shard_divisor = getattr(F, case.name).sum_and_divisor(input, target, **options)
        assert shard_sum.shape == ()
        # A sum is not divided; a divisor is no numpy number, for it travels.
        assert shard_divisor is None if summing else type(shard_divisor) in (int, float)
        shard_sum.backward()
        gradient[part] = input.grad.numpy()
        total, divisor = total + shard_sum.item(), divisor + (shard_divisor or 0)

    if divisor == 0:
        assert np.isnan(expected.item())
        assert total == 0
        assert not gradient.any()
        return
    np.testing.assert_allclose(total / divisor, expected.item(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gradient / divisor, whole[0].grad.numpy(), rtol=1e-12, atol=1e-13)
