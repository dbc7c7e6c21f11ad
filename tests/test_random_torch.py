"""The random numbers against torch's, to the bit: draws of every kind, sequences of them, and how weights begin."""

import math

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, random
from pargrad.data import epoch_order

SEEDS = [0, 1, 42, 2**31, 2**32 + 5, -1, -(2**63), 2**64 - 1]
SIZES = [(), (0,), (1,), (7,), (16,), (1000,), (3, 5), (2, 0, 3)]
DTYPES = ["float32", "float64"]


def assert_same_bits(ours, theirs) -> None:
    """A tensor or array of pargrad's and a tensor of torch's have one dtype, one shape and the same bits."""
    ours = ours.array if isinstance(ours, pg.Tensor) else ours
    theirs = theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes(), f"{np.sum(ours != theirs)} of {ours.size} elements differ"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (np.array([1.0, np.nextafter(2.0, 3.0)]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
        (np.array([0.0]), torch.tensor([-0.0], dtype=torch.float64)),
        (np.array([1.0]), torch.tensor([1.0])),
        (np.zeros((2, 1)), torch.zeros(2, dtype=torch.float64)),
    ],
    ids=["last bit", "sign of zero", "dtype", "shape"],
)
def test_the_checker_sees_a_difference(ours, theirs):
    with pytest.raises(AssertionError):
        assert_same_bits(ours, theirs)


# ----- draws -----

# Each kind of draw from the default generator, as pargrad and as torch write it.
DRAWS = {
    **{
        f"rand {dtype} {size}": (
            lambda size=size, dtype=dtype: pg.rand(size, dtype=dtype),
            lambda size=size, dtype=dtype: torch.rand(size, dtype=getattr(torch, dtype)),
        )
        for size in SIZES
        for dtype in DTYPES
    },
    **{
        f"randint {low} {high}": (
            lambda low=low, high=high: pg.randint(low, high, (3, 3)),
            lambda low=low, high=high: torch.randint(low, high, (3, 3)),
        )
        # From a range of 2^28 on torch takes two words a number.
        for low, high in [
            (0, 1), (0, 2), (0, 10), (-5, 5), (3, 2**28 + 2), (3, 2**28 + 3), (0, 2**31), (-(2**31), 2**31 - 1),
            (0, 2**32), (-(2**40), 2**50), (-(2**63), 2**63 - 1),
        ]
    },
    "randint of high alone": (lambda: pg.randint(7, (4,)), lambda: torch.randint(7, (4,))),
    "randint of high alone, size named": (lambda: pg.randint(7, size=(4,)), lambda: torch.randint(7, size=(4,))),
    "randint all named": (
        lambda: pg.randint(low=2, high=9, size=(4,)),
        lambda: torch.randint(low=2, high=9, size=(4,)),
    ),
    **{
        f"randperm {n}": (lambda n=n: pg.randperm(n), lambda n=n: torch.randperm(n)) for n in [0, 1, 2, 10, 1000, 60000]
    },
    **{
        f"dropout {p} {size} {dtype}": (
            lambda p=p, size=size, dtype=dtype: F.dropout(pg.ones(size, dtype=dtype), p),
            lambda p=p, size=size, dtype=dtype: torch.nn.functional.dropout(
                torch.ones(size, dtype=getattr(torch, dtype)), p
            ),
        )
        for p in [0.0, 0.1, 0.5, 0.9, 1.0]
        for size in [(0,), (1,), (16,), (40, 25)]
        for dtype in DTYPES
    },
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_a_draw_is_torchs_and_so_is_the_one_after_it(draw, seed):
    ours, theirs = DRAWS[draw]
    pg.manual_seed(seed)
    torch.manual_seed(seed)
    assert_same_bits(ours(), theirs())
    assert_same_bits(pg.rand(5), torch.rand(5))  # as many words were taken


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_interleaved_sequence_of_draws(seed):
    pg.manual_seed(seed)
    torch.manual_seed(seed)
    chosen = np.random.default_rng(0).permutation(list(DRAWS))
    for name in chosen:
        ours, theirs = DRAWS[name]
        assert_same_bits(ours(), theirs())


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1,), (16,), (25, 40)])
def test_bernoulli_with_one_probability(p, size):
    drawn = random.bernoulli(pg.Generator().manual_seed(3), size, p)
    assert_same_bits(
        drawn, torch.empty(size, dtype=torch.bool).bernoulli_(p, generator=torch.Generator().manual_seed(3))
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_generator_objects(seed):
    ours, theirs = pg.Generator(), torch.Generator()
    assert ours.initial_seed() == theirs.initial_seed()
    assert_same_bits(pg.rand(3, generator=ours), torch.rand(3, generator=theirs))
    assert ours.manual_seed(seed) is ours
    theirs.manual_seed(seed)
    assert ours.initial_seed() == theirs.initial_seed()
    assert_same_bits(pg.rand(3, 5, generator=ours), torch.rand(3, 5, generator=theirs))
    assert_same_bits(pg.randint(0, 9, (4,), generator=ours), torch.randint(0, 9, (4,), generator=theirs))
    assert_same_bits(pg.randperm(11, generator=ours), torch.randperm(11, generator=theirs))
    assert_same_bits(
        nn.init.uniform_(pg.zeros(2, 3), -2, 5, generator=ours),
        torch.nn.init.uniform_(torch.zeros(2, 3), -2, 5, generator=theirs),
    )


@pytest.mark.parametrize(("examples", "seed", "epoch"), [(1, 0, 0), (10, 0, 0), (10, 0, 3), (129, 7, 2), (5000, 42, 1)])
def test_the_order_of_an_epoch_is_the_distributed_samplers(examples, seed, epoch):
    sampler = torch.utils.data.DistributedSampler(range(examples), num_replicas=1, rank=0, shuffle=True, seed=seed)
    sampler.set_epoch(epoch)
    assert epoch_order(examples, seed, epoch).tolist() == list(sampler)


# ----- how weights begin -----

FILLS = {
    **{
        f"uniform_ {low} {high}": lambda init, tensor, low=low, high=high: init.uniform_(tensor, low, high)
        for low, high in [
            (0.0, 1.0), (-0.1, 0.1), (-1 / math.sqrt(3), 1 / math.sqrt(3)), (2.0, 2.0), (-1e30, 1e30),
            (2**24 - 4, 2**24),
        ]
    },
    **{
        f"kaiming_uniform_ {mode} {nonlinearity} {a}": (
            lambda init, tensor, a=a, mode=mode, nonlinearity=nonlinearity: init.kaiming_uniform_(
                tensor, a, mode, nonlinearity
            )
        )
        for mode in ["fan_in", "fan_out"]
        for nonlinearity, a in [
            ("leaky_relu", 0), ("leaky_relu", math.sqrt(5)), ("relu", 0), ("tanh", 0), ("sigmoid", 0), ("linear", 0),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 3), (1, 7), (0, 3), (3, 2, 5)])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # torch's own
def test_init(fill, shape, dtype):
    pg.manual_seed(5)
    torch.manual_seed(5)
    ours, theirs = pg.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=getattr(torch, dtype))
    assert FILLS[fill](nn.init, ours) is ours
    FILLS[fill](torch.nn.init, theirs)
    assert_same_bits(ours, theirs)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        *((dtype, *bounds) for dtype in DTYPES for bounds in [(-0.036, 0.036), (-3.3, 7.1), (1e5, 1e5 + 1)]),
        ("float32", -1e36, 7e35),
        ("float64", -1e300, 7e299),
    ],
)
def test_a_hundred_thousand_uniform_numbers_are_rounded_as_torchs(dtype, low, high):
    drawn = random.uniform(pg.Generator().manual_seed(1), (100_000,), low, high, dtype)
    theirs = torch.empty(100_000, dtype=getattr(torch, dtype))
    assert_same_bits(drawn, theirs.uniform_(low, high, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("nonlinearity", "param"),
    [("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("leaky_relu", None), ("leaky_relu", 0.2)],
)
def test_calculate_gain(nonlinearity, param):
    assert nn.init.calculate_gain(nonlinearity, param) == torch.nn.init.calculate_gain(nonlinearity, param)


# Models as both libraries write them.
MODELS = {
    **{
        f"Linear {shape} bias={bias}": lambda nn, shape=shape, bias=bias: nn.Linear(*shape, bias=bias)
        for shape in [(1, 1), (3, 4), (784, 128), (5, 1), (2, 0)]
        for bias in [True, False]
    },
    "MNIST's": lambda nn: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    ),
    "nested": lambda nn: nn.Sequential(
        nn.Linear(2, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 5, bias=False)), nn.Dropout(0.3), nn.Linear(5, 1)
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_models_begin_as_torchs(model, seed):
    pg.manual_seed(seed)
    torch.manual_seed(seed)
    ours, theirs = MODELS[model](nn).state_dict(), MODELS[model](torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        assert_same_bits(ours[name], theirs[name])
    assert_same_bits(pg.rand(1), torch.rand(1))


def test_a_linear_of_float64():
    pg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = nn.Linear(6, 3, dtype=pg.float64), torch.nn.Linear(6, 3, dtype=torch.float64)
    assert_same_bits(ours.weight, theirs.weight)
    assert_same_bits(ours.bias, theirs.bias)
