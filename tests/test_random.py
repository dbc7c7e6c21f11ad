"""The streams of random words: how they are seeded, how a shard's differ, and what a draw refuses."""

import math
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, random
from pargrad.random import Generator, ShardGenerator

# ----- the default generator -----


def test_the_draws_of_seed_0_are_these():
    # torch's own figures, so that a machine without torch sees a change too.
    pg.manual_seed(0)
    assert pg.rand(3).tolist() == [0.49625658988952637, 0.7682217955589294, 0.08847743272781372]
    assert pg.randint(0, 10, (5,)).tolist() == [0, 3, 9, 7, 3]
    assert pg.randperm(5).tolist() == [2, 4, 1, 3, 0]


def test_a_seed_starts_the_stream_anew_and_a_draw_moves_it():
    assert pg.manual_seed(5) is random.default_generator
    first, second = pg.rand(4).tolist(), pg.rand(4).tolist()
    assert first != second
    pg.manual_seed(5)
    assert [pg.rand(4).tolist(), pg.rand(4).tolist()] == [first, second]


def test_a_generator_of_ones_own_leaves_the_default_one_alone():
    pg.manual_seed(5)
    expected = pg.rand(4).tolist()
    pg.manual_seed(5)
    pg.rand(100, generator=Generator().manual_seed(5))
    nn.init.kaiming_uniform_(pg.zeros(3, 2), generator=Generator())
    assert pg.rand(4).tolist() == expected


def test_using_a_generator_is_undone_also_after_an_error_and_in_this_thread_only():
    ours = Generator().manual_seed(1)
    seen = []
    with random.using(ours) as given_back:
        assert given_back is ours
        assert random.current_generator() is ours
        thread = threading.Thread(target=lambda: seen.append(random.current_generator()))
        thread.start()
        thread.join()
        with pytest.raises(KeyError), random.using(Generator()):
            raise KeyError
        assert random.current_generator() is ours
    assert seen == [random.default_generator]
    assert random.current_generator() is random.default_generator


DRAWS = {
    "rand": lambda: pg.rand(3),
    "randint": lambda: pg.randint(0, 1000, (3,)),
    "randperm": lambda: pg.randperm(20),
    "dropout": lambda: F.dropout(pg.ones(40)),
    "init": lambda: nn.Linear(3, 4).weight,
    "randn, few": lambda: pg.randn(5),
    "randn, many": lambda: pg.randn(30),
    "rand of complex numbers": lambda: pg.rand(3, dtype=pg.complex64),
    "normal": lambda: pg.normal(pg.zeros(5), 2.0),
    "randint_like": lambda: pg.randint_like(pg.ones(9), 1000),
    "bernoulli": lambda: pg.bernoulli(pg.full((50,), 0.5)),
    "multinomial": lambda: pg.multinomial(pg.ones(50), 20),
    "multinomial with replacement": lambda: pg.multinomial(pg.ones(50), 20, replacement=True),
    "poisson": lambda: pg.poisson(pg.full((30,), 9.0)),
    "poisson of high rates": lambda: pg.poisson(pg.full((30,), 90.0)),
    "binomial": lambda: pg.binomial(pg.full((30,), 20.0), pg.full((30,), 0.3)),
    "binomial of many": lambda: pg.binomial(pg.full((30,), 2000.0), pg.full((30,), 0.3)),
    **{
        f"{name}_": lambda name=name, arguments=arguments: getattr(pg.zeros(40), f"{name}_")(*arguments)
        for name, arguments in {
            "uniform": (), "normal": (), "exponential": (), "geometric": (0.1,), "cauchy": (), "log_normal": (),
            "random": (), "bernoulli": (),
        }.items()
    },
    **{
        f"nn.init.{name}_": lambda name=name: getattr(nn.init, f"{name}_")(pg.zeros(5, 7))
        for name in ["normal", "trunc_normal", "xavier_normal", "kaiming_normal", "orthogonal"]
    },
    "nn.init.sparse_": lambda: nn.init.sparse_(pg.zeros(5, 7), 0.4),
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS)
def test_every_draw_comes_from_the_current_generator(draw):
    values = []
    for seed in (1, 1, 2):
        with random.using(Generator().manual_seed(seed)):
            values.append(DRAWS[draw]().tolist())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_shards_draws_go_on_from_its_state(draw):
    first, again, another = (ShardGenerator(5, 2, shard) for shard in (1, 1, 3))
    with random.using(first):
        pg.randn(3)  # 8 words, and a spare number
        pg.rand(1)
        state = first.get_state()
        expected = [DRAWS[draw]().tolist(), pg.randn(1).tolist()]
        with pytest.raises(TypeError, match="bytes"):
            first.set_state(random.get_rng_state())
    with random.using(again):
        DRAWS[draw]()
        again.set_state(state)
        assert [DRAWS[draw]().tolist(), pg.randn(1).tolist()] == expected
    with random.using(another):
        assert [DRAWS[draw]().tolist(), pg.randn(1).tolist()] != expected
        another.set_state(state)
        assert [DRAWS[draw]().tolist(), pg.randn(1).tolist()] == expected
        assert another.get_state().tolist() == first.get_state().tolist()


# The first two moments of what each draws, in 40,000 numbers.
MOMENTS = {
    "rand": (lambda many: pg.rand(many), 1 / 2, 1 / 12),
    "randn": (lambda many: pg.randn(many), 0, 1),
    "randn in pairs": (lambda many: pg.zeros(2, many)[:, ::2].normal_(), 0, 1),
    "randn of complex numbers": (lambda many: pg.randn(many, dtype=pg.complex64), 0, 1),
    "normal": (lambda many: pg.normal(3.0, 2.0, (many,)), 3, 4),
    "exponential": (lambda many: pg.empty(many).exponential_(0.5), 2, 4),
    "geometric": (lambda many: pg.empty(many).geometric_(0.25), 4, 12),
    "log_normal": (lambda many: pg.empty(many).log_normal_(0, 0.5), math.exp(0.125), math.exp(0.25) * math.expm1(0.25)),
    "bernoulli": (lambda many: pg.bernoulli(pg.full((many,), 0.3)), 0.3, 0.21),
    "multinomial": (lambda many: pg.multinomial(pg.tensor([1.0, 2.0, 1.0]), many, True), 1, 0.5),
    "multinomial of one": (lambda many: pg.multinomial(pg.tensor([[1.0, 2.0, 1.0]] * many), 1), 1, 0.5),
    **{
        f"poisson {rate}": (lambda many, rate=rate: pg.poisson(pg.full((many,), rate)), rate, rate)
        for rate in [0.5, 9.5, 10.5, 200.0]
    },
    **{
        f"binomial {n} {p}": (
            lambda many, n=n, p=p: pg.binomial(pg.full((many,), n), pg.full((many,), p)), n * p, n * p * (1 - p)
        )
        for n, p in [(5.0, 0.4), (40.0, 0.4), (40.0, 0.9), (1000.0, 0.5)]
    },
}  # fmt: skip


@pytest.mark.parametrize("draw", MOMENTS)
def test_moments_in_a_shard(draw):
    function, mean, variance = MOMENTS[draw]
    with random.using(ShardGenerator(1, 2, 3)):
        drawn = function(40_000).array
    assert abs(drawn.mean() - mean) < 5 * math.sqrt(variance / drawn.size)
    assert abs(drawn.var() / variance - 1) < 0.06


def test_multinomial_without_replacement_repeats_nothing_and_takes_no_weight_of_0():
    drawn = pg.multinomial(pg.tensor([[1.0, 2.0, 0.0, 4.0]] * 100), 3).array
    assert {tuple(sorted(row)) for row in drawn} == {(0, 1, 3)}


def test_random_has_torchs_functions_of_state():
    seeds = {pg.seed(), random.seed()}
    assert len(seeds) == 2
    assert pg.initial_seed() == random.initial_seed() in seeds
    pg.manual_seed(5)
    pg.randn(1)
    state = pg.get_rng_state()
    expected = pg.randn(3).tolist()
    with random.fork_rng():
        pg.manual_seed(6)
        with pytest.raises(KeyError), random.fork_rng():
            pg.rand(100)
            raise KeyError
        inside = pg.rand(3).tolist()
    with random.fork_rng(devices=[], enabled=False):
        pg.set_rng_state(state)
        assert pg.randn(3).tolist() == expected
    pg.manual_seed(6)
    assert pg.rand(3).tolist() == inside
    pg.set_rng_state(state)
    assert pg.randn(3).tolist() == expected
    assert (state.dtype, state.shape) == (pg.uint8, (5056,))


def test_what_is_read_ahead_is_given_back():
    generator = Generator().manual_seed(3)
    with pytest.raises(KeyError), random.one_by_one(generator) as take:
        assert [take() for _ in range(300)] == random.doubles(Generator().manual_seed(3), 300).tolist()
        raise KeyError
    assert random.doubles(generator, 2).tolist() == random.doubles(Generator().manual_seed(3), 302)[300:].tolist()


def test_where_nothing_may_be_drawn_nothing_is():
    with random.using(random.NoGenerator(KeyError("why"))):
        for draw in DRAWS.values():
            with pytest.raises(KeyError, match="why"):
                draw()
        ours = Generator().manual_seed(1)
        for draw in (pg.rand, pg.randn, lambda n, generator: pg.zeros(n).uniform_(generator=generator)):
            with pytest.raises(KeyError, match="why"):
                draw(3, generator=ours)
    assert pg.rand(3, generator=ours).tolist() == pg.rand(3, generator=Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: Generator("cuda"), ValueError, "'cuda'"),
        (lambda: pg.randint(3, 3, (2,)), ValueError, "low=3, high=3"),
        (lambda: pg.randint(0, 2**63 + 1, (2,)), ValueError, "64 bits"),
        (lambda: pg.randint(3), TypeError, "size"),
        (lambda: pg.normal(0.0, 1.0), TypeError, "size"),
        (lambda: pg.normal(pg.zeros(2), 1.0, (2,)), TypeError, "size"),
        (lambda: pg.rand(3, dtype=pg.int64), RuntimeError, "int64"),
        (lambda: pg.rand(3, device="cuda"), RuntimeError, "cuda"),
        (lambda: pg.multinomial(pg.ones(3), 4), RuntimeError, "got 4 for 3"),
        (lambda: pg.zeros(3).random_(5, 5), RuntimeError, "5 and 5"),
        (lambda: pg.zeros(3, dtype=pg.uint8).random_(300), RuntimeError, "uint8 .* 299"),
        (lambda: pg.zeros(3, dtype=pg.int64).exponential_(), RuntimeError, "exponential_: .* int64"),
        (lambda: Generator().set_state(pg.zeros(3)), TypeError, r"5056 bytes.* float32 of shape \(3,\)"),
        (lambda: F.dropout(pg.ones(2), 1.5), ValueError, r"between 0 and 1, got 1\.5"),
        (lambda: nn.Dropout(-0.1), ValueError, r"between 0 and 1, got -0\.1"),
        (lambda: nn.init.kaiming_uniform_(pg.zeros(3)), ValueError, r"shape \(3,\)"),
        (lambda: nn.init.kaiming_uniform_(pg.zeros(3, 2), mode="fan"), ValueError, "'fan'"),
        (lambda: nn.init.calculate_gain("swish"), ValueError, "'swish'"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, told):
    with pytest.raises(error, match=told):
        call()


def test_draws_in_place_leave_no_gradient_behind_them_and_count_as_a_change():
    x = pg.ones(3, requires_grad=True)
    y = x * 2
    y.normal_()
    (y * x).sum().backward()
    assert x.grad.tolist() == y.tolist()
    for name in ["uniform_", "normal_", "exponential_", "random_", "bernoulli_"]:
        with pytest.raises(RuntimeError, match=name):
            getattr(x, name)()
        with pg.no_grad():
            assert getattr(x, name)() is x
        y = x * 2
        squared = (y * y).sum()
        getattr(y, name)()
        with pytest.raises(RuntimeError, match="in-place"):
            squared.backward()


def test_init_counts_as_a_change_of_the_tensor():
    weight = pg.ones(2, 2, requires_grad=True)
    squared = (weight * weight).sum()
    nn.init.uniform_(weight)
    with pytest.raises(RuntimeError, match="in-place"):
        squared.backward()


# ----- the streams of shards -----


def test_the_same_key_gives_the_same_stream_and_any_other_key_another():
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (2**63, 5, 7), (2**64 - 1, 5, 7)]
    streams = {key: ShardGenerator(*key).words(64).tolist() for key in keys}
    assert {key: ShardGenerator(*key).words(64).tolist() for key in keys} == streams
    everything = [word for words in streams.values() for word in words]
    assert len(set(everything)) > len(everything) - 5  # 32-bit words: a rare equal pair means nothing
    assert ShardGenerator(-1, 5, 7).words(64).tolist() == streams[2**64 - 1, 5, 7]


@given(seed=st.integers(0, 2**64 - 1), cuts=st.lists(st.integers(0, 9), max_size=12))
@settings(max_examples=50, deadline=None)
def test_words_do_not_depend_on_how_many_are_asked_for_at_a_time(seed, cuts):
    parts = ShardGenerator(seed, 3, 1)
    together = ShardGenerator(seed, 3, 1).words(sum(cuts)).tolist()
    assert [word for count in cuts for word in parts.words(count).tolist()] == together
    assert len(together) == sum(cuts)


def test_words_have_32_bits_and_every_bit_is_used():
    words = ShardGenerator(0, 1, 2).words(1000)
    assert words.dtype == np.uint64
    assert int(np.bitwise_or.reduce(words)) == 2**32 - 1
    ones = [(words >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(32)]
    assert 0.4 < min(ones) < max(ones) < 0.6


def test_a_shards_stream_feeds_torchs_formulas():
    shard = ShardGenerator(0, 1, 2)
    words = ShardGenerator(0, 1, 2).words(6)
    expected = (words[:2] & np.uint64(2**24 - 1)).astype(np.float32) * np.float32(2**-24)
    assert pg.rand(2, generator=shard).tolist() == expected.tolist()
    assert pg.randint(0, 7, (4,), generator=shard).tolist() == [int(word) % 7 for word in words[2:]]


# ----- rounding once -----

numbers = st.floats(-1e100, 1e100).filter(lambda x: x == 0 or abs(x) > 1e-100)


@given(x=numbers, y=numbers, z=numbers)
@settings(max_examples=300, deadline=None)
def test_fused_multiply_add_is_the_exact_value_rounded_once(x, y, z):
    exact = float(Fraction(x) * Fraction(y) + Fraction(z))
    assert random.fused_multiply_add(np.array([x]), y, z)[0] == exact


def test_fused_multiply_add_differs_from_two_roundings_where_it_should():
    x, y, z = 1 + 2.0**-52, 1 - 2.0**-52, -1.0
    assert x * y + z == 0.0
    assert random.fused_multiply_add(np.array([x]), y, z)[0] == -(2.0**-104)


@given(x=numbers, y=numbers)
@settings(max_examples=200, deadline=None)
def test_a_sum_to_odd_rounds_to_float32_as_the_exact_sum_does(x, y):
    x, y = float(np.float32(x / 1e70)), float(np.float32(y / 1e70))  # what float32 holds
    # Rational numbers rounded to float32 by hand: the nearest of the neighbours, the even one of two.
    exact, near = Fraction(x) + Fraction(y), np.float32(x + y)
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    nearest = min(around, key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.int32)) & 1))
    assert random.sum_to_odd(np.array([x]), np.float64(y)).astype(np.float32)[0] == nearest


def test_a_sum_to_odd_avoids_the_double_rounding():
    # 1 + 2^-24 is half way between two float32 numbers; the 2^-60 is lost in float64, and with it the direction.
    x, y = 1 + 2.0**-24, 2.0**-60
    assert np.float32(x + y) == 1.0
    assert random.sum_to_odd(np.array([x]), np.float64(y)).astype(np.float32)[0] == np.float32(1 + 2.0**-23)
