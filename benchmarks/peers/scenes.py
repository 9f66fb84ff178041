"""The images and boxes that every system trains on, decoded once and held in memory."""

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
"""How many samples a system's data set says it has, so that no epoch ends in between."""

__all__ = ["CLASSES", "IMAGES", "REPEATED", "Scene", "consecutive", "draw", "read"]


class Scene(NamedTuple):
    """One training image: RGB (3, H, W), boxes (G, 4) as xyxy in pixels, classes (G,)."""

    image: Tensor
    boxes: Tensor
    labels: Tensor


def draw(folder: Path, side: int) -> None:
    """Draw the images into a folder."""
    generate(Shapes(train=IMAGES, test=1, size=side), folder)


def read(folder: Path) -> list[Scene]:
    """Return what ``draw`` drew."""
    content = read_json(folder / "annotations" / "train.json")
    return [_scene(folder, image, content["annotations"]) for image in content["images"]]


def consecutive(data: Any, batch: int) -> Iterator[list[Any]]:
    """Yield a data set's samples, so many at a time, in order and without end."""
    start = 0
    while True:
        yield [data[index] for index in range(start, start + batch)]
        start += batch


def _scene(folder: Path, image: dict[str, object], annotations: list[dict[str, object]]) -> Scene:
    with Image.open(folder / "train" / str(image["file_name"])) as file:
        pixels = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1).contiguous()
    own = [each for each in annotations if each["image_id"] == image["id"]]
    boxes = torch.tensor([each["bbox"] for each in own], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Scene(pixels, boxes, torch.tensor([each["category_id"] for each in own]) - 1)
