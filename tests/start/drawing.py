"""Labeled folders in each format, with tiny images of noise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ["cat", "dog"]


def draw(path: Path, size: tuple[int, int] = (64, 48), seed: int | None = None, **options: Any):
    """Write an image of noise; its seed is its name, so that no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(map(ord, str(path))) if seed is None else seed)
    cells = generator.integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(cells).resize(size, Image.Resampling.NEAREST).save(path, **options)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def voc_xml(
    name: str = "a.png",
    size: tuple[int, int] | None = (64, 48),
    objects: Sequence[tuple[str, Sequence[float]]] = (("cat", (11, 6, 30, 25)),),
) -> str:
    """Return an annotation file; boxes are xmin, ymin, xmax, ymax, counted from 1."""
    size_text = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    texts = "".join(
        f"<object><name>{title}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for title, (x1, y1, x2, y2) in objects
    )
    return f"<annotation><filename>{name}</filename>{size_text}{texts}</annotation>"


def coco_content(names: Sequence[str], **changes: Any) -> dict[str, Any]:
    """Return an annotation file of COCO with a cat in each image; ``changes`` replace lists."""
    return {
        "images": [
            {"id": number, "file_name": name, "width": 64, "height": 48}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [10, 5, 20, 20]}
            for number in range(1, len(names) + 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)],
        **changes,
    }


def yolo(root: Path, count: int = 12, names: object = CLASSES, folder: str = "") -> Path:
    """Write a folder in YOLO format without splits, with a cat in each image."""
    for number in range(count):
        draw(root / "images" / folder / f"{number}.png")
        write(root / "labels" / folder / f"{number}.txt", "0 0.3125 0.3125 0.3125 0.416667\n")
    write(root / "data.yaml", json.dumps({"names": names}))
    return root


def voc(root: Path, count: int = 12) -> Path:
    """Write a folder in VOC format without image sets, with a cat in each image."""
    for number in range(count):
        draw(root / "JPEGImages" / f"{number}.png")
        write(root / "Annotations" / f"{number}.xml", voc_xml(f"{number}.png"))
    return root


def coco(root: Path, count: int = 12, **changes: Any) -> Path:
    """Write a folder in COCO format with one annotation file, with a cat in each image."""
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        draw(root / "images" / name)
    write(root / "annotations.json", json.dumps(coco_content(names, **changes)))
    return root


def snapshot(root: Path) -> dict[str, bytes]:
    """Return the files below a folder with their content, without those of ``kd start``."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "kd-start" not in path.parts
    }
