"""`pargrad profile`: where driver and workers spend their time, as a flame graph."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pargrad.commands.options import REST

HELP = "draw where a command's driver and workers spend their time"
EXAMPLES = """\
  pargrad profile -- train mnist --epochs 3                   into flames.svg: open it in a browser
  pargrad profile --out score.svg -- score runs/first
  pargrad profile --how sampling --rate 50 -- train mnist     by pargrad's own sampler\
"""
PROBE = [sys.executable, "-c", "import time; time.sleep(60)"]
PROBE_SECONDS = WRITE_SECONDS = 20.0  # that py-spy may take to look at a process, and to write what it saw


@dataclass
class Options:
    """Run a command of pargrad, and draw where its driver and its workers on this machine spend their time.

    Args:
        out: the .svg file to write
        how: py-spy sees inside C functions' callers without touching them, and must be installed and allowed; sampling
            is a thread in each process; auto takes py-spy where that works
        rate: samples a second and thread
        command: what is run, as it would be written behind pargrad
    """

    out: str = "flames.svg"
    how: Literal["auto", "py-spy", "sampling"] = "auto"
    rate: float = 100.0
    command: tuple[str, ...] = field(default=(), metadata=REST)


def run(options: Options) -> int:
    from pargrad.reporting.figures import check_folder
    from pargrad.reporting.flames import flame_graph, read_folded

    out = check_folder(options.out, "--out")
    if out.suffix.lower() != ".svg":
        raise ValueError(f"--out {out}: expected a name that ends in .svg")
    if not 1 <= options.rate <= 1000:
        raise ValueError(f"--rate {options.rate:g}: expected 1 to 1000 samples a second")
    if not options.command or options.command[0] == "profile":
        raise ValueError("give the command to run behind --: pargrad profile -- train mnist --epochs 3")
    spy = chosen(options.how)
    command = [sys.executable, "-m", "pargrad", *options.command]
    with tempfile.TemporaryDirectory(prefix="pargrad-profile-") as folder:
        code = spied(spy, command, options.rate, folder) if spy else sampled(command, options.rate, folder)
        lines = [line for path in sorted(Path(folder).glob("*.folded")) for line in path.read_text().splitlines()]
    stacks = {stack: n for stack, n in read_folded(lines).items() if any("pargrad" in frame for frame in stack[1:])}
    if not stacks and code:
        return code  # which has said why
    out.write_text(flame_graph(stacks, f"pargrad {' '.join(options.command)}"), encoding="utf-8")
    print(f"{sum(stacks.values()):,} samples by {'py-spy' if spy else 'sampling'} in {out}")
    return code


def chosen(how: str) -> str | None:
    """Where py-spy is, if it is to be used; ValueError where it is asked for and does not work."""
    if how == "sampling":
        return None
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=sysconfig.get_path("scripts"))
    if spy is None:
        why = 'py-spy is not installed: pip install "pargrad[bench]"'
    else:
        with subprocess.Popen(PROBE) as process:
            look = [spy, "dump", "--pid", str(process.pid)]
            probe = subprocess.run(look, capture_output=True, text=True, timeout=PROBE_SECONDS)
            process.kill()
        if probe.returncode == 0:
            return spy
        why = f"py-spy is not allowed to look into processes here: {(probe.stderr.strip() or 'no reason given')[-300:]}"
    if how == "py-spy":
        raise ValueError(f"--how py-spy: {why}; or write --how sampling")
    return None


def spied(spy: str, command: Sequence[str], rate: float, folder: str) -> int:
    """Runs a command, with py-spy looking at it and at all processes below it."""
    record = [spy, "record", "--subprocesses", "--function", "--format", "raw", "--rate", f"{rate:.0f}"]
    record += ["--output", str(Path(folder, "all.folded"))]
    with subprocess.Popen(command) as process:
        quiet = subprocess.DEVNULL
        # In a session of its own, since Ctrl-C is for the command, which ends first.
        with subprocess.Popen(
            [*record, "--pid", str(process.pid)], stdout=quiet, stderr=quiet, start_new_session=True
        ) as looking:
            code = end_of(process)
            looking.send_signal(signal.SIGINT)  # it would wait for processes of Ray, too
            try:
                looking.wait(WRITE_SECONDS)
            except subprocess.TimeoutExpired:
                looking.kill()
    return code


def sampled(command: Sequence[str], rate: float, folder: str) -> int:
    """Runs a command whose processes sample themselves."""
    from pargrad.parallel.sampler import VARIABLE

    with subprocess.Popen(command, env={**os.environ, VARIABLE: f"{folder}:{rate:g}"}) as process:
        return end_of(process)


def end_of(process: subprocess.Popen) -> int:
    """The exit code of a command; Ctrl-C, which it gets too, is its own to handle."""
    while process.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    return process.returncode
