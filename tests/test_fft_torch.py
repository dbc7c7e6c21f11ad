"""pg.fft against torch.fft: values and gradients, lengths, dims and norms of every kind, refusals, frequencies."""

import numpy as np
import pytest
import torch

import pargrad as pg
import pargrad.autograd
from pargrad.fft import PUBLIC
from tests.checks import assert_equal, can_require_grad, check_derivative, is_complex, run

ONE = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
TWO = [name + "2" for name in ONE]
MANY = [name + "n" for name in ONE]
FREQUENCIES = ["fftfreq", "rfftfreq"]
SHIFTS = ["fftshift", "ifftshift"]
NORMS = [None, "forward", "backward", "ortho"]


def takes_real_only(name):
    return name.startswith(("rfft", "ihfft"))


def signal(name, shape, dtype):
    """Numbers that a transform takes: complex ones where it takes those."""
    generator = np.random.default_rng(sum(shape))
    x = generator.uniform(-1, 1, shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * generator.uniform(-1, 1, shape)
    return np.asarray(x, dtype)


def agree(name, x, **settings):
    got = run(pg, lambda x: getattr(pg.fft, name)(x, **settings), [x])
    expected = run(torch, lambda x: getattr(torch.fft, name)(x, **settings), [x])
    # Of sums of products of 1 and smaller numbers, rounding is that of the largest.
    tolerance = 4e-15 if x.dtype.itemsize // (1 + is_complex(x)) == 8 else 2e-6
    scale = max(
        np.abs(expected[0][0]).max(initial=1), *(np.abs(g).max(initial=1) for g in expected[1] if g is not None)
    )
    assert_equal(got[0], expected[0], tolerance * scale)
    assert_equal(got[1], expected[1], tolerance * scale)


def test_every_function_of_torchs_is_there():
    theirs = {
        name for name in dir(torch.fft) if name[0] != "_" and name != "Tensor" and callable(getattr(torch.fft, name))
    }
    assert set(PUBLIC) == theirs == {*ONE, *TWO, *MANY, *FREQUENCIES, *SHIFTS}
    assert [name for name in PUBLIC if not PUBLIC[name].__doc__ or PUBLIC[name].__name__ != name] == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", [*ONE, *TWO, *MANY])
def test_dtypes_and_norms(name, dtype):
    if takes_real_only(name) and np.dtype(dtype).kind == "c":
        with pytest.raises(RuntimeError, match=f"{name}: expected a real tensor, got complex"):
            getattr(pg.fft, name)(pg.zeros(4, 4, dtype=dtype))
        return
    for norm in NORMS:
        for shape in ((4, 5), (3, 6)):
            agree(name, signal(name, shape, dtype), norm=norm)


LENGTHS = [
    *((name, (2, 5), {"n": n}) for name in ONE for n in (1, 2, 5, 8, 9)),
    *((name, (5, 2), {"n": n, "dim": 0}) for name in ONE for n in (4, 7)),
    *((name, (6,), {}) for name in ONE),
    *((name, (3, 4), {"dim": -2}) for name in ONE),
    *((name, (3, 4, 5), {"s": s}) for name in [*TWO, *MANY] for s in ((2, 6), (5, -1), [4, 3])),
    *((name, (3, 4, 5), {"dim": dim}) for name in [*TWO, *MANY] for dim in ((0, 1), (2, 0), [-3, -1])),
    *((name, (3, 4, 5), {"s": (2, 6), "dim": (2, 0)}) for name in [*TWO, *MANY]),
    *((name, (3, 4, 2), {"s": (2, 3, 4), "norm": "ortho"}) for name in MANY),
    *((name, (3, 4, 2), {"s": (5,)}) for name in MANY),
    *((name, (3, 4, 2), {"dim": (1,)}) for name in MANY),
    *((name, (3, 4, 2), {"dim": 1}) for name in MANY),
    ("fftn", (), {}), ("ifftn", (), {}), ("fftn", (2, 3), {"dim": ()}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "settings"), LENGTHS, ids=str)
def test_lengths_and_dims(name, shape, settings):
    for dtype in (np.float64, np.complex128):
        if not (takes_real_only(name) and dtype is np.complex128):
            agree(name, signal(name, shape, dtype), **settings)


def test_no_signal_has_no_spectrum():
    """torch's library fails."""
    assert [pg.fft.fft(pg.zeros(0, 4)).shape, pg.fft.rfft(pg.zeros(0, 4)).shape] == [(0, 4), (0, 3)]
    assert [pg.fft.irfft(pg.zeros(0, 3)).shape, pg.fft.hfft(pg.zeros(0, 3)).shape] == [(0, 4), (0, 4)]


@pytest.mark.parametrize("name", [*ONE, *TWO, *MANY])
def test_integers_become_float32(name):
    x = np.arange(12).reshape(3, 4)
    got, expected = getattr(pg.fft, name)(pg.tensor(x)), getattr(torch.fft, name)(torch.tensor(x))
    assert_equal([got.numpy()], [expected.resolve_conj().numpy()], 1e-5)


@pytest.mark.parametrize("name", [*ONE, *TWO, *MANY])
def test_derivatives_are_those_that_differences_find(name):
    x = signal(name, (4, 5), np.float64 if takes_real_only(name) else np.complex128)
    assert check_derivative(getattr(pg.fft, name), [x]) == 1


WRONG = [
    *((name, (2, 4), {"norm": "unitary"}, RuntimeError) for name in [*ONE, *TWO, *MANY]),
    *((name, (2, 4), {"n": n}, RuntimeError) for name in ONE for n in (0, -1)),
    *((name, (2, 4), {"dim": 2}, IndexError) for name in ONE),
    *((name, (), {}, IndexError) for name in ONE),
    *((name, (2, 4), {"dim": (0, 0)}, RuntimeError) for name in [*TWO, *MANY]),
    *((name, (2, 4), {"s": (2,), "dim": (0, 1)}, RuntimeError) for name in [*TWO, *MANY]),
    *((name, (2, 4), {"s": (0, 2)}, RuntimeError) for name in [*TWO, *MANY]),
    *((name, (2, 4), {"s": (2, 2, 2)}, RuntimeError) for name in MANY),
    *((name, (4,), {}, IndexError) for name in TWO),
    *((name, (2, 0), {}, RuntimeError) for name in ONE),
    *((name, (2, 4), {"dim": ()}, RuntimeError) for name in MANY if name not in ("fftn", "ifftn")),
    *((name, (2, 1), {}, RuntimeError) for name in ("irfft", "hfft", "irfftn")),
]


@pytest.mark.parametrize(("name", "shape", "settings", "error"), WRONG, ids=str)
def test_what_torch_refuses_is_refused(name, shape, settings, error):
    with pytest.raises(error):
        getattr(torch.fft, name)(torch.zeros(shape), **settings)
    with pytest.raises(error, match=rf"^{name}.*: "):
        getattr(pg.fft, name)(pg.zeros(shape), **settings)


@pytest.mark.parametrize("name", FREQUENCIES)
@pytest.mark.parametrize("n", [1, 2, 5, 8, 100])
def test_frequencies(name, n):
    for settings in ({}, {"d": 0.3}, {"d": 2, "dtype": "float64"}):
        theirs = settings | ({"dtype": torch.float64} if "dtype" in settings else {})
        got = getattr(pg.fft, name)(n, **settings)
        assert_equal([got.numpy()], [getattr(torch.fft, name)(n, **theirs).numpy()])
    assert getattr(pg.fft, name)(n, requires_grad=True).requires_grad


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), [1]])
def test_shifts(name, dim):
    agree(name, signal(name, (3, 4, 5), np.complex128), dim=dim)
    x = pg.tensor(signal(name, (5, 4), np.float32))
    assert_equal([pg.fft.ifftshift(pg.fft.fftshift(x)).numpy()], [x.numpy()])


SECOND = [("fft", np.complex128), ("ifft", np.float64), ("rfft", np.float64), ("irfft", np.complex128),
          ("hfft", np.complex128), ("ihfft", np.float64), ("rfftn", np.float64), ("irfft2", np.complex128)]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), SECOND)
def test_second_derivatives(name, dtype):
    """Of the power spectrum, the gradient of the size of whose gradient is compared."""
    x = signal(name, (3, 5), dtype)
    (got,), (expected,) = (
        run(library, lambda x, library=library: power_of_gradient(library, name, x), [x])[1] for library in (pg, torch)
    )
    assert can_require_grad(got)
    assert_equal([got], [expected])


def power_of_gradient(library, name, x):
    spectrum = getattr(library.fft, name)(x)
    (gradient,) = library.autograd.grad((spectrum.abs() ** 4).sum(), x, create_graph=True)
    return (gradient.abs() ** 2).sum()
