"""Proof: x[index] and x[index] = value are torch's, for any mixture of what an index is made of."""

from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from tests.agreement_torch import SEEDS, Array, agree
from tests.proofs import hold, proof


class Pick(NamedTuple):
    """An index of integers (high: below this size) or a mask (high None), as a tensor, a numpy array or a list."""

    shape: tuple[int, ...]
    high: int | None
    seed: int
    form: str

    def drawn(self):
        generator = np.random.default_rng(self.seed)
        if self.high is None:
            return np.asarray(generator.random(self.shape) < 0.6)
        high = max(self.high, 1)
        return np.asarray(generator.integers(-high, high, self.shape))

    def given(self, library):
        array = self.drawn()
        miscounted = not self.shape or (self.high is None and len(self.shape) > 1)  # by torch, unless it is a tensor
        if self.form == "tensor" or miscounted:
            return library.tensor(array)
        return array.tolist() if self.form == "list" else array


class Access(NamedTuple):
    name: str
    x: Array
    index: tuple[Any, ...]
    again: tuple[Any, ...]  # x[index][again]
    value: Any  # a literal, or a tensor: what its shape has less and other than that of x[index]


class Part(NamedTuple):
    """A tensor that is to go where `shape` goes: without some leading dimensions, some others with 1, one wrong."""

    without: int
    ones: int
    wrong: bool
    dtype: str

    def drawn(self, shape):
        sizes = [1 if self.ones >> i & 1 else size for i, size in enumerate(shape)]
        if self.wrong and sizes:
            sizes[-1] += 2
        return Array(tuple(sizes[min(self.without, len(sizes)) :]), self.dtype, 1).drawn()


def get(library, x, value, index, again):
    return x[index]


def get_again(library, x, value, index, again):
    return x[index][again]


def put(library, x, value, index, again):
    y = x * 1
    y[index] = value
    return y


def put_again(library, x, value, index, again):
    y = x * 1
    y[index][again] = value  # into a view, or into a copy that is lost
    return y


def add(library, x, value, index, again):
    y = x * 1
    y[index] += value
    return y


def put_both(library, x, value, index, again):
    y = x * 1
    view = y[index]
    y *= 2
    view[...] = value
    return y, view


ACCESSES = {function.__name__: function for function in (get, get_again, put, put_again, add, put_both)}

# torch's backward fails where an element of one kind of dtype is put among those of another; and to tensors of
# indices it does not put another dtype at all, as it does to slices.
TORCH_FAILS = ("INTERNAL ASSERT FAILED", "Expected isFloatingType(grad.scalar_type())")
TORCH_FAILS += ("Index put requires the source and destination dtypes match",)

DTYPES = ("float64", "float64", "float32", "complex128", "int64", "bool")
SMALL = st.none() | st.integers(-4, 4)
SLICES = st.builds(slice, SMALL, SMALL, st.sampled_from((None, None, None, 1, 2, 3)))
FORMS = st.sampled_from(("tensor", "array", "list"))
PICK_SHAPES = st.sampled_from(((2,), (1,), (3,), (2, 1), (2, 3), (1, 2), (0,), ()))


@st.composite
def indices(draw, shape):
    """Parts for some of the dimensions, from the first on, an ellipsis or new axes between them."""
    parts, place, arrays = [], 0, draw(st.booleans())
    count = draw(st.integers(0, len(shape) + 2))
    for _ in range(count):
        kind = draw(st.integers(0, 15 if arrays else 9))
        size = shape[place] if place < len(shape) else 2
        if kind < 4:
            parts.append(draw(SLICES))
        elif kind < 7:
            parts.append(draw(st.integers(-size, max(size - 1, 0)) if draw(st.integers(0, 15)) else st.just(size)))
        elif kind == 7:
            parts.append(None)
            continue
        elif kind == 8:
            if Ellipsis not in parts:
                parts.append(Ellipsis)
                place = max(place, len(shape) - (count - len(parts)))
            continue
        elif kind == 9 and not arrays:
            arrays = True
            continue
        elif kind < 13:
            parts.append(Pick(draw(PICK_SHAPES), size, draw(SEEDS), draw(FORMS)))
        elif kind < 15:
            over = shape[place : place + draw(st.sampled_from((1, 1, 2)))]
            parts.append(Pick(tuple(over), None, draw(SEEDS), draw(FORMS)))
            place += len(over) - 1
        else:
            parts.append(draw(st.booleans()))
            continue
        place += 1
    return tuple(parts)


@st.composite
def accesses(draw):
    name = draw(st.sampled_from(tuple(ACCESSES)))
    shape = tuple(draw(st.lists(st.sampled_from((3, 2, 4, 1, 0)), max_size=4)))
    x = Array(shape, draw(st.sampled_from(DTYPES)), draw(SEEDS))
    index = draw(indices(shape))
    again = draw(indices(shape[1:])) if name in ("get_again", "put_again") else ()
    value = None
    if not name.startswith("get"):
        value = draw(st.sampled_from((0.5, 2, True)) | st.builds(
            Part, st.integers(0, 2), st.integers(0, 7), st.integers(0, 15).map(lambda n: n == 15),
            st.sampled_from(("float64", "float64", "float32", "int64")),
        ))  # fmt: skip
    return Access(name, x, index, again, value)


def given(library, index):
    parts = tuple(part.given(library) if isinstance(part, Pick) else part for part in index)
    # A list alone is not a tuple of its elements: torch says that it will be so, and still has it otherwise.
    return parts[0] if len(parts) == 1 and not isinstance(parts[0], list) else parts


def place_of(shape, *indices):
    """The elements that an index picks, by their position, as torch has it; None where it refuses."""
    places = torch.arange(int(np.prod(shape))).reshape(shape)
    try:
        for index in indices:
            places = places[given(torch, index)]
    except (IndexError, ValueError, RuntimeError, TypeError):
        return None
    return places.numpy()


def check(access):
    name, x, index, again, value = access
    array = x.drawn()
    places = place_of(x.shape, index, *([again] if "again" in name else []))
    arrays = [array]
    if isinstance(value, Part):
        arrays.append(value.drawn(() if places is None else places.shape))
    if not name.startswith("get") and places is not None:
        assume(len(np.unique(places)) == places.size)  # what is put twice in one place is nowhere promised

    def function(library, x, value=value):
        return ACCESSES[name](library, x, value, given(library, index), given(library, again))

    try:
        agree(function, arrays)
    except AssertionError as error:
        assume(not any(text in str(error) for text in TORCH_FAILS))
        # What picks nothing is asked by one or the other only whether it is in range, and whether a value fits there.
        assume((array.size and (places is None or places.size)) or not str(error).startswith("pargrad: "))
        raise


@proof(10_000)
def indexing(examples, seed):
    """x[index] and x[index] = value, nested and on views, are torch's for any mixture of indices, or both refuse."""
    return hold(check, accesses(), examples, seed)
