"""What a command looks out for inside a Ray job, where the working directory is Ray's and is deleted."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

PATHS = ("run_dir", "json", "out", "picture", "timeline")  # options that name what a command writes


def inside_job() -> bool:
    """Whether Ray started this process as a job's driver."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def check_job(options: Any) -> None:
    """In a job, raises ValueError for a path that would be lost with it, and warns of a Ray of the job's own."""
    if not inside_job():
        return
    refuse_relative_paths(options)
    if getattr(options, "address", None) == "local" and getattr(options, "num_workers", None) != 0:
        print(
            "pargrad: --address local in a Ray job starts a second Ray on the head's machine, beside the cluster that "
            "runs the job; write --address auto to use the cluster's cores",
            file=sys.stderr,
            flush=True,
        )


def refuse_relative_paths(options: Any) -> None:
    for name in PATHS:
        path = getattr(options, name, None)
        if isinstance(path, str) and not Path(path).is_absolute():
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"{flag} {path} would be written into the job's own directory, which Ray deletes: give an absolute "
                f"path on a volume that outlives the job, such as {flag} /mnt/runs/{Path(path).name}"
            )
