"""Tensors made from data and from constants: torch's creation functions, and the methods of Tensor that make others.

Arguments that say where and how a tensor lies are taken where they say what is so anyway: `device="cpu"`,
`layout=strided`, `out=None`. https://docs.pytorch.org/docs/stable/torch.html#creation-ops
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pargrad.promotion import CATEGORY_DEFAULT, category, literal
from pargrad.tensor import Tensor, check_can_require_grad

__all__ = [
    "arange", "as_tensor", "asarray", "bartlett_window", "blackman_window", "contiguous_format", "empty", "empty_like",
    "eye", "finfo", "from_dlpack", "from_numpy", "frombuffer", "full", "full_like", "get_default_dtype",
    "hamming_window", "hann_window", "iinfo", "kaiser_window", "linspace", "logspace", "ones", "ones_like",
    "preserve_format", "range", "scalar_tensor", "set_default_dtype", "strided", "tensor", "to_dlpack", "zeros",
    "zeros_like",
]  # fmt: skip

strided, contiguous_format, preserve_format = "strided", "contiguous_format", "preserve_format"
# What may be said of a tensor's place, besides None and False.
PLACES = {
    "device": ("cpu", "cpu:0"),
    "layout": (strided,),
    "memory_format": (contiguous_format, preserve_format),
    "pin_memory": (),
    "out": (),
}
COMPLEX: dict[np.dtype, np.dtype] = {
    np.dtype(np.float32): np.dtype(np.complex64),
    np.dtype(np.float64): np.dtype(np.complex128),
}


# ----- dtypes -----


def get_default_dtype() -> np.dtype:
    """The dtype of tensors made from Python's floats."""
    return CATEGORY_DEFAULT[2]


def set_default_dtype(d: Any, /) -> None:
    """Makes float32 or float64 the dtype of tensors made from Python's floats."""
    dtype = np.dtype(d)
    if dtype not in COMPLEX:
        raise TypeError(f"set_default_dtype: expected float32 or float64, got {dtype}")
    CATEGORY_DEFAULT[2], CATEGORY_DEFAULT[3] = dtype, COMPLEX[dtype]


def floating(dtype: Any) -> np.dtype:
    return get_default_dtype() if dtype is None else np.dtype(dtype)


class finfo:
    """A float dtype's limits: https://docs.pytorch.org/docs/stable/type_info.html#torch.torch.finfo"""

    def __init__(self, type: Any = None):
        dtype = floating(type)
        if dtype.kind not in "fc":
            raise TypeError(f"finfo: expected a floating-point dtype, got {dtype}: write iinfo({dtype})")
        limits = np.finfo(dtype)
        self.dtype, self.bits = str(limits.dtype), limits.bits
        self.min, self.max, self.eps = float(limits.min), float(limits.max), float(limits.eps)
        self.tiny = self.smallest_normal = float(limits.smallest_normal)
        self.resolution = float(str(limits.resolution))  # a power of ten, not what float32 makes of it

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """An integer dtype's limits: https://docs.pytorch.org/docs/stable/type_info.html#torch.torch.iinfo"""

    def __init__(self, type: Any):
        dtype = np.dtype(type)
        if dtype.kind not in "iu":
            raise TypeError(f"iinfo: expected an integer dtype, got {dtype}: write finfo({dtype})")
        limits = np.iinfo(dtype)
        self.dtype, self.bits, self.min, self.max = str(dtype), limits.bits, int(limits.min), int(limits.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


TYPES = {
    "FloatTensor": np.dtype(np.float32), "DoubleTensor": np.dtype(np.float64), "CharTensor": np.dtype(np.int8),
    "ShortTensor": np.dtype(np.int16), "IntTensor": np.dtype(np.int32), "LongTensor": np.dtype(np.int64),
    "ByteTensor": np.dtype(np.uint8), "BoolTensor": np.dtype(np.bool_), "ComplexFloatTensor": np.dtype(np.complex64),
    "ComplexDoubleTensor": np.dtype(np.complex128),
}  # fmt: skip


def type_method(self: Tensor, dtype: Any = None) -> Any:
    """The same values in another dtype, which may be one of torch's old type names; without one, the name."""
    if dtype is None:
        names = [name for name, kind in TYPES.items() if kind == self.dtype]
        return f"pargrad.{names[0]}" if names else str(self.dtype)
    if isinstance(dtype, str):
        dtype = TYPES.get(dtype.removeprefix("torch.").removeprefix("pargrad."), dtype)
    return self.to(np.dtype(dtype))


# ----- what every function of this module does -----


def leaf(array: np.ndarray, requires_grad: bool = False, placement: dict[str, Any] | None = None) -> Tensor:
    """The tensor on this memory, where `placement` asks for nothing else."""
    for name, value in (placement or {}).items():
        if name not in PLACES:
            raise TypeError(f"got an unknown argument {name!r}: expected dtype, requires_grad or one of {[*PLACES]}")
        if value is not None and value is not False and str(value).removeprefix("torch.") not in PLACES[name]:
            raise RuntimeError(
                f"{name}={value!r}: tensors lie on the CPU, in memory of their own: leave {name} out"
                + "".join(f", or write {name}={place!r}" for place in PLACES[name][:1])
            )
    if requires_grad:
        check_can_require_grad(array.dtype)
    return Tensor(array, requires_grad)


def shape_of(size: tuple, named: dict[str, Any] | None = None) -> tuple[int, ...]:
    """zeros(2, 3), zeros((2, 3)) and zeros(size=(2, 3)) mean the same; the name is taken out of `named`."""
    if named and "size" in named:
        size = (named.pop("size"), *size)
    only = size[0] if len(size) == 1 else size
    shape = tuple(only) if isinstance(only, tuple | list) else size
    if any(length < 0 for length in shape):
        raise RuntimeError(f"expected a size of numbers from 0 on, got {shape}")
    return shape


def python_number(x: Any) -> Any:
    """A number as Python has it, from a number of numpy's or a tensor of one element too."""
    return x.item() if isinstance(x, Tensor | np.ndarray) else literal(x)


# ----- from data -----


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """A copy of numbers, nested lists, arrays or tensors: Python floats become float32, Python integers int64.

    https://docs.pytorch.org/docs/stable/generated/torch.tensor.html

    >>> pg.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> pg.tensor([1.0, 2.0], requires_grad=True).dtype
    dtype('float32')
    """
    if isinstance(data, Tensor):
        data = data.array
    if dtype is None and not isinstance(data, np.ndarray | np.generic):
        array = np.array(data)
        if array.dtype in (np.float64, np.complex128) and not holds(array.dtype, data):
            array = array.astype(CATEGORY_DEFAULT[2 if array.dtype.kind == "f" else 3], copy=False)
    else:
        array = np.array(data, dtype=dtype)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"tensor(): expected numbers of one shape, got {array.dtype} from {type(data).__name__}")
    return leaf(array, requires_grad, placement)


def holds(dtype: np.dtype, data: Any) -> bool:
    """Whether nested lists hold a number of numpy's or a tensor of this dtype; Python's numbers have none."""
    if isinstance(data, list | tuple):
        return any(holds(dtype, part) for part in data)
    return isinstance(data, np.ndarray | np.generic | Tensor) and data.dtype == dtype


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor on the array's own memory: https://docs.pytorch.org/docs/stable/generated/torch.from_numpy.html

    >>> array = np.zeros(2)
    >>> x = pg.from_numpy(array)
    >>> array[0] = 7
    >>> x
    tensor([7., 0.], dtype=float64)
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy() takes a numpy array, got {type(ndarray).__name__}: write pargrad.tensor(data)")
    return Tensor(ndarray)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """The data as a tensor, on the same memory where that is possible."""
    if isinstance(data, Tensor):
        leaf(data.array, False, {"device": device})
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray):
        return leaf(np.asarray(data, dtype=dtype), False, {"device": device})
    return tensor(data, dtype=dtype, device=device)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool | None = None
) -> Tensor:
    """The data as a tensor: a copy with copy=True, the same memory or an error with copy=False, else what is possible.

    https://docs.pytorch.org/docs/stable/generated/torch.asarray.html
    """
    if isinstance(obj, Tensor | np.ndarray):
        out = as_tensor(obj, dtype, device)
    elif hasattr(obj, "__dlpack__"):
        out = as_tensor(from_dlpack(obj), dtype, device)
    elif isinstance(obj, bytes | bytearray | memoryview):
        out = frombuffer(obj, dtype=floating(dtype))
    else:
        out = tensor(obj, dtype=dtype, device=device)
        obj = None
    shared = obj is not None and (dtype is None or out.dtype == getattr(obj, "dtype", out.dtype))
    if copy is False and not shared:
        raise ValueError("asarray: copy=False, but this data cannot be had without a copy: leave copy out")
    if copy and shared:
        out = out.clone()
    if requires_grad is None or requires_grad == out.requires_grad:
        return out
    return out.detach().requires_grad_(requires_grad)


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A vector on a buffer's own memory (bytes, bytearray, memoryview); it is read-only where the buffer is."""
    return leaf(np.frombuffer(buffer, np.dtype(dtype), count, offset), requires_grad)


class Capsule:
    """A bare DLPack capsule as an object that numpy takes."""

    def __init__(self, capsule: Any):
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU


def from_dlpack(ext_tensor: Any, /) -> Tensor:
    """A tensor on the memory of another library's, or of a DLPack capsule."""
    return Tensor(np.from_dlpack(ext_tensor if hasattr(ext_tensor, "__dlpack__") else Capsule(ext_tensor)))


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule of a tensor's memory."""
    return tensor.numpy().__dlpack__()


# ----- of one value -----


def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """Zeros of this shape."""
    return leaf(np.zeros(shape_of(size, placement), floating(dtype)), requires_grad, placement)


def ones(*size: Any, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """Ones of this shape."""
    return leaf(np.ones(shape_of(size, placement), floating(dtype)), requires_grad, placement)


def empty(*size: Any, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """A tensor of this shape, of whatever its memory holds."""
    return leaf(np.empty(shape_of(size, placement), floating(dtype)), requires_grad, placement)


def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """One value everywhere, of the value's own dtype unless another is given."""
    value = python_number(fill_value)
    dtype = CATEGORY_DEFAULT[category(value)] if dtype is None else dtype
    return leaf(np.full(shape_of((size,)), value, dtype), requires_grad, placement)


def scalar_tensor(s: Any, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """A tensor of no dimensions, of the default float dtype unless another is given."""
    value = python_number(s)
    kind = CATEGORY_DEFAULT[max(2, category(value))] if dtype is None else dtype
    return leaf(np.array(value, kind), requires_grad, placement)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """Zeros of the input's shape and dtype."""
    return leaf(np.zeros(input.shape, dtype or input.dtype), requires_grad, placement)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """Ones of the input's shape and dtype."""
    return leaf(np.ones(input.shape, dtype or input.dtype), requires_grad, placement)


def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """A tensor of the input's shape and dtype, of whatever its memory holds."""
    return leaf(np.empty(input.shape, dtype or input.dtype), requires_grad, placement)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """One value everywhere, of the input's shape and dtype."""
    return full(input.shape, fill_value, dtype=dtype or input.dtype, requires_grad=requires_grad, **placement)


def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False, **placement: Any) -> Tensor:
    """Ones on the diagonal of an n by n, or n by m, matrix of zeros."""
    rows, columns = shape_of((n, n if m is None else m))
    return leaf(np.eye(rows, columns, dtype=floating(dtype)), requires_grad, placement)


# ----- numbers in a row -----


def arange(
    start: Any = None,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """arange(end), arange(start, end) or arange(start, end, step): int64, or float32 where a bound is a float.

    `end` itself is left out. https://docs.pytorch.org/docs/stable/generated/torch.arange.html

    >>> pg.arange(2, 8, 3), pg.arange(0.0, 1.0, 0.25)
    (tensor([2, 5]), tensor([0.0000, 0.2500, 0.5000, 0.7500]))
    """
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() lacks its end: write arange(5) or arange(2, 5)")
    start = 0 if start is None else start
    bounds = [python_number(bound) for bound in (start, end, step)]
    dtype = CATEGORY_DEFAULT[max(1, *map(category, bounds))] if dtype is None else np.dtype(dtype)
    if dtype.kind in "iu":
        bounds = [int(bound) for bound in bounds]
    return leaf(steps_from("arange", bounds, math.ceil).astype(dtype, copy=False), requires_grad, placement)


def steps_from(name: str, bounds: list[Any], count: Callable[[float], int]) -> np.ndarray:
    """start, start + step, ...; `count` makes a number of elements of (end - start) / step."""
    start, end, step = bounds
    if not step or (end - start) * step < 0:
        raise RuntimeError(f"{name}: expected a step that leads from {start} to {end}, got step={step}")
    if all(isinstance(bound, int) for bound in bounds):
        return start + step * np.arange(count((end - start) / step))
    return start + step * np.arange(count((end - start) / step), dtype=np.float64)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """`steps` numbers from start to end, both included, equally far from each other.

    >>> pg.linspace(0, 1, steps=5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    return leaf(spaced("linspace", start, end, steps, dtype), requires_grad, placement)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """base ** linspace(start, end, steps)"""
    return leaf(spaced("logspace", start, end, steps, dtype, base), requires_grad, placement)


def spaced(name: str, start: Any, end: Any, steps: int, dtype: Any, base: float | None = None) -> np.ndarray:
    """From both ends to the middle, so that both ends come out exactly; computed in float64 or complex128."""
    bounds = [python_number(bound) for bound in (start, end)]
    kind = CATEGORY_DEFAULT[max(2, *map(category, bounds))] if dtype is None else np.dtype(dtype)
    if steps < 0:
        raise RuntimeError(f"{name}: expected steps from 0 on, got {steps}")
    first, last = (int(bound) if kind.kind in "iu" else bound for bound in bounds)
    step, places = (last - first) / max(steps - 1, 1), np.arange(steps)
    values = np.where(places < max(steps // 2, 1), first + step * places, last - step * (steps - 1 - places))
    return (values if base is None else np.power(base, values)).astype(kind)


# ----- windows: weights for the parts of a signal, https://docs.pytorch.org/docs/stable/torch.html#spectral-ops -----


def windowed(name: str, shape: Callable, length: int, periodic: bool, dtype: Any) -> np.ndarray:
    """A window from its shape over [0, 1]; a periodic one leaves out the last point, which begins the next period."""
    kind = floating(dtype)
    if kind.kind != "f":
        raise RuntimeError(f"{name}: expected a floating-point dtype, got {kind}")
    if length < 0:
        raise RuntimeError(f"{name}: expected a window_length from 0 on, got {length}")
    if length == 1:
        return np.ones(1, kind)
    return shape(np.arange(length) / (length if periodic else length - 1)).astype(kind)


def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """sin(pi x)^2"""
    values = windowed("hann_window", lambda x: np.sin(np.pi * x) ** 2, window_length, periodic, dtype)
    return leaf(values, requires_grad, placement)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """alpha - beta cos(2 pi x)"""
    values = windowed("hamming_window", lambda x: alpha - beta * np.cos(2 * np.pi * x), window_length, periodic, dtype)
    return leaf(values, requires_grad, placement)


def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """0.42 - 0.5 cos(2 pi x) + 0.08 cos(4 pi x)"""

    def shape(x: np.ndarray) -> np.ndarray:
        return 0.42 - 0.5 * np.cos(2 * np.pi * x) + 0.08 * np.cos(4 * np.pi * x)

    return leaf(windowed("blackman_window", shape, window_length, periodic, dtype), requires_grad, placement)


def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """1 - |2 x - 1|, a triangle"""
    values = windowed("bartlett_window", lambda x: 1 - np.abs(2 * x - 1), window_length, periodic, dtype)
    return leaf(values, requires_grad, placement)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    **placement: Any,
) -> Tensor:
    """i0(beta sqrt(1 - (2 x - 1)^2)) / i0(beta), for the modified Bessel function i0"""

    def shape(x: np.ndarray) -> np.ndarray:
        return np.i0(beta * np.sqrt(1 - (2 * x - 1) ** 2)) / np.i0(beta)

    return leaf(windowed("kaiser_window", shape, window_length, periodic, dtype), requires_grad, placement)


# ----- methods: as functions, of the tensor's own dtype -----


def new_tensor(self: Tensor, data: Any, **named: Any) -> Tensor:
    """A copy of data as `tensor` makes it, in the dtype of this tensor."""
    return tensor(data, **{"dtype": self.dtype} | named)


def new_full(self: Tensor, size: Any, fill_value: Any, **named: Any) -> Tensor:
    """One value everywhere, in the dtype of this tensor."""
    return full(size, fill_value, **{"dtype": self.dtype} | named)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """In the dtype of another tensor."""
    return self.to(other.dtype)


def new_of(self: Tensor, *given: Any) -> Tensor:
    """x.new(2, 3) is x.new_empty(2, 3), x.new([1, 2]) is x.new_tensor([1, 2]): torch's old name for both.

    A tuple is a size, as x.size() gives it.
    """
    is_data = len(given) == 1 and not isinstance(given[0], int | tuple)
    return new_tensor(self, given[0]) if is_data else empty(*(given or (0,)), dtype=self.dtype)


def new(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *size: Any, **named: Any) -> Tensor:
        return function(*size, **{"dtype": self.dtype} | named)

    method.__name__ = f"new_{function.__name__}"
    method.__doc__ = f"{function.__doc__} In the dtype of this tensor."
    return method


class OldType(type):
    """What torch's old tensor types were: called with sizes or data, asked for in isinstance, given to `x.type()`."""

    dtype: np.dtype

    def __call__(cls, *given: Any) -> Tensor:
        return new_of(Tensor(np.zeros(0, cls.dtype)), *given)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, Tensor) and x.dtype == cls.dtype


OLD_TYPES = {
    name: OldType(name, (), {"dtype": dtype, "__doc__": f"Tensors of {dtype}, by torch's old name."})
    for name, dtype in TYPES.items()
}
globals().update(OLD_TYPES)
__all__ += [name for name in OLD_TYPES if not name.startswith("Complex")]  # torch has no such constructors

METHODS: dict[str, Callable] = {
    **{f"new_{function.__name__}": new(function) for function in (zeros, ones, empty)},
    "new": new_of,
    "new_tensor": new_tensor,
    "new_full": new_full,
    "type": type_method,
    "type_as": type_as,
    "__dlpack__": lambda self, **named: self.numpy().__dlpack__(**named),
    "__dlpack_device__": lambda self: (1, 0),  # the CPU
}
for name, method in METHODS.items():
    setattr(Tensor, name, method)


def range(
    start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None, requires_grad: bool = False, **placement: Any
) -> Tensor:
    """arange that includes its end and is of floats; deprecated by torch, which says to write arange."""
    if end is None:
        raise TypeError("range() lacks its end: write range(0, end), or arange(end), which leaves the end out")
    bounds = [python_number(bound) for bound in (start, end, step)]
    values = steps_from("range", bounds, lambda steps: math.floor(steps) + 1)
    return leaf(values.astype(floating(dtype)), requires_grad, placement)
