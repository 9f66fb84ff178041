"""Selection of a study's rows, on the command line and in the workflow."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.figures.planning import left_out, plan_figures
from analysis.tables.write import publish, results
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions
from kd.workflow.options import WorkflowOptions, study_arguments, study_config
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

LIBRARY = Library(CONFIGS)


def selected(study: str = "rm_pfi", **options: Any) -> Plan:
    return plan(study, "paper", LIBRARY, StudyOptions(**options))


def keys(**options: Any) -> list[str]:
    return [row.key for row in selected(**options).rows]


@pytest.mark.parametrize("study", LIBRARY.names("studies"))
def test_each_row_has_its_own_key_of_safe_characters(study: str) -> None:
    rows = [row.key for row in selected(study).rows]
    assert len({*rows}) == len(rows)
    assert not [key for key in rows if {*key} & {*" ,;=*?'\"()[]"}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rows": "table1/retinanet/pfi"}, ["r50/teacher", "r18/baseline", "r50-r18/pfi"]),
        (
            {"rows": ["table1/retinanet/r50-r18/pfi"]},
            ["r50/teacher", "r18/baseline", "r50-r18/pfi"],
        ),
        ({"rows": "table1/retinanet/baseline"}, ["r18/baseline"]),
        (
            {"tables": "table1", "detectors": "retinanet", "methods": "rm, rm+pfi"},
            ["r50/teacher", "r18/baseline", "r50-r18/rm", "r50-r18/rm+pfi"],
        ),
    ],
)
def test_selected_rows_come_with_their_teacher_and_baseline(
    options: dict[str, Any], expected: list[str]
) -> None:
    assert keys(**options) == [f"table1/1x/retinanet/{end}" for end in expected]


def test_a_selected_row_has_the_runs_that_it_has_in_the_whole_study() -> None:
    whole = {row.key: row for row in selected().rows}
    part = selected(methods="pfi", seeds=None)
    assert all(row.runs == whole[row.key].runs for row in part.rows)
    assert {run.method for run in part.runs.values()} == {None, "pfi"}
    assert all(run.teacher.name in part.runs for run in part.runs.values() if run.teacher)


def test_a_row_with_a_classifier_alone_plans_no_teacher_detector() -> None:
    part = selected("dicod", rows="table3b/dicod_cls")
    assert {row.kind for row in part.rows} == {"baseline", "distilled"}
    assert part.classifiers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "PFI"}, "no method 'PFI' in study 'rm_pfi'; did you mean 'pfi'"),
        ({"detectors": "fcoss"}, "no detector 'fcoss' .*; did you mean 'fcos'"),
        (
            {"tables": "table1", "methods": "fgfi"},
            "no method 'fgfi' in tables table1 of study 'rm_pfi'",
        ),
        ({"tables": "tabel1"}, "no table 'tabel1'; did you mean 'table1'"),
        ({"rows": "table1/pfii"}, "has 'pfii' in its key; nearest: pfi, .*`kd plan rm_pfi`"),
        (
            {"rows": "pfi/table1/fcos"},
            "'pfi/table1/fcos' in this order; nearest: table1/1x/fcos/r50-r18/pfi",
        ),
        (
            {"methods": "pfi", "rows": "table1/rm"},
            "no row with all of methods=pfi rows=table1/rm; `kd plan rm_pfi` lists",
        ),
    ],
)
def test_a_mistake_names_the_nearest_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        selected(**options)


def test_options_are_the_same_for_both_commands() -> None:
    options = StudyOptions(
        seeds=2, teacher_seeds="paired", methods="rm+pfi pfi", schedule="lr=0.005,epochs=6"
    )
    words = ["--seeds", "2", "--teacher-seeds", "paired", "--methods", "rm+pfi,pfi"]
    words += ["--schedule", "lr=0.005,epochs=6"]
    assert study_arguments("demo", "smoke", options) == ["demo", "--scale", "smoke", *words]
    words = ["seeds=2", "teacher_seeds=paired", "methods=rm+pfi,pfi", "schedule=lr=0.005,epochs=6"]
    assert study_config("demo", "smoke", options) == [
        *("--config", "study=demo", "scale=smoke"),
        *words,
    ]


@pytest.mark.parametrize("key", ["tables", "detectors", "methods", "rows"])
def test_a_selection_is_of_one_study(key: str) -> None:
    options = WorkflowOptions(study="rm_pfi, fkd", scale="paper", **{key: ["x"]})
    with pytest.raises(UserError, match=f"'{key}' .* selects from one study, .* 2: rm_pfi, fkd"):
        options.study_names(LIBRARY)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


@pytest.mark.parametrize(
    ("figure", "options", "runs"),
    [
        ({}, {"methods": ["rm"]}, [None, None, "rm"]),
        ({"rows": ["baseline", "rm"]}, {"methods": ["rm"]}, [None, "rm"]),
        ({"rows": ["rm", "rm+pfi"]}, {"methods": ["rm"]}, "row 'rm+pfi' is not selected"),
        ({"detector": "gfl"}, {"detectors": ["retinanet"]}, "detector 'gfl' is not selected"),
        ({}, {"methods": ["teacher"]}, "a student is not selected"),
        ({}, {"tables": ["other"]}, "table 'pair' is not selected"),
    ],
)
def test_a_figure_shows_selected_rows_or_is_left_out(
    project: None, figure: dict[str, Any], options: dict[str, Any], runs: list[str | None] | str
) -> None:
    study = "configs/studies/tiny.yaml"
    edit(study, tables__pair__detectors=["retinanet", "gfl"])
    table = yaml.safe_load(Path(study).read_text())["tables"]["pair"]
    figures = {"curves": {"analysis": "training_curves", "table": "pair", **figure}}
    edit(study, tables__other={**table, "title": "Other"}, figures=figures)
    part = plan("tiny", "tiny", Library(), StudyOptions(**options))
    planned = plan_figures(part, "tiny", "tiny")
    if isinstance(runs, list):
        assert [run.method for run in planned["curves"].runs] == runs
        assert left_out(part, "tiny", "tiny") == []
        return
    assert planned == {}
    (line,) = left_out(part, "tiny", "tiny")
    assert line.startswith("Figure 'curves' of study 'tiny' is left out: ")
    assert line.endswith(f"{runs}.")


def test_rows_of_a_part_of_a_table_are_marked(project: None) -> None:
    whole, part, table = (
        plan("tiny", "tiny", Library(), StudyOptions(**options))
        for options in ({}, {"methods": ["rm"]}, {"tables": ["pair"]})
    )
    assert {row.selection for row in results(part)} == {"methods rm"}
    assert {row.selection for row in [*results(whole), *results(table)]} == {""}


def test_the_heading_names_the_selection_and_the_change(project: None) -> None:
    part = plan("tiny", "tiny", Library(), StudyOptions(methods="rm", schedule="lr=0.5"))
    heading = publish(part, "tiny", "tiny").splitlines()[0]
    assert heading.startswith("# Selected rows (methods rm): Schedule changed (lr=0.5): A pair to")
