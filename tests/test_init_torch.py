"""torch.nn.init's functions against torch's own: the same weights for the same seed."""

import math

import numpy as np
import pytest
import torch

import pargrad as pg
from pargrad import nn

DTYPES = ["float32", "float64"]
SHAPES = [(4, 3), (3, 5), (1, 7), (20, 30), (6, 4, 3), (4, 2, 3, 3), (2, 2, 3, 2, 2)]
ROUNDING = {"float32": 5e-7, "float64": 1e-14}  # of numbers about as large as 1


def of(kind, *args, **named):
    return lambda init, tensor, generator=None: getattr(init, kind)(
        tensor, *args, **named, **({} if generator is None else {"generator": generator})
    )


EXACT = {
    "constant_": of("constant_", 0.3),
    "ones_": of("ones_"),
    "zeros_": of("zeros_"),
    "eye_": of("eye_"),
    "dirac_": of("dirac_"),
    "dirac_ of groups": of("dirac_", 2),
    "uniform_": of("uniform_", -0.3, 0.7),
    "xavier_uniform_": of("xavier_uniform_"),
    "xavier_uniform_ with a gain": of("xavier_uniform_", gain=math.sqrt(2)),
    "kaiming_uniform_": of("kaiming_uniform_", a=0.1, mode="fan_out"),
}
ROUNDED = {
    "normal_": of("normal_"),
    "normal_ of mean and std": of("normal_", 1.0, 0.2),
    "trunc_normal_": of("trunc_normal_"),
    "trunc_normal_, narrow": of("trunc_normal_", 0.1, 0.5, -0.4, 0.2),
    "trunc_normal_, the tail": of("trunc_normal_", 0.0, 1.0, 1.5, 3.0),
    "trunc_normal_, far outside": of("trunc_normal_", 0.0, 1.0, 3.0, 4.0),
    "trunc_normal_, nearly a point": of("trunc_normal_", 0.0, 1.0, -0.1, 0.1),
    "xavier_normal_": of("xavier_normal_"),
    "xavier_normal_ with a gain": of("xavier_normal_", 5 / 3),
    "kaiming_normal_": of("kaiming_normal_"),
    "kaiming_normal_ of fan_out": of("kaiming_normal_", 0.2, "fan_out"),
    "kaiming_normal_ for relu": of("kaiming_normal_", nonlinearity="relu"),
    "orthogonal_": of("orthogonal_"),
    "orthogonal_ with a gain": of("orthogonal_", 0.5),
    "sparse_": of("sparse_", 0.4),
    "sparse_ with a std": of("sparse_", sparsity=0.7, std=2.0),
}
ONLY = {"eye_": {2}, "sparse_": {2}, "dirac_": {3, 4, 5}}  # how many dimensions a weight must have
CASES = [
    (name, shape)
    for name in {**EXACT, **ROUNDED}
    for shape in SHAPES
    if len(shape) in ONLY.get(name.split()[0], {2, 3, 4, 5})
]


def both(shape, dtype):
    return pg.ones(shape, dtype=dtype), torch.ones(shape, dtype=getattr(torch, dtype))


def assert_agree(name, ours, theirs):
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    if name in EXACT:
        assert np.array_equal(ours, theirs)
    else:
        # The QR of a matrix of single precision is computed in double precision here.
        rounding = ROUNDING[str(ours.dtype)] * (10 if "orthogonal" in name else 1)
        np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=rounding)


def test_the_checker_sees_a_difference():
    with pytest.raises(AssertionError):
        assert_agree("normal_", pg.tensor([1.0]), torch.tensor([1.0 + 2e-6]))
    with pytest.raises(AssertionError):
        assert_agree("uniform_", pg.tensor([1.0]), torch.tensor([1.0 + 2**-23]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "shape"), CASES)
@pytest.mark.filterwarnings("ignore:.*mean.* is more than 2 std")
def test_weights_begin_as_torchs(name, shape, dtype):
    fill = {**EXACT, **ROUNDED}[name]
    pg.manual_seed(5)
    torch.manual_seed(5)
    ours, theirs = both(shape, dtype)
    assert fill(nn.init, ours) is ours
    fill(torch.nn.init, theirs)
    assert_agree(name, ours, theirs)
    assert pg.get_rng_state().tolist() == torch.get_rng_state().tolist()  # as much was drawn


@pytest.mark.parametrize("name", ["uniform_", "xavier_uniform_", "kaiming_uniform_", *ROUNDED])
@pytest.mark.filterwarnings("ignore:.*mean.* is more than 2 std")
def test_a_generator_of_ones_own(name):
    fill = {**EXACT, **ROUNDED}[name]
    pg.manual_seed(0)
    before = pg.get_rng_state().tolist()
    ours, theirs = both((20, 3), "float32")
    fill(nn.init, ours, pg.Generator().manual_seed(9))
    assert pg.get_rng_state().tolist() == before
    if "sparse" in name:  # torch takes the zeros' places from the default generator
        again = pg.ones(20, 3)
        fill(nn.init, again, pg.Generator().manual_seed(9))
        assert again.tolist() == ours.tolist()
    else:
        fill(torch.nn.init, theirs, torch.Generator().manual_seed(9))
        assert_agree(name, ours, theirs)


@pytest.mark.parametrize("name", ["uniform_", "kaiming_uniform_", "normal_", "kaiming_normal_", "trunc_normal_"])
@pytest.mark.parametrize("change", [lambda x: x.t(), lambda x: x[::2], lambda x: x[:, 1:], lambda x: x.t()[1:]])
def test_views_are_filled_in_the_order_of_their_memory(name, change):
    pg.manual_seed(5)
    torch.manual_seed(5)
    ours, theirs = both((6, 8), "float32")
    for init, tensor in [(nn.init, ours), (torch.nn.init, theirs)]:
        {**EXACT, **ROUNDED}[name](init, change(tensor))
    assert_agree(name, ours, theirs)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (4, 2, 3)])
def test_an_orthogonal_weight_is_orthogonal(shape):
    weight = nn.init.orthogonal_(pg.empty(shape, dtype=pg.float64), 2.0).array.reshape(shape[0], -1)
    product = weight @ weight.T if shape[0] <= weight.shape[1] else weight.T @ weight
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_truncated_normal_numbers_stay_inside_and_have_the_right_mean():
    pg.manual_seed(0)
    for a, b, mean in [(-1.0, 1.0, 0.0), (1.0, 4.0, 1.5247), (-0.1, 0.1, 0.0)]:
        drawn = nn.init.trunc_normal_(pg.empty(20000), a=a, b=b).array
        assert a <= drawn.min() < drawn.max() <= b
        assert abs(drawn.mean() - mean) < 0.02


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
@pytest.mark.filterwarnings("ignore:.*mean.* is more than 2 std")
def test_a_parameter_is_filled_outside_the_graph(name):
    weight = pg.ones((4, 2, 3) if "dirac" in name else (4, 3), requires_grad=True)
    assert {**EXACT, **ROUNDED}[name](nn.init, weight) is weight
    assert weight.is_leaf
    assert weight.requires_grad


NONLINEARITIES = [
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid",
    "tanh", "relu", "leaky_relu", "selu",
]  # fmt: skip


@pytest.mark.parametrize("param", [None, 0.2, 1])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_calculate_gain(nonlinearity, param):
    ours, theirs = (library.nn.init.calculate_gain(nonlinearity, param) for library in (pg, torch))
    assert ours == theirs


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda init, zeros: init.calculate_gain("swish"), "swish"),
        (lambda init, zeros: init.eye_(zeros(2, 3, 4)), r"\(2, 3, 4\)"),
        (lambda init, zeros: init.dirac_(zeros(2, 3)), r"\(2, 3\)"),
        (lambda init, zeros: init.dirac_(zeros(3, 2, 1), groups=2), "got 2"),
        (lambda init, zeros: init.xavier_uniform_(zeros(3)), r"\(3,\)"),
        (lambda init, zeros: init.xavier_normal_(zeros(3)), r"xavier_normal_.*\(3,\)"),
        (lambda init, zeros: init.kaiming_normal_(zeros(3)), r"\(3,\)"),
        (lambda init, zeros: init.kaiming_normal_(zeros(3, 2), mode="fan"), "'fan'"),
        (lambda init, zeros: init.orthogonal_(zeros(3)), r"\(3,\)"),
        (lambda init, zeros: init.sparse_(zeros(3), 0.1), r"\(3,\)"),
    ],
)
def test_what_torch_refuses_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call(nn.init, pg.zeros)
    with pytest.raises(ValueError):  # noqa: PT011
        call(torch.nn.init, torch.zeros)


def test_a_truncation_far_from_the_mean_warns_as_torchs():
    for library in (pg, torch):
        with pytest.warns(UserWarning, match="more than 2 std"):
            library.nn.init.trunc_normal_(library.zeros(3), a=3.0, b=4.0)


def test_all_of_torchs_functions_are_there():
    # Those without an underscore at the end are deprecated names.
    theirs = [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    assert [name for name in theirs if not hasattr(nn.init, name)] == []
