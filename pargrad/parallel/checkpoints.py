"""Checkpoints: directories of safetensors and JSON, whole or not there, verified before anything of them is used.

    step-00000123/
        model.safetensors       parameters and persistent buffers by their names in `state_dict`, tied ones once
        optimizer.safetensors   the optimizer's arrays as "exp_avg/0.weight", "steps" (one count a parameter), and
                                buffers that are not persistent as "buffer/NAME"
        state.json              all else, with the size and sha256 of the two files, the hash of the model's state that
                            `state_sha256` gives, and its own sha256

A checkpoint is written aside and renamed when all of it is on the disk; LATEST, which names it, is written last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from pargrad.data import Data
from pargrad.nn import Module
from pargrad.parallel.arena import Cutter, Half, Layout, private_memory
from pargrad.parallel.errors import CheckpointError
from pargrad.parallel.step import of_shape
from pargrad.random import ShardGenerator
from pargrad.serialization import DTYPES

FORMAT, VERSION = "pargrad checkpoint", 1
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
LATEST = "LATEST"
NAME = re.compile(r"step-(\d{8,})")
ASIDE = ".tmp-"  # what begins so is being written, or being removed
FINGERPRINT_ROWS = 64
CHUNK = 1 << 24  # bytes hashed and written at once
LARGEST_STATE = 1 << 28  # bytes of state.json
ROOM = 1 << 30  # bytes that a file may have beyond 16 times the model's

Arrays = dict[str, np.ndarray]


class Unusable(Exception):
    """A checkpoint that does not verify; the message says why."""


class Checkpoint(NamedTuple):
    """A checkpoint that verified: state.json, and the arrays of the two files by name."""

    path: Path
    state: dict[str, Any]
    model: Arrays
    optimizer: Arrays


# ----- what is in one -----


def optimizer_arrays(optimizer: Any, layout: Layout, half: Half, index: int) -> Arrays:
    """The state arrays of parameter `index`, views into the half; none where it has not been stepped."""
    spec, offset = layout.parameters[index], layout.offsets[index]
    size = math.prod(spec.shape)
    if spec.group < 0 or not half.steps[index] or not size:
        return {}
    names = optimizer.state_names(optimizer.param_groups[spec.group])
    flats = [flat[offset : offset + size] for flat in half.states[spec.dtype]]
    arrays = {name: of_shape(flat, optimizer.state_shape(name, spec.shape)) for name, flat in zip(names, flats)}
    return {name: array for name, array in arrays.items() if array is not None}


def contents(model: Module, optimizer: Any, layout: Layout, half: Half) -> tuple[Arrays, Arrays]:
    """The arrays of model.safetensors and of optimizer.safetensors, views into the half."""
    persistent = Module.state_dict(model).keys()
    tensors = {spec.name: view for spec, view in zip(layout.parameters, half.parameter_views)}
    others: Arrays = {"steps": half.steps}
    for spec, view in zip(layout.buffers, half.buffer_views):
        if spec.name in persistent:
            tensors[spec.name] = view
        else:
            others[f"buffer/{spec.name}"] = view
    for i, spec in enumerate(layout.parameters):
        for name, array in optimizer_arrays(optimizer, layout, half, i).items():
            others[f"{name}/{spec.name}"] = array
    return tensors, others


def tied_names(model: Module) -> dict[str, str]:
    """Other names of tensors that are stored once: the metadata by which `pargrad.load` ties them again."""
    first: dict[int, str] = {}
    named = (
        *Module.named_parameters(model, remove_duplicate=False),
        *Module.named_buffers(model, remove_duplicate=False),
    )
    return {name: first[id(t)] for name, t in named if first.setdefault(id(t), name) != name}


def fingerprint(data: Data) -> dict[str, Any]:
    """By what a data set is known: length, shapes, dtypes, and the sha256 of 64 rows at fixed places."""
    places = np.linspace(0, len(data) - 1, min(FINGERPRINT_ROWS, len(data))).astype(np.int64)
    arrays = [np.asarray(array) for array in data.batch(places, ShardGenerator(0, 0, 0))]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return {
        "length": len(data),
        "shapes": [list(array.shape[1:]) for array in arrays],
        "dtypes": [array.dtype.name for array in arrays],
        "sha256_of_64_rows": digest.hexdigest(),
    }


def spare_half(layout: Layout) -> Half:
    """Memory of this process in which a half can be kept while the run goes on."""
    count = Cutter()
    Half(count, layout)
    return Half(Cutter(private_memory(max(count.used, 1))), layout)


def copy_half(half: Half, into: Half) -> None:
    for dtype, flat in half.parameters.items():
        np.copyto(into.parameters[dtype], flat)
        for state, other in zip(half.states[dtype], into.states[dtype]):
            np.copyto(other, state)
    for buffer, other in zip(half.buffers, into.buffers):
        np.copyto(other, buffer)
    np.copyto(into.steps, half.steps)


# ----- writing -----


def step_name(step: int) -> str:
    return f"step-{step:08}"


def write_checkpoint(folder: Path, step: int, model: Arrays, optimizer: Arrays, tied: Any, state: dict) -> None:
    """Writes `step-N` under the folder, and LATEST; what was there stays until then."""
    name = step_name(step)
    aside = folder / f"{ASIDE}{name}-{secrets.token_hex(4)}"
    try:
        aside.mkdir()
        files = {
            MODEL: write_tensors(aside / MODEL, model, tied),
            OPTIMIZER: write_tensors(aside / OPTIMIZER, optimizer, {}),
        }
        state = {"format": FORMAT, "version": VERSION, **state, "files": files}
        described = {**state, "sha256": digest_of(state)}
        lines = [f"{json.dumps(key)}: {as_json(value, json.dumps, ', ')}" for key, value in described.items()]
        write_synced(aside / STATE, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        sync_folder(aside)
        if (folder / name).exists():  # of a way that was left, by a resume from an earlier one
            os.rename(folder / name, folder / f"{ASIDE}old-{secrets.token_hex(4)}")
        os.rename(aside, folder / name)
        sync_folder(folder)
        write_whole(folder / LATEST, f"{name}\n".encode())
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_tensors(path: Path, arrays: Arrays, metadata: dict[str, str]) -> dict[str, Any]:
    """A safetensors file, without a copy of what it holds; gives its size and sha256."""
    names = {np.dtype(code): name for name, code in DTYPES.items() if name != "BF16"}
    stored = {name: pairs_of(array) for name, array in arrays.items()}
    # Larger elements first, so that each array lies at a multiple of its own.
    stored = dict(sorted(stored.items(), key=lambda item: -item[1].itemsize))
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for name, array in stored.items():
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest, size = hashlib.sha256(), 0
    with open(path, "xb") as file:
        beginning = np.frombuffer(len(text).to_bytes(8, "little") + text, np.uint8)
        for part in (beginning, *(array.reshape(-1).view(np.uint8) for array in stored.values())):
            for start in range(0, len(part), CHUNK):
                piece = part[start : start + CHUNK].data
                digest.update(piece)
                file.write(piece)
                size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": size, "sha256": digest.hexdigest()}


def pairs_of(array: np.ndarray) -> np.ndarray:
    """The array as safetensors takes it: little-endian and contiguous; complex128, which it lacks, as pairs."""
    if array.dtype == np.complex128:
        array = np.stack([array.real, array.imag], -1)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def digest_of(state: dict[str, Any]) -> str:
    """The sha256 of state.json's contents, however they are laid out."""
    compact = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    parts = [f"{compact(key)}:{as_json(state[key], compact, ',')}" for key in sorted(state)]
    return hashlib.sha256(f"{{{','.join(parts)}}}".encode()).hexdigest()


def as_json(value: Any, encode: Callable[[Any], str], comma: str) -> str:
    """As `encode` has it; a list one by one, since a long history would take a multiple of its memory at once."""
    return f"[{comma.join(map(encode, value))}]" if isinstance(value, list) else encode(value)


def write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Replaces a file by one that is on the disk: whoever reads sees the old one or the new one."""
    aside = path.with_name(f"{ASIDE}{path.name}-{secrets.token_hex(4)}")
    try:
        write_synced(aside, data)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_others(folder: Path, kept: set[int | None]) -> None:
    """Leaves the checkpoints of these steps, and nothing of what runs that were killed had not finished."""
    for step, path in checkpoints_in(folder):
        if step not in kept:
            gone = folder / f"{ASIDE}old-{secrets.token_hex(4)}"
            os.rename(path, gone)  # at once: a half-removed one would look like a damaged one
            shutil.rmtree(gone, ignore_errors=True)
    remove_aside(folder)


def remove_aside(folder: Path) -> None:
    """Removes what a run that was killed had not finished."""
    for path in folder.glob(f"{ASIDE}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class Writer:
    """Runs one thing at a time beside the run; what went wrong is kept until it is asked for.

    All in one thread: malloc gives each new one memory of another arena, and keeps what it took there.
    """

    def __init__(self) -> None:
        self.busy = False
        self.error: Exception | None = None
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.thread = threading.Thread(target=run_all, args=(self.jobs,), name="pargrad-checkpoint", daemon=True)
        self.thread.start()

    def start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.error = error
            finally:
                self.busy = False

        assert not self.busy
        self.busy = True
        self.jobs.put(run)

    def wait(self) -> None:
        if self.thread.is_alive():  # in a forked process it is not there
            over = threading.Event()
            self.jobs.put(over.set)
            over.wait()
        self.busy = False  # also where Ctrl-C came before it was begun

    def take_error(self) -> Exception | None:
        error, self.error = self.error, None
        return error

    def close(self) -> None:
        """Ends the thread, after what it has to do. May be called again."""
        self.jobs.put(None)
        self.thread.join()


def run_all(jobs: SimpleQueue[Callable[[], None] | None]) -> None:
    """Runs one after the other, up to None; holds nothing of any when it is done."""
    while (job := jobs.get()) is not None:
        job()
        del job


# ----- reading -----


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints under a folder as (step, path), the newest first, whether they verify or not."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = [(NAME.fullmatch(entry.name), entry) for entry in folder.iterdir()]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)
    return []


def newest(folder: Path, largest: int, passed_over: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that verifies; each that does not is passed over in one line."""
    found = checkpoints_in(folder)
    for _, path in found:
        try:
            return read_checkpoint(path, largest)
        except Unusable as error:
            passed_over(f"{path}: passed over: {error}")
    raise CheckpointError(
        f"none of the {len(found)} checkpoints in {folder} can be used, see above: bring one back from a copy, or "
        "begin again in another directory"
    )


def read_checkpoint(path: Path, largest: int) -> Checkpoint:
    """Reads and verifies a checkpoint; `largest` bytes are what the model's own arrays would take.

    Raises Unusable where anything is not as it was written. Nothing that a file claims is believed before its
    digest is right, and no file is read that is much larger than the model.
    """
    try:
        state = read_state(path / STATE)
        tensors = {name: read_tensors(path / name, state["files"][name], 16 * largest + ROOM) for name in FILES}
        steps = state["step"], state["epoch"], state["batches"], state["metrics_bytes"]
        if not all(type(value) is int and value >= 0 for value in steps):
            raise Unusable(f"{STATE} gives {steps} as step, epoch, batches and bytes of metrics")
        return Checkpoint(path, state, tensors[MODEL], tensors[OPTIMIZER])
    except Unusable:
        raise
    except FileNotFoundError as error:
        raise Unusable(f"{Path(error.filename or '').name} is missing") from error
    except Exception as error:  # whatever a damaged file brings about, down to recursion and memory
        raise Unusable(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


FILES = (MODEL, OPTIMIZER)


def read_state(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > LARGEST_STATE:
        raise Unusable(f"{STATE} has {size:,} bytes, more than any")
    try:
        state = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{STATE} is damaged: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Unusable(f"{STATE} is not of a {FORMAT}")
    if state.get("version") != VERSION:
        raise Unusable(f"it has format version {state.get('version')!r}, and this pargrad reads version {VERSION}")
    if state.pop("sha256", None) != digest_of(state):
        raise Unusable(f"{STATE} is damaged: its sha256 is another one")
    return state


def read_tensors(path: Path, written: dict[str, Any], limit: int) -> Arrays:
    """The arrays of a safetensors file whose size and sha256 are those that were written."""
    import safetensors.numpy

    size = path.stat().st_size
    if size != written["bytes"]:
        raise Unusable(f"{path.name} has {size:,} bytes, expected {written['bytes']:,}")
    if size > limit:
        raise Unusable(f"{path.name} has {size:,} bytes, far more than the model")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != written["sha256"]:
        raise Unusable(f"{path.name} is damaged: its sha256 is another one")
    try:
        return safetensors.numpy.load(data)
    except Exception as error:
        raise Unusable(f"{path.name} is no safetensors file: {error}") from error


# ----- comparing -----


def differences(saved: Any, given: Any, name: str = "") -> Iterator[str]:
    """In words, where two structures of plain values differ."""
    if isinstance(saved, dict) and isinstance(given, dict):
        for key in {**saved, **given}:
            where = f"{name}.{key}" if name and key else name or str(key)
            if key not in saved or key not in given:
                yield f"{where} was {saved.get(key, 'not there')!r}, is {given.get(key, 'not there')!r}"
            else:
                yield from differences(saved[key], given[key], where)
    elif isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given):
        for i, (one, other) in enumerate(zip(saved, given)):
            yield from differences(one, other, f"{name}[{i}]")
    elif saved != given and not (saved != saved and given != given):  # nan is like nan
        yield f"{name} was {saved!r}, is {given!r}"


def layout_of(layout: Layout) -> dict[str, Any]:
    """The model as it is compared: shape and dtype of each parameter and buffer."""
    return {spec.name: f"{spec.shape} {spec.dtype}" for spec in (*layout.parameters, *layout.buffers)}


def model_of(checkpoint: Checkpoint, layout: Layout) -> dict[str, np.ndarray]:
    """Parameters and buffers of a checkpoint by name, complex128 put together again."""
    others = {
        name.removeprefix("buffer/"): array
        for name, array in checkpoint.optimizer.items()
        if name.startswith("buffer/")
    }
    dtypes = {spec.name: spec.dtype for spec in (*layout.parameters, *layout.buffers)}
    arrays = {**checkpoint.model, **others}
    return {name: whole_of(array, dtypes.get(name, "")) for name, array in arrays.items()}


def whole_of(array: np.ndarray, dtype: str) -> np.ndarray:
    """What `pairs_of` was given."""
    pairs = dtype == "complex128" and array.dtype == np.float64 and array.shape[-1:] == (2,)
    return np.ascontiguousarray(array).view(np.complex128)[..., 0] if pairs else array
