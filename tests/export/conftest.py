"""A run of a tiny detector with random weights, exported once for all tests of this room."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kd.common.files import write_json
from kd.config.run import Run
from kd.export.export import TrainedRun, export
from kd.export.forms import FORMS
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import save_random_weights
from tests.support.tiny_study import plan_study, write_tiny_parts

AP = 0.125


class Exported(NamedTuple):
    run: Run
    project: Path
    folder: Path
    """All forms of the run."""


@pytest.fixture
def run_of(study: Callable[..., Any]) -> Callable[..., Run]:
    """Return a function that writes a run of a tiny detector with random weights."""
    return lambda *arguments: _write_run(*arguments)


@pytest.fixture(scope="session")
def exported(
    tmp_path_factory: pytest.TempPathFactory, shapes_root: Path, quiet_mmdet: None
) -> Exported:
    """Export an SSD300 with VGG-16, of which mmdet lacks two classes, in all forms."""
    project, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(project)
    try:
        shutil.copytree(CONFIGS, "configs")
        write_tiny_parts(shapes_root)
        run = _write_run("ssd300", "vgg16-fc7-w0.125")
        write_json(run.directory / "metrics.json", {"AP": AP})
        folder = project / "exported"
        export(TrainedRun.read(run.directory), FORMS, folder)
    finally:
        os.chdir(before)
    return Exported(run, project, folder)


def _write_run(family: str, student: str) -> Run:
    plan = plan_study([], detectors=(family,), student=student)
    run = next(run for run in plan.runs.values() if run.student == student)
    test_cfg = run.config["model"]["test_cfg"]
    test_cfg.get("rcnn", test_cfg)["score_thr"] = 0.0  # random weights have low scores
    run.write()
    save_random_weights(run.config["model"], run.directory)
    return run
