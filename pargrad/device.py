"""Where tensors lie and how: the CPU is the only device, and what scripts written for others ask and set is answered.

`pg.device`, `x.to(device, dtype)`, `x.stride()`, `pg.set_num_threads`, ...: torch's names. What chooses another device
is a RuntimeError; what chooses how a GPU computes is taken and means nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pargrad import operators
from pargrad.creation import strided
from pargrad.modes import INFERENCE
from pargrad.operators import documentation
from pargrad.tensor import Tensor

__all__ = [
    "are_deterministic_algorithms_enabled", "compile", "device", "get_default_device", "get_float32_matmul_precision",
    "get_num_interop_threads", "get_num_threads", "is_nonzero", "is_tensor", "numel", "set_default_device",
    "set_float32_matmul_precision", "set_num_interop_threads", "set_num_threads", "use_deterministic_algorithms",
]  # fmt: skip

KNOWN = ("cpu", "cuda", "hip", "hpu", "maia", "meta", "mps", "mtia", "xla", "xpu")
ONLY = "tensors lie on the CPU, the only device here: write 'cpu', or leave it out"


class device:
    """A device by its name, "cpu" or "cuda:0": any can be named, so that scripts can ask, and only the CPU is there.

    https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device
    """

    def __init__(self, type: Any, index: int | None = None):
        name = f"cuda:{type}" if isinstance(type, int) else str(type)
        found = re.fullmatch(r"([a-z]+)(?::(\d+))?", name)
        if found is None or found[1] not in KNOWN or (found[2] is not None and index is not None):
            raise RuntimeError(
                f"device: expected one of {', '.join(KNOWN)}, with ':' and a number behind it or not, got {name!r}"
            )
        self.type = found[1]
        self.index = index if found[2] is None else int(found[2])

    def __repr__(self) -> str:
        return f"device(type={self.type!r}{'' if self.index is None else f', index={self.index}'})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __enter__(self) -> device:
        check_device("with device(...)", self)
        return self

    def __exit__(self, *error: object) -> None:
        pass


CPU = device("cpu")


def check_device(name: str, given: Any) -> None:
    """Raises where a device is given that is not the CPU."""
    if given is not None and str(device(given)) not in ("cpu", "cpu:0"):
        raise RuntimeError(f"{name}: {str(device(given))!r} was given, but {ONLY}")


def check_location(name: str, location: Any) -> None:
    """The same of torch's map_location, which may also be a function or a dict: those have nothing to map."""
    if not callable(location) and not isinstance(location, Mapping):
        check_device(name, location)


def get_default_device() -> device:
    """The CPU."""
    return CPU


def set_default_device(device: Any) -> None:
    """Takes the CPU, the only device."""
    check_device("set_default_device", device)


# ----- methods of Tensor -----


def to(
    self: Tensor,
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The same values in another dtype; the tensor itself where it has it, but for copy=True.

    to(dtype), to(device), to(device, dtype), to(other), each also with non_blocking and copy: the device is the CPU.
    https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html
    """
    flags: list = []
    if args:
        first, *others = args
        if isinstance(first, Tensor):
            dtype, flags = first.dtype, others
        elif is_dtype(first):
            dtype, flags = first, others
        else:
            device = first
            if others and not isinstance(others[0], bool):
                dtype, *others = others
            flags = others
    if len(flags) > 1:
        copy = flags[1]
    if device is not None and device is not CPU:
        check_device("to", device)
    out = self if dtype is None else operators.to(self, dtype)
    return out.clone() if copy and out is self else out


def is_dtype(given: Any) -> bool:
    """Whether a dtype is meant, and not a device; numpy's names of dtypes are taken too, which torch has not."""
    if isinstance(given, str):
        return given in np.sctypeDict
    return isinstance(given, np.dtype) or (
        isinstance(given, type) and issubclass(given, np.generic | complex | float | int)
    )


def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """There is none: an error that says so."""
    raise RuntimeError(f"cuda(): {ONLY}")


def stays(self: Tensor, *args: Any, **named: Any) -> Tensor:
    """The tensor itself, which lies where it is wanted."""
    return self


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in memory in the order of their indices, the last one fastest."""
    return bool(self.array.flags.c_contiguous)


def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself where it is contiguous, else a copy that is."""
    if is_contiguous(self):
        return self
    return operators.FUNCTIONS["reshape"](operators.FUNCTIONS["reshape"](self, (self.numel(),)), self.shape)


def stride(self: Tensor, dim: int | None = None) -> Any:
    """How many elements lie between neighbours along a dimension; of all dimensions, a tuple."""
    steps = tuple(step // self.array.itemsize for step in self.array.strides)
    return steps if dim is None else steps[dim]


def storage_offset(self: Tensor) -> int:
    """How many elements lie in memory before the first one."""
    whole = self.array
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    lowest = np.lib.array_utils.byte_bounds(whole)[0]
    return (data_ptr(self) - lowest) // self.array.itemsize


def data_ptr(self: Tensor) -> int:
    """The address of the first element."""
    return self.array.ctypes.data


METHODS: dict[str, Any] = {
    "to": to,
    "cuda": cuda,
    "cpu": stays,
    "pin_memory": stays,
    "share_memory_": stays,
    "contiguous": contiguous,
    "is_contiguous": is_contiguous,
    "stride": stride,
    "storage_offset": storage_offset,
    "data_ptr": data_ptr,
    "element_size": lambda self: self.array.itemsize,
    "itemsize": property(lambda self: self.array.itemsize),
    "nbytes": property(lambda self: self.array.nbytes),
    "nelement": Tensor.numel,
    "ndimension": Tensor.dim,
    "is_same_size": lambda self, other: self.shape == other.shape,
    "is_signed": lambda self: self.array.dtype.kind in "ifc",
    "is_nonzero": lambda self: is_nonzero(self),
    "is_inference": lambda self: self._cell is INFERENCE,
    "get_device": lambda self: -1,
    "is_pinned": lambda self, device=None: False,
    "is_shared": lambda self: False,
    "device": CPU,
    "layout": strided,
    "is_cpu": True,
    **{f"is_{kind}": False for kind in ("cuda", "meta", "mkldnn", "mps", "quantized", "sparse", "xla", "xpu")},
}
documentation.describe_methods(METHODS)
for name, method in METHODS.items():
    setattr(Tensor, name, method)


# ----- questions -----


def is_tensor(obj: Any) -> bool:
    """Whether an object is a Tensor."""
    return isinstance(obj, Tensor)


def numel(input: Tensor) -> int:
    """How many elements a tensor has."""
    return input.numel()


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element of a tensor is not 0."""
    return bool(input)


# ----- how it is computed -----


def get_num_threads() -> int:
    """How many threads the BLAS under numpy's matrix products uses."""
    import threadpoolctl

    return max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)


def set_num_threads(num_threads: int) -> None:
    """Sets how many threads the BLAS under numpy's matrix products uses; a Trainer's workers keep to one each.

    Another number may give other last bits. https://docs.pytorch.org/docs/stable/generated/torch.set_num_threads.html
    """
    import threadpoolctl

    check_threads("set_num_threads", num_threads)
    threadpoolctl.threadpool_limits(limits=num_threads)


def get_num_interop_threads() -> int:
    """One: operators run one after the other."""
    return 1


def set_num_interop_threads(num_threads: int) -> None:
    """Taken, and means nothing: operators run one after the other."""
    check_threads("set_num_interop_threads", num_threads)


def check_threads(name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise RuntimeError(f"{name}: expected a number of threads from 1 on, got {count!r}")


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Taken, and means nothing: there are no others."""


def are_deterministic_algorithms_enabled() -> bool:
    """True: there are no others."""
    return True


def get_float32_matmul_precision() -> str:
    """ "highest": products of float32 are computed in float32."""
    return "highest"


def set_float32_matmul_precision(precision: str) -> None:
    """Taken, and means nothing: products of float32 are computed in float32."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got {precision!r}")


def compile(model: Callable | None = None, **options: Any) -> Any:
    """The model or function itself: nothing is compiled here. As a decorator, with options or without."""
    return (lambda function: function) if model is None else model
