"""torch.amp's names: everything is computed in the dtype it is in, so what scales and casts is switched off.

`autocast` of a GPU and `GradScaler` say that they are off and do nothing, as torch's do without a GPU; `autocast` of
the CPU would compute in bfloat16, which numpy has not, and is an error unless enabled=False.
https://docs.pytorch.org/docs/stable/amp.html
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


class autocast:
    """A `with` block, or a decorator, in which nothing is cast."""

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None):
        self.device, self._enabled = device_type, False
        if not enabled:
            return
        if device_type == "cpu":
            raise RuntimeError(
                f"autocast('cpu') would compute in {dtype or 'bfloat16'}, and here everything is computed in the dtype "
                "that it is in: write autocast('cpu', enabled=False), or leave it out"
            )
        warnings.warn(f"autocast({device_type!r}) casts nothing: there is no such device", stacklevel=2)

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, function: Callable) -> Callable:
        return function


def is_autocast_available(device_type: str) -> bool:
    """False: nothing is cast."""
    return False


class GradScaler:
    """torch's, switched off: losses and gradients are left as they are, and `step` is the optimizer's own."""

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ):
        if enabled:
            warnings.warn("GradScaler scales nothing: no gradient is of float16 here", stacklevel=2)

    def scale(self, outputs: Any) -> Any:
        """What it is given; of several, a list or tuple as torch gives it."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing was scaled."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step()"""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """There is no scale to change."""

    def is_enabled(self) -> bool:
        """False."""
        return False

    def get_scale(self) -> float:
        """1: what was multiplied with nothing."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """Empty, as torch's is where it is switched off."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Taken, and means nothing."""


def custom_fwd(fwd: Callable | None = None, *, device_type: str, cast_inputs: Any = None) -> Callable:
    """The forward of a Function as it is."""
    return functools.partial(custom_fwd, device_type=device_type) if fwd is None else fwd


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """The backward of a Function as it is."""
    return functools.partial(custom_bwd, device_type=device_type) if bwd is None else bwd
