"""Gradients on request: backward walks from several tensors, and what looks for nan on them."""

from __future__ import annotations

from typing import Any

from pargrad import creation
from pargrad.graph import run_backward
from pargrad.modes import anomaly, set_grad_enabled
from pargrad.rules.shapes import stack
from pargrad.tensor import Tensor, accumulate_grad, apply, seed_gradient, wanted_keys


class OldVariable(type):
    """How a script asks whether something is a Variable: every tensor is."""

    def __call__(cls, data: Tensor, requires_grad: bool = False) -> Tensor:
        return data.detach().requires_grad_(requires_grad)

    def __instancecheck__(cls, x: Any) -> bool:
        return isinstance(x, Tensor)


class Variable(metaclass=OldVariable):
    """`Variable(x)` is a leaf on x's memory, from when tensors had no gradients: torch has it for old scripts."""


def tensors(given: Any) -> list[Tensor]:
    return [given] if isinstance(given, Tensor) else list(given)


def seeds(roots: list[Tensor], gradients: Any, create_graph: bool) -> dict[Any, Any]:
    """The gradient that each root's key starts with."""
    given = [gradients] if isinstance(gradients, Tensor) else list(gradients or [None] * len(roots))
    if len(given) != len(roots):
        raise RuntimeError(f"expected a gradient for each of {len(roots)} outputs, got {len(given)}")
    found: dict[Any, Any] = {}
    for root, gradient in zip(roots, given):
        seed = seed_gradient(root, gradient, create_graph)
        found[root.key] = found[root.key] + seed if root.key in found else seed
    return found


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Adds the gradients of several tensors to `.grad` of the leaves, in one walk.

    https://docs.pytorch.org/docs/stable/generated/torch.autograd.backward.html
    """
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    wanted = None if inputs is None else wanted_keys([inputs] if isinstance(inputs, Tensor) else list(inputs))
    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        run_backward(seeds(roots, grad_tensors, create_graph), accumulate_grad, retain, create_graph, wanted)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of outputs, each times its `grad_outputs`, with respect to inputs; `.grad` is left alone.

    Gives a Tensor for each input, of its shape and dtype. An input that the outputs do not depend on is refused, unless
    allow_unused (then None) or materialize_grads (then zeros). is_grads_batched: grad_outputs have a leading axis, and
    so have the gradients: one walk for each. only_inputs is torch's, and means nothing there either.
    https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html

    >>> x = pg.tensor(3.0, requires_grad=True)
    >>> (slope,) = pg.autograd.grad(x**3, x, create_graph=True)
    >>> slope.item(), pg.autograd.grad(slope, x)[0].item()
    (27.0, 18.0)
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("materialize_grads=True gives zeros to unused inputs, which allow_unused=False refuses")
    roots, leaves = tensors(outputs), tensors(inputs)
    if is_grads_batched:
        return batched(roots, leaves, grad_outputs, create_graph=create_graph, allow_unused=allow_unused,
                       materialize_grads=materialize_grads)  # fmt: skip
    wanted = wanted_keys(leaves)
    found: dict[int, Tensor] = {}

    def receive(target: Tensor, gradient: Any, owned: bool) -> None:
        found[id(target)] = gradient if isinstance(gradient, Tensor) else Tensor(gradient if owned else gradient.copy())

    retain = create_graph if retain_graph is None else retain_graph
    with set_grad_enabled(create_graph):
        run_backward(seeds(roots, grad_outputs, create_graph), receive, retain, create_graph, wanted)
    gradients = [found.get(id(wanted[leaf.key])) for leaf in leaves]
    if materialize_grads:
        return tuple(creation.zeros_like(leaf) if each is None else each for leaf, each in zip(leaves, gradients))
    unused = [i for i, each in enumerate(gradients) if each is None]
    if unused and not allow_unused:
        place = unused[0]
        raise RuntimeError(
            f"input {place} of shape {leaves[place].shape} was not used to compute the outputs: write "
            "grad(..., allow_unused=True) for None, or materialize_grads=True for zeros"
        )
    return tuple(gradients)


def batched(roots: list[Tensor], leaves: list[Tensor], grad_outputs: Any, **named: Any) -> tuple[Tensor | None, ...]:
    """`grad` for each slice of grad_outputs, stacked."""
    given = tensors(grad_outputs)
    rows = [grad(roots, leaves, [each[i] for each in given], retain_graph=True, **named) for i in range(len(given[0]))]
    return tuple(None if any(each is None for each in column) else apply(stack, *column) for column in zip(*rows))


class set_detect_anomaly:
    """From now on, or to the end of a `with` block, looks for nan in every gradient, and names what made it; slow.

    The error says which forward operator gave the first value with nan, or, where no value had one, which operator's
    derivative made it, and where it was recorded. https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        self.before = anomaly.enabled, anomaly.check_nan
        anomaly.enabled, anomaly.check_nan = mode, check_nan

    def __enter__(self) -> None:
        pass  # it began where it was made

    def __exit__(self, *error: object) -> None:
        anomaly.enabled, anomaly.check_nan = self.before


def is_anomaly_enabled() -> bool:
    """Whether nan is looked for."""
    return anomaly.enabled


class detect_anomaly(set_detect_anomaly):
    """`set_detect_anomaly(True)`, for a `with` block.

    >>> x = pg.tensor([0.0], requires_grad=True)
    >>> with np.errstate(invalid="ignore"), pg.autograd.detect_anomaly():
    ...     (x.sqrt() * 0).sum().backward()
    Traceback (most recent call last):
    RuntimeError: sqrt gave a gradient with nan in backward, ...
    """

    def __init__(self, check_nan: bool = True):
        super().__init__(True, check_nan)
