"""Miniature networks learn on every level that methods imitate."""

from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.data.builtin.shapes import draw
from kd.models.build import build_model
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)
IMAGES = 48


def images_of(name: str, side: int) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Return images of a built-in data set, resized to a square, and their objects."""
    settings = LIBRARY.dataset(name, "test").generate
    assert settings is not None
    images, samples = [], []
    for index in range(IMAGES):
        scene = draw(settings, "train", index)
        pixels = np.asarray(scene.image.resize((side, side)), np.float32)
        images.append(torch.from_numpy((pixels - 115) / 58).permute(2, 0, 1))
        corners = [(x, y, x + w, y + h) for x, y, w, h in (shape.box() for shape in scene.objects)]
        boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4) * side / settings.size
        labels = torch.tensor([shape.label for shape in scene.objects])
        metainfo = {
            "img_shape": (side, side),
            "batch_input_shape": (side, side),
            "pad_shape": (side, side),
        }
        sample = DetDataSample(metainfo={**metainfo, "scale_factor": (1.0, 1.0)})
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        samples.append(sample)
    return torch.stack(images), samples


def box_gradients(detector: str, scale: Scale, name: str) -> list[float]:
    """Return the norm of the gradient of the box loss at each level of the neck.

    The box loss covers only priors that are assigned to an object.
    """
    torch.manual_seed(0)
    model = detector_model(detector, "r18-w0.125", 8, "scratch", scale, LIBRARY, "test")
    network = build_model(model).train()
    entry = LIBRARY.detector(detector, "test")
    side = (
        scale.input_sizes.get(detector, entry.input_size) or LIBRARY.dataset(name, "").image_size[0]
    )
    inputs, samples = images_of(name, side)
    maps = tuple(level.detach().requires_grad_() for level in network.extract_feat(inputs))
    network.extract_feat = lambda _: maps
    losses: dict[str, Any] = network.loss(inputs, samples)
    box_losses = [
        value
        for key, value in losses.items()
        if key.startswith(("loss_bbox", "loss_rpn_bbox", "loss_xy", "loss_pts"))
    ]
    parts = [
        part for value in box_losses for part in (value if isinstance(value, list) else [value])
    ]
    torch.stack([part.sum() for part in parts]).sum().backward()
    return [0.0 if level.grad is None else float(level.grad.norm()) for level in maps]


@pytest.mark.parametrize("scale", ["smoke", "mini"])
@pytest.mark.parametrize("detector", LIBRARY.names("detectors"))
def test_every_level_has_objects_to_learn(quiet_mmdet: None, detector: str, scale: str) -> None:
    small = LIBRARY.scale(scale, "test")
    gradients = box_gradients(detector, small, small.datasets["coco2017"])
    assert min(gradients) > 1e-3 * max(gradients), gradients
