"""Every rule against torch: values and all gradients, on its samples, on other shapes and at kinks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pargrad as pg
from pargrad.rules import RULES
from tests import spatial_torch
from tests.agreement_torch import check_both
from tests.checks import CASES, as_function, assert_equal, both, draw, run

# The same call in torch, where it is not torch.NAME with the same arguments and settings.
TWINS = {
    **spatial_torch.TWINS,
    **{name: getattr(torch.linalg, name) for name in ("inv", "solve", "solve_triangular")},
    "cholesky": lambda x: torch.linalg.cholesky((x + x.mT) / 2),
    "eig": lambda x: signed_eigen(torch.linalg.eig(x), np.linalg.eig(x.detach().numpy())),
    "eigh": lambda x: signed_eigen(torch.linalg.eigh((x + x.mT) / 2), np.linalg.eigh((x + x.mT).detach().numpy())),
    "lstsq": lambda x, y, **settings: (lambda all: (all[0], *all[2:]))(torch.linalg.lstsq(x, y, **settings)),
    "lu_factor": lambda x: torch.linalg.lu_factor_ex(x)[:2],
    "matrix_exp": torch.linalg.matrix_exp,
    "pieces": lambda x, sizes, dim: torch.split(x, list(sizes), dim),
    "pinv": torch.linalg.pinv,
    "qr": lambda x, mode="reduced": tuple(torch.linalg.qr(x, mode)),
    "slogdet": lambda x: tuple(torch.linalg.slogdet(x)),
    "svd": lambda x: signed_singular(torch.linalg.svd(x, False), np.linalg.svd(x.detach().numpy(), False)),
    "gammainc": lambda x, y: torch.special.gammainc(torch.as_tensor(x, dtype=y.dtype), y),
    "gammaincc": lambda x, y: torch.special.gammaincc(torch.as_tensor(x, dtype=y.dtype), y),
    "distance": lambda x, y, p=2.0: torch.cdist(x[..., None, :], y[..., None, :], p)[..., 0, 0],
    "add_into_zeros": lambda x, index, shape, once=False: transposed(x, index, shape),
    "gather": lambda x, index, dim: torch.gather(x, dim, index),
    # torch does not differentiate by a src that is larger than the index.
    "scatter": lambda x, index, src, dim: torch.scatter(x, dim, index, src[tuple(map(slice, index.shape))]),
    "scatter_add": lambda x, index, src, dim: torch.scatter_add(x, dim, index, src[tuple(map(slice, index.shape))]),
    "scatter_prod": lambda x, index, src, dim: reduced(x, index, src, dim, "prod"),
    "scatter_extreme": lambda x, index, src, dim, largest=True: reduced(
        x, index, src, dim, "amax" if largest else "amin"
    ),
    "set_at": lambda x, value, index: assigned(x.clone(), index, value),
    "index_add": lambda x, index, source, dim, alpha=1: torch.index_add(x, dim, index, source, alpha=alpha),
    "repeat": lambda x, repeats: x.repeat(repeats),
    "dft": lambda x, inverse=False, **settings: (torch.fft.ifftn if inverse else torch.fft.fftn)(x, **settings),
    "real_dft": torch.fft.rfft,
    "half_dft": torch.fft.irfft,
    "as_strided": lambda x, size, stride, storage_offset=0: torch.as_strided(x, size, stride, storage_offset),
    "unfold": lambda x, dimension, size, step: x.unfold(dimension, size, step),
    "div_rounded": lambda x, y, rounding_mode: torch.div(x, y, rounding_mode=rounding_mode),
    "heaviside": lambda x, values: torch.heaviside(x.detach(), values.detach()),
    "polygamma": lambda x, n: torch.polygamma(n, x),
    "zeta": lambda x, y: torch.special.zeta(x.detach(), y.detach()),
    **{
        name: lambda x, name=name, **settings: tuple(getattr(torch, name)(x, **settings))
        for name in ("cummax", "cummin", "kthvalue", "median", "mode", "nanmedian", "sort", "topk")
    },
    "median_of_all": torch.median,
    "nanmedian_of_all": torch.nanmedian,
    "prod": lambda x, dim=None, keepdim=False: torch.prod(x) if dim is None else torch.prod(x, dim, keepdim),
    "norm": lambda x, p=2, dim=None, keepdim=False: torch.norm(x, p, dim, keepdim),
    "amax": lambda x, dim=(), keepdim=False: torch.amax(x, () if dim is None else dim, keepdim),
    "amin": lambda x, dim=(), keepdim=False: torch.amin(x, () if dim is None else dim, keepdim),
    "cat": lambda *tensors, dim=0: torch.cat(tensors, dim),
    # torch records it, and refuses in backward.
    "floor_divide": lambda x, y: torch.floor_divide(x.detach(), y.detach()),
    "expand": lambda x, size: x.expand(size),
    "getitem": lambda x, index: x[torch_index(index)],
    "linear": F.linear,
    "binary_cross_entropy": lambda x, target: F.binary_cross_entropy(x, target, reduction="none"),
    "ctc_loss": lambda *arguments, blank=0: true_ctc_loss(*arguments, blank),
    "elu": lambda x, alpha=1.0, scale=1.0, input_scale=1.0: (
        scale * torch.where(x > 0, x, F.celu(x * input_scale, 1.0) * alpha)
    ),
    "embedding": lambda weight, index, **settings: F.embedding(torch.as_tensor(index), weight, **settings),
    "rnn": lambda *given, nonlinearity, **settings: one_layer(
        getattr(torch, f"rnn_{nonlinearity}"), *given, **settings
    ),
    "lstm": lambda steps, h, c, *weights, **settings: one_layer(torch.lstm, steps, (h, c), *weights, **settings),
    "lstm_projected": lambda steps, h, c, *weights, **settings: one_layer(
        torch.lstm, steps, (h, c), *weights, **settings
    ),
    "gru": lambda *given, **settings: one_layer(torch.gru, *given, **settings),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardtanh": F.hardtanh,
    "prelu": lambda x, weight: torch.where(x > 0, x, x * weight),
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "silu": F.silu,
    "softplus": F.softplus,
    "layer_norm": lambda x, weight, bias, eps: standardized(x, -1, eps) * weight + bias,
    "standardize": lambda x, weight, bias, dim, eps: standardized(x, dim, eps) * weight + bias,
    "max": lambda x, dim, keepdim=False: tuple(torch.max(x, dim, keepdim)),
    "min": lambda x, dim, keepdim=False: tuple(torch.min(x, dim, keepdim)),
    "sigmoid_cross_entropy": lambda x, target: F.binary_cross_entropy_with_logits(x, target, reduction="none"),
    "scaled_dot_product_attention": lambda *given, **settings: attention(*given, **settings),
    "softmax_cross_entropy": lambda x, target: F.cross_entropy(x, target, reduction="none"),
    "squeeze": lambda x, dim=None: torch.squeeze(x) if dim is None else torch.squeeze(x, dim),
    "stack": lambda *tensors, dim=0: torch.stack(tensors, dim),
    "to": lambda x, dtype: x.to(getattr(torch, np.dtype(dtype).name)),
}


def attention(query, key, value, bias, scale, keep=None, dropout_p=0.0):
    weights = torch.softmax(query @ key.mT * scale + bias, -1)
    return (weights if keep is None else weights * torch.tensor(keep) / (1 - dropout_p)) @ value


def one_layer(layer, steps, state, weight, bias, *projection, sizes, reverse):
    """A recurrent layer of torch's over packed rows, whose product with the input matrix is the rows themselves."""
    if reverse:  # torch has it beside the other direction
        state = tuple(x.expand(2, *x.shape) for x in state) if type(state) is tuple else state.expand(2, *state.shape)
    else:
        state = tuple(x[None] for x in state) if type(state) is tuple else state[None]
    weights = [torch.eye(len(weight), dtype=weight.dtype), weight, torch.zeros_like(bias), bias, *projection]
    output, *states = layer(steps, torch.tensor(sizes), state, weights * (1 + reverse), True, 1, 0.0, False, reverse)
    return output[:, -states[0].shape[-1] :], *(x[-1] for x in states)


def standardized(x, dim, eps):
    mean = x.mean(dim, keepdim=True)
    variance = (x - mean).square().mean(dim, keepdim=True)
    return (x - mean) / (variance + eps).sqrt()


def true_ctc_loss(x, targets, input_lengths, target_lengths, blank):
    """torch's, whose gradient is the derivative and exp(x) more, which log_softmax takes away again."""
    value = F.ctc_loss(x, targets, input_lengths, target_lengths, blank, "none")
    within = torch.arange(len(x))[:, None] < input_lengths
    more = (torch.exp(x.detach()) * x).sum(2).where(within, 0.0).sum(0)
    return value - more + more.detach()


def transposed(x, index, shape):
    zeros = torch.zeros(shape, dtype=x.dtype, requires_grad=True)
    return torch.autograd.grad(zeros[torch_index(index)], zeros, x, create_graph=True)[0]


def reduced(x, index, src, dim, reduce):
    return torch.scatter_reduce(x, dim, index, src[tuple(map(slice, index.shape))], reduce)


def assigned(x, index, value):
    x[torch_index(index)] = value
    return x


def signed(vectors, other, dim):
    """Vectors that may have any phase, with the signs of other ones and their largest element real."""
    largest = vectors.gather(dim, vectors.abs().argmax(dim, keepdim=True))
    turned = vectors * largest.conj() / largest.abs()
    return turned * torch.sign((turned.detach() * torch.tensor(other)).real.sum(dim, keepdim=True))


def signed_eigen(pair, other):
    return pair[0], signed(pair[1], other[1], -2)


def signed_singular(three, other):
    u, s, vh = three
    return signed(u, other[0], -2), s, signed(vh, other[2], -1)


def torch_index(index):
    if isinstance(index, tuple):
        return tuple(torch_index(part) for part in index)
    return torch.tensor(index) if isinstance(index, np.ndarray) else index


# torch's own trigamma has ten digits in float64, its Bessel functions eight (test_special_torch.py shows it).
ROUGH = {"airy_ai": 1e-5, "digamma": 1e-9, "polygamma": 1e-9}
ROUGH |= {f"bessel_{which}": 1e-7 for which in ("j0", "j1", "y0", "y1")}


# Rules that have a derivative where torch has none.
AHEAD = {name for name in RULES if "bessel" in name} | {"airy_ai"}


def agree(name, arrays, settings):
    """pargrad and torch give the same values and gradients."""
    twin = TWINS.get(name) or getattr(torch, name, None) or getattr(torch.special, name, None)
    assert twin is not None, f"torch has no {name}: write in TWINS what it is there"
    with np.errstate(all="ignore"):
        values, gradients = run(pg, as_function(RULES[name], settings), arrays)
    expected, torch_gradients = run(torch, lambda *tensors: twin(*tensors, **settings), arrays)
    rough = ROUGH.get(name) if values[0].dtype == np.float64 else None
    assert_equal(values, expected, rough)
    if name not in AHEAD:
        assert_equal(gradients, torch_gradients, rough)


@both
@pytest.mark.parametrize(("rule", "sample"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_samples(rule, sample, dtype):
    agree(rule.name, draw(rule, sample, dtype), sample.settings)


SHAPES = [
    ("add", [(3, 1, 2), (4, 1)], {}),
    ("sub", [(1,), (2, 3)], {}),
    ("mul", [(1, 1, 1), ()], {}),
    ("div", [(2, 1), (1, 3)], {}),
    ("matmul", [(1, 3), (3, 1)], {}),
    ("matmul", [(2, 3), (4, 3, 5)], {}),
    ("matmul", [(4, 1, 2, 3), (5, 3, 2)], {}),
    ("matmul", [(5, 2, 3), (3,)], {}),
    ("matmul", [(0, 3), (3, 2)], {}),
    ("matmul", [(2, 0), (0, 2)], {}),
    ("linear", [(2, 0, 3), (4, 3), (4,)], {}),
    ("linear", [(2, 2, 2, 3), (1, 3), (1,)], {}),
    ("sum", [(2, 3, 4)], {"dim": (-1, 0)}),
    ("sum", [(2, 3)], {"dim": ()}),
    ("sum", [()], {"dim": 0}),
    ("sum", [(2, 0)], {"dim": 1, "keepdim": True}),
    ("mean", [(2, 3)], {"dim": ()}),
    ("mean", [()], {"dim": -1}),
    ("mean", [(0, 3)], {"dim": 0}),
    ("amax", [(2, 3, 2)], {"dim": (0, 2), "keepdim": True}),
    ("amin", [()], {"dim": 0}),
    ("max", [()], {"dim": 0}),
    ("min", [()], {"dim": -1, "keepdim": True}),
    ("max", [(2, 3, 2)], {"dim": -1, "keepdim": True}),
    ("argmax", [(2, 3, 2)], {"dim": -2}),
    ("argmax", [(2, 3)], {"keepdim": True}),
    ("argmin", [()], {}),
    ("any", [(0, 3)], {"dim": 0}),
    ("all", [()], {"dim": 0}),
    ("logsumexp", [(2, 3, 4)], {"dim": (0, 2)}),
    ("logsumexp", [()], {"dim": 0}),
    ("logsumexp", [(0, 2)], {"dim": 0}),
    ("softmax", [()], {"dim": 0}),
    ("softmax", [(2, 3, 4)], {"dim": 0}),
    ("log_softmax", [()], {"dim": -1}),
    ("log_softmax", [(2, 1)], {"dim": 1}),
    ("reshape", [(0, 3)], {"shape": (3, 0)}),
    ("reshape", [(1,)], {"shape": ()}),
    ("permute", [()], {"dims": ()}),
    ("permute", [(2, 3, 4)], {"dims": (1, -3, -1)}),
    ("cat", [(2, 3), (2, 0), (2, 1)], {"dim": 1}),
    ("stack", [(), ()], {"dim": -1}),
    ("stack", [(2, 3), (2, 3)], {"dim": -2}),
    ("squeeze", [(1, 2, 1)], {"dim": (0, 1)}),
    ("squeeze", [()], {}),
    ("squeeze", [()], {"dim": 0}),
    ("unsqueeze", [(2,)], {"dim": -2}),
    ("expand", [(1, 3)], {"size": (2, -1, -1)}),
    ("expand", [(2, 1)], {"size": (2, 0)}),
    ("expand", [()], {"size": ()}),
    ("getitem", [(3, 4, 2)], {"index": (slice(None), np.array([1, 1]))}),
    ("getitem", [(3, 4, 2)], {"index": (np.array([0, 2]), slice(1, 3), np.array([0, 1]))}),
    ("getitem", [(3, 4, 2)], {"index": (np.array([0, 2]), np.array([[1], [3]]))}),
    ("getitem", [(3, 4)], {"index": np.array([[True, False] * 2] * 3)}),
    ("getitem", [(3, 4)], {"index": (np.array([True, False, True]), 1)}),
    ("getitem", [(3, 4)], {"index": (1, 2)}),
    ("getitem", [(3, 4)], {"index": (Ellipsis, None, 0)}),
    ("getitem", [(3,)], {"index": -1}),
    ("getitem", [()], {"index": None}),
    ("getitem", [()], {"index": ()}),
    ("getitem", [(3,)], {"index": True}),
    ("clamp", [(2, 3)], {"min": 0.5, "max": -0.5}),
    ("clamp", [()], {"min": 0.5}),
    ("to", [(2,)], {"dtype": np.int64}),
]


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@both
@pytest.mark.parametrize(("name", "shapes", "settings"), SHAPES, ids=str)
def test_other_shapes(name, shapes, settings, dtype):
    generator = np.random.default_rng(1)
    agree(name, [np.asarray(generator.uniform(0.5, 2, shape), dtype) for shape in shapes], settings)


NAN, INF = float("nan"), float("inf")
TIES = [[1.0, 1.0, -2.0, -2.0], [3.0, 3.0, 3.0, -0.0], [0.0, -0.0, 0.0, -1.0]]
PAIRS = [
    [0.0, -0.0, 1.0, -1.0, 2.0, INF, -INF, NAN, NAN, 1.0, 0.0, -0.0, INF],
    [0.0, 0.0, 1.0, -1.0, 1.0, INF, INF, NAN, 1.0, NAN, -1.0, -0.0, 0.0],
]
LINE = [-INF, -2.5, -1.0, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, 2.5, INF, NAN]
BASES = [0.0, 0.0, 0.0, 0.0, -0.0, 1.0, 2.0, -2.0, -2.0, 4.0, 1e-20, INF, INF]
EXPONENTS = [0.0, 1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 0.0, 2.0, 0.5, 2.0, 0.0, -1.0]
MASK = np.array([True, False] * 6)

KINKS = [
    *((name, PAIRS, {}) for name in ("maximum", "minimum", "add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge")),
    ("div", [[1.0, 0.0, -1.0, 0.0, INF], [0.0, 0.0, 0.0, 2.0, INF]], {}),
    ("div", [[1e-30, 1e25, 1e-25], [1e-30, 1e25, 1e-25]], {}),
    ("abs", [LINE[:-1]], {}),  # torch gives nan the derivative 0, which hides it
    *((name, [LINE], {}) for name in ("relu", "sqrt", "log", "exp", "tanh", "sigmoid", "square", "neg")),
    ("clamp", [LINE], {"min": -1.0, "max": 2.5}),
    ("clamp", [LINE], {"min": 0}),
    ("clamp", [LINE], {"max": 0.5}),
    *((name, [TIES], {}) for name in ("amax", "amin")),
    *((name, [TIES], {"dim": dim}) for name in ("amax", "amin") for dim in (0, 1, (0, 1))),
    *((name, [TIES], {"dim": 1}) for name in ("max", "min", "argmax", "argmin")),
    ("max", [[[1.0, NAN, 2.0]]], {"dim": 1}),
    ("argmin", [[1.0, NAN, 2.0]], {"dim": 0}),
    ("pow", [BASES, EXPONENTS], {}),
    ("remainder", [[5.0, -5.0, 5.0, -5.0, 0.0], [3.0, 3.0, -3.0, -3.0, 2.0]], {}),
    ("floor_divide", [[5.0, -5.0, 5.0, -5.0, 0.0], [3.0, 3.0, -3.0, -3.0, 2.0]], {}),
    ("where", [MASK, LINE, LINE[::-1]], {}),
    ("sum", [[1.0, INF, NAN]], {}),
    ("logsumexp", [[[1.0, -INF], [INF, 0.0]]], {"dim": 1}),
    ("softmax", [[[1.0, -INF], [900.0, -900.0]]], {"dim": 1}),
    ("log_softmax", [[[1.0, 2.0], [900.0, -900.0]]], {"dim": 1}),
    ("softmax_cross_entropy", [[[900.0, -900.0], [0.0, 0.0]], np.array([1, 1])], {}),
    ("sigmoid_cross_entropy", [[900.0, -900.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.5]], {}),
]


@both
@pytest.mark.parametrize(("name", "arguments", "settings"), KINKS, ids=[f"{row[0]}-{i}" for i, row in enumerate(KINKS)])
def test_kinks_ties_and_what_is_not_finite(name, arguments, settings, dtype):
    agree(name, [x if isinstance(x, np.ndarray) else np.array(x, dtype) for x in arguments], settings)


# A literal exponent or base is another path than an array of one number.
@both
@pytest.mark.parametrize("number", [0, 0.0, 1, 2, 3, 0.5, -1, -0.5])
@pytest.mark.parametrize("power", [lambda x, n: x**n, lambda x, n: n**x], ids=["exponent", "base"])
def test_powers_with_a_literal(power, number, dtype):
    x = np.array([-2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 30.0, INF, NAN], dtype)
    check_both(lambda library, x: power(x, number), [x])


def test_a_gradient_that_is_not_taken_does_not_leak_its_nan():
    def safe(library):
        return lambda x: library.where(x > 0, library.sqrt(library.where(x > 0, x, 1.0)), 0.0)

    x = np.array([-1.0, 0.0, 4.0])
    (value,), (gradient,) = run(pg, safe(pg), [x])
    (expected,), (torch_gradient,) = run(torch, safe(torch), [x])
    assert_equal([value, gradient], [expected, torch_gradient])
    assert np.isfinite(gradient).all()


INTEGERS = [
    ("add", [[1, 2], [3, 4]], {}),
    ("div", [[1, 2], [3, 4]], {}),
    ("floor_divide", [[7, -7, 7, -7], [2, 2, -2, -2]], {}),
    ("remainder", [[7, -7, 7, -7], [2, 2, -2, -2]], {}),
    ("pow", [[2, 3], [3, 2]], {}),
    ("matmul", [[[1, 2]], [[3], [4]]], {}),
    ("sum", [[1, 2]], {}),
    ("amax", [[1, 2]], {}),
    ("max", [[[1, 2], [2, 2]]], {"dim": 1}),
    ("argmax", [[1, 2]], {}),
    ("clamp", [[1, 2, 3]], {"min": 2}),
    ("exp", [[1, 2]], {}),
    ("sqrt", [[1, 4]], {}),
    ("sigmoid", [[1, -4]], {}),
    ("relu", [[1, -4]], {}),
    ("abs", [[1, -4]], {}),
    ("square", [[1, -4]], {}),
    ("neg", [[1, -4]], {}),
    ("logsumexp", [[1, 4]], {"dim": 0}),
    ("maximum", [[1, 4], [2, 3]], {}),
    ("cat", [[1, 4], [2, 3]], {}),
    ("clone", [[1, 4]], {}),
    ("eq", [[1, 4], [1, 3]], {}),
]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8], ids=["int64", "int32", "uint8"])
@pytest.mark.parametrize(("name", "arguments", "settings"), INTEGERS, ids=[row[0] for row in INTEGERS])
def test_integers(name, arguments, settings, dtype):
    agree(name, [np.array(x).astype(dtype) for x in arguments], settings)
