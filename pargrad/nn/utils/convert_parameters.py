"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from pargrad import operators
from pargrad.tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters in one vector, a copy that gradients flow through.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parameters_to_vector.html
    """
    return operators.cat([parameter.reshape(-1) for parameter in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Gives the parameters their elements from a vector, whose memory they then share.

    RuntimeError where it is too short; elements that are left over are not read, as torch has it.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.vector_to_parameters.html
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"vector_to_parameters: expected a tensor, got {type(vec).__name__}")
    parameters = list(parameters)
    needed = sum(parameter.numel() for parameter in parameters)
    if vec.ndim != 1 or len(vec) < needed:
        raise RuntimeError(f"vector_to_parameters: expected a vector of {needed} elements, got shape {vec.shape}")
    start = 0
    for parameter in parameters:
        part = vec.detach().array[start : start + parameter.numel()]
        parameter.data = Tensor(part.reshape(parameter.shape))
        start += parameter.numel()
