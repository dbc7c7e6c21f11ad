"""Event files for TensorBoard, which tensorboardX writes."""

from __future__ import annotations

import os
import time
from typing import Any

from pargrad.parallel.callbacks import Callback
from pargrad.parallel.step import StepResult


class TensorBoard(Callback):
    """Writes what TensorBoard shows into a directory: `tensorboard --logdir DIRECTORY`.

    By step: loss, lr (of several groups lr/0, lr/1, ...) and, where it is known, gradient_norm; after each epoch
    samples_per_second and every validation figure that is one number. A resumed run hides what an earlier process
    wrote of steps after the checkpoint.
    """

    runs_ahead = True

    def __init__(self, directory: Any):
        try:
            import tensorboardX.event_file_writer
            import tensorboardX.proto.event_pb2
            import tensorboardX.summary
        except ImportError as error:
            raise ValueError(
                'event files are written by tensorboardX, which is not installed: pip install "pargrad[tensorboard]"'
            ) from error
        self.library = tensorboardX
        self.directory = str(directory)
        self.writer: Any = None

    def on_fit_start(self, trainer: Any) -> None:
        if self.writer is None:
            os.makedirs(self.directory, exist_ok=True)
            # Not its SummaryWriter, which hands events to a thread and has no way to wait until they are written.
            self.writer = self.library.event_file_writer.EventsWriter(os.path.join(self.directory, "events"))
            if trainer.steps:
                events = self.library.proto.event_pb2
                self.add(trainer.steps + 1, session_log=events.SessionLog(status=events.SessionLog.START))

    def on_step_end(self, trainer: Any, result: StepResult) -> None:
        rates = dict.fromkeys(result.lr)
        names = ["lr"] if len(rates) == 1 else [f"lr/{i}" for i in range(len(result.lr))]
        self.write(result.number, {"loss": result.loss, "gradient_norm": result.norm, **dict(zip(names, result.lr))})

    def on_epoch_end(self, trainer: Any, entry: dict[str, Any]) -> None:
        told = {name: value for name, value in entry.items() if name.startswith("validation_")}
        self.write(trainer.steps, {"samples_per_second": entry["samples_per_second"], **told})

    def on_fit_end(self, trainer: Any) -> None:
        self.writer.flush()

    def write(self, step: int, figures: dict[str, Any]) -> None:
        """Writes the figures that are numbers, as scalars of this step."""
        for name, value in figures.items():
            if isinstance(value, int | float):
                self.add(step, summary=self.library.summary.scalar(name, value))

    def add(self, step: int, **what: Any) -> None:
        """Writes one event of this step."""
        self.writer.write_event(self.library.proto.event_pb2.Event(step=step, wall_time=time.time(), **what))
