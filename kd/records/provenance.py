"""Provenance: the record that every run writes when it finishes or fails."""

import getpass
import os
import platform
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import kd
from kd.common.files import write_json

PACKAGES = (
    "torch",
    "torchvision",
    "mmdet",
    "mmengine",
    "mmcv-lite",
    "numpy",
    "hotcoco",
    "kd-detection",
)
IMAGE_COMMIT = "KD_COMMIT"
"""Environment variable with the commit that a container image was built from."""


def environment() -> dict[str, Any]:
    """Return commit, package versions, hardware and command of this process."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "commit": commit(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "user": _user(),
        "cpu": _cpu(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "devices": devices,
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "command": command(),
    }


def command() -> str:
    """Return the command line of this process, with ``kd`` for ``python -m kd``."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_failure(directory: Path, error: BaseException) -> None:
    """Write ``failure.json`` with the reason that tables show."""
    record = {"reason": reason(error), "kind": type(error).__name__, "time": now(), **environment()}
    write_json(directory / "failure.json", record)


def reason(error: BaseException) -> str:
    """Return an error's first line, or the last if it comes from a data loading process.

    An error of a file names it relative to the current folder.
    """
    if isinstance(error, OSError) and isinstance(error.filename, str):
        path = Path(error.filename)
        here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"{here}: {error.strerror}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if "Original Traceback" in str(error) else 0]


def commit() -> str | None:
    """Return the checkout's commit, with ``+changes`` if tracked files differ from it.

    An installed package has the commit that its container image states, or None, even in a
    repository of its user.
    """
    root = Path(kd.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return os.environ.get(IMAGE_COMMIT) or None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        check=True,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    ).stdout.strip()


def _cpu() -> str:
    """Return the model of this machine's processor, or its architecture if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    pairs = (line.partition(":") for line in lines)
    properties = {key.strip(): value.strip() for key, _, value in pairs}
    if "model name" not in properties:
        return platform.machine()
    numbers = [f"{key} {properties[key]}" for key in ("cpu family", "model") if key in properties]
    return f"{properties['model name']} ({', '.join(numbers)})"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
