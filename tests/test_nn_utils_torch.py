"""nn.utils against torch's: clipping, parameters as a vector, sequences padded and packed."""

import copy

import numpy as np
import pytest
import torch

import pargrad as pg
from tests.checks import array_of, assert_equal, run

LIBRARIES = (pg, torch)
ORDERS = [1, 2, 3.5, float("inf"), float("-inf"), 0]


def leaves(library, dtype="float64", sizes=((3, 4), (5,), (), (0, 2)), scale=1.0):
    """Parameters with gradients, and one without."""
    rng = np.random.default_rng(0)
    tensors = []
    for shape in sizes:
        tensors.append(library.tensor(np.asarray(rng.normal(size=shape)).astype(dtype), requires_grad=True))
        tensors[-1].grad = library.tensor(np.asarray(rng.normal(size=shape) * scale).astype(dtype))
    return [*tensors, library.ones(2, requires_grad=True)]


def gradients_of(tensors):
    return [None if t.grad is None else array_of(t.grad) for t in tensors]


# ----- clipping -----


@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("max_norm", [0.5, 1000.0, 0.0])
@pytest.mark.parametrize("order", ORDERS)
def test_clip_grad_norm(order, max_norm, dtype):
    sizes = ((3, 4), (5,), ())  # the least of nothing is an error in torch
    seen = []
    for library in LIBRARIES:
        tensors = leaves(library, dtype, sizes)
        norm = library.nn.utils.clip_grad_norm_(tensors, max_norm, order)
        again = library.nn.utils.get_total_norm([t.grad for t in tensors if t.grad is not None], order)
        seen.append([array_of(norm), array_of(again), *gradients_of(tensors)])
    assert_equal(*seen)
    assert isinstance(norm, torch.Tensor)


@pytest.mark.parametrize("kind", ["a tensor", "a generator", "all without a gradient", "none"])
def test_what_may_be_clipped(kind):
    seen = []
    for library in LIBRARIES:
        tensors = leaves(library)
        given = {
            "a tensor": tensors[0], "a generator": (t for t in tensors), "all without a gradient": tensors[-1:],
            "none": [],
        }[kind]  # fmt: skip
        norm = library.nn.utils.clip_grad_norm_(given, 0.1, foreach=False)
        seen.append([array_of(norm), *gradients_of(tensors)])
    assert_equal(*seen)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite(value):
    seen = []
    for library in LIBRARIES:
        tensors = leaves(library)
        tensors[1].grad[2] = value
        with pytest.raises(RuntimeError, match="error_if_nonfinite"):
            library.nn.utils.clip_grad_norm_(tensors, 1.0, error_if_nonfinite=True)
        norm = library.nn.utils.clip_grad_norm_(tensors, 1.0)
        seen.append([array_of(norm), *gradients_of(tensors)])
    for mine, reference in zip(*seen):
        np.testing.assert_array_equal(mine, reference)


def test_clip_grads_with_norm_and_clip_grad_value():
    seen = []
    for library in LIBRARIES:
        tensors = leaves(library)
        library.nn.utils.clip_grads_with_norm_(tensors, 1.5, library.tensor(4.0, dtype=library.float64))
        first = gradients_of(copy.deepcopy(tensors))
        library.nn.utils.clip_grad_value_(tensors, 0.2)
        library.nn.utils.clip_grad_value_(tensors[0], 0.1)
        seen.append([*first, *gradients_of(tensors)])
    assert_equal(*seen)
    assert max(np.abs(g).max() for g in seen[0][len(first) :] if g is not None and g.size) <= 0.2


def test_leaves_that_were_added_are_clipped_once_each():
    """Gradients of a sum are views of one array, until someone writes to them."""
    seen = []
    for library in LIBRARIES:
        x, y = (library.tensor(np.array([1.0, 2.0]) * n, requires_grad=True) for n in (1, 2))
        ((x + y) * library.tensor(np.array([3.0, 4.0]))).sum().backward()
        norm = library.nn.utils.clip_grad_norm_([x, y], 1.0)
        seen.append([array_of(norm), array_of(x.grad), array_of(y.grad)])
    assert_equal(*seen)
    z = pg.ones(3, requires_grad=True)
    z.sum().backward()  # one number, spread out
    pg.nn.utils.clip_grad_value_(z, 0.5)
    assert z.grad.tolist() == [0.5] * 3


def test_a_clipped_loop_follows_torchs():
    seen = []
    for library in LIBRARIES:
        library.manual_seed(0)
        model = library.nn.Sequential(library.nn.Linear(3, 5), library.nn.Tanh(), library.nn.Linear(5, 2)).double()
        adamw = library.optim.AdamW(model.parameters(), lr=0.1)
        x = library.tensor(np.random.default_rng(0).normal(size=(7, 3)))
        norms = []
        for _ in range(20):
            adamw.zero_grad()
            (model(x) ** 2).sum().backward()
            norms.append(array_of(library.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.3)))
            adamw.step()
        seen.append([np.array(norms), *(array_of(p.detach()) for p in model.parameters())])
    assert_equal(*seen, tolerance=1e-9)


# ----- parameters as a vector -----


def test_parameters_to_vector_and_back():
    seen = []
    for library in LIBRARIES:
        tensors = leaves(library, sizes=((3, 4), (5,), ()))[:-1]
        vector = library.nn.utils.parameters_to_vector(tensors)
        for t in tensors:
            t.grad = None
        (vector**3).sum().backward()
        seen.append([array_of(vector.detach()), *gradients_of(tensors)])
        new = library.arange(float(len(vector) + 2)).to(library.float64)  # 2 more than are needed
        library.nn.utils.vector_to_parameters(new, iter(tensors))
        seen[-1] += [array_of(t.detach()) for t in tensors]
        new[0] = 77.0  # whose memory they share
        seen[-1].append(array_of(tensors[0].detach()))
        assert all(t.requires_grad for t in tensors)
    assert_equal(*seen)


@pytest.mark.parametrize(
    ("vector", "error", "told"),
    [(pg.ones(3), RuntimeError, "of 4 elements, got shape"), (np.ones(4), TypeError, "got ndarray")],
    ids=["too short", "no tensor"],
)
def test_a_vector_that_does_not_fit(vector, error, told):
    p = pg.zeros(2, 2, requires_grad=True)
    with pytest.raises(error, match=told):
        pg.nn.utils.vector_to_parameters(vector, [p])
    assert p.tolist() == [[0, 0], [0, 0]]


# ----- sequences -----

LENGTHS = {"falling": [5, 3, 3, 1], "mixed": [2, 5, 1, 5], "one": [4], "equal": [3, 3]}


def sequences(lengths, trailing, dtype):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, *trailing)).astype(dtype) for length in lengths]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("trailing", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_sequences_are_padded_packed_and_back(lengths, batch_first, trailing, dtype):
    arrays = sequences(LENGTHS[lengths], trailing, dtype)
    sizes, ordered = LENGTHS[lengths], lengths != "mixed"

    def values(library):
        rnn = library.nn.utils.rnn

        def compute(*tensors):
            padded = rnn.pad_sequence(tensors, batch_first, padding_value=0.5)
            left = rnn.pad_sequence(tensors, batch_first, padding_side="left")
            packed = rnn.pack_padded_sequence(padded, sizes, batch_first, enforce_sorted=ordered)
            again, lengths = rnn.pad_packed_sequence(packed, batch_first, padding_value=-1.0)
            longer, _ = rnn.pad_packed_sequence(packed, batch_first, total_length=8)
            assert lengths.tolist() == sizes
            also = rnn.pack_sequence(tensors, enforce_sorted=ordered)
            return padded, left, packed.data, again, longer, also.data, *rnn.unpack_sequence(also)

        return compute

    ours, theirs = run(pg, values(pg), arrays), run(torch, values(torch), arrays)
    assert_equal(ours[0], theirs[0])
    assert_equal(ours[1], theirs[1])


@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_packed_sequence_has_torchs_fields(lengths):
    packed = [
        library.nn.utils.rnn.pack_sequence(
            [library.tensor(x) for x in sequences(LENGTHS[lengths], (2,), "float64")], enforce_sorted=False
        )
        for library in LIBRARIES
    ]
    ours, theirs = packed
    assert ours._fields == theirs._fields
    for mine, reference in zip(ours[1:], theirs[1:]):
        assert mine.tolist() == reference.tolist()
        assert mine.dtype == np.int64
    assert ours.to(pg.float32).data.dtype == ours.float().data.dtype == np.float32
    assert ours.float().double().data.dtype == np.float64
    assert ours.cpu() is ours
    inverse = pg.nn.utils.rnn.invert_permutation(ours.sorted_indices)
    assert inverse.tolist() == ours.unsorted_indices.tolist()
    assert pg.nn.utils.rnn.invert_permutation(None) is None
    assert pg.nn.utils.rnn.pack_sequence([pg.ones(3), pg.ones(2)]).sorted_indices is None


def test_unpad_sequence_leaves_what_it_is_given():
    arrays = sequences([3, 1], (2,), "float64")
    padded = pg.nn.utils.rnn.pad_sequence([pg.tensor(x) for x in arrays])
    parts = pg.nn.utils.rnn.unpad_sequence(padded, pg.tensor([3, 1]))
    assert_equal([part.numpy() for part in parts], arrays)
    assert padded.shape == (3, 2, 2)


def test_integers_are_padded_as_integers():
    seen = [
        array_of(library.nn.utils.rnn.pad_sequence([library.tensor([1, 2]), library.tensor([3])], padding_value=-1))
        for library in LIBRARIES
    ]
    assert_equal(seen[:1], seen[1:])


rnn = pg.nn.utils.rnn
REFUSED = {
    "no list": (lambda: rnn.pad_sequence(3), "expected a list of tensors, got int"),
    "nothing": (lambda: rnn.pad_sequence([]), "at least one sequence"),
    "widths": (lambda: rnn.pad_sequence([pg.ones(2, 1), pg.ones(2, 2)]), "differ in length alone"),
    "side": (lambda: rnn.pad_sequence([pg.ones(2)], padding_side="up"), "got 'up'"),
    "lengths": (lambda: rnn.pack_padded_sequence(pg.ones(4, 2), [1.5, 1]), "a list of integers"),
    "too few": (lambda: rnn.pack_padded_sequence(pg.ones(4, 2), [1]), "expected 2 lengths, one a sequence, got 1"),
    "too long": (lambda: rnn.pack_padded_sequence(pg.ones(4, 2), [5, 1]), "lengths from 1 to 4"),
    "empty": (lambda: rnn.pack_padded_sequence(pg.ones(4, 2), [3, 0]), "lengths from 1 to 4"),
    "order": (lambda: rnn.pack_padded_sequence(pg.ones(4, 2), [2, 3]), "write enforce_sorted=False"),
    "total": (
        lambda: rnn.pad_packed_sequence(rnn.pack_sequence([pg.ones(3)]), total_length=2), "of at least 3, the longest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_makes_no_sense_is_refused(wrong):
    make, told = REFUSED[wrong]
    with pytest.raises((RuntimeError, ValueError), match=told):
        make()


# ----- weights that are computed -----

COMPUTED = {
    "weight_norm": ("weight_norm", {}, "linear"),
    "weight_norm of all": ("weight_norm", {"dim": None}, "linear"),
    "weight_norm of columns": ("weight_norm", {"dim": 1}, "linear"),
    "weight_norm of a bias": ("weight_norm", {"name": "bias"}, "linear"),
    "weight_norm of a convolution": ("weight_norm", {}, "conv"),
    "spectral_norm": ("spectral_norm", {}, "linear"),
    "spectral_norm, three times": ("spectral_norm", {"n_power_iterations": 3, "dim": 1}, "linear"),
    "spectral_norm of a convolution": ("spectral_norm", {}, "conv"),
}


def layer_of(library, kind):
    library.manual_seed(0)
    return library.nn.Linear(4, 3) if kind == "linear" else library.nn.Conv2d(2, 3, 2)


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights(name):
    function, options, kind = COMPUTED[name]
    shape = (5, 4) if kind == "linear" else (2, 2, 3, 3)
    seen, keys = [], []
    for library in LIBRARIES:
        layer = getattr(library.nn.utils, function)(layer_of(library, kind), **options)
        keys.append([*layer.state_dict(), *(key for key, _ in layer.named_parameters())])
        sgd = library.optim.SGD(layer.parameters(), lr=0.1)
        outputs = []
        for step in range(4):
            x = library.tensor(np.random.default_rng(step).normal(size=shape).astype(np.float32))
            layer.train(step != 2)
            sgd.zero_grad()
            outputs.append(layer(x))
            (outputs[-1] ** 2).mean().backward()
            sgd.step()
        layer.eval()
        before = layer(x)
        state = [array_of(value) for value in layer.state_dict().values()]
        getattr(library.nn.utils, f"remove_{function}")(layer, options.get("name", "weight"))
        keys[-1] += sorted(layer.state_dict())
        np.testing.assert_allclose(array_of(layer(x).detach()), array_of(before.detach()), rtol=1e-5)
        seen.append([*(array_of(out.detach()) for out in outputs), *state])
        with pytest.raises(ValueError):  # noqa: PT011 each has its own words
            getattr(library.nn.utils, f"remove_{function}")(layer)
    assert keys[0] == keys[1]
    assert_equal(*seen, tolerance=1e-5)


def test_computed_weights_are_copied_and_refused():
    layer = pg.nn.utils.weight_norm(pg.nn.Linear(4, 3))
    again, x = copy.deepcopy(layer), pg.ones(2, 4)
    assert again(x).tolist() == layer(x).tolist()
    with pg.no_grad():
        again.weight_g.mul_(2.0)
    assert again(x).tolist() != layer(x).tolist()
    with pytest.raises(RuntimeError, match="already has one"):
        pg.nn.utils.weight_norm(layer)
    with pytest.raises(ValueError, match="expected 'wight' to be a parameter of Linear, got NoneType"):
        pg.nn.utils.weight_norm(pg.nn.Linear(1, 1), "wight")
    with pytest.raises(ValueError, match="n_power_iterations of at least 1, got 0"):
        pg.nn.utils.spectral_norm(pg.nn.Linear(1, 1), n_power_iterations=0)
