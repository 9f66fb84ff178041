"""Schedules that are changed without a file: their names, their content, and the runs they make."""

from pathlib import Path

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import read_run
from kd.config.selection import StudyOptions
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

LIBRARY = Library(CONFIGS)


def changed(text: str, study: str = "rm_pfi", library: Library = LIBRARY) -> Plan:
    return plan(study, "paper", library, StudyOptions(schedule=text, rows="table1/gfl/pfi"))


@pytest.mark.parametrize(
    ("text", "name", "epochs", "milestones"),
    [
        ("lr=0.005,epochs=6", "1x-lr0.005-epochs6", 6, [4, 5]),
        ("epochs=6 lr=5e-3", "1x-lr0.005-epochs6", 6, [4, 5]),
        ("epochs=24", "1x-epochs24", 24, [16, 22]),
        ("epochs=1", "1x-epochs1", 1, []),
        ("milestones=4,5,epochs=6", "1x-epochs6-milestones4+5", 6, [4, 5]),
        ("milestones=[7]", "1x-milestones7", 12, [7]),
        ("milestones=[],clip_grad=35", "1x-milestonesnone-clip_grad35", 12, []),
        ("lr=1e-05", "1x-lr0.00001", 12, [8, 11]),
        ("batch_size=8,precision=bfloat16", "1x-batch_size8-precisionbfloat16", 12, [8, 11]),
        ("lr=0.02,epochs=12", "1x", 12, [8, 11]),
    ],
)
def test_a_changed_schedule_is_read_by_its_name(
    text: str, name: str, epochs: int, milestones: list[int]
) -> None:
    runs = changed(text).runs.values()
    assert {run.schedule for run in runs} == {name}  # the teacher's too
    schedule = LIBRARY.schedule(name, "tests")
    assert (schedule.epochs, schedule.milestones) == (epochs, milestones)
    for run in runs:
        assert f"/{name}/" in run.name
        assert run.config["train_cfg"]["max_epochs"] == epochs
        assert run.config["param_scheduler"][-1]["milestones"] == milestones
        assert run.config["optim_wrapper"]["optimizer"]["lr"] == schedule.lr


def test_a_change_to_the_same_values_makes_no_new_run() -> None:
    whole = plan("rm_pfi", "paper", LIBRARY, StudyOptions(rows="table1/gfl/pfi"))
    assert changed("lr=0.02,epochs=12").runs == whole.runs
    assert {row.differs for row in changed("lr=0.02").rows} == {row.differs for row in whole.rows}


def test_a_change_is_a_reason_against_a_verdict() -> None:
    reasons = [row.differs for row in changed("lr=0.005,epochs=6").rows]
    text = "schedule changed: lr 0.005 for 0.02, epochs 6 for 12, milestones 4 and 5 for 8 and 11"
    assert all(reason.endswith(text) for reason in reasons)


def test_classifiers_and_imported_weights_keep_their_schedule(project: None) -> None:
    checkpoint = {"source": "a.pth", "sha256": "0" * 64}
    pair = {"teacher": "r50", "student": "r18", "checkpoint": checkpoint}
    edit("configs/studies/tiny.yaml", tables__pair__pairs=[pair])
    runs = plan("tiny", "tiny", Library(), StudyOptions(schedule="epochs=3")).runs
    teacher, *students = runs.values()
    assert teacher == next(iter(plan("tiny", "tiny", Library()).runs.values()))
    assert {run.schedule for run in students} == {"tiny-epochs3"}
    options = StudyOptions(schedule="epochs=3", rows="table3b/dicod_cls")
    part = plan("dicod", "paper", LIBRARY, options)
    assert {run.schedule for run in part.classifiers.values()} == {"classifier"}
    assert {run.schedule for run in part.runs.values()} == {"ssd-epochs3"}


def test_a_written_run_is_read_with_its_schedule(project: None) -> None:
    runs = plan("tiny", "tiny", Library(), StudyOptions(schedule="lr=0.5")).runs
    for run in runs.values():
        run.write()
    for run in runs.values():
        again = read_run(run.directory)
        assert again == run
        assert Library().schedule(again.schedule, "tests").lr == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=0.1", "schedule 'lrr=0.1': unknown key 'lrr'; did you mean 'lr'"),
        ("lr=fast", "schedule 'lr=fast': key 'lr': .*valid number"),
        ("lr=-1", "key 'lr': .*greater than 0"),
        ("milestones=9,15", r"milestones \[9, 15\] must rise and lie within 12 epochs"),
        ("2x", "'2x' is not KEY=VALUE; give changes .* such as lr=0.005,epochs=6"),
        ("base=2x", "'base' is a key of files alone"),
        (" ", "give changes such as"),
    ],
)
def test_a_mistake_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        changed(text)


def test_a_file_with_the_name_of_other_changes_is_refused(project: None) -> None:
    Path("configs/schedules/tiny-lr0.5.yaml").write_text("base: tiny\nlr: 0.5\nepochs: 7\n")
    with pytest.raises(UserError, match=r"configs/schedules/tiny-lr0\.5\.yaml, which holds other"):
        plan("tiny", "tiny", Library(), StudyOptions(schedule="lr=0.5"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))
