"""Derivatives held against central differences: `gradcheck`, `gradgradcheck`, and both for a rule on its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pargrad.graph import run_backward
from pargrad.rules.table import Rule
from pargrad.tensor import Tensor, apply, seed_gradient, wanted_keys


class GradcheckError(RuntimeError):
    """A derivative is not the one that differences find."""


def gradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-5,
    raise_exception: bool = True,
    create_graph: bool = False,
) -> bool:
    """Whether every entry of the Jacobian of `func` is within atol + rtol * |numeric| of central differences.

    func: takes the inputs, gives a tensor or a tuple of them. inputs: a tensor or a tuple; those that require grad are
    checked, and must be float64 or complex128, since differences of float32 have three digits. eps: half the distance
    of two values. rtol is 1e-5, where torch has 1e-3, which lets a derivative pass that is wrong by 0.05 %.
    create_graph: check the derivatives that a recorded backward gives. Raises GradcheckError, or returns False.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html

    >>> x = pg.randn(3, dtype=pg.float64, requires_grad=True)
    >>> pg.autograd.gradcheck(pg.tanh, x)
    True
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    checked = [i for i, x in enumerate(given) if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck() takes at least one input that requires grad: write x.requires_grad_()")
    for i in checked:
        if given[i].dtype not in (np.float64, np.complex128):
            raise ValueError(f"gradcheck(): expected input {i} in float64, got {given[i].dtype}: write x.double()")
    outputs = listed(func(*given))
    for place, output in enumerate(outputs):
        if not output.requires_grad:
            continue
        exact = jacobian(output, [given[i] for i in checked], create_graph)
        for i, analytic in zip(checked, exact):
            numeric = differences(func, given, i, place, eps)
            excess = np.abs(analytic - numeric) - atol - rtol * np.abs(numeric)
            if analytic.size and not excess.max() <= 0:
                if not raise_exception:
                    return False
                row, column = np.unravel_index(np.nanargmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
                raise GradcheckError(
                    f"the derivative of output {place} with respect to input {i} is {analytic[row, column]} in "
                    f"backward, {numeric[row, column]} by differences (element {column} of the output, {row} of "
                    "the input)"
                )
    return True


def gradgradcheck(
    func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
    rtol: float = 1e-5, raise_exception: bool = True, seed: int = 0,
) -> bool:  # fmt: skip
    """`gradcheck` of the gradient of `func`, with respect to its inputs and the gradients it is sent.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradgradcheck.html
    """
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outputs = [output for output in listed(func(*given)) if output.requires_grad]
    if grad_outputs is None:
        generator = np.random.default_rng(seed)
        grad_outputs = [Tensor(random_like(output, generator), requires_grad=True) for output in outputs]
    seeds = listed(grad_outputs)

    def gradients(*arguments: Any) -> tuple[Tensor, ...]:
        xs, gs = arguments[: len(given)], arguments[len(given) :]
        values = [output for output in listed(func(*xs)) if output.requires_grad]
        leaves = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        found: dict[int, Tensor] = {}
        roots: dict[Any, Any] = {}
        for value, g in zip(values, gs):
            roots[value.key] = roots[value.key] + g if value.key in roots else g
        wanted = wanted_keys(leaves)
        run_backward(roots, lambda x, gradient, _: found.update({id(x): gradient}), True, True, wanted)
        return tuple(each for x in leaves if isinstance(each := found.get(id(x)), Tensor))

    return gradcheck(gradients, (*given, *seeds), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)


def random_like(x: Tensor, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.uniform(-1, 1, x.shape)
    return np.asarray(drawn + 1j * generator.uniform(-1, 1, x.shape) if x.dtype.kind == "c" else drawn)


def listed(x: Any) -> list[Tensor]:
    return list(x) if isinstance(x, Sequence) else [x]


def units(x: np.ndarray) -> Iterator[np.ndarray]:
    """For each element of x an array that is 1 there and 0 elsewhere; of complex ones also one that is 1j."""
    for place in range(x.size):
        for unit in (1, 1j) if x.dtype.kind == "c" else (1,):
            one = np.zeros(x.size, x.dtype)
            one[place] = unit
            yield one.reshape(x.shape)


def as_reals(x: np.ndarray) -> np.ndarray:
    """Elements in a row, a complex one as its real and imaginary parts."""
    row = np.ascontiguousarray(x).reshape(-1)
    return row.view(np.float64) if row.dtype.kind == "c" else row


def jacobian(output: Tensor, inputs: list[Tensor], create_graph: bool) -> list[np.ndarray]:
    """For each input, its elements as rows and the output's as columns: one backward walk a column."""
    columns: list[list[np.ndarray]] = [[] for _ in inputs]
    for unit in units(output.array):
        found: dict[int, Any] = {}
        seed = seed_gradient(output, Tensor(unit), create_graph)
        run_backward(
            {output.key: seed}, lambda x, gradient, _, found=found: found.update({id(x): gradient}), True, create_graph,  # type: ignore[misc]
            wanted_keys(inputs),
        )  # fmt: skip
        for column, x in zip(columns, inputs):
            gradient = found.get(id(x))
            array = np.zeros(x.shape, x.dtype) if gradient is None else getattr(gradient, "array", gradient)
            column.append(as_reals(array))
    return [np.stack(column, axis=1) if column else np.zeros((x.array.size, 0)) for column, x in zip(columns, inputs)]


def differences(func: Callable, inputs: tuple, i: int, place: int, eps: float) -> np.ndarray:
    """The Jacobian of output `place` with respect to input i, by central differences."""

    def moved(step: np.ndarray) -> np.ndarray:
        others = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        others[i] = Tensor(np.asarray(inputs[i].array + step), requires_grad=True)
        # Recorded, because a function may itself take gradients.
        others = [
            Tensor(x.array, inputs[j].requires_grad) if isinstance(x, Tensor) and j != i else x
            for j, x in enumerate(others)
        ]
        return as_reals(listed(func(*others))[place].array)

    rows = [(moved(eps * unit) - moved(-eps * unit)) / (2 * eps) for unit in units(inputs[i].array)]
    return np.stack(rows) if rows else np.zeros((0, as_reals(listed(func(*inputs))[place].array).size))


def check_rule(rule: Rule, seed: int = 0) -> int:
    """`gradcheck` and `gradgradcheck` of a rule on each of its samples; says how many there were."""
    for sample in rule.samples:
        arrays = sample.arrays(np.random.default_rng(seed))
        given = [
            Tensor(x, x.dtype.kind in "fc" and i not in rule.fixed) if isinstance(x, np.ndarray) else x
            for i, x in enumerate(arrays)
        ]

        def function(*inputs: Any, settings: dict = sample.settings) -> Any:
            return apply(rule, *inputs, **settings)

        gradcheck(function, given)
        gradgradcheck(function, given)
    return len(rule.samples)
