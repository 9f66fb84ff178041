"""Teachers and initial weights from mmdet's model zoo."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.config.zoo.entries import PublishedDetectors
from kd.workflow.budget_text import describe_budget
from kd.workflow.plan_text import describe_plan
from kd.workflow.zoo_text import describe_teachers
from tests.support.paths import CONFIGS

R101 = {"teacher": "r101", "student": "r50"}
RETINANET = {
    "zoo": "retinanet_r101_fpn_2x_coco",
    "source": "https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco"
    "/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth",
    "sha256": "5560aee8",
}
WHERE = (
    "configs/studies/s.yaml: table 'only': pair of teacher 'r101' and student 'r50': key "
    "'checkpoint.zoo': "
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with the files of ``configs``, but studies, schedules and scales to edit."""
    (tmp_path / "configs").mkdir()
    for folder in CONFIGS.iterdir():
        if folder.name not in ("studies", "schedules", "scales"):
            (tmp_path / "configs" / folder.name).symlink_to(folder.resolve())
    for name in ("studies", "schedules", "scales"):
        (tmp_path / "configs" / name).mkdir()
        if name != "studies":
            for file in (CONFIGS / name).iterdir():
                (tmp_path / "configs" / name / file.name).symlink_to(file.resolve())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(
    pair: dict[str, Any],
    trained_as: str = "2x-lr0.01",
    detector: str = "retinanet",
    dataset: str = "coco2017",
    scale: str = "paper",
    **options: Any,
) -> Plan:
    table = {
        "title": "t", "dataset": dataset, "schedule": trained_as, "detectors": [detector],
        "pairs": [pair], "methods": ["fitnets"],
    }  # fmt: skip
    study = {"title": "s", "source": "none", "tables": {"only": table}}
    Path("configs/studies/s.yaml").write_text(yaml.safe_dump(study))
    return plan("s", scale, Library(), StudyOptions(**options))


def teacher(planned_study: Plan) -> Run:
    return planned_study.rows[0].runs[0]


def published(planned_study: Plan) -> Any:
    return teacher(planned_study).composed.published_checkpoint


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        planned(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_equal_teacher_is_imported() -> None:
    study = planned(R101, teachers="zoo")
    assert published(study) == RETINANET
    assert teacher(study).schedule == "2x-lr0.01"
    (student,) = (run for run in study.runs.values() if run.method)
    assert student.teacher == teacher(study)
    assert student.config["model"]["checkpoint"].startswith(str(teacher(study).directory))


def test_other_runs_keep_their_digests() -> None:
    trained, imported = planned(R101), planned(R101, teachers="zoo")
    assert published(trained) is None
    baselines = [study.rows[1].runs[0] for study in (trained, imported)]
    assert baselines[0] == baselines[1]


@pytest.mark.parametrize(
    ("pair", "schedule", "detector", "dataset"),
    [
        (R101, "2x", "retinanet", "coco2017"),  # another learning rate
        (R101, "2x-lr0.01", "gfl", "coco2017"),  # images of several sizes
        ({"teacher": "r152", "student": "r50"}, "2x-lr0.01", "retinanet", "coco2017"),
        (R101, "2x-lr0.01", "retinanet", "voc0712"),
        (R101, "2x-lr0.01", "retinanet", "coco2017-person"),
    ],
)
def test_a_teacher_without_an_equal_one_is_trained(
    pair: dict[str, Any], schedule: str, detector: str, dataset: str
) -> None:
    study = planned(pair, schedule, detector, dataset, teachers="zoo")
    assert study.runs.keys() == planned(pair, schedule, detector, dataset).runs.keys()


def test_a_changed_schedule_is_compared() -> None:
    assert published(planned(R101, "2x", teachers="zoo", schedule="lr=0.01")) == RETINANET
    assert published(planned(R101, teachers="zoo", schedule="epochs=6")) is None


def test_another_learning_rate_is_accepted_and_marked() -> None:
    study = planned(R101, "2x", teachers="zoo_any_lr")
    assert published(study) == RETINANET
    differs = "teacher retinanet_r101_fpn_2x_coco was trained with lr 0.01"
    assert {row.kind: row.differs for row in study.rows} == {
        "teacher": differs,
        "baseline": "",
        "distilled": differs,
    }
    equal = planned(R101, teachers="zoo_any_lr")
    assert published(equal) == RETINANET and not any(row.differs for row in equal.rows)
    assert published(planned(R101, detector="gfl", teachers="zoo_any_lr")) is None


def test_a_scale_that_changes_the_detector_trains_it(project: Path) -> None:
    scale = {"title": "narrow", "detectors": {"retinanet": {"bbox_head": {"stacked_convs": 2}}}}
    (project / "configs/scales/narrow.yaml").write_text(yaml.safe_dump(scale))
    assert published(planned(R101, scale="narrow", teachers="zoo")) is None


def test_a_pair_names_any_detector_of_its_architecture() -> None:
    pair = {**R101, "checkpoint": {"zoo": "gfl_r101_fpn_ms-2x_coco"}}
    assert published(planned(pair, detector="gfl"))["sha256"] == "dd12f847"
    assert published(planned(pair, "smoke", "gfl", scale="smoke")) is None


def test_a_mask_rcnn_of_the_zoo_comes_without_its_mask_branch() -> None:
    pair = {**R101, "checkpoint": {"zoo": "mask-rcnn_r101_fpn_2x_coco"}}
    assert published(planned(pair, "2x", "faster_rcnn"))["without"] == ["roi_head.mask_head."]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "retinanet_r101_fpn_2x_cooc",
            "mmdet's model zoo has no 'retinanet_r101_fpn_2x_cooc'; nearest: "
            "retinanet_r101_fpn_2x_coco, ",
        ),
        (
            "gfl_r50_fpn_1x_coco",
            "'gfl_r50_fpn_1x_coco' of mmdet's model zoo is detector 'gfl' on backbone 'r50', not "
            "'retinanet' on 'r101'; name one of retinanet_r101_fpn_1x_coco, ",
        ),
        (
            "deformable-detr_r50_16xb2-50e_coco",
            "no detector of this project equals 'deformable-detr_r50_16xb2-50e_coco' of mmdet's "
            "model zoo; nearest: ",
        ),
    ],
)
def test_a_wrong_name_is_refused(name: str, problem: str) -> None:
    assert refusal({**R101, "checkpoint": {"zoo": name}}).startswith(WHERE + problem)


def test_other_classes_are_refused() -> None:
    pair = {**R101, "checkpoint": {"zoo": "retinanet_r101_fpn_2x_coco"}}
    assert "has the 80 classes of data set 'coco2017', and the run has those of 'voc0712'" in (
        refusal(pair, dataset="voc0712")
    )


@pytest.mark.parametrize("key", [{"source": "a.pth"}, {"sha256": "0" * 8}, {"without": ["a."]}])
def test_a_name_excludes_other_keys(key: dict[str, Any]) -> None:
    pair = {**R101, "checkpoint": {"zoo": "retinanet_r101_fpn_2x_coco", **key}}
    assert "give 'source' and 'sha256', or 'zoo' alone" in refusal(pair)


def test_paired_seeds_need_trained_teachers() -> None:
    assert refusal(R101, teachers="zoo", teacher_seeds="paired", seeds=2) == (
        "configs/studies/s.yaml: table 'only': 'teacher_seeds: paired' trains a teacher for each "
        "seed, but the pair of teacher 'r101' and student 'r50' has one of mmdet's model zoo, "
        "'retinanet_r101_fpn_2x_coco', which option 'teachers' imports; set "
        "'teachers: trained' to train its teachers, or set 'teacher_seeds: first'"
    )
    planned(R101, "2x", teachers="zoo", teacher_seeds="paired", seeds=2)


def test_a_scale_of_narrow_networks_imports_none() -> None:
    problem = refusal(R101, scale="smoke", teachers="zoo")
    assert problem.startswith("teachers: zoo: scale 'smoke' imports no published weights")


def test_the_plan_lists_imported_and_trained_teachers(project: Path) -> None:
    library = Library()
    study = planned(R101, teachers="zoo")
    lines = describe_teachers(study, library)
    assert lines[1] == "  retinanet-r101, 2x-lr0.01: retinanet_r101_fpn_2x_coco, AP 38.9"
    assert lines[2].startswith("These imports save about ") and lines[2].endswith(
        " GPU hours of training"
    )
    assert lines[-1] == f"  {RETINANET['source']}"
    assert "put them into the folder checkpoints" in lines[-2]
    for text in (describe_plan(study, library), describe_budget(study, library)):
        assert "\n".join(lines) in text
    (row,) = [line for line in describe_plan(study, library).splitlines() if "/teacher " in line]
    assert row.split()[-3:] == ["-", "0", "min"]
    (project / "checkpoints").mkdir()
    (project / "checkpoints/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth").touch()
    assert describe_teachers(study, library) == lines[:-2]


def test_the_plan_says_why_a_teacher_is_trained() -> None:
    assert describe_teachers(planned(R101, "2x"), Library()) == []
    lines = describe_teachers(planned(R101, "2x", teachers="zoo"), Library())
    assert lines[0] == "Teachers from mmdet's model zoo: none"
    assert lines[2].startswith(
        "  retinanet-r101, 2x, coco2017: retinanet_r101_fpn_2x_coco has lr 0.01; "
    )


def test_differences_are_printed_with_few_digits() -> None:
    detectors = PublishedDetectors(Library())
    name = "fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco"
    clauses = detectors.differences(name, "2x-lr0.01")
    assert {"warmup_start 0.3333", "bias_lr 2", "warmup_constant True"} <= set(clauses)


def start_from(name: str) -> None:
    """Write the schedule ``fine``, which starts from a published detector."""
    schedule = {"base": "2x-lr0.01", "init": {"zoo": name}}
    Path("configs/schedules/fine.yaml").write_text(json.dumps(schedule))


def test_a_student_starts_from_a_published_detector() -> None:
    start_from("retinanet_r50_fpn_1x_coco")
    pair = {**R101, "teacher_schedule": "2x-lr0.01"}
    study = planned(pair, "fine", dataset="voc0712")
    for run in study.runs.values():
        start = run.composed.initial_checkpoint
        if run.schedule != "fine":
            assert start is None
            continue
        assert start and start["zoo"] == "retinanet_r50_fpn_1x_coco"
        backbone = run.composed.student["backbone"]
        assert "init_cfg" not in backbone
        assert backbone["frozen_stages"] == 1 and backbone["norm_eval"]
    lines = describe_teachers(study, Library())
    assert lines[0].startswith("Published weights to download: 1 file.")
    assert lines[1].endswith("/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("retinanet_r50_fpn_1x_coco", "on backbone 'r50', not 'retinanet' on 'r101'"),
        ("retinanet_r5_fpn_1x_coco", "mmdet's model zoo has no 'retinanet_r5_fpn_1x_coco'"),
    ],
)
def test_a_start_from_another_architecture_is_refused(name: str, problem: str) -> None:
    start_from(name)
    message = refusal(R101, "fine")
    assert "schedule 'fine': key 'init.zoo': " in message and problem in message


def test_narrow_networks_start_from_no_published_detector() -> None:
    start_from("retinanet_r50_fpn_1x_coco")
    pair = {**R101, "teacher_schedule": "2x-lr0.01"}
    message = refusal(pair, "fine", dataset="voc0712", scale="laptop")
    assert "schedule 'fine': key 'init.zoo': no published weights fit" in message
