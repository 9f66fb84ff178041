"""AP in the middle of a training: right, resumable, and without a trace in the weights."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

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

DATASET = Path("configs/datasets/shapes-tiny.yaml")
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
    assert record == {"split": "test", **expected}
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


def test_a_validation_split_is_measured_up_to_the_last_epoch_and_changes_nothing_else(
    plain: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = yaml.safe_load(DATASET.read_text())
    entry |= {"val": {"annotations": "annotations/val.json", "images": "val"}}
    entry["generate"] = entry["generate"] | {"val": 5}
    folder = Path("with_val")
    shutil.copytree("configs", folder / "configs")
    (folder / DATASET).write_text(yaml.safe_dump(entry))
    shutil.copytree("results", folder / "results")
    (folder / plain / "config.json").unlink()
    monkeypatch.chdir(folder)
    assert main(["generate", "shapes-tiny"]) == 0
    composed = write_run(DISTILLED)
    assert composed.name == plain.name
    shutil.copy(composed / "config.json", run / "config.json")
    train(run, val_interval=1)
    assert_same(Path("..", plain), run)
    assert [(record["epoch"], record["split"]) for record in records(run)] == [
        (EPOCH, "val"),
        (EPOCH + 1, "val"),
    ]
    assert {record["images"] for record in records(run)} == {5}
    for step in ("predict", "evaluate", "resample"):
        assert main([step, str(run), "--split", "val"]) == 0
    metrics = Metrics.read(run / "val" / "metrics.json")
    assert records(run)[-1]["AP"] == metrics.AP
    pixels = Path("data/shapes-tiny/val/000000.png")
    pixels.write_bytes(Path("data/shapes-tiny/val/000001.png").read_bytes())
    assert main(["evaluate", str(run), "--split", "val"]) == 2
    assert f"the data changed since; predict again: kd predict {run} --split val" in (
        capsys.readouterr().err
    )
    assert (run / "val" / "resampled.npz").exists() and not (run / "metrics.json").exists()


def test_a_split_that_the_data_set_lacks_is_an_error(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in ("predict", "evaluate", "resample"):
        assert main([step, str(plain), "--split", "val"]) == 2
        assert f"{plain}: no split 'val' of data set 'shapes-tiny'; `kd split" in (
            capsys.readouterr().err
        )


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
