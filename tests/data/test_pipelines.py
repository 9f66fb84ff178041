"""Pipelines give images of the detector's size with their boxes, equal in every run."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from kd.config import pipelines
from kd.config.compose import compose
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.run import Run
from kd.data.entry import Dataset
from tests.data.conftest import HEIGHT, WIDTH
from tests.support.paths import CONFIGS

SIDE = 64
SIZES = {"ssd300": SIDE, "ssd512": SIDE, "yolov3": SIDE}
FAMILIES = ["retinanet", "ssd300", "yolov3"]
EPOCHS = 12


class OneDataset(Library):
    """Library in which every name is the same data set."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(CONFIGS)
        self.only = dataset

    def dataset(self, name: str, where: str) -> Dataset:
        return self.only


@pytest.fixture
def composed(quiet_mmdet: None, coco: Dataset) -> Any:
    """Return a function that composes a detector on three images of 40 x 30 pixels."""
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")

    def compose_detector(detector: str, seed: int = 0) -> dict[str, Any]:
        run = Run("tiny", "cats", "smoke", detector, "r18-w0.125", seed)
        scale = Scale(title="tiny", input_sizes=SIZES)
        dataset = coco.model_copy(update={"image_size": (SIDE, SIDE)})
        return compose(run, {}, scale, OneDataset(dataset), "tests")

    return compose_detector


@pytest.fixture
def samples(composed: Any) -> Any:
    """Return a function that loads a detector's training samples of several epochs."""
    from kd.data.sampling import build_dataset

    def load(detector: str, seed: int = 0, epochs: int = EPOCHS) -> list[Any]:
        data = build_dataset(composed(detector, seed)["train_dataloader"]["dataset"])
        return [data[index] for index in range(epochs * len(data))]

    return load


def test_the_general_pipeline_is_that_of_the_first_detectors():
    assert pipelines.training("general", (100, 50), [1.0, 2.0, 3.0]) == [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
        {"type": "FitInto", "width": 100, "height": 50},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "PackDetInputs"},
    ]


@pytest.mark.parametrize("detector", ["ssd300", "yolov3"])
def test_the_canvas_around_an_expanded_image_is_normalized_to_zero(composed, detector):
    from mmdet.registry import MODELS, TRANSFORMS

    config = composed(detector)
    steps = config["train_dataloader"]["dataset"]["dataset"]["pipeline"]
    (step,) = (step for step in steps if step["type"] == "Expand")
    assert step["ratio_range"] == [1, {"ssd300": 4, "yolov3": 2}[detector]]
    image, expand = np.full((30, 40, 3), 255, np.uint8), TRANSFORMS.build(step)
    np.random.seed(0)
    widened = [expand({"img": image, "img_shape": image.shape[:2]})["img"] for _ in range(20)]
    preprocessor = MODELS.build(config["model"]["data_preprocessor"])
    inputs = [torch.from_numpy(image).permute(2, 0, 1) for image in widened if len(image) > 30]
    assert 3 < len(inputs) < 17
    for pixels in inputs:
        normalized = preprocessor({"inputs": [pixels], "data_samples": None})["inputs"]
        # The values of the canvas are rounded, so they are not exactly zero.
        assert (normalized.abs() < 1).sum() > 0.5 * (pixels[0].numel() - 1200) * 3


@pytest.mark.parametrize("detector", FAMILIES)
def test_boxes_lie_in_images_of_the_detectors_size(samples, detector):
    sizes, counts = set(), set()
    for sample in samples(detector):
        channels, height, width = sample["inputs"].shape
        boxes = sample["data_samples"].gt_instances.bboxes
        boxes = getattr(boxes, "tensor", boxes)
        assert (channels, max(height, width)) == (3, SIDE)
        assert sample["data_samples"].metainfo["img_shape"] == (height, width)
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        sizes.add((height, width))
        counts.add(len(boxes))
    if detector == "retinanet":
        assert (sizes, counts) == ({(48, 64)}, {2})
    elif detector == "ssd300":
        assert (sizes, counts) == ({(64, 64)}, {1, 2})  # a crop may lose one of the two boxes
    else:
        assert len(sizes) > 3  # crops keep their ratio


@pytest.mark.parametrize(
    ("detector", "shape"),
    [("retinanet", (48, 64)), ("ssd300", (64, 64)), ("yolov3", (48, 64))],
)
def test_test_images_are_stretched_for_ssd_and_fitted_for_others(composed, detector, shape):
    from kd.data.sampling import build_dataset

    sample = build_dataset(composed(detector)["test_dataloader"]["dataset"])[0]["data_samples"]
    assert sample.metainfo["img_shape"] == shape
    assert sample.metainfo["ori_shape"] == (HEIGHT, WIDTH)
    assert sample.metainfo["scale_factor"] == (shape[1] / WIDTH, shape[0] / HEIGHT)


@pytest.mark.parametrize("detector", FAMILIES)
def test_an_image_is_a_function_of_seed_epoch_and_sample(samples, composed, detector):
    from kd.data.sampling import build_dataset

    first = samples(detector, epochs=4)
    data = build_dataset(composed(detector)["train_dataloader"]["dataset"])
    for index in (4, 0, 3):
        random.seed(index)
        np.random.seed(index)
        torch.manual_seed(index)
        again = data[index]
        assert torch.equal(again["inputs"], first[index]["inputs"])
        assert again["data_samples"].img_id == first[index]["data_samples"].img_id
    other = samples(detector, seed=1, epochs=4)
    assert any(
        mine["inputs"].shape != yours["inputs"].shape
        or not torch.equal(mine["inputs"], yours["inputs"])
        for mine, yours in zip(first, other, strict=True)
    )
