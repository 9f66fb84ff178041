"""Teachers of a method, and pairs of detectors to which it does not apply."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.tables.write import specification
from kd import methods
from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.compose import WEIGHTS
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import Run
from kd.workflow.options import WorkflowOptions
from kd.workflow.workflow import Workflow
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit("configs/scales/tiny.yaml", classifiers={"r50": "smoke"})


def planned(**table: Any) -> Plan:
    edit(STUDY, **{f"tables__pair__{key}": value for key, value in table.items()})
    return plan("tiny", "tiny", Library())


def run_of(planned_study: Plan, method: str) -> Run:
    (run,) = [run for run in planned_study.runs.values() if run.method == method]
    return run


def pair(**settings: Any) -> list[dict[str, Any]]:
    return [{"student": "r18", **settings}]


# --- Teachers ------------------------------------------------------------------------------


def test_a_student_of_two_teachers_names_and_needs_both() -> None:
    planned_study = planned(methods=["rm+dicod"], classifiers={"general": "r50"})
    run = run_of(planned_study, "rm+dicod")
    assert "/rm+dicod_from_retinanet-r18-w0.1875+classifier-smoke/" in run.name
    (classifier,) = planned_study.classifiers.values()
    model = run.config["model"]
    assert model["checkpoint"] == str(run.teacher.directory / WEIGHTS)
    assert model["classifier_checkpoint"] == str(classifier.directory / WEIGHTS)
    assert model["classifier"] == classifier.config["model"]
    options = WorkflowOptions(
        study="tiny", scale="tiny", seeds=None, tables=None, threads=1, workers=0
    )
    weights = Workflow(options, Library()).teacher_weights(run.name)
    assert weights == [model["checkpoint"], model["classifier_checkpoint"]]


def test_one_classifier_teaches_every_student_of_its_family() -> None:
    planned_study = planned(
        methods=["dicod", "dicod_cls"],
        detectors=["retinanet", "faster_rcnn"],
        classifiers={"general": "r50"},
    )
    assert len(planned_study.classifiers) == 1
    assert sum(run.classifier is not None for run in planned_study.runs.values()) == 4


def test_methods_of_a_classifier_or_of_no_teacher_need_no_teacher_detector() -> None:
    planned_study = planned(
        pairs=pair(), methods=["dicod_cls", "dicod_loc"], classifiers={"general": "r50"}
    )
    assert [row.kind for row in planned_study.rows] == ["baseline", "distilled", "distilled"]
    assert (
        run_of(planned_study, "dicod_cls").name.split("/")[-2] == "dicod_cls_from_classifier-smoke"
    )
    alone = run_of(planned_study, "dicod_loc")
    assert alone.name.split("/")[-2] == "dicod_loc"
    assert {"teacher", "classifier"}.isdisjoint(alone.config["model"])


def test_a_method_of_a_detector_is_refused_without_one() -> None:
    with pytest.raises(UserError, match="'rm' learns from a detector, but the pair with student"):
        planned(pairs=pair(), methods=["rm"])


def test_a_table_without_the_familys_classifier_is_refused() -> None:
    message = (
        "'pair': key 'classifiers' has no classifier for 'ssd', the family of detector 'ssd300'"
    )
    with pytest.raises(UserError, match=message):
        planned(methods=["dicod"], detectors=["ssd300"], classifiers={"general": "r50"})


def test_an_unknown_classifier_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="no 'r51' in configs/classifiers; did you mean 'r50'"):
        planned(methods=["dicod"], classifiers={"general": "r51"})


# --- Pairs of detectors --------------------------------------------------------------------


def test_a_cascade_teaches_faster_rcnn_by_its_neck() -> None:
    planned_study = planned(
        detectors=["faster_rcnn"],
        pairs=pair(teacher="r50", teacher_detector="cascade_rcnn"),
        methods=["fitnets", "defeat", "fkd", "fgfi"],
    )
    types = [
        run.config["model"]["teacher"]["type"] for run in planned_study.runs.values() if run.teacher
    ]
    assert types == ["CascadeRCNN"] * 4


REFUSED = {
    "an output that the teacher does not offer": (
        ("faster_rcnn", "cascade_rcnn", "mimic"),
        "'mimic' reads rois, which detector 'cascade_rcnn' does not offer",
    ),
    "other priors": (
        ("retinanet", "gfl", "rm"),
        "'rm' compares rankings row for row, which 'gfl' and 'retinanet' do not share",
    ),
    "another pyramid": (
        ("retinanet", "faster_rcnn", "defeat"),
        "'retinanet' has strides 8 and 16 .* and 'faster_rcnn' 4 and 8",
    ),
    "class maps of another detector": (
        ("retinanet", "fcos", "cwd_class"),
        "'cwd_class' compares class_maps row for row, which 'fcos' and 'retinanet' do not share",
    ),
}


@pytest.mark.parametrize(("names", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_pair_is_refused(names: tuple[str, str, str], reason: str) -> None:
    student, teacher, method = names
    with pytest.raises(UserError, match=reason):
        planned(
            detectors=[student],
            pairs=pair(teacher="r50", teacher_detector=teacher),
            methods=[method],
        )


@pytest.mark.parametrize("teacher", ["faster_rcnn", "fcos", "rtmdet"])
def test_another_detector_teaches_retinanet_on_levels_of_equal_stride(teacher: str) -> None:
    methods = ["fitnets", "pkd", "pkd_mmrazor", "cwd", "cwd_normalized"]
    planned_study = planned(
        detectors=["retinanet"],
        pairs=pair(teacher="r50", teacher_detector=teacher),
        methods=methods,
    )
    distilled = [run for run in planned_study.runs.values() if run.teacher]
    assert sorted(run.method for run in distilled) == sorted(methods)


def test_pyramids_without_a_common_stride_are_refused_with_both() -> None:
    text = Path("configs/detectors/retinanet.yaml").read_text()
    coarse = text.replace("[8, 16, 32, 64, 128]", "[12, 24, 48, 96, 192]")
    Path("configs/detectors/retinanet_coarse.yaml").write_text(coarse)
    edit("configs/scales/tiny.yaml", detectors__retinanet_coarse={})
    reason = (
        "'pkd' compares neck maps of equal strides, but 'retinanet' has 8 and 16 and 32 and 64 and "
        "128 and 'retinanet_coarse' 12 and 24"
    )
    with pytest.raises(UserError, match=reason):
        planned(
            detectors=["retinanet"],
            pairs=pair(teacher="r50", teacher_detector="retinanet_coarse"),
            methods=["pkd"],
        )


def test_two_detectors_of_the_same_priors_share_them() -> None:
    text = Path("configs/detectors/retinanet.yaml").read_text()
    Path("configs/detectors/retinanet_wide.yaml").write_text(text.replace("256", "512"))
    edit("configs/scales/tiny.yaml", detectors__retinanet_wide={})
    planned_study = planned(
        pairs=pair(teacher="r50", teacher_detector="retinanet_wide"), methods=["rm+pfi"]
    )
    assert run_of(planned_study, "rm+pfi").teacher.detector == "retinanet_wide"


def test_defaults_depend_on_the_number_of_stages_and_settings_of_the_study_override_them() -> None:
    detectors = ["retinanet", "faster_rcnn"]
    planned_study = planned(
        detectors=detectors, methods=["fkd"], settings={"fkd": {"temperature": 3}}
    )
    terms = {
        run.detector: run.config["model"]["methods"]["fkd"]
        for run in planned_study.runs.values()
        if run.method
    }
    assert [terms[name]["kind"] for name in detectors] == ["one_stage", "two_stage"]
    assert [terms[name]["transfer_weight"] for name in detectors] == [2.4e-2, 4e-3]
    assert [terms[name]["temperature"] for name in detectors] == [3, 3]


# --- kd methods ----------------------------------------------------------------------------


def test_methods_prints_a_line_for_each_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    _, *lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    rows = {line.split()[0]: line.split("  ") for line in lines}
    assert [*rows] == methods.names()
    assert rows["mimic"][-1].strip() == "faster_rcnn"
    assert rows["fkd"][-1].strip() == "all"
    detectors = "cascade_rcnn, faster_rcnn, reppoints, reppoints_gn, yolov3"
    assert rows["rm"][-1].strip() == f"all but {detectors}"


def test_methods_all_adds_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    fkd = next(index for index, line in enumerate(lines) if line.startswith("fkd "))
    assert lines[fkd + 1].startswith("  fkd_am") and "masked features alone" in lines[fkd + 1]


def test_methods_grid_marks_the_pairs_that_apply_and_counts_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["methods", "--grid"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    detectors = header.split()
    rows = [line.split() for line in lines[: len(methods.names())]]
    assert [row[0] for row in rows] == methods.names()
    by_name = {name: dict(zip(detectors, marks, strict=True)) for name, *marks in rows}
    assert [name for name, mark in by_name["mimic"].items() if mark == "x"] == ["faster_rcnn"]
    applied = sum(marks.count("x") for marks in rows)
    total = len(rows) * len(detectors)
    assert f"= {total} pairs: {applied} apply, {total - applied} are refused." in "\n".join(lines)


def test_methods_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    by_name = {method["name"]: method for method in content["methods"]}
    assert content["schema"] == 1 and [*by_name] == methods.names()
    assert by_name["mimic"]["detectors"] == ["faster_rcnn"]
    assert by_name["rm"]["refused"]["yolov3"].startswith("reads rankings")
    assert "rm_loc" in {preset["name"] for preset in by_name["rm"]["presets"]}


def test_methods_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "fkd"]) == 0
    printed = capsys.readouterr().out
    assert "transfer_weight: 0.024; with two stages 0.004" in printed
    assert "detectors: atss, cascade_rcnn" in printed
    assert "presets:\n  fkd_am: masked features alone\n  fkd_at: attention" in printed


def test_methods_explains_a_preset_with_its_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "fkd_am"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("fkd_am: masked features alone (preset of fkd)\n\nfkd: ")
    assert "transfer_weight: 0" in printed


def test_methods_refuses_an_unknown_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "fkdd"]) == 2
    assert "no method 'fkdd'; did you mean 'fkd'?" in capsys.readouterr().err


def test_tables_name_methods_as_their_papers_do() -> None:
    planned_study = planned(methods=["defeat_object+rm", "fkd"])
    labels = [specification(row, planned_study, Library()).label for row in planned_study.rows]
    assert labels == ["Teacher", "Student", "DeFeat (object) + RM", "FKD"]
