"""Trackers show every value of the logs, and neither change nor stop a training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kd.runtime  # noqa: F401
from kd.cli.main import main
from kd.common.errors import UserError
from kd.training.tracking import backends, names
from kd.training.tracking.hook import Tracking, flat, history, scalars
from kd.training.train import train
from kd.workflow.workflow import Workflow
from tests.support.tiny import STUDENT, copy_run, make_project, write_run
from tests.support.training import digest, interrupted_before

STEPS = 12


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project"), data=True))
        yield


@pytest.fixture(scope="module")
def tracked() -> Path:
    """Return a run that was interrupted and resumed, in TensorBoard from its first step on."""
    run = copy_run(write_run(STUDENT), "tracked")
    with interrupted_before(9):
        train(run, val_interval=1, tracking=Tracking(["tensorboard"], {"study": "tiny"}))
    train(run, val_interval=1, tracking=Tracking(["tensorboard"], {"study": "tiny"}))
    return run


def events_of(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()


def test_tensorboard_shows_each_record_of_the_logs_once(tracked: Path) -> None:
    written = events_of(tracked)
    log = [json.loads(line) for line in (tracked / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "loss_cls", "lr"):
        events = written.Scalars(f"train/{name}")
        assert [event.step for event in events] == [record["step"] for record in log]
        assert [event.value for event in events] == pytest.approx([r[name] for r in log])
    (validated,) = map(json.loads, (tracked / "validation.jsonl").read_text().splitlines())
    (event,) = written.Scalars("test/AP")
    assert (event.step, event.value) == (validated["step"], pytest.approx(validated["AP"]))


def test_tensorboard_shows_parameters_and_tags(tracked: Path) -> None:
    texts = {}
    for name in ("parameters", "tags"):
        (event,) = events_of(tracked).Tensors(f"{name}/text_summary")
        texts[name] = event.tensor_proto.string_val[0].decode()
    assert "| detector | retinanet |" in texts["parameters"]
    assert "| optim_wrapper.optimizer.lr | 0.01 |" in texts["parameters"]
    assert "| study | tiny |" in texts["tags"]


def test_a_tracker_changes_no_weight(tracked: Path) -> None:
    plain = copy_run(write_run(STUDENT), "plain")
    train(plain)
    assert digest(plain) == digest(tracked)
    assert not (plain / "tensorboard").exists()


class Unreachable:
    """Backend whose server stops to answer after its second record."""

    def __init__(self) -> None:
        self.records = 0

    def add_scalars(self, values: dict[str, float], step: int) -> None:
        self.records += 1
        if self.records > 2:
            raise ConnectionError("no route to host\nmore lines")

    def close(self) -> None:
        raise AssertionError("a tracker that failed is not closed")


def test_a_tracker_that_fails_warns_once_and_stops_no_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, backend = copy_run(write_run(STUDENT), "unreachable"), Unreachable()
    monkeypatch.setitem(backends.BACKENDS, "mlflow", lambda tracked: backend)
    train(run, tracking=Tracking(["mlflow", "tensorboard"], {}))
    assert backend.records == 3
    (warning,) = (r.getMessage() for r in caplog.records if "tracker" in r.getMessage())
    assert "'mlflow' failed and is off" in warning
    assert warning.endswith("ConnectionError: no route to host")
    assert len(events_of(run).Scalars("train/loss")) == STEPS


def test_the_history_ends_at_the_resumed_step(tmp_path: Path) -> None:
    records = [{"step": step, "loss": step / 2, "share": {"pfi": 0.5}} for step in (10, 20, 30)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    measured = {"epoch": 1, "step": 15, "split": "val", "AP": 0.25, "APL": None}
    (tmp_path / "validation.jsonl").write_text(json.dumps(measured) + "\n")
    assert history(tmp_path, last=20) == [
        ({"train/loss": 5.0, "train/share/pfi": 0.5}, 10),
        ({"val/epoch": 1.0, "val/AP": 0.25}, 15),
        ({"train/loss": 10.0, "train/share/pfi": 0.5}, 20),
    ]
    assert history(tmp_path, last=0) == []


def test_scalars_are_the_finite_numbers() -> None:
    record = {"step": 3, "loss": float("nan"), "split": "val", "norm": {"pfi": [1, 2.5]}}
    assert scalars(record, "train") == {"train/norm/pfi/0": 1.0, "train/norm/pfi/1": 2.5}


def test_parameters_are_named_by_their_path() -> None:
    settings: dict[str, Any] = {"a": {"b": [1, 2]}, "c": [{"d": 0.5}], "e": {}}
    assert flat(settings) == {"a.b": [1, 2], "c.0.d": 0.5}


@pytest.mark.parametrize(
    ("tracker", "message"),
    [
        ("tensorbord", "no tracker 'tensorbord'; did you mean 'tensorboard'? Valid: "),
        ("mlflow", "tracker 'mlflow' is not installed; run `pip install mlflow` (the extra "),
    ],
)
def test_an_absent_tracker_ends_the_command_and_the_workflow_before_training(
    tracker: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(names, "find_spec", lambda name: None)
    run = write_run(STUDENT)
    assert main(["train", str(run), "--trackers", tracker]) == 2
    assert capsys.readouterr().err.startswith(f"error: --trackers: {message}")
    with pytest.raises(UserError, match=r"'trackers' of configs/default.yaml and --config: "):
        Workflow.read({"study": "tiny", "scale": "tiny", "trackers": tracker})


def test_the_workflow_passes_trackers_and_studies_to_each_training() -> None:
    config = {"study": "tiny", "scale": "tiny"}
    assert Workflow.read(config).tracking == ""
    tracking = Workflow.read({**config, "trackers": "tensorboard"}).tracking
    assert tracking == "--trackers tensorboard --tag study=tiny"
