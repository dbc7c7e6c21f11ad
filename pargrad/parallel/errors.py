"""What can end a run, each with the exit code that the command gives it.

PargradError
├── ResourcesError     3   asked for more than there is, or it was not there in time
├── WorkerLostError    4   too many workers died in a row
├── NonFiniteError     1   a loss, or a gradient's norm, is nan or infinite
├── CannotSendError    2   a model, loss or data set that other processes cannot be given
└── CheckpointError    5   a resume was asked for, and no checkpoint can be used
"""


class PargradError(RuntimeError):
    """What ends a run with one message: the base of the others. exit_code is that of the command."""

    exit_code = 1


class ResourcesError(PargradError):
    """More was asked for than there is, or it was not there in time."""

    exit_code = 3


class WorkerLostError(PargradError):
    """More than `max_failures` workers died without a completed step between them."""

    exit_code = 4


class NonFiniteError(PargradError):
    """A loss, or a gradient's norm, is nan or infinite; the parameters are those before it."""

    exit_code = 1


class CannotSendError(PargradError):
    """A model, loss or data set cannot be given to other processes; the message names the attribute."""

    exit_code = 2


class CheckpointError(PargradError):
    """A resume was asked for, and no checkpoint can be used."""

    exit_code = 5
