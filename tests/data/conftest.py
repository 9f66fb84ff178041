"""Small valid data sets on disk, which tests damage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kd.data.entry import Dataset
from tests.support import machine
from tests.support.paths import REPOSITORY

WIDTH, HEIGHT = 40, 30
VOC_OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
    "<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)
VOC_PAGE = (
    "<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"
)


def save_image(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def voc_page(*objects: tuple[Any, ...], size: tuple[Any, Any] = (WIDTH, HEIGHT)) -> str:
    """Return an annotation file of objects (name, corners, difficult)."""
    text = "".join(VOC_OBJECT.format(name=n, box=b, difficult=d) for n, b, d in objects)
    return VOC_PAGE.format(width=size[0], height=size[1], objects=text)


def coco_content(count: int) -> dict[str, Any]:
    """Return the content of a file with images 1..count, each with a cat and a dog."""
    names = [f"{i}.png" for i in range(1, count + 1)]
    return {
        "images": [
            {"id": i, "width": WIDTH, "height": HEIGHT, "file_name": name}
            for i, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": 2 * i + k, "image_id": i, "category_id": 7 + k, "bbox": box, "area": 50}
            for i in range(1, count + 1)
            for k, box in enumerate([[1, 2, 10, 5], [20, 5.5, 10, 5]])
        ],
        "categories": [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}],
    }


@pytest.fixture
def coco(tmp_path: Path) -> Dataset:
    """Write a valid COCO data set: 3 training and 2 test images, each with a cat and a dog."""
    for split, count in (("train", 3), ("test", 2)):
        path = tmp_path / "annotations" / f"{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(coco_content(count)))
        for i in range(1, count + 1):
            save_image(tmp_path / split / f"{i}.png", seed=i + (100 if split == "test" else 0))
    return Dataset.parse(
        {
            "format": "coco",
            "root": str(tmp_path),
            "train": {"annotations": "annotations/train.json", "images": "train"},
            "test": {"annotations": "annotations/test.json", "images": "test"},
            "classes": ["cat", "dog"],
            "image_size": [40, 30],
        },
        "coco",
    )


@pytest.fixture
def voc(tmp_path: Path) -> Dataset:
    """Write a valid VOC data set of two years: a1, a2, b1 for training and a3 for testing."""
    for i, (year, name) in enumerate([("A", "a1"), ("A", "a2"), ("A", "a3"), ("B", "b1")]):
        folder = tmp_path / year
        save_image(folder / "JPEGImages" / f"{name}.jpg", seed=i)
        (folder / "Annotations").mkdir(exist_ok=True)
        page = voc_page(("cat", (1, 1, 40, 30), 0), ("dog", (5, 6, 15.7, 16), 1))
        (folder / "Annotations" / f"{name}.xml").write_text(page)
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (tmp_path / "A/ImageSets/Main/trainval.txt").write_text("a1\na2\n")
    (tmp_path / "A/ImageSets/Main/test.txt").write_text("a3\n")
    (tmp_path / "B/ImageSets/Main/trainval.txt").write_text("b1\r\n")
    return Dataset.parse(
        {
            "format": "voc",
            "root": str(tmp_path),
            "train": ["A/trainval", "B/trainval"],
            "test": ["A/test"],
            "classes": ["cat", "dog"],
            "image_size": [40, 30],
        },
        "voc",
    )


@pytest.fixture
def edit(tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], Any]], None]:
    """Return a function that changes the training annotations of the COCO data set."""

    def apply(change: Callable[[dict[str, Any]], Any]) -> None:
        path = tmp_path / "annotations/train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


@pytest.fixture
def bccd() -> Dataset:
    """Return the published BCCD data set; skip the test if it is not beside the repository."""
    entry = Dataset.read(REPOSITORY / "configs/datasets/bccd.yaml")
    return entry.model_copy(update={"root": str(machine.bccd())})
