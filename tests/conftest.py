"""What all tests share: one Ray cluster of four logical cores, and the rule for tests that need torch."""

import contextlib
import gc
import importlib.util
import os
import secrets
import signal
from pathlib import Path

import pytest

# Before anything imports ray, which reads these once: no token in the user's home, nothing sent anywhere.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")

# A shell that starts the tests in the background has them ignore Ctrl-C, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

HAS_TORCH = importlib.util.find_spec("torch") is not None
WITH_TORCH = sorted(Path(__file__).parent.glob("*_torch.py"))
collect_ignore = [] if HAS_TORCH else [path.name for path in WITH_TORCH]


def pytest_report_header():
    if not HAS_TORCH:
        return f"torch is not installed: {len(WITH_TORCH)} files of comparisons with it are not collected"
    return f"torch is installed: {len(WITH_TORCH)} files compare with it"


@pytest.fixture(scope="session", autouse=HAS_TORCH)
def seeds_of_this_processor_alone():
    """For each kind of accelerator torch.manual_seed writes a stack down, which takes longer than most tests do."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "manual_seed", torch.default_generator.manual_seed)
        yield


@pytest.fixture(scope="session")
def cluster():
    """A Ray of this test session with more logical cores than the machine may have."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=80_000_000,
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def own_table(monkeypatch):
    """A table of rules of a test's own, so that these do not stay."""
    from pargrad.rules import table

    monkeypatch.setattr(table, "RULES", {})


@pytest.fixture
def leaves_nothing(cluster):
    """Fails a test that leaves a worker, a descriptor or a file of shared memory behind."""
    from tests.processes import descriptors, shared_files, wait_until, workers_of

    def held():
        return workers_of(os.getpid()), descriptors(), shared_files()

    gc.collect()  # what other tests left to it
    wait_until(lambda: workers_of(os.getpid()) == [], 20, "the end of others' workers")
    before = held()
    yield
    gc.collect()  # a caught error's traceback holds a trainer, and so its memory
    # Ray ends replacements that had not introduced themselves yet in its own time.
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: held() == before, 20, "the end of what the test made")
    assert held() == before
