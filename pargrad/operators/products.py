"""torch's products of vectors, matrices and tensors, and distances: made of `matmul` and other operators.

A sum of products over any dims (`einsum`, `tensordot`) becomes one matrix product for each pair of operands, so that
its gradients, and theirs in turn, are matrix products too.
"""

from __future__ import annotations

import functools
import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pargrad.operators.compositions import broadcast_tensors, call, conjugate, movedim, position, reshaped, tensor
from pargrad.tensor import Tensor

# ----- vectors and matrices -----


def require(name: str, ndim: int, *tensors: Any) -> None:
    """Refuses what does not have `ndim` dimensions."""
    for x in tensors:
        if x.ndim != ndim:
            kind = ("a number", "a vector", "a matrix", "a batch of matrices, of 3 dimensions,")[ndim]
            raise RuntimeError(f"{name}: expected {kind}, got shape {x.shape}: write matmul where dimensions vary")


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    require("mm", 2, input, mat2)
    return call("matmul", input, mat2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of as many matrices."""
    require("bmm", 3, input, mat2)
    if input.shape[0] != mat2.shape[0]:
        raise RuntimeError(f"bmm: expected as many matrices in both, got shapes {input.shape} and {mat2.shape}")
    return call("matmul", input, mat2)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    require("mv", 2, input)
    require("mv", 1, vec)
    return call("matmul", input, vec)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of products of two vectors, neither of which is conjugated."""
    require("dot", 1, input, tensor)
    return call("matmul", input, tensor)


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """`dot` with the first vector conjugated."""
    require("vdot", 1, input, other)
    return call("matmul", conjugate(input), other)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """torch.linalg.vecdot: sums of products along a dim, with x conjugated; the other dims broadcast."""
    wide = broadcast_tensors(tensor(x), tensor(y))
    first, second = (movedim(each, dim, -1) for each in wide)
    return call("squeeze", call("matmul", conjugate(first)[..., None, :], second[..., None]), dim=(-2, -1))


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products along the last dims of both; of numbers, their products with everything."""
    if not input.ndim or not other.ndim:
        return call("mul", input, other)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(f"inner: expected last dims of one length, got shapes {input.shape} and {other.shape}")
    return tensordot(input, other, ([-1], [-1]))


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The products of each element of a vector with each of another."""
    require("outer", 1, input, vec2)
    return call("mul", reshaped(tensor(input), *input.shape, 1), vec2)


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker's product: each element of the first tensor, times all of the second, in its place."""
    count = max(input.ndim, other.ndim)
    shapes = [(1,) * (count - x.ndim) + x.shape for x in (input, other)]
    first = reshaped(tensor(input), *(size for n in shapes[0] for size in (n, 1)))
    second = reshaped(tensor(other), *(size for n in shapes[1] for size in (1, n)))
    return reshaped(call("mul", first, second), *(n * m for n, m in zip(*shapes)))


def trace(input: Tensor) -> Tensor:
    """The sum of a matrix' diagonal."""
    require("trace", 2, input)
    refuse_booleans("trace", input)
    return call("sum", call("diagonal", input))


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vectors at right angles to two others of 3 elements along `dim`, else along the first dim that has 3."""
    if dim is None:
        if 3 not in input.shape:
            raise RuntimeError(f"cross: expected a dim of length 3, got shape {input.shape}")
        dim = input.shape.index(3)
    return cross_along(input, other, dim=dim)


def cross_along(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """torch.linalg.cross: `cross` along the last dim; the other dims broadcast."""
    refuse_booleans("cross", input)
    same_dtype("cross", input, other)
    if input.ndim != other.ndim:
        raise RuntimeError(f"cross: expected as many dimensions in both, got shapes {input.shape} and {other.shape}")
    axis = position("cross", input, dim)
    if not input.ndim or input.shape[axis] != 3 or other.shape[axis] != 3:
        raise RuntimeError(f"cross: expected length 3 along dim {dim}, got shapes {input.shape} and {other.shape}")

    def turned(x: Tensor, by: int) -> Tensor:
        return call("roll", x, shifts=by, dims=axis)

    return turned(input, -1) * turned(other, -2) - turned(input, -2) * turned(other, -1)


def refuse_booleans(name: str, *tensors: Any) -> None:
    if any(x.dtype == np.bool_ for x in tensors):
        raise RuntimeError(f"{name}: expected numbers, got booleans: write x.long() or x.float()")


def same_dtype(name: str, *tensors: Any) -> None:
    kinds = sorted({str(x.dtype) for x in tensors})
    if len(kinds) > 1:
        raise RuntimeError(
            f"{name}: expected tensors of one dtype, got {' and '.join(kinds)}: write x.float() or x.to(y.dtype)"
        )


def expect_floats(name: str, *tensors: Any, kinds: str = "f") -> None:
    for x in tensors:
        if x.dtype.kind not in kinds:
            raise RuntimeError(f"{name}: expected a floating-point tensor, got {x.dtype}: write x.float()")


# ----- a product that is added to something -----


def scaled(name: str, x: Tensor, factor: Any, argument: str) -> Tensor:
    if x.dtype.kind in "biu" and isinstance(factor, float):
        raise RuntimeError(f"{name}: expected an integer as {argument} of integer tensors, got {factor}")
    return x if factor == 1 else call("mul", x, factor)


def added(name: str, input: Any, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta * input + alpha * product, in the product's shape; with beta=0 what is in the input does not matter."""
    try:
        fits = np.broadcast_shapes(input.shape, product.shape) == product.shape
    except ValueError:
        fits = False
    if not fits:
        raise RuntimeError(f"{name}: the input, of shape {input.shape}, does not broadcast to the product's, "
                           f"{product.shape}")  # fmt: skip
    nothing = beta == 0  # 0 * nan would be nan
    first = call("where", np.array(False), input, 0) if nothing else scaled(name, tensor(input), beta, "beta")
    return call("add", first, scaled(name, product, alpha, "alpha"))


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat1 @ mat2"""
    same_dtype("addmm", input, mat1, mat2)
    return added("addmm", input, mm(mat1, mat2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat @ vec"""
    same_dtype("addmv", input, mat, vec)
    return added("addmv", input, mv(mat, vec), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)"""
    return added("addr", input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2"""
    same_dtype("baddbmm", input, batch1, batch2)
    return added("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * (batch1 @ batch2).sum(0)"""
    same_dtype("addbmm", input, batch1, batch2)
    require("addbmm", 3, batch1, batch2)
    if batch1.shape[0] != batch2.shape[0] or batch1.shape[2] != batch2.shape[1]:
        raise RuntimeError(f"addbmm: matrices of shapes {batch1.shape} and {batch2.shape} cannot be multiplied")
    return added("addbmm", input, einsum("bij,bjk->ik", batch1, batch2), beta, alpha)


# ----- sums of products over labelled dims -----

Labels = tuple[int, ...]


def contract(x: Any, of_x: Labels, y: Any, of_y: Labels, keep: Labels) -> tuple[Any, Labels]:
    """The product of two tensors, summed over the labels that are not in `keep`, and the labels of its dims.

    A label names a dim of each tensor, at most once; a dim of length 1 broadcasts. What both have is the batch of a
    matrix product, or is summed in it; what one of them has is its rows or columns.
    """
    lengths = dict(zip(of_y, y.shape))
    shared = {label for label, n in zip(of_x, x.shape) if label in lengths and (label in keep or lengths[label] == n)}
    x, of_x = without(x, of_x, shared.union(keep))
    y, of_y = without(y, of_y, shared.union(keep))
    summed = tuple(label for label in of_x if label in shared and label not in keep)
    out = tuple(label for label in keep if label in of_x or label in of_y)
    if not summed:
        return call("mul", aligned(x, of_x, out), aligned(y, of_y, out)), out
    batch = tuple(label for label in out if label in shared)
    rows = tuple(label for label in out if label in of_x and label not in shared)
    columns = tuple(label for label in out if label in of_y and label not in shared)
    left, right = arranged(x, of_x, batch + rows + summed), arranged(y, of_y, batch + summed + columns)
    n, i, k = len(batch), len(batch) + len(rows), len(batch) + len(summed)
    product = call(
        "matmul",
        grouped(left, left.shape[:n], left.shape[n:i], left.shape[i:]),
        grouped(right, right.shape[:n], right.shape[n:k], right.shape[k:]),
    )
    shape = product.shape[:n] + left.shape[n:i] + right.shape[k:]
    return product if product.shape == shape else reshaped(product, *shape), batch + rows + columns


def without(x: Any, labels: Labels, keep: Any) -> tuple[Any, Labels]:
    """x summed over the dims whose labels are not kept."""
    gone = tuple(axis for axis, label in enumerate(labels) if label not in keep)
    return (call("sum", x, dim=gone) if gone else x), tuple(label for label in labels if label in keep)


def arranged(x: Any, labels: Labels, order: Labels) -> Any:
    return x if labels == order else call("permute", x, dims=tuple(labels.index(label) for label in order))


def aligned(x: Any, labels: Labels, order: Labels) -> Any:
    """x with its dims in this order, and one of length 1 for each label that it does not have."""
    x = arranged(x, labels, tuple(label for label in order if label in labels))
    lengths = iter(x.shape)
    return x if len(labels) == len(order) else reshaped(x, *(next(lengths) if a in labels else 1 for a in order))


def grouped(x: Any, batch: Sequence[int], rows: Sequence[int], columns: Sequence[int]) -> Any:
    """x as a batch of matrices."""
    one_each = len(rows) == len(columns) == 1
    return x if one_each else reshaped(x, *batch, math.prod(rows), math.prod(columns))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over the last `dims` dims of a and the first of b, or over dims=(those of a, those of b)."""
    if isinstance(dims, Tensor | np.ndarray):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot: expected dims from 0 to {min(a.ndim, b.ndim)}, got {dims}")
        dims = range(a.ndim - dims, a.ndim), range(dims)
    of_a, of_b = ([position("tensordot", x, dim) for dim in each] for x, each in zip((a, b), dims))
    if len(of_a) != len(of_b) or len(set(of_a)) < len(of_a) or len(set(of_b)) < len(of_b):
        raise RuntimeError(f"tensordot: expected as many dims of both, each once, got {of_a} and {of_b}")
    for i, k in zip(of_a, of_b):
        if a.shape[i] != b.shape[k] and 1 not in (a.shape[i], b.shape[k]):
            raise RuntimeError(f"tensordot: dim {i} of shape {a.shape} and dim {k} of shape {b.shape} differ in length")
    same = dict(zip(of_b, of_a))
    labels = tuple(range(a.ndim)), tuple(same.get(dim, a.ndim + dim) for dim in range(b.ndim))
    out, _ = contract(a, labels[0], b, labels[1], tuple(x for x in labels[0] + labels[1] if x not in of_a))
    return out


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products in Einstein's notation: einsum("bij,bjk->bik", x, y), einsum(x, [0, 1], y, [1, 2], [0, 2]).

    https://docs.pytorch.org/docs/stable/generated/torch.einsum.html. Operands are multiplied from left to right, as
    torch does it without opt_einsum.

    >>> pg.einsum("ij,jk->ik", pg.ones(2, 3), pg.ones(3, 4)).shape
    (2, 4)
    """
    if isinstance(equation, str):
        if len(operands) == 1 and isinstance(operands[0], tuple | list):
            operands = tuple(operands[0])
        given = [tensor(x) for x in operands]
        terms, output = read(equation, tuple(x.ndim for x in given))
    else:
        sequence = (equation, *operands)
        given = [tensor(x) for x in sequence[0 : len(sequence) // 2 * 2 : 2]]
        lists = [numbered(each) for each in sequence[1::2]]
        last = numbered(sequence[-1]) if len(sequence) % 2 else None
        terms, output = resolved(lists, last, tuple(x.ndim for x in given))
    if not given:
        raise ValueError("einsum: expected at least one operand, got none")
    check_lengths(terms, given)
    pairs = [diagonals(x, labels) for x, labels in zip(given, terms)]
    x, of_x = pairs[0]
    for i, (y, of_y) in enumerate(pairs[1:], 2):
        later = {label for _, labels in pairs[i:] for label in labels}
        x, of_x = contract(x, of_x, y, of_y, output + tuple(sorted(later.difference(output))))
    x, of_x = without(x, of_x, output)
    return arranged(x, of_x, output)


LETTERS = string.ascii_uppercase + string.ascii_lowercase  # in the order of an output that is not written out


@functools.lru_cache(maxsize=512)
def read(equation: str, ndims: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """The labels of each operand's dims, and of the output's, that an equation gives."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    return resolved([lettered(term) for term in inputs.split(",")], lettered(output) if arrow else None, ndims)


def lettered(term: str) -> tuple[Any, ...]:
    before, dots, after = term.partition("...")
    if not all(letter in LETTERS for letter in before + after):
        raise RuntimeError(f"einsum: expected letters and at most one '...' for each operand, got {term!r}")
    return (*map(LETTERS.index, before), *((Ellipsis,) if dots else ()), *map(LETTERS.index, after))


def numbered(labels: Any) -> tuple[Any, ...]:
    """A list of labels, checked."""
    if not isinstance(labels, tuple | list):
        raise TypeError(f"einsum: expected a list of labels after each operand, got {type(labels).__name__}")
    if labels.count(Ellipsis) > 1 or not all(x is Ellipsis or x in range(len(LETTERS)) for x in labels):
        raise ValueError(f"einsum: expected labels from 0 to 51, and at most one Ellipsis, got {labels}")
    return tuple(labels)


def resolved(terms: list, output: Any, ndims: tuple[int, ...]) -> tuple[tuple[Labels, ...], Labels]:
    """Labels of all dims: those of an ellipsis are negative, and aligned at the last; an output that follows torch."""
    if len(terms) != len(ndims):
        raise RuntimeError(f"einsum: expected {len(terms)} operands, as the equation has it, got {len(ndims)}")
    labels = tuple(spread(term, ndim) for term, ndim in zip(terms, ndims))
    every = [label for each in labels for label in each]
    ellipsis = range(min([0, *every]), 0)
    if output is None:
        return labels, (*ellipsis, *sorted(label for label in set(every) if label >= 0 and every.count(label) == 1))
    written = [label for label in output if label is not Ellipsis]
    if len(set(written)) < len(written) or not set(written).issubset(every):
        names = "".join(LETTERS[label] for label in written)
        raise RuntimeError(f"einsum: expected labels of the operands in the output, each once, got {names!r}")
    return labels, spread(output, len(written) + len(ellipsis) if Ellipsis in output else len(written))


def spread(term: tuple, ndim: int) -> Labels:
    """The labels of `ndim` dims, with those of the ellipsis filled in."""
    count = ndim - sum(label is not Ellipsis for label in term)
    if count < 0 or (count and Ellipsis not in term):
        raise RuntimeError(f"einsum: {ndim - count} labels do not fit an operand of {ndim} dimensions")
    if Ellipsis not in term:
        return term
    place = term.index(Ellipsis)
    return (*term[:place], *range(-count, 0), *term[place + 1 :])


def check_lengths(terms: Sequence[Labels], operands: Sequence[Any]) -> None:
    """One label has one length: in one operand exactly, among operands up to broadcasting."""
    overall: dict[int, int] = {}
    for labels, x in zip(terms, operands):
        own: dict[int, int] = {}
        for label, length in zip(labels, x.shape):
            before = overall.get(label, 1)
            if own.setdefault(label, length) != length or (before != length and 1 not in (before, length)):
                name = LETTERS[label] if label >= 0 else "..."
                raise RuntimeError(f"einsum: {name} has the length {length} in shape {x.shape}, before it had "
                                   f"{own[label] if own[label] != length else before}")  # fmt: skip
            overall[label] = max(before, length) if before != 1 else length


def diagonals(x: Any, labels: Labels) -> tuple[Any, Labels]:
    """A view in which each label names one dim: the diagonal of those that it named."""
    for label in labels:
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            x = call("diagonal", x, dim1=first, dim2=second)
            labels = (*labels[:first], *labels[first + 1 : second], *labels[second + 1 :], label)
    return x, labels


# ----- distances -----


def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """The p-norm of the difference of each row of x1 and each of x2, batch by batch: (..., P, M), (..., R, M).

    compute_mode: torch's, without effect; differences are always taken as they are, which loses no digits.
    """
    expect_floats("cdist", x1, x2)
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"cdist: expected rows of one length in both, got shapes {x1.shape} and {x2.shape}")
    return call("cdist", x1, x2, p=check_order("cdist", p))


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of the difference of each pair of rows of a matrix: (0, 1), (0, 2), ..., (1, 2), ..."""
    expect_floats("pdist", input)
    require("pdist", 2, input)
    first, second = np.triu_indices(input.shape[0], 1)
    rows = tensor(input)
    return call("distance", rows[(first,)], rows[(second,)], p=check_order("pdist", p))


def check_order(name: str, p: Any) -> float:
    if p < 0:
        raise RuntimeError(f"{name}: expected a p of 0 or more, got {p}")
    return float(p)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dim; the others broadcast.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pairwise_distance.html
    """
    return call("norm", call("add", call("sub", x1, x2), eps), p=p, dim=-1, keepdim=keepdim)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along `dim`; where a norm is below eps, its value is eps.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_similarity.html
    """

    def unit(x: Tensor, other: Tensor) -> Tensor:
        x = x if x.dtype.kind in "fc" else call("to", x, dtype=other.dtype)
        expect_floats("cosine_similarity", x)
        norm = call("norm", x, dim=dim, keepdim=True)
        missing = call("relu", call("sub", eps, norm.detach()))  # the norm's derivative stays, as torch has it
        return x / (norm + missing)

    x1, x2 = broadcast_tensors(tensor(x1), tensor(x2))
    return call("sum", call("mul", unit(x1, x2), unit(x2, x1)), dim=dim)


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along `dim` whose p-norm is larger than maxnorm, scaled to it."""
    if input.ndim < 2 or p <= 0 or maxnorm < 0:
        raise RuntimeError(
            "renorm: expected at least 2 dimensions, p above 0 and maxnorm of 0 or more, got "
            f"shape {input.shape}, p={p}, maxnorm={maxnorm}"
        )
    expect_floats("renorm", input, kinds="fc")
    axis = position("renorm", input, dim)
    size = call("norm", input, p=p, dim=tuple(i for i in range(input.ndim) if i != axis), keepdim=True)
    return call("mul", input, call("where", call("gt", size, maxnorm), maxnorm / (size + 1e-7), 1.0))


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1 @ weight[o] @ input2 for each output o: (..., in1), (..., in2), (out, in1, in2), (out,)."""
    require("bilinear", 3, weight)
    if input1.shape[:-1] != input2.shape[:-1] or (input1.shape[-1:] + input2.shape[-1:]) != weight.shape[1:]:
        raise RuntimeError(
            f"bilinear: expected inputs of shapes (..., {weight.shape[1]}) and (..., {weight.shape[2]}) for weight "
            f"{weight.shape}, got {input1.shape} and {input2.shape}"
        )
    out = einsum("...j,oij,...i->...o", input2, weight, input1)
    return out if bias is None else out + bias


# ----- a chain of matrices -----


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of matrices in the order of fewest multiplications; the first and the last may be vectors.

    The order: T. Cormen et al., "Introduction to algorithms", chapter 15.2.
    """
    given = list(tensors)
    if len(given) < 2:
        raise RuntimeError(f"linalg.multi_dot: expected at least 2 tensors, got {len(given)}")
    first, last = given[0].ndim == 1, given[-1].ndim == 1
    given[0] = given[0].unsqueeze(0) if first else given[0]
    given[-1] = given[-1].unsqueeze(1) if last else given[-1]
    sizes = [x.shape[0] for x in given if x.ndim == 2] + [given[-1].shape[-1]]
    if len(sizes) <= len(given) or any(x.shape[1] != size for x, size in zip(given, sizes[1:])):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise RuntimeError(f"linalg.multi_dot: expected matrices that can be multiplied, got shapes {shapes}")
    out = ordered_product(given, sizes)
    return out.reshape(*out.shape[first : 2 - last])


def ordered_product(given: list[Tensor], sizes: list[int]) -> Tensor:
    count = len(given)
    best = {(i, i): (0, i) for i in range(count)}  # the cost of a product, and where to cut it
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            best[i, j] = min(
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            )

    def product(i: int, j: int) -> Tensor:
        cut = best[i, j][1]
        return given[i] if i == j else product(i, cut) @ product(cut + 1, j)

    return product(0, count - 1)


# ----- where torch has them -----

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        addbmm, addmm, addmv, addr, baddbmm, bilinear, bmm, cdist, cosine_similarity, cross, dot, einsum, inner, kron,
        mm, mv, outer, pairwise_distance, pdist, renorm, tensordot, trace, vdot,
    )
}  # fmt: skip
FUNCTIONS["ger"] = outer
# Functions of torch's that are no methods of its Tensor.
NOT_METHODS = {"bilinear", "cdist", "cosine_similarity", "einsum", "pairwise_distance", "pdist", "tensordot"}
IN_PLACE = ("addbmm", "addmm", "addmv", "addr", "baddbmm", "renorm")
# Rules that torch has only as part of these.
INTERNAL = {"distance"}

NUMPY: dict[Callable, Callable] = {
    np.einsum: lambda subscripts, *operands: einsum(subscripts, *operands),
    np.inner: lambda a, b: inner(tensor(a), tensor(b)),
    np.kron: lambda a, b: kron(tensor(a), tensor(b)),
    np.outer: lambda a, b: outer(reshaped(tensor(a), -1), reshaped(tensor(b), -1)),
    np.tensordot: lambda a, b, axes=2: tensordot(
        tensor(a), tensor(b), axes if isinstance(axes, int) else [np.atleast_1d(each) for each in axes]
    ),
    np.trace: lambda a, offset=0, axis1=0, axis2=1: call(
        "sum", call("diagonal", a, offset=offset, dim1=axis1, dim2=axis2), dim=-1
    ),
    np.vdot: lambda a, b: vdot(reshaped(tensor(a), -1), reshaped(tensor(b), -1)),
}  # fmt: skip
