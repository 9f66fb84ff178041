"""Import of a file as mmengine writes it, in place of a training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.common.files import sha256
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.models import weights
from kd.models.build import build_model
from kd.training.train import train
from tests.support.tiny import edit, make_project

PUBLISHED = Path("published.pth")
PAIR = {"teacher": "r50", "student": "r18"}


def teacher(checkpoint: dict[str, Any] | None = None) -> Run:
    """Return the RetinaNet that teaches in study tiny."""
    pair = {**PAIR, "checkpoint": checkpoint} if checkpoint else PAIR
    edit("configs/studies/tiny.yaml", tables__pair__pairs=[pair])
    rows = plan("tiny", "tiny", Library()).rows
    return next(row for row in rows if row.kind == "teacher" and row.detector == "retinanet").runs[
        0
    ]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Write a file with random weights, losses and optimizer; return the weights."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    composed = teacher().composed
    torch.manual_seed(3)
    model = build_model(composed.model)
    state: dict[str, torch.Tensor] = model.state_dict()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    content = {
        "meta": {"epoch": 12, "dataset_meta": {"classes": tuple(composed.class_names)}},
        "state_dict": state,
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer([1.0, 0.5], [1, 1])}},
        "optimizer": optimizer.state_dict(),
    }
    torch.save(content, PUBLISHED)
    return state


def imported(checkpoint: dict[str, Any], **facts: Any) -> Run:
    run = teacher(checkpoint)
    run.config["published_checkpoint"] |= facts
    run.write()
    train(run.directory)
    return run


def test_a_file_of_mmengine_is_imported(state: dict[str, torch.Tensor]) -> None:
    name = "retinanet_r50_fpn_1x_coco"
    run = imported({"source": str(PUBLISHED), "sha256": sha256(PUBLISHED)[:8]}, zoo=name)
    stored = weights.read_state(run.directory / "weights.pth")
    assert stored.keys() == state.keys()
    assert all(stored[key].equal(state[key]) for key in state)
    record = json.loads((run.directory / "provenance.json").read_text())["published_checkpoint"]
    assert record == {
        "source": str(PUBLISHED),
        "sha256": sha256(PUBLISHED)[:8],
        "zoo": name,
        "config": "retinanet/retinanet_r50_fpn_1x_coco.py",
        "reported_ap": 36.5,
    }


def test_an_absent_file_is_named_with_its_folder(
    state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no internet")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    address = f"https://example.org/net-{sha256(PUBLISHED)[:8]}.pth"
    checkpoint = {"source": address, "sha256": sha256(PUBLISHED)[:8]}
    place = f"checkpoints/net-{sha256(PUBLISHED)[:8]}.pth"
    with pytest.raises(
        UserError, match=rf"cannot be downloaded \(no internet\); put it at {place}"
    ):
        imported(checkpoint)
    Path("checkpoints").mkdir(exist_ok=True)
    PUBLISHED.rename(place)
    run = imported(checkpoint)
    assert (run.directory / "weights.pth").exists()


def test_classes_in_another_order_are_refused(state: dict[str, torch.Tensor]) -> None:
    content = torch.load(PUBLISHED, weights_only=False)  # the fixture wrote it
    names = content["meta"]["dataset_meta"]["classes"]
    content["meta"]["dataset_meta"]["classes"] = names[::-1]
    torch.save(content, PUBLISHED)
    run = teacher({"source": str(PUBLISHED), "sha256": sha256(PUBLISHED)})
    run.write()
    with pytest.raises(UserError, match="the same classes in another order"):
        train(run.directory)
    assert not (run.directory / "weights.pth").exists()
