"""What a checkpoint holds, that it is whole or not there, and that what was damaged is never taken for good."""

import errno
import hashlib
import json
import os
import resource
import shutil
import threading

import numpy as np
import pytest
import safetensors.numpy

import pargrad as pg
from pargrad.data import ArrayData
from pargrad.parallel import CheckpointError, checkpoints
from tests import proofs_resume
from tests.training import Branching, bits, examples, make_trainer

LARGEST = 1 << 20


def arrays():
    generator = np.random.default_rng(0)
    out = {
        name: generator.standard_normal((3, 5)).astype(name) for name in ("float16", "float32", "float64", "complex64")
    }
    return out | {
        "complex128": generator.standard_normal((2, 3)) + 1j,
        "bool": np.array([True, False, True]),
        "int64": np.arange(4),
        "uint8": np.arange(7, dtype=np.uint8),
        "number": np.array(2.5, np.float32),
        "nothing": np.empty((0, 3)),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        'of "strange" Ünicode/name': np.ones(1),
    }


def write(folder, step=1, **state):
    folder.mkdir(exist_ok=True)
    state = {"step": step, "epoch": 0, "batches": 1, "metrics_bytes": 0, **state}
    checkpoints.write_checkpoint(folder, step, arrays(), {"steps": np.arange(3)}, {}, state)
    return folder / checkpoints.step_name(step)


def test_what_is_written_is_read_again(tmp_path):
    path = write(tmp_path / "checkpoints", history=[{"loss": 0.1 + 0.2}])
    read = checkpoints.read_checkpoint(path, LARGEST)
    assert read.state["history"] == [{"loss": 0.1 + 0.2}]
    assert read.model.keys() == arrays().keys()
    for name, array in arrays().items():
        got = checkpoints.whole_of(read.model[name], array.dtype.name)
        assert (got.shape, got.dtype) == (array.shape, array.dtype), name
        assert (got == array).all(), name
    assert (path.parent / "LATEST").read_text() == "step-00000001\n"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["LATEST", "step-00000001"]
    assert safetensors.numpy.load_file(path / "model.safetensors").keys() == arrays().keys()


def test_a_digest_is_that_of_the_whole_json():
    state = {"b": [{"y": 1.5, "x": None}, [], "ü"], "a": [], "c": {"d": [1, 2]}, 'of "strange"': True, "e": 1e-300}
    for each in (state, {}):
        whole = json.dumps(each, sort_keys=True, separators=(",", ":"))
        assert checkpoints.digest_of(each) == hashlib.sha256(whole.encode()).hexdigest()


def test_the_model_in_a_checkpoint_is_a_state_dict(tmp_path):
    """Tied parameters are stored once, and `pargrad.load` ties them again."""
    with make_trainer("branching", 0, run_dir=tmp_path) as trainer:
        trainer.fit(examples(), max_steps=3)
    path = tmp_path / "checkpoints" / "step-00000003" / "model.safetensors"
    stored = safetensors.numpy.load_file(path)
    assert "first.weight" in stored
    assert "again.weight" not in stored
    model = Branching()
    model.load_state_dict(pg.load(path))
    for name, tensor in trainer.model.state_dict().items():
        assert (model.state_dict()[name].numpy() == tensor.numpy()).all(), name


def test_writing_stops_at_any_place_and_the_one_before_is_used(tmp_path, monkeypatch):
    """Every call that reaches the disk is the last one in turn."""
    names = ["fsync", "rename", "replace", "open"]
    real, left = {name: getattr(os, name) for name in names}, [0]

    class Killed(BaseException):
        pass

    def counted(name):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real[name](*arguments, **options)

        return call

    stops = 0
    for calls in range(1, 40):
        folder = tmp_path / str(calls)
        write(folder, 1)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", lambda *arguments, **options: None)  # nor is anything cleaned up
            for name in names:
                patch.setattr(os, name, counted(name))
            left[0] = calls
            try:
                write(folder, 2)
            except Killed:
                stops += 1
        said = []
        used = checkpoints.newest(folder, LARGEST, said.append)
        assert used.state["step"] in (1, 2)
        assert said == []
        named = (folder / "LATEST").read_text().strip()
        assert checkpoints.read_checkpoint(folder / named, LARGEST).state["step"] <= used.state["step"]
        checkpoints.remove_aside(folder)
        assert {entry.name for entry in folder.iterdir()} <= {"LATEST", "step-00000001", "step-00000002"}
    assert stops > 8


def test_no_damage_is_taken_for_good():
    assert proofs_resume.damage(10, 1) == 10


def test_a_damage_that_is_not_seen_would_fail_the_proof(monkeypatch):
    monkeypatch.setattr(proofs_resume, "DAMAGES", (lambda path, generator: None,))
    with pytest.raises(AssertionError):
        proofs_resume.damage(1, 0)


@pytest.mark.parametrize(("change", "told"), [
    (lambda path: (path / "model.safetensors").unlink(), "model.safetensors is missing"),
    (lambda path: (path / "state.json").unlink(), "state.json is missing"),
    (lambda path: os.truncate(path / "model.safetensors", 100), "model.safetensors has 100 bytes, expected"),
    (lambda path: os.truncate(path / "state.json", 1 << 40), "state.json has 1,099,511,627,776 bytes"),
    (lambda path: proofs_resume.claim_to_have(1 << 60, path), "model.safetensors is no safetensors file"),
    (lambda path: (path / "state.json").write_text("{"), "state.json is damaged"),
    (lambda path: (path / "state.json").write_text("[]"), "not of a pargrad checkpoint"),
])  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, change, told):
    path = write(tmp_path)
    change(path)
    with pytest.raises(checkpoints.Unusable, match=told):
        checkpoints.read_checkpoint(path, LARGEST)


@pytest.mark.parametrize("version", [0, 9])
def test_another_format_version_is_passed_over(tmp_path, version):
    write(tmp_path, 1)
    path = write(tmp_path, 2) / "state.json"
    path.write_text(path.read_text().replace('"version": 1', f'"version": {version}'))
    said = []
    assert checkpoints.newest(tmp_path, LARGEST, said.append).state["step"] == 1
    assert said == [f"{path.parent}: passed over: it has format version {version}, and this pargrad reads version 1"]
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        checkpoints.newest(tmp_path, LARGEST, said.append)


def test_a_fingerprint_sees_what_changed():
    x, y = examples(300)
    marks = [checkpoints.fingerprint(ArrayData(*each)) for each in (
        (x, y), (x[:299], y[:299]), (x.astype(np.float64), y), (x[:, :11], y), (x + np.float32(1e-6), y), (x, y[::-1]),
    )]  # fmt: skip
    assert checkpoints.fingerprint(ArrayData(x.copy(), y.copy())) == marks[0]
    assert all(mark != marks[0] for mark in marks[1:])


def test_differences_are_named():
    saved = {"seed": 0, "groups": [["a", "b"]], "lr": float("nan"), "gone": 1}
    given = {"seed": 1, "groups": [["a", "c"]], "lr": float("nan"), "new": 2}
    assert list(checkpoints.differences(saved, given)) == [
        "seed was 0, is 1",
        "groups[0][1] was 'b', is 'c'",
        "gone was 1, is 'not there'",
        "new was 'not there', is 2",
    ]


# ----- when nothing can be written -----


def undisturbed(steps):
    with make_trainer("mlp-adamw", 0) as trainer:
        trainer.fit(examples(), max_steps=steps)
    return bits(trainer)


def test_a_full_disk_is_a_warning_and_loses_nothing(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with make_trainer("mlp-adamw", 0, run_dir=tmp_path, checkpoint_steps=2) as trainer:
        trainer.fit(examples(), max_steps=4)
        (newest, _), *_ = checkpoints.checkpoints_in(tmp_path / "checkpoints")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))  # metrics.jsonl fits, arrays do not
            with pytest.warns(UserWarning, match=f"could not be written: .*the newest one is that after step {newest}"):
                trainer.fit(examples(), max_steps=6)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert checkpoints.checkpoints_in(tmp_path / "checkpoints")[0][0] == newest == 4
        assert not list((tmp_path / "checkpoints").glob(".tmp-*"))
        trainer.fit(examples(), max_steps=1)  # there is room again
    assert checkpoints.checkpoints_in(tmp_path / "checkpoints")[0][0] == 11
    assert [line["step"] for line in proofs_resume.lines_of(tmp_path)] == list(range(1, 12))
    assert bits(trainer) == undisturbed(11)


def test_no_room_for_metrics_is_a_warning_and_no_line_is_lost(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with make_trainer("mlp-adamw", 0, run_dir=tmp_path) as trainer:
        trainer.fit(examples(), max_steps=4)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
            with pytest.warns(UserWarning, match="metrics.jsonl could not be written"):
                trainer.fit(examples(), max_steps=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [line["step"] for line in proofs_resume.lines_of(tmp_path)] == list(range(1, 9))
    assert checkpoints.checkpoints_in(tmp_path / "checkpoints")[0][0] == 8


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    folder = tmp_path / "checkpoints"
    with make_trainer("mlp-adamw", 0, run_dir=tmp_path, checkpoint_steps=2) as trainer:
        trainer.fit(examples(), max_steps=2)
        folder.rename(tmp_path / "away")
        folder.write_text("no folder")  # as root, permissions would not keep anybody from writing
        with pytest.warns(UserWarning, match="could not be written"):
            trainer.fit(examples(), max_steps=6)
        folder.unlink()
        (tmp_path / "away").rename(folder)
    assert checkpoints.checkpoints_in(folder)[0][0] == 8
    assert bits(trainer) == undisturbed(8)


def test_a_disk_that_becomes_read_only_is_a_warning(tmp_path, monkeypatch):
    """As the system does it to a disk that fails."""

    def refused(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with make_trainer("mlp-adamw", 0, run_dir=tmp_path) as trainer:
        trainer.fit(examples(), max_steps=2)
        with monkeypatch.context() as patch:
            for name in ("mkdir", "rename", "replace", "pwrite", "ftruncate"):
                patch.setattr(os, name, refused)
            with pytest.warns(UserWarning, match="could not be written: .*Read-only file system"):
                trainer.fit(examples(), max_steps=6)
        assert checkpoints.checkpoints_in(tmp_path / "checkpoints")[0][0] == 2
    assert checkpoints.checkpoints_in(tmp_path / "checkpoints")[0][0] == 8
    assert [line["step"] for line in proofs_resume.lines_of(tmp_path)] == list(range(1, 9))
    assert bits(trainer) == undisturbed(8)


def test_a_directory_that_cannot_be_made_is_refused():
    with pytest.raises(OSError, match="/proc/pargrad"):
        make_trainer("mlp-adamw", 0, run_dir="/proc/pargrad")


def test_steps_go_on_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    """The disk holds up the writer, not the run; one is written at a time."""
    has_begun, may_go_on, begun = threading.Event(), threading.Event(), []
    real = checkpoints.write_checkpoint

    def slow(folder, step, *rest):
        begun.append(step)
        has_begun.set()
        assert may_go_on.wait(30)
        real(folder, step, *rest)

    monkeypatch.setattr(checkpoints, "write_checkpoint", slow)
    with make_trainer("mlp-adamw", 0, run_dir=tmp_path, checkpoint_steps=2) as trainer:
        real_count = trainer.count

        def count(result):
            real_count(result)
            if result.number == 3:
                assert has_begun.wait(30)
            if result.number == 7:
                assert begun == [2]
                may_go_on.set()

        trainer.count = count
        trainer.fit(examples(), max_steps=8)
    assert begun[0] == 2
    assert begun[-1] == 8
    state = checkpoints.read_checkpoint(tmp_path / "checkpoints" / "step-00000002", 1 << 30)
    with make_trainer("mlp-adamw", 0) as other:
        other.fit(examples(), max_steps=2)
    weights = dict(other.model.named_parameters())
    assert all((state.model[name] == p.array).all() for name, p in weights.items())  # those of step 2, not later ones


def test_one_thread_writes_and_ends_with_the_run(tmp_path, monkeypatch):
    """With a thread for each, the memory of a long run would grow: malloc has an arena for each, and keeps them."""
    writers, real = [], checkpoints.write_checkpoint

    def noted(*arguments):
        writers.append(threading.current_thread())
        real(*arguments)

    monkeypatch.setattr(checkpoints, "write_checkpoint", noted)
    with make_trainer("mlp-adamw", 0, run_dir=tmp_path, checkpoint_steps=2) as trainer:
        trainer.fit(examples(), max_steps=6)
        trainer.fit(examples(), max_steps=6)
    assert len(writers) > 2 and len(set(writers)) == 1
    assert not writers[0].is_alive()
