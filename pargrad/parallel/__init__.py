"""Data-parallel training and scoring: the Trainer, its pools, and the errors that end a run."""

from pargrad.parallel.digest import state_sha256
from pargrad.parallel.errors import (
    CannotSendError,
    CheckpointError,
    NonFiniteError,
    PargradError,
    ResourcesError,
    WorkerLostError,
)
from pargrad.parallel.scoring import score
from pargrad.parallel.trainer import Trainer

__all__ = [
    "CannotSendError",
    "CheckpointError",
    "NonFiniteError",
    "PargradError",
    "ResourcesError",
    "Trainer",
    "WorkerLostError",
    "score",
    "state_sha256",
]
