"""The head of a Ray cluster with its dashboard, on this machine, as `ray start --head` makes it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from tests.processes import descendants, gone, wait_until

ROOT = Path(__file__).parent.parent
START_SECONDS = 60


class Head(NamedTuple):
    address: str  # of the dashboard and the job server
    ray_address: str  # HOST:PORT that --address takes


def free_ports(count):
    """Ports that nobody listens on, none of them among those that Ray gives to workers."""
    with contextlib.ExitStack() as stack:
        ports = []
        while len(ports) < count:
            sock = stack.enter_context(socket.socket())
            sock.bind(("127.0.0.1", 0))
            if not 10_000 <= (port := sock.getsockname()[1]) < 20_000:
                ports.append(port)
        return ports


@contextlib.contextmanager
def head(cores):
    """A head of so many cores, with the token of this test session; everything it started ends with it.

    Its directory lies in /tmp, since the path of a Unix socket must be short.
    """
    port, dashboard, agent, client = free_ports(4)
    directory = tempfile.mkdtemp(prefix="pargrad-", dir="/tmp")
    command = [
        *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}"),
        *(f"--num-cpus={cores}", "--object-store-memory=80000000", f"--temp-dir={directory}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
        f"--ray-client-server-port={client}",
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # of the jobs' `python`
    process = subprocess.Popen(
        command,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        ready = Path(directory, "ray_current_cluster")  # written when its node has joined
        wait_until(lambda: (ready.exists() and answers(address)) or ended(process), START_SECONDS, "the start of Ray")
        assert not ended(process), "ray start has failed"
        yield Head(address, ready.read_text().strip())
    finally:
        started = [process.pid, *descendants(process.pid)]
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: gone(started), 20, "the end of a Ray head")
        shutil.rmtree(directory, ignore_errors=True)


def ended(process):
    return process.poll() is not None


def answers(address):
    """Whether the job server is there: with a token it refuses who comes without."""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/api/version", timeout=2)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    return True
