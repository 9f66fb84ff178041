"""A training starts from a published detector, whose classes may be others."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kd.runtime  # noqa: F401
from kd.common.errors import UserError
from kd.common.files import sha256
from kd.config.library import Library
from kd.config.plan import plan
from kd.models import weights
from kd.models.build import build_model
from kd.training.published.initial import class_tensors, start_from_published
from kd.training.train import train
from tests.support.tiny import make_project

OTHERS = ["disc", "bar", "ring"]
CLASS_LAYERS = ["bbox_head.retina_cls.weight", "bbox_head.retina_cls.bias"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the configuration of a tiny RetinaNet."""
    monkeypatch.chdir(make_project(tmp_path))
    runs = plan("tiny", "tiny", Library()).runs.values()
    return next(run.config for run in runs if run.detector == "retinanet" and not run.method)


def classes_of(config: dict[str, Any]) -> list[str]:
    names: list[str] = config["test_dataloader"]["dataset"]["metainfo"]["classes"]
    return names


def publish(config: dict[str, Any], classes: list[str], **changes: Any) -> dict[str, torch.Tensor]:
    """Write random weights for the classes to a file and let the training start from them.

    ``changes``: tensors in place of those of the file; None leaves a tensor out.
    """
    model = {**config["model"], "observer": config["observer"]}
    model["bbox_head"] = {**model["bbox_head"], "num_classes": len(classes)}
    torch.manual_seed(7)
    state = {**build_model(model).state_dict(), **changes}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    path = Path("published.pth")
    weights.save(path, {"state_dict": state, "meta": {"dataset_meta": {"classes": classes}}})
    config["initial_checkpoint"] = {"source": str(path), "sha256": sha256(path), "zoo": "some_name"}
    return state


def built(config: dict[str, Any]) -> Any:
    return build_model({**config["model"], "observer": config["observer"]})


def test_all_but_class_layers_are_loaded_for_other_classes(config: dict[str, Any]) -> None:
    state, model = publish(config, OTHERS), built(config)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    line = start_from_published(model, config)
    count = len(initial)
    assert line == (
        f"training starts from some_name: {count - 2} of {count} tensors loaded; left out, because "
        f"the classes differ: {', '.join(CLASS_LAYERS)}"
    )
    for name, tensor in model.state_dict().items():
        assert tensor.equal((initial if name in CLASS_LAYERS else state)[name]), name


def test_class_layers_are_left_out_for_as_many_other_classes(config: dict[str, Any]) -> None:
    names = classes_of(config)
    publish(config, names[::-1])
    assert start_from_published(built(config), config).endswith(", ".join(CLASS_LAYERS))


def test_all_is_loaded_for_the_same_classes(config: dict[str, Any]) -> None:
    state, model = publish(config, classes_of(config)), built(config)
    line = start_from_published(model, config)
    assert line == f"training starts from some_name: {len(state)} of {len(state)} tensors loaded"
    assert all(tensor.equal(state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"bbox_head.retina_reg.bias": torch.zeros(5)}, "of another shape: bbox_head.retina_reg"),
        ({"bbox_head.retina_reg.bias": None}, "missing: bbox_head.retina_reg.bias"),
        ({"bbox_head.retina_cls.bias": None}, "missing: bbox_head.retina_cls.bias"),
        ({"mask_head.weight": torch.zeros(5)}, "unexpected: mask_head.weight"),
    ],
)
def test_any_other_difference_is_refused(
    config: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    publish(config, OTHERS, **changes)
    with pytest.raises(UserError, match=rf"published\.pth: does not match .*{problem}"):
        start_from_published(built(config), config)


def test_boxes_of_each_class_are_class_layers(model_config: Callable[..., Any]) -> None:
    """Faster R-CNN has a box of each class, its RPN one class."""
    names = class_tensors(model_config("faster_rcnn"))
    assert names == [
        f"roi_head.bbox_head.{layer}.{kind}"
        for layer in ("fc_cls", "fc_reg")
        for kind in ("weight", "bias")
    ]


def test_a_training_says_what_it_left_out(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run = next(
        run
        for run in plan("tiny", "tiny", Library()).runs.values()
        if run.detector == "retinanet" and not run.method
    )
    run.write()
    publish(config, OTHERS)
    (run.directory / "config.json").write_text(json.dumps(config))
    with caplog.at_level(logging.INFO):
        train(run.directory)
    assert "left out, because the classes differ: bbox_head.retina_cls.weight" in caplog.text
    record = json.loads((run.directory / "provenance.json").read_text())
    assert record["initial_checkpoint"]["zoo"] == "some_name"
    assert record["inputs"]["initial"] == sha256(Path("published.pth"))
