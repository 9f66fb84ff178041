"""From a plan to rows of tables and to files."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.rows import RowSpec
from analysis.tables.write import publish, specification
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from tests.analysis.tables.conftest import metrics
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
FOLDER = RESULTS / "tiny" / "tiny"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(scale: str = "tiny", **table: Any) -> Plan:
    edit(STUDY, **{f"tables__pair__{key}": value for key, value in table.items()})
    return plan("tiny", scale, Library())


def specified(made: Plan) -> list[RowSpec]:
    return [specification(row, made, Library()) for row in made.rows]


def finish(made: Plan, *methods: str | None) -> None:
    """Leave metrics of runs: 30 points alone, one more of each method."""
    for run in made.runs.values():
        if not methods or run.method in methods:
            run.directory.mkdir(parents=True, exist_ok=True)
            points = 0.31 if run.method else 0.30
            (run.directory / "metrics.json").write_text(json.dumps(metrics(points)))


def test_a_row_says_what_stands_in_for_what_it_names() -> None:
    edit("configs/scales/tiny.yaml", classifiers={"r50": "smoke"})
    rows = specified(planned(methods=["rm", "dicod"], classifiers={"general": "r50"}))
    common = ["shapes-tiny for coco2017", "schedule tiny for 1x"]
    teacher, student = "ResNet-18 x0.1875 for ResNet-50", "ResNet-18 x0.125 for ResNet-18"
    classifier = "classifier ResNet-18 of 64 pixels for classifier ResNet-50"
    assert {row.label: list(row.stand_ins) for row in rows} == {
        "Teacher": [*common, teacher],
        "Student": [*common, student],
        "RM": [*common, teacher, student],
        "DICOD": [*common, student, classifier],
    }
    assert {row.scale for row in rows} == {"tiny"}


def test_nothing_stands_in_at_the_scale_of_the_paper() -> None:
    assert [list(row.stand_ins) for row in specified(planned("paper"))] == [[]] * 4


def test_rows_of_several_schedules_and_settings_are_told_apart() -> None:
    sweep = {"rm": {"weight": [2]}}
    rows = specified(planned("paper", schedule=["1x", "2x"], methods=["rm"], sweep=sweep))
    assert [row.label for row in rows] == [
        *("Teacher (1x)", "Student (1x)", "RM (1x, weight 2)"),
        *("Teacher (2x)", "Student (2x)", "RM (2x, weight 2)"),
    ]


def test_a_row_leads_to_the_runs_that_taught_it() -> None:
    edit("configs/scales/tiny.yaml", classifiers={"r50": "smoke"})
    made = planned(methods=["rm+dicod"], classifiers={"general": "r50"})
    (classifier,) = made.classifiers.values()
    teacher, student, distilled = specified(made)
    assert distilled.teacher_runs == [teacher.runs[0], classifier.directory]
    assert distilled.baseline_runs == student.runs
    assert list(teacher.teacher_runs) == []


def test_unfinished_tables_and_their_gains_are_kept_apart() -> None:
    """A table without gains has no figure of them yet, a finished one has all its files."""
    made = planned(methods=["rm", "pfi"])
    publish(made, "tiny", "tiny")
    partial = FOLDER / "partial"
    assert sorted(path.name for path in partial.iterdir()) == ["table.csv", "table.md", "table.tex"]
    finish(made, None, "rm")
    publish(made, "tiny", "tiny")
    assert (partial / "gains" / "pair.png").is_file()
    finish(made)
    text = publish(made, "tiny", "tiny")
    assert not partial.exists()
    assert (FOLDER / "table.md").read_text() == text
    assert sorted(path.name for path in (FOLDER / "gains").iterdir()) == ["pair.pdf", "pair.png"]
    with open(FOLDER / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["gain"] for row in rows] == ["", "", "1", "1"]
    assert {row["verdict"] for row in rows} == {""}


def test_a_study_of_baselines_has_a_figure_that_the_workflow_waits_for() -> None:
    made = planned(methods=[])
    finish(made)
    publish(made, "tiny", "tiny")
    assert (FOLDER / "gains" / "pair.pdf").is_file()
