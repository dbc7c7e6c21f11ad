"""Data in the forms that people have it in: other libraries' arrays, mapped files, data sets; and what is refused."""

import numpy as np
import pytest
import torch
from torch.utils import data as torch_data

import pargrad as pg
from pargrad.data import as_data
from pargrad.parallel import NonFiniteError
from pargrad.utils import data as our_data
from tests.checks import check_explained
from tests.training import bits, examples, make_trainer

X, Y = examples(64)


class Foreign:
    """An array of a library that has DLPack alone."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class Table:
    """What a DataFrame is to us: columns by name, and `__array__`."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, column):
        return self.array[:, column]

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


class Examples:
    """A data set of torch's kind."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return torch.tensor(X[i]), int(Y[i])


def mapped(folder):
    np.save(folder / "x.npy", X)
    return np.load(folder / "x.npy", mmap_mode="r"), Y


def path(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return folder / "x.npy", str(folder / "y.npy")


FORMS = {
    "arrays": lambda folder: (X, Y),
    "list of arrays": lambda folder: [X, Y],
    "nested lists": lambda folder: (Table(X), Y.tolist()),
    "mapped": mapped,
    "path": path,
    "tensors": lambda folder: (pg.tensor(X), pg.tensor(Y)),
    "torch": lambda folder: (torch.tensor(X), torch.tensor(Y)),
    "dlpack": lambda folder: (Foreign(X), Foreign(Y)),
    "table": lambda folder: (Table(X), Table(Y)),
    "list of examples": lambda folder: list(zip(X, Y)),
    "TensorDataset": lambda folder: our_data.TensorDataset(pg.tensor(X), pg.tensor(Y)),
    "torch TensorDataset": lambda folder: torch_data.TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "torch Subset": lambda folder: torch_data.Subset(Examples(), range(len(X))),
    "data set": lambda folder: Examples(),
}


@pytest.fixture(scope="module")
def expected():
    with make_trainer("even-shards", 0, batch_size=16) as trainer:
        trainer.fit((X, Y), epochs=1)
    return bits(trainer)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_to_the_same_bits(form, tmp_path, expected):
    with make_trainer("even-shards", 0, batch_size=16) as trainer:
        trainer.fit(FORMS[form](tmp_path), epochs=1)
    assert bits(trainer) == expected


LOADER = torch_data.DataLoader(torch_data.TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=8)
REFUSED = {
    "a torch loader": (LOADER, ["DataLoader", "loader.dataset"]),
    "a loader": (our_data.DataLoader(our_data.TensorDataset(pg.tensor(X), pg.tensor(Y))), ["loader.dataset"]),
    "batches": (((X[i : i + 8], Y[i : i + 8]) for i in range(0, 64, 8)), ["generator", "(x, y) arrays", "shuffled"]),
    "a table alone": (Table(X), ["(x, y)", "Table"]),
    "an array alone": (X, ["(x, y)", "ndarray"]),
    "a dict": ({"x": X, "y": Y}, ["(x, y)", "dict"]),
    "text": ((X, np.array(["a"] * 64)), ["arrays of numbers", "<U1"]),
    "lengths": ((X, Y[:5]), ["64 and 5 examples"]),
    "other file": (("x.csv", Y), ["'x.csv'", ".npy"]),
}


@pytest.mark.parametrize(("data", "pieces"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_told_what_to_give(data, pieces):
    check_explained(lambda: as_data(data), pieces)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_nan_in_the_data_is_found(cluster, num_workers):
    x = X.copy()
    x[37, 5] = np.nan
    with make_trainer("even-shards", num_workers, batch_size=16) as trainer:
        with pytest.raises(NonFiniteError) as error:
            trainer.fit((x, Y), epochs=1)
        told = "\n".join([str(error.value), *error.value.__notes__])
        assert "the input of example 37 of the data is nan at [5]" in told
        trainer.fit((X, Y), epochs=1)  # and it can go on


def test_a_label_out_of_range_is_found():
    y = Y.copy()
    y[37] = 9
    with make_trainer("even-shards", 0, batch_size=16) as trainer:
        with pytest.raises(IndexError) as error:
            trainer.fit((X, y), epochs=1)
        told = "\n".join([str(error.value), *error.value.__notes__])
    assert "class 9 is out of range" in told and "[37]" in told.replace(", ", "] [")


def test_an_infinite_target_is_found():
    from pargrad.data import first_not_finite

    target = np.zeros(8)
    target[3] = -np.inf
    data = as_data((np.zeros((8, 2)), target))
    assert first_not_finite(data, np.array([7, 3])) == "the target of example 3 of the data is -inf"
    assert first_not_finite(data, np.array([7, 2])) is None
    assert first_not_finite(as_data(Examples()), np.array([0])) is None
