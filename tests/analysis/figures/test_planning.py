"""Planned figures of a study: their runs, and errors that are found before any run."""

from pathlib import Path
from typing import Any

import pytest

from analysis import figures
from analysis.figures.planning import PlannedFigure, left_out, plan_figures
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project
from tests.test_imports import heavy_modules

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project without images."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned(figure: dict[str, Any], **options: Any) -> PlannedFigure:
    """Return the one figure of the tiny study, with these keys."""
    edit(STUDY, figures={"curves": {"analysis": "training_curves"} | figure})
    figures = plan_figures(plan("tiny", "tiny", Library(), StudyOptions(**options)), "tiny", "tiny")
    return figures["curves"]


def methods(figure: PlannedFigure) -> list[str | None]:
    return [run.method for run in figure.runs]


def test_all_rows_are_in_the_order_of_the_table() -> None:
    figure = planned({})
    assert methods(figure) == [None, None, "rm", "rm+pfi"]
    assert figure.runs[0] is figure.runs[2].teacher
    assert figure.folder == Path("results/tiny/tiny/figures/curves")
    assert f"{figure.runs[2].directory}/metrics.json" in figure.inputs


def test_rows_are_in_the_order_of_the_figure() -> None:
    figure = planned({"rows": ["rm+pfi", "baseline"]})
    assert methods(figure) == ["rm+pfi", None]
    assert figure.runs[1].student == "r18-w0.125"


def test_a_figure_has_the_runs_of_every_seed() -> None:
    assert [run.seed for run in planned({"rows": ["rm"]}, seeds=3).runs] == [0, 1, 2]


def test_a_figure_has_one_pair_and_one_detector() -> None:
    edit("configs/scales/tiny.yaml", backbones__r34="r18-w0.25", backbones__r101="r18-w0.5")
    pairs = [
        {"teacher": "r50", "student": "r18"},
        {"teacher": "r101", "student": "r18"},
        {"teacher": "r50", "student": "r34"},
    ]
    edit(STUDY, tables__pair__pairs=pairs, tables__pair__detectors=["retinanet", "gfl"])
    first = planned({})
    assert {run.model for run in first.runs} == {"retinanet-r18-w0.1875", "retinanet-r18-w0.125"}
    other = planned({"detector": "gfl", "student": "r34"})
    assert {run.model for run in other.runs} == {"gfl-r18-w0.1875", "gfl-r18-w0.25"}


def test_a_swept_row_has_the_runs_of_all_values() -> None:
    edit(STUDY, tables__pair__sweep={"rm": {"weight": [2, 8]}})
    runs = planned({"rows": ["rm"]}).runs
    assert [run.config["model"]["methods"]["rm"]["weight"] for run in runs] == [2, 8]


def test_students_are_stopped_after_an_epoch_and_their_teacher_is_not() -> None:
    figure = planned({"epoch": 1})
    teacher, *students = figure.runs
    assert teacher.schedule == "tiny" and students[1].teacher == teacher
    assert {run.schedule for run in students} == {"tiny-stop_epoch1"}
    assert {run.config["train_cfg"]["stop_epoch"] for run in students} == {1}
    assert [run.config["train_cfg"]["max_epochs"] for run in students] == [2, 2, 2]
    finished = planned({})
    assert not {run.name for run in students} & {run.name for run in finished.runs}
    assert planned({"epoch": 2}).runs == finished.runs


def test_a_figure_after_an_epoch_that_a_changed_schedule_lacks_is_left_out() -> None:
    edit(STUDY, figures={"curves": {"analysis": "training_curves", "epoch": 2}})
    short = plan("tiny", "tiny", Library(), StudyOptions(schedule="epochs=1,milestones=none"))
    assert plan_figures(short, "tiny", "tiny") == {}
    (line,) = left_out(short, "tiny", "tiny")
    assert line.startswith(
        "Figure 'curves' of study 'tiny' is left out: epoch 2 is after the end of"
    )


def test_the_arguments_of_the_command_are_complete() -> None:
    figure = planned({"rows": ["rm"], "settings": {"smooth": 5}})
    analysis, run, *rest = figure.arguments
    assert (analysis, run) == ("training_curves", str(figure.runs[0].directory))
    assert rest == ["--to", str(figure.folder), "--set", "smooth=5"]


def test_a_figure_of_a_table_outside_the_plan_is_left_out() -> None:
    other = {"title": "Other", "dataset": "coco2017", "schedule": "1x", "methods": []}
    other |= {"detectors": ["retinanet"], "pairs": [{"student": "r18"}]}
    edit(STUDY, tables__other=other, figures={"curves": {"analysis": "training_curves"}})
    other_plan = plan("tiny", "tiny", Library(), StudyOptions(tables=["other"]))
    assert plan_figures(other_plan, "tiny", "tiny") == {}


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"analysis": "training_curve"}, "no analysis 'training_curve'; did you mean"),
        ({"table": "pairs"}, "table: no 'pairs'; did you mean 'pair'"),
        ({"detector": "retinanett"}, "detector: no 'retinanett'; did you mean 'retinanet'"),
        ({"student": "r81"}, "student: no 'r81'; did you mean 'r18'"),
        ({"rows": ["rm", "pfi"]}, "rows: no 'pfi'"),
        ({"rows": []}, "figures.curves.rows"),
        ({"epoch": 3}, ": epoch 3 is after the end of schedule 'tiny' of 2 epochs"),
        ({"epoch": 0}, "figures.curves.epoch"),
        ({"settings": {"smoothing": 5}}, "unknown key 'smoothing'; did you mean 'smooth'"),
        ({"settings": {"smooth": -1}}, "key 'smooth'"),
        ({"row": ["rm"]}, "unknown key 'figures.curves.row'; did you mean 'rows'"),
    ],
)
def test_figures_that_cannot_be_drawn_are_errors(figure: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        planned(figure)
    assert str(error.value).startswith(STUDY)


@pytest.mark.parametrize("name", figures.names())
def test_the_description_of_an_analysis_needs_no_heavy_imports(name: str) -> None:
    kind = figures.get(name)
    assert kind.title and kind.pictures and kind.tables
    assert {*kind.reads} & {"weights.pth", "detections.json.gz", "metrics.json"} == {*kind.reads}
    assert all(stem.split("-")[0] == name for stem in (*kind.pictures, *kind.tables))
    assert len(kind.definition()) > 80
    kind.parse({}, name)
    assert not heavy_modules(f"from analysis import figures; figures.get({name!r})")
