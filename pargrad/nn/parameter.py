"""What a module's attributes hold: parameters, buffers, and both before they have a shape."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from pargrad import creation
from pargrad.graph import as_array
from pargrad.tensor import Tensor, check_can_require_grad

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "is_lazy"]


class Parameter(Tensor):
    """A tensor that a Module trains: https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html"""

    def __init__(self, data: Any = None, requires_grad: bool = True):
        array = (
            data.array if isinstance(data, Tensor) else np.zeros(0, np.float32) if data is None else np.asarray(data)
        )
        if requires_grad:
            check_can_require_grad(array.dtype)
        super().__init__(array, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that is state of the Module it is assigned to, and not trained; as register_buffer makes it."""

    def __init__(self, data: Any = None, *, persistent: bool = True):
        super().__init__(as_array([] if data is None else data))
        self.persistent = persistent

    def __deepcopy__(self, memo: dict) -> Tensor:
        out = super().__deepcopy__(memo)
        vars(out)["persistent"] = self.persistent
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (*super().__reduce_ex__(protocol), {"persistent": self.persistent})


class Uninitialized(Tensor):
    """A base: a place for a tensor that has a dtype and no shape yet; it becomes one in `materialize`.

    Only its dtype, and whether it requires grad, can be asked; it can be copied, and given to an optimizer.
    """

    becomes: type[Tensor]
    kind: np.dtype

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None):
        creation.leaf(np.empty(0), False, {"device": device})  # which says what devices there are
        self.kind = creation.floating(dtype)
        self.node, self.index, self._cell, self._requires_grad = None, 0, None, requires_grad

    @property
    def array(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError(
            "a parameter or buffer of a lazy layer has no shape and no values before the layer is called: call the "
            "model on one batch first"
        )

    @property
    def dtype(self) -> np.dtype:
        return self.kind

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Becomes a tensor of this shape, of zeros until its first values are set."""
        memory = creation.zeros(shape, dtype=self.kind if dtype is None else dtype, device=device).array
        self.__class__ = self.becomes  # type: ignore[assignment]
        del self.kind
        self.array = memory  # type: ignore[misc]

    def detach(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: dict) -> Tensor:
        memo[id(self)] = out = type(self)(self._requires_grad, None, self.kind)
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self._requires_grad, None, self.kind)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(Uninitialized, Parameter):
    """A parameter of a lazy layer: https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.UninitializedParameter.html"""

    becomes = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        super().__init__(requires_grad, device, dtype)


class UninitializedBuffer(Uninitialized):
    """A buffer of a lazy layer: https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.UninitializedBuffer.html"""

    becomes = Tensor


def is_lazy(param: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(param, Uninitialized)
