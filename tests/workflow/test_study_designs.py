"""Paired teachers and controls in the workflow, in figures and in the states of runs."""

from pathlib import Path
from typing import Any

import pytest

from analysis.figures.planning import left_out, plan_figures
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions
from kd.monitoring.queue import QueueSnapshot
from kd.monitoring.runs import StatusOptions, select_runs
from kd.workflow.workflow import Workflow
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def workflow(**options: Any) -> Workflow:
    return Workflow.read({"study": "tiny", "scale": "tiny", **options})


def with_figure(**figure: Any) -> Plan:
    """Return the plan of the tiny study with a control and a figure."""
    edit(
        STUDY,
        tables__pair__baseline="same_time",
        figures={"curves": {"analysis": "training_curves", **figure}},
    )
    return plan("tiny", "tiny", Library())


def test_a_job_waits_for_the_teacher_of_its_seed() -> None:
    paired = workflow(seeds=2, teacher_seeds="paired")
    (publication,) = paired.publications
    assert publication.arguments[-4:] == ["--seeds", "2", "--teacher-seeds", "paired"]
    students = [run for run in paired.runs.values() if run.teacher]
    assert {(run.seed, run.teacher.seed) for run in students if run.teacher} == {(0, 0), (1, 1)}
    for run in students:
        assert run.teacher
        weights = [str(run.teacher.directory / "weights.pth")]
        assert paired.teacher_weights(run.name) == weights
        assert run.teacher.name in paired.runs


def test_the_status_of_the_last_workflow_has_its_teachers() -> None:
    paired = workflow(seeds=2, teacher_seeds="paired")
    paired.write_options()
    runs = select_runs(StatusOptions(), QueueSnapshot())
    assert {run.directory for run in runs} == {run.directory for run in paired.runs.values()}


def test_a_figure_shows_a_control_if_its_rows_name_it() -> None:
    planned = plan_figures(with_figure(), "tiny", "tiny")
    methods = [run.method for run in planned["curves"].runs]
    schedules = [run.schedule for run in planned["curves"].runs]
    assert (methods, {*schedules}) == ([None, None, "rm", "rm+pfi"], {"tiny"})
    planned = plan_figures(with_figure(rows=["baseline", "same_time"]), "tiny", "tiny")
    schedules = [run.schedule for run in planned["curves"].runs]
    assert schedules == ["tiny", "tiny-epochs3"]


def test_a_figure_of_a_control_that_is_not_selected_is_left_out() -> None:
    with_figure(rows=["baseline", "same_time"])
    part = plan("tiny", "tiny", Library(), StudyOptions(methods="rm"))
    (line,) = left_out(part, "tiny", "tiny")
    assert line.endswith("row 'same_time' is not selected.")
