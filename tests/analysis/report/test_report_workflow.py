"""The workflow writes the page of its targets, and never fails because of the page."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.processes import gone, until
from tests.support.tiny import make_project
from tests.workflow.test_workflow import snakemake

PAGE = Path("results/tiny/tiny/report.html")
CHECK = "results/checks/shapes-tiny.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a project without data and results."""
    return make_project(tmp_path, data=False)


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    assert snakemake(folder, "--dry-run").returncode == 0
    assert not list(folder.rglob("*.html"))


def test_the_page_is_written_before_anything_is_trained(folder: Path) -> None:
    result = snakemake(folder, CHECK)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count(f"{PAGE}: 4 runs: 2 waiting for teacher, 2 not started") == 2
    assert "0 of 4\nruns are done" in (folder / PAGE).read_text()


def test_watching_ends_with_the_process_that_started_it(folder: Path) -> None:
    """A killed Snakemake cannot stop the report itself."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "kd", "report", "tiny", "--scale", "tiny", "--watch", "1"]
    (folder / "watched").touch()
    shell = f"{shlex.join(command)} > watched & echo $!; read line"
    with subprocess.Popen(
        ["bash", "-c", shell],
        **{"cwd": folder, "env": environment, "text": True},
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE},
    ) as begun:
        assert begun.stdout is not None
        pid = int(begun.stdout.readline())
        until(lambda: (folder / "watched").stat().st_size)
        assert not gone(pid)
    until(lambda: gone(pid))


def test_an_unwritable_page_is_reported_in_one_line(folder: Path) -> None:
    (folder / PAGE).mkdir(parents=True)
    result = snakemake(folder, CHECK)
    assert result.returncode == 0 and (folder / CHECK).exists()
    assert "error: " in result.stdout and "Traceback" not in result.stdout + result.stderr
