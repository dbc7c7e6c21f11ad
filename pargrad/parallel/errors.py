"""What can end a run, each with the exit code that the command gives it.

PargradError
├── ResourcesError     3   asked for more than there is, or it was not there in time
├── WorkerLostError    4   too many workers died in a row
├── NonFiniteError     1   a loss, or a gradient's norm, is nan or infinite
├── CannotSendError    2   a model, loss or data set that other processes cannot be given
└── CheckpointError    5   a resume was asked for, and no checkpoint can be used
"""


class PargradError(RuntimeError):
    exit_code = 1


class ResourcesError(PargradError):
    exit_code = 3


class WorkerLostError(PargradError):
    exit_code = 4


class NonFiniteError(PargradError):
    exit_code = 1


class CannotSendError(PargradError):
    exit_code = 2


class CheckpointError(PargradError):
    exit_code = 5
