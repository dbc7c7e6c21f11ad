"""Jobs on a Ray cluster, over HTTP: sent, followed and stopped, each failure with a message of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from pargrad.parallel.authentication import HOW_TO_EXPORT, require_token
from pargrad.parallel.errors import ResourcesError

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
POLL_SECONDS = 0.2
END_SECONDS = 10.0  # from a job's last line, or from its end, until the cluster says so
STOP_SECONDS_KEY = "RAY_JOB_STOP_WAIT_TIME_S"  # read by the job's supervisor, which has the job's environment
RAYS_STOP_SECONDS = 3  # without that key
EXIT_STOPPED = 143
RESOURCE_FAILURES = ("JOB_SUPERVISOR_ACTOR_START_TIMEOUT", "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE")


class JobServer:
    """The job server at `http://HOST:PORT` of a cluster's head.

    Raises ValueError for a wrong address or token, ResourcesError where nobody answers in time.
    """

    def __init__(self, address: str):
        for package in ("aiohttp", "pydantic"):
            if importlib.util.find_spec(package) is None:
                raise ValueError(f"jobs need {package}: pip install 'pargrad[cluster]', which is ray[default]")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected the address of the cluster's dashboard, http://HOST:8265, got {address!r}")
        require_token()
        self.address = address.rstrip("/")
        with self.explained(), preferred(self.address):
            self.client = make_client(self.address)

    def submit(self, entrypoint: str, runtime_env: dict[str, Any], submission_id: str | None = None) -> str:
        """Sends a job; gives its id, by which it is known from then on."""
        with self.explained():
            return self.client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env, submission_id=submission_id)

    def details(self, job: str) -> Any:
        with self.explained():
            try:
                return self.client.get_job_info(job)
            except RuntimeError as error:
                if "404" in str(error):
                    raise ValueError(f"there is no job {job!r} at {self.address}") from error
                raise

    def logs(self, job: str) -> str:
        """What the job has printed so far."""
        self.details(job)
        with self.explained():
            return self.client.get_job_logs(job)

    def follow(self, job: str, write: Callable[[str], Any]) -> Any:
        """Writes what the job prints as it comes, until it ends; gives its details then."""
        self.details(job)

        async def tail() -> None:
            async for text in self.client.tail_job_logs(job):
                write(text)

        with self.explained():
            asyncio.run(tail())
        try:
            return self.wait(job, END_SECONDS)
        except ResourcesError as error:
            raise ResourcesError(f"its log is no longer sent, but {error}; it can be followed again") from error

    def stop(self, job: str) -> Any:
        """SIGTERM, and SIGKILL to what has not ended after the job's own grace; gives the details of the ended job."""
        seconds = stop_seconds_of(self.details(job))
        with self.explained():
            self.client.stop_job(job)
        return self.wait(job, seconds + END_SECONDS)

    def wait(self, job: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while not (details := self.details(job)).status.is_terminal():
            if time.monotonic() > deadline:
                raise ResourcesError(f"job {job} has not ended within {seconds:g} s: it is {details.status.value}")
            time.sleep(POLL_SECONDS)
        return details

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Ray's and the network's errors, in words that say what to do."""
        import aiohttp  # here and not above: they come with ray[default], which `__init__` has asked for by then
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            given = "refuses this token" if "Forbidden" in str(error) else "wants a token"
            raise ValueError(f"the cluster at {self.address} {given}: {HOW_TO_EXPORT}") from error
        except requests.exceptions.HTTPError as error:
            raise ValueError(f"what answers at {self.address} is no Ray dashboard: {error}") from error
        except (requests.exceptions.JSONDecodeError, KeyError) as error:
            raise ValueError(f"what answers at {self.address} is no Ray dashboard") from error
        except (requests.exceptions.RequestException, aiohttp.ClientError, ConnectionError) as error:
            raise ResourcesError(f"no Ray dashboard answers at {self.address}: {gist(error)}") from error
        except RuntimeError as error:
            if "Version check" in str(error):
                raise ValueError(f"what answers at {self.address} is no Ray dashboard") from error
            if "WebSocket" in str(error):
                raise ResourcesError(f"the connection to {self.address} was lost: {gist(error)}") from error
            raise ValueError(f"the cluster at {self.address} refuses: {gist(error)}") from error


def make_client(address: str) -> Any:
    """Ray's client, with a limit to how long an answer may take: Ray's own waits without end."""
    from ray.job_submission import JobSubmissionClient

    for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(chatty).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, *arguments: Any, **named: Any) -> Any:
            return super()._do_request(*arguments, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), **named)

    return Client(address)


@contextlib.contextmanager
def preferred(address: str) -> Iterator[None]:
    """Inside, the address holds against RAY_ADDRESS, which Ray's client takes instead of the one it is given."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def stop_seconds_of(details: Any) -> int:
    """How long after SIGTERM a job has until SIGKILL."""
    variables = (details.runtime_env or {}).get("env_vars") or {}
    return int(variables.get(STOP_SECONDS_KEY, RAYS_STOP_SECONDS))


def exit_code_of(details: Any) -> int:
    """The exit code of an ended job, as a shell has it; Ray's client itself knows only 0 and 1."""
    if details.status.value == "SUCCEEDED":
        return 0
    if details.status.value == "STOPPED":
        return EXIT_STOPPED
    if details.driver_exit_code is None:  # it never ran
        return ResourcesError.exit_code if details.error_type in RESOURCE_FAILURES else 1
    return details.driver_exit_code if details.driver_exit_code > 0 else 128 - details.driver_exit_code


def gist(error: BaseException) -> str:
    """The first line of a message; of a traceback that the cluster sent, the error at its end."""
    lines = str(error).rstrip("\n. ").splitlines() or [type(error).__name__]
    return lines[-1] if "Traceback" in lines[0] else lines[0]
