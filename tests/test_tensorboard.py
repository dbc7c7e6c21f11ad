"""Event files: what TensorBoard is given is what the run came to."""

import struct
import sys

import pytest

from pargrad.cli import main
from pargrad.nn import functional as F
from pargrad.parallel import TensorBoard, Trainer
from tests.training import adamw, examples, mlp


def scalars_in(directory):
    """{tag: [(step, value), ...]} of every event file, read by the records' lengths, without TensorFlow."""
    from tensorboardX.proto.event_pb2 import Event

    found = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
            at += 12 + length + 4  # a length and a sum before, a sum behind
    return found


def test_the_event_files_have_the_run_s_figures(tmp_path):
    model, data = mlp(), examples(320)
    with Trainer(
        model, F.cross_entropy, adamw(model), batch_size=32, num_workers=0, progress="off", clip_norm=1.0,
        callbacks=(TensorBoard(tmp_path),),
    ) as trainer:  # fmt: skip
        history = trainer.fit(data, epochs=2, validation=data)
    told = scalars_in(tmp_path)
    assert [step for step, _ in told["loss"]] == list(range(1, 21))
    assert [value for _, value in told["lr"]] == [pytest.approx(3e-3)] * 20
    assert all(value > 0 for _, value in told["gradient_norm"])
    assert told["validation_accuracy"] == [
        (step, pytest.approx(entry["validation_accuracy"])) for step, entry in zip((10, 20), history)
    ]
    assert [step for step, _ in told["samples_per_second"]] == [10, 20]


def test_the_command_writes_them_into_the_run_directory(tmp_path, capsys):
    arguments = ["train", "mnist", "--num-workers", "0", "--fast-dev-run", "--log", "tensorboard", "--progress", "off"]
    assert main(arguments) == 2
    assert "--log tensorboard writes into the run directory: give a --run-dir" in capsys.readouterr().err
    assert main([*arguments, "--run-dir", str(tmp_path / "run")]) == 0


def test_without_tensorboardx_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ValueError, match=r'pip install "pargrad\[tensorboard\]"'):
        TensorBoard("anywhere")
