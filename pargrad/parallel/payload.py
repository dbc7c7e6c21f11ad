"""What is sent to workers: the work in one cloudpickle payload without its arrays, and recipes for data sets."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import mmap
import operator
import os
import socket
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from pargrad.data import ArrayData, Data
from pargrad.data.dataset import ExampleData
from pargrad.nn import Module, Parameter
from pargrad.parallel.arena import Cutter, mapped, shared_memory
from pargrad.parallel.errors import CannotSendError
from pargrad.tensor import Tensor, restore

LIMIT = 1_000_000  # bytes of a payload: arrays do not belong into it
MARKED_BYTES = 64_000_000  # of an array that is known again by all its bytes


def empty_tensor(kind: type[Tensor], shape: tuple[int, ...], dtype: str, requires_grad: bool) -> Tensor:
    """A tensor in the shape of one that was sent without its data: the arena has those."""
    return restore(kind, np.broadcast_to(np.zeros((), dtype), shape), requires_grad)


def pack(cloudpickle: Any, work: Any) -> bytes:
    """The work as bytes, read back once, so that what cannot be sent fails here and not in a worker."""
    model: Module = work.model
    held = {id(t) for t in (*Module.parameters(model), *Module.buffers(model))}

    def dumps(value: Any) -> bytes:
        class Pickler(cloudpickle.Pickler):
            def reducer_override(self, value: Any) -> Any:
                if isinstance(value, Tensor) and id(value) in held:
                    return empty_tensor, (type(value), value.shape, value.dtype.name, value.requires_grad)
                return super().reducer_override(value)

        file = io.BytesIO()
        Pickler(file, protocol=5).dump(value)
        return file.getvalue()

    with modules_by_value(cloudpickle):
        try:
            payload = dumps(work)
            cloudpickle.loads(payload)
        except Exception as error:
            name, inner = first_failure(dumps, work)
            raise CannotSendError(
                f"{name} cannot be sent to workers: {inner or error}. Make it in the call that uses it, or keep it out "
                "of the model (or use num_workers=0)"
            ) from error
        if len(payload) > LIMIT:
            sizes = {name: len(dumps(value)) for name, value in attributes(work)}
            name, size = max(sizes.items(), key=lambda pair: pair[1])
            raise CannotSendError(
                f"the model, loss and optimizer are {len(payload):,} bytes without their parameters, expected at most "
                f"{LIMIT:,}; the largest part is {name} with {size:,}. Make it a buffer "
                "(self.register_buffer), or part of the data set"
            )
    return payload


def attributes(work: Any) -> Iterator[tuple[str, Any]]:
    """The parts of the work that a user knows by name, the innermost first."""
    for path, module in reversed(list(Module.named_modules(work.model))):
        for name, value in vars(module).items():
            if not isinstance(value, Module | Parameter):
                yield ".".join(filter(None, ("model", path, name))), value
    yield "the loss", work.objective.loss or work.objective.step
    yield "the penalty", work.penalty


def first_failure(dumps: Any, work: Any) -> tuple[str, Exception | None]:
    for name, value in attributes(work):
        try:
            dumps(value)
        except Exception as error:
            return name, error
    return "the model", None


@contextlib.contextmanager
def modules_by_value(cloudpickle: Any) -> Iterator[None]:
    """Inside, code of modules that a worker could not import (those that are not installed) is sent itself."""
    registered = []
    for module in list(sys.modules.values()):
        if is_users(module) and module not in registered:  # a spawned process has its script under two names
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    name = getattr(module, "__name__", "")
    if (
        not file
        or name == "__main__"
        or name.split(".")[0] in ("pargrad", "ray")
        or sys.modules.get(name) is not module
    ):
        return False
    return not file.startswith(installed()) and "site-packages" not in file and "dist-packages" not in file


@functools.cache
def installed() -> tuple[str, ...]:
    """The folders of what is installed; to ask for them takes a tenth of a millisecond, and there are many modules."""
    return tuple({sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


# ----- data sets -----


class ArrayRecipe(NamedTuple):
    """Where a worker finds an array: at an offset of shared memory, or in a file (path, offset)."""

    path: str | None
    offset: int
    shape: tuple[int, ...]
    dtype: str


class DataRecipe(NamedTuple):
    """A data set as it is sent: arrays over `size` bytes of shared memory, or a pickled object."""

    arrays: list[ArrayRecipe]
    size: int
    pickled: bytes | None


def make_recipe(cloudpickle: Any, data: Data) -> tuple[DataRecipe, int | None]:
    """A recipe, and the descriptor of the memory it speaks of (None without)."""
    if type(data) is not ArrayData:
        with modules_by_value(cloudpickle):
            try:
                return DataRecipe([], 0, cloudpickle.dumps(data, protocol=5)), None
            except Exception as error:
                raise CannotSendError(
                    f"the data set {type(data).__name__} cannot be sent to workers: {error}. Open what it holds in "
                    "batch(), or give arrays"
                ) from error
    place = Cutter()
    recipes = [recipe_of(array, place) for array in data.arrays]
    if not place.used:
        return DataRecipe(recipes, 0, None), None
    descriptor = shared_memory(place.used)
    memory = mapped(descriptor, place.used)
    for recipe, array in zip(recipes, data.arrays):
        if recipe.path is None and array.size:
            np.frombuffer(memory, recipe.dtype, array.size, recipe.offset).reshape(array.shape)[...] = array
    return DataRecipe(recipes, place.used, None), descriptor


def recipe_of(array: np.ndarray, place: Cutter) -> ArrayRecipe:
    # Only a whole mapped file says by itself where it lies: a slice of one is copied, and so is one that was mapped
    # to be changed in memory alone.
    mapped_whole = isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
    if mapped_whole and isinstance(array, np.memmap) and array.mode != "c":
        return ArrayRecipe(str(array.filename), array.offset, array.shape, array.dtype.str)
    offset = place.used
    place(array.size, array.dtype.str)
    return ArrayRecipe(None, offset, array.shape, array.dtype.str)


def follow_recipe(loads: Any, recipe: DataRecipe, descriptor: int | None) -> Data:
    """The data set of a recipe, in a worker: read-only arrays, or the object."""
    if recipe.pickled is not None:
        return loads(recipe.pickled)
    memory = None if descriptor is None else mapped(descriptor, recipe.size, writable=False)

    def array(one: ArrayRecipe) -> np.ndarray:
        if one.path is not None:
            return opened(one)
        count = int(np.prod(one.shape))
        if not count:
            return np.empty(one.shape, one.dtype)
        assert memory is not None
        return np.frombuffer(memory, one.dtype, count, one.offset).reshape(one.shape)

    return ArrayData(*map(array, recipe.arrays))


def opened(one: ArrayRecipe) -> np.ndarray:
    """The array of a file, as this machine has it."""
    assert one.path is not None
    try:
        return np.memmap(one.path, one.dtype, "r", one.offset, one.shape)
    except (OSError, ValueError) as error:  # it is not there, or too short
        told = f"on machine {socket.gethostname()}, {one.path}: {error}"
        raise type(error)(
            f"{told}. It should hold {one.shape} of {one.dtype} from byte {one.offset}, as it does where the run was "
            "started: put the same file on every machine, or give the array itself"
        ) from error


# ----- known again -----


class SharedData:
    """A data set that workers were given: itself, a mark to know a change by, and how it is given to another one."""

    def __init__(self, data: Any, mark: Any, recipe: Any, descriptor: int | None):
        self.data, self.mark, self.recipe, self.descriptor = data, mark, recipe, descriptor

    def is_of(self, data: Data, mark: Any) -> bool:
        """Whether it is this data set, unchanged."""
        if type(data) is not ArrayData or type(self.data) is not ArrayData:
            return wrapped_in(data) is wrapped_in(self.data) and mark == self.mark
        mine = self.data.arrays
        return len(data.arrays) == len(mine) and all(map(operator.is_, data.arrays, mine)) and mark == self.mark

    def descriptors(self) -> list[int]:
        return [] if self.descriptor is None else [self.descriptor]

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def wrapped_in(data: Data) -> Any:
    """A user's own data set out of what each fit wraps it in anew; another one is itself."""
    return data.dataset if type(data) is ExampleData else data


def mark_of(cloudpickle: Any, data: Data) -> Any:
    """By what it is seen that a data set was changed since it was shared.

    The bytes of an object as it is sent; of arrays all bytes, or where they have more than 64 MB a `sample_of` them.
    """
    if type(data) is not ArrayData:
        return hashlib.sha256(make_recipe(cloudpickle, data)[0].pickled or b"").digest()
    parts = (array if array.nbytes <= MARKED_BYTES else sample_of(array) for array in data.arrays)
    return [zlib.crc32(np.ascontiguousarray(part).data.cast("B")) for part in parts]


def sample_of(array: np.ndarray) -> np.ndarray:
    """64 bytes at each of 4,096 places, spread evenly over rows and columns; of other layouts than C's whole rows."""
    if not array.flags.c_contiguous:
        return array.take(np.linspace(0, len(array) - 1, min(4096, len(array))).astype(np.int64), axis=0)
    width = max(1, 64 // array.itemsize)
    golden = (math.sqrt(5) - 1) / 2  # whose multiples fall evenly, and never into step with the rows
    places = np.arange(4096) * golden % 1 * (array.size - width + 1)
    return array.reshape(-1).take(places.astype(np.int64)[:, None] + np.arange(width))
