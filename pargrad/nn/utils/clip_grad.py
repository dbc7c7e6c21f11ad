"""The norm of many gradients together, and gradients made smaller, in place.

`foreach`, torch's choice of kernel, is taken and means nothing. Inside the data-parallel trainer clipping is
`Trainer(clip_norm=...)`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pargrad.modes import no_grad
from pargrad.tensor import Tensor


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as if they were one vector.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.get_total_norm.html
    """
    arrays = [tensor.array for tensor in listed(tensors)]
    if not arrays:
        return Tensor(np.zeros((), np.float32))
    norms = [vector_norm(array, float(norm_type)) for array in arrays]
    total = vector_norm(np.array(norms, np.result_type(*norms)), float(norm_type))
    if error_if_nonfinite and not np.isfinite(total):
        raise RuntimeError(
            f"the total norm of order {norm_type} is {total}, so gradients cannot be clipped by it: look for what made "
            "it so, or write error_if_nonfinite=False to let them be nan"
        )
    return Tensor(np.asarray(total))


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Multiplies every gradient by max_norm / total_norm where that is less than 1.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grads_with_norm_.html
    """
    factor = np.minimum(float(max_norm) / (total_norm.detach().array + 1e-6), 1.0)
    with no_grad():
        for gradient in gradients(parameters):
            gradient.mul_(factor.item())


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Makes the norm of all gradients together at most max_norm, and returns what it was.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html

    >>> weight = nn.Parameter(pg.tensor([3.0, 4.0]))
    >>> (weight * weight / 2).sum().backward()
    >>> nn.utils.clip_grad_norm_([weight], max_norm=1.0)
    tensor(5.)
    """
    parameters = listed(parameters)
    total_norm = get_total_norm(gradients(parameters), norm_type, error_if_nonfinite)
    clip_grads_with_norm_(parameters, max_norm, total_norm)
    return total_norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Brings every element of every gradient into [-clip_value, clip_value].

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html
    """
    with no_grad():
        for gradient in gradients(parameters):
            gradient.clamp_(-float(clip_value), float(clip_value))


def listed(tensors: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)


def gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in listed(parameters) if p.grad is not None]


def vector_norm(array: np.ndarray, order: float) -> np.floating:
    # numpy has no largest of nothing; the norm of nothing is 0.
    return np.linalg.norm(array.reshape(-1), order) if array.size else array.real.dtype.type(0)
