"""stft and istft against torch: values and gradients for every setting, there and back, refusals."""

import numpy as np
import pytest
import torch

import pargrad as pg
from tests.checks import EXACT, assert_equal, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:A window was not provided:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*zeros follow:UserWarning"),
    pytest.mark.filterwarnings("ignore:The length of signal is shorter:UserWarning"),
    pytest.mark.filterwarnings("ignore:stft with return_complex=False is deprecated:UserWarning"),
]
GENERATOR = np.random.default_rng(0)
SIGNAL = GENERATOR.uniform(-1, 1, (2, 30))
WINDOW = GENERATOR.uniform(0.5, 1, 8)


def agree(function, arrays):
    got, expected = (
        run(pg, lambda *tensors: function(pg, *tensors), arrays),
        run(torch, lambda *t: function(torch, *t), arrays),
    )
    for one, other in zip((*got[0], *got[1]), (*expected[0], *expected[1])):
        assert_equal([one], [other], 10 * EXACT[one.dtype] * max(1, np.abs(other).max()))


SETTINGS = [
    {},
    {"hop_length": 3},
    {"center": False},
    {"pad_mode": "constant"},
    {"pad_mode": "circular"},
    {"pad_mode": "replicate", "hop_length": 5},
    {"normalized": True},
    {"onesided": False},
    {"return_complex": False},
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_stft(settings, dtype):
    settings = {"return_complex": True} | settings
    for shape in ((2, 30), (30,)):
        x = SIGNAL.reshape(-1)[: np.prod(shape)].reshape(shape).astype(dtype)
        agree(lambda library, x, window: library.stft(x, 8, window=window, **settings), [x, WINDOW.astype(dtype)])
    agree(lambda library, x: library.stft(x, 7, **settings), [x])
    agree(lambda library, x, window: x.stft(13, win_length=8, window=window, **settings), [x, WINDOW.astype(dtype)])


def test_stft_of_complex_numbers():
    z = SIGNAL + 1j * SIGNAL[::-1]
    agree(lambda library, z, window: library.stft(z, 8, window=window, pad_mode="constant"), [z, WINDOW])
    agree(lambda library, x, window: library.stft(x, 8, window=window), [SIGNAL, WINDOW + 1j])


BACK = [
    {},
    {"hop_length": 3},
    {"normalized": True},
    {"length": 20},
    {"length": 60},
    {"center": False},
]


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("settings", BACK, ids=str)
def test_istft(settings, dtype):
    spectra = (GENERATOR.uniform(-1, 1, (2, 5, 12)) + 1j * GENERATOR.uniform(-1, 1, (2, 5, 12))).astype(dtype)
    window = WINDOW.astype(spectra.real.dtype)
    agree(lambda library, z, window: library.istft(z, 8, window=window, **settings), [spectra, window])
    agree(lambda library, z: z.istft(8, win_length=6, **settings | {"center": True, "length": None}), [spectra[0]])
    agree(lambda library, z: library.istft(z, 9, **settings), [spectra])
    agree(lambda library, z: library.istft(z, 5, **settings), [spectra])
    agree(lambda library, z: library.istft(z, 5, return_complex=True, **settings), [spectra])


@pytest.mark.parametrize("settings", [{}, {"normalized": True}, {"onesided": False}, {"hop_length": 3}], ids=str)
def test_there_and_back(settings):
    x, window = pg.tensor(SIGNAL), pg.tensor(WINDOW)
    spectra = pg.stft(x, 8, window=window, return_complex=True, **settings)
    back = pg.istft(spectra, 8, window=window, **settings)
    np.testing.assert_allclose(back.numpy(), SIGNAL[:, : back.shape[1]], atol=1e-14)


def ones(library, *shape):
    return library.ones(shape, dtype=library.complex64)


REFUSED = [
    lambda library: library.stft(library.ones(30), 8),
    lambda library: library.stft(library.ones(30), 8, return_complex=True, onesided=True, window=ones(library, 8)),
    lambda library: library.stft(library.ones(2, 2, 2), 8, return_complex=True),
    lambda library: library.stft(library.ones(30), 40, return_complex=True, center=False),
    lambda library: library.stft(library.ones(30), 0, return_complex=True),
    lambda library: library.stft(library.ones(30), 8, 0, return_complex=True),
    lambda library: library.stft(library.ones(30), 8, win_length=9, return_complex=True),
    lambda library: library.stft(library.ones(30), 8, window=library.ones(7), return_complex=True),
    lambda library: library.stft(library.ones(3), 8, return_complex=True),
    lambda library: library.istft(library.ones(5, 3), 8),
    lambda library: library.istft(ones(library, 5), 8),
    lambda library: library.istft(ones(library, 5, 0), 8),
    lambda library: library.istft(ones(library, 5, 3), 7),
    lambda library: library.istft(ones(library, 5, 3), 8, onesided=False),
    lambda library: library.istft(ones(library, 5, 3), 8, return_complex=True),
    lambda library: library.istft(ones(library, 5, 3), 8, 9, center=False),
    lambda library: library.istft(ones(library, 5, 3), 8, window=library.zeros(8)),
    lambda library: library.istft(ones(library, 5, 3), 8, window=library.ones(6)),
]


@pytest.mark.parametrize("library", [pg, torch], ids=["pargrad", "torch"])
@pytest.mark.parametrize("wrong", REFUSED, ids=range(len(REFUSED)))
def test_wrong_use_is_refused(wrong, library):
    with pytest.raises((RuntimeError, IndexError)):
        wrong(library)
