"""Terms that begin or end within a training: weights, teacher, log, adapters, resume, processes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.config.composed import read_config
from kd.models import weights
from kd.training.train import build_runner, train
from tests.support.tiny import STUDENT, copy_run, edit, write_run
from tests.support.training import (
    assert_same,
    change,
    interrupted_before,
    log,
    project_with_teacher,
    train_in_two_processes,
)

STEPS_PER_EPOCH = 6
STUDY = "configs/studies/tiny.yaml"
TERM = "loss_fitnets"
LIMITS: dict[str, dict[str, int]] = {
    "late": {"from_epoch": 6},
    "early": {"until_epoch": 6},
}
"""Settings for the 12 epochs of schedule 1x, of which the tiny schedule has 2."""
WEIGHT_TOLERANCE = 1e-3


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        yield


def written(contains: str) -> Path:
    """Write a run whose weights decay fast; return its directory."""
    run = write_run(contains)
    change(run, lambda config: config["optim_wrapper"]["optimizer"].update(weight_decay=0.1))
    return run


@pytest.fixture(scope="module")
def alone() -> Path:
    """Return the trained run of the student alone."""
    run = written(STUDENT)
    train(run)
    return run


@pytest.fixture(scope="module")
def limited() -> dict[str, Path]:
    """Return trained runs whose term has the second epoch or the first."""
    runs = {}
    for name, limits in LIMITS.items():
        settings = {"fitnets": {"adaptation": "3x3", "weight": 100.0, **limits}}
        edit(STUDY, tables__pair__methods=["fitnets"], tables__pair__settings=settings)
        runs[name] = written("fitnets_from")
        train(runs[name])
    return runs


def state(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint."""
    return weights.read(run / "checkpoints" / f"step{step:08d}.pth")["model"]


def values_by_epoch(run: Path) -> list[list[float]]:
    """Return the values of the term in both epochs."""
    values = [record[TERM] for record in log(run)]
    return [values[:STEPS_PER_EPOCH], values[STEPS_PER_EPOCH:]]


def test_the_log_has_zero_outside_of_the_epochs(limited: dict[str, Path]) -> None:
    first, second = values_by_epoch(limited["late"])
    assert not any(first) and all(second)
    first, second = values_by_epoch(limited["early"])
    assert all(first) and not any(second)
    for run in limited.values():
        for record in log(run):
            assert bool(record["share"][TERM]) == bool(record[TERM])
            if "gradient_norm" in record:
                assert any(record["gradient_norm"][TERM]) == bool(record[TERM])


def test_before_its_epochs_a_term_changes_neither_the_student_nor_its_adapters(
    alone: Path, limited: dict[str, Path]
) -> None:
    whole = {"alone": alone, **limited}
    runs = {name: copy_run(run, f"{name}-first-epoch") for name, run in whole.items()}
    for run in runs.values():
        change(run, lambda config: config["train_cfg"].update(stop_epoch=1))
        train(run)
    plain, late, early = (state(runs[name], STEPS_PER_EPOCH) for name in ("alone", *LIMITS))
    for name, value in plain.items():
        assert value.equal(late[f"student.{name}"]), name
    assert not all(value.equal(early[f"student.{name}"]) for name, value in plain.items())
    initial = build_runner(read_config(limited["late"]), limited["late"]).model.state_dict()
    adapters = [name for name in initial if name.startswith("adapters")]
    assert len(adapters) == 10
    for name in adapters:
        assert late[name].equal(initial[name]) and not early[name].equal(initial[name]), name


def test_after_its_epochs_a_term_leaves_its_adapters_as_they_are(limited: dict[str, Path]) -> None:
    run = copy_run(limited["early"], "ends")
    with interrupted_before(STEPS_PER_EPOCH):
        train(run)
    ended, final = state(run, STEPS_PER_EPOCH), state(limited["early"], 2 * STEPS_PER_EPOCH)
    assert all(final[name].equal(ended[name]) for name in ended if name.startswith("adapters"))


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("stop", [5, 7])
def test_a_run_resumed_across_the_boundary_equals_an_uninterrupted_one(
    limited: dict[str, Path], name: str, stop: int
) -> None:
    run = copy_run(limited[name], f"{name}-stopped-at-{stop}")
    with interrupted_before(stop):
        train(run)
    train(run)
    assert_same(run, limited[name])


@pytest.mark.parametrize("cached", [0, 100])
@pytest.mark.parametrize("name", LIMITS)
def test_the_teacher_runs_in_the_epochs_of_its_terms(
    limited: dict[str, Path], name: str, cached: int
) -> None:
    run = copy_run(limited[name], f"{name}-counted-{cached}")
    if cached:
        change(run, without_flips)
    runner: Any = build_runner(read_config(run), run, teacher_cache_mb=cached)
    steps: list[int] = []
    runner.model.teacher.backbone.register_forward_hook(lambda *_: steps.append(runner.iter))
    runner.train()
    first, second = range(STEPS_PER_EPOCH), range(STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH)
    assert {*steps} == {*(second if name == "late" else first)}


def without_flips(config: dict[str, Any]) -> None:
    """Remove random flips, after which a cache would run the teacher twice in a step."""
    dataset = config["train_dataloader"]["dataset"]
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    dataset["pipeline"] = [part for part in dataset["pipeline"] if "Flip" not in part["type"]]


@pytest.mark.parametrize("name", LIMITS)
def test_two_processes_train_the_weights_of_one(limited: dict[str, Path], name: str) -> None:
    one, two = (copy_run(limited[name], f"{name}-in-{count}") for count in ("one", "two"))
    for run in (one, two):
        change(run, freeze_statistics)
    train(one)
    train_in_two_processes(two)
    assert json.loads((two / "provenance.json").read_text())["steps"] == 2 * STEPS_PER_EPOCH
    expected, shared = (weights.read_state(run / "weights.pth") for run in (one, two))
    for key, value in expected.items():
        limit = WEIGHT_TOLERANCE * value.float().norm() + 1e-4
        assert (shared[key].float() - value.float()).norm() <= limit, key


def freeze_statistics(config: dict[str, Any]) -> None:
    config["model"]["student"]["backbone"]["norm_eval"] = True
