"""Stages of YOLOX's training: sizes of batches and the L1 loss are functions of the progress."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

import kd.runtime  # noqa: F401
from kd.training.stages import BoxL1Loss, ResizeBatches


def fake_runner(**values: Any) -> Any:
    from mmdet.models.data_preprocessors import DetDataPreprocessor

    model = nn.Module()
    model.data_preprocessor = DetDataPreprocessor(pad_size_divisor=32)
    return SimpleNamespace(model=model, **{"seed": 3, "iter": 0, "epoch": 0} | values)


def test_the_side_of_a_batch_depends_on_seed_and_step() -> None:
    hook = ResizeBatches(480, 800)
    sides = [hook.side(3, step) for step in range(4000)]
    assert sides[:10] == [None] * 10
    assert {len({*sides[start : start + 10]}) for start in range(0, 4000, 10)} == {1}
    assert {*sides[10:]} == {*range(480, 801, 32)}
    assert sides == [ResizeBatches(480, 800).side(3, step) for step in range(4000)]
    assert sides != [hook.side(4, step) for step in range(4000)]


def test_the_smallest_and_largest_side_may_be_one() -> None:
    assert {ResizeBatches(64, 64).side(0, step) for step in range(10, 100)} == {64}


def resized(step: int, training: bool = True) -> tuple[torch.Tensor, Any]:
    """Return a batch of one image of 64 pixels in a step, and its annotations."""
    hook, runner = ResizeBatches(32, 128), fake_runner(iter=step)
    hook.before_run(runner)
    hook.before_train_iter(runner, 0)
    sample = DetDataSample(metainfo={"img_shape": (64, 64)})
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[8.0, 16, 24, 32]]))
    batch = {"inputs": [torch.full((3, 64, 64), 7, dtype=torch.uint8)], "data_samples": [sample]}
    result = runner.model.data_preprocessor(batch, training)
    return result["inputs"], result["data_samples"][0]


def test_boxes_are_resized_with_their_images() -> None:
    step = next(step for step in range(10, 999, 10) if ResizeBatches(32, 128).side(3, step) == 96)
    inputs, sample = resized(step)
    assert inputs.shape == (1, 3, 96, 96)
    assert torch.allclose(inputs, torch.tensor(7.0))
    assert sample.gt_instances.bboxes.tolist() == [[12, 24, 36, 48]]
    assert sample.img_shape == sample.pad_shape == sample.batch_input_shape == (96, 96)


def test_the_first_steps_and_test_images_have_their_own_size() -> None:
    assert resized(9)[0].shape[-1] == 64
    assert resized(20, training=False)[0].shape[-1] == 64


@pytest.mark.parametrize("is_distilled", [False, True])
def test_the_l1_loss_is_on_in_the_last_epochs_only(is_distilled: bool) -> None:
    head = SimpleNamespace(use_l1=False)
    detector = SimpleNamespace(bbox_head=head)
    model = nn.Module()
    if is_distilled:
        model.student = detector
    else:
        model.bbox_head = head
    hook = BoxL1Loss(from_epoch=2)
    states = []
    for epoch in (0, 1, 2, 3, 1):  # a resumed training may start in any epoch
        hook.before_train_epoch(SimpleNamespace(model=model, epoch=epoch))
        states.append(head.use_l1)
    assert states == [False, False, True, True, False]
