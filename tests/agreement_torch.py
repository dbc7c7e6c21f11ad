"""One call in pargrad and in torch, held against each other: the same values and gradients, or a refusal in both."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

import pargrad as pg
from tests.checks import EXACT, assert_equal, run

REFUSALS = (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError)
GRID = np.arange(-4, 6) / 2  # with zeros, ties and halves to round


class Array(NamedTuple):
    """A random array, by what it takes to draw it again: that is what a failing example shows."""

    shape: tuple[int, ...]
    dtype: str = "float64"
    seed: int = 0

    def drawn(self):
        """Of an even seed, small numbers with zeros and ties, of an odd one any in [-2, 2]."""
        generator = np.random.default_rng(self.seed)
        if self.dtype == "bool":
            return np.asarray(generator.random(self.shape) < 0.5)
        if "int" in self.dtype:
            return np.asarray(generator.integers(0 if self.dtype == "uint8" else -3, 4, self.shape, self.dtype))

        def part():
            if self.seed % 2:
                return generator.uniform(-2, 2, self.shape)
            return GRID[generator.integers(0, len(GRID), self.shape)]

        return np.asarray(part() + 1j * part() if self.dtype.startswith("complex") else part(), self.dtype)


SIZES = st.sampled_from((2, 3, 1, 0))
SHAPES = st.lists(SIZES, max_size=4).map(tuple)
SEEDS = st.integers(0, 999)


def attempt(library, function, arrays):
    """Values and gradients; or, as a text, why there are none."""
    try:
        return run(library, function, arrays)
    except REFUSALS as error:
        return f"{type(error).__name__}: {error}"


def assert_same(got, expected, tolerance=None):
    """`assert_equal`, which takes its time, for what is not the same bits."""
    assert len(got) == len(expected), f"{len(got)} arrays, not {len(expected)}"
    for one, other in zip(got, expected):
        if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
            assert_equal([one], [other])
        elif one.tobytes() != other.tobytes():
            assert_equal([one], [other], tolerance)


def agree(function, arrays, tolerance=None):
    """Whether torch took `function(library, *tensors)` at all, as pargrad then did or did not, with what it gave."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine = attempt(pg, lambda *tensors: function(pg, *tensors), arrays)
        other = attempt(torch, lambda *tensors: function(torch, *tensors), arrays)
    if isinstance(mine, str) or isinstance(other, str):
        assert isinstance(mine, str) and isinstance(other, str), f"pargrad: {mine}\ntorch: {other}"
        return False
    if tolerance is None:  # what went through float32 has its digits, whatever it is in now
        met = {x.dtype for x in (*arrays, *other[0], *other[1]) if isinstance(x, np.ndarray)}
        tolerance = max([EXACT.get(dtype, 0) for dtype in met], default=0)
    empty = any(not x.size for x in (*arrays, *other[0]) if isinstance(x, np.ndarray))
    assert_same(mine[0], other[0], tolerance)
    # Where there are no elements the two differ in which gradients are zeros and which are left out.
    counted = ([x for x in gradients if not empty or (x is not None and x.any())] for gradients in (mine[1], other[1]))
    assert_same(*counted, tolerance)
    return True


def check_both(function, arrays, tolerance=None):
    """`function(library, *tensors)` gives the same values and gradients in pargrad and in torch."""
    mine, other = (lambda *tensors, library=library: function(library, *tensors) for library in (pg, torch))
    check_twins(mine, other, arrays, tolerance)


def check_twins(function, twin, arrays, tolerance=None):
    """`function(*tensors)` of pargrad's tensors gives the values and gradients that torch's `twin` gives of its own."""
    with np.errstate(all="ignore"):
        got = run(pg, function, arrays)
    expected = run(torch, twin, arrays)
    for mine, other in zip(got, expected):
        assert_equal(mine, other, tolerance)
