"""Convolution, pooling, padding, resizing and sampling against torch: values and gradients of all their arguments."""

import numpy as np
import pytest
import torch
import torch.nn.functional as TF

import pargrad as pg
import pargrad.nn.functional as F
from pargrad.rules import RULES
from pargrad.rules.convolution import in_turn, spread, turned
from pargrad.rules.patches import single, windows
from pargrad.stacking import Stacked
from tests.agreement_torch import check_twins
from tests.checks import assert_equal, both, check_derivative, run

# Sums of a few hundred products, which the two libraries add up in another order.
SUMS = {np.float32: 1e-5, np.float64: 1e-12}


def drawn(shapes, dtype=np.float64):
    """Arrays of these shapes; what is no shape is an argument as it stands."""
    generator = np.random.default_rng(3)
    return [generator.uniform(-1, 1, each).astype(dtype) if isinstance(each, tuple) else each for each in shapes]


def agree(name, arrays, settings):
    """pargrad and torch give the same values and gradients."""
    check_twins(
        lambda *inputs: getattr(F, name)(*inputs, **settings),
        lambda *inputs: getattr(TF, name)(*inputs, **settings),
        arrays,
        SUMS[arrays[0].dtype.type],
    )


def table(*cases):
    ids = [f"{name}-{i}" for i, (name, *_) in enumerate(cases)]
    return pytest.mark.parametrize(("name", "shapes", "settings"), cases, ids=ids)


# ----- convolution -----

CONVOLUTIONS = table(
    ("conv1d", [(2, 3, 9), (4, 3, 3), (4,)], {}),
    ("conv1d", [(2, 3, 9), (4, 3, 2)], {"stride": 2, "padding": 1, "dilation": 3}),
    ("conv1d", [(2, 3, 9), (4, 3, 4)], {"padding": "same"}),
    ("conv1d", [(3, 9), (4, 3, 3), (4,)], {}),
    ("conv1d", [(0, 3, 9), (4, 3, 3), (4,)], {}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 3, 2), (4,)], {}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 3, 2), (4,)], {"stride": (2, 1), "padding": (1, 3), "dilation": (1, 2)}),
    ("conv2d", [(2, 4, 7, 6), (6, 2, 3, 3)], {"groups": 2, "padding": "valid"}),
    ("conv2d", [(2, 4, 7, 6), (8, 1, 3, 3), (8,)], {"groups": 4, "padding": 1}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 4, 3)], {"padding": "same", "dilation": (1, 2)}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 1, 1), (4,)], {}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 1, 1), (4,)], {"padding": 1}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 1, 1), (4,)], {"stride": 2}),
    ("conv2d", [(2, 3, 2, 2), (4, 3, 2, 2), (4,)], {"stride": 5, "padding": 3}),
    ("conv2d", [(2, 3, 7, 6), (4, 3, 7, 6), (4,)], {}),
    ("conv2d", [(3, 7, 6), (4, 3, 3, 3), (4,)], {"padding": 1}),
    ("conv2d", [(0, 3, 7, 6), (4, 3, 3, 3), (4,)], {"padding": [1]}),
    ("conv2d", [(1, 1, 3, 3), (1, 1, 2, 2), (1,)], {"padding": 4, "stride": 3}),
    ("conv1d", [(2, 3, 20), (4, 3, 3)], {"padding": 3}),
    ("conv2d", [(3, 4, 12, 14), (6, 2, 3, 3), (6,)], {"groups": 2}),
    ("conv2d", [(2, 3, 12, 14), (4, 3, 3, 3), (4,)], {"padding": 1}),
    ("conv2d", [(2, 3, 14, 20), (4, 3, 3, 3), (4,)], {"dilation": 2, "padding": (0, 1)}),
    ("conv2d", [(5, 16, 4, 4), (8, 16, 3, 3), (8,)], {"padding": 1}),
    ("conv2d", [(3, 8, 14, 14), (8, 1, 3, 3), (8,)], {"groups": 8, "padding": 1, "stride": 2}),
    ("conv2d", [(3, 8, 9, 14), (8, 1, 3, 3), (8,)], {"groups": 8, "padding": (3, 1), "dilation": (1, 2)}),
    ("conv2d", [(3, 8, 9, 14), (8, 1, 2, 3)], {"groups": 8}),
    ("conv3d", [(2, 2, 4, 5, 12), (3, 2, 2, 2, 2), (3,)], {}),
    ("conv3d", [(2, 2, 4, 5, 3), (3, 2, 2, 3, 2), (3,)], {}),
    ("conv3d", [(2, 2, 4, 5, 3), (4, 1, 2, 3, 2), (4,)], {"stride": (1, 2, 3), "padding": (0, 1, 2), "groups": 2}),
    ("conv3d", [(2, 4, 5, 3), (3, 2, 2, 3, 2)], {"padding": "same"}),
    ("conv_transpose1d", [(2, 3, 5), (3, 4, 3), (4,)], {}),
    ("conv_transpose1d", [(2, 3, 5), (3, 4, 3)], {"stride": 3, "padding": 1, "output_padding": 2, "dilation": 2}),
    ("conv_transpose1d", [(3, 5), (3, 4, 3), (4,)], {"stride": 2}),
    ("conv_transpose2d", [(2, 3, 4, 3), (3, 4, 3, 2), (4,)], {}),
    ("conv_transpose2d", [(2, 3, 4, 3), (3, 4, 3, 2)], {"stride": (2, 1), "padding": (1, 0), "output_padding": (1, 0)}),
    ("conv_transpose2d", [(2, 4, 4, 3), (4, 3, 2, 3), (6,)], {"stride": 2, "groups": 2}),
    ("conv_transpose2d", [(2, 3, 4, 3), (3, 2, 2, 2)], {"dilation": 3, "output_padding": 2}),
    ("conv_transpose2d", [(3, 4, 3), (3, 4, 3, 2), (4,)], {"padding": 1}),
    ("conv_transpose2d", [(0, 3, 4, 3), (3, 4, 3, 2), (4,)], {}),
    ("conv_transpose3d", [(2, 2, 2, 3, 2), (2, 3, 2, 2, 3), (3,)], {"stride": (2, 1, 2), "output_padding": (1, 0, 1)}),
    ("unfold", [(2, 3, 6, 5), (3, 2)], {}),
    ("unfold", [(2, 3, 6, 5), 2], {"dilation": 2, "padding": (1, 0), "stride": (2, 1)}),
    ("unfold", [(3, 6, 5), (2, 2)], {}),
    ("fold", [(2, 12, 12), (4, 5), 2], {}),
    ("fold", [(2, 12, 9), (6, 5), (2, 2)], {"dilation": 2, "padding": (1, 0), "stride": (2, 1)}),
    ("fold", [(12, 12), (4, 5), 2], {}),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of the cost of even kernels
@both
@CONVOLUTIONS
def test_convolutions(name, shapes, settings, dtype):
    # The shapes of fold and unfold after the first are settings.
    tensors, others = (shapes[:1], shapes[1:]) if "fold" in name else (shapes, [])
    names = dict(zip(("output_size", "kernel_size")[2 - len(others) :], others))
    agree(name, drawn(tensors, dtype), settings | names)


def test_more_examples_than_fit_a_block():
    """Columns are made in runs of examples; here the last is shorter."""
    shapes = [(7, 8, 20, 20), (10, 4, 3, 3), (10,)]
    agree("conv2d", drawn(shapes), {"groups": 2, "padding": 1})
    agree("conv_transpose2d", drawn([(7, 9, 20, 20), (9, 8, 3, 3), (8,)]), {})


@pytest.mark.parametrize("windows", [
    windows((12, 14), 3), windows((12, 14), 3, padding=1), windows((9, 20), (2, 3), dilation=(1, 2)),
    windows((4, 5, 12), 2), windows((3, 12), (1, 3)),
], ids=str)  # fmt: skip
def test_gathering_lines_gives_what_adding_up_all_taps_does(windows):
    """The two ways of the transpose, of which shapes choose one."""
    y, weight = drawn([(3, 4, *windows.counts), (4, 3, *windows.kernel)])
    across, down = in_turn(windows, 4, 6)
    assert across.kernel[-1] == windows.kernel[-1]
    assert down.kernel[-1] == 1
    added_up = spread(y, turned(weight, 1, 2), single(windows.counts), windows)
    assert_equal(RULES["convolution_input"](y, weight, windows=windows, groups=2), added_up, 1e-13)


def test_lines_are_not_gathered_where_windows_are_far_apart_or_few():
    for far in (windows((12, 14), 3, stride=2), windows((12, 6), 3)):
        assert in_turn(far, 4, 6) == (single(far.counts), far)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_an_example_has_the_same_bits_in_every_batch(name):
    x, weight, bias = drawn([(13, 8, 30, 30), (8, 8, 3, 3), (8,)], np.float32)
    function = getattr(F, name)
    whole = function(pg.tensor(x), pg.tensor(weight), pg.tensor(bias)).numpy()
    for part in (slice(0, 1), slice(5, 9), slice(12, 13)):
        np.testing.assert_array_equal(
            function(pg.tensor(x[part]), pg.tensor(weight), pg.tensor(bias)).numpy(), whole[part]
        )


def test_a_small_network_on_a_stack_has_the_bits_of_its_slices():
    xs, weight, bias = drawn([(3, 5, 2, 8, 8), (4, 2, 3, 3), (4,)], np.float32)

    def network(x, weight, bias):
        return F.avg_pool2d(F.max_pool2d(F.conv2d(F.pad(x, (1, 1, 0, 0)), weight, bias, padding=1), 2), 2).sum(
            (1, 2, 3)
        )

    leaves = [pg.tensor(each) for each in (weight, bias)]
    together = network(Stacked(xs), *leaves)
    np.testing.assert_array_equal(together.slices, [network(pg.tensor(x), *leaves).numpy() for x in xs])


@pytest.mark.parametrize(("name", "shapes", "settings"), [
    ("conv2d", [(2, 2, 4, 3), (4, 1, 2, 2), (4,)], {"stride": (2, 1), "padding": 1, "groups": 2}),
    ("conv_transpose2d", [(2, 2, 2, 3), (2, 2, 2, 2), (2,)], {"stride": 2, "output_padding": 1}),
    ("max_pool2d", [(2, 2, 5, 4)], {"kernel_size": 2, "padding": 1}),
    ("avg_pool2d", [(2, 2, 5, 4)], {"kernel_size": (3, 2), "stride": 1}),
    ("lp_pool2d", [(2, 2, 5, 4)], {"norm_type": 2.0, "kernel_size": 2}),
    ("interpolate", [(1, 2, 4, 3)], {"size": (3, 5), "mode": "bicubic"}),
    ("pad", [(1, 2, 4, 3)], {"pad": (1, -1, 2, 0), "mode": "reflect"}),
    ("grid_sample", [(1, 2, 4, 3), (1, 3, 2, 2)], {"align_corners": False}),
])  # fmt: skip
def test_second_derivatives(name, shapes, settings):
    """Those of sum(f(x)^2), by torch."""

    def twice(library, function):
        def gradient(*inputs):
            out = function(*inputs, **settings)
            firsts = library.autograd.grad((out * out).sum(), inputs, create_graph=True)
            return tuple(firsts)

        return gradient

    arrays = drawn(shapes)
    check_twins(twice(pg, getattr(F, name)), twice(torch, getattr(TF, name)), arrays, 1e-11)


# ----- pooling -----

POOLINGS = table(
    ("max_pool1d", [(2, 3, 9)], {"kernel_size": 2}),
    ("max_pool1d", [(3, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("max_pool1d", [(2, 3, 8)], {"kernel_size": 3, "stride": 2, "ceil_mode": True, "return_indices": True}),
    ("max_pool2d", [(2, 3, 6, 8)], {"kernel_size": 2}),
    ("max_pool2d", [(0, 3, 6, 8)], {"kernel_size": 2}),
    ("max_pool2d", [(3, 7, 6)], {"kernel_size": (3, 2), "stride": (1, 2), "return_indices": True}),
    ("max_pool2d", [(2, 3, 7, 6)], {"kernel_size": (3, 2), "stride": [2], "padding": (1, 0), "dilation": (2, 3)}),
    ("max_pool2d", [(2, 3, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 3, 5, 5)], {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("max_pool2d", [(2, 3, 5, 5)], {"kernel_size": 1, "stride": 3}),
    ("max_pool2d", [(2, 3, 9, 9)], {"kernel_size": 3, "stride": 1, "padding": 1}),
    ("max_pool2d", [(2, 3, 9, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2}),
    ("max_pool2d", [(2, 3, 8, 10)], {"kernel_size": 4}),
    ("max_pool2d", [(70, 70, 8, 8)], {"kernel_size": 2}),
    ("max_pool3d", [(2, 3, 4, 5, 6)], {"kernel_size": 2, "stride": 1}),
    ("max_pool3d", [(3, 4, 5, 6)], {"kernel_size": (2, 3, 2), "padding": (1, 1, 0), "return_indices": True}),
    ("avg_pool1d", [(2, 3, 9)], {"kernel_size": 2}),
    ("avg_pool1d", [(3, 9)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(2, 3, 6, 8)], {"kernel_size": 2}),
    ("avg_pool2d", [(0, 3, 6, 8)], {"kernel_size": 2}),
    ("avg_pool2d", [(2, 3, 7, 6)], {"kernel_size": 3, "stride": (1, 2), "padding": 1}),
    ("avg_pool2d", [(3, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": (1, 0), "count_include_pad": False}),
    ("avg_pool2d", [(2, 3, 7, 6)], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    ("avg_pool2d", [(2, 3, 8, 6)], {"kernel_size": 3, "stride": 2, "ceil_mode": True, "count_include_pad": False}),
    ("avg_pool2d", [(2, 3, 7, 6)], {"kernel_size": (2, 3), "padding": 1, "divisor_override": 5}),
    ("avg_pool2d", [(2, 3, 7, 6)], {"kernel_size": (2, 3), "divisor_override": -2}),
    ("avg_pool2d", [(2, 3, 5, 5)], {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    ("avg_pool3d", [(2, 3, 4, 5, 6)], {"kernel_size": 2, "stride": 1}),
    ("avg_pool3d", [(3, 4, 5, 6)], {"kernel_size": (2, 3, 2), "padding": 1, "ceil_mode": True}),
    ("adaptive_avg_pool1d", [(2, 3, 9)], {"output_size": 4}),
    ("adaptive_avg_pool1d", [(3, 9)], {"output_size": 3}),
    ("adaptive_avg_pool1d", [(2, 3, 3)], {"output_size": 5}),
    ("adaptive_avg_pool2d", [(2, 3, 9, 7)], {"output_size": (4, 3)}),
    ("adaptive_avg_pool2d", [(2, 3, 8, 6)], {"output_size": (4, 3)}),
    ("adaptive_avg_pool2d", [(3, 9, 7)], {"output_size": (None, 3)}),
    ("adaptive_avg_pool2d", [(2, 3, 9, 7)], {"output_size": 1}),
    ("adaptive_avg_pool2d", [(0, 3, 9, 7)], {"output_size": 2}),
    ("adaptive_avg_pool3d", [(2, 3, 4, 5, 6)], {"output_size": (2, 3, 4)}),
    ("adaptive_avg_pool3d", [(3, 4, 6, 2)], {"output_size": 2}),
    ("adaptive_max_pool1d", [(2, 3, 9)], {"output_size": 4}),
    ("adaptive_max_pool1d", [(3, 3)], {"output_size": 5, "return_indices": True}),
    ("adaptive_max_pool2d", [(2, 3, 9, 7)], {"output_size": (4, 3), "return_indices": True}),
    ("adaptive_max_pool2d", [(2, 3, 8, 6)], {"output_size": 2}),
    ("adaptive_max_pool2d", [(3, 9, 7)], {"output_size": (None, 3)}),
    ("adaptive_max_pool2d", [(0, 3, 9, 7)], {"output_size": 2}),
    ("adaptive_max_pool3d", [(2, 3, 4, 5, 6)], {"output_size": (2, 3, 4), "return_indices": True}),
)  # fmt: skip


@both
@POOLINGS
def test_poolings(name, shapes, settings, dtype):
    agree(name, drawn(shapes, dtype), settings)


@both
@table(
    ("lp_pool1d", [(2, 3, 9)], {"norm_type": 2, "kernel_size": 2}),
    ("lp_pool1d", [(3, 9)], {"norm_type": 3.0, "kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("lp_pool2d", [(2, 3, 6, 7)], {"norm_type": 1.5, "kernel_size": (3, 2)}),
    ("lp_pool2d", [(3, 6, 7)], {"norm_type": 1, "kernel_size": 3, "stride": 2, "ceil_mode": True}),
    ("lp_pool3d", [(2, 3, 4, 5, 6)], {"norm_type": 2.0, "kernel_size": 2}),
)
def test_power_poolings(name, shapes, settings, dtype):
    arrays = [np.abs(x) + x.dtype.type(0.1) for x in drawn(shapes, dtype)]
    agree(name, arrays, settings)


NAN, INF = np.nan, np.inf
IMAGES = {
    "ties": [[1.0, 1.0, -2.0, -2.0], [1.0, 1.0, -2.0, -2.0], [0.0, -0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 3.0]],
    "nan": [[1.0, NAN, -2.0, 5.0], [NAN, 1.0, -2.0, NAN], [0.0, -0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 3.0]],
    "infinite": [[-INF, -INF, INF, 1.0], [-INF, -INF, INF, 1.0], [0.0, -INF, 3.0, 3.0], [0.0, 0.0, 3.0, -INF]],
}


@both
@pytest.mark.parametrize("settings", [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": 2, "dilation": 2, "padding": 1, "stride": 1},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", IMAGES)
def test_ties_nan_and_infinities_of_maxima(kind, settings, dtype):
    agree("max_pool2d", [np.array([[IMAGES[kind]]], dtype)], settings | {"return_indices": True})
    agree("max_pool2d", [np.array([[IMAGES[kind]]], dtype)], settings)


@pytest.mark.parametrize("kind", IMAGES)
def test_ties_nan_and_infinities_of_adaptive_maxima(kind):
    agree("adaptive_max_pool2d", [np.array([[IMAGES[kind]]])], {"output_size": 2, "return_indices": True})


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # inf - inf
def test_an_infinite_element_stays_in_its_windows():
    image = np.array([[IMAGES["infinite"]]])
    for name, settings in (
        ("avg_pool2d", {"kernel_size": 2, "padding": 1}),
        ("adaptive_avg_pool2d", {"output_size": 3}),
    ):
        values = run(pg, lambda x, name=name, settings=settings: getattr(F, name)(x, **settings), [image])[0]
        expected = run(torch, lambda x, name=name, settings=settings: getattr(TF, name)(x, **settings), [image])[0]
        assert_equal(values, expected)


FRACTIONAL = table(
    ("fractional_max_pool2d", [(2, 3, 9, 8)], {"kernel_size": 2, "output_size": (4, 5)}),
    ("fractional_max_pool2d", [(3, 9, 8)], {"kernel_size": (2, 3), "output_ratio": (0.5, 0.6)}),
    ("fractional_max_pool2d", [(2, 3, 9, 8)], {"kernel_size": 3, "output_size": 1}),
    ("fractional_max_pool3d", [(2, 3, 5, 6, 7)], {"kernel_size": 2, "output_size": (3, 4, 2)}),
    ("fractional_max_pool3d", [(3, 5, 6, 7)], {"kernel_size": (1, 2, 3), "output_ratio": (0.7, 0.5, 0.5)}),
)


@both
@FRACTIONAL
def test_fractional_poolings_with_the_same_seed(name, shapes, settings, dtype):
    arrays = drawn(shapes, dtype)
    for more in ({}, {"return_indices": True}):
        pg.manual_seed(3)
        torch.manual_seed(3)
        agree(name, arrays, settings | more)


@pytest.mark.parametrize(("lengths", "settings"), [
    ((7,), {"kernel_size": 2}),
    ((8,), {"kernel_size": 2}),
    ((7,), {"kernel_size": 3, "stride": 2}),
    ((7, 5), {"kernel_size": 2}),
    ((4, 6), {"kernel_size": 2}),
    ((7, 6), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}),
    ((4, 5, 6), {"kernel_size": 2}),
])  # fmt: skip
@both
def test_unpooling(lengths, settings, dtype):
    dims = len(lengths)
    (x,) = drawn([(2, 3, *(7, 6, 5)[:dims])], dtype)
    value, index = (
        each.numpy() for each in getattr(TF, f"max_pool{dims}d")(torch.tensor(x), **settings, return_indices=True)
    )
    # What is found twice is written twice, of which torch takes either; here each is found once.
    apart = settings["kernel_size"] == settings.get("stride", settings["kernel_size"])
    sizes = [{"output_size": x.shape}, {"output_size": x.shape[2:]}]
    sizes += [{}] if all(n % 2 == 0 for n in x.shape[2:]) else []
    if not apart:
        index = np.arange(index[0, 0].size).reshape(index.shape[2:]) + np.zeros_like(index)
    for size in sizes:
        agree(f"max_unpool{dims}d", [value, index], settings | size)
        agree(f"max_unpool{dims}d", [value[0], index[0]], settings | ({"output_size": x.shape[2:]} if size else {}))


# ----- padding -----


@both
@table(
    ("pad", [(2, 3)], {"pad": (1, 2)}),
    ("pad", [(2, 3)], {"pad": (1, 2, 0, 1), "value": 0.5}),
    ("pad", [(2, 3, 4)], {"pad": (-1, 2, 1, -2), "value": -1}),
    ("pad", [()], {"pad": ()}),
    ("pad", [(0, 3)], {"pad": (1, 1, 1, 0)}),
    ("pad", [(2, 3, 4, 5)], {"pad": (-2, -2)}),
    *(
        ("pad", [shape], {"pad": amounts, "mode": mode})
        for mode in ("reflect", "replicate", "circular")
        for shape, amounts in (
            ((2, 3, 5), (2, 3)),
            ((3, 5), (4, 0)),
            ((2, 3, 4, 5), (1, 2, 3, 0)),
            ((3, 4, 5), (1, 2, 3, 3)),
            ((2, 3, 4, 5), (-1, 2, 0, -2)),
            ((1, 2, 3, 4, 5), (1, 2, 0, 1, 2, 2)),
        )
    ),
    ("pad", [(2, 3, 4)], {"pad": (7, 9), "mode": "replicate"}),
)
def test_padding(name, shapes, settings, dtype):
    agree(name, drawn(shapes, dtype), settings)


# ----- resizing -----

RESIZED = [
    ({"size": 7}, (4, 5, 6)),
    ({"size": 3}, (7, 8, 4)),
    ({"size": 1}, (7, 8, 4)),
    ({"size": 5}, (1, 1, 1)),
    ({"scale_factor": 2}, (4, 5, 3)),
    # Not 3 elements, which become 6: torch's gradient then belongs to a factor of 2.
    ({"scale_factor": 2.3}, (4, 5, 4)),
    ({"scale_factor": 0.6}, (7, 6, 5)),
    ({"scale_factor": 1.7, "recompute_scale_factor": True}, (4, 5, 3)),
]
MODES = [("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 1), ("nearest-exact", 2)]
MODES += [("nearest-exact", 3), ("area", 1), ("area", 2), ("area", 3)]
LINEAR = [("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3)]
INTERPOLATIONS = table(
    *(
        ("interpolate", [(2, 3, *sizes[:dims])], {"mode": mode, **settings})
        for mode, dims in MODES
        for settings, sizes in RESIZED
    ),
    *(
        ("interpolate", [(2, 3, *sizes[:dims])], {"mode": mode, "align_corners": align_corners, **settings})
        for mode, dims in LINEAR
        for align_corners in (False, True)
        for settings, sizes in RESIZED
    ),
    *(
        (
            "interpolate",
            [(2, 3, *sizes[:2])],
            {"mode": mode, "antialias": True, "align_corners": align_corners, **settings},
        )
        for mode in ("bilinear", "bicubic")
        for align_corners in (False, True)
        for settings, sizes in RESIZED
    ),
    ("interpolate", [(2, 3, 4, 5)], {"size": (8, 3), "mode": "bilinear"}),
    ("interpolate", [(2, 3, 4, 5)], {"scale_factor": (2.0, 0.5)}),
    ("interpolate", [(0, 3, 4, 5)], {"scale_factor": 2}),
    ("upsample", [(2, 3, 4, 5)], {"scale_factor": 2, "mode": "bilinear"}),
    ("upsample_nearest", [(2, 3, 4, 5)], {"scale_factor": 2}),
    ("upsample_bilinear", [(2, 3, 4, 5)], {"size": (7, 9)}),
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@both
@INTERPOLATIONS
def test_interpolation(name, shapes, settings, dtype):
    agree(name, drawn(shapes, dtype), settings)


# ----- shuffles -----


@table(
    ("pixel_shuffle", [(2, 8, 3, 4)], {"upscale_factor": 2}),
    ("pixel_shuffle", [(9, 2, 2)], {"upscale_factor": 3}),
    ("pixel_shuffle", [(2, 1, 4, 3, 2)], {"upscale_factor": 2}),
    ("pixel_unshuffle", [(2, 2, 6, 4)], {"downscale_factor": 2}),
    ("pixel_unshuffle", [(1, 3, 6)], {"downscale_factor": 3}),
)
def test_shuffles_of_pixels(name, shapes, settings):
    agree(name, drawn(shapes), settings)


@pytest.mark.parametrize(("shape", "groups"), [((2, 6, 3), 3), ((2, 6, 3, 2), 2), ((1, 4, 2, 3, 2), 4)])
def test_shuffles_of_channels(shape, groups):
    """torch's has no derivative on the CPU; a permutation gives back in backward what it was given."""
    (x,) = drawn([shape])
    values, gradients = run(pg, lambda x: F.channel_shuffle(x, groups), [x])
    assert_equal(values, [TF.channel_shuffle(torch.tensor(x), groups).numpy()])
    assert check_derivative(lambda x: F.channel_shuffle(x, groups), [x]) == len(gradients)


# ----- sampling -----


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of sizes of 1
@both
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (2, 1, 1, 3), (2, 3, 4, 2, 3)], ids=str)
def test_affine_grids(size, align_corners, dtype):
    dims = len(size) - 2
    agree("affine_grid", drawn([(size[0], dims, dims + 1)], dtype), {"size": size, "align_corners": align_corners})


@both
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize(
    ("mode", "dims"), [("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3), ("nearest", 3)]
)
def test_sampling(mode, dims, padding_mode, align_corners, dtype):
    generator = np.random.default_rng(5)
    image = generator.uniform(-1, 1, (2, 3, *(5, 4, 3)[:dims])).astype(dtype)
    grid = generator.uniform(-2.5, 2.5, (2, *(3, 6, 2)[:dims], dims)).astype(dtype)
    settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    agree("grid_sample", [image, grid], settings)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_sampling_at_the_elements_and_borders(padding_mode, mode):
    places = np.array([-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0])
    grid = np.stack(np.meshgrid(places, places), -1)[None]
    for image in drawn([(1, 2, 4, 4), (1, 1, 5, 1)]):
        for align_corners in (False, True):
            settings = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
            agree("grid_sample", [image, grid], settings)


# ----- wrong use -----

WRONG = [
    ("conv2d", [(2, 3, 5), (4, 3, 3)], {}, "expected a weight of 4 dimensions"),
    ("conv2d", [(2, 3), (4, 3, 3, 3)], {}, r"expected an input of 3 dimensions .* or 4"),
    ("conv2d", [(2, 3, 5, 5), (4, 2, 3, 3)], {}, "expected 2 channels for a weight"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 3, 3), (3,)], {}, r"expected a bias of shape \(4,\)"),
    ("conv2d", [(2, 4, 5, 5), (3, 2, 3, 3)], {"groups": 2}, "expected groups that divide the 3"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 3, 3)], {"stride": 0}, "expected stride as 2 integers of 1 or more"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 3, 3)], {"stride": 2, "padding": "same"}, "stride .* does not: give integers"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 3, 3)], {"padding": "full"}, "expected padding 'same', 'valid' or integers"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 6, 3)], {}, "reaches over"),
    ("conv2d", [(2, 3, 5, 5), (4, 3, 3, 3)], {"dilation": (1, 2, 3)}, "expected dilation as 2 integers"),
    ("conv_transpose2d", [(2, 3, 5, 5), (3, 4, 3, 3)], {"output_padding": 1}, "expected an output_padding below"),
    ("max_pool2d", [(2, 3, 5, 5)], {"kernel_size": 2, "padding": 2}, "at most half of the kernel"),
    ("max_pool2d", [(5, 5)], {"kernel_size": 2}, "expected an input of 3 dimensions"),
    ("max_pool2d", [(2, 3, 2, 2)], {"kernel_size": 3}, "smaller than one window"),
    ("avg_pool2d", [(2, 3, 5, 5)], {"kernel_size": 2, "divisor_override": 0}, "other than 0"),
    ("adaptive_avg_pool2d", [(2, 3, 5, 5)], {"output_size": (2, 2, 2)}, "expected an output_size of 2 numbers"),
    ("unfold", [(2, 3, 2, 2)], {"kernel_size": 3}, "smaller than one window"),
    ("fold", [(2, 12, 11)], {"output_size": (4, 5), "kernel_size": 2}, "expected columns of shape"),
    ("pad", [(2, 3)], {"pad": (1,)}, "expected a pair of numbers"),
    ("pad", [(2, 3, 4)], {"pad": (4, 0), "mode": "reflect"}, "not possible with mode 'reflect' on 4"),
    ("pad", [(2, 3, 4)], {"pad": (5, 0), "mode": "circular"}, "not possible with mode 'circular' on 4"),
    ("pad", [(2, 3, 4)], {"pad": (-3, -2)}, "cuts more off"),
    ("pixel_shuffle", [(2, 6, 2, 2)], {"upscale_factor": 2}, "expected a multiple of 2"),
    ("grid_sample", [(2, 3, 4, 4), (2, 5, 5, 3)], {}, "expected images .* and positions"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "shapes", "settings", "message"), WRONG, ids=[f"{row[0]}-{i}" for i, row in enumerate(WRONG)]
)
def test_wrong_use_is_refused_as_in_torch(name, shapes, settings, message):
    arrays = drawn(shapes)
    with pytest.raises(RuntimeError, match=message):
        getattr(F, name)(*map(pg.tensor, arrays), **settings)
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        getattr(TF, name)(*map(torch.tensor, arrays), **settings)


@pytest.mark.parametrize(("settings", "kind", "message"), [
    ({}, ValueError, "either size or scale_factor"),
    ({"size": 3, "scale_factor": 2}, ValueError, "either size or scale_factor"),
    ({"size": 3, "mode": "linear"}, NotImplementedError, "for 2 spatial dimensions, got 'linear'"),
    ({"size": 3, "align_corners": True}, ValueError, "leave it out"),
    ({"size": 3, "antialias": True}, ValueError, "antialias is for"),
    ({"size": 3, "recompute_scale_factor": True}, ValueError, "goes with scale_factor"),
    ({"scale_factor": 0.1}, RuntimeError, "would become"),
    ({"size": (3, 3, 3)}, RuntimeError, "expected size as 2 integers"),
])  # fmt: skip
def test_wrong_interpolations_are_refused_as_in_torch(settings, kind, message):
    (x,) = drawn([(2, 3, 4, 5)])
    with pytest.raises(kind, match=message):
        F.interpolate(pg.tensor(x), **settings)
    with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
        TF.interpolate(torch.tensor(x), **settings)
