"""Complex numbers against torch: every rule on complex arguments, what takes them apart, dtypes, printing, refusals."""

import itertools
import warnings

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.autograd
from pargrad import operators, printing
from pargrad.rules import RULES
from tests.agreement_torch import check_both, check_twins
from tests.checks import CASES, as_function, assert_equal, can_require_grad, check_derivative, draw, is_complex, run
from tests.test_rules_torch import TWINS

INF, NAN = np.inf, np.nan
both = pytest.mark.parametrize("dtype", [np.complex64, np.complex128], ids=["complex64", "complex128"])

# ----- every rule -----

# The rules of other modules are of real numbers alone, or are compared where they belong (linear algebra).
MODULES = {
    "comparisons",
    "complex",
    "elementwise",
    "fft",
    "indexing",
    "linear",
    "reductions",
    "rounding",
    "shapes",
    "sorting",
}
# Rules that take complex numbers where torch does not, or has no derivative there.
AHEAD = {
    "nansum": "torch takes them on GPUs alone",
    "nan_to_num": "torch has its value, and no derivative",
}


def made_complex(arrays, dtype):
    """The floats of a sample with an imaginary part."""
    generator = np.random.default_rng(3)

    def drawn(x):
        if is_complex(x):
            return x.astype(dtype)
        return np.asarray(x + 1j * generator.uniform(-1, 1, x.shape), dtype) if can_require_grad(x) else x

    return [drawn(x) for x in arrays]


WALK = [
    pytest.param(rule, one, id=name)
    for name, rule, one in CASES
    if rule.function.__module__.rpartition(".")[2] in MODULES and any(map(can_require_grad, draw(rule, one)))
]


@both
@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")
@pytest.mark.filterwarnings("ignore:Casting complex values:numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize(("rule", "one"), WALK)
def test_every_rule_gives_what_torch_gives_or_refuses(rule, one, dtype):
    arrays = made_complex(draw(rule, one), dtype)
    twin = TWINS.get(rule.name) or getattr(torch, rule.name, None) or getattr(torch.special, rule.name, None)
    assert twin is not None, f"torch has no {rule.name}: write in TWINS of test_rules_torch.py what it is there"
    try:
        expected = run(torch, lambda *tensors: twin(*tensors, **one.settings), arrays)
    except (RuntimeError, NotImplementedError):
        if rule.name not in AHEAD:
            with pytest.raises((RuntimeError, TypeError)):
                run(pg, as_function(rule, one.settings), arrays)
        return
    got = run(pg, as_function(rule, one.settings), arrays)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


@pytest.mark.parametrize("name", AHEAD)
def test_rules_that_are_ahead_have_derivatives(name):
    rule = RULES[name]
    assert check_derivative(as_function(rule, {}), made_complex(draw(rule, rule.samples[0]), np.complex128))


FLOATING = ["float32", "float64", "complex64", "complex128"]
BINARY = ["add", "sub", "mul", "div", "pow"]  # of others torch has no gradient then


@pytest.mark.parametrize("dtypes", list(itertools.permutations(FLOATING, 2)), ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_a_real_argument_beside_a_complex_one_has_a_real_gradient(name, dtypes):
    generator = np.random.default_rng(0)
    arrays = [(generator.uniform(0.5, 2, 3) + (1j if "c" in dtype else 0)).astype(dtype) for dtype in dtypes]
    coarse = 2e-6 if {"float32", "complex64"} & {*dtypes} else None  # one of the gradients is of their precision
    check_twins(as_function(RULES[name], {}), getattr(torch, name), arrays, coarse)


# ----- every function -----

MATRICES = [
    np.random.default_rng(i).uniform(-1, 1, (3, 3)) + 1j * np.linspace(-1, 1.5, 9).reshape(3, 3) for i in (0, 1)
]
CALLS = [(1, ()), (2, ()), (1, (1,)), (1, (0, 1))]
APART = {
    "cholesky_inverse": "of a matrix that is no Cholesky factor",
    "cholesky_solve": "of a matrix that is no Cholesky factor",
    "norm": "the gradient of a count, p=0, is 0, where torch has None",
    "empty_like": "what is in it is not said",
    "svd": "its gradient depends on phases that are not said: test_linalg_torch.py",
    **dict.fromkeys(
        ("add", "sub", "subtract", "rsub"), "torch deprecates add(x, alpha, y); the rules are walked above"
    ),
}


def called(library, name, further):
    def function(*tensors):
        value = getattr(library, name)(*tensors, *further)
        return tuple(value) if isinstance(value, list | tuple) else value

    return function


def torch_takes(name, count, further):
    """Whether torch has such a function of complex numbers, with a derivative."""
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            value = called(torch, name, further)(*(torch.tensor(x, requires_grad=True) for x in MATRICES[:count]))
    except (RuntimeError, TypeError, IndexError, NotImplementedError, ValueError, AttributeError):
        return False
    return all(isinstance(x, torch.Tensor) for x in (value if isinstance(value, tuple) else [value]))


FUNCTIONS = [
    pytest.param(name, count, further, id=f"{name}-{count}-{further}")
    for name in sorted(operators.PUBLIC)
    if hasattr(torch, name) and name not in APART
    for count, further in CALLS
    if torch_takes(name, count, further)
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("name", "count", "further"), FUNCTIONS)
def test_every_function_gives_what_torch_gives(name, count, further):
    got, expected = (run(library, called(library, name, further), MATRICES[:count]) for library in (pg, torch))
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


def test_functions_are_found():
    assert len(FUNCTIONS) > 150


# ----- at 0 and beyond -----

KINKS = [
    ("abs", [[0, 1j, -3 + 4j]], {}),
    ("sgn", [[0, 1j, -3 + 4j]], {}),
    ("angle", [[0, 1j, -3 + 4j, -1, 1]], {}),
    ("norm", [[0, 0]], {}),
    ("norm", [[0, 3 + 4j, 5]], {"p": INF}),
    ("norm", [[0, 3 + 4j]], {"p": 1}),
    ("std", [[1j, 1j]], {}),
    ("prod", [[0, 1j, 2]], {}),
    ("prod", [[0, 1j, 0]], {}),
    ("cumprod", [[1j, 0, 2, 0, 3]], {"dim": 0}),
    ("pow", [[0, 1j], [2, 1j]], {}),
    ("logsumexp", [[900 + 3j, 900 - 3j]], {"dim": 0}),
    ("logaddexp", [[900 + 3j, 1j], [900, -1j]], {}),
    ("sigmoid", [[900 + 3j, 1j]], {}),
    ("sinc", [[0, 0.5j, 1]], {}),
    ("acosh", [[-2 + 1j, -2 - 1j, 0.5j]], {}),
    ("asinh", [[2j + 1, -2j - 1, -2j + 1]], {}),
    ("sqrt", [[-1 + 1e-3j, -1 - 1e-3j]], {}),
]


@both
@pytest.mark.parametrize(("name", "arguments", "settings"), KINKS, ids=[f"{row[0]}-{i}" for i, row in enumerate(KINKS)])
def test_kinks_and_branches(name, arguments, settings, dtype):
    arrays = [np.array(x, dtype) for x in arguments]
    twin = TWINS.get(name) or getattr(torch, name)
    check_twins(as_function(RULES[name], settings), lambda *tensors: twin(*tensors, **settings), arrays)


FINITE = [
    ("pow", [[0], [0]], [1], [[0], [0]]),
    ("sigmoid", [[-900 - 3j]], [0], [[0]]),
    ("logaddexp", [[-900 - 3j], [1j]], [1j], [[0], [1]]),
    ("complex", [[0.0], [INF]], [complex(0, INF)], [[1], [0]]),
]


@pytest.mark.parametrize(("name", "arguments", "value", "gradients"), FINITE, ids=[row[0] for row in FINITE])
def test_what_is_nan_in_torch(name, arguments, value, gradients):
    tensors = [
        pg.tensor(x, dtype=pg.float64 if name == "complex" else pg.complex128, requires_grad=True) for x in arguments
    ]
    out = getattr(pg, name)(*tensors)
    out.backward(pg.ones(1, dtype=pg.complex128))
    assert_equal([out.detach().numpy()], [np.array(value, complex)])
    np.testing.assert_allclose([x.grad.numpy() for x in tensors], gradients, atol=1e-15)


def test_the_size_of_a_polar_number_has_a_derivative_at_0_and_below():
    """torch's is 0 at 0, and of the wrong sign below."""
    assert check_derivative(pg.polar, [np.array([0.0, -2.0, 1.0]), np.array([0.3, 4.0, -1.0])]) == 2


@both
@pytest.mark.parametrize("number", [0, 2, 0.5, -1, -0.5, 1j, 2 - 1j, 0j])
@pytest.mark.parametrize("power", [lambda x, n: x**n, lambda x, n: (n or 3) ** x], ids=["exponent", "base"])
def test_powers_with_a_literal(power, number, dtype):
    x = np.array([-2.0, -0.5 + 1j, 0.5j, 1.0, 2 - 3j], dtype)
    check_both(lambda library, x: power(x, number), [x])


# ----- dtypes -----

DTYPES = [
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


def operands(library, dtype):
    """A tensor of one dimension and one of none."""
    return [library.ones(shape, dtype=getattr(library, dtype)) for shape in ((2,), ())]


@pytest.mark.parametrize("first", DTYPES)
def test_the_dtype_of_two_tensors_or_of_one_and_a_literal(first):
    wrong = []
    for second in [*DTYPES, True, 2, 2.0, 2j]:
        pairs = [
            itertools.product(
                operands(library, first), operands(library, second) if isinstance(second, str) else [second]
            )
            for library in (pg, torch)
        ]
        for (x, y), (theirs, other) in zip(*pairs):
            # What is torch's complex32, which numpy has not, is complex64.
            expected = str(torch.result_type(theirs, other)).removeprefix("torch.").replace("complex32", "complex64")
            for got in ((x * y).dtype, (y * x).dtype):
                if got != expected:
                    wrong.append(f"{first}{x.shape} * {second}{getattr(y, 'shape', '')}: {got}, expected {expected}")
    assert wrong == []


def test_dtypes_have_torchs_names():
    names = {name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
    ours = {name for name in dir(pg) if isinstance(getattr(pg, name), np.dtype)}
    assert ours - names == set()
    strange = {"bfloat16", "bit", "chalf", "complex32"}  # numpy has none
    strange |= {name for name in names if name.startswith(("float4", "float8", "q", "bits", "uint", "int"))}
    assert names - ours - strange == set()
    for name in ours:
        assert getattr(pg, name) == np.dtype(str(getattr(torch, name)).removeprefix("torch."))


@pytest.mark.parametrize(
    "name", ["half", "float", "double", "cfloat", "cdouble", "byte", "char", "short", "int", "long", "bool"]
)
def test_methods_that_cast(name):
    got, expected = (getattr(library.tensor([0.0, 1.5]), name)() for library in (pg, torch))
    assert_equal([got.numpy()], [expected.numpy()])


@pytest.mark.parametrize("name", DTYPES)
def test_kinds(name):
    x, theirs = operands(pg, name)[0], operands(torch, name)[0]
    for question in ("is_complex", "is_floating_point"):
        assert getattr(pg, question)(x) is getattr(x, question)() is getattr(theirs, question)()
    assert_equal([pg.isreal(x).numpy(), x.isreal().numpy()], [torch.isreal(theirs).numpy()] * 2)


# ----- numbers taken apart and put together -----

Z = np.array([[1 + 2j, -3 + 0.5j, 0.25 - 1j], [2j, -1, 3 - 3j]])
R = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -1.0]])

PARTS = [
    ("complex", [R, R + 1]),
    ("polar", [np.abs(R) + 0.5, R]),
    *((name, [x]) for name in ("real", "conj", "conj_physical", "resolve_conj", "resolve_neg", "angle", "abs", "sgn",
                               "positive", "isreal", "neg", "reciprocal") for x in (Z, R)),
    ("imag", [Z]),
    ("view_as_real", [Z]),
    ("view_as_complex", [np.stack([R, R + 1], -1)]),
    ("view_as_complex", [R[:, :2].copy()]),
]  # fmt: skip


@pytest.mark.parametrize("single", [False, True], ids=["64", "32"])
@pytest.mark.parametrize(("name", "arrays"), PARTS, ids=[f"{row[0]}-{i}" for i, row in enumerate(PARTS)])
def test_parts(name, arrays, single):
    arrays = [x.astype(np.complex64 if is_complex(x) else np.float32) if single else x for x in arrays]

    def once_more(library):
        return lambda *tensors: getattr(library, name)(*tensors) * 1

    with np.errstate(divide="ignore"):
        got, expected = run(pg, once_more(pg), arrays), run(torch, once_more(torch), arrays)
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


METHODS = ["real", "imag", "H", "mH", "T", "mT"]
CALLED = ["conj", "adjoint", "angle", "abs", "sgn", "conj_physical", "resolve_conj", "resolve_neg"]


@pytest.mark.parametrize("name", [*METHODS, *CALLED])
def test_methods_and_attributes(name):
    def of(x):
        value = getattr(x, name)
        return (value() if name in CALLED else value) * 2

    got, expected = run(pg, of, [Z]), run(torch, of, [Z])
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


def test_what_real_numbers_are_already_is_the_tensor_itself():
    x = pg.tensor(R)
    for function in (pg.real, pg.conj, pg.conj_physical, pg.resolve_conj, pg.resolve_neg):
        assert function(x) is x
    assert (pg.tensor(Z).resolve_conj().dtype, x.real is x) == (pg.complex128, True)


@pytest.mark.parametrize("part", ["real", "imag"])
def test_parts_are_views_and_can_be_set(part):
    for library in (pg, torch):
        z = library.tensor(Z)
        getattr(z, part)[0] = 7.0
        setattr(z, part, getattr(z, part) + 1)
        expected = Z.copy()
        setattr(expected, part, getattr(expected, part))
        getattr(expected, part)[0] = 7.0
        getattr(expected, part)[...] += 1
        np.testing.assert_array_equal(z.numpy(), expected)
        leaf = library.tensor(Z, requires_grad=True)
        with pytest.raises(RuntimeError):
            setattr(leaf, part, 1.0)


@pytest.mark.parametrize("library", [pg, torch], ids=["pargrad", "torch"])
def test_pairs_and_numbers_share_memory(library):
    z = library.tensor(Z.T.copy()).T
    library.view_as_real(z)[..., 1] = 5.0
    assert (z.imag.numpy() == 5).all()
    pairs = library.tensor(np.stack([R, R], -1))
    library.view_as_complex(pairs)[0, 0] = 8 + 9j
    assert pairs[0, 0].tolist() == [8, 9]


def changed(change):
    """The square of what is left after an in-place change of a copy of z."""

    def of(library, z):
        copy = z * 1
        change(library, copy)
        return copy * copy

    return of


IN_PLACE = {
    "real part": lambda library, z: z.real.mul_(2.0),
    "imaginary part set": lambda library, z: setattr(z, "imag", z.real),
    "real part added to": lambda library, z: setattr(z, "real", z.real + 1),
    "pairs": lambda library, z: library.view_as_real(z).mul_(3.0),
    "one": lambda library, z: z.__setitem__(0, 2j),
    "all": lambda library, z: z.mul_(1j),
}


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)
def test_changes_in_place_are_part_of_the_graph(change):
    got, expected = (
        run(library, lambda z, library=library: changed(change)(library, z), [Z]) for library in (pg, torch)
    )
    assert_equal(got[0], expected[0])
    assert_equal(got[1], expected[1])


REFUSED = [
    lambda library: library.imag(library.ones(2)),
    lambda library: library.ones(2).imag,
    lambda library: library.view_as_real(library.ones(2)),
    lambda library: library.view_as_complex(library.ones(3)),
    lambda library: library.view_as_complex(library.ones(2, dtype=library.int64)),
    lambda library: library.view_as_complex(library.tensor(1.0)),
    lambda library: library.view_as_complex(library.ones(2, 3).T),
    lambda library: library.complex(library.ones(2), library.ones(2, dtype=library.float64)),
    lambda library: library.complex(library.ones(2, dtype=library.int64), library.ones(2, dtype=library.int64)),
    lambda library: library.complex(library.ones(2), library.ones(3)),
    lambda library: library.ones(2, dtype=library.complex64) < 1,
    lambda library: library.ones(2, dtype=library.complex64).max(),
    lambda library: library.relu(library.ones(2, dtype=library.complex64)),
    lambda library: library.clamp(library.ones(2, dtype=library.complex64), min=0),
    lambda library: library.sign(library.ones(2, dtype=library.complex64)),
    *(
        lambda library, name=name: getattr(library, name)(library.ones(2, dtype=library.complex64))
        for name in (
            "floor",
            "ceil",
            "trunc",
            "frac",
            "round",
            "deg2rad",
            "rad2deg",
            "signbit",
            "isposinf",
            "amax",
            "sort",
            "argmax",
            "median",
            "erfinv",
            "lgamma",
        )
    ),
    *(
        lambda library, name=name: getattr(library, name)(*[library.ones(2, dtype=library.complex64)] * 2)
        for name in (
            "atan2",
            "fmod",
            "remainder",
            "floor_divide",
            "hypot",
            "copysign",
            "nextafter",
            "logaddexp2",
            "ge",
            "maximum",
            "fmin",
            "xlogy",
            "heaviside",
        )
    ),
    lambda library: library.ones(2).add_(1j),
    lambda library: library.ones((), dtype=library.complex64, requires_grad=True).backward(),
    lambda library: (library.ones(2, dtype=library.complex64, requires_grad=True) * 1j).sum().backward(),
]


@pytest.mark.parametrize("library", [pg, torch], ids=["pargrad", "torch"])
@pytest.mark.parametrize("wrong", REFUSED, ids=range(len(REFUSED)))
def test_wrong_use_is_refused(wrong, library):
    with pytest.raises((RuntimeError, NotImplementedError, TypeError)):
        wrong(library)


def test_a_gradient_can_be_given_to_a_complex_value():
    def sent(library):
        z = library.tensor(Z, requires_grad=True)
        (z * z).sum().backward(library.tensor(0.5 - 2j, dtype=library.complex128))
        return [z.grad.numpy()]

    assert_equal(sent(pg), sent(torch))


# ----- derivatives of derivatives -----

TWICE = {
    "abs": lambda library, z: library.abs(z) ** 3,
    "sgn": lambda library, z: library.sgn(z),
    "angle": lambda library, z: library.angle(z) ** 2,
    "parts": lambda library, z: z.real * z.imag**2,
    "polar": lambda library, z: library.polar(z.abs(), z.imag) * z.conj(),
    "pairs": lambda library, z: library.view_as_complex(library.view_as_real(z) ** 2),
    "norm": lambda library, z: library.norm(z) ** 3,
    "norm of order 3": lambda library, z: library.norm(z, 3, 1),
    "var": lambda library, z: library.var(z, 1) ** 2,
    "std": lambda library, z: library.std(z, 1),
    "exp": lambda library, z: library.exp(z) / z,
    "power": lambda library, z: z ** (1 + 2j) + z**z,
    "functions": lambda library, z: library.sin(z) * library.sqrt(z) + library.acosh(z) + library.asinh(z),
    "matmul": lambda library, z: z @ z.mH @ z,
    "logaddexp": lambda library, z: library.logaddexp(z, z * z),
    "logsumexp": lambda library, z: library.logsumexp(z, 1),
    "logcumsumexp": lambda library, z: library.logcumsumexp(z, 1),
    "prod": lambda library, z: library.prod(z, 1),
    "sigmoid": lambda library, z: library.sigmoid(z),
}


@pytest.mark.parametrize("function", TWICE.values(), ids=TWICE)
def test_second_derivatives(function):
    def size_of_gradient(library):
        def of(z):
            value = function(library, z)
            value = value.abs() if value.is_complex() else value
            (gradient,) = library.autograd.grad((value**2).sum(), z, create_graph=True)
            return (gradient.abs() ** 2).sum()

        return of

    got, expected = (run(library, size_of_gradient(library), [Z + 0.1]) for library in (pg, torch))
    tolerance = 1e-12 * max(1, np.abs(expected[1][0]).max(), abs(expected[0][0]))
    assert_equal(got[0], expected[0], tolerance)
    assert_equal(got[1], expected[1], tolerance)


# ----- text -----

TEXTS = [
    1j, [1j], [1 + 2j, -3.5j], [0.1 + 1e-6j], [1e9 + 1j, 1], [1, 2j], [[1.25 - 3j, 2], [3, -4j]],
    [NAN + 1j, 1 + INF * 1j],
    [complex(-0.0, -0.0)], [10 + 1j, 1 - 100j], [0j], [complex(1, NAN), 100j], [complex(INF, -INF)], [1e-5 + 100j],
    list(np.arange(40) * (1 + 0.5j)), list(np.arange(30) * (1 - 10j)),
    np.arange(1200).reshape(30, 40) * (1 + 1j), [],
]  # fmt: skip


@pytest.mark.parametrize("data", TEXTS, ids=range(len(TEXTS)))
def test_complex_tensors_are_printed_as_torchs(data):
    x, y = (library.tensor(np.array(data, "complex64")) for library in (pg, torch))
    assert printing.call("tensor", x.array, []) == repr(y).replace("torch.", "").replace(", dtype=complex64", "")
    x, y = (library.tensor(np.array(data, "complex128")) for library in (pg, torch))
    assert repr(x) == repr(y).replace("torch.", "")
    # torch's name of a dtype is longer, and so fills a line before.
    assert repr(x.requires_grad_()).split() == repr(y.requires_grad_()).replace("torch.", "").split()


def test_numbers_come_out_as_pythons():
    z = pg.tensor([1 + 2j])
    assert (z.dtype, z.item(), z.tolist(), complex(z[0])) == (pg.complex64, 1 + 2j, [1 + 2j], 1 + 2j)
    assert pg.tensor([np.complex128(1j)]).dtype == torch.tensor([np.complex128(1j)]).numpy().dtype
    assert (pg.tensor(2.0) * 1j).item() == 2j
    assert (2j - pg.tensor(2.0)).item() == -2 + 2j
    for wrong in (float, int):
        with pytest.raises((TypeError, RuntimeError)):
            wrong(z)
