"""Crops of the objects of a detection data set: one crop for each object, packed by split."""

import io
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from kd.classifiers.pack import Crop, read_facts, write_pack
from kd.common.errors import UserError
from kd.common.progress import progress
from kd.config.classifiers import crop_settings
from kd.config.library import Library
from kd.config.run import Crops
from kd.data import decoding
from kd.data.entry import SplitName
from kd.data.readers import GroundTruth, image_path, read_split
from kd.data.scan import Record

SPLITS: tuple[SplitName, SplitName] = ("train", "test")
LEAST_MARGIN = 4
"""Pixels. Bilinear sampling reads beyond the box, and random crops need some room."""
MOST_PENDING_IMAGES = 256
"""Images whose crops may be in memory before they are written."""


class Job(NamedTuple):
    """An image file and its objects: records with ``label`` and ``bbox`` (xyxy, pixels)."""

    path: Path
    image: int
    objects: list[Record]


def build(
    crops: Crops, library: Library, threads: int = 1, most_images: int | None = None
) -> dict[str, dict[str, Any]]:
    """Cut both splits unless complete ones exist; return the facts of each split's JSON file.

    ``most_images``: number of images whose objects are cut, for a rehearsal; None for all.
    """
    settings, folder = crops.settings, crops.directory
    dataset = library.dataset(settings["dataset"], str(folder))
    margin, min_side = settings["margin"], settings["min_side"]
    if crop_settings(settings["dataset"], dataset, margin, min_side) != settings:
        raise UserError(
            f"{folder}: configs/datasets/{settings['dataset']}.yaml changed since these crops were "
            "composed; compose them again"
        )
    crops.write()
    facts_by_split: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        truth = read_split(dataset, split)
        facts = read_facts(folder, split)
        if facts is None or facts["fingerprint"] != truth.fingerprint:
            objects, left_out = choose(truth, min_side)
            if most_images:
                images = list(dict.fromkeys(one["image"] for one in objects))[:most_images]
                objects = [one for one in objects if one["image"] in set(images)]
            if not objects:
                raise UserError(
                    f"{folder}: no object of the split '{split}' remains; left out: "
                    f"{_counts(left_out)}; lower 'min_side' of the classifier, which is {min_side}"
                )
            paths = {one["id"]: image_path(dataset, split, one) for one in truth.coco["images"]}
            jobs = _by_image(objects, paths)
            cut = progress(_cut_all(jobs, margin, threads), len(jobs), f"cutting {folder}/{split}")
            facts = _facts(truth, objects, left_out)
            write_pack(folder, split, (crop for image in cut for crop in image), facts)
        facts_by_split[split] = read_facts(folder, split) or {}
    return facts_by_split


def describe(facts_by_split: dict[str, dict[str, Any]]) -> str:
    """Return the counts of ``build`` as text."""
    lines = []
    for split, facts in facts_by_split.items():
        lines.append(
            f"{split}: {facts['crops']} crops of {facts['objects']} objects, "
            f"{facts['bytes'] / 2**20:.1f} MB; left out: {_counts(facts['left_out'])}"
        )
        per_class = sorted(facts["per_class"].items(), key=lambda item: -item[1])
        lines.append(f"  {', '.join(f'{name} {count}' for name, count in per_class)}")
    return "\n".join(lines)


def choose(truth: GroundTruth, min_side: float) -> tuple[list[Record], dict[str, int]]:
    """Return the objects to cut out, and the number of the others by reason.

    An object is a record of ``image``, ``label`` and ``bbox`` (xyxy, pixels, clipped to the image).
    """
    labels = {one["id"]: label for label, one in enumerate(truth.coco["categories"])}
    sizes = {one["id"]: (one["width"], one["height"]) for one in truth.coco["images"]}
    objects: list[Record] = []
    left_out = Counter(crowd=0, difficult=0, ignored=0, small=0)
    for record in truth.coco["annotations"]:
        width, height = sizes[record["image_id"]]
        x, y, w, h = record["bbox"]
        box = (max(x, 0), max(y, 0), min(x + w, width), min(y + h, height))
        if record.get("iscrowd"):
            left_out["crowd"] += 1
        elif record.get("difficult"):
            left_out["difficult"] += 1
        elif record.get("ignore"):
            left_out["ignored"] += 1
        elif min(box[2] - box[0], box[3] - box[1]) < min_side:
            left_out["small"] += 1
        else:
            label = labels[record["category_id"]]
            objects.append({"image": record["image_id"], "label": label, "bbox": box})
    return objects, dict(left_out)


def window(
    box: tuple[float, float, float, float], margin: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """Return the whole pixels (xyxy) to cut out around a box, within the image."""
    x1, y1, x2, y2 = box
    beside = max(margin * (x2 - x1), LEAST_MARGIN)
    above = max(margin * (y2 - y1), LEAST_MARGIN)
    return (
        max(math.floor(x1 - beside), 0),
        max(math.floor(y1 - above), 0),
        min(math.ceil(x2 + beside), width),
        min(math.ceil(y2 + above), height),
    )


def _by_image(objects: list[Record], paths: dict[int, Path]) -> list[Job]:
    jobs: dict[int, Job] = {}
    for record in objects:
        image = record["image"]
        jobs.setdefault(image, Job(paths[image], image, [])).objects.append(record)
    return list(jobs.values())


def _cut_all(jobs: list[Job], margin: float, threads: int) -> Iterator[list[Crop]]:
    # Threads suffice: OpenCV decodes and Pillow encodes without the interpreter's lock.
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(jobs), MOST_PENDING_IMAGES):
            chunk = jobs[start : start + MOST_PENDING_IMAGES]
            yield from pool.map(_cut, chunk, [margin] * len(chunk))


def _cut(job: Job, margin: float) -> list[Crop]:
    """Return the crops of one image."""
    image = Image.fromarray(decoding.load(job.path))
    with open(job.path, "rb") as file:
        lossy = file.read(3) == decoding.JPEG_START
    crops = []
    for record in job.objects:
        x1, y1, x2, y2 = window(record["bbox"], margin, *image.size)
        a, b, c, d = record["bbox"]
        data = _encode(image.crop((x1, y1, x2, y2)), lossy)
        crops.append(Crop(data, record["label"], job.image, (a - x1, b - y1, c - x1, d - y1)))
    return crops


def _encode(image: Image.Image, lossy: bool) -> bytes:
    # PNG is lossless. For a photograph it is several times larger than JPEG, and quality 95 without
    # chroma subsampling loses little compared to the source's own JPEG compression.
    stream = io.BytesIO()
    if lossy:
        image.save(stream, "JPEG", quality=95, subsampling=0)
    else:
        image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _facts(truth: GroundTruth, objects: list[Record], left_out: dict[str, int]) -> dict[str, Any]:
    names = [category["name"] for category in truth.coco["categories"]]
    counts = Counter(record["label"] for record in objects)
    return {
        "fingerprint": truth.fingerprint,
        "classes": names,
        "objects": len(truth.coco["annotations"]),
        "left_out": left_out,
        "per_class": {name: counts[label] for label, name in enumerate(names)},
    }


def _counts(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count) or "none"
