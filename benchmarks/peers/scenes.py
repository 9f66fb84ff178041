"""Images and boxes that every system trains on, decoded once and held in memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kd.common.files import read_json
from kd.data.builtin.shapes import CLASSES, generate
from kd.data.entry import Shapes

IMAGES = 8
REPEATED = 100_000
"""Length of a system's data set, so large that no epoch ends during the comparison."""

__all__ = ["CLASSES", "IMAGES", "REPEATED", "TrainingImage", "consecutive", "draw", "read"]


class TrainingImage(NamedTuple):
    """Training image: RGB (3, H, W), boxes (G, 4) as xyxy in pixels, classes (G,)."""

    image: Tensor
    boxes: Tensor
    labels: Tensor


def draw(folder: Path, side: int) -> None:
    """Write generated images into a folder."""
    generate(Shapes(train=IMAGES, test=1, size=side), folder)


def read(folder: Path) -> list[TrainingImage]:
    """Return the images of ``draw``."""
    content = read_json(folder / "annotations" / "train.json")
    return [_training_image(folder, image, content["annotations"]) for image in content["images"]]


def consecutive(data: Any, batch: int) -> Iterator[list[Any]]:
    """Yield batches of a data set's samples, in order and without end."""
    start = 0
    while True:
        yield [data[index] for index in range(start, start + batch)]
        start += batch


def _training_image(
    folder: Path, image: dict[str, object], annotations: list[dict[str, object]]
) -> TrainingImage:
    with Image.open(folder / "train" / str(image["file_name"])) as file:
        pixels = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1).contiguous()
    objects = [item for item in annotations if item["image_id"] == image["id"]]
    boxes = torch.tensor([item["bbox"] for item in objects], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([item["category_id"] for item in objects]) - 1
    return TrainingImage(pixels, boxes, labels)
