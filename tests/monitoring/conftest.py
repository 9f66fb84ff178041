"""A project without data and without Slurm, and what ``kd status`` prints in it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.cli.main import main
from tests.monitoring.projects import TINY
from tests.support.tiny import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project without data, in which nothing has run and ``squeue`` is not installed."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.fixture
def print_status(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs ``kd status`` and returns its output."""

    def output(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["status", *arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return output


@pytest.fixture
def status_of(print_status: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    """Return a function that returns a run's status from the JSON of ``kd status``."""

    def status(run: Path, *arguments: str) -> dict[str, Any]:
        statuses = json.loads(print_status("--json", *(arguments or TINY)))["runs"]
        (run_status,) = (status for status in statuses if status["run"] == str(run))
        return run_status

    return status
