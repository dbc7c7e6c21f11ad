"""Data-parallel training and scoring: the Trainer, its pools, and the errors that end a run."""

from pargrad.parallel.callbacks import Callback, EarlyStopping, LearningRateLogger, TimeLimit
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
from pargrad.parallel.tensorboard import TensorBoard
from pargrad.parallel.timeline import Timeline
from pargrad.parallel.trainer import Trainer

__all__ = [
    "Callback",
    "CannotSendError",
    "CheckpointError",
    "EarlyStopping",
    "LearningRateLogger",
    "NonFiniteError",
    "PargradError",
    "ResourcesError",
    "TensorBoard",
    "TimeLimit",
    "Timeline",
    "Trainer",
    "WorkerLostError",
    "score",
    "state_sha256",
]
