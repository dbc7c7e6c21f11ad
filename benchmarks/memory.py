"""Peak memory of one step of a deep network: what a fresh process adds to what it had before the step.

A tiny step comes first, since what a library loads at its first call is not what a step takes: torch's 40 MiB of code.
Every array is mapped by itself, so that it is the arrays that are counted: the gaps that malloc leaves between them
come and go with what was allocated before, and make torch's figure anything from 1.2 to 1.9 times this one.

python -m benchmarks.memory LIBRARY [TINY] prints the bytes. Linux only: the kernel keeps the peak, and resets it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine_rows import classifier

STATUS = Path("/proc/self/status")
FULL: dict[str, Any] = {"batch": 1024, "sizes": [256] * 50 + [10]}
SMALL: dict[str, Any] = {"batch": 256, "sizes": [128] * 8 + [10]}
TINY: dict[str, Any] = {"batch": 8, "sizes": [16] * 3 + [4]}
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
NO_GAPS = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes; glibc, see mallopt(3)


def kilobytes(field: str) -> int:
    return int(re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1])  # type: ignore[index]


def added_by(step: Callable[[], object]) -> int:
    """The bytes by which the process was larger at its largest during step() than before it."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak, VmHWM, to what is resident now
    before = kilobytes("VmRSS")
    step()
    return (kilobytes("VmHWM") - before) * 1024


def peak(library: str, tiny: bool = False) -> int:
    """`added_by` one step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", library, *(["tiny"] if tiny else [])]
    folder = Path(__file__).parent.parent
    result = subprocess.run(
        command, cwd=folder, env=os.environ | ONE_THREAD | NO_GAPS, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {result.returncode}:\n{result.stderr}")
    return int(result.stdout.split()[-1])


def main(library: str, tiny: str = "") -> None:
    import numpy as np

    from benchmarks.libraries import LIBRARIES

    problems = [classifier(np.random.default_rng(0), **sizes) for sizes in (TINY, SMALL if tiny else FULL)]
    warm_up, step = (LIBRARIES[library]().gradient(*problem) for problem in problems)
    warm_up()
    print(added_by(step))  # `problems` lives on: memory that is free but still resident would hide what a step takes


if __name__ == "__main__":
    main(*sys.argv[1:])
