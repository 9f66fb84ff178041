"""Waiting for what other processes do."""

import time
from collections.abc import Callable

import psutil

PATIENCE = 600.0
"""Seconds after which a test gives up: many times what a loaded machine takes."""


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fail where it does not come to pass."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for has, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
