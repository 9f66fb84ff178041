"""Programs and data that a machine may lack; tests that need them are skipped with the remedy.

``conftest.py`` prints each reason once at the end of a run, with the number of tests.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support.paths import BCCD

INSTALLING = Path(tempfile.gettempdir(), "slurm-install.lock")
"""The lock that ``slurm/cluster/start.sh`` also holds while it installs packages."""

BY_ROOT = "run `make test` as root on Debian or Ubuntu, which installs it"
NO_CHROMIUM = "Chromium is not installed; install it, or " + BY_ROOT
NO_SLURM = (
    "Slurm's test cluster needs root; run `make test-slurm` as root on Debian or Ubuntu, which "
    "installs Slurm"
)


def skip(missing: str, remedy: str) -> NoReturn:
    """Skip a test; the reason has the missing program or data and the remedy."""
    pytest.skip(f"{missing}; {remedy}")


def bccd() -> Path:
    """Return the folder of the BCCD data set, which is not part of the repository."""
    if not BCCD.is_dir():
        skip(
            "the BCCD images are not beside the repository",
            "put a copy of the data set at ../shared/data/bccd",
        )
    return BCCD


def chromium() -> str:
    """Return the path of Chromium; if it is absent, install Debian's package as root."""
    if path := _chromium():
        return path
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(NO_CHROMIUM)
    with open(INSTALLING, "w") as lock:  # other workers and runs install packages, too
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _chromium() or _install("chromium") or pytest.skip(NO_CHROMIUM)


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def _install(package: str) -> str | None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True
        )
        if done.returncode:
            complaint = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            skip(f"apt-get cannot install {package} ({complaint})", f"install {package}")
    return shutil.which(package)


def skipped(stats: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield a line for each reason to skip, with the number of tests."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ") for report in stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        yield f"skipped {count} test{'s' if count > 1 else ''}: {reason}"
