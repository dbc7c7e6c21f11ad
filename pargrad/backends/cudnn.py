"""torch.backends.cudnn: `cudnn.deterministic = True` can be written, and means nothing: every run here is."""

enabled = benchmark = allow_tf32 = False
deterministic = True


def is_available() -> bool:
    """False: there is no cuDNN."""
    return False


def version() -> None:
    """None: there is no cuDNN."""
    return None
