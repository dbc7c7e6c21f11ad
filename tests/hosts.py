"""Three hosts on this machine, each a Ray node with an address of its own, whose links are slowed, lossy, or cut.

A host is a network namespace, its link a pair of interfaces, one of them at a bridge that joins all. Packets are held
up by the kernel's token bucket, and lost by a filter of four instructions that draws a number for each. Linux has all
this, and lets root alone have it.
"""

import contextlib
import ctypes
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.cluster import HEALTH, SECONDS
from tests.processes import wait_until

NETWORK, PORT, UDP_PORT = "10.77.0.", 6379, 5000  # seen by nobody but the hosts
CLONE_NEWNET, SO_RCVBUFFORCE, SKF_AD_RANDOM = 0x40000000, 33, 0xFFFFF000 + 56  # of Linux
PACKETS = 800  # fewer than the 1,000 that Linux keeps where a core is too busy to pass them on


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def refusal():
    """Why this system cannot have hosts, in words; None where it can."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"hosts need the command {tool}: install iproute2"
    try:
        with Network(1) as network:
            network.links[0].slow(1)
            network.links[0].lose(0.5)
            return None
    except OSError as error:
        return f"hosts need network namespaces, which root may make: {error}"


class Link:
    """A host's link. What is told here holds in both directions."""

    def __init__(self, host, outer):
        self.host, self.outer = host, outer

    def tc(self, kind, verb, *what):
        """Runs tc at both ends of the link."""
        run("tc", kind, verb, "dev", self.outer, *what)
        run("tc", "-n", self.host, kind, verb, "dev", "eth0", *what)

    def slow(self, megabits):
        self.tc("qdisc", "replace", "root", "tbf", "rate", f"{megabits}mbit", "burst", "64kb", "latency", "300ms")

    def lose(self, share):
        """Loses this share of all packets."""
        # Instructions of the classic filter, as linux/filter.h has them; a packet is let through (0) or dropped (2).
        random, jump_if_at_least, give = f"32 0 0 {SKF_AD_RANDOM}", f"53 0 1 {round(share * 2**32)}", "6 0 0"
        program = f"4,{random},{jump_if_at_least},{give} 0,{give} 2"
        self.tc("qdisc", "replace", "clsact")
        self.tc("filter", "replace", "egress", "bpf", "direct-action", "bytecode", program)

    def cut(self):
        run("ip", "link", "set", self.outer, "down")

    def mend(self):
        """As new."""
        run("ip", "link", "set", self.outer, "up")
        for kind in ("root", "clsact"):
            with contextlib.suppress(OSError):  # where there is none
                self.tc("qdisc", "delete", kind)


class Network:
    """The namespaces of so many hosts, from 1 on, joined by a bridge."""

    def __init__(self, count):
        mark = f"{os.getpid()}{secrets.token_hex(1)}"
        self.bridge, self.names = f"pgb{mark}", [f"pargrad-{mark}-{host}" for host in range(1, count + 1)]
        self.links = []
        try:
            run("ip", "link", "add", self.bridge, "up", "type", "bridge")
            for host, name in enumerate(self.names, 1):
                run("ip", "netns", "add", name)
                outer = f"pg{mark}.{host}"
                run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
                run("ip", "link", "set", outer, "master", self.bridge, "up")
                run("ip", "-n", name, "address", "add", f"{NETWORK}{host}/24", "dev", "eth0")
                for device in ("eth0", "lo"):
                    run("ip", "-n", name, "link", "set", device, "up")
                self.links.append(Link(name, outer))
        except BaseException:
            self.close()
            raise

    def processes(self, host):
        return [int(pid) for pid in run("ip", "netns", "pids", self.names[host - 1]).split()]

    def end_processes(self, host):
        """Ends everything that runs on a host."""

        def ended():
            for pid in self.processes(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not self.processes(host)

        wait_until(ended, 30, f"the end of host {host}'s processes")

    def close(self):
        for name in self.names:
            if Path("/run/netns", name).exists():
                self.end_processes(self.names.index(name) + 1)
                run("ip", "netns", "delete", name)  # and its end of the link, and so the other one
        with contextlib.suppress(OSError):  # where it could not be made
            run("ip", "link", "delete", self.bridge)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def process_on(self, host):
        """A process on a host, to which functions are submitted."""
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), enter, (self.names[host - 1],))


def enter(name):
    """Moves this process into a namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as namespace:
        if library.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Hosts:
    """Hosts of one core each, with a Ray of them all; the driver's is the first."""

    def __init__(self, count=3):
        self.settings = {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        }  # fmt: skip
        self.directory = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        self.network = Network(count)
        self.raylets = {}
        self.driver = self.watch = None
        try:
            for host in range(1, count + 1):
                self.start(host)
            self.driver, self.watch = self.network.process_on(1), self.network.process_on(1)
            for process in (self.driver, self.watch):
                process.submit(join, self.settings).result(SECONDS)
            self.wait_for(range(1, count + 1))
        except BaseException:
            self.close()
            raise

    def start(self, host):
        """Makes a host a node of the Ray."""
        folder = Path(self.directory, str(host))
        folder.mkdir(exist_ok=True)
        head = ["--head", f"--port={PORT}", f"--system-config={json.dumps(HEALTH)}", "--include-dashboard=false"]
        role = head if host == 1 else [f"--address={NETWORK}1:{PORT}"]
        node = [f"--node-ip-address={NETWORK}{host}", "--num-cpus=1", "--object-store-memory=80000000"]
        there = ["ip", "netns", "exec", self.network.names[host - 1]]
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--temp-dir={folder}", *node, *role]
        with open(folder / "log", "a") as log:
            self.raylets[host] = subprocess.Popen(
                [*there, *ray], stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.settings}
            )
        if host == 1:
            wait_until(self.reachable, 40, "the start of Ray on host 1")

    def reachable(self):
        with self.network.process_on(1) as process:
            return process.submit(listens, f"{NETWORK}1", PORT).result(20)

    def alive(self):
        """The hosts that Ray takes for alive."""
        return sorted(int(address.rpartition(".")[2]) for address in self.watch.submit(addresses).result(SECONDS))

    def wait_for(self, hosts):
        wait_until(lambda: self.alive() == list(hosts), 60, f"a Ray of hosts {list(hosts)}")

    def revive(self):
        """Brings back the hosts that Ray has lost, whatever runs there; every link is as new."""
        for link in self.network.links:
            link.mend()
        for host in {*self.raylets} - {*self.alive()}:
            self.network.end_processes(host)
            self.raylets[host].wait()
            self.start(host)
        self.wait_for(sorted(self.raylets))

    def close(self):
        for process in (self.driver, self.watch):
            if process is not None:
                process.shutdown(wait=False, cancel_futures=True)
        self.network.close()
        for raylet in self.raylets.values():
            raylet.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


# ----- on a host -----


def listens(address, port):
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def join(settings):
    os.environ.update(settings)
    import ray

    ray.init(address=f"{NETWORK}1:{PORT}", _node_ip_address=f"{NETWORK}1", log_to_driver=False, logging_level="error")


def addresses():
    import ray

    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]


listening = None  # the socket of this process


def listen(address):
    """From here on packets are kept: there is room for all of them."""
    global listening
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    listening.bind((address, UDP_PORT))


def received():
    """How many packets have come, once none has come for a second."""
    listening.settimeout(1)
    count = 0
    with contextlib.suppress(TimeoutError):
        while True:
            count += len(listening.recv(2000)) > 0
    return count


def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end, contextlib.suppress(OSError):  # it cannot be reached
        end.sendto(b"", (address, UDP_PORT))  # which does not count, and finds the way
        time.sleep(0.2)
        for _ in range(PACKETS):
            end.sendto(bytes(1000), (address, UDP_PORT))
