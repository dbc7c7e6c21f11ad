"""Layers against torch's, row by row: how they are made and told, how they begin, and what they compute."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import nn
from pargrad.parallel.objective import sum_and_divisor_of
from tests.checks import array_of
from tests.layers_torch import IN_PLACE, LOSSES, NORMALIZATIONS, ROWS, as_tensor

torch.set_num_threads(1)  # tiny arrays: threads that wait for each other take ten times as long


# torch's constants in Hardsigmoid are float32's; sums that cancel leave few digits to compare.
ROUGH = {("Hardsigmoid", "float64"): 1e-7, ("AdaptiveLogSoftmaxWithLoss", "float32"): 5e-3}


def flat(values):
    """The tensors among a module's outputs, in order."""
    if isinstance(values, tuple):
        return [tensor for value in values for tensor in flat(value)]
    return [values]


def same_state(row, dtype="float64"):
    """The layer in pargrad and torch, in one state."""
    ours, theirs = row.made(pg), row.made(torch)
    random = np.random.default_rng(0)
    state = {}
    for name, value in theirs.state_dict().items():
        drawn = random.normal(size=tuple(value.shape)) if value.dtype.is_floating_point else value.numpy()
        if "running_var" in name or "_random_samples" in name or (name == "weight" and "Loss" in row.name):
            drawn = random.uniform(0.1, 0.9, tuple(value.shape))
        state[name] = np.asarray(drawn)
    ours, theirs = (ours.double(), theirs.double()) if dtype == "float64" else (ours.float(), theirs.float())
    ours.load_state_dict(
        {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in state.items()}
    )
    theirs.load_state_dict({name: torch.tensor(ours.state_dict()[name].numpy()) for name in state})
    return ours, theirs


def computed(library, module, row, dtype):
    """Outputs, gradients of inputs and of parameters, and the state afterwards."""
    inputs = row.inputs(library, dtype)
    given = [inputs[0].log_softmax(-1), *inputs[1:]] if row.name == "CTCLoss" else inputs
    library.manual_seed(3)
    outputs = flat(module(*given))
    random = np.random.default_rng(1)
    roots = [output for output in outputs if output.requires_grad]
    for root in roots:
        seed = as_tensor(library, np.asarray(random.uniform(0.5, 1.5, tuple(root.shape)), dtype))
        root.backward(seed, retain_graph=True)
    leaves = [x for x in inputs if hasattr(x, "requires_grad") and x.requires_grad] + list(module.parameters())
    gradients = [np.zeros(0) if leaf.grad is None else array_of(leaf.grad) for leaf in leaves]
    return [array_of(x) for x in outputs], gradients, [array_of(x) for x in module.state_dict().values()]


def assert_near(got, expected, tolerance):
    """Lists of arrays agree in dtype and shape and, relative to the largest element of each, in value."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        scale = np.abs(other[np.isfinite(other)]).max(initial=1e-6)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


def test_the_comparison_sees_a_difference():
    reference = np.array([1.0, 1e-3])
    assert_near([reference], [reference.copy()], 1e-9)
    for wrong in (np.array([1.0, 1e-3 + 1e-8]), reference.astype(np.float32), reference[:1]):
        with pytest.raises(AssertionError):
            assert_near([wrong], [reference], 1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_layer_computes_and_differentiates_as_torchs(row, dtype):
    ours, theirs = same_state(row, dtype)
    tolerance = ROUGH.get((row.name, dtype), {"float64": 1e-9, "float32": 2e-5}[dtype])
    for mine, reference in zip(computed(pg, ours, row, dtype), computed(torch, theirs, row, dtype)):
        assert_near(mine, reference, tolerance)


# ----- how a layer is made -----

ATTRIBUTES_NOT_THERE = {"process_group", "transposed", "name"}


def told(module):
    return repr(module).replace("torch.", "")


@pytest.mark.parametrize("row", [*ROWS, *IN_PLACE], ids=str)
def test_a_layer_has_torchs_names_and_says_what_torchs_says(row):
    ours, theirs = row.made(pg), row.made(torch)
    assert told(ours) == told(theirs)
    mine, reference = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(reference)
    assert [(v.shape, str(v.dtype)) for v in mine.values()] == [
        (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for v in reference.values()
    ]
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for name, value in vars(theirs).items():
        if not name.startswith("_") and name not in ATTRIBUTES_NOT_THERE:
            mine = getattr(ours, name)
            assert mine == value or callable(mine), (name, mine, value)


@pytest.mark.parametrize("row", [row for row in ROWS if list(row.made(torch).parameters())], ids=str)
def test_a_layer_begins_as_torchs_for_the_same_seed(row):
    states = []
    for library in (pg, torch):
        library.manual_seed(11)
        states.append([array_of(value) for value in row.made(library).state_dict().values()])
    for mine, reference in zip(*states, strict=True):
        if row.name in ("Embedding", "EmbeddingBag"):  # normal numbers, which differ in the last bits
            np.testing.assert_allclose(mine, reference, rtol=2e-6, atol=1e-7)
        else:
            assert mine.tobytes() == reference.tobytes()


LAYERS = sorted({row.name for row in ROWS})
LAZY = [name for name in dir(torch.nn) if name.startswith("Lazy")]


@pytest.mark.parametrize("name", [*LAYERS, *LAZY])
def test_a_layer_takes_torchs_arguments(name):
    def parameters(library):
        given = inspect.signature(getattr(library.nn, name)).parameters.values()
        return [(each.name, each.kind, "" if callable(each.default) else each.default) for each in given]

    assert parameters(pg) == parameters(torch)


ELSEWHERE = {
    "Parameter", "ParameterDict", "ParameterList", "Module", "ModuleDict", "ModuleList", "Sequential", "Buffer",
}  # fmt: skip
OTHER_FILES = {"GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase", "MultiheadAttention"}
NOT_HERE = {
    "Container", "DataParallel", "CrossMapLRN2d", "NLLLoss2d", "LinearCrossEntropyOptions",
    "UninitializedBuffer", "UninitializedParameter",
}  # fmt: skip


def test_every_layer_of_torch_has_a_row_or_is_named():
    names = {name for name in dir(torch.nn) if name[0].isupper()}
    others = {name for name in names if name.startswith("Transformer")} | {*OTHER_FILES, *ELSEWHERE, *NOT_HERE, *LAZY}
    assert names - others == set(LAYERS)
    assert others - NOT_HERE <= set(nn.__all__)


WRONG = {
    "groups and channels in": lambda lib: lib.nn.Conv2d(3, 4, 3, groups=2),
    "groups and channels out": lambda lib: lib.nn.ConvTranspose1d(4, 3, 3, groups=2),
    "no groups": lambda lib: lib.nn.Conv1d(4, 4, 3, groups=0),
    "a padding's name": lambda lib: lib.nn.Conv1d(4, 4, 3, padding="full"),
    "same padding with a stride": lambda lib: lib.nn.Conv1d(4, 4, 3, 2, padding="same"),
    "a padding mode": lambda lib: lib.nn.Conv1d(4, 4, 3, padding_mode="mirror"),
    "a padding mode of a transposed one": lambda lib: lib.nn.ConvTranspose1d(4, 4, 3, padding_mode="circular"),
    "an output size": lambda lib: lib.nn.ConvTranspose1d(1, 1, 3, 2)(lib.ones(1, 1, 4), output_size=[12]),
    "channels": lambda lib: lib.nn.Conv1d(4, 4, 3)(lib.ones(1, 3, 8)),
    "groups of channels": lambda lib: lib.nn.GroupNorm(3, 4),
    "no dropout": lambda lib: lib.nn.Dropout(1.5),
    "dropout of integers": lambda lib: lib.nn.Dropout(0.5)(lib.tensor([1, 2])),
    "dropout for selu of integers": lambda lib: lib.nn.AlphaDropout(0.5)(lib.tensor([1, 2])),
    "dropout of booleans": lambda lib: lib.nn.Dropout2d(0.5)(lib.ones(1, 2, 2, 2) > 0),
    "dimensions of a batch": lambda lib: lib.nn.BatchNorm2d(3)(lib.ones(2, 3)),
    "channels of a batch": lambda lib: lib.nn.BatchNorm1d(3)(lib.ones(4, 5)),
    "channels in evaluation": lambda lib: lib.nn.BatchNorm2d(3).eval()(lib.ones(4, 5, 2, 2)),
    "a state of no row": lambda lib: lib.nn.GRUCell(3, 4)(lib.ones(())),
    "an input of a cell": lambda lib: lib.nn.GRUCell(3, 4)(lib.ones(2, 5)),
    "integers of a cell": lambda lib: lib.nn.GRUCell(3, 4)(lib.tensor([[1, 2, 3]])),
    "integers of a sequence": lambda lib: lib.nn.GRU(3, 4)(lib.tensor([[1, 2, 3]])),
    "an input of a sequence": lambda lib: lib.nn.GRU(3, 4)(lib.ones(2, 5)),
    "dimensions of a sequence": lambda lib: lib.nn.GRU(3, 4)(lib.ones(2, 2, 2, 3)),
    "one value a channel": lambda lib: lib.nn.BatchNorm1d(3)(lib.ones(1, 3)),
    "dimensions of an instance": lambda lib: lib.nn.InstanceNorm1d(3)(lib.ones(2, 3, 4, 5)),
    "channels of an instance": lambda lib: lib.nn.InstanceNorm1d(4, affine=True)(lib.ones(2, 3, 4)),
    "a normalized shape": lambda lib: lib.nn.LayerNorm(4)(lib.ones(2, 3)),
    "a table's size": lambda lib: lib.nn.Embedding(3, 2)(lib.tensor([3])),
    "neither size nor ratio": lambda lib: lib.nn.FractionalMaxPool2d(2),
    "both size and ratio": lambda lib: lib.nn.FractionalMaxPool2d(2, 3, 0.5),
    "a ratio above 1": lambda lib: lib.nn.FractionalMaxPool2d(2, output_ratio=1.5),
    "cutoffs": lambda lib: lib.nn.AdaptiveLogSoftmaxWithLoss(4, 6, [3, 2]),
    "no cutoffs": lambda lib: lib.nn.AdaptiveLogSoftmaxWithLoss(4, 6, []),
    "targets": lambda lib: lib.nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2])(lib.ones(2, 4), lib.tensor([0, 6])),
    "shapes of targets": lambda lib: lib.nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2])(lib.ones(2, 4), lib.tensor(0)),
    "class weights": lambda lib: lib.nn.LinearCrossEntropyLoss(2, 3, weight=lib.ones(2)),
    "a bilinear form of nothing": lambda lib: lib.nn.Bilinear(0, 1, 1),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_mistakes_are_refused_with_torchs_kind_of_error(mistake):
    with pytest.raises(Exception) as theirs:  # noqa: PT011
        WRONG[mistake](torch)
    with pytest.raises(theirs.type):
        WRONG[mistake](pg)


REFUSED_HERE = {
    "a layer without its kernel": (lambda: nn.LazyConv2d(3), TypeError, "LazyConv2d: missing a .* 'kernel_size'"),
    "arguments of no layer": (lambda: nn.SyncBatchNorm(3, groups=2), TypeError, "SyncBatchNorm: .* argument 'groups'"),
    "sparse gradients": (lambda: nn.Embedding(3, 2, sparse=True), RuntimeError, "sparse=False"),
    "sparse gradients of bags": (lambda: nn.EmbeddingBag(3, 2, sparse=True), RuntimeError, "sparse=False"),
    "a table of another shape": (lambda: nn.Embedding(3, 2, _weight=pg.ones(2, 3)), ValueError, r"\(3, 2\).*\(2, 3\)"),
    "a table that is none": (lambda: nn.Embedding.from_pretrained(pg.ones(2)), ValueError, "rows, columns"),
    "a mode of bags": (lambda: nn.EmbeddingBag(3, 2, mode="first"), ValueError, "'sum', 'mean' or 'max', got 'first'"),
    "bags' maxima by frequency": (
        lambda: nn.EmbeddingBag(3, 2, mode="max", scale_grad_by_freq=True), ValueError, "scale_grad_by_freq=False",
    ),
    "a mode of images": (lambda: nn.Upsample(8, mode="cubic"), NotImplementedError, "'bicubic', .*got 'cubic'"),
    "a formula of gelu": (lambda: nn.GELU("exact"), RuntimeError, "'none' or 'tanh', got 'exact'"),
    "a batch of integers": (
        lambda: nn.BatchNorm1d(3)(pg.tensor([[1, 2, 3]] * 2)), RuntimeError, "floating-point input, got int64: write",
    ),
    "a padding index": (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "one of 3 rows"),
    "padding for other dimensions": (lambda: nn.ZeroPad2d((1, 2)), ValueError, "expected one number, or 4"),
    "sizes for other dimensions": (lambda: nn.Conv2d(1, 1, (1, 2, 3)), RuntimeError, "as 2 integers"),
    "softmax of vectors": (lambda: nn.Softmax2d()(pg.ones(2)), ValueError, r"\(C, H, W\)"),
    "bounds": (lambda: nn.Hardtanh(1.0, -1.0), ValueError, "min_val below max_val"),
    "names of dimensions": (lambda: nn.Unflatten("C", (2, 2)), TypeError, "dim as an integer"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "error", "told"), REFUSED_HERE.values(), ids=REFUSED_HERE)
def test_what_is_not_here_is_told(make, error, told):
    with pytest.raises(error, match=told):
        make()


def test_probabilities_and_predictions_of_an_adaptive_softmax():
    row = next(row for row in ROWS if row.name == "AdaptiveLogSoftmaxWithLoss")
    ours, theirs = same_state(row)
    x = np.random.default_rng(2).normal(size=(20, 6)) * 5
    assert_near([array_of(ours.log_prob(pg.tensor(x)))], [array_of(theirs.log_prob(torch.tensor(x)))], 1e-9)
    assert ours.predict(pg.tensor(x)).tolist() == theirs.predict(torch.tensor(x)).tolist()


# ----- running statistics -----


@pytest.mark.parametrize("row", [row for row in NORMALIZATIONS if row.made(torch).state_dict()], ids=str)
def test_the_state_after_three_steps_is_torchs(row):
    states = []
    for library, module in zip((pg, torch), same_state(row)):
        random = np.random.default_rng(4)
        optimizer = library.optim.SGD([*module.parameters(), library.nn.Parameter(library.zeros(1))], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            x = as_tensor(library, random.normal(1, 2, row.on[0]))
            loss = (module(x) * as_tensor(library, random.normal(size=row.on[0]))).sum()
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
        module.eval()
        x = as_tensor(library, random.normal(1, 2, row.on[0]))
        states.append([*(array_of(value) for value in module.state_dict().values()), array_of(module(x).detach())])
    assert_near(*states, 1e-9)


@pytest.mark.parametrize("row", [row for row in NORMALIZATIONS if row.made(torch).state_dict()], ids=str)
def test_a_normalization_begins_again_as_torchs(row):
    states = []
    for module in same_state(row):
        module.reset_parameters()
        states.append([array_of(value) for value in module.state_dict().values()])
    assert_near(*states, 0)


def test_a_state_from_before_batches_were_counted_is_loaded():
    states = []
    for library in (pg, torch):
        module = library.nn.Sequential(library.nn.BatchNorm1d(2))
        state = {name: value + 1 for name, value in module.state_dict().items() if "num_batches" not in name}
        assert tuple(map(list, module.load_state_dict(state))) == ([], [])
        states.append([array_of(value).tolist() for value in module.state_dict().values()])
    assert states[0] == states[1]


# ----- copies, and what data parallelism adds up -----

FIRST_ROWS = list({row.name: row for row in ROWS}.values())


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize("row", FIRST_ROWS, ids=lambda row: row.name)
def test_a_copy_of_a_layer_computes_the_same_on_arrays_of_its_own(row, how):
    module, _ = same_state(row)
    twin = how(module)
    assert repr(twin) == repr(module)
    assert not any(
        np.may_share_memory(one.array, other.array)
        for one, other in zip(twin.state_dict().values(), module.state_dict().values(), strict=True)
    )
    for mine, reference in zip(computed(pg, twin, row, "float64"), computed(pg, module, row, "float64")):
        assert [x.tobytes() for x in mine] == [x.tobytes() for x in reference]


@pytest.mark.parametrize("row", [row for row in LOSSES if row.name != "AdaptiveLogSoftmaxWithLoss"], ids=str)
def test_a_loss_hands_on_its_sum_and_its_divisor(row):
    loss, _ = same_state(row)
    given = row.inputs(pg, "float64")
    total, divisor = sum_and_divisor_of(loss)(*given)
    assert (divisor is None) == (loss.reduction == "sum")
    expected = loss(*given).sum() if loss.reduction == "none" else loss(*given) * (divisor or 1)
    np.testing.assert_allclose(total.item(), expected.item(), rtol=1e-12)
