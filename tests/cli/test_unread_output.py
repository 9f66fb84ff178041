"""A command ends without an error message if its reader, such as ``head``, closes the output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd.cli.main import CLOSED_PIPE_STATUS
from tests.support.paths import REPOSITORY
from tests.support.tiny import make_project


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [
        "methods",
        "methods fkd",
        "plan demo",
        "status demo",
        "status demo --json",
        "compose demo",
        "figures",
        "--help",
        "",
    ],
)
def test_an_unread_output_is_no_error(tmp_path: Path, command: str, unbuffered: str) -> None:
    project = make_project(tmp_path, data=False)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "kd", *command.split()],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": unbuffered},
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert done.stderr == b""
    assert done.returncode in (0, CLOSED_PIPE_STATUS)
