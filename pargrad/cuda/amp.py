"""torch.cuda.amp's older names: `autocast()` and `GradScaler()`, which say that they are off and do nothing."""

from __future__ import annotations

from typing import Any

from pargrad import amp
from pargrad.amp import GradScaler

__all__ = ["GradScaler", "autocast"]


class autocast(amp.autocast):
    """`pargrad.amp.autocast("cuda")`"""

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)
