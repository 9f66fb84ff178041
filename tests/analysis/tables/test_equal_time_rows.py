"""Rows of controls: their label, remark, stand-ins and measured hours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.equal_time import hours_notes
from analysis.tables.rows import ResultRow, RowSpec, build
from analysis.tables.write import specification
from kd.config.library import Library
from kd.config.plan import plan
from tests.support.tiny import edit, make_project

Run = Callable[..., Path]


def results(run: Run, **hours: float | None) -> list[ResultRow]:
    """Return a baseline, a control and distilled rows of two seeds, with hours of a training."""
    specs = []
    baselines = {seed: run(f"baseline{seed}", 0.30) for seed in range(2)}
    for label, hours_of_run in hours.items():
        runs = {seed: run(f"{label}{seed}", 0.31, hours=hours_of_run) for seed in range(2)}
        kind: Any = "control" if label == "control" else "distilled"
        specs.append(RowSpec("T", "GFL", label, kind, "", "r18", runs, baselines))
    return build(specs)


def test_the_measured_hours_of_a_training_are_beside_those_of_distilled_students(run: Run) -> None:
    rows = results(run, control=1.5, rm=1.2, pfi=1.8)
    assert [*hours_notes(rows)] == [
        "Measured hours of a training on GFL: control 1.50, distilled students 1.20 to 1.80."
    ]


@pytest.mark.parametrize(
    "hours", [{"control": None, "rm": 1.0}, {"control": 1.0, "rm": None}, {"rm": 1.0, "pfi": 2.0}]
)
def test_without_hours_of_both_there_is_no_note(run: Run, hours: dict[str, float | None]) -> None:
    assert [*hours_notes(results(run, **hours))] == []


def test_a_control_has_a_gain_over_the_baseline(run: Run) -> None:
    (control,) = results(run, control=None)
    assert control.gain
    assert control.gain.mean == pytest.approx(1)
    assert control.published_gain is None


def test_a_planned_control_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit("configs/studies/tiny.yaml", tables__pair__baseline={"same_time": 2.5})
    study_plan = plan("tiny", "tiny", Library())
    specs = [specification(row, study_plan, Library()) for row in study_plan.rows]
    _, baseline, control, _, _ = specs
    assert (control.label, control.kind) == ("Student, equal time (5 epochs)", "control")
    assert control.baseline_runs == baseline.runs
    assert control.stand_ins == baseline.stand_ins
    assert control.notes == (
        "trained for 5 epochs in place of 2, as long as a distilled student: its step costs 2.50 "
        "times as much (as the study states)",
    )
    assert (control.teacher, control.teacher_runs) == ("", [])
