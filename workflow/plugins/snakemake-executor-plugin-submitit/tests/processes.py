"""Waiting for other processes."""

import time
from collections.abc import Callable

import psutil

PATIENCE = 600.0
"""Seconds until a test fails, much longer than a busy machine takes."""


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail if it does not become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Return True if a process has ended, also if its parent has not waited for it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
