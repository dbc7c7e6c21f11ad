"""Proof: random programs of operators, views and changes in place have torch's values, first and second derivatives."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

import pargrad as pg
from tests.checks import array_of
from tests.proofs import hold, proof
from tests.test_inplace_programs_torch import SHAPES, STEPS, Run, assert_agrees_with_differences, matrix, pick

LARGEST = 40  # elements: steps that make more of them are left out
UNSEEN = {"no_grad", "detached", "detach"}  # steps that derivatives do not see, and differences do
FAR = 1e4  # from where on a digit or two of the derivatives may be lost


def small(x):
    if x.numel() > LARGEST:
        raise ValueError(f"a tensor of {x.numel()} elements would become too large")
    return x


def axis(x, number):
    return number % max(x.ndim, 1)


def same_shape(x, y):
    return y.sum() * 0.1 if x.shape != y.shape else y


# A step: (library, x, y, number) to a new tensor. Functions are tamed: after thirty of them there are numbers still.
PLAIN = {
    name: lambda lib, x, y, n, name=name: getattr(lib, name)(x)
    for name in ("arctan", "asinh", "cos", "erf", "erfc", "sigmoid", "sinc")
}
FUNCTIONAL = {
    name: lambda lib, x, y, n, name=name: getattr(lib.nn.functional, name)(x)
    for name in ("softplus", "mish", "silu", "gelu", "logsigmoid", "elu", "relu", "softsign", "hardtanh", "leaky_relu")
}
ELEMENTWISE = {
    "acos": lambda lib, x, y, n: lib.acos(0.9 * lib.sin(x)),
    "atan2": lambda lib, x, y, n: lib.atan2(x, 2 + y * y),
    "abs": lambda lib, x, y, n: lib.abs(x + 0.01),
    "addcmul": lambda lib, x, y, n: lib.addcmul(x, x, lib.sin(y), value=0.5),
    "clamp": lambda lib, x, y, n: x.clamp(-0.9, 0.8),
    "cosh": lambda lib, x, y, n: lib.cosh(lib.sin(x)),
    "exp(-x²)": lambda lib, x, y, n: lib.exp(-x * x),
    "expm1": lambda lib, x, y, n: lib.expm1(lib.sin(x)),
    "hypot": lambda lib, x, y, n: lib.hypot(x, 2 + y * y),
    "lerp": lambda lib, x, y, n: lib.lerp(x, x * x * 0.1, 0.3),
    "lgamma": lambda lib, x, y, n: lib.lgamma(2 + lib.sin(x)),
    "log1p": lambda lib, x, y, n: lib.log1p(x * x),
    "logaddexp": lambda lib, x, y, n: lib.logaddexp(x, y),
    "maximum": lambda lib, x, y, n: lib.maximum(x, y),
    "minimum": lambda lib, x, y, n: lib.minimum(x, 0.3 * y),
    "pow": lambda lib, x, y, n: (1 + x * x) ** (0.3 * lib.sin(y)),
    "power": lambda lib, x, y, n: lib.sin(x) ** (n % 4),
    "reciprocal": lambda lib, x, y, n: lib.reciprocal(2 + x * x),
    "rsqrt": lambda lib, x, y, n: lib.rsqrt(1 + x * x),
    "sqrt": lambda lib, x, y, n: lib.sqrt(1 + x * x),
    "square": lambda lib, x, y, n: lib.square(lib.sin(x)),
    "sub": lambda lib, x, y, n: x - y,
    "tan": lambda lib, x, y, n: lib.tan(lib.sin(x)),
    "where": lambda lib, x, y, n: lib.where(x > 0.1, x, y),
    "xlogy": lambda lib, x, y, n: lib.xlogy(x, 2 + y * y),
}
REDUCTIONS = {
    "mean": lambda lib, x, y, n: x.mean(axis(x, n), keepdim=n % 3 == 0),
    "amax": lambda lib, x, y, n: lib.amax(x, axis(x, n)),
    "cummax": lambda lib, x, y, n: lib.cummax(x, axis(x, n))[0],
    "cumprod": lambda lib, x, y, n: lib.cumprod(lib.sin(x), axis(x, n)),
    "cumsum": lambda lib, x, y, n: lib.cumsum(0.5 * x, axis(x, n)),
    "diff": lambda lib, x, y, n: lib.diff(x, dim=axis(x, n)),
    "log_softmax": lambda lib, x, y, n: lib.log_softmax(x, axis(x, n)),
    "logcumsumexp": lambda lib, x, y, n: lib.logcumsumexp(x, axis(x, n)),
    "logsumexp": lambda lib, x, y, n: lib.logsumexp(x, axis(x, n), keepdim=n % 2 == 0),
    "norm": lambda lib, x, y, n: lib.linalg.vector_norm(2 + x, dim=axis(x, n)),
    "prod": lambda lib, x, y, n: lib.prod(lib.sin(x), axis(x, n)),
    "softmax": lambda lib, x, y, n: lib.softmax(x, axis(x, n)),
    "sort": lambda lib, x, y, n: lib.sort(x, dim=axis(x, n), stable=True)[0],
    "std": lambda lib, x, y, n: lib.sqrt(1 + lib.var(x, axis(x, n), correction=0)),
    "var": lambda lib, x, y, n: lib.var(x, axis(x, n), correction=0),
}
SHAPED = {
    "cat": lambda lib, x, y, n: lib.cat([small(x), x * x], axis(x, n)),
    "chunk": lambda lib, x, y, n: lib.chunk(x, 2, axis(x, n))[0] * 1,  # torch lets no such view be changed
    "diag_embed": lambda lib, x, y, n: lib.diag_embed(small(x)),
    "einsum": lambda lib, x, y, n: lib.einsum("...i,...i->...", x, same_shape(x, y)),
    "flip": lambda lib, x, y, n: x.flip(axis(x, n)),
    "gather": lambda lib, x, y, n: lib.take_along_dim(
        x, lib.tensor([pick(x, n)] * 2).reshape(2, *[1] * (x.ndim - 1)), 0
    ),
    "index_select": lambda lib, x, y, n: lib.index_select(x, 0, lib.tensor([pick(x, n), 0])),
    "matmul": lambda lib, x, y, n: lib.tanh(matrix(small(x)) @ matrix(x).transpose(-1, -2)),
    "permute": lambda lib, x, y, n: x.permute(tuple(range(x.ndim)[::-1])),  # also of a number
    # Whether these give a view depends on how the memory lies, which no library promises of what it computes.
    "reshape": lambda lib, x, y, n: x.reshape(-1) * 1,
    "flatten": lambda lib, x, y, n: x.flatten() * 1,
    "view": lambda lib, x, y, n: (x * 1).reshape(-1).view(-1, 1),
    "outer": lambda lib, x, y, n: lib.outer(small(x).reshape(-1)[:4], y.reshape(-1)[:3]),
    "pad": lambda lib, x, y, n: lib.nn.functional.pad(small(x), (1, n % 2), value=0.5),
    "repeat": lambda lib, x, y, n: small(x).repeat(2, *[1] * (x.ndim - 1)),
    "repeat_interleave": lambda lib, x, y, n: lib.repeat_interleave(matrix(small(x)), 2, dim=0),
    "roll": lambda lib, x, y, n: lib.roll(x, 1, axis(x, n)),
    "scatter_add": lambda lib, x, y, n: lib.index_add(x, 0, lib.tensor([0, pick(x, n)]), lib.stack([x[0], x[-1]])),
    "stack": lambda lib, x, y, n: lib.stack([small(x), lib.cos(x)], n % (x.dim() + 1)),
    "tril": lambda lib, x, y, n: lib.tril(matrix(x), n % 3 - 1),
    "unfold": lambda lib, x, y, n: small(x).unfold(axis(x, n), 2, 1),
}


class Step(NamedTuple):
    name: str
    x: int
    y: int
    number: int


class Program(Run):
    steps = STEPS | PLAIN | FUNCTIONAL | ELEMENTWISE | REDUCTIONS | SHAPED


NUMBERS = st.integers(0, 11)
ANY_STEP = st.builds(Step, st.sampled_from(tuple(Program.steps)), NUMBERS, NUMBERS, NUMBERS)
PROGRAMS = st.tuples(st.integers(0, 99), st.lists(ANY_STEP, min_size=5, max_size=30))


def check(case):
    seed, steps = case
    generator = np.random.default_rng(seed)
    arrays = [np.asarray(generator.uniform(-1, 1, shape)) for shape in SHAPES]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = Program(pg, arrays), Program(torch, arrays)
        for step in steps:
            mine, other = ours.step(*step), theirs.step(*step)
            if (mine is None) != (other is None):
                # Only torch writes to memory that an expanded view repeats; and it keeps views from being changed that
                # a function of several outputs gave, or that no_grad made.
                assert mine is None or "read-only memory (expanded" in mine, mine
                assert other is None or "inplace" in other or "clone()" in other, other
                assume(False)
        for mine, other in zip(ours.pool, theirs.pool, strict=True):
            expected = array_of(other)
            assume(np.isfinite(expected).all() and (np.abs(expected) < FAR).all())
            np.testing.assert_allclose(mine.array, expected, 1e-9, 1e-9, strict=True)
            assert (mine.requires_grad, mine.is_leaf) == (other.requires_grad, other.is_leaf)
        mine, other = ours.gradients(), theirs.gradients()
    if isinstance(other, str) and "modified by an inplace operation" in other and not isinstance(mine, str):
        # torch saves more than it needs, and so refuses more: differences must tell.
        if not UNSEEN & {step.name for step in steps} and ours.total().item() < FAR:
            assert_agrees_with_differences(mine[: len(arrays)], arrays, steps, Program)
        return
    if isinstance(mine, str) or isinstance(other, str):
        assert isinstance(mine, str) and isinstance(other, str), f"pargrad: {mine!s:.200}\ntorch: {other!s:.200}"
        return
    for one, expected in zip(mine, other, strict=True):
        size = np.abs(expected).max(initial=1.0)
        assume(size < FAR**2)
        np.testing.assert_allclose(one, expected, 1e-8, 1e-10 * size)


@proof(10_000)
def programs(examples, seed):
    """Programs of 5 to 30 operators, views and changes in place: torch's values, first and second derivatives."""
    return hold(check, PROGRAMS, examples, seed)
