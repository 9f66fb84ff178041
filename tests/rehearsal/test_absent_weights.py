"""Rehearsals need no initial weights."""

from pathlib import Path
from typing import Any

import pytest

import kd.models.mmdet_setup  # noqa: F401
from kd.common.errors import UserError
from kd.models import imagenet
from kd.rehearsal.configuration import with_available_weights

INITIAL = {"source": "https://example.org/a-5560aee8.pth", "sha256": "5560aee8"}
CONFIG: dict[str, Any] = {"model": {"type": "RetinaNet", "backbone": {}}}


def test_an_absent_detector_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**CONFIG, "initial_checkpoint": INITIAL}
    assert with_available_weights(config) == (CONFIG, ["a published detector"])
    Path("checkpoints").mkdir()
    Path("checkpoints/a-5560aee8.pth").touch()
    assert with_available_weights(config) == (config, [])


def pretrained(source: str) -> dict[str, Any]:
    backbone = {"init_cfg": {"type": "ImageNet", "checkpoint": source}}
    return {"model": {"type": "RetinaNet", "backbone": backbone}}


def test_imagenet_weights_are_left_out_only_if_they_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no internet")

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(imagenet, "download", refuse)
    config, absent = with_available_weights(pretrained("torchvision://resnet18"))
    assert absent == ["ImageNet"]
    assert "init_cfg" not in config["model"]["backbone"]
    with pytest.raises(UserError, match="resnet81"):
        with_available_weights(pretrained("torchvision://resnet81"))
    damaged = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    damaged.parent.mkdir()
    damaged.touch()
    with pytest.raises(UserError, match="damaged"):
        with_available_weights(pretrained("torchvision://resnet18"))


def test_a_training_from_scratch_needs_none() -> None:
    assert with_available_weights(CONFIG) == (CONFIG, [])
