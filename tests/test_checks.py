"""Every check of checks.py fails on something that is wrong, if only by little, and passes what is right."""

import numpy as np
import pytest

import pargrad as pg
from pargrad.rules import rule, sample, table
from pargrad.rules.complex import complexes
from pargrad.tensor import apply
from tests.checks import (
    DIFFERENCE,
    EXACT,
    array_of,
    assert_equal,
    can_require_grad,
    check_derivative,
    check_dtypes,
    check_explained,
    check_layouts,
    check_memory,
    check_plain,
    check_recorded,
    check_second_derivative,
    check_unbroadcast,
    check_versions,
    draw,
    is_complex,
    layouts,
    precision,
    run,
    saved_names,
    weights,
)

WRONG = 1.0005  # a derivative wrong by 0.05 %

pytestmark = pytest.mark.usefixtures("own_table")


def made(function, *samples, **options):
    return rule(*(samples or (sample((2, 3), (2, 3)),)), **options)(function)


def product(x, y):
    return x * y, lambda g: g * y, lambda g: g * x


def test_a_sample_of_a_function_is_drawn_alike_in_every_run():
    one, other = (sample(table.integers(1000, 8)) for _ in range(2))
    assert str(one) != str(other)  # functions have addresses
    row = made(product, one, other)
    assert_equal(draw(row, one), draw(row, other))


def test_a_refusal_in_other_words_is_seen():
    def refuse():
        raise ValueError("got 3")

    check_explained(refuse, ["got", "3"])
    for act, pieces in ((refuse, ["got", "4"]), (list, [])):
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check_explained(act, pieces)


COMPLEX = sample(complexes(2, 3), complexes(2, 3))


@pytest.mark.parametrize("one", [sample((2, 3), (2, 3)), COMPLEX], ids=["real", "complex"])
def test_the_right_rule_passes_every_check(one):
    row = made(product, one, plain=lambda x, y: y * x)
    assert check_derivative(lambda x, y: apply(row, x, y), draw(row, one)) == 2
    assert check_second_derivative(lambda x, y: apply(row, x, y), draw(row, one)) == 2
    for check in (
        check_dtypes, check_layouts, check_memory, check_unbroadcast, check_versions, check_plain, check_recorded,
    ):  # fmt: skip
        check(row, one)
    assert saved_names(row, one) == ["y", "x"]


# ----- derivatives -----


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("factor", [WRONG, 1 / WRONG, -1.0, 0.0])
def test_a_derivative_that_is_wrong_by_little_is_found(factor, argument):
    of_x, of_y = (factor, 1.0) if argument == 0 else (1.0, factor)

    def wrong(x, y):
        return x * y, lambda g: of_x * g * y, lambda g: of_y * g * x

    row = made(wrong)
    with pytest.raises(AssertionError, match=f"argument {argument}: the derivative along a random direction"):
        check_derivative(lambda x, y: apply(row, x, y), draw(row, row.samples[0]))


@pytest.mark.parametrize("wrong", ["one element", "transposed"])
def test_a_derivative_that_is_wrong_in_one_place_is_found(wrong):
    def scaled(x):
        def vjp(g):
            out = g * 2 * x
            out[1, 1] *= WRONG if wrong == "one element" else 1
            return out.T if wrong == "transposed" else out

        return x * x, vjp

    row = made(scaled, sample((2, 2)))
    with pytest.raises(AssertionError, match="argument 0"):
        check_derivative(lambda x: apply(row, x), [np.array([[1.0, 2.0], [3.0, 4.0]])])


@pytest.mark.parametrize("factor", [WRONG, 1 / WRONG, np.exp(0.0005j), -1.0, 1j, 0.0])
def test_a_complex_derivative_that_is_wrong_by_little_is_found(factor):
    def wrong(x, y):
        return x * y, lambda g: factor * g * y, lambda g: g * x

    row = made(wrong, COMPLEX)
    with pytest.raises(AssertionError, match="argument 0: the derivative along a random direction"):
        check_derivative(lambda x, y: apply(row, x, y), draw(row, COMPLEX))


def size(x):
    """|x|, whose derivative is right as it stands, and not conjugated."""
    y = np.abs(x)
    return y, lambda g: g * (x / y)


def conjugate(x):
    return np.conj(x), lambda g: np.conj(g)


@pytest.mark.parametrize(("function", "wrong"), [
    (size, lambda x: (np.abs(x), lambda g: g * (np.conj(x) / np.abs(x)))),
    (size, lambda x: (np.abs(x), lambda g: g * (x.real / np.abs(x)))),
    (conjugate, lambda x: (np.conj(x), lambda g: g)),
])  # fmt: skip
def test_a_derivative_that_is_not_holomorphic_must_be_conjugated_where_it_should(function, wrong):
    one = sample(complexes(2, 3))
    right, false = made(function, one, holomorphic=False), made(wrong, one, holomorphic=False)
    assert check_derivative(lambda x: apply(right, x), draw(right, one)) == 1
    with pytest.raises(AssertionError, match="argument 0: the derivative along a random direction"):
        check_derivative(lambda x: apply(false, x), draw(false, one))


def test_a_rule_that_is_not_holomorphic_and_does_not_say_so_is_found():
    def turned(x):
        return 1j * np.conj(x), lambda g: 1j * np.conj(g)

    one = sample(complexes(2, 3))
    wrong = made(turned, one)
    table.RULES.clear()
    right = made(turned, one, holomorphic=False)
    with pytest.raises(AssertionError, match="argument 0: the derivative along a random direction"):
        check_derivative(lambda x: apply(wrong, x), draw(wrong, one))
    assert check_derivative(lambda x: apply(right, x), draw(right, one)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_a_derivative_is_not_compared_in_float32(dtype):
    with pytest.raises(AssertionError, match="float64 only"):
        check_derivative(pg.exp, [np.ones(2, dtype)])


def test_the_number_of_derivatives_found_is_told():
    assert check_derivative(lambda x, y: x * y.detach(), [np.ones(2), np.ones(2)]) == 1
    assert check_derivative(lambda x, y: x.detach() * 2, [np.ones(2), np.ones(2)]) == 0


def test_the_tolerances_would_see_the_error():
    assert 100 * DIFFERENCE < WRONG - 1
    assert all(100 * tolerance < WRONG - 1 for tolerance in EXACT.values())


# ----- comparing -----


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ([1.0], [1.0000001]),
        ([1.0, 2.0], [1.0]),
        ([None], [np.zeros(1)]),
        ([np.zeros(1)], [None]),
        ([np.zeros(2)], [np.zeros((2, 1))]),
        ([np.zeros(2)], [np.zeros(1)]),
        ([np.zeros(2, np.float32)], [np.zeros(2)]),
        ([np.float32(1.0)], [np.float32(1.00001)]),
        ([np.array([1, 2])], [np.array([1, 3])]),
        ([np.array([np.nan])], [np.array([0.0])]),
        ([np.array([np.inf])], [np.array([-np.inf])]),
        ([np.array([1 + 1j])], [np.array([1 + 1.0000001j])]),
        ([np.array([1 + 1j])], [np.array([1 - 1j])]),
        ([np.array([1 + 0j])], [np.array([1.0])]),
        ([np.complex64(1 + 1j)], [np.complex64(1 + 1.00001j)]),
        ([np.complex64(1)], [np.complex128(1)]),
        ([np.array([complex(0, np.nan)])], [np.array([0j])]),
    ],
    ids=str,
)
def test_what_differs_is_not_equal(got, expected):
    with pytest.raises(AssertionError):
        assert_equal(got, expected)
    assert_equal(got, got)
    assert_equal(expected, expected)


def test_run_gives_values_gradients_and_what_never_arrived():
    values, gradients = run(pg, lambda x, y, z: (x * x, y + 1), [np.array([3.0]), np.array([1]), np.array([5.0])])
    assert_equal(values, [np.array([9.0]), np.array([2])])
    assert_equal(gradients, [6 * weights((1,)), None, None])


def test_run_gives_complex_gradients():
    z = np.array([3.0 + 1j])
    (value, size), (gradient, of_integer) = run(pg, lambda x, y: (x * x, abs(x)), [z, np.array([1])])
    assert_equal([value, size, of_integer], [z * z, np.abs(z), None])
    assert_equal([gradient], [2 * z.conj() * weights((1,), complex) + z / np.abs(z) * weights((1,))])
    assert_equal([array_of(pg.tensor(z, requires_grad=True))], [z])


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.float32, np.complex64])
def test_weights_are_different_and_not_zero(dtype):
    for shape in [(), (1,), (7,), (3, 4)]:
        values = weights(shape, dtype)
        assert (values.shape, values.dtype) == (shape, dtype)
        assert len(set(values.reshape(-1).tolist())) == values.size
        assert (np.abs(values.real) >= 0.5).all()
        assert np.dtype(dtype).kind == "f" or len({*values.imag.reshape(-1).tolist()} - {0.0}) == values.size
    assert (weights((3, 4), dtype).real < 0).any()


@pytest.mark.parametrize(("dtype", "of_gradient", "of_complex", "half"), [
    (np.float32, True, False, np.float32), (np.float64, True, False, np.float64),
    (np.complex64, True, True, np.float32), (np.complex128, True, True, np.float64),
    (np.int64, False, False, None), (bool, False, False, None),
])  # fmt: skip
def test_what_an_array_is(dtype, of_gradient, of_complex, half):
    x = np.ones(2, dtype)
    assert (can_require_grad(x), is_complex(x)) == (of_gradient, of_complex)
    assert half is None or precision(x) == half
    assert not can_require_grad(1.0)
    assert not is_complex(1j)


def test_a_draw_in_float32_has_complex64():
    row = made(product, sample((2,), complexes(2)))
    assert [x.dtype for x in draw(row, row.samples[0], np.float32)] == [np.float32, np.complex64]
    assert [x.dtype for x in draw(row, row.samples[0])] == [np.float64, np.complex128]


def test_layouts_differ_are_read_only_and_share_nothing():
    x = np.arange(6.0).reshape(2, 3)
    others = list(layouts(x))
    assert len(list(layouts(np.array([[1j, complex(np.nan, 1)]])))) == 3  # nan is nan
    assert len({other.strides for other in others} | {x.strides}) == 4
    assert not any(other.flags.writeable or np.shares_memory(other, x) for other in others)


def test_a_draw_is_the_same_every_time_and_another_for_another_rule():
    first, second = made(product), made(lambda x, y: product(x, y))
    one, again, other = (draw(row, row.samples[0]) for row in (first, first, second))
    assert_equal(one, again)
    assert not np.array_equal(one[0], other[0])


# ----- dtypes, layouts, memory -----


def widens_value(x):
    return x * np.array(1.0), lambda g: g


def widens_gradient(x):
    return x * 1, lambda g: g * np.ones(g.shape)


def returns_wrong_shape(x):
    return x.sum(axis=0), lambda g: g


@pytest.mark.parametrize("one", [sample((2, 3)), sample(complexes(2, 3))], ids=["real", "complex"])
@pytest.mark.parametrize("function", [widens_value, widens_gradient])
def test_float64_from_float32_is_found(function, one):
    row = made(function, one)
    with pytest.raises(AssertionError, match=r"float32 (became|is) (float64|complex128)"):
        check_dtypes(row, row.samples[0])


def test_a_gradient_of_another_shape_is_found():
    row = made(returns_wrong_shape, sample((2, 3)))
    with pytest.raises((AssertionError, IndexError, ValueError)):
        check_unbroadcast(row, row.samples[0])


def reads_raw_memory(x):
    return x + np.ndarray(
        x.shape, x.dtype, x.base.tobytes() if x.base is not None else x.tobytes(order="K")
    ), lambda g: g


def writes_argument(x):
    y = x
    y += 1
    return y.copy(), lambda g: g


@pytest.mark.parametrize("function", [reads_raw_memory, writes_argument])
def test_a_rule_that_depends_on_layout_or_writes_is_found(function):
    row = made(function, sample((2, 3)))
    with pytest.raises((AssertionError, ValueError)):
        check_layouts(row, row.samples[0])


def writes_g(x):
    def vjp(g):
        g *= 2
        return g

    return 2 * x, vjp


def gives_its_argument(x):
    return x * 1, lambda g: x


def gives_a_view_of_its_value(x):
    y = x * 1
    return y, lambda g: y[...]


def gives_the_same_array_twice(x):
    kept = np.zeros(x.shape)

    def vjp(g):
        np.add(g, 0, out=kept)
        return kept

    return x * 1, vjp


def gives_one_array_to_two(*tensors):
    def vjp(g):
        out = 2 * g
        return tuple(out for _ in tensors)

    return 2 * sum(tensors), vjp


def remembers(x):
    calls = []

    def vjp(g):
        calls.append(g)
        return len(calls) * g

    return x * 1, vjp


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (writes_g, ValueError),
        (gives_its_argument, AssertionError),
        (gives_a_view_of_its_value, AssertionError),
        (gives_the_same_array_twice, AssertionError),
        (remembers, AssertionError),
    ],
)
def test_a_gradient_in_foreign_memory_is_found(function, error):
    row = made(function, sample((2, 3)))
    with pytest.raises(error):
        check_memory(row, row.samples[0])


def test_one_array_for_two_arguments_is_found():
    row = made(gives_one_array_to_two, sample((2, 3), (2, 3)), joint=True)
    with pytest.raises(AssertionError, match="shares memory with another one"):
        check_memory(row, row.samples[0])


# ----- derivatives of derivatives -----


def leaves_the_graph(x):
    return x * x, lambda g: 2 * (g.array if isinstance(g, pg.Tensor) else g) * x


def leaves_it_in_part(x):
    return x * x, lambda g: g * x + (g.detach() if isinstance(g, pg.Tensor) else g) * x


def is_another_function_of_tensors(x):
    return x * x, lambda g: (WRONG if isinstance(g, pg.Tensor) else 1) * 2 * g * x


def writes_in_place(x):
    def vjp(g):
        out = np.zeros(x.shape)
        out[:] = g
        return 2 * out * x

    return x * x, vjp


@pytest.mark.parametrize(
    "function", [leaves_the_graph, leaves_it_in_part, is_another_function_of_tensors, writes_in_place]
)
def test_a_vjp_that_does_not_work_on_tensors_is_found(function):
    row = made(function, sample((2, 3)))
    with pytest.raises((AssertionError, RuntimeError)):
        check_recorded(row, row.samples[0])


def hides_what_it_depends_on(x):
    twice = (2 * x,)  # in a tuple, where the engine does not look
    return x * x, lambda g: g * twice[0]


def is_not_its_derivative(x):
    constant = x * 1
    return x * x, lambda g: 2 * g * (WRONG * x + (1 - WRONG) * (constant.detach() if isinstance(g, pg.Tensor) else x))


@pytest.mark.parametrize("function", [hides_what_it_depends_on, is_not_its_derivative])
def test_a_second_derivative_that_is_wrong_is_found(function):
    row = made(function, sample((2, 3)))
    with pytest.raises(AssertionError, match="along a random direction"):
        check_second_derivative(lambda x: apply(row, x), draw(row, row.samples[0]))


# ----- what is saved -----


def keeps_a_copy_of_its_view(x):
    flat = x.reshape(-1)
    return x * x, lambda g: 2 * g * flat.reshape(g.shape)


def keeps_the_value_under_a_view(x):
    y = np.exp(x)
    return y[...], lambda g: g * y


@pytest.mark.parametrize("one", [sample((2, 3)), sample(complexes(2, 3))], ids=["real", "complex"])
@pytest.mark.parametrize("function", [keeps_a_copy_of_its_view, keeps_the_value_under_a_view])
def test_a_saved_array_that_the_engine_cannot_see_is_found(function, one):
    row = made(function, one)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_versions(row, row.samples[0])


def test_hidden_arrays_are_named():
    def hides(x, y):
        big = np.ones(100)
        pair = (x, 1)

        def inner(g):
            return g * big[0]

        return x * 1 + y, lambda g: inner(g), lambda g: g * pair[1]

    row = made(hides)
    assert saved_names(row, row.samples[0]) == ["big", "pair"]


@pytest.mark.parametrize("plain", [lambda x, y: WRONG * x * y, lambda x, y: x * y.detach(), lambda x, y: x + y])
def test_a_composition_that_is_another_function_is_found(plain):
    row = made(product, plain=plain)
    with pytest.raises(AssertionError):
        check_plain(row, row.samples[0])
