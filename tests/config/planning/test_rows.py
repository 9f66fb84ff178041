"""Rows of a table: schedules, seeds, classifiers and teachers."""

from pathlib import Path
from typing import Any

import pytest

from analysis.runs.titles import teacher_name
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
PAIR = {"teacher": "r50", "student": "r18"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def table(**changes: Any) -> None:
    edit(STUDY, **{f"tables__pair__{key}": value for key, value in changes.items()})


def planned(scale: str = "tiny", **options: Any) -> Plan:
    return plan("tiny", scale, Library(), StudyOptions(**options))


def row_of(planned_study: Plan, method: str, **names: str) -> Row:
    (row,) = (
        row
        for row in planned_study.rows
        if row.method == method and all(getattr(row, key) == names[key] for key in names)
    )
    return row


def test_several_schedules_have_their_rows_in_order() -> None:
    table(schedule=["2x", "1x"], methods=["rm"])
    rows = planned("paper").rows
    assert [(row.schedule, row.setting, row.method) for row in rows] == [
        (schedule, schedule, method)
        for schedule in ("2x", "1x")
        for method in ("teacher", "baseline", "rm")
    ]
    for row in rows:
        assert {run.schedule for run in row.runs.values()} == {row.schedule}
        assert {run.schedule for run in row.baselines.values()} <= {row.schedule}
    teacher = row_of(planned("paper"), "rm", schedule="2x").runs[0].teacher
    assert teacher is not None
    assert teacher.schedule == "2x"


def test_schedules_with_one_stand_in_have_separate_rows() -> None:
    table(schedule=["2x", "1x"], methods=["rm"])
    edit("configs/scales/tiny.yaml", schedules__2x="tiny")
    planned_study = planned()
    assert len(planned_study.rows) == 6
    assert len(planned_study.runs) == 3


def test_one_schedule_is_no_setting() -> None:
    assert {row.setting for row in planned().rows} == {""}


def test_a_sweep_and_several_schedules_are_both_named() -> None:
    table(schedule=["1x", "2x"], methods=["rm"], sweep={"rm": {"weight": [2]}})
    assert [row.setting for row in planned("paper").rows if row.method == "rm"] == [
        "1x, weight 2",
        "2x, weight 2",
    ]


@pytest.mark.parametrize(
    ("study", "of_table", "option", "expected"), [(3, None, None, 3), (3, 2, None, 2), (3, 2, 1, 1)]
)
def test_seeds_of_the_command_line_override_the_tables_and_these_the_studys(
    study: int, of_table: int | None, option: int | None, expected: int
) -> None:
    edit(STUDY, seeds=study)
    if of_table:
        table(seeds=of_table)
    planned_study = planned(seeds=option)
    assert list(row_of(planned_study, "baseline").runs) == list(range(expected))
    assert list(row_of(planned_study, "teacher").runs) == [0]


def test_a_teacher_may_have_another_schedule() -> None:
    table(pairs=[{**PAIR, "teacher_schedule": "2x"}], methods=["rm"])
    planned_study = planned("paper")
    assert (row_of(planned_study, "teacher").schedule, row_of(planned_study, "rm").schedule) == (
        "2x",
        "1x",
    )
    assert row_of(planned_study, "teacher").runs[0].schedule == "2x"
    assert row_of(planned_study, "rm").runs[0].teacher == row_of(planned_study, "teacher").runs[0]


def test_a_row_names_its_teachers() -> None:
    table(methods=["rm", "dicod", "dicod_loc", "dicod+fkd"], classifiers={"general": "r18"})
    planned_study = planned("paper")
    teachers = {row.method: (row.teacher, row.classifier) for row in planned_study.rows}
    assert teachers == {
        "teacher": ("r50", ""),
        "baseline": ("", ""),
        "rm": ("r50", ""),
        "dicod": ("r18", "r18"),
        "dicod_loc": ("", ""),
        "dicod+fkd": ("r50", "r18"),
    }
    library = Library()
    printed = {row.method: teacher_name(row, library) for row in planned_study.rows}
    assert printed["rm"] == "ResNet-50"
    assert printed["dicod"] == "classifier ResNet-18"
    assert printed["dicod_loc"] == ""
    assert printed["dicod+fkd"] == "ResNet-50 + classifier ResNet-18"


def test_pairs_with_several_classifiers_share_the_rows_without_a_classifier() -> None:
    pairs = [{"student": "r18", "classifier": name} for name in ("r18", "r50")]
    table(pairs=pairs, methods=["dicod_loc", "dicod"])
    planned_study = planned("paper")
    assert [(row.method, row.teacher) for row in planned_study.rows] == [
        ("baseline", ""),
        ("dicod_loc", ""),
        ("dicod", "r18"),
        ("dicod", "r50"),
    ]
    assert len(planned_study.classifiers) == 2
    for row in planned_study.rows[1:]:
        assert row.baselines == planned_study.rows[0].runs


def test_a_teacher_of_two_students_has_one_row() -> None:
    table(pairs=[PAIR, {**PAIR, "student": "r34"}], methods=["rm"])
    rows = [(row.kind, row.student) for row in planned("paper").rows]
    assert rows == [
        ("teacher", ""),
        ("baseline", "r18"),
        ("distilled", "r18"),
        ("baseline", "r34"),
        ("distilled", "r34"),
    ]


def test_the_main_metric_is_that_of_the_data_set_in_the_study() -> None:
    assert {row.metric for row in planned().rows} == {"AP"}
    table(dataset="voc0712")
    edit("configs/scales/tiny.yaml", datasets__voc0712="shapes-tiny")
    assert {row.metric for row in planned().rows} == {"VOC07"}


def test_a_baseline_may_be_published_in_another_table_of_the_paper() -> None:
    """The baseline of an ablation is read from a table of the same source and data."""
    head = "table,dataset,schedule,detector,teacher,student,method,setting,AP,AP50,AP75,APS,APM,APL"
    lines = [
        f"{head},VOC07,source,framework,differs,note",
        "T1,coco2017,1x,retinanet,,r18,baseline,,31.9,50.4,,,,,,paper,,,",
        "T2,coco2017,1x,retinanet,,r18,baseline,,31.9,,33.8,,,,,paper,,,",
        "T9,voc0712,1x,retinanet,,r18,baseline,,44.0,,,,,,,paper,,,",
        "T8,coco2017,1x,retinanet,,r18,baseline,,33.0,,,,,,,another,,,",
        "T4,coco2017,1x,retinanet,r50,r18,rm,,33.3,,,,,,,paper,,,",
    ]
    numbers = Path("configs/published/rm_pfi.csv")
    edit(STUDY, published=numbers.name)
    table(published="T4", methods=["rm"])
    numbers.write_text("\n".join(lines))
    rm = row_of(planned("paper"), "rm")
    assert rm.published_baseline == {"AP": 31.9, "AP50": 50.4, "AP75": 33.8}
    numbers.write_text("\n".join([*lines, lines[1].replace("T1", "T3").replace("31.9", "32.0")]))
    assert row_of(planned("paper"), "rm").published_baseline == {}  # two tables disagree


def test_the_student_of_a_source_is_a_number_or_unknown() -> None:
    head = "table,dataset,schedule,detector,teacher,student,method,setting,AP,AP50,AP75,APS,APM,APL"
    numbers = Path("configs/published/rm_pfi.csv")
    edit(STUDY, published=numbers.name)
    table(published="T4", methods=["rm"])
    for text in ("36.2", "unknown", "36,2"):
        line = f'T4,coco2017,1x,retinanet,r50,r18,rm,,33.3,,,,,,,paper,,,,"{text}"'
        numbers.write_text(f"{head},VOC07,source,framework,differs,note,source_student\n{line}\n")
        if text == "36,2":
            with pytest.raises(UserError, match=r"line 2: column 'source_student': '36,2' is not"):
                planned("paper")
        else:
            baseline = row_of(planned("paper"), "rm").published_baseline
            assert baseline == ({} if text == "unknown" else {"AP": 36.2})
