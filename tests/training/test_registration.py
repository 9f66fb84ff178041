"""Registration of classes by a configuration's ``custom_imports``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY
from tests.support.tiny import TEACHER, make_project, write_run

PROGRAM = """
import sys
from contextlib import suppress
from pathlib import Path
from kd.common.errors import UserError
from kd.config.composed import read_config
from {module} import {function}

run = Path(sys.argv[1])
assert "kd.runtime" not in sys.modules, "imported by name"
with suppress(UserError):
    {call}
assert "kd.runtime" in sys.modules, "not imported by the configuration"
"""


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        ("kd.training.train", "build_runner", "build_runner(read_config(run), run)"),
        ("kd.evaluation.predict", "predict", "predict(run)  # ends: the run has no weights"),
    ],
    ids=["training", "prediction"],
)
def test_a_configuration_imports_the_classes_that_it_names(
    module: str, function: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    program = PROGRAM.format(module=module, function=function, call=call)
    process = subprocess.run(
        [sys.executable, "-c", program, str(write_run(TEACHER))],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
