"""Jobs as users run them: sent over HTTP with a token to a real Ray head, followed, stopped, gone on with."""

import contextlib
import http.server
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from pargrad.cli import EXIT_INTERRUPTED, EXIT_TERMINATED, main
from pargrad.commands import submit
from pargrad.parallel import ray_jobs
from tests import heads

HASH = re.compile(r"^state sha256 ([0-9a-f]{64})$", re.MULTILINE)
LONG = ["train", "mnist", "--batch-size", "16"]


@pytest.fixture(scope="module")
def head():
    with heads.head(cores=2) as head:
        yield head


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A directory to submit from."""
    directory = tmp_path_factory.mktemp("project")
    (directory / "train.py").write_text("print('here')\n")
    (directory / "big.npy").write_bytes(b"0" * 100)
    (directory / ".rayignore").write_text("*.npy\n")
    return directory


def start(project, *arguments, command="submit", **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "pargrad", command, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(heads.ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, seconds=60):
    printed, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors
    return process.returncode, printed, errors


@contextlib.contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_line(process, beginning):
    """Reads what a process prints until a line begins so."""
    for line in process.stdout:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line began with {beginning!r}: {process.stderr.read()}")


# ----- with a real head -----


@pytest.mark.timeout(180)
def test_a_job_ends_in_a_scored_model_with_the_bits_of_one_process(head, project, tmp_path, capsys):
    path = tmp_path / "figures.json"
    sent = ["train", "mnist", "--epochs", "2", "--num-workers", "2", "--json", str(path)]
    code, printed, errors = finish(start(project, "--to", head.address, "--", *sent), 90)
    assert code == 0, errors
    lines = printed.splitlines()
    assert re.fullmatch(r"raysubmit_\w+", lines[0])
    assert json.loads(path.read_text())["accuracy"] > 0.88
    assert f"sends {project}: 2 files, 0.0 MB; left out: big.npy" in errors
    assert f"job {lines[0]} has succeeded" in errors
    assert main(["train", "mnist", "--epochs", "2", "--num-workers", "0"]) == 0
    assert HASH.search(printed)[1] == HASH.search(capsys.readouterr().out)[1]


@pytest.mark.timeout(240)
def test_a_job_is_left_followed_stopped_and_gone_on_with(head, project, tmp_path, capsys, monkeypatch):
    """One long job: Ctrl-C leaves it running, its cores are taken, --stop has it write a checkpoint, which is used."""
    to, directory = ["--to", head.address], tmp_path / "run"
    sent = [*LONG, "--epochs", "100000", "--num-workers", "2", "--run-dir", str(directory)]
    with ended(start(project, *to, "--", *sent)) as process:
        job = process.stdout.readline().strip()
        wait_for_line(process, "epoch 1/")
        process.send_signal(signal.SIGINT)
        code, _, errors = finish(process)
    assert code == EXIT_INTERRUPTED
    told = re.search(r"stop it with: pargrad submit (.*)$", errors, re.MULTILINE)[1]
    assert main(["submit", *to, "--status", job]) == 0
    assert capsys.readouterr().out == "RUNNING\n"

    monkeypatch.chdir(project)
    assert main(["submit", *to, "--", "train", "mnist", "--num-workers", "1"]) == 3
    assert "asked for 1 workers of one core each, but Ray has 0 free cores" in capsys.readouterr().out

    with ended(start(project, *to, "--logs", job)) as follower:
        wait_for_line(follower, "epoch 2/")
        assert main(["submit", *shlex.split(told)]) == 0
        assert finish(follower)[0] == EXIT_TERMINATED
    printed, errors = capsys.readouterr()
    assert f"job {job} has ended: STOPPED" in errors
    step = int(re.search(r"there is a checkpoint after step (\d+)", printed)[1])
    assert main(["submit", *to, "--stop", job]) == 0  # once more changes nothing
    assert f"job {job} had ended before: STOPPED" in capsys.readouterr().err

    again = ["train", "--config", str(directory / "config.yaml"), "--epochs", "6", "--num-workers", "0"]
    assert main(["submit", *to, "--", *again]) == 0
    printed = capsys.readouterr().out
    assert f"going on after step {step}" in printed
    assert HASH.search(printed)


@pytest.mark.timeout(180)
def test_a_plain_job_of_ray_needs_no_flag(head, project):
    """`ray job submit` as Ray has it; without --address the job has a Ray of its own, and is told so."""
    ray = os.path.join(os.path.dirname(sys.executable), "ray")
    process = subprocess.run(
        [
            *(ray, "job", "submit", "--address", head.address, "--working-dir", ".", "--"),
            *("python", "-m", "pargrad", "train", "mnist", "--epochs", "1", "--num-workers", "1"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert process.returncode == 0, process.stdout
    assert "--address local in a Ray job starts a second Ray" in process.stdout
    assert HASH.search(process.stdout)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("environment", "told"), [
    ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses this token: export RAY_AUTH_MODE=token"),
    ({"RAY_AUTH_MODE": "disabled"}, "wants a token: export RAY_AUTH_MODE=token"),
    ({"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"}, "there is no token: export RAY_AUTH_MODE=token"),
])  # fmt: skip
def test_a_wrong_token_says_what_to_export(head, project, environment, told):
    code, printed, errors = finish(start(project, "--to", head.address, "--", "train", "mnist", **environment), 40)
    assert (code, printed) == (2, "")
    assert told in errors


@pytest.mark.timeout(120)
def test_a_wrong_token_at_the_cluster_itself(head, project):
    """Without a job, over Ray's own protocol, where it cannot be told from a cluster that does not answer."""
    arguments = ["mnist", "--num-workers", "1", "--address", head.ray_address]
    environment = {"RAY_AUTH_TOKEN": "0" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"}  # Ray tries for 20 seconds
    code, _, errors = finish(start(project, *arguments, command="train", **environment))
    assert code == 3
    assert "If there is one, it may want a token: export RAY_AUTH_MODE=token" in errors


@pytest.mark.timeout(120)
def test_a_job_that_is_not_there(head, capsys):
    for asked in ("--logs", "--status", "--stop"):
        assert main(["submit", "--to", head.address, asked, "raysubmit_none"]) == 2
        assert f"there is no job 'raysubmit_none' at {head.address}" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_no_wait_prints_the_id_and_logs_what_is_there(head, project, capsys, monkeypatch):
    monkeypatch.chdir(project)
    to = ["submit", "--to", head.address]
    assert main([*to, "--no-wait", "--submission-id", "mine", "--", "train", "mnist", "--num-workers", "-3"]) == 0
    assert capsys.readouterr().out == "mine\n"
    assert main([*to, "--logs", "mine"]) == 2  # the job's own exit code
    followed = capsys.readouterr().out
    assert "num_workers" in followed
    assert main([*to, "--no-wait", "--logs", "mine"]) == 0
    assert capsys.readouterr().out == followed
    assert main([*to, "--no-wait", "--submission-id", "mine", "--", "train", "mnist"]) == 2
    assert "mine already exists" in capsys.readouterr().err


# ----- without one -----


@contextlib.contextmanager
def server(handler):
    """Something that answers on a port and is no Ray."""
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


class Nothing(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


class OtherJson(Nothing):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"hello": 1}')


@pytest.mark.parametrize("handler", [Nothing, OtherJson])
def test_what_answers_and_is_no_dashboard(handler, capsys):
    with server(handler) as address:
        assert main(["submit", "--to", address, "--status", "x"]) == 2
    assert f"what answers at {address} is no Ray dashboard" in capsys.readouterr().err


def test_an_address_with_nothing_behind_it(capsys):
    (port,) = heads.free_ports(1)
    assert main(["submit", "--to", f"http://127.0.0.1:{port}", "--status", "x"]) == 3
    assert f"no Ray dashboard answers at http://127.0.0.1:{port}" in capsys.readouterr().err


def test_one_who_listens_and_never_answers(capsys, monkeypatch):
    monkeypatch.setattr(ray_jobs, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert main(["submit", "--to", address, "--status", "x"]) == 3
    assert f"no Ray dashboard answers at {address}" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "told"), [
    ([], "either a command behind --, or one of --logs, --status and --stop"),
    (["--logs", "x", "--", "train"], "either a command behind --"),
    (["--logs", "x", "--stop", "x"], "either a command behind --"),
    (["--status", "x"], "expected --to http://HOST:8265"),
    (["--to", "127.0.0.1:8265", "--status", "x"], "expected the address of the cluster's dashboard"),
    (["--to", "http://h:1", "--", "train", "mnist", "--run-dir", "runs/first"], "--run-dir /mnt/runs/first"),
    (["--to", "http://h:1", "--", "train", "mnist", "--json", "out.json"], "--json out.json would be written"),
    (["--to", "http://h:1", "--", "trian"], "expected a command of pargrad behind --"),
    (["--to", "http://h:1", "--", "submit"], "expected a command of pargrad behind --"),
    (["--to", "http://h:1", "--", "options"], "expected a command of pargrad behind --"),
    (["--to", "http://h:1", "--runtime-env", "no.yaml", "--", "train"], "no.yaml"),
])  # fmt: skip
def test_wrong_use_is_said_before_anything_is_sent(arguments, told, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert main(["submit", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_misspelt_flag_of_the_job_is_said_here(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["submit", "--to", "http://h:1", "--", "train", "mnist", "--num-wrkers", "2"])
    assert caught.value.code == 2
    assert "Did you mean --num-workers?" in capsys.readouterr().err


def test_the_command_joins_its_cluster_unless_told_otherwise():
    assert submit.checked_command(("train", "mnist")) == ["train", "mnist", "--address", "auto"]
    given = ["train", "mnist", "--address=local"]
    assert submit.checked_command(tuple(given)) == given
    there = ["train", "--config", "/mnt/runs/a/config.yaml"]
    assert submit.checked_command(tuple(there)) == [*there, "--address", "auto"]


def test_the_runtime_environment(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text("env_vars: {A: '1', RAY_JOB_STOP_WAIT_TIME_S: '9'}\nworking_dir: s3://bucket/code.zip\n")
    options = submit.Options(runtime_env=str(path), pip="einops, tqdm==4.66")
    assert submit.runtime_environment(options) == {
        "env_vars": {"A": "1", "RAY_JOB_STOP_WAIT_TIME_S": "9"},
        "working_dir": "s3://bucket/code.zip",
        "pip": ["einops", "tqdm==4.66"],
    }
    (tmp_path / "requirements.txt").write_text("# comment\neinops\n\n")
    options = submit.Options(pip=str(tmp_path / "requirements.txt"), stop_seconds=30)
    assert submit.runtime_environment(options) == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}, "working_dir": ".", "pip": ["einops"],
    }  # fmt: skip
    for text, told in (("- a list", "got list"), ("a: [", "is no YAML")):
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            submit.runtime_environment(submit.Options(runtime_env=str(path)))


@pytest.mark.parametrize(("status", "driver", "kind", "code"), [
    ("SUCCEEDED", 0, None, 0),
    ("STOPPED", None, None, 143),
    ("FAILED", 5, "JOB_ENTRYPOINT_COMMAND_ERROR", 5),
    ("FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR", 137),
    ("FAILED", None, "RUNTIME_ENV_SETUP_FAILURE", 1),
    ("FAILED", None, "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE", 3),
])  # fmt: skip
def test_the_exit_code_is_the_jobs(status, driver, kind, code):
    details = SimpleNamespace(status=SimpleNamespace(value=status), driver_exit_code=driver, error_type=kind)
    assert ray_jobs.exit_code_of(details) == code


def test_the_address_that_is_given_holds_against_the_environment(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    with ray_jobs.preferred("http://here:2"):
        assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://here:2"
    assert os.environ["RAY_API_SERVER_ADDRESS"] == "http://elsewhere:1"
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    with ray_jobs.preferred("http://here:2"):
        pass
    assert "RAY_API_SERVER_ADDRESS" not in os.environ


def test_before_anything_is_sent_an_interruption_leaves_nothing():
    assert submit.how_to_go_on(submit.Options(to="http://h:1")) == "nothing was submitted"


def test_in_a_job_a_relative_path_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert main(["train", "mnist", "--num-workers", "0", "--run-dir", "runs/first"]) == 2
    errors = capsys.readouterr().err
    assert "--run-dir runs/first would be written into the job's own directory" in errors
    assert "--address" not in errors  # no Ray, no word about one
