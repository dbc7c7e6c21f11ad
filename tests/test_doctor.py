"""The doctor: what it finds, what it calls wrong, and the exit code that follows."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pargrad.cli import main
from pargrad.parallel import doctor
from tests.heads import ROOT, free_ports

NAMES = {"versions", "BLAS", "cores", "memory", "shared memory", "authentication", "jobs", "data", "run directory"}


def diagnosis(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-m", "pargrad", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_machine_that_can_train(capsys, tmp_path):
    assert main(["doctor", "--run-dir", str(tmp_path / "not" / "there" / "yet")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "can train"
    assert lines[0].startswith("ok      versions: pargrad 0.1.0 in ")
    assert any("numpy 2" in line and "ray 2" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_same_findings(capsys):
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert {finding["name"] for finding in findings} == NAMES
    assert all(set(finding) == {"name", "level", "text", "advice"} for finding in findings)
    assert all(finding["level"] in ("ok", "warning") for finding in findings)


def test_without_git_or_anything_else_on_the_path(tmp_path):
    """A copy that was not cloned, on a machine where no command is found."""
    code, printed, errors = diagnosis("--json", PATH="", PARGRAD_DATA="/nonexistent", HOME=str(tmp_path))
    assert code == 3, errors
    (data,) = [finding for finding in json.loads(printed) if finding["level"] == "error"]
    assert data["name"] == "data"
    assert "PARGRAD_DATA" in data["text"]


@pytest.mark.timeout(120)
def test_the_nodes_of_a_cluster(cluster):
    address = cluster.get_runtime_context().gcs_address
    code, printed, errors = diagnosis("--address", address)
    assert code == 0, errors
    assert f"of 4 cores are free at {address}" in printed
    assert "ok      node: " in printed
    assert "ok      authentication: token, from RAY_AUTH_TOKEN" in printed


def test_an_address_with_nothing_behind_it():
    (port,) = free_ports(1)
    code, printed, _ = diagnosis("--address", f"127.0.0.1:{port}")
    assert code == 3
    assert f"error   Ray: no Ray cluster at address '127.0.0.1:{port}'" in printed
    assert printed.splitlines()[-1] == "cannot train: Ray"


def test_a_token_that_is_not_there_is_said_before_ray_ends_the_process(tmp_path):
    (port,) = free_ports(1)
    code, printed, _ = diagnosis("--address", f"127.0.0.1:{port}", RAY_AUTH_TOKEN="", HOME=str(tmp_path))
    assert code == 3
    assert "error   authentication: RAY_AUTH_MODE=token, and there is no token" in printed
    assert "export RAY_AUTH_MODE=token" in printed


def test_where_a_token_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    assert doctor.authentication("auto").text == "token, from RAY_AUTH_TOKEN"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert doctor.authentication("auto").level == "error"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x\n")
    assert doctor.authentication("auto").text == "token, from ~/.ray/auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nowhere"))
    assert doctor.authentication("auto").level == "error"
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert doctor.authentication("local").level == "ok"
    assert doctor.authentication("auto").level == "warning"


def usage(total=10**12, free=10**12):
    return lambda place: SimpleNamespace(total=total, free=free)


def test_a_small_shared_memory_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", usage(total=64_000_000))
    monkeypatch.setattr(doctor, "in_container", lambda: True)
    found = doctor.shared_memory(str(tmp_path))
    assert found.level == "warning"
    assert "64 MB, which is a container's usual size" in found.text
    assert "--shm-size" in found.advice
    monkeypatch.setattr(doctor.shutil, "disk_usage", usage(total=2_000_000_000))
    assert doctor.shared_memory(str(tmp_path)).level == "ok"
    assert doctor.shared_memory(str(tmp_path / "nowhere")).level == "ok"


def test_little_memory_a_busy_machine_and_a_full_disk_are_warnings(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "available_memory", lambda: 10**8)
    assert doctor.memory().level == "warning"
    monkeypatch.setattr(doctor, "available_memory", lambda: None)
    assert doctor.memory().level == "ok"
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (100.0, 0.0, 0.0))
    assert doctor.cores().level == "warning"
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert doctor.cores().level == "ok"
    monkeypatch.setattr(doctor.shutil, "disk_usage", usage(free=1000))
    assert doctor.run_directory(str(tmp_path)).level == "warning"


def test_a_run_directory_that_cannot_be_written():
    assert doctor.run_directory("/proc/runs").level == "error"


def test_a_cluster_without_a_free_core_cannot_train():
    assert doctor.free_cores("a:1", {}, {"CPU": 8.0}).level == "error"
    assert doctor.free_cores("a:1", {"CPU": 1.0}, {"CPU": 8.0}).level == "ok"
    node = {"NodeManagerHostname": "h", "NodeManagerAddress": "10.0.0.2", "Resources": {"CPU": 2.0}, "Alive": True}
    assert doctor.described(node).text == "h (10.0.0.2), 2 cores"
    assert doctor.described({**node, "Alive": False}).level == "warning"


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "version_of", lambda name: None if name == "scipy" else "1.0")
    found = doctor.versions()
    assert (found.level, found.advice) == ("error", "pip install scipy")
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "pip install 'pargrad[cluster]'" in doctor.job_client().text
