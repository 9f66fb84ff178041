"""`make setup`: packages without CUDA, and the installer."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"


def planned(tmp_path: Path, *arguments: str, programs: tuple[str, ...] = ()) -> str:
    """Return the commands that ``make`` would run, with empty programs ahead in PATH."""
    for program in programs:
        (tmp_path / program).touch(mode=0o755)
    paths = [str(tmp_path), "/usr/local/bin", "/usr/bin", "/bin"]
    command = ["make", "--dry-run", "--always-make", *arguments]
    # `make test` hands its own options and variables to every make below it.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    environment = {**inherited, "PATH": os.pathsep.join(paths)}
    run = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout


@pytest.fixture
def cpu_lock(tmp_path: Path) -> list[str]:
    """Return the lines of the lock that `make setup CPU=1` installs."""
    commands = planned(tmp_path, "setup", "CPU=1")
    assert "--requirement build/requirements-cpu.lock" in commands
    (edit,) = re.findall(r"^(sed .*) > build/requirements-cpu.lock$", commands, re.MULTILINE)
    run = subprocess.run(
        edit, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


def test_without_cuda_only_cuda_is_left_out_and_torch_is_the_cpu_build(cpu_lock: list[str]) -> None:
    lock = LOCK.read_text(encoding="utf-8").splitlines()
    added, removed = set(cpu_lock) - set(lock), set(lock) - set(cpu_lock)
    torch = {line for line in removed if line.startswith("torch")}
    assert added == {f"{line}+cpu" for line in torch} and len(torch) == 2
    names = {re.split(r"==", line)[0] for line in removed - torch}
    assert {"nvidia-cublas", "nvidia-nccl-cu13", "triton", "cuda-toolkit"} <= names
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)
    assert any(line.startswith("nvidia-ml-py==") for line in cpu_lock)


def test_uv_installs_if_it_is_there(tmp_path: Path) -> None:
    lines = planned(tmp_path, "setup", programs=("uv",))
    assert f"{tmp_path}/uv pip install --python .venv/bin/python" in lines
    assert "-m pip install" not in lines


def test_pip_installs_otherwise(tmp_path: Path) -> None:
    lines = planned(tmp_path, "setup", "UV=")
    assert ".venv/bin/python -m pip install --no-deps --requirement requirements.lock" in lines
