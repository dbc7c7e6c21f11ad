"""pargrad.save and load: what torch and Hugging Face write is read, and the other way round; nothing is executed."""

import copy
import io
import json
import pickle
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

import pargrad as pg
from pargrad import nn, optim


def same(left, right):
    """Equal values, shapes, dtypes and types, at any depth."""
    if isinstance(left, pg.Tensor | np.ndarray):
        assert type(left) is type(right) and left.dtype == right.dtype and left.shape == right.shape
        np.testing.assert_array_equal(np.asarray(getattr(left, "array", left)), getattr(right, "array", right))
        assert getattr(left, "requires_grad", None) == getattr(right, "requires_grad", None)
        return
    assert type(left) is type(right), (left, right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for pair in zip(left, right):
            same(*pair)
    else:
        assert left == right or left != left  # nan


def through(value, **options):
    file = io.BytesIO()
    pg.save(value, file)
    file.seek(0)
    return pg.load(file, **options)


def tie(model, lib):
    """A language model's habit: the embedding is the last layer's weight, too."""
    model.embedding = lib.nn.Embedding(5, 3)
    model.norm = lib.nn.LayerNorm(3)
    model.head = lib.nn.Linear(3, 5, bias=False)
    model.head.weight = model.embedding.weight


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        tie(self, pg)


class TorchTied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        tie(self, torch)


# ----- there and back -----

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
KINDS = ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32"]
KINDS += ["float64", "complex64", "complex128"]
VALUES = {
    **{kind: pg.tensor(X).to(np.dtype(kind)) for kind in KINDS},
    "0-d": pg.tensor(2.5, dtype=pg.float64),
    "0-d and complex": pg.tensor(2.5 + 1j, dtype=pg.complex128),
    "empty": pg.zeros(0, 3),
    "transposed": pg.tensor(X).permute(2, 0, 1),
    "strided": pg.tensor(X)[:, ::2, 1:],
    "backwards": pg.Tensor(X[::-1]),
    "expanded": pg.tensor([1.0, 2.0]).expand(3, 2),
    "requires grad": pg.tensor(X, requires_grad=True),
    "plain": [None, True, 3, -2.5, "word\n\u00e9", 2**70, float("inf"), float("nan"), 1 + 2j, (), [], {}, (1, (2,))],
    "mappings": {0: "a", "b": {(1, 2): 3.0, None: 4, True: 5}, "c": OrderedDict(z=1, a=2), "d": Counter({8: 2})},
    "arrays": [X, X.T, np.zeros((), np.int8)],
    "about tensors": [pg.float16, pg.device("cpu"), pg.device("cuda:1")],
    "names that meet": {"a.b": pg.ones(1), "a": {"b": pg.zeros(1)}, "__metadata__": pg.ones(2), "": pg.ones(3)},
    "one tensor named as the format's own": {"format": pg.ones(1), "pargrad": pg.ones(2)},
}


@pytest.mark.parametrize("name", VALUES)
def test_what_is_saved_is_loaded(name):
    same(through({"it": VALUES[name]}), {"it": VALUES[name]})
    same(through(VALUES[name]), VALUES[name])


def test_numbers_of_numpys_come_back_as_pythons():
    assert repr(through([np.float32(0.1), np.int8(3), np.bool_(True)])) == repr([float(np.float32(0.1)), 3, True])


def test_what_is_loaded_is_memory_of_its_own():
    loaded = through({"x": pg.zeros(2, 3), "y": pg.ones(2)})
    loaded["x"] += 1
    assert loaded["x"].sum().item() == 6 and loaded["y"].array.flags.writeable


def test_a_computed_tensor_is_saved_as_a_leaf():
    x = pg.ones(2, requires_grad=True)
    assert through(x * 2).is_leaf and through(x * 2).tolist() == [2, 2]


# ----- with torch and Hugging Face -----


def model_of(lib):
    return lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.ReLU(), lib.nn.Linear(4, 2))


def test_torch_reads_a_state_dict_under_its_names(tmp_path):
    model, twin = model_of(pg), model_of(torch)
    pg.save(model.state_dict(), tmp_path / "model.safetensors")
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    twin.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    mine, theirs = model.eval()(pg.tensor(x)).tolist(), twin.eval()(torch.tensor(x)).tolist()
    np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_what_torch_writes_is_loaded_by_name(tmp_path, dtype):
    twin = model_of(torch).to(getattr(torch, dtype))
    safetensors.torch.save_file(twin.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    state, model = pg.load(tmp_path / "model.safetensors"), model_of(pg)
    assert state["0.weight"].dtype == (pg.float32 if dtype == "bfloat16" else getattr(pg, dtype))
    model.load_state_dict(state)
    for name, value in twin.state_dict().items():
        assert model.state_dict()[name].tolist() == value.float().tolist()


def test_every_dtype_of_torchs_is_read_or_refused():
    kinds = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32]
    kinds += [torch.float64, torch.bfloat16, torch.complex64, torch.uint16, torch.uint32, torch.uint64]
    state = {str(kind): torch.tensor([[0, 1, 3]]).to(kind) for kind in kinds}
    for name, tensor in pg.load(io.BytesIO(safetensors.torch.save(state))).items():
        wide = torch.complex128 if state[name].is_complex() else torch.float64
        assert tensor.tolist() == state[name].to(wide).tolist()
    eight = safetensors.torch.save({"w": torch.ones(2, dtype=torch.float8_e4m3fn)})
    with pytest.raises(RuntimeError, match="'w' is of F8_E4M3.* convert it to float32"):
        pg.load(io.BytesIO(eight))


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path):
    model = Tied()
    path = tmp_path / "tied.safetensors"
    pg.save({"model": model.state_dict()}, path)
    assert set(safetensors.torch.load_file(path)) == {"model.embedding.weight", "model.norm.weight", "model.norm.bias"}
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["model.head.weight"] == "model.embedding.weight"
    state = pg.load(path)["model"]
    assert list(state) == list(model.state_dict())
    state["head.weight"][0] = 7.0
    assert state["embedding.weight"][0].tolist() == [7.0] * 3
    assert state["embedding.weight"]._version == state["head.weight"]._version == 1
    model.load_state_dict(state)
    assert model.head.weight[0].tolist() == [7.0] * 3


def test_tied_models_cross_over_to_torch_and_back(tmp_path):
    model, twin = Tied(), TorchTied()
    pg.save(model.state_dict(), tmp_path / "ours")
    assert safetensors.torch.load_model(twin, tmp_path / "ours") == (set(), [])
    assert twin.head.weight.tolist() == model.embedding.weight.tolist()
    twin = TorchTied()
    safetensors.torch.save_model(twin, str(tmp_path / "theirs"))
    model.load_state_dict(pg.load(tmp_path / "theirs"))
    assert model.head.weight is model.embedding.weight
    assert model.head.weight.tolist() == twin.head.weight.tolist()


def test_tensors_that_overlap_in_part_are_each_stored():
    x = pg.arange(6.0)
    loaded = through({"x": x, "part": x[2:], "again": x[2:], "turned": x.reshape(2, 3).T})
    same(loaded, {"x": x, "part": x[2:], "again": x[2:], "turned": x.reshape(2, 3).T})
    loaded["part"][0] = -1.0
    assert loaded["again"][0].item() == -1 and loaded["x"][2].item() == 2


def test_training_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path):
    x = pg.tensor(X.reshape(8, 3) / 24)

    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            (model(x) ** 2).sum().backward()
            optimizer.step()

    def made():
        pg.manual_seed(0)
        model = model_of(pg)
        return model, optim.AdamW(model.parameters(), lr=0.1)

    model, optimizer = made()
    steps(model, optimizer, 3)
    pg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "checkpoint")
    steps(model, optimizer, 2)
    other, its = made()
    checkpoint = pg.load(tmp_path / "checkpoint", map_location="cpu", weights_only=False)
    other.load_state_dict(checkpoint["model"])
    its.load_state_dict(checkpoint["optimizer"])
    steps(other, its, 2)
    assert checkpoint["epoch"] == 3
    same(other.state_dict(), model.state_dict())


# ----- what is refused -----


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("harmful", [True, False])
def test_a_pickle_is_refused_with_the_way_out(tmp_path, monkeypatch, zipped, harmful):
    monkeypatch.chdir(tmp_path)
    state = {"w": Harmful()} if harmful else {"w": torch.ones(2)}
    torch.save(state, "model.pt", _use_new_zipfile_serialization=zipped)
    Path("plain.pkl").write_bytes(pickle.dumps(state))
    for path in ("model.pt", "plain.pkl"):
        with pytest.raises(RuntimeError, match=rf"{path} is a pickle.* torch\.load\('{path}'.*save_file"):
            pg.load(path)
    with pytest.raises(RuntimeError, match="the given file is a pickle"):
        pg.load(io.BytesIO(Path("model.pt").read_bytes()))
    assert not Path("harmed").exists()


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


WHOLE = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


def described(description):
    return file_of({**WHOLE, "__metadata__": {"pargrad": description}}, bytes(8))


DAMAGED = {
    "nothing": b"",
    "a few bytes": b"abc",
    "text": b"state = 3\n" * 10,
    "a header that claims all memory": (2**63 - 1).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (10**6).to_bytes(8, "little") + b"{}",
    "no header": file_of(b"{]"),
    "a header that is a list": file_of([1]),
    "a tensor that claims all memory": file_of({"w": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}),
    "sizes that overflow": file_of({"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 8]}}, bytes(8)),
    "a shape that is not so": file_of({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
    "offsets backwards": file_of({"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8)),
    "an unknown dtype": file_of({"w": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
    "too much data": file_of(WHOLE, bytes(12)),
    "metadata that is no text": file_of({**WHOLE, "__metadata__": {"pargrad": {"dict": []}}}, bytes(8)),
    "a description that is cut": described('{"dict": [["a",'),
    "an unknown kind": described('{"__import__": "os"}'),
    "two kinds": described('{"tuple": [], "dict": []}'),
    "a name that is not there": described('{"tensor": ["v", "float32"]}'),
    "a name that is none": described('{"tensor": [["w"], "float32"]}'),
    "keys that cannot be": described('{"dict": [[[1], 2]]}'),
    "entries that are none": described('{"dict": [1]}'),
    "another dtype": described('{"tensor": ["w", "complex128"]}'),
    "no device": described('{"device": "moon"}'),
    "too deep": described("[" * 100_000 + "]" * 100_000),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_clear_error(tmp_path, name):
    path = tmp_path / "model.safetensors"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(RuntimeError, match=r"load: .*model\.safetensors is damaged, or no safetensors file"):
        pg.load(path)


def test_a_file_cut_anywhere_is_damaged():
    file = io.BytesIO()
    pg.save({"model": model_of(pg).state_dict(), "epoch": 3}, file)
    whole = file.getvalue()
    assert pg.load(io.BytesIO(whole))["epoch"] == 3
    for stop in [*range(0, 64, 3), *range(64, len(whole) - 1, 97), len(whole) - 1]:
        with pytest.raises(RuntimeError, match="damaged"):
            pg.load(io.BytesIO(whole[:stop]))


UNSAVABLE = {
    "a module": ({"model": model_of(pg)}, r"'model' is a Sequential: give its \.state_dict\(\)"),
    "a module by itself": (model_of(pg), r"the object itself is a Sequential: give its \.state_dict\(\)"),
    "a function": ({"a": [1, {"b": print}]}, r"'a\.1\.b' is a builtin_function_or_method, which no file"),
    "a set": ({"a": {1, 2}}, "'a' is a set"),
    "words": ({"a": np.array(["a"])}, "'a' has the dtype <U1"),
    "a long double": ({"a": np.zeros(1, np.longdouble)}, "'a' has the dtype"),
}


@pytest.mark.parametrize("name", UNSAVABLE)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, name):
    value, told = UNSAVABLE[name]
    with pytest.raises(TypeError, match=told):
        pg.save(value, tmp_path / "file")
    assert not list(tmp_path.iterdir())


# ----- files -----


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "model"
    pg.save({"w": pg.ones(2)}, str(path))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        pg.save({"w": pg.zeros(2)}, path)
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    assert pg.load(path)["w"].tolist() == [1, 1]


def test_links_and_devices_stay_what_they_are(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    pg.save({"w": pg.ones(2)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and pg.load(tmp_path / "real")["w"].tolist() == [1, 1]
    pg.save({"w": pg.ones(2)}, "/dev/null")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(FileNotFoundError):
        pg.save({}, tmp_path / "nowhere" / "file")
    with pytest.raises(FileNotFoundError):
        pg.load(tmp_path / "nowhere")


def test_a_map_location_must_be_the_cpu():
    for location in (None, "cpu", pg.device("cpu"), {"cuda:0": "cpu"}, lambda storage, place: storage):
        same(through({"a": 1}, map_location=location), {"a": 1})
    with pytest.raises(RuntimeError, match="'cuda' was given, but tensors lie on the CPU"):
        through({}, map_location="cuda")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_npz_of_a_state_dict_is_loaded(tmp_path, write):
    model, other = model_of(pg), model_of(pg)
    state = {name: np.array(value.numpy(), order="F") for name, value in model.state_dict().items()}
    write(tmp_path / "model.npz", **state)
    other.load_state_dict(pg.load(tmp_path / "model.npz"))
    same(other.state_dict(), model.state_dict())
    whole = (tmp_path / "model.npz").read_bytes()
    for stop in range(40, len(whole), 211):
        with pytest.raises(RuntimeError, match="damaged"):
            pg.load(io.BytesIO(whole[:stop]))


def zipped(**members):
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return file.getvalue()


def npy(shape, dtype="<f4"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


DAMAGED_ZIPS = {
    "objects": (zipped(w_npy=npy((1,), "|O")), "of object, expected numbers"),
    "a size that is not so": (zipped(w_npy=npy((2**40,))), "claims shape .* holds 0 bytes"),
    "another file": (zipped(readme_txt=b"hello"), "holds 'readme.txt'"),
    "no array": (zipped(w_npy=b"hello world"), "magic"),
}


@pytest.mark.parametrize("name", DAMAGED_ZIPS)
def test_a_damaged_npz_is_one_clear_error(name):
    data, told = DAMAGED_ZIPS[name]
    with pytest.raises(RuntimeError, match=f"damaged, or no .npz of arrays: .*{told}"):
        pg.load(io.BytesIO(data))


# ----- copies -----


class Named(nn.Parameter):
    """A subclass of Parameter."""


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = Named(pg.arange(6.0).reshape(2, 3))
        self.tied = self.weight
        self.register_buffer("seen", pg.zeros(2))
        self.register_buffer("hidden", pg.ones(1), persistent=False)
        self.frozen = nn.Parameter(pg.ones(2), requires_grad=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    **{f"pickle {version}": lambda x, v=version: pickle.loads(pickle.dumps(x, v)) for version in (2, 4, 5)},
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_tensors_own_their_memory(name):
    whole = pg.arange(24.0).reshape(2, 3, 4)
    for x in (
        whole,
        whole[1, 1:],
        whole.permute(2, 0, 1),
        whole[:, ::2],
        pg.zeros(0, 2),
    ):
        out = COPIES[name](x)
        same(out, x)
        assert not np.may_share_memory(out.array, whole.array) and out._base is None
        out += 1
    assert whole.sum().item() == 276
    x = pg.ones(2, requires_grad=True)
    assert COPIES[name](x).requires_grad and COPIES[name]([x, x])[0] is not x
    pair = COPIES[name]([x, x])
    assert pair[0] is pair[1]
    with pytest.raises(RuntimeError, match=r"only a leaf can be .*: write x\.detach\(\)"):
        COPIES[name](x * 2)


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_modules_are_as_they_are(name):
    model = Holder()
    model.weight.sum().backward()
    other = COPIES[name](model)
    same(dict(other.state_dict()), dict(model.state_dict()))
    assert other.weight is other.tied and type(other.weight) is Named and other.weight is not model.weight
    assert [n for n, _ in other.named_parameters()] == ["weight", "frozen"]
    assert [n for n, _ in other.named_buffers()] == ["seen", "hidden"]
    assert "hidden" not in other.state_dict() and not other.frozen.requires_grad and other.weight.requires_grad
    with pg.no_grad():
        other.weight += 1
    assert model.weight.sum().item() == 15
