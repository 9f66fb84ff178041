"""From a plan to rows of tables and to files."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.runs.titles import table_title
from analysis.tables.rows import RowSpec
from analysis.tables.write import publish, results, specification
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import UNCHANGED, StudyOptions
from tests.analysis.tables.conftest import metrics
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
FOLDER = RESULTS / "tiny" / "tiny"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(scale: str = "tiny", options: StudyOptions = UNCHANGED, **table: Any) -> Plan:
    edit(STUDY, **{f"tables__pair__{key}": value for key, value in table.items()})
    return plan("tiny", scale, Library(), options)


def specified(study_plan: Plan) -> list[RowSpec]:
    return [specification(row, study_plan, Library()) for row in study_plan.rows]


def finish(study_plan: Plan, *methods: str | None) -> None:
    """Write metrics of runs: 30 points for baselines, one more for each method, PFI uneven."""
    for run in study_plan.runs.values():
        if not methods or run.method in methods:
            run.directory.mkdir(parents=True, exist_ok=True)
            points = 0.31 if run.method else 0.30
            points += 0.001 * (run.seed % 2) if run.method == "pfi" else 0.0
            (run.directory / "metrics.json").write_text(json.dumps(metrics(points)))


def test_a_row_lists_its_stand_ins() -> None:
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


def test_the_scale_of_the_paper_has_no_stand_ins() -> None:
    assert [list(row.stand_ins) for row in specified(planned("paper"))] == [[]] * 4


def test_a_row_names_the_networks_that_ran() -> None:
    edit("configs/scales/tiny.yaml", classifiers={"r50": "smoke"})
    table = {"methods": ["rm+dicod"], "classifiers": {"general": "r50"}}
    small, paper = (specified(planned(scale, **table))[-1] for scale in ("tiny", "paper"))
    assert small.teacher == "ResNet-18 x0.1875 + classifier ResNet-18 of 64 pixels"
    assert small.student == "ResNet-18 x0.125"
    assert (paper.teacher, paper.student) == ("ResNet-50 + classifier ResNet-50", "ResNet-18")


@pytest.mark.parametrize(
    ("published", "title"),
    [
        ("T3a", "Table 3a \u00b7 One pair"),
        ("T2(camera-ready)", "Table 2 \u00b7 One pair"),
        ("README", "One pair"),
        (None, "One pair"),
    ],
)
def test_a_table_has_its_number_in_the_paper(published: str | None, title: str) -> None:
    assert (
        table_title(planned().study.tables["pair"].model_copy(update={"published": published}))
        == title
    )


def test_the_title_names_the_data_that_ran() -> None:
    title = publish(planned(), "tiny", "tiny").partition("\n")[0]
    assert title.endswith("; scale tiny (seconds on one CPU core), data shapes-tiny")
    assert "), data coco2017\n" in publish(planned("paper"), "tiny", "paper")


def test_rows_of_several_schedules_and_settings_have_distinct_labels() -> None:
    sweep = {"rm": {"weight": [2]}}
    rows = specified(planned("paper", schedule=["1x", "2x"], methods=["rm"], sweep=sweep))
    assert [row.label for row in rows] == [
        *("Teacher (1x)", "Student (1x)", "RM (1x, weight 2)"),
        *("Teacher (2x)", "Student (2x)", "RM (2x, weight 2)"),
    ]


def test_a_row_names_the_runs_of_its_teachers() -> None:
    edit("configs/scales/tiny.yaml", classifiers={"r50": "smoke"})
    study_plan = planned(methods=["rm+dicod"], classifiers={"general": "r50"})
    (classifier,) = study_plan.classifiers.values()
    teacher, student, distilled = specified(study_plan)
    assert distilled.teacher_runs == [teacher.runs[0], classifier.directory]
    assert distilled.baseline_runs == student.runs
    assert list(teacher.teacher_runs) == []


@pytest.mark.parametrize(
    ("seeds", "teacher_seeds", "note"),
    [
        (1, "first", ""),
        (2, "first", "All seeds of a row have the same teacher: intervals over seeds leave out"),
        (2, "paired", "Each seed of a row has its own teacher: intervals over seeds include"),
    ],
)
def test_a_note_names_the_teachers_of_several_seeds(
    seeds: int, teacher_seeds: Any, note: str
) -> None:
    study_plan = planned(options=StudyOptions(seeds=seeds, teacher_seeds=teacher_seeds))
    teachers = {row.label: len(row.teacher_runs) for row in specified(study_plan)}
    count = seeds if teacher_seeds == "paired" else 1
    assert teachers == {"Teacher": 0, "Student": 0, "RM": count, "RM + PFI": count}
    lines = publish(study_plan, "tiny", "tiny").splitlines()
    assert [line for line in lines if "teacher: intervals" in line] == [
        line for line in lines if note and note in line
    ]
    assert any(note in line for line in lines)


@pytest.mark.parametrize(
    ("teacher_seeds", "note"), [("first", "have the same teacher"), ("paired", "has its own")]
)
def test_a_note_names_the_classifiers_of_several_seeds(teacher_seeds: Any, note: str) -> None:
    options = StudyOptions(seeds=2, teacher_seeds=teacher_seeds)
    pairs, classifiers = [{"student": "r18"}], {"general": "smoke"}
    changes = {"pairs": pairs, "methods": ["dicod"], "classifiers": classifiers}
    text = publish(planned(options=options, **changes), "tiny", "tiny")
    assert [note in line for line in text.splitlines() if "teacher: intervals" in line] == [True]


def test_unfinished_tables_and_their_gains_are_in_a_separate_folder() -> None:
    """A table without gains has no figure of them yet, a finished one has all its files."""
    study_plan = planned(methods=["rm", "pfi"])
    publish(study_plan, "tiny", "tiny")
    partial = FOLDER / "partial"
    assert sorted(path.name for path in partial.iterdir()) == ["table.csv", "table.md", "table.tex"]
    finish(study_plan, None, "rm")
    publish(study_plan, "tiny", "tiny")
    assert (partial / "gains" / "pair.png").is_file()
    finish(study_plan)
    text = publish(study_plan, "tiny", "tiny")
    assert not partial.exists()
    assert (FOLDER / "table.md").read_text() == text
    assert sorted(path.name for path in (FOLDER / "gains").iterdir()) == ["pair.pdf", "pair.png"]
    with open(FOLDER / "table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["gain"] for row in rows] == ["", "", "1", "1"]
    assert {row["verdict"] for row in rows} == {""}


def test_a_study_of_baselines_has_a_figure_that_the_workflow_waits_for() -> None:
    study_plan = planned(methods=[])
    finish(study_plan)
    publish(study_plan, "tiny", "tiny")
    assert (FOLDER / "gains" / "pair.pdf").is_file()


def test_figures_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = yaml.safe_load(Path(STUDY).read_text(encoding="utf-8"))["tables"]["pair"]
    edit(STUDY, tables__second={**table, "title": "The same pair"})
    study_plan = planned(methods=["rm"])
    finish(study_plan)
    files = []
    for cores in (1, 2):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: {*range(cores)})
        shutil.rmtree(FOLDER, ignore_errors=True)
        publish(study_plan, "tiny", "tiny")
        files.append({path.name: path.read_bytes() for path in (FOLDER / "gains").iterdir()})
    assert files[0].keys() == {"pair.pdf", "pair.png", "second.pdf", "second.png"}
    assert files[0] == files[1]


def test_a_selected_row_is_judged_as_in_the_whole_table() -> None:
    """Rows that are not selected count in the family, with their results where they have any."""
    whole = planned(options=StudyOptions(seeds=3), methods=["rm", "pfi", "fgfi"])
    finish(whole, None, "rm", "pfi")
    (expected,) = (row for row in results(whole) if row.label == "RM")
    part = planned(options=StudyOptions(seeds=3, methods=["rm"]))
    (row,) = (row for row in results(part) if row.label == "RM")
    assert len(part.rows) == 3 and row.selection == "methods rm"
    assert (row.gain, row.cell) == (expected.gain, expected.cell)
    assert row.cell and (row.cell.planned_rows, row.cell.residual_df) == (3, 4)
    note = "Gains are judged as part of the whole table."
    assert note in publish(part, "tiny", "tiny")
