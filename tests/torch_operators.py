"""Which of torch's operators pargrad has: a table made by calling both on the sample inputs of torch's own tests.

    python -m tests.torch_operators        prints the table, as markdown

An OpInfo of torch names an operator and makes arguments for it, hard ones among them: no elements, no dimensions,
other layouts in memory, broadcasting, numbers. pargrad's function of the same name is called on the same arguments, and
has to give the same structure, shapes, dtypes, values and gradients. What does not is in one of the tables below with
the reason, and `problems` says where they are out of date.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch.testing._internal import common_utils
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo import core

import pargrad
import pargrad.autograd
from tests.checks import weights

# Importing torch's own tests forbids `torch.backends.cudnn.deterministic = True` to all that come after.
torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = True

FIRST, MORE = 24, 12  # of an operator's samples the first ones, and a random choice of the rest
DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128, torch.int64, torch.bool)
TOLERANCE = {np.dtype(np.float16): 1e-2, np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-9}
# Not counted as operators of their own: another's with its arguments turned round, or copied, or a cast.
SAME = """
    __radd__ __rmul__ __rsub__ __rdiv__ __rmod__ __rpow__ __rmatmul__ true_divide trapz double float half cdouble cfloat
    alias_copy as_strided_copy diagonal_copy expand_copy narrow_copy permute_copy split_with_sizes_copy squeeze_copy
    t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy view_copy unsafe_chunk unsafe_split native_layer_norm
    native_group_norm native_batch_norm constant_pad_nd grid_sampler_2d grid_sampler_3d
""".split()  # noqa: SIM905
DROPPED = ("out", "device", "layout", "memory_format", "pin_memory", "non_blocking")  # what has no meaning here


# ----- what is otherwise than in torch -----


class Difference(NamedTuple):
    """Why some samples of an operator, in these dtypes, do not agree."""

    reason: str
    when: Callable[[Any], bool] = lambda sample: True
    dtypes: tuple[str, ...] = tuple(str(x).removeprefix("torch.") for x in DTYPES)


def argument(i: int, *values: Any) -> Callable[[Any], bool]:
    """Of the samples with one of these values as the i-th argument after the input."""
    return lambda sample: len(sample.args) > i and sample.args[i] in values


def setting(name: str, *values: Any) -> Callable[[Any], bool]:
    """Of the samples with one of these values under this name."""
    return lambda sample: sample.kwargs.get(name) in values


WHOLE = ("int64", "bool")
COMPLEX = ("complex64", "complex128")
FLOATS = ("float32", "float64")
TIES = "which of several equal elements is found is torch's chance"
PHASES = "torch's imaginary parts are further from 0 than pi"
UNREAD = "torch gives the triangle that is not read a gradient"


def not_hermitian(sample: Any) -> bool:
    x = sample.input.detach()
    return x.numel() > 0 and not torch.equal(x, x.mH)


MISSING: dict[str, str] = {
    "torch-internal (underscore)": """
        _batch_norm_with_update _chunk_cat _native_batch_norm_legit _segment_reduce/lengths _segment_reduce/offsets
        _softmax_backward_data _unsafe_masked_index _unsafe_masked_index_put_accumulate _upsample_bilinear2d_aa
        torch._scaled_mm torch._scaled_mm_v2 torch.ops.aten._efficient_attention_forward
        torch.ops.aten._flash_attention_forward torch.ops.aten._safe_softmax.default
    """,
    "torch-internal: nn.functional has it": """
        constant_pad_nd grid_sampler_2d grid_sampler_3d max_pool2d_with_indices_backward native_batch_norm
        native_dropout_backward native_group_norm native_layer_norm
    """,
    "torch-internal: a hash of the bits, a slice as x[a:b]": "hash_tensor slice",
    "numpy has no such dtype": "bfloat16 chalf",
    "sparse layouts": "sparse.mm/reduce sparse.sampled_addmm to_sparse",
    "arrays are made in order": "empty_permuted empty_strided new_empty_strided",
    "not there yet: symmetric indefinite factors": "linalg.ldl_factor linalg.ldl_factor_ex linalg.ldl_solve",
}
DIFFERENT: dict[str, tuple[Difference, ...]] = {
    **{
        name: (Difference("a factor of integers that is no integer is refused", setting("beta", 0.2, 0.6), ("int64",)),)
        for name in ("addbmm", "addmv", "baddbmm")
    },
    "addr": (Difference("factors make integers of booleans", setting("beta", 3), ("bool",)),),
    "argsort": (Difference(TIES, lambda sample: sample.input.numel() > 1000, ("bool",)),),
    "sort": (Difference(TIES, lambda sample: sample.input.numel() > 1000, ("bool",)),),
    "mode": (Difference(TIES, lambda sample: sample.input.numel() > 1000, WHOLE),),
    "topk": (Difference(TIES, lambda sample: sample.input.numel() > 1, ("int64",)),),
    "kthvalue": (Difference(TIES, lambda sample: sample.input.numel() > 1, ("int64",)),),
    "as_strided/partial_views": (
        Difference(
            "counted from the tensor's own first element", lambda sample: sample.kwargs.get("storage_offset") in (0, 10)
        ),
    ),
    "as_strided_scatter": (Difference("torch gives what is written over a gradient", dtypes=FLOATS + COMPLEX),),
    **{
        name: (Difference("torch's gradient takes weights of the imaginary part of a real diagonal", dtypes=COMPLEX),)
        for name in ("cholesky", "linalg.cholesky", "linalg.cholesky_ex")
    },
    "linalg.pinv/hermitian": (Difference("the gradient goes to the triangle that is read", not_hermitian),),
    **{name: (Difference(UNREAD, dtypes=FLOATS + COMPLEX),) for name in ("cholesky_inverse", "cholesky_solve")},
    "istft": (Difference("torch gives the window no gradient", lambda sample: "window" in sample.kwargs, COMPLEX),),
    "logaddexp": (Difference(PHASES, dtypes=COMPLEX),),
    "logcumsumexp": (Difference(PHASES, dtypes=COMPLEX),),
    **{
        f"nn.functional.avg_pool{n}d": (Difference("averages of integers are floats", dtypes=("int64",)),)
        for n in (1, 2, 3)
    },
    "nn.functional.batch_norm": (
        Difference("channels are dim 1, which has to be there", lambda sample: sample.input.ndim < 2),
    ),
    "nn.functional.ctc_loss": (
        Difference("torch's gradient is that of the scores before log_softmax", lambda s: s.input.requires_grad),
    ),
    "nn.functional.gaussian_nll_loss": (
        Difference("a target of another shape is refused", lambda sample: sample.input.shape != sample.args[0].shape),
    ),
    "nn.functional.hardsigmoid": (Difference("torch's 1/6 has float32's digits", dtypes=("float64",)),),
    "nn.functional.hardtanh": (Difference("bounds that are floats make integers floats", dtypes=("int64",)),),
    "nn.functional.local_response_norm": (
        Difference("means of integers are refused", lambda sample: sample.input.numel() > 0, ("int64",)),
    ),
    "normal/in_place": (Difference("torch adds the mean to the imaginary part, too", argument(0, -2), COMPLEX),),
    "renorm": (Difference("torch's gradient is nan", argument(0, float("inf")), ("complex64",)),),
    **{
        f"special.{name}": (Difference("torch's float64 has errors of 1e-8", dtypes=("float64",)),)
        for name in ("airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1")
    },
    "square": (Difference("booleans stay booleans", dtypes=("bool",)),),
}
# Where operators lose digits in float32, in torch and here.
ROUGH: dict[str, float] = {
    "cov": 2e-4,  # of differences next to 0
    "linalg.householder_product": 2e-4,
    "orgqr": 2e-4,
    "logcumsumexp": 1e-2,  # both are that far from what they give for float64
    "pca_lowrank": 2e-3,
    "svd_lowrank": 2e-3,
}
# Of what is not initialized, shapes and dtypes are compared alone.
NOTHING_IN_THEM = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}


# ----- torch's arguments as pargrad's -----


class NotInNumpy(Exception):
    """An argument that has no counterpart: a dtype that numpy has not, a sparse tensor."""


class Arguments:
    """Arguments of torch's as pargrad's, and the tensors among them, in both."""

    def __init__(self) -> None:
        self.tensors: dict[int, tuple[torch.Tensor, pargrad.Tensor]] = {}

    def converted(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self.tensors.setdefault(id(x), (x, tensor_of(x)))[1]
        if isinstance(x, torch.dtype):
            return dtype_of(x)
        if isinstance(x, dict):
            return {key: self.converted(value) for key, value in x.items() if key not in DROPPED}
        if isinstance(x, tuple | list):
            return (list if type(x) is list else tuple)(map(self.converted, x))
        return counterpart(x) if callable(x) else x


def tensor_of(x: torch.Tensor) -> pargrad.Tensor:
    if x.layout is not torch.strided or x.is_quantized:
        raise NotInNumpy(x.layout)
    dtype_of(x.dtype)
    return pargrad.Tensor(x.numpy(force=True).copy(order="K"), requires_grad=x.requires_grad)


def dtype_of(dtype: torch.dtype) -> np.dtype:
    try:
        return np.dtype(str(dtype).removeprefix("torch."))
    except TypeError:
        raise NotInNumpy(dtype) from None


def counterpart(x: Any) -> Any:
    """pargrad's function or module for one of torch.nn."""
    named = getattr(x, "__name__", None)
    return getattr(pargrad.nn.functional, named) if named else getattr(pargrad.nn, type(x).__name__)()


# ----- the two of each operator -----


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """An operator of torch's, in one of the variants that its samples are kept in, by one of its names."""

    name: str
    info: Any
    function: Callable  # torch's

    @property
    def title(self) -> str:
        variant = self.info.variant_test_name
        return f"{self.name}/{variant}" if variant else self.name

    @property
    def is_alias(self) -> bool:
        return self.name != self.info.name

    @property
    def dtypes(self) -> list[torch.dtype]:
        supported = self.info.supported_dtypes("cpu")
        dtypes = [x for x in DTYPES if x in supported]
        return dtypes[:1] if self.is_alias else dtypes

    def differentiable(self, dtype: torch.dtype) -> bool:
        return self.info.supports_autograd and dtype in self.info.supported_backward_dtypes("cpu")

    def samples(self, dtype: torch.dtype) -> list[tuple[int, Any]]:
        """The samples that are tried, with their numbers among all."""
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # what torch's samples draw from
        # What gives the samples looks for a unittest in the stack, which takes longer than the samples.
        with patch.object(common_utils, "extract_test_fn", no_test), patch.object(core, "extract_test_fn", no_test):
            every = list(enumerate(self.info.sample_inputs("cpu", dtype, requires_grad=self.differentiable(dtype))))
        first, rest = every[:FIRST], every[FIRST:]
        return first[:4] if self.is_alias else first + random.Random(0).sample(rest, min(MORE, len(rest)))

    @property
    def twin(self) -> Callable | None:
        """pargrad's. What the OpInfo wraps in a lambda is that, with pargrad in torch's place."""
        ours = found(self.name)
        if ours is None or self.is_alias or getattr(self.function, "__name__", "") != "<lambda>":
            return ours
        names = {**self.function.__globals__, "torch": pargrad, "wrapper_set_seed": seeded}
        return types.FunctionType(self.function.__code__, names, closure=self.function.__closure__)


def no_test() -> None:
    """The unittest that a sample is for."""


def found(name: str) -> Callable | None:
    """pargrad's function of this dotted name, or else its tensors' method."""
    name = name.removeprefix("torch.")
    if isinstance(getattr(pargrad, name, None), pargrad.dtypes.Absent):  # a name that says what to write instead
        return None
    place: Any = pargrad
    for part in name.split("."):
        place = getattr(place, part, None)
    methods = (getattr(pargrad.Tensor, each, None) for each in (name, f"{name}_"))
    return place if callable(place) else next((method for method in methods if method is not None), None)


def seeded(function: Callable, *args: Any, **named: Any) -> Any:
    """What the OpInfos of random operators call them through, so that a call can be repeated."""
    pargrad.manual_seed(42)
    return function(*args, **named)


def operators() -> Iterator[Operator]:
    for info in op_db:
        if not info.name.startswith("jiterator"):  # CUDA code, compiled at the call
            yield Operator(info.name, info, info.op)
    for info in {info.name: info for info in reversed(op_db)}.values():
        yield from (Operator(alias.name, info, alias.op) for alias in info.aliases)


OPERATORS = sorted(operators(), key=lambda operator: operator.title)


# ----- calling both -----


def leaves_of(x: Any) -> Iterator[Any]:
    if isinstance(x, tuple | list):
        for part in x:
            yield from leaves_of(part)
    else:
        yield x


def array_of(x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return x.numpy(force=True)
    return x.array if isinstance(x, pargrad.Tensor) else x


def compare(what: str, got: Any, expected: Any, rough: float) -> None:
    """Refuses other shapes, dtypes and, to rounding in the rougher of two dtypes, values."""
    assert np.shape(got) == np.shape(expected), f"{what}: shape {np.shape(got)}, torch {np.shape(expected)}"
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, torch {expected.dtype}"
    with np.errstate(all="ignore"):
        if got.dtype.kind in "fc":
            size = np.clip(np.abs(expected[np.isfinite(expected)]).max(initial=0), 1, 1e3)
            tolerance = max(rough, TOLERANCE[np.finfo(got.dtype).dtype])
            close = np.abs(got - expected) <= tolerance * (np.abs(expected) + size)
            close |= (got == expected) | (np.isnan(got) & np.isnan(expected))
        else:
            close = got == expected
    assert close.all(), f"{what}: {got[~close][:4]}, torch {expected[~close][:4]}"


def attempt(operator: Operator, sample: Any, dtype: torch.dtype) -> int:
    """Calls both, compares, and says how many gradients were compared."""
    arguments = Arguments()
    given, named = arguments.converted([sample.input, *sample.args]), arguments.converted(sample.kwargs)
    process = sample.output_process_fn_grad or (lambda x: x)
    torch.manual_seed(42)
    expected = list(leaves_of(process(operator.function(sample.input, *sample.args, **sample.kwargs))))
    got = list(leaves_of(process(seeded(operator.twin, *given, **named))))  # type: ignore[arg-type]
    assert len(got) == len(expected), f"{len(got)} values, torch gives {len(expected)}"
    rough = ROUGH.get(operator.title, 0) if dtype in (torch.float32, torch.complex64) else 0
    if dtype.is_floating_point or dtype.is_complex:  # then a float32 among others is no better than that
        rough = max(rough, TOLERANCE[np.finfo(dtype_of(dtype)).dtype])
    for i, (one, other) in enumerate(zip(got, expected)):
        kinds = type(one), type(other)
        assert isinstance(one, pargrad.Tensor) == isinstance(other, torch.Tensor), f"value {i}: {kinds}"
        if operator.name in NOTHING_IN_THEM:
            one, other = (np.zeros(x.shape, array_of(x).dtype) for x in (one, other))
        compare(f"value {i}", array_of(one), array_of(other), rough)
    leaves = [pair for pair in arguments.tensors.values() if pair[0].requires_grad]
    roots = [pair for pair in zip(expected, got) if getattr(pair[0], "requires_grad", False)]
    if not roots or not leaves:
        return 0
    for i, gradients in enumerate(zip(*gradients_of(roots, leaves))):
        one, other = (np.zeros(leaves[i][1].shape, leaves[i][1].dtype) if g is None else array_of(g) for g in gradients)
        compare(f"gradient {i}", one, other, rough)
    return len(leaves)


def gradients_of(roots: list, leaves: list) -> tuple[Any, Any]:
    """The gradients of all leaves in pargrad and in torch, None where none arrives."""
    seeds = [weights(tuple(x.shape), array_of(x).dtype) for x, _ in roots]
    theirs = torch.autograd.grad(
        [x for x, _ in roots], [x for x, _ in leaves], [*map(torch.tensor, seeds)], None, False, allow_unused=True
    )
    reached = [(x, pargrad.Tensor(seed)) for (_, x), seed in zip(roots, seeds) if x.requires_grad]
    if not reached:
        return (None,) * len(leaves), theirs
    ours = pargrad.autograd.grad(
        [x for x, _ in reached], [x for _, x in leaves], [g for _, g in reached], allow_unused=True
    )
    return ours, theirs


class Outcome(NamedTuple):
    tried: int
    gradients: int
    failures: dict[int, str]
    expected: dict[Difference, list[int]]  # the samples that each entry of the table is about


@functools.cache
def outcome(operator: Operator, dtype: torch.dtype) -> Outcome:
    failures, gradients, tried = {}, 0, 0
    known = [x for x in DIFFERENT.get(operator.title, ()) if str(dtype).removeprefix("torch.") in x.dtypes]
    expected: dict[Difference, list[int]] = {x: [] for x in known}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for number, sample in operator.samples(dtype):
            try:
                gradients += attempt(operator, sample, dtype)
            except NotInNumpy:
                continue
            except Exception as error:  # whatever goes wrong is what is asked for
                failures[number] = f"{type(error).__name__}: {error}"
            tried += 1
            for each in known:
                if each.when(sample):
                    expected[each].append(number)
    return Outcome(tried, gradients, failures, expected)


def problems(operator: Operator, dtype: torch.dtype) -> list[str]:
    """Where an operator does otherwise than the tables say."""
    found_out = outcome(operator, dtype)
    told = {number for numbers in found_out.expected.values() for number in numbers}
    new = [f"sample {number}: {text}" for number, text in found_out.failures.items() if number not in told]
    old = [
        f"out of date, it agrees: {each.reason}"
        for each, numbers in found_out.expected.items()
        if not any(number in found_out.failures for number in numbers)
    ]
    return new + old


# ----- the table -----


def missing(operator: Operator) -> str | None:
    """Why pargrad has not got an operator."""
    return next((reason for reason, names in MISSING.items() if operator.title in names.split()), None)


def counted() -> list[str]:
    """The differentiable operators that agree in value and gradient in all their variants: aliases are left out."""
    good: dict[str, bool] = {}
    for operator in OPERATORS:
        if not operator.is_alias and operator.info.supports_autograd and operator.name not in SAME:
            agrees = operator.twin is not None
            if agrees:
                tried = [outcome(operator, x) for x in operator.dtypes if x is torch.float32 or x is torch.float64]
                agrees = any(x.gradients for x in tried) and not any(x.failures for x in tried)
            good[operator.name] = good.get(operator.name, True) and agrees
    return [name for name, agrees in good.items() if agrees]


def marks(operator: Operator) -> list[str]:
    """Of an operator in the table: whether it is there, differentiable, and agrees in float32, float64 and complex."""
    if operator.twin is None:
        return ["no", "", "", "", ""]
    kinds = [(torch.float32,), (torch.float64,), (torch.complex64, torch.complex128)]
    cells = []
    for kind in kinds:
        tried = [outcome(operator, x) for x in kind if x in operator.dtypes]
        total, failed = sum(x.tried for x in tried), sum(len(x.failures) for x in tried)
        cells.append("" if not total else "yes" if not failed else f"{total - failed} of {total}")
    return ["yes", "yes" if operator.info.supports_autograd else "", *cells]


def main() -> None:
    print("| operator | there | differentiable | float32 | float64 | complex | reason |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for operator in OPERATORS:
        alias = f"{operator.info.name} by another name" if operator.is_alias else None
        reasons = [x for x in (alias, missing(operator)) if x] + [x.reason for x in DIFFERENT.get(operator.title, ())]
        print(f"| {' | '.join((operator.title, *marks(operator), '; '.join(reasons)))} |")
    names = {operator.name for operator in OPERATORS if not operator.is_alias}
    there = {operator.name for operator in OPERATORS if not operator.is_alias and operator.twin is not None}
    print(f"\nOf {len(names)} operators {len(there)} are there. Of those with a derivative {len(counted())} agree in")
    print("value and gradient on all samples tried in float32 and float64, none counted under two names.")


if __name__ == "__main__":
    main()
