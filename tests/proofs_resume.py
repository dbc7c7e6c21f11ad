"""Proofs: a run whose driver is killed goes on to the same bits, and no damaged checkpoint is taken for a good one."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pargrad.parallel import CheckpointError, checkpoints
from pargrad.parallel.cores import available_cores
from tests.processes import descendants, gone, wait_until
from tests.proofs import proof
from tests.training import bits, examples, make_trainer

WAY, STEPS, EVERY = "branching", 1200, 5
WORKERS = [workers for workers in (0, 0, 0, 1, 2, 3) if workers <= available_cores()]


def lines_of(directory):
    """What metrics.jsonl says that does not depend on time."""
    lines = [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if not name.endswith(("_per_second", "_ms"))} for line in lines
    ]


def drive(directory, workers):
    """The whole run, or what is left of it; at its end the sha256 of its bits, and its history without times."""
    with make_trainer(WAY, workers, run_dir=directory, checkpoint_steps=EVERY) as trainer:
        trainer.open()
        print("open", flush=True)
        history = trainer.fit(examples(), max_steps=STEPS, validation=examples(200, 1))
    kept = [{name: value for name, value in entry.items() if "second" not in name} for entry in history]
    return {"bits": hashlib.sha256(b"".join(bits(trainer))).hexdigest(), "history": kept, "lines": lines_of(directory)}


def start(directory, workers):
    command = [sys.executable, "-m", "tests.proofs_resume", str(directory), str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(got, expected):
    assert got["bits"] == expected["bits"]
    assert got["history"] == expected["history"]
    for line, other in zip(got["lines"], expected["lines"]):
        assert line == other
    assert len(got["lines"]) == len(expected["lines"])


def end(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def finished(process):
    """What a driver that came to its end printed."""
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1])


@proof(50)
def resume(examples, seed):
    """A driver killed at random moments, resumed each time on another number of workers, ends with the same bits."""
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        expected, run, kills = finished(start(Path(root, "undisturbed"), 0)), 0, 0
        while kills < examples:
            process = start(Path(root, str(run)), workers := int(generator.choice(WORKERS)))
            if generator.random() < 0.9:  # else while it starts
                process.stdout.readline()
            time.sleep(generator.uniform(0, 0.8))
            below = descendants(process.pid)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            out, errors = process.communicate()
            assert "Traceback" not in errors, errors
            ours = [pid for pid, command in below.items() if "WorkerActor" in command]
            wait_until(lambda ours=ours: gone(ours), 15, f"the end of {workers} workers")
            end(below)  # Ray's own processes end by themselves, later
            if process.returncode == 0:
                check(json.loads(out.splitlines()[-1]), expected)
                run += 1
        check(finished(start(Path(root, str(run)), max(WORKERS))), expected)
    return kills


# ----- damage -----


def make_run(directory):
    """A run with three checkpoints."""
    with make_trainer("statistics", 0, run_dir=directory, checkpoint_steps=4) as trainer:
        for steps in (4, 4, 4):
            trainer.fit(examples(), max_steps=steps)


def flip(path, generator):
    data = bytearray(path.read_bytes())
    data[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
    path.write_bytes(data)


def truncate(path, generator):
    os.truncate(path, int(generator.integers(path.stat().st_size)))


def enlarge(path, generator):
    os.truncate(path, 1 << int(generator.integers(20, 43)))  # holes: it takes no room


def append(path, generator):
    path.write_bytes(path.read_bytes() + generator.bytes(int(generator.integers(1, 100))))


def scramble(path, generator):
    path.write_bytes(generator.bytes(path.stat().st_size))


def remove(path, generator):
    path.unlink()


def make_folder(path, generator):
    path.unlink()
    path.mkdir()


def nest(path, generator):
    path.write_text("[" * 100_000)


def claim(path, generator):
    """A header of 2^60 bytes, or arrays of them, in a file whose digest is right."""
    claim_to_have(1 << 60 if generator.random() < 0.5 else None, path.parent)


def claim_to_have(length, checkpoint):
    """Arrays of 2^60 bytes, and a header of this length, in a file whose digest is right. None: what it has."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 58], "data_offsets": [0, 1 << 60]}}).encode()
    state, tensors = json.loads((checkpoint / "state.json").read_text()), checkpoint / "model.safetensors"
    tensors.write_bytes((length or len(header)).to_bytes(8, "little") + header + bytes(100))
    state["files"][tensors.name] = {
        "bytes": tensors.stat().st_size,
        "sha256": hashlib.sha256(tensors.read_bytes()).hexdigest(),
    }
    restate(checkpoint, state)


def nonsense(path, generator):
    """Something else in a place of state.json, with its digest right; what is then loaded must not be."""
    state = json.loads((path.parent / "state.json").read_text())
    place = ("step", "epoch", "batches", "files", "metrics_bytes", "version", "format")[generator.integers(7)]
    state[place] = (None, -1, "x", [], {}, 1.5, {"model.safetensors": 3})[generator.integers(7)]
    restate(path.parent, state)


def restate(checkpoint, state):
    state.pop("sha256")
    (checkpoint / "state.json").write_text(json.dumps({**state, "sha256": checkpoints.digest_of(state)}))


DAMAGES = (flip, flip, truncate, enlarge, append, scramble, remove, make_folder, nest, claim, nonsense)


@proof(100)
def damage(examples, seed):
    """Checkpoints damaged in one way each: none is loaded as good, each is one line, and the one before it is used."""
    generator = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as root:
        make_run(Path(root, "whole"))
        for _ in range(examples):
            shutil.copytree(Path(root, "whole"), Path(root, "damaged"))
            folder = Path(root, "damaged", "checkpoints")
            found = [path for _, path in checkpoints.checkpoints_in(folder)]
            count = int(generator.integers(1, len(found) + 1))
            done = []
            for path in found[:count]:
                one = DAMAGES[generator.integers(len(DAMAGES))]
                name = ("model.safetensors", "optimizer.safetensors", "state.json")[generator.integers(3)]
                one(path / name, generator)
                done.append(f"{one.__name__} {name}")
            said = []
            try:
                used = checkpoints.newest(folder, 1 << 20, said.append).path
            except CheckpointError:
                used = None
            assert used == ([*found, None][count] if count < len(found) else None), (done, used, said)
            assert len(said) == count and all("passed over" in line and "\n" not in line for line in said), said
            shutil.rmtree(Path(root, "damaged"))
    return examples


if __name__ == "__main__":
    print(json.dumps(drive(sys.argv[1], int(sys.argv[2]))))
