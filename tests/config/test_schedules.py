"""Schedules: numbers of papers, inheritance, and normalization on the whole batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.classifiers import compose_classifier
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import read_run, stopped
from kd.config.selection import StudyOptions
from tests.support.paths import CONFIGS
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    TEACHER,
    copy_run,
    edit,
    kd,
    make_project,
    write_run,
)

SCHEDULE = "configs/schedules/tiny.yaml"
OLD_KEY = "optimi" + "ser"

FACTS: dict[str, tuple[Any, ...]] = {
    # epochs, milestones, warm-up, batch, rate, weight decay, clipping, normalization
    "1x": (12, [8, 11], 500, 16, 0.02, 1e-4, None, "BN"),
    "1x-lr0.01": (12, [8, 11], 500, 16, 0.01, 1e-4, None, "BN"),
    "2x": (24, [16, 22], 500, 16, 0.02, 1e-4, None, "BN"),
    "2x-lr0.01": (24, [16, 22], 500, 16, 0.01, 1e-4, None, "BN"),
    "ssd": (5 * 24, [5 * 16, 5 * 22], 500, 8 * 8, 2e-3, 5e-4, None, "BN"),
    "voc12": (3 * 4, [3 * 3], 200, 8 * 2, 0.01, 1e-4, None, "BN"),
    "voc12-clip": (3 * 4, [3 * 3], 200, 8 * 2, 0.01, 1e-4, 35, "BN"),
    "voc12-lr0.02": (3 * 4, [3 * 3], 200, 8 * 2, 0.02, 1e-4, None, "BN"),
    "voc12-lr0.02-clip": (3 * 4, [3 * 3], 200, 8 * 2, 0.02, 1e-4, 35, "BN"),
    "voc12-syncbn-clip": (3 * 4, [3 * 3], 200, 8 * 2, 0.01, 1e-4, 35, "SyncBN"),
    "voc12-syncbn-lr0.02": (3 * 4, [3 * 3], 200, 8 * 2, 0.02, 1e-4, None, "SyncBN"),
}


@pytest.mark.parametrize("name", FACTS)
def test_numbers_of_a_schedule(name: str) -> None:
    schedule = Library(CONFIGS).schedule(name, "tests")
    assert FACTS[name] == (
        schedule.epochs,
        schedule.milestones,
        schedule.warmup_iters,
        schedule.batch_size,
        schedule.lr,
        schedule.weight_decay,
        schedule.clip_grad,
        schedule.norm,
    )
    assert (schedule.optimizer, schedule.momentum, schedule.init) == ("SGD", 0.9, "imagenet")


# --- Schedules that inherit ------------------------------------------------------------------


def write(name: str, text: str) -> None:
    Path(f"configs/schedules/{name}.yaml").write_text(text)


def test_a_schedule_inherits_every_setting_it_does_not_set(project: None) -> None:
    write("slower", "base: tiny\nlr: 0.001\n")
    write("slowest", "base: slower\nepochs: 9\n")
    tiny, slowest = (Library().schedule(name, "tests") for name in ("tiny", "slowest"))
    assert slowest == tiny.model_copy(update={"base": "slower", "lr": 0.001, "epochs": 9})


def test_an_inherited_schedule_composes_the_same_runs(project: None) -> None:
    names = {*plan("tiny", "tiny", Library()).runs}
    Path(SCHEDULE).rename("configs/schedules/other.yaml")
    write("tiny", "base: other\n")
    assert {*plan("tiny", "tiny", Library()).runs} == names


@pytest.mark.parametrize("base", ["round", "other"])
def test_schedules_that_inherit_in_a_circle_are_refused(project: None, base: str) -> None:
    write("round", f"base: {base}\n")
    write("other", "base: round\n")
    problem = r"^configs/schedules/\w+\.yaml: key 'base': 'round' already inherits from '\w+'"
    with pytest.raises(UserError, match=problem):
        Library().schedule("round", "tests")


def test_an_unknown_base_of_a_schedule_is_refused(project: None) -> None:
    write("longer", "base: tinny\nepochs: 9\n")
    with pytest.raises(UserError, match=r"longer.yaml: key 'base': no 'tinny' in .*; .*'tiny'"):
        Library().schedule("longer", "tests")


def test_inherited_milestones_must_lie_within_the_epochs(project: None) -> None:
    write("shorter", "base: 1x\nepochs: 6\n")
    with pytest.raises(UserError, match=r"^configs/schedules/shorter.yaml: milestones \[8, 11\]"):
        Library().schedule("shorter", "tests")


def test_the_old_spelling_of_optimizer_is_refused_with_the_new_one(project: None) -> None:
    write("old", "base: 1x\n" + OLD_KEY + ": SGD\n")
    problem = "^configs/schedules/old.yaml: unknown key '" + OLD_KEY + "'; did you mean 'optimizer'"
    with pytest.raises(UserError, match=problem):
        Library().schedule("old", "tests")


# --- Changes without a file ------------------------------------------------------------------

LIBRARY = Library(CONFIGS)
SAME = "base_batch_size=16"
"""Batch of schedule 1x."""


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
        ("clip_grad=none milestones=none", "1x-milestonesnone", 12, []),
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


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("batch_size=8,base_batch_size=16", 0.01),
        ("batch_size=8 base_batch_size=16 lr=0.005", 0.0025),
        ("base_batch_size=4", 0.08),
        ("base_batch_size=16", 0.02),
        ("batch_size=8", 0.02),
    ],
)
def test_the_rate_of_another_batch_is_scaled_with_its_size(text: str, rate: float) -> None:
    runs = changed(text).runs.values()
    assert {run.config["optim_wrapper"]["optimizer"]["lr"] for run in runs} == {rate}
    (name,) = {run.schedule for run in runs}
    assert LIBRARY.schedule(name, "tests").learning_rate == rate


def test_a_base_equal_to_the_batch_composes_the_same_teacher() -> None:
    teachers = [next(iter(changed(text).runs.values())) for text in ("lr=0.02", SAME)]
    assert teachers[0].config == teachers[1].config


def test_a_run_stopped_after_an_epoch_is_that_of_the_changed_schedule() -> None:
    """A figure's ``epoch: 2`` and ``--config schedule=stop_epoch=2`` make equal runs."""
    whole = plan("rm_pfi", "paper", LIBRARY, StudyOptions(rows="table1/gfl/pfi"))
    changed_runs = changed("stop_epoch=2").runs
    for run in whole.runs.values():
        if run.method is None:
            stopped_run = stopped(run, 2)
            assert stopped_run.schedule == "1x-stop_epoch2"
            assert changed_runs[stopped_run.name] == stopped_run
            assert stopped_run.composed.epochs == 2


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
        ("lr=fast", "schedule 'lr=fast': key 'lr': must be a number, not 'fast'"),
        ("lr=-1", "key 'lr': .*greater than 0"),
        ("lr=.inf", "key 'lr': must be a finite number, not inf"),
        ("base_batch_size=0", "key 'base_batch_size': .*greater than 0"),
        ("base_batch_size=half", "key 'base_batch_size': .*not 'half'"),
        ("stop_epoch=13", "stop_epoch 13 must lie within 12 epochs"),
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


# --- Normalization that is trained ---------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def backbones(schedule: str, student: str = "r50") -> dict[str, Any]:
    """Return the composed backbones of a schedule at paper scale by name."""
    edit("configs/studies/tiny.yaml", tables__pair__schedule=schedule, tables__pair__methods=[])
    edit("configs/studies/tiny.yaml", tables__pair__pairs=[{"teacher": "r101", "student": student}])
    runs = plan("tiny", "paper", Library()).runs.values()
    return {run.student: run.config["model"]["backbone"] for run in runs}


def test_plain_normalization_is_frozen_at_that_of_imagenet(project: None) -> None:
    for backbone in backbones("voc12").values():
        assert backbone["norm_cfg"] == {"type": "BN", "requires_grad": True}
        assert (backbone["frozen_stages"], backbone["norm_eval"]) == (1, True)


def test_syncbn_is_trained_in_all_but_the_frozen_stages(project: None) -> None:
    for name, backbone in backbones("voc12-syncbn-clip").items():
        assert backbone["norm_cfg"] == {"type": "SyncBN", "requires_grad": True}
        assert (backbone["frozen_stages"], backbone["norm_eval"]) == (1, False)
        plain = backbones("voc12-clip")[name]
        changed = {key for key in plain if plain[key] != backbone[key]}
        assert changed == {"norm_cfg", "norm_eval"}


def test_setting_a_default_makes_no_new_run(project: None) -> None:
    before = set(plan("tiny", "tiny", Library()).runs)
    edit(SCHEDULE, norm="BN")
    assert set(plan("tiny", "tiny", Library()).runs) == before
    edit(SCHEDULE, norm="SyncBN")
    assert before.isdisjoint(plan("tiny", "tiny", Library()).runs)


def test_a_backbone_without_normalization_is_refused(project: None) -> None:
    message = (
        "^configs/studies/tiny.yaml: table 'pair': schedule 'voc12-syncbn-clip' has 'norm: SyncBN',"
        " and backbone 'vgg16' has no batch normalization; use 'norm: BN'$"
    )
    with pytest.raises(UserError, match=message):
        backbones("voc12-syncbn-clip", student="vgg16")


def test_a_classifiers_schedule_has_no_syncbn(project: None) -> None:
    edit("configs/schedules/classifier-smoke.yaml", norm="SyncBN")
    message = "^configs/classifiers/smoke.yaml: schedule 'classifier-smoke' has 'norm: SyncBN'"
    with pytest.raises(UserError, match=message):
        compose_classifier("smoke", "shapes-smoke", 0, Library(), "tests")


def test_an_unknown_normalization_is_refused(project: None) -> None:
    edit(SCHEDULE, norm="syncbn")
    with pytest.raises(UserError, match=rf"^{SCHEDULE}: key 'norm': .*'BN' or 'SyncBN'") as caught:
        plan("tiny", "tiny", Library())
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Path]]]:
    """Return teacher, student and distilled student by normalization, trained in one process."""
    import torch

    from kd.training.train import train

    torch.set_num_threads(1)
    runs: dict[str, dict[str, Path]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("norm")))
        for norm in ("BN", "SyncBN"):
            edit(SCHEDULE, norm=norm)
            runs[norm] = {name: write_run(name) for name in (TEACHER, STUDENT, DISTILLED)}
            for run in runs[norm].values():
                train(run)
        yield runs


@pytest.mark.parametrize("name", [TEACHER, STUDENT, DISTILLED])
def test_one_process_has_the_whole_batch(trained: dict[str, dict[str, Path]], name: str) -> None:
    """SyncBN uses the statistics of the batch, so the weights are the same."""
    from kd.models.weights import read_state

    plain, synced = (read_state(trained[norm][name] / "weights.pth") for norm in trained)
    assert plain.keys() == synced.keys()
    assert all(plain[key].equal(synced[key]) for key in plain)
    assert synced["backbone.bn1.num_batches_tracked"] == 12
    config = json.loads((trained["SyncBN"][name] / "config.json").read_text())["model"]
    assert config.get("student", config)["backbone"]["norm_cfg"]["type"] == "SyncBN"
    if name == DISTILLED:
        assert config["teacher"]["backbone"]["norm_cfg"]["type"] == "SyncBN"


def test_processes_without_gpus_cannot_share_it(trained: dict[str, dict[str, Path]]) -> None:
    run = copy_run(trained["SyncBN"][STUDENT], "shared")
    process = kd("train", run, "--processes", "2", CUDA_VISIBLE_DEVICES="")
    error = process.communicate()[1].strip()
    assert process.returncode == 2
    assert error == (
        f"error: {run / 'config.json'}: SyncBN in a group of processes needs GPUs; "
        "without GPUs train in one process, which has the whole batch"
    )
    assert json.loads((run / "failure.json").read_text())["kind"] == "UserError"
