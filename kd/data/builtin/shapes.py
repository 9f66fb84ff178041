"""Generator of the built-in data set in COCO format, with the same pixels for the same seed.

An image depends on the settings' seed and size, its split and its index, so a larger set begins
with the images of a smaller one. The bytes of a PNG also depend on the zlib inside Pillow.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kd.common.errors import UserError
from kd.common.files import read_json, write_json, write_text
from kd.common.progress import progress
from kd.data.builtin.drawing import CLASSES, ShapeObject, draw_scene
from kd.data.entry import Shapes, SplitName

__all__ = ["CLASSES", "ShapeScene", "draw", "generate", "is_generated"]

SPLITS: tuple[SplitName, ...] = ("train", "test", "val")
"""All splits; the position of one is part of the seed of its images."""
GENERATOR = 2  # version; raise it when the images change, so that every set is generated again
MARKER = "generated.json"  # written last, so it exists only if the set is complete
OWNED = ".generated"  # written first; a folder without it has files of the user
EMPTY_EVERY = 25  # one in 25 images that are not for training shows no object


class ShapeScene(NamedTuple):
    """One image (RGB) and its objects, back to front."""

    image: Image.Image
    objects: list[ShapeObject]


def draw(settings: Shapes, split: SplitName, index: int) -> ShapeScene:
    """Draw image ``index`` of a split."""
    seed = settings.seed
    if split == "test" and settings.test_seed is not None:
        seed = settings.test_seed
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    empty = split != "train" and index % EMPTY_EVERY == EMPTY_EVERY - 1
    return ShapeScene(*draw_scene(settings.size, rng, empty))


def is_generated(settings: Shapes, root: Path) -> bool:
    """Return True if ``root`` has the complete set of these settings and this generator."""
    try:
        marker = read_json(root / MARKER)
    except UserError:
        return False
    return marker == marker_of(settings) and all(
        (root / "annotations" / f"{split}.json").is_file()
        and sum(1 for _ in (root / split).glob("*.png")) == getattr(settings, split)
        for split in _splits(settings)
    )


def generate(settings: Shapes, root: Path) -> None:
    """Write the set to ``root`` unless it exists; raise UserError if the folder has other data."""
    if root.is_file():
        raise UserError(f"{root}: is a file, not a folder; delete it, or set another 'root'")
    if is_generated(settings, root):
        return
    if root.exists() and any(root.iterdir()) and not (root / OWNED).is_file():
        raise UserError(
            f"{root}: contains files that were not generated; "
            "set 'root' of the generated data set to another folder"
        )
    try:
        write_text(root / OWNED, "All files here are replaced when the settings change.\n")
        (root / MARKER).unlink(missing_ok=True)
        for stale in ("annotations", *SPLITS):
            shutil.rmtree(root / stale, ignore_errors=True)
        contents = {split: _write_images(settings, root, split) for split in _splits(settings)}
        for split, content in contents.items():
            write_json(root / "annotations" / f"{split}.json", content, indent=None)
        write_json(root / MARKER, marker_of(settings))
    except OSError as error:
        raise UserError(f"{root}: cannot write the generated data set: {error}") from None


def marker_of(settings: Shapes) -> dict[str, Any]:
    """Return the settings and the generator's version, which determine all images."""
    return {"generator": GENERATOR, "settings": settings.model_dump()}


def _splits(settings: Shapes) -> list[SplitName]:
    """Return the splits that have images."""
    return [split for split in SPLITS if getattr(settings, split) is not None]


def _write_images(settings: Shapes, root: Path, split: SplitName) -> dict[str, Any]:
    """Write the images of a split and return its COCO content."""
    (root / split).mkdir(parents=True)
    count = getattr(settings, split)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in progress(range(count), count, f"drawing {root.name}/{split}"):
        name = f"{index:06d}.png"
        scene = draw(settings, split, index)
        scene.image.save(root / split / name, compress_level=6)
        side = settings.size
        images.append({"id": index + 1, "width": side, "height": side, "file_name": name})
        for shape in scene.objects:
            annotations.append(_annotation(len(annotations) + 1, index + 1, shape))
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _annotation(identity: int, image: int, shape: ShapeObject) -> dict[str, Any]:
    """Return a COCO annotation: box and area of the visible part, outline of the whole shape."""
    outline = [round(coordinate, 2) for point in shape.outline for coordinate in point]
    return {
        "id": identity,
        "image_id": image,
        "category_id": shape.label + 1,
        "bbox": list(shape.box()),
        "area": round(float(shape.visible.sum(dtype=float)), 2),
        "iscrowd": 0,
        "segmentation": [outline],
    }
