"""A teacher reads images in its own normalization, whatever the student's is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from kd.observers import Batch
from kd.training.teacher_images import conversion

PAIRS = [
    *((pair, ("r18", "r18")) for pair in (("yolox", "retinanet"), ("retinanet", "rtmdet"))),
    *((pair, ("r18", "r18")) for pair in (("rtmdet", "yolox"), ("ssd300", "gfl"))),
    (("retinanet", "fcos"), ("r18", "r50-caffe")),
    (("fcos", "fcos"), ("r50", "r101-caffe")),
    (("retinanet", "fcos"), ("r50-caffe", "r50-caffe")),
    (("fcos", "gfl"), ("r50-caffe", "r50")),
]
"""Student and teacher, with their backbones."""


@pytest.fixture
def raw(images: Callable[..., dict[str, Any]]) -> Callable[[dict[str, Any]], Batch]:
    """Return a function that prepares the same two images by a model's own preprocessor."""
    from mmdet.registry import MODELS

    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 96), (40, 48)]
    pixels = [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes
    ]

    def prepared(model: dict[str, Any]) -> Batch:
        preprocessor = MODELS.build(model["data_preprocessor"] | {"pad_size_divisor": 32})
        data = {"inputs": list(pixels), "data_samples": images()["data_samples"]}
        data = preprocessor(data, training=True)
        return Batch(
            data["inputs"],
            data["data_samples"],
            mean=preprocessor.mean.flatten(),
            std=preprocessor.std.flatten(),
            is_bgr=not model["data_preprocessor"]["bgr_to_rgb"],
        )

    return prepared


@pytest.mark.parametrize(("detectors", "backbones"), PAIRS)
def test_a_teacher_reads_the_images_that_its_own_preprocessor_returns(
    raw: Any, model_config: Any, detectors: tuple[str, str], backbones: tuple[str, str]
) -> None:
    ours, theirs = map(model_config, detectors, backbones)
    assert ours["data_preprocessor"] != theirs["data_preprocessor"]
    batch, expected = raw(ours), raw(theirs)
    converted = conversion(ours, theirs)(batch)
    # caffe's images are not divided by a deviation: rounding is relative to 255.
    tolerance = 1e-4 * max(1.0, float(expected.inputs.abs().max()) / 3)
    torch.testing.assert_close(converted.inputs, expected.inputs, rtol=1e-5, atol=tolerance)
    assert not converted.inputs[1, :, 40:].any() and not converted.inputs[1, :, :, 48:].any()
    torch.testing.assert_close(converted.mean, expected.mean)
    torch.testing.assert_close(converted.std, expected.std)
    assert converted.is_bgr == expected.is_bgr
    assert converted.samples is batch.samples


def test_images_are_not_changed_if_both_detectors_prepare_them_alike(model_config: Any) -> None:
    batch = Batch(torch.ones(1, 3, 8, 8), [])
    for student, teacher in (("retinanet", "faster_rcnn"), ("yolox", "yolox")):
        assert conversion(model_config(student), model_config(teacher))(batch) is batch
    pair = (model_config("retinanet", backbone) for backbone in ("r50-caffe", "r101-caffe"))
    assert conversion(*pair)(batch) is batch


def test_a_classifier_reads_rgb_crops(model_config: Any) -> None:
    from kd.methods.predictions.dicod import _classifier_input

    class Classifier:
        def normalized(self, crops: Any, mean: Any, std: Any) -> Any:
            return crops * std[:, None, None] + mean[:, None, None]

    pixels = torch.rand(2, 3, 4, 4) * 255
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
    rgb = Batch((pixels - mean[:, None, None]) / std[:, None, None], [], mean=mean, std=std)
    flipped = (value.flip(-1) for value in (mean, std))
    bgr = replace(rgb, inputs=rgb.inputs.flip(1), is_bgr=True)
    bgr = replace(bgr, mean=next(flipped), std=next(flipped))
    for batch in (rgb, bgr):
        torch.testing.assert_close(_classifier_input(batch.inputs, Classifier(), batch), pixels)
