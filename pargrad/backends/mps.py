"""torch.backends.mps: there is none."""


def is_available() -> bool:
    """False: there is no GPU."""
    return False


def is_built() -> bool:
    """False: there is no GPU."""
    return False
