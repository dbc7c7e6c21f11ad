"""torch.backends.cuda: `cuda.matmul.allow_tf32 = True` can be written, and means nothing."""

from types import SimpleNamespace

matmul = SimpleNamespace(allow_tf32=False)


def is_built() -> bool:
    """False: there is no GPU."""
    return False
