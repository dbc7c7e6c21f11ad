"""`save` and `load`: state as safetensors, which torch and Hugging Face read, and which nothing can be executed from.

A file holds tensors by name, and in its metadata, as JSON, how they and plain values lie in dicts, lists and tuples:
{"model": {"fc.weight": tensor}, "epoch": 3} is a tensor "model.fc.weight" and that description. A state_dict by itself
is a file with its names. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import os
import secrets
import stat
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from pargrad.device import check_location, device
from pargrad.tensor import Tensor

__all__ = ["load", "save"]

KEY = "pargrad"  # of the description in the metadata
MAPPINGS: dict[str, type] = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter}
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8", "BF16": "<u2",
}  # fmt: skip
PICKLE = (
    "is a pickle, as torch.save writes it, and a pickle can run any code when it is loaded, so pargrad loads none. "
    "Where torch is and you trust the file, write: state = torch.load({name!r}, map_location='cpu'); "
    "safetensors.torch.save_file({{name: tensor.clone().contiguous() for name, tensor in state.items()}}, "
    "'weights.safetensors'); then here pargrad.load('weights.safetensors')"
)


# ----- writing -----


def save(obj: Any, f: Any) -> None:
    """Writes tensors and plain values, in dicts, lists and tuples at any depth, to a path or a file open for writing.

    Written is safetensors, not torch's pickle: of modules and optimizers give the `state_dict()`. Tensors on the same
    memory (tied ones) are stored once, under the first name, and are tied again by `load`; those that overlap in part
    are stored each by themselves. A file that is there is replaced when the new one is whole.
    https://docs.pytorch.org/docs/stable/generated/torch.save.html

    >>> import io
    >>> file = io.BytesIO()
    >>> pg.save({"weight": pg.ones(2), "epoch": 3}, file)
    >>> _ = file.seek(0)
    >>> pg.load(file)
    {'weight': tensor([1., 1.]), 'epoch': 3}
    """
    import safetensors.numpy

    writer = Writer()
    description = json.dumps(writer.described(obj, ()), allow_nan=False)
    # As safetensors' own save_model notes names that are tied, and as transformers asks what library it is for.
    metadata = {**writer.tied, "format": "pt", KEY: description}
    data = safetensors.numpy.save(writer.arrays, metadata)
    if hasattr(f, "write"):
        f.write(data)
    else:
        write_whole(os.fspath(f), data)


class Writer:
    """Takes a structure apart, into arrays by name and a description that JSON can hold.

    arrays: contiguous ones, which safetensors writes as they are. tied: other names of the same memory.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.tied: dict[str, str] = {}
        self.places: dict[Any, str] = {}

    def described(self, value: Any, path: tuple[str, ...]) -> Any:
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, np.generic):
            return self.described(value.item(), path)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, complex):
            return {"complex": [self.described(part, path) for part in (value.real, value.imag)]}
        if isinstance(value, Tensor):
            name = self.stored(value.array, path)
            return {"parameter" if value.requires_grad else "tensor": [name, value.dtype.name]}
        if isinstance(value, np.ndarray):
            return {"array": [self.stored(value, path), value.dtype.name]}
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if isinstance(value, device):
            return {"device": str(value)}
        if isinstance(value, Mapping):
            kind = type(value).__name__ if type(value) in MAPPINGS.values() else "dict"
            return {
                kind: [
                    [self.described(key, (*path, "a key")), self.described(each, (*path, str(key)))]
                    for key, each in value.items()
                ]
            }
        if isinstance(value, list | tuple):
            parts = [self.described(each, (*path, str(i))) for i, each in enumerate(value)]
            return parts if isinstance(value, list) else {"tuple": parts}
        what = "the object itself" if not path else f"{'.'.join(path)!r}"
        instead = ".state_dict()" if hasattr(value, "state_dict") else ""
        raise TypeError(
            f"save: expected tensors, arrays, numbers, strings, None, and dicts, lists and tuples of them: {what} is a "
            f"{type(value).__name__}" + (f": give its {instead}" if instead else ", which no file can bring back")
        )

    def stored(self, array: np.ndarray, path: tuple[str, ...]) -> str:
        """The name that an array is stored under, the first one where it has several."""
        name = ".".join(path) or "tensor"
        while name in self.arrays or name in self.tied or name in ("__metadata__", "format", KEY):
            name += "_"
        place = (array.ctypes.data, array.shape, array.strides, array.dtype) if array.size else object()
        first = self.places.setdefault(place, name)
        if first == name:
            self.arrays[name] = storable(array, name)
        else:
            self.tied[name] = first
        return first


def storable(array: np.ndarray, name: str) -> np.ndarray:
    """The array contiguous and little-endian; complex128, which the format lacks, as pairs of float64."""
    if array.dtype.kind not in "biufc" or array.dtype.char in "gG":  # those are long doubles
        raise TypeError(f"save: {name!r} has the dtype {array.dtype}, which safetensors has not: convert it first")
    if array.dtype == np.complex128:
        array = np.stack([array.real, array.imag], -1)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def write_whole(path: str, data: bytes) -> None:
    """Writes beside the file and renames: whoever reads sees the old one or the new one, and never a part."""
    path = os.path.realpath(path)  # a link stays one
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):  # a device, which must not be replaced
        with open(path, "wb") as file:
            file.write(data)
        return
    aside = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(aside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        if os.path.exists(aside):
            os.remove(aside)
        raise


# ----- reading -----


def load(f: Any, map_location: Any = None, *, weights_only: bool = True, mmap: bool | None = None) -> Any:
    """What `save` wrote, or the tensors by name of a safetensors file of torch's or Hugging Face's, or of a .npz.

    f: a path, or a file open for reading. bfloat16, which numpy has not, becomes float32, with the same values.
    A pickle (torch's .pt) is refused, since it can run code. weights_only and mmap are taken and mean nothing here.
    Raises RuntimeError where the file is damaged or of another kind.
    https://docs.pytorch.org/docs/stable/generated/torch.load.html
    """
    check_location("load(map_location=...)", map_location)
    if hasattr(f, "read"):
        return loaded(f, str(getattr(f, "name", "the given file")))
    with open(f, "rb") as file:
        return loaded(file, os.fspath(f))


def loaded(file: Any, name: str) -> Any:
    data = file.read()
    # safetensors begins with the length of its header, in 8 bytes, and the header.
    if data[8:9] == b"{" or not data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x80")):
        return read_safetensors(data, name)
    if data.startswith(b"PK"):
        return read_zip(data, name)
    raise RuntimeError(f"load: {name} {PICKLE.format(name=name)}")


def read_safetensors(data: bytes, name: str) -> Any:
    import safetensors

    try:
        stored = safetensors.deserialize(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = header.get("__metadata__", {})
        tensors = {key: array_of(key, tensor) for key, tensor in stored}
        return Reader(tensors).result(metadata)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise RuntimeError(
            f"load: {name} is damaged, or no safetensors file: {type(error).__name__}: {error}. Write it again with "
            "pargrad.save, or fetch it again"
        ) from error


def array_of(name: str, tensor: dict[str, Any]) -> np.ndarray:
    """One tensor as safetensors hands it over, as an array that can be written to."""
    if tensor["dtype"] not in DTYPES:
        raise TypeError(f"{name!r} is of {tensor['dtype']}, which numpy has not: convert it to float32 with torch")
    array = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native if native.flags.writeable else native.copy()


class Reader:
    """Puts a structure together again from its tensors and its description."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays
        self.tensors: dict[str, Tensor] = {}

    def result(self, metadata: dict[str, str]) -> Any:
        if KEY in metadata:
            return self.built(json.loads(metadata[KEY]))
        # Another library's file: tensors by name, to which safetensors' save_model notes the names that it left out.
        state = {name: self.tensor(name) for name in self.arrays}
        tied = {name: self.tensor(first) for name, first in metadata.items() if first in state and name not in state}
        return state | tied

    def tensor(self, name: str, dtype: str | None = None) -> Tensor:
        if name in self.tensors:
            return self.tensors[name].detach()  # on the same memory
        out = self.tensors[name] = Tensor(self.array(name, dtype))
        return out

    def array(self, name: str, dtype: str | None) -> np.ndarray:
        array = self.arrays[name]
        return array.view(np.complex128)[..., 0] if dtype == "complex128" else array

    def built(self, described: Any) -> Any:
        if isinstance(described, list):
            return [self.built(each) for each in described]
        if not isinstance(described, dict):
            return described
        ((kind, value),) = described.items()
        if kind in MAPPINGS:
            return MAPPINGS[kind]({self.built(key): self.built(each) for key, each in value})
        if kind == "tuple":
            return tuple(self.built(each) for each in value)
        if kind == "tensor":
            return self.tensor(*value)
        if kind == "parameter":
            return self.tensor(*value).detach().requires_grad_()
        if kind == "array":
            return self.array(*value)
        if kind == "complex":
            return complex(*(self.built(part) for part in value))
        plain = {"float": float, "dtype": np.dtype, "device": device}
        return plain[kind](value)


def read_zip(data: bytes, name: str) -> dict[str, Tensor]:
    """The arrays of a .npz; torch's own files are zip archives, too."""
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if any(member.filename.endswith(".pkl") for member in members):
                raise Pickled
            wrong = [member.filename for member in members if not member.filename.endswith(".npy")]
            if wrong:
                raise ValueError(f"it holds {wrong[0]!r}, expected arrays (.npy)")
            return {member.filename.removesuffix(".npy"): Tensor(read_npy(archive, member)) for member in members}
    except Pickled:
        raise RuntimeError(f"load: {name} {PICKLE.format(name=name)}") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise RuntimeError(
            f"load: {name} is damaged, or no .npz of arrays: {error}. Write it again with numpy.savez"
        ) from error


class Pickled(Exception):
    """A zip archive that torch.save wrote."""


def read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"{member.filename!r} is of version {version}")
        shape, fortran, dtype = read_header[version](file)
        if dtype.kind not in "biufc":
            raise ValueError(f"{member.filename!r} is of {dtype}, expected numbers")
        # The header may claim anything: what the archive says to hold is what is read.
        values = file.read()
        if len(values) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{member.filename!r} claims shape {shape} of {dtype}, and holds {len(values)} bytes")
    array = np.frombuffer(bytearray(values), dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(shape)
