"""Data sets: arrays, mapped files, objects that follow the protocol, and the order of an epoch."""

from collections import UserList

import numpy as np
import pytest

import pargrad as pg
import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.data import ArrayData, Data, as_data, epoch_order
from pargrad.parallel import Trainer
from pargrad.random import ShardGenerator

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])


def rows(data, *indices):
    return data.batch(np.array(indices, np.int64), ShardGenerator(0, 0, 0))


@pytest.mark.parametrize(
    "given",
    [(X, Y), [X, Y], (X.tolist(), Y.tolist()), (pg.tensor(X), pg.tensor(Y)), ArrayData(X, Y)],
    ids=lambda x: str(type(x)),
)
def test_arrays_are_a_data_set(given):
    data = as_data(given)
    assert isinstance(data, Data)
    assert len(data) == 6
    x, y = rows(data, 4, 0, 4)
    assert x.tolist() == [[8, 9], [0, 1], [8, 9]]
    assert y.tolist() == [1, 0, 1]
    assert [part.shape for part in rows(data)] == [(0, 2), (0,)]


def test_several_inputs_then_the_target():
    first, second, target = rows(as_data((X, X * 2, Y)), 1)
    assert (first * 2 == second).all()
    assert target.tolist() == [1]


def test_batches_are_copies_in_the_arrays_own_dtype():
    x = np.arange(6, dtype=np.uint8)
    data = ArrayData(x, Y)
    batch = rows(data, 2, 3)
    assert [part.dtype for part in batch] == [np.uint8, np.int64]
    batch[0][:] = 99
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.arrays[0] is x  # not copied before it is used


@pytest.mark.parametrize("x", [X, np.asfortranarray(X), X[::2].repeat(2, axis=0)[::-1], X[:, 0].astype(np.uint8)])
def test_rows_beside_each_other_are_a_batch(x):
    data = ArrayData(x, Y)
    for got, expected in zip(data.rows(2, 5), rows(data, 2, 3, 4), strict=True):
        assert got.tobytes() == expected.tobytes()
        assert (got.dtype, got.strides, got.base) == (expected.dtype, expected.strides, None)


def test_an_index_out_of_range_is_no_example():
    with pytest.raises(IndexError, match="6"):
        rows(as_data((X, Y)), 6)


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_files_are_mapped_and_their_rows_plain_arrays(files, kind):
    data = as_data((kind(files / "x.npy"), kind(files / "y.npy")))
    assert all(isinstance(array, np.memmap) and not array.flags.writeable for array in data.arrays)
    x, y = rows(data, 5, 1)
    assert type(x) is type(y) is np.ndarray
    np.testing.assert_array_equal(x, X[[5, 1]])
    assert y.tolist() == [2, 1]


def test_nothing_is_unpickled_from_a_file(files):
    np.save(files / "x.npy", np.array([{"a": 1}] * 6), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        as_data((files / "x.npy", files / "y.npy"))


REFUSED = {
    "one array": (X, TypeError, r"arrays \(x, y\) or an object .* got ndarray"),
    "inputs alone": ((X,), ValueError, r"got 1: write \(x, y\)"),
    "nothing": ((), ValueError, "got 0"),
    "different lengths": ((X, Y[:5]), ValueError, "got 6 and 5 examples"),
    "different lengths among three": ((X, X, Y[:5]), ValueError, "got 6 and 6 and 5 examples"),
    "numbers": ((1, 2), ValueError, "a single number"),
    "words": ((np.array(["a"] * 6), Y), TypeError, r"got <U1: write x\.astype"),
    "objects": ((np.array([None] * 6), Y), TypeError, "got object"),
    "complex numbers": ((X * 1j, Y), TypeError, "got complex128"),
    "a path of another kind": (("x.csv", "y.csv"), ValueError, r"\.npy file, got 'x\.csv'"),
    "a path that is not there": (("nowhere/x.npy", "y.npy"), FileNotFoundError, "nowhere/x.npy"),
    "a string": ("x.npy", TypeError, "got str"),
    "a dict": ({"x": X, "y": Y}, TypeError, "got dict"),
    "a class": (ArrayData, TypeError, "got type"),
    "None": (None, TypeError, "got NoneType"),
    "an object without batch": (UserList, TypeError, "got"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_is_no_data_set_is_refused(wrong):
    given, error, told = REFUSED[wrong]
    with pytest.raises(error, match=told):
        as_data(given)


# ----- objects of one's own -----


class Squares:
    """The numbers from 0 and their squares, made when they are asked for, with noise from the generator."""

    def __init__(self, count, noise=0.0):
        self.count, self.noise = count, noise

    def __len__(self):
        return self.count

    def batch(self, indices, generator):
        x = indices.astype(np.float32)[:, None] / self.count
        noise = pg.rand(len(indices), 1, generator=generator).numpy() * self.noise
        return x + noise, x * x


class SequenceOfBatches(UserList):
    """A list that is a data set too: what it says of itself counts, not that it could be unpacked."""

    def batch(self, indices, generator):
        rows = np.array([self.data[i] for i in indices])
        return rows, rows


def test_objects_are_taken_as_they_are():
    for data in (Squares(5), SequenceOfBatches([1.0, 2.0, 3.0])):
        assert as_data(data) is data
    assert rows(SequenceOfBatches([1.0, 2.0, 3.0]), 2, 0)[0].tolist() == [3.0, 1.0]


def trained(data, **options):
    pg.manual_seed(0)
    model = nn.Linear(1, 1)
    with Trainer(
        model, F.mse_loss, optim.SGD(model.parameters(), lr=0.1), num_workers=0, progress="off", **options
    ) as trainer:
        trainer.fit(data, epochs=2)
    return [p.tolist() for p in model.parameters()]


def test_the_trainer_takes_them_and_hands_each_shard_its_own_generator():
    plain = rows(Squares(10), *range(10))
    assert trained(Squares(10), batch_size=4) == trained(plain, batch_size=4)
    noisy = trained(Squares(10, noise=0.5), batch_size=4, seed=1)
    assert noisy == trained(Squares(10, noise=0.5), batch_size=4, seed=1)
    assert noisy != trained(Squares(10), batch_size=4, seed=1)


# ----- the order of an epoch -----


def test_an_order_is_a_permutation_that_depends_on_seed_plus_epoch():
    orders = [epoch_order(20, seed, epoch) for seed, epoch in [(0, 0), (0, 1), (1, 0), (5, 3)]]
    assert all(order.dtype == np.int64 and sorted(order) == list(range(20)) for order in orders)
    assert orders[1].tolist() == orders[2].tolist() != orders[0].tolist() != orders[3].tolist()


def test_the_order_of_ten_examples_is_torchs():
    assert epoch_order(10, 0, 0).tolist() == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
    assert [epoch_order(n, 0, 0).tolist() for n in (0, 1)] == [[], [0]]


def test_the_order_draws_nothing_from_the_default_generator():
    pg.manual_seed(3)
    expected = pg.rand(3).tolist()
    pg.manual_seed(3)
    epoch_order(100, 0, 0)
    assert pg.rand(3).tolist() == expected
