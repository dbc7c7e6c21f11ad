"""`pargrad submit`: runs a pargrad command as a job on a Ray cluster, follows it, and ends with its exit code."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pargrad.commands.inside_job import refuse_relative_paths
from pargrad.commands.options import REST, parse

if TYPE_CHECKING:
    from pargrad.parallel.ray_jobs import JobServer

HELP = "run a command as a job on a Ray cluster"
EXAMPLES = """\
  pargrad submit --to http://HEAD:8265 -- train mnist --run-dir /mnt/runs/first     submit, and follow
  pargrad submit --to http://HEAD:8265 --no-wait -- train mnist                     submit, and print the job's id
  pargrad submit --to http://HEAD:8265 --logs ID                                    follow
  pargrad submit --to http://HEAD:8265 --stop ID                                    stop it, with a checkpoint

A cluster with a token (Ray 2.52 and newer) wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN in the environment.\
"""
NAMED = 8  # things left out that are named
LAST_LINES = 3  # of a stopped job that are shown


@dataclass
class Options:
    """Run a pargrad command as a job on a Ray cluster, follow what it prints, and end with its exit code.

    Args:
        command: behind `--`, the command as it would be written on the cluster, without the word pargrad
        to: the cluster's dashboard, http://HOST:8265; by default what RAY_API_SERVER_ADDRESS says
        working_dir: the directory that is sent with the job, without what its .gitignore and .rayignore name; by
            default the current one
        runtime_env: a YAML file of Ray's runtime environment
        pip: packages that are installed for the job, separated by commas, or a file of requirements
        submission_id: a name for the job; by default Ray gives one
        no_wait: print the job's id and do not follow it
        stop_seconds: from SIGTERM until SIGKILL when the job is stopped; it writes its checkpoint in between
        logs: follow the job of this id; with --no-wait print what is there
        status: print how the job of this id is
        stop: end the job of this id
    """

    command: tuple[str, ...] = field(default=(), metadata=REST)
    to: str | None = None
    working_dir: str | None = None
    runtime_env: str | None = None
    pip: str | None = None
    submission_id: str | None = None
    no_wait: bool = False
    stop_seconds: int = 60
    logs: str | None = None
    status: str | None = None
    stop: str | None = None


def run(options: Options) -> int:
    asked = [name for name in ("logs", "status", "stop") if getattr(options, name) is not None]
    if len(asked) + bool(options.command) != 1:
        raise ValueError("expected either a command behind --, or one of --logs, --status and --stop")
    options.to = options.to or os.environ.get("RAY_API_SERVER_ADDRESS")
    if options.to is None:
        raise ValueError("expected --to http://HOST:8265, the address of the cluster's dashboard")
    if options.command:
        return submit(options, options.to)
    from pargrad.parallel.ray_jobs import JobServer

    server = JobServer(options.to)
    if options.stop is not None:
        return stop(server, options.stop)
    if options.status is not None:
        details = server.details(options.status)
        print(details.status.value)
        return 0
    assert options.logs is not None
    if options.no_wait:
        sys.stdout.write(server.logs(options.logs))
        return 0
    return follow(server, options.logs)


def submit(options: Options, address: str) -> int:
    command = checked_command(options.command)
    environment = runtime_environment(options)
    from pargrad.parallel.ray_jobs import JobServer

    server = JobServer(address)
    with tempfile.TemporaryDirectory(prefix="pargrad-") as scratch:
        pack(environment, Path(scratch))
        job = server.submit(shlex.join(["python", "-m", "pargrad", *command]), environment, options.submission_id)
    options.logs = job  # from here on an interruption leaves a job behind
    print(job, flush=True)
    if options.no_wait:
        return 0
    return follow(server, job)


def checked_command(command: tuple[str, ...]) -> list[str]:
    """The job's command, parsed here so that what is misspelt is said before anything is sent.

    One that knows --address and is given none joins the cluster that runs it.
    """
    name, *arguments = command
    module = command_module(name)
    without_file = list(arguments)
    if "--config" in without_file:  # a file that the cluster sees, not this machine
        place = without_file.index("--config")
        del without_file[place : place + 2]
    _, parsed = parse({name: module}, [name, *without_file])
    refuse_relative_paths(parsed)
    given = [argument.partition("=")[0] for argument in arguments]
    if hasattr(parsed, "address") and "--address" not in given:
        arguments.extend(["--address", "auto"])
    return [name, *arguments]


def command_module(name: str) -> Any:
    """The module of a subcommand that can be a job."""
    known = importlib.util.find_spec(f"pargrad.commands.{name}") if name.isidentifier() and name != "submit" else None
    module = importlib.import_module(known.name) if known else None
    if not hasattr(module, "Options"):
        raise ValueError(f"expected a command of pargrad behind --, such as `-- train mnist`, got {name!r}")
    return module


def runtime_environment(options: Options) -> dict[str, Any]:
    """Ray's runtime environment of the job, with its own directory still by its name here."""
    from pargrad.parallel.ray_jobs import STOP_SECONDS_KEY

    environment = read_runtime_env(options.runtime_env) if options.runtime_env is not None else {}
    if options.working_dir is not None or "working_dir" not in environment:
        environment["working_dir"] = options.working_dir or "."
    if options.pip is not None:
        lines = Path(options.pip).read_text().splitlines() if Path(options.pip).is_file() else options.pip.split(",")
        environment["pip"] = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    variables = environment["env_vars"] = dict(environment.get("env_vars") or {})
    variables.setdefault(STOP_SECONDS_KEY, str(options.stop_seconds))
    return environment


def read_runtime_env(path: str) -> dict[str, Any]:
    import yaml

    try:
        environment = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"--runtime-env {path} is no YAML: {error}") from error
    if not isinstance(environment, dict):
        kind = type(environment).__name__
        raise ValueError(f"--runtime-env {path}: expected keys such as env_vars and pip, got {kind}")
    return environment


def pack(environment: dict[str, Any], scratch: Path) -> None:
    """Puts in the place of the working directory one that has only what is sent, and says what that is."""
    if "://" in environment["working_dir"]:
        return  # the cluster fetches it
    from pargrad.parallel.ray_package import contents_of, lay_out, megabytes

    directory = Path(environment["working_dir"]).absolute()
    contents = contents_of(directory)
    left = contents.left_out[:NAMED] + [f"{len(contents.left_out) - NAMED} more"] * (len(contents.left_out) > NAMED)
    tell(
        f"sends {directory}: {len(contents.files):,} files, {megabytes(contents.size)}; "
        f"left out: {', '.join(left) or 'nothing'}"
    )
    lay_out(directory, contents.files, scratch / "sent")
    environment["working_dir"] = str(scratch / "sent")


def follow(server: JobServer, job: str) -> int:
    """Prints what the job prints, and gives its exit code."""
    from pargrad.parallel.ray_jobs import exit_code_of

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    details = server.follow(job, write)
    code = exit_code_of(details)
    tell(f"job {job} has {'succeeded' if code == 0 else f'ended as {details.status.value}, exit code {code}'}")
    if code and details.driver_exit_code is None:
        tell(details.message)
    return code


def stop(server: JobServer, job: str) -> int:
    """Ends a job, and shows what it said last: where its checkpoint is."""
    if (before := server.details(job).status).is_terminal():
        tell(f"job {job} had ended before: {before.value}")
        return 0
    details = server.stop(job)
    tell(f"job {job} has ended: {details.status.value}. What it said last:")
    print("\n".join(server.logs(job).splitlines()[-LAST_LINES:]))
    return 0


def how_to_go_on(options: Options) -> str:
    if options.logs is None:
        return "nothing was submitted"
    start = f"pargrad submit --to {options.to}"
    return (
        f"the job {options.logs} goes on. Follow it with: {start} --logs {options.logs}\n"
        f"  stop it with: {start} --stop {options.logs}"
    )


def tell(line: str) -> None:
    print(f"pargrad: {line}", file=sys.stderr, flush=True)
