"""Creation against torch's: every call form, dtype, size and error; and what is on whose memory."""

import math

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import creation

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip
LIBRARIES = (pg, torch)


def assert_same(ours, theirs, tolerance=0.0):
    """Two tensors have one dtype, shape and requires_grad, and the same values, to a relative tolerance."""
    assert isinstance(ours, pg.Tensor)
    assert ours.requires_grad == theirs.requires_grad
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pg.tensor([1.0]), torch.tensor([1.0], dtype=torch.float64)),
        (pg.tensor([1.0]), torch.tensor([[1.0]])),
        (pg.tensor([1.0]), torch.tensor([1.0], requires_grad=True)),
        (pg.tensor([1.0]), torch.tensor([1.0 + 2**-23])),
    ],
)
def test_the_checker_sees_a_difference(ours, theirs):
    with pytest.raises(AssertionError):
        assert_same(ours, theirs)


# Written once, called with both libraries.
EXACT = {
    "tensor of floats": lambda t: t.tensor([[1, 2.5], [3, 4]]),
    "tensor of integers": lambda t: t.tensor([[1, 2], [3, -4]]),
    "tensor of bools": lambda t: t.tensor([True, False]),
    "tensor of bools and integers": lambda t: t.tensor([True, 2]),
    "tensor of complex numbers": lambda t: t.tensor([1j, 2]),
    "tensor of one": lambda t: t.tensor(3),
    "tensor of nothing": lambda t: t.tensor([]),
    "tensor of nothing, nested": lambda t: t.tensor([[], []]),
    "tensor of tensors": lambda t: t.tensor([t.tensor(1), t.tensor(2)]),
    "tensor of a tensor": lambda t: t.tensor(t.ones(2, dtype=t.float64)),
    "tensor of numpy's float64": lambda t: t.tensor(np.array([1.0, 2.0])),
    "tensor of a float64 of numpy's": lambda t: t.tensor(np.float64(2)),
    "tensor of a tuple": lambda t: t.tensor((1.0, 2.0)),
    "tensor with a dtype": lambda t: t.tensor([1.7, -2.7], dtype=t.int32),
    "tensor with grad": lambda t: t.tensor([1.0], requires_grad=True),
    "tensor on the CPU": lambda t: t.tensor([1.0], device="cpu", pin_memory=False),
    "as_tensor": lambda t: t.as_tensor([1.0, 2.0]),
    "as_tensor with a dtype": lambda t: t.as_tensor(np.arange(3), dtype=t.float32, device="cpu"),
    "asarray": lambda t: t.asarray([1, 2]),
    "asarray with grad": lambda t: t.asarray([1.0, 2.0], requires_grad=True, dtype=t.float64),
    "asarray of a tensor with grad": lambda t: t.asarray(t.ones(2, requires_grad=True)),
    "asarray of a tensor with grad, without": lambda t: t.asarray(t.ones(2, requires_grad=True), requires_grad=False),
    "asarray, copied": lambda t: t.asarray(t.ones(2), copy=True),
    "asarray of bytes": lambda t: t.asarray(bytearray(np.arange(3, dtype="f4").tobytes()), dtype=t.float32),
    "frombuffer": lambda t: t.frombuffer(bytearray(range(8)), dtype=t.int16, count=2, offset=2),
    "from_numpy": lambda t: t.from_numpy(np.arange(3)),
    "zeros of sizes": lambda t: t.zeros(2, 3),
    "zeros of a tuple": lambda t: t.zeros((2, 0, 3)),
    "zeros of a list": lambda t: t.zeros([2, 3], dtype=t.int64),
    "zeros of a named size": lambda t: t.zeros(size=(2, 3), requires_grad=True),
    "zeros of no size": lambda t: t.zeros(()),
    "zeros, all said": lambda t: t.zeros(2, out=None, dtype=None, layout=t.strided, device=None),
    "ones": lambda t: t.ones(2, 3, dtype=t.uint8),
    "full of a float": lambda t: t.full((2,), 1.5),
    "full of an integer": lambda t: t.full((2, 1), 3),
    "full of a bool": lambda t: t.full([2], True),
    "full of a complex number": lambda t: t.full((2,), 1j),
    "full of a float of numpy's": lambda t: t.full((2,), np.float64(0.1)),
    "full of a tensor": lambda t: t.full((2,), t.tensor(3.0)),
    "full with a dtype": lambda t: t.full((2,), 2.9, dtype=t.int64),
    "full, named": lambda t: t.full(size=(2,), fill_value=0.5, requires_grad=True),
    "scalar_tensor": lambda t: t.scalar_tensor(3),
    "scalar_tensor with a dtype": lambda t: t.scalar_tensor(3.7, dtype=t.int64),
    "zeros_like": lambda t: t.zeros_like(t.ones(2, 3, dtype=t.int32), memory_format=t.preserve_format),
    "ones_like": lambda t: t.ones_like(t.ones(2), dtype=t.float64, requires_grad=True),
    "full_like": lambda t: t.full_like(t.ones(2, dtype=t.int64), 2.9),
    "full_like with a dtype": lambda t: t.full_like(t.ones(2, dtype=t.int64), 2.5, dtype=t.float32),
    "new_zeros": lambda t: t.ones(1, dtype=t.int16).new_zeros(2, 3),
    "new_zeros of a tuple": lambda t: t.ones(1, dtype=t.float64).new_zeros((2, 3), requires_grad=True),
    "new_ones": lambda t: t.ones(1, dtype=t.float64).new_ones(2, dtype=t.uint8),
    "new_full": lambda t: t.ones(1, dtype=t.float64).new_full((2,), 3),
    "an old type of a size": lambda t: t.FloatTensor(2, 3).zero_(),
    "an old type of data": lambda t: t.LongTensor([[1, 2]]),
    "an old type of nothing": lambda t: t.DoubleTensor(),
    "type of an old type": lambda t: t.ones(2).type(t.LongTensor),
    "is an old type": lambda t: t.tensor([isinstance(t.ones(2), kind) for kind in (t.FloatTensor, t.IntTensor)]),
    "new": lambda t: t.ones(1, dtype=t.float64).new(2, 3).zero_(),
    "new of a size": lambda t: t.ones(1, dtype=t.float64).new(t.ones(2, 3).size()).zero_(),
    "new of data": lambda t: t.ones(1, dtype=t.float64).new([1, 2]),
    "new_tensor": lambda t: t.ones(1, dtype=t.float64).new_tensor([1, 2]),
    "new_tensor with a dtype": lambda t: t.ones(1, dtype=t.float64).new_tensor([1, 2], dtype=t.int8),
    "type": lambda t: t.arange(3).type(t.float64),
    "type, by name": lambda t: t.arange(3).type("torch.DoubleTensor"),
    "type_as": lambda t: t.arange(3).type_as(t.ones(1)),
    "eye": lambda t: t.eye(3),
    "eye, wide": lambda t: t.eye(2, 4, dtype=t.int64),
    "eye, tall": lambda t: t.eye(3, 2, requires_grad=True),
    "eye of nothing": lambda t: t.eye(0, 2),
    "arange of an integer": lambda t: t.arange(5),
    "arange of a float": lambda t: t.arange(4.5),
    "arange from to": lambda t: t.arange(-2, 3),
    "arange in steps": lambda t: t.arange(1, 8, 3),
    "arange, down": lambda t: t.arange(5, -1, -2),
    "arange of halves": lambda t: t.arange(1, 2.5, 0.5),
    "arange, empty": lambda t: t.arange(0),
    "arange, named": lambda t: t.arange(start=1, end=4, step=2, dtype=t.float64, requires_grad=True),
    "arange, end named": lambda t: t.arange(end=4),
    "arange of tensors": lambda t: t.arange(t.tensor(1), t.tensor(4)),
    "arange of floats as integers": lambda t: t.arange(0.5, 3.5, dtype=t.int64),
    "range": lambda t: t.range(1, 4),
    "range of halves": lambda t: t.range(0, 2, 0.5, dtype=t.float64),
    "linspace of integers": lambda t: t.linspace(0, 10, 7, dtype=t.int64),
    "linspace of one": lambda t: t.linspace(3, 10, 1),
    "linspace of none": lambda t: t.linspace(3, 10, 0),
    "linspace of tensors": lambda t: t.linspace(t.tensor(0.0), t.tensor(1.0), 5),
    "linspace, named": lambda t: t.linspace(start=-1, end=1, steps=5, requires_grad=True),
    **{f"zeros {dtype}": lambda t, dtype=dtype: t.zeros(2, dtype=getattr(t, dtype)) for dtype in DTYPES},
    **{f"tensor {dtype}": lambda t, dtype=dtype: t.tensor([0, 1], dtype=getattr(t, dtype)) for dtype in DTYPES},
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
@pytest.mark.filterwarnings("ignore:torch.range is deprecated", "ignore:To copy construct", "ignore:torch.asarray")
def test_creation(case):
    assert_same(*(EXACT[case](library) for library in LIBRARIES))


WINDOWS = {
    "hann_window": [{}], "blackman_window": [{}], "bartlett_window": [{}],
    "hamming_window": [{}, {"alpha": 0.6, "beta": 0.3}], "kaiser_window": [{}, {"beta": 3.0}],
}  # fmt: skip
ROUNDED = {
    **{
        f"arange {bounds} {dtype}": lambda t, bounds=bounds, dtype=dtype: t.arange(*bounds, dtype=getattr(t, dtype))
        for bounds in [(0.1, 9.7, 0.3), (1, -1, -0.01), (0, 1, 0.001)]
        for dtype in ["float32", "float64"]
    },
    **{
        f"{name} {bounds} {dtype}": lambda t, name=name, bounds=bounds, dtype=dtype: getattr(t, name)(
            *bounds, dtype=getattr(t, dtype)
        )
        for name in ["linspace", "logspace"]
        for bounds in [(-1, 2, 50), (0.3, 0.1, 7), (2, 2, 3), (0, 1, 2)]
        for dtype in ["float32", "float64"]
    },
    "logspace to the base 2": lambda t: t.logspace(0, 4, 9, base=2, requires_grad=True),
    "logspace of one": lambda t: t.logspace(2, 4, 1),
    "logspace of none": lambda t: t.logspace(2, 4, 0),
    **{
        f"{name} {length} {periodic} {dtype} {settings}": (
            lambda t, name=name, length=length, periodic=periodic, dtype=dtype, settings=settings: getattr(t, name)(
                length, periodic, dtype=getattr(t, dtype), **settings
            )
        )
        for name, variants in WINDOWS.items()
        for settings in variants
        for length in [0, 1, 2, 7, 64]
        for periodic in [True, False]
        for dtype in ["float32", "float64"]
    },
    "window by default": lambda t: t.hann_window(5, requires_grad=True),
}


@pytest.mark.parametrize("case", ROUNDED)
def test_numbers_in_a_row(case):
    ours, theirs = (ROUNDED[case](library) for library in LIBRARIES)
    assert_same(ours, theirs, 1e-6 if ours.dtype == np.float32 else 1e-13)


def test_linspace_has_exactly_its_ends():
    values = pg.linspace(0.1, 0.7, 1001)
    assert (values[0], values[-1]) == (np.float32(0.1), np.float32(0.7))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_empty_tensors_have_shape_and_dtype(dtype):
    for library in LIBRARIES:
        kind = getattr(library, dtype)
        like = library.zeros(2, 3, dtype=kind)
        made = [
            library.empty(2, 3, dtype=kind), library.empty((2, 3), dtype=kind, requires_grad=True),
            library.empty_like(like), like.new_empty(2, 3), like.new_empty((2, 3)),
        ]  # fmt: skip
        assert {(tuple(x.shape), x.dtype) for x in made} == {((2, 3), kind)}
        assert [x.requires_grad for x in made] == [False, True, False, False, False]


# ----- memory -----


def test_what_shares_memory_and_what_does_not():
    array = np.zeros(3, np.float32)
    shared = {
        "from_numpy": pg.from_numpy(array), "as_tensor": pg.as_tensor(array), "asarray": pg.asarray(array),
        "as_tensor with its dtype": pg.as_tensor(array, dtype=pg.float32), "no copy": pg.asarray(array, copy=False),
        "with grad": pg.asarray(pg.from_numpy(array), requires_grad=True),
    }  # fmt: skip
    own = {
        "tensor": pg.tensor(array), "another dtype": pg.as_tensor(array, dtype=pg.float64),
        "a copy": pg.asarray(array, copy=True), "type": pg.from_numpy(array).type(pg.float64),
    }  # fmt: skip
    array[:] = 5
    assert {name: x.detach().tolist() for name, x in shared.items()} == dict.fromkeys(shared, [5.0] * 3)
    assert {name: x.tolist() for name, x in own.items()} == dict.fromkeys(own, [0.0] * 3)
    x = pg.ones(2)
    assert pg.as_tensor(x) is x
    assert x.type(pg.float32) is x


def test_dlpack_both_ways_on_the_same_memory():
    ours, theirs = pg.arange(4.0), torch.arange(4.0)
    assert np.shares_memory(torch.from_dlpack(ours).numpy(), ours.numpy())
    assert np.shares_memory(pg.from_dlpack(theirs).numpy(), theirs.numpy())
    assert np.shares_memory(pg.from_dlpack(pg.to_dlpack(ours)).numpy(), ours.numpy())
    assert np.shares_memory(torch.from_dlpack(pg.to_dlpack(ours)).numpy(), ours.numpy())
    assert np.shares_memory(pg.asarray(theirs).numpy(), theirs.numpy())
    with pytest.raises(RuntimeError, match="requires grad"):
        pg.to_dlpack(ours.requires_grad_())


def test_a_buffer_that_cannot_be_written_to_makes_a_tensor_that_cannot():
    with pytest.raises(RuntimeError, match="read-only"):
        pg.frombuffer(b"abcd", dtype=pg.uint8).zero_()


# ----- dtypes -----


@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_of_dtypes(dtype):
    for name in ["finfo", "iinfo"]:
        values, errors = [], []
        for library in LIBRARIES:
            try:
                info = getattr(library, name)(getattr(library, dtype))
            except TypeError as error:
                errors.append(type(error))
            else:
                fields = ["bits", "min", "max", "dtype"]
                fields += ["eps", "tiny", "smallest_normal", "resolution"] if name == "finfo" else []
                values.append([getattr(info, field) for field in fields] + [repr(info).startswith(name)])
                assert all(type(value) in (int, float, str, bool) for value in values[-1])
        assert len(values) in (0, 2)
        assert len(errors) in (0, 2)
        if values:
            assert values[0] == values[1]


def test_finfo_of_the_default():
    assert pg.finfo().eps == torch.finfo().eps


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_type_names(dtype):
    ours, theirs = (library.zeros(1, dtype=getattr(library, dtype)).type() for library in LIBRARIES)
    assert ours.removeprefix("pargrad.") == theirs.removeprefix("torch.")
    assert pg.zeros(1).type(ours).dtype == getattr(pg, dtype)


def test_the_default_dtype_is_that_of_floats_made_here():
    assert pg.get_default_dtype() == np.float32
    made = {
        "tensor": lambda t: t.tensor([1.0]), "complex": lambda t: t.tensor([1j]), "zeros": lambda t: t.zeros(1),
        "full": lambda t: t.full((1,), 0.5), "arange": lambda t: t.arange(0.5),
        "linspace": lambda t: t.linspace(0, 1, 2),
        "eye": lambda t: t.eye(2), "window": lambda t: t.hann_window(3), "rand": lambda t: t.rand(2) * 0,
        "randn": lambda t: t.randn(2) * 0, "integers": lambda t: t.tensor([1]), "scalar": lambda t: t.scalar_tensor(1),
        "number": lambda t: t.tensor([1]) * 0.5,
    }  # fmt: skip
    try:
        for library in LIBRARIES:
            library.set_default_dtype(library.float64)
        assert pg.get_default_dtype() == np.float64
        for make in made.values():
            assert_same(*(make(library) for library in LIBRARIES), tolerance=1e-12)
    finally:
        for library in LIBRARIES:
            library.set_default_dtype(library.float32)
    assert pg.zeros(1).dtype == np.float32
    with pytest.raises(TypeError, match="int64"):
        pg.set_default_dtype(pg.int64)


# ----- what is refused -----


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: pg.zeros(2, device="cuda"), RuntimeError, r"device='cuda'.*write device='cpu'"),
        (lambda: pg.zeros(2, out=pg.ones(2)), RuntimeError, "leave out out"),
        (lambda: pg.zeros(2, layout="sparse_coo"), RuntimeError, "strided"),
        (lambda: pg.zeros(2, pin_memory=True), RuntimeError, "pin_memory"),
        (lambda: pg.ones_like(pg.ones(2), memory_format="channels_last"), RuntimeError, "contiguous_format"),
        (lambda: pg.as_tensor([1.0], device="cuda"), RuntimeError, "cuda"),
        (lambda: pg.as_tensor(pg.ones(1), device="cuda"), RuntimeError, "cuda"),
        (lambda: pg.zeros(2, colour="red"), TypeError, "'colour'"),
        (lambda: pg.zeros(2, -1), RuntimeError, r"\(2, -1\)"),
        (lambda: pg.eye(-1), RuntimeError, "-1"),
        (lambda: pg.zeros(2, dtype=pg.int64, requires_grad=True), RuntimeError, "floating-point"),
        (lambda: pg.tensor([[1], [1, 2]]), ValueError, "inhomogeneous"),
        (lambda: pg.tensor("abc"), TypeError, "str"),
        (lambda: pg.tensor(None), TypeError, "NoneType"),
        (lambda: pg.from_numpy([1]), TypeError, "list"),
        (lambda: pg.asarray([1.0], copy=False), ValueError, "copy=False"),
        (lambda: pg.asarray(np.ones(1), dtype=pg.float32, copy=False), ValueError, "copy=False"),
        (lambda: pg.arange(0, 3, 0), RuntimeError, "step=0"),
        (lambda: pg.arange(0, 3, -1), RuntimeError, "from 0 to 3"),
        (lambda: pg.range(3), TypeError, "end"),
        (lambda: pg.range(3, 0), RuntimeError, "from 3 to 0"),
        (lambda: pg.linspace(0, 1, -1), RuntimeError, "steps from 0 on"),
        (lambda: pg.hann_window(-1), RuntimeError, "-1"),
        (lambda: pg.hann_window(3, dtype=pg.int64), RuntimeError, "int64"),
        (lambda: pg.finfo(pg.int64), TypeError, "iinfo"),
        (lambda: pg.iinfo(pg.float32), TypeError, "finfo"),
        (lambda: pg.full((2,), pg.ones(3)), RuntimeError, "1 element"),
        (lambda: pg.arange(), TypeError, "end"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(call, error, told):
    with pytest.raises(error, match=told):
        call()


def test_all_that_is_exported_is_torchs():
    missing = [name for name in creation.__all__ if not hasattr(torch, name) and name != "to_dlpack"]
    assert missing == []
    assert math.prod(pg.zeros(2, 3).shape) == 6
