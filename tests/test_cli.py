"""The command as users run it: in a process of its own, on real data, interrupted and killed."""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.resources import files

import pytest

from pargrad.cli import COMMANDS, EXIT_INTERRUPTED, EXIT_TERMINATED, main
from pargrad.commands.options import explanations
from tests.processes import descendants, gone, marked, shared_files, wait_until, workers_of

KEYS = {
    "accuracy", "loss", "train_seconds", "samples_per_second", "steps", "num_workers", "shards", "dataset",
    "state_sha256",
}  # fmt: skip


def start(*arguments, **environment):
    """The command, as from a terminal of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pargrad", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )


def send(process, number):
    """Sends a signal to the command; Ctrl-C goes to all that a terminal has in its foreground."""
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What two epochs print and write, with 0 and 2 workers; a batch size that leaves a short last batch."""
    out = {}
    for workers in (0, min(2, len(os.sched_getaffinity(0)))):
        path = tmp_path_factory.mktemp("run") / "figures.json"
        process = start(
            "train", "mnist", "--num-workers", str(workers), "--epochs=2", "--batch-size", "96", "--json", str(path)
        )
        printed, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        out[workers] = printed, errors, json.loads(path.read_text())
    return out


def test_the_hash_does_not_depend_on_the_number_of_workers(runs):
    assert len({figures["state_sha256"] for _, _, figures in runs.values()}) == 1
    assert len({figures["accuracy"] for _, _, figures in runs.values()}) == 1
    assert len(runs) == 2


def test_figures_and_what_is_printed(runs):
    for workers, (printed, errors, figures) in runs.items():
        assert set(figures) == KEYS
        assert figures["num_workers"] == workers
        assert figures["steps"] == 2 * 53  # 5,000 examples in batches of 96, the last one short
        assert figures["dataset"] == {"name": "mnist", "train": 5000, "test": 1000}
        assert figures["accuracy"] > 0.88
        assert printed.splitlines()[0] == "mnist from the embedded subset (5,000 train, 1,000 test)"
        assert printed.splitlines()[-1] == f"state sha256 {figures['state_sha256']}"
        assert re.search(r"^epoch 2/2: loss 0\.\d+, test accuracy \d\d\.\d\d%", printed, re.MULTILINE)
        assert "\r" not in errors  # no bar where there is no terminal


SIGNALS = [
    (signal.SIGINT, EXIT_INTERRUPTED, "pargrad: interrupted; without --run-dir there is no checkpoint"),
    (signal.SIGTERM, EXIT_TERMINATED, "pargrad: terminated; without --run-dir there is no checkpoint"),
    (signal.SIGKILL, -signal.SIGKILL, ""),
]


def check_the_end(process, mark, number, code, told):
    """The command, sent this signal, says what there is to say, and leaves nothing."""
    files, workers = shared_files(), workers_of(process.pid)
    send(process, number)
    wait_until(lambda: gone(workers), 60 if number != signal.SIGKILL else 10, "the end of the workers")
    assert process.wait(60) == code
    errors = process.stderr.read()
    assert told in errors and "Traceback" not in errors
    if number == signal.SIGKILL:  # Ray's own two agents end by themselves
        wait_until(lambda: not marked(mark), 90, "the end of Ray")
    assert marked(mark) == []
    assert shared_files() == files


def long_run(mark):
    return start("train", "mnist", "--num-workers", "1", "--epochs", "100000", PARGRAD_TEST=mark)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("number", "code", "told"), SIGNALS)
def test_a_signal_ends_the_command_and_its_workers(number, code, told):
    process = long_run(mark := secrets.token_hex(8))
    try:
        # The command begins at once, and its worker comes when Ray has started.
        wait_until(lambda: workers_of(process.pid), 100, "the start of the worker")
        check_the_end(process, mark, number, code, told)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("number", "code", "told"), SIGNALS[1:])
def test_a_signal_while_ray_starts_ends_ray_too(number, code, told):
    """The command then takes the seconds that Ray needs to start, for nothing can end it before."""
    process = long_run(mark := secrets.token_hex(8))
    try:
        wait_until(lambda: any("gcs_server" in each for each in descendants(process.pid).values()), 60, "Ray's start")
        assert not workers_of(process.pid)
        check_the_end(process, mark, number, code, told)
    finally:
        process.kill()
        process.communicate()


# ----- with a run directory -----


LONG = ["train", "mnist", "--batch-size", "16"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run of six epochs in a directory of its own, and its hash."""
    directory = tmp_path_factory.mktemp("unbroken")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*LONG, "--num-workers", "0", "--epochs", "6", "--run-dir", str(directory)]) == 0
    return directory, printed.getvalue().splitlines()[-1]


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("number", "code", "workers"), [
    (signal.SIGINT, EXIT_INTERRUPTED, 0),
    (signal.SIGTERM, EXIT_TERMINATED, 0),
    (signal.SIGTERM, EXIT_TERMINATED, 1),
])  # fmt: skip
def test_a_signal_ends_with_a_checkpoint_and_the_command_that_goes_on(
    tmp_path, unbroken, capsys, number, code, workers
):
    directory = tmp_path / "a run"
    process = start(*LONG, "--num-workers", str(workers), "--epochs", "100000", "--run-dir", str(directory))
    try:
        for line in process.stdout:
            if line.startswith("epoch 1/"):
                break
        process.send_signal(number)
        assert process.wait(60) == code
        errors = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in errors
    told = re.search(r"there is a checkpoint after step (\d+); go on with: pargrad (.*)$", errors, re.MULTILINE)
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert int(told[1]) == max(json.loads(line)["step"] for line in lines)
    # The command as it is printed goes on to as many epochs as were asked for; six of them are enough here.
    assert main([*shlex.split(told[2]), "--num-workers", "0", "--epochs", "6"]) == 0
    printed, errors = capsys.readouterr()
    assert printed.splitlines()[-1] == unbroken[1]
    assert f"going on after step {told[1]}" in errors


def test_the_configuration_of_a_run_is_one_for_the_command(unbroken, capsys):
    directory, last = unbroken
    assert main(["train", "--config", str(directory / "config.yaml")]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == last
    assert "epoch" not in printed  # all of them are done


def test_a_run_whose_checkpoints_are_all_damaged_ends_with_5(unbroken, tmp_path, capsys):
    directory = tmp_path / "copy"
    shutil.copytree(unbroken[0], directory)
    damaged = list(directory.glob("checkpoints/step-*/state.json"))
    for path in damaged:
        path.write_text("{}")
    arguments = [*LONG, "--num-workers", "0", "--epochs", "6", "--run-dir", str(directory)]
    assert main(arguments) == 5
    errors = capsys.readouterr().err
    assert errors.count("passed over: state.json is not of a pargrad checkpoint\n") == len(damaged) >= 3
    assert "Traceback" not in errors
    assert main([*arguments, "--resume", str(tmp_path / "nowhere")]) == 2  # it has checkpoints of its own
    assert main([*arguments, "--resume", "never"]) == 2


def test_a_path_to_resume_goes_back_to_that_checkpoint(unbroken, tmp_path, capsys):
    directory = tmp_path / "copy"
    shutil.copytree(unbroken[0], directory)
    *_, oldest = sorted(directory.glob("checkpoints/step-*"), reverse=True)
    arguments = [*LONG, "--num-workers", "0", "--epochs", "6", "--run-dir", str(directory), "--resume", str(oldest)]
    assert main(arguments) == 0
    printed, errors = capsys.readouterr()
    assert f"{oldest}: going on after step {int(oldest.name.removeprefix('step-'))}" in errors
    assert printed.splitlines()[-1] == unbroken[1]


def test_another_learning_rate_must_be_said(unbroken, tmp_path, capsys):
    directory = tmp_path / "copy"
    shutil.copytree(unbroken[0], directory)
    arguments = [*LONG, "--num-workers", "0", "--epochs", "7", "--lr", "0.01", "--run-dir", str(directory)]
    assert main(arguments) == 2
    assert "optimizer.lr was 0.001, is 0.01: write override=True (--override)" in capsys.readouterr().err
    assert main([*arguments, "--override"]) == 0
    assert "epoch 7/7" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["--num-workers", "4096", "--shards", "4096"], 3, r"asked for 4096 workers .* (available|free) cores"),
    (["--shards", "6"], 2, "power of two"),
    (["--num-workers", "-1"], 2, "num_workers"),
    (["--num-workers", "16"], 2, "shards=16"),
    (["--batch-size", "9000", "--num-workers", "0"], 2, "batch_size 9000 is larger than the data set"),
    (["--data-dir", "nowhere"], 2, "nowhere"),
    (["--epochs", "0"], 2, "--epochs 0"),
    (["--resume", "never"], 2, "need a --run-dir"),
    (["--checkpoint-steps", "3"], 2, "need a --run-dir"),
    (["--run-dir", "/proc/pargrad"], 2, "/proc/pargrad"),
    (["--json", "no/such/directory/out.json"], 2, "no directory"),
    (["--lr", "-1", "--num-workers", "0"], 2, "--lr -1.0: expected a finite number >= 0"),
])  # fmt: skip
def test_wrong_values_end_in_one_message(arguments, code, told, capsys):
    assert main(["train", "mnist", *arguments]) == code
    errors = capsys.readouterr().err
    assert re.search(told, errors)
    assert "Traceback" not in errors


@pytest.mark.parametrize(("arguments", "told"), [
    (["train", "mnist", "--num-wrkers", "2"], "Did you mean --num-workers?"),
    (["train", "--epochs", "many"], "pargrad train: --epochs many: expected a whole number\n"),
    (["train", "--num-workers", "1.5"], "--num-workers 1.5: expected a whole number or auto\n"),
    (["train", "--progress", "of"], "--progress of: expected auto or off. Did you mean off?"),
    (["trian"], "there is no command 'trian', only train, score, "),
    (["trian"], "simulate. Did you mean train?"),
    ([], "expected a command, one of train, score, "),
    (["runs"], "pargrad runs: expected directories: run directories, or directories with some below them\nexamples:"),
    (["train", "mnist", "--model", "rnn"], "expected mlp or cnn. Did you mean cnn?\n"),
    (["train", "mnist", "--lr", "fast"], "fast"),
    (["train", "mnist", "--", "mlp"], "nothing behind --, got mlp"),
])  # fmt: skip
def test_wrong_usage_ends_with_2(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_help_explains_every_option(capsys):
    for name, command in COMMANDS.items():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        shown = capsys.readouterr().out
        for option in dataclasses.fields(command.Options):
            explained = explanations(command.Options)[option.name]
            assert " ".join(explained.split()[:3]) in " ".join(shown.split()), f"{name}: {option.name}"
        assert command.EXAMPLES in shown


def test_the_cnn_runs(capsys):
    assert main(["train", "mnist", "--model", "cnn", "--num-workers", "0", "--fast-dev-run"]) == 0
    assert "cnn, 1,199,882 parameters" in capsys.readouterr().out


@pytest.mark.parametrize(("address", "code", "told"), [
    ("127.0.0.1:1", 3, "no Ray cluster at address '127.0.0.1:1'"),
    ("nonsense", 2, "'HOST:PORT', got 'nonsense'"),
])  # fmt: skip
def test_an_address_with_nothing_behind_it_is_said_at_once(address, code, told):
    process = start("train", "mnist", "--num-workers", "1", "--address", address)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert told in errors
    assert "Traceback" not in errors


def test_a_damaged_file_is_named(tmp_path, capsys):
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        with files("pargrad").joinpath("data/embedded/mnist", f"{name}.gz").open("rb") as source:
            (tmp_path / f"{name}.gz").write_bytes(source.read())
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\x03\xe8short"))
    assert main(["train", "mnist", "--data-dir", str(tmp_path)]) == 2
    assert "t10k-labels-idx1-ubyte" in capsys.readouterr().err


def test_config_files_have_the_fields_as_keys(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("num_workers: 0\nbatch_size: 500\nepochs: 1\nshards: 4\n")
    assert main(["train", "mnist", "--config", str(tmp_path / "run.yaml"), "--batch-size", "250"]) == 0
    printed = capsys.readouterr().out
    assert "this process alone: 4 shards, batch 250" in printed


def test_help_spells_flags_with_hyphens(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    assert "--num-workers" in printed
    assert "--num_workers" not in printed


def test_the_command_is_installed():
    """`pargrad` and `python -m pargrad` are one; without an installation there is only the second."""
    found = shutil.which("pargrad", path=os.path.dirname(sys.executable))
    command = [found] if found else [sys.executable, "-m", "pargrad"]
    assert (
        subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=True)
        .stdout.strip()
        .endswith("0.1.0")
    )
