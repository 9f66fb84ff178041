"""Schedules: numbers of papers, inheritance, and normalization on the whole batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.classifiers import compose_classifier
from kd.config.library import Library
from kd.config.plan import plan
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
        " and backbone 'vgg16' has no normalization; use 'norm: BN'$"
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
