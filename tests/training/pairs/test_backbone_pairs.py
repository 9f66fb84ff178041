"""Teachers on Swin and ResNeXt, whose students have another backbone."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kd.config.plan import Plan
from kd.models import weights
from kd.training.train import train

Study = Callable[..., Plan]


@pytest.mark.parametrize(
    ("teacher", "detector"),
    [
        ("swin-t-w0.125", "retinanet"),
        ("swin-t-w0.125", "faster_rcnn"),
        ("x101-32x4d-w0.25", "retinanet"),
        ("r50-caffe-w0.125", "fcos"),
    ],
)
def test_a_student_on_resnet_learns_from_the_neck(
    study: Study, teacher: str, detector: str
) -> None:
    plan = study(["fitnets"], teacher=teacher, detectors=(detector,))
    (run,) = (run for run in plan.runs.values() if run.method)
    run.write()
    train(run.directory)
    steps = [json.loads(line) for line in (run.directory / "log.jsonl").read_text().splitlines()]
    terms = [step["loss_fitnets"] for step in steps if "loss_fitnets" in step]
    assert terms and all(0 < term < 1e4 for term in terms)


def test_a_swin_transformer_trained_twice_has_the_same_weights(study: Study) -> None:
    """Blocks that a step skips are a function of seed and step."""
    states = []
    for _ in range(2):
        plan = study([], student="swin-t-w0.125")
        (run,) = (run for run in plan.runs.values() if run.student == "swin-t-w0.125")
        run.write()
        (run.directory / "weights.pth").unlink(missing_ok=True)
        train(run.directory)
        states.append(weights.read_state(run.directory / "weights.pth"))
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not [key for key in states[0] if key.startswith("backbone.norm0")]


@pytest.mark.parametrize("backbone", ["swin-t-w0.125", "x101-32x4d-w0.25"])
def test_backbones_run_in_bfloat16(
    build: Callable[..., Any], images: Callable[..., Any], backbone: str
) -> None:
    network = build("retinanet", backbone=backbone).to(memory_format=torch.channels_last)
    prepared = images()
    with torch.autocast("cpu", torch.bfloat16):
        losses = network.loss(prepared["inputs"], prepared["data_samples"])
    total = sum(sum(value) for value in losses.values())
    total.backward()
    assert total.isfinite()
    for name, value in network.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name
