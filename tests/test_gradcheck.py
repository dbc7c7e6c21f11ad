"""gradcheck: it passes on what is right, fails on what is wrong by 0.05 %, and holds every rule of the table."""

import numpy as np
import pytest

import pargrad as pg
from pargrad.autograd import GradcheckError, gradcheck, gradgradcheck
from pargrad.gradcheck import check_rule
from pargrad.rules import RULES
from pargrad.rules.table import RULES as TABLE
from pargrad.rules.table import rule, sample
from pargrad.tensor import apply

WRONG = 1 + 5e-4  # 0.05 %


def drawn(*shape, complex_numbers=False, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.uniform(0.5, 1.5, shape)
    values = values + 1j * generator.uniform(0.5, 1.5, shape) if complex_numbers else values
    return pg.tensor(np.asarray(values), requires_grad=True)


def cube(factor=1.0, second=1.0):
    """x ** 3 with its first derivative, or its second, wrong by a factor."""

    class Square(pg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * second * g * x.conj()

    class Cube(pg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * factor * g * Square.apply(x).conj()

    return Cube.apply


PASSES = {
    "cube": (cube(), [drawn(3)]),
    "a complex cube": (cube(), [drawn(3, complex_numbers=True)]),
    "two": (lambda x, y: x.sin() * y, [drawn(2, 3), drawn(3, seed=1)]),
    "two outputs": (lambda x: (x.exp(), x.sum()), [drawn(3)]),
    "a matrix product": (lambda x, y: x @ y, [drawn(2, 3), drawn(3, 2)]),
    "an unused one": (lambda x, y: x * 2, [drawn(3), drawn(3)]),
    "one that requires none": (lambda x, y: x * y, [drawn(3), drawn(3).detach()]),
    "real to complex": (lambda x: x * (1 + 2j), [drawn(3)]),
    "complex to real": (lambda z: z.abs(), [drawn(3, complex_numbers=True)]),
    "not holomorphic": (lambda z: z * z.conj() + z.real, [drawn(3, complex_numbers=True)]),
    "a number": (lambda x: x * x, [drawn()]),
    "nothing": (lambda x: x * x, [drawn(0)]),
    "in place": (lambda x: (x * 1).mul_(x), [drawn(3)]),
    "a setting": (lambda x, n: x**n, [drawn(3), 3]),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_is_right_passes(name):
    function, inputs = PASSES[name]
    assert gradcheck(function, tuple(inputs)) is True
    assert gradcheck(function, inputs, create_graph=True) is True
    assert gradgradcheck(function, inputs) is True
    for x in inputs:
        assert getattr(x, "grad", None) is None


@pytest.mark.parametrize("complex_numbers", [False, True])
@pytest.mark.parametrize("factor", [WRONG, 1 / WRONG, -1.0, 0.0, float("nan")])
def test_what_is_wrong_fails(factor, complex_numbers):
    x = drawn(3, complex_numbers=complex_numbers)
    first, second = cube(factor), cube(1.0, factor)
    for check, function in ((gradcheck, first), (gradgradcheck, second)):
        with pytest.raises(GradcheckError, match="in backward, .* by differences"):
            check(function, x)
        assert check(function, x, raise_exception=False) is False
    assert gradcheck(second, x)  # its first derivative is right; nan times nothing stays unseen only there


def test_torchs_tolerance_would_let_it_pass():
    assert gradcheck(cube(WRONG), drawn(3), rtol=1e-3)


def test_a_part_that_is_wrong_is_found_and_named():
    weights = pg.tensor([1.0, 1.0, WRONG], dtype=pg.float64)

    class Last(pg.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * 1, y * 1

        @staticmethod
        def backward(ctx, of_x, of_y):
            return of_x, of_y * weights

    with pytest.raises(GradcheckError, match=r"output 1 with respect to input 1 .* \(element 2 of the output, 2 of"):
        gradcheck(Last.apply, (drawn(3), drawn(3)))


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match=r"expected input 0 in float64, got float32: write x.double\(\)"):
        gradcheck(lambda x: x * x, pg.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match="at least one input that requires grad"):
        gradcheck(lambda x: x * x, pg.ones(2, dtype=pg.float64))
    with pytest.raises(ValueError, match="complex64"):
        gradcheck(lambda x: x * x, pg.ones(2, dtype=pg.complex64, requires_grad=True))


# ----- the table of rules -----

DIFFERENTIABLE = sorted(name for name, row in RULES.items() if row.differentiable)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_rule(name):
    assert check_rule(RULES[name]) > 0


@pytest.fixture
def wrong_rule():
    @rule(sample((3,)))
    def cubed_wrongly(x):
        return x**3, lambda g: 3 * WRONG * g * x**2

    yield cubed_wrongly
    del TABLE["cubed_wrongly"]


@pytest.fixture
def constant_rule():
    """Its first derivative is right, but closes over an array that no graph knows."""

    @rule(sample((3,)))
    def cubed_once(x):
        slope = np.asarray(3 * x.__array__() ** 2 if isinstance(x, np.ndarray) else 3 * x.detach().numpy() ** 2)
        return x**3, lambda g: g * slope

    yield cubed_once
    del TABLE["cubed_once"]


def test_a_wrong_rule_is_found(wrong_rule, constant_rule):
    with pytest.raises(GradcheckError):
        check_rule(RULES["cubed_wrongly"])
    x = drawn(3)
    assert gradcheck(lambda x: apply(RULES["cubed_once"], x), x)
    with pytest.raises(GradcheckError):
        check_rule(RULES["cubed_once"])
