"""Trainings with the augmentations of RTMDet and YOLOX, interrupted on both sides of the switch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.models import weights
from kd.training.stages import ResizeBatches
from kd.training.train import train
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, copy_run, edit, kd, write_run
from tests.support.training import (
    assert_same,
    change,
    interrupted_before,
    log,
    project_with_teacher,
    train_in_two_processes,
)

STEPS_PER_EPOCH = 6
FAMILIES = ("rtmdet-tiny", "yolox")
TOLERANCE = 1e-4
"""Largest difference of weights, as a share of their norm."""


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project whose training has three epochs, the last without mixed images."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        edit(
            "configs/schedules/tiny.yaml",
            epochs=3,
            milestones=[],
            cosine_from=1,
            ema=0.1,
            unmixed_epochs=1,
            decay_norm_and_bias=False,
        )
        yield


@pytest.fixture(scope="module")
def whole(project: None) -> dict[str, Path]:
    """Return trained runs by family, which nothing interrupted."""
    runs = {}
    for family in FAMILIES:
        edit("configs/detectors/retinanet.yaml", augmentation=family, input_size=96)
        runs[family] = write_run(STUDENT)
        train(runs[family])
    return runs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("stop", "workers"),
    [
        pytest.param(9, 0, id="before-the-switch"),
        pytest.param(12, 1, id="at-the-switch"),
        pytest.param(15, 2, id="after-the-switch"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    whole: dict[str, Path], family: str, stop: int, workers: int
) -> None:
    run = copy_run(whole[family], f"{family}-stopped-at-{stop}")
    with interrupted_before(stop):
        train(run, workers=workers)
    train(run, workers=workers)
    assert_same(run, whole[family])


def test_batches_in_parts_train_the_same_averaged_weights(whole: dict[str, Path]) -> None:
    """Mixed images, batches of other sizes after ten steps, and the average of weights."""
    runs = [copy_run(whole["yolox"], name) for name in ("at-once", "in-parts")]
    for run, parts in zip(runs, (1, 2), strict=True):
        change(run, lambda config: config["model"]["backbone"].update(norm_eval=True))
        train(run, accumulate=parts)
    at_once, in_parts = (weights.read_state(run / "weights.pth") for run in runs)
    for name, value in at_once.items():
        gap = (in_parts[name] - value).double().norm()
        assert gap <= TOLERANCE * value.double().norm(), name


def test_the_command_line_trains_the_same_weights(whole: dict[str, Path]) -> None:
    run = copy_run(whole["rtmdet-tiny"], "command-line")
    process = kd("train", run, "--workers", "2")
    process.communicate()
    assert process.returncode == 0
    assert_same(run, whole["rtmdet-tiny"])


def test_the_rate_falls_in_the_last_epochs(whole: dict[str, Path]) -> None:
    rates = [record["lr"] for record in log(whole["yolox"])]
    assert rates[3 : STEPS_PER_EPOCH + 1] == pytest.approx([0.01] * 4)
    assert rates[STEPS_PER_EPOCH + 1 :] == sorted(rates[STEPS_PER_EPOCH + 1 :], reverse=True)
    assert 0.0005 < rates[-1] < 0.001


def sizes(run: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train a run; return the side of each step's batch."""
    from mmdet.models.detectors import SingleStageDetector

    sides: list[int] = []
    loss = SingleStageDetector.loss

    def record(detector: Any, inputs: torch.Tensor, *arguments: Any) -> Any:
        sides.append(inputs.shape[-1])
        return loss(detector, inputs, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SingleStageDetector, "loss", record)
        train(run)
    return sides


def test_batches_are_resized_by_step(
    whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [ResizeBatches(72, 120).side(0, step) or 96 for step in range(18)]
    assert sizes(copy_run(whole["yolox"], "measured"), monkeypatch) == expected
    resumed = copy_run(whole["yolox"], "measured-again")
    with interrupted_before(15):
        train(resumed)
    assert sizes(resumed, monkeypatch) == expected[14:]


def test_two_processes_train_with_mixed_images(whole: dict[str, Path]) -> None:
    run = copy_run(whole["yolox"], "two-processes")
    train_in_two_processes(run)
    ours, alone = log(run), log(whole["yolox"])
    assert [record["lr"] for record in ours] == [record["lr"] for record in alone]
    assert (run / "weights.pth").exists()


def test_a_distilled_student_learns_from_mixed_images(whole: dict[str, Path]) -> None:
    train(write_run(TEACHER))
    run = write_run(DISTILLED)
    train(run)
    resumed = copy_run(run, "resumed")
    with interrupted_before(9):
        train(resumed)
    train(resumed)
    assert_same(resumed, run)
