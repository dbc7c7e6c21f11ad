"""pargrad.utils.data beside torch's: the same batches in the same order, and the same numbers drawn afterwards."""

import re
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.utils.data as theirs

import pargrad as pg
import pargrad.nn.functional as F
import pargrad.utils.data as ours
from pargrad import nn, optim
from pargrad.data import ArrayData, as_data
from pargrad.parallel import Trainer

X = np.arange(33, dtype=np.float32).reshape(11, 3)
Y = np.arange(11)
Point = namedtuple("Point", "x y")

# A script is written once, for `lib` (torch or pargrad) and `d` (its utils.data).
OURS, THEIRS = SimpleNamespace(lib=pg, d=ours), SimpleNamespace(lib=torch, d=theirs)


def plain(value):
    """Tensors as (dtype, lists), whosever they are; the rest as it is, with its type."""
    if isinstance(value, pg.Tensor | torch.Tensor):
        return str(value.dtype).removeprefix("torch."), value.tolist()
    if isinstance(value, dict):
        return type(value), {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value), [plain(each) for each in value]
    return value


def both(script, seed=3):
    """What the script gives in torch and here, which must be equal, with the number that is drawn after it."""
    told = []
    for side in (THEIRS, OURS):
        side.lib.manual_seed(seed)
        told.append((plain(script(side)), side.lib.randint(0, 10**6, (3,)).tolist()))
    assert told[0] == told[1]
    return told[1][0]


def rows(side):
    return side.d.TensorDataset(side.lib.tensor(X), side.lib.tensor(Y))


class Items:
    """Nested examples, which need the general way of collating, with noise drawn for each."""

    def __init__(self, side, noise=False):
        self.side, self.noise = side, noise

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        drawn = self.side.lib.rand(2) if self.noise else self.side.lib.zeros(2)
        return {"x": X[i], "pair": (i, float(i)), "word": str(i), "drawn": drawn}


def stream(side, count=10, parts=False):
    class Stream(side.d.IterableDataset):
        def __iter__(self):
            info = side.d.get_worker_info()
            step, start = (info.num_workers, info.id) if info and parts else (1, 0)
            return (side.lib.rand(1) + i for i in range(start, count, step))

        def __len__(self):
            return count

    return Stream()


def generator(side, seed=5):
    return side.lib.Generator().manual_seed(seed)


def join(batch):
    return len(batch), batch[0]


LOADERS = {
    "as they come": lambda s: s.d.DataLoader(rows(s), batch_size=4),
    "of one": lambda s: s.d.DataLoader(rows(s)),
    "shuffled": lambda s: s.d.DataLoader(rows(s), 4, True),
    "drop_last": lambda s: s.d.DataLoader(rows(s), batch_size=4, shuffle=True, drop_last=True),
    "a generator": lambda s: s.d.DataLoader(rows(s), batch_size=4, shuffle=True, generator=generator(s)),
    "items": lambda s: s.d.DataLoader(Items(s), batch_size=4, shuffle=True),
    "items that draw": lambda s: s.d.DataLoader(Items(s, True), batch_size=4, shuffle=True),
    "a list": lambda s: s.d.DataLoader(list(range(7)), batch_size=3, shuffle=True),
    "a subset": lambda s: s.d.DataLoader(s.d.Subset(rows(s), [7, 3, 3, 0]), batch_size=3, shuffle=True),
    "a subset of a subset": lambda s: s.d.DataLoader(
        s.d.Subset(s.d.Subset(rows(s), range(3, 9)), s.lib.tensor([0, 5, 2])), batch_size=2
    ),
    "concatenated": lambda s: s.d.DataLoader(rows(s) + s.d.Subset(rows(s), [1, 2]), batch_size=5, shuffle=True),
    "stacked": lambda s: s.d.DataLoader(s.d.StackDataset(list(range(11)), rows(s)), batch_size=4),
    "stacked by name": lambda s: s.d.DataLoader(s.d.StackDataset(a=list(range(11)), b=rows(s)), batch_size=4),
    "a collate_fn": lambda s: s.d.DataLoader(rows(s), batch_size=4, collate_fn=join),
    "by themselves": lambda s: s.d.DataLoader(rows(s), batch_size=None, shuffle=True),
    "items by themselves": lambda s: s.d.DataLoader(Items(s), batch_size=None),
    "a sampler": lambda s: s.d.DataLoader(rows(s), batch_size=4, sampler=[3, 1, 2, -1, 3]),
    "a batch sampler": lambda s: s.d.DataLoader(rows(s), batch_sampler=[[3, 1], [2], [5, 6, 7]]),
    "BatchSampler": lambda s: s.d.DataLoader(
        rows(s), batch_sampler=s.d.BatchSampler(s.d.RandomSampler(rows(s)), 3, True)
    ),
    "batches as arrays": lambda s: s.d.DataLoader(rows(s), batch_sampler=[np.array([3, 1]), s.lib.tensor([2])]),
    "batches as tuples": lambda s: s.d.DataLoader(s.d.Subset(rows(s), Y[::-1]), batch_sampler=[(3, 1), (-1,)]),
    "batches as items": lambda s: s.d.DataLoader(
        rows(s), sampler=s.d.BatchSampler(s.d.SequentialSampler(Y), 3, False), batch_size=None
    ),
    "a stream": lambda s: s.d.DataLoader(stream(s), batch_size=4),
    "a stream's drop_last": lambda s: s.d.DataLoader(stream(s), batch_size=4, drop_last=True),
    "a stream by itself": lambda s: s.d.DataLoader(stream(s), batch_size=None),
    "a chain": lambda s: s.d.DataLoader(s.d.ChainDataset([stream(s, 3), stream(s, 2)]), batch_size=4),
    "the sum of streams": lambda s: s.d.DataLoader(stream(s, 3) + stream(s, 2), batch_size=4),
}
SAMPLERS = {
    "sequential": lambda s: s.d.SequentialSampler(Y),
    "random": lambda s: s.d.RandomSampler(Y),
    "more than there are": lambda s: s.d.RandomSampler(Y, num_samples=25),
    "fewer than there are": lambda s: s.d.RandomSampler(Y, num_samples=4, generator=generator(s)),
    "replacement": lambda s: s.d.RandomSampler(Y, replacement=True, num_samples=70),
    "replacement in blocks": lambda s: s.d.RandomSampler(Y, True, 64, generator(s)),
    "subset": lambda s: s.d.SubsetRandomSampler([5, 1, 8, 3]),
    "weighted": lambda s: s.d.WeightedRandomSampler([0.1, 0.9, 3, 0.2], 20),
    "weighted without": lambda s: s.d.WeightedRandomSampler([0.1, 0.9, 3, 0.2], 3, False, generator(s)),
    "batches": lambda s: s.d.BatchSampler(s.d.RandomSampler(Y), 4, False),
    "whole batches": lambda s: s.d.BatchSampler(s.d.RandomSampler(Y), 4, True),
}


@pytest.mark.parametrize("name", LOADERS)
def test_batches_are_torchs_in_every_epoch(name):
    def script(side):
        loader = LOADERS[name](side)
        return len(loader), [[*loader], side.lib.rand(1), [*loader]]

    both(script)


@pytest.mark.parametrize("name", SAMPLERS)
def test_orders_are_torchs(name):
    def script(side):
        sampler = SAMPLERS[name](side)
        return len(sampler), [[*sampler], [*sampler]]

    both(script)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("replicas", [1, 3, 4, 11, 30])
def test_the_distributed_sampler_is_torchs(replicas, shuffle, drop_last):
    def script(side):
        out = []
        for rank in range(replicas):
            sampler = side.d.DistributedSampler(Y, replicas, rank, shuffle, seed=7, drop_last=drop_last)
            sampler.set_epoch(2)
            out.append((len(sampler), list(sampler)))
        return out

    both(script)


@pytest.mark.parametrize("lengths", [[5, 6], [3, 0, 8], [0.5, 0.25, 0.25], [0.1] * 10, [1.0], [0.8, 0.2]])
def test_random_split_is_torchs(lengths):
    def script(side):
        parts = side.d.random_split(Y, lengths)
        again = side.d.random_split(rows(side), lengths, generator=generator(side))
        return [list(part.indices) for part in parts], [list(part) for part in again]

    both(script)


def test_random_split_tells_of_an_empty_part():
    with pytest.warns(UserWarning, match="part 1 of 2 examples is empty"):
        assert [len(part) for part in ours.random_split(range(2), [0.9, 0.1])] == [2, 0]
    with pytest.raises(ValueError, match="add up to 11, got \\[5, 5\\]"):
        ours.random_split(Y, [5, 5])


def test_a_loop_that_is_broken_off_has_drawn_what_torchs_has():
    def script(side):
        loader = side.d.DataLoader(rows(side), batch_size=4, shuffle=True)
        iterator = iter(loader)
        before = side.lib.rand(2)  # between the base seed and the order's
        return before, next(iterator), next(iter(loader))

    both(script)


# ----- workers -----


@pytest.mark.parametrize("options", [{}, {"persistent_workers": True}, {"generator": 5, "shuffle": True}])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_draw_what_torchs_processes_draw(workers, options):
    def script(side):
        named = {**options, "generator": generator(side)} if "generator" in options else options
        loader = side.d.DataLoader(Items(side, True), batch_size=2, num_workers=workers, **named)
        return [[*loader], [*loader]]

    both(script)


@pytest.mark.parametrize("count", [6, 7])
def test_workers_share_a_stream_as_torchs_do(count):
    both(lambda side: list(side.d.DataLoader(stream(side, count, parts=True), batch_size=2, num_workers=2)))


def test_workers_know_who_they_are():
    told = []

    class Asks(ours.Dataset):
        def __getitem__(self, i):
            return ours.get_worker_info().id

        def __len__(self):
            return 4

    loader = ours.DataLoader(Asks(), num_workers=2, worker_init_fn=lambda i: told.append((i, ours.get_worker_info())))
    assert [batch.item() for batch in loader] == [0, 1, 0, 1]
    assert [(i, info.id, info.num_workers, info.dataset is loader.dataset) for i, info in told] == [
        (0, 0, 2, True),
        (1, 1, 2, True),
    ]
    assert ours.get_worker_info() is None


def test_a_failure_in_a_worker_leaves_no_trace():
    class Fails(ours.Dataset):
        def __getitem__(self, i):
            raise KeyError("no such example")

        def __len__(self):
            return 4

    pg.manual_seed(0)
    with pytest.raises(KeyError, match="no such example"):
        next(iter(ours.DataLoader(Fails(), num_workers=2)))
    assert ours.get_worker_info() is None
    pg.manual_seed(0)
    expected = pg.rand(1)
    with pytest.raises(KeyError):
        next(iter(ours.DataLoader(Fails(), num_workers=2)))
    pg.manual_seed(0)
    assert pg.rand(1).item() == expected.item()


# ----- collating -----

STRUCTURES = {
    "floats": lambda lib: [1.5, 2.5],
    "integers": lambda lib: [1, 2],
    "booleans": lambda lib: [True, False],
    "numpy's numbers": lambda lib: [np.float32(1), np.float32(2)],
    "numpy's integers": lambda lib: [np.int32(1)],
    "numpy's doubles": lambda lib: [np.float64(1), np.float64(2)],
    "0-d arrays": lambda lib: [np.array(3.0, np.float32)],
    "arrays": lambda lib: [X[0], X[1]],
    "tensors": lambda lib: [lib.tensor(X[0]), lib.tensor(X[1])],
    "0-d tensors": lambda lib: [lib.tensor(1), lib.tensor(2)],
    "words": lambda lib: ["a", "b"],
    "bytes": lambda lib: [b"a", b"b"],
    "tuples": lambda lib: [(1, 2.0), (3, 4.0)],
    "lists": lambda lib: [[1, X[0]], [3, X[1]]],
    "dicts": lambda lib: [{"a": 1, "b": [X[0], "s"]}, {"a": 2, "b": [X[2], "t"]}],
    "ordered dicts": lambda lib: [OrderedDict(a=1, b=2)],
    "named tuples": lambda lib: [Point(1, X[0]), Point(3, X[1])],
    "mixed numbers": lambda lib: [1.0, 2],
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_collated_and_converted_as_by_torch(name):
    both(lambda side: side.d.default_collate(STRUCTURES[name](side.lib)))
    both(lambda side: side.d.default_convert(STRUCTURES[name](side.lib)))


WRONG_BATCHES = {
    "None": ([None], TypeError, "got NoneType: write a collate_fn"),
    "words in an array": ([np.array(["a"])], TypeError, "got <U1"),
    "shapes": ([X[0], X[0, :2]], RuntimeError, r"\(2,\) and \(3,\): pad"),
    "lengths": ([[1], [1, 2]], RuntimeError, "equally many parts"),
}


@pytest.mark.parametrize("name", WRONG_BATCHES)
def test_what_cannot_be_collated_is_refused_as_by_torch(name):
    given, error, told = WRONG_BATCHES[name]
    with pytest.raises(error, match=told):
        ours.default_collate(given)
    with pytest.raises(error):
        theirs.default_collate(given)


def test_a_batch_of_rows_is_a_copy_and_keeps_the_graph():
    x = pg.tensor(X.copy(), requires_grad=True)
    (batch,) = ours.DataLoader(ours.TensorDataset(x), batch_size=11)
    batch[0].sum().backward()
    assert x.grad.sum().item() == X.size
    dataset = ours.TensorDataset(pg.tensor(X.T).T)  # rows that are not contiguous
    (batch,) = next(iter(ours.DataLoader(dataset, batch_size=2)))
    assert batch.array.flags.c_contiguous and not np.may_share_memory(batch.array, dataset.tensors[0].array)


def test_a_subclass_that_changes_examples_is_heard():
    class Doubled(ours.TensorDataset):
        def __getitem__(self, i):
            return tuple(part * 2 for part in super().__getitem__(i))

    class AtOnce(ours.TensorDataset):
        def __getitems__(self, indices):
            return indices

    class Together(ours.Subset):
        def __getitems__(self, indices):
            return [(i,) for i in indices]

    doubled = Doubled(pg.tensor(Y))
    assert next(iter(ours.DataLoader(doubled, batch_size=3)))[0].tolist() == [0, 2, 4]
    assert next(iter(ours.DataLoader(ours.Subset(doubled, [3, 1]), batch_size=2)))[0].tolist() == [6, 2]
    assert next(iter(ours.DataLoader(AtOnce(doubled.tensors[0] + 1), batch_size=2))).tolist() == [0, 1]
    together = Together(ours.TensorDataset(pg.tensor(Y)), [5, 6])
    assert next(iter(ours.DataLoader(together, batch_size=2)))[0].tolist() == [0, 1]


# ----- wrong use -----

WRONG = {
    "lengths": lambda s: s.d.TensorDataset(s.lib.tensor(X), s.lib.tensor(Y[:5])),
    "no tensors": lambda s: len(s.d.TensorDataset()),
    "stacked lengths": lambda s: s.d.StackDataset([1, 2], [1]),
    "nothing stacked": lambda s: s.d.StackDataset(),
    "a stream in a row": lambda s: s.d.ConcatDataset([stream(s)]),
    "shuffle and sampler": lambda s: s.d.DataLoader(Y, shuffle=True, sampler=[1]),
    "batch_sampler and batch_size": lambda s: s.d.DataLoader(Y, batch_size=2, batch_sampler=[[1]]),
    "batch_size None and drop_last": lambda s: s.d.DataLoader(Y, batch_size=None, drop_last=True),
    "a shuffled stream": lambda s: s.d.DataLoader(stream(s), shuffle=True),
    "a stream's sampler": lambda s: s.d.DataLoader(stream(s), sampler=[1]),
    "workers": lambda s: s.d.DataLoader(Y, num_workers=-1),
    "batch size 0": lambda s: s.d.DataLoader(Y, batch_size=0),
    "batch size True": lambda s: s.d.DataLoader(Y, batch_size=True),
    "nothing to shuffle": lambda s: s.d.DataLoader([], shuffle=True),
    "no samples": lambda s: s.d.RandomSampler(Y, num_samples=0),
    "replacement=1": lambda s: s.d.RandomSampler(Y, replacement=1),
    "a table of weights": lambda s: s.d.WeightedRandomSampler([[1.0]], 1),
    "a rank too high": lambda s: s.d.DistributedSampler(Y, 2, 2),
    "no ranks": lambda s: s.d.DistributedSampler(Y),
    "past the end": lambda s: s.d.ConcatDataset([Y, Y])[22],
    "rows past the end": lambda s: next(iter(s.d.DataLoader(rows(s), sampler=[11]))),
    "a data set without examples": lambda s: s.d.Dataset()[0],
}
OTHER_ERRORS = {  # where torch's says less
    "stacked lengths": ValueError, "a stream in a row": (TypeError, AssertionError),
    "lengths": (ValueError, AssertionError), "past the end": (IndexError, ValueError),
    "no tensors": ValueError, "replacement=1": TypeError, "no ranks": (RuntimeError, ValueError),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_refused_where_torch_refuses_it(name):
    with pytest.raises((AssertionError, IndexError, RuntimeError, TypeError, ValueError)) as error:
        WRONG[name](THEIRS)
    with pytest.raises(OTHER_ERRORS.get(name, error.type)) as told:
        WRONG[name](OURS)
    assert re.search("expected|says|write|leave|there is no|outside|bounds|example", str(told.value)), told.value


def test_what_speaks_of_memory_and_processes_is_taken():
    loader = ours.DataLoader(
        rows(OURS), 4, pin_memory=True, timeout=3, multiprocessing_context="spawn", prefetch_factor=4, in_order=False
    )
    assert len(list(loader)) == 3


# ----- a whole script -----


def whole_script(lib, data, path, read, write):
    """Written for torch; `read` and `write` are what it saves with."""
    lib.manual_seed(7)
    lib.cuda.manual_seed_all(7)
    device = lib.device("cuda" if lib.cuda.is_available() else "cpu")
    generator = np.random.default_rng(0)
    x = lib.from_numpy(generator.normal(size=(90, 4)).astype(np.float32))
    y = (x.sum(1) > 0).long()
    train, test = data.random_split(data.TensorDataset(x, y), [0.8, 0.2])
    loader = data.DataLoader(train, batch_size=16, shuffle=True, pin_memory=device.type == "cuda")
    model = lib.nn.Sequential(lib.nn.Linear(4, 8), lib.nn.ReLU(), lib.nn.Linear(8, 2)).to(device)
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loss_of, losses = lib.nn.functional.cross_entropy, []
    for _ in range(3):
        model.train()
        for inputs, target in loader:
            inputs, target = inputs.to(device, non_blocking=True), target.to(device)
            optimizer.zero_grad()
            loss = loss_of(model(inputs), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        write(model.state_dict(), path)
    model.load_state_dict(read(path))
    model.eval()
    right = 0
    with lib.no_grad():
        for inputs, target in data.DataLoader(test, batch_size=7):
            right += (model(inputs).argmax(dim=1) == target).sum().item()
    return losses, right / len(test)


def test_a_script_ends_where_torchs_ends(tmp_path):
    expected, accuracy = whole_script(torch, theirs, tmp_path / "torch.pt", torch.load, torch.save)
    losses, ours_accuracy = whole_script(pg, ours, tmp_path / "ours.safetensors", pg.load, pg.save)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert ours_accuracy == accuracy


# ----- the trainer -----


def trained(data):
    pg.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    with Trainer(model, F.cross_entropy, optimizer, batch_size=4, num_workers=0, progress="off") as trainer:
        trainer.fit(data, epochs=2)
    return [p.tolist() for p in model.parameters()]


class Pairs(ours.Dataset):
    def __getitem__(self, i):
        return X[i], int(Y[i]) % 2

    def __len__(self):
        return len(X)


def test_the_trainer_takes_data_sets_of_torchs_kind():
    x, y = pg.tensor(X), pg.tensor(Y % 2)
    expected = trained((X, Y % 2))
    together = ours.TensorDataset(x, y)
    assert isinstance(as_data(together), ArrayData)
    for data in (together, Pairs(), ours.Subset(together, range(11)), ours.StackDataset(x, y)):
        assert trained(data) == expected


REFUSED = {
    "a loader": (ours.DataLoader(Pairs()), TypeError, r"got DataLoader: .*loader\.dataset"),
    "a stream": (stream(OURS), TypeError, "got Stream: .* __getitem__"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_trainer_refuses_what_has_no_numbers(name):
    given, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        as_data(given)


def test_the_trainer_says_what_an_example_must_be():
    with pytest.raises(TypeError, match="examples of Items to be tuples .* is a dict"):
        as_data(Items(OURS)).batch(np.arange(2), pg.Generator())
