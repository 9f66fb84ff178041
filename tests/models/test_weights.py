"""Checkpoints are loaded if they match the model; others are refused with the reason."""

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from kd.common.errors import UserError
from kd.models import weights
from kd.models.weights import load_strictly
from tests.support.states import changed, copied

torch.set_num_threads(1)


class Detector(nn.Module):
    """A few layers with the names of a detector's."""

    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.retina_cls = nn.Conv2d(4, classes, 1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[Any], Path]:
    """Return a function that saves anything as a checkpoint and returns its path."""

    def save(content: Any) -> Path:
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


def refusal(path: Path) -> str:
    """Return the message of the error that loading a file raises; the model must not change."""
    model = Detector()
    before = copied(model)
    with pytest.raises(UserError) as caught:
        load_strictly(model, path)
    assert changed(before, model.state_dict()) == []
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("wrapped", [True, False], ids=["under state_dict", "bare"])
def test_a_checkpoint_that_fits_is_loaded(checkpoint, wrapped):
    torch.manual_seed(1)
    source, model = Detector().state_dict(), Detector()
    content = {"state_dict": source, "meta": {"epoch": 12}} if wrapped else source
    load_strictly(model, checkpoint(content))
    assert changed(dict(source), model.state_dict()) == []


def test_every_mismatch_of_a_checkpoint_is_listed(checkpoint):
    state = Detector().state_dict()
    del state["backbone.0.bias"], state["backbone.1.weight"]
    state["neck.weight"] = torch.zeros(2)
    state["backbone.0.weight"] = torch.zeros(4, 3, 3, 3)
    message = refusal(checkpoint({"state_dict": state}))
    assert "missing: backbone.0.bias, backbone.1.weight" in message
    assert "unexpected: neck.weight" in message
    assert "of another shape: backbone.0.weight is (4, 3, 3, 3), not (4, 3, 1, 1)" in message
    assert "classes" not in message


def test_a_long_list_of_mismatches_is_shortened(checkpoint):
    state = {**Detector().state_dict(), **{f"extra{i}": torch.zeros(1) for i in range(9)}}
    message = refusal(checkpoint(state))
    assert "unexpected: extra0, extra1, extra2, extra3, extra4 and 4 more" in message


def test_another_number_of_classes_is_suspected(checkpoint):
    message = refusal(checkpoint(Detector(classes=20).state_dict()))
    assert "another number of classes?" in message
    assert "retina_cls.weight is (20, 4, 1, 1), not (8, 4, 1, 1)" in message


def test_a_truncated_checkpoint_is_refused(checkpoint):
    path = checkpoint(Detector().state_dict())
    path.write_bytes(path.read_bytes()[:-200])
    assert "truncated" in refusal(path)


class Harmful:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_with_python_objects_is_refused_and_not_run(checkpoint, tmp_path):
    path = checkpoint({"state_dict": Detector().state_dict(), "meta": Harmful(tmp_path / "harm")})
    assert "Python objects" in refusal(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.zeros(3), "not a checkpoint but a Tensor"),
        ([torch.zeros(3)], "not a checkpoint but a list"),
        ({}, "no state dict"),
        ({"state_dict": {}}, "no state dict"),
        ({"state_dict": torch.zeros(3)}, "no state dict"),
        ({"state_dict": [torch.zeros(3)]}, "no state dict"),
        ({"state_dict": {1: torch.zeros(3)}}, "no state dict"),
        ({"model": {"weight": torch.zeros(3)}, "step": 5}, "no state dict"),
    ],
    ids=str,
)
def test_other_contents_are_no_state_dict(checkpoint, content, reason):
    assert reason in refusal(checkpoint(content))


def test_a_text_file_is_no_checkpoint(tmp_path):
    (tmp_path / "weights.pth").write_text("weights")
    assert "not a checkpoint of plain tensors" in refusal(tmp_path / "weights.pth")


def test_an_absent_checkpoint_is_named(tmp_path):
    assert "no such checkpoint" in refusal(tmp_path / "weights.pth")


def test_a_detector_is_built_frozen_without_a_runner_before_it(
    monkeypatch, model_config, build, checkpoint
):
    path = checkpoint({"state_dict": build(seed=7).state_dict()})
    monkeypatch.setattr(DefaultScope, "_instance_dict", OrderedDict())
    detector = weights.load_frozen(model_config(), path)
    assert changed(weights.read_state(path), detector.state_dict()) == []
    assert not any(module.training for module in detector.modules())
    assert not any(parameter.requires_grad for parameter in detector.parameters())


CLASSES = ["disc", "bar"]


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({"dataset_meta": {"classes": ("bar", "disc")}}, "the same classes in another order"),
        ({"dataset_meta": {"CLASSES": ["disc", "pole"]}}, "label 1 is 'pole' in the checkpoint"),
        ({"CLASSES": ("disc",)}, "1 classes, and the data set has 2"),
        ({"dataset_meta": {"classes": "disc"}}, "1 classes, and the data set has 2"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused(checkpoint, meta, problem):
    path = checkpoint({"state_dict": Detector().state_dict(), "meta": meta})
    with pytest.raises(UserError, match=problem) as caught:
        weights.check_classes(weights.read(path), path, CLASSES)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta", [{"dataset_meta": {"classes": ("disc", "bar")}}, {"CLASSES": None}, {"epoch": 3}, 7]
)
def test_a_checkpoint_of_these_classes_or_of_none_is_accepted(checkpoint, meta):
    path = checkpoint({"state_dict": {}, "meta": meta})
    weights.check_classes(weights.read(path), path, CLASSES)
