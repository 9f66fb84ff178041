"""AP in the middle of a training: right, resumable, and without a trace in the weights."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kd.training.validation
from kd.cli.main import main
from kd.evaluation.metrics import Metrics
from kd.models import weights
from kd.training.launch import StopRequested
from kd.training.train import train
from tests.support.processes import PATIENCE
from tests.support.tiny import DISTILLED, TEACHER, copy_run, make_project, write_run
from tests.support.tiny import kd as started
from tests.support.training import assert_same

EPOCH, STEPS = 1, 6
"""The last epoch but one of the tiny schedule, and its last step."""


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        train(write_run(TEACHER))
        yield


@pytest.fixture(scope="module")
def plain() -> Path:
    """Return a distilled run that was trained without looking at its AP."""
    run = write_run(DISTILLED)
    train(run)
    return run


@pytest.fixture
def run(plain: Path, request: pytest.FixtureRequest) -> Path:
    """Return an untrained copy of it, named after the test."""
    return copy_run(plain, request.node.name)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]


def test_it_changes_no_weight_and_no_logged_loss(plain: Path, run: Path) -> None:
    train(run, val_interval=1)
    assert_same(plain, run)
    assert not (plain / "validation.jsonl").exists()


def test_the_figures_are_those_of_the_weights_at_that_step(run: Path) -> None:
    train(run, val_interval=1)
    (record,) = records(run)
    assert (record.pop("epoch"), record.pop("step")) == (EPOCH, STEPS)
    copy = copy_run(run, "at_the_epoch")
    checkpoint = weights.read(run / "checkpoints" / f"step{STEPS:08d}.pth")
    saved, depends = checkpoint["model"], checkpoint["inputs"]
    student = {k.removeprefix("student."): v for k, v in saved.items() if k.startswith("student.")}
    weights.save(copy / "weights.pth", {"state_dict": student, "inputs": depends})
    assert main(["predict", str(copy)]) == main(["evaluate", str(copy)]) == 0
    expected = Metrics.read(copy / "metrics.json").model_dump()
    del expected["per_class"]
    assert record == expected
    assert record["AP"] is not None
    assert record["images"] == 8


def test_a_stop_meanwhile_loses_no_step_and_no_figure(
    plain: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = tmp_path / "stop"
    detect = kd.training.validation.detections

    def stop_requested(detector: Any, batch: Any) -> list[dict[str, Any]]:
        stop.touch()
        return detect(detector, batch)

    with monkeypatch.context() as patch:
        patch.setenv("SNAKEMAKE_STOP_FILE", str(stop))
        patch.setattr(kd.training.validation, "detections", stop_requested)
        with pytest.raises(StopRequested, match=f"step {STEPS} of"):
            train(run, val_interval=1)
    assert not (run / "validation.jsonl").exists()
    train(run, val_interval=1)
    assert_same(plain, run)
    assert [record["epoch"] for record in records(run)] == [EPOCH]


def test_a_step_made_again_is_measured_again(run: Path) -> None:
    train(run, val_interval=1)
    first = records(run)
    shutil.rmtree(run / "checkpoints")
    train(run, val_interval=1)
    assert records(run) == first


@pytest.mark.parametrize("epochs", [0, 2, 5])
def test_the_last_epoch_is_left_to_the_evaluation(run: Path, epochs: int) -> None:
    train(run, val_interval=epochs)
    assert not (run / "validation.jsonl").exists()


def test_two_processes_share_the_images(run: Path) -> None:
    options = ("--processes", "2", "--val-interval", "1", "--threads", "1")
    process = started("train", run, *options)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    (record,) = records(run)
    assert record["images"] == 8
    assert record["AP"] is not None
    assert f"epoch {EPOCH}/2: AP" in output
