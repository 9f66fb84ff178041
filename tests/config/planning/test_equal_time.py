"""Controls: the student alone, trained as long as a distilled student."""

import math
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from kd.config.planning.step_flops import OBJECTS_PER_IMAGE, StepFlops
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


def planned(scale: str = "paper", **options: Any) -> Plan:
    return plan("tiny", scale, Library(), StudyOptions(**options))


def controls(planned_study: Plan) -> list[Row]:
    return [row for row in planned_study.rows if row.kind == "control"]


def epochs_of(planned_study: Plan) -> list[int]:
    """Return the epochs of each control."""
    return [row.runs[0].composed.epochs for row in controls(planned_study)]


def test_there_is_no_control_by_default() -> None:
    before = planned().runs.keys()
    table(baseline="alone")
    assert not controls(planned())
    assert planned().runs.keys() == before


def test_a_control_is_the_student_alone_with_more_epochs() -> None:
    before = planned(seeds=2).runs
    table(baseline="same_time")
    planned_study = planned(seeds=2)
    assert [row.kind for row in planned_study.rows] == [
        *("teacher", "baseline", "control"),
        *("distilled", "distilled"),
    ]
    (control,) = controls(planned_study)
    baseline = planned_study.rows[1].runs
    assert control.method == "same_time"
    assert control.baselines == baseline
    assert list(control.runs) == [0, 1]
    assert control.published == {}
    for seed, run in control.runs.items():
        assert (run.teacher, run.method, run.student) == (None, None, "r18")
        assert run.model == baseline[seed].model
    assert {name: planned_study.runs[name] for name in before} == before
    assert len(planned_study.runs) == len(before) + 2


def test_epochs_follow_the_multiply_adds_of_student_and_teacher() -> None:
    table(baseline="same_time")
    planned_study = planned()
    (control,) = controls(planned_study)
    teacher, baseline = (planned_study.rows[index].runs[0] for index in (0, 1))
    flops = StepFlops(Library())
    student, forward = flops.inference(baseline), flops.inference(teacher)
    assert student and forward
    ratio = (3 * student + forward) / (3 * student)
    assert 1.3 < ratio < 1.5
    assert baseline.composed.epochs == 12
    assert control.runs[0].composed.epochs == round(12 * ratio) == 17
    assert control.setting == "17 epochs"
    assert control.key == "pair/1x/retinanet/r18/same_time/17-epochs"
    assert control.remark == (
        "trained for 17 epochs in place of 12, as long as a distilled student: its step costs "
        f"{ratio:.2f} times as much (estimated from multiply-adds)"
    )


@pytest.mark.parametrize(("ratio", "epochs"), [(1.5, 18), (1.37, 16), (1.38, 17), (1.01, 13)])
def test_a_given_ratio_replaces_the_estimate(ratio: float, epochs: int) -> None:
    """Twelve epochs times the ratio, to the nearest whole number above twelve."""
    table(baseline={"same_time": ratio})
    assert epochs_of(planned()) == [epochs]
    (control,) = controls(planned())
    assert f"costs {ratio:.2f} times as much (as the study states)" in control.remark


def test_milestones_are_scaled_and_the_warm_up_is_kept() -> None:
    table(baseline={"same_time": 2})
    (control,) = controls(planned())
    baseline = planned().rows[1].runs[0]
    assert control.runs[0].schedule == "1x-epochs24"
    assert "/1x-epochs24/" in control.runs[0].name
    warm_up, steps = baseline.config["param_scheduler"]
    longer_warm_up, longer_steps = control.runs[0].config["param_scheduler"]
    assert longer_warm_up == warm_up
    assert (steps["milestones"], longer_steps["milestones"]) == ([8, 11], [16, 22])


def test_a_changed_schedule_is_the_one_that_is_lengthened() -> None:
    table(baseline={"same_time": 1.5})
    (control,) = controls(planned(schedule="lr=0.005,epochs=6"))
    assert control.runs[0].schedule == "1x-lr0.005-epochs9"
    assert control.differs == (
        "schedule changed: lr 0.005 for 0.02, epochs 6 for 12, milestones 4 and 5 for 8 and 11"
    )
    (control,) = controls(planned(schedule="milestones=10"))
    assert control.runs[0].schedule == "1x-epochs18-milestones15"


def test_a_stopped_training_is_lengthened_to_the_same_share_of_its_schedule() -> None:
    """Two of 12 epochs become three of 18, and 12 of 12 become 17 of 17."""
    table(baseline={"same_time": 1.4})
    (control,) = controls(planned(schedule="stop_epoch=2"))
    assert control.runs[0].schedule == "1x-epochs18-stop_epoch3"
    assert control.remark.startswith("trained for 3 epochs in place of 2,")
    assert control.runs[0].composed.epochs == 3
    assert epochs_of(planned(schedule="stop_epoch=12")) == [17]


def test_a_file_with_the_name_of_the_longer_schedule_and_other_settings_is_an_error() -> None:
    table(baseline={"same_time": 1.5})
    Path("configs/schedules/1x-epochs18.yaml").write_text("base: 1x\nepochs: 18\nlr: 1\n")
    message = r"'1x' with changes \(epochs 18 for 12, .*configs/schedules/1x-epochs18\.yaml, which"
    with pytest.raises(UserError, match=message):
        planned()


def test_rows_of_several_lengths_have_a_control_each() -> None:
    table(methods=["rm", "dicod"], classifiers={"general": "r50"}, baseline="same_time")
    planned_study = planned()
    assert len({row.key for row in controls(planned_study)}) == 2
    (run,) = (run for run in planned_study.runs.values() if run.classifier)
    flops = StepFlops(Library())
    alone, taught = flops.training(planned_study.rows[1].runs[0]), flops.training(run)
    assert run.classifier
    per_crop = flops.inference(run.classifier)
    assert alone and taught and per_crop
    assert taught == pytest.approx(alone + OBJECTS_PER_IMAGE * per_crop)
    # 12.2 epochs are rounded to 13, because the baseline has 12.
    assert 12 < 12 * taught / alone < 12.5
    assert epochs_of(planned_study) == [13, 17]
    table(baseline={"same_time": 1.5})
    assert epochs_of(planned()) == [18]


def test_a_control_is_selected_by_name_and_comes_with_its_baseline() -> None:
    table(baseline="same_time")
    assert [row.kind for row in planned(methods="same_time").rows] == ["baseline", "control"]
    assert "control" not in {row.kind for row in planned(methods="rm").rows}
    table(baseline="alone")
    with pytest.raises(UserError, match="methods: no method 'same_time' in study 'tiny'"):
        planned(methods="same_time")


def test_an_unknown_cost_asks_for_the_ratio() -> None:
    edit("configs/detectors/retinanet.yaml", flops=None)
    table(baseline="same_time")
    message = (
        r"table 'pair': 'baseline: same_time' needs the multiply-adds of retinanet-r18 and "
        r"retinanet-r50, .* give the ratio of step times, such as 'baseline: {same_time: 1.4}'"
    )
    with pytest.raises(UserError, match=message):
        planned()
    table(baseline={"same_time": 1.4})
    assert epochs_of(planned()) == [17]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["dicod_loc"]}, "no method of the table has a teacher; delete the key"),
        ({"baseline": "sametime"}, "must be 'alone' or 'same_time', not 'sametime'"),
        ({"baseline": {"same_time": 1}}, "greater than 1, not 1"),
        ({"baseline": {"same_time": math.inf}}, "baseline.same_time': must be a finite number"),
        ({"baseline": {"equal_time": 2}}, "unknown key 'tables.pair.baseline.equal_time'"),
    ],
)
def test_faults_name_the_key(changes: dict[str, Any], message: str) -> None:
    table(**{"baseline": "same_time"} | changes)
    with pytest.raises(UserError, match=message):
        planned()
