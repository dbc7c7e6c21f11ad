"""The CPU as the only device, what scripts ask about memory and hardware, and the default dtype."""

import copy
import pickle

import numpy as np
import pytest

import pargrad as pg
import pargrad.backends.cudnn as cudnn
from pargrad import nn

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.fixture
def doubles():
    pg.set_default_dtype(pg.float64)
    yield
    pg.set_default_dtype(pg.float32)


# ----- devices -----

DEVICES = {
    "cpu": ("cpu", None),
    "cuda": ("cuda", None),
    "cuda:1": ("cuda", 1),
    "mps": ("mps", None),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_its_type_and_index(name):
    kind, index = DEVICES[name]
    device = pg.device(name)
    assert (device.type, device.index, str(device)) == (kind, index, name)
    index_told = "" if index is None else f", index={index}"
    assert repr(device) == f"device(type={kind!r}{index_told})"
    for same in (pg.device(kind, index), pg.device(type=kind, index=index), pg.device(device), copy.copy(device)):
        assert same == device and hash(same) == hash(device)
    assert pickle.loads(pickle.dumps(device)) == device
    assert device != pg.device("cpu", 7) and device != name


def test_a_number_is_a_gpus():
    assert pg.device(1) == pg.device("cuda:1")


@pytest.mark.parametrize("wrong", ["moon", "cpu:x", "cpu:-1", "", "cpu:0:0"])
def test_what_is_no_device_is_refused(wrong):
    with pytest.raises(RuntimeError, match=f"expected one of cpu, cuda, .* got '{wrong}'"):
        pg.device(wrong)
    with pytest.raises(RuntimeError, match="got 'cuda:1'"):
        pg.device("cuda:1", 1)


def test_scripts_choose_the_cpu():
    device = pg.device("cuda" if pg.cuda.is_available() else "mps" if pg.backends.mps.is_available() else "cpu")
    assert not pg.accelerator.is_available() and pg.accelerator.current_accelerator() is None
    assert device.type == "cpu" and pg.cuda.device_count() == 0 == pg.accelerator.device_count()
    with device:
        x = pg.zeros(2, device=device)
    model = nn.Linear(2, 3).to(device)
    assert model(x.to(device, non_blocking=True)).device == device == pg.get_default_device()
    assert not x.is_cuda and x.is_cpu and x.get_device() == -1 and x.layout is pg.strided
    pg.set_default_device("cpu")


def test_what_is_set_for_gpus_is_taken():
    pg.cuda.manual_seed(1)
    pg.cuda.manual_seed_all(1)
    pg.cuda.empty_cache()
    pg.cuda.set_rng_state_all(pg.cuda.get_rng_state_all())
    assert pg.cuda.memory_allocated() == pg.cuda.max_memory_allocated() == 0
    cudnn.benchmark, cudnn.deterministic = False, True
    pg.backends.cudnn.allow_tf32 = pg.backends.cuda.matmul.allow_tf32 = True
    pg.use_deterministic_algorithms(True, warn_only=True)
    assert pg.are_deterministic_algorithms_enabled()
    pg.set_float32_matmul_precision("high")
    assert pg.get_float32_matmul_precision() == "highest"
    with pytest.raises(RuntimeError, match="got 'low'"):
        pg.set_float32_matmul_precision("low")


def test_nothing_is_compiled():
    model = nn.Linear(2, 3)
    assert pg.compile(model) is model and pg.compile(model, dynamic=True) is model

    @pg.compile(fullgraph=True)
    def double(x):
        return 2 * x

    assert double(3) == 6


OTHER_DEVICES = {
    "cuda()": lambda x: x.cuda(),
    "to a name": lambda x: x.to("cuda"),
    "to a device": lambda x: x.to(pg.device("mps")),
    "to a number": lambda x: x.to(0),
    "to by name": lambda x: x.to(device="cuda:1", dtype=pg.float64),
    "made there": lambda x: pg.zeros(2, device="cuda"),
    "made there by a device": lambda x: pg.tensor([1], device=pg.device("cuda")),
    "a default": lambda x: pg.set_default_device("cuda"),
    "a block": lambda x: pg.device("cuda").__enter__(),
    "a module": lambda x: nn.Linear(2, 3).to("cuda"),
    "a module's cuda()": lambda x: nn.Linear(2, 3).cuda(),
    "a name": lambda x: pg.cuda.get_device_name(0),
    "set": lambda x: pg.cuda.set_device(0),
    "waiting": lambda x: pg.cuda.synchronize(),
}


@pytest.mark.parametrize("name", OTHER_DEVICES)
def test_other_devices_are_a_clear_error(name):
    with pytest.raises(RuntimeError, match="CPU|no GPU|cpu"):
        OTHER_DEVICES[name](pg.zeros(2))


# ----- to -----

TO = {
    "a device": (("cpu",), {}, pg.float32),
    "a numbered device": (("cpu:0",), {}, pg.float32),
    "nothing": ((), {}, pg.float32),
    "a dtype": ((pg.float64,), {}, pg.float64),
    "its own dtype": ((pg.float32,), {}, pg.float32),
    "numpy's dtype": ((np.int32,), {}, pg.int32),
    "a dtype's name": (("int32",), {}, pg.int32),
    "Python's type": ((float,), {}, pg.float64),
    "a device and a dtype": (("cpu", pg.int64), {}, pg.int64),
    "a device and no dtype": (("cpu", None), {}, pg.float32),
    "a device and flags": (("cpu", pg.float16, True), {}, pg.float16),
    "a dtype and a flag": ((pg.float64, True), {}, pg.float64),
    "names": ((), {"device": pg.device("cpu"), "dtype": pg.uint8, "non_blocking": True}, pg.uint8),
    "another tensor": ((pg.zeros(1, dtype=pg.float64),), {}, pg.float64),
    "memory_format": (("cpu",), {"memory_format": pg.preserve_format}, pg.float32),
}


@pytest.mark.parametrize("name", TO)
def test_to_in_all_its_forms(name):
    args, named, dtype = TO[name]
    x = pg.tensor(X)
    out = x.to(*args, **named)
    assert out.dtype == dtype and out.tolist() == X.tolist() and (out is x) == (dtype == pg.float32)
    other = x.to(*args, **named, copy=True)
    assert other.dtype == dtype and not np.may_share_memory(other.array, x.array)


def test_copies_by_position_and_in_the_graph():
    x = pg.ones(2, requires_grad=True)
    for args in ((pg.float32, False, True), ("cpu", pg.float32, False, True), (x, False, True)):
        out = x.to(*args)
        assert out is not x and out.requires_grad
    x.to("cpu", pg.float64).sum().backward()
    assert x.grad.dtype == pg.float32 and x.grad.tolist() == [1, 1]
    assert x.cpu() is x and x.pin_memory() is x


# ----- memory -----


def test_where_elements_lie():
    x = pg.tensor(X)
    view = x.permute(2, 0, 1)[1:]
    assert (x.stride(), x.stride(-1), view.stride()) == ((12, 4, 1), 1, (1, 12, 4))
    assert (x.storage_offset(), view.storage_offset(), x[1, 2].storage_offset()) == (0, 1, 20)
    assert view.data_ptr() == x.data_ptr() + view.storage_offset() * x.element_size()
    assert x.is_contiguous() and not view.is_contiguous()
    assert x.contiguous() is x and view.contiguous().is_contiguous() and view.contiguous().tolist() == view.tolist()
    assert (x.element_size(), x.itemsize, x.nbytes) == (4, 4, 96)
    assert x.nelement() == pg.numel(x) == 24 and x.ndimension() == 3


def test_contiguous_keeps_the_graph():
    x = pg.tensor(X, requires_grad=True)
    (x.T.contiguous() * pg.tensor(X.T)).sum().backward()
    assert x.grad.tolist() == X.tolist()


def test_small_questions():
    x = pg.tensor([2.0])
    assert pg.is_tensor(x) and not pg.is_tensor(x.numpy())
    assert pg.is_nonzero(x) and not (x * 0).is_nonzero()
    assert x.is_signed() and not x.to(pg.uint8).is_signed() and not x.is_inference()
    with pg.inference_mode():
        assert (x * 1).is_inference()
    assert x.is_same_size(pg.ones(1)) and not x.is_same_size(pg.ones(2))
    assert not (x.is_pinned() or x.is_shared() or x.is_sparse or x.is_meta or x.is_quantized)


# ----- threads -----


def test_the_number_of_threads():
    before = pg.get_num_threads()
    try:
        pg.set_num_threads(1)
        assert pg.get_num_threads() == 1
    finally:
        pg.set_num_threads(before)
    assert pg.get_num_threads() == before
    pg.set_num_interop_threads(1)
    assert pg.get_num_interop_threads() == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_threads_is_refused(wrong):
    for function in (pg.set_num_threads, pg.set_num_interop_threads):
        with pytest.raises(RuntimeError, match=f"{function.__name__}: .*got {wrong!r}"):
            function(wrong)


# ----- the default dtype -----

FOLLOWERS = {
    "tensor": lambda: pg.tensor([1.5]),
    "zeros": lambda: pg.zeros(2),
    "rand": lambda: pg.rand(2),
    "arange": lambda: pg.arange(0.0, 2.0),
    "division of integers": lambda: pg.arange(3) / 2,
    "sqrt of integers": lambda: pg.sqrt(pg.tensor([1, 2])),
    "integers and a float": lambda: pg.tensor([1, 2]) + 1.5,
    "clamp of integers": lambda: pg.tensor([1, 2]).clamp(0.5),
    "fftfreq": lambda: pg.fft.fftfreq(4),
    "fft of integers": lambda: pg.fft.fft(pg.tensor([1, 2])).real,
    "a polynomial of integers": lambda: pg.special.chebyshev_polynomial_t(pg.tensor([1, 2]), 2),
    "cov of integers": lambda: pg.cov(pg.tensor([[1, 2], [3, 5]])),
    "block_diag of nothing": lambda: pg.block_diag(),
    "Linear": lambda: nn.Linear(2, 3).weight,
    "Conv1d": lambda: nn.Conv1d(2, 3, 2).bias,
    "Embedding": lambda: nn.Embedding(2, 3).weight,
    "BatchNorm1d": lambda: nn.BatchNorm1d(2).running_var,
    "LSTM": lambda: nn.LSTM(2, 2).weight_ih_l0,
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_the_default_dtype_is_followed(name, doubles):
    assert FOLLOWERS[name]().dtype == pg.float64
    pg.set_default_dtype(pg.float32)
    assert FOLLOWERS[name]().dtype == pg.float32


def test_only_other_dtypes_than_the_default_are_printed(doubles):
    assert repr(pg.tensor([1.5])) == "tensor([1.5000])"
    assert repr(pg.tensor([1.5], dtype=pg.float32)) == "tensor([1.5000], dtype=float32)"
    assert repr(pg.tensor([1j])) == "tensor([0.+1.j])" and repr(pg.tensor([3])) == "tensor([3])"
    assert repr(pg.zeros(0)) == "tensor([])" and repr(pg.tensor([1.0]).float()) == "tensor([1.], dtype=float32)"
